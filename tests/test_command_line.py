"""Every option and exit status, by running the program."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from g4f import __version__ as g4f_version

from loopback import DONE, SSE, Server, answer, delta, finish, reply
from program import run, start

Serve = Callable[..., Server]
HELLO = b"Hello there!\n\nFinal accumulated text: Hello there!\n"


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def test_the_answer_is_printed_and_then_all_of_it(serve: Serve) -> None:
    server = serve(answer("Hello", " there", "!"))
    done = run("--base-url", server.url)
    assert (done.returncode, done.stdout, done.stderr) == (0, HELLO, b"")


def test_a_piece_is_printed_when_the_server_sends_it(serve: Serve) -> None:
    go_on = threading.Event()
    server = serve([SSE, delta("Hello"), go_on.wait, delta(" there!"), finish()])
    with start("--base-url", server.url) as process:
        assert process.stdout
        assert process.stdout.read(5) == b"Hello"
        go_on.set()
        assert process.stdout.read() == HELLO[5:]


@pytest.mark.parametrize(
    ("arguments", "stdin", "sent"),
    [
        ([], b"", [user("Say hello there!")]),
        ([], b"never read", [user("Say hello there!")]),
        (["Say", "hello"], b"", [user("Say hello")]),
        (["Say  two", "spaces"], b"", [user("Say  two spaces")]),
        (["Sum", "-m", "x", "up"], b"", [user("Sum up")]),
        (["-"], b"All of\nit\n", [user("All of\nit\n")]),
        (["Sum up:", "-", "please"], "é\r\n".encode(), [user("Sum up: é\r\n please")]),
        (["-"], b"\xff\xfe\x00", [user("��\0")]),
        (["--", "--help", "-x"], b"", [user("--help -x")]),
        (["-s", "Be brief.", "Hi"], b"", [{"role": "system", "content": "Be brief."}, user("Hi")]),
        (["--system", "", "Hi"], b"", [user("Hi")]),
        (["-1"], b"", [user("-1")]),
    ],
)
def test_the_words_make_the_message(serve: Serve, arguments: list[str], stdin: bytes, sent: Any) -> None:
    server = serve(answer("Hi"))
    done = run("--base-url", server.url, *arguments, input=stdin)
    assert (done.returncode, done.stderr) == (0, b"")
    assert server.requests[0].json["messages"] == sent


@pytest.mark.parametrize(("arguments", "model"), [([], "gpt-4"), (["-m", "m1"], "m1"), (["--model", "auto"], "auto")])
def test_the_model_is_sent_as_it_was_named(serve: Serve, arguments: list[str], model: str) -> None:
    server = serve(answer("Hi"))
    run("--base-url", server.url + "/", *arguments)
    assert [request.path for request in server.requests] == ["/v1/chat/completions"]  # and no GET /v1/models
    assert server.requests[0].json["model"] == model
    assert server.requests[0].json["stream"] is True


@pytest.mark.parametrize(
    ("env", "header"),
    [
        ({}, None),
        ({"OPENAI_API_KEY": ""}, None),
        ({"OPENAI_API_KEY": "sk-1"}, "Bearer sk-1"),
        ({"OPENAI_API_KEY": "sk-1\n"}, "Bearer sk-1"),
    ],
)
def test_the_key_comes_from_the_environment(serve: Serve, env: dict[str, str], header: str | None) -> None:
    server = serve(answer("Hi"))
    run("--base-url", server.url, env=env)
    assert server.requests[0].headers.get("authorization") == header


@pytest.mark.parametrize("pieces", [("Hi",), ("Hi\n",), ("Hi", "\n", "\n\n"), ("H", "i\n\n")])
def test_a_quiet_answer_ends_in_exactly_one_newline(serve: Serve, pieces: tuple[str, ...]) -> None:
    assert run("-q", "--base-url", serve(answer(*pieces)).url).stdout == b"Hi\n"


def test_a_quiet_answer_keeps_the_newlines_within(serve: Serve) -> None:
    server = serve(answer("a\n", "\n", "\nb\n\nc", "\n"))
    assert run("--quiet", "--base-url", server.url).stdout == b"a\n\n\nb\n\nc\n"


def test_a_quiet_failure_prints_nothing_but_the_text_it_has(serve: Serve) -> None:
    assert run("-q", "--base-url", serve(reply(b"", "404 Not Found")).url).stdout == b""
    done = run("-q", "--base-url", serve([SSE, delta("Half"), b"data: {broken\n\n"]).url)
    assert (done.returncode, done.stdout) == (1, b"Half\n")


def test_compare_prints_both_streams_under_headings(serve: Serve) -> None:
    server = serve(answer("One", "."), answer("Two", ".", "\n"))
    done = run("--compare", "--base-url", server.url, "-s", "Be brief.", "-m", "m")
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == b"Synchronous Stream:\nOne.\n\nAsynchronous Stream:\nTwo.\n"
    question = "Hey! How can I recursively list all files in a directory in Python?"
    for request in server.requests:
        assert request.json["messages"] == [{"role": "system", "content": "Be brief."}, user(question)]
        assert request.json["model"] == "m"


@pytest.mark.parametrize("fails", [0, 1])
def test_compare_fails_if_either_stream_does(serve: Serve, fails: int) -> None:
    scripts = [answer("One."), answer("Two.")]
    scripts[fails] = reply({"error": {"message": "not today"}}, "400 Bad Request")
    done = run("--compare", "--base-url", serve(*scripts).url, "Why?")
    assert done.returncode == 1
    assert done.stdout.count(b".\n") == 1
    assert done.stderr.startswith(b"Error occurred: Error 400: not today\n")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--nonsense"], "unrecognized arguments: --nonsense"),
        (["--mod", "x"], "unrecognized arguments: --mod"),  # no abbreviations: a later option must not change them
        (["--model"], "argument -m/--model: expected one argument"),
        (["-t", "0"], "argument -t/--timeout: not a positive number of seconds"),
        (["-t", "-1"], "argument -t/--timeout: not a positive number of seconds"),
        (["-t", "nan"], "argument -t/--timeout: not a positive number of seconds"),
        (["-t", "soon"], "argument -t/--timeout: not a positive number of seconds"),
        (["--base-url", "ftp://localhost/v1"], "argument --base-url: not a URL like http://127.0.0.1:8080/v1"),
        (["--base-url", "localhost:8080"], "argument --base-url: not a URL like http://127.0.0.1:8080/v1"),
        (["--base-url", "http://"], "argument --base-url: not a URL like http://127.0.0.1:8080/v1"),
        (["--base-url", "http://me:secret@host:x"], "argument --base-url: not a URL like http://127.0.0.1:8080/v1"),
        (["--base-url", "http://[::1"], "argument --base-url: not a URL like http://127.0.0.1:8080/v1"),
        (["--base-url", "http://a..b/v1"], "argument --base-url: not a URL like http://127.0.0.1:8080/v1"),
        (["--base-url", "http://a b/v1"], "argument --base-url: not a URL like http://127.0.0.1:8080/v1"),
        (["--base-url", "http://localhost", "-p", "X"], "-p/--provider: not allowed with argument --base-url"),
        (["--chat", "--compare"], "--compare: not allowed with argument -c/--chat"),
        ([""], "the message is empty"),
        (["  ", "\n"], "the message is empty"),
        (["-"], "the message is empty"),
        (["-p", ""], "the provider is empty"),
        (["--provider", " ", "Hi"], "the provider is empty"),
    ],
)
def test_wrong_usage_is_told_with_status_2(arguments: list[str], complaint: str) -> None:
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (2, b"")
    usage, *_, last = done.stderr.decode().splitlines()
    assert usage.startswith("usage: messages_stream.py ")
    assert last.startswith("messages_stream.py: error: ") and complaint in last
    assert "secret" not in done.stderr.decode()


def test_the_time_limit_is_on_silence_and_may_be_infinite(serve: Serve) -> None:
    assert run("-t", "inf", "--base-url", serve(answer("Hi")).url).returncode == 0


def test_the_version_names_that_of_g4f() -> None:
    done = run("--version")
    assert (done.returncode, done.stdout) == (0, f"messages_stream 1.0.0 (g4f {g4f_version})\n".encode())


@pytest.mark.parametrize(
    ("reason", "stderr"),
    [
        ("stop", b""),
        ("length", b"The answer was cut short (finish reason: length).\n"),
        ("content_filter", b"The answer was cut short (finish reason: content_filter).\n"),
    ],
)
def test_an_answer_cut_short_is_told(serve: Serve, reason: str, stderr: bytes) -> None:
    done = run("--base-url", serve(SSE + delta("Hello there!") + finish(reason)).url)
    assert (done.returncode, done.stdout, done.stderr) == (0, HELLO, stderr)


def test_no_text_is_an_error(serve: Serve) -> None:
    done = run("--base-url", serve(SSE + DONE).url)
    assert (done.returncode, done.stdout) == (1, b"\n\nFinal accumulated text: \n")
    assert done.stderr.startswith(b"Error occurred: the model sent no text")


def test_an_empty_finish_reason_ends_nothing(serve: Serve) -> None:
    done = run("--base-url", serve(SSE + delta("Hello", "") + delta(" there!", "") + finish()).url)
    assert (done.returncode, done.stdout, done.stderr) == (0, HELLO, b"")


def test_a_reader_that_leaves_before_the_final_line_has_not_got_all(serve: Serve) -> None:
    gone = threading.Event()
    server = serve([SSE, delta("Hello"), gone.wait, finish()])
    with start("--base-url", server.url, bufsize=0) as process:
        assert process.stdout and process.stderr
        assert process.stdout.read(5) == b"Hello"
        process.stdout.close()
        gone.set()
        assert (process.stderr.read(), process.wait()) == (b"", 1)


def test_only_a_key_is_hidden_in_an_error(serve: Serve) -> None:
    env = {"OPENAI_API_KEY": "sk-1<b>2", "BLANK_API_KEY": " " * 9}
    done = run("--base-url", serve(reply({"error": {"message": "bad: sk-1<b>2"}}, "401 No")).url, env=env)
    assert done.stderr.startswith(b"Error occurred: Error 401: bad: ***\n")

"""Every option and exit status, by running the program."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from g4f import __version__ as g4f_version

from loopback import HANG, Server, answer, reply
from program import run

Serve = Callable[..., Server]
HELLO = b"Hello there!\n\nFinal accumulated text: Hello there!\n"


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def test_the_answer_is_printed_and_then_all_of_it(serve: Serve) -> None:
    server = serve(answer("Hello", " there", "!"))
    done = run("--base-url", server.url)
    assert (done.returncode, done.stdout, done.stderr) == (0, HELLO, b"")


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


@pytest.mark.parametrize("pieces", [("Hi",), ("Hi\n",), ("Hi", "\n")])
def test_a_quiet_answer_ends_in_a_newline(serve: Serve, pieces: tuple[str, ...]) -> None:
    assert run("-q", "--base-url", serve(answer(*pieces)).url).stdout == b"Hi\n"


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
    ("arguments", "value", "used"),
    [
        ([], "first", "first"),
        (["--base-url", "second"], "first", "second"),
        (["--base-url", "second"], "no URL", "second"),
        (["--base-url", "second"], "", "second"),
    ],
)
def test_openai_base_url_is_the_default_of_the_option(
    serve: Serve, arguments: list[str], value: str, used: str
) -> None:
    servers = {"first": serve(answer("Hi")), "second": serve(answer("Hi"))}
    urls = {name: server.url for name, server in servers.items()}
    run(*(urls.get(each, each) for each in arguments), env={"OPENAI_BASE_URL": urls.get(value, value)})
    assert [name for name, server in servers.items() if server.requests] == [used]


def test_openai_base_url_is_not_for_a_named_provider() -> None:
    done = run("-p", "Nonesuch", env={"OPENAI_BASE_URL": "no URL"})
    assert done.stderr.startswith(b"Error occurred: Provider not found: Nonesuch\n")


def test_a_bad_openai_base_url_is_wrong_usage() -> None:
    done = run(env={"OPENAI_BASE_URL": "localhost:8080"})
    assert (done.returncode, done.stdout) == (2, b"") and b"OPENAI_BASE_URL" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("script", "hint"),
    [
        (reply({"error": {"message": "Who?"}}, "401 U"), "Set OPENAI_API_KEY to a key that the server accepts."),
        (reply({"error": {"message": "m?"}}, "404 N"), "Check the connection and the --model, or try another --provider or --base-url."),
        ([HANG], "A slow server may need a longer --timeout."),
        (None, "No server listens at 127.0.0.1:1: is it running?"),
    ],
)  # fmt: skip
def test_an_error_comes_with_a_line_that_helps(serve: Serve, script: Any, hint: str) -> None:
    url = serve(script).url if script else "http://127.0.0.1:1/v1"
    done = run("--base-url", url, "-t", "0.5")
    assert done.stderr.decode().splitlines()[1:] == [hint]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--nonsense"], "unrecognized arguments: --nonsense"),
        (["--mod", "x"], "unrecognized arguments: --mod"),  # no abbreviations: a later option must not change them
        (["--model"], "argument -m/--model: expected one argument"),
        (["-t", "0"], "argument -t/--timeout: not a positive number of seconds"),
        (["-t", "-1"], "argument -t/--timeout: not a positive number of seconds"),
        (["-t", "nan"], "argument -t/--timeout: not a positive number of seconds"),
        (["-t", "soon"], "argument -t/--timeout: invalid float value: 'soon'"),
        (["--base-url", "ftp://localhost/v1"], "argument --base-url: not a URL like http://127.0.0.1:8080/v1"),
        (["--base-url", "localhost:8080"], "argument --base-url: not a URL like http://127.0.0.1:8080/v1"),
        (["--base-url", "http://"], "argument --base-url: not a URL like http://127.0.0.1:8080/v1"),
        (["--base-url", "http://me:secret@host:x"], "argument --base-url: not a URL like http://127.0.0.1:8080/v1"),
        (["--base-url", "http://[::1"], "argument --base-url: not a URL like http://127.0.0.1:8080/v1"),
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

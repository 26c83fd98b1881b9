"""Every option, by running the program or, where nothing would be sent, by parsing it."""

from __future__ import annotations

import io
import math
import sys
from collections.abc import Callable
from typing import Any

import pytest
from g4f import __version__ as g4f_version

from loopback import Server, answer, reply
from messages_stream import parse_arguments
from program import PATH, run

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
        ([], b"never read", [user("Say hello there!")]),
        (["Sum up:", "-", "please"], "é\r\n".encode(), [user("Sum up: é\r\n please")]),
        (["-s", "Be brief.", "Hi"], b"", [{"role": "system", "content": "Be brief."}, user("Hi")]),
        (["--system", "", "Hi"], b"", [user("Hi")]),
    ],
)
def test_what_was_asked_is_sent_and_nothing_else(serve: Serve, arguments: list[str], stdin: bytes, sent: Any) -> None:
    server = serve(answer("Hi"))
    done = run("--base-url", server.url + "/", *arguments, "-m", "auto", input=stdin)
    assert (done.returncode, done.stderr) == (0, b"")
    [request] = server.requests  # and no GET /v1/models
    assert request.path == "/v1/chat/completions"
    assert (request.json["messages"], request.json["model"], request.json["stream"]) == (sent, "auto", True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], ""),
        (["Say", "hello"], "Say hello"),
        (["Say  two", "spaces"], "Say  two spaces"),
        (["Sum", "-m", "x", "up"], "Sum up"),
        (["-1"], "-1"),
        (["What", "-m", "x", "does", "--", "ls", "-l", "--", "-q"], "What does ls -l -- -q"),
    ],
)
def test_the_words_make_the_message(arguments: list[str], message: str) -> None:
    assert parse_arguments(arguments)["message"] == message


def test_a_quiet_answer_ends_in_a_newline(serve: Serve) -> None:
    assert run("-q", "--base-url", serve(answer("H", "i")).url).stdout == b"Hi\n"


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
        ([], " http://first\n", "http://first"),
        ([], "", None),
        (["--base-url", "http://second"], "http://first", "http://second"),
        (["--base-url", "http://second"], "no URL", "http://second"),
        (["--provider", "Nonesuch"], "no URL", None),
    ],
)
def test_openai_base_url_is_the_default_of_the_option(
    arguments: list[str], value: str, used: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", value)
    assert parse_arguments(arguments)["base_url"] == used


def test_a_bad_openai_base_url_is_wrong_usage() -> None:
    done = run(env={"OPENAI_BASE_URL": "localhost:8080"})
    assert (done.returncode, done.stdout) == (2, b"") and b"OPENAI_BASE_URL" in done.stderr.splitlines()[-1]


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
def test_wrong_usage_is_told_with_status_2(
    arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", [str(PATH)])
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b" \n")))
    with pytest.raises(SystemExit, match="2"):
        parse_arguments(arguments)
    out, err = capsys.readouterr()
    usage, *_, last = err.splitlines()
    assert (out, usage.split("[")[0]) == ("", "usage: messages_stream.py ")
    assert last.startswith("messages_stream.py: error: ") and complaint in last
    assert "secret" not in err


def test_the_time_limit_is_in_seconds_and_may_be_infinite() -> None:
    limits = [parse_arguments(arguments)["timeout"] for arguments in ([], ["-t", "0.5"], ["--timeout", "inf"])]
    assert limits == [60, 0.5, math.inf]


def test_the_version_names_that_of_g4f() -> None:
    done = run("--version")
    assert (done.returncode, done.stdout) == (0, f"messages_stream 1.0.0 (g4f {g4f_version})\n".encode())

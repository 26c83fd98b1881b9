"""Every option, by running the program or, where nothing would be sent, by parsing it."""

from __future__ import annotations

import io
import math
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from g4f import __version__ as g4f_version

from loopback import SSE, Server, answer, delta, finish, reply
from messages_stream import parse_arguments
from program import PATH, PATIENCE, Ended, final, run_program, turns

Serve = Callable[..., Server]
QUESTION = "Hey! How can I recursively list all files in a directory in Python?"
REFUSED = reply({"error": {"message": "not today"}}, "400 Bad Request")
TOLD = "Error occurred: Error 400: not today\n"
NO_URL = "the base URL (or $OPENAI_BASE_URL) is not like http://127.0.0.1:8080/v1"
NO_TIMEOUT = "the timeout is not a positive number of seconds"
NOT_WITH_COMPARE = "--compare goes with none of --chat, --system and --quiet"


def test_the_answer_is_printed_and_then_all_of_it(serve: Serve) -> None:
    server = serve(answer("Hello", " there", "!"))
    assert run_program("--base-url", server.url) == Ended(0, final("Hello there!"), "")


@pytest.mark.parametrize(
    ("arguments", "stdin", "sent"),
    [
        ([], b"never read", turns("Say hello there!")),
        (["Sum up:", "-"], "é\r\nb\n".encode(), turns("Sum up: é\nb\n")),
        (["-"], b"\xef\xbb\xbfFrom Windows", turns("From Windows")),
        (["What", "is", "5", "-", "3"], b"never read", turns("What is 5 - 3")),
        (["--", "-q", "-", "-m"], b"never read", turns("-q - -m")),
        (
            ["-s", "Be brief.", "Hi"],
            b"",
            [{"role": "system", "content": "Be brief."}, *turns("Hi")],
        ),
        (["--system", "", "Hi"], b"", turns("Hi")),
    ],
)
def test_what_was_asked_is_sent_and_nothing_else(
    serve: Serve, arguments: list[str], stdin: bytes, sent: Any
) -> None:
    server = serve(answer("Hi"))
    ended = run_program("-m", "auto", "--base-url", server.url + "/", *arguments, input=stdin)
    assert (ended.status, ended.stderr) == (0, "")
    [request] = server.requests  # and no GET /v1/models
    assert request.path == "/v1/chat/completions"
    assert (request.json["messages"], request.json["model"]) == (sent, "auto")
    assert request.json["stream"] and "stream_options" not in request.json


def test_what_is_asked_is_sent_as_it_stands_although_g4f_shortens_it(serve: Serve) -> None:
    server = serve(answer("Go on"))
    lines = ["Go on", "a   \t", "Go on", *(["Go on", "More"] * 25)]
    ended = run_program("--chat", "--base-url", server.url, input="\n".join(lines))
    assert (ended.status, ended.stderr) == (0, "")
    conversation = [content for line in lines for content in (line, "Go on")]
    assert server.requests[-1].json["messages"] == turns(*conversation[:-1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], ""),
        (["Say", "hello"], "Say hello"),
        (["Say  two", "spaces"], "Say  two spaces"),
        (["Sum", "up", "-m", "x"], "Sum up"),
        (["-1"], "-1"),
        (["--", "What", "does", "ls", "-l", "--", "-q"], "What does ls -l -- -q"),
    ],
)
def test_the_words_make_the_message(arguments: list[str], message: str) -> None:
    assert parse_arguments(arguments).message == message


def test_a_quiet_answer_ends_in_a_newline(serve: Serve) -> None:
    assert run_program("-q", "--base-url", serve(answer("H", "i")).url) == Ended(0, "Hi\n", "")


def test_a_cut_answer_is_told_after_it(serve: Serve) -> None:
    server = serve(SSE + delta("Hel") + finish("length"))
    told = "The answer may have been cut short (finish reason: length).\n"
    assert run_program("-q", "--base-url", server.url) == Ended(0, "Hel\n", told)


@pytest.mark.parametrize(("words", "asked"), [([], QUESTION), (["Why", "so?"], "Why so?")])
def test_compare_prints_both_streams_under_headings(
    words: list[str], asked: str, serve: Serve
) -> None:
    server = serve(answer("One", "."), answer("Two", "."))
    ended = run_program("--compare", "--base-url", server.url, "-m", "m", *words)
    out = "Synchronous Stream:\nOne.\n\nAsynchronous Stream:\nTwo.\n"
    assert ended == Ended(0, out, "")
    for request in server.requests:
        assert (request.json["messages"], request.json["model"]) == (turns(asked), "m")


@pytest.mark.parametrize(
    ("scripts", "out"),
    [
        ([REFUSED, answer("Two.")], "Synchronous Stream:\n\n"),
        ([answer("One."), REFUSED], "Synchronous Stream:\nOne.\n\nAsynchronous Stream:\n\n"),
    ],
)
def test_an_error_ends_a_comparison(serve: Serve, scripts: list[bytes], out: str) -> None:
    server = serve(*scripts)
    assert run_program("--compare", "--base-url", server.url, "Why?") == Ended(1, out, TOLD)
    assert len(server.requests) == 1 + scripts.index(REFUSED)


@pytest.mark.parametrize(
    ("arguments", "value", "used"),
    [
        ([], " http://first\n", "http://first"),
        ([], "", None),
        (["--base-url", "http://second"], "http://first", "http://second"),
        (["--base-url", "http://second"], "no URL", "http://second"),
        (["--base-url", "http://[::1]:8080/v1"], "", "http://[::1]:8080/v1"),
        (["--base-url", "HTTPS://me:secret@second"], "", "HTTPS://me:secret@second"),
        (["--provider", "Nonesuch"], "no URL", None),
    ],
)
def test_openai_base_url_is_the_default_of_the_option(
    arguments: list[str], value: str, used: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", value)
    assert parse_arguments(arguments).base_url == used


def test_a_bad_openai_base_url_is_wrong_usage() -> None:
    ended = run_program(env={"OPENAI_BASE_URL": "localhost:8080"})
    assert (ended.status, ended.stdout) == (2, "")
    assert ended.stderr.splitlines()[-1] == f"messages_stream.py: error: {NO_URL}"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--nonsense"], "unrecognized arguments: --nonsense"),
        (["--model"], "argument -m/--model: expected one argument"),
        (["-t", "0"], NO_TIMEOUT),
        (["-t", "-1"], NO_TIMEOUT),
        (["-t", "nan"], NO_TIMEOUT),
        (["-t", "soon"], "argument -t/--timeout: invalid float value: 'soon'"),
        (["--base-url", ""], NO_URL),
        (["--base-url", "ftp://localhost/v1"], NO_URL),
        (["--base-url", "localhost:8080"], NO_URL),
        (["--base-url", "http://"], NO_URL),
        (["--base-url", "http://me:secret@host:x"], NO_URL),
        (["--base-url", "http://me:secret@host:65536"], NO_URL),
        (["--base-url", "http://host:0"], NO_URL),
        (["--base-url", "http://[::1"], NO_URL),
        (["--base-url", "http://a b/v1"], NO_URL),
        (
            ["--base-url", "http://localhost", "-p", "X"],
            "--provider and --base-url exclude each other",
        ),
        (["--chat", "--compare"], NOT_WITH_COMPARE),
        (["-q", "--compare"], NOT_WITH_COMPARE),
        (["--compare", "-s", "Be brief."], NOT_WITH_COMPARE),
        ([""], "the message is empty"),
        (["  ", "\n"], "the message is empty"),
        (["-"], "the message is empty"),
        (["-p", ""], "the provider is empty"),
    ],
)
def test_wrong_usage_is_told_with_status_2(
    arguments: list[str],
    complaint: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "argv", [str(PATH)])
    monkeypatch.setattr(sys, "stdin", io.StringIO(" \n"))
    with pytest.raises(SystemExit, match="2"):
        parse_arguments(arguments)
    out, err = capsys.readouterr()
    usage, *_, last = err.splitlines()
    assert (out, usage.split("[")[0]) == ("", "usage: messages_stream.py ")
    assert last.startswith(f"messages_stream.py: error: {complaint}")
    assert "secret" not in err


def test_the_time_limit_is_in_seconds_and_may_be_infinite() -> None:
    given = ([], ["-t", "0.5"], ["--timeout", "inf"])
    assert [parse_arguments(arguments).timeout for arguments in given] == [60, 0.5, math.inf]


def test_an_infinite_time_limit_is_none(serve: Serve) -> None:
    server = serve(answer("Hello"))
    assert run_program("-q", "-t", "inf", "--base-url", server.url) == Ended(0, "Hello\n", "")


def test_the_version_names_that_of_g4f() -> None:
    out = f"messages_stream 1.0.0 (g4f {g4f_version})\n"
    assert run_program("--version") == Ended(0, out, "")


def test_an_older_python_is_told_what_is_needed() -> None:
    script = f"""if True:
        import runpy, sys
        sys.version_info = (3, 10, 13, "final", 0)
        runpy.run_path({str(PATH)!r}, run_name="__main__")
    """
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=PATIENCE
    )
    ended = Ended(done.returncode, done.stdout, done.stderr)
    assert ended == Ended(1, "", "messages_stream.py needs Python 3.11 or later\n")

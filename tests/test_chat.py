"""A conversation, typed into a real terminal and fed through a pipe."""

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from subprocess import PIPE
from typing import Any

import pytest

from loopback import HANG, SSE, Server, answer, data, delta, finish, kept_alive, reply
from program import LIMIT, run, start

pytest.importorskip("pty")
from terminal import CTRL_C, CTRL_D, ENTER, UP, Terminal

Serve = Callable[..., Server]
REFUSED = reply({"error": "Down"}, "400 Bad Request")
BROKEN = data({"error": {"message": "Down", "code": 400}})
ERROR = "Error occurred: Error 400: Down\n"
HINT = "Check the connection, --model, --provider or --base-url (most end in /v1).\n"


def turns(*contents: str) -> list[dict[str, str]]:
    return [{"role": ("user", "assistant")[index % 2], "content": each} for index, each in enumerate(contents)]


def messages(server: Server) -> Any:
    """Return the messages of the last request."""
    return server.requests[-1].json["messages"]


def say(terminal: Terminal, *lines: str) -> None:
    """Type lines, each when the answer to the one before has ended, and see the last answer end."""
    for line in lines:
        terminal.enter(line)
    terminal.wait_for_prompt()


# --- In a terminal ---


def test_each_turn_sends_the_whole_conversation_beginning_with_the_command_line(serve: Serve) -> None:
    server = serve(answer("Hel", "lo"), answer("Fine\n\n"), answer("Yes"), answer("Bye"))
    with Terminal("--base-url", server.url, "-c", "-s", "Be brief", "-m", "tiny", "Hi", "there") as terminal:
        say(terminal, "Go on", "Go on", "Bye")  # the same words again, which g4f would leave out
    system = {"role": "system", "content": "Be brief"}
    assert messages(server) == [system, *turns("Hi there", "Hello", "Go on", "Fine\n\n", "Go on", "Yes", "Bye")]
    assert server.requests[0].json["messages"] == [system, *turns("Hi there")]
    assert {request.json["model"] for request in server.requests} == {"tiny"}
    assert terminal.text == "Hello\n> Go on\nFine\n\n> Go on\nYes\n> Bye\nBye\n>"


@pytest.mark.parametrize(
    ("keys", "last"),
    [
        pytest.param(CTRL_D, ">", id="Ctrl-D"),
        pytest.param(CTRL_C, ">", id="Ctrl-C"),
        pytest.param(" exit " + ENTER, ">  exit", id="exit"),
    ],
)
def test_the_conversation_ends_with_success_on_a_fresh_line(keys: str, last: str, serve: Serve) -> None:
    server = serve(REFUSED)  # a turn that failed is no failure of the conversation
    with Terminal("--base-url", server.url, "--chat") as terminal:
        say(terminal, "Hi")
        terminal.type(keys)
        assert terminal.wait_for_end() == 0
    assert terminal.text.replace("^C", "").rstrip() == f"> Hi\n{ERROR}{HINT}{last}"
    assert (terminal.line, len(server.requests)) == ("", 1)


@pytest.mark.parametrize(
    ("script", "seen", "text"),
    [
        pytest.param([HANG], "Waiting for 127.0.0.1:{} ...", "", id="before the headers"),
        pytest.param([SSE, delta("Once upon"), HANG], "Once upon", "Once upon\n", id="in the text"),
    ],
)
def test_ctrl_c_stops_the_answer_and_not_the_conversation(script: Any, seen: str, text: str, serve: Serve) -> None:
    server = serve(answer("Hello"), script, script, answer("Bye"))
    with Terminal("--base-url", server.url, "--chat", "Hi") as terminal:
        server.arrived.get(timeout=LIMIT)
        for _ in "12":  # the second time is as good as the first
            terminal.enter("A story")
            server.arrived.get(timeout=LIMIT)
            terminal.wait_for(lambda: terminal.text.rpartition("A story\n")[2] == seen.format(server.port))
            terminal.type(CTRL_C)
            terminal.wait_for_prompt()
            assert server.closed.acquire(timeout=10)
        say(terminal, "Bye")
    assert messages(server) == turns("Hi", "Hello", "Bye")
    # The terminal shows the key as ^C where the cursor is; the notice is erased with it.
    assert terminal.text.replace("^C", "") == f"Hello\n> A story\n{text}> A story\n{text}> Bye\nBye\n>"


@pytest.mark.parametrize(("arguments", "seen"), [([], "> "), (["Hi"], "Once upon")], ids=["prompt", "answer"])
def test_sigterm_ends_the_conversation_and_leaves_the_terminal_as_it_was(
    arguments: list[str], seen: str, serve: Serve
) -> None:
    with Terminal("--base-url", serve([SSE, delta("Once upon"), HANG]).url, "--chat", *arguments) as terminal:
        before = terminal.settings
        terminal.wait_for(lambda: terminal.line == seen)
        while not terminal.ended:  # Python loses a signal that comes just before it waits for a line
            terminal.process.send_signal(signal.SIGTERM)
            later = time.monotonic() + 2
            terminal.wait_for(lambda later=later: terminal.ended or time.monotonic() > later)
        assert terminal.wait_for_end() == 143
        assert (terminal.settings, terminal.text) == (before, seen.rstrip())


def test_a_failed_turn_leaves_no_trace_in_the_next(serve: Serve) -> None:
    server = serve(answer("Hello"), REFUSED, SSE + delta("Once") + BROKEN, SSE + finish(), answer("Bye"))
    with Terminal("--base-url", server.url, "--chat", "Hi") as terminal:
        say(terminal, "A", "B", "C", "Bye")
    assert messages(server) == turns("Hi", "Hello", "Bye")
    empty = "Error occurred: the model sent no text (finish reason: stop)\n"
    seen = f"Hello\n> A\n{ERROR}> B\nOnce\n{ERROR}\n> C\n{empty}> Bye\nBye\n>"
    assert terminal.text.replace(HINT, "") == seen


def test_the_arrow_key_recalls_a_line(serve: Serve) -> None:
    pytest.importorskip("readline")
    server = serve(answer("Hello"))
    with Terminal("--base-url", server.url, "--chat") as terminal:
        say(terminal, "Hi", "Bye")
        terminal.type(UP + UP)
        terminal.wait_for(lambda: terminal.line == "> Hi")
        terminal.type("\x7f!" + ENTER)  # and edits it
        terminal.wait_for("> H!\nHello\n>")
    assert messages(server) == turns("Hi", "Hello", "Bye", "Hello", "H!")


def test_a_prompt_is_not_part_of_a_piped_stdout(serve: Serve) -> None:
    with Terminal("--base-url", serve(answer("Hello")).url, "--chat", stdout=PIPE) as terminal:
        say(terminal, "Hi")
        terminal.type(CTRL_D)
        assert terminal.wait_for_end() == 0
        assert terminal.process.stdout and terminal.process.stdout.read() == b"Hello\n"


def test_a_server_may_close_its_idle_connection_between_two_turns(serve: Serve) -> None:
    server = serve([kept_alive("Hello"), HANG], kept_alive("Bye"))
    with Terminal("--base-url", server.url, "--chat") as terminal:
        say(terminal, "Hi")
        with contextlib.suppress(OSError):  # the client may have closed it first
            server.connections[0].shutdown(socket.SHUT_RDWR)
        say(terminal, "Bye")
    assert terminal.text == "> Hi\nHello\n> Bye\nBye\n>"


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
def test_many_turns_leave_nothing_open(serve: Serve) -> None:
    opened = []
    with Terminal("--base-url", serve([kept_alive("Hello"), HANG]).url, "--chat") as terminal:
        for _ in range(20):
            say(terminal, "Hi")
            opened.append(len(os.listdir(f"/proc/{terminal.process.pid}/fd")))
    assert terminal.text == "> Hi\nHello\n" * 20 + ">"
    assert opened[-1] <= opened[4]


# --- Through a pipe ---


@pytest.mark.parametrize(
    ("given", "lines"),
    [
        pytest.param(
            b"\nHi\r\n \n\tna\xc3\xafve \n" + b"x" * 100_000 + b"\na\xff\xfe\0b\n\nBye",
            ["Hi", "\tnaïve ", "x" * 100_000, "a\ufffd\ufffd\0b", "Bye"],
            id="blank, long and odd ones",
        ),
        pytest.param(b"Hi\nexit\nBye\n", ["Hi"], id="exit"),
        pytest.param(b"", [], id="none"),
    ],
)
def test_each_line_of_a_pipe_is_a_turn(given: bytes, lines: list[str], serve: Serve) -> None:
    server = serve(answer("Hel", "lo"))
    done = run("--base-url", server.url, "--chat", input=given)
    assert (done.stdout, done.stderr, done.returncode) == (b"Hello\n" * len(lines), b"", 0)
    assert [request.json["messages"][-1]["content"] for request in server.requests] == lines


def test_the_status_tells_whether_a_turn_of_a_pipe_failed(serve: Serve) -> None:
    done = run("--base-url", serve(REFUSED, answer("Yes")).url, "--chat", input=b"One\nTwo\n")
    assert (done.stdout, done.stderr.decode(), done.returncode) == (b"Yes\n", ERROR + HINT, 1)


def test_each_answer_of_a_pipe_comes_before_the_next_line_is_needed(serve: Serve) -> None:
    with start("--base-url", serve(answer("One"), answer("Two")).url, "--chat") as process:
        assert process.stdin and process.stdout and process.stderr
        for answered in b"One\n", b"Two\n":
            process.stdin.write(b"And?\n")
            process.stdin.flush()
            assert process.stdout.readline() == answered
        process.stdin.close()
        assert (process.wait(LIMIT), process.stderr.read()) == (0, b"")


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("given", [b"", b"Bye\n"], ids=["awaiting a line", "in an answer"])
def test_a_signal_ends_a_conversation_through_a_pipe(given: bytes, signum: int, serve: Serve) -> None:
    with start("--base-url", serve(answer("Hello"), [SSE, delta("Once"), HANG]).url, "--chat", "Hi") as process:
        assert process.stdin and process.stdout and process.stderr
        process.stdin.write(given)
        process.stdin.flush()
        seen = b"Hello\nOnce" if given else b"Hello\n"
        assert process.stdout.read(len(seen)) == seen
        while process.poll() is None:  # Python loses a signal that comes just before it waits for a line
            process.send_signal(signum)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(2)
        rest = process.stdout.read(), process.stderr.read(), process.returncode
    assert rest == (b"\n" if given else b"", b"", 128 + signum)

"""A conversation, typed into a real terminal and fed through a pipe."""

import contextlib
import os
import signal
import socket
import struct
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from subprocess import PIPE
from typing import Any

import pytest

from loopback import HANG, SSE, Server, answer, data, delta, finish, kept_alive, reply
from program import PATIENCE, run_program, start, turns

pytest.importorskip("pty")
import fcntl
import termios

from terminal import CTRL_C, CTRL_D, ENTER, UP, Terminal

Serve = Callable[..., Server]
WAYS_OUT = "Ctrl-C stops an answer; at the prompt it leaves, as do Ctrl-D and exit.\n"
REFUSED = reply({"error": "Down"}, "400 Bad Request")
ERROR = "Error occurred: Error 400: Down\n"


def messages(server: Server) -> Any:
    """Return the messages of the last request."""
    return server.requests[-1].json["messages"]


def converse(terminal: Terminal, *lines: str) -> None:
    """Type lines, each when the answer to the one before has ended, and see the last one end."""
    for line in lines:
        terminal.enter(line)
    terminal.wait_for_prompt()


def signal_until_end(process: subprocess.Popen[bytes], signum: int) -> None:
    """Send a signal until the process has ended: Python loses one just before it awaits a line."""
    while process.poll() is None:
        process.send_signal(signum)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(2)


# --- In a terminal ---


def test_each_turn_sends_the_whole_conversation_beginning_with_the_command_line(
    serve: Serve,
) -> None:
    server = serve(answer("Hel", "lo"), answer("Fine\n\n"), answer("Yes"), answer("Bye"))
    options = ["-c", "-s", "Be brief", "-m", "tiny"]
    with Terminal("--base-url", server.url, *options, "Hi", "there") as terminal:
        # The same words again, and white space at the end: g4f would leave them out.
        converse(terminal, "Go on", "Go on", "Bye")
    system = {"role": "system", "content": "Be brief"}
    said = ["Hi there", "Hello", "Go on", "Fine\n\n", "Go on", "Yes", "Bye"]
    assert messages(server) == [system, *turns(*said)]
    assert server.requests[0].json["messages"] == [system, *turns("Hi there")]
    assert {request.json["model"] for request in server.requests} == {"tiny"}
    seen = "Hello\n> Go on\nFine\n\n> Go on\nYes\n> Bye\nBye\n>"
    assert terminal.text == f"{WAYS_OUT}{seen}"


@pytest.mark.parametrize(
    ("keys", "last"),
    [
        pytest.param(CTRL_D, ">", id="Ctrl-D"),
        pytest.param(CTRL_C, ">", id="Ctrl-C"),
        pytest.param("exit" + ENTER, "> exit", id="exit"),
        pytest.param(" EXIT " + ENTER, ">  EXIT", id="EXIT"),
        pytest.param("Quit" + ENTER, "> Quit", id="Quit"),
    ],
)
def test_the_conversation_ends_with_success_on_a_fresh_line(
    keys: str, last: str, serve: Serve
) -> None:
    server = serve(REFUSED)  # A turn that failed is no failure of the conversation.
    with Terminal("--base-url", server.url, "--chat") as terminal:
        converse(terminal, "Hi")
        assert terminal.wait_for_end(pressing=keys) == 0
    # The terminal itself shows the key as ^C.
    assert terminal.text.replace("^C", "").rstrip() == f"{WAYS_OUT}> Hi\n{ERROR}{last}"
    assert terminal.screen.cursor.y >= len(terminal.text.splitlines())
    assert (terminal.line, len(server.requests)) == ("", 1)


@pytest.mark.parametrize(
    ("script", "seen", "text"),
    [
        pytest.param([HANG], "Waiting for 127.0.0.1:{} ...", "", id="before the headers"),
        pytest.param([SSE, delta("Once"), HANG], "Once", "Once\n", id="in the text"),
    ],
)
def test_ctrl_c_stops_the_answer_and_not_the_conversation(
    script: Any, seen: str, text: str, serve: Serve
) -> None:
    server = serve(answer("Hello"), script, script, answer("Bye"))
    with Terminal("--base-url", server.url, "--chat", "Hi") as terminal:
        server.arrived.get(timeout=PATIENCE)
        for _ in range(2):  # The second time is as good as the first.
            terminal.enter("A story")
            server.arrived.get(timeout=PATIENCE)
            after = f"A story\n{seen.format(server.port)}"
            terminal.wait_for(lambda after=after: terminal.text.endswith(after))
            terminal.type(CTRL_C)
            terminal.wait_for_prompt()
            assert server.closed.acquire(timeout=10)
        converse(terminal, "Bye")
    assert messages(server) == turns("Hi", "Hello", "Bye")
    # The terminal shows the key as ^C where the cursor is; the notice is erased with it.
    stopped = f"> A story\n{text}"
    assert terminal.text.replace("^C", "") == f"{WAYS_OUT}Hello\n{stopped * 2}> Bye\nBye\n>"


@pytest.mark.parametrize(
    ("arguments", "seen"),
    [pytest.param([], "> ", id="at the prompt"), pytest.param(["Hi"], "Once", id="in an answer")],
)
def test_sigterm_ends_the_conversation_and_leaves_the_terminal_as_it_was(
    arguments: list[str], seen: str, serve: Serve
) -> None:
    server = serve([SSE, delta("Once"), HANG])
    with Terminal("--base-url", server.url, "--chat", *arguments) as terminal:
        before = terminal.settings
        terminal.wait_for(lambda: terminal.line == seen)
        signal_until_end(terminal.process, signal.SIGTERM)
        assert terminal.wait_for_end() == 143
        assert terminal.settings == before
    assert terminal.text == f"{WAYS_OUT}{seen}".rstrip()


def test_exit_may_be_the_first_message(serve: Serve) -> None:
    server = serve(answer("Hello"))
    assert run_program("--base-url", server.url, "--chat", "Exit") == (0, "", "")
    assert not server.requests


def test_a_failed_turn_leaves_no_trace_in_the_next(serve: Serve) -> None:
    broken = SSE + delta("Once") + data({"error": {"message": "Down", "code": 400}})
    server = serve(answer("Hello"), REFUSED, broken, SSE + finish(), answer("Bye"))
    with Terminal("--base-url", server.url, "--chat", "Hi") as terminal:
        converse(terminal, "A", "B", "C", "Bye")
    assert messages(server) == turns("Hi", "Hello", "Bye")
    empty = "Error occurred: the model sent no text (finish reason: stop)\n"
    seen = f"Hello\n> A\n{ERROR}> B\nOnce\n{ERROR}> C\n{empty}> Bye\nBye\n>"
    assert terminal.text == f"{WAYS_OUT}{seen}"


def test_the_arrow_key_recalls_a_line(serve: Serve) -> None:
    pytest.importorskip("readline")
    server = serve(answer("Hello"))
    with Terminal("--base-url", server.url, "--chat") as terminal:
        converse(terminal, "Hi", "Bye")
        terminal.type(UP + UP)
        terminal.wait_for(lambda: terminal.line == "> Hi")
        terminal.type("\x7f!" + ENTER)  # and edits it
        terminal.wait_for("> H!\nHello\n>")
    assert messages(server) == turns("Hi", "Hello", "Bye", "Hello", "H!")


def test_several_lines_pasted_are_one_turn(tmp_path: Path, serve: Serve) -> None:
    readline = pytest.importorskip("readline")
    if "GNU" not in readline.__doc__:
        pytest.skip("only GNU readline knows bracketed paste")
    settings = tmp_path / "inputrc"
    settings.write_text("set enable-bracketed-paste off\n")  # as it is before readline 8.1
    server = serve(answer("Hello"))
    env = {"INPUTRC": str(settings)}
    with Terminal("--base-url", server.url, "--chat", env=env) as terminal:
        terminal.wait_for_prompt()
        # Readline asks for it with these bytes; otherwise a terminal brackets no paste.
        assert b"\x1b[?2004h" in terminal.received
        terminal.type("\x1b[200~one\ntwo\nthree\x1b[201~")
        terminal.wait_for("> one\ntwo\nthree")
        terminal.type(ENTER)
        terminal.wait_for_prompt()
    assert messages(server) == turns("one\ntwo\nthree")
    assert terminal.text == f"{WAYS_OUT}> one\ntwo\nthree\nHello\n>"


def test_a_terminal_that_knows_no_escape_sequences_gets_none(serve: Serve) -> None:
    env = {"TERM": "dumb"}
    with Terminal("--base-url", serve(answer("Hello")).url, "--chat", env=env) as terminal:
        converse(terminal, "Hi")
    assert b"\x1b" not in terminal.received


def test_without_readline_there_is_a_chat_nevertheless(tmp_path: Path, serve: Serve) -> None:
    (tmp_path / "readline.py").write_text("raise ImportError\n")
    env = {"PYTHONPATH": str(tmp_path)}
    with Terminal("--base-url", serve(answer("Hello")).url, "--chat", env=env) as terminal:
        converse(terminal, "Hi", "Bye")
    assert terminal.text == f"{WAYS_OUT}> Hi\nHello\n> Bye\nHello\n>"


def test_there_is_no_prompt_where_stdout_is_piped(serve: Serve) -> None:
    with Terminal("--base-url", serve(answer("Hello")).url, "--chat", stdout=PIPE) as terminal:
        assert terminal.process.stdout
        terminal.wait_for(WAYS_OUT.rstrip())
        terminal.type("Hi" + ENTER)
        assert terminal.process.stdout.readline() == b"Hello\n"
        terminal.type(CTRL_D)
        assert terminal.wait_for_end() == 0
        assert terminal.process.stdout.read() == b""
    assert terminal.text == f"{WAYS_OUT}Hi"  # as the terminal itself shows it


def test_there_is_neither_a_prompt_nor_advice_where_stdin_is_piped(serve: Serve) -> None:
    with Terminal("--base-url", serve(answer("Hello")).url, "--chat", stdin=PIPE) as terminal:
        assert terminal.process.stdin
        terminal.process.stdin.write(b"Hi\nBye\n")
        terminal.process.stdin.close()
        assert terminal.wait_for_end() == 0
    assert (terminal.text, terminal.line) == ("Hello\nHello", "")


def test_a_server_may_close_its_idle_connection_between_two_turns(serve: Serve) -> None:
    server = serve([kept_alive("Hello"), HANG], kept_alive("Bye"))
    with Terminal("--base-url", server.url, "--chat") as terminal:
        converse(terminal, "Hi")
        with contextlib.suppress(OSError):  # The client may have closed it first.
            server.connections[0].shutdown(socket.SHUT_RDWR)
        converse(terminal, "Bye")
    assert terminal.text == f"{WAYS_OUT}> Hi\nHello\n> Bye\nBye\n>"


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
def test_many_turns_leave_nothing_open(serve: Serve) -> None:
    opened = []
    server = serve([kept_alive("Hello"), HANG])
    with Terminal("--base-url", server.url, "--chat") as terminal:
        for _ in range(20):
            converse(terminal, "Hi")
            opened.append(len(os.listdir(f"/proc/{terminal.process.pid}/fd")))
    assert terminal.text == WAYS_OUT + "> Hi\nHello\n" * 20 + ">"
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
        pytest.param(b"\xef\xbb\xbfna\xc3\xafve\nBye\n", ["naïve", "Bye"], id="a byte order mark"),
        pytest.param(b"Hi\n Exit \nBye\n", ["Hi"], id="exit"),
        pytest.param(b"Hi\nquit\nBye\n", ["Hi"], id="quit"),
        pytest.param(b"", [], id="none"),
    ],
)
def test_each_line_of_a_pipe_is_a_turn(given: bytes, lines: list[str], serve: Serve) -> None:
    server = serve(answer("Hel", "lo"))
    # Without UTF-8 in its environment, too.
    env = {"PYTHONUTF8": "0", "PYTHONIOENCODING": "latin-1"}
    ended = run_program("--base-url", server.url, "--chat", input=given, env=env)
    assert ended == (0, "Hello\n" * len(lines), "")
    assert [request.json["messages"][-1]["content"] for request in server.requests] == lines


@pytest.mark.parametrize("scripts", [(REFUSED, answer("Yes")), (answer("Yes"), REFUSED)])
def test_the_status_tells_whether_a_turn_of_a_pipe_failed(scripts: Any, serve: Serve) -> None:
    ended = run_program("--base-url", serve(*scripts).url, "--chat", input="One\nTwo\n")
    assert ended == (1, "Yes\n", ERROR)


def test_each_answer_of_a_pipe_comes_before_the_next_line_is_needed(serve: Serve) -> None:
    server = serve(answer("One"), answer("Two"))
    with start("--base-url", server.url, "--chat") as process:
        assert process.stdin and process.stdout and process.stderr
        for answered in b"One\n", b"Two\n":
            process.stdin.write(b"And?\n")
            process.stdin.flush()
            assert process.stdout.readline() == answered
        process.stdin.close()
        assert (process.wait(PATIENCE), process.stderr.read()) == (0, b"")


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_conversation_that_awaits_a_line_of_a_pipe(
    signum: int, serve: Serve
) -> None:
    with start("--base-url", serve(answer("Hello")).url, "--chat", bufsize=0) as process:
        assert process.stdin and process.stdout and process.stderr
        process.stdin.write(b"Hi\n")
        assert process.stdout.read(5) == b"Hello"
        assert process.stdout.read(1) == b"\n"
        # Once it has read a blank line, it awaits the next one.
        process.stdin.write(b"\n")
        while struct.unpack("i", fcntl.ioctl(process.stdin, termios.FIONREAD, bytes(4))) != (0,):
            time.sleep(0.01)
        signal_until_end(process, signum)
        ended = process.returncode, process.stdout.read(), process.stderr.read()
    assert ended == (128 + signum, b"", b"")


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_in_an_answer_ends_a_conversation_through_a_pipe(
    signum: int, serve: Serve
) -> None:
    server = serve([SSE, delta("Once"), HANG])
    with start("--base-url", server.url, "--chat", bufsize=0) as process:
        assert process.stdin and process.stdout
        process.stdin.write(b"A story\nAnother one\n")
        assert process.stdout.read(4) == b"Once"
        process.send_signal(signum)
        out, err = process.communicate(timeout=10)  # The time limit is a minute.
    assert (process.returncode, out, err) == (128 + signum, b"\n", b"")
    assert len(server.requests) == 1

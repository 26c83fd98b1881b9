"""A conversation, typed into a real terminal and fed through a pipe."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from subprocess import PIPE
from typing import Any

import pytest

from loopback import HANG, SSE, Server, Step, answer, data, delta, finish, reply
from program import LIMIT, run, start

pty = pytest.importorskip("pty")
from terminal import CTRL_C, CTRL_D, ENTER, UP, Terminal  # noqa: E402

Script = Iterable[Step] | bytes
DOWN = reply({"error": "Down"}, "400 Bad Request")
DROPPED = data({"error": {"message": "Down", "code": 400}})
ERROR = "Error occurred: Error 400: Down\n"
HINT = "Check the connection and the --model, or try another --provider or --base-url.\n"


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def messages(server: Server) -> Any:
    """Return the messages of the last request."""
    return server.requests[-1].json["messages"]


def has_asked(server: Server, times: int) -> bool:
    return len(server.requests) == times


def say(terminal: Terminal, *lines: str) -> None:
    """Type lines, each when the answer to the one before has ended, and see the last answer end."""
    for line in lines:
        terminal.enter(line)
    terminal.wait_for_prompt()


# --- In a terminal ---


def test_each_turn_sends_the_whole_conversation(serve: Callable[..., Server]) -> None:
    server = serve(answer("Hel", "lo"), answer("Fine\n\n"), answer("Bye"))
    with Terminal("--base-url", server.url, "-c", "-s", "Be brief", "-m", "tiny") as terminal:
        say(terminal, "Hi", "How are you?")
        assert server.requests[0].json["messages"] == [{"role": "system", "content": "Be brief"}, user("Hi")]
        say(terminal, "Bye")
        terminal.type(CTRL_D)
        assert terminal.wait_for_end() == 0
    turns = [user("Hi"), assistant("Hello"), user("How are you?"), assistant("Fine\n\n"), user("Bye")]
    assert messages(server) == [{"role": "system", "content": "Be brief"}, *turns]
    assert {request.json["model"] for request in server.requests} == {"tiny"}
    assert terminal.text == "> Hi\nHello\n> How are you?\nFine\n\n> Bye\nBye\n>"


@pytest.mark.parametrize(
    ("keys", "last"),
    [
        pytest.param(CTRL_D, ">", id="Ctrl-D"),
        pytest.param(CTRL_C, ">", id="Ctrl-C"),
        pytest.param("exit" + ENTER, "> exit", id="exit"),
        pytest.param(" exit " + ENTER, ">  exit", id="exit among blanks"),
    ],
)
@pytest.mark.parametrize("talk", [["Hi"]])
def test_the_conversation_ends_with_success_on_a_fresh_line(
    talk: list[str], keys: str, last: str, serve: Callable[..., Server]
) -> None:
    server = serve(answer("Hello"))
    with Terminal("--base-url", server.url, "--chat") as terminal:
        say(terminal, *talk)
        terminal.type(keys)
        assert terminal.wait_for_end() == 0
    assert terminal.text.replace("^C", "").rstrip() == ("> Hi\nHello\n" if talk else "") + last
    assert terminal.line == ""
    assert terminal.screen.cursor.y - (3 if talk else 1) in (0, 1)  # GNU readline adds a line of its own after Ctrl-D
    assert len(server.requests) == len(talk)


@pytest.mark.parametrize(
    ("script", "seen", "text"),
    [
        pytest.param([HANG], "Waiting for 127.0.0.1:{} ...", "", id="before the headers"),
        pytest.param([SSE, delta("Once upon"), HANG], "Once upon", "Once upon\n", id="in the text"),
    ],
)
def test_ctrl_c_stops_the_answer_and_not_the_conversation(
    script: Script, seen: str, text: str, serve: Callable[..., Server]
) -> None:
    server = serve(answer("Hello"), script, script, answer("Bye"))
    with Terminal("--base-url", server.url, "--chat", "Hi") as terminal:
        for number in (2, 3):  # the second time is as good as the first
            terminal.enter("A story")
            terminal.wait_for(partial(has_asked, server, number))
            terminal.wait_for(lambda: terminal.text.rpartition("A story\n")[2] == seen.format(server.port))
            terminal.type(CTRL_C)
        say(terminal, "Bye")
        terminal.type(CTRL_D)
        assert terminal.wait_for_end() == 0
    assert messages(server) == [user("Hi"), assistant("Hello"), user("Bye")]
    stopped = f"> A story\n{text}"
    # The terminal shows the key as ^C where the cursor is; the notice is erased with it.
    assert terminal.text.replace("^C", "") == f"Hello\n{stopped}{stopped}> Bye\nBye\n>"


@pytest.mark.parametrize(("arguments", "seen"), [([], "> "), (["Hi"], "Once upon")], ids=["prompt", "answer"])
def test_sigterm_ends_the_conversation_and_leaves_the_terminal_as_it_was(
    arguments: list[str], seen: str, serve: Callable[..., Server]
) -> None:
    server = serve([SSE, delta("Once upon"), HANG])
    with Terminal("--base-url", server.url, "--chat", *arguments) as terminal:
        before = terminal.settings
        terminal.wait_for(lambda: terminal.line == seen)
        terminal.process.send_signal(signal.SIGTERM)
        assert terminal.wait_for_end() == 143
        assert terminal.settings == before
        assert terminal.text == seen.rstrip()


@pytest.mark.parametrize(
    ("script", "text"),
    [
        pytest.param(DOWN, ERROR, id="an error"),
        pytest.param(SSE + delta("Once") + DROPPED, f"Once\n{ERROR}\n", id="in the text"),
        pytest.param(SSE + finish(), "Error occurred: the model sent no text (finish reason: stop)\n", id="no text"),
    ],
)
def test_a_failed_turn_leaves_no_trace_in_the_next(script: bytes, text: str, serve: Callable[..., Server]) -> None:
    server = serve(answer("Hello"), script, answer("Bye"))
    with Terminal("--base-url", server.url, "--chat", "Hi", columns=120) as terminal:
        say(terminal, "A story", "Bye")
        terminal.type(CTRL_D)
        assert terminal.wait_for_end() == 0
    assert messages(server) == [user("Hi"), assistant("Hello"), user("Bye")]
    assert terminal.text.replace(HINT, "") == f"Hello\n> A story\n{text}> Bye\nBye\n>"


def test_the_arrow_key_recalls_a_line(serve: Callable[..., Server]) -> None:
    pytest.importorskip("readline")
    server = serve(answer("Hello"))
    with Terminal("--base-url", server.url, "--chat") as terminal:
        say(terminal, "Hi", "Bye")
        terminal.type(UP + UP)
        terminal.wait_for(lambda: terminal.line == "> Hi")
        say_again = "\x7f!"  # and edits it
        terminal.type(say_again + ENTER)
        terminal.wait_for(lambda: len(server.requests) == 3)
        terminal.wait_for_prompt()
    assert messages(server)[-1] == user("H!")


def test_a_prompt_is_not_part_of_a_piped_stdout(serve: Callable[..., Server]) -> None:
    server = serve(answer("Hello"), answer("Bye"))
    with Terminal("--base-url", server.url, "--chat", stdout=PIPE) as terminal:
        say(terminal, "Hi")
        terminal.type("exit" + ENTER)
        assert terminal.wait_for_end() == 0
        assert terminal.process.stdout and terminal.process.stdout.read() == b"Hello\n"


# --- Through a pipe ---


@pytest.mark.parametrize(
    ("given", "turns"),
    [
        pytest.param(b"Hi\nBye\n", ["Hi", "Bye"], id="lines"),
        pytest.param(b"Hi\nBye", ["Hi", "Bye"], id="a last line without newline"),
        pytest.param(b"\nHi\n \n\t\nBye\n\n", ["Hi", "Bye"], id="blank lines"),
        pytest.param(b"Hi\nexit\nBye\n", ["Hi"], id="exit"),
        pytest.param(b"na\xc3\xafve \xe2\x82\xac\n", ["naïve €"], id="UTF-8"),
        pytest.param(b"a\xff\xfeb\n\xe2\x82\n", ["a\ufffd\ufffdb", "\ufffd"], id="undecodable bytes"),
        pytest.param(b"a\0b\n", ["a\0b"], id="a zero byte"),
        pytest.param(b"Hi\r\nBye\r\n", ["Hi", "Bye"], id="CRLF"),
        pytest.param(b"x" * 100_000 + b"\nBye", ["x" * 100_000, "Bye"], id="a long line"),
        pytest.param(b"", [], id="nothing"),
    ],
)
def test_each_line_of_a_pipe_is_a_turn(given: bytes, turns: list[str], serve: Callable[..., Server]) -> None:
    server = serve(answer("Hel", "lo"))
    result = run("--base-url", server.url, "--chat", input=given)
    assert (result.stdout, result.stderr, result.returncode) == (b"Hello\n" * len(turns), b"", 0)
    assert [request.json["messages"][-1] for request in server.requests] == [user(turn) for turn in turns]


@pytest.mark.parametrize(
    ("scripts", "out", "status"),
    [
        pytest.param([answer("1"), answer("2"), answer("3")], "1\n2\n3\n", 0, id="none"),
        pytest.param([DOWN, answer("2"), answer("3")], "2\n3\n", 1, id="the first"),
        pytest.param([answer("1"), answer("2"), DOWN], "1\n2\n", 1, id="the last"),
        pytest.param([DOWN], "", 1, id="all"),
    ],
)
def test_the_status_tells_whether_a_turn_failed(
    scripts: list[bytes], out: str, status: int, serve: Callable[..., Server]
) -> None:
    failures = 3 * scripts.count(DOWN) if len(scripts) == 1 else scripts.count(DOWN)
    result = run("--base-url", serve(*scripts).url, "--chat", input=b"a\nb\nc\n")
    assert (result.stdout.decode(), result.returncode) == (out, status)
    assert result.stderr.decode() == (ERROR + HINT) * failures


def test_each_answer_of_a_pipe_comes_before_the_next_line_is_needed(serve: Callable[..., Server]) -> None:
    server = serve(answer("One"), answer("Two"))
    with start("--base-url", server.url, "--chat", bufsize=0) as process:
        assert process.stdin and process.stdout and process.stderr
        for line, text in (b"1\n", b"One\n"), (b"2\n", b"Two\n"):
            process.stdin.write(line)
            received = b""
            while len(received) < len(text):
                received += process.stdout.read(64) or b"<the end>"
            assert received == text
        process.stdin.close()
        assert (process.wait(LIMIT), process.stderr.read()) == (0, b"")


@pytest.mark.parametrize(("signum", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("given", [b"", b"Hi\nBye\n"], ids=["awaiting a line", "in an answer"])
@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
def test_a_signal_ends_a_conversation_through_a_pipe(
    given: bytes, signum: int, status: int, serve: Callable[..., Server]
) -> None:
    server = serve(answer("Hello"), [SSE, delta("Once"), HANG])
    with start("--base-url", server.url, "--chat", "Hi", bufsize=0) as process:
        assert process.stdin and process.stdout and process.stderr
        process.stdin.write(given)
        awaited, out = b"Hello\nOnce" if given else b"Hello\n", b""
        while len(out) < len(awaited):
            out += process.stdout.read(64) or b"<the end>"
        while not given and "pipe" not in Path(f"/proc/{process.pid}/wchan").read_text():
            time.sleep(0.01)  # until it waits for a line
        process.send_signal(signum)
        assert process.wait(LIMIT) == status
        assert out + process.stdout.read() == (b"Hello\nOnce\n" if given else b"Hello\n")
        assert process.stderr.read() == b""


# --- Many turns ---


def kept_alive(*pieces: str) -> bytes:
    """Return an answer after which the connection may be used again."""
    body = answer(*pieces)[len(SSE) :]
    head = SSE.replace(b"Connection: close", b"Transfer-Encoding: chunked")
    return head + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)


def test_a_turn_does_not_use_a_connection_that_the_server_has_closed(serve: Callable[..., Server]) -> None:
    result = run("--base-url", serve(kept_alive("Hel", "lo")).url, "--chat", input=b"a\nb\nc\n")
    assert (result.stdout, result.stderr, result.returncode) == (b"Hello\n" * 3, b"", 0)


def resources(pid: int) -> tuple[int, int]:
    """Count the open files and the threads of a process."""
    return len(os.listdir(f"/proc/{pid}/fd")), len(os.listdir(f"/proc/{pid}/task"))


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
def test_many_turns_leave_nothing_open(serve: Callable[..., Server]) -> None:
    server = serve([kept_alive("Hello"), HANG])
    with start("--base-url", server.url, "--chat", bufsize=0) as process:
        assert process.stdin and process.stdout and process.stderr
        opened = []
        for number in range(20):
            process.stdin.write(b"%d\n" % number)
            assert process.stdout.readline() == b"Hello\n"
            while "pipe" not in Path(f"/proc/{process.pid}/wchan").read_text():
                time.sleep(0.01)  # until it waits for a line
            opened.append(len(os.listdir(f"/proc/{process.pid}/fd")))
        process.stdin.close()
        assert (process.stderr.read(), process.wait(LIMIT)) == (b"", 0)
    assert opened[-1] <= opened[1]

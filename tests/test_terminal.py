"""What only a process has: signals, pipes, files and a real terminal."""

import errno
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from subprocess import PIPE
from typing import IO, Any

import pytest

from loopback import HANG, SSE, Server, answer, data, delta, finish, reply
from program import COMMAND, PATH, PATIENCE, Ended, final, run_program, start, turns

pytest.importorskip("pty")
from terminal import CTRL_C, ENTER, Terminal

Serve = Callable[..., Server]
HELLO = delta("Hello")
FLOOD = [SSE, *[delta("word ")] * 100_000]
DOWN = reply(b"Down", "503 Service Unavailable", "text/plain")
FULL = data({"error": {"message": "The context is full", "code": 400}})
TOLD_FULL = "Error occurred: Error 400: The context is full\n"
CUT = "The answer may have been cut short (finish reason: length).\n"
BOTH_SIGNALS = pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])


def read_until(stream: IO[bytes] | None, text: bytes) -> str:
    """Read an unbuffered stream until a text has come."""
    assert stream
    received = b""
    while text not in received:
        more = stream.read(65536)
        assert more, f"{text!r} is not in {received!r}"
        received += more
    return received.decode()


def stop(process: subprocess.Popen[bytes], signum: int) -> Ended:
    """Send a signal; return what is printed from then on, and the status."""
    process.send_signal(signum)
    out, err = process.communicate(timeout=10)  # The time limit of the program is a minute.
    return Ended(process.returncode, out.decode(), err.decode())


# --- Signals ---


@BOTH_SIGNALS
@pytest.mark.parametrize(
    ("script", "out", "err", "text"),
    [
        pytest.param([HANG], b"", b"", "", id="waiting for the headers"),
        pytest.param([SSE, HELLO, HANG], b"Hello", b"", "Hello", id="in the answer"),
        pytest.param(FLOOD, b"word ", b"", "(word )+", id="in a flood"),
        pytest.param(DOWN, b"", b"trying again in 1 s\n", "", id="in the pause before a retry"),
    ],
)
def test_a_signal_ends_the_program_and_loses_no_text(
    script: Any, out: bytes, err: bytes, text: str, signum: int, serve: Serve
) -> None:
    server = serve(script)
    with start("--base-url", server.url, bufsize=0) as process:
        server.arrived.get(timeout=PATIENCE)
        read_until(process.stderr, err)
        before = read_until(process.stdout, out)
        ended = stop(process, signum)
    assert re.fullmatch(rf"({text})\n\nFinal accumulated text: \1\n", before + ended.stdout)
    assert (ended.status, ended.stderr) == (128 + signum, "")


@BOTH_SIGNALS
def test_a_signal_ends_a_comparison(signum: int, serve: Serve) -> None:
    server = serve([SSE, HELLO, HANG])
    with start("--base-url", server.url, "--compare", bufsize=0) as process:
        assert read_until(process.stdout, b"Hello") == "Synchronous Stream:\nHello"
        assert stop(process, signum) == (128 + signum, "\n", "")
    assert len(server.requests) == 1


@BOTH_SIGNALS
def test_a_signal_ends_a_comparison_while_pieces_rush_in(signum: int, serve: Serve) -> None:
    with start("--base-url", serve(FLOOD).url, "--compare", bufsize=0) as process:
        before = read_until(process.stdout, b"word word ")
        ended = stop(process, signum)
    # The thread of the synchronous stream may print some more before the process ends.
    assert re.fullmatch(r"Synchronous Stream:\n[word \n]+", before + ended.stdout)
    assert (ended.status, ended.stderr) == (128 + signum, "")


@BOTH_SIGNALS
def test_a_signal_ends_the_program_while_it_imports_g4f(signum: int, serve: Serve) -> None:
    env = {"PYTHONPROFILEIMPORTTIME": "1"}
    with start("--base-url", serve([HANG]).url, env=env, bufsize=0) as process:
        before = read_until(process.stderr, b" aiohttp\n")
        status, out, after = stop(process, signum)
    assert not re.findall("^(?!import time:).+", before + after, re.MULTILINE)
    # The import may just have ended.
    assert (status, out) in [(-signum, ""), (128 + signum, final(""))]


# The program with a provider that never lets the event loop go on.
STUCK = f"""
import asyncio, runpy, sys, time
from g4f.Provider import ProviderLoader
from g4f.providers.base_provider import AsyncGeneratorProvider

class Stuck(AsyncGeneratorProvider):
    working = True

    @classmethod
    async def create_async_generator(cls, model, messages, **kwargs):
        yield "Hello"
        while not asyncio.current_task().cancelling():
            time.sleep(0.01)
        print("cancelled", file=sys.stderr, flush=True)
        time.sleep({PATIENCE})

ProviderLoader.loaded["Stuck"] = Stuck
runpy.run_path({str(PATH)!r}, run_name="__main__")
"""


def test_a_second_ctrl_c_ends_the_program_during_a_blocking_call() -> None:
    with start("-p", "Stuck", command=[sys.executable, "-c", STUCK], bufsize=0) as process:
        assert read_until(process.stdout, b"Hello") == "Hello"
        process.send_signal(signal.SIGINT)
        assert read_until(process.stderr, b"\n") == "cancelled\n"
        assert stop(process, signal.SIGINT) == (130, final("Hello").removeprefix("Hello"), "")


def test_ctrl_c_typed_while_it_connects_leaves_no_trace_of_the_notice() -> None:
    # The queue holds one connection, so the next one hangs.
    with (
        socket.create_server(("127.0.0.1", 0), backlog=0) as server,
        socket.create_connection(server.getsockname()),
    ):
        host = f"127.0.0.1:{server.getsockname()[1]}"
        with Terminal("--base-url", f"http://{host}/v1") as terminal:
            terminal.wait_for(f"Waiting for {host} ...")
            terminal.type(CTRL_C)
            assert terminal.wait_for_end() == 130
    # The terminal itself shows the key.
    assert terminal.text.replace("^C", "") == final("").rstrip()


# --- Pipes and files ---


@pytest.mark.parametrize("options", [[], ["-q"], ["--compare"], ["--chat"]], ids=" ".join)
def test_a_closed_pipe_ends_the_program_quietly(options: list[str], serve: Serve) -> None:
    server = serve(FLOOD)
    with start("--base-url", server.url, *options, "Hi", bufsize=0) as process:
        assert process.stdin and process.stdout and process.stderr
        process.stdin.write(b"And more?\nAnd more?\n")
        process.stdin.close()
        read_until(process.stdout, b"word")
        process.stdout.close()
        assert (process.stderr.read(), process.wait(PATIENCE)) == (b"", 1)
    assert len(server.requests) == 1


def test_a_reader_that_pauses_is_not_a_silent_server(serve: Serve) -> None:
    text = "word " * 40_000  # more than a pipe holds
    server = serve(answer(*[text[:500]] * 400))
    with start("--base-url", server.url, "-t", "0.5", bufsize=0) as process:
        first = read_until(process.stdout, b"word")
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.8)
        out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, first + out.decode(), err) == (0, final(text), b"")


def run_redirected(redirection: str, *arguments: str, **options: Any) -> Ended:
    """Run the program after a shell has redirected its streams."""
    command = ["sh", "-c", f'{redirection}; exec "$@"', "sh", *COMMAND]
    return run_program(*arguments, command=command, **options)


def unwritable(number: int) -> str:
    return f"Error occurred: stdout cannot be written ([Errno {number}] {os.strerror(number)})\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("options", [[], ["--compare"], ["--chat", "Hi"], ["--help"]], ids=" ".join)
def test_a_full_disk_is_told_once(options: list[str], serve: Serve) -> None:
    url = serve(answer("Hello")).url
    ended = run_redirected("exec >/dev/full", "--base-url", url, *options, input="Hi\n")
    assert ended == (1, "", unwritable(errno.ENOSPC))


def test_a_disk_that_takes_half_of_an_answer_is_an_error(tmp_path: Path, serve: Serve) -> None:
    # One piece and nothing after it, which would fail in any case.
    url = serve(answer("a" * 30_000 + "\n")).url
    half = f"ulimit -f 40; exec >'{tmp_path}/out'"  # in blocks of 512 bytes
    assert run_redirected(half, "--base-url", url, "-q") == (1, "", unwritable(errno.EFBIG))


@pytest.mark.parametrize(
    ("redirection", "arguments", "ended"),
    [
        pytest.param("exec <&-", ["--chat", "Hi"], (0, "Hello\n", CUT), id="stdin"),
        pytest.param("exec >&-", [], (1, "", "Error occurred: stdout is closed\n"), id="stdout"),
        pytest.param("exec 2>&-", [], (0, final("Hello"), ""), id="stderr"),
    ],
)
def test_a_closed_stream_is_an_empty_one_except_stdout(
    redirection: str, arguments: list[str], ended: Any, serve: Serve
) -> None:
    server = serve(SSE + HELLO + finish("length"))
    assert run_redirected(redirection, "--base-url", server.url, *arguments) == ended


@pytest.mark.parametrize(
    ("encoding", "printed"),
    [
        ("ascii:strict", "na?ve ?? 100 %"),
        ("utf-16:strict", "naïve €😀 100 %"),
        ("cp864:strict", "na?ve ?? 100 ?"),
        ("ascii:backslashreplace", r"na\xefve \u20ac\U0001f600 100 %"),
    ],
)
def test_characters_that_stdout_lacks_are_question_marks_unless_the_user_says_otherwise(
    encoding: str, printed: str, serve: Serve
) -> None:
    server = serve(answer(*"naïve €😀 100 %"))
    env = {"PYTHONIOENCODING": encoding}
    ended = run_program("--base-url", server.url, env=env, encoding=encoding.split(":")[0])
    assert ended == (0, final(printed), "")


def test_without_a_home_an_answer_is_a_success(tmp_path: Path, serve: Serve) -> None:
    env = {"HOME": "/dev/null/x", "G4F_CONFIG_DIR": ""}
    ended = run_program("--base-url", serve(answer("Hello")).url, env=env, cwd=tmp_path)
    assert ended == (0, final("Hello"), "")


def test_a_megabyte_of_standard_input_with_rubbish_in_it_is_the_message(serve: Serve) -> None:
    server = serve(answer("Hello"))
    ended = run_program("--base-url", server.url, "-", input=b"\xff" + b"x" * 2**20)
    assert ended == (0, final("Hello"), "")
    assert server.requests[0].json["messages"] == turns("\ufffd" + "x" * 2**20)


def test_an_inherited_pipe_without_an_end_does_not_hold_up_the_program(serve: Serve) -> None:
    url = serve(answer("Hello")).url
    with start("--base-url", url, bufsize=0) as process:  # Its stdin stays open.
        assert process.wait(PATIENCE) == 0


def test_an_error_ends_a_comparison(serve: Serve) -> None:
    server = serve(SSE + HELLO + FULL)
    ended = run_program("--base-url", server.url, "--compare")
    assert ended == (1, "Synchronous Stream:\nHello\n", TOLD_FULL)
    assert len(server.requests) == 1


# What ends an answer, and what is seen of it where stdout and stderr are the same.
OWN_LINES = pytest.mark.parametrize(
    ("text", "ending", "options", "seen"),
    [
        pytest.param("Hel", FULL, [], final("Hel") + TOLD_FULL, id="an error"),
        pytest.param("Hel", FULL, ["-q"], f"Hel\n{TOLD_FULL}", id="an error, quiet"),
        pytest.param("Hel\n", FULL, ["-q"], f"Hel\n{TOLD_FULL}", id="an error after a line"),
        pytest.param("", FULL, ["-q"], TOLD_FULL, id="an error and no text"),
        pytest.param(
            "Hel",
            FULL,
            ["--compare"],
            f"Synchronous Stream:\nHel\n{TOLD_FULL}",
            id="an error in a comparison",
        ),
        pytest.param("Hel", finish("length"), [], final("Hel") + CUT, id="a cut"),
        pytest.param("Hel", finish("length"), ["-q"], f"Hel\n{CUT}", id="a cut, quiet"),
    ],
)


@OWN_LINES
def test_in_one_file_what_is_told_has_lines_of_its_own(
    text: str, ending: bytes, options: list[str], seen: str, tmp_path: Path, serve: Serve
) -> None:
    url = serve(SSE + delta(text) + ending).url
    log = tmp_path / "log"
    run_redirected(f"exec >'{log}' 2>&1", "--base-url", url, *options)
    assert log.read_text() == seen


# --- The terminal ---


@OWN_LINES
def test_on_a_terminal_what_is_told_has_lines_of_its_own(
    text: str, ending: bytes, options: list[str], seen: str, serve: Serve
) -> None:
    with Terminal("--base-url", serve(SSE + delta(text) + ending).url, *options) as terminal:
        terminal.wait_for_end()
    assert terminal.text == Terminal.show(seen, 80)


# Escape sequences in one delta and in several, and every character of one byte.
ESCAPES = ["\x1b]0;Pwn", "ed\x07", "\x1b", "[", "2", "J"]
HOSTILE = [*ESCAPES, "".join(map(chr, range(256))), "日本\x9b8m"]
VISIBLE = "]0;Pwned[2J\t\n" + "".join(map(chr, [*range(32, 127), *range(160, 256)])) + "日本8m"


def test_no_control_character_of_the_model_reaches_a_terminal(serve: Serve) -> None:
    with Terminal("--base-url", serve(answer(*HOSTILE)).url, stderr=PIPE) as terminal:
        assert terminal.wait_for_end() == 0
        assert terminal.process.stderr and terminal.process.stderr.read() == b""
    # The terminal itself adds the \r.
    assert terminal.received.decode() == final(VISIBLE).replace("\n", "\r\n")


def test_a_pipe_gets_the_very_bytes_of_the_model(serve: Serve) -> None:
    ended = run_program("--base-url", serve(answer(*HOSTILE)).url)
    assert ended == (0, final("".join(HOSTILE)), "")


def test_the_help_is_readable_on_a_terminal_with_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    with Terminal("--help", env={"TERM": "xterm-256color"}) as terminal:
        assert terminal.wait_for_end() == 0
    assert terminal.text.startswith("usage: messages_stream.py [-h]")
    # Without the escape before it, a colour shows as [1;34m, and its end as [0m.
    assert not re.findall(r"\[\d[\d;]*m", terminal.text)


# --- The notice ---


@pytest.mark.parametrize(
    ("columns", "script", "output", "status"),
    [
        pytest.param(20, answer("Hello"), final("Hello"), 0, id="text"),
        pytest.param(0, SSE + FULL, final("") + TOLD_FULL, 1, id="an error, unknown width"),
    ],
)
def test_the_notice_names_who_is_awaited_and_is_gone_without_a_trace(
    columns: int, script: bytes, output: str, status: int, serve: Serve
) -> None:
    gate = threading.Event()
    server = serve([gate.wait, script])
    with Terminal("--base-url", server.url, columns=columns) as terminal:
        notice = f"Waiting for 127.0.0.1:{server.port} ..."[: (columns or 80) - 1]
        terminal.wait_for(lambda: terminal.text == notice)
        gate.set()
        assert terminal.wait_for_end() == status
    assert terminal.text == Terminal.show(output, columns)


def test_the_notice_is_drawn_once_however_long_a_model_thinks(serve: Serve) -> None:
    thoughts = delta(None, reasoning_content="Hm") * 500
    with Terminal("--base-url", serve(SSE + thoughts + HELLO + finish()).url) as terminal:
        assert terminal.wait_for_end() == 0
    assert terminal.received.count(b"Waiting for") == 1
    assert terminal.text == final("Hello").rstrip()


@pytest.mark.skipif(not shutil.which("bash"), reason="needs bash")
@pytest.mark.parametrize("setting", ["stty -tostop", "stty tostop"])
def test_a_job_in_the_background_draws_no_notice(
    setting: str, tmp_path: Path, serve: Serve
) -> None:
    """With `tostop`, the terminal stops a job in the background that writes to it."""
    server = serve(answer("Hello"))
    out = tmp_path / "out"
    shell = ["bash", "--norc", "--noprofile", "--noediting", "-i"]
    with Terminal(command=shell, env={"PS1": "$ "}) as terminal:
        terminal.wait_for(lambda: terminal.line == "$ ")
        terminal.type(setting + ENTER)
        terminal.type(f"{shlex.join([*COMMAND, '--base-url', server.url])} >'{out}' &{ENTER}")
        terminal.type(f"wait $!; echo status: $?{ENTER}")
        terminal.wait_for("status: 0")
    assert out.read_text() == final("Hello")
    assert b"Waiting for" not in terminal.received


def test_the_notice_stays_out_of_a_pipe(serve: Serve) -> None:
    gate = threading.Event()
    server = serve([gate.wait, SSE + HELLO + finish("length")])
    with Terminal("--base-url", server.url, stdout=PIPE) as terminal:
        terminal.wait_for("Waiting for 127.0.0.1:")
        gate.set()
        assert terminal.wait_for_end() == 0
        assert terminal.text == CUT.rstrip()
        assert terminal.process.stdout
        assert terminal.process.stdout.read().decode() == final("Hello")
    with Terminal("--base-url", server.url, stderr=PIPE) as terminal:
        assert terminal.wait_for_end() == 0
        assert terminal.process.stderr and terminal.process.stderr.read().decode() == CUT
        assert terminal.received.decode() == final("Hello").replace("\n", "\r\n")

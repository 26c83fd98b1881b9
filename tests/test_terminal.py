"""What only a process has: signals, pipes, files and a real terminal."""

import errno
import os
import re
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
from program import COMMAND, LIMIT, PATH, run, start

pytest.importorskip("pty")
from terminal import CTRL_C, Terminal

Serve = Callable[..., Server]
HINT = "Check the connection, --model, --provider or --base-url (most end in /v1).\n"
HELLO = delta("Hel") + delta("lo")
FLOOD = [SSE, *[delta("word ")] * 100_000]
BUSY = reply(b"Busy", "503 Service Unavailable", "text/plain")
REFUSED = reply({"error": "Down"}, "400 Bad Request")
BROKEN = data({"error": {"message": "Down", "code": 400}})
ERROR = f"Error occurred: Error 400: Down\n{HINT}"
CUT = "The answer was cut short (finish reason: length).\n"
BOTH_SIGNALS = pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])


def final(text: str) -> str:
    return f"{text}\n\nFinal accumulated text: {text}\n"


def read_until(stream: IO[bytes] | None, text: bytes) -> str:
    """Read an unbuffered stream until a text has come."""
    assert stream
    received = b""
    while text not in received:
        more = stream.read(65536)
        assert more, f"{text!r} is not in {received!r}"
        received += more
    return received.decode()


def stop(process: subprocess.Popen[bytes], signum: int) -> tuple[str, str, int]:
    """Send a signal; return what is printed from then on, and the status."""
    process.send_signal(signum)
    out, err = process.communicate(timeout=10)  # the time limit of the program is a minute
    return out.decode(), err.decode(), process.returncode


# --- Signals ---


@BOTH_SIGNALS
@pytest.mark.parametrize(
    ("script", "out", "err", "text"),
    [
        pytest.param([HANG], b"", b"", "", id="waiting for the headers"),
        pytest.param([SSE, HELLO, HANG], b"Hello", b"", "Hello", id="in the answer"),
        pytest.param(FLOOD, b"word ", b"", "(word )+", id="in a flood"),
        pytest.param(BUSY, b"", b"trying again in 1 s\n", "", id="in the pause before a retry"),
    ],
)
def test_a_signal_ends_the_program_and_loses_no_text(
    script: Any, out: bytes, err: bytes, text: str, signum: int, serve: Serve
) -> None:
    server = serve(script)
    with start("--base-url", server.url, bufsize=0) as process:
        server.arrived.get(timeout=LIMIT)
        read_until(process.stderr, err)
        before = read_until(process.stdout, out)
        after, *rest = stop(process, signum)
    assert re.fullmatch(rf"({text})\n\nFinal accumulated text: \1\n", before + after)
    assert rest == ["", 128 + signum]


@BOTH_SIGNALS
def test_a_signal_ends_a_comparison(signum: int, serve: Serve) -> None:
    with start("--base-url", serve([SSE, HELLO, HANG]).url, "--compare", bufsize=0) as process:
        assert read_until(process.stdout, b"Hello") == "Synchronous Stream:\nHello"
        assert stop(process, signum) == ("\n", "", 128 + signum)


@BOTH_SIGNALS
def test_a_signal_ends_the_program_while_it_imports_g4f(signum: int, serve: Serve) -> None:
    with start("--base-url", serve([HANG]).url, env={"PYTHONPROFILEIMPORTTIME": "1"}, bufsize=0) as process:
        before = read_until(process.stderr, b" aiohttp\n")
        out, after, status = stop(process, signum)
    assert not re.findall("^(?!import time:).+", before + after, re.MULTILINE)
    assert (out, status) in [("", -signum), (final(""), 128 + signum)]  # the import may just have ended


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
        time.sleep({LIMIT})

ProviderLoader.loaded["Stuck"] = Stuck
runpy.run_path({str(PATH)!r}, run_name="__main__")
"""


def test_a_second_ctrl_c_ends_the_program_during_a_blocking_call() -> None:
    with start("-p", "Stuck", command=[sys.executable, "-c", STUCK], bufsize=0) as process:
        assert read_until(process.stdout, b"Hello") == "Hello"
        process.send_signal(signal.SIGINT)
        assert read_until(process.stderr, b"\n") == "cancelled\n"
        assert stop(process, signal.SIGINT) == ("\n\nFinal accumulated text: Hello\n", "", 130)


def test_ctrl_c_typed_while_it_connects_leaves_no_trace_of_the_notice() -> None:
    # The queue holds one connection, so the next one hangs.
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server, socket.create_connection(server.getsockname()):
        host = f"127.0.0.1:{server.getsockname()[1]}"
        with Terminal("--base-url", f"http://{host}/v1") as terminal:
            terminal.wait_for(f"Waiting for {host} ...")
            terminal.type(CTRL_C)
            assert terminal.wait_for_end() == 130
    assert terminal.text.replace("^C", "") == final("").rstrip()  # the terminal itself shows the key


# --- Pipes and files ---


@pytest.mark.parametrize("options", [[], ["-q"], ["--compare"], ["--chat"]], ids=" ".join)
def test_a_closed_pipe_ends_the_program_quietly(options: list[str], serve: Serve) -> None:
    server = serve(FLOOD)
    with start("--base-url", server.url, *options, "Hi", bufsize=0) as process:
        assert process.stdin and process.stdout and process.stderr
        process.stdin.write(b"And more?\nAnd more?\n")
        process.stdin.close()
        assert process.stdout.read(1)
        process.stdout.close()
        assert (process.stderr.read(), process.wait(LIMIT)) == (b"", 1)
    assert len(server.requests) == 1


def test_a_reader_that_pauses_is_not_a_silent_server(serve: Serve) -> None:
    text = "word " * 40_000  # more than a pipe holds
    with start("--base-url", serve(answer(*[text[:500]] * 400)).url, "-t", "0.5", bufsize=0) as process:
        first = read_until(process.stdout, b"word")
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.8)
        out, err = process.communicate(timeout=LIMIT)
    assert (first + out.decode(), err, process.returncode) == (final(text), b"", 0)


def redirected(redirection: str, *arguments: str, **options: Any) -> tuple[str, str, int]:
    """Run the program with its streams redirected by a shell; return what it printed and the status."""
    done = run(*arguments, command=["sh", "-c", f'{redirection}; exec "$@"', "sh", *COMMAND], **options)
    return done.stdout.decode(), done.stderr.decode(), done.returncode


def unwritable(number: int) -> str:
    return f"Error occurred: stdout cannot be written ([Errno {number}] {os.strerror(number)})\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("options", [[], ["--compare"], ["--chat", "Hi"], ["--help"]], ids=" ".join)
def test_a_full_disk_is_told_once(options: list[str], serve: Serve) -> None:
    result = redirected("exec >/dev/full", "--base-url", serve(answer("Hello")).url, *options, input=b"Hi\n")
    assert result == ("", unwritable(errno.ENOSPC), 1)


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_disk_that_takes_half_of_an_answer_is_an_error(unbuffered: str, tmp_path: Path, serve: Serve) -> None:
    url = serve(answer("a" * 30_000 + "\n")).url  # one piece and nothing after it, which would fail in any case
    half = f"ulimit -f 40; exec >'{tmp_path}/out'"  # in blocks of 512 bytes
    result = redirected(half, "--base-url", url, "-q", env={"PYTHONUNBUFFERED": unbuffered})
    assert result == ("", unwritable(errno.EFBIG), 1)


@pytest.mark.parametrize(
    ("redirection", "arguments", "result"),
    [
        ("exec <&-", ["--chat", "Hi"], ("Hello\n", CUT, 0)),
        ("exec >&-", ["--chat", "Hi"], ("", "Error occurred: stdout is closed\n", 1)),
        ("exec 2>&-", [], (final("Hello"), "", 0)),
    ],
)
def test_a_closed_stream_is_an_empty_one_except_stdout(
    redirection: str, arguments: list[str], result: Any, serve: Serve
) -> None:
    server = serve(SSE + HELLO + finish("length"))
    assert redirected(redirection, "--base-url", server.url, *arguments) == result


@pytest.mark.parametrize(
    ("encoding", "printed"),
    [("ascii", "na?ve ?? 100 %"), ("utf-16", "naïve €😀 100 %")],
)
def test_characters_that_stdout_lacks_are_question_marks(encoding: str, printed: str, serve: Serve) -> None:
    server = serve(answer(*"naïve €😀 100 %"))
    done = run("--base-url", server.url, env={"PYTHONIOENCODING": f"{encoding}:strict"})
    assert (done.stdout.decode(encoding), done.stderr, done.returncode) == (final(printed), b"", 0)


def test_without_a_home_an_answer_is_a_success(tmp_path: Path, serve: Serve) -> None:
    env = {"HOME": "/dev/null/x", "G4F_CONFIG_DIR": ""}
    done = run("--base-url", serve(answer("Hello")).url, env=env, cwd=tmp_path)
    assert (done.stdout.decode(), done.stderr, done.returncode) == (final("Hello"), b"", 0)


def test_a_megabyte_of_standard_input_with_rubbish_in_it_is_the_message(serve: Serve) -> None:
    server = serve(answer("Hello"))
    done = run("--base-url", server.url, "-", input=b"\xff" + b"x" * 2**20)
    assert (done.stdout.decode(), done.stderr, done.returncode) == (final("Hello"), b"", 0)
    assert server.requests[0].json["messages"] == [{"role": "user", "content": "\ufffd" + "x" * 2**20}]


def test_an_inherited_pipe_without_an_end_does_not_hold_up_the_program(serve: Serve) -> None:
    with start("--base-url", serve(answer("Hello")).url, bufsize=0) as process:  # its stdin stays open
        assert process.wait(LIMIT) == 0


# --- The terminal ---

# Escape sequences in one delta and in several, and every character of one byte.
HOSTILE = ["\x1b]0;Pwn", "ed\x07", "\x1b", "[", "2", "J", "".join(map(chr, range(256))), "日本\x9b8m"]
VISIBLE = "]0;Pwned[2J\t\n" + "".join(map(chr, [*range(32, 127), *range(160, 256)])) + "日本8m"


def test_no_control_character_of_the_model_reaches_a_terminal(serve: Serve) -> None:
    with Terminal("--base-url", serve(answer(*HOSTILE)).url, stderr=PIPE) as terminal:
        assert terminal.wait_for_end() == 0
        assert terminal.process.stderr and terminal.process.stderr.read() == b""
    assert terminal.received.decode() == final(VISIBLE).replace("\n", "\r\n")  # the terminal itself adds the \r


def test_a_pipe_gets_the_very_bytes_of_the_model(serve: Serve) -> None:
    done = run("--base-url", serve(answer(*HOSTILE)).url)
    assert done.stdout == final("".join(HOSTILE)).encode()


@pytest.mark.parametrize(
    ("columns", "script", "output", "status"),
    [(20, answer("Hello"), final("Hello"), 0), (0, REFUSED, ERROR + final(""), 1)],  # 0: unknown
    ids=["text", "error"],
)
def test_the_notice_names_who_is_awaited_and_is_gone_without_a_trace(
    columns: int, script: bytes, output: str, status: int, serve: Serve
) -> None:
    gate = threading.Event()
    server = serve([gate.wait, script])
    with Terminal("--base-url", server.url, "-m", "a-model-with-a-very-long-name", columns=columns) as terminal:
        notice = f"Waiting for 127.0.0.1:{server.port} ..."[: (columns or 80) - 1]
        terminal.wait_for(lambda: terminal.text == notice)
        gate.set()
        assert terminal.wait_for_end() == status
    assert terminal.text == Terminal.show(output, columns)


def test_notices_stay_out_of_a_pipe_and_need_no_line_of_their_own_then(serve: Serve) -> None:
    gate = threading.Event()
    server = serve([gate.wait, SSE + HELLO + finish("length")])
    with Terminal("--base-url", server.url, stdout=PIPE) as terminal:
        terminal.wait_for("Waiting for 127.0.0.1:")
        gate.set()
        assert terminal.wait_for_end() == 0
        assert terminal.text == CUT.rstrip()
        assert terminal.process.stdout and terminal.process.stdout.read().decode() == final("Hello")
    with Terminal("--base-url", server.url, stderr=PIPE) as terminal:
        assert terminal.wait_for_end() == 0
        assert terminal.process.stderr and terminal.process.stderr.read().decode() == CUT
        assert terminal.received.decode() == final("Hello").replace("\n", "\r\n")


@pytest.mark.parametrize(
    ("text", "end", "options", "seen"),
    [
        ("Hello", BROKEN, [], f"Hello\n{ERROR}{final('').rstrip()} Hello"),
        ("Hello", BROKEN, ["--compare"], f"Synchronous Stream:\nHello\n{ERROR}\n\nAsynchronous Stream:\nHello\n{ERROR}"),
        ("Hello", finish(), ["--compare"], "Synchronous Stream:\nHello\n\nAsynchronous Stream:\nHello\n"),
        ("Hello", finish("length"), ["-q"], f"Hello\n{CUT}"),
        ("Hello\n", finish("length"), ["-q"], f"Hello\n{CUT}"),
    ],
)  # fmt: skip
def test_on_a_terminal_what_is_told_has_lines_of_its_own(
    text: str, end: bytes, options: list[str], seen: str, serve: Serve
) -> None:
    with Terminal("--base-url", serve(SSE + delta(text) + end).url, *options) as terminal:
        terminal.wait_for_end()
    assert terminal.text == Terminal.show(seen, 80)

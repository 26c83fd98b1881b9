"""The user's side: signals, pipes, encodings, closed streams and a real terminal."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import DEVNULL, PIPE
from typing import IO, Any

import pytest

from loopback import HANG, SSE, Server, Step, answer, delta, finish, reply
from program import COMMAND, LIMIT, PATH, run, start

pty = pytest.importorskip("pty")
from terminal import CTRL_C, Terminal  # noqa: E402

Process = subprocess.Popen[bytes]
SIGNALS = [pytest.param(signal.SIGINT, id="Ctrl-C"), pytest.param(signal.SIGTERM, id="SIGTERM")]
HINT = "Check the connection and the --model, or try another --provider or --base-url.\n"
HELLO = delta("Hel") + delta("lo")
DOWN = reply(b"Down", "503 Service Unavailable", "text/plain")
PROC = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")


def final(text: str) -> str:
    return f"{text}\n\nFinal accumulated text: {text}\n"


def read_until(stream: IO[bytes] | None, text: bytes) -> bytes:
    """Read an unbuffered stream until a text has come."""
    assert stream
    received = bytearray()
    while text not in received:
        more = stream.read(65536)
        assert more, f"{text!r} is not in {received!r}"
        received += more
    return bytes(received)


def end(process: Process) -> tuple[str, str]:
    """Wait for a process to end soon; return what it still printed."""
    since = time.monotonic()
    out, err = process.communicate(timeout=LIMIT)
    assert time.monotonic() - since < 5
    return out.decode(), err.decode()


# --- Signals ---


class Endless:
    """An answer without an end."""

    def __iter__(self) -> Iterator[Step]:
        yield SSE
        for number in range(10**9):
            yield delta(f"{number} ")


@pytest.mark.parametrize("signum", SIGNALS)
@pytest.mark.parametrize(
    ("script", "stream", "sign", "text"),
    [
        pytest.param([HANG], "", b"", "", id="waiting for the headers"),
        pytest.param([SSE, HELLO, HANG], "stdout", b"Hello", "Hello", id="in the answer"),
        pytest.param(Endless(), "stdout", b"7 ", r"(\d+ )+", id="in a flood"),
        pytest.param(DOWN, "stderr", b"again in 1 s\n", "", id="in the pause before the second try"),
    ],
)
def test_a_signal_ends_the_program_and_loses_no_text(
    script: Any, stream: str, sign: bytes, text: str, signum: int, serve: Callable[..., Server]
) -> None:
    server = serve(script)
    with start("--base-url", server.url, bufsize=0) as process:
        server.arrived.get(timeout=LIMIT)
        seen = read_until(getattr(process, stream), sign).decode() if stream else ""
        process.send_signal(signum)
        rest, err = end(process)
    out = seen + rest if stream == "stdout" else rest
    assert re.fullmatch(rf"({text})\n\nFinal accumulated text: \1\n", out)
    assert (err, process.returncode) == ("", 128 + signum)


@pytest.mark.parametrize("signum", SIGNALS)
@pytest.mark.parametrize("module", ["aiohttp", "g4f.client"])
def test_a_signal_ends_the_program_while_it_imports_g4f(module: str, signum: int) -> None:
    with start(env={"PYTHONPROFILEIMPORTTIME": "1"}, bufsize=0) as process:
        told = read_until(process.stderr, f" {module}\n".encode()).decode()
        process.send_signal(signum)
        out, err = end(process)
    assert not [line for line in (told + err).splitlines() if not line.startswith("import time:")]
    assert out in ("", final("")) and process.returncode == 128 + signum  # the import may just have ended


# A provider that makes a call nobody can cancel, known to g4f by the name of Stuck.
STUCK = """
import runpy, sys, time
from g4f.Provider import ProviderLoader
from g4f.providers.base_provider import AsyncGeneratorProvider

class Stuck(AsyncGeneratorProvider):
    working = True

    @classmethod
    async def create_async_generator(cls, model, messages, **kwargs):
        yield "Hello"
        time.sleep(600)

ProviderLoader.loaded["Stuck"] = Stuck
sys.argv[0] = {path!r}
runpy.run_path({path!r}, run_name="__main__")
"""


def test_a_second_ctrl_c_ends_the_program_during_a_blocking_call() -> None:
    command = [sys.executable, "-c", STUCK.format(path=str(PATH)), "--provider", "Stuck"]
    with start(command=command, bufsize=0) as process:
        out = read_until(process.stdout, b"Hello").decode()
        for _ in "12":
            process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.5)  # two signals at once would be taken for one
        rest, err = end(process)
    assert (out + rest, err, process.returncode) == (final("Hello"), "", 130)


def test_ctrl_c_typed_in_a_terminal_ends_the_program(serve: Callable[..., Server]) -> None:
    with Terminal("--base-url", serve([HANG]).url) as terminal:
        terminal.wait_for("Waiting for 127.0.0.1:")
        terminal.type(CTRL_C)
        assert terminal.wait_for_end() == 130
        # The terminal itself shows the key as ^C.
        assert terminal.text.replace("^C", "") == "\n\nFinal accumulated text:"


# --- Pipes and files ---


@pytest.mark.parametrize("options", [[], ["-q"], ["--compare"], ["--chat"]], ids=" ".join)
def test_a_closed_pipe_ends_the_program_quietly(options: list[str], serve: Callable[..., Server]) -> None:
    server = serve(Endless())
    with start("--base-url", server.url, *options, "Hi", bufsize=0) as process:
        assert process.stdin and process.stdout and process.stderr
        process.stdin.write(b"And more?\nAnd more?\n")
        process.stdin.close()
        assert process.stdout.read(1)
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(LIMIT) == 1
    assert len(server.requests) == 1


TALE = [delta("word " * 100)] * 400  # more than a pipe holds


def test_the_time_limit_is_not_for_the_reader(serve: Callable[..., Server]) -> None:
    with start("--base-url", serve([SSE, *TALE, finish()]).url, "-t", "0.5", bufsize=0) as process:
        assert process.stdout and process.stdout.read(1) == b"w"
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(1)
        assert (*end(process), process.returncode) == (final("word " * 40_000)[1:], "", 0)


def shell(redirection: str, *arguments: str, **options: Any) -> subprocess.CompletedProcess[bytes]:
    """Run the program with its streams redirected by a shell."""
    return run(*arguments, command=["sh", "-c", f'exec "$@" {redirection}', "sh", *COMMAND], **options)


FULL = pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
NO_SPACE = b"Error occurred: stdout cannot be written ([Errno 28] No space left on device)\n"


@FULL
@pytest.mark.parametrize("options", [[], ["-q"], ["--compare"]], ids=" ".join)
def test_a_full_disk_is_one_line_of_error(options: list[str], serve: Callable[..., Server]) -> None:
    result = shell(">/dev/full", "--base-url", serve(answer("Hello")).url, *options, "Hi")
    assert (result.stderr, result.returncode) == (NO_SPACE, 1)


@FULL
@pytest.mark.parametrize("option", ["--help", "--version"])
def test_help_on_a_full_disk_is_an_error(option: str) -> None:
    result = shell(">/dev/full", option)
    assert b"Traceback" not in result.stderr
    assert result.returncode == 1


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_disk_that_takes_half_of_the_final_line_is_an_error(
    unbuffered: str, tmp_path: Path, serve: Callable[..., Server]
) -> None:
    limited = ["sh", "-c", 'ulimit -f 40; exec "$@" >"$0"', str(tmp_path / "out"), *COMMAND]
    environment = {"PYTHONUNBUFFERED": unbuffered}
    result = run("--base-url", serve(answer("a" * 15_000)).url, command=limited, env=environment)
    error = f"Error occurred: stdout cannot be written ([Errno {errno.EFBIG}] {os.strerror(errno.EFBIG)})\n"
    assert (result.stderr.decode(), result.returncode) == (error, 1)


@pytest.mark.parametrize("options", [[], ["--chat"], ["--chat", "Hi"]], ids=" ".join)
def test_a_closed_stdout_is_one_line_of_error(options: list[str], serve: Callable[..., Server]) -> None:
    result = shell(">&-", "--base-url", serve(answer("Hello")).url, *options, input=b"Hi\nHo\n")
    assert (result.stderr, result.returncode) == (b"Error occurred: stdout is closed\n", 1)


def test_without_stderr_nothing_of_an_error_is_on_stdout(serve: Callable[..., Server]) -> None:
    result = shell("2>&-", "--base-url", serve(SSE + HELLO + b"data: {oops\n\n").url)
    assert (result.stdout.decode(), result.stderr, result.returncode) == (final("Hello"), b"", 1)


@pytest.mark.parametrize(
    ("arguments", "out", "err", "status"),
    [
        pytest.param(["Hi", "-"], final("Hello"), "", 0, id="and asked for"),
        pytest.param(["--chat", "Hi"], "Hello\n", "", 0, id="and a conversation that has begun"),
    ],
)
def test_a_closed_stdin_is_an_empty_one(
    arguments: list[str], out: str, err: str, status: int, serve: Callable[..., Server]
) -> None:
    result = shell("<&-", "--base-url", serve(answer("Hello")).url, *arguments)
    assert (result.stdout.decode(), result.stderr.decode(), result.returncode) == (out, err, status)


C_LOCALE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
TEXT = "naïve “€” → 日本 😀 100 %"


@pytest.mark.parametrize(
    ("environment", "encoding"),
    [
        pytest.param({"PYTHONIOENCODING": "ascii:strict"}, "ascii", id="strict ASCII"),
        pytest.param({"PYTHONIOENCODING": "cp1252"}, "cp1252", id="cp1252"),
        pytest.param({"PYTHONIOENCODING": "utf-16"}, "utf-16", id="UTF-16"),
        pytest.param(C_LOCALE, "ascii", id="the C locale"),
    ],
)
def test_characters_that_stdout_lacks_are_question_marks(
    environment: dict[str, str], encoding: str, serve: Callable[..., Server]
) -> None:
    result = run("--base-url", serve(answer(*TEXT)).url, env=environment)
    assert result.stdout.decode(encoding) == final(TEXT).encode(encoding, "replace").decode(encoding)
    assert (result.stderr, result.returncode) == (b"", 0)


@pytest.mark.parametrize(
    "environment",
    [
        pytest.param({"HOME": "/dev/null/x"}, id="none"),
        pytest.param({"G4F_CONFIG_DIR": "/dev/null/x"}, id="no folder for g4f"),
    ],
)
def test_without_a_home_an_answer_is_a_success(
    environment: dict[str, str], tmp_path: Path, serve: Callable[..., Server]
) -> None:
    server = serve(SSE + HELLO + finish())
    result = run("--base-url", server.url, env={"G4F_CONFIG_DIR": "", **environment}, cwd=tmp_path)
    assert (result.stdout.decode(), result.stderr.decode(), result.returncode) == (final("Hello"), "", 0)


RUBBISH = bytes(reversed(range(256)))  # this way round, as g4f takes white space off the ends of lines


@pytest.mark.parametrize(
    ("arguments", "given", "arrived"),
    [
        pytest.param(["-"], b"x" * 2**20, "x" * 2**20, id="a megabyte"),
        pytest.param(["-"], RUBBISH, RUBBISH.decode("utf-8", "replace"), id="rubbish"),
        pytest.param(["-"], "naïve\r\n\t€\n".encode(), "naïve\r\n\t€\n", id="text as it is"),
        pytest.param(["Say", "-", "twice"], b"boo", "Say boo twice", id="among words"),
        pytest.param(["Say"], b"boo", "Say", id="not asked for"),
    ],
)
def test_standard_input_arrives_whole_at_the_server(
    arguments: list[str], given: bytes, arrived: str, serve: Callable[..., Server]
) -> None:
    server = serve(answer("Hello"))
    result = run("--base-url", server.url, *arguments, input=given)
    assert (result.stdout.decode(), result.stderr, result.returncode) == (final("Hello"), b"", 0)
    assert server.requests[0].json["messages"] == [{"role": "user", "content": arrived}]


def test_an_inherited_pipe_without_an_end_does_not_hold_up_the_program(serve: Callable[..., Server]) -> None:
    with start("--base-url", serve(answer("Hello")).url, bufsize=0) as process:  # its stdin stays open
        assert read_until(process.stdout, b"Final accumulated text: Hello\n") == final("Hello").encode()
        assert process.wait(LIMIT) == 0


# --- The terminal ---

# The text as it comes, in deltas, and what a person may see of it.
HOSTILE: list[Any] = [
    pytest.param(["Hi\x1b", "]2;Pwned\x1b", "\\!"], "Hi]2;Pwned\\!", id="a window title in pieces"),
    pytest.param(["Hi", "\x1b]52;c;cm0gLXJmCg==\x07"], "Hi]52;c;cm0gLXJmCg==", id="the clipboard"),
    pytest.param(["a\tb\n", "\nc 日本 é"], "a\tb\n\nc 日本 é", id="newlines and tabs, which stay"),
    pytest.param(
        ["".join(map(chr, range(33, 0x250)))], "".join(map(chr, [*range(33, 127), *range(160, 0x250)])), id="all"
    ),
]


@pytest.mark.parametrize(("pieces", "visible"), HOSTILE)
def test_no_control_character_of_the_model_reaches_a_terminal(
    pieces: list[str], visible: str, serve: Callable[..., Server]
) -> None:
    with Terminal("--base-url", serve(answer(*pieces)).url, stderr=DEVNULL) as terminal:
        assert terminal.wait_for_end() == 0
    assert terminal.received.decode() == final(visible).replace("\n", "\r\n")  # the terminal itself adds the \r


def test_a_pipe_gets_the_very_bytes_of_the_model(serve: Callable[..., Server]) -> None:
    pieces = [piece for each in HOSTILE for piece in each.values[0]]
    result = run("--base-url", serve(answer(*pieces)).url)
    assert result.stdout.decode() == final("".join(pieces))


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(reply({"error": {"message": "No \x1b]0;Pwned\x07\x9b8m\r\b\x7fluck"}}, "400 B"), id="a response"),
        pytest.param(
            SSE + HELLO + b'data: {"error": {"message": "No \\u001b]0;Pwned\\u0007\\u009b8m\\r\\b\\u007fluck"}}\n\n',
            id="a chunk",
        ),
        pytest.param(SSE + finish("No \x1b]0;Pwned\x07\x9b8m\r\b\x7fluck"), id="a finish reason"),
    ],
)
def test_no_control_character_of_an_error_gets_anywhere(script: bytes, serve: Callable[..., Server]) -> None:
    server = serve(script)
    result = run("--base-url", server.url)
    assert re.match(rb"Error occurred: [ -~]*No \]0;Pwned8m ?luck[ -~]*\n", result.stderr)
    with Terminal("--base-url", server.url, stdout=DEVNULL) as terminal:
        assert terminal.wait_for_end() == 1
    # The notice and its trace end with \r.
    assert not re.search(r"[\0-\t\v\f\x0e-\x1f\x7f-\x9f]", terminal.received.decode())
    assert "No ]0;Pwned8m" in terminal.received.decode().replace("\r\n", "")


@pytest.mark.parametrize("columns", [80, 20, 0])  # 0: unknown
@pytest.mark.parametrize(
    ("script", "output", "status"),
    [
        pytest.param(answer("Hello"), final("Hello"), 0, id="text"),
        pytest.param(
            reply({"error": "Down"}, "400 B"), f"Error occurred: Error 400: Down\n{HINT}{final('')}", 1, id="error"
        ),
    ],
)
def test_the_notice_is_gone_without_a_trace_before_text_and_error(
    script: bytes, output: str, status: int, columns: int, serve: Callable[..., Server]
) -> None:
    gate = threading.Event()
    server = serve([gate.wait, script])
    with Terminal("--base-url", server.url, columns=columns) as terminal:
        notice = f"Waiting for 127.0.0.1:{server.port} ..."[: (columns or 80) - 1]
        terminal.wait_for(lambda: terminal.text == notice)
        gate.set()
        assert terminal.wait_for_end() == status
    assert terminal.text == Terminal.show(output, columns)


def test_the_notice_stays_out_of_a_pipe(serve: Callable[..., Server]) -> None:
    gate = threading.Event()
    with Terminal("--base-url", serve([gate.wait, answer("Hello")]).url, stdout=PIPE) as terminal:
        terminal.wait_for("Waiting for 127.0.0.1:")
        gate.set()
        assert terminal.wait_for_end() == 0
        assert terminal.text == ""
        assert terminal.process.stdout and terminal.process.stdout.read().decode() == final("Hello")


def test_the_notice_makes_way_for_the_notice_of_a_retry(serve: Callable[..., Server]) -> None:
    server = serve(DOWN, answer("Hello"))
    with Terminal("--base-url", server.url) as terminal:
        assert terminal.wait_for_end() == 0
    assert terminal.text == "Response 503: Down; trying again in 1 s\nHello\n\nFinal accumulated text: Hello"


@pytest.mark.parametrize("text", ["Hello", "Hello\n"])
def test_an_error_after_text_starts_on_a_line_of_its_own(text: str, serve: Callable[..., Server]) -> None:
    with Terminal("--base-url", serve(SSE + delta(text) + b"data: {oops\n\n").url) as terminal:
        assert terminal.wait_for_end() == 1
    assert re.match(r"Hello\nError occurred: Invalid JSON data: .*\nCheck the ", terminal.text)
    assert terminal.text.endswith(f"\n\nFinal accumulated text: {text}".rstrip())


@pytest.mark.parametrize("text", ["Hello", "Hello\n"])
def test_a_cut_off_answer_is_told_on_a_line_of_its_own(text: str, serve: Callable[..., Server]) -> None:
    with Terminal("--base-url", serve(SSE + delta(text) + finish("length")).url, "-q", "Hi") as terminal:
        assert terminal.wait_for_end() == 0
    assert terminal.text == "Hello\nThe answer was cut short (finish reason: length)."

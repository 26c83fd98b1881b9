"""A conversation with a real model: SmolLM2-135M behind llama.cpp's own server."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import pytest

import serve_smollm2
from messages_stream import main
from program import COMMAND, PATIENCE, Ended, final, run_program, start
from terminal import CTRL_C, CTRL_D, Terminal

SCRIPT = [sys.executable, serve_smollm2.__file__]
# Tells where the model is and ends at the first signal, with a status of its own.
WAIT = """
import os, signal, sys
signals = {signal.SIGINT, signal.SIGTERM}
signal.pthread_sigmask(signal.SIG_BLOCK, signals)
print(os.environ["OPENAI_BASE_URL"], flush=True)
sys.exit(40 + signal.sigwait(signals))
"""


@pytest.fixture(scope="module")
def model_url() -> Iterator[str]:
    with serve_smollm2.serving() as url:
        yield url


def test_a_real_answer_arrives_in_several_pieces(model_url: str) -> None:
    pieces = list[str]()

    class Stdout(io.StringIO):
        def write(self, text: str) -> int:
            pieces.append(text)
            return len(text)

    question = "Name the capital of France."
    with contextlib.redirect_stdout(Stdout()):
        assert asyncio.run(main(question, base_url=model_url, model="smollm2", quiet=True)) is None
    assert len([piece for piece in pieces if piece.strip()]) > 2
    assert "Paris" in "".join(pieces)


def test_a_real_conversation_remembers_what_was_said(model_url: str) -> None:
    questions = "Name the capital of France.\nAnd of Italy?\n"
    ended = run_program("-c", "--base-url", model_url, "-m", "smollm2", input=questions)
    assert (ended.status, ended.stderr) == (0, "")
    assert re.search(r"Paris.*\n.*Rome", ended.stdout, re.DOTALL)


def test_one_command_prints_a_real_answer_and_repeats_it_in_the_final_line() -> None:
    ended = run_program(command=[*SCRIPT, *COMMAND])
    text, _ = ended.stdout.split("\n\nFinal accumulated text: ")
    assert text and ended == Ended(0, final(text), "")


def test_ctrl_c_stops_the_answer_and_not_the_model() -> None:
    with Terminal("--chat", command=[*SCRIPT, *COMMAND]) as terminal:
        terminal.enter("Why is the sky blue?")
        terminal.wait_for("The answer")
        terminal.type(CTRL_C)
        terminal.enter("Name the capital of France.")
        terminal.wait_for("Paris")
        terminal.wait_for_prompt()
        terminal.type(CTRL_D)
        assert terminal.wait_for_end() == 0


@pytest.mark.parametrize(
    ("command", "ended"),
    [
        (
            ["sh", "-c", 'cat; echo "$@"; echo oh >&2; exit 3', "sh", "--port", "-h"],
            Ended(3, "in\n--port -h\n", "oh\n"),
        ),
        (["sh", "-c", "kill -INT $$"], Ended(130, "", "")),
        (
            ["no-such-command"],
            Ended(127, "", "no-such-command: No such file or directory\n"),
        ),
    ],
)
def test_the_streams_and_the_status_are_the_commands(command: list[str], ended: Ended) -> None:
    assert run_program(command=[*SCRIPT, *command], input="in\n") == ended


@pytest.mark.parametrize(
    ("send", "signum"), [(os.killpg, signal.SIGINT), (os.kill, signal.SIGTERM)]
)
def test_a_signal_ends_the_command_and_then_the_model(
    send: Callable[[int, int], None], signum: int
) -> None:
    with start(command=[*SCRIPT, sys.executable, "-c", WAIT], start_new_session=True) as process:
        assert process.stdout
        url = urlsplit(process.stdout.readline().decode())
        address = url.hostname, url.port
        socket.create_connection(address).close()
        send(process.pid, signum)
        assert (*process.communicate(timeout=PATIENCE), process.returncode) == (
            b"",
            b"",
            40 + signum,
        )
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_the_model_server_ends_cleanly(signum: int) -> None:
    with subprocess.Popen(
        [*SCRIPT, "--port", "0"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as server:
        assert server.stdout and re.fullmatch(
            rb"http://127\.0\.0\.1:\d+/v1\n", server.stdout.readline()
        )
        server.send_signal(signum)
        assert (*server.communicate(timeout=PATIENCE), server.returncode) == (b"", b"", 0)


def test_the_model_server_refuses_a_busy_port_with_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = str(busy.getsockname()[1])
        ended = run_program("--port", port, command=SCRIPT)
    told = f"Port {port} is in use or not allowed; choose another with --port.\n"
    assert ended == Ended(1, "", told)

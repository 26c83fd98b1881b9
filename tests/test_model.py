"""A conversation with a real model: SmolLM2-135M behind llama.cpp's own server."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

import serve_smollm2
from program import LIMIT, run, start

SCRIPT = [sys.executable, serve_smollm2.__file__]


@pytest.fixture(scope="module")
def model_url() -> Iterator[str]:
    with serve_smollm2.serving() as url:
        yield url


@pytest.mark.slow
def test_a_real_answer_arrives_in_several_pieces(model_url: str) -> None:
    pieces = []
    with start("-q", "--base-url", model_url, "-m", "smollm2", "Name the capital of France.") as process:
        assert process.stdout
        while piece := os.read(process.stdout.fileno(), 65536):
            pieces.append(piece)
    assert process.returncode == 0
    assert len(pieces) > 2
    assert b"Paris" in b"".join(pieces)


@pytest.mark.slow
def test_the_final_line_repeats_a_real_answer(model_url: str) -> None:
    done = run("--base-url", model_url, "-m", "smollm2")
    assert (done.returncode, done.stderr) == (0, b"")
    text, final = done.stdout.decode().split("\n\nFinal accumulated text: ")
    assert text and final == f"{text}\n"


@pytest.mark.slow
def test_a_real_conversation_remembers_what_was_said(model_url: str) -> None:
    done = run(
        "--chat", "--base-url", model_url, "-m", "smollm2", input=b"Name the capital of France.\nAnd of Italy?\n"
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert re.search(rb"Paris.*\n.*Rome", done.stdout, re.DOTALL)


@pytest.mark.slow
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_the_model_server_ends_cleanly(signum: int) -> None:
    with subprocess.Popen([*SCRIPT, "--port", "0"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as server:
        assert server.stdout and re.fullmatch(rb"http://127\.0\.0\.1:\d+/v1\n", server.stdout.readline())
        server.send_signal(signum)
        assert (*server.communicate(timeout=LIMIT), server.returncode) == (b"", b"", 0)


@pytest.mark.slow
def test_the_model_server_refuses_a_busy_port_with_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = str(busy.getsockname()[1])
        done = subprocess.run([*SCRIPT, "--port", port], capture_output=True, timeout=LIMIT, check=False)
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.decode() == f"Port {port} is in use or not allowed; choose another with --port.\n"

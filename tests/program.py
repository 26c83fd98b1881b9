"""Run the program as a user does: in a process of its own, with real pipes, signals and terminals."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

PATH = Path(__file__).parent.parent / "messages_stream.py"
COMMAND = [sys.executable, str(PATH)]
LIMIT = 60  # seconds until a test gives up on a process


def start(
    *arguments: str, env: dict[str, str] | None = None, command: list[str] = COMMAND, **options: Any
) -> subprocess.Popen[bytes]:
    """Start the program with pipes for its three streams; use it in a `with` block."""
    streams = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    env = {**os.environ, "PYTHONUNBUFFERED": "", **(env or {})}  # buffered as usual, whatever the tests run in
    return subprocess.Popen([*command, *arguments], env=env, **{**streams, **options})


def run(*arguments: str, input: bytes = b"", **options: Any) -> subprocess.CompletedProcess[bytes]:
    """Run the program to its end."""
    with start(*arguments, **options) as process:
        try:
            out, err = process.communicate(input, LIMIT)
        finally:
            process.kill()
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

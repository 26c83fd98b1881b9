"""Run the program as a user does, in a process of its own; and what more than one file of tests needs for it."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

PATH = Path(__file__).parent.parent / "messages_stream.py"
COMMAND = [sys.executable, str(PATH)]
PATIENCE = 60  # seconds until a test gives up on what it waits for

SLOW = "A slow server may need a longer --timeout.\n"
NO_SERVER = "Check the connection and --base-url: is a server running there?\n"
NO_PROVIDER = "Check the connection, or try another --provider or --base-url.\n"
NO_PATH = "Check --base-url (most end in /v1) and --model.\n"


class Ended(NamedTuple):
    """How a process ended, and what it printed."""

    status: int
    stdout: str
    stderr: str


@contextlib.contextmanager
def start(
    *arguments: str, env: dict[str, str] | None = None, command: list[str] = COMMAND, **options: Any
) -> Iterator[subprocess.Popen[bytes]]:
    """Start the program with pipes for its three streams, and wait for its end; a test that fails ends it."""
    streams = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    environment = {**os.environ, **(env or {})}
    with subprocess.Popen(
        [*command, *arguments], env=environment, **{**streams, **options}
    ) as process:
        try:
            yield process
        except BaseException:
            process.kill()
            raise


def run_program(
    *arguments: str, input: str | bytes = b"", encoding: str = "utf-8", **options: Any
) -> Ended:
    """Run the program to its end."""
    given = input.encode() if isinstance(input, str) else input
    with start(*arguments, **options) as process:
        out, err = process.communicate(given, PATIENCE)
    return Ended(process.returncode, out.decode(encoding), err.decode(encoding))


def final(text: str) -> str:
    """Return what the program prints to stdout where a text is all it has received."""
    return f"{text}\n\nFinal accumulated text: {text}\n"


def turns(*contents: str) -> list[dict[str, str]]:
    """Return a conversation, which the user begins."""
    roles = ("user", "assistant")
    return [{"role": roles[index % 2], "content": each} for index, each in enumerate(contents)]


class Stdout(io.StringIO):
    """A stdout that tells when there is text in it that no buffer holds back."""

    def __init__(self) -> None:
        super().__init__()
        self.has_text = threading.Event()

    def flush(self) -> None:
        if self.getvalue():
            self.has_text.set()

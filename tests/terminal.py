"""Run the program in a real terminal, type as a person does, and see what that person sees."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
import time
from collections.abc import Callable
from typing import Any

import pyte

from program import COMMAND, PATIENCE

CTRL_C, CTRL_D, ENTER, UP = "\x03", "\x04", "\r", "\x1b[A"
# Opened by a process without one, a terminal becomes its controlling terminal, which turns Ctrl-C
# into a signal.
TAKE_TERMINAL = ["sh", "-c", ': <"$0"; exec "$@"']


class Terminal:
    """A terminal and the program in it; a stream that is given, as `stdout=PIPE`, is not there."""

    def __init__(
        self,
        *arguments: str,
        columns: int = 80,
        lines: int = 60,
        command: list[str] = COMMAND,
        env: dict[str, str] | None = None,
        **streams: Any,
    ) -> None:
        # 0 columns: a terminal that does not tell its size
        self.screen = pyte.Screen(columns or 80, lines)
        self.emulator = pyte.ByteStream(self.screen)
        self.received = bytearray()  # all the bytes that reached the terminal
        self.ended = False
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        environment = {**os.environ, "TERM": "xterm", "INPUTRC": os.devnull, "PYTHONUTF8": "1"}
        for name in ("COLUMNS", "LINES"):
            environment.pop(name, None)
        self.process: subprocess.Popen[bytes] = subprocess.Popen(
            [*TAKE_TERMINAL, os.ttyname(slave), *command, *arguments],
            env={**environment, **(env or {})},
            start_new_session=True,
            **{**dict.fromkeys(("stdin", "stdout", "stderr"), slave), **streams},
        )
        os.close(slave)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *error: object) -> None:
        self.process.kill()
        self.process.communicate()
        os.close(self.master)

    @staticmethod
    def show(output: str, columns: int) -> str:
        """Return what is on a screen after some output."""
        screen = pyte.Screen(columns or 80, 60)
        pyte.Stream(screen).feed(output.replace("\n", "\r\n"))
        return "\n".join(line.rstrip() for line in screen.display).rstrip("\n")

    @property
    def text(self) -> str:
        """What is on the screen, without the blanks at the ends of the lines."""
        return "\n".join(line.rstrip() for line in self.screen.display).rstrip("\n")

    @property
    def settings(self) -> list[Any]:
        """What `stty` shows, such as whether keys are echoed."""
        return termios.tcgetattr(self.master)

    @property
    def line(self) -> str:
        """What is before the cursor in its line."""
        return self.screen.display[self.screen.cursor.y][: self.screen.cursor.x]

    def type(self, keys: str) -> None:
        os.write(self.master, keys.encode())

    def wait_for(self, seen: str | Callable[[], bool]) -> None:
        """Wait until a text is on the screen, or for anything else that is true then."""
        deadline = time.monotonic() + PATIENCE
        while not (seen in self.text if isinstance(seen, str) else seen()):
            in_time = not self.ended and time.monotonic() < deadline
            assert in_time, f"no {seen!r} on the screen:\n{self.text}"
            self._read()

    def wait_for_prompt(self) -> None:
        self.wait_for(lambda: self.line == "> ")

    def enter(self, line: str) -> None:
        """Type a line at the prompt and see it taken."""
        self.wait_for_prompt()
        row = self.screen.cursor.y
        self.type(line + ENTER)
        self.wait_for(lambda: self.screen.cursor.y > row)

    def wait_for_end(self, pressing: str = "") -> int:
        """Wait until nothing has the terminal open, pressing a key until then; return the exit status.

        Once may not be enough: Python loses a Ctrl-C that comes just before it awaits a line.
        """
        deadline = time.monotonic() + PATIENCE
        press_at = 0.0
        while not self.ended:
            assert time.monotonic() < deadline, f"it goes on:\n{self.text}"
            if pressing and time.monotonic() > press_at:
                self.type(pressing)
                press_at = time.monotonic() + 2
            self._read()
        return self.process.wait(PATIENCE)

    def _read(self) -> None:
        readable, _, _ = select.select([self.master], [], [], 0.05)
        if readable:
            try:
                more = os.read(self.master, 65536)
            except OSError:  # as Linux words the end
                more = b""
            self.ended = not more
            self.received += more
            self.emulator.feed(more)

"""Draw .github/session.svg, the picture in README: a real chat with the small model, at the pace it had.

$ python tests/draw_session.py
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from html import escape
from pathlib import Path

from program import PATH
from serve_smollm2 import serving
from terminal import CTRL_C, CTRL_D, ENTER, Terminal

PICTURE = PATH.parent / ".github" / "session.svg"
COMMAND = "python messages_stream.py --chat"
START = 1  # seconds before Enter, to read what was typed
SLOWER = 4  # times: nobody can follow a hundred words a second
PAUSE = 0.4  # seconds before something is typed, at the pace of the session
# Where nothing is animated, all that stays is there from the beginning, and what was erased is not.
SVG = """\
<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}">
<title>A chat in a terminal, {slower} times slower than it was</title>
<style>
text {{ font: 14px ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; white-space: pre }}
tspan {{ fill: #e6edf3 }}
text:first-of-type, .typed tspan {{ fill: #7ee787 }}
.told tspan {{ fill: #ffa657 }}
.erased {{ visibility: hidden }}
@media (prefers-reduced-motion: no-preference) {{
  tspan {{ animation: 1ms backwards later }}
  .erased {{ animation-name: meanwhile }}
}}
@keyframes later {{ from, to {{ visibility: hidden }} }}
@keyframes meanwhile {{ from, to {{ visibility: visible }} }}
</style>
<rect width="{width}" height="{height}" rx="8" fill="#0d1117"/>
<g fill="#484f58"><circle cx="22" cy="20" r="6"/><circle cx="42" cy="20" r="6"/><circle cx="62" cy="20" r="6"/></g>
{lines}
</svg>
"""
COLUMNS = 110
WIDTH = 970
Screens = list[tuple[float, list[str]]]


def record() -> Screens:
    """Hold a chat in a shell; return the screen after each change, with its time."""
    with contextlib.ExitStack() as model, tempfile.TemporaryDirectory() as home:
        url = model.enter_context(serving(8080))
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        env = {"PATH": path, "PS1": "$ ", "ENV": "", "HOME": home, "G4F_CONFIG_DIR": home}
        env["OPENAI_BASE_URL"] = url
        with Terminal(command=["sh"], env=env, cwd=PATH.parent, columns=COLUMNS) as terminal:
            terminal.wait_for(lambda: terminal.line == "$ ")
            terminal.type(COMMAND)
            terminal.wait_for(COMMAND)
            screens = [(0.0, terminal.text.split("\n"))]
            start = time.monotonic()

            def look_until(condition: Callable[[], bool]) -> None:
                def look() -> bool:
                    screens.append((time.monotonic() - start, terminal.text.split("\n")))
                    return condition()

                terminal.wait_for(look)

            def type_slowly(keys: str) -> None:
                later = time.monotonic() + PAUSE
                look_until(lambda: time.monotonic() > later)
                terminal.type(keys)

            terminal.type(ENTER)
            look_until(lambda: terminal.line == "> ")
            type_slowly("Name the capital of France." + ENTER)
            look_until(lambda: "is Paris" in terminal.text and terminal.line == "> ")
            type_slowly("Tell me a story about a cat." + ENTER)
            look_until(lambda: len(terminal.line) > 80)
            terminal.type(CTRL_C)
            look_until(lambda: terminal.line == "> ")
            model.close()
            type_slowly("Are you still there?" + ENTER)
            look_until(lambda: "Error occurred" in terminal.text and terminal.line == "> ")
            type_slowly(CTRL_D)
            look_until(lambda: terminal.line == "$ ")
            return screens


def draw(screens: Screens) -> Iterator[str]:
    """Yield what stood in each line of the screen, with the time of each piece, and of its end where it was erased."""
    for row in range(max(len(screen) for _, screen in screens)):
        place = f'x="20" y="{62 + 21 * row}"'
        shown, pieces, since = "", "", 0.0
        for seconds, screen in screens:
            delay = START + SLOWER * seconds if seconds else 0
            text = screen[row] if row < len(screen) else ""
            if not text.startswith(shown):
                times = f"animation-delay:{since:.2f}s;animation-duration:{delay - since:.2f}s"
                yield f'<text {place} class="erased" style="{times}">{pieces}</text>'
                shown = pieces = ""
            if added := escape(text[len(shown) :]):
                style = f' style="animation-delay:{delay:.2f}s"' if delay else ""
                pieces += f"<tspan{style}>{added}</tspan>"
                since = since if shown else delay
                shown = text
        kind = "typed" if shown[:1] in (">", "$") else "told" if row and is_told(shown) else ""
        yield (
            f'<text {place} class="{kind}">{pieces}</text>'
            if kind
            else f"<text {place}>{pieces}</text>"
        )


def is_told(line: str) -> bool:
    """Return whether a line comes from the program, not from the model."""
    return line.startswith(("Error occurred", "Check the", "Ctrl-C"))


if __name__ == "__main__":
    screens = record()
    height = 62 + 21 * len(screens[-1][1])
    lines = "\n".join(draw(screens))
    PICTURE.write_text(
        SVG.format(width=WIDTH, height=height, slower=SLOWER, lines=lines), encoding="utf-8"
    )

"""Draw .github/session.svg, the picture in README: a real session with the small model, at the pace it had.

$ python tests/draw_session.py
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Iterator
from html import escape
from pathlib import Path

from program import PATH
from serve_smollm2 import serving
from terminal import ENTER, Terminal

PICTURE = PATH.parent / ".github" / "session.svg"
TYPED = 'python messages_stream.py "Write one sentence about the morning."'
START = 1  # seconds before Enter, to read what was typed
SLOWER = 4  # times: nobody can follow a hundred words a second
# Where nothing is animated, all that stays is there from the beginning, and what was erased is not.
SVG = """\
<svg xmlns="http://www.w3.org/2000/svg" width="720" height="{height}" viewBox="0 0 720 {height}">
<title>A terminal in which an answer arrives piece by piece, {slower} times slower than it did</title>
<style>
text {{ font: 14px ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; white-space: pre }}
tspan {{ fill: #e6edf3 }}
text:first-of-type, text:last-of-type tspan {{ fill: #7ee787 }}
.erased {{ visibility: hidden }}
@media (prefers-reduced-motion: no-preference) {{
  tspan {{ animation: 1ms backwards later }}
  .erased {{ animation-name: meanwhile }}
}}
@keyframes later {{ from, to {{ visibility: hidden }} }}
@keyframes meanwhile {{ from, to {{ visibility: visible }} }}
</style>
<rect width="720" height="{height}" rx="8" fill="#0d1117"/>
<g fill="#484f58"><circle cx="22" cy="20" r="6"/><circle cx="42" cy="20" r="6"/><circle cx="62" cy="20" r="6"/></g>
{lines}
</svg>
"""


def record() -> list[tuple[float, list[str]]]:
    """Type the command into a shell; return the screen after each change until the next prompt, with its time."""
    with serving() as url, tempfile.TemporaryDirectory() as home:
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        env = {"PATH": path, "PS1": "$ ", "ENV": "", "HOME": home, "G4F_CONFIG_DIR": home, "OPENAI_BASE_URL": url}
        with Terminal(command=["sh"], env=env, cwd=PATH.parent) as terminal:
            terminal.wait_for(lambda: terminal.line == "$ ")
            terminal.type(TYPED)
            terminal.wait_for(TYPED)
            screens = [(0.0, terminal.text.split("\n"))]
            terminal.type(ENTER)
            start = time.monotonic()

            def has_ended() -> bool:
                screens.append((time.monotonic() - start, terminal.text.split("\n")))
                return terminal.line == "$ "

            terminal.wait_for(has_ended)
            return screens


def draw(screens: list[tuple[float, list[str]]]) -> Iterator[str]:
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
                pieces += f'<tspan style="animation-delay:{delay:.2f}s">{added}</tspan>' if delay else added
                since = since if shown else delay
                shown = text
        yield f"<text {place}>{pieces}</text>"


if __name__ == "__main__":
    screens = record()
    height = 62 + 21 * len(screens[-1][1])
    PICTURE.write_text(SVG.format(height=height, slower=SLOWER, lines="\n".join(draw(screens))), encoding="utf-8")

"""README.md says what is so: its commands run, its snippet works, its help text is the real one."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import serve_smollm2
from loopback import answer, serving
from program import LIMIT, PATH, run

README = PATH.with_name("README.md").read_text(encoding="utf-8")
FIXED = ("", "Synchronous Stream:", "Asynchronous Stream:", "Final accumulated text")  # the rest is the model's


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def frame(output: str) -> list[str]:
    """Return an output with the model's words left out, as they may differ from machine to machine."""
    lines = [line.partition(":")[0] + ":" if line.startswith(FIXED[3]) else line for line in output.splitlines()]
    return [line if line.startswith(FIXED[1:]) or not line else "…" for line in lines]


@pytest.mark.slow
def test_the_commands_print_what_is_shown() -> None:
    commands = re.findall(r"^\$ (.*python messages_stream\.py.*)\n((?:(?!\$ ).*\n)*)", "".join(blocks("console")), re.M)
    assert len(commands) == 9
    with serve_smollm2.serving() as url:
        for command, shown in commands:
            typed = "".join(re.findall(r"^> (.*\n)", shown, re.MULTILINE))
            shown = re.sub(r"^> .*\n", "", shown, flags=re.MULTILINE)
            options = "" if "--help" in command else f" --base-url {url} -m smollm2"
            if "Error occurred" in shown:
                continue  # tests/test_default_route.py shows it
            command = command.replace(" --base-url http://127.0.0.1:8080/v1 -m smollm2", "")
            command = command.replace("python messages_stream.py", f'"{sys.executable}" "{PATH}"{options}')
            done = subprocess.run(command, shell=True, input=typed, capture_output=True, text=True, timeout=LIMIT)
            assert (done.returncode, done.stderr) == (0, "")
            assert "--help" in command or frame(done.stdout) == frame(shown)


def test_the_help_is_the_real_one() -> None:
    (shown,) = (block.partition("\n")[2] for block in blocks("console") if "--help" in block)
    real = run("--help", env={"COLUMNS": "80"}).stdout.decode()
    # Python 3.13 names the value of an option once, Python 3.14 may colour it.
    shown, real = (re.sub(r"(-\w) [A-Z]+, (--\w+ [A-Z]+)", r"\1, \2", each) for each in (shown, real))
    assert real.split() == shown.split()


def test_the_snippet_runs_as_it_stands(tmp_path: Path) -> None:
    (snippet,) = blocks("python")
    (tmp_path / "snippet.py").write_text(snippet)
    # In place of the internet: the snippet names no server, so that it asks g4f's default route.
    redirect = "import functools, g4f.client as c\np = c.create_custom_provider({!r}, models=['gpt-4'])\n"
    redirect += "c.AsyncClient = functools.partial(c.AsyncClient, provider=p)\n"
    with serving(answer("Hello", " there!")) as server:
        (tmp_path / "sitecustomize.py").write_text(redirect.format(server.url))
        env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(PATH.parent)])}
        done = subprocess.run([sys.executable, "snippet.py"], cwd=tmp_path, env=env, capture_output=True, timeout=LIMIT)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == b"Hello there!\n\nFinal accumulated text: Hello there!\n"


def test_the_requirement_is_the_same_everywhere() -> None:
    (listed,) = (line for line in PATH.with_name("requirements.txt").read_text().splitlines() if line[0] != "#")
    metadata = re.search(r"^# /// script\n(.*?)^# ///$", PATH.read_text(), re.MULTILINE | re.DOTALL)
    assert metadata and f'# dependencies = ["{listed}"]\n' in metadata[1]
    assert '# requires-python = ">=3.10"\n' in metadata[1]

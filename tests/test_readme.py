"""README.md says what is so: its commands run, its snippet works, its links, limits and requirements are real."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import serve_smollm2
from loopback import answer, serving
from program import LIMIT, PATH, run

README = PATH.with_name("README.md").read_text(encoding="utf-8")
SOURCE = PATH.read_text(encoding="utf-8")
FIXED = ("Synchronous Stream:", "Asynchronous Stream:")  # the rest is the model's


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def frame(output: str) -> list[str]:
    """Return an output with the model's words left out, as they may differ from machine to machine."""
    return [line if line in ("", *FIXED) else "…" for line in output.splitlines()]


def test_the_commands_print_what_is_shown() -> None:
    commands = re.findall(r"^\$ (.*python messages_stream\.py.*)\n((?:(?!\$ ).*\n)*)", "".join(blocks("console")), re.M)
    assert len(commands) == 5
    with serve_smollm2.serving() as url:
        for command, shown in commands:
            if "Error occurred" in shown:
                continue  # tests/test_default_route.py shows it
            typed = "".join(re.findall(r"^> (.*\n)", shown, re.MULTILINE))
            shown = re.sub(r"^> .*\n", "", shown, flags=re.MULTILINE)
            done = subprocess.run(
                command.replace("python messages_stream.py", f'"{sys.executable}" "{PATH}"'),
                env={**os.environ, "OPENAI_BASE_URL": url},
                shell=True,
                input=typed,
                capture_output=True,
                text=True,
                timeout=LIMIT,
            )
            assert (done.returncode, done.stderr) == (0, "")
            assert frame(done.stdout) == frame(shown)


def test_the_snippet_runs_as_it_stands(tmp_path: Path) -> None:
    (snippet,) = blocks("python")
    (tmp_path / "snippet.py").write_text(snippet)
    # In place of the internet: the snippet names no server, so that it asks g4f's default route.
    redirect = "import functools, g4f.client as c\np = c.create_custom_provider({!r}, models=['gpt-4'])\n"
    redirect += "c.AsyncClient = functools.partial(c.AsyncClient, provider=p)\n"
    with serving(answer("Hello", " there!")) as server:
        (tmp_path / "sitecustomize.py").write_text(redirect.format(server.url))
        env = {**os.environ, "PYTHONPATH": str(tmp_path)}
        done = subprocess.run([sys.executable, "snippet.py"], cwd=tmp_path, env=env, capture_output=True, timeout=LIMIT)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == b"Hello there!\n\nFinal accumulated text: Hello there!\n"


def test_what_is_named_exists() -> None:
    options = run("--help").stdout.decode()
    for name in set(re.findall(r"`(--[a-z-]+)", README)):
        assert name in options
    for path in re.findall(r"\]\(([^:)]+)\)", README) + re.findall(r"python (tests/\w+\.py)", README):
        assert PATH.with_name("README.md").parent.joinpath(path).is_file()


def test_the_requirement_is_the_same_everywhere() -> None:
    (listed,) = (line for line in PATH.with_name("requirements.txt").read_text().splitlines() if line[0] != "#")
    metadata = re.search(r"^# /// script\n(.*?)^# ///$", SOURCE, re.MULTILINE | re.DOTALL)
    assert metadata and f'# dependencies = ["{listed}"]\n' in metadata[1]
    assert '# requires-python = ">=3.11"\n' in metadata[1] and "Python 3.11 or later" in README
    assert SOURCE.startswith("#!/usr/bin/env -S uv run --script\n") and os.access(PATH, os.X_OK)


def test_the_program_can_be_read_in_minutes() -> None:
    assert len(SOURCE.splitlines()) <= 380
    assert len(README.splitlines()) <= 130

"""README.md says what is so: its commands run, its snippet works, its links, limits and requirements are real."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

import serve_smollm2
from loopback import answer, serving
from program import PATH, PATIENCE, Ended, final, run_program

README = PATH.with_name("README.md").read_text(encoding="utf-8")
SOURCE = PATH.read_text(encoding="utf-8")
# A command at its prompt, and what is shown below it.
SHOWN = re.compile(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", re.MULTILINE)


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


NO_SERVER_SHOWN, WITH_SERVER_SHOWN = (SHOWN.findall(block) for block in blocks("console"))


@pytest.fixture(scope="module")
def model_url() -> Iterator[str]:
    with serve_smollm2.serving() as url:
        yield url


def without_words(output: str) -> list[str]:
    """Return the lines of an output without the model's words, which differ between machines."""
    return [
        "…" if line.endswith((".", "!")) and "Ctrl" not in line else line
        for line in output.splitlines()
    ]


def paste(shell: str, commands: str, **env: str) -> Ended:
    """Run commands in an interactive shell, as if they were pasted as a whole."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    plain = {"bash": ["--norc", "--noprofile"], "zsh": ["-f"]}[shell]
    done = subprocess.run(
        # Without a prompt, which would be mixed into what the commands print.
        [shell, *plain, "-i"],
        input=f"PS1= PS2= PROMPT= RPROMPT= PROMPT_EOL_MARK=\n{commands}exit\n",
        env={**os.environ, "PATH": path, "TERM": "dumb", "HISTFILE": os.devnull, **env},
        cwd=PATH.parent,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        start_new_session=True,
    )
    return Ended(done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_the_commands_print_what_is_shown(shell: str, model_url: str) -> None:
    if not shutil.which(shell):
        pytest.skip(f"needs {shell}")
    assert len(WITH_SERVER_SHOWN) == 3
    for command, shown in WITH_SERVER_SHOWN:
        if "--chat" not in command:  # which the next test types
            ended = paste(shell, f"{command}\n", OPENAI_BASE_URL=model_url)
            assert without_words(ended.stdout) == without_words(shown), ended.stderr


def test_the_chat_looks_like_what_is_shown(model_url: str) -> None:
    pytest.importorskip("pty")
    from terminal import Terminal

    [(command, shown)] = [each for each in WITH_SERVER_SHOWN if "--chat" in each[0]]
    assert command == "python messages_stream.py --chat"
    with Terminal("--chat", env={"OPENAI_BASE_URL": model_url}, columns=120) as terminal:
        for line in re.findall(r"^> (.*)$", shown, re.MULTILINE):
            terminal.enter(line)
        assert terminal.wait_for_end() == 0
    assert without_words(terminal.text) == without_words(shown)


def test_the_first_error_that_is_shown_is_the_one_without_a_network(tmp_path: Path) -> None:
    [(command, shown)] = NO_SERVER_SHOWN
    assert command == 'python messages_stream.py --quiet "Name the capital of France."'
    env = {"INTERNET": "{}", "INTERNET_LOG": str(tmp_path / "log")}
    env["PYTHONPATH"] = str(Path(__file__).parent / "internet")
    ended = run_program("--quiet", "Name the capital of France.", env=env)
    assert ended == Ended(1, "", shown)


def test_the_snippet_runs_as_it_stands(tmp_path: Path) -> None:
    (snippet,) = blocks("python")
    (tmp_path / "snippet.py").write_text(snippet)
    # In place of the internet: the snippet names no server, so that it asks g4f's default route.
    redirect = """if True:
        import functools, g4f.client
        provider = g4f.client.create_custom_provider({!r}, models=["gpt-4"])
        g4f.client.AsyncClient = functools.partial(g4f.client.AsyncClient, provider=provider)
    """
    with serving(answer("Hello", " there!")) as server:
        (tmp_path / "sitecustomize.py").write_text(redirect.format(server.url))
        done = subprocess.run(
            [sys.executable, "snippet.py"],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
    assert Ended(done.returncode, done.stdout, done.stderr) == Ended(0, final("Hello there!"), "")


def test_the_lines_for_a_script_of_ones_own_work() -> None:
    (lines,) = re.findall(r"(?:^    .*\n)+(?=\nIt gives up)", README, re.MULTILINE)
    ask = """
import asyncio
async def ask():
    messages = [{"role": "user", "content": "Hi"}]
    async for chunk in client.chat.completions.create(messages, "m", stream=True):
        print(chunk.choices[0].delta.content or "", end="")
asyncio.run(ask())
"""
    with serving(answer("Hello")) as server:
        lines = textwrap.dedent(lines).replace("http://127.0.0.1:8080/v1", server.url)
        script = f"from g4f.client import AsyncClient\n{lines}{ask}"
        ended = run_program(command=[sys.executable, "-c", script], cwd=PATH.parent)
    assert ended == Ended(0, "Hello", "")


def test_what_is_named_exists() -> None:
    options = run_program("--help").stdout
    for name in set(re.findall(r"`(--[a-z-]+)", README)):
        assert name in options
    for line in re.findall(r"^\| `(.*)` \|", README, re.MULTILINE):
        assert line.split("`")[-1].split()[0] in options
    files = re.findall(r"\]\(([^:)]+)\)", README) + re.findall(r"python (tests/\w+\.py)", README)
    for path in files:
        assert PATH.with_name("README.md").parent.joinpath(path).is_file()


def test_the_requirement_is_the_same_everywhere() -> None:
    (listed,) = (
        line
        for line in PATH.with_name("requirements.txt").read_text().splitlines()
        if line[0] != "#"
    )
    metadata = re.search(r"^# /// script\n(.*?)^# ///$", SOURCE, re.MULTILINE | re.DOTALL)
    assert metadata and f'# dependencies = ["{listed}"]\n' in metadata[1]
    assert '# requires-python = ">=3.11"\n' in metadata[1] and "Python 3.11 or later" in README
    assert SOURCE.startswith("#!/usr/bin/env -S uv run --script\n") and os.access(PATH, os.X_OK)


def test_the_page_is_short() -> None:
    assert len(README.splitlines()) <= 130

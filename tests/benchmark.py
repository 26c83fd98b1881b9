"""Time this program against the plain g4f loop, openai-python, simonw/llm, bare aiohttp and curl.

All talk to one server on loopback that sends prepared bytes; peers that are not installed are left out.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import re
import shutil
import socketserver
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from bisect import bisect_left
from collections.abc import Iterator
from operator import truediv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
THIS, PLAIN = "messages_stream", "plain g4f loop"
INTERVAL = 0.01  # seconds between two paced pieces
# What the model name asks of the server, the share of --runs, and the figures taken.
FULL = [
    ("burst-3", 1.0, ["first byte ms", "whole run ms"]),
    ("burst-10000", 0.5, ["µs a piece", "whole run ms"]),
    ("burst-100000", 0.2, ["µs a piece", "memory MiB"]),
    ("paced-200", 0.25, ["delay ms"]),
]
SMOKE = [FULL[0], ("burst-100", 1.0, ["µs a piece", "memory MiB"]), ("paced-5", 1.0, ["delay ms"])]
NOTES = f"""
medians ± half the interquartile range; a ratio is taken within each round, in which the programs run one after another
burst-N: N pieces at once; paced-N: one every {INTERVAL * 1e3:.0f} ms; first byte, whole run: from the program's start
µs a piece, delay: from the server's clock just before it sends to the last byte of the answer, or that piece, on stdout
memory: peak resident size; never below the benchmark's own, which a child starts from
curl prints the raw events; llm writes no log and loads no plugins; g4f starts more slowly with pydantic beside it"""
OPENAI = """
import sys, openai
client = openai.OpenAI(base_url=sys.argv[1], api_key="none")
messages = [{"role": "user", "content": "Say hello there!"}]
for chunk in client.chat.completions.create(model=sys.argv[2], messages=messages, stream=True):
    print(chunk.choices[0].delta.content or "", end="", flush=True)
"""
AIOHTTP = """
import asyncio, json, sys, aiohttp
async def main(url, model):
    body = {"model": model, "stream": True, "messages": [{"role": "user", "content": "Say hello there!"}]}
    async with aiohttp.ClientSession() as session, session.post(url + "/chat/completions", json=body) as response:
        async for line in response.content:
            if line.startswith(b"data: {"):
                print(json.loads(line[6:])["choices"][0]["delta"].get("content") or "", end="", flush=True)
asyncio.run(main(*sys.argv[1:]))
"""
CHUNK = """data: {"id":"chatcmpl-0","object":"chat.completion.chunk","created":0,"model":"m","choices":[\
{"index":0,"delta":{"content":"%s"},"finish_reason":%s}]}\n\n"""
WORD, STAMP = (
    b"word ",
    re.compile(rb"@(\d{20}) "),
)  # the pieces: the server's clock in the first and in each paced one
HEAD = b"HTTP/1.1 200 OK\r\nConnection: close\r\nTransfer-Encoding: chunked\r\nContent-Type: %b\r\n\r\n"


class Handler(socketserver.StreamRequestHandler):
    disable_nagle_algorithm = True

    def handle(self) -> None:
        request, length = self.rfile.readline(), 0
        while line := self.rfile.readline().strip().lower():
            length = int(line[15:]) if line.startswith(b"content-length:") else length
        body = self.rfile.read(length)
        with contextlib.suppress(OSError):  # the client has gone
            if request.startswith(
                b"GET"
            ):  # the plain loop's provider asks for the models before each request
                self.request.sendall(
                    HEAD % b"application/json" + framed('{"data": [{"id": "m"}]}') + framed("")
                )
            else:
                kind, pieces = json.loads(body)["model"].split("-")
                burst = (
                    framed(CHUNK % (WORD.decode(), "null")) * (int(pieces) - 1)
                    if kind == "burst"
                    else b""
                )
                self.request.sendall(HEAD % b"text/event-stream" + framed(stamped()) + burst)
                due = time.perf_counter()
                for _ in range(int(pieces) - 1 if kind == "paced" else 0):
                    due += INTERVAL
                    time.sleep(max(0.0, due - time.perf_counter()))
                    self.request.sendall(framed(stamped()))
                self.request.sendall(
                    framed(CHUNK % ("", '"stop"') + "data: [DONE]\n\n") + framed("")
                )


def framed(data: str) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data.encode())


def stamped() -> str:
    return CHUNK % (f"@{time.perf_counter_ns():020} ", "null")


@contextlib.contextmanager
def programs(peers_python: str) -> Iterator[tuple[dict[str, list[str]], dict[str, str]]]:
    """Start the server as a process; yield each program's command, up to the model's name, and their environment."""
    server = subprocess.Popen(
        [sys.executable, __file__, "--serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with server, tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
        url = f"http://127.0.0.1:{int(server.stdout.readline())}/v1"
        # No proxy, no key, and no PYTHONDONTWRITEBYTECODE or the like: an uncached import hides everything else.
        unwanted = r".*_(PROXY|proxy)$|PYTHON|OPENAI_|G4F_|LLM_"
        env = {name: value for name, value in os.environ.items() if not re.match(unwanted, name)}
        env |= {"HOME": home, "G4F_CONFIG_DIR": home, "LLM_USER_PATH": home, "LLM_LOAD_PLUGINS": ""}
        models = [
            {"model_id": model, "model_name": model, "api_base": url}
            for model, _, _ in FULL + SMOKE
        ]
        Path(home, "extra-openai-models.yaml").write_text(json.dumps(models), encoding="utf-8")
        curl = """exec curl -qsN -d '{"model": "'$1'"}' "$0/chat/completions\""""
        found = {
            THIS: [
                sys.executable,
                str(ROOT / "messages_stream.py"),
                "--base-url",
                url,
                "Say hello there!",
                "-m",
            ],
            PLAIN: [sys.executable, str(ROOT / "tests" / "plain_loop.py"), url],
            "openai-python": [peers_python, "-c", OPENAI, url]
            if version(peers_python, "openai")
            else [],
            "simonw/llm": [peers_python, "-m", "llm", "--no-log", "Hi", "-m"]
            if version(peers_python, "llm")
            else [],
            "bare aiohttp": [sys.executable, "-c", AIOHTTP, url],
            "curl": ["sh", "-c", curl, url] if shutil.which("curl") else [],
        }
        yield {name: command for name, command in found.items() if command}, env


def version(python: str, package: str) -> str:
    code = f"import importlib.metadata as m; print(m.version({package!r}))"
    return subprocess.run([python, "-c", code], capture_output=True, text=True).stdout.strip()


def measure(name: str, command: list[str], env: dict[str, str]) -> dict[str, float]:
    """Run one program to its end and return its figures; exit unless its output starts with the whole answer."""
    kind, pieces = command[-1].split("-")
    times, ends, output = [], [], bytearray()
    started = time.perf_counter()
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, env=env, cwd=env["HOME"]
    )
    limit = threading.Timer(300, process.kill)  # lest a hung program hang the benchmark
    limit.start()
    while data := os.read(process.stdout.fileno(), 1 << 16):
        times.append(time.perf_counter())
        output += data
        ends.append(len(output))
    figures = {"first byte ms": (times[0] - started) * 1e3} if times else {}
    if hasattr(os, "wait4"):  # not on Windows
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        figures["memory MiB"] = usage.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    figures["whole run ms"] = (time.perf_counter() - started) * 1e3
    limit.cancel()
    process.communicate()
    stamps = list(STAMP.finditer(output))[
        : int(pieces) if kind == "paced" else 1
    ]  # a final line repeats them
    answer = b"".join(stamp[0] for stamp in stamps) + WORD * (int(pieces) - len(stamps))
    text = b"".join(re.findall(rb'"content":"(.*?)"', output)) if name == "curl" else output
    if process.returncode or not stamps or not text.startswith(answer):
        sys.exit(
            f"{name}, {command[-1]}: exit status {process.returncode}, not the answer sent: {text[:200]!r}"
        )
    last = len(output) if name == "curl" else len(answer)
    delays = [
        (times[bisect_left(ends, stamp.end())] - int(stamp[1]) / 1e9) * 1e3 for stamp in stamps
    ]
    figures["µs a piece"] = (
        (times[bisect_left(ends, last)] - int(stamps[0][1]) / 1e9) / int(pieces) * 1e6
    )
    return figures | {"delay ms": statistics.median(delays)}


def cell(values: list[float]) -> str:
    middle = statistics.median(values)
    low, _, high = statistics.quantiles([*values, *values], n=4, method="inclusive")
    return (
        f"{middle:.{0 if middle >= 100 else 2}f} ±{(high - low) / 2:.{0 if middle >= 100 else 2}f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--runs", type=int, default=15, metavar="N", help="rounds of the shortest runs (default 15)"
    )
    parser.add_argument(
        "--peers-python", default=sys.executable, metavar="PATH", help="has openai and llm"
    )
    parser.add_argument(
        "--smoke",
        action="store_true",
        help="smallest sizes, once: shows that all runs, and no more",
    )
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        socketserver.ThreadingTCPServer.daemon_threads = True
        with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            print(server.server_address[1], flush=True)
            sys.stdin.read()  # the benchmark holds the other end: however it ends, so does this process
        return
    print(
        f"{time.strftime('%Y-%m-%d')}, {platform.platform()}, {os.cpu_count()} CPUs, Python {platform.python_version()}"
    )
    for python, package in (
        (sys.executable, "g4f"),
        (options.peers_python, "openai"),
        (options.peers_python, "llm"),
    ):
        print(f"{package} {version(python, package) or 'is not installed, and left out'}")
    with programs(options.peers_python) as (commands, env):
        for model, share, titles in SMOKE if options.smoke else FULL:
            names = [
                name for name in commands if name != "curl" or "000" not in model
            ]  # its output is too large
            rounds: dict[str, list[dict[str, float]]] = {name: [] for name in names}
            for turn in range(1 if options.smoke else max(2, round(options.runs * share)) + 1):
                for name in names[:: 1 if turn % 2 else -1]:
                    figures = measure(name, [*commands[name], model], env)
                    rounds[name] += (
                        [figures] if turn or options.smoke else []
                    )  # the first round fills the caches
            for title in (
                titles
                if "memory MiB" in rounds[THIS][0]
                else [each for each in titles if "MiB" not in each]
            ):
                print(f"\n{model + ', ' + title:24}{'':14}{THIS + ' to it':>22}")
                for name in names:
                    values, this = ([each[title] for each in rounds[peer]] for peer in (name, THIS))
                    print(
                        f"{name:24}{cell(values):>14}{cell(list(map(truediv, this, values))):>22}"
                    )
    print(
        "\nsmoke: every program ran; one cold run each, so the times mean nothing"
        if options.smoke
        else NOTES
    )


if __name__ == "__main__":
    main()

"""Time this program against the plain g4f loop, openai-python, simonw/llm, bare aiohttp and curl.

All talk to one server on loopback that sends prepared bytes; peers that are not installed are left out.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import functools
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
import zlib
from bisect import bisect_left
from collections.abc import Callable, Iterator
from operator import truediv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
THIS, PLAIN = "messages_stream", "plain g4f loop"
INTERVAL = 0.01  # seconds between two paced pieces
LIMIT = 300  # seconds for one run, lest a hung program hang the benchmark

Plan = list[tuple[str, float, tuple[str, ...]]]  # what the model name asks of the server, share of --runs, columns
Table = dict[str, dict[str, list[float]]]  # column, program, a figure for each round

FULL: Plan = [
    ("burst-3", 1, ("first byte ms", "whole run ms")),
    ("burst-1000", 0.5, ("1,000 µs",)),
    ("burst-10000", 0.4, ("10,000 µs",)),
    ("burst-100000", 0.2, ("100,000 µs", "memory MiB")),
    ("paced-200", 0.25, ("delay ms", "delay 99% ms")),
]
SMOKE: Plan = [FULL[0], ("burst-100", 1, ("100 µs", "memory MiB")), ("paced-5", 1, ("delay ms", "delay 99% ms"))]
NOTES = f"""
medians ± half the interquartile range; a ratio is taken within each round, in which the programs run one after another
first byte, whole run: from the start of the process, at three pieces and no server delay
1,000 …: microseconds a piece when all are sent at once: from the server's clock just before it sends to the last byte
    of the answer on the program's stdout, over the pieces; neither start-up nor a final line counts
delay: from the server's clock just before it sends a piece, one every {INTERVAL * 1e3:.0f} ms, to that piece on the
    program's stdout: median and 99th percentile of a run; server and reader are two processes on one system-wide clock
memory: peak resident size in the largest burst; never below the benchmark's own, which a child starts from (as curl)
curl parses nothing and prints the raw events; llm writes no log and loads no plugins"""

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

# --- The server ---

CHUNK = """data: {"id":"chatcmpl-0","object":"chat.completion.chunk","created":0,"model":"m","choices":[\
{"index":0,"delta":{"content":"%s"},"finish_reason":%s}]}\n\n"""
EVENT, END = CHUNK % ("%s", "null"), CHUNK % ("", '"stop"') + "data: [DONE]\n\n"
WORD, STAMP = "word ", re.compile(rb"@(\d+) ")  # the pieces: the server's clock first of all, and in each paced piece
HEAD = b"HTTP/1.1 200 OK\r\nConnection: close\r\nTransfer-Encoding: chunked\r\nContent-Type: "
SSE, JSON = HEAD + b"text/event-stream\r\n\r\n", HEAD + b"application/json\r\n\r\n"


def stamp() -> str:
    return f"@{time.perf_counter_ns():020} "


def framed(data: str) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data.encode())


class Handler(socketserver.StreamRequestHandler):
    disable_nagle_algorithm = True

    def handle(self) -> None:
        request, length = self.rfile.readline(), 0
        while line := self.rfile.readline().strip().lower():
            length = int(line[15:]) if line.startswith(b"content-length:") else length
        body = self.rfile.read(length)
        with contextlib.suppress(OSError):  # the client has gone
            if request.startswith(b"GET"):  # Provider.Custom asks for the models before each request
                models = {"data": [{"id": model} for model, _, _ in FULL + SMOKE]}
                self.request.sendall(JSON + framed(json.dumps(models)) + framed(""))
            else:
                kind, pieces = json.loads(body)["model"].split("-")
                rest = framed(EVENT % WORD) * (int(pieces) - 1) if kind == "burst" else b""
                self.request.sendall(SSE + framed(EVENT % stamp()) + rest)
                due = time.perf_counter()
                for _ in range(int(pieces) - 1 if kind == "paced" else 0):
                    due += INTERVAL
                    time.sleep(max(0.0, due - time.perf_counter()))
                    self.request.sendall(framed(EVENT % stamp()))
                self.request.sendall(framed(END) + framed(""))


def serve() -> None:
    socketserver.ThreadingTCPServer.daemon_threads = True
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server, contextlib.suppress(KeyboardInterrupt):
        threading.Thread(target=server.serve_forever, daemon=True).start()
        print(server.server_address[1], flush=True)
        sys.stdin.read()  # the benchmark holds the other end: however it ends, so does this process


@contextlib.contextmanager
def server_url() -> Iterator[str]:
    """Run the server in its own process: under one interpreter lock its work would add to the reader's times."""
    command = [sys.executable, __file__, "--serve"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:  # closes stdin at the end
        assert server.stdout
        yield f"http://127.0.0.1:{int(server.stdout.readline())}/v1"


# --- The runs ---


def commands(url: str, model: str, peers_python: str) -> dict[str, list[str]]:
    message = "Say hello there!"
    body = json.dumps({"model": model, "stream": True, "messages": [{"role": "user", "content": message}]})
    return {
        THIS: [sys.executable, str(ROOT / "messages_stream.py"), "--base-url", url, "-m", model, message],
        PLAIN: [sys.executable, str(ROOT / "tests" / "plain_loop.py"), url, model],
        "openai-python": [peers_python, "-c", OPENAI, url, model],
        "simonw/llm": [peers_python, "-m", "llm", "--no-log", "-m", model, message],
        "bare aiohttp": [sys.executable, "-c", AIOHTTP, url, model],
        "curl": ["curl", "-qsN", "-H", "Content-Type: application/json", "-d", body, f"{url}/chat/completions"],
    }


def environment(folder: str, url: str) -> dict[str, str]:
    # no proxy, no key, and no PYTHONDONTWRITEBYTECODE or the like: an uncached import hides everything else
    unwanted = re.compile(r".*_PROXY$|PYTHON|OPENAI_|G4F_|LLM_", re.IGNORECASE)
    kept = {name: value for name, value in os.environ.items() if not unwanted.match(name)}
    models = [{"model_id": model, "model_name": model, "api_base": url} for model, _, _ in FULL + SMOKE]
    Path(folder, "extra-openai-models.yaml").write_text(json.dumps(models), encoding="utf-8")
    homes = dict.fromkeys(("HOME", "USERPROFILE", "G4F_CONFIG_DIR", "LLM_USER_PATH"), folder)
    return {**kept, **homes, "LLM_LOAD_PLUGINS": ""}


def read_burst(reads: Iterator[tuple[float, bytes]], pieces: int, raw: bool, started: float) -> dict[str, float]:
    """Return the times of an answer; nothing if it is not the text sent, which is never held: see memory in NOTES."""
    form, end = (EVENT, END.encode()) if raw else ("%s", b"")
    word, head, first, last, seen = (form % WORD).encode(), b"", 0.0, 0.0, 0
    left = len(form % stamp()) + len(word) * (pieces - 1) + len(end)
    for now, data in reads:
        head, first, last = head + data[: 400 - len(head)], first or now, now if left else last
        seen, left = zlib.crc32(data[:left], seen), max(0, left - len(data))
    if left or not (sent := STAMP.search(head)):
        return {}
    expected = zlib.crc32((form % sent[0].decode()).encode())
    for _ in range(pieces - 1):
        expected = zlib.crc32(word, expected)
    if seen != zlib.crc32(end, expected):
        return {}
    return {"first byte ms": (first - started) * 1e3, f"{pieces:,} µs": (last - int(sent[1]) / 1e9) / pieces * 1e6}


def read_paced(reads: Iterator[tuple[float, bytes]], pieces: int) -> dict[str, float]:
    """Return the delays, taken from the server's clock in each piece; nothing if one is missing."""
    text, times, offsets = b"", [], []
    for now, data in reads:
        text += data
        times.append(now)
        offsets.append(len(text))
    stamps = list(STAMP.finditer(text))[:pieces]  # a final line repeats them
    delays = [(times[bisect_left(offsets, stamp.end())] - int(stamp[1]) / 1e9) * 1e3 for stamp in stamps]
    if len(stamps) < pieces:
        return {}
    slow = statistics.quantiles(delays, n=100, method="inclusive")[98]
    return {"delay ms": statistics.median(delays), "delay 99% ms": slow}


def wait(process: subprocess.Popen[bytes]) -> dict[str, float]:
    if sys.platform == "win32":
        process.wait()
        return {}
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return {"memory MiB": usage.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)}


def run(name: str, command: list[str], model: str, env: dict[str, str]) -> dict[str, float]:
    """Run one program to its end and return its figures; exit unless its output starts with the whole answer."""
    kind, pieces = model.split("-")
    with tempfile.TemporaryFile() as errors:
        started = time.perf_counter()
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, env=env, cwd=env["HOME"]
        )
        limit = threading.Timer(LIMIT, process.kill)
        limit.start()
        try:
            assert process.stdout
            read = functools.partial(os.read, process.stdout.fileno(), 1 << 16)
            reads = ((time.perf_counter(), data) for data in iter(read, b""))
            if kind == "paced":
                figures = read_paced(reads, int(pieces))
            else:
                figures = read_burst(reads, int(pieces), name == "curl", started)
            memory = wait(process)
            whole = (time.perf_counter() - started) * 1e3
        finally:
            limit.cancel()
            process.kill()  # nothing to a process that has ended
            process.communicate()
        if process.returncode or not figures:
            errors.seek(0)
            problem = errors.read().decode(errors="replace")[-2000:] or "the answer is not what was sent"
            sys.exit(f"{name}, {model}: exit status {process.returncode}: {problem}")
    return {**figures, **memory, "whole run ms": whole}


def measure(plan: Plan, runs: int, names: list[str], peers_python: str) -> Table:
    table: Table = {title: {name: [] for name in names} for _, _, titles in plan for title in titles}
    with server_url() as url, tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        env = environment(folder, url)
        for name in names if runs > 1 else []:  # the warm-up: caches the bytecode
            run(name, commands(url, "burst-3", peers_python)[name], "burst-3", env)
        for model, share, titles in plan:
            print(f"{model} …", file=sys.stderr)
            for turn in range(max(1, round(runs * share))):
                first = turn % len(names)
                for name in names[first:] + names[:first]:
                    figures = run(name, commands(url, model, peers_python)[name], model, env)
                    for title in titles:
                        table[title][name] += [figures[title]] if title in figures else []
    return {title: column for title, column in table.items() if column[PLAIN]}


# --- The report ---


def version(python: str, package: str) -> str:
    code = f"import importlib.metadata as m; print(m.version({package!r}))"
    return subprocess.run([python, "-c", code], check=False, capture_output=True, text=True).stdout.strip()


def find_programs(peers_python: str) -> list[str]:
    """Print date and versions, and a line for each peer that is missing; return the names of the rest."""
    curl = shutil.which("curl") and subprocess.run(["curl", "-V"], check=True, capture_output=True, text=True).stdout
    versions = {
        PLAIN: ("g4f", version(sys.executable, "g4f")),
        "openai-python": ("openai", version(peers_python, "openai")),
        "simonw/llm": ("llm", version(peers_python, "llm")),
        "bare aiohttp": ("aiohttp", version(sys.executable, "aiohttp")),
        "curl": ("curl", curl.split()[1] if curl else ""),
    }
    print(f"{datetime.date.today()}, {platform.platform()}, {os.cpu_count()} CPUs, Python {platform.python_version()}")
    print(", ".join(f"{package} {found}" for package, found in versions.values() if found))
    for name, (package, found) in versions.items():
        if not found:
            print(f"left out: {name}, as {package} is not installed")
    if not versions[PLAIN][1]:
        sys.exit("error: g4f is not installed, and everything is measured against it")
    for package in ("pydantic", "pillow"):  # of openai and llm, of matplotlib
        if version(sys.executable, package):
            print(f"note: g4f starts more slowly with {package} beside it; keep that apart, with --peers-python")
    return [THIS, *(name for name, (_, found) in versions.items() if found)]


def cell(values: list[float]) -> str:
    middle = statistics.median(values)
    digits = 0 if middle >= 100 else 1 if middle >= 10 else 2
    if len(values) < 2:
        return f"{middle:.{digits}f}"
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return f"{middle:.{digits}f} ±{(high - low) / 2:.{digits}f}"


def print_table(table: Table, names: list[str]) -> None:
    def block(title: str, rows: list[str], figures: Callable[[dict[str, list[float]], str], list[float]]) -> None:
        print(f"\n{title:24}" + "".join(f"{column:>13}" for column in table))
        for row in rows:
            print(f"{row:24}" + "".join(f"{cell(figures(column, row)):>13}" for column in table.values()))

    block(f"ratio to {PLAIN}", names, lambda column, row: list(map(truediv, column[row], column[PLAIN])))
    block(f"{THIS} to", names[2:], lambda column, row: list(map(truediv, column[THIS], column[row])))
    block("absolute", names, lambda column, row: column[row])


def plot(path: str, table: Table, names: list[str]) -> None:
    import matplotlib.pyplot as plt

    sizes = [title for title in table if title.endswith("µs")]
    _, (left, right) = plt.subplots(1, 2, figsize=(12, 4.5), layout="constrained")
    for name in names:
        medians = [statistics.median(table[size][name]) for size in sizes]
        left.loglog([int(size[:-3].replace(",", "")) for size in sizes], medians, marker="o", label=name)
    left.set(title="Time per piece", xlabel="pieces", ylabel="µs")
    for title, height in (("whole run ms", 0.8), ("first byte ms", 0.5)):
        right.barh(names, [statistics.median(table[title][name]) for name in names], height, label=title)
    right.set(title="From start to first byte and to the end", xlabel="ms")
    right.invert_yaxis()
    left.legend()
    right.legend()
    plt.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=15, metavar="N", help="rounds of the shortest runs (default 15)")
    parser.add_argument("--peers-python", default=sys.executable, metavar="PATH", help="has openai, llm, matplotlib")
    parser.add_argument("--plot", metavar="FILE", help="also draw time per piece and start-up (needs matplotlib)")
    parser.add_argument("--smoke", action="store_true", help="smallest sizes, once: shows that all runs, and no more")
    parser.add_argument("--draw", help=argparse.SUPPRESS)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        return serve()
    if options.runs < 2:
        parser.error("--runs must be 2 or more")
    if options.draw:
        return plot(options.draw, *json.load(sys.stdin))
    if options.plot and not version(options.peers_python, "matplotlib"):
        parser.error("--plot needs matplotlib, which is not installed beside the peers (--peers-python)")
    names = find_programs(options.peers_python)
    plan, runs = (SMOKE, 1) if options.smoke else (FULL, options.runs)
    table = measure(plan, runs, names, options.peers_python)
    print_table(table, names)
    print("\nsmoke: every program ran; one cold run each, so the times mean nothing" if options.smoke else NOTES)
    if "memory MiB" not in table:
        print("no memory column: this system has no os.wait4")
    if options.plot:
        command = [options.peers_python, __file__, "--draw", options.plot]
        subprocess.run(command, input=json.dumps([table, names]), text=True, check=True)


if __name__ == "__main__":
    main()

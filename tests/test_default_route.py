"""The default route, which most people take: g4f's own providers, and servers on loopback in place of their hosts."""

from __future__ import annotations

import base64
import contextlib
import functools
import hashlib
import json
import os
import re
import signal
import ssl
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import trustme

import loopback
import program
from loopback import HANG, RESET, SSE, Server, Step, reply

REGISTRY = "g4f.dev"
COPILOT, YQCLOUD = "copilot.microsoft.com", "api.binjie.fun"  # CopilotApp comes first in every version of g4f
AIRFORCE, KILO, PERPLEXITY = "api.airforce", "api.kilo.ai", "www.perplexity.ai"
# What may stand for a host's scripts:
OFFLINE = "offline"  # its name does not resolve
SWALLOWED = None  # the look-up of its name never returns
REFUSED = 1  # a port on which nothing listens

REGISTERED = [reply({"providers": {"default": {"baseUrl": "https://g4f.space/v1"}}, "defaultModels": {}})]

AUTHORITY = trustme.CA()
Script = Iterable[Step] | bytes | Callable[[Server], Iterable[Step]]


@dataclass
class Host(Server):
    """A server that speaks TLS, and whose scripts may be made when they are played."""

    tls: ssl.SSLContext = field(kw_only=True)

    def _serve(self, connection: Any, script: Any) -> None:
        with contextlib.suppress(OSError):
            secure = self.tls.wrap_socket(connection, server_side=True)
            self.connections[self.connections.index(connection)] = secure
            super()._serve(secure, script(self) if callable(script) else script)


@dataclass
class Internet:
    """The hosts there are, and the environment in which a process finds them."""

    env: dict[str, str]
    log: Path
    hosts: dict[str, Host]

    def tried(self) -> list[str]:
        """Return every look-up and connection that processes made, in order."""
        return self.log.read_text().splitlines() if self.log.exists() else []


@contextlib.contextmanager
def connecting(folder: Path, hosts: dict[str, Any]) -> Iterator[Internet]:
    """Serve hosts meanwhile; the registry answers unless something else stands for it."""
    hosts = {name: value for name, value in {REGISTRY: REGISTERED, **hosts}.items() if value != OFFLINE}
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    AUTHORITY.issue_cert("localhost", *hosts).configure_cert(tls)
    AUTHORITY.cert_pem.write_to_path(folder / "authority.pem")
    servers = {name: Host(value, tls=tls) for name, value in hosts.items() if isinstance(value, list)}
    env = {
        "INTERNET": json.dumps({name: servers[name].port if name in servers else hosts[name] for name in hosts}),
        "INTERNET_LOG": str(folder / "log"),
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent / "internet"), str(program.PATH.parent)]),
        "SSL_CERT_FILE": str(folder / "authority.pem"),
        "REQUESTS_CA_BUNDLE": str(folder / "authority.pem"),
        "G4F_CONFIG_DIR": str(folder / "g4f"),  # g4f keeps the registry of the day there
    }
    try:
        yield Internet(env, folder / "log", servers)
    finally:
        for server in servers.values():
            server.close()


@pytest.fixture
def connect(tmp_path: Path) -> Iterator[Callable[..., Internet]]:
    """Put scripts in the place of hosts until the test ends: `connect({host: [script, …]})`."""
    with contextlib.ExitStack() as stack:
        yield lambda hosts={}: stack.enter_context(connecting(tmp_path, hosts))


Connect = Callable[..., Internet]


def run(internet: Internet, *arguments: str, command: list[str] = program.COMMAND) -> tuple[int, str, str]:
    """Run the program, or another command, and return its status, stdout and stderr."""
    with program.start(*arguments, env=internet.env, command=command) as process:
        try:
            out, err = process.communicate(timeout=PATIENCE)
        finally:
            process.kill()
    return process.returncode, out.decode(), err.decode()


def copilot(*steps: Step | dict[str, str]) -> list[Script]:
    """Return the scripts of CopilotApp: a conversation is started, then held over a WebSocket."""

    def chat(host: Server) -> Iterator[Step]:
        key = host.requests[-1].headers["sec-websocket-key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        accept = base64.b64encode(hashlib.sha1(key.encode()).digest()).decode()
        lines = ["Upgrade: websocket", "Connection: Upgrade", f"Sec-WebSocket-Accept: {accept}"]
        yield "\r\n".join(["HTTP/1.1 101 Switching Protocols", *lines, "", ""]).encode()
        yield frame({"event": "connected"})
        host.connections[-1].recv(65536)  # the message
        for step in steps:
            yield frame(step) if isinstance(step, dict) else step
        yield frame({"event": "done"}) + b"\x88\x00"
        yield HANG  # until the client has closed: closing first could cost it what it has not read yet

    return [reply({"currentConversationId": "1"}), chat]


def frame(value: Any) -> bytes:
    """Return a WebSocket's frame with a JSON value."""
    payload = json.dumps(value).encode()
    return b"\x81" + (bytes([len(payload)]) if len(payload) < 126 else struct.pack("!BH", 126, len(payload))) + payload


def say(text: str) -> dict[str, str]:
    return {"event": "appendText", "text": text}


def yqcloud(*steps: Step) -> list[Script]:
    """Return the script of Yqcloud: plain text."""
    return [[b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n", *steps]]


# --- The first provider answers ---

GREETING = "Hello there!\n\nFinal accumulated text: Hello there!\n"
HINT = "Check the connection, name a provider with --provider, or a server of your own with --base-url.\n"
# What somebody writes who imports the example.
SCRIPT = [sys.executable, "-c", "import asyncio, sys, messages_stream as m; sys.exit(asyncio.run(m.main()))"]
LIMIT = "3"  # seconds of silence, enough for g4f to load its providers on a busy machine
PATIENCE = 20  # seconds until a test gives up


def test_the_bare_command_prints_what_the_first_provider_says(connect: Connect) -> None:
    internet = connect({COPILOT: copilot(say("Hel"), say("lo the"), say("re!"))})
    assert run(internet) == (0, GREETING, "")
    assert [name for name in internet.hosts if internet.hosts[name].requests] == [REGISTRY, COPILOT]


def test_main_without_arguments_prints_what_the_first_provider_says(connect: Connect) -> None:
    internet = connect({COPILOT: copilot(say("Hel"), say("lo the"), say("re!"))})
    assert run(internet, command=SCRIPT) == (0, GREETING, "")


def test_a_piece_is_printed_while_the_provider_still_talks(connect: Connect) -> None:
    printed = threading.Event()
    internet = connect({COPILOT: copilot(say("Hello"), printed.wait, say(" there!"))})
    with program.start(env=internet.env) as process:
        assert process.stdout and process.stdout.read(5) == b"Hello"  # before the rest is sent
        printed.set()
        assert process.communicate(timeout=PATIENCE) == (GREETING[5:].encode(), b"")


def test_text_after_a_cited_source_is_kept(connect: Connect) -> None:
    source = {"event": "citation", "url": "https://example.com/a", "title": "A"}
    internet = connect({COPILOT: copilot(say("It is"), source, say(" so."))})
    text = "It is [[0]](https://example.com/a) so.\n\n\n\n> [0] [A](https://example.com/a)"
    assert run(internet) == (0, f"{text}\n\nFinal accumulated text: {text}\n", "")


def test_both_streams_can_be_compared(connect: Connect) -> None:
    internet = connect({COPILOT: copilot(say("Hello"), say(" there!")) * 2})
    assert run(internet, "--compare") == (
        0,
        "Synchronous Stream:\nHello there!\n\nAsynchronous Stream:\nHello there!\n",
        "",
    )


# --- The registry of providers ---


slow = functools.partial(pytest.param, marks=pytest.mark.slow)
# What stands for the registry, and the cause that the error has to name besides whose failure it was.
UNREACHABLE = {
    "offline": (OFFLINE, "Failed to resolve 'g4f.dev'"),
    "refused": (REFUSED, "Connection refused"),
    "reset": ([[RESET]], "Connection aborted"),
    "cut off": ([reply({"providers": {}})[:-5]], "Connection broken"),
    "an error": ([reply(b"<html>Sorry", "500 Internal Server Error", "text/html")], ""),
    "a login page": ([reply(b"<html><body>Log in", kind="text/html")], ""),
    "invalid JSON": ([reply(b'{"providers": {')], ""),
    "an empty object": ([reply({})], "'default' not found"),
    "null": ([reply(None)], ""),
    "swallowed": slow(SWALLOWED, f"sent nothing for {LIMIT} seconds"),
    "hanging before the headers": slow([[HANG]], f"sent nothing for {LIMIT} seconds"),
    "hanging in the body": slow([[reply({"providers": {}})[:-5], HANG]], f"sent nothing for {LIMIT} seconds"),
}


@pytest.mark.parametrize(("registry", "cause"), UNREACHABLE.values(), ids=UNREACHABLE)
def test_a_registry_that_fails_is_one_clear_line_and_a_hint(connect: Connect, registry: Any, cause: str) -> None:
    internet = connect({REGISTRY: registry, COPILOT: copilot(say("Hello"))})
    status, out, err = run(internet, "-t", LIMIT)
    assert (status, out) == (1, "\n\nFinal accumulated text: \n")
    error, hint = err.splitlines(keepends=True)
    assert error.startswith("Error occurred: ") and cause in error and hint == HINT
    assert re.search(r"g4f\.dev|list of providers|registry", error), "it does not say what failed"


def test_main_without_arguments_returns_a_failing_status_offline(connect: Connect) -> None:
    status, out, err = run(connect({REGISTRY: OFFLINE}), command=SCRIPT)
    assert (status, out) == (1, "\n\nFinal accumulated text: \n")
    assert "Failed to resolve 'g4f.dev'" in err and err.endswith(HINT) and err.count("\n") == 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    "hosts",
    [{REGISTRY: SWALLOWED}, {REGISTRY: [[HANG]]}, {COPILOT: SWALLOWED}, {COPILOT: [[HANG]]}],
    ids=["look-up of the registry", "request of the registry", "look-up of a provider", "request of a provider"],
)
def test_a_signal_gets_through_a_hanging(connect: Connect, hosts: dict[str, Any], number: int) -> None:
    internet = connect(hosts)
    os.mkfifo(internet.log)
    [name] = hosts
    with program.start(env=internet.env) as process, open(internet.log) as log:
        try:
            assert f"look-up {name}\n" in iter(log.readline, "")
            if name in internet.hosts:
                internet.hosts[name].arrived.get(timeout=PATIENCE)
            process.send_signal(number)
            out, err = process.communicate(timeout=10)  # the limit is a minute
        finally:
            process.kill()
    assert (process.returncode, out, err) == (128 + number, b"\n\nFinal accumulated text: \n", b"")


@pytest.mark.parametrize(
    ("hosts", "name"), [({REGISTRY: [[HANG]]}, "g4f's list of providers"), ({COPILOT: [[HANG]]}, "CopilotApp")]
)
def test_a_terminal_shows_who_is_awaited(connect: Connect, hosts: dict[str, Any], name: str) -> None:
    pytest.importorskip("pty")
    from terminal import CTRL_C, Terminal

    with Terminal(env=connect(hosts).env) as terminal:
        terminal.wait_for(lambda: terminal.text == f"Waiting for {name} ...")
        terminal.type(CTRL_C)
        assert terminal.wait_for_end() == 130


def test_a_terminal_shows_that_no_more_once_there_is_text(connect: Connect) -> None:
    pytest.importorskip("pty")
    from terminal import Terminal

    # For g4f a source alone is no answer, so it asks the next provider.
    source = {"event": "citation", "url": "https://example.com/a", "title": "A"}
    internet = connect({COPILOT: copilot(source), YQCLOUD: yqcloud(b"Hello")})
    with Terminal(env=internet.env) as terminal:
        assert terminal.wait_for_end() == 0
    assert "[A](https://example.com/a)Hello\n" in terminal.text
    assert terminal.received.count(b"Waiting for Yqcloud") == 0


# --- A provider fails ---

FAILURES = {
    "offline": OFFLINE,
    "refusing": REFUSED,
    "resetting": [[RESET]],
    "answering an error": [reply(b"<html>" + b"Sorry. " * 10000, "500 Internal Server Error", "text/html")],
    "refusing the WebSocket": [reply({"currentConversationId": "1"}), reply(b"no", "403 Forbidden")],
    "resetting after its greeting": copilot(RESET),
    "ending without text": copilot(),
}


@pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES)
def test_the_next_provider_answers_after_one(connect: Connect, failure: Any) -> None:
    internet = connect({COPILOT: failure, YQCLOUD: yqcloud(b"Hello", b" there!")})
    assert run(internet) == (0, GREETING, "")


SORRY = "Sorry for that.\n" * 10000
EVERYWHERE = {
    "offline": OFFLINE,
    "a page": [reply(f"<html><body>{SORRY}".encode(), "503 Service Unavailable", "text/html")],
    "a long text": [reply(SORRY.encode(), "429 Too Many Requests", "text/plain")],
}


@pytest.mark.parametrize("failure", EVERYWHERE.values(), ids=EVERYWHERE)
def test_providers_that_all_fail_are_named_in_a_short_line_each(connect: Connect, failure: Any) -> None:
    status, out, err = run(connect({host: failure for host in (COPILOT, YQCLOUD, AIRFORCE, KILO, PERPLEXITY)}))
    first, *lines, hint = err.splitlines(keepends=True)
    assert (status, out, hint) == (1, "\n\nFinal accumulated text: \n", HINT)
    assert first.startswith("Error occurred: ")
    assert all(re.match(r"  \w+: \w+: \S", line) for line in lines)
    assert {"CopilotApp", "Yqcloud", "Airforce", "KiloCode"} < {line.split(":")[0].strip() for line in lines}
    rows = sum(-(-len(line) // 80) for line in err.splitlines())
    assert rows <= 24, f"{rows} rows of a terminal"


# --- A provider says nothing ---

PASSED_OVER = f"CopilotApp sent nothing for {LIMIT} seconds; trying the next\n"
SILENCES = {
    "in the look-up": SWALLOWED,
    "before its headers": [[HANG]],
    "after its headers": [[SSE, HANG]],
    "after its greeting": copilot(HANG),
}


@pytest.mark.slow
@pytest.mark.parametrize("silence", SILENCES.values(), ids=SILENCES)
def test_the_next_provider_answers_when_one_says_nothing(connect: Connect, silence: Any) -> None:
    internet = connect({COPILOT: silence, YQCLOUD: yqcloud(b"Hello", b" there!")})
    assert run(internet, "-t", LIMIT) == (0, GREETING, PASSED_OVER)
    assert internet.tried().count(f"look-up {COPILOT}") == 1


@pytest.mark.slow
def test_each_provider_has_the_whole_time_limit(connect: Connect) -> None:
    pause = functools.partial(time.sleep, float(LIMIT) * 2 / 3)
    internet = connect({COPILOT: [[pause, RESET]], YQCLOUD: yqcloud(pause, b"Hello there!")})
    assert run(internet, "-t", LIMIT) == (0, GREETING, "")


@pytest.mark.slow
def test_main_without_arguments_passes_over_a_provider_that_says_nothing(connect: Connect) -> None:
    internet = connect({COPILOT: [[HANG]], YQCLOUD: yqcloud(b"Hello", b" there!")})
    impatient = [*SCRIPT[:-1], SCRIPT[-1].replace("sys.exit", f"m.main.__kwdefaults__['timeout'] = {LIMIT}; sys.exit")]
    assert run(internet, command=impatient) == (0, GREETING, PASSED_OVER)


@pytest.mark.slow
def test_both_streams_pass_over_a_provider_that_says_nothing(connect: Connect) -> None:
    internet = connect({COPILOT: [[HANG]], YQCLOUD: yqcloud(b"Hello there!")})
    out = "Synchronous Stream:\nHello there!\n\nAsynchronous Stream:\nHello there!\n"
    assert run(internet, "--compare", "-t", LIMIT) == (0, out, PASSED_OVER * 2)


@pytest.mark.slow
def test_providers_that_all_say_nothing_are_named(connect: Connect) -> None:
    names = ["CopilotApp", "KiloCode", "Yqcloud"]
    internet = connect({host: [[HANG]] for host in (COPILOT, KILO, YQCLOUD)})
    status, out, err = run(internet, "-t", LIMIT)
    *passed, hint = err.splitlines(keepends=True)
    passed, error = passed[:3], passed[3]
    assert (status, out, hint) == (1, "\n\nFinal accumulated text: \n", HINT)
    assert sorted(passed) == [f"{name} sent nothing for {LIMIT} seconds; trying the next\n" for name in names]
    assert error.startswith("Error occurred: ") and all(name in error for name in names)
    assert not [name for name in internet.hosts if len(internet.hosts[name].requests) != 1]  # none was asked twice


@pytest.mark.slow
def test_providers_that_fail_after_one_that_says_nothing_are_named_too(connect: Connect) -> None:
    status, _, err = run(connect({COPILOT: [[HANG]]}), "-t", LIMIT)
    assert status == 1 and err.startswith(PASSED_OVER) and err.endswith(HINT)
    error = err.removeprefix(PASSED_OVER)
    assert error.startswith("Error occurred: ")
    assert [name for name in ("CopilotApp", "Yqcloud", "Airforce", "KiloCode") if name not in error] == []


@pytest.mark.slow
def test_a_stall_after_text_leaves_the_text_and_names_who_stalled(connect: Connect) -> None:
    internet = connect({COPILOT: copilot(say("Hello"), HANG), YQCLOUD: yqcloud(b"Never asked.")})
    out = "Hello\n\nFinal accumulated text: Hello\n"
    assert run(internet, "-t", LIMIT) == (
        1,
        out,
        f"Error occurred: CopilotApp sent nothing for {LIMIT} seconds\n{HINT}",
    )
    assert not internet.hosts[YQCLOUD].requests


# --- A named route asks nobody else ---


def test_a_provider_named_is_the_only_one_asked(connect: Connect) -> None:
    internet = connect({YQCLOUD: yqcloud(b"Hello", b" there!")})
    assert run(internet, "--provider", "Yqcloud", "-s", "Be brief.", "Say hello.") == (0, GREETING, "")
    assert internet.tried() == [f"look-up {YQCLOUD}", f"connection to 127.0.0.1:{internet.hosts[YQCLOUD].port}"]
    [request] = internet.hosts[YQCLOUD].requests
    assert (request.json["system"], request.json["stream"]) == ("Be brief.", True)
    assert "Say hello." in request.json["prompt"]


def test_an_unknown_provider_is_one_clear_line_without_any_request(connect: Connect) -> None:
    internet = connect({REGISTRY: SWALLOWED})
    status, out, err = run(internet, "--provider", "Nonesuch")
    assert (status, out) == (1, "\n\nFinal accumulated text: \n")
    assert err.startswith("Error occurred: ") and "Nonesuch" in err and err.count("\n") <= 2
    assert internet.tried() == []


DOWN = reply(b"Down", "503 Service Unavailable", "text/plain")
# Scripts, status, and how many connections there are.
URLS = {
    "an answer": ([loopback.answer("Hello", " there!")], 0, 1),
    "an error": ([reply({"error": {"message": "no"}}, "401 Unauthorized")], 1, 1),
    "an error after text": ([SSE + loopback.delta("Hello") + loopback.data({"error": {"message": "no"}})], 1, 1),
    "an answer after two errors": slow([DOWN, DOWN, loopback.answer("Hello")], 0, 3),
    "errors": slow([DOWN], 1, 3),
    "a reset": ([[RESET]], 1, 1),
    "no text": ([loopback.answer()], 1, 1),
}


@pytest.mark.parametrize(("scripts", "status", "count"), URLS.values(), ids=URLS)
def test_with_a_base_url_nobody_else_hears_of_it(
    connect: Connect, serve: Callable[..., Server], scripts: list[Any], status: int, count: int
) -> None:
    internet, server = connect(), serve(*scripts)
    assert run(internet, "--base-url", server.url)[0] == status
    assert internet.tried() == [f"connection to 127.0.0.1:{server.port}"] * count


def test_with_a_base_url_only_its_name_is_looked_up(connect: Connect, serve: Callable[..., Server]) -> None:
    server = serve(loopback.answer("Hello", " there!"))
    internet = connect({"llm.example": server.port})
    assert run(internet, "--base-url", "http://llm.example/v1") == (0, GREETING, "")
    assert internet.tried() == ["look-up llm.example", f"connection to 127.0.0.1:{server.port}"]

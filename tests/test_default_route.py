"""The default route, which most people take: g4f's own providers, and servers on loopback in place of their hosts."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import re
import signal
import ssl
import struct
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import trustme

import loopback
import program
from loopback import HANG, RESET, Server, Step, reply

REGISTRY = "g4f.dev"
COPILOT, YQCLOUD = "copilot.microsoft.com", "api.binjie.fun"  # CopilotApp comes first in every version of g4f
AIRFORCE, KILO, PERPLEXITY, GROQ = "api.airforce", "api.kilo.ai", "www.perplexity.ai", "api.groq.com"
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
HINT = "Check the connection, --model, --provider or --base-url (most end in /v1).\n"
PATIENCE_HINT = "A slow server may need a longer --timeout.\n"
# What somebody writes who imports the example.
SCRIPT = [sys.executable, "-c", "import asyncio, sys, messages_stream as m; sys.exit(asyncio.run(m.main()))"]
LIMIT = "3"  # seconds of silence, enough for g4f to load its providers on a busy machine
PATIENCE = 20  # seconds until a test gives up


def test_the_bare_command_prints_what_the_first_provider_says(connect: Connect) -> None:
    internet = connect({COPILOT: copilot(say("Hel"), say("lo the"), say("re!"))})
    assert run(internet) == (0, GREETING, "")
    assert [name for name in internet.hosts if internet.hosts[name].requests] == [REGISTRY, COPILOT]


def test_text_after_a_cited_source_is_kept(connect: Connect) -> None:
    source = {"event": "citation", "url": "https://example.com/a", "title": "A"}
    internet = connect({COPILOT: copilot(say("It is"), source, say(" so."))})
    text = "It is [[0]](https://example.com/a) so.\n\n\n\n> [0] [A](https://example.com/a)"
    assert run(internet) == (0, f"{text}\n\nFinal accumulated text: {text}\n", "")


def test_text_after_an_empty_piece_is_kept_when_g4f_asks_a_provider_directly(connect: Connect) -> None:
    internet = connect({COPILOT: copilot(say("Hello"), say(""), say(" there!"))})
    assert run(internet, "-m", "CopilotApp:gpt-4") == (0, GREETING, "")


# --- The registry of providers ---


# What stands for the registry, and the cause that the error has to name besides whose failure it was.
UNREACHABLE = {
    "offline": (OFFLINE, "Failed to resolve 'g4f.dev'"),
    "refused": (REFUSED, "Connection refused"),
    "cut off": ([reply({"providers": {}})[:-5]], "Connection broken"),
    "a login page": ([reply(b"<html><body>Log in", kind="text/html")], "JSONDecodeError"),
    "swallowed": (SWALLOWED, f"sent nothing for {LIMIT} seconds"),
    "hanging": ([[HANG]], f"sent nothing for {LIMIT} seconds"),
}


@pytest.mark.parametrize(("registry", "cause"), UNREACHABLE.values(), ids=UNREACHABLE)
def test_a_registry_that_fails_is_one_clear_line_and_a_hint(connect: Connect, registry: Any, cause: str) -> None:
    internet = connect({REGISTRY: registry, COPILOT: copilot(say("Hello"))})
    status, out, err = run(internet, "-t", LIMIT)
    assert (status, out) == (1, "\n\nFinal accumulated text: \n")
    error, hint = err.splitlines(keepends=True)
    assert error.startswith("Error occurred: g4f's list of providers ") and cause in error
    assert hint == (PATIENCE_HINT if "sent nothing" in cause else HINT)


def test_a_script_whose_registry_hangs_ends_by_itself(connect: Connect) -> None:
    impatient = [*SCRIPT[:-1], SCRIPT[-1].replace("m.main()", f"m.main(timeout={LIMIT})")]
    status, out, _ = run(connect({REGISTRY: [[HANG]]}), command=impatient)
    assert (status, out) == (1, "\n\nFinal accumulated text: \n")


def test_a_registry_that_answers_after_the_time_limit_is_not_heard(connect: Connect) -> None:
    released = threading.Event()
    internet = connect({REGISTRY: [[released.wait, *REGISTERED]]})
    code = """if True:
        import asyncio, threading, messages_stream as m
        asyncio.run(m.main(timeout=0.5))
        print("released", flush=True)
        [thread.join() for thread in threading.enumerate() if thread.daemon]
    """
    with program.start(env=internet.env, command=[sys.executable, "-c", code]) as process:
        assert process.stdout and b"released\n" in iter(process.stdout.readline, b"")
        released.set()
        out, err = process.communicate(timeout=PATIENCE)
    told = f"Error occurred: g4f's list of providers sent nothing for 0.5 seconds\n{PATIENCE_HINT}"
    assert (process.returncode, out, err.decode()) == (0, b"", told)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    "hosts", [{REGISTRY: [[HANG]]}, {COPILOT: SWALLOWED}], ids=["request of the registry", "look-up of a provider"]
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


# --- A provider fails ---

FAILURES = {
    "offline": OFFLINE,
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
    "after its greeting": copilot(HANG),
}


@pytest.mark.parametrize("silence", SILENCES.values(), ids=SILENCES)
def test_the_next_provider_answers_when_one_says_nothing(connect: Connect, silence: Any) -> None:
    internet = connect({COPILOT: silence, YQCLOUD: yqcloud(b"Hello", b" there!")})
    assert run(internet, "-t", LIMIT) == (0, GREETING, PASSED_OVER)
    assert internet.tried().count(f"look-up {COPILOT}") == 1


def test_both_streams_pass_over_a_provider_that_says_nothing(connect: Connect) -> None:
    internet = connect({COPILOT: [[HANG]], YQCLOUD: yqcloud(b"Hello there!")})
    out = "Synchronous Stream:\nHello there!\n\nAsynchronous Stream:\nHello there!\n"
    assert run(internet, "--compare", "-t", LIMIT) == (0, out, PASSED_OVER * 2)


def test_providers_that_all_say_nothing_are_named(connect: Connect) -> None:
    names = ["CopilotApp", "Yqcloud"]
    internet = connect({host: [[HANG]] for host in (COPILOT, YQCLOUD)})
    status, out, err = run(internet, "-t", LIMIT)
    *passed, hint = err.splitlines(keepends=True)
    assert (status, out, hint) == (1, "\n\nFinal accumulated text: \n", HINT)
    assert passed[:2] == [f"{name} sent nothing for {LIMIT} seconds; trying the next\n" for name in names]
    assert passed[2].startswith("Error occurred: ")
    assert not [name for name in internet.hosts if len(internet.hosts[name].requests) != 1]  # none was asked twice


def test_a_stall_after_text_leaves_the_text_and_names_who_stalled(connect: Connect) -> None:
    internet = connect({COPILOT: copilot(say("Hello"), HANG), YQCLOUD: yqcloud(b"Never asked.")})
    out = "Hello\n\nFinal accumulated text: Hello\n"
    assert run(internet, "-t", LIMIT) == (
        1,
        out,
        f"Error occurred: CopilotApp sent nothing for {LIMIT} seconds\n{PATIENCE_HINT}",
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


def test_a_provider_gets_its_key_from_the_environment(connect: Connect) -> None:
    internet = connect({GROQ: [reply({"data": [{"id": "m"}]}), loopback.answer("Hello", " there!")]})
    internet.env["GROQ_API_KEY"] = "gsk-1"
    assert run(internet, "--provider", "Groq", "-m", "m") == (0, GREETING, "")
    assert internet.hosts[GROQ].requests[-1].headers["authorization"] == "Bearer gsk-1"


def test_an_unknown_provider_is_told_with_similar_names_and_without_any_request(connect: Connect) -> None:
    internet = connect({REGISTRY: SWALLOWED})
    status, out, err = run(internet, "--provider", "Copilt")
    assert (status, out) == (1, "\n\nFinal accumulated text: \n")
    assert err == "Error occurred: Provider not found: Copilt\nSimilar names: Copilot, CopilotApp, GithubCopilot.\n"
    assert internet.tried() == []


@pytest.mark.parametrize(
    ("scripts", "status"),
    [
        pytest.param([loopback.answer("Hello", " there!")], 0, id="an answer"),
        pytest.param([reply({"error": {"message": "no"}}, "401 Unauthorized")], 1, id="an error"),
        pytest.param([loopback.answer()], 1, id="no text"),
    ],
)
def test_with_a_base_url_nobody_else_hears_of_it(connect: Connect, serve: Any, scripts: list[Any], status: int) -> None:
    server = serve(*scripts)
    internet = connect({"llm.example": server.port})
    assert run(internet, "--base-url", "http://llm.example/v1")[0] == status
    assert internet.tried() == ["look-up llm.example", f"connection to 127.0.0.1:{server.port}"]

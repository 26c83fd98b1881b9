"""The default route, which most people take: g4f's own providers, with loopback for their hosts."""

from __future__ import annotations

import base64
import contextlib
import errno
import hashlib
import json
import os
import re
import signal
import socket
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

from loopback import HANG, RESET, Server, Step, answer, reply
from program import NO_PROVIDER, PATH, PATIENCE, SLOW, Ended, final, run_program, start

REGISTRY = "g4f.dev"
COPILOT = "copilot.microsoft.com"  # of CopilotApp, which comes first in every version of g4f
YQCLOUD = "api.binjie.fun"
AIRFORCE = "api.airforce"
KILO = "api.kilo.ai"
PERPLEXITY = "www.perplexity.ai"
GROQ = "api.groq.com"
# What may stand for a host's scripts:
OFFLINE = "offline"  # its name does not resolve
SWALLOWED = None  # the look-up of its name never returns
CLOSED = 1  # a port on which nothing listens

REGISTERED = [
    reply({"providers": {"default": {"baseUrl": "https://g4f.space/v1"}}, "defaultModels": {}})
]

AUTHORITY = trustme.CA()
Script = Iterable[Step] | bytes | Callable[[Server], Iterable[Step]]


@dataclass
class Host(Server):
    """A server that speaks TLS; a script may be a function that is called with the server."""

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
    hosts = {REGISTRY: REGISTERED, **hosts}
    known = {name: each for name, each in hosts.items() if each != OFFLINE}
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    AUTHORITY.issue_cert("localhost", *known).configure_cert(tls)
    authority = folder / "authority.pem"
    AUTHORITY.cert_pem.write_to_path(authority)
    servers = {name: Host(each, tls=tls) for name, each in known.items() if isinstance(each, list)}
    ports = {name: server.port for name, server in servers.items()}
    folders = [Path(__file__).parent / "internet", PATH.parent]
    env = {
        "INTERNET": json.dumps({**known, **ports}),
        "INTERNET_LOG": str(folder / "log"),
        "PYTHONPATH": os.pathsep.join(map(str, folders)),
        "SSL_CERT_FILE": str(authority),
        "REQUESTS_CA_BUNDLE": str(authority),
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


def run_there(internet: Internet, *arguments: str, **options: Any) -> Ended:
    """Run the program on an internet."""
    return run_program(*arguments, env=internet.env, **options)


def copilot(*steps: Step | dict[str, str]) -> list[Script]:
    """Return the scripts of CopilotApp: a conversation is started, then held over a WebSocket."""

    def converse(host: Server) -> Iterator[Step]:
        key = host.requests[-1].headers["sec-websocket-key"]
        digest = hashlib.sha1(f"{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()).digest()
        accept = base64.b64encode(digest)
        yield b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        yield b"Sec-WebSocket-Accept: %b\r\n\r\n" % accept
        yield websocket_frame({"event": "connected"})
        host.connections[-1].recv(65536)  # the message
        for step in steps:
            yield websocket_frame(step) if isinstance(step, dict) else step
        yield websocket_frame({"event": "done"}) + b"\x88\x00"
        # Until the client has closed: closing first could cost it what it has not read yet.
        yield HANG

    return [reply({"currentConversationId": "1"}), converse]


def websocket_frame(value: Any) -> bytes:
    """Return the frame of a WebSocket that holds a JSON value."""
    payload = json.dumps(value).encode()
    if len(payload) < 126:
        return struct.pack("!BB", 0x81, len(payload)) + payload
    return struct.pack("!BBH", 0x81, 126, len(payload)) + payload


def appended(text: str) -> dict[str, str]:
    """Return CopilotApp's event of a piece of text."""
    return {"event": "appendText", "text": text}


def yqcloud(*steps: Step) -> list[Script]:
    """Return the script of Yqcloud: plain text."""
    return [[b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n", *steps]]


# --- The first provider answers ---

GREETED = (0, final("Hello there!"), "")
SILENCE = "3"  # seconds, enough for g4f to load its providers on a busy machine


def test_the_bare_command_prints_what_the_first_provider_says(connect: Connect) -> None:
    internet = connect({COPILOT: copilot(appended("Hel"), appended("lo the"), appended("re!"))})
    assert run_there(internet) == GREETED
    asked = [name for name, host in internet.hosts.items() if host.requests]
    assert asked == [REGISTRY, COPILOT]


def test_text_after_a_cited_source_is_kept(connect: Connect) -> None:
    source = {"event": "citation", "url": "https://example.com/a", "title": "A"}
    internet = connect({COPILOT: copilot(appended("It is"), source, appended(" so."))})
    text = "It is [[0]](https://example.com/a) so.\n\n\n\n> [0] [A](https://example.com/a)"
    assert run_there(internet) == (0, final(text), "")


def test_text_after_an_empty_piece_is_kept_when_g4f_asks_a_provider_directly(
    connect: Connect,
) -> None:
    internet = connect({COPILOT: copilot(appended("Hello"), appended(""), appended(" there!"))})
    assert run_there(internet, "-m", "CopilotApp:gpt-4") == GREETED


# --- The registry of providers ---


def unread(cause: str) -> str:
    return f"g4f's list of providers could not be read: {cause}\n{NO_PROVIDER}"


UNHEARD = f"g4f's list of providers sent nothing for {SILENCE} seconds\n{SLOW}"


@pytest.mark.parametrize(
    ("registry", "told"),
    [
        pytest.param(
            OFFLINE,
            unread(f"[Errno {socket.EAI_NONAME}] Name or service not known"),
            id="offline",
        ),
        pytest.param(
            CLOSED, unread(f"[Errno {errno.ECONNREFUSED}] Connection refused"), id="a closed port"
        ),
        pytest.param(
            [reply({"providers": {}})[:-5]],
            unread("IncompleteRead(12 bytes read, 5 more expected)"),
            id="cut off",
        ),
        pytest.param(
            [reply(b"<html><body>Log in", kind="text/html")],
            unread("g4f could not read the answer (JSONDecodeError)"),
            id="a login page",
        ),
        pytest.param(SWALLOWED, UNHEARD, id="swallowed"),
        pytest.param([[HANG]], UNHEARD, id="hanging"),
    ],
)
def test_a_registry_that_fails_is_one_clear_line_and_a_hint(
    connect: Connect, registry: Any, told: str
) -> None:
    internet = connect({REGISTRY: registry, COPILOT: copilot(appended("Hello"))})
    ended = run_there(internet, "-t", SILENCE)
    assert ended == (1, final(""), f"Error occurred: {told}")


def test_a_script_whose_registry_hangs_ends_by_itself(connect: Connect) -> None:
    code = "import asyncio, sys, messages_stream as m; sys.exit(asyncio.run(m.main(timeout=0.5)))"
    ended = run_there(connect({REGISTRY: [[HANG]]}), command=[sys.executable, "-c", code])
    assert (ended.status, ended.stdout) == (1, final(""))


# A program that goes on after main() has ended, until g4f's list of providers has been read.
PATIENT = """
import asyncio, threading, messages_stream

asyncio.run(messages_stream.main(timeout=0.5))
print("main() has ended", flush=True)
for thread in threading.enumerate():
    if thread.daemon:
        thread.join()
"""


def test_a_registry_that_answers_after_the_time_limit_is_not_heard(connect: Connect) -> None:
    released = threading.Event()
    internet = connect({REGISTRY: [[released.wait, *REGISTERED]]})
    with start(env=internet.env, command=[sys.executable, "-c", PATIENT]) as process:
        assert process.stdout and b"main() has ended\n" in iter(process.stdout.readline, b"")
        released.set()
        out, err = process.communicate(timeout=PATIENCE)
    told = f"Error occurred: g4f's list of providers sent nothing for 0.5 seconds\n{SLOW}"
    assert (process.returncode, out, err.decode()) == (0, b"", told)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    "hosts",
    [
        pytest.param({REGISTRY: [[HANG]]}, id="request of the registry"),
        pytest.param({COPILOT: SWALLOWED}, id="look-up of a provider"),
    ],
)
def test_a_signal_gets_through_a_hanging(
    connect: Connect, hosts: dict[str, Any], signum: int
) -> None:
    internet = connect(hosts)
    os.mkfifo(internet.log)
    [name] = hosts
    with start(env=internet.env) as process, open(internet.log) as log:
        assert f"look-up {name}\n" in iter(log.readline, "")
        if name in internet.hosts:
            internet.hosts[name].arrived.get(timeout=PATIENCE)
        process.send_signal(signum)
        out, err = process.communicate(timeout=10)  # The time limit is a minute.
    assert (process.returncode, out.decode(), err) == (128 + signum, final(""), b"")


@pytest.mark.parametrize(
    ("hosts", "arguments", "name"),
    [
        pytest.param({REGISTRY: [[HANG]]}, [], "g4f's list of providers", id="the list"),
        pytest.param({COPILOT: [[HANG]]}, [], "CopilotApp", id="a provider"),
        pytest.param(
            {COPILOT: [[HANG]]}, ["-m", "CopilotApp:gpt-4"], "CopilotApp:gpt-4", id="one named"
        ),
    ],
)
def test_a_terminal_shows_who_is_awaited(
    connect: Connect, hosts: dict[str, Any], arguments: list[str], name: str
) -> None:
    pytest.importorskip("pty")
    from terminal import CTRL_C, Terminal

    with Terminal(*arguments, env=connect(hosts).env) as terminal:
        terminal.wait_for(lambda: terminal.text == f"Waiting for {name} ...")
        terminal.type(CTRL_C)
        assert terminal.wait_for_end() == 130


# --- A provider fails ---


@pytest.mark.parametrize(
    "failure",
    [
        pytest.param(OFFLINE, id="offline"),
        pytest.param(copilot(RESET), id="resetting after its greeting"),
        pytest.param(copilot(), id="ending without text"),
    ],
)
def test_the_next_provider_answers_after_one(connect: Connect, failure: Any) -> None:
    internet = connect({COPILOT: failure, YQCLOUD: yqcloud(b"Hello", b" there!")})
    assert run_there(internet) == GREETED


def sorry(text: str) -> list[Script]:
    """Return the script of a provider that has enough of us, in its own words."""
    return [reply(text.encode(), "429 Too Many Requests", "text/plain")]


@pytest.mark.parametrize(
    "failure",
    [
        pytest.param(OFFLINE, id="offline"),
        pytest.param(sorry("Sorry for that.\n" * 10_000), id="many lines"),
        pytest.param(sorry("Sorry for that. " * 10_000), id="a long line"),
    ],
)
def test_providers_that_all_fail_are_named_in_a_short_line_each(
    connect: Connect, failure: Any
) -> None:
    hosts = COPILOT, YQCLOUD, AIRFORCE, KILO, PERPLEXITY
    status, out, err = run_there(connect(dict.fromkeys(hosts, failure)))
    first, *lines, hint = err.splitlines(keepends=True)
    assert (status, out, hint) == (1, final(""), NO_PROVIDER)
    assert first == "Error occurred: all providers failed\n"
    assert all(re.match(r"  \w+: \w+: \S.{,160}\n", line) for line in lines)
    names = {line.split(":")[0].strip() for line in lines}
    assert {"CopilotApp", "Yqcloud", "Airforce", "KiloCode"} < names
    rows = sum(-(-len(line) // 80) for line in err.splitlines())
    assert rows <= 24, f"{rows} rows of a terminal"


# --- A provider says nothing ---

PASSED_OVER = f"CopilotApp sent nothing for {SILENCE} seconds; trying the next\n"


@pytest.mark.parametrize(
    "silence",
    [
        pytest.param(SWALLOWED, id="in the look-up"),
        pytest.param(copilot(HANG), id="after its greeting"),
    ],
)
def test_the_next_provider_answers_when_one_says_nothing(connect: Connect, silence: Any) -> None:
    internet = connect({COPILOT: silence, YQCLOUD: yqcloud(b"Hello", b" there!")})
    assert run_there(internet, "-t", SILENCE) == (0, final("Hello there!"), PASSED_OVER)
    assert internet.tried().count(f"look-up {COPILOT}") == 1


def test_both_streams_pass_over_a_provider_that_says_nothing(connect: Connect) -> None:
    internet = connect({COPILOT: [[HANG]], YQCLOUD: yqcloud(b"Hello there!")})
    out = "Synchronous Stream:\nHello there!\n\nAsynchronous Stream:\nHello there!\n"
    assert run_there(internet, "--compare", "-t", SILENCE) == (0, out, PASSED_OVER * 2)


def test_providers_that_all_say_nothing_are_named(connect: Connect) -> None:
    internet = connect({COPILOT: [[HANG]], YQCLOUD: [[HANG]]})
    status, out, err = run_there(internet, "-t", SILENCE)
    first, second, third, *failures, hint = err.splitlines(keepends=True)
    assert (status, out, hint) == (1, final(""), NO_PROVIDER)
    assert first == PASSED_OVER
    assert second == PASSED_OVER.replace("CopilotApp", "Yqcloud")
    assert third == "Error occurred: all providers failed\n"
    assert not [line for line in failures if "CopilotApp" in line or "Yqcloud" in line]
    # None was asked twice.
    assert {name: len(host.requests) for name, host in internet.hosts.items()} == {
        REGISTRY: 1,
        COPILOT: 1,
        YQCLOUD: 1,
    }


def test_a_stall_after_text_leaves_the_text_and_names_who_stalled(connect: Connect) -> None:
    stalling = copilot(appended("Hello"), HANG)
    internet = connect({COPILOT: stalling, YQCLOUD: yqcloud(b"Never asked.")})
    told = f"Error occurred: CopilotApp sent nothing for {SILENCE} seconds\n"
    assert run_there(internet, "-t", SILENCE) == (1, final("Hello"), told)
    assert not internet.hosts[YQCLOUD].requests


# --- A named route asks nobody else ---


def test_a_silent_provider_named_before_the_model_is_told_so(connect: Connect) -> None:
    internet = connect({COPILOT: [[HANG]], YQCLOUD: yqcloud(b"Never asked.")})
    told = f"Error occurred: CopilotApp:gpt-4 sent nothing for {SILENCE} seconds\n{SLOW}"
    ended = run_there(internet, "-m", "CopilotApp:gpt-4", "-t", SILENCE)
    assert ended == (1, final(""), told)
    assert not internet.hosts[YQCLOUD].requests


def test_a_provider_named_is_the_only_one_asked(connect: Connect) -> None:
    internet = connect({YQCLOUD: yqcloud(b"Hello", b" there!")})
    arguments = ["--provider", "Yqcloud", "-s", "Be brief.", "Say hello."]
    assert run_there(internet, *arguments) == GREETED
    host = internet.hosts[YQCLOUD]
    assert internet.tried() == [f"look-up {YQCLOUD}", f"connection to 127.0.0.1:{host.port}"]
    [request] = host.requests
    assert (request.json["system"], request.json["stream"]) == ("Be brief.", True)
    assert "Say hello." in request.json["prompt"]


def test_a_provider_gets_its_key_from_the_environment(connect: Connect) -> None:
    models = reply({"data": [{"id": "m"}]})
    internet = connect({GROQ: [models, answer("Hello", " there!")]})
    internet.env["GROQ_API_KEY"] = "gsk-1"
    assert run_there(internet, "--provider", "Groq", "-m", "m") == GREETED
    assert internet.hosts[GROQ].requests[-1].headers["authorization"] == "Bearer gsk-1"


def test_an_unknown_provider_is_told_with_similar_names_and_without_any_request(
    connect: Connect,
) -> None:
    internet = connect({REGISTRY: SWALLOWED})
    similar = "Similar names: Copilot, CopilotApp, GithubCopilot.\n"
    told = f"Error occurred: Provider not found: Copilt\n{similar}"
    assert run_there(internet, "--provider", "Copilt") == (1, final(""), told)
    assert internet.tried() == []


@pytest.mark.parametrize(
    ("scripts", "status"),
    [
        pytest.param([answer("Hello", " there!")], 0, id="an answer"),
        pytest.param([reply({"error": {"message": "no"}}, "401 Unauthorized")], 1, id="an error"),
        pytest.param([answer()], 1, id="no text"),
    ],
)
def test_with_a_base_url_nobody_else_hears_of_it(
    connect: Connect, serve: Any, scripts: list[Any], status: int
) -> None:
    server = serve(*scripts)
    internet = connect({"llm.example": server.port})
    assert run_there(internet, "--base-url", "http://llm.example/v1").status == status
    assert internet.tried() == ["look-up llm.example", f"connection to 127.0.0.1:{server.port}"]

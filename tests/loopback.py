"""A server on loopback that answers with prepared bytes, to the byte and at the moment a test says."""

from __future__ import annotations

import contextlib
import json
import queue
import socket
import struct
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

SSE = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
DONE = b"data: [DONE]\n\n"
# What a script may hold besides bytes to send and callables to wait for:
HANG = "hang"  # wait until the client goes away
RESET = "reset"  # end the connection with a TCP reset

Step = bytes | str | Callable[[], object]


def data(value: Any) -> bytes:
    """Return a Server-Sent Event with a JSON value."""
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def delta(content: Any, finish: str | None = None, **extra: Any) -> bytes:
    """Return the event of one chunk."""
    choice = {"index": 0, "delta": {"content": content, **extra}, "finish_reason": finish}
    return data({"id": "1", "object": "chat.completion.chunk", "model": "m", "choices": [choice]})


def finish(reason: str = "stop") -> bytes:
    """Return the last events of an answer."""
    return data({"id": "1", "choices": [{"index": 0, "delta": {}, "finish_reason": reason}]}) + DONE


def answer(*pieces: Any) -> bytes:
    """Return a whole streamed answer."""
    return SSE + b"".join(map(delta, pieces)) + finish()


def kept_alive(*pieces: Any) -> bytes:
    """Return a whole streamed answer after which the connection may be used again."""
    body = answer(*pieces).removeprefix(SSE)
    return SSE.replace(b"Connection: close", b"Content-Length: %d" % len(body)) + body


def reply(
    body: bytes | Any, status: str = "200 OK", kind: str = "application/json", *headers: str
) -> bytes:
    """Return a whole response that is no stream."""
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [
        f"HTTP/1.1 {status}",
        f"Content-Type: {kind}",
        f"Content-Length: {len(body)}",
        "Connection: close",
    ]
    return "\r\n".join([*lines, *headers, "", ""]).encode() + body


@dataclass
class Request:
    """What a client sent."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Server:
    """Plays one script a connection, the last one again for any further; one may depend on the request."""

    scripts: list[Iterable[Step] | bytes]
    requests: list[Request] = field(default_factory=list)
    arrived: queue.Queue[Request] = field(default_factory=queue.Queue)  # the same, to wait for
    closed: threading.Semaphore = field(
        default_factory=lambda: threading.Semaphore(0)
    )  # released as a client leaves

    def __post_init__(self) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = self.socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/v1"
        self.connections: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.socket.accept()
                self.connections.append(connection)
                script = self.scripts[min(len(self.connections), len(self.scripts)) - 1]
                threading.Thread(target=self._serve, args=(connection, script), daemon=True).start()

    def _serve(self, connection: socket.socket, script: Iterable[Step] | bytes) -> None:
        with contextlib.suppress(OSError), connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # a packet a step
            request = read_request(connection)
            self.requests.append(request)
            self.arrived.put(request)
            steps = script(request) if callable(script) else script
            for step in [steps] if isinstance(steps, bytes) else steps:
                if isinstance(step, bytes):
                    connection.sendall(step)
                elif step == HANG:
                    connection.recv(1)
                    self.closed.release()
                elif step == RESET:
                    connection.setsockopt(
                        socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
                    )
                    return
                elif callable(step):
                    step()

    def close(self) -> None:
        self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
        for connection in self.connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()


def read_request(connection: socket.socket) -> Request:
    """Read one HTTP request."""
    received = b""
    while b"\r\n\r\n" not in received:
        more = connection.recv(65536)
        if not more:
            raise OSError("no request")
        received += more
    head, body = received.split(b"\r\n\r\n", 1)
    line, *lines = head.decode("latin-1").split("\r\n")
    headers = {
        name.lower(): value.strip() for name, _, value in (each.partition(":") for each in lines)
    }
    while len(body) < int(headers.get("content-length", 0)):
        body += connection.recv(65536)
    return Request(line.split()[1], headers, body)


@contextlib.contextmanager
def serving(*scripts: Iterable[Step] | bytes) -> Iterator[Server]:
    """Serve scripts meanwhile."""
    server = Server(list(scripts))
    try:
        yield server
    finally:
        server.close()

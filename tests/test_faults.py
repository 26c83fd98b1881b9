"""Whatever a server does, the user sees the text and one honest line: a table of faults, played to the real program."""

from __future__ import annotations

import asyncio
import re
import threading
import time
import zlib
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from g4f import errors
from g4f.providers import response as kinds
from g4f.providers.base_provider import AsyncGeneratorProvider

from loopback import DONE, HANG, RESET, SSE, Server, Step, answer, data, delta, finish, reply
from messages_stream import main
from program import LIMIT, start

KEY = "sk-loopback-4f1e9c8b7a6d5e3f"  # servers put it into whatever they say
PAGE = f"<!DOCTYPE html><body class='{KEY}'><h1>No luck {KEY}</h1>{'<p>Come back later</p>' * 500}".encode()
HELLO = delta("Hel") + delta("lo")
STOP = data({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
SHOWN = threading.Event()  # a fault that waits for it comes when the text before it is on stdout
CUT_SHORT = "The answer was cut short (finish reason: {}).\n"
NO_CONNECTION = "(?i:reset|disconnected|connect call failed|can not write)"
NO_TEXT = "the model sent no text"
REASON = NO_TEXT + r" \(finish reason: {}\)"
NOT_UNDERSTOOD = "g4f could not read the answer .{}"


@dataclass
class Row:
    """What a server sends, connection by connection, and what the program must make of it."""

    scripts: tuple[Iterable[Step] | bytes, ...]
    text: str
    error: str  # a regular expression for the error line; "" for success
    notice: str = ""  # what stderr says of a success
    requests: int = 1
    timeout: float = 20
    greet: bool = True  # False: the server reads no request
    url: str = "http://127.0.0.1:{}/v1"


def row(name: str, script: Any, text: str = "", error: str = "", then: Any = (), marks: Any = (), **more: Any) -> Any:
    return pytest.param(Row((script, *then), text, error, **more), id=name, marks=marks)


@dataclass
class Slowly:
    """A script that says the same over and over."""

    first: bytes
    event: bytes
    pause: float = 0.05
    times: int = 10**9
    last: bytes = b""

    def __iter__(self) -> Iterator[Step]:
        yield self.first
        for _ in range(self.times):
            time.sleep(self.pause)
            yield self.event
        yield self.last


def head(*headers: str) -> bytes:
    return "\r\n".join(["HTTP/1.1 200 OK", "Content-Type: text/event-stream", *headers, "", ""]).encode()


def choice(**fields: Any) -> bytes:
    return data({"choices": [{"index": 0, **fields}]})


def error(message: str, **fields: Any) -> bytes:
    return data({"error": {"message": f"{message} {KEY}", **fields}})


def chunked(event: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(event), event)


def zipped(*events: bytes) -> bytes:
    packer = zlib.compressobj(wbits=31)
    return b"".join(packer.compress(event) + packer.flush(zlib.Z_SYNC_FLUSH) for event in events)


def silence(name: str, script: Any, text: str = "") -> Any:
    return row(name, script, text, "sent nothing for 2 seconds", timeout=2)


BEFORE_THE_HEADERS = [
    row("the port is closed", b"", "", "Cannot connect to host 127.0.0.1:1 ", requests=0, url="http://127.0.0.1:1/v1"),
    row("reset before the request", [RESET], "", NO_CONNECTION, requests=0, greet=False),
    row("cut off before the request", b"", "", NO_CONNECTION, requests=0, greet=False),
    row(
        "it is no HTTPS",
        [HANG, reply(b"", "400 Bad Request"), SHOWN.wait],
        "",
        r"SSL: \w+",
        requests=0,
        greet=False,
        url="https://127.0.0.1:{}/v1",
    ),
    row("it is no HTTP", b"SSH-2.0-OpenSSH_9.6\r\n\r\n", "", "Expected HTTP"),
    row("reset before the headers", [RESET], "", "reset"),
    row("cut off before the headers", b"", "", "Server disconnected"),
    silence("never answering", [HANG]),
    row("reset in the headers", [SSE[:30], RESET], "", "reset"),
    row("cut off in the headers", SSE[:30], "", "ServerDisconnected"),
    silence("stalling in the headers", [SSE[:30], HANG]),
    row("a header of 20 kB", head("X-A: " + "a" * 20_000), "", "more than 8190 bytes"),
]

# The headers that delimit a body, how to write an event, and how a cut-off shows.
FRAMINGS: list[tuple[str, bytes, Callable[[bytes], bytes], str]] = [
    # Any end is as good as another here, for aiohttp.client_proto.ResponseHandler.connection_lost even a reset, and
    # g4f.client.async_iter_response says "stop" where the server did not.
    ("to the end of the connection", SSE, bytes, ""),
    ("with a Content-Length", head("Content-Length: 9999"), bytes, "payload is not completed"),
    ("in chunks", head("Transfer-Encoding: chunked"), chunked, "payload is not completed"),
]
AFTER_THE_HEADERS = [
    each
    for framing, headers, frame, cut in FRAMINGS
    for each in (
        row(f"reset after the headers, {framing}", [headers, RESET], "", (cut and "reset") or NO_TEXT),
        row(f"reset before the text, {framing}", [headers, frame(delta("")), RESET], "", (cut and "reset") or NO_TEXT),
        row(f"reset in the text, {framing}", [headers, frame(HELLO), SHOWN.wait, RESET], "Hello", cut and "reset"),
        row(f"reset after the answer, {framing}", [headers, frame(HELLO + finish()), RESET], "Hello"),
        row(f"cut off after the headers, {framing}", headers, "", cut or NO_TEXT),
        row(f"cut off before the text, {framing}", headers + frame(delta("")), "", cut or NO_TEXT),
        row(f"cut off in the text, {framing}", [headers, frame(HELLO), SHOWN.wait], "Hello", cut),
        row(f"cut off with the text, {framing}", headers + frame(HELLO), "Hello", cut),
        row(f"cut off after the answer, {framing}", headers + frame(HELLO + finish()), "Hello"),
        row(f"left open after the answer, {framing}", [headers, frame(HELLO + finish()), HANG], "Hello"),
    )
] + [
    silence("stalling after the headers", [SSE, HANG]),
    silence("stalling before the text", [SSE + delta(""), HANG]),
    silence("stalling in the text", [SSE + HELLO, HANG], "Hello"),
]

STATUSES = [
    row(
        f"{status} with {body}",
        reply(content, f"{status} {KEY}", kind),
        "",
        f"(Response|Error) {status}: ({said})",
        requests=3 if status == 429 or status >= 500 else 1,
    )
    for status in (400, 401, 402, 403, 404, 422, 429, 500, 502, 503, 504, 520)
    for body, content, kind, said in (
        ("JSON", {"error": {"message": f"No luck {KEY}", "code": "x"}}, "application/json", r"(Error x: )?No luck \*"),
        ("a text", f"No luck {KEY}\n".encode() * 99, "text/plain", r"No luck \*\*\*|Bad Gateway"),
        ("a page", PAGE, "text/html; charset=utf-8", "HTML content|Bad Gateway"),
    )
    if body == "JSON" or status in (401, 404, 429, 502, 503)
] + [
    row(f"404 with {body}", reply(content, "404 Not Found", *kind), "", said)
    for body, content, said, *kind in (
        ("a string for an error", {"error": f"No luck {KEY}"}, r"404: No luck \*\*\*"),
        ("a detail", {"detail": f"No luck {KEY}"}, "404: .*No luck"),
        ("a list", [{"error": {"message": "No luck"}}], "404: .*No luck"),
        ("nothing", b"", "404", "text/plain"),
        # g4f.Provider.template.OpenaiTemplate.read_response reads the JSON before the status.
        ("no JSON", b"No luck", NOT_UNDERSTOOD.format("JSONDecodeError")),
        ("a page as text", PAGE[15:], r"404: No luck \*\*\* Come back later", "text/plain"),
        ("a page in JSON", {"error": {"message": PAGE.decode()}}, r"404: No luck \*\*\* Come back later"),
        ("control characters", b"No\x1b[31m \x07luck\xc2\x9b", r"404: No\[31m luck", "text/plain"),
        ("a lone surrogate", rb'{"error": {"message": "No \ud800 luck"}}', "404: No .* luck"),
        # g4f.requests.raise_for_status reads the text before it names the status.
        ("invalid UTF-8", b"No \xff luck", "codec can't decode byte 0xff", "text/plain"),
    )
]
CUT_OFF_503 = reply(b"No luck", "503 S", "text/plain")[:-3]
STATUSES += [
    row("503 that is cut off", CUT_OFF_503, "", "payload is not completed"),
    silence("503 that stalls", [CUT_OFF_503, HANG]),
]

BUSY = reply({"error": {"message": "Busy"}}, "429 Too Many Requests")
DOWN = reply(b"Down", "503 Service Unavailable", "text/plain")
HI = answer("Hi")
RETRIES = [
    row("busy, then an answer", BUSY, "Hi", then=[HI], requests=2),
    row("down and busy, then an answer", DOWN, "Hi", then=[BUSY, HI], requests=3),
    row("down, busy and down, and no fourth try", DOWN, "", "503: Down", then=[BUSY, DOWN, HI], requests=3),
    row("busy, then a wrong key", BUSY, "", "401: Who", then=[reply({"error": "Who?"}, "401 U"), HI], requests=2),
    row("busy, then reset", BUSY, "", "reset", then=[[RESET], HI], requests=2),
    row("busy in a chunk, then an answer", SSE + error("Busy", code=429), "Hi", then=[HI], requests=2),
    row("busy in a chunk after the text", SSE + HELLO + error("Busy", code=429), "Hello", "429: Busy", then=[HI]),
    row("down in a chunk after the text", SSE + HELLO + error("Down", code=503), "Hello", "503: Down", then=[HI]),
    row("reset before the text, and no second try", [SSE, RESET], "", NO_TEXT, then=[HI]),
]

BAD_CHUNKS = [
    row(f"{name} {when} the text", SSE + before + event, text, said)
    for when, before, text in (("before", b"", ""), ("after", HELLO, "Hello"))
    for name, event, said in (
        ("an error", error("No luck"), r"No luck \*\*\*"),
        ("an error with a name", error("No luck", code="overloaded"), "overloaded: No luck"),
        ("an error with a number", error("No luck", code=400), "400: No luck"),
        ("an error without a message", data({"error": {"type": "no_luck"}}), "no_luck"),
        ("a string for an error", data({"error": f"No luck {KEY}"}), r"No luck \*\*\*"),
        ("an error_message", data({"error_message": "No luck"}), "No luck"),
        # g4f.providers.base_provider.RaiseErrorMixin.raise_error wants a message with a code, and any error to be one.
        ("an error with a code alone", data({"error": {"code": 400}}), NOT_UNDERSTOOD.format("KeyError: 'message'")),
        ("null for an error", data({"error": None}), NOT_UNDERSTOOD.format("TypeError")),
        ("a string", data("Busy"), NOT_UNDERSTOOD.format("TypeError")),
        ("a delta of null", choice(delta=None), NOT_UNDERSTOOD.format("AttributeError")),
        ("choices of null", data({"choices": None}), NOT_UNDERSTOOD.format("TypeError")),
        ("invalid JSON", b"data: {oops\n\n", "Invalid JSON data: .*oops"),
        ("60 kB of invalid JSON", b"data: {" + b"oops" * 15_000 + b"\n\n", "Invalid JSON data: .*oops"),
        ("invalid UTF-8", b'data: {"a": "\xff"}\n\n', "codec can't decode byte 0xff"),
        # aiohttp.StreamReader.readuntil, which g4f.requests.sse_stream reads lines with, takes none that long.
        ("a chunk of 600 kB", delta("a" * 600_000) + finish(), "Got more than 524288 bytes"),
    )
]

WHOLE = {"model": "m", "choices": [{"index": 0, "message": {"content": "Hello"}, "finish_reason": "stop"}]}
WIDE = 'data: {"choices": [{"delta": {"content": "Hé你😀"}}]}\n\ndata: [DONE]\n\n'.encode()
CALLS = [{"index": 0, "id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]


def whole(content: str | None, reason: str, **fields: Any) -> bytes:
    return reply({"choices": [{"index": 0, "message": {"content": content, **fields}, "finish_reason": reason}]})


def redirect(*headers: str) -> bytes:
    return reply(b"", "307 Temporary Redirect", "text/plain", *headers)


NO_STREAMS = [
    row("200 with an error", reply({"error": {"message": f"No luck {KEY}"}}), "", r"No luck \*\*\*"),
    row("200 with a string for an error", reply({"error": "No luck"}), "", "No luck"),
    row("200 with a whole completion", reply(WHOLE), "Hello"),
    row("200 with a list of completions", reply([WHOLE]), "Hello"),
    row("200 with a completion cut short", whole("Hel", "length"), "Hel", notice=CUT_SHORT.format("length")),
    row("200 with an empty completion", whole("", "stop"), "", REASON.format("stop")),
    row("200 with a tool call", whole(None, "tool_calls", tool_calls=CALLS), "", REASON.format("tool_calls")),
    row("200 with invalid JSON", reply(b"{oops"), "", NOT_UNDERSTOOD.format("JSONDecodeError")),
    row("200 with half of a completion", reply(WHOLE)[:-9], "", "payload is not completed: .*Not enough data"),
    row("200 with an empty object", reply({}), "", NO_TEXT),
    row("200 with an empty list", reply([]), "", NO_TEXT),
    # g4f.Provider.template.OpenaiTemplate.read_response asks for the message before it knows that there is a choice,
    row("200 with no choices", reply({"choices": []}), "", NOT_UNDERSTOOD.format("AttributeError")),
    row("200 with nothing", reply(b""), "", NOT_UNDERSTOOD.format("TypeError")),
    # and takes whatever else comes for a file that is named after a model, which it does not know yet.
    row("200 with a login page", reply(PAGE, kind="text/html; charset=utf-8"), "", NOT_UNDERSTOOD.format("")),
    row("200 with plain text", reply(b"Hello", kind="text/plain"), "", NOT_UNDERSTOOD.format("")),
    row("200 with an empty stream", reply(b"", kind="text/event-stream"), "", NO_TEXT),
    row("200 with nothing of no kind", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "", NO_TEXT),
    row("204", b"HTTP/1.1 204 No Content\r\n\r\n", "", NO_TEXT),
    row("307 to the same server", redirect("Location: /v2"), "Hi", then=[HI], requests=2),
    row("307 in a circle", redirect("Location: /v1/chat/completions"), "", "(?i:redirect)", requests=10),
    row("307 to nowhere", redirect(), "", NOT_UNDERSTOOD.format("")),
]


def events(*each: bytes) -> bytes:
    return SSE + b"".join(each)


STREAMS = [
    row("an answer", answer("Hel", "lo"), "Hello"),
    row("an answer of no kind", b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + HELLO + finish(), "Hello"),
    row("[DONE] alone", events(DONE), "", NO_TEXT),
    row("[DONE] is missing", events(HELLO, STOP), "Hello"),
    row("[DONE] without a finish reason, left open", [events(HELLO, DONE), HANG], "Hello"),
    row("a finish reason, left open", [events(HELLO, STOP), HANG], "Hello"),
    row("a finish reason with the last text", events(delta("Hel"), delta("lo", "stop")), "Hello"),
    row("a finish reason alone", events(finish()), "", REASON.format("stop")),
    row("usage alone", events(data({"choices": [], "usage": {"total_tokens": 1}}), DONE), "", NO_TEXT),
    row("usage after the text", events(HELLO, data({"choices": [], "usage": {"total_tokens": 1}}), DONE), "Hello"),
    row("usage of null", events(data({"choices": [], "usage": None}), HELLO, finish()), "Hello"),
    row("no choices", events(data({}), HELLO, data({"choices": []}), delta("!"), finish()), "Hello!"),
    row("a role alone", events(choice(delta={"role": "assistant"}), finish()), "", NO_TEXT),
    row("a role first", events(choice(delta={"role": "assistant"}), HELLO, finish()), "Hello"),
    row("null and empty contents", answer(None, "", "Hel", None, "", "lo", None), "Hello"),
    row("null contents alone", answer(None, None), "", NO_TEXT),
    row("choices without a delta", events(choice(), HELLO, choice(), delta("!"), finish()), "Hello!"),
    # OpenaiTemplate.read_response takes the white space off the start.
    row("white space all over", answer("\n ", " Hel", "\n", "lo", " \n"), "Hel\nlo \n"),
    row("white space alone", answer(" ", "\n"), "", NO_TEXT),
    row("CRLF", SSE + (HELLO + finish()).replace(b"\n", b"\r\n"), "Hello"),
    row("no space after data:", SSE + (HELLO + finish()).replace(b"data: ", b"data:"), "Hello"),
    row("no empty lines", SSE + (HELLO + finish()).replace(b"\n\n", b"\n"), "Hello"),
    row("no last line break", SSE + HELLO.rstrip(), "Hello"),
    row(
        "comments and other fields", events(b": hi\n\nevent: e\nid: 7\nretry: 9\n", HELLO, b"data:\n\n", DONE), "Hello"
    ),
    silence("keep-alives for ever", Slowly(SSE, b": ping\n\n")),
    silence("keep-alives for ever in the text", Slowly(SSE + HELLO, b": ping\n\n"), "Hello"),
    row("keep-alives for ever after the answer", Slowly(SSE + HELLO + finish(), b": ping\n\n"), "Hello"),
    silence("empty contents for ever", Slowly(SSE + HELLO, delta("")), "Hello"),
    silence("thoughts for ever", Slowly(SSE, delta(None, reasoning_content="Hm"))),
    row("a slow drip", Slowly(SSE, delta("drip "), 0.4, 25, finish()), "drip " * 25, timeout=2),
    row("a byte a packet", [SSE, *(bytes([byte]) for byte in WIDE)], "Hé你😀"),
    row(
        "a byte a chunk",
        head("Transfer-Encoding: chunked") + b"".join(chunked(bytes([byte])) for byte in WIDE),
        "Hé你😀",
    ),
    row("a pair of surrogates", answer("😀"), "😀"),
    # g4f.tools.run_tools.async_iter_run_tools encodes a piece, to count tokens, and fails at half a pair.
    row("a pair of surrogates in two chunks", answer("Hello \ud83d", "\ude00!"), "Hello 😀!"),
    row("half a pair of surrogates", answer("Hel\ud83d", "lo", "\ude00"), "Hel\ufffdlo\ufffd"),
    row("half a pair of surrogates alone", answer("\ud83d"), "", NO_TEXT),
    row("a chunk of 300 kB", answer("Hello", "a" * 300_000), "Hello" + "a" * 300_000),
    row("a hundred thousand chunks", answer(*["ab "] * 100_000), "ab " * 100_000, marks=pytest.mark.slow),
    row("gzip", head("Content-Encoding: gzip", "Connection: close") + zipped(HELLO, finish()), "Hello"),
    row("gzip, left open", [head("Content-Encoding: gzip"), zipped(HELLO, finish()), HANG], "Hello"),
    row("bad gzip", [head("Content-Encoding: gzip"), zipped(HELLO), SHOWN.wait, b"oops" * 9], "Hello", "gzip"),
    # It calls content.lstrip() until there was text.
    row("parts first", answer([{"type": "text", "text": "Hel"}], "lo"), "", "'list' object has no attribute 'lstrip'"),
    row("parts later", answer("Hel", [{"type": "text", "text": "l"}, {"type": "image"}, {"text": "o"}]), "Hello"),
    row("strings for parts", answer("Hel", ["l", "o"]), "Hello"),
    row("a number for a content", answer("Hello ", 7), "Hello 7"),
    row("thoughts first", events(delta(None, reasoning="Hm"), delta(None, reasoning_content="Hm"), HELLO), "Hello"),
    row("thoughts between", events(delta("Hel"), delta("", reasoning="Hm"), delta("lo"), finish()), "Hello"),
    row("thoughts alone", events(delta(None, reasoning="Hm"), finish()), "", NO_TEXT),
    row("tool calls first", events(choice(delta={"tool_calls": CALLS}), HELLO, finish("tool_calls")), "Hello"),
    row(
        "tool calls alone",
        events(choice(delta={"tool_calls": CALLS}), finish("tool_calls")),
        "",
        REASON.format("tool_calls"),
    ),
    *(
        each
        for reason in ("length", "content_filter")
        for each in (
            row(f"finish reason {reason}", events(HELLO, finish(reason)), "Hello", notice=CUT_SHORT.format(reason)),
            row(f"finish reason {reason} alone", events(finish(reason)), "", REASON.format(reason)),
        )
    ),
]


# These are about g4f and HTTP more than about the Python version.
ONCE = [
    pytest.param(*case.values, id=case.id, marks=pytest.mark.slow)
    for case in (*AFTER_THE_HEADERS, *STATUSES, *BAD_CHUNKS, *NO_STREAMS, *STREAMS)
]


@pytest.mark.parametrize("case", [*BEFORE_THE_HEADERS, *RETRIES, *ONCE])
def test_the_user_sees_the_text_and_one_honest_line(case: Row, serve: Callable[..., Server]) -> None:
    server = serve(*case.scripts, greet=case.greet)
    out, err, status = play(case, case.url.format(server.port))
    assert out == f"{case.text}\n\nFinal accumulated text: {case.text}\n"
    said = rf"Error occurred: (.*({case.error}).*)\n(\w.+\n)?" if case.error else re.escape(case.notice)
    assert re.fullmatch(rf"(.+; trying again in [12] s\n)*{said}", err)
    assert status == (1 if case.error else 0)
    assert len(server.requests) == case.requests
    assert not re.search(rf"{KEY}|Traceback|Warning|Unclosed|never retrieved|</?[a-z!]|[\0-\t\v-\x1f\x7f-\x9f]", err)
    assert max(map(len, [*err.splitlines(), ""])) < 400


def play(row: Row, url: str) -> tuple[str, str, int]:
    """Run the program to its end; return what it printed and its status."""
    SHOWN.clear()
    environment = {"OPENAI_API_KEY": KEY, "PYTHONUTF8": "1"}
    with start("--base-url", url, "-t", str(row.timeout), env=environment, bufsize=0) as process:
        try:
            assert process.stdout
            out, awaited = bytearray(), len(row.text.encode())
            while len(out) < awaited and (more := process.stdout.read(65536)):
                out += more
            SHOWN.set()
            rest, err = process.communicate(timeout=LIMIT)
        finally:
            process.kill()
            SHOWN.set()
    return (out + rest).decode(), err.decode(), process.returncode


def provider(*chunks: Any) -> type[AsyncGeneratorProvider]:
    """Return a provider that yields chunks, and raises the last if it is an exception."""

    class Provider(AsyncGeneratorProvider):  # type: ignore[misc]
        working = True

        @classmethod
        async def create_async_generator(cls, model: str, messages: Any, **kwargs: Any) -> AsyncIterator[Any]:
            for chunk in chunks:
                if isinstance(chunk, BaseException):
                    raise chunk
                yield chunk

    return Provider


@pytest.mark.parametrize(
    ("chunk", "text"),
    [
        (kinds.SourceLink("1", "http://h/"), " [[1]](http://h/)"),
        (kinds.Sources([{"url": "http://h/", "title": "T"}]), "\n\n\n\n> [0] [T](http://h/)"),
        (kinds.SearchResults([{"link": "http://h/", "title": "T", "snippet": "S"}]), "> **[T](http://h/)**\n> S\n"),
        (kinds.ImageResponse("http://h/i.png", "A"), "[![A](http://h/i.png)](http://h/i.png)"),
        (
            kinds.ImageResponse(["http://h/1", "http://h/2"], "A"),
            "[![#1 A](http://h/1)](http://h/1)\n[![#2 A](http://h/2)](http://h/2)",
        ),
        (kinds.VideoResponse("http://h/v.mp4", "A"), '<video src="http://h/v.mp4"></video>'),
        (kinds.AudioResponse("data:audio/mpeg;base64,AA==", "Hi"), "<audio controls></audio>\n\nHi"),
        (kinds.AudioResponse(b"\0"), '<audio controls src="data:audio/mpeg;base64,AA=="></audio>'),
        (kinds.Reasoning("Hm"), ""),
        (kinds.Reasoning(status="Thinking"), ""),
        (kinds.JsonConversation(id=1), ""),
        (kinds.Parameters(a=1), ""),
        (kinds.ToolCalls([{"id": "1", "function": {}}]), ""),
        (kinds.Usage(total_tokens=1), ""),
        (kinds.HeadersResponse(a="b"), ""),
        (kinds.JsonRequest(a="b"), ""),
        (kinds.JsonResponse(a="b"), ""),
        (kinds.AuthResult(a="b"), ""),
        (kinds.TitleGeneration("T"), ""),
        (kinds.DebugResponse("D"), ""),
        (kinds.PlainTextResponse("P"), ""),
        (kinds.VariantResponse("V"), ""),
        (kinds.ContinueResponse("C"), ""),
        (kinds.YouTubeResponse(["1"]), ""),
        (kinds.SynthesizeData("P", {}), ""),
        (kinds.SuggestedFollowups(["S"]), ""),
        (kinds.RequestLogin("L", "http://h/"), ""),
        (kinds.ImagePreview("http://h/i.png", "A"), ""),
        (kinds.PreviewResponse("P"), ""),
        (kinds.ProviderInfo(name="P", model="m"), ""),
    ],
)
def test_what_is_no_string_is_printed_as_g4f_words_it(
    chunk: Any, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = f"{text}a{text}b{text}"
    assert asyncio.run(main(provider=provider(chunk, "a", chunk, "b", chunk))) is None
    assert capsys.readouterr() == (f"{text}\n\nFinal accumulated text: {text}\n", "")


@pytest.mark.parametrize("before", ["", "Hello"])
@pytest.mark.parametrize(
    ("raised", "said"),
    [
        (ValueError("No luck"), "No luck"),
        (ValueError("No\nluck"), "No luck"),
        (ValueError(), "ValueError: "),
        (KeyError("choices"), "g4f could not read the answer (KeyError: 'choices')"),
        (TypeError("No luck"), "g4f could not read the answer (TypeError: No luck)"),
        (TimeoutError(), "TimeoutError: "),
        (asyncio.TimeoutError(), "TimeoutError: "),
        (asyncio.CancelledError(), "g4f gave up: CancelledError()"),
        (
            ConnectionResetError(104, "Connection reset by peer"),
            "ConnectionResetError: [Errno 104] Connection reset by peer",
        ),
        (BrokenPipeError(32, "Broken pipe"), "BrokenPipeError: [Errno 32] Broken pipe"),
        (errors.MissingAuthError("Add an api_key"), "Add an api_key"),
        (errors.RateLimitError("Response 429: Busy"), "Response 429: Busy"),  # tried again, but not after text
        (errors.ModelNotFoundError("Model not found"), "Model not found"),
    ],
)
def test_whatever_a_provider_raises_becomes_one_line(
    before: str, raised: BaseException, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert asyncio.run(main(provider=provider(before, raised))) == 1
    out, err = capsys.readouterr()
    assert out == f"{before}\n\nFinal accumulated text: {before}\n"
    notices = [f"{said}; trying again in {pause} s" for pause in (1, 2) if "429" in said and not before]
    assert [line.rstrip() for line in err.splitlines()[:-1]] == [*notices, f"Error occurred: {said}".rstrip()]

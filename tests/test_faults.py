"""Whatever a server does, the user sees the text and one honest line: a table of faults, played to `main()`."""

import asyncio
import contextlib
import io
import re
import threading
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import requests
import urllib3
from g4f import errors
from g4f.providers.base_provider import AsyncGeneratorProvider
from g4f.providers.response import FinishReason, ImageResponse, Reasoning, SourceLink, Sources, ToolCalls

from loopback import DONE, HANG, RESET, SSE, Server, Step, answer, data, delta, finish, reply
from messages_stream import main

Capture = pytest.CaptureFixture[str]
KEY = "sk-loopback-4f1e9c8b7a6d5e3f"  # servers put it into whatever they say
HELLO, STOP, THOUGHT, PING = delta("Hello"), delta(None, "stop"), delta(None, reasoning_content="Hm"), b": ping\n\n"
USAGE = data({"choices": [], "usage": {"total_tokens": 1}})
CALLS = [{"index": 0, "id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
PAGE = f"<html class='{KEY}'><h1>No luck {KEY}</h1>{'<p>Come back</p>' * 500}".encode()
LATER = r"No luck \*\*\* (Come back )+.{1,9}\.\.\."
SIZED = SSE.replace(b"Connection: close", b"Content-Length: 999")
CHUNKED = SSE.replace(b"Connection: close", b"Transfer-Encoding: chunked")
BUSY = reply({"error": {"message": "Busy"}}, "429 Too Many Requests")
DOWN = reply(b"Down", "503 Service Unavailable", "text/plain")

CHECK = "Check the connection, --model, --provider or --base-url (most end in /v1)."
SLOW = "A slow server may need a longer --timeout."
MODELS = r"Name a --model that the server has; GET /models lists them\."
SET_KEY = "Set OPENAI_API_KEY to a key that the server accepts."
CUT = r"The answer {} cut short \(finish reason: {}\)\.\n"
MAYBE_CUT = CUT.format("may have been", "none")
UNREAD = r"g4f could not read the answer \({}\)"
AGAIN = r"Error 429: Busy \*\*\*; trying again in 1 s\n"
INCOMPLETE = "Response payload is not completed: <.*>"

shown = threading.Event()  # what waits for it comes when the text before it is on stdout


class Stdout(io.StringIO):
    """Tells when there is text in it that would not stay in a buffer."""

    def flush(self) -> None:
        if self.getvalue():
            shown.set()


def slowly(event: bytes, times: int = 40) -> list[Step]:
    return [lambda: time.sleep(0.1), event] * times


def row(name: str, *scripts: Any, text: str = "", error: str = "", notice: str = "", **more: Any) -> Any:
    """Return what a server sends, connection by connection, and, in regular expressions, what is told of it."""
    said = notice + (f"Error occurred: {error}\n{more.get('hint') or re.escape(CHECK)}\n" if error else "")
    return pytest.param((scripts, text, said, more.get("timeout", 10), more.get("requests", 1)), id=name)


def silence(name: str, *steps: Step, text: str = "") -> Any:
    error = r"127\.0\.0\.1:\d+ sent nothing for 0\.5 seconds"
    return row(name, [*steps, HANG], text=text, error=error, hint=SLOW, timeout=0.5)


def status(line: str, body: Any, error: str, kind: str = "application/json", hint: str = "") -> Any:
    return row(f"{line} with {body!r:.40}", reply(body, line, kind), error=error, hint=hint)


def bad(name: str, event: bytes, error: str) -> Any:
    return row(f"{name} after the text", SSE + HELLO + event, text="Hello", error=error)


def hello(name: str, *events: bytes, notice: str = "") -> Any:
    return row(name, SSE + b"".join(events), text="Hello", notice=notice)


def nothing(name: str, *events: bytes, reason: str) -> Any:
    return row(name, SSE + b"".join(events), error=rf"the model sent no text \(finish reason: {reason}\)")


def failing(message: str, **fields: Any) -> bytes:
    return data({"error": {"message": f"{message} {KEY}", **fields}})


def whole(content: str | None, reason: str, **fields: Any) -> bytes:
    return reply({"choices": [{"message": {"content": content, **fields}, "finish_reason": reason}]})


FAULTS = [
    # Before the headers
    row("a closed port", error="Cannot connect .*call failed.*", hint="No server listens at .*0.1:1: .*", requests=0),
    row("no HTTP", b"SSH-2.0-OpenSSH_9.6\r\n\r\n", error='400, message="Bad status line:.*'),
    row("reset before the headers", [RESET], error="ClientOSError: .*reset by peer"),
    row("cut off before the headers", b"", error="Server disconnected"),
    row("cut off in the headers", SSE[:30], error="ServerDisconnectedError: OK"),
    silence("never answering"),
    silence("stalling in the headers", SSE[:30]),
    # After the headers
    nothing("cut off after the headers", reason="none"),
    silence("stalling before the text", SSE),
    silence("stalling in the text", SSE + HELLO, text="Hello"),
    row("cut off in the text", [SSE + HELLO, shown.wait], text="Hello", notice=MAYBE_CUT),
    row("reset in the text", [SSE + HELLO, shown.wait, RESET], text="Hello", notice=MAYBE_CUT),
    *(
        row(f"{end} in a text {framing}", [start, shown.wait, *step], text="Hello", error=INCOMPLETE + more)
        for end, step, more in (("cut off", [], ""), ("reset", [RESET], r"\. ConnectionResetError.*"))
        for framing, start in (("of known length", SIZED + HELLO), ("in chunks", CHUNKED + b"fff\r\n" + HELLO))
    ),
    # Statuses
    status("400 No", {"error": {"message": f"No luck {KEY}", "code": "x"}}, r"Error 400: Error x: No luck \*\*\*"),
    status("401 No", {"error": {"message": "No luck", "code": 401}}, "Error 401: No luck", hint=SET_KEY),
    status("401 No", b"No luck", "Response 401: No luck", "text/plain", SET_KEY),
    status("402 Pay", {"error": f"No luck {KEY}"}, r"Error 402: No luck \*\*\*"),
    status("403 No", PAGE, "Response 403: HTML content", "text/html"),
    status("404 No", PAGE, f"Response 404: {LATER}", "text/plain"),
    status("404 No", {"error": PAGE.decode()}, f"Error 404: {LATER}"),
    status("404 No", {"detail": f"No luck {KEY}"}, r'Response 404: {"detail": "No luck \*\*\*"}'),
    status("404 No", b"", "Response 404", "text/plain"),
    status("404 No", {"error": {"message": "model 'gpt-4' not found"}}, "Error 404: model .* not found", hint=MODELS),
    status("400 No", b"Invalid Model", "Response 400: Invalid Model", "text/plain", MODELS),
    status(
        "400 No",
        b"This model is <b>full</b>: n <4096 and >0",
        "Response 400: This model is full : n <4096 and >0",
        "text/plain",
    ),
    status("402 Pay", b"No luck", "Response 402: No luck", "text/plain"),
    status("404 No", b"No\x1b[31m \x07luck\x7f\xc2\x9b", r"Response 404: No\[31m luck", "text/plain"),
    status("404 No", b"No luck", UNREAD.format("JSONDecodeError: .*")),
    status("404 No", b"No \xff luck", UNREAD.format("UnicodeDecodeError: .*"), "text/plain"),
    silence("a status that stalls", DOWN[:-1]),
    # Tried again
    row(
        "busy and down, and no fourth try",
        *(BUSY, DOWN, reply(b"", "502 Bad", "text/html"), answer("Hello")),
        error="Response 502: Bad Gateway",
        requests=3,
        notice="Error 429: Busy; trying again in 1 s\nResponse 503: Down; trying again in 2 s\n",
    ),
    row("busy in a chunk", SSE + failing("Busy", code=429), answer("Hi"), text="Hi", notice=AGAIN, requests=2),
    # Bad chunks
    row("an error before the text", SSE + failing("No luck"), error=r"No luck \*\*\*"),
    bad("busy", failing("Busy", code=429), r"Error 429: Busy \*\*\*"),
    bad("an error with a name", failing("No luck", code="overloaded"), r"Error overloaded: No luck \*\*\*"),
    bad("an error without a message", data({"error": {"type": "no_luck"}}), r"ResponseError: {'type': 'no_luck'}"),
    bad("null for an error", data({"error": None}), UNREAD.format("TypeError: .*")),
    bad("a delta of null", data({"choices": [{"delta": None}]}), UNREAD.format("AttributeError: .*")),
    bad("invalid JSON", b"data: {oops\n\n", "Invalid JSON data: b'{oops'"),
    bad("60 kB of invalid JSON", b"data: {" + b"oops" * 15_000 + b"\n\n", r"Invalid JSON data: b'{[ops]{278}\.\.\."),
    bad("a chunk of 600 kB", delta("a" * 600_000), "400, message: Got more than 524288 bytes .*"),
    # No streams
    row("200 with an error", reply({"error": f"No luck {KEY}"}), error=r"Error 200: No luck \*\*\*"),
    row("200 with a completion", whole("Hello", "stop"), text="Hello"),
    row("200 with half of a completion", whole("Hello", "stop")[:-9], error=INCOMPLETE),
    row("200 with a completion cut short", whole("Hel", "length"), text="Hel", notice=CUT.format("was", "length")),
    row("200 with a tool call", whole(None, "x", tool_calls=CALLS), error=r"the model sent no text .*: x\)"),
    row("200 with an empty object", reply({}), error="the model sent no text .*: none.*"),
    # g4f takes whatever else comes for a file that is named after a model, which it does not know yet.
    row("200 with a login page", reply(PAGE, kind="text/html"), error=UNREAD.format("UnboundLocalError: .*")),
    # Streams of odd forms
    hello("no [DONE]", HELLO, STOP),
    hello("no finish reason", HELLO, DONE, notice=MAYBE_CUT),
    hello("a finish reason with the last text", delta("Hel"), delta("lo", "stop"), DONE),
    hello("an empty finish reason with every piece", delta("Hel", ""), delta("lo", ""), finish()),
    hello("empty finish reasons alone", delta("Hel", ""), delta("lo", ""), DONE, notice=MAYBE_CUT),
    hello("a finish reason of length", HELLO, finish("length"), notice=CUT.format("was", "length")),
    hello("content_filter", HELLO, finish("content_filter"), notice=CUT.format("was", "content_filter")),
    row("left open after the finish", [SSE + HELLO + STOP, HANG], text="Hello"),
    hello("contents of null, usage and no choices", delta(None), USAGE, HELLO, USAGE, data({}), finish()),
    hello("thoughts between", THOUGHT, delta("Hel"), THOUGHT, delta("lo", reasoning="Hm"), finish()),
    hello("comments, CRLF and other fields", PING, b"event: e\r\nid: 7\r\n", HELLO.replace(b"\n", b"\r\n"), finish()),
    row("half an emoji in each of two chunks", answer("Hello \ud83d", "\ude00!"), text="Hello 😀!"),
    row("half an emoji alone", answer("\ude00Hel\ud83d", "lö"), text="\ufffdHel\ufffdlö"),
    nothing("[DONE] alone", DONE, reason="none"),
    nothing("usage alone", USAGE, DONE, reason="none"),
    nothing("white space alone", delta(" \n"), finish(), reason="stop"),
    nothing("thoughts alone", THOUGHT, finish("length"), reason="length"),
    nothing("tool calls alone", delta(None, tool_calls=CALLS), finish("tool_calls"), reason="tool_calls"),
    # Signs of life
    silence("keep-alives for ever", SSE, *slowly(PING)),
    silence("empty deltas for ever", SSE + HELLO, *slowly(delta("")), text="Hello"),
    row("thoughts for longer than the limit", [SSE, *slowly(THOUGHT, 12), HELLO + finish()], text="Hello", timeout=1),
]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("fault", FAULTS)
def test_the_user_sees_the_text_and_one_honest_line(
    fault: Any, serve: Callable[..., Server], capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripts, text, said, timeout, count = fault
    for name, key in (("OPENAI", f" {KEY}\n"), ("EMPTY", ""), ("SHORT", "No")):
        monkeypatch.setenv(f"{name}_API_KEY", key)
    shown.clear()
    server = serve(*scripts)
    with contextlib.redirect_stdout(Stdout()) as stdout:
        status = asyncio.run(main(base_url=server.url if scripts else "http://127.0.0.1:1/v1", timeout=timeout))
    err = capsys.readouterr().err
    assert stdout.getvalue() == f"{text}\n\nFinal accumulated text: {text}\n"
    assert re.fullmatch(said, err), err
    assert status == (1 if "Error occurred" in said else None)
    assert [request.headers["authorization"] for request in server.requests] == [f"Bearer {KEY}"] * count
    assert KEY not in err and max(map(len, ["", *err.splitlines()])) < 320


def provider(*chunks: Any) -> type[AsyncGeneratorProvider]:
    """Return a provider that yields chunks, and raises those that are exceptions."""

    class Provider(AsyncGeneratorProvider):  # type: ignore[misc]
        working = True

        @classmethod
        async def create_async_generator(cls, model: str, messages: Any, **kwargs: Any) -> AsyncIterator[Any]:
            for chunk in chunks:
                if isinstance(chunk, Exception):
                    raise chunk
                yield chunk

    return Provider


@pytest.mark.parametrize(
    ("chunk", "text"),
    [
        (SourceLink("1", "http://h/"), " [[1]](http://h/)"),
        (Sources([{"url": "http://h/", "title": "T"}]), "\n\n\n\n> [0] [T](http://h/)"),
        (ImageResponse("http://h/i.png", "A"), "[![A](http://h/i.png)](http://h/i.png)"),
        (Reasoning("Hm"), ""),
        (ToolCalls(CALLS), ""),
    ],
)
def test_what_is_no_string_is_printed_as_g4f_words_it(chunk: Any, text: str, capsys: Capture) -> None:
    assert asyncio.run(main(provider=provider(chunk, "a", chunk, "b", chunk))) is None
    text = f"{text}a{text}b{text}"
    assert capsys.readouterr() == (f"{text}\n\nFinal accumulated text: {text}\n", "")


def test_a_provider_may_send_text_after_a_finish_reason_or_an_image_alone(capsys: Capture) -> None:
    for chunks in ["Hel", FinishReason("length"), FinishReason(""), "lo"], [ImageResponse("http://h/", "A")]:
        assert asyncio.run(main(provider=provider(*chunks), quiet=True)) is None
    told = "The answer was cut short (finish reason: length).\n"
    assert capsys.readouterr() == ("Hello\n[![A](http://h/)](http://h/)\n", told)


UNREACHED = urllib3.exceptions.MaxRetryError(None, "/", OSError("No luck"))  # type: ignore[arg-type]
FAILED = errors.RetryProviderError(f"All failed:\nA: OSError: No\nluck\nB: OSError: {'x' * 200}\nC: OSError: Oops")


@pytest.mark.parametrize(
    ("raised", "said"),
    [
        (ValueError("No luck\nA: B: C"), "No luck A: B: C"),
        (ValueError(), "ValueError:"),
        (ValueError("Oops"), "ValueError: Oops"),
        (KeyError("choices"), "g4f could not read the answer (KeyError: 'choices')"),
        (TimeoutError(), "TimeoutError:"),
        (OSError(104, "Reset by peer"), "ConnectionResetError: [Errno 104] Reset by peer"),
        (errors.MissingAuthError("Add an api_key"), "Add an api_key"),
        (errors.RateLimitError("Response 429: Busy"), "Response 429: Busy"),
        (OSError("Connect call failed"), "Connect call failed"),
        (
            UnicodeEncodeError("ascii", "é", 0, 1, "no"),
            "UnicodeEncodeError: 'ascii' codec can't encode character '\\xe9' in position 0: no",
        ),
        (requests.ConnectionError(UNREACHED), "No luck"),
        (FAILED, f"All failed:\n  A: OSError: No luck\n  B: OSError: {'x' * 138}...\n  C: OSError: Oops"),
    ],
)
def test_whatever_a_provider_raises_is_told_in_short(raised: Exception, said: str, capsys: Capture) -> None:
    assert asyncio.run(main(provider=provider("Hello", raised))) == 1
    out, err = capsys.readouterr()
    assert out == "Hello\n\nFinal accumulated text: Hello\n"
    assert err.replace(" \n", "\n") == f"Error occurred: {said}\n{CHECK}\n"


def test_names_like_that_of_an_unknown_provider_are_told(capsys: Capture) -> None:
    assert asyncio.run(main(provider="PollinationsA")) == 1
    told = r"Error occurred: Provider not found: PollinationsA\nSimilar names: Pollinations\w*, \w+, \w+\.\n"
    assert re.fullmatch(told, capsys.readouterr().err)

"""Whatever a server does, the user sees the text and one honest line: a table of faults, played to `main()`."""

import asyncio
import contextlib
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import requests
from g4f import errors
from g4f.providers.response import (
    FinishReason,
    ImageResponse,
    Reasoning,
    SourceLink,
    Sources,
    ToolCalls,
)

from loopback import DONE, HANG, RESET, SSE, Server, Step, answer, data, delta, finish, reply
from messages_stream import main
from program import NO_PATH, NO_PROVIDER, NO_SERVER, SLOW, Stdout, final
from providers import provider

Capture = pytest.CaptureFixture[str]
KEY = "sk-loopback-4f1e9c8b7a6d5e3f"  # which a server may put into whatever it says
HELLO, STOP = delta("Hello"), delta(None, "stop")
THOUGHT, PING = delta(None, reasoning_content="Hm"), b": ping\n\n"
USAGE = data({"choices": [], "usage": {"total_tokens": 1}})
CALLS = [{"index": 0, "id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
PAGE = f"<html class='{KEY}'><h1>No luck {KEY}</h1>{'<p>Come back</p>' * 500}".encode()
SIZED = SSE.replace(b"Connection: close", b"Content-Length: 999")
CHUNKED = SSE.replace(b"Connection: close", b"Transfer-Encoding: chunked") + b"fff\r\n"
BUSY = reply({"error": {"message": f"Busy {KEY}"}}, "429 Too Many Requests")
DOWN = reply(b"Down", "503 Service Unavailable", "text/plain")
SET_KEY = "Set OPENAI_API_KEY to a key that the server accepts.\n"

MAYBE_CUT = "The answer may have been cut short (finish reason: none).\n"

# What a script waits for that is to go on when the text before it has been printed.
_printed = threading.Event()


def printed() -> None:
    _printed.wait()


@dataclass
class Fault:
    """What a server sends, connection by connection, and what the user sees of it."""

    sends: Any = ()
    prints: str = ""
    tells: str = ""  # with the server's host for HOST, and anything for ...
    timeout: float = 10
    requests: int = 1


def failing(message: str, **fields: Any) -> bytes:
    """Return the event of an error."""
    return data({"error": {"message": message, **fields}})


def completion(content: str | None, reason: str, **fields: Any) -> bytes:
    """Return a whole response that is a completion, not a stream."""
    return reply(
        {"choices": [{"message": {"content": content, **fields}, "finish_reason": reason}]}
    )


def slowly(event: bytes, times: int = 40) -> list[Step]:
    """Return the steps that send an event ten times a second."""
    return [lambda: time.sleep(0.1), event] * times


def no_text(reason: str) -> str:
    return f"Error occurred: the model sent no text (finish reason: {reason})\n"


def unread(kind: str) -> str:
    return f"Error occurred: g4f could not read the answer ({kind})\n"


def cut(reason: str) -> str:
    return f"The answer may have been cut short (finish reason: {reason}).\n"


SILENT = f"Error occurred: HOST sent nothing for 0.5 seconds\n{SLOW}"
STALLED = "Error occurred: HOST sent nothing for 0.5 seconds\n"
BROKEN = "Error occurred: Response payload is not completed: ...\n"

FAULTS = {
    # Before the headers
    "a closed port": Fault(
        tells=f"Error occurred: Cannot connect to host ...Connect call failed...\n{NO_SERVER}",
        requests=0,
    ),
    "no HTTP": Fault([b"SSH-2.0-OpenSSH_9.6\r\n\r\n"], tells=f"...Bad status line...{NO_SERVER}"),
    "reset before the headers": Fault([[RESET]], tells=f"...Connection reset by peer\n{NO_SERVER}"),
    "cut off before the headers": Fault(
        [b""], tells=f"Error occurred: Server disconnected\n{NO_SERVER}"
    ),
    "cut off in the headers": Fault(
        [SSE[:30]], tells=f"Error occurred: <RawResponseMessage...>\n{NO_SERVER}"
    ),
    "never answering": Fault([[HANG]], tells=SILENT, timeout=0.5),
    "stalling in the headers": Fault([[SSE[:30], HANG]], tells=SILENT, timeout=0.5),
    # After the headers
    "cut off after the headers": Fault([SSE], tells=no_text("none")),
    "stalling before the text": Fault([[SSE, HANG]], tells=SILENT, timeout=0.5),
    "stalling in the text": Fault([[SSE + HELLO, HANG]], "Hello", STALLED, timeout=0.5),
    "cut off in the text": Fault([[SSE + HELLO, printed]], "Hello", MAYBE_CUT),
    "reset in the text": Fault([[SSE + HELLO, printed, RESET]], "Hello", MAYBE_CUT),
    "cut off in a text of known length": Fault([[SIZED + HELLO, printed]], "Hello", BROKEN),
    "reset in a text of known length": Fault([[SIZED + HELLO, printed, RESET]], "Hello", BROKEN),
    "cut off in a chunked text": Fault([[CHUNKED + HELLO, printed]], "Hello", BROKEN),
    "reset in a chunked text": Fault([[CHUNKED + HELLO, printed, RESET]], "Hello", BROKEN),
    # Statuses
    "400 with a code": Fault(
        [reply({"error": {"message": f"No luck {KEY}", "code": "x"}}, "400 No")],
        tells="Error occurred: Error 400: Error x: No luck ***\n",
    ),
    "400 with the shortest key": Fault(
        [reply(b"7-chars is no key; try: ollama pull", "400 No", "text/plain")],
        tells="Error occurred: Response 400: *** is no key; try: ollama pull\n",
    ),
    "400 for a full context": Fault(
        [reply({"error": {"message": "maximum context length is 8192 tokens"}}, "400 No")],
        tells="Error occurred: Error 400: maximum context length is 8192 tokens\n",
    ),
    "401 in JSON": Fault(
        [reply({"error": {"message": "No luck", "code": 401}}, "401 No")],
        tells=f"Error occurred: Error 401: Error 401: No luck\n{SET_KEY}",
    ),
    "401 in plain text": Fault(
        [reply(b"No luck", "401 No", "text/plain")],
        tells=f"Error occurred: Response 401: No luck\n{SET_KEY}",
    ),
    "402 for a spent quota": Fault(
        [reply({"error": f"No luck {KEY}"}, "402 Pay")],
        tells="Error occurred: Error 402: No luck ***\n",
    ),
    "402 in plain text": Fault(
        [reply(b"No luck", "402 Pay", "text/plain")],
        tells="Error occurred: Response 402: No luck\n",
    ),
    "403 with a page": Fault(
        [reply(PAGE, "403 No", "text/html")], tells="Error occurred: Response 403: HTML content\n"
    ),
    "404 with a long text": Fault(
        [reply(PAGE, "404 No", "text/plain")],
        tells=f"Error occurred: Response 404: <html class='***'>...Come back...\n{NO_PATH}",
    ),
    "404 with a detail": Fault(
        [reply({"detail": f"No luck {KEY}"}, "404 No")],
        tells=f'Error occurred: Response 404: {{"detail": "No luck ***"}}\n{NO_PATH}',
    ),
    "404 with nothing": Fault(
        [reply(b"", "404 No", "text/plain")], tells=f"Error occurred: Response 404\n{NO_PATH}"
    ),
    "404 for a model": Fault(
        [reply({"error": {"message": "model 'gpt-4' not found"}}, "404 No")],
        tells=f"Error occurred: Error 404: model 'gpt-4' not found\n{NO_PATH}",
    ),
    "404 with control characters": Fault(
        [reply(b"No\x1b[31m \x07luck\x7f\xc2\x9b", "404 No", "text/plain")],
        tells=f"Error occurred: Response 404: No[31m luck\n{NO_PATH}",
    ),
    "404 with no JSON": Fault(
        [reply(b"No luck", "404 No")], tells=unread("JSONDecodeError") + NO_PATH
    ),
    "404 with no UTF-8": Fault(
        [reply(b"No \xff luck", "404 No", "text/plain")],
        tells=unread("UnicodeDecodeError") + NO_PATH,
    ),
    "a status that stalls": Fault([[DOWN[:-1], HANG]], tells=SILENT, timeout=0.5),
    # Tried again
    "busy and down, and no fourth try": Fault(
        [BUSY, DOWN, reply(b"", "502 Bad", "text/html"), answer("Hello")],
        tells="Error 429: Busy ***; trying again in 1 s\n"
        "Response 503: Down; trying again in 2 s\n"
        "Error occurred: Response 502: Bad Gateway\n",
        requests=3,
    ),
    "busy in a chunk": Fault(
        [SSE + failing("Busy", code=429), answer("Hi")],
        "Hi",
        "Error 429: Busy; trying again in 1 s\n",
        requests=2,
    ),
    "busy with a status of 200": Fault(
        [reply({"error": {"message": "Busy", "code": 500}}), answer("Hi")],
        "Hi",
        "Error 200: Error 500: Busy; trying again in 1 s\n",
        requests=2,
    ),
    "busy after the text": Fault(
        [SSE + HELLO + failing("Busy", code=429)], "Hello", "Error occurred: Error 429: Busy\n"
    ),
    # Bad chunks
    "an error before the text": Fault(
        [SSE + failing(f"No luck {KEY}")], tells="Error occurred: No luck ***\n"
    ),
    "an error with a control character in the key": Fault(
        [SSE + failing(f"No luck {KEY[:9]}\0{KEY[9:]}")], tells="Error occurred: No luck ***\n"
    ),
    "an error with a name": Fault(
        [SSE + HELLO + failing("No luck", code="overloaded")],
        "Hello",
        "Error occurred: Error overloaded: No luck\n",
    ),
    "an error without a message": Fault(
        [SSE + HELLO + data({"error": {"type": "no_luck"}})],
        "Hello",
        "Error occurred: {'type': 'no_luck'}\n",
    ),
    "null for an error": Fault([SSE + HELLO + data({"error": None})], "Hello", unread("TypeError")),
    "a delta of null": Fault(
        [SSE + HELLO + data({"choices": [{"delta": None}]})], "Hello", unread("AttributeError")
    ),
    "null for the choices": Fault(
        [SSE + data({"choices": None})], tells=unread("TypeError") + NO_PATH
    ),
    "invalid JSON": Fault(
        [SSE + HELLO + b"data: {oops\n\n"], "Hello", "Error occurred: Invalid JSON data: b'{oops'\n"
    ),
    "60 kB of invalid JSON": Fault(
        [SSE + HELLO + b"data: {" + b"oops" * 15_000 + b"\n\n"],
        "Hello",
        f"Error occurred: Invalid JSON data: b'{{{'oops' * 69}oo...\n",
    ),
    "a chunk of 600 kB": Fault(
        [SSE + HELLO + delta("a" * 600_000)],
        "Hello",
        "Error occurred: ...more than 524288 bytes...\n",
    ),
    # No streams
    "200 with an error": Fault(
        [reply({"error": f"No luck {KEY}"})], tells="Error occurred: Error 200: No luck ***\n"
    ),
    "200 with a completion": Fault([completion("Hello", "stop")], "Hello"),
    "200 with half of a completion": Fault(
        [completion("Hello", "stop")[:-9]], tells=BROKEN + NO_SERVER
    ),
    "200 with a completion cut short": Fault([completion("Hel", "length")], "Hel", cut("length")),
    "200 with a tool call": Fault([completion(None, "x", tool_calls=CALLS)], tells=no_text("x")),
    "200 with an empty object": Fault([reply({})], tells=no_text("none")),
    "200 with a web page": Fault(
        [reply(PAGE, kind="text/html")], tells=unread("UnboundLocalError") + NO_PATH
    ),
    # Ends
    "no [DONE]": Fault([SSE + HELLO + STOP], "Hello"),
    "no finish reason": Fault([SSE + HELLO + DONE], "Hello", MAYBE_CUT),
    "a finish reason with the last text": Fault(
        [SSE + delta("Hel") + delta("lo", "stop") + DONE], "Hello"
    ),
    "stop with every piece, which come slowly": Fault(
        [[SSE + delta("Hel", "stop"), printed, *slowly(delta("lo", "stop"), 1), DONE]], "Hello"
    ),
    "stop in a first, empty chunk": Fault(
        [SSE + delta("", "stop") + delta("Hel") + delta("lo") + finish()], "Hello"
    ),
    "stop before more text, and a reset": Fault(
        [[CHUNKED + delta("Hel", "stop") + delta("lo"), printed, RESET]], "Hello", BROKEN
    ),
    "length before more text and another end": Fault(
        [SSE + delta("Hel", "length") + delta("lo") + finish()], "Hello"
    ),
    "an empty finish reason with every piece": Fault(
        [SSE + delta("Hel", "") + delta("lo", "") + finish()], "Hello"
    ),
    "empty finish reasons alone": Fault(
        [SSE + delta("Hel", "") + delta("lo", "") + DONE], "Hello", MAYBE_CUT
    ),
    "an empty finish reason after another": Fault(
        [SSE + HELLO + delta("", "length") + delta("", "") + DONE], "Hello", cut("length")
    ),
    "left open after the end": Fault([[SSE + HELLO + STOP, HANG]], "Hello", timeout=0.5),
    "reset after the end": Fault([[CHUNKED + HELLO + STOP, printed, RESET]], "Hello"),
    "an error after the end": Fault(
        [SSE + HELLO + STOP + failing("No luck")], "Hello", "Error occurred: No luck\n"
    ),
    **{
        f"the finish reason {reason}": Fault([SSE + HELLO + finish(reason)], "Hello", cut(reason))
        for reason in (
            *("length", "MAX_TOKENS", "model_length", "content_filter", "SAFETY"),
            *("error", "abort", "insufficient_system_resource"),
        )
    },
    **{
        f"the finish reason {reason}": Fault([SSE + HELLO + finish(reason)], "Hello")
        for reason in ("stop", "STOP", "stop_sequence", "eos", "end_turn", "tool_calls")
    },
    "a finish reason with control characters and a key": Fault(
        [SSE + HELLO + finish(f"\x1b]0;no\n{KEY}")], "Hello", cut("]0;no ***")
    ),
    # Streams of odd forms
    "contents of null, usage and no choices": Fault(
        [SSE + delta(None) + USAGE + HELLO + USAGE + data({}) + finish()], "Hello"
    ),
    "thoughts between": Fault(
        [SSE + THOUGHT + delta("Hel") + THOUGHT + delta("lo", reasoning="Hm") + finish()], "Hello"
    ),
    "comments, CRLF and other fields": Fault(
        [SSE + PING + b"event: e\r\nid: 7\r\n" + HELLO.replace(b"\n", b"\r\n") + finish()], "Hello"
    ),
    "half an emoji in each of two chunks": Fault([answer("Hello \ud83d", "\ude00!")], "Hello 😀!"),
    "half an emoji alone": Fault([answer("\ude00Hel\ud83d", "lö")], "\ufffdHel\ufffdlö"),
    "[DONE] alone": Fault([SSE + DONE], tells=no_text("none")),
    "usage alone": Fault([SSE + USAGE + DONE], tells=no_text("none")),
    "white space alone": Fault([answer(" \n")], tells=no_text("stop")),
    "thoughts alone": Fault([SSE + THOUGHT + finish("length")], tells=no_text("length")),
    "a finish reason alone, and broken off": Fault(
        [[SIZED + STOP]], tells=f"...Response payload is not completed...{NO_SERVER}"
    ),
    "a status in what is said": Fault(
        [SSE + failing("The plugin said: Error 500")],
        tells="Error occurred: The plugin said: Error 500\n",
    ),
    "tool calls alone": Fault(
        [SSE + delta(None, tool_calls=CALLS) + finish("tool_calls")], tells=no_text("tool_calls")
    ),
    # Signs of life
    "keep-alives for ever": Fault([[SSE, *slowly(PING), HANG]], tells=SILENT, timeout=0.5),
    "empty deltas for ever": Fault(
        [[SSE + HELLO, *slowly(delta("")), HANG]], "Hello", STALLED, timeout=0.5
    ),
    "thoughts for longer than the limit": Fault(
        [[SSE, *slowly(THOUGHT, 12), HELLO + finish()]], "Hello", timeout=1
    ),
}


# What a dependency says of its own use of another, a DeprecationWarning, is no fault of the program's.
@pytest.mark.filterwarnings(
    "error::RuntimeWarning",
    "error::ResourceWarning",
    "error::pytest.PytestUnraisableExceptionWarning",
)
@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_the_user_sees_the_text_and_one_honest_line(
    fault: Fault,
    serve: Callable[..., Server],
    capsys: Capture,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    keys = {
        "OPENAI": f" {KEY}\n",
        "EMPTY": "",
        "DUMMY": "none",
        "WORD": "ollama",
        "LEAST": "7-chars",
    }
    for name, key in keys.items():
        monkeypatch.setenv(f"{name}_API_KEY", key)
    _printed.clear()
    server = serve(*fault.sends)
    url = server.url if fault.sends else "http://127.0.0.1:1/v1"
    with contextlib.redirect_stdout(Stdout()) as stdout:
        stdout.has_text = _printed
        status = asyncio.run(main(base_url=url, timeout=fault.timeout))
    warnings = "".join(f"{warning}\n" for warning in caplog.messages)
    told = warnings + capsys.readouterr().err
    assert stdout.getvalue() == final(fault.prints)
    pattern = re.escape(fault.tells.replace("HOST", f"127.0.0.1:{server.port}"))
    assert re.fullmatch(pattern.replace(r"\.\.\.", ".*?"), told, re.DOTALL), told
    assert status == (1 if "Error occurred" in told else None)
    sent = [request.headers["authorization"] for request in server.requests]
    assert sent == [f"Bearer {KEY}"] * fault.requests
    assert KEY not in told and max(map(len, ["", *told.splitlines()])) < 330


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
def test_what_is_no_string_is_printed_as_g4f_words_it(
    chunk: Any, text: str, capsys: Capture
) -> None:
    assert asyncio.run(main(provider=provider(chunk, "a", chunk, "b", chunk))) is None
    assert capsys.readouterr() == (final(f"{text}a{text}b{text}"), "")


def test_a_provider_may_send_an_image_alone_and_no_finish_reason(capsys: Capture) -> None:
    image = ImageResponse("http://h/", "A")
    assert asyncio.run(main(provider=provider(image), quiet=True)) is None
    assert capsys.readouterr() == ("[![A](http://h/)](http://h/)\n", "")


def test_a_provider_that_says_nothing_has_sent_no_text(capsys: Capture) -> None:
    assert asyncio.run(main(provider=provider())) == 1
    assert capsys.readouterr() == (final(""), no_text("none"))


def test_a_connection_lost_after_the_end_is_no_error(capsys: Capture) -> None:
    lost = provider("Hello", FinishReason("stop"), ConnectionResetError("Gone"))
    assert asyncio.run(main(provider=lost)) is None
    assert capsys.readouterr() == (final("Hello"), "")


def test_a_named_provider_that_is_busy_is_asked_again(
    capsys: Capture, caplog: pytest.LogCaptureFixture
) -> None:
    busy = provider(errors.RateLimitError("Response 429: Busy"))
    assert asyncio.run(main(provider=busy)) == 1
    assert capsys.readouterr() == (final(""), "Error occurred: Response 429: Busy\n")
    pauses = [f"Response 429: Busy; trying again in {pause} s" for pause in (1, 2)]
    assert caplog.messages == pauses


def test_a_named_provider_tells_a_cut_answer_too(capsys: Capture) -> None:
    cut_short = provider("Hello", FinishReason("length"), FinishReason(None))
    assert asyncio.run(main(provider=cut_short)) is None
    assert capsys.readouterr() == (final("Hello"), cut("length"))


FAILED = errors.RetryProviderError(
    f"RetryProvider failed:\nA: OSError: No\nluck\nB: OSError: {'x' * 200}\nC: OSError: Oops"
)


@pytest.mark.parametrize(
    ("raised", "told"),
    [
        (ValueError("No luck\nA: B: C"), "No luck A: B: C"),
        (ValueError(), "ValueError"),
        (ValueError("Oops"), "ValueError Oops"),
        (KeyError("choices"), "g4f could not read the answer (KeyError)"),
        (TimeoutError(), "TimeoutError"),
        (OSError(5, "Input/output error"), "[Errno 5] Input/output error"),
        (errors.MissingAuthError("Add an api_key"), "Add an api_key"),
        (errors.RateLimitError("Response 402: Pay"), "Response 402: Pay"),
        (errors.ProviderNotFoundError("Nobody is there"), "Nobody is there"),
        (
            FAILED,
            "all providers failed\n"
            + f"  A: OSError: No\n  B: OSError: {'x' * 138}...\n  C: OSError: Oops\n"
            + NO_PROVIDER.rstrip(),
        ),
        (
            requests.ConnectionError("No route to host"),
            "No route to host",
        ),
    ],
)
def test_whatever_a_provider_raises_is_told_in_short(
    raised: Exception, told: str, capsys: Capture
) -> None:
    assert asyncio.run(main(provider=provider(raised))) == 1
    assert capsys.readouterr() == (final(""), f"Error occurred: {told}\n")


def test_once_there_is_text_nothing_is_suggested_and_nobody_asked_again(capsys: Capture) -> None:
    assert (
        asyncio.run(main(provider=provider("Hello", errors.RateLimitError("Response 429: Busy"))))
        == 1
    )
    assert capsys.readouterr() == (final("Hello"), "Error occurred: Response 429: Busy\n")


@pytest.mark.parametrize(
    ("name", "similar"),
    [
        ("PollinationsA", "Pollinations"),
        ("openai", "OpenAIFM"),
        ("copilotap\x1b", "CopilotApp"),
    ],
)
def test_names_like_that_of_an_unknown_provider_are_told(
    name: str, similar: str, capsys: Capture
) -> None:
    assert asyncio.run(main(provider=name)) == 1
    told = rf"Error occurred: Provider not found: \w+\nSimilar names: {similar}, \w+, \w+\.\n"
    assert re.fullmatch(told, capsys.readouterr().err)

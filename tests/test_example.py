"""`main()`, `sync_stream()` and `async_stream()`, as somebody uses them who has copied the module."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import io
import os
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from g4f.client import AsyncClient, Client, create_custom_provider
from g4f.providers.base_provider import AsyncGeneratorProvider

import messages_stream
from loopback import HANG, SSE, Server, answer, delta, finish, reply
from messages_stream import async_stream, main, sync_stream
from program import LIMIT, PATH

Serve = Callable[..., Server]
HELLO = "Hello there!\n\nFinal accumulated text: Hello there!\n"


@pytest.fixture
def default_server(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Server]:
    """Make a server the default provider of both clients, so that calls without arguments reach it."""

    def start(*scripts: Any) -> Server:
        server = serve(*scripts)
        provider = create_custom_provider(server.url, models=["gpt-4"])
        for client in (AsyncClient, Client):
            monkeypatch.setattr(messages_stream, client.__name__, functools.partial(client, provider=provider))
        return server

    return start


@pytest.mark.parametrize("pieces", [("Hello there!",), ("Hello", " there", "!"), tuple("Hello there!")])
def test_main_prints_the_answer_and_then_all_of_it(
    default_server: Serve, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, pieces: tuple[str, ...]
) -> None:
    monkeypatch.setattr(sys, "argv", ["program", "--quiet", "Not for main()"])
    server = default_server(answer(*pieces))
    assert asyncio.run(main()) is None
    assert capsys.readouterr() == (HELLO, "")
    assert server.requests[0].json["messages"] == [{"role": "user", "content": "Say hello there!"}]
    assert server.requests[0].json["model"] == "gpt-4"
    assert server.requests[0].json["stream"] is True


def test_main_is_awaited_in_somebody_elses_loop_which_goes_on_meanwhile(
    serve: Serve, capsys: pytest.CaptureFixture[str]
) -> None:
    free = threading.Event()
    server = serve([SSE, delta("Hello there!"), free.wait, finish()])

    async def somebody_else() -> int | None:
        task = asyncio.create_task(main(base_url=server.url))
        while not server.requests:
            await asyncio.sleep(0.01)
        free.set()
        return await task

    assert asyncio.run(somebody_else()) is None
    assert capsys.readouterr() == (HELLO, "")


def test_main_tells_an_error_and_returns_a_status(serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    server = serve(reply({"error": {"message": "no such model"}}, "404 Not Found"))
    assert asyncio.run(main(base_url=server.url)) == 1
    out, err = capsys.readouterr()
    assert out == "\n\nFinal accumulated text: \n"
    assert err.splitlines()[0] == "Error occurred: Error 404: no such model"


def workers() -> list[threading.Thread]:
    """Return the threads in which main() runs g4f."""
    return [thread for thread in threading.enumerate() if thread.name.endswith("(run)")]


def test_a_cancelled_main_has_printed_what_arrived_and_closed_the_connection(
    serve: Serve, capsys: pytest.CaptureFixture[str]
) -> None:
    server = serve([SSE, delta("Hel"), HANG])

    async def cancel_it() -> None:
        task = asyncio.create_task(main(base_url=server.url))
        while "Hel" not in (printed := capsys.readouterr().out):
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert printed + capsys.readouterr().out == "Hel\n\nFinal accumulated text: Hel\n"
        assert not workers()

    asyncio.run(cancel_it())
    assert server.closed.acquire(timeout=LIMIT)


def test_nothing_is_printed_while_its_loop_stands_still(
    serve: Serve, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    more = threading.Event()
    server = serve([SSE, delta("Hel"), more.wait, delta("lo"), HANG])
    loop = asyncio.new_event_loop()
    task = loop.create_task(main(base_url=server.url))

    async def wait() -> None:
        while capsys.readouterr().out != "Hel":
            await asyncio.sleep(0.01)

    loop.run_until_complete(wait())
    waiting, call = threading.Event(), loop.call_soon_threadsafe
    monkeypatch.setattr(loop, "call_soon_threadsafe", lambda *args: (call(*args), waiting.set()))
    more.set()
    waiting.wait(LIMIT / 10)
    assert capsys.readouterr().out == ""
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(task)
    loop.close()
    rest, text = capsys.readouterr().out.split("\n\nFinal accumulated text: ")
    assert f"Hel{rest}\n" == text


def test_a_loop_may_be_run_step_by_step(serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    server = serve(answer("Hel", "lo", " there!"))
    loop = asyncio.new_event_loop()
    task = loop.create_task(main(base_url=server.url))
    while not task.done():
        loop.call_soon(loop.stop)
        loop.run_forever()
        time.sleep(0.01)  # what a game or a window does besides
    loop.close()
    assert (task.result(), *capsys.readouterr()) == (None, HELLO, "")


def test_a_slow_reader_is_not_taken_for_a_sign_of_life_of_another_answer(
    serve: Serve, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stdout(io.StringIO):
        def write(self, text: str) -> int:
            time.sleep(0.05)
            return super().write(text)

    async def both() -> None:
        other = asyncio.create_task(main(base_url=serve(answer(*"Hello there!" * 5)).url))
        assert await main(base_url=serve([HANG]).url, timeout=0.5) == 1
        assert not other.done()
        await other

    monkeypatch.setattr(sys, "stdout", Stdout())
    asyncio.run(both())
    assert "gpt-4 sent nothing for 0.5 seconds" in capsys.readouterr().err


def test_a_loop_that_always_comes_round_late_does_not_put_off_the_time_limit(
    serve: Serve, capsys: pytest.CaptureFixture[str]
) -> None:
    async def block() -> None:
        for _ in range(40):
            time.sleep(0.3)
            await asyncio.sleep(0)

    async def both() -> None:
        blocking = asyncio.create_task(block())
        assert await main(base_url=serve([HANG]).url, timeout=0.5) == 1
        assert not blocking.done()
        blocking.cancel()

    asyncio.run(both())
    assert "gpt-4 sent nothing for 0.5 seconds" in capsys.readouterr().err


def test_all_is_printed_in_the_context_of_the_caller(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    caller, callers = contextvars.ContextVar("caller", default=""), []

    class Stdout(io.StringIO):
        def write(self, text: str) -> int:
            callers.append(caller.get())
            return super().write(text)

    async def call() -> int | None:
        caller.set("me")
        return await main(base_url=serve(answer("Hel", "lo")).url)

    monkeypatch.setattr(sys, "stdout", Stdout())
    assert asyncio.run(call()) is None
    assert set(callers) == {"me"}


def test_a_stdout_that_is_none_is_an_error(
    serve: Serve, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdout", object())
    assert asyncio.run(main(base_url=serve(answer("Hello")).url)) == 1
    assert capsys.readouterr().err.startswith("Error occurred: stdout cannot be written (")


def test_half_a_pair_of_surrogates_is_a_question_mark(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, "utf-8"))
    messages_stream.show("a\ud800b")
    assert written.getvalue() == b"a?b"


@pytest.mark.parametrize("isatty", [False, None, lambda stdout: 1 / 0])
def test_a_stdout_that_cannot_tell_is_no_terminal(
    isatty: Any, serve: Serve, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stdout(io.StringIO):
        pass

    Stdout.isatty = isatty  # type: ignore[method-assign]
    monkeypatch.setattr(sys, "stdout", Stdout())
    assert asyncio.run(main(base_url=serve(SSE + delta("Hel") + b"data: {oops\n\n").url)) == 1
    assert sys.stdout.getvalue() == "Hel\n\nFinal accumulated text: Hel\n"
    assert capsys.readouterr().err.startswith("Error occurred: Invalid JSON data: ")


def test_a_stderr_that_is_none_hides_the_error_and_not_the_text(
    serve: Serve, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", object())
    assert asyncio.run(main(base_url=serve(SSE + delta("Hel") + b"data: {oops\n\n").url)) == 1
    assert capsys.readouterr().out == "Hel\n\nFinal accumulated text: Hel\n"


def test_text_that_comes_too_late_is_not_printed(capsys: pytest.CaptureFixture[str]) -> None:
    late = threading.Event()

    class Provider(AsyncGeneratorProvider):  # type: ignore[misc]
        working = True

        @classmethod
        async def create_async_generator(cls, *args: Any, **kwargs: Any) -> AsyncIterator[str]:
            late.wait()
            yield "Hello there!"

    async def call() -> None:
        assert await main(provider=Provider, timeout=0.1) == 1
        late.set()
        for thread in workers():
            thread.join()

    asyncio.run(call())
    assert capsys.readouterr().out == "\n\nFinal accumulated text: \n"


def test_main_adds_a_turn_to_the_history_only_when_it_was_answered(serve: Serve) -> None:
    server = serve(answer("Hi."), reply(b"", "404 Not Found"), answer("Bye."))
    history: list[dict[str, str]] = []
    for message in ("Hello", "Are you there?", "Bye"):
        asyncio.run(main(message, base_url=server.url, history=history))
    assert (
        server.requests[2].json["messages"]
        == history[:3]
        == [
            {"role": "user", "content": "Hello"},
            {"role": "assistant", "content": "Hi."},
            {"role": "user", "content": "Bye"},
        ]
    )
    assert history[3:] == [{"role": "assistant", "content": "Bye."}]


@pytest.mark.parametrize("stream", [sync_stream, lambda *args: asyncio.run(async_stream(*args))])
@pytest.mark.parametrize(
    ("arguments", "question", "model"),
    [((), messages_stream.QUESTION, "gpt-4"), (("Why?", "other"), "Why?", "other")],
)
def test_both_streams_print_the_answer_to_one_question(
    default_server: Serve, capsys: pytest.CaptureFixture[str], stream: Any, arguments: Any, question: str, model: str
) -> None:
    server = default_server(answer("Use ", "os.walk", "."))
    assert stream(*arguments) == "stop"
    assert capsys.readouterr() == ("Use os.walk.", "")
    sent = server.requests[0].json
    assert (sent["messages"], sent["model"], sent["stream"]) == ([{"role": "user", "content": question}], model, True)


@pytest.mark.parametrize("stream", [sync_stream, lambda *args: asyncio.run(async_stream(*args))])
def test_both_streams_raise_what_g4f_raises(default_server: Serve, stream: Any) -> None:
    default_server(reply({"error": "out of order"}, "400 Bad Request"))
    with pytest.raises(Exception, match="out of order"):
        stream()


def test_an_import_prints_and_starts_nothing_and_connects_to_nothing() -> None:
    script = """if True:
        import asyncio, signal, sys, threading
        events = []
        sys.addaudithook(lambda event, args: events.append(event) if event.startswith("socket.") else None)
        handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
        import messages_stream
        assert [event for event in events if event in ("socket.connect", "socket.getaddrinfo")] == []
        assert threading.active_count() == 1
        assert handlers == (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM))
        assert messages_stream.AsyncClient is sys.modules["g4f.client"].AsyncClient
        assert messages_stream.Client is sys.modules["g4f.client"].Client
    """
    env = {**os.environ, "PYTHONPATH": str(PATH.parent)}
    done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, timeout=LIMIT, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


@pytest.mark.parametrize(("script", "status"), [(answer("Hi"), 0), (reply(b"", "404 Not Found"), 1)])
def test_the_status_of_main_is_right_for_sys_exit(serve: Serve, script: bytes, status: int) -> None:
    code = f"import asyncio, sys, messages_stream as m; sys.exit(asyncio.run(m.main(base_url={serve(script).url!r})))"
    env = {**os.environ, "PYTHONPATH": str(PATH.parent)}
    assert (
        subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, timeout=LIMIT).returncode == status
    )

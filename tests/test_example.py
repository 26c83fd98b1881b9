"""`main()`, `sync_stream()` and `async_stream()`, as somebody uses them who has copied the module."""

import asyncio
import contextlib
import io
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from g4f import errors
from g4f.client import AsyncClient, Client, create_custom_provider
from g4f.providers.base_provider import AsyncGeneratorProvider

import messages_stream
from loopback import HANG, SSE, Server, answer, delta, kept_alive, reply
from messages_stream import ResilientProvider, async_stream, main, sync_stream
from program import LIMIT, PATH

Capture, Serve = pytest.CaptureFixture[str], Callable[..., Server]
FINAL = "\n\nFinal accumulated text: "
OOPS = b"data: {oops\n\n"
NO = reply(b"", "404 Not Found", "text/plain")
BOTH_STREAMS = pytest.mark.parametrize(
    "stream", [sync_stream, lambda *args, **options: asyncio.run(async_stream(*args, **options))], ids=["sync", "async"]
)


def turns(*contents: str) -> list[dict[str, str]]:
    return [{"role": ("user", "assistant")[index % 2], "content": each} for index, each in enumerate(contents)]


@pytest.fixture
def default_server(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> Serve:
    """Make a server what both clients ask, whatever they are told, so that calls without arguments reach it."""

    def start(*scripts: Any) -> Server:
        server = serve(*scripts)
        provider = create_custom_provider(server.url, models=["gpt-4"])
        for client in (AsyncClient, Client):
            monkeypatch.setattr(messages_stream, client.__name__, lambda client=client, **_: client(provider=provider))
        return server

    return start


class Stdout(io.StringIO):
    """Tells when there is text in it that would not stay in a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.printed = threading.Event()

    def flush(self) -> None:
        if self.getvalue():
            self.printed.set()


def test_main_needs_no_argument_and_reads_none_of_the_process(
    default_server: Serve, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["program", "--quiet", "Not for main()"])
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:1")
    server = default_server(answer("Hello", " there!"))
    assert asyncio.run(main()) is None
    assert capsys.readouterr() == (f"Hello there!{FINAL}Hello there!\n", "")
    sent = server.requests[0].json
    assert (sent["messages"], sent["model"], sent["stream"]) == (turns("Say hello there!"), "gpt-4", True)


@pytest.mark.parametrize("cancelled", [False, True])
def test_main_prints_at_once_in_somebody_elses_loop_which_goes_on_and_may_cancel_it(
    cancelled: bool, serve: Serve
) -> None:
    more, history, stdout = threading.Event(), turns(), Stdout()
    server = serve([SSE, delta("Hello"), lambda: more.wait(LIMIT / 6), delta(" there!", "stop"), HANG])

    async def somebody_else() -> None:
        task = asyncio.create_task(main("Hi", model="other", base_url=server.url, history=history))
        assert await asyncio.to_thread(stdout.printed.wait, LIMIT / 6)
        assert stdout.getvalue() == "Hello"
        _ = task.cancel() if cancelled else more.set()
        await asyncio.wait([task])
        more.set()
        assert task.cancelled() if cancelled else task.result() is None
        assert await asyncio.to_thread(server.closed.acquire, timeout=LIMIT / 6)

    with contextlib.redirect_stdout(stdout):
        asyncio.run(somebody_else())
    text = "Hello" if cancelled else "Hello there!"
    assert stdout.getvalue() == f"{text}{FINAL}{text}\n"
    assert history == ([] if cancelled else turns("Hi", text))
    sent = server.requests[0]
    assert (sent.path, sent.json["messages"], sent.json["model"]) == ("/v1/chat/completions", turns("Hi"), "other")
    assert "authorization" not in sent.headers


def test_quiet_prints_the_answer_alone(serve: Serve, capsys: Capture) -> None:
    server = serve(answer("Hel", "lo"), NO, answer("Hello\n\n"), SSE + delta("Hel") + OOPS)
    for _ in range(4):
        asyncio.run(main(base_url=server.url, quiet=True))
    assert capsys.readouterr().out == "Hello\n" + "" + "Hello\n\n" + "Hel\n"


def test_only_an_answered_turn_becomes_history(serve: Serve) -> None:
    server, history = serve(answer("Hi."), NO, SSE + delta("Y") + OOPS, answer("Bye.")), turns()
    for message, status in ("Hello", None), ("Are you there?", 1), ("Are you?", 1), ("Bye", None):
        assert asyncio.run(main(message, base_url=server.url, system="Be brief.", history=history)) == status
    assert history == turns("Hello", "Hi.", "Bye", "Bye.")
    assert server.requests[3].json["messages"] == [{"role": "system", "content": "Be brief."}, *history[:3]]


def test_history_is_sent_as_it_was_although_g4f_shortens_it(serve: Serve) -> None:
    server, before = serve(answer("End.")), [*(["Go on", "More."] * 25), "Go on", "a \n\n\n\n b\t"]
    history = turns(*before)
    asyncio.run(main("Go on  \n\n\n\n", base_url=server.url, history=history))
    assert history == turns(*before, "Go on  \n\n\n\n", "End.")
    assert server.requests[0].json["messages"] == history[:-1]


def test_a_provider_class_cannot_spoil_the_history() -> None:
    received, history = [], turns()

    class Provider(AsyncGeneratorProvider):  # type: ignore[misc]
        working = True

        @classmethod
        async def create_async_generator(cls, model: str, messages: Any, **kwargs: Any) -> AsyncIterator[str]:
            received.append([*map(dict, messages)])
            messages[0]["content"] = messages[-1]["content"] = "spoiled"
            messages.append({"role": "user", "content": "spoiled"})
            yield "Hi."

    for message in ("Hello", "Bye"):
        asyncio.run(main(message, provider=Provider, history=history))
    assert history == turns("Hello", "Hi.", "Bye", "Hi.")
    assert received == [history[:1], history[:3]]


@BOTH_STREAMS
def test_both_streams_print_the_answer_to_the_question(stream: Any, default_server: Serve, capsys: Capture) -> None:
    server = default_server(answer("Use ", "os.walk", "."))
    assert (stream(), stream("Why?", "other", temperature=0.5)) == (None, None)
    assert capsys.readouterr() == ("Use os.walk." * 2, "")
    question = "Hey! How can I recursively list all files in a directory in Python?"
    for sent, *expected in zip(server.requests, (question, "Why?"), ("gpt-4", "other"), (None, 0.5), strict=True):
        got = sent.json["messages"], sent.json["model"], sent.json.get("temperature"), sent.json["stream"]
        assert got == (turns(expected[0]), *expected[1:], True)


@BOTH_STREAMS
def test_both_streams_print_at_once_and_raise_what_g4f_raises(stream: Any, default_server: Serve) -> None:
    stdout, in_time = Stdout(), list[bool]()
    default_server([SSE, delta("Hel"), lambda: in_time.append(stdout.printed.wait(LIMIT / 6)), OOPS])
    with contextlib.redirect_stdout(stdout), pytest.raises(ValueError, match="Invalid JSON data"):
        stream()
    assert (stdout.getvalue(), in_time) == ("Hel", [True])


def test_one_loop_may_ask_twice_although_the_server_leaves_the_first_connection_open(serve: Serve) -> None:
    server = serve([kept_alive("Hello"), HANG])

    async def somebody_else() -> list[int | None]:
        return [await main(base_url=server.url, timeout=LIMIT / 6) for _ in range(2)]

    assert asyncio.run(somebody_else()) == [None, None]


@pytest.mark.parametrize("says", [True, False], ids=["IDLE's shell and Windows' null device", "a notebook's"])
def test_a_stderr_that_is_half_a_terminal_gets_no_notice(
    says: bool, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    master, slave = pytest.importorskip("pty").openpty()
    stderr: Any = io.StringIO()
    stderr.isatty = lambda: says
    if not says:
        stderr.fileno = lambda: slave  # of the terminal in which the notebook was started
    monkeypatch.setattr(sys, "stderr", stderr)
    assert asyncio.run(main(base_url=serve(answer("Hello")).url)) is None
    assert stderr.getvalue() == ""
    os.close(master)
    os.close(slave)


def test_the_resilient_provider_sends_what_it_was_made_with_once(serve: Serve, capsys: Capture) -> None:
    server, messages = serve(answer("Hi")), turns("Go on", "More.", "Go on", "More.", "Go on  ")
    client = Client(provider=ResilientProvider(messages, base_url=server.url))
    [*client.chat.completions.create(messages=messages, stream=True)]  # g4f works on the very list
    assert server.requests[0].json["messages"] == turns("Go on", "More.", "Go on", "More.", "Go on  ")
    with pytest.raises(RuntimeError, match="a ResilientProvider is for one request"):
        [*client.chat.completions.create(messages=turns("Why?"), stream=True)]


@BOTH_STREAMS
def test_both_streams_survive_with_the_resilient_provider(stream: Any, serve: Serve, capsys: Capture) -> None:
    server = serve(reply({"error": "Busy"}, "429 Too Many Requests"), [SSE + delta("Hel"), HANG])
    provider = ResilientProvider(turns("Why?"), base_url=server.url.replace("//", "//me:secret@"), timeout=0.5)
    with pytest.raises(errors.TimeoutError) as raised:
        stream("Not this", "other", provider=provider)
    assert raised.value.args == (f"127.0.0.1:{server.port} sent nothing for 0.5 seconds",)
    assert capsys.readouterr() == ("Hel", "Error 429: Busy; trying again in 1 s\n")
    assert [(each.json["model"], each.json["messages"]) for each in server.requests] == [("other", turns("Why?"))] * 2
    assert server.closed.acquire(timeout=LIMIT)


def run_script(script: str) -> tuple[int, bytes, bytes]:
    done = subprocess.run([sys.executable, "-c", script], cwd=PATH.parent, capture_output=True, timeout=LIMIT)
    return done.returncode, done.stdout, done.stderr


def test_an_import_prints_sends_and_starts_nothing() -> None:
    script = """if True:
        import asyncio, gc, signal, sys, threading
        events, state = [], lambda: [*map(signal.getsignal, (signal.SIGINT, signal.SIGTERM)), gc.isenabled(), sys.stdout]
        sys.addaudithook(lambda event, args: events.append(event))
        before = state()
        import messages_stream
        assert not {"socket.connect", "socket.getaddrinfo", "subprocess.Popen"} & {*events}
        assert threading.active_count() == 1 and before == state()
        assert messages_stream.AsyncClient is sys.modules["g4f.client"].AsyncClient
        assert messages_stream.Client is sys.modules["g4f.client"].Client
    """
    assert run_script(script) == (0, b"", b"")


@pytest.mark.parametrize(("script", "status", "text"), [(answer("Hi"), 0, "Hi"), (NO, 1, "")], ids=["answer", "error"])
def test_what_main_returns_is_right_for_sys_exit(serve: Serve, script: bytes, status: int, text: str) -> None:
    code = f"import asyncio, sys, messages_stream as m; sys.exit(asyncio.run(m.main(base_url={serve(script).url!r})))"
    returned, out, err = run_script(code)
    assert (returned, out.decode()) == (status, f"{text}{FINAL}{text}\n")
    assert err.startswith(b"Error occurred: Response 404\n") if status else err == b""

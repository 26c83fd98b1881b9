"""`main()`, the two streams and `ResilientProvider`, as somebody uses them who has copied or imported them."""

import asyncio
import contextlib
import inspect
import io
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from g4f.client import AsyncClient, Client, create_custom_provider
from g4f.errors import RateLimitError
from g4f.providers.base_provider import AsyncGeneratorProvider
from g4f.providers.response import ProviderInfo

import messages_stream
from loopback import (
    DONE,
    HANG,
    SSE,
    Request,
    Server,
    answer,
    delta,
    kept_alive,
    read_request,
    reply,
)
from messages_stream import (
    AnswerError,
    ResilientProvider,
    async_stream,
    main,
    parse_arguments,
    sync_stream,
)
from program import NO_PATH, PATH, PATIENCE, SLOW, Ended, Stdout, final, run_program, turns
from providers import provider

Capture, Serve = pytest.CaptureFixture[str], Callable[..., Server]
Install = Callable[[Any], None]
OOPS = b"data: {oops\n\n"
NO = reply(b"", "404 Not Found", "text/plain")
BUSY = reply({"error": "Busy"}, "429 Too Many Requests")
QUESTION = "Hey! How can I recursively list all files in a directory in Python?"


def stream_asynchronously(*arguments: Any, **options: Any) -> None:
    asyncio.run(async_stream(*arguments, **options))


BOTH_STREAMS = pytest.mark.parametrize(
    "stream", [sync_stream, stream_asynchronously], ids=["sync", "async"]
)


@pytest.fixture
def default_server(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> Serve:
    """Make a server what both clients ask, whatever they are told: calls without arguments reach it."""

    def start(*scripts: Any) -> Server:
        server = serve(*scripts)
        provider = create_custom_provider(server.url, models=["gpt-4"])
        for client in (AsyncClient, Client):
            monkeypatch.setattr(
                messages_stream,
                client.__name__,
                lambda client=client, **_: client(provider=provider),
            )
        return server

    return start


# --- main() ---


def test_main_needs_no_argument_and_reads_none_of_the_process(
    default_server: Serve, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["program", "--quiet", "Not for main()"])
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:1")
    server = default_server(answer("Hello", " there!"))
    assert asyncio.run(main()) is None
    assert capsys.readouterr() == (final("Hello there!"), "")
    sent = server.requests[0].json
    assert (sent["messages"], sent["model"], sent["stream"]) == (
        turns("Say hello there!"),
        "gpt-4",
        True,
    )


@pytest.mark.parametrize("cancelled", [False, True])
def test_main_prints_at_once_in_somebody_elses_loop_which_goes_on_and_may_cancel_it(
    cancelled: bool, serve: Serve
) -> None:
    more, history, stdout = threading.Event(), turns(), Stdout()
    rest = delta(" there!", "stop") + DONE
    server = serve([SSE, delta("Hello"), lambda: more.wait(PATIENCE / 6), rest, HANG])

    async def somebody_else() -> None:
        task = asyncio.create_task(main("Hi", model="other", base_url=server.url, history=history))
        assert await asyncio.to_thread(stdout.has_text.wait, PATIENCE / 6)
        assert stdout.getvalue() == "Hello"
        if cancelled:
            task.cancel()
        else:
            more.set()
        await asyncio.wait([task])
        more.set()
        assert task.cancelled() if cancelled else task.result() is None
        assert await asyncio.to_thread(server.closed.acquire, timeout=PATIENCE / 6)

    with contextlib.redirect_stdout(stdout):
        asyncio.run(somebody_else())
    text = "Hello" if cancelled else "Hello there!"
    assert stdout.getvalue() == final(text)
    assert history == ([] if cancelled else turns("Hi", text))
    sent = server.requests[0]
    assert sent.path == "/v1/chat/completions"
    assert (sent.json["messages"], sent.json["model"]) == (turns("Hi"), "other")
    assert "authorization" not in sent.headers


def test_quiet_prints_the_answer_alone(serve: Serve, capsys: Capture) -> None:
    server = serve(answer("Hel", "lo"), NO, answer("Hello\n\n"), SSE + delta("Hel") + OOPS)
    for _ in range(4):
        asyncio.run(main(base_url=server.url, quiet=True))
    assert capsys.readouterr().out == "Hello\n" + "" + "Hello\n\n" + "Hel\n"


def test_only_an_answered_turn_becomes_history(serve: Serve) -> None:
    server = serve(answer("Hi."), NO, SSE + delta("Y") + OOPS, answer("Bye."))
    system = {"role": "system", "content": "Be brief."}
    history = [system]
    for message, status in ("Hello", None), ("Are you there?", 1), ("Are you?", 1), ("Bye", None):
        assert asyncio.run(main(message, base_url=server.url, history=history)) == status
    assert history == [system, *turns("Hello", "Hi.", "Bye", "Bye.")]
    assert server.requests[3].json["messages"] == history[:-1]


def test_an_error_is_told_although_nothing_can_be_printed(serve: Serve, capsys: Capture) -> None:
    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(28, "No space left on device")

    with contextlib.redirect_stdout(Full()):
        assert asyncio.run(main(base_url=serve(answer("Hello")).url)) == 1
    assert capsys.readouterr().err == "Error occurred: [Errno 28] No space left on device\n"


def test_a_base_url_that_is_none_is_an_error_like_any_other(capsys: Capture) -> None:
    assert asyncio.run(main(base_url="http://[::1")) == 1
    assert capsys.readouterr() == (final(""), "Error occurred: Invalid IPv6 URL\n")


def test_one_loop_may_ask_twice_although_the_server_leaves_the_first_connection_open(
    serve: Serve,
) -> None:
    server = serve([kept_alive("Hello"), HANG])

    async def somebody_else() -> list[int | None]:
        return [await main(base_url=server.url, timeout=PATIENCE / 6) for _ in range(2)]

    assert asyncio.run(somebody_else()) == [None, None]


@pytest.mark.parametrize("says", [True, False], ids=["IDLE or Windows' null device", "a notebook"])
def test_a_stderr_that_is_half_a_terminal_gets_no_notice(
    says: bool, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    master, slave = pytest.importorskip("pty").openpty()
    stderr: Any = io.StringIO()
    stderr.isatty = lambda: says
    if not says:
        stderr.fileno = lambda: slave  # of the terminal in which the notebook was started
        monkeypatch.setattr(os, "tcgetpgrp", lambda terminal: os.getpgrp())
    monkeypatch.setattr(sys, "stderr", stderr)
    assert asyncio.run(main(base_url=serve(answer("Hello")).url)) is None
    assert stderr.getvalue() == ""
    os.close(master)
    os.close(slave)


def test_a_stderr_that_can_only_be_written_gets_no_notice(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Log:
        text = ""

        def write(self, text: str) -> None:
            self.text += text

    monkeypatch.setattr(sys, "stderr", Log())
    assert asyncio.run(main(base_url=serve(answer("Hello")).url)) is None
    assert sys.stderr.text == ""  # type: ignore[attr-defined]


# --- The two streams ---


@BOTH_STREAMS
def test_both_streams_print_the_answer_to_the_question(
    stream: Any, default_server: Serve, capsys: Capture
) -> None:
    server = default_server(answer("Use ", "os.walk", "."))
    assert (stream(), stream("Why?", "other", temperature=0.5)) == (None, None)
    assert capsys.readouterr() == ("Use os.walk." * 2, "")
    first, second = (request.json for request in server.requests)
    assert (first["messages"], first["model"]) == (turns(QUESTION), "gpt-4")
    assert (second["messages"], second["model"]) == (turns("Why?"), "other")
    assert (first.get("temperature"), second["temperature"]) == (None, 0.5)
    assert first["stream"] and second["stream"]


@BOTH_STREAMS
def test_both_streams_print_at_once_and_raise_what_g4f_raises(
    stream: Any, default_server: Serve
) -> None:
    stdout, in_time = Stdout(), list[bool]()
    wait = lambda: in_time.append(stdout.has_text.wait(PATIENCE / 6))  # noqa: E731
    default_server([SSE, delta("Hel"), wait, OOPS])
    with (
        contextlib.redirect_stdout(stdout),
        pytest.raises(ValueError, match="Invalid JSON data"),
    ):
        stream()
    assert (stdout.getvalue(), in_time) == ("Hel", [True])


# --- ResilientProvider ---


@BOTH_STREAMS
def test_both_streams_survive_with_the_resilient_provider(
    stream: Any, serve: Serve, capsys: Capture, caplog: pytest.LogCaptureFixture
) -> None:
    server = serve(BUSY, [SSE + delta("Hel"), HANG])
    url = server.url.replace("//", "//me:secret@")
    with pytest.raises(AnswerError) as raised:
        stream("Why?", "other", provider=ResilientProvider(base_url=url, timeout=0.5))
    assert str(raised.value) == f"127.0.0.1:{server.port} sent nothing for 0.5 seconds"
    assert isinstance(raised.value.__cause__, TimeoutError)
    assert capsys.readouterr() == ("Hel", "")
    warning = ("messages_stream", logging.WARNING, "Error 429: Busy; trying again in 1 s")
    assert caplog.record_tuples == [warning]
    for request in server.requests:
        assert (request.json["model"], request.json["messages"]) == ("other", turns("Why?"))
    assert server.closed.acquire(timeout=PATIENCE)


def echoing(meet: Callable[[], object] = lambda: None) -> Any:
    """Return a script that answers a question with its own words, and meets others in the middle."""

    def script(request: Any) -> Any:
        first, second = request.json["messages"][-1]["content"].split()
        return [SSE + delta(first), meet, delta(f" {second}", "stop") + DONE]

    return script


def test_one_provider_serves_fifty_requests_at_once_and_two_in_a_row(
    serve: Serve, capsys: Capture, caplog: pytest.LogCaptureFixture
) -> None:
    # g4f opens at most 20 connections to a host, so not all fifty can meet.
    server = serve(*[echoing(threading.Barrier(10).wait)] * 50, echoing())
    client = AsyncClient(provider=ResilientProvider(base_url=server.url, timeout=PATIENCE))

    async def ask(question: str) -> str:
        messages = turns(question)
        stream = client.chat.completions.create(model="m", messages=messages, stream=True)
        return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    async def ask_all() -> list[str]:
        at_once = await asyncio.gather(*[ask(f"Question {number}") for number in range(50)])
        return [*at_once, await ask("Question 50"), await ask("Question 51")]

    assert asyncio.run(ask_all()) == [f"Question {number}" for number in range(52)]
    assert (capsys.readouterr(), caplog.messages) == (("", ""), [])


def test_one_provider_serves_two_requests_of_a_client_that_is_synchronous(
    serve: Serve, capsys: Capture, caplog: pytest.LogCaptureFixture
) -> None:
    client = Client(provider=ResilientProvider(base_url=serve(echoing()).url))
    for question in ("Question 1", "Question 2"):
        stream = client.chat.completions.create(model="m", messages=turns(question), stream=True)
        assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == question
    assert (capsys.readouterr(), caplog.messages) == (("", ""), [])


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (answer("Hello"), "stop"),
        (SSE + delta("Hello", "length") + DONE, "length"),
        (SSE + delta("Hello") + DONE, "none"),
    ],
)
def test_the_last_chunk_has_the_finish_reason(script: bytes, reason: str, serve: Serve) -> None:
    client = Client(provider=ResilientProvider(base_url=serve(script).url))
    stream = client.chat.completions.create(model="m", messages=turns("Hi"), stream=True)
    reasons = [chunk.choices[0].finish_reason for chunk in stream]
    assert reasons[-1] == reason and not any(reasons[:-1])


def test_notify_is_called_with_who_is_waited_for_and_with_nothing_after(serve: Serve) -> None:
    notices = list[str]()
    thought = delta(None, reasoning_content="Hm")
    server = serve(SSE + thought * 3 + delta("Hel") + thought + delta("lo", "stop") + DONE, NO)
    provider = ResilientProvider(base_url=server.url, notify=notices.append)
    sync_stream("Hi", provider=provider)
    with pytest.raises(AnswerError):
        sync_stream("Hi", provider=provider)
    assert notices == [f"127.0.0.1:{server.port}", ""] * 2


def test_notify_is_not_called_with_the_model_where_a_provider_is_named() -> None:
    notices = list[str]()
    sync_stream("Hi", provider=ResilientProvider(provider("Hello"), notify=notices.append))
    assert notices == ["Provider", ""]


def test_a_resilient_provider_may_stand_in_another(serve: Serve, capsys: Capture) -> None:
    inner = ResilientProvider(base_url=serve(NO).url)
    assert asyncio.run(main(provider=inner)) == 1
    assert capsys.readouterr() == (final(""), f"Error occurred: Response 404\n{NO_PATH}")


def test_the_time_limit_is_the_same_everywhere() -> None:
    limits = [
        inspect.signature(function).parameters["timeout"].default
        for function in (main, ResilientProvider)
    ]
    assert [*limits, parse_arguments([]).timeout] == [60, 60, 60]


def test_what_create_is_told_is_passed_on_and_a_count_of_tokens_is_not_asked_for(
    serve: Serve,
) -> None:
    server = serve(answer("Hello"))
    provider = ResilientProvider(base_url=server.url)
    sync_stream("Hi", provider=provider)
    sync_stream("Hi", provider=provider, stream_options={"include_usage": True}, temperature=0.5)
    first, second = (request.json for request in server.requests)
    assert "stream_options" not in first and "temperature" not in first
    assert (second["stream_options"], second["temperature"]) == ({"include_usage": True}, 0.5)


def test_tools_are_passed_on(serve: Serve) -> None:
    server = serve(answer("Hello"))
    function = {"name": "f", "description": "", "parameters": {"type": "object"}}
    tools = [{"type": "function", "function": function}]
    sync_stream("Hi", provider=ResilientProvider(base_url=server.url), tools=tools)
    assert server.requests[0].json["tools"] == tools


def test_what_is_sent_is_what_g4f_hands_on(serve: Serve) -> None:
    """g4f still shortens the messages of a request: else nothing need prevent it."""
    server = serve(answer("Hello"))
    client = Client(provider=ResilientProvider(base_url=server.url))
    messages = turns("Go on", "More.", "Go on", "More.", "Go on  ")
    [*client.chat.completions.create(model="m", messages=messages, stream=True)]
    assert (
        server.requests[0].json["messages"]
        == messages
        != turns("Go on", "More.", "Go on", "More.", "Go on  ")
    )


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("", "/chat/completions"),
        ("/", "/chat/completions"),
        ("/v1", "/v1/chat/completions"),
        ("/v1/", "/v1/chat/completions"),
        ("/v1//", "/v1/chat/completions"),
        ("/v1/chat/completions", "/v1/chat/completions"),
        ("/v1/chat/completions/", "/v1/chat/completions"),
        ("/x?version=1", "/x/chat/completions?version=1"),
        ("/x/chat/completions?version=1", "/x/chat/completions?version=1"),
    ],
)
def test_a_base_url_is_understood_as_people_copy_it(path: str, asked: str, serve: Serve) -> None:
    server, notices = serve(answer("Hello")), list[str]()
    url = server.url.removesuffix("/v1") + path
    sync_stream("Hi", provider=ResilientProvider(base_url=url, notify=notices.append))
    assert [request.path for request in server.requests] == [asked]
    assert notices == [f"127.0.0.1:{server.port}", ""]


def test_the_proxy_of_g4f_is_asked_to_connect(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    asked = list[str]()

    def tunnel(request: Request) -> Any:
        def serve_tunnel() -> None:
            asked.extend([request.path, read_request(proxy.connections[-1]).path])

        return [b"HTTP/1.1 200 Connection established\r\n\r\n", serve_tunnel, answer("Hello")]

    proxy = serve(tunnel)
    monkeypatch.setenv("G4F_PROXY", f"http://127.0.0.1:{proxy.port}")
    assert asyncio.run(main(base_url="http://llm.example/v1")) is None
    assert capsys.readouterr() == (final("Hello"), "")
    assert asked == ["llm.example:80", "/v1/chat/completions"]


def test_g4f_says_what_it_needs_for_a_proxy(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setenv("G4F_PROXY", "http://127.0.0.1:1")
    monkeypatch.setitem(sys.modules, "aiohttp_socks", None)
    assert asyncio.run(main(base_url="http://127.0.0.1:1/v1")) == 1
    told = 'Error occurred: Install "aiohttp_socks" package for proxy support\n'
    assert capsys.readouterr() == (final(""), told)


def test_the_error_of_g4f_is_the_cause_of_the_only_error_there_is() -> None:
    with pytest.raises(AnswerError, match="g4f could not read the answer") as raised:
        sync_stream("Hi", provider=ResilientProvider(provider(KeyError("choices"))))
    assert isinstance(raised.value.__cause__, KeyError)
    with pytest.raises(AnswerError, match="Provider not found: Nonesuch\nSimilar names: "):
        ResilientProvider("Nonesuch")


@pytest.fixture
def ask_in_place_of_free_providers(monkeypatch: pytest.MonkeyPatch) -> Install:
    """Make a provider what is asked where nobody is named."""

    def install(provider: Any) -> None:
        async def load_free_providers(timeout: float) -> Any:
            return provider

        monkeypatch.setattr(messages_stream, "load_free_providers", load_free_providers)

    return install


def test_a_provider_that_is_silent_although_it_is_ignored_is_not_asked_for_ever(
    ask_in_place_of_free_providers: Install, caplog: pytest.LogCaptureFixture
) -> None:
    class Silent(AsyncGeneratorProvider):  # type: ignore[misc]
        @classmethod
        async def create_async_generator(
            cls, model: str, messages: Any, **kwargs: Any
        ) -> AsyncIterator[Any]:
            yield ProviderInfo(**cls.get_dict(), model=model)
            await asyncio.Event().wait()

    ask_in_place_of_free_providers(Silent)
    silence = "Silent sent nothing for 0.1 seconds"
    with pytest.raises(AnswerError) as raised:
        sync_stream("Hi", provider=ResilientProvider(timeout=0.1))
    assert str(raised.value) == f"{silence}\n{SLOW[:-1]}"
    assert caplog.messages == [f"{silence}; trying the next"]


def test_a_free_provider_that_is_busy_is_left_to_g4f(
    ask_in_place_of_free_providers: Install, caplog: pytest.LogCaptureFixture
) -> None:
    ask_in_place_of_free_providers(provider(RateLimitError("Response 429: Busy")))
    with pytest.raises(AnswerError, match="Response 429: Busy"):
        sync_stream("Hi", provider=ResilientProvider())
    assert caplog.messages == []


def test_providers_that_a_caller_ignores_are_not_asked(
    ask_in_place_of_free_providers: Install,
) -> None:
    received = list[Any]()

    class Route(AsyncGeneratorProvider):  # type: ignore[misc]
        @classmethod
        async def create_async_generator(
            cls, model: str, messages: Any, ignored: list[str], **kwargs: Any
        ) -> AsyncIterator[str]:
            received.append(ignored)
            yield "Hello"

    ask_in_place_of_free_providers(Route)
    sync_stream("Hi", provider=ResilientProvider(), ignored=["Deaf"])
    assert received == [["Deaf"]]


def test_a_base_url_that_is_empty_asks_nobody_else() -> None:
    with pytest.raises(AnswerError) as raised:
        sync_stream("Hi", provider=ResilientProvider(base_url=""))
    assert str(raised.value).startswith("InvalidUrlClientError /chat/completions")


# --- Processes that import the module ---


def run_script(script: str, python: str = sys.executable) -> Ended:
    command = [python, "-c", script]
    done = subprocess.run(
        command, cwd=PATH.parent, capture_output=True, text=True, timeout=PATIENCE
    )
    return Ended(done.returncode, done.stdout, done.stderr)


def test_an_import_prints_sends_and_starts_nothing() -> None:
    script = """if True:
        import asyncio, gc, signal, sys, threading
        events, numbers = [], (signal.SIGINT, signal.SIGTERM)
        state = lambda: [*map(signal.getsignal, numbers), gc.isenabled(), sys.stdout]
        sys.addaudithook(lambda event, args: events.append(event))
        before = state()
        import messages_stream
        assert not {"socket.connect", "socket.getaddrinfo", "subprocess.Popen"} & {*events}
        assert threading.active_count() == 1 and before == state()
        assert messages_stream.AsyncClient is sys.modules["g4f.client"].AsyncClient
        assert messages_stream.Client is sys.modules["g4f.client"].Client
    """
    assert run_script(script) == (0, "", "")


def test_every_signal_wakes_the_event_loop() -> None:
    pytest.importorskip("pty")  # On Windows a loop has no signal handlers.
    script = """if True:
        import asyncio, signal, messages_stream
        async def answer():
            print(signal.set_wakeup_fd(-1) != -1)
        asyncio.Runner().run(messages_stream.stop_on_sigterm(answer()))
    """
    assert run_script(script) == (0, "True\n", "")


@pytest.mark.parametrize(
    ("script", "ended"),
    [
        (answer("Hi"), Ended(0, final("Hi"), "")),
        (NO, Ended(1, final(""), f"Error occurred: Response 404\n{NO_PATH}")),
        (
            [BUSY, answer("Hi")],
            Ended(0, final("Hi"), "Error 429: Busy; trying again in 1 s\n"),
        ),
    ],
    ids=["answer", "error", "second try"],
)
def test_a_script_prints_and_returns_what_the_program_does(
    script: Any, ended: Ended, serve: Serve
) -> None:
    server = serve(*script) if isinstance(script, list) else serve(script)
    code = "import asyncio, sys, messages_stream as m; "
    code += f"sys.exit(asyncio.run(m.main(base_url={server.url!r})))"
    assert run_script(code) == ended


def test_after_the_command_line_has_run_inside_a_program_that_is_what_it_was(
    serve: Serve,
) -> None:
    url = serve(answer("Hello"), NO).url
    # IPython has this attribute, too; elsewhere the command line ends the process.
    script = f"""if True:
        import runpy, signal, sys
        state = lambda: [sys.stdout, sys.stdout.errors, signal.getsignal(signal.SIGINT)]
        signal.signal(signal.SIGINT, signal.default_int_handler)  # as every session has it
        sys.ps1, before = "> ", state()
        for arguments in ["-q"], ["-q"], ["--version"]:
            sys.argv[1:] = [*arguments, "--base-url", {url!r}]
            try:
                runpy.run_path({str(PATH)!r}, run_name="__main__")
            except SystemExit as end:
                print(end.code)
            assert before == state()
    """
    error = f"Error occurred: Response 404\n{NO_PATH}"
    version = run_program("--version").stdout
    assert run_script(script) == (0, f"Hello\n0\n1\n{version}0\n", error)


def test_the_command_line_reads_any_stdin(serve: Serve) -> None:
    server = serve(answer("Hello"))
    script = f"""if True:
        import asyncio, io, sys, messages_stream
        sys.stdin = io.StringIO("all of it")
        arguments = ["-q", "--base-url", {server.url!r}, "Sum up", "-"]
        sys.exit(messages_stream.run(arguments, asyncio.Runner()))
    """
    assert run_script(script) == (0, "Hello\n", "")
    assert server.requests[0].json["messages"] == turns("Sum up all of it")


def test_what_g4f_registers_for_the_exit_is_done() -> None:
    script = f"""if True:
        import atexit, runpy, sys
        atexit.register(print, "The browser is closed.", flush=True)
        sys.argv[1:] = ["--version"]
        runpy.run_path({str(PATH)!r}, run_name="__main__")
    """
    ended = run_script(script)
    assert (ended.status, ended.stderr) == (0, "")
    assert ended.stdout.splitlines()[1:] == ["The browser is closed."]


def test_ctrl_c_while_the_event_loop_is_made_ends_the_program_silently() -> None:
    script = f"""if True:
        import asyncio, runpy, signal
        make = asyncio.events.new_event_loop
        def interrupted():
            signal.raise_signal(signal.SIGINT)
            return make()
        asyncio.events.new_event_loop = interrupted
        runpy.run_path({str(PATH)!r}, run_name="__main__")
    """
    assert run_script(script) == (-signal.SIGINT, "", "")

#!/usr/bin/env -S uv run --script
# /// script
# requires-python = ">=3.11"
# dependencies = ["g4f>=8.8.0"]
# ///
"""Stream a chat answer to the terminal with g4f, also when a server is silent, busy or breaks off.

$ python messages_stream.py
Hello there!

Final accumulated text: Hello there!

To stream in a program of your own, copy sync_stream() or async_stream(). They wait forever for a
silent server; if that matters, import ResilientProvider from this file, and ask it as main() does.

After these examples comes what makes them reliable: the provider, which survives failures, the
messages on stderr, and the command line, which deals with signals, pipes and terminals.
"""

import signal
import sys

if sys.version_info < (3, 11):
    sys.exit("messages_stream.py needs Python 3.11 or later")

if __name__ == "__main__":
    # Until respond() undoes this, and mainly during the slow imports below, Ctrl-C ends the program
    # at once, without a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import argparse
import asyncio
import codecs
import contextlib
import errno
import io
import logging
import os
import re
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from difflib import get_close_matches
from json import JSONDecodeError
from typing import Any, TextIO
from urllib.parse import urlsplit

import aiohttp
import g4f
import g4f.tools.run_tools
from g4f.client import AsyncClient, Client, convert_to_provider, create_custom_provider
from g4f.errors import ProviderNotFoundError, RetryNoProviderError, RetryProviderError
from g4f.Provider import ProviderLoader
from g4f.providers.response import FinishReason, JsonResponse, ProviderInfo, Reasoning
from g4f.providers.retry_provider import BaseRetryProvider, IterListProvider
from g4f.requests import get_shared_connector

# Comments that start with "g4f:" tell what g4f does, and so why something is done here.

# The finish reasons of a complete answer. After any other, main() warns.
COMPLETE = {"stop", "STOP", "stop_sequence", "eos", "eos_token", "end_turn", "tool_calls"}
# All control characters but tab and newline. An escape sequence without its control characters is
# harmless text.
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
# g4f: it fails with one of these if a server sends something else than it expects.
UNREADABLE = AttributeError, LookupError, NameError, TypeError, JSONDecodeError, UnicodeDecodeError
PROVIDER_LIST = "g4f's list of providers"

# Unless a program configures logging, Python prints warnings to stderr, without any prefix.
logger = logging.getLogger("messages_stream")


# --- The example ---


def sync_stream(
    question: str = "Hey! How can I recursively list all files in a directory in Python?",
    model: str = "gpt-4",
    **options: object,
) -> None:
    """Print the answer to a question as it arrives. Options are passed to create()."""
    client = Client()
    messages = [{"role": "user", "content": question}]
    stream = client.chat.completions.create(model=model, messages=messages, stream=True, **options)
    for chunk in stream:
        print(chunk.choices[0].delta.content or "", end="", flush=True)


async def async_stream(
    question: str = "Hey! How can I recursively list all files in a directory in Python?",
    model: str = "gpt-4",
    **options: object,
) -> None:
    """Print the answer to a question as it arrives. Options are passed to create()."""
    client = AsyncClient()
    messages = [{"role": "user", "content": question}]
    # g4f: create() returns the stream directly, so it is not awaited.
    stream = client.chat.completions.create(model=model, messages=messages, stream=True, **options)
    async for chunk in stream:
        print(chunk.choices[0].delta.content or "", end="", flush=True)


GREETING = "Say hello there!"


async def main(
    message: str = GREETING,
    *,
    model: str = "gpt-4",
    provider: Any = None,
    base_url: str | None = None,
    timeout: float = 60.0,
    quiet: bool = False,
    history: list[dict[str, str]] | None = None,
) -> int | None:
    """Print the answer to a message as it arrives, and the whole answer at the end.

    Return what sys.exit() takes: None, or 1 after an error, which is printed to stderr, not raised.
    `provider`, `base_url` and `timeout` (in seconds) are those of ResilientProvider. With `quiet`,
    print only the answer and a final newline. `history` holds the messages so far; an answered
    message and its answer are appended to it. g4f shortens a long one, unless a program prevents
    that as respond() does.
    """
    text = ""
    finish_reason = None
    messages = [*(history or []), {"role": "user", "content": message}]
    try:
        # The inner `finally` prints the text whatever happens, and before an error is printed.
        try:
            resilient = ResilientProvider(provider, base_url, timeout, notify=show_notice)
            client = AsyncClient(provider=resilient)
            stream = client.chat.completions.create(model=model, messages=messages, stream=True)
            async for chunk in stream:
                choice = chunk.choices[0]
                delta = choice.delta.content
                if delta:
                    print(delta, end="", flush=True)
                    text += str(delta)  # g4f: a link or an image is an object, not a str.
                finish_reason = choice.finish_reason or finish_reason
        finally:
            if not quiet:
                print(f"\n\nFinal accumulated text: {text}", flush=True)
            elif text and not text.endswith("\n"):
                print(flush=True)
    except Exception as error:
        print(f"Error occurred: {error}", file=sys.stderr)
        return 1
    if finish_reason not in COMPLETE:
        warning = f"The answer may have been cut short (finish reason: {finish_reason})."
        print(warning, file=sys.stderr)
    if history is not None:
        history += [{"role": "user", "content": message}, {"role": "assistant", "content": text}]
    return None


# --- The provider ---
#
# g4f's clients call create_async_generator(), which asks again if that may help. Each time, ask()
# follows one answer from beginning to end, and receive() gets its chunks within the time limit.
#
# A chunk is a piece of text (a str), an object with a text (a link, an image), or an object that
# tells something: ProviderInfo who answers, Reasoning what the model thinks, FinishReason why the
# answer ended, and JsonResponse what a server sent, word for word.


class AnswerError(Exception):
    """Why there is no answer, or only part of one: the cause and, if something may help, a hint."""

    def __init__(self, cause: str, hint: str = "") -> None:
        super().__init__(f"{cause}\n{hint}" if hint else cause)


class SilenceError(TimeoutError):
    """Nothing was received within the time limit."""

    def __init__(self, provider_name: str | None, asked: str, seconds: float) -> None:
        """Name the silent provider or, if g4f has not told its name, what was asked."""
        super().__init__(f"{provider_name or asked} sent nothing for {seconds:g} seconds")
        self.provider_name = provider_name


# g4f: its clients need the attributes of this base class, such as `supports_stream`.
class ResilientProvider(BaseRetryProvider):  # type: ignore[misc]
    """A g4f provider that survives failures: `AsyncClient(provider=ResilientProvider())`.

    It gives up a silent server, asks a busy one again, skips a silent free provider, and raises
    only AnswerError. It keeps no state between requests, so one object can serve many at once.
    """

    supports_native_tools = True  # g4f: otherwise it does not pass `tools` on.

    def __init__(
        self,
        provider: Any = None,
        base_url: str | None = None,
        timeout: float = 60.0,
        notify: Callable[[str], object] = lambda name: None,
    ) -> None:
        """Ask a g4f provider (or its name), or the server at a URL, or else g4f's free providers.

        `timeout` is the longest allowed silence in seconds. `notify` is called with the name of
        whoever is being waited for, and with "" when the wait is over.
        """
        self.provider = find_provider(provider) if isinstance(provider, str) else provider
        self.base_url = base_url
        self.is_free = provider is None and base_url is None
        self.timeout = timeout
        self.notify = notify

    async def create_async_generator(
        self, model: str, messages: list[dict[str, str]], **options: Any
    ) -> AsyncIterator[Any]:
        """Yield the chunks of an answer; if there was no text, ask again if that may help:

        - one of g4f's free providers was silent: without that provider
        - any other provider or server was busy: after a pause, twice at most
        """
        # g4f: it keeps connections for the next request, which fails if the server has closed them
        # by then. This stops it, on this event loop; there is no public way.
        get_shared_connector()._force_close = True
        # g4f: unless this option is set, it asks for a count of tokens, which some servers refuse.
        options.setdefault("stream_options", None)
        # g4f: it uses a proxy only if that is passed on.
        options.setdefault("proxy", os.environ.get("G4F_PROXY"))
        pauses = [1, 2]  # seconds
        # g4f: it asks no free provider whose name is in this list.
        ignored = list(options.pop("ignored", []))
        while True:
            try:
                async for chunk in self.ask(model, messages, ignored=ignored, **options):
                    yield chunk
                return
            except AnswerError:
                raise  # To ask again would not help, or after some text would repeat it.
            except Exception as error:
                cause = describe(error)
                status = read_status(cause)
                is_busy = status == 429 or status >= 500
                silent_name = error.provider_name if isinstance(error, SilenceError) else None
                if self.is_free and silent_name and silent_name not in ignored:
                    # g4f: it would wait forever for a free provider that is silent.
                    logger.warning("%s; trying the next", cause)
                    ignored.append(silent_name)
                elif not self.is_free and is_busy and pauses:
                    # g4f: instead of a free provider that is busy, it asks the next one by itself.
                    pause = pauses.pop(0)
                    logger.warning("%s; trying again in %d s", cause, pause)
                    await asyncio.sleep(pause)
                else:
                    raise AnswerError(cause, suggest(error, status, self.base_url)) from error

    async def ask(self, model: str, messages: Any, **options: Any) -> AsyncIterator[Any]:
        """Follow one answer: yield its chunks, and at the end its finish reason.

        Without text, raise the exception that it failed with, or AnswerError if it merely ended.
        After some text, raise AnswerError, but not for a connection lost after a finish reason.
        """
        has_text = False
        finish_reason = ""  # Some servers send one with every chunk, so text takes it back.
        failure: Exception | None = None
        try:
            async for chunk in self.receive(model, messages, **options):
                if isinstance(chunk, FinishReason):
                    finish_reason = clean(chunk.reason or finish_reason)
                    continue
                # g4f: str() returns the text of a link or an image, and "" for what has no text.
                if str(chunk) and not isinstance(chunk, Reasoning):
                    if not has_text:
                        self.notify("")
                    has_text = True
                    finish_reason = ""
                yield chunk
        except Exception as error:
            failure = error
        finally:
            if not has_text:
                self.notify("")

        # g4f: this error means that the answer ended without text, despite its name.
        if isinstance(failure, RetryNoProviderError):
            failure = None
        if failure and not has_text:
            raise failure
        if not has_text:
            raise AnswerError(f"the model sent no text (finish reason: {finish_reason or 'none'})")
        # After its finish reason an answer is complete, but some servers then break the connection,
        # or keep it open until the time limit.
        is_lost = isinstance(failure, (SilenceError, aiohttp.ClientError, ConnectionError))
        if failure and not (is_lost and finish_reason):
            raise AnswerError(describe(failure)) from failure
        # g4f: its own providers seldom send a finish reason, so "stop" is assumed. But a server
        # that sends none may have been cut off, and main() warns of "none".
        assumed = "none" if self.base_url else "stop"
        yield FinishReason(finish_reason or assumed)
        # g4f: its clients stop at the first chunk after a finish reason, so they get an empty one.
        # Otherwise they would go on to log token counts, and fail if the home is not writable.
        yield Reasoning("")

    async def receive(self, model: str, messages: Any, **options: Any) -> AsyncIterator[Any]:
        """Get the chunks of one answer; raise SilenceError if one takes too long."""
        provider_name = None
        if self.is_free:
            self.notify(PROVIDER_LIST)
            route = await load_free_providers(self.timeout)
            self.notify(model)
        elif self.base_url is not None:
            route = make_provider(self.base_url, model)
            provider_name = route.__name__
            self.notify(provider_name)
        else:
            # g4f: a list, even of one provider, adds the provider's key from the environment, and
            # begins with a ProviderInfo. The errors of one provider come out as they are.
            route = IterListProvider([self.provider])
        stream = route.create_async_generator(model, messages, **options)
        join_halves = make_emoji_joiner()
        while True:
            try:
                # A timeout must not be open during a `yield`, so each chunk has its own.
                async with asyncio.timeout(self.timeout) as limit:
                    chunk = await anext(stream)
                    # g4f: it yields all that a server sends as a JsonResponse, too. That is dropped
                    # within the time limit, so that a server which says nothing else is silent.
                    while isinstance(chunk, JsonResponse):
                        chunk = await anext(stream)
            except StopAsyncIteration:
                return
            except TimeoutError:
                if not limit.expired():
                    raise  # the provider's own timeout
                raise SilenceError(provider_name, model, self.timeout) from None
            if isinstance(chunk, ProviderInfo) and chunk.name != provider_name:
                provider_name = chunk.name
                self.notify(provider_name)
            if isinstance(chunk, str) and not chunk.isascii():  # ASCII is never half an emoji.
                chunk = join_halves(chunk)
            yield chunk


def make_emoji_joiner() -> Callable[[str], str]:
    """Return a function that returns the text it is given, but half an emoji with its other half.

    g4f cannot encode a half (a UTF-16 surrogate), but some servers send the two in two chunks.
    """
    decoder = codecs.getincrementaldecoder("utf-16-le")("replace")
    return lambda text: decoder.decode(text.encode("utf-16-le", "surrogatepass"))


def make_provider(base_url: str, model: str) -> Any:
    """Return a g4f provider for an OpenAI-compatible server."""
    url = urlsplit(base_url)
    # The URL may be copied with a slash at the end, or with the path of a curl example.
    path = re.sub("/+", "/", url.path).rstrip("/").removesuffix("/chat/completions")
    return create_custom_provider(
        base_url,  # g4f: it is required, but what is asked is the `api_endpoint`.
        api_endpoint=url._replace(path=f"{path}/chat/completions").geturl(),
        api_key=os.environ.get("OPENAI_API_KEY", "").strip(),
        name=url.netloc.rpartition("@")[2],  # without user name and password
        # g4f: otherwise it asks the server for its models and may pick one with a similar name.
        models=[model],
        default_model=model,
    )


def find_provider(name: str) -> Any:
    """Return the g4f provider with a name, or raise AnswerError."""
    try:
        return convert_to_provider(name)
    except ProviderNotFoundError as error:
        names = {each.lower(): each for each in ProviderLoader.names}
        # This cutoff lets any name through, so there are always three.
        similar = [names[each] for each in get_close_matches(name.lower(), names, cutoff=0)]
        raise AnswerError(clean(error), f"Similar names: {', '.join(similar)}.") from error


async def load_free_providers(timeout: float) -> Any:
    """Return AnyProvider, which asks g4f's free providers one after the other."""
    loaded: list[Any] = []
    failed: list[Exception] = []

    def load() -> None:
        try:
            from g4f.providers.any_provider import AnyProvider

            loaded.append(AnyProvider)
        except Exception as error:
            failed.append(error)

    # g4f: this import downloads a list of providers, and may hang. So it runs in a daemon thread,
    # which does not keep a program from ending, as one of asyncio's own threads would. Polling is
    # the simplest way to wait for it.
    threading.Thread(target=load, daemon=True).start()
    deadline = time.monotonic() + timeout
    while not loaded and not failed:
        if time.monotonic() > deadline:
            raise SilenceError(None, PROVIDER_LIST, timeout)
        await asyncio.sleep(0.01)
    if loaded:
        return loaded[0]
    # An error is often raised because of an earlier one, which says more: "Name or service not
    # known". But behind one of UNREADABLE there is nothing for a user.
    first: BaseException = failed[0]
    while first.__context__ is not None and not isinstance(first, UNREADABLE):
        first = first.__context__
    cause = f"{PROVIDER_LIST} could not be read: {describe(first)}"
    raise AnswerError(cause, "Check the connection, or name a --base-url.") from failed[0]


# --- Messages on stderr ---


def show_notice(name: str) -> None:
    """Show on the terminal who is being waited for, or with "" erase that line."""
    # Some streams have no such methods, and some that claim to be a terminal are none.
    with contextlib.suppress(AttributeError, OSError):
        terminal = sys.stderr.fileno()
        if not sys.stderr.isatty():
            return
        if hasattr(os, "tcgetpgrp") and os.tcgetpgrp(terminal) != os.getpgrp():
            return  # The program is in the background (`&`), so the line belongs to the shell.
        width = (os.get_terminal_size(terminal).columns or 80) - 1
        notice = f"Waiting for {name} ..."[:width] if name else ""
        print(f"\r{' ' * width}\r{notice}", end="", file=sys.stderr, flush=True)


def describe(error: BaseException) -> str:
    """Return what went wrong, on one line or, if several providers failed, on one line for each."""
    if isinstance(error, RetryProviderError):
        # RetryProvider failed:\nCopilotApp: ClientConnectorError: Cannot connect to host ...\n...
        failures = re.findall(r"^\w+: \w+: .*", str(error), re.MULTILINE)
        return "\n  ".join(["all providers failed", *(clean(each, 150) for each in failures)])
    if isinstance(error, UNREADABLE):
        return f"g4f could not read the answer ({type(error).__name__})"
    text = clean(error).removeprefix("Error: ").rstrip(": ")
    # A single word says too little without the type of the error: "ValueError Oops".
    return text if " " in text else f"{type(error).__name__} {text}".rstrip()


def suggest(error: Exception, status: int, base_url: str | None) -> str:
    """Return a hint on what to try after an error, or "" if nothing is likely to help."""
    if isinstance(error, SilenceError):
        return "A slow server may need a longer --timeout."
    is_connection = isinstance(error, (aiohttp.ClientError, ConnectionError, RetryProviderError))
    if base_url is None:
        return "Check the connection, --model and --provider." if is_connection else ""
    if is_connection:
        return "Check the connection and --base-url: is a server running there?"
    if isinstance(error, UNREADABLE) or status == 404:
        return "Check --base-url (most end in /v1) and --model."
    if status == 401:
        return "Set OPENAI_API_KEY to a key that the server accepts."
    return ""


def read_status(cause: str) -> int:
    """Return the HTTP status that a cause begins with, or 0."""
    # g4f: its errors have no status but in their text, such as "Response 503: Service Unavailable",
    # "Error 429: Too many requests" or "Error 200: Error 429: Too many requests".
    match = re.match(r"(Error 200: )?(Response|Error) (\d{3})\b", cause)
    return int(match[3]) if match else 0


def clean(value: object, length: int = 300) -> str:
    """Return what a server said, on one short line without control characters or keys."""
    text = " ".join(CONTROL.sub("", str(value)).split())
    keys = [key.strip() for name, key in os.environ.items() if name.endswith("_API_KEY")]
    for key in keys:
        if len(key) >= 7:  # A shorter one may be a word, such as "none".
            text = text.replace(key, "***")
    return text if len(text) <= length else f"{text[:length]}..."


# --- The command line ---
#
# How signals end the program. run() turns what is raised into an exit status.
#
#                             Ctrl-C                           SIGTERM
#   imports and arguments     the system ends the program      the system ends the program
#   main() or compare()       asyncio's runner cancels it,     stop_on_sigterm() cancels it,
#                             and raises KeyboardInterrupt     which raises CancelledError
#   prompt of a chat          KeyboardInterrupt                terminate() raises SystemExit


class Output:
    """A stdout that accepts any text, and shows no escape sequences on a terminal.

    If it cannot be written, it raises SystemExit, which `except Exception` does not catch.
    """

    def __init__(self, stdout: TextIO) -> None:
        self.stdout = stdout
        self.is_terminal = stdout.isatty()

    def write(self, text: str) -> None:
        if not text:
            return  # print() writes its `end`, too.
        if self.is_terminal:
            text = CONTROL.sub("", text)
        try:
            self.stdout.write(text)
            self.stdout.flush()
        except UnicodeEncodeError:  # The encoding of stdout lacks a character, so write a "?".
            encoding = self.stdout.encoding
            self.write(text.encode(encoding, "replace").decode(encoding))
        except OSError as error:
            # The reader of a pipe may just have had enough. Windows reports EINVAL then.
            if error.errno in (errno.EPIPE, errno.EINVAL):
                raise SystemExit(1) from None
            raise SystemExit(f"Error occurred: stdout cannot be written ({error})") from None

    def flush(self) -> None:
        """Do nothing, as write() has flushed."""

    def __getattr__(self, name: str) -> Any:
        """Have everything else from stdout, such as what input() needs."""
        return getattr(self.stdout, name)


def run(arguments: list[str]) -> int:
    """Run the command line, and return the exit status."""
    try:
        # Python sets a stream to None if the shell has closed it, for example with `<&-`.
        sys.stdin = sys.stdin or open(os.devnull)
        sys.stderr = sys.stderr or open(os.devnull, "w")
        if sys.stdout is None:
            raise SystemExit("Error occurred: stdout is closed")
        # A file from Windows may begin with a byte order mark, and its lines may end in "\r\n".
        if isinstance(sys.stdin, io.TextIOWrapper):  # IDLE, for example, has a stdin of its own.
            sys.stdin.reconfigure(encoding="utf-8-sig", errors="replace", newline=None)
        with contextlib.redirect_stdout(Output(sys.stdout)):  # type: ignore[type-var]
            return respond(parse_arguments(arguments))
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except asyncio.CancelledError:
        return 128 + signal.SIGTERM
    except SystemExit as end:  # also from argparse, and from Output if it cannot be written
        if isinstance(end.code, int):
            return end.code
        print(end.code, file=sys.stderr)
        return 1
    except Exception as error:  # mostly from --compare, as main() prints its own
        print(f"Error occurred: {error}", file=sys.stderr)
        return 1


def respond(options: argparse.Namespace) -> int:
    """Print one answer, or have a conversation, or compare the streams; return the exit status."""
    # g4f: its optimize_request() drops repeated messages, blank lines, and all but the last 40
    # messages. This one drops nothing, and returns how many tokens that saved (0) and a log.
    g4f.tools.run_tools.optimize_request = lambda messages, tools: (0, {})
    # The runner is not closed, as that waits for asyncio's threads, and one of them may hang while
    # it looks up the name of a host.
    runner = asyncio.Runner()
    runner.get_loop()  # Otherwise run() makes the event loop, where Ctrl-C may interrupt that.
    # Ctrl-C raises KeyboardInterrupt again, which asyncio's runner relies on.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, terminate)
    if options.compare:
        runner.run(stop_on_sigterm(compare(options)))
        return 0
    history = [{"role": "system", "content": options.system}] if options.system else []

    def print_answer(message: str) -> int:
        coroutine = main(
            message,
            model=options.model,
            provider=options.provider,
            base_url=options.base_url,
            timeout=options.timeout,
            quiet=options.quiet or options.chat,
            history=history,
        )
        return runner.run(stop_on_sigterm(coroutine)) or 0

    if options.chat:
        return chat(options.message, print_answer)
    return print_answer(options.message or GREETING)


async def stop_on_sigterm(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Return the result of a coroutine; on SIGTERM, cancel it."""
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    with contextlib.suppress(NotImplementedError):  # On Windows, a loop handles no signals.
        loop.add_signal_handler(signal.SIGTERM, task.cancel)  # type: ignore[union-attr]
    try:
        return await coroutine
    finally:
        signal.signal(signal.SIGTERM, terminate)  # in place of the loop's handler


def terminate(signum: int, frame: object) -> None:
    """End the program on a signal; at the prompt, readline then puts the terminal right."""
    raise SystemExit(128 + signum)


async def compare(options: argparse.Namespace) -> None:
    """Print an answer from each of the two streams."""
    provider = ResilientProvider(options.provider, options.base_url, options.timeout, show_notice)
    request = {"model": options.model, "provider": provider}
    if options.message:
        request["question"] = options.message
    try:
        print("Synchronous Stream:")
        # A thread keeps the synchronous client from delaying signals.
        await asyncio.to_thread(sync_stream, **request)
        print("\n\nAsynchronous Stream:")
        await async_stream(**request)
    finally:
        print()


def chat(message: str, print_answer: Callable[[str], int]) -> int:
    """Answer the first message, if any, and then each line of stdin; return the exit status."""
    with contextlib.suppress(ImportError):  # Windows has no readline.
        import readline  # Importing it gives input() line editing and a history.

        # A paste of several lines becomes one message, if the terminal can tell a paste.
        if os.environ.get("TERM", "dumb") != "dumb":
            readline.parse_and_bind("set enable-bracketed-paste on")
    is_typed = sys.stdin.isatty()
    prompt = "> " if is_typed and sys.stdout.isatty() else ""
    if is_typed:
        print(
            "Ctrl-C stops an answer; at the prompt it leaves, as do Ctrl-D and exit.",
            file=sys.stderr,
        )
    status = 0
    while message.strip().lower() not in ("exit", "quit"):
        try:
            if message.strip():
                status = print_answer(message) or status
        except KeyboardInterrupt:
            if not is_typed:
                raise  # In a pipe, Ctrl-C ends the program.
        try:
            message = input(prompt)
        except (EOFError, KeyboardInterrupt) as end:
            if isinstance(end, KeyboardInterrupt) and not is_typed:
                raise
            if is_typed:
                print(file=sys.stderr)
            break
    return 0 if is_typed else status  # Whoever typed has seen the errors.


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    """Return the options; if they are wrong, print the usage and raise SystemExit."""
    parser = argparse.ArgumentParser(
        description="Stream a chat answer to the terminal with g4f.",
        epilog="Quote the message: characters such as ? * ' mean something to a shell. "
        "The key for --base-url is taken from $OPENAI_API_KEY.",
        allow_abbrev=False,
    )
    # Python 3.14 colours the help, but Output drops the escape characters.
    parser.color = False  # type: ignore[attr-defined]
    add = parser.add_argument
    add("message", nargs="*", help="what to ask; a last word - is replaced by standard input")
    add("-m", "--model", metavar="NAME", default="gpt-4", help="one that the server has (gpt-4)")
    add("-p", "--provider", metavar="NAME", help="one of g4f's (else: its free ones, in turn)")
    add("--base-url", metavar="URL", help="an OpenAI-compatible server ($OPENAI_BASE_URL)")
    add("-s", "--system", metavar="TEXT", help="a system message, sent before yours")
    add(
        "-t",
        "--timeout",
        metavar="SECONDS",
        type=float,
        default=60.0,
        help="the longest silence; then a free provider is skipped, any other given up (60)",
    )
    add("-q", "--quiet", action="store_true", help="print the answer alone, ending in a newline")
    add("-c", "--chat", action="store_true", help="a conversation: each line of input is a message")
    add("--compare", action="store_true", help="an answer from g4f's Client, and from AsyncClient")
    add("--version", action="version", version=f"messages_stream 1.0.0 (g4f {g4f.__version__})")
    options = parser.parse_args(arguments)

    if options.compare and (options.chat or options.system or options.quiet):
        parser.error("--compare goes with none of --chat, --system and --quiet")
    if options.provider is not None and options.base_url is not None:
        parser.error("--provider and --base-url exclude each other")
    if options.provider == "":
        parser.error("the provider is empty")
    if options.provider is None and options.base_url is None:
        options.base_url = os.environ.get("OPENAI_BASE_URL", "").strip() or None
    if options.base_url is not None and not is_url(options.base_url):
        parser.error("the base URL (or $OPENAI_BASE_URL) is not like http://127.0.0.1:8080/v1")
    if not options.timeout > 0:  # also true for nan
        parser.error("the timeout is not a positive number of seconds")
    words = options.message
    if words and words[-1] == "-":
        words[-1] = sys.stdin.read()
    options.message = " ".join(words)
    if words and not options.message.strip():
        parser.error("the message is empty")
    return options


def is_url(text: str) -> bool:
    """Return whether a text is an http or https URL."""
    try:
        url = urlsplit(text)
        has_host = bool(url.hostname) and url.port != 0
    except ValueError:  # not a port number, or half an IPv6 address
        return False
    return url.scheme in ("http", "https") and has_host and " " not in text


if __name__ == "__main__":
    exit_status = run(sys.argv[1:])
    if hasattr(sys, "ps1"):  # Python is interactive, as with IPython's %run, and goes on.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        sys.exit(exit_status)
    os._exit(exit_status)  # A normal exit might wait for a thread that hangs, see respond().

#!/usr/bin/env -S uv run --script
# /// script
# requires-python = ">=3.11"
# dependencies = ["g4f>=8.8.0"]
# ///
"""Stream a chat answer to the terminal with g4f, also when a server is silent, busy or breaks off.

$ python messages_stream.py
Hello there!

Final accumulated text: Hello there!

main() printed this. For a program of your own, copy sync_stream() or async_stream(), which are as
short as g4f allows. They wait forever for a silent server, unless you import ResilientProvider from
this file, and call them with it: sync_stream("Hi", provider=ResilientProvider()).

After these examples come the provider, the messages on stderr, and the command line.
"""

import signal
import sys

if sys.version_info < (3, 11):
    sys.exit("messages_stream.py needs Python 3.11 or later")

if __name__ == "__main__":
    # Ctrl-C during the slow imports ends the program at once, without a traceback. Later, respond()
    # puts Python's own handler back.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import argparse
import asyncio
import atexit
import codecs
import contextlib
import errno
import io
import itertools
import logging
import os
import re
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from difflib import get_close_matches
from json import JSONDecodeError
from typing import Any, TextIO
from urllib.parse import urlsplit

import aiohttp
import g4f
from g4f.client import AsyncClient, Client, convert_to_provider, create_custom_provider
from g4f.errors import ProviderNotFoundError, RetryNoProviderError, RetryProviderError
from g4f.Provider import ProviderLoader
from g4f.providers.response import FinishReason, JsonResponse, ProviderInfo, Reasoning
from g4f.providers.retry_provider import BaseRetryProvider, IterListProvider
from g4f.requests import get_shared_connector
from g4f.tools import run_tools

# Comments that start with "g4f:" tell what g4f does, and so why something is done here.

# The finish reasons of a complete answer. main() warns of any other. "none" is no server's word: it
# stands for a missing one.
COMPLETE = {"stop", "STOP", "stop_sequence", "eos", "eos_token", "end_turn", "tool_calls"}
# Control characters but tab and newline. Without them, an escape sequence is harmless text.
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
PROVIDER_LIST = "g4f's list of providers"

# Unless a program configures logging, Python prints warnings to stderr, without any prefix.
logger = logging.getLogger("messages_stream")


# --- The example ---


def sync_stream(
    question: str = "Hey! How can I recursively list all files in a directory in Python?",
    model: str = "gpt-4",
    **options: object,
) -> None:
    """Print the answer to a question as it arrives. Options are passed on to create()."""
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
    """Print the answer to a question as it arrives. Options are passed on to create()."""
    client = AsyncClient()
    messages = [{"role": "user", "content": question}]
    # g4f: create() returns the stream directly, so it is not awaited.
    stream = client.chat.completions.create(model=model, messages=messages, stream=True, **options)
    async for chunk in stream:
        print(chunk.choices[0].delta.content or "", end="", flush=True)


async def main(
    message: str = "Say hello there!",
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
    print only the answer and a final newline. `history` holds the messages so far, which g4f
    shortens if they are many; an answered message and its answer are appended to it.
    """
    text = ""
    finish_reason = "none"
    messages = [*(history or []), {"role": "user", "content": message}]
    try:
        # The inner `finally` prints the text before any error, and also when Ctrl-C cancels this.
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
        history.append({"role": "user", "content": message})
        history.append({"role": "assistant", "content": text})
    return None


# --- The provider ---
#
# Text comes to main() from right to left:
#
#   main() <- g4f's AsyncClient <- create_async_generator() <- ask() <- receive() <- g4f's provider
#
# It comes in chunks. Most are text (a str); others are a link or an image, or tell something:
# ProviderInfo who answers, Reasoning what the model thinks, FinishReason why the answer ended.


class AnswerError(Exception):
    """Why there is no answer, or only part of one, and in a last line what may help, if known."""


class SilenceError(TimeoutError):
    """Nothing was received within the time limit."""

    def __init__(self, name: str, seconds: float) -> None:
        super().__init__(f"{name} sent nothing for {seconds:g} seconds")


# g4f: both its clients call create_async_generator(), the synchronous one in a loop of its own, and
# need the attributes of this base class, such as `supports_stream`.
class ResilientProvider(BaseRetryProvider):
    """A g4f provider that survives failures: `AsyncClient(provider=ResilientProvider())`.

    It gives up a silent server, asks a busy one again, skips a silent free provider, and raises
    only AnswerError. It prints nothing, but logs a warning when it asks again. It keeps no state
    between requests, so one object can serve many at once.
    """

    supports_native_tools = True  # g4f: otherwise it does not pass a caller's `tools` on.

    def __init__(
        self,
        provider: Any = None,
        base_url: str | None = None,
        timeout: float = 60.0,
        notify: Callable[[str], object] = lambda name: None,
    ) -> None:
        """Ask a g4f provider (or its name), or the server at a URL, or else g4f's free providers.

        These are services that need no key; g4f asks one after the other until one answers.
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
        """Yield the chunks of an answer, or raise AnswerError.

        As long as there is no text, ask again if that may help. If a free provider was silent, ask
        without it, provided that g4f has told its name. If any other provider or server was busy,
        ask it again after a pause, twice at most.
        """
        # g4f: it keeps a connection for the next request, which fails if the server has closed it
        # by then. This closes each one after its answer, on this event loop. No public way exists.
        get_shared_connector()._force_close = True
        # g4f: without this option, it asks for a count of tokens, which some servers refuse.
        options.setdefault("stream_options", None)
        # g4f: it uses a proxy only if that is passed on.
        options.setdefault("proxy", os.environ.get("G4F_PROXY"))
        # g4f: it asks no free provider whose name is in this list. The caller may pass one, too.
        ignored = list(options.pop("ignored", []))
        pauses = [1, 2]  # seconds
        while True:
            has_text = False
            provider_name = ""
            try:
                async for chunk in self.ask(model, messages, ignored=ignored, **options):
                    has_text = has_text or is_text(chunk)
                    if isinstance(chunk, ProviderInfo):
                        provider_name = chunk.name
                    yield chunk
                return
            except AnswerError:
                raise  # There is nothing to add to that.
            except Exception as error:
                cause = describe(error)
                if has_text:  # To ask again would repeat it.
                    raise AnswerError(cause) from error
                status = read_status(error)
                is_busy = status == 429 or status >= 500
                if self.is_free:
                    # g4f: it passes over a free provider that fails, but waits for a silent one. If
                    # one is silent although it is ignored, to skip it again might never end.
                    can_skip = provider_name != "" and provider_name not in ignored
                    if isinstance(error, SilenceError) and can_skip:
                        logger.warning("%s; trying the next", cause)
                        ignored.append(provider_name)
                        continue
                elif is_busy and pauses:
                    pause = pauses.pop(0)
                    logger.warning("%s; trying again in %d s", cause, pause)
                    await asyncio.sleep(pause)
                    continue
                hint = suggest(error, status, self.base_url)
                raise AnswerError(f"{cause}\n{hint}" if hint else cause) from error

    async def ask(self, model: str, messages: Any, **options: Any) -> AsyncIterator[Any]:
        """Yield the chunks of one answer, and then its finish reason, or raise what went wrong."""
        has_text = False
        # g4f: its clients stop at the first chunk after a finish reason. But some servers send one
        # with every piece of text. So the last one is kept here until the end, or until more text.
        finish_reason = ""
        try:
            async for chunk in self.receive(model, messages, **options):
                if isinstance(chunk, FinishReason):
                    finish_reason = clean(chunk.reason or finish_reason)
                    continue
                if is_text(chunk):
                    if not has_text:
                        self.notify("")
                    has_text = True
                    finish_reason = ""
                yield chunk
        except RetryNoProviderError:
            pass  # g4f: despite its name, this means that the answer has ended without text.
        except (SilenceError, aiohttp.ClientError, ConnectionError):
            # After the end of an answer, some servers break the connection, or never close it.
            is_complete = has_text and finish_reason != ""
            if not is_complete:
                raise
        finally:
            if not has_text:
                self.notify("")

        if not has_text:
            raise AnswerError(f"the model sent no text (finish reason: {finish_reason or 'none'})")
        # g4f: its own providers seldom send a finish reason. A server that sends none may have been
        # cut off.
        assumed = "stop" if self.base_url is None else "none"
        yield FinishReason(finish_reason or assumed)
        # g4f: this chunk makes its clients stop. It is empty, as nothing is left to say. If they
        # went on, they would log token counts, and fail if the home directory is not writable.
        yield Reasoning("")

    async def receive(self, model: str, messages: Any, **options: Any) -> AsyncIterator[Any]:
        """Yield the chunks of one answer; raise SilenceError if one takes too long."""
        waiting_for = model  # until g4f tells the name of a provider, which it does not always do
        route: Any
        if self.base_url is not None:
            route = make_provider(self.base_url, model)
            waiting_for = route.__name__
            self.notify(waiting_for)
        elif self.provider is not None:
            # g4f: in a list, even in a list of one, a provider gets its key from the environment,
            # and tells its name by a ProviderInfo. The errors of one provider come out as they are.
            route = IterListProvider([self.provider])
        else:
            self.notify(PROVIDER_LIST)
            route = await load_free_providers(self.timeout)
            self.notify(waiting_for)
        stream = route.create_async_generator(model, messages, **options)
        join_halves = make_emoji_joiner()
        while True:
            try:
                # A timeout must not be open during a `yield` (PEP 789), so each chunk has its own.
                async with asyncio.timeout(self.timeout) as limit:
                    chunk = await anext(stream)
                    # g4f: it yields all that a server sends as a JsonResponse, too. That is dropped
                    # within the time limit, so that a server which says nothing else is silent.
                    while isinstance(chunk, JsonResponse):
                        chunk = await anext(stream)
            except StopAsyncIteration:
                return
            except TimeoutError:
                if limit.expired():
                    raise SilenceError(waiting_for, self.timeout) from None
                raise  # the provider's own timeout
            if isinstance(chunk, ProviderInfo) and chunk.name != waiting_for:
                waiting_for = chunk.name
                self.notify(waiting_for)
            if isinstance(chunk, str) and not chunk.isascii():
                chunk = join_halves(chunk)
            yield chunk


def is_text(chunk: Any) -> bool:
    """Return whether a chunk is something to print: text, a link or an image, but no reasoning."""
    # g4f: str() returns the text of a link or an image, too, and "" if a chunk has no text.
    return str(chunk) != "" and not isinstance(chunk, Reasoning)


def make_emoji_joiner() -> Callable[[str], str]:
    """Return a function that returns a text, but half an emoji only with its other half.

    g4f: it cannot encode the halves (UTF-16 surrogates), but some servers send them one by one. So
    "Hi \\ud83d" becomes "Hi ", and then "\\ude00!" becomes "😀!".
    """
    decoder = codecs.getincrementaldecoder("utf-16-le")("replace")
    return lambda text: decoder.decode(text.encode("utf-16-le", "surrogatepass"))


def make_provider(base_url: str, model: str) -> Any:
    """Return a g4f provider for an OpenAI-compatible server."""
    url = urlsplit(base_url)
    # People copy a URL with a slash at its end, or whole from a curl example.
    path = url.path.rstrip("/").removesuffix("/chat/completions")
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
        raise AnswerError(f"{clean(error)}\nSimilar names: {', '.join(similar)}.") from error


async def load_free_providers(timeout: float) -> Any:
    """Return AnyProvider, which asks g4f's free providers one after the other."""
    loaded: list[Any] = []

    def load() -> None:
        try:
            from g4f.providers.any_provider import AnyProvider

            loaded.append(AnyProvider)
        except Exception as error:
            loaded.append(error)

    # g4f: this import downloads a list of providers, and may hang. So it runs in a daemon thread,
    # which does not keep a program from ending, as one of asyncio's own threads would.
    threading.Thread(target=load, daemon=True).start()
    deadline = time.monotonic() + timeout
    while not loaded:
        if time.monotonic() > deadline:
            raise SilenceError(PROVIDER_LIST, timeout)
        await asyncio.sleep(0.01)
    if not isinstance(loaded[0], Exception):
        return loaded[0]
    # An error is often raised because of an earlier one, which says more: "Name or service not
    # known". But behind one of UNREADABLE there is nothing for a user.
    first: BaseException = loaded[0]
    while first.__context__ is not None and not isinstance(first, UNREADABLE):
        first = first.__context__
    cause = f"{PROVIDER_LIST} could not be read: {describe(first)}"
    raise AnswerError(f"{cause}\n{CHECK_CONNECTION}") from loaded[0]


# --- Messages on stderr ---

# g4f: if a server sends something else than it expects, it fails with one of these.
UNREADABLE = AttributeError, LookupError, NameError, TypeError, JSONDecodeError, UnicodeDecodeError
CHECK_CONNECTION = "Check the connection, or try another --provider or --base-url."


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
        # Its text is like "RetryProvider failed:\nCopilotApp: ClientConnectorError: No\n...".
        failures = re.findall(r"^\w+: \w+: .*", str(error), re.MULTILINE)
        return "\n  ".join(["all providers failed", *(clean(each, 150) for each in failures)])
    if isinstance(error, UNREADABLE):
        return f"g4f could not read the answer ({type(error).__name__})"
    # This shortens "Error: Model is loading" and "Response 404: ".
    text = clean(error).removeprefix("Error: ").rstrip(": ")
    # A single word says too little without the type of the error: "ValueError Oops".
    return text if " " in text else f"{type(error).__name__} {text}".rstrip()


def suggest(error: Exception, status: int, base_url: str | None) -> str:
    """Return a hint on what to try after an error, or "" if nothing is likely to help."""
    if isinstance(error, SilenceError):
        return "A slow server may need a longer --timeout."
    is_connection = isinstance(error, (aiohttp.ClientError, ConnectionError, RetryProviderError))
    if base_url is None:
        return CHECK_CONNECTION if is_connection else ""
    if is_connection:
        return "Check the connection and --base-url: is a server running there?"
    if isinstance(error, UNREADABLE) or status == 404:
        return "Check --base-url (most end in /v1) and --model."
    if status == 401:
        return "Set OPENAI_API_KEY to a key that the server accepts."
    return ""


def read_status(error: Exception) -> int:
    """Return the HTTP status of an error, or 0."""
    # g4f: its errors have no status but in their text, such as "Response 503: Service Unavailable",
    # "Error: Error 429: Too many requests" or "Error 200: Error 500: Internal error".
    match = re.match(r"(Error: |Error 200: )?(Response|Error) (\d{3})\b", str(error))
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
        """Leave everything else to stdout: input() needs its fileno(), for example."""
        return getattr(self.stdout, name)


def run(arguments: list[str], runner: asyncio.Runner) -> int:
    """Run the command line, and return the exit status."""
    try:
        # Python sets a stream to None if the shell has closed it, for example with `<&-`.
        sys.stdin = sys.stdin or open(os.devnull)
        sys.stderr = sys.stderr or open(os.devnull, "w")
        if sys.stdout is None:
            raise SystemExit("Error occurred: stdout is closed")
        if isinstance(sys.stdin, io.TextIOWrapper):
            # A file from Windows may begin with a byte order mark, and its lines may end in "\r\n".
            sys.stdin.reconfigure(encoding="utf-8-sig", errors="replace", newline=None)
        output: Any = Output(sys.stdout)
        with contextlib.redirect_stdout(output):
            return respond(parse_arguments(arguments), runner)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except asyncio.CancelledError:  # from stop_on_sigterm()
        return 128 + signal.SIGTERM
    except SystemExit as end:  # also from argparse, and from Output if it cannot be written
        if isinstance(end.code, int):
            return end.code
        print(end.code, file=sys.stderr)
        return 1
    except Exception as error:  # mostly from --compare, as main() prints its own
        print(f"Error occurred: {error}", file=sys.stderr)
        return 1


# What Ctrl-C and SIGTERM do, with the exit status if they end the program:
#
#                                    Ctrl-C                    SIGTERM
#   before respond()                 the system ends it, 130   the system ends it, 143
#   in an answer                     it is cancelled, 130      it is cancelled, 143
#   in an answer of a typed chat     it is cancelled           it is cancelled, 143
#   at the prompt of a typed chat    ends the chat, 0          terminate() ends it, 143
#   waiting for a line from a pipe   ends the chat, 130        terminate() ends it, 143
#
# An answer that is cancelled prints its text. On Ctrl-C, asyncio's runner cancels it, and then
# raises KeyboardInterrupt. On SIGTERM, stop_on_sigterm() cancels it, and CancelledError comes out.


def respond(options: argparse.Namespace, runner: asyncio.Runner) -> int:
    """Print one answer, or have a conversation, or compare the streams; return the exit status."""
    # g4f: its optimize_request() drops repeated messages, blank lines, and all but the last 40
    # messages. This one drops nothing: it has saved 0 tokens, and has nothing to log.
    run_tools.optimize_request = lambda messages, tools: (0, {})
    runner.get_loop()  # Otherwise run() makes the loop, and Ctrl-C might interrupt that.
    # The runner handles Ctrl-C only where Python's own handler is in place.
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
    return print_answer(options.message or "Say hello there!")


async def stop_on_sigterm(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Return the result of a coroutine; on SIGTERM, cancel it."""
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    with contextlib.suppress(NotImplementedError):  # On Windows, a loop handles no signals.
        loop.add_signal_handler(signal.SIGTERM, task.cancel)  # type: ignore[union-attr]
    try:
        return await coroutine
    finally:
        # This replaces the loop's handler, as the loop does not run at the prompt of a chat.
        signal.signal(signal.SIGTERM, terminate)


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
        # Called directly, it would block the event loop, which handles the signals.
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
    if is_typed:
        advice = "Ctrl-C stops an answer; at the prompt it leaves, as do Ctrl-D and exit."
        print(advice, file=sys.stderr)
    status = 0
    for each in itertools.chain([message], read_lines(is_typed)):
        if each.strip().lower() in ("exit", "quit"):
            break
        try:
            if each.strip():
                status = print_answer(each) or status
        except KeyboardInterrupt:
            if not is_typed:
                raise
    return 0 if is_typed else status  # Whoever typed has seen the errors.


def read_lines(is_typed: bool) -> Iterator[str]:
    """Yield the lines of stdin until its end or, if they are typed, until Ctrl-C."""
    prompt = "> " if is_typed and sys.stdout.isatty() else ""
    while True:
        try:
            line = input(prompt)
        except (EOFError, KeyboardInterrupt) as end:
            if is_typed:
                print(file=sys.stderr)  # The prompt still stands on the line.
            elif isinstance(end, KeyboardInterrupt):
                raise
            return
        yield line


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    """Return the options, and the words as one message, or print what is wrong and exit."""
    parser: Any = argparse.ArgumentParser(
        description="Stream a chat answer to the terminal with g4f.",
        epilog="Quote the message: characters such as ? * ' mean something to a shell. "
        "The key for --base-url is taken from $OPENAI_API_KEY.",
    )
    parser.color = False  # Python 3.14 colours the help, but Output drops the escape characters.
    add = parser.add_argument
    add(
        "words",
        metavar="message",
        nargs="*",
        help='what to ask; a last word "-" is replaced by standard input',
    )
    add("-m", "--model", metavar="NAME", default="gpt-4", help="one that the server has (gpt-4)")
    add("-p", "--provider", metavar="NAME", help="one of g4f's (else: its free ones, in turn)")
    add("--base-url", metavar="URL", help="an OpenAI-compatible server ($OPENAI_BASE_URL)")
    add("-s", "--system", metavar="TEXT", help="a system message, sent before yours")
    help_text = "the longest silence; then a free provider is skipped, any other given up (60)"
    add("-t", "--timeout", metavar="SECONDS", type=float, default=60.0, help=help_text)
    add("-q", "--quiet", action="store_true", help="print the answer alone, ending in a newline")
    add("-c", "--chat", action="store_true", help="a conversation: each line of input is a message")
    add("--compare", action="store_true", help="an answer from g4f's Client, and from AsyncClient")
    add("--version", action="version", version=f"messages_stream 1.0.0 (g4f {g4f.__version__})")
    options: argparse.Namespace = parser.parse_args(arguments)

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
    words = options.words
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
    exit_status = run(sys.argv[1:], asyncio.Runner())
    if hasattr(sys, "ps1"):  # Python is interactive, as with IPython's %run, and goes on.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        sys.exit(exit_status)
    # g4f: it has the browser closed at exit that some of its providers open.
    atexit._run_exitfuncs()
    # A normal exit, or closing the runner, would wait for a thread that looks up the name of a
    # host, and that may hang.
    os._exit(exit_status)

#!/usr/bin/env -S uv run --script
# /// script
# requires-python = ">=3.11"
# dependencies = ["g4f>=8.8.0"]
# ///
"""Stream a chat answer to the terminal with g4f, whatever its providers do.

$ python messages_stream.py
Hello there!

Final accumulated text: Hello there!

Most of this file deals with what can go wrong: a server that is silent or busy, or breaks off; text
that would harm a terminal; a closed pipe; Ctrl-C. The example, which is what to copy, is short.
"""

import signal
import sys

if sys.version_info < (3, 11):
    sys.exit("messages_stream.py needs Python 3.11 or later")

if __name__ == "__main__":
    # Until respond() sets the usual handler again, and mainly during the slow imports below, Ctrl-C
    # ends the program at once, without a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import argparse
import asyncio
import codecs
import contextlib
import errno
import logging
import os
import re
import threading
import time
from collections.abc import AsyncIterator, Callable
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

# Comments that start with "g4f:" explain a quirk of g4f, and what is done about it.

# Finish reasons of a complete answer. After any other, such as the "none" of ask(), main() warns.
COMPLETE = {"stop", "STOP", "stop_sequence", "eos", "eos_token", "end_turn", "tool_calls"}
# Control characters: C0 (except tab and newline), DEL and C1. Every escape sequence needs one.
CONTROL = {code: None for code in (*range(32), *range(127, 160)) if code not in (9, 10)}

PROVIDER_LIST = "g4f's list of providers"
# g4f: it fails with one of these if a server sends something else than it expects.
UNREADABLE = AttributeError, LookupError, NameError, TypeError, JSONDecodeError, UnicodeDecodeError

# Unless a program configures logging, Python prints warnings to stderr, without any prefix.
logger = logging.getLogger("messages_stream")


# --- The example ---
#
# Copy QUESTION, sync_stream() or async_stream(), and the import from g4f.client. The program runs
# these two only for --compare.

QUESTION = "Hey! How can I recursively list all files in a directory in Python?"


def sync_stream(question: str = QUESTION, model: str = "gpt-4", **options: object) -> None:
    """Print the answer to a question as it arrives. Options are passed to create()."""
    client = Client()
    messages = [{"role": "user", "content": question}]
    stream = client.chat.completions.create(model=model, messages=messages, stream=True, **options)
    for chunk in stream:
        print(chunk.choices[0].delta.content or "", end="", flush=True)


async def async_stream(question: str = QUESTION, model: str = "gpt-4", **options: object) -> None:
    """Print the answer to a question as it arrives. Options are passed to create()."""
    client = AsyncClient()
    messages = [{"role": "user", "content": question}]
    # g4f: create() returns the stream directly, so it is not awaited.
    stream = client.chat.completions.create(model=model, messages=messages, stream=True, **options)
    async for chunk in stream:
        print(chunk.choices[0].delta.content or "", end="", flush=True)


# main() is what the program runs otherwise. It also reports errors, and needs the next two parts.

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

    Return None, or 1 after an error, which is printed to stderr, not raised. See ResilientProvider
    for `provider`, `base_url` and `timeout` (in seconds). With `quiet`, print only the answer and a
    final newline. `history` holds the messages so far; an answered message and its answer are
    appended to it. keep_messages_whole() and Output, see there, are up to the caller.
    """
    text = ""
    finish_reason = None
    messages = [*(history or []), {"role": "user", "content": message}]
    try:
        # The inner `try` prints the text before any error, and also after Ctrl-C.
        try:
            resilient = ResilientProvider(provider, base_url, timeout, notify=show_notice)
            client = AsyncClient(provider=resilient)
            stream = client.chat.completions.create(model=model, messages=messages, stream=True)
            async for chunk in stream:
                delta = chunk.choices[0].delta.content
                if delta:
                    print(delta, end="", flush=True)
                    text += str(delta)  # g4f: a link or an image is an object, not a str.
                finish_reason = chunk.choices[0].finish_reason  # The last chunk has one.
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


class AnswerError(Exception):
    """The reason why there is no answer, or only part of one, in words for a user.

    It consists of the cause and, if something is likely to help, a line with a hint. The original
    exception is its `__cause__`.
    """

    def __init__(self, cause: str, hint: str = "") -> None:
        super().__init__(f"{cause}\n{hint}" if hint else cause)


class SilenceError(TimeoutError):
    """Nothing was received within the time limit."""

    def __init__(self, name: str, seconds: float, provider_name: str = "") -> None:
        """Say who was asked, and which provider that is, if g4f has told its name."""
        super().__init__(f"{name} sent nothing for {seconds:g} seconds")
        self.provider_name = provider_name


class UnreadableError(Exception):
    """Something was received that g4f cannot read, such as a web page."""


# g4f: its clients read attributes of this base class, such as `supports_stream`. There is no
# __init__() in it to call.
class ResilientProvider(BaseRetryProvider):  # type: ignore[misc]
    """A g4f provider that survives failures: `AsyncClient(provider=ResilientProvider())`.

    It limits silence, asks a busy server again, skips a silent provider, and raises only
    AnswerError. It keeps no state between requests, so one object can serve many at the same time.
    """

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
        """Yield the chunks of an answer. If there was no text, ask again if that may help:

        - if a server or a named provider was busy: after a pause, twice at most
        - if one of g4f's free providers was silent: without that one

        Anything else that goes wrong raises AnswerError.
        """
        keep_no_connection()
        # g4f: without any `stream_options` it makes a server count tokens, which some refuse. Its
        # variable for a proxy has no effect unless it is passed on.
        options = {"stream_options": None, "proxy": os.environ.get("G4F_PROXY"), **options}
        pauses = [1, 2]  # seconds
        # g4f: free providers whose names are in this list are not asked.
        ignored = [*options.pop("ignored", [])]
        while True:
            try:
                async for chunk in self.ask(model, messages, ignored=ignored, **options):
                    yield chunk
                return
            except AnswerError:
                raise  # To ask again would not help, see ask().
            except Exception as error:  # It failed before there was any text.
                status = read_status(error)
                is_busy = status == 429 or status >= 500
                silent_name = error.provider_name if isinstance(error, SilenceError) else ""
                if is_busy and not self.is_free and pauses:
                    # g4f: if a free provider is busy, g4f asks the next one instead.
                    pause = pauses.pop(0)
                    logger.warning("%s; trying again in %d s", describe(error), pause)
                    await asyncio.sleep(pause)
                elif silent_name and self.is_free and silent_name not in ignored:
                    # g4f: if a free provider is silent, g4f waits for it forever.
                    logger.warning("%s; trying the next", error)
                    ignored.append(silent_name)
                else:
                    hint = suggest(error, status, self.base_url)
                    raise AnswerError(describe(error), hint) from error

    async def ask(self, model: str, messages: Any, **options: Any) -> AsyncIterator[Any]:
        """Ask once, and yield the chunks of the answer, with its finish reason at the end.

        A failure before there is any text raises the original exception. A failure after some text
        raises AnswerError, unless a finish reason has shown that the answer was complete. An answer
        without text raises AnswerError, too.
        """
        has_text = False
        finish_reason = ""
        try:
            async for chunk in self.receive(model, messages, **options):
                if isinstance(chunk, FinishReason):
                    # More text may follow: some servers send a finish reason with every chunk.
                    finish_reason = clean(chunk.reason or finish_reason)
                    continue
                # g4f: links and images also have a text. The text of metadata is empty.
                if str(chunk) and not isinstance(chunk, Reasoning):
                    if not has_text:
                        self.notify("")
                    has_text = True
                    finish_reason = ""
                yield chunk
        except RetryNoProviderError:
            pass  # g4f: this is how it ends an answer without text.
        except Exception as error:
            if not has_text:
                raise
            # After the finish reason the answer is complete, but some servers then break the
            # connection, or do not close it before the time limit.
            if not finish_reason:
                raise AnswerError(describe(error)) from error
        finally:
            if not has_text:
                self.notify("")
        if not has_text:
            raise AnswerError(f"the model sent no text (finish reason: {finish_reason or 'none'})")
        if not finish_reason:
            # g4f: its own providers seldom send a finish reason, and its clients then report
            # "stop". But a server that sends no reason may have been cut off, so main() warns.
            finish_reason = "none" if self.base_url else "stop"
        yield FinishReason(finish_reason)
        # g4f: its clients stop at the first chunk after a finish reason, so they get an empty one.
        # Otherwise they would go on to log token counts, and fail if the home is not writable.
        yield Reasoning("")

    async def receive(self, model: str, messages: Any, **options: Any) -> AsyncIterator[Any]:
        """Ask once, and yield what arrives; raise SilenceError if that takes too long."""
        route = await self.find_route(model)
        stream = route.create_async_generator(model, messages, **options)
        join_emoji = make_emoji_joiner()
        provider_name = ""
        while True:
            try:
                # A timeout must not be open during a `yield`, so each chunk has its own.
                async with asyncio.timeout(self.timeout) as limit:
                    chunk = await anext(stream, None)
                    # g4f: it yields a JsonResponse for everything that a server sends, even if it
                    # says nothing. So a JsonResponse does not restart the time limit.
                    while isinstance(chunk, JsonResponse):
                        chunk = await anext(stream, None)
            except TimeoutError:
                if not limit.expired():
                    raise  # the provider's own timeout
                name = provider_name or model
                raise SilenceError(name, self.timeout, provider_name) from None
            except UNREADABLE as error:
                kind = type(error).__name__
                raise UnreadableError(f"g4f could not read the answer ({kind})") from error
            if chunk is None:
                return
            if isinstance(chunk, ProviderInfo) and chunk.name != provider_name:
                provider_name = chunk.name
                self.notify(provider_name)
            if isinstance(chunk, str) and not chunk.isascii():  # ASCII is never half an emoji.
                chunk = join_emoji(chunk)
            yield chunk

    async def find_route(self, model: str) -> Any:
        """Return the g4f provider that passes a request on to the chosen one, or to free ones."""
        if self.is_free:
            self.notify(PROVIDER_LIST)
            free_providers = await load_free_providers(self.timeout)
            self.notify(model)
            return free_providers
        provider = self.provider
        if self.base_url is not None:
            provider = make_provider(self.base_url, model)
        # g4f: called through a list, even of one, a named provider gets its key from the
        # environment. A ProviderInfo with its name comes first, and its errors come out unchanged.
        return IterListProvider([provider])


def make_emoji_joiner() -> Callable[[str], str]:
    """Return a function that takes and returns text; half an emoji waits for the other half."""
    # g4f: it cannot encode half an emoji, but a server may send the halves (UTF-16 surrogates) in
    # two chunks.
    decoder = codecs.getincrementaldecoder("utf-16-le")("replace")
    return lambda text: decoder.decode(text.encode("utf-16-le", "surrogatepass"))


def keep_no_connection() -> None:
    """Stop g4f from reusing connections, for the running event loop."""
    # g4f: a request fails if the server has closed the connection after the last one. There is no
    # public way to change that.
    get_shared_connector()._force_close = True


def keep_messages_whole() -> None:
    """Stop g4f from shortening messages, for the whole process."""
    # g4f: its optimize_request() drops repeated messages, blank lines, and all but the last 40
    # messages from the list. It returns how many tokens that saved, and a log.
    g4f.tools.run_tools.optimize_request = lambda messages, tools: (0, {})


def make_provider(base_url: str, model: str) -> Any:
    """Return a g4f provider for an OpenAI-compatible server."""
    url = urlsplit(base_url)
    # The URL may be copied with a slash at the end, or with the path of a curl example.
    path = re.sub("/+", "/", url.path).rstrip("/").removesuffix("/chat/completions")
    return create_custom_provider(
        base_url,
        api_key=os.environ.get("OPENAI_API_KEY", "").strip(),
        name=url.netloc.rpartition("@")[2],  # without user name and password
        # g4f: this, not the base URL, is what it asks.
        api_endpoint=url._replace(path=f"{path}/chat/completions").geturl(),
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
    results: list[Any] = []

    def load() -> None:
        try:
            from g4f.providers.any_provider import AnyProvider

            results.append(AnyProvider)
        except Exception as error:
            results.append(error)

    # g4f: this import downloads a list of providers and may hang. In a daemon thread, unlike one
    # of asyncio's, it does not keep a script that imports main() from ending. Polling is the
    # simplest way to wait for it.
    threading.Thread(target=load, daemon=True).start()
    deadline = time.monotonic() + timeout
    while not results:
        if time.monotonic() > deadline:
            raise SilenceError(PROVIDER_LIST, timeout)
        await asyncio.sleep(0.01)
    if not isinstance(results[0], Exception):
        return results[0]
    cause = first_cause(results[0])
    reason = type(cause).__name__ if isinstance(cause, UNREADABLE) else describe(cause)
    raise ConnectionError(f"{PROVIDER_LIST} could not be read ({reason})") from cause


def first_cause(error: BaseException) -> BaseException:
    """Return the exception that led to another one; requests and urllib3 have a chain of them."""
    while True:
        context = None if error.__suppress_context__ else error.__context__
        earlier = error.__cause__ or context
        if earlier is None:
            return error
        error = earlier


# --- Messages on stderr ---


def show_notice(name: str) -> None:
    """Show on the terminal who is being waited for, or with "" erase that line."""
    with contextlib.suppress(AttributeError, OSError):  # no stderr, or no terminal
        terminal = sys.stderr.fileno()
        # In the background (`&`) the line belongs to the shell. Windows has no job control.
        is_ours = not hasattr(os, "tcgetpgrp") or os.tcgetpgrp(terminal) == os.getpgrp()
        if sys.stderr.isatty() and is_ours:
            width = (os.get_terminal_size(terminal).columns or 80) - 1
            notice = f"Waiting for {name} ..."[:width] if name else ""
            print(f"\r{' ' * width}\r{notice}", end="", file=sys.stderr, flush=True)


def describe(error: BaseException) -> str:
    """Return what went wrong, on one line or, if several providers failed, on one line for each."""
    if isinstance(error, RetryProviderError):
        # RetryProvider failed:\nCopilotApp: ClientConnectorError: Cannot connect to host ...\n...
        failures = re.findall(r"^\w+: \w+: .*", str(error), re.MULTILINE)
        return "\n  ".join(["all providers failed", *(clean(each, 150) for each in failures)])
    # "Error: Busy" becomes "Busy", "Response 404: " becomes "Response 404", and a single word gets
    # its type, as it says too little: "ValueError Oops".
    text = clean(error).removeprefix("Error: ").rstrip(": ")
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
    if status == 401:
        return "Set OPENAI_API_KEY to a key that the server accepts."
    if status == 404 or isinstance(error, UnreadableError):
        return "Check --base-url (most end in /v1) and --model."
    return ""


def read_status(error: Exception) -> int:
    """Return the HTTP status of an error, or 0."""
    # g4f: the status is only in the text, such as "Response 503: Service Unavailable",
    # "Error: Error 429: Too many requests" or "Error 200: Error 429: Too many requests".
    match = re.match(r"(Error: |Error 200: )?(Response|Error) (\d{3})\b", str(error))
    return int(match[3]) if match else 0


def clean(value: object, length: int = 300) -> str:
    """Return what a server said, on one short line without control characters or keys."""
    text = str(value)
    keys = [key.strip() for name, key in os.environ.items() if name.endswith("_API_KEY")]
    for key in keys:
        if len(key) >= 7:  # A shorter one may be a word, such as "none".
            text = text.replace(key, "***")
    text = " ".join(text.translate(CONTROL).split())
    return text if len(text) <= length else f"{text[:length]}..."


# --- The command line ---
#
# How the program ends: main() returns after an answer or an error. On Ctrl-C, asyncio's runner
# cancels main() and raises KeyboardInterrupt; on SIGTERM, terminate() cancels it, which raises
# CancelledError. If stdout cannot be written, Output raises SystemExit. run() turns each of these
# into an exit status. Then os._exit() ends the program, because a normal exit, like closing the
# runner, would wait for asyncio's threads, and one of them may hang while it looks up a host name.


class Output:
    """A stdout that accepts any text, and shows no escape sequences on a terminal.

    If stdout cannot be written, it raises SystemExit, which `except Exception` does not catch.
    """

    def __init__(self, stdout: TextIO) -> None:
        self.stdout = stdout
        self.is_terminal = stdout.isatty()

    def write(self, text: str) -> None:
        if self.is_terminal:
            text = text.translate(CONTROL)
        try:
            self.stdout.write(text)
        except UnicodeEncodeError:  # The encoding of stdout lacks a character, so write a "?".
            encoding = self.stdout.encoding
            self.write(text.encode(encoding, "replace").decode(encoding))
        except OSError as error:
            self.fail(error)

    def flush(self) -> None:
        try:
            self.stdout.flush()
        except OSError as error:
            self.fail(error)

    def fail(self, error: OSError) -> None:
        """End the program, without a message if the reader of a pipe is gone."""
        if error.errno in (errno.EPIPE, errno.EINVAL):  # EINVAL is what Windows reports.
            raise SystemExit(1) from None
        raise SystemExit(f"Error occurred: stdout cannot be written ({error})") from None


def run(arguments: list[str]) -> int:
    """Run the command line, and return the exit status."""
    try:
        # Python sets a stream to None if the shell has closed it, for example with `<&-`.
        sys.stdin = sys.stdin or open(os.devnull)
        sys.stderr = sys.stderr or open(os.devnull, "w")
        if sys.stdout is None:
            raise SystemExit("Error occurred: stdout is closed")
        # A file from Windows may begin with a byte order mark, and its lines may end in "\r\n".
        sys.stdin.reconfigure(encoding="utf-8-sig", errors="replace", newline=None)  # type: ignore
        try:
            return respond(parse_arguments(arguments))
        finally:
            Output(sys.stdout).flush()  # os._exit() does not flush what --help has printed.
    except KeyboardInterrupt:  # Ctrl-C
        return 128 + signal.SIGINT
    except asyncio.CancelledError:  # SIGTERM
        return 128 + signal.SIGTERM
    except SystemExit as end:  # from argparse, Output or terminate()
        if isinstance(end.code, int):
            return end.code
        print(end.code, file=sys.stderr)
        return 1
    except Exception as error:  # from --compare, as main() reports its own
        print(f"Error occurred: {error}", file=sys.stderr)
        return 1


def respond(options: argparse.Namespace) -> int:
    """Print one answer, or have a conversation, or compare the streams; return the exit status."""
    keep_messages_whole()
    runner = asyncio.Runner()  # It is not closed, see above.
    handle_signals(runner)
    if options.compare:
        with contextlib.redirect_stdout(Output(sys.stdout)):  # type: ignore[type-var]
            runner.run(compare(options))
        return 0
    history = [{"role": "system", "content": options.system}] if options.system else []

    def print_answer(message: str) -> int:
        # The prompt of a chat needs the real stdout, so only the answer is redirected.
        with contextlib.redirect_stdout(Output(sys.stdout)):  # type: ignore[type-var]
            answer = main(
                message,
                model=options.model,
                provider=options.provider,
                base_url=options.base_url,
                timeout=options.timeout,
                quiet=options.quiet or options.chat,
                history=history,
            )
            return runner.run(answer) or 0

    if options.chat:
        return chat(options.message, print_answer)
    return print_answer(options.message or GREETING)


async def compare(options: argparse.Namespace) -> None:
    """Print an answer from each of the two streams."""
    question = options.message or QUESTION
    provider = ResilientProvider(options.provider, options.base_url, options.timeout, show_notice)
    try:
        print("Synchronous Stream:")
        # A thread keeps the synchronous client from delaying signals.
        await asyncio.to_thread(sync_stream, question, options.model, provider=provider)
        print("\n\nAsynchronous Stream:")
        await async_stream(question, options.model, provider=provider)
    finally:
        print()


def chat(message: str, print_answer: Callable[[str], int]) -> int:
    """Answer the first message, if any, and then each line of stdin; return the exit status."""
    with contextlib.suppress(ImportError):  # Windows has no readline.
        import readline  # Importing it gives input() line editing and a history.

        # A paste of several lines becomes one message.
        readline.parse_and_bind("set enable-bracketed-paste on")
    is_typed = sys.stdin.isatty()
    prompt = "> " if is_typed and sys.stdout.isatty() else ""
    if is_typed:
        print("Ctrl-C stops an answer. To leave, type exit or press Ctrl-D.", file=sys.stderr)
    status = 0
    while message.strip().lower() not in ("exit", "quit"):
        try:
            if message.strip():
                status = print_answer(message) or status
        except KeyboardInterrupt:  # It stops a single answer, but in a pipe the whole program.
            if not is_typed:
                raise
        try:
            message = input(prompt)
        except (EOFError, KeyboardInterrupt) as end:
            if is_typed:
                print(file=sys.stderr)
            elif isinstance(end, KeyboardInterrupt):
                raise
            break
    return 0 if is_typed else status  # Whoever typed has seen the errors.


def handle_signals(runner: asyncio.Runner) -> None:
    """Make Ctrl-C and SIGTERM end the program in good order."""
    # asyncio's runner handles Ctrl-C only if this is the handler.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # A signal that comes just before the event loop waits would be noticed only after the wait. But
    # if the loop has any handler of its own, every signal wakes it up (signal.set_wakeup_fd() tells
    # how). That is all this handler is for. On Windows there are none.
    with contextlib.suppress(NotImplementedError):
        runner.get_loop().add_signal_handler(signal.SIGTERM, lambda: None)
    signal.signal(signal.SIGTERM, terminate)  # This takes the place of the loop's own handler.


def terminate(signum: int, frame: object) -> None:
    """Cancel everything on the event loop or, if none is running, end the program."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        raise SystemExit(128 + signum) from None
    for task in asyncio.all_tasks(loop):
        loop.call_soon_threadsafe(task.cancel)


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    """Return the options; if they are wrong, print the usage and raise SystemExit."""
    parser = argparse.ArgumentParser(
        description="Stream a chat answer to the terminal with g4f.",
        epilog="Quote the message: characters such as ? * ' mean something to a shell. "
        "The key for --base-url is taken from $OPENAI_API_KEY.",
        allow_abbrev=False,
    )
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
    add(
        "--compare",
        action="store_true",
        help="an answer from g4f's Client, and one from AsyncClient",
    )
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
    os._exit(run(sys.argv[1:]))

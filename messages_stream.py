#!/usr/bin/env -S uv run --script
# /// script
# requires-python = ">=3.11"
# dependencies = ["g4f>=8.8.0"]
# ///
"""Stream a chat answer to the terminal with g4f, whatever its providers do.

$ python messages_stream.py
Hello there!

Final accumulated text: Hello there!
"""

import gc
import signal

if __name__ == "__main__":
    gc.disable()  # collecting takes 7 % of a short run, and frees next to nothing
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # until run() sets its own: no traceback during the other imports

import argparse
import asyncio
import codecs
import concurrent.futures
import contextlib
import errno
import importlib
import io
import os
import re
import sys
import threading
from collections.abc import AsyncIterator
from difflib import get_close_matches
from typing import Any

import g4f
from g4f.client import AsyncClient, Client, convert_to_provider, create_custom_provider
from g4f.errors import MissingAuthError, ProviderNotFoundError, RetryNoProviderError, RetryProviderError
from g4f.Provider import ProviderLoader
from g4f.providers.response import FinishReason, HeadersResponse, JsonRequest, JsonResponse, ProviderInfo, Reasoning
from g4f.providers.retry_provider import BaseRetryProvider, IterListProvider
from g4f.requests import get_shared_connector

QUESTION = "Hey! How can I recursively list all files in a directory in Python?"
REGISTRY = "g4f's list of providers"
URL = re.compile(r"https?://([^\s/@]*@)?([\w.-]+|\[[\da-f:.]+\])(:\d{1,5})?(/\S*)?", re.IGNORECASE)
# C0 except newline and tab, DEL, C1: without these characters no escape sequence reaches a terminal.
CONTROL = {code: None for code in (*range(32), *range(127, 160)) if code not in (9, 10)}


async def main(
    message: str = "Say hello there!",
    *,
    model: str = "gpt-4",
    provider: Any = None,
    base_url: str | None = None,
    system: str | None = None,
    timeout: float = 60.0,
    quiet: bool = False,
    history: list[dict[str, str]] | None = None,
) -> int | None:
    """Print the answer to a message as it arrives, and once more when it ends; return None, or 1 after an error.

    An error is printed to stderr, not raised. `timeout` is the longest silence allowed, in seconds. `quiet` prints the
    answer alone, ending in a newline. `history` is what was said before; a message that got its answer is added.
    """
    text = ""
    messages = [{"role": "system", "content": system}] if system else []
    messages += [*map(dict, history or []), {"role": "user", "content": message}]
    try:
        client = AsyncClient(provider=ResilientProvider(messages, provider, base_url, timeout))
        stream = client.chat.completions.create(model=model, messages=messages, stream=True)
        async for chunk in stream:
            if chunk.choices and (delta := chunk.choices[0].delta.content):
                print(delta, end="", flush=True)
                text += str(delta)  # links and images come as objects
    except Exception as error:
        return fail(error, text)
    finally:
        if not quiet:
            print(f"\n\nFinal accumulated text: {text}")
        elif text and not text.endswith("\n"):
            print(flush=True)
    if history is not None:
        history += [{"role": "user", "content": message}, {"role": "assistant", "content": text}]
    return None


def sync_stream(question: str = QUESTION, model: str = "gpt-4", **options: Any) -> None:
    """Print the answer to a question as it arrives; pass options to create(), raise what g4f raises."""
    client = Client()
    messages = [{"role": "user", "content": question}]
    for chunk in client.chat.completions.create(model=model, messages=messages, stream=True, **options):
        print(chunk.choices[0].delta.content or "", end="", flush=True)


async def async_stream(question: str = QUESTION, model: str = "gpt-4", **options: Any) -> None:
    """Print the answer to a question as it arrives; pass options to create(), raise what g4f raises."""
    client = AsyncClient()
    messages = [{"role": "user", "content": question}]
    async for chunk in client.chat.completions.create(model=model, messages=messages, stream=True, **options):
        print(chunk.choices[0].delta.content or "", end="", flush=True)


class ResilientProvider(BaseRetryProvider):  # type: ignore[misc]
    """A g4f provider that sees one request through; tells on stderr what it does, and in its errors what to try."""

    def __init__(
        self, messages: list[dict[str, str]], provider: Any = None, base_url: str | None = None, timeout: float = 60.0
    ) -> None:
        """Keep what is sent, who is asked, by default g4f's own route, and the longest silence in seconds."""
        self.messages = [*map(dict, messages)]  # g4f changes those that create() is given
        self.provider, self.base_url, self.timeout = provider, base_url, timeout
        self.asked = self.text = ""  # who is being waited for, and the last piece of text

    async def create_async_generator(self, model: str, messages: object, **options: Any) -> AsyncIterator[Any]:
        """Yield an answer; this is what g4f's clients call."""
        if self.asked:
            raise RuntimeError("a ResilientProvider is for one request: it sends the messages that it was made with")
        named = self.provider or self.base_url
        pauses, silent = [1, 2], list[str]()  # in seconds, before it is asked again; who is passed over
        while True:
            try:
                async for chunk in self.ask(model, ignored=silent, **options):
                    yield chunk
                return
            except Exception as error:
                busy = re.match(r"(Error: )?(Response|Error) (429|5\d\d)\b", str(error))  # as g4f words them
                mute = isinstance(error, g4f.errors.TimeoutError) and self.asked not in (REGISTRY, *silent)
                if named and busy and pauses and not self.text:
                    tell(f"{describe(error)}; trying again in {pauses[0]} s")
                    await asyncio.sleep(pauses.pop(0))
                elif mute and not named and not self.text:
                    tell(f"{error}; trying the next")
                    silent.append(self.asked)
                else:
                    error.add_note(self.suggest(error))
                    raise error from None

    async def ask(self, model: str, provider: Any = None, **options: Any) -> AsyncIterator[Any]:
        """Yield an answer, or raise what goes wrong first; `provider` is this one, as g4f's Client passes it on."""
        self.asked = model if self.provider or self.base_url else REGISTRY
        stream, reason = self.stream(model, **options), ""
        joiner = codecs.getincrementaldecoder("utf-16-le")("replace")  # g4f fails at half an emoji
        with contextlib.suppress(RetryNoProviderError):  # g4f's word for an empty answer
            # Some servers leave the connection open after the end, and some say "" for an end with every piece.
            while not (reason and self.base_url) and (chunk := await self.next_chunk(stream)):
                if isinstance(chunk, FinishReason):
                    reason = chunk.reason or reason
                    continue
                if isinstance(chunk, ProviderInfo):
                    self.asked = chunk.name
                elif isinstance(chunk, str) and not chunk.isascii():
                    chunk = joiner.decode(chunk.encode("utf-16-le", "surrogatepass"))
                if not isinstance(chunk, Reasoning):
                    self.text = str(chunk) or self.text
                yield chunk
        if not self.text:
            raise RuntimeError(f"the model sent no text (finish reason: {reason or 'none'})")
        if reason in ("length", "content_filter") or (self.base_url and not reason):
            cut = "was" if reason else "may have been"
            tell(f"The answer {cut} cut short (finish reason: {reason or 'none'}).", self.text)
        yield FinishReason(reason or "stop")
        yield Reasoning("")  # makes g4f stop here, before its log of tokens, which fails where the home is not writable

    async def stream(self, model: str, **options: Any) -> AsyncIterator[Any]:
        """Yield a provider's signs of life; g4f's IterListProvider, here of one, loads its key and tells its name."""
        provider = convert_to_provider(self.provider) if isinstance(self.provider, str) else self.provider
        if self.base_url:  # `models` keeps g4f from asking for them, and from taking one that only ends alike
            name = self.base_url.split("//")[-1].split("/")[0].rpartition("@")[2]
            key = os.environ.get("OPENAI_API_KEY", "").strip()
            provider = create_custom_provider(self.base_url, key, name, models=[model], default_model=model)
        route = IterListProvider([provider]) if provider else await load_default_route()
        get_shared_connector()._force_close = True  # one that is kept may be closed by the server
        async for chunk in route.create_async_generator(model, [*map(dict, self.messages)], **options):
            if chunk and not isinstance(chunk, (JsonRequest, HeadersResponse, JsonResponse)):
                yield chunk

    async def next_chunk(self, stream: AsyncIterator[Any]) -> Any:
        """Return the next chunk of a stream, or None, or raise g4f's TimeoutError; before text, show who is awaited."""
        if not self.text:
            notify(f"Waiting for {self.asked} ...")
        try:
            async with asyncio.timeout(self.timeout) as limit:
                return await anext(stream, None)
        except TimeoutError:
            if not limit.expired():
                raise  # the provider's own
            raise g4f.errors.TimeoutError(f"{self.asked} sent nothing for {self.timeout:g} seconds") from None
        finally:
            if not self.text:
                notify("")

    def suggest(self, error: Exception) -> str:
        """Return one line that says what to try after an error."""
        if isinstance(error, g4f.errors.TimeoutError):
            return "A slow server may need a longer --timeout."
        if isinstance(error, ProviderNotFoundError):
            return f"Similar names: {', '.join(get_close_matches(self.provider, ProviderLoader.names, cutoff=0))}."
        if self.base_url and "Connect call failed" in str(error):
            return f"No server listens at {self.asked}: is it running?"
        if self.base_url and isinstance(error, MissingAuthError):
            return "Set OPENAI_API_KEY to a key that the server accepts."
        if self.base_url and re.search("model.*not (found|exist)|(invalid|unknown) model", str(error), re.IGNORECASE):
            return "Name a --model that the server has; GET /models lists them."
        return "Check the connection, --model, --provider or --base-url (most end in /v1)."


async def load_default_route() -> Any:
    """Return g4f's AnyProvider; its import fetches a list, blocking and without a time limit, so in a daemon thread."""

    def load() -> None:
        try:
            loaded.set_result(importlib.import_module("g4f.providers.any_provider").AnyProvider)
        except Exception as error:
            loaded.set_exception(RuntimeError(f"{REGISTRY} could not be read ({describe(error)})"))

    loaded: concurrent.futures.Future[Any] = concurrent.futures.Future()
    loaded.set_running_or_notify_cancel()  # lets the result come after a time-out
    threading.Thread(target=load, daemon=True).start()
    return await asyncio.wrap_future(loaded)


def notify(line: str) -> None:
    """Show a notice on stderr, if that is a terminal, in place of the last one; "" leaves no trace of it."""
    with contextlib.suppress(AttributeError, OSError):  # no terminal, whatever it says of itself
        width = (os.get_terminal_size(sys.stderr.fileno() if sys.stderr.isatty() else -1).columns or 80) - 1
        print(f"\r{' ' * width}\r{line[:width]}", end="", file=sys.stderr, flush=True)


def tell(line: str, text: str = "") -> None:
    """Print a line to stderr; on a terminal it does not go on where the model's text ended."""
    unfinished = text and not text.endswith("\n") and sys.stdout.isatty() and sys.stderr.isatty()
    print(f"\n{line}" if unfinished else line, file=sys.stderr, flush=True)


def fail(error: Exception, text: str = "") -> int:
    """Print what went wrong to stderr, and what to try; return the exit status."""
    tell("\n".join([f"Error occurred: {describe(error)}", *getattr(error, "__notes__", [])]), text)
    return 1


def describe(error: Exception) -> str:
    """Return the cause of an error in one line, or one for each provider that failed; clean, and without keys."""
    text = str(getattr(error.args[0], "reason", error) if error.args else error)  # requests wraps the cause twice
    for name, value in os.environ.items():
        if name.endswith("_API_KEY") and len(value.strip()) > 3:
            text = text.replace(value.strip(), "***")
    text = re.sub(r"(?i)^Error: |(Error \d+: )(?=\1)|</?[a-z!][\w-]*(\s[^<>]*)?/?>|: *$", " ", text)  # repetition, tags
    lines = re.split(r"\n(?=\w+: \w+: )", text) if isinstance(error, RetryProviderError) else [text]
    length = 150 if lines[1:] else 300
    lines = [" ".join(line.translate(CONTROL).split()) for line in lines]
    text = "\n  ".join(line[:length] + "..." * (len(line) > length) for line in lines)
    unread = isinstance(error, (AttributeError, LookupError, NameError, TypeError)) or "DecodeError" in str(type(error))
    text = text if " " in text and text[0].isalnum() and not unread else f"{type(error).__name__}: {text}"
    return f"g4f could not read the answer ({text})" if unread else text


class Output(io.TextIOWrapper):
    """stdout that lets no control character through to a terminal, and ends the program where it cannot be written."""

    def write(self, text: str) -> Any:
        return self.attempt(super().write, text if text.isprintable() or not self.isatty() else text.translate(CONTROL))

    def flush(self) -> None:
        self.attempt(super().flush)

    def attempt(self, method: Any, *arguments: str) -> Any:
        try:
            return method(*arguments)
        except OSError as error:
            if error.errno not in (errno.EPIPE, errno.EINVAL):  # as after `| head -1`; Windows calls it EINVAL
                tell(f"Error occurred: stdout cannot be written ({error})")
            os._exit(1)


def parse_arguments(arguments: list[str]) -> dict[str, Any]:
    """Return the options; print usage and raise SystemExit where they are wrong."""
    parser = argparse.ArgumentParser(description="Stream a chat answer to the terminal with g4f.", allow_abbrev=False)
    add, route, mode = parser.add_argument, parser.add_mutually_exclusive_group(), parser.add_mutually_exclusive_group()
    add("message", nargs="*", help="default: Say hello there!; - stands for all of standard input")
    add("-m", "--model", metavar="NAME", default="gpt-4", help="default: gpt-4")
    route.add_argument("-p", "--provider", metavar="NAME", help="a g4f provider; default: those that need no key")
    route.add_argument("--base-url", metavar="URL", help="a server; default: $OPENAI_BASE_URL; key: $OPENAI_API_KEY")
    add("-s", "--system", metavar="TEXT", help="a system message before the user's")
    add("-t", "--timeout", metavar="SECONDS", type=float, default=60.0, help="the longest silence; default: 60")
    add("-q", "--quiet", action="store_true", help="print the answer alone, ending in a newline")
    mode.add_argument("-c", "--chat", action="store_true", help="hold a conversation, each line of input a turn")
    mode.add_argument("--compare", action="store_true", help="print one answer streamed synchronously, one not")
    add("--version", action="version", version=f"messages_stream 1.0.0 (g4f {g4f.__version__})")
    end = arguments.index("--") if "--" in arguments else len(arguments)  # argparse loses it between the words
    options = parser.parse_intermixed_args(arguments[:end])
    options.message += arguments[end + 1 :]
    if options.provider is None and options.base_url is None:
        options.base_url = os.environ.get("OPENAI_BASE_URL", "").strip() or None
    if options.provider is not None and not options.provider.strip():  # an unset variable: not to be sent to everybody
        parser.error("the provider is empty")
    if options.base_url is not None and not URL.fullmatch(options.base_url):
        parser.error("argument --base-url: not a URL like http://127.0.0.1:8080/v1 (default: $OPENAI_BASE_URL)")
    if not options.timeout > 0:
        parser.error("argument -t/--timeout: not a positive number of seconds")
    stdin = sys.stdin.buffer.read().decode("utf-8", "replace") if "-" in options.message else ""
    message = " ".join(stdin if word == "-" else word for word in options.message)
    if options.message and not message.strip():
        parser.error("the message is empty")
    return {**vars(options), "message": message}


def compare(message: str, model: str, system: str | None, quiet: bool, **options: Any) -> int:
    """Print the answers of both streams under headings; return the exit status."""
    status, messages = 0, [{"role": "system", "content": system}] if system else []
    messages += [{"role": "user", "content": message}]
    for heading, stream in ("Synchronous Stream:", sync_stream), ("\nAsynchronous Stream:", async_stream):
        print(heading, flush=True)
        provider = ResilientProvider(messages, **options)
        try:
            if coroutine := stream(message, model, provider=provider):  # the synchronous one returns None
                asyncio.Runner().run(coroutine)  # asyncio.run() would wait for threads, which may hang
        except Exception as error:
            status = fail(error, provider.text)
        finally:
            print(end="" if provider.text.endswith("\n") else "\n", flush=True)
    return status


def chat(message: str, **options: Any) -> int:
    """Answer a message and then each line of stdin, with what was said before in mind; return the exit status."""
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401  line editing and history for input()
    sys.stdin.reconfigure(errors="replace", newline=None)  # type: ignore[union-attr]
    gc.enable()  # a conversation may be long
    runner, history, status = asyncio.Runner(), list[dict[str, str]](), 0
    prompt, stop = ("> ", [KeyboardInterrupt]) if sys.stdin.isatty() else ("", [])
    try:
        while message.strip() != "exit":
            with contextlib.suppress(*stop):  # in a terminal Ctrl-C ends the answer; at the prompt, the conversation
                if message.strip():
                    status |= runner.run(main(message, **options, history=history)) or 0
            print("" if sys.stdout.isatty() else prompt, end="", file=sys.stderr)  # as input() prints it to stdout
            message = input(prompt if sys.stdout.isatty() else "")
    except (EOFError, *stop):
        print("\n" if prompt else "", end="", file=sys.stderr)
    return 0 if prompt else status


def terminate(signum: int, frame: object) -> object:
    """Cancel what runs on the event loop, as asyncio does at Ctrl-C; where none runs, end the program."""
    with contextlib.suppress(RuntimeError):
        loop = asyncio.get_running_loop()
        return loop.call_soon_threadsafe(lambda: [task.cancel() for task in asyncio.all_tasks(loop)])
    raise SystemExit(128 + signum)


def run(arguments: list[str]) -> int:
    """Do what the command line says; return the exit status."""
    sys.stdin, sys.stderr = sys.stdin or open(os.devnull), sys.stderr or open(os.devnull, "w")
    if sys.stdout is None:
        return fail(OSError("stdout is closed"))
    sys.stdout = Output(open(sys.stdout.fileno(), "wb", closefd=False), sys.stdout.encoding, "replace")
    try:
        options = parse_arguments(arguments)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, terminate)
        chatting, comparing, message = options.pop("chat"), options.pop("compare"), options.pop("message")
        if chatting:
            return chat(message, **{**options, "quiet": True})
        if comparing:
            return compare(message or QUESTION, **options)
        return asyncio.Runner().run(main(message or "Say hello there!", **options)) or 0
    except KeyboardInterrupt:
        return 130
    except (SystemExit, asyncio.CancelledError) as error:  # usage, or SIGTERM
        return int(getattr(error, "code", 143) or 0)
    finally:
        sys.stdout.flush()


if __name__ == "__main__":
    os._exit(run(sys.argv[1:]))  # a thread of g4f's may hang in a name look-up, and would hold up a normal exit

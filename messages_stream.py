# /// script
# requires-python = ">=3.10"
# dependencies = ["g4f>=8.8.0"]
# ///
"""Stream a chat answer to the terminal with g4f, whatever its providers do.

$ python messages_stream.py
Hello there!

Final accumulated text: Hello there!
"""

from __future__ import annotations

import gc
import os
import signal

if __name__ == "__main__":  # before the other imports, as those take a while
    gc.disable()  # a tenth less until the first byte, and no loss in a process that ends soon
    for signum in (signal.SIGINT, signal.SIGTERM):  # Ctrl-C shows no traceback even then
        signal.signal(signum, lambda signum, frame: os._exit(128 + signum))
    if os.path.expanduser("~") == "~" and "G4F_CONFIG_DIR" not in os.environ:
        raise SystemExit("Error occurred: there is no home directory.\nSet G4F_CONFIG_DIR to a folder for g4f's files.")

import argparse
import asyncio
import contextlib
import contextvars
import errno
import functools
import json
import logging
import re
import sys
import threading
import time
import urllib.parse
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable
from encodings import utf_16_le
from typing import Any

import g4f
from g4f.client import AsyncClient, Client, create_custom_provider
from g4f.errors import RetryProviderError
from g4f.providers.response import FinishReason, ProviderInfo

Messages = list[dict[str, str]]
Write = Callable[[str], None]
Ask = Callable[..., Awaitable[str]]

VERSION = "1.0.0"
QUESTION = "Hey! How can I recursively list all files in a directory in Python?"
REGISTRY = "g4f's list of providers"
DEFAULT_HINT = "Check the connection, name a provider with --provider, or a server of your own with --base-url."
NAMED_HINT = "Check that it is running and knows the --model, or try another --provider or --base-url."
# C0 except newline and tab, DEL, C1: without these characters no escape sequence reaches a terminal.
CONTROL = {code: None for code in (*range(32), *range(127, 160)) if code not in (9, 10)}
# As g4f's raise_for_status() and raise_error() word a rate limit and a server's error.
TRANSIENT = re.compile(r"(Error: )?(Response|Error) (429|5\d\d)\b")

output = threading.Lock()  # held while something is printed, as g4f's thread prints too
unfinished = False  # whether text on stdout stands in a line without an end
noticed = False  # whether a notice stands there


# --- The example ---

# main() collects and prints what async_stream() writes. answer() decides who is asked, and who is asked again; meanwhile
# watch() runs g4f in a thread and keeps the time.


class OutputError(Exception):
    """stdout cannot be written."""


def show(text: str) -> None:
    """Print what the model said to stdout, at once; raise OutputError where that fails."""
    global unfinished
    with output:
        notify("")
        if sys.stdout is None:
            raise OutputError("stdout is closed")
        try:
            if not text.isprintable() and is_terminal(sys.stdout):  # in this order: the second is a system call
                text = text.translate(CONTROL)
            encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
            if encoding != "utf-8" or not text.isascii():  # question marks for what stdout lacks: cp864 lacks %
                text = text.encode(encoding, "replace").decode(encoding)
            unfinished = not text.endswith("\n") if text else unfinished
            sys.stdout.write(text)  # at half the cost of print()
            sys.stdout.flush()
        except Exception as error:  # somebody's stdout may be anything
            raise OutputError(f"stdout cannot be written ({error})") from error


def sync_stream(question: str | Messages = QUESTION, model: str = "gpt-4", write: Write = show, **options: Any) -> str:
    """Print the answer to a question as it arrives; return the finish reason, raise what g4f raises."""
    reason = ""
    client = Client()
    stream = client.chat.completions.create(model=model, messages=to_messages(question), stream=True, **options)
    for chunk in stream:
        text, reason = read_chunk(chunk)
        if text:
            write(text)
    return reason


async def async_stream(
    question: str | Messages = QUESTION, model: str = "gpt-4", write: Write = show, **options: Any
) -> str:
    """Print the answer to a question as it arrives; return the finish reason, raise what g4f raises."""
    reason = ""
    client = AsyncClient()
    stream = client.chat.completions.create(model=model, messages=to_messages(question), stream=True, **options)
    async for chunk in stream:
        text, reason = read_chunk(chunk)
        if text:
            write(text)
    return reason


async def main(
    message: str = "Say hello there!",
    *,
    model: str = "gpt-4",
    provider: Any = None,
    base_url: str | None = None,
    system: str | None = None,
    timeout: float = 60.0,
    quiet: bool = False,
    history: Messages | None = None,
    stream: Ask = async_stream,
) -> int | None:
    """Print the answer to a message as it arrives, and once more when it ends; return None, or 1 after an error.

    An error is printed to stderr, not raised. `timeout` is the longest silence allowed, in seconds. `quiet` prints the
    answer alone, ending in one newline. `history` is what was said before; a message that got its answer is added.
    `stream` asks, as async_stream() does.
    """
    text = bytearray()  # grows in place, where a string would be copied for each piece
    held, status = "", None
    turn = [{"role": "user", "content": message}]
    messages = [*([{"role": "system", "content": system}] if system else []), *(history or []), *turn]

    def write(piece: str) -> None:
        nonlocal held
        text.extend(piece.encode("utf-8", "replace"))
        if quiet:  # newlines wait for more text, as only one may end the answer
            held += piece
            piece, held = held.rstrip("\n"), held[len(held.rstrip("\n")) :]
        show(piece)

    def ask(put: Write, asking: Write, silent: list[str]) -> Awaitable[str]:
        return stream(messages, model, put, **choose_provider(messages, model, provider, base_url, asking, silent))

    try:
        try:
            reason = await answer(ask, write, text, model, timeout, bool(provider or base_url))
        finally:
            if quiet and text:
                show("\n")
        if reason in ("length", "content_filter"):
            tell(f"The answer was cut short (finish reason: {reason}).")
        if history is not None:
            history += [*turn, {"role": "assistant", "content": text.decode()}]
    except Exception as error:
        status = fail(error, NAMED_HINT if provider or base_url else DEFAULT_HINT)
    finally:
        try:
            show("" if quiet else f"\n\nFinal accumulated text: {text.decode()}\n")
        except OutputError as error:
            status = status or fail(error)
    return status


def to_messages(question: str | Messages) -> Messages:
    """Return the messages of a question, always new ones: providers append to the list, and g4f trims it."""
    return [{"role": "user", "content": question}] if isinstance(question, str) else [dict(each) for each in question]


def read_chunk(chunk: Any) -> tuple[str, str]:
    """Return the text in a chunk and the finish reason; most chunks have one of them or none."""
    if not chunk.choices:
        return "", ""
    content = chunk.choices[0].delta.content
    if isinstance(content, list):  # parts, as some servers send them
        content = "".join(part if isinstance(part, str) else str(part.get("text") or "") for part in content)
    return str(content or ""), chunk.choices[0].finish_reason or ""  # str(): links and images come as objects


def choose_provider(
    messages: Messages, model: str, provider: Any, base_url: str | None, asking: Write, silent: list[str]
) -> dict[str, Any]:
    """Return what tells g4f whom to ask; its default route tells whom it is `asking`, and skips the `silent` ones."""
    if base_url:  # `models` keeps g4f from asking the server for them, and from taking one that only ends alike
        key = os.environ.get("OPENAI_API_KEY", "").strip() or None
        base = create_custom_provider(base_url, key, models=[model], default_model=model)
    elif provider or getattr(AsyncClient().chat.completions, "provider", True):  # a client of your own may bring one
        return {"provider": provider}
    else:
        asking(REGISTRY)
        try:
            from g4f.providers.any_provider import AnyProvider  # fetches it
        except Exception as error:
            raise RuntimeError(f"{REGISTRY} could not be read ({describe(error)})") from error
        asking(model)
        base = AnyProvider

    class Route(base):  # type: ignore[misc, valid-type]
        @classmethod
        async def create_async_generator(cls, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
            kwargs["messages"] = to_messages(messages)  # g4f has dropped what was said before, and white space
            decoder = utf_16_le.IncrementalDecoder("replace")  # holds half an emoji until the other half comes
            async for chunk in super().create_async_generator(*args, **kwargs):
                if type(chunk) is str and (decoder.buffer or not chunk.isascii()):  # g4f fails at half an emoji
                    chunk = decoder.decode(chunk.encode("utf-16-le", "surrogatepass"))
                elif isinstance(chunk, FinishReason) and not chunk.reason:
                    continue  # some servers send "" with every piece, and g4f would take the first for the end
                elif isinstance(chunk, ProviderInfo) and not base_url:
                    asking(chunk.name)
                yield chunk
                if isinstance(chunk, FinishReason) and base_url:
                    return  # g4f would wait for the server to close the connection

    return {"provider": Route, "ignored": [*silent]}


async def answer(ask: Ask, write: Write, text: bytearray, model: str, timeout: float, named: bool) -> str:
    """Write an answer as it arrives and return the finish reason.

    Until there is text, silent providers are passed over, and a named one that is busy is asked again.
    """
    silent: list[str] = []
    pauses = [1, 2] if named else []
    while True:
        asked = [model]
        try:
            reason = await watch(ask, write, text, asked, silent, timeout)
            if not text:
                raise RuntimeError(f"the model sent no text (finish reason: {reason})")
            return reason
        except Exception as error:
            if text:
                if getattr(error, "filename", None):  # g4f's log of token counts: the answer is whole
                    return ""
                raise
            if isinstance(error, TimeoutError) and asked[-1] not in (model, REGISTRY, *silent):
                tell(f"{error}; trying the next")
                silent.append(asked[-1])
            elif silent:
                raise RetryProviderError(f"no text from {', '.join(silent)}; then: {error}") from error
            elif pauses and TRANSIENT.match(str(error)):
                tell(f"{describe(error)}; trying again in {pauses[0]} s")
                await asyncio.sleep(pauses.pop(0))
            else:
                raise


async def watch(ask: Ask, write: Write, text: bytearray, asked: list[str], silent: list[str], timeout: float) -> str:
    """Return what `ask` returns, raise what it raises, or TimeoutError when nothing comes for `timeout` seconds.

    It runs in a thread of its own: g4f makes blocking calls, which neither a time limit nor Ctrl-C could end otherwise.
    """
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[tuple[str, Exception | None]] = loop.create_future()
    task: asyncio.Task[None] | None = None
    closed, writing, last, excused = False, False, time.monotonic(), 0.0

    def put(piece: str) -> None:
        nonlocal writing, last
        if not loop.is_running():  # Ctrl-C stops a loop, and what runs in it need not hear of it; it may go on later
            turn = threading.Event()
            loop.call_soon_threadsafe(turn.set)
            turn.wait()
        if closed:
            raise TimeoutError("nobody waits for this any more")
        writing = True
        if piece:
            write(piece)
        last, writing = time.monotonic(), False

    def asking(name: str) -> None:
        put("")  # a sign of life
        asked.append(name)
        if not text:
            notify(f"Waiting for {name} ...")

    async def work() -> None:
        nonlocal task
        task, reason, failure = asyncio.current_task(), "", None
        try:
            asking(asked[-1])
            reason = await ask(put, asking, silent)
        except BaseException as error:  # SystemExit and the like are a provider's failure too
            failure = error if isinstance(error, Exception) else RuntimeError(f"g4f gave up: {error!r}")
        with contextlib.suppress(RuntimeError):  # the loop has been closed
            loop.call_soon_threadsafe(ended.set_result, (reason, failure))

    thread = threading.Thread(target=contextvars.copy_context().run, args=(asyncio.run, work()), daemon=True)
    try:
        thread.start()
        while not ended.done():
            deadline = last + timeout
            await asyncio.wait([ended], timeout=deadline - time.monotonic())
            late = time.monotonic() > deadline + 0.2
            if writing or (late and last != excused):  # the reader paused, or this process did: believed once
                last = excused = time.monotonic()
            elif not ended.done() and time.monotonic() >= last + timeout:
                raise TimeoutError(f"{asked[-1]} sent nothing for {timeout:g} seconds")
    finally:
        closed = True
        if task:
            with contextlib.suppress(RuntimeError):  # its loop has been closed
                task.get_loop().call_soon_threadsafe(task.cancel)
            thread.join(0.5)  # it closes its connection; if it hangs, it is left behind
    reason, failure = ended.result()
    if failure:
        raise failure
    return reason


def notify(line: str) -> None:
    """Show a notice on stderr in place of the last, on a terminal and not behind text; "" leaves no trace of it."""
    global noticed
    if not noticed and (unfinished or not line or not is_terminal(sys.stderr)):
        return
    with contextlib.suppress(Exception):  # somebody's stderr may be anything
        width = (os.get_terminal_size(sys.stderr.fileno()).columns or 80) - 1
        line = " ".join(line.encode("ascii", "replace").decode().split())[:width]  # others may be wider
        print(f"\r{' ' * width * noticed}\r{line}", end="", file=sys.stderr, flush=True)
        noticed = bool(line)


def tell(line: str) -> None:
    """Print a line to stderr; on a terminal it does not go on where the model's text ended."""
    notify("")
    start = "\n" if unfinished and is_terminal(sys.stdout) and is_terminal(sys.stderr) else ""
    with contextlib.suppress(Exception):
        if sys.stderr is not None:
            print(start + line, file=sys.stderr, flush=True)


def is_terminal(stream: Any) -> bool:
    """Return whether a stream is a terminal; what cannot tell is none."""
    with contextlib.suppress(Exception):
        return bool(stream.isatty())
    return False


def fail(error: Exception, hint: str = "") -> int:
    """Print what went wrong to stderr, and what to try; return the exit status."""
    if isinstance(error, OutputError):
        hint = ""
        if getattr(error.__cause__, "errno", 0) == (errno.EINVAL if sys.platform == "win32" else errno.EPIPE):
            sys.stdout = None  # nobody reads any more, as after `| head -1`; Windows calls that EINVAL
            return 1
    tell(f"Error occurred: {describe(error)}\n{hint}".rstrip())
    return 1


def describe(error: Exception) -> str:
    """Return the cause of an error in one line, or one for each of several providers that failed."""
    cause = getattr(error.args[0], "reason", error) if error.args else error  # requests wraps it twice
    lines = [str(cause).removeprefix("Error: ")]
    if isinstance(error, RetryProviderError):
        lines = re.split(r"\n(?=\w+: \w+: )", lines[0])
    text = "\n  ".join(clean(line, 150 if lines[1:] else 300) for line in lines)
    typed = f"{type(error).__name__}: {text}"
    if isinstance(error, (AttributeError, LookupError, NameError, TypeError, json.JSONDecodeError, UnicodeError)):
        return f"g4f could not read the answer ({typed})"
    return text if " " in text and text[0].isalpha() else typed


def clean(text: str, length: int) -> str:
    """Return text in one line of a length, without markup, control characters or keys."""
    text = " ".join(text.split()).translate(CONTROL)
    for name, value in os.environ.items():
        if name.endswith("_API_KEY") and len(value.strip()) > 3:
            text = text.replace(value.strip(), "***")
    text = " ".join(re.sub(r"<[/!]?[a-zA-Z][\w-]*(\s[^<>]*)?/?>", " ", text).split())
    return text if len(text) <= length else text[: length - 3] + "..."


# --- The command line ---


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    """Return the options; print usage and raise SystemExit where they are wrong."""
    parser = argparse.ArgumentParser(description="Stream a chat answer to the terminal with g4f.", allow_abbrev=False)
    route, mode = parser.add_mutually_exclusive_group(), parser.add_mutually_exclusive_group()
    add = parser.add_argument
    add("message", nargs="*", help="words of the message; - stands for all of standard input")
    add("-m", "--model", metavar="NAME", default="gpt-4", help="default: gpt-4")
    route.add_argument("-p", "--provider", metavar="NAME", help="a g4f provider; default: those that need no key")
    route.add_argument("--base-url", metavar="URL", type=url, help="an OpenAI-compatible server; key: $OPENAI_API_KEY")
    add("-s", "--system", metavar="TEXT", type=valid, help="a system message before the user's")
    add("-t", "--timeout", metavar="SECONDS", type=seconds, default=60.0, help="the longest silence; default: 60")
    add("-q", "--quiet", action="store_true", help="print the answer alone, ending in one newline")
    mode.add_argument("-c", "--chat", action="store_true", help="hold a conversation, each line of input a turn")
    mode.add_argument("--compare", action="store_true", help="print one answer streamed synchronously, one not")
    add("--version", action="version", version=f"messages_stream {VERSION} (g4f {g4f.__version__})")
    end = arguments.index("--") if "--" in arguments else len(arguments)  # parse_intermixed_args() overlooks it
    options = parser.parse_intermixed_args(arguments[:end])
    words = [
        sys.stdin.buffer.read().decode("utf-8", "replace") if word == "-" else word
        for word in options.message + arguments[end + 1 :]
    ]
    default = QUESTION if options.compare else "" if options.chat else "Say hello there!"
    options.message = valid(" ".join(words)) if words else default
    options.quiet |= options.chat or options.compare  # each answer ends in one newline
    if words and not options.message.strip():
        parser.error("the message is empty")
    if options.provider is not None and not options.provider.strip():  # an unset variable: not to be sent to everybody
        parser.error("the provider is empty")
    return options


def valid(text: str) -> str:
    """Return text with a question mark for each byte that the shell passed and UTF-8 does not know."""
    return text.encode("utf-8", "replace").decode()


def url(text: str) -> str:
    """Return an http URL, or raise ArgumentTypeError, which does not repeat a password in it."""
    with contextlib.suppress(ValueError):
        parts = urllib.parse.urlsplit(text)
        host = (parts.hostname or "").encode("idna")
        if parts.scheme in ("http", "https") and host and parts.port != 0 and text.split() == [text]:
            return text
    raise argparse.ArgumentTypeError("not a URL like http://127.0.0.1:8080/v1")


def seconds(text: str) -> float:
    """Return a positive number, or raise ArgumentTypeError."""
    with contextlib.suppress(ValueError):
        if float(text) > 0:
            return float(text)
    raise argparse.ArgumentTypeError("not a positive number of seconds")


async def compare(**options: Any) -> int | None:
    """Print the answers of both streams under headings; return None, or 1 after an error."""
    show("Synchronous Stream:\n")
    status = await main(**options, stream=functools.partial(asyncio.to_thread, sync_stream))
    if sys.stdout is None:  # the reader has gone
        return status
    show("\nAsynchronous Stream:\n")
    return await main(**options, stream=async_stream) or status


def chat(message: str, **options: Any) -> int:
    """Answer a message and then each line of stdin, with what was said before in mind; return the exit status."""
    with contextlib.suppress(ImportError):
        import readline  # line editing and recall for input()

        readline.parse_and_bind("set enable-bracketed-paste on")  # several lines pasted are one turn
    sys.stdin.reconfigure(errors="replace", newline=None)  # type: ignore[union-attr]
    interactive = is_terminal(sys.stdin)
    prompt = "> " if interactive else ""
    history: Messages = []
    status = 0
    show("")  # raises OutputError where stdout is closed
    if interactive:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        while message.strip() != "exit":
            if message.strip():
                with contextlib.suppress(KeyboardInterrupt):  # ends the answer; at the prompt, the conversation
                    status |= asyncio.run(main(message, **options, history=history)) or 0
                # The collector is off, see the top; in a thread, as Ctrl-C would be lost in a finalizer.
                threading.Thread(target=gc.collect, daemon=True).start()
            if sys.stdout is None:  # the reader has gone
                return status
            if not is_terminal(sys.stdout):  # input() would print the prompt there
                print(prompt, end="", file=sys.stderr, flush=True)
            message = input(prompt if is_terminal(sys.stdout) else "")
    except (EOFError, KeyboardInterrupt):
        if interactive:
            tell("")
    return 0 if interactive else status


def run(arguments: list[str]) -> int:
    """Do what the command line says; return the exit status."""
    sys.stdin, sys.stderr = sys.stdin or open(os.devnull), sys.stderr or open(os.devnull, "w")
    if getattr(sys.stdout, "write_through", False):  # PYTHONUNBUFFERED: a full disk would cut text in silence
        sys.stdout = open(sys.stdout.fileno(), "w", encoding=sys.stdout.encoding, closefd=False)
    # What others leave on stderr, about connections and threads that were given up, helps nobody.
    warnings.simplefilter("ignore")
    logging.disable()
    sys.unraisablehook = lambda args: None
    threading.excepthook = lambda args: None
    try:
        options = vars(parse_arguments(arguments))
        chatting, comparing = options.pop("chat"), options.pop("compare")
        for signum in (signal.SIGINT, signal.SIGTERM):
            signal.signal(signum, lambda signum, frame: sys.exit(128 + signum))
        if chatting:
            return chat(**options)
        return asyncio.run(compare(**options) if comparing else main(**options)) or 0
    except SystemExit as error:  # wrong usage, --help, Ctrl-C
        return int(error.code or 0)
    except Exception as error:
        return fail(error)


if __name__ == "__main__":
    status = run(sys.argv[1:])
    try:
        if sys.stdout and not output.locked():
            sys.stdout.flush()
    except (OSError, ValueError):
        status = status or 1
    os._exit(status)  # a thread of g4f's may hang in a name look-up, and would hold up a normal exit

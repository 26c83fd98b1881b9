"""A provider of g4f's kind that does what a test says, without a server."""

from collections.abc import AsyncIterator
from typing import Any

from g4f.providers.base_provider import AsyncGeneratorProvider


def provider(*chunks: Any) -> type[AsyncGeneratorProvider]:
    """Return a provider that yields chunks, and raises those that are exceptions."""

    class Provider(AsyncGeneratorProvider):  # type: ignore[misc]
        working = True

        @classmethod
        async def create_async_generator(
            cls, model: str, messages: Any, **kwargs: Any
        ) -> AsyncIterator[Any]:
            for chunk in chunks:
                if isinstance(chunk, Exception):
                    raise chunk
                yield chunk

    return Provider

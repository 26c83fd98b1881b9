"""The plain g4f loop, as people write it first: what `benchmark.py` measures this project against."""

import asyncio
import sys

from g4f.client import AsyncClient
from g4f.Provider import Custom


async def main(url: str, model: str) -> None:
    client = AsyncClient(provider=Custom, base_url=url)
    messages = [{"role": "user", "content": "Say hello there!"}]
    text = ""
    async for chunk in client.chat.completions.create(model=model, messages=messages, stream=True):
        piece = chunk.choices[0].delta.content or ""
        print(piece, end="", flush=True)
        text += piece
    print(f"\n\nFinal accumulated text: {text}")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))

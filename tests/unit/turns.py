"""How often the loop turns while something else works on it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass


@dataclass
class Turns:
    count: int = 0

    async def go_on(self) -> None:
        while True:
            self.count += 1
            await asyncio.sleep(0)


@asynccontextmanager
async def turns_counted() -> AsyncIterator[Turns]:
    """Counts every turn from the first one after the block was entered until it is left."""
    turns = Turns()
    counting = asyncio.create_task(turns.go_on())
    try:
        yield turns
    finally:
        counting.cancel()
        with suppress(asyncio.CancelledError):
            await counting

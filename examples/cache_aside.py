"""Cache-aside in a FastAPI service: look in the cache, else in the database, and leave what was found for the next one.

    make up                                                     # in a first terminal
    .venv/bin/uvicorn examples.cache_aside:app --port 9000      # in a second one
    curl -i localhost:9000/books/1                              # X-Cache: miss, after 50 ms
    curl -i localhost:9000/books/1                              # X-Cache: hit
    curl -X PUT 'localhost:9000/books/1/price?cents=990'        # the next read has the new price

The usual mistake is to store what was read even if somebody has changed it meanwhile. Here a reader stores only if the
key is absent, and a writer stores the new book in place of deleting the old one, so a slow reader comes too late and is
refused. What is left: two writers of one book at the same moment may reach the cache in the other order than the
database; and the key may expire or be evicted between a writer's store and a slow reader's. `TTL_S` bounds both.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
from fastapi import FastAPI, HTTPException, Request, Response

from ringmaster.client import AsyncClient, token_from_environment
from ringmaster.errors import RingmasterError

TTL_S = 60.0


class Book(msgspec.Struct):
    """A row of the database."""

    title: str
    cents: int


class Database:
    """Stands for a real one, which takes its time."""

    def __init__(self) -> None:
        self._books = {1: Book("Middlemarch", 1290), 2: Book("Walden", 850)}

    async def load(self, number: int) -> Book | None:
        await asyncio.sleep(0.05)
        return self._books.get(number)

    async def set_price(self, number: int, cents: int) -> Book | None:
        await asyncio.sleep(0.05)
        if number in self._books:
            self._books[number] = Book(self._books[number].title, cents)
        return self._books.get(number)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """One pool of connections for the whole life of the service."""
    url = os.environ.get("RINGMASTER_URL", "http://127.0.0.1:8080")
    async with AsyncClient(url, timeout_s=1.0, token=token_from_environment()) as cache:
        app.state.cache = cache
        app.state.database = Database()
        yield


app = FastAPI(lifespan=lifespan)


@app.get("/books/{number}")
async def show(number: int, request: Request) -> Response:
    """From the cache if it is there. A cache that does not answer costs time, not the reply."""
    cache, key = request.app.state.cache, f"book/{number}"
    try:
        text = await cache.get(key)
    except RingmasterError:
        text = None
    if text is not None:
        return _reply(text, "hit")
    book = await request.app.state.database.load(number)
    if book is None:
        raise HTTPException(404)
    text = msgspec.json.encode(book)
    await _store_if_absent(cache, key, text)
    return _reply(text, "miss")


@app.put("/books/{number}/price")
async def set_price(number: int, cents: int, request: Request) -> Response:
    """First the database, then the cache: 503 if only the first is certain, so that the caller repeats both."""
    book = await request.app.state.database.set_price(number, cents)
    if book is None:
        raise HTTPException(404)
    text = msgspec.json.encode(book)
    try:
        await request.app.state.cache.post(f"book/{number}", text, ttl_s=TTL_S)
    except RingmasterError as error:
        raise HTTPException(503, f"saved, but readers may not see it yet: {error}") from error
    return _reply(text, "stored")


async def _store_if_absent(cache: AsyncClient, key: str, text: bytes) -> None:
    """For the next reader. That somebody else was first (412) or nobody answers is no concern of this one."""
    item = {"key": key, "value": msgspec.Raw(text), "ttl": TTL_S}
    try:
        await cache.request("POST", "/data", msgspec.json.encode(item), {"If-None-Match": "*"})
    except RingmasterError:
        return


def _reply(text: bytes, how: str) -> Response:
    return Response(text, media_type="application/json", headers={"X-Cache": how})

"""Requests that are sent together, and the replies to all of them: no task and no future for each."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, cast

from xxhash import xxh3_64_intdigest

from master.routes import Route, Table
from master.verdicts import MOVED, Ask
from ringmaster.errors import DeadlineExceeded, LinkDown, RingmasterError, WireError
from ringmaster.link import Link
from ringmaster.resp import Reply, bulk_head, encode

NO_PRIMARY: Final = LinkDown("the partition has no live primary")
LATE: Final = DeadlineExceeded("no reply came within the deadline")
_MOST_PAIRS: Final = 512
"""Keys in one `RM.MGET`: about half a millisecond of the node's time, which others wait for."""


class Request(NamedTuple):
    """`place` & (P - 1) is the partition: P is not known before the first view."""

    place: int
    command: bytes
    args: tuple[bytes | int, ...]

    def frame(self, route: Route) -> bytes:
        """The command for the wire."""
        if self.command == b"RM.GET":
            key = cast(bytes, self.args[0])
            return b"%b%b%b\r\n" % (route.get, bulk_head(len(key)), key)
        return encode(self.command, route.token, *self.args)


class Round:
    """`replies`: one for each request. `done()` is called once, when all are there."""

    __slots__ = ("_done", "_left", "replies")

    def __init__(self, count: int, done: Callable[[], None]) -> None:
        self.replies: list[Reply] = [None] * count
        self._left = count
        self._done = done

    def count(self, replies: int) -> None:
        """So many more are there."""
        self._left -= replies
        if not self._left:
            self._done()


class One(Ask):
    """One request; only its first reply counts."""

    __slots__ = ("_index", "_round")

    def __init__(self, round_: Round, index: int, route: Route | None) -> None:
        self._round: Round | None = round_
        self._index = index
        self.route = route

    def replied(self, reply: Reply) -> None:
        round_, self._round = self._round, None
        if round_ is not None:
            round_.replies[self._index] = reply
            round_.count(1)


class Batch(Ask):
    """One `RM.MGET` for many keys of one node; only its first reply counts."""

    __slots__ = ("_round", "indexes", "routes")

    def __init__(self, round_: Round) -> None:
        self._round: Round | None = round_
        self.route = None
        self.indexes: list[int] = []
        self.routes: list[Route] = []

    def replied(self, reply: Reply) -> None:
        round_, self._round = self._round, None
        if round_ is None:
            return
        indexes, replies = self.indexes, round_.replies
        if isinstance(reply, list) and len(reply) == len(indexes):
            for index, each in zip(indexes, reply, strict=True):
                replies[index] = each
        else:
            error = reply if isinstance(reply, RingmasterError) else WireError("a reply too short")
            for index in indexes:
                replies[index] = error
        round_.count(len(indexes))

    def rerouted(self, table: Table) -> None:
        """One partition that moved is reason enough to ask for all again: reading twice harms nobody."""
        for route in self.routes:
            if table[route.partition] is not route:
                self.replied(MOVED)
                return


def send_batches(table: Table, keys: Sequence[bytes], round_: Round) -> list[Batch]:
    """Ask for `keys` with as few commands as there are nodes; `round_` gets a reply for each.

    Call `replied(LATE)` on what is returned to end the round at a deadline.
    """
    mask = len(table) - 1
    routes = [table[xxh3_64_intdigest(key) & mask] for key in keys]
    batches: list[tuple[Link, Batch]] = []
    filling: dict[Link, Batch] = {}
    unrouted: list[int] = []
    for index, route in enumerate(routes):
        if route is None:
            unrouted.append(index)
            continue
        batch = filling.get(route.link)
        if batch is None or len(batch.indexes) >= _MOST_PAIRS:
            batch = filling[route.link] = Batch(round_)
            batches.append((route.link, batch))
        batch.indexes.append(index)
        batch.routes.append(route)
    for index in unrouted:
        round_.replies[index] = NO_PRIMARY
    for link, batch in batches:
        args = [b"RM.MGET"]
        for index, route in zip(batch.indexes, batch.routes, strict=True):
            args += (route.token, keys[index])
        link.ask(encode(*args), batch)
    if unrouted:
        round_.count(len(unrouted))
    return [batch for _, batch in batches]


async def ask_each(
    table: Table, requests: Sequence[Request], within_s: float, *, movable: bool
) -> list[Reply]:
    """One reply for each of `requests`; a late one is `DeadlineExceeded`. `movable`: they are reads."""
    round_, done = _awaitable(len(requests))
    asks: list[Ask] = []
    mask = len(table) - 1
    for index, request in enumerate(requests):
        route = table[request.place & mask]
        ask = One(round_, index, route if movable else None)
        asks.append(ask)
        if route is None:
            ask.replied(NO_PRIMARY)
        else:
            route.link.ask(request.frame(route), ask)
    return await _all(round_, done, asks, within_s)


async def ask_batches(table: Table, keys: Sequence[bytes], within_s: float) -> list[Reply]:
    """The same for reads of `keys`, with as few commands as there are nodes."""
    round_, done = _awaitable(len(keys))
    return await _all(round_, done, send_batches(table, keys, round_), within_s)


def _awaitable(count: int) -> tuple[Round, asyncio.Future[None]]:
    """A round, and what is resolved when it is over."""
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def resolve() -> None:
        if not done.done():
            done.set_result(None)

    return Round(count, resolve), done


async def _all(
    round_: Round, done: asyncio.Future[None], asks: Sequence[Ask], within_s: float
) -> list[Reply]:
    try:
        async with asyncio.timeout(within_s):
            await done
    except TimeoutError:
        for ask in asks:
            ask.replied(LATE)
    return round_.replies

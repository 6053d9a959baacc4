"""Requests that are sent together, and the replies to all of them: no task and no future for each."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final, NamedTuple, cast

from xxhash import xxh3_64_intdigest

from master.routes import Route, Table
from master.verdicts import MOVED, Ask
from ringmaster.errors import DeadlineExceeded, LinkDown, RingmasterError, WireError
from ringmaster.link import Link
from ringmaster.resp import Reply, encode

NO_PRIMARY: Final = LinkDown("the partition has no live primary")
_LATE: Final = DeadlineExceeded("no reply came within the deadline")
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
            return b"%b$%d\r\n%b\r\n" % (route.get, len(key), key)
        return encode(self.command, route.token, *self.args)


class _Round:
    """`replies`: one for each request. `done` is set when all are there."""

    __slots__ = ("done", "left", "replies")

    def __init__(self, count: int) -> None:
        self.replies: list[Reply] = [None] * count
        self.left = count
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def count(self, replies: int) -> None:
        self.left -= replies
        if not self.left and not self.done.done():
            self.done.set_result(None)


class _One(Ask):
    """One request; only its first reply counts."""

    __slots__ = ("_index", "_round")

    def __init__(self, round_: _Round, index: int, route: Route | None) -> None:
        self._round: _Round | None = round_
        self._index = index
        self.route = route

    def replied(self, reply: Reply) -> None:
        round_, self._round = self._round, None
        if round_ is not None:
            round_.replies[self._index] = reply
            round_.count(1)


class _Batch(Ask):
    """One `RM.MGET` for many keys of one node; only its first reply counts."""

    __slots__ = ("_round", "args", "indexes", "routes")

    def __init__(self, round_: _Round) -> None:
        self._round: _Round | None = round_
        self.route = None
        self.indexes: list[int] = []
        self.routes: list[Route] = []
        self.args: list[bytes] = []

    def replied(self, reply: Reply) -> None:
        round_, self._round = self._round, None
        if round_ is None:
            return
        indexes = self.indexes
        if isinstance(reply, list) and len(reply) == len(indexes):
            for index, each in zip(indexes, reply, strict=True):
                round_.replies[index] = each
        else:
            error = reply if isinstance(reply, RingmasterError) else WireError("a reply too short")
            for index in indexes:
                round_.replies[index] = error
        round_.count(len(indexes))

    def rerouted(self, table: Table) -> None:
        """One partition that moved is reason enough to ask for all again: reading twice harms nobody."""
        for route in self.routes:
            if table[route.partition] is not route:
                self.replied(MOVED)
                return


async def ask_each(
    table: Table, requests: Sequence[Request], within_s: float, *, movable: bool
) -> list[Reply]:
    """One reply for each of `requests`; a late one is `DeadlineExceeded`. `movable`: they are reads."""
    round_ = _Round(len(requests))
    asks: list[Ask] = []
    mask = len(table) - 1
    for index, request in enumerate(requests):
        route = table[request.place & mask]
        ask = _One(round_, index, route if movable else None)
        asks.append(ask)
        if route is None:
            ask.replied(NO_PRIMARY)
        else:
            route.link.send(request.frame(route), ask.replied)
    return await _all(round_, asks, within_s)


async def ask_batches(table: Table, keys: Sequence[bytes], within_s: float) -> list[Reply]:
    """The same for reads of `keys`, with as few commands as there are nodes."""
    round_ = _Round(len(keys))
    batches: list[tuple[Link, _Batch]] = []
    filling: dict[Link, _Batch] = {}
    mask = len(table) - 1
    for index, key in enumerate(keys):
        route = table[xxh3_64_intdigest(key) & mask]
        if route is None:
            round_.replies[index] = NO_PRIMARY
            round_.count(1)
            continue
        link = route.link
        batch = filling.get(link)
        if batch is None or len(batch.indexes) >= _MOST_PAIRS:
            batch = filling[link] = _Batch(round_)
            batches.append((link, batch))
        batch.indexes.append(index)
        batch.routes.append(route)
        batch.args += (route.token, key)
    for link, batch in batches:
        link.send(encode(b"RM.MGET", *batch.args), batch.replied)
    return await _all(round_, [batch for _, batch in batches], within_s)


async def _all(round_: _Round, asks: Sequence[Ask], within_s: float) -> list[Reply]:
    try:
        async with asyncio.timeout(within_s):
            await round_.done
    except TimeoutError:
        for ask in asks:
            ask.replied(_LATE)
    return round_.replies

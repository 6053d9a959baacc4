"""Requests that are sent together, and the replies to all of them: no task and no future for each."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import chain
from operator import itemgetter
from typing import Final, NamedTuple, TypeVar, cast

from xxhash import xxh3_64_intdigest

from ringmaster.errors import DeadlineExceeded, LinkDown, PeerError, RingmasterError, WireError
from ringmaster.net.link import Link
from ringmaster.protocol.entry import JSON, pack
from ringmaster.protocol.resp import Reply, bulk_head, encode
from ringmaster.routing.outcomes import MOVED, Ask
from ringmaster.routing.table import Route, Table

NO_PRIMARY: Final = LinkDown("the partition has no live primary")
LATE: Final = DeadlineExceeded("no reply came within the deadline")
STRAGGLER: Final = DeadlineExceeded("no reply came for 3 s, when others had come")
_LOOK_S: Final = 0.5
_MOST_LOOKS: Final = 6
"""So many looks in which nothing comes, and writes that have been answered wait no longer for those that have not. That is 1.5
times the TTL of a lease: a node that hangs is out of the view by then, as is a copy, and what waited for it has an answer. Looks
are counted, not time, so a stop of this process makes nobody late."""

_BARE_HEADER: Final = pack(
    slot=0, term=0, seq=0, expires_ms=0, written_s=0, flags=JSON, meta=b"", value=b""
)
_MOST_PAIRS: Final = 512
"""Keys in one command: about half a millisecond of the node's time, which others wait for."""


_T = TypeVar("_T")


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


def _nothing() -> None:
    """What there is to do once it is done."""


class Round:
    """`replies`: one for each request. `done()` is called once, when all are there.

    `bare`: the indexes, batch by batch, of replies to `RM.VALUES` that are values alone, empty for a miss.
    """

    __slots__ = ("_done", "_left", "bare", "replies")

    def __init__(self, count: int, done: Callable[[], None]) -> None:
        self.replies: list[Reply] = [None] * count
        self.bare: list[Sequence[int]] = []
        self._left = count
        self._done = done

    def count(self, replies: int) -> None:
        """So many more are there."""
        self._left -= replies
        if not self._left:
            # Not kept: who is called holds this round, and a cycle would wait for the garbage collector.
            done, self._done = self._done, _nothing
            done()

    @property
    def missing(self) -> int:
        """How many are not there yet."""
        return self._left

    @property
    def all_bare(self) -> bool:
        """Whether all replies are bare values."""
        return sum(map(len, self.bare)) == len(self.replies)

    def dress(self) -> list[Reply]:
        """`replies`, with entries instead of bare values, whose version and times are not known."""
        replies = self.replies
        for indexes in self.bare:
            for index in indexes:
                value = cast(bytes, replies[index])
                replies[index] = _BARE_HEADER + value if value else None
        self.bare = []
        return replies


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
    """One command for many keys of one node; only its first reply counts."""

    __slots__ = ("_round", "indexes", "routes")

    def __init__(self, round_: Round, indexes: Sequence[int], routes: Sequence[Route]) -> None:
        self._round: Round | None = round_
        self.route = None
        self.indexes = indexes
        self.routes = routes

    def replied(self, reply: Reply) -> None:
        round_, self._round = self._round, None
        if round_ is None:
            return
        indexes, replies = self.indexes, round_.replies
        each: Sequence[Reply] = ()
        if isinstance(reply, bytes):
            each = reply.split(b"\0")
            if len(each) == len(indexes):
                round_.bare.append(indexes)
        elif isinstance(reply, list):
            each = reply
        if len(each) != len(indexes):
            each = [_error_of(reply)] * len(indexes)
        for index, one in zip(indexes, each, strict=True):
            replies[index] = one
        round_.count(len(indexes))

    def rerouted(self, table: Table) -> None:
        """One partition that moved is reason enough to ask for all again: reading twice harms nobody."""
        for route in self.routes:
            if table[route.partition] is not route:
                self.replied(MOVED)
                return

    def frame(self, keys: Sequence[bytes], *, values: bool) -> bytes:
        """The command that asks for `keys`, which `indexes` stand for."""
        tokens = [route.token for route in self.routes]
        if values:
            return encode(b"RM.VALUES", b"\n".join(tokens), b"\n".join(keys))
        return encode(b"RM.MGET", *chain.from_iterable(zip(tokens, keys, strict=True)))


def _error_of(reply: Reply) -> RingmasterError:
    """What a reply to a batch that does not fit its keys amounts to for each of them."""
    if isinstance(reply, PeerError) and reply.code == "ERR":
        return MOVED  # It does not know `RM.VALUES` yet: it is asked once more by `RM.MGET`.
    return reply if isinstance(reply, RingmasterError) else WireError("a reply too short")


def send_batches(
    table: Table, keys: Sequence[bytes], round_: Round, *, values: bool = False
) -> list[Batch]:
    """Ask for `keys` with as few commands as there are nodes; `round_` gets a reply for each.

    `values`: by `RM.VALUES`, see `Round.bare`; else by `RM.MGET`, for entries. Call `replied(LATE)` on what is
    returned to end the round at a deadline.
    """
    mask = len(table) - 1
    routes = [table[xxh3_64_intdigest(key) & mask] for key in keys]
    by_link: defaultdict[Link | None, list[int]] = defaultdict(list)
    for index, route in enumerate(routes):
        by_link[None if route is None else route.link].append(index)
    unrouted = by_link.pop(None, ())
    for index in unrouted:
        round_.replies[index] = NO_PRIMARY
    asking: list[tuple[Link, bytes, Batch]] = []
    for link, indexes in by_link.items():
        if link is not None:
            for first in range(0, len(indexes), _MOST_PAIRS):
                some = indexes[first : first + _MOST_PAIRS]
                batch = Batch(round_, some, cast("Sequence[Route]", _picked(routes, some)))
                asking.append((link, batch.frame(_picked(keys, some), values=values), batch))
    for link, frame, batch in asking:
        link.ask(frame, batch)
    if unrouted:
        round_.count(len(unrouted))
    return [batch for _, _, batch in asking]


def _picked(items: Sequence[_T], indexes: Sequence[int]) -> Sequence[_T]:
    """The items at `indexes`, of which there is one at least."""
    if len(indexes) == 1:
        return (items[indexes[0]],)
    return cast("tuple[_T, ...]", itemgetter(*indexes)(items))


async def ask_each(
    table: Table, requests: Sequence[Request], within_s: float, *, movable: bool
) -> list[Reply]:
    """One reply for each of `requests`; a late one is `DeadlineExceeded`. `movable`: they are reads.

    Replies to several writes do not wait until the deadline for one that does not come: it becomes `STRAGGLER`.
    """
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
    if movable or len(requests) == 1:
        return await _all(round_, done, asks, within_s)
    return await _most(round_, done, asks, within_s)


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


async def _most(
    round_: Round, done: asyncio.Future[None], asks: Sequence[Ask], within_s: float
) -> list[Reply]:
    """The same, unless some replies are there and no other comes any more: then without those."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within_s
    looks = 0
    while missing := round_.missing:
        left_s = deadline - loop.time()
        if left_s <= 0 or looks == _MOST_LOOKS:
            for ask in asks:
                ask.replied(LATE if left_s <= 0 else STRAGGLER)
            break
        await asyncio.wait([done], timeout=min(left_s, _LOOK_S))
        looks = looks + 1 if round_.missing == missing < len(asks) else 0
    return round_.replies

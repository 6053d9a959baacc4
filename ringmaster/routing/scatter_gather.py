"""Scatter-gather: many requests, one completion, with no task and no future for each request."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from operator import itemgetter
from typing import Final, NamedTuple, TypeVar, cast

from xxhash import xxh3_64_intdigest

from ringmaster.errors import DeadlineExceeded, LinkDown, PeerError, RingmasterError, WireError
from ringmaster.net.link import Link
from ringmaster.protocol.entry import HEADER_SIZE, JSON, is_bare, pack
from ringmaster.protocol.resp import Reply, bulk_head, encode
from ringmaster.routing.pending import MOVED, PendingRequest
from ringmaster.routing.table import Route, Table

NO_PRIMARY: Final = LinkDown("the partition has no live primary")
LATE: Final = DeadlineExceeded("no reply came within the deadline")
STRAGGLER: Final = DeadlineExceeded("no reply came for 3 s, when others had come")
_LOOK_S: Final = 0.5
_RESOLUTION_S: Final = 1e-6
"""What is left of a deadline and is no more than this may be rounded away: a timer for it would be due at once, again and again."""

_MOST_LOOKS: Final = 6
"""So many looks in which nothing comes, and writes that have been answered wait no longer for those that have not. That is 1.5
times the TTL of a lease: a node that hangs is out of the view by then, as is a copy, and what waited for it has an answer. Looks
are counted, not time, so a stop of this process makes nobody late."""

_BARE_HEADER: Final = pack(
    slot=0, term=0, seq=0, expires_ms=0, written_s=0, flags=JSON, meta=b"", value=b""
)
MAX_KEYS: Final = 512
"""Keys in one command: about half a millisecond of the node's time, during which it serves nobody else."""

_NOTHING: Final[Mapping[int, bytes]] = {}

_T = TypeVar("_T")


class Request(NamedTuple):
    """A request before it has a route. `key_hash` & (P - 1) is its partition: P is not known before the first view."""

    key_hash: int
    command: bytes
    args: tuple[bytes | int, ...]

    def frame(self, route: Route) -> bytes:
        """The encoded command.

        Short way for `RM.GET`, from the route's encoded beginning; `test_a_read_has_the_same_frame_either_way`
        compares the two.
        """
        if self.command == b"RM.GET":
            key = cast(bytes, self.args[0])
            return b"%b%b%b\r\n" % (route.get, bulk_head(len(key)), key)
        return encode(self.command, route.token, *self.args)


def _completed() -> None:
    """Stands in for `on_complete` once it was called."""


class Gather:
    """Collects the replies to many requests; `on_complete` is called once, when all have come.

    `replies`: one for each request, in the order of the requests. `bare`: the indexes, command by command, of replies
    to `RM.VALUES` that are values alone, empty for a miss.
    """

    __slots__ = ("_missing", "_on_complete", "bare", "replies")

    def __init__(self, count: int, on_complete: Callable[[], None]) -> None:
        self.replies: list[Reply] = [None] * count
        self.bare: list[Sequence[int]] = []
        self._missing = count
        self._on_complete = on_complete

    def arrived(self, count: int) -> None:
        """So many more replies have come."""
        self._missing -= count
        if not self._missing:
            # Dropped before the call: its owner holds this object, and the cycle would wait for the garbage collector.
            on_complete, self._on_complete = self._on_complete, _completed
            on_complete()

    def found(self, entries: Mapping[int, bytes]) -> None:
        """These were here, by index."""
        bare = []
        for index, entry in entries.items():
            if is_bare(entry):
                self.replies[index] = entry[HEADER_SIZE:]
                bare.append(index)
            else:
                self.replies[index] = entry
        if bare:
            self.bare.append(bare)
        self.arrived(len(entries))

    @property
    def missing(self) -> int:
        """How many are not there yet."""
        return self._missing

    @property
    def all_bare(self) -> bool:
        """Whether all replies are bare values."""
        return sum(map(len, self.bare)) == len(self.replies)

    def as_entries(self) -> list[Reply]:
        """`replies` with an entry in the place of each bare value; its version and times are not known."""
        replies = self.replies
        for indexes in self.bare:
            for index in indexes:
                value = cast(bytes, replies[index])
                replies[index] = _BARE_HEADER + value if value else None
        self.bare = []
        return replies


class SingleRequest(PendingRequest):
    """One request of a gather; only its first reply counts."""

    __slots__ = ("_gather", "_index")

    def __init__(self, gather: Gather, index: int, route: Route | None) -> None:
        self._gather: Gather | None = gather
        self._index = index
        self.route = route

    def replied(self, reply: Reply) -> None:
        gather, self._gather = self._gather, None
        if gather is not None:
            gather.replies[self._index] = reply
            gather.arrived(1)


class KeyBatch(PendingRequest):
    """One command for many keys of one node; only its first reply counts."""

    __slots__ = ("_gather", "indexes", "routes")

    def __init__(self, gather: Gather, indexes: Sequence[int], routes: Sequence[Route]) -> None:
        self._gather: Gather | None = gather
        self.route = None
        self.indexes = indexes
        self.routes = routes

    def replied(self, reply: Reply) -> None:
        gather, self._gather = self._gather, None
        if gather is None:
            return
        indexes, replies = self.indexes, gather.replies
        each: Sequence[Reply] = ()
        if isinstance(reply, bytes):
            each = reply.split(b"\0")
            if len(each) == len(indexes):
                gather.bare.append(indexes)
        elif isinstance(reply, list):
            each = reply
        if len(each) != len(indexes):
            each = [_error_of(reply)] * len(indexes)
        for index, one in zip(indexes, each, strict=True):
            replies[index] = one
        gather.arrived(len(indexes))

    def rerouted(self, table: Table) -> None:
        """If one partition moved, all keys are read again: reading twice is harmless."""
        for route in self.routes:
            if table[route.partition] is not route:
                self.replied(MOVED)
                return

    def frame(self, keys: Sequence[bytes], *, values: bool) -> bytes:
        """The encoded command that reads `keys`, one for each of `indexes`."""
        tokens = [route.token for route in self.routes]
        if values:
            return encode(b"RM.VALUES", b"\n".join(tokens), b"\n".join(keys))
        return encode(b"RM.MGET", *chain.from_iterable(zip(tokens, keys, strict=True)))


def _error_of(reply: Reply) -> RingmasterError:
    """The error for each key of a batch whose reply does not fit the keys."""
    if isinstance(reply, PeerError) and reply.code == "ERR":
        return MOVED  # An older node that does not know `RM.VALUES`: retried by `RM.MGET`.
    return reply if isinstance(reply, RingmasterError) else WireError("a reply too short")


def send_batches(
    table: Table,
    keys: Sequence[bytes],
    gather: Gather,
    *,
    values: bool = False,
    local: Mapping[int, bytes] = _NOTHING,
) -> list[KeyBatch]:
    """Read `keys` with one command for each node (more above `MAX_KEYS`); `gather` gets a reply for each key.

    `values`: by `RM.VALUES`, see `Gather.bare`; else by `RM.MGET`, for entries. `local`: indexes of keys that need not be read. To complete the gather at a deadline,
    call `replied(LATE)` on each batch returned.
    """
    mask = len(table) - 1
    routes = [table[xxh3_64_intdigest(key) & mask] for key in keys]
    by_link: defaultdict[Link | None, list[int]] = defaultdict(list)
    for index, route in enumerate(routes):
        if local and index in local:
            continue
        by_link[None if route is None else route.link].append(index)
    unrouted = by_link.pop(None, ())
    for index in unrouted:
        gather.replies[index] = NO_PRIMARY
    frames: list[tuple[Link, bytes, KeyBatch]] = []
    for link, indexes in by_link.items():
        if link is not None:
            for first in range(0, len(indexes), MAX_KEYS):
                some = indexes[first : first + MAX_KEYS]
                batch = KeyBatch(gather, some, cast("Sequence[Route]", _select(routes, some)))
                frames.append((link, batch.frame(_select(keys, some), values=values), batch))
    for link, frame, batch in frames:
        link.ask(frame, batch)
    if unrouted:
        gather.arrived(len(unrouted))
    return [batch for _, _, batch in frames]


def _select(items: Sequence[_T], indexes: Sequence[int]) -> Sequence[_T]:
    """The items at `indexes`, at least one."""
    if len(indexes) == 1:
        return (items[indexes[0]],)
    return cast("tuple[_T, ...]", itemgetter(*indexes)(items))


async def gather_each(
    table: Table, requests: Sequence[Request], within_s: float, *, movable: bool
) -> list[Reply]:
    """One reply for each of `requests`; a late one is `DeadlineExceeded`. `movable`: reads, which a newer view reroutes.

    Replies to several writes do not wait until the deadline for one that does not come: it becomes `STRAGGLER`.
    """
    gather, done = awaitable_gather(len(requests))
    sent: list[PendingRequest] = []
    mask = len(table) - 1
    for index, request in enumerate(requests):
        route = table[request.key_hash & mask]
        pending = SingleRequest(gather, index, route if movable else None)
        sent.append(pending)
        if route is None:
            pending.replied(NO_PRIMARY)
        else:
            route.link.ask(request.frame(route), pending)
    if movable or len(requests) == 1:
        return await completed_within(gather, done, sent, within_s)
    return await _settled_within(gather, done, sent, within_s)


async def gather_batches(table: Table, keys: Sequence[bytes], within_s: float) -> list[Reply]:
    """`gather_each` for reads of `keys`, with one command for each node."""
    gather, done = awaitable_gather(len(keys))
    return await completed_within(gather, done, send_batches(table, keys, gather), within_s)


def awaitable_gather(count: int) -> tuple[Gather, asyncio.Future[None]]:
    """A gather, and the future that is resolved when it is complete."""
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def resolve() -> None:
        if not done.done():
            done.set_result(None)

    return Gather(count, resolve), done


async def completed_within(
    gather: Gather, done: asyncio.Future[None], sent: Sequence[PendingRequest], within_s: float
) -> list[Reply]:
    """The replies once `done`; those of `sent` that are late are `LATE`."""
    try:
        async with asyncio.timeout(within_s):
            await done
    except TimeoutError:
        for pending in sent:
            pending.replied(LATE)
    return gather.replies


async def _settled_within(
    gather: Gather, done: asyncio.Future[None], sent: Sequence[PendingRequest], within_s: float
) -> list[Reply]:
    """The same, unless some replies are there and no other comes any more: then without those."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within_s
    looks = 0
    while missing := gather.missing:
        left_s = deadline - loop.time()
        if left_s <= _RESOLUTION_S or looks == _MOST_LOOKS:
            for pending in sent:
                pending.replied(LATE if left_s <= _RESOLUTION_S else STRAGGLER)
            break
        await asyncio.wait([done], timeout=min(left_s, _LOOK_S))
        looks = looks + 1 if gather.missing == missing < len(sent) else 0
    return gather.replies

"""Key to partition to primary to reply: retries and deadlines.

A read may be asked again at any time. A write is asked again only while it is known not to have run.
"""

from __future__ import annotations

import asyncio
import random
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, TypeVar, cast

from xxhash import xxh3_64_intdigest

from ringmaster.cluster.view import View
from ringmaster.errors import BadRequest, RingmasterError, Unserved
from ringmaster.net.link import Link
from ringmaster.net.network import Network
from ringmaster.protocol.resp import Reply, bulk_head, encode
from ringmaster.protocol.write_options import WriteReply
from ringmaster.routing.outcomes import AGAIN, Ask, judge_read, judge_write
from ringmaster.routing.scatter_gather import (
    NO_PRIMARY,
    Batch,
    Request,
    Round,
    ask_batches,
    ask_each,
    send_batches,
)
from ringmaster.routing.table import Links, Route, Table, table_of
from ringmaster.runtime.clock import Clock

_PAUSE_FIRST_S: Final = 0.002
_PAUSE_MOST_S: Final = 0.05
_SCAN_WINDOW: Final = 32

Write = tuple[bytes, bytes, Sequence[bytes | int]]
"""(command, key, arguments after the key)."""


_T = TypeVar("_T")


class Router:
    """Sends requests to the primaries of the newest view. Deadlines are absolute, by `Clock.boottime()`.

    `boot_id`: of this boot, for unix sockets of nodes on this host. `stall_s`: see `Link`. `auth`: the
    secret that nodes ask for. `jitter()` is uniform in [0, 1).
    """

    def __init__(
        self,
        network: Network,
        clock: Clock,
        *,
        boot_id: str = "",
        stall_s: float = 5.0,
        auth: bytes = b"",
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._clock = clock
        self._jitter = jitter
        self._links = Links(
            network, boot_id=boot_id, stall_s=stall_s, on_up=self._wake, auth=auth, jitter=jitter
        )
        self._table: Table = [None]
        self._mask = 0
        self._view: View | None = None
        # Set, and replaced, when asking again may succeed: a new view, a link that came up.
        self._changed = asyncio.Event()

    @property
    def view(self) -> View | None:
        """The newest view adopted."""
        return self._view

    def adopt(self, view: View) -> None:
        """Route by `view` from now on; an older one is ignored.

        What is in flight to incarnations that it no longer lists fails at once, and reads of partitions
        that it gives to another primary are asked again there.
        """
        if self._view is not None and view.epoch <= self._view.epoch:
            return
        wanted = self._links.open(view)
        self._table = table_of(view, wanted, self._table)
        self._mask = len(self._table) - 1
        self._view = view
        self._links.keep(wanted)
        for link in self._links.all():
            for ask in link.pending():
                if isinstance(ask, Ask):
                    ask.rerouted(self._table)
        self._wake()

    async def close(self) -> None:
        """Fail everything in flight."""
        self._table = [None] * len(self._table)
        await self._links.close()
        self._wake()

    def node_of(self, key: bytes) -> bytes:
        """The id of the primary of `key`, empty if there is none."""
        route = self._table[xxh3_64_intdigest(key) & self._mask]
        return b"" if route is None else route.node

    def link_of(self, node: str) -> Link | None:
        """The link to the incarnation of `node` that is up."""
        return self._links.of_node(node)

    def get_nowait(self, key: bytes, ask: Ask) -> None:
        """Send one `RM.GET`; `ask.replied` gets whatever comes of it. For what is not a value see `judge_read`."""
        route = self._table[xxh3_64_intdigest(key) & self._mask]
        ask.route = route
        if route is None:
            ask.replied(NO_PRIMARY)
        else:
            route.link.ask(b"%b%b%b\r\n" % (route.get, bulk_head(len(key)), key), ask)

    def set_nowait(self, key: bytes, value: bytes, ask: Ask) -> None:
        """Send one `RM.SET` without options; for the rest see `write_nowait`."""
        route = self._table[xxh3_64_intdigest(key) & self._mask]
        ask.route = None
        if route is None:
            ask.replied(NO_PRIMARY)
        else:
            frame = b"%b%b%b\r\n%b%b\r\n" % (
                route.set, bulk_head(len(key)), key, bulk_head(len(value)), value,
            )  # fmt: skip
            route.link.ask(frame, ask)

    def get_many_nowait(self, keys: Sequence[bytes], round_: Round) -> list[Batch]:
        """Ask for the values of `keys`; `round_` gets whatever comes of it, to be judged by `judge_read`."""
        return send_batches(self._table, keys, round_, values=True)

    def write_nowait(
        self, command: bytes, key: bytes, args: Sequence[bytes | int], ask: Ask
    ) -> Route | None:
        """Send one write; `ask.replied` gets whatever comes of it, to be judged by `judge_write`."""
        route = self._table[xxh3_64_intdigest(key) & self._mask]
        ask.route = None
        if route is None:
            ask.replied(NO_PRIMARY)
        else:
            route.link.ask(encode(command, route.token, key, *args), ask)
        return route

    async def read(self, key: bytes, deadline: float) -> bytes | None:
        """The entry of `key`, None if there is none. Raises `Unserved`."""
        [entry] = await self._ask([self._request(b"RM.GET", key)], deadline, judge_read)
        return cast("bytes | None", _raised(entry))

    async def head(self, key: bytes, deadline: float) -> tuple[bytes, int] | None:
        """(header and meta, size of the value) of the entry of `key`. Raises `Unserved`."""
        [reply] = await self._ask([self._request(b"RM.HEAD", key)], deadline, judge_read)
        found = cast("list[Any] | None", _raised(reply))
        return None if found is None else (found[0], found[1])

    async def write(
        self, command: bytes, key: bytes, args: Sequence[bytes | int], deadline: float
    ) -> WriteReply:
        """Apply one write. Raises `Unserved` or `TooLarge` (known not to have run), or `OutcomeUnknown`."""
        [reply] = await self._ask([self._request(command, key, *args)], deadline, judge_write)
        return cast(WriteReply, _raised(reply))

    async def read_many(
        self, keys: Sequence[bytes], deadline: float
    ) -> list[bytes | RingmasterError | None]:
        """`read` of each key, errors as values, sent to all nodes at once."""

        async def ask(asking: Sequence[bytes], within_s: float) -> list[Reply]:
            return await ask_batches(self._table, asking, within_s)

        settled = await self._settle(keys, ask, deadline, judge_read)
        return cast("list[bytes | RingmasterError | None]", settled)

    async def write_many(
        self, writes: Sequence[Write], deadline: float
    ) -> list[WriteReply | RingmasterError]:
        """Each of `writes` by itself, errors as values, sent to all nodes at once."""
        requests = [self._request(command, key, *args) for command, key, args in writes]
        settled = await self._ask(requests, deadline, judge_write)
        return cast("list[WriteReply | RingmasterError]", settled)

    async def scan(
        self, prefix: bytes, limit: int, cursor: str | None, deadline: float
    ) -> tuple[list[bytes], str | None]:
        """Up to `limit` keys that begin with `prefix`, partition by partition, and where to go on.

        Raises `Unserved`, or `BadRequest` for a cursor that no scan returned.
        """
        partition, after = _parse_cursor(cursor, len(self._table))
        keys: list[bytes] = []
        while partition < len(self._table):
            window = range(partition, min(partition + _SCAN_WINDOW, len(self._table)))
            left = limit - len(keys)
            requests = [
                Request(each, b"RM.SCAN", (after if each == partition else b"", left, prefix))
                for each in window
            ]
            for each, reply in zip(
                window, await self._ask(requests, deadline, judge_read), strict=True
            ):
                more, *found = cast("list[bytes]", _raised(reply))
                left = limit - len(keys)
                keys += found[:left]
                if len(keys) == limit and (more or len(found) > left):
                    return keys, _cursor(each, keys[-1] if left else b"")
                if len(keys) == limit and each + 1 < len(self._table):
                    return keys, _cursor(each + 1, b"")
            partition, after = window[-1] + 1, b""
        return keys, None

    def _request(self, command: bytes, key: bytes, *args: bytes | int) -> Request:
        return Request(xxh3_64_intdigest(key), command, (key, *args))

    async def _ask(
        self,
        requests: Sequence[Request],
        deadline: float,
        judge: Callable[[Reply], object],
    ) -> list[object]:
        reads = judge is judge_read

        async def ask(asking: Sequence[Request], within_s: float) -> list[Reply]:
            return await ask_each(self._table, asking, within_s, movable=reads)

        return await self._settle(requests, ask, deadline, judge)

    async def _settle(
        self,
        requests: Sequence[_T],
        ask: Callable[[Sequence[_T], float], Awaitable[list[Reply]]],
        deadline: float,
        judge: Callable[[Reply], object],
    ) -> list[object]:
        """A value or an error for each of `requests`: ask all at once, those whose verdict is `AGAIN` again."""
        results: list[object] = [None] * len(requests)
        asking: Sequence[int] = range(len(requests))
        attempt = 0
        reads = judge is judge_read
        reason: object = "the deadline is over"
        while asking:
            changed = self._changed
            left_s = deadline - self._clock.boottime()
            if left_s <= 0:
                for index in asking:
                    results[index] = Unserved(f"not served within the deadline: {reason}")
                break
            # Mostly all are asked once, and answered with a value.
            batch = [requests[index] for index in asking] if attempt else requests
            replies = await ask(batch, left_s)
            again: list[int] = []
            for index, reply in zip(asking, replies, strict=True):
                if reads and type(reply) is bytes:
                    results[index] = reply
                    continue
                verdict = judge(reply)
                if verdict is AGAIN:
                    again.append(index)
                    reason = reply
                else:
                    results[index] = verdict
            asking = again
            if asking:
                await self._pause(changed, attempt, deadline)
                attempt += 1
        return results

    async def _pause(self, changed: asyncio.Event, attempt: int, deadline: float) -> None:
        """Until something changed since `changed` was taken, for a moment at most."""
        left_s = deadline - self._clock.boottime()
        pause_s = min(_PAUSE_FIRST_S * 2 ** min(attempt, 6), _PAUSE_MOST_S) * (
            0.5 + self._jitter() / 2
        )
        try:
            async with asyncio.timeout(min(pause_s, left_s)):
                await changed.wait()
        except TimeoutError:
            return

    def _wake(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()


def _raised(verdict: object) -> object:
    if isinstance(verdict, RingmasterError):
        raise verdict
    return verdict


def _cursor(partition: int, after: bytes) -> str:
    text = urlsafe_b64encode(after).decode()
    return f"{partition}.{text.rstrip('=')}"


def _parse_cursor(cursor: str | None, partitions: int) -> tuple[int, bytes]:
    if cursor is None:
        return 0, b""
    number, _, text = cursor.partition(".")
    text += "=" * (-len(text) % 4)
    try:
        partition = int(number)
        after = urlsafe_b64decode(text.encode("ascii"))
    except ValueError as error:
        raise BadRequest("cursor is none that a scan returned; start without one") from error
    if not 0 <= partition < partitions:
        raise BadRequest("cursor is none that a scan returned; start without one")
    return partition, after

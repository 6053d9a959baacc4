"""Key to partition to primary to reply: retries and deadlines.

A read may be sent again at any time, a write only while it is known not to have run (R9).
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, TypeVar, cast

from xxhash import xxh3_64_intdigest

from ringmaster.cluster.view import View
from ringmaster.errors import OutcomeUnknown, RingmasterError, Unserved
from ringmaster.net.link import Link
from ringmaster.net.network import Network
from ringmaster.protocol.resp import Reply, bulk_head, encode
from ringmaster.protocol.write_options import WriteReply
from ringmaster.routing.event_links import EventLinks
from ringmaster.routing.fills import FillDesk
from ringmaster.routing.invalidation import (
    Plan,
    ask_nodes,
    left_over,
    refusal_in,
)
from ringmaster.routing.links import NodeLinks
from ringmaster.routing.listing import list_page
from ringmaster.routing.outcomes import RETRY, read_outcome, write_outcome
from ringmaster.routing.pending import PendingRequest
from ringmaster.routing.scatter_gather import (
    NO_PRIMARY,
    Gather,
    KeyBatch,
    Request,
    gather_batches,
    gather_each,
    send_batches,
)
from ringmaster.routing.table import Route, Table, build_table
from ringmaster.runtime.clock import Clock

_FIRST_PAUSE_S: Final = 0.002
_LONGEST_PAUSE_S: Final = 0.05
_NOT_EVERYWHERE: Final = "not done in every partition; send it again: "

Write = tuple[bytes, bytes, Sequence[bytes | int]]
"""(command, key, arguments after the key)."""


_T = TypeVar("_T")


class Router:
    """Sends requests to the primaries of the newest view. Deadlines are absolute, by `Clock.boottime()`.

    `boot_id`: of this boot, to use the unix sockets of nodes on this host. `stall_s`: see `Link`. `secret`: of the
    cluster. `jitter()` is uniform in [0, 1). `name`: of this master, for the nodes' logs. `fills`: reads that wait, once `events` runs.
    """

    def __init__(
        self,
        network: Network,
        clock: Clock,
        *,
        boot_id: str = "",
        stall_s: float = 5.0,
        secret: str = "",
        jitter: Callable[[], float] = random.random,
        name: str = "",
    ) -> None:
        self._clock = clock
        self._jitter = jitter
        self._links = NodeLinks(
            network,
            boot_id=boot_id,
            stall_s=stall_s,
            on_up=self._wake,
            secret=secret,
            jitter=jitter,
        )
        self.fills = FillDesk(clock, self._route_of, jitter)
        self.events = EventLinks(self._links, name, clock, self.fills.event, self.fills.changed)
        self.fills.events = self.events
        self._table: Table = [None]
        self._mask = 0
        self._view: View | None = None
        # Of an invalidation, for the view's whole table.
        self._plan: Plan | None = None
        # Set, and replaced, when a retry may succeed: a new view, a link that came up.
        self._changed = asyncio.Event()

    def adopt(self, view: View) -> None:
        """Route by `view` from now on; an older one is ignored.

        Requests in flight to incarnations that it no longer lists fail at once, and reads of partitions that it gives
        to another primary are sent there.
        """
        if self._view is not None and view.epoch <= self._view.epoch:
            return
        wanted = self._links.open(view)
        self._table = build_table(view, wanted, self._table)
        self._mask = len(self._table) - 1
        self._view = view
        self._plan = None
        self._links.keep(wanted)
        self.events.keep(set(wanted))
        for link in self._links.all():
            for handler in link.pending():
                if isinstance(handler, PendingRequest):
                    handler.rerouted(self._table)
        self.fills.rerouted()
        self._wake()

    async def close(self) -> None:
        """Fail everything in flight."""
        self._table = [None] * len(self._table)
        self.fills.close()
        await self.events.close()
        await self._links.close()
        self._wake()

    def node_of(self, key: bytes) -> bytes:
        """The id of the primary of `key`, empty if there is none."""
        route = self._table[xxh3_64_intdigest(key) & self._mask]
        return b"" if route is None else route.node

    @property
    def in_flight(self) -> int:
        """Requests that nodes have not answered yet."""
        return self._links.in_flight

    @property
    def answered(self) -> int:
        """Requests that nodes have answered; it shrinks when a link is lost."""
        return self._links.answered

    def link_of(self, node: str) -> Link | None:
        """The link to the incarnation of `node` that is up."""
        return self._links.of_node(node)

    def get_nowait(self, key: bytes, pending: PendingRequest) -> None:
        """Send one `RM.GET`; `pending.replied` gets the reply, to be read with `read_outcome` where it is no value.

        Short way for `read`; `test_a_read_has_the_same_frame_either_way` compares the two.
        """
        route = self._table[xxh3_64_intdigest(key) & self._mask]
        pending.route = route
        if route is None:
            pending.replied(NO_PRIMARY)
        else:
            route.link.ask(b"%b%b%b\r\n" % (route.get, bulk_head(len(key)), key), pending)

    def set_nowait(self, key: bytes, value: bytes, pending: PendingRequest) -> None:
        """Send one `RM.SET` without options.

        Short way for `write_nowait`; `test_a_plain_write_has_the_same_frame_either_way` compares the two.
        """
        route = self._table[xxh3_64_intdigest(key) & self._mask]
        pending.route = None
        if route is None:
            pending.replied(NO_PRIMARY)
        else:
            frame = b"%b%b%b\r\n%b%b\r\n" % (
                route.set, bulk_head(len(key)), key, bulk_head(len(value)), value,
            )  # fmt: skip
            route.link.ask(frame, pending)

    def get_many_nowait(self, keys: Sequence[bytes], gather: Gather) -> list[KeyBatch]:
        """Read the values of `keys`; `gather` gets the replies, see `send_batches` and `read_outcome`."""
        return send_batches(self._table, keys, gather, values=True)

    def write_nowait(
        self, command: bytes, key: bytes, args: Sequence[bytes | int], pending: PendingRequest
    ) -> Route | None:
        """Send one write; `pending.replied` gets the reply, see `write_outcome`."""
        route = self._table[xxh3_64_intdigest(key) & self._mask]
        pending.route = None
        if route is None:
            pending.replied(NO_PRIMARY)
        else:
            route.link.ask(encode(command, route.token, key, *args), pending)
        return route

    async def read(self, key: bytes, deadline: float) -> bytes | None:
        """The entry of `key`, None if there is none. Raises `Unserved`."""
        [entry] = await self._send([self._request(b"RM.GET", key)], deadline, read_outcome)
        return cast("bytes | None", _raised(entry))

    async def head(self, key: bytes, deadline: float) -> tuple[bytes, int] | None:
        """(header and meta, size of the value) of the entry of `key`. Raises `Unserved`."""
        [reply] = await self._send([self._request(b"RM.HEAD", key)], deadline, read_outcome)
        found = cast("list[Any] | None", _raised(reply))
        return None if found is None else (found[0], found[1])

    async def write(
        self, command: bytes, key: bytes, args: Sequence[bytes | int], deadline: float
    ) -> WriteReply:
        """Apply one write. Raises `Unserved` or `TooLarge` (known not to have run), or `OutcomeUnknown`."""
        [reply] = await self._send([self._request(command, key, *args)], deadline, write_outcome)
        return cast(WriteReply, _raised(reply))

    async def read_many(
        self, keys: Sequence[bytes], deadline: float
    ) -> list[bytes | RingmasterError | None]:
        """`read` of each key, errors as values, sent to all nodes at once."""

        async def send(unsettled: Sequence[bytes], within_s: float) -> list[Reply]:
            return await gather_batches(self._table, unsettled, within_s)

        outcomes = await self._settle(keys, send, deadline, read_outcome)
        return cast("list[bytes | RingmasterError | None]", outcomes)

    async def write_many(
        self, writes: Sequence[Write], deadline: float
    ) -> list[WriteReply | RingmasterError]:
        """Each of `writes` by itself, errors as values, sent to all nodes at once."""
        requests = [self._request(command, key, *args) for command, key, args in writes]
        outcomes = await self._send(requests, deadline, write_outcome)
        return cast("list[WriteReply | RingmasterError]", outcomes)

    async def invalidate(self, tags: Sequence[bytes], deadline: float) -> None:
        """Have every entry that carries one of `tags` now be gone for every reader.

        Raises `OutcomeUnknown` if it may be done in some partitions only; repeating it does no harm.
        """
        plan = self._plan
        if plan is None:
            plan = self._plan = Plan(self._table, range(len(self._table)))
        attempt = 0
        while True:
            changed = self._changed
            left_s = deadline - self._clock.boottime()
            if left_s <= 0:
                raise OutcomeUnknown(_NOT_EVERYWHERE + "the deadline is over")
            replies = await ask_nodes(plan, tags, left_s)
            refusal = refusal_in(replies)
            if refusal is not None:
                raise OutcomeUnknown(f"{_NOT_EVERYWHERE}{refusal}")
            left = plan.unrouted
            for part, reply in zip(plan.parts, replies, strict=True):
                left = left + left_over(part, reply)
            if not left:
                return
            await self._pause(changed, attempt, deadline)
            attempt += 1
            plan = Plan(self._table, left)

    async def scan(
        self, prefix: bytes, limit: int, cursor: str | None, deadline: float
    ) -> tuple[list[bytes], str | None]:
        """Up to `limit` keys that begin with `prefix`, and the cursor for the next call: see `list_page`."""
        attempt = 0
        while self._view is None:
            if self._clock.boottime() >= deadline:
                raise Unserved("not served within the deadline: there is no view yet")
            await self._pause(self._changed, attempt, deadline)
            attempt += 1
        return await list_page(
            lambda: self._table, self._ask_all, self._clock, prefix, limit, cursor, deadline
        )

    async def _ask_all(self, requests: Sequence[Request], deadline: float) -> list[object]:
        return await self._send(requests, deadline, read_outcome)

    def _request(self, command: bytes, key: bytes, *args: bytes | int) -> Request:
        return Request(xxh3_64_intdigest(key), command, (key, *args))

    async def _send(
        self, requests: Sequence[Request], deadline: float, outcome_of: Callable[[Reply], object]
    ) -> list[object]:
        """The outcome of each of `requests`, see `_settle`."""
        reads = outcome_of is read_outcome

        async def send(unsettled: Sequence[Request], within_s: float) -> list[Reply]:
            return await gather_each(self._table, unsettled, within_s, movable=reads)

        return await self._settle(requests, send, deadline, outcome_of)

    async def _settle(
        self,
        requests: Sequence[_T],
        send: Callable[[Sequence[_T], float], Awaitable[list[Reply]]],
        deadline: float,
        outcome_of: Callable[[Reply], object],
    ) -> list[object]:
        """A value or an error for each of `requests`: send all at once, then again those whose outcome is `RETRY`."""
        results: list[object] = [None] * len(requests)
        unsettled: Sequence[int] = range(len(requests))
        attempt = 0
        reads = outcome_of is read_outcome
        reason: object = "the deadline is over"
        while unsettled:
            changed = self._changed
            left_s = deadline - self._clock.boottime()
            if left_s <= 0:
                for index in unsettled:
                    results[index] = Unserved(f"not served within the deadline: {reason}")
                break
            # Usually all are sent once and answered with a value.
            batch = [requests[index] for index in unsettled] if attempt else requests
            replies = await send(batch, left_s)
            again: list[int] = []
            for index, reply in zip(unsettled, replies, strict=True):
                if reads and type(reply) is bytes:
                    results[index] = reply
                    continue
                outcome = outcome_of(reply)
                if outcome is RETRY:
                    again.append(index)
                    reason = reply
                else:
                    results[index] = outcome
            unsettled = again
            if unsettled:
                await self._pause(changed, attempt, deadline)
                attempt += 1
        return results

    async def _pause(self, changed: asyncio.Event, attempt: int, deadline: float) -> None:
        """Wait for a change since `changed` was taken, but no longer than the back-off of this `attempt`."""
        left_s = deadline - self._clock.boottime()
        pause_s = min(_FIRST_PAUSE_S * 2 ** min(attempt, 6), _LONGEST_PAUSE_S) * (
            0.5 + self._jitter() / 2
        )
        try:
            async with asyncio.timeout(min(pause_s, left_s)):
                await changed.wait()
        except TimeoutError:
            return

    def _route_of(self, key: bytes) -> Route | None:
        return self._table[xxh3_64_intdigest(key) & self._mask]

    def _wake(self) -> None:
        self.fills.wake()
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()


def _raised(outcome: object) -> object:
    """`outcome`, raised if it is an error."""
    if isinstance(outcome, RingmasterError):
        raise outcome
    return outcome

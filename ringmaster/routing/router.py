"""Key to partition to primary to reply. What is refused for now is sent again: `ringmaster/routing/retry_loop.py`."""

from __future__ import annotations

import random
import secrets
from collections.abc import Callable, Sequence
from typing import Any, Final, cast

from xxhash import xxh3_64_intdigest

from ringmaster.cluster.view import View
from ringmaster.errors import (
    OutcomeUnknown,
    RingmasterError,
    Unserved,
)
from ringmaster.net.link import ConnectCounts, Link
from ringmaster.net.network import Network
from ringmaster.protocol.entry import value_offset
from ringmaster.protocol.resp import Reply, bulk_head, encode
from ringmaster.protocol.write_options import WriteReply
from ringmaster.routing.copies import Copies
from ringmaster.routing.event_links import EventLinks, Session
from ringmaster.routing.fills import FillDesk
from ringmaster.routing.invalidation import (
    Plan,
    ask_nodes,
    left_over,
    refusal_in,
)
from ringmaster.routing.large_reads import LargeReads
from ringmaster.routing.links import NodeLinks
from ringmaster.routing.listing import list_page
from ringmaster.routing.outcomes import LARGE, read_outcome, write_outcome
from ringmaster.routing.pending import PendingRequest
from ringmaster.routing.retries import NodeRetries, Retries
from ringmaster.routing.retry_budget import RetryPolicy
from ringmaster.routing.retry_loop import RetryLoop
from ringmaster.routing.scatter_gather import (
    MAX_KEYS,
    NO_PRIMARY,
    Gather,
    KeyBatch,
    Request,
    gather_batches,
    gather_each,
    send_batches,
)
from ringmaster.routing.table import LocalRoute, Route, Table, build_table
from ringmaster.runtime.clock import Clock

_NOT_EVERYWHERE: Final = "not done in every partition; send it again: "

NOTHING: Final[dict[int, bytes]] = {}

Write = tuple[bytes, bytes, Sequence[bytes | int]]
"""(command, key, arguments after the key)."""


class Router:
    """Sends requests to the primaries of the newest view. Deadlines are absolute, by `Clock.boottime()`.

    `boot_id`: of this boot, to use the unix sockets of nodes on this host. `stall_s`: see `Link`. `secret`: of the
    cluster. `jitter()` is uniform in [0, 1). `name`: of this master, for the nodes' logs. `fills`: reads that wait, once `events` runs.
    `here`: stands for this master where it answers from `copies`. `copies_bytes`: for these, 0 for none.
    `retry`: how often nodes are asked again, `retries` counts it.
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
        copies_bytes: int = 0,
        retry: RetryPolicy = RetryPolicy(),  # noqa: B008 - a tuple of figures
    ) -> None:
        self._clock = clock
        self.retries = Retries(clock, jitter, retry)
        self._links = NodeLinks(
            network,
            boot_id=boot_id,
            stall_s=stall_s,
            on_up=self._wake,
            secret=secret,
            jitter=jitter,
        )
        self.fills = FillDesk(clock, self._route_of, self.retries)
        self.copies = Copies(clock, self._route_of, copies_bytes)
        self.here = LocalRoute(name)
        self.events = EventLinks(
            self._links, f"{name}.{secrets.token_hex(4)}", clock, self._event, self._session_changed, self._follows,
            self.copies.tick, copies=copies_bytes > 0,
        )  # fmt: skip
        self.fills.events = self.events
        self._table: Table = [None]
        self._mask = 0
        self._view: View | None = None
        # Of an invalidation, for the view's whole table.
        self._plan: Plan | None = None
        self._retry_loop = RetryLoop(clock, self.retries)
        self._large = LargeReads(clock, self._links, self._route_of)

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
        self._retry_loop.table = self._table
        self._retry_loop.epoch = view.epoch
        self._plan = None
        self._links.keep(wanted)
        # Before anybody hears that this view is followed.
        self.copies.rerouted(self._table)
        self.events.keep(set(wanted))
        self.retries.keep(wanted.values())
        for link in self._links.all():
            for handler in link.pending():
                if isinstance(handler, PendingRequest):
                    handler.rerouted(self._table)
        self.fills.rerouted()
        self._wake()

    async def close(self) -> None:
        """Fail everything in flight."""
        self._table = self._retry_loop.table = [None] * len(self._table)
        self.copies.clear()
        self.fills.close()
        await self.events.close()
        await self._links.close()
        self._wake()

    @property
    def connects(self) -> ConnectCounts:
        """Attempts to connect to nodes."""
        return self._links.counts

    def node_of(self, key: bytes) -> bytes:
        """Who answers for `key`: this master if it has a copy, else its primary; empty if there is none."""
        if key in self.copies.held:
            return self.here.node
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
        if self.copies.held:
            entry = self.copies.entry_of(key)
            if entry is not None:
                pending.route = self.here
                pending.replied(entry)
                return
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
        local = self.copies.entries_of(keys) if self.copies.held else NOTHING
        batches = send_batches(self._table, keys, gather, values=True, local=local)
        if local:
            gather.found(local)
        return batches

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

    async def read(self, key: bytes, deadline: float, refusal: Reply = None) -> bytes | None:
        """The entry of `key`, None if there is none. Raises `Unserved`.

        `refusal`: what was replied when it was asked for before, an outcome that is `RETRY` or `LARGE`.
        """
        if (copy := self.copies.entry_of(key)) is not None:
            return copy
        entry = None if refusal is None else read_outcome(refusal)
        if entry is not LARGE:
            requests = [self._request(b"RM.GET", key)]
            [entry] = await self._send(requests, deadline, read_outcome, refusal)
        if entry is LARGE:
            [entry] = await self._retry_loop.settle(
                [key], self._large.read, deadline, read_outcome, xxh3_64_intdigest
            )
        return cast("bytes | None", _raised(entry))

    async def head(self, key: bytes, deadline: float) -> tuple[bytes, int] | None:
        """(header and meta, size of the value) of the entry of `key`. Raises `Unserved`."""
        if (copy := self.copies.entry_of(key)) is not None:
            offset = value_offset(copy)
            return copy[:offset], len(copy) - offset
        [reply] = await self._send([self._request(b"RM.HEAD", key)], deadline, read_outcome)
        found = cast("list[Any] | None", _raised(reply))
        return None if found is None else (found[0], found[1])

    async def write(
        self,
        command: bytes,
        key: bytes,
        args: Sequence[bytes | int],
        deadline: float,
        refusal: Reply = None,
    ) -> WriteReply:
        """Apply one write. Raises `Unserved` or `TooLarge` (known not to have run), or `OutcomeUnknown`. `refusal` as in `read`."""
        requests = [self._request(command, key, *args)]
        [reply] = await self._send(requests, deadline, write_outcome, refusal)
        return cast(WriteReply, _raised(reply))

    async def read_many(
        self, keys: Sequence[bytes], deadline: float, refusals: Sequence[Reply] = ()
    ) -> list[bytes | RingmasterError | None]:
        """`read` of each key, errors as values, sent to all nodes at once. `refusals`: as in `read`, one for each or none."""

        async def send(unsettled: Sequence[bytes], within_s: float) -> list[Reply]:
            return await gather_batches(self._table, unsettled, within_s)

        local = NOTHING
        if self.copies.held and not refusals:
            local = self.copies.entries_of(keys)
        others = [index for index in range(len(keys)) if index not in local]
        wanted = [keys[index] for index in others] if local else keys
        outcomes = await self._retry_loop.settle(
            wanted, send, deadline, read_outcome, xxh3_64_intdigest, refusals, MAX_KEYS
        )
        if local:
            found: dict[int, object] = {**local, **dict(zip(others, outcomes, strict=True))}
            outcomes = [found[index] for index in range(len(keys))]
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
            changed = self._retry_loop.changed
            costs: dict[NodeRetries, int] = {}
            left_s = deadline - self._clock.boottime()
            if left_s <= 0:
                raise OutcomeUnknown(_NOT_EVERYWHERE + "the deadline is over")
            replies = await ask_nodes(plan, tags, left_s)
            refusal = refusal_in(replies)
            if refusal is not None:
                raise OutcomeUnknown(f"{_NOT_EVERYWHERE}{refusal}")
            left = plan.unrouted
            for part, reply in zip(plan.parts, replies, strict=True):
                over = left_over(part, reply)
                left = left + over
                node = self._retry_loop.asked_without_a_sign(part.link, reply) if over else None
                if node is not None:
                    costs[node] = 1
            if not left:
                return
            await self.retries.pause(changed, attempt, deadline, costs)
            attempt += 1
            plan = Plan(self._table, left)

    async def scan(
        self, prefix: bytes, limit: int, cursor: str | None, deadline: float
    ) -> tuple[list[bytes], str | None]:
        """Up to `limit` keys that begin with `prefix`, and the cursor for the next call: see `list_page`."""
        while self._view is None:
            if self._clock.boottime() >= deadline:
                raise Unserved("not served within the deadline: there is no view yet")
            await self.retries.pause(self._retry_loop.changed, 0, deadline, {})
        return await list_page(
            lambda: self._table, self._ask_all, self._clock, prefix, limit, cursor, deadline
        )

    async def _ask_all(self, requests: Sequence[Request], deadline: float) -> list[object]:
        return await self._send(requests, deadline, read_outcome)

    def _request(self, command: bytes, key: bytes, *args: bytes | int) -> Request:
        return Request(xxh3_64_intdigest(key), command, (key, *args))

    async def _send(
        self,
        requests: Sequence[Request],
        deadline: float,
        outcome_of: Callable[[Reply], object],
        refusal: Reply = None,
    ) -> list[object]:
        """The outcome of each of `requests`, see `RetryLoop.settle`."""
        reads = outcome_of is read_outcome

        async def send(unsettled: Sequence[Request], within_s: float) -> list[Reply]:
            return await gather_each(self._table, unsettled, within_s, movable=reads)

        refusals = () if refusal is None else (refusal,)
        return await self._retry_loop.settle(
            requests, send, deadline, outcome_of, _hash_of, refusals
        )

    def _follows(self) -> int:
        """The epoch of the newest view."""
        return 0 if self._view is None else self._view.epoch

    def _event(self, session: Session, event: list[Any]) -> None:
        if not self.copies.event(session, event):
            self.fills.event(session, event)

    def _session_changed(self, session: Session, is_up: bool) -> None:
        if not is_up:
            self.copies.lost(session)
        self.fills.changed(session, is_up)

    def _route_of(self, key: bytes) -> Route | None:
        return self._table[xxh3_64_intdigest(key) & self._mask]

    def _wake(self) -> None:
        self.fills.wake()
        self._retry_loop.wake()


def _hash_of(request: Request) -> int:
    return request.key_hash


def _raised(outcome: object) -> object:
    """`outcome`, raised if it is an error."""
    if isinstance(outcome, RingmasterError):
        raise outcome
    return outcome

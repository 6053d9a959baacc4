"""Key to partition to primary to reply: retries and deadlines.

A read may be sent again at any time, a write only while it is known not to have run (R9).
"""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, TypeVar, cast

from xxhash import xxh3_64_intdigest

from ringmaster.cluster.view import View
from ringmaster.errors import (
    DeadlineExceeded,
    LinkDown,
    LinkError,
    OutcomeUnknown,
    PeerError,
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
from ringmaster.routing.links import NodeLinks
from ringmaster.routing.listing import list_page
from ringmaster.routing.outcomes import LARGE, RETRY, read_outcome, write_outcome
from ringmaster.routing.pending import MOVED, PendingRequest
from ringmaster.routing.retries import PATIENT, NodeRetries, Retries, Sign
from ringmaster.routing.retry_budget import RetryPolicy
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

_MOST_LARGE: Final = 2
"""Large values on their way at one time: one comes while the other is passed on. Each holds up the loop for some milliseconds."""

_NOT_EVERYWHERE: Final = "not done in every partition; send it again: "

NOTHING: Final[dict[int, bytes]] = {}

Write = tuple[bytes, bytes, Sequence[bytes | int]]
"""(command, key, arguments after the key)."""


_T = TypeVar("_T")


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
        # Set, and replaced, when a retry may succeed: a new view, a link that came up.
        self._changed = Sign()
        self._large = asyncio.Semaphore(_MOST_LARGE)

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
        self._table = [None] * len(self._table)
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
            [entry] = await self._settle(
                [key], self._read_large, deadline, read_outcome, xxh3_64_intdigest
            )
        return cast("bytes | None", _raised(entry))

    async def _read_large(self, keys: Sequence[bytes], within_s: float) -> list[Reply]:
        """The reply for the one of `keys`, by the link for large values, when it is its turn."""
        deadline = self._clock.boottime() + within_s
        try:
            async with asyncio.timeout(within_s), self._large:
                route = self._route_of(keys[0])
                link = None if route is None else self._links.large_of(route.owner)
                if route is None or link is None:
                    return [NO_PRIMARY]
                frame = b"%b%b%b\r\n" % (route.get, bulk_head(len(keys[0])), keys[0])
                return [await link.request(frame, deadline - self._clock.boottime())]
        except TimeoutError:
            return [DeadlineExceeded(f"{_MOST_LARGE} other large values at a time come first")]
        except RingmasterError as error:
            return [error]

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
        outcomes = await self._settle(
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
            changed = self._changed
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
                node = self._asked_without_a_sign(part.link, reply) if over else None
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
            await self.retries.pause(self._changed, 0, deadline, {})
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
        """The outcome of each of `requests`, see `_settle`."""
        reads = outcome_of is read_outcome

        async def send(unsettled: Sequence[Request], within_s: float) -> list[Reply]:
            return await gather_each(self._table, unsettled, within_s, movable=reads)

        refusals = () if refusal is None else (refusal,)
        return await self._settle(requests, send, deadline, outcome_of, _hash_of, refusals)

    async def _settle(
        self,
        requests: Sequence[_T],
        send: Callable[[Sequence[_T], float], Awaitable[list[Reply]]],
        deadline: float,
        outcome_of: Callable[[Reply], object],
        hash_of: Callable[[_T], int],
        refusals: Sequence[Reply] = (),
        together: int = 1,
    ) -> list[object]:
        """A value or an error for each of `requests`: send all at once, then again those whose outcome is `RETRY`.

        `together`: so many go in one command. `refusals`: what was replied when they were sent before, if they were: outcomes that are `RETRY`.
        """
        results: list[object] = [None] * len(requests)
        todo: Sequence[int] = range(len(requests))
        held: dict[int, Reply] = dict(enumerate(refusals))
        paid: dict[int, NodeRetries] = {}
        attempt = 0
        reads = outcome_of is read_outcome
        if not all(_was_asked_of_nobody(reply) for reply in refusals):
            hashes = {index: hash_of(requests[index]) for index in held}
            todo, paid = await self._next(hashes, held, self._changed, 0, deadline, together)
        while True:
            changed = self._changed
            left_s = deadline - self._clock.boottime()
            if left_s <= 0:
                for index in held or todo:
                    reason: object = held.get(index, "the deadline is over")
                    results[index] = Unserved(f"not served within the deadline: {reason!s}")
                return results
            # Usually all are sent once and answered with a value.
            batch = requests if len(todo) == len(requests) else [requests[at] for at in todo]
            replies = await send(batch, left_s)
            for index in todo if held else ():
                held.pop(index, None)
            for index, reply in zip(todo, replies, strict=True):
                if reads and type(reply) is bytes:
                    results[index] = reply
                    continue
                outcome = outcome_of(reply)
                if outcome is RETRY:
                    held[index] = reply
                else:
                    results[index] = outcome
            if paid:
                self.retries.answered({paid[index] for index in todo if index not in held})
            if not held:
                return results
            hashes = {index: hash_of(requests[index]) for index in held}
            todo, paid = await self._next(hashes, held, changed, attempt, deadline, together)
            attempt += 1

    async def _next(
        self,
        hashes: dict[int, int],
        held: dict[int, Reply],
        changed: Sign,
        attempt: int,
        deadline: float,
        together: int,
    ) -> tuple[list[int], dict[int, NodeRetries]]:
        """Wait until some of those that are `held` may be sent again; which, in order, and whose budget paid for each.

        `hashes`: of their keys.
        """
        nodes: dict[int, NodeRetries] = {}
        costs: dict[NodeRetries, int] = {}
        for index, refusal in held.items():
            route = self._table[hashes[index] & self._mask]
            node = None if route is None else self._asked_without_a_sign(route.link, refusal)
            if node is not None:
                nodes[index] = node
                costs[node] = costs.get(node, 0) + 1
        commands = {node: -(-count // together) for node, count in costs.items()}
        if all(self._awaits_a_view(held[index]) for index in nodes):
            attempt = PATIENT
        if await self.retries.pause(changed, attempt, deadline, commands):
            return sorted(nodes), nodes
        return sorted(held), {}

    def _asked_without_a_sign(self, link: Link, refusal: Reply) -> NodeRetries | None:
        """Of whom something that was refused may be asked again just so; None where only a sign helps: a newer view, or the link up."""
        if isinstance(refusal, LinkDown) or not link.connected:
            return None
        return self.retries.of(link)

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

    def _awaits_a_view(self, refusal: Reply) -> bool:
        """Whether the node that refused follows a newer view, which will be here soon: until then it says the same again."""
        if not isinstance(refusal, PeerError) or refusal.code != "MOVED" or self._view is None:
            return False
        return refusal.detail.isdecimal() and int(refusal.detail) > self._view.epoch

    def _route_of(self, key: bytes) -> Route | None:
        return self._table[xxh3_64_intdigest(key) & self._mask]

    def _wake(self) -> None:
        self.fills.wake()
        changed, self._changed = self._changed, Sign()
        changed.give()


def _hash_of(request: Request) -> int:
    return request.key_hash


def _was_asked_of_nobody(reply: Reply) -> bool:
    """Whether a request is as good as never sent: asking again asks no node a second time."""
    return reply is MOVED or isinstance(reply, LinkError)


def _raised(outcome: object) -> object:
    """`outcome`, raised if it is an error."""
    if isinstance(outcome, RingmasterError):
        raise outcome
    return outcome

"""Fills: the newest entries of a partition, uncommitted ones included, are sent to a new copy while writes go on (R7).

The session is open and streams everything sequenced since, so the order of the FIFO makes a scan
correct without tombstones: what is sent for a key is its newest state at the moment of sending.

Clients come first: a slice is small, slices take a tenth of the loop's time at most (a quarter where a copy is lacking),
no node sends or receives more than a number of bytes a second, and one that is over its budget is waited for.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Final

from aux.replication.primary import Copy, CopyState, Primary
from aux.replication.sender import Peers
from ringmaster.cluster.view import View
from ringmaster.protocol.tag_records import HOLDERS, is_record, pack_names
from ringmaster.runtime.clock import Clock

CHUNK_BYTES: Final = 64 * 1024
CHUNK_KEYS: Final = 100
"""A slice blocks the loop of its sender, and then that of its receiver, for about 0.2 ms (measured on one 2.5 GHz core)."""

REST: Final = 9.0
REST_IN_REPAIR: Final = 3.0
"""The pause after a slice, as a multiple of what the slice took; the second while the partition has too few copies."""

MOST_SLICE_S: Final = 0.05
"""A slice counts as no longer than this. The largest value takes a few milliseconds; where the clock says more, this
process was stopped meanwhile. Rests for that would leave copies lacking for ten times as long as it was stopped."""

WORKERS: Final = 4
ACK_TIMEOUT_S: Final = 5.0

OVER_BUDGET_WAIT_S: Final = 1.0
OVER_BUDGET_LOOK_S: Final = 0.05
"""For how long a fill waits in all for a receiver that is over its budget. What is evicted there meanwhile halves the
excess ten times; if that is not enough, its copies that are to go wait for this one."""


class Filler:
    """Scans for copies whose fill is open, a few at a time, at most `bytes_per_s` over all (0: no cap).

    The primaries that fill one node share that as well, by the `view`: so it does not receive more either.
    `caught_up(copy)` is called once the copy has all of the scan: from then on it may be required.
    """

    def __init__(
        self,
        peers: Peers,
        clock: Clock,
        bytes_per_s: int,
        caught_up: Callable[[Copy], None],
        view: Callable[[], View | None] = lambda: None,
    ) -> None:
        self._peers = peers
        self._clock = clock
        self.bytes_per_s = bytes_per_s
        self._caught_up = caught_up
        self._view = view
        self._counted: View | None = None
        self._senders: Counter[str] = Counter()
        self._queue: deque[tuple[Copy, int]] = deque()
        self._work = asyncio.Event()
        self._next_send = 0.0
        self._next_to: dict[str, float] = {}
        self.filled_keys = 0
        self.filled_bytes = 0

    def start_fill(self, copy: Copy) -> None:
        """Scan for `copy` in its present session. Bounded by the fills that views list."""
        self._queue.append((copy, copy.session))
        self._work.set()

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            for number in range(WORKERS):
                group.create_task(self._worker(), name=f"fill-{number}")

    async def _worker(self) -> None:
        while True:
            while not self._queue:
                self._work.clear()
                await self._work.wait()
            copy, session = self._queue.popleft()
            await self._fill(copy, session)

    async def _fill(self, copy: Copy, session: int) -> None:
        def open_still() -> bool:
            return copy.session == session and copy.state is CopyState.SCANNING

        if not open_still():
            return
        primary = copy.primary
        # Who has copies, and the records of tags first: without them, entries that are dead would come to life (R11, R13).
        holders = (HOLDERS,) if primary.data.holders else ()
        keys = iter(
            list(chain(holders, primary.tags, primary.data.entries, primary.overlay_keys()))
        )
        patience_s = OVER_BUDGET_WAIT_S
        more = True
        while more:
            patience_s = await self._within_budget(copy.node, patience_s)
            await self._take_turn(copy.node)
            if not open_still():
                return
            began = self._clock.boottime()
            more, sent_bytes = self._send_chunk(copy, keys)
            arrived = self._ask_arrival(copy.node)
            self._account(copy, sent_bytes, self._clock.boottime() - began)
            if not await self._arrived(arrived):
                if open_still():
                    copy.state = CopyState.CLOSED  # opened anew by the next tick
                return
            if not open_still():
                return
        copy.state = CopyState.STREAMING
        self._caught_up(copy)

    def _send_chunk(self, copy: Copy, keys: Iterator[bytes]) -> tuple[bool, int]:
        """Send the next keys' newest entries: whether there may be more keys, and how many bytes that was."""
        primary = copy.primary
        sent_bytes = sent_keys = 0
        more = False
        for key in keys:
            entry = _newest(primary, key)
            if entry is None:
                continue
            self._peers.send(copy, 0, key, entry)
            sent_keys += 1
            sent_bytes += len(key) + len(entry)
            if sent_bytes >= CHUNK_BYTES or sent_keys >= CHUNK_KEYS:
                more = True
                break
        self.filled_keys += sent_keys
        self.filled_bytes += sent_bytes
        return more, sent_bytes

    # Pace.

    def _account(self, copy: Copy, sent_bytes: int, took_s: float) -> None:
        """The next slice goes when this one is paid for: to anybody, and to the node of `copy`."""
        now, node = self._clock.boottime(), copy.node
        rate = self.bytes_per_s
        cost_s = sent_bytes / rate if rate else 0.0
        rest_s = min(took_s, MOST_SLICE_S) * (REST_IN_REPAIR if self._is_repair(copy) else REST)
        self._next_send = max(max(now, self._next_send) + cost_s, now + rest_s)
        senders = max(1, self._senders_to(node))
        paid_at = max(now, self._next_to.get(node, 0.0)) + cost_s * senders
        self._next_to[node] = max(paid_at, now + rest_s * senders)

    def _is_repair(self, copy: Copy) -> bool:
        view = self._view()
        return view is not None and copy.primary.in_sync < view.replicas

    def _senders_to(self, node: str) -> int:
        """How many primaries fill `node` in the present view."""
        view = self._view()
        if view is not self._counted:
            self._counted = view
            pairs = {
                (row.primary, filling.node)
                for row in (() if view is None else view.table)
                for filling in row.filling
            }
            self._senders = Counter(receiver for _, receiver in pairs)
        return self._senders[node]

    async def _take_turn(self, node: str) -> None:
        """Wait until the next slice for `node` may go. Of those who wait, one goes in a turn of the loop."""
        while True:
            at = max(self._next_send, self._next_to.get(node, 0.0))
            delay_s = at - self._clock.boottime()
            if delay_s <= 0:
                return
            await asyncio.sleep(delay_s)

    async def _within_budget(self, node: str, patience_s: float) -> float:
        """Wait until `node` is within its budget, at most `patience_s`; what is left of that."""
        while patience_s > 0:
            peer = self._peers.get(node)
            if peer is None or not peer.over_bytes:
                break
            await asyncio.sleep(OVER_BUDGET_LOOK_S)
            patience_s -= OVER_BUDGET_LOOK_S
            await self._arrived(self._ask_arrival(node))  # the reply says how things are
        return patience_s

    def _ask_arrival(self, node: str) -> asyncio.Future[bool]:
        """Send what is queued for `node`, and ask whether it arrived."""
        done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

        def resolve(arrived: bool) -> None:
            if not done.done():
                done.set_result(arrived)

        peer = self._peers.get(node)
        if peer is None:
            resolve(False)
        else:
            peer.barrier(resolve)
        return done

    async def _arrived(self, done: asyncio.Future[bool]) -> bool:
        try:
            async with asyncio.timeout(ACK_TIMEOUT_S):
                return await done
        except TimeoutError:
            return False


def _newest(primary: Primary, key: bytes) -> bytes | None:
    """What a new copy is told of `key`."""
    if key == HOLDERS:
        return pack_names(primary.data.holders)
    return primary.tags.get(key) if is_record(key) else primary.newest(key)

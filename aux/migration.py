"""Fills: the head state of a partition is sent to a new copy while writes go on (R7).

The session is open and streams everything sequenced since, so the order of the FIFO makes a scan
correct without tombstones: what is sent for a key is its newest state at the moment of sending.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Final

from aux.primary import Copy, CopyState
from aux.replication import Peers
from ringmaster.clock import Clock

CHUNK_BYTES: Final = 256 * 1024
CHUNK_KEYS: Final = 500
"""A chunk blocks the loop for about a millisecond (measured on one 2.5 GHz core)."""

WORKERS: Final = 4
ACK_TIMEOUT_S: Final = 5.0


class Filler:
    """Scans for copies whose fill is open, a few at a time, at most `bytes_per_s` over all (0: no cap).

    `caught_up(copy)` is called once the copy has all of the scan: from then on it may be required.
    """

    def __init__(
        self, peers: Peers, clock: Clock, bytes_per_s: int, caught_up: Callable[[Copy], None]
    ) -> None:
        self._peers = peers
        self._clock = clock
        self._bytes_per_s = bytes_per_s
        self._caught_up = caught_up
        self._queue: deque[tuple[Copy, int]] = deque()
        self._work = asyncio.Event()
        self._next_send = 0.0
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
        keys = iter(list(chain(primary.data.entries, primary.overlay_keys())))
        more = True
        while more:
            await self._throttle()
            if not open_still():
                return
            more = self._send_chunk(copy, keys)
            if not await self._acknowledged(copy):
                if open_still():
                    copy.state = CopyState.CLOSED  # opened anew by the next tick
                return
            if not open_still():
                return
        copy.state = CopyState.STREAMING
        self._caught_up(copy)

    def _send_chunk(self, copy: Copy, keys: Iterator[bytes]) -> bool:
        """Send the next keys' head state; False when there are no more keys."""
        primary = copy.primary
        sent_bytes = sent_keys = 0
        for key in keys:
            entry = primary.head(key)
            if entry is None:
                continue
            self._peers.send(copy, 0, key, entry)
            sent_keys += 1
            sent_bytes += len(key) + len(entry)
            if sent_bytes >= CHUNK_BYTES or sent_keys >= CHUNK_KEYS:
                break
        else:
            self._account(sent_keys, sent_bytes)
            return False
        self._account(sent_keys, sent_bytes)
        return True

    def _account(self, sent_keys: int, sent_bytes: int) -> None:
        self.filled_keys += sent_keys
        self.filled_bytes += sent_bytes
        if self._bytes_per_s:
            now = self._clock.boottime()
            self._next_send = max(now, self._next_send) + sent_bytes / self._bytes_per_s

    async def _throttle(self) -> None:
        delay = self._next_send - self._clock.boottime()
        if delay > 0:
            await asyncio.sleep(delay)

    async def _acknowledged(self, copy: Copy) -> bool:
        """Whether everything sent up to now arrived."""
        peer = self._peers.get(copy.node)
        if peer is None:
            return False
        done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

        def resolve(arrived: bool) -> None:
            if not done.done():
                done.set_result(arrived)

        peer.barrier(resolve)
        try:
            async with asyncio.timeout(ACK_TIMEOUT_S):
                return await done
        except TimeoutError:
            return False

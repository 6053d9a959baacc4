"""When a node's rounds of snapshots begin, and how much of the loop they may take.

All partitions of a round are cut one after another. So a write waits for the disk an interval and the time a round
takes, at most; a round that will take long begins that much earlier.
"""

from __future__ import annotations

import asyncio
from typing import Final

from ringmaster.protocol.hashing import partition_of
from ringmaster.runtime.clock import Clock

SLICE_S: Final = 0.0004
"""Work in one turn of the loop, in seconds; a partition's cut or a block may take it a little further."""

SLICE_BYTES: Final = 256 * 1024
"""The same in bytes gathered, for a clock that does not move during a turn."""

SHARE: Final = 0.2
"""Of the loop's time, at most, while a round is written; more only if it would take too long otherwise."""

MAX_SHARE: Final = 0.5
_MAX_REST_S: Final = 0.005
_ROUND_SHARE: Final = 0.3
"""Of an interval that a round may take before it gets a larger share of the loop."""

_SLACK_S: Final = 1.0
"""A round shorter than this needs no earlier start."""

_FIRST_RATE: Final = 50e6
_MEASURABLE: Final = 1024 * 1024
_PLACES: Final = 1 << 16


class Schedule:
    """Rounds every `interval_s` seconds, at a place that differs from node to node. `interval_s` 0: never."""

    def __init__(self, clock: Clock, node_id: str, interval_s: float) -> None:
        self._clock = clock
        self.interval_s = interval_s
        self._rate = _FIRST_RATE
        self._place = partition_of(node_id.encode(), _PLACES) / _PLACES
        self.next_at = clock.boottime() + self._first_s()

    def _first_s(self) -> float:
        return self.interval_s * (1.0 + self._place) / 2

    def change(self, interval_s: float) -> None:
        """Rounds every `interval_s` seconds from now on: the next no later than one of the new interval would be."""
        now = self._clock.boottime()
        was, self.interval_s = self.interval_s, interval_s
        first_at = now + self._first_s()
        self.next_at = min(self.next_at, first_at) if was else first_at

    def expected_s(self, size: int) -> float:
        """How long a round of `size` bytes will take, as the last ones went."""
        return size / self._rate

    def is_due(self, size: int) -> bool:
        """Whether a round of `size` bytes should begin now; `begin` it then."""
        if not self.interval_s:
            return False
        return self._clock.boottime() >= self.next_at - self._early_s(size)

    def begin(self, size: int) -> None:
        """A round of `size` bytes begins; the next is due an interval later."""
        now = self._clock.boottime()
        on_grid = not self._early_s(size) and now < self.next_at + self.interval_s / 2
        self.next_at = (self.next_at if on_grid else now) + self.interval_s

    def _early_s(self, size: int) -> float:
        return min(max(0.0, self.expected_s(size) - _SLACK_S), self.interval_s / 2)

    def measured(self, size: int, took_s: float) -> None:
        """A round of `size` bytes took so long."""
        if size >= _MEASURABLE and took_s > 0:
            self._rate = size / took_s

    def share(self, size: int) -> float:
        """How much of the loop a round of `size` bytes may have."""
        if not self.interval_s:
            return SHARE
        wanted = SHARE * self.expected_s(size) / (_ROUND_SHARE * self.interval_s)
        return min(max(wanted, SHARE), MAX_SHARE)


class Pace:
    """Divides work into slices, with rests between so long that it has `share` of the loop. 1.0: turns, no rests."""

    def __init__(self, clock: Clock, share: float) -> None:
        self._clock = clock
        self._rests = 1.0 / share - 1.0
        self._began = clock.boottime()
        self._size = 0

    async def worked(self, size: int) -> None:
        """Some work was done, which gathered `size` bytes: rest if the slice is full."""
        self._size += size
        took_s = self._clock.boottime() - self._began
        if took_s < SLICE_S and self._size < SLICE_BYTES:
            return
        await asyncio.sleep(min(took_s * self._rests, _MAX_REST_S))
        self._size = 0
        self._began = self._clock.boottime()

"""The clock seam: the only module that reads a clock."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    """Two clocks, both in seconds. Every call reads anew; nothing is cached."""

    def boottime(self) -> float:
        """Seconds since boot, time asleep or stopped included; never goes back."""

    def wall(self) -> float:
        """Seconds since 1970 UTC; may step in either direction."""


class SystemClock:
    """The machine's own clocks (`CLOCK_BOOTTIME`, see clock_gettime(2))."""

    __slots__ = ()

    def boottime(self) -> float:
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def wall(self) -> float:
        return time.time()


class TurnClock:
    """`clock`, read once in a turn of the loop: for latencies and ages, which may be that old. Never for a lease.

    Where `over` is true call `begin`, then read `boottime` and `wall`.
    """

    __slots__ = ("_clock", "boottime", "over", "wall")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.boottime = 0.0
        self.wall = 0.0
        self.over = True

    def begin(self) -> None:
        """Read both clocks; they count as new until the loop runs what is due next."""
        self.boottime = self._clock.boottime()
        self.wall = self._clock.wall()
        self.over = False
        asyncio.get_running_loop().call_soon(self._end)

    def _end(self) -> None:
        self.over = True

"""The clock seam: the only module that reads a clock."""

from __future__ import annotations

import time
from functools import partial
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

    # Called for every request: not a function of Python's.
    boottime = staticmethod(partial(time.clock_gettime, time.CLOCK_BOOTTIME))

    def wall(self) -> float:
        return time.time()

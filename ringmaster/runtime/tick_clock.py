"""A clock that is read once per turn of the event loop, where that is precise enough."""

from __future__ import annotations

import asyncio

from ringmaster.runtime.cluster_clock import ClusterClock


class TurnClock:
    """`clock`, read once per turn of the loop: for latencies and ages. Never for a lease (R1).

    Where `over` is true call `begin`, then read `boottime` and `now_ms` (cluster time).
    """

    __slots__ = ("_clock", "boottime", "now_ms", "over")

    def __init__(self, clock: ClusterClock) -> None:
        self._clock = clock
        self.boottime = 0.0
        self.now_ms = 0
        self.over = True

    def begin(self) -> None:
        """Read the clock; the reading counts as current until the next turn of the loop."""
        self.boottime = self._clock.boottime()
        self.now_ms = self._clock.ms_at(self.boottime)
        self.over = False
        asyncio.get_running_loop().call_soon(self._end)

    def _end(self) -> None:
        self.over = True

"""A clock that is read once per turn of the event loop, where that is precise enough."""

from __future__ import annotations

import asyncio

from ringmaster.runtime.clock import Clock


class TurnClock:
    """`clock`, read once per turn of the loop: for latencies and ages. Never for a lease (R1).

    Where `over` is true call `begin`, then read `boottime` and `wall`.
    """

    __slots__ = ("_clock", "boottime", "over", "wall")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.boottime = 0.0
        self.wall = 0.0
        self.over = True

    def begin(self) -> None:
        """Read both clocks; the readings count as current until the next turn of the loop."""
        self.boottime = self._clock.boottime()
        self.wall = self._clock.wall()
        self.over = False
        asyncio.get_running_loop().call_soon(self._end)

    def _end(self) -> None:
        self.over = True

"""How long the controller waits between two cycles: at once for news; and how long between two views that only move copies."""

from __future__ import annotations

import asyncio
from typing import Final

from ringmaster.runtime.clock import Clock

MOVE_PAUSE_S: Final = 0.1
MOVE_PAUSE_FACTOR: Final = 320.0
"""The pause between two views that only move copies, as a multiple of what planning and publishing the first one took:
at least `MOVE_PAUSE_S`, at most `PlanningSettings.max_move_pause_s`.

Each such view costs every process a few milliseconds during which clients wait; this keeps it at about one in a hundred.
"""

PAUSED_CYCLE_S: Final = 0.4
"""Between two cycles in a pause, in which leases are read and only what is urgent is published. `LeaseWatch` wants to see them once a second."""

MIN_WAIT_S: Final = 0.005
"""Timers fire up to a millisecond early."""


class Pacing:
    """Waits between cycles. `wake` ends a wait early, from the same loop."""

    def __init__(self, clock: Clock, max_move_pause_s: float) -> None:
        self._clock = clock
        self._max_move_pause_s = max_move_pause_s
        self._event = asyncio.Event()
        self._paused_until = 0.0

    def wake(self, *, urgent: bool) -> None:
        """End the wait now; unless `urgent`, only when no pause after a move is under way."""
        if urgent:
            self._paused_until = 0.0
        if self._clock.boottime() >= self._paused_until:
            self._event.set()

    def pause_after_move(self, began: float) -> None:
        """A view that only moves copies was published; planning it began at `began` (boottime)."""
        now = self._clock.boottime()
        pause_s = max(MOVE_PAUSE_FACTOR * (now - began), MOVE_PAUSE_S)
        self._paused_until = now + min(pause_s, self._max_move_pause_s)

    @property
    def may_move(self) -> bool:
        """Whether a view that only moves copies may be published now."""
        return self._clock.boottime() >= self._paused_until

    def begin_cycle(self) -> None:
        """From now on a `wake` is for the cycle after this one."""
        self._event.clear()

    async def wait(self, wait_s: float, lapse_s: float, *, again: bool) -> None:
        """Wait `wait_s` seconds, in a pause longer, but never longer than `lapse_s`; or until woken. `again`: no longer than the pause."""
        pause_s = self._paused_until - self._clock.boottime()
        if again and pause_s <= 0:
            await asyncio.sleep(0)  # the loop's other tasks first
            return
        if pause_s > 0:
            wait_s = min(pause_s, PAUSED_CYCLE_S)
        try:
            async with asyncio.timeout(max(min(wait_s, lapse_s), MIN_WAIT_S)):
                await self._event.wait()
        except TimeoutError:
            return

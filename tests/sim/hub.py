"""Virtual time: one hub for all processes. Everything is decided by one `random.Random`, nothing waits or opens a file."""

from __future__ import annotations

import itertools
from asyncio import events
from collections.abc import Callable
from heapq import heappop, heappush
from random import Random
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.sim.loop import NodeLoop

MAX_TICKS_PER_INSTANT = 50_000
"""More turns than this without time passing is a livelock."""


class Livelock(AssertionError):
    """Processes keep each other busy while time stands still."""


class Hub:
    """Virtual time in seconds and the order of everything that happens. `failures` collects what must not happen."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.now = 0.0
        self.ticks = 0
        self.failures: list[str] = []
        self.stopped = False
        self.running: NodeLoop | None = None
        """Whose turn was the last: telling asyncio costs a system call, so it is told of changes only."""

        self.after_tick: Callable[[], None] | None = None
        self.log: Callable[[str, str], None] | None = None
        self._heap: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._sequence = itertools.count()
        self._runnable: list[NodeLoop] = []
        self._instant_ticks = 0

    def at(self, when: float, callback: Callable[..., None], *args: object) -> None:
        """Call `callback` at `when` (now, if that has passed), outside of any process."""
        heappush(self._heap, (when, next(self._sequence), callback, args))

    def trace(self, who: str, what: str) -> None:
        """A line for the readable trace; free when nobody listens."""
        if self.log is not None:
            self.log(who, what)

    def fail(self, text: str) -> None:
        """What must not happen has happened: nothing more does."""
        self.failures.append(f"{self.now:.6f} s: {text}")
        self.trace("FAILED", text)
        self.stopped = True

    def runnable(self, loop: NodeLoop) -> None:
        """`loop` has something to do at this instant."""
        self._runnable.append(loop)

    def run(self, until: float, stop: Callable[[], bool] | None = None) -> None:
        """Let time pass to `until`, or less if `stop()` says so between two instants."""
        try:
            self._run(until, stop)
        finally:
            self.running = None
            events._set_running_loop(None)

    def _run(self, until: float, stop: Callable[[], bool] | None) -> None:
        runnable, heap, pick = self._runnable, self._heap, self.random.random
        while True:
            if self.stopped:
                return
            while runnable:
                index = int(pick() * len(runnable)) if len(runnable) > 1 else 0
                runnable[index], runnable[-1] = runnable[-1], runnable[index]
                runnable.pop().tick()
                self.ticks += 1
                self._instant_ticks += 1
                if self.after_tick is not None:
                    self.after_tick()
                if self._instant_ticks > MAX_TICKS_PER_INSTANT:
                    raise Livelock(f"no time passes any more at {self.now:.6f} s")
            if not heap or heap[0][0] > until or (stop is not None and stop()):
                if not heap or heap[0][0] > until:
                    self.now = max(self.now, until)
                return
            when, _, callback, args = heappop(heap)
            if when > self.now:
                self.now = when
                self._instant_ticks = 0
            callback(*args)

"""An event loop facade for each simulated process, and its clocks.

Each process has a `NodeLoop`, so that asyncio's tasks, timeouts, queues and sleeps inside the real code stay on the
loop of the process that made them and can be frozen or killed with it. The hub owns time and order.
"""

from __future__ import annotations

import asyncio
import itertools
import warnings
from asyncio import events
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from contextvars import Context
from typing import Any

from tests.sim.hub import Hub

WALL_EPOCH_S = 1_700_000_000.0
"""Wall time at virtual time 0."""


class SimTask(asyncio.Task[Any]):
    """A task that hashes by number: sets of tasks keep their order from run to run."""

    def __init__(self, coroutine: Any, *, number: int, **options: Any) -> None:
        self._number = number
        super().__init__(coroutine, **options)

    def __hash__(self) -> int:
        return self._number


class SimFuture(asyncio.Future[Any]):
    """A future that hashes by number."""

    def __init__(self, *, number: int, loop: asyncio.AbstractEventLoop) -> None:
        self._number = number
        super().__init__(loop=loop)

    def __hash__(self) -> int:
        return self._number


class NodeLoop(asyncio.AbstractEventLoop):
    """The event loop and the clocks of one process. `rate`: seconds of its clocks per true second.

    `boot_s`: what its boot-time clock reads at true time 0. `turn_s`: how long each turn takes (a slow node). `host_answers`: whether, once this process is dead, its host
    still refuses connections.
    """

    def __init__(self, hub: Hub, name: str, *, rate: float = 1.0, boot_s: float = 0.0) -> None:
        self.hub = hub
        self.name = name
        self.rate = rate
        self.wall_offset_s = 0.0
        self.crashed = False
        self.frozen_until = 0.0
        self.turn_s = 0.0
        self.host_answers = True
        self.on_crash: list[Callable[[], None]] = []
        self.tasks: list[asyncio.Task[Any]] = []
        self._boot_offset = boot_s or hub.random.uniform(1000.0, 2000.0)
        self._ready: deque[asyncio.Handle] = deque()
        self._inputs: list[asyncio.Handle] = []
        self._due: list[asyncio.Handle] = []
        self._outbox: list[tuple[Callable[..., None], tuple[Any, ...]]] = []
        self._queued = False
        self._thawing = False
        self._numbers = itertools.count(1)
        self._freezes: list[tuple[float, float]] = []
        self._freeze_reads = 0
        self._freeze_s = 0.0
        self._crash_sends = 0

    def __repr__(self) -> str:
        state = (
            "crashed" if self.crashed else "frozen" if self.frozen_until > self.hub.now else "runs"
        )
        return f"<NodeLoop {self.name} {state}>"

    # Clocks

    def true_now(self) -> float:
        """True time as this process lives it: what it does after a freeze begins happens when the freeze ends."""
        now = self.hub.now
        return max(now, self.frozen_until)

    def time(self) -> float:
        return self.true_now() * self.rate

    def boottime(self) -> float:
        """`Clock.boottime`. An armed freeze begins right after the read it was armed for."""
        now = self.true_now() * self.rate + self._boot_offset
        if self._freeze_reads:
            self._freeze_reads -= 1
            if not self._freeze_reads:
                self.freeze(self._freeze_s)
        return now

    def boottime_at(self, true_time: float) -> float:
        """What `boottime` reads at `true_time`, without side effects."""
        return true_time * self.rate + self._boot_offset

    def wall(self) -> float:
        """`Clock.wall`, steps included."""
        return WALL_EPOCH_S + self.true_now() * self.rate + self.wall_offset_s

    # Faults

    def crash(self) -> None:
        """Nothing of this process happens any more."""
        if self.crashed:
            return
        self.crashed = True
        self._outbox.clear()
        self.hub.trace(self.name, "crashes")
        for callback in self.on_crash:
            callback()

    def freeze(self, seconds: float) -> None:
        """Stop until `seconds` from now, as SIGSTOP and SIGCONT do."""
        self.hub.trace(self.name, f"freezes for {seconds:.3f} s")
        began = self.true_now()
        self.frozen_until = began + seconds
        self._freezes.append((began, self.frozen_until))

    def frozen_between(self, start: float, end: float) -> float:
        """True seconds of freezes that touch `start` to `end`."""
        return sum(
            until - began for began, until in self._freezes if began <= end and until >= start
        )

    def freeze_at_read(self, reads: int, seconds: float) -> None:
        """Freeze for `seconds` right after the `reads`-th clock read from now."""
        self._freeze_reads, self._freeze_s = reads, seconds

    def crash_at_send(self, sends: int) -> None:
        """Crash right after the `sends`-th send from now, in the middle of whatever it is doing."""
        self._crash_sends = sends

    def disarm(self) -> None:
        """Forget armed faults that have not struck."""
        self._freeze_reads = self._crash_sends = 0

    def depart(self, callback: Callable[..., None], *args: object) -> None:
        """Something leaves this process: `callback` runs at the true time at which it does, in order, or never."""
        if self.crashed:
            return
        if self.frozen_until > self.hub.now:
            self._outbox.append((callback, args))
            self._plan_thaw()
        else:
            callback(*args)
        if self._crash_sends:
            self._crash_sends -= 1
            if not self._crash_sends:
                self.crash()

    # The hub's side

    def enter(self, callback: Callable[..., object], *args: object) -> None:
        """Input from outside (bytes, replies): handled in this process's next turn."""
        if self.crashed:
            return
        self._inputs.append(asyncio.Handle(callback, args, self))
        self._wake()

    def tick(self) -> None:
        """One turn of the loop: everything that is ready now, in order."""
        self._queued = False
        if self.crashed:
            return
        hub = self.hub
        if self.frozen_until > hub.now:
            self._plan_thaw()
            return
        if self._outbox:
            self._flush()
        ready = self._ready
        self._gather()
        if hub.running is not self:
            hub.running = self
            events._set_running_loop(self)
        for _ in range(len(ready)):
            handle = ready.popleft()
            if not handle._cancelled:  # type: ignore[attr-defined]
                handle._run()
                if self.frozen_until > hub.now or self.crashed:
                    break
        if self.turn_s and self.frozen_until <= hub.now:
            self.frozen_until = hub.now + self.turn_s
        if ready or self._inputs or self._due:
            self._wake()

    def _gather(self) -> None:
        """Inputs before timers as selectors do, or timers first as libuv does: code must stand both."""
        first, second = self._inputs, self._due
        if first and second and self.hub.random.random() < 0.5:
            first, second = second, first
        if first:
            self._ready.extend(first)
            first.clear()
        if second:
            self._ready.extend(second)
            second.clear()

    def _wake(self) -> None:
        if self._queued or self.crashed:
            return
        if self.frozen_until > self.hub.now:
            self._plan_thaw()
            return
        self._queued = True
        self.hub.runnable(self)

    def _plan_thaw(self) -> None:
        if not self._thawing:
            self._thawing = True
            self.hub.at(self.frozen_until, self._thaw)

    def _thaw(self) -> None:
        self._thawing = False
        if self.frozen_until > self.hub.now:
            self._plan_thaw()
            return
        self._flush()
        if self._ready or self._inputs or self._due:
            self._wake()

    def _flush(self) -> None:
        """What the process sent while it could not: it leaves now, before anything newer."""
        outbox, self._outbox = self._outbox, []
        for callback, args in outbox:
            if not self.crashed:
                callback(*args)

    def _expire(self, handle: asyncio.TimerHandle) -> None:
        if not handle._cancelled and not self.crashed:  # type: ignore[attr-defined]
            self._due.append(handle)
            self._wake()

    # asyncio's side

    def call_soon(
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        if not self._queued:
            self._wake()
        return handle

    call_soon_threadsafe = call_soon

    def call_later(
        self,
        delay: float,
        callback: Callable[..., object],
        *args: Any,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def call_at(
        self,
        when: float,
        callback: Callable[..., object],
        *args: Any,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        self.hub.at(when / self.rate, self._expire, handle)
        return handle

    def create_task(
        self,
        coro: Coroutine[Any, Any, Any],
        *,
        name: str | None = None,
        context: Context | None = None,
    ) -> asyncio.Task[Any]:
        number = next(self._numbers)
        task = SimTask(
            coro, number=number, loop=self, name=name or f"{self.name}-{number}", context=context
        )
        self.tasks.append(task)
        if len(self.tasks) > 2000:
            self.tasks = [each for each in self.tasks if not each.done()]
        return task

    def create_future(self) -> asyncio.Future[Any]:
        return SimFuture(number=next(self._numbers), loop=self)

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Cancelled timers stay in the heap and do nothing when they come up."""

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        self.call_exception_handler(context)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """An error that nobody handled is a failure of the run, unless its process is dead."""
        if self.crashed:
            return
        error = context.get("exception")
        self.hub.fail(f"unhandled in {self.name}: {context.get('message')}: {error!r}")

    def dispose(self) -> None:
        """After the run: end the tasks that never ended, without a word and without effect."""
        self.crashed = True
        events._set_running_loop(self)
        try:
            for task in self.tasks:
                task._log_destroy_pending = False  # type: ignore[attr-defined]
                if not task.done():
                    _end(task.get_coro())
        finally:
            events._set_running_loop(None)
        self.tasks.clear()
        self._ready.clear()


def _end(coroutine: Any) -> None:
    """Close a coroutine; one that goes on in its `finally` (task groups do) is closed again."""
    with warnings.catch_warnings():
        # One that it was given and never came to await.
        warnings.simplefilter("ignore", RuntimeWarning)
        for _ in range(10):
            # Whatever dead code raises concerns nobody.
            with suppress(Exception, BaseExceptionGroup):
                coroutine.close()
                return


class SimClock:
    """`ringmaster.runtime.clock.Clock` of one simulated process."""

    __slots__ = ("boottime", "wall")

    def __init__(self, loop: NodeLoop) -> None:
        self.boottime = loop.boottime
        self.wall = loop.wall

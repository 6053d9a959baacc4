"""An event loop on which no time passes but what its timers ask for: `sleep(3600)` takes no time at all."""

from __future__ import annotations

import asyncio
import functools
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec

P = ParamSpec("P")


class VirtualLoop(asyncio.SelectorEventLoop):
    """For code that only waits for its own timers. Its time begins at 1000 s."""

    def __init__(self) -> None:
        super().__init__(_Jumping(self._pass))
        self.now = 1000.0

    def time(self) -> float:
        return self.now

    def _pass(self, seconds: float) -> None:
        self.now += seconds


def in_virtual_time(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Run an `async def` test on a `VirtualLoop` of its own."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            runner.run(test(*args, **kwargs))

    return run


class LoopClock:
    """`Clock` by the running loop; `stopped_s` moves it on as a stopped process sees it."""

    def __init__(self) -> None:
        self.stopped_s = 0.0

    def boottime(self) -> float:
        return asyncio.get_running_loop().time() + self.stopped_s

    def wall(self) -> float:
        return 1_700_000_000.0 + self.boottime()


class _Jumping(selectors.DefaultSelector):
    def __init__(self, jump: Callable[[float], None]) -> None:
        super().__init__()
        self._jump = jump

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready and timeout:
            self._jump(timeout)
        assert ready or timeout is not None, "everything waits for ever"
        return ready

"""Follow the view: watch the coordinator, and take what a master pushes, which is faster."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec
import structlog

from ringmaster.cluster.view import View, decode_head, decode_view
from ringmaster.coordinator import Coordinator
from ringmaster.errors import CoordinatorError
from ringmaster.runtime.clock import Clock

VIEW_KEY = "view"

_WATCH_S = 5.0
_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 1.0
_PUSH_WAIT_S = 0.03
"""The watch leaves a new view to the push for so long: decoding it once is enough, and a pushed step is shorter."""

_log = structlog.get_logger(__name__)


class ViewFollower:
    """Keeps the newest view of one cluster and calls `on_view` with each newer one, in the order of epochs.

    While the coordinator is away the last view stays. A view that cannot be read, or is of another cluster, is
    reported and ignored. `known()`: the epoch of the newest view that was pushed; None where nobody pushes.
    """

    def __init__(
        self,
        coordinator: Coordinator,
        clock: Clock,
        cluster: str,
        on_view: Callable[[View], None],
        known: Callable[[], int] | None = None,
    ) -> None:
        self.view: View | None = None
        self.version = 0
        """The version of the record last read."""
        self.is_connected = True
        self._coordinator = coordinator
        self._clock = clock
        self._cluster = cluster
        self._on_view = on_view
        self._known = known
        self._waiters: dict[asyncio.Future[View | None], int] = {}

    def __repr__(self) -> str:
        return f"<ViewFollower epoch {self.epoch}>"

    @property
    def epoch(self) -> int:
        """Of the newest view; -1 before the first."""
        return -1 if self.view is None else self.view.epoch

    async def run(self) -> None:
        """Follow until cancelled."""
        pause = _FIRST_PAUSE_S
        while True:
            try:
                record = await self._coordinator.changed(VIEW_KEY, self.version, _WATCH_S)
            except CoordinatorError as error:
                self._note(error)
                await asyncio.sleep(pause)
                pause = min(pause * 2, _LONGEST_PAUSE_S)
                continue
            pause = _FIRST_PAUSE_S
            self._note(None)
            if record is None:
                continue
            self.version = record.version
            try:
                if await self._is_pushed(record.value):
                    continue
                view = decode_view(record.value)
            except msgspec.DecodeError as error:
                _log.error("unreadable view ignored", version=record.version, reason=str(error))
            else:
                self.offer(view)

    async def _is_pushed(self, raw: bytes) -> bool:
        """Whether a master has pushed this view, or does so at once. Raises `msgspec.DecodeError`."""
        if self._known is None:
            return False
        head = decode_head(raw)
        if head.cluster == self._cluster and head.epoch > self._known():
            await asyncio.sleep(_PUSH_WAIT_S)
        return head.cluster == self._cluster and head.epoch <= self._known()

    def offer(self, view: View) -> bool:
        """Take `view` if it is newer and of our cluster; whether it was taken. `on_view` runs before waiters do."""
        if view.cluster != self._cluster:
            _log.error("view of another cluster ignored", ours=self._cluster, theirs=view.cluster)
            return False
        if view.epoch <= self.epoch:
            return False
        self.view = view
        self._on_view(view)
        for waiter, epoch in list(self._waiters.items()):
            if view.epoch > epoch:
                _answer(waiter, view)
        return True

    async def wait_after(self, epoch: int, deadline: float) -> View | None:
        """A view newer than `epoch`, at once if there is one; None if none comes by `deadline` (boottime)."""
        if self.view is not None and self.view.epoch > epoch:
            return self.view
        remaining = deadline - self._clock.boottime()
        if remaining <= 0.0:
            return None
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[View | None] = loop.create_future()
        timer = loop.call_later(remaining, _answer, waiter, None)
        self._waiters[waiter] = epoch
        try:
            return await waiter
        finally:
            timer.cancel()
            del self._waiters[waiter]

    def _note(self, error: CoordinatorError | None) -> None:
        connected = error is None
        if connected == self.is_connected:
            return
        self.is_connected = connected
        if error is None:
            _log.info("the coordinator is back", epoch=self.epoch)
        else:
            _log.warning(
                "the coordinator is away, going on with the last view",
                epoch=self.epoch,
                reason=str(error),
            )


def _answer(waiter: asyncio.Future[View | None], view: View | None) -> None:
    if not waiter.done():
        waiter.set_result(view)

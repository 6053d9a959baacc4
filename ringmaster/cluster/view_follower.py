"""Follow the view: watch the coordinator, and take what a master pushes, which is faster."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec
import structlog

from ringmaster.cluster.view import View, decode_head, decode_view
from ringmaster.coordinator import Coordinator
from ringmaster.errors import CoordinatorError

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
        cluster: str,
        on_view: Callable[[View], None],
        known: Callable[[], int] | None = None,
    ) -> None:
        self.view: View | None = None
        self.version = 0
        """The version of the record last read."""
        self.is_connected = True
        self._coordinator = coordinator
        self._cluster = cluster
        self._on_view = on_view
        self._known = known

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
        """Take `view` if it is newer and of our cluster; whether it was taken."""
        if view.cluster != self._cluster:
            _log.error("view of another cluster ignored", ours=self._cluster, theirs=view.cluster)
            return False
        if view.epoch <= self.epoch:
            return False
        self.view = view
        self._on_view(view)
        return True

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

"""Follow the view: watch the coordinator, and hear of what a master pushes, which is faster.

Only what the coordinator has is followed. A pushed view makes us look there; a pushed step is taken on at once, since it
leads on from the very view that is held, and the coordinator must show its view soon. A view is published before it is pushed, so
a read that began after the push shows it, or a later one. If it does not, the push was forged, or the coordinator was set
back to an older state: then what was decided by the view held here is void.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import msgspec
import structlog
from xxhash import xxh3_64_intdigest

from ringmaster.cluster.view import View, decode_head, decode_view
from ringmaster.cluster.view_delta import checksum_of
from ringmaster.coordinator import Coordinator, Record
from ringmaster.errors import CoordinatorError, UnknownView

VIEW_KEY = "view"

_WATCH_S = 5.0
_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 1.0
_PUSH_WAIT_S = 0.03
"""The watch leaves a new view to the push for so long: decoding it once is enough, and a pushed step is shorter."""

_DOUBT_S = 1.0
"""A step may be ahead of what the watch has shown for so long; then the coordinator is asked."""

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class ViewCounts:
    """`refused`: pushed views that the coordinator did not know; `unknown`: how often one of these was held."""

    refused: int = 0
    unknown: int = 0


class ViewFollower:
    """Keeps the newest view of one cluster and calls `on_view` with each newer one, in the order of epochs.

    While the coordinator is away the last view stays. A view that cannot be read, or is of another cluster, is
    reported and ignored. `held()`: the view that is followed, where pushed steps change it; None where nobody pushes.
    """

    def __init__(
        self,
        coordinator: Coordinator,
        cluster: str,
        on_view: Callable[[View], None],
        held: Callable[[], View | None] | None = None,
        counts: ViewCounts | None = None,
    ) -> None:
        self.view: View | None = None
        self.version = 0
        """The version of the record last read."""
        self.is_connected = True
        self.counts = counts or ViewCounts()
        self._coordinator = coordinator
        self._cluster = cluster
        self._on_view = on_view
        self._is_pushed_to = held is not None
        self._held = held or (lambda: self.view)
        self._shown = -1  # the epoch of the record last read
        self._announced = -1
        self._announcement = asyncio.Event()
        self._doubt = asyncio.Event()

    def __repr__(self) -> str:
        return f"<ViewFollower epoch {self.epoch}>"

    @property
    def epoch(self) -> int:
        """Of the newest view; -1 before the first."""
        return -1 if self.view is None else self.view.epoch

    def heard_of(self, epoch: int) -> None:
        """A master pushed a view of `epoch`: look whether the coordinator has it, soon if it was a step and is held already."""
        if epoch > self._epoch_held():
            self._announced = max(self._announced, epoch)
            self._announcement.set()
        elif epoch > self._shown:
            self._doubt.set()

    async def run(self) -> None:
        """Follow until cancelled. Raises `UnknownView` if the coordinator does not know the view that is held."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._watch(), name="watch")
                tasks.create_task(self._look_up(), name="announced views")
                tasks.create_task(self._confirm(), name="views in doubt")
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from group

    async def _watch(self) -> None:
        pause = _FIRST_PAUSE_S
        while True:
            try:
                record = await self._coordinator.changed(VIEW_KEY, self.version, _WATCH_S)
                if record is not None:
                    await self._follow(record)
            except UnknownView:
                raise
            except CoordinatorError as error:
                self._note(error)
                await asyncio.sleep(pause)
                pause = min(pause * 2, _LONGEST_PAUSE_S)
                continue
            pause = _FIRST_PAUSE_S
            self._note(None)

    async def _follow(self, record: Record) -> None:
        """Take on what the watch has shown. Raises `CoordinatorError`."""
        before, self.version = self.version, record.version
        try:
            epoch = self._show(record.value)
            if epoch is None:
                return
            if self._is_pushed_to and epoch > self._epoch_held():
                await asyncio.sleep(_PUSH_WAIT_S)
            held = self._held()
            if held is None or (epoch > held.epoch and record.version > before):
                self.offer(decode_view(record.value))
            elif record.version < before or not _allows(held, epoch, record.value):
                await self._check(before)
            elif epoch < held.epoch:
                self._doubt.set()
        except msgspec.DecodeError as error:
            _log.error("unreadable view ignored", version=record.version, reason=str(error))

    def _show(self, raw: bytes) -> int | None:
        """The epoch of a view that the coordinator has; None if it is of another cluster. Raises `msgspec.DecodeError`."""
        head = decode_head(raw)
        if head.cluster != self._cluster:
            _log.error("view of another cluster ignored", ours=self._cluster, theirs=head.cluster)
            return None
        self._shown = head.epoch
        return head.epoch

    async def _check(self, version: int = 0) -> None:
        """See that the coordinator knows what is held now, and is at `version` at least.

        Raises `UnknownView` if not, other `CoordinatorError` if it cannot be read, and `msgspec.DecodeError`.
        """
        held = self._held()
        record = (await self._coordinator.read(VIEW_KEY)).get(VIEW_KEY)
        epoch = -1 if record is None else self._show(record.value)
        if held is None or epoch is None:
            return
        if (
            record is None
            or record.version < version
            or epoch < held.epoch
            or not _allows(held, epoch, record.value)
        ):
            self.counts.unknown += 1
            raise UnknownView(
                f"the coordinator is at view {epoch} and does not know view {held.epoch}, which is held here: it was"
                " set back to an older state, or somebody who has the cluster's secret forged a view"
            )

    async def _look_up(self) -> None:
        """Read what was announced by a push; what the coordinator does not know is refused."""
        while True:
            await self._announcement.wait()
            self._announcement.clear()
            announced, self._announced = self._announced, -1
            try:
                record = (await self._coordinator.read(VIEW_KEY)).get(VIEW_KEY)
                epoch = None if record is None else self._show(record.value)
                if record is not None and epoch is not None and epoch > self._epoch_held():
                    self.offer(decode_view(record.value))
            except (CoordinatorError, msgspec.DecodeError):
                continue  # The watch reads it once it can, and says why it cannot.
            if epoch is None or epoch < announced:
                self.counts.refused += 1
                _log.error(
                    "pushed view refused: the coordinator does not know it",
                    epoch=announced,
                    newest=epoch,
                )

    async def _confirm(self) -> None:
        """See that the coordinator has the steps that were taken on. Raises `UnknownView`."""
        while True:
            await self._doubt.wait()
            self._doubt.clear()
            await asyncio.sleep(_DOUBT_S)
            if self._shown >= self._epoch_held():
                continue
            try:
                await self._check()
            except UnknownView:
                raise
            except (CoordinatorError, msgspec.DecodeError):
                self._doubt.set()

    def _epoch_held(self) -> int:
        held = self._held()
        return -1 if held is None else held.epoch

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


def _allows(held: View, epoch: int, raw: bytes) -> bool:
    """Whether the record `raw` of `epoch` is not another view of the epoch held. Raises `msgspec.DecodeError`."""
    if epoch != held.epoch:
        return True
    # Its writer may be of another version, and write the same view in other bytes.
    return xxh3_64_intdigest(raw) == checksum_of(held) or decode_view(raw) == held

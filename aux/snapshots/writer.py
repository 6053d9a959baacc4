"""Writes this node's partitions to the store of snapshots, in rounds: one per interval, of what changed.

The cut of a partition is one turn of the loop: what is committed, in recency order. From there on the loop gathers a
block of it at a time, in short slices with rests between (`schedule.py`), and a thread compresses, writes and syncs. A
partition that is appointed with data that another node wrote down last is written ahead of the round. So a write is on
disk, at the latest, an interval and a moment after its acknowledgement.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Final

import structlog

from aux.node.node import Node
from aux.snapshots.due import DuePartitions
from aux.snapshots.options import SnapshotSetup
from aux.snapshots.pipeline import SnapshotPipeline
from aux.snapshots.requests import Request
from aux.snapshots.restore import Restorer
from aux.snapshots.retention import Retention
from aux.snapshots.schedule import Pace, Schedule
from ringmaster.snapshot.catalog import CatalogReader

TICK_S: Final = 0.5
OVERDUE_INTERVALS: Final = 3
_RETRY_S: Final = 1.0
_MAX_RETRY_S: Final = 10.0

_log = structlog.get_logger(__name__)


class SnapshotWriter:
    """Writes the snapshots of one incarnation: `due` says what, `pipeline` how. `last_success_s` is wall time."""

    def __init__(self, node: Node, setup: SnapshotSetup, cluster: str, restorer: Restorer) -> None:
        self.options = setup.options
        self.last_success_s = node.clock.wall()
        self._node = node
        self._setup = setup
        self._restorer = restorer
        self._schedule = Schedule(node.clock, node.id, self.options.interval_s)
        self.due = DuePartitions(node, restorer, self._schedule)
        self.pipeline = SnapshotPipeline(node, setup, cluster, self.due)
        catalog_reader = CatalogReader(setup.store, cluster, node.options.partitions)
        keep = setup.options.keep
        self._retention = Retention(
            setup.store, catalog_reader, node.incarnation, keep, restorer.kept
        )
        self._on_time_at = node.clock.boottime()
        self._turn = asyncio.Lock()
        self._wake = asyncio.Event()

    async def run(self) -> None:
        """Until cancelled."""
        retry_s = _RETRY_S
        while True:
            interval_s = self.interval_s
            tick_s = min(TICK_S, interval_s / 4) if interval_s else TICK_S
            left_s = self._schedule.next_at - self._node.clock.boottime()
            try:
                async with asyncio.timeout(min(tick_s, left_s) if left_s > 0 else tick_s):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()
            self.due.find()
            if await self.write_due():
                retry_s = _RETRY_S
            else:
                await asyncio.sleep(max(retry_s, tick_s))
                retry_s = min(2 * retry_s, _MAX_RETRY_S)

    @property
    def interval_s(self) -> float:
        """Seconds from round to round; 0: only on request and at a clean stop."""
        return self._schedule.interval_s

    def change_interval(self, interval_s: float) -> None:
        """Have a round every `interval_s` seconds from now on."""
        self._schedule.change(interval_s)
        # It is late by the new interval only if it is so from now on.
        self._on_time_at = self._node.clock.boottime()
        self._wake.set()

    def request(self, request_id: str) -> Request:
        """Write everything that is not on disk now, ahead of its turn. The same id again is the same request."""
        known = self.due.requests.find(request_id)
        if known is not None:
            return known
        self._wake.set()
        return self.due.request(request_id)

    async def write_due(self) -> bool:
        """Write what is due; False if something could not be written, which stays due."""
        clock, primaries, due = self._node.clock, self._node.roles.primaries, self.due
        async with self._turn:
            sizes = [primaries[n].data.bytes for n in due.numbers if n in primaries]
            began, before = clock.boottime(), self.pipeline.written_bytes
            done = await self._write(Pace(clock, self._schedule.share(sum(sizes))))
            if done and sizes:
                self._schedule.measured(sum(sizes), clock.boottime() - began)
            if done and due.in_round:
                due.in_round = False
                if sizes:
                    await self._tidy(self.pipeline.written_bytes - before)
        if done:
            self._on_time_at = clock.boottime()
            self.last_success_s = clock.wall()
            self.pipeline.recovered()
        return done

    async def seal(self, timeout_s: float) -> bool:
        """The last snapshot, of all that changed or was used since; whether everything is on disk.

        The node must be sealed. Waits, for part of the time, until what was sequenced is committed and no partition is
        on its way from one node that stops to another: one that comes while the others are written is written as well.
        """
        settled_by = self._node.clock.boottime() + timeout_s * 0.2
        try:
            async with asyncio.timeout(timeout_s):
                await self._settle(settled_by)
                async with self._turn:
                    while self.due.find_unsealed() or self._names_nothing(last=True):
                        while not await self._write(Pace(self._node.clock, 1.0), sealed=True):  # noqa: ASYNC110 - a pause between attempts
                            await asyncio.sleep(_RETRY_S)
                        await self._settle(settled_by)
        except TimeoutError:
            _log.error(
                "the last snapshot is not complete",
                missing=len(self.due.numbers), reason=self.pipeline.last_error or "no time left",
            )  # fmt: skip
            return False
        return True

    def problems(self) -> list[str]:
        """What an operator must know, a sentence each."""
        late_s = self._node.clock.boottime() - self._on_time_at
        bound_s = OVERDUE_INTERVALS * self.interval_s + TICK_S
        if self.pipeline.last_error:
            location = self._setup.store.location
            return [f"cannot write snapshots to {location}: {self.pipeline.last_error}"]
        if self.interval_s and late_s > bound_s:
            return [f"has been behind with its snapshots for {late_s:.0f} s"]
        return []

    async def _write(self, pace: Pace, *, sealed: bool = False) -> bool:
        name_nothing = self._names_nothing(last=sealed)
        return await self.pipeline.write(pace, sealed=sealed, name_nothing=name_nothing)

    def _names_nothing(self, *, last: bool = False) -> bool:
        """Whether a manifest must say that nothing was written: in the first round, or in the last."""
        first = self._restorer.is_blank and not self.pipeline.wrote_manifest
        return first and (self.due.in_round or last)

    async def _tidy(self, written: int) -> None:
        """After a round of `written` bytes: remove old bundles, and note what holds them up."""
        view = self._node.roles.view
        if view is None:
            return
        mine = [number for number, _ in self.due.primaries()]
        try:
            call = partial(self._retention.tidy, mine, view, written)
            self.due.rewrite = await self._setup.in_thread(call)
        except OSError as error:
            location = self._setup.store.location
            _log.warning("cannot remove old snapshots", location=location, reason=str(error))

    async def _settle(self, until: float) -> None:
        """Wait until everything sequenced is committed and every handover done, or `until`."""
        roles, clock = self._node.roles, self._node.clock

        def busy() -> bool:
            return bool(roles.awaiting or roles.releasing) or any(
                primary.pending for primary in roles.primaries.values()
            )

        while busy() and clock.boottime() < until:  # noqa: ASYNC110 - looks at many partitions
            await asyncio.sleep(0.02)

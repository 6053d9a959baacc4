"""Writes this node's partitions to the store of snapshots, in rounds: one per interval, of what changed.

The cut of a partition is one turn of the loop: what is committed, in recency order. From there on the loop gathers a
block of it at a time, in short slices with rests between (`schedule.py`), and a thread compresses, writes and syncs. A
partition that is appointed with data that another node wrote down last is written ahead of the round. So a write is on
disk, at the latest, an interval and a moment after its acknowledgement.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import structlog

from aux.node.node import Node
from aux.replication.primary import Primary
from aux.snapshots.bundle_writer import Batch, BundleWriter, Cut, Written
from aux.snapshots.requests import Request, Requests
from aux.snapshots.restore import Restorer
from aux.snapshots.retention import InThread, Retention
from aux.snapshots.schedule import Pace, Schedule
from aux.storage.lru import LOADED_TICKS
from ringmaster.snapshot import SnapshotStore
from ringmaster.snapshot import format as layout
from ringmaster.snapshot.catalog import Survey
from ringmaster.snapshot.format import Mark
from ringmaster.snapshot.names import BundleName

TICK_S: Final = 0.5
EARLY_S: Final = 1.0
"""What was taken over from other nodes is written this often at most, so that a rebalance does not make many files."""

BATCH_BYTES: Final = 4 * 1024 * 1024
"""What is gathered before it is handed to the thread; twice that and its compressed form are in memory at a time."""

_CUT_BYTES: Final = 4096
"""What a partition takes beside its entries, as bytes gathered."""

OVERDUE_INTERVALS: Final = 3
_RETRY_S: Final = 1.0
_MAX_RETRY_S: Final = 10.0

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class SnapshotOptions:
    """`interval_s` 0: only on request and at a clean stop. `keep`: rounds that are kept."""

    interval_s: float = 10.0
    keep: int = 3
    restore: bool = True
    restore_max_age_s: float | None = None


@dataclass(frozen=True, slots=True)
class SnapshotSetup:
    """Where snapshots are kept and how; a simulation gives its own."""

    store: SnapshotStore
    in_thread: InThread
    options: SnapshotOptions


@dataclass(frozen=True, slots=True)
class Saved:
    """A section that this node published. `size` in bytes; `created_ms` is wall time."""

    mark: Mark
    name: BundleName
    size: int
    entries: int
    created_ms: int
    sealed: bool


class SnapshotWriter:
    """Writes the snapshots of one incarnation. Plain integers are for the metrics; wall times are in seconds."""

    def __init__(self, node: Node, setup: SnapshotSetup, cluster: str, restorer: Restorer) -> None:
        self.options = setup.options
        self.failures = 0
        self.written = 0
        self.written_files = 0
        self.written_entries = 0
        self.written_bytes = 0
        self.last_success_s = node.clock.wall()
        self.last_error = ""
        self.saved: dict[int, Saved] = {}
        self.requests = Requests()
        self._node = node
        self._store = setup.store
        self._in_thread = setup.in_thread
        self._restorer = restorer
        self._used: dict[int, int] = {}
        self._due: dict[int, None] = {}
        self._rewrite: set[int] = set()
        partitions = node.options.partitions
        self._disk = BundleWriter(setup.store, cluster, partitions, node.incarnation)
        survey = Survey(setup.store, cluster, partitions)
        keep = setup.options.keep
        self._retention = Retention(setup.store, survey, node.incarnation, keep, restorer.kept)
        self._schedule = Schedule(node.clock, node.id, self.options.interval_s)
        self._in_round = False
        self._manifested = False
        self._early_at = self._on_time_at = node.clock.boottime()
        self._cuts = 0
        self._turn = asyncio.Lock()
        self._wake = asyncio.Event()

    async def run(self) -> None:
        """Until cancelled."""
        interval_s = self.options.interval_s
        tick_s = min(TICK_S, interval_s / 4) if interval_s else TICK_S
        retry_s = _RETRY_S
        while True:
            left_s = self._schedule.next_at - self._node.clock.boottime()
            try:
                async with asyncio.timeout(min(tick_s, left_s) if left_s > 0 else tick_s):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()
            self.find_due()
            if await self.write_due():
                retry_s = _RETRY_S
            else:
                await asyncio.sleep(max(retry_s, tick_s))
                retry_s = min(2 * retry_s, _MAX_RETRY_S)

    def request(self, request_id: str) -> Request:
        """Write everything that is not on disk now, ahead of its turn. The same id again is the same request."""
        known = self.requests.find(request_id)
        if known is not None:
            return known
        waiting = {number for number, primary in self._primaries() if self._is_dirty(primary)}
        self._due |= dict.fromkeys(waiting)
        self._in_round = True
        self._wake.set()
        return self.requests.add(request_id, waiting, self._cuts)

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
                    while self._find_unsealed() or self._names_nothing(last=True):
                        while not await self._write(Pace(self._node.clock, 1.0), sealed=True):  # noqa: ASYNC110 - a pause between attempts
                            await asyncio.sleep(_RETRY_S)
                        await self._settle(settled_by)
        except TimeoutError:
            _log.error(
                "the last snapshot is not complete",
                missing=len(self._due), reason=self.last_error or "no time left",
            )  # fmt: skip
            return False
        return True

    def problems(self) -> list[str]:
        """What an operator must know, a sentence each."""
        late_s = self._node.clock.boottime() - self._on_time_at
        bound_s = OVERDUE_INTERVALS * self.options.interval_s + TICK_S
        if self.last_error:
            return [f"cannot write snapshots to {self._store.place}: {self.last_error}"]
        if self.options.interval_s and late_s > bound_s:
            return [f"has been behind with its snapshots for {late_s:.0f} s"]
        return []

    # What is due.

    def _primaries(self) -> list[tuple[int, Primary]]:
        """Partitions that are this node's to write: one being restored has nothing that is not in its snapshot."""
        return [
            (number, primary)
            for number, primary in self._node.primaries.items()
            if not primary.restoring and (primary.serving or self._node.sealed)
        ]

    def _is_dirty(self, primary: Primary) -> bool:
        """Whether a restore would bring anything but what is there now."""
        saved = self.saved.get(primary.number)
        if saved is not None:
            return saved.mark.version != (primary.term, primary.committed)
        return bool(primary.committed) or not self._restorer.is_as_stored(primary)

    def _is_inherited(self, primary: Primary) -> bool:
        """Whether another node wrote its data down last, if any did."""
        saved = self.saved.get(primary.number)
        return (
            bool(primary.data.entries)
            and (saved is None or saved.mark.term != primary.term)
            and not self._restorer.is_as_stored(primary)
        )

    def _was_used(self, primary: Primary) -> bool:
        used = self._node.store.last_used(primary.data)
        known = self._used.get(primary.number)
        return used >= LOADED_TICKS if known is None else used != known

    def find_due(self) -> None:
        """Note what changed, if a round is due, and what came with another node's data."""
        schedule = self._schedule
        if schedule.is_due(self._node.store.bytes):
            due = {
                n: each
                for n, each in self._primaries()
                if n in self._rewrite or self._is_dirty(each)
            }
            size = sum(primary.data.bytes for primary in due.values())
            if schedule.is_due(size):
                schedule.begin(size)
                self._due |= dict.fromkeys(due)
                self._in_round = True
                self._rewrite = set()
        now = self._node.clock.boottime()
        if self.options.interval_s and now - self._early_at >= self._early_s:
            self._early_at = now
            self._due |= {n: None for n, each in self._primaries() if self._is_inherited(each)}

    def _find_unsealed(self) -> bool:
        """Note all that changed or was used since it was written; whether there is any."""
        for number, primary in self._primaries():
            if self._is_dirty(primary) or self._was_used(primary):
                self._due[number] = None
        return bool(self._due)

    def _names_nothing(self, *, last: bool = False) -> bool:
        """Whether a manifest must say that nothing was written: in the first round, or in the last."""
        return (self._in_round or last) and self._restorer.is_blank and not self._manifested

    @property
    def _early_s(self) -> float:
        return min(EARLY_S, self.options.interval_s / 4)

    def _on_time(self) -> None:
        self._on_time_at = self._node.clock.boottime()
        self.last_success_s = self._node.clock.wall()
        if self.last_error:
            _log.info("snapshots are written again", place=self._store.place)
            self.last_error = ""

    # Writing.

    async def write_due(self) -> bool:
        """Write what is due; False if something could not be written, which stays due."""
        node = self._node
        async with self._turn:
            sizes = [node.primaries[n].data.bytes for n in self._due if n in node.primaries]
            began, before = node.clock.boottime(), self.written_bytes
            done = await self._write(Pace(node.clock, self._schedule.share(sum(sizes))))
            if done and sizes:
                self._schedule.measured(sum(sizes), node.clock.boottime() - began)
            if done and self._in_round:
                self._in_round = False
                if sizes:
                    await self._tidy(self.written_bytes - before)
        if done:
            self._on_time()
        return done

    async def _write(self, pace: Pace, *, sealed: bool = False) -> bool:
        """Write all that is due; False if something could not be written, which stays due."""
        name_nothing = self._names_nothing(last=sealed)
        if not self._due and not name_nothing and not self._disk.is_behind:
            return True
        failures = self.failures
        queue: asyncio.Queue[Batch | None] = asyncio.Queue(maxsize=1)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._write_batches(queue, name_nothing), name="snapshot-batches")
            batch = Batch()
            for number in sorted(self._due):
                if self.failures > failures:
                    break
                primary = self._node.primaries.get(number)
                if primary is None or primary.restoring:
                    self._settled(number)
                    continue
                cut, keys, entries = self._cut(primary, sealed=sealed)
                part = batch.open(cut)
                batch.size += _CUT_BYTES
                await pace.worked(_CUT_BYTES)
                for payload in layout.payloads(keys, entries):
                    part.payloads.append(payload)
                    batch.size += payload.size
                    await pace.worked(payload.size)
                    if batch.size >= BATCH_BYTES:
                        await queue.put(batch)
                        batch = Batch()
                        part = batch.open(cut)
                part.last = True
            await queue.put(batch)
            await queue.put(None)
        return self.failures == failures

    def _cut(
        self, primary: Primary, *, sealed: bool
    ) -> tuple[Cut, Sequence[bytes], Sequence[bytes]]:
        """What is committed in `primary` in this turn of the loop, oldest first."""
        node = self._node
        mark = Mark(primary.number, primary.term, primary.committed)
        keys, entries = list(primary.data.entries), list(primary.data.entries.values())
        self._used[primary.number] = node.store.last_used(primary.data)
        self._cuts += 1
        created_ms = int(node.clock.wall() * 1000)
        cut = Cut(mark, len(keys), self._cuts, created_ms=created_ms, sealed=sealed)
        return cut, keys, entries

    async def _write_batches(self, queue: asyncio.Queue[Batch | None], name_nothing: bool) -> None:
        """Hand batches to the thread; after a failure only take them off the queue."""
        disk = self._disk
        failed = not await self._on_disk(disk.give_up)  # of a round that was interrupted
        while (batch := await queue.get()) is not None:
            failed = failed or not await self._on_disk(partial(disk.write, batch))
        if not failed and await self._on_disk(partial(disk.finish, name_nothing=name_nothing)):
            self._manifested = True

    async def _on_disk(self, call: Callable[[], None]) -> bool:
        """Run a call of the disk's in the thread; False if it failed, which is seen to."""
        try:
            await self._in_thread(call)
        except Exception as error:  # noqa: BLE001 - whatever it is, the node goes on without a snapshot
            self._failed(error)
            await self._in_thread(self._disk.give_up)
            return False
        finally:
            for written in self._disk.take():
                self._note(written)
        return True

    async def _tidy(self, written: int) -> None:
        node = self._node
        mine = [number for number, _ in self._primaries()]
        live = {node.incarnation}
        if node.view is not None:
            live.update(info.incarnation for info in node.view.nodes.values() if info.up)
        try:
            call = partial(self._retention.tidy, mine, live, written)
            self._rewrite = await self._in_thread(call)
        except OSError as error:
            _log.warning("cannot remove old snapshots", place=self._store.place, reason=str(error))

    def _note(self, written: Written) -> None:
        cut, name, section = written
        number = section.mark.partition
        self.written_files = max(self.written_files, name.number)
        self.saved[number] = Saved(
            section.mark, name, section.size, cut.entries, cut.created_ms, cut.sealed
        )
        self.written += 1
        self.written_entries += cut.entries
        self.written_bytes += section.size
        self._restorer.loaded_from.pop(number, None)
        self._settled(number, cut.number)

    def _settled(self, number: int, cut: int | None = None) -> None:
        """The partition is written as of its `cut`, or (None) no longer ours to write."""
        self._due.pop(number, None)
        if self.requests.settled(number, cut):
            self._due[number] = None  # asked for while an earlier cut was on its way

    def _failed(self, error: Exception) -> None:
        if not self.last_error:
            _log.error("cannot write snapshots", place=self._store.place, reason=str(error))
        self.failures += 1
        self.last_error = str(error)
        self.requests.failed(str(error))

    async def _settle(self, until: float) -> None:
        """Wait until everything sequenced is committed and every handover done, or `until`."""
        node = self._node

        def busy() -> bool:
            return bool(node.awaiting or node.releasing) or any(
                primary.pending for primary in node.primaries.values()
            )

        while busy() and node.clock.boottime() < until:  # noqa: ASYNC110 - looks at many partitions
            await asyncio.sleep(0.02)

"""Writes this node's partitions to the store of snapshots, each in its turn, so that the work is even over time.

A partition's turn comes once per interval, at a place in it that is its own; when it is appointed with data that another
node wrote down last, at once. Its cut is one turn of the loop: what is committed, in recency order. From there on the
loop gathers a block of it at a time, and a thread compresses, writes and syncs. So a write is on disk, at the latest,
an interval and a moment after its acknowledgement.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import structlog

from aux.batches import Batch, BatchWriter, Item, give_up
from aux.node import Node
from aux.primary import Primary
from aux.restore import Restorer
from aux.retention import InThread, Retention
from ringmaster.snapshot import SnapshotStore
from ringmaster.snapshot import format as layout
from ringmaster.snapshot.format import SnapshotHeader
from ringmaster.snapshot.names import SnapshotName, checked_name

TICK_S: Final = 0.5
BATCH_BYTES: Final = 4 * 1024 * 1024
"""What is gathered before it is handed to the thread; twice that and its compressed form are in memory at a time."""

BATCH_FILES: Final = 64
"""Files that are open at a time at most."""

PAUSE_S: Final = 0.001
"""After every block's worth of work, so that requests have most of the loop."""

_FILE_COST: Final = 4096
"""What a partition takes beside its entries, as bytes of a block."""

OVERDUE_INTERVALS: Final = 3
_GOLDEN: Final = 0.6180339887498949
_MAX_REQUESTS: Final = 16
_RETRY_S: Final = 1.0

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class SnapshotOptions:
    """`interval_s` 0: only on request and at a clean stop. `keep`: files kept of each partition."""

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
    """A file that this node published. `created_ms` is wall time."""

    name: SnapshotName
    size: int
    entries: int
    created_ms: int
    sealed: bool


class Request:
    """A snapshot that somebody asked for. `waiting`: partitions not written yet, in a cut numbered above `after`."""

    __slots__ = ("after", "error", "id", "partitions", "waiting")

    def __init__(self, request_id: str, waiting: set[int], after: int) -> None:
        self.id = request_id
        self.after = after
        self.partitions = len(waiting)
        self.waiting = waiting
        self.error = ""

    @property
    def state(self) -> str:
        """`running`, `done` or `failed`."""
        if self.error:
            return "failed"
        return "running" if self.waiting else "done"


class SnapshotWriter:
    """Writes the snapshots of one incarnation. Plain integers are for the metrics; wall times are in seconds."""

    def __init__(self, node: Node, setup: SnapshotSetup, cluster: str, restorer: Restorer) -> None:
        self.options = setup.options
        self.failures = 0
        self.written = 0
        self.written_entries = 0
        self.written_bytes = 0
        self.last_success_s = node.clock.wall()
        self.last_error = ""
        self.saved: dict[int, Saved] = {}
        self.requests: deque[Request] = deque(maxlen=_MAX_REQUESTS)
        self._node = node
        self._store = setup.store
        self._in_thread = setup.in_thread
        self._cluster = cluster
        self._restorer = restorer
        self._used: dict[int, int] = {}
        self._due: dict[int, None] = {}
        self._retention = Retention(setup.store, setup.in_thread, setup.options.keep, restorer.kept)
        self._disk = BatchWriter(setup.store)
        interval_s = self.options.interval_s
        self._cycle = node.clock.boottime() / interval_s if interval_s else 0.0
        self._on_time_at = node.clock.boottime()
        self._cuts = 0
        self._turn = asyncio.Lock()
        self._wake = asyncio.Event()

    async def run(self) -> None:
        """Until cancelled."""
        interval_s = self.options.interval_s
        tick_s = min(TICK_S, interval_s / 4) if interval_s else TICK_S
        while True:
            try:
                async with asyncio.timeout(tick_s):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()
            self.find_due()
            if not await self.write_due():
                await asyncio.sleep(max(_RETRY_S, tick_s))

    def request(self, request_id: str) -> Request:
        """Write everything that is not on disk now, ahead of its turn. The same id again is the same request."""
        for known in self.requests:
            if known.id == request_id:
                return known
        waiting = {number for number, primary in self._primaries() if self._is_dirty(primary)}
        request = Request(request_id, waiting, self._cuts)
        self.requests.append(request)
        self._due |= dict.fromkeys(waiting)
        self._wake.set()
        return request

    async def seal(self, timeout_s: float) -> bool:
        """The last snapshot, of all that changed or was used since; whether everything is on disk.

        The node must be sealed. Waits, for part of the time, until what was sequenced is committed.
        """
        deadline = self._node.clock.boottime() + timeout_s
        try:
            async with asyncio.timeout(timeout_s):
                await self._settle(deadline - timeout_s * 0.8)
                async with self._turn:
                    for number, primary in self._primaries():
                        if self._is_dirty(primary) or self._was_used(primary):
                            self._due[number] = None
                    while not await self._write_due(pause_s=0.0, sealed=True):  # noqa: ASYNC110 - a pause between attempts
                        await asyncio.sleep(_RETRY_S)
        except TimeoutError:
            _log.error(
                "the last snapshot is not complete",
                missing=len(self._due), reason=self.last_error or "no time left",
            )  # fmt: skip
            return False
        return True

    def problems(self) -> list[str]:
        """What an operator must know, a sentence each."""
        found = []
        late_s = self._node.clock.boottime() - self._on_time_at
        if self.last_error:
            found.append(f"cannot write snapshots to {self._store.place}: {self.last_error}")
        elif (
            self.options.interval_s
            and late_s > OVERDUE_INTERVALS * self.options.interval_s + TICK_S
        ):
            found.append(f"has been behind with its snapshots for {late_s:.0f} s")
        return found

    # What is due.

    def _primaries(self) -> list[tuple[int, Primary]]:
        """Partitions that are this node's to write: one being restored has nothing that is not in its snapshot."""
        return [
            (number, primary)
            for number, primary in self._node.primaries.items()
            if not primary.restoring and (primary.serving or self._node.sealed)
        ]

    def _is_dirty(self, primary: Primary) -> bool:
        saved = self.saved.get(primary.number)
        return saved is None or saved.name.version != (primary.term, primary.committed)

    def _was_used(self, primary: Primary) -> bool:
        return self._used.get(primary.number) != self._node.store.last_used(primary.data)

    def find_due(self) -> None:
        """Note partitions whose turn came since the last look, and those that came with another node's data."""
        interval_s = self.options.interval_s
        if not interval_s:
            return
        before, now = self._cycle, self._node.clock.boottime() / interval_s
        self._cycle = now
        for number, primary in self._primaries():
            place = number * _GOLDEN % 1.0
            turned = int(now - place) != int(before - place)
            saved = self.saved.get(number)
            inherited = (
                (saved is None or saved.name.term != primary.term)
                and number not in self._restorer.loaded_from
                and primary.data.entries
            )
            if (turned or inherited) and self._is_dirty(primary):
                self._due[number] = None

    def _on_time(self) -> None:
        self._on_time_at = self._node.clock.boottime()
        self.last_success_s = self._node.clock.wall()
        if self.last_error:
            _log.info("snapshots are written again", place=self._store.place)
            self.last_error = ""

    # Writing.

    async def write_due(self) -> bool:
        """Write what is due; False if something could not be written, which stays due."""
        async with self._turn:
            written = await self._write_due(pause_s=PAUSE_S)
        if written:
            self._on_time()
        return written

    async def _write_due(self, *, pause_s: float, sealed: bool = False) -> bool:
        """Write all that is due; False if something could not be written, which stays due."""
        failures = self.failures
        queue: asyncio.Queue[Batch | None] = asyncio.Queue(maxsize=1)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._write_batches(queue), name="snapshot-batches")
            batch = Batch()
            unpaused = 0
            for number in list(self._due):
                if self.failures > failures:
                    break
                primary = self._node.primaries.get(number)
                if primary is None or primary.restoring:
                    self._settled(number)
                    continue
                item, keys, entries = self._cut(primary, sealed=sealed)
                part = batch.open(item)
                unpaused += _FILE_COST
                for payload in layout.payloads(keys, entries):
                    part.payloads.append(payload)
                    batch.size += payload.size
                    unpaused += payload.size
                    if unpaused >= layout.BLOCK_BYTES:
                        unpaused = 0
                        await asyncio.sleep(pause_s)
                    if batch.size >= BATCH_BYTES:
                        await queue.put(batch)
                        batch = Batch()
                        part = batch.open(item)
                part.last = True
                if len(batch.parts) >= BATCH_FILES:
                    await queue.put(batch)
                    batch = Batch()
                    await asyncio.sleep(pause_s)
            await queue.put(batch)
            await queue.put(None)
        return self.failures == failures

    def _cut(
        self, primary: Primary, *, sealed: bool
    ) -> tuple[Item, Sequence[bytes], Sequence[bytes]]:
        """What is committed in `primary` in this turn of the loop, oldest first."""
        node = self._node
        name = checked_name(primary.number, primary.term, primary.committed, node.incarnation)
        keys, entries = list(primary.data.entries), list(primary.data.entries.values())
        header = SnapshotHeader(
            cluster=self._cluster,
            partitions=node.options.partitions,
            partition=primary.number,
            term=primary.term,
            seq=primary.committed,
            incarnation=node.incarnation,
            created_ms=int(node.clock.wall() * 1000),
            entries=len(keys),
            sealed=sealed,
            sync=secrets.token_bytes(layout.SYNC_SIZE),
        )
        self._used[primary.number] = node.store.last_used(primary.data)
        self._cuts += 1
        return Item(name, header, self._cuts), keys, entries

    async def _write_batches(self, queue: asyncio.Queue[Batch | None]) -> None:
        while (batch := await queue.get()) is not None:
            try:
                await self._in_thread(partial(self._disk.write, batch))
            except Exception as error:  # noqa: BLE001 - whatever it is, the node goes on without a snapshot
                self._failed(error)
                await self._in_thread(partial(give_up, batch))
                continue
            done = [part.item for part in batch.parts if part.last and not part.item.failed]
            for item in done:
                self._note(item)
            await self._tidy([item.name for item in done])

    async def _tidy(self, published: Sequence[SnapshotName]) -> None:
        node = self._node
        terms = {number: primary.term for number, primary in self._primaries()}
        live = {node.incarnation}
        if node.view is not None:
            live.update(info.incarnation for info in node.view.nodes.values() if info.up)
        try:
            await self._retention.tidy(published, terms, live, node.clock.boottime())
        except OSError as error:
            _log.warning("cannot remove old snapshots", place=self._store.place, reason=str(error))

    def _note(self, item: Item) -> None:
        header = item.header
        number = header.partition
        saved = Saved(item.name, item.size, header.entries, header.created_ms, header.sealed)
        self.saved[number] = saved
        self.written += 1
        self.written_entries += saved.entries
        self.written_bytes += saved.size
        self._restorer.loaded_from.pop(number, None)
        self._settled(number, item.cut)

    def _settled(self, number: int, cut: int | None = None) -> None:
        """The partition is written as of its `cut`, or (None) no longer ours to write."""
        self._due.pop(number, None)
        for request in self.requests:
            if cut is None or cut > request.after:
                request.waiting.discard(number)
            elif number in request.waiting:
                self._due[number] = None  # asked for while an earlier cut was on its way

    def _failed(self, error: Exception) -> None:
        if not self.last_error:
            _log.error("cannot write snapshots", place=self._store.place, reason=str(error))
        self.failures += 1
        self.last_error = str(error)
        for request in self.requests:
            if request.waiting:
                request.error = str(error)

    async def _settle(self, until: float) -> None:
        """Wait until everything sequenced is committed and every handover done, or `until`."""
        node = self._node

        def busy() -> bool:
            return bool(node.awaiting or node.releasing) or any(
                primary.pending for primary in node.primaries.values()
            )

        while busy() and node.clock.boottime() < until:  # noqa: ASYNC110 - looks at many partitions
            await asyncio.sleep(0.02)

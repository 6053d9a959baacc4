"""From a partition in memory to a section on disk: cut, gathered in slices on the loop, written by a thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

import structlog

from aux.node.node import Node
from aux.replication.primary import Primary
from aux.snapshots.bundle_writer import BlockBatch, BundleWriter, Cut, Written
from aux.snapshots.due import DuePartitions
from aux.snapshots.options import SnapshotSetup
from aux.snapshots.schedule import Pace
from ringmaster.snapshot import format as layout
from ringmaster.snapshot.format import SectionId

BATCH_BYTES: Final = 4 * 1024 * 1024
"""What is gathered before it is handed to the thread; twice that and its compressed form are in memory at a time."""

_CUT_BYTES: Final = 4096
"""What a partition takes beside its entries, as bytes gathered."""

_log = structlog.get_logger(__name__)


class SnapshotPipeline:
    """Writes what is due into bundles, one call of `write` at a time. Plain integers are for the metrics.

    `last_error`: why the last attempt failed, until all that was due is written.
    """

    def __init__(self, node: Node, setup: SnapshotSetup, cluster: str, due: DuePartitions) -> None:
        self.failures = 0
        self.written_partitions = 0
        self.written_files = 0
        self.written_entries = 0
        self.written_bytes = 0
        self.last_error = ""
        self.wrote_manifest = False
        self._node = node
        self._location = setup.store.location
        self._in_thread = setup.in_thread
        self._due = due
        self._disk = BundleWriter(setup.store, cluster, node.options.partitions, node.incarnation)

    async def write(self, pace: Pace, *, sealed: bool = False, name_nothing: bool = False) -> bool:
        """Write all that is due; False if something could not be written, which stays due.

        `name_nothing`: a manifest must be written even if nothing is due.
        """
        due = self._due
        if not due.numbers and not name_nothing and not self._disk.is_behind:
            return True
        failures = self.failures
        queue: asyncio.Queue[BlockBatch | None] = asyncio.Queue(maxsize=1)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._write_batches(queue, name_nothing), name="snapshot-batches")
            batch = BlockBatch()
            for number in sorted(due.numbers):
                if self.failures > failures:
                    break
                primary = self._node.roles.primaries.get(number)
                if primary is None or primary.restoring:
                    due.settled(number)
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
                        batch = BlockBatch()
                        part = batch.open(cut)
                part.last = True
            await queue.put(batch)
            await queue.put(None)
        return self.failures == failures

    def recovered(self) -> None:
        """All that was due is written."""
        if self.last_error:
            _log.info("snapshots are written again", location=self._location)
            self.last_error = ""

    def _cut(
        self, primary: Primary, *, sealed: bool
    ) -> tuple[Cut, Sequence[bytes], Sequence[bytes]]:
        """What is committed in `primary` in this turn of the loop, oldest first."""
        section_id = SectionId(primary.number, primary.term, primary.committed)
        data = primary.data
        # The records of tags first, as in a fill (R11).
        used = self._node.store.by_recency(data)
        keys = [*data.tags, *used]
        entries = [*data.tags.values(), *map(data.entries.__getitem__, used)]
        number = self._due.begin_cut(primary)
        created_ms = self._node.clock.now_ms()
        cut = Cut(section_id, len(keys), number, created_ms=created_ms, sealed=sealed)
        return cut, keys, entries

    async def _write_batches(
        self, queue: asyncio.Queue[BlockBatch | None], name_nothing: bool
    ) -> None:
        """Hand batches to the thread; after a failure only take them off the queue."""
        disk = self._disk
        failed = not await self._on_disk(disk.give_up)  # of a round that was interrupted
        while (batch := await queue.get()) is not None:
            failed = failed or not await self._on_disk(partial(disk.write, batch))
        if not failed and await self._on_disk(partial(disk.finish, name_nothing=name_nothing)):
            self.wrote_manifest = True

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
                self._count(written)
                self._due.written(written)
        return True

    def _count(self, written: Written) -> None:
        self.written_files = max(self.written_files, written.name.number)
        self.written_partitions += 1
        self.written_entries += written.cut.entries
        self.written_bytes += written.section.size

    def _failed(self, error: Exception) -> None:
        if not self.last_error:
            _log.error("cannot write snapshots", location=self._location, reason=str(error))
        self.failures += 1
        self.last_error = str(error)
        self._due.requests.failed(str(error))

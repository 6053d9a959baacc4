"""One real node with real partitions, a clock set by hand and a store of snapshots in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

from aux.node.grants import GATE_S
from aux.node.node import Node
from aux.node.options import NodeOptions
from aux.snapshots.options import SnapshotOptions, SnapshotSetup
from aux.snapshots.service import SnapshotService
from aux.storage.store import Store
from ringmaster.cluster.view import NodeInfo, Partition, View
from ringmaster.protocol.entry import JSON, pack
from ringmaster.runtime.cluster_clock import ClusterClock
from ringmaster.snapshot import SnapshotStore
from tests.fakes.cluster import FakeClock
from tests.fakes.snapshot_store import CLUSTER

_T = TypeVar("_T")


class Held:
    held_until = float("inf")


async def right_here(call: Callable[[], _T], /) -> _T:
    """A thread that is none."""
    return call()


def entry(seq: int, value: bytes, *, term: int = 1, expires_ms: int = 0) -> bytes:
    return pack(
        slot=0,
        term=term,
        seq=seq,
        expires_ms=expires_ms,
        written_s=1,
        flags=JSON,
        meta=b"",
        value=value,
    )


class SnapshotNode:
    """Incarnation `incarnation` of node n1, which is primary of all partitions after `appoint`."""

    def __init__(
        self,
        store: SnapshotStore,
        *,
        partitions: int = 4,
        incarnation: str = "inc1",
        clock: FakeClock | None = None,
        max_bytes: int = 10_000_000,
        **options: Any,
    ) -> None:
        self.clock = clock or FakeClock()
        self.cluster_clock = ClusterClock(self.clock)
        self.partitions = partitions
        self.voided: list[str] = []
        self.node = Node(
            NodeOptions("n1", incarnation, max_bytes, partitions),
            Store(max_bytes, partitions),
            self.cluster_clock,
            _no_link,
            self.voided.append,
        )
        self.node.clock.lease = Held()
        setup = SnapshotSetup(store, right_here, SnapshotOptions(**options))
        self.service = SnapshotService(self.node, setup, CLUSTER)
        self.node.roles.loader = self.service
        self._task: asyncio.Task[None] | None = None

    def appoint(self, term: int, *, before: int | None = None) -> None:
        """A view of epoch `term` in which n1 is primary of everything, after one with terms `before`, if given."""
        if before is not None:
            self.adopt(self._view(term - 1, Partition(term=before)))
        self.adopt(self._view(term, Partition("n1", term=term)))

    def adopt(self, view: View) -> None:
        """Follow `view`. There is no master that may have a copy of what was lost (R13)."""
        self.node.roles.adopt(view)
        self.node.grants.tick(self.node.clock.boottime() + GATE_S)

    def _view(self, epoch: int, row: Partition) -> View:
        info = NodeInfo(id="n1", incarnation=self.node.incarnation, address="x:1")
        return View(
            cluster=CLUSTER,
            epoch=epoch,
            replicas=1,
            table=(row,) * self.partitions,
            nodes={"n1": info},
        )

    def put(self, partition: int, key: bytes, value: bytes = b"1", *, expires_ms: int = 0) -> None:
        primary = self.node.roles.primaries[partition]
        primary.submit(
            key, entry(primary.next_seq, value, term=primary.term, expires_ms=expires_ms)
        )

    def data(self, partition: int) -> dict[bytes, bytes]:
        return self.node.roles.primaries[partition].data.entries

    async def restored(self) -> None:
        """Run the restorer until nothing is being restored."""
        task = asyncio.create_task(self.service.restorer.run())
        try:
            async with asyncio.timeout(10):
                while self.service.restorer.waiting:  # noqa: ASYNC110 - there is nothing else to wait for
                    await asyncio.sleep(0)
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def cycle(self) -> bool:
        """Time goes on by one interval, and so a round is due."""
        writer = self.service.writer
        self.clock.now += writer.options.interval_s
        writer.due.find()
        return await writer.write_due()

    async def put_and_cycle(self, partition: int, key: bytes, value: bytes = b"1") -> None:
        """Put an entry, and let the next round write it."""
        self.put(partition, key, value)
        await self.cycle()


async def started(store: SnapshotStore, *, term: int = 1, **options: Any) -> SnapshotNode:
    """The first node of its cluster."""
    world = SnapshotNode(store, **options)
    world.appoint(term)
    await world.restored()
    return world


async def next_node(
    store: SnapshotStore,
    *,
    term: int = 9,
    before: int = 1,
    incarnation: str = "inc2",
    **options: Any,
) -> SnapshotNode:
    """A node with empty memory, appointed in `term` after rows of term `before`, once it has restored from `store`."""
    world = SnapshotNode(store, incarnation=incarnation, **options)
    world.appoint(term, before=before)
    await world.restored()
    return world


def _no_link(*_: Any, **__: Any) -> Any:
    raise AssertionError("this node has no peers")

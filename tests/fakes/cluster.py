"""Fakes around the controller: a clock set by hand, locks, probes, and nodes that keep their promises."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec

from master.control.planning.observation import StatusSeen
from ringmaster.cluster.lease import LeaseRow
from ringmaster.cluster.node_status import CopyReport, NodeStatus
from ringmaster.cluster.process_lock import HeldLock
from ringmaster.cluster.view import NodeInfo, View, decode_view
from ringmaster.errors import DuplicateId
from tests.fakes.coordinator import MemoryCoordinator


class FakeClock:
    """Both clocks stand still until moved."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def boottime(self) -> float:
        return self.now

    def wall(self) -> float:
        return 1.7e9 + self.now


class FakeLock:
    def __init__(self, liveness: FakeLiveness, name: str) -> None:
        self._liveness = liveness
        self._name = name
        self.identity = liveness.identity(name)

    def release(self) -> None:
        self._liveness.held.discard(self._name)


class FakeLiveness:
    """`held`: names whose lock somebody has."""

    def __init__(self, boot_id: str = "boot") -> None:
        self.boot_id = boot_id
        self.held: set[str] = set()

    def identity(self, name: str) -> tuple[int, int]:
        return 1, sum(name.encode())

    def hold(self, name: str) -> HeldLock:
        if name in self.held:
            raise DuplicateId(name)
        self.held.add(name)
        return FakeLock(self, name)

    def prove_dead(self, name: str, identity: tuple[int, int]) -> HeldLock | None:
        if name in self.held or identity != self.identity(name):
            return None
        return self.hold(name)


@dataclass
class FakeNode:
    """A node that renews its lease and does what the view says, as long as it `runs` and is not `hung`."""

    info: NodeInfo
    number: int = 0
    version: int = 0
    runs: bool = True
    hung: bool = False
    cut: bool = False
    stopping: bool = False


@dataclass
class FakeNodes:
    """Nodes by id on one memory coordinator; the probes of one master as well."""

    coordinator: MemoryCoordinator
    liveness: FakeLiveness
    nodes: dict[str, FakeNode] = field(default_factory=dict)
    unreachable_nodes: tuple[str, ...] = ()

    def start(self, node: str, *, zone: str = "", weight: float = 1.0) -> FakeNode:
        """Register a new incarnation; its predecessor must be dead."""
        count = len([1 for name in self.coordinator.records if name.startswith("node/")])
        before = self.nodes.get(node)
        generation = 1 if before is None else int(before.info.incarnation.rpartition("-")[2]) + 1
        self.liveness.held.add(node)
        info = NodeInfo(
            id=node,
            incarnation=f"{node}-{generation}",
            address=f"127.0.0.1:{7001 + count}",
            zone=zone,
            weight=weight,
            boot_id=self.liveness.boot_id,
            lock=self.liveness.identity(node),
        )
        self.coordinator.put(f"node/{node}", msgspec.json.encode(info))
        fake = self.nodes[node] = FakeNode(info)
        fake.version = self.coordinator.put(f"lease/{node}", self._row(fake))
        return fake

    def kill(self, node: str) -> None:
        """SIGKILL: its links break and its lock is free."""
        self.nodes[node].runs = False
        self.liveness.held.discard(node)

    def renew(self) -> None:
        """Every node that can raises its lease's number."""
        for node, fake in self.nodes.items():
            record = self.coordinator.records.get(f"lease/{node}")
            if not fake.runs or fake.hung or record is None:
                continue
            row = msgspec.json.decode(record.value, type=LeaseRow)
            if row.refused or row.incarnation != fake.info.incarnation:
                continue
            fake.number += 1
            self.coordinator.put(f"lease/{node}", self._row(fake))

    @property
    def view(self) -> View | None:
        record = self.coordinator.records.get("view")
        return None if record is None else decode_view(record.value)

    def is_connected(self, node: str) -> bool:
        return node in self.nodes and self.nodes[node].runs and not self.nodes[node].cut

    def unreachable(self) -> tuple[str, ...]:
        return self.unreachable_nodes

    def statuses(self) -> dict[str, StatusSeen]:
        view = self.view
        found = {}
        for node, fake in self.nodes.items():
            if view is None or not fake.runs or fake.hung or fake.cut:
                continue
            caught_up = [
                CopyReport(number, row.term, filling.node, filling.session)
                for number, row in enumerate(view.table)
                if row.primary == node
                for filling in row.filling
            ]
            status = NodeStatus(
                id=node,
                incarnation=fake.info.incarnation,
                epoch=view.epoch,
                lease_left_s=1.0,
                caught_up=caught_up,
                stopping=fake.stopping,
            )
            found[node] = StatusSeen(status, 0.05)
        return found

    @staticmethod
    def _row(fake: FakeNode) -> bytes:
        return msgspec.json.encode(
            LeaseRow(
                incarnation=fake.info.incarnation,
                number=fake.number,
                boot_id=fake.info.boot_id,
                lock=fake.info.lock,
            )
        )

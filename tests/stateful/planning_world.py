"""A world for the planner: nodes that live, hang, die and return, and the truth about which copy holds what.

Time is a number. The world keeps, per partition, the *complete* copies: incarnations that hold every acknowledged
write. A copy becomes complete when it is filled in a session of the present term, and is void once a view no longer
lists it. `step` asks for the next view, checks every invariant against the truth, and publishes it.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field, replace

import msgspec

from master.control.planning.node_verdicts import Verdicts
from master.control.planning.observation import (
    LeaseSeen,
    Observation,
    Plan,
    PlanningSettings,
    StatusSeen,
)
from master.control.planning.planner import next_view, signature
from master.control.planning.repair import Repair
from master.control.planning.target import choose_target
from ringmaster.cluster.lease import LeaseRow
from ringmaster.cluster.node_status import CopyReport, NodeStatus
from ringmaster.cluster.view import NodeInfo, Partition, View, first_view

TTL_S = 2.0


@dataclass
class Process:
    """One incarnation. `adopted`: the epoch it follows; `served`: partitions it serves, by (number, term)."""

    info: NodeInfo
    number: int = 0
    changed_at: float = 0.0
    trusts_until: float = 0.0
    alive: bool = True
    hung: bool = False
    stopping: bool = False
    adopted: int = 0


@dataclass
class World:
    settings: PlanningSettings
    partitions: int = 8
    now: float = 1000.0
    processes: dict[str, Process] = field(default_factory=dict)
    leases: dict[str, tuple[LeaseRow, int, float]] = field(default_factory=dict)
    registered: dict[str, NodeInfo] = field(default_factory=dict)
    proven: set[str] = field(default_factory=set)
    draining: set[str] = field(default_factory=set)
    paused: bool = False
    lagging: set[tuple[int, str]] = field(default_factory=set)
    complete: list[set[str]] = field(default_factory=list)
    voided: set[str] = field(default_factory=set)
    cuts: dict[tuple[str, str], float] = field(default_factory=dict)
    served: set[tuple[int, int]] = field(default_factory=set)
    lost: int = 0

    def __post_init__(self) -> None:
        self.view: View = first_view("c" * 32, self.partitions, self.settings.replicas)
        self.complete = [set() for _ in range(self.partitions)]
        self.absent_since: dict[str, float] = {}
        self.losses: dict[str, list[float]] = {}
        self.live_since = self.now
        self.live: frozenset[str] = frozenset()
        self.version = 0
        self.seen: Observation | None = None
        self.views: dict[int, View] = {0: self.view}
        self.idle: Hashable = None

    # -- what happens

    def start(self, node: str, zone: str = "", weight: float = 1.0) -> None:
        """A new incarnation registers, if the lease of the one before is gone or its death can be proven."""
        before = self.processes.get(node)
        if before is not None and before.alive:
            return
        if (
            node in self.leases
            and before is not None
            and before.info.incarnation not in self.proven
        ):
            return
        count = 1 if before is None else int(before.info.incarnation.rpartition("-")[2]) + 1
        info = NodeInfo(
            id=node, incarnation=f"{node}-{count}", address=node, zone=zone, weight=weight
        )
        self.registered[node] = info
        self.processes[node] = Process(info, changed_at=self.now, trusts_until=self.now)
        self._lease(node, LeaseRow(incarnation=info.incarnation, number=0))

    def kill(self, node: str, proven: bool) -> None:
        process = self.processes.get(node)
        if process is None or not process.alive:
            return
        process.alive = False
        if proven:
            self.proven.add(process.info.incarnation)

    def tick(self, seconds: float) -> None:
        """Time passes; whoever can renews its lease."""
        for _ in range(max(1, round(seconds / 0.5))):
            self.now += seconds / max(1, round(seconds / 0.5))
            for node, process in self.processes.items():
                lease = self.leases.get(node)
                if not process.alive or process.hung:
                    continue
                if lease is None or lease[0].incarnation != process.info.incarnation:
                    process.alive = False  # revoked: this incarnation ends, and its death shows
                    self.proven.add(process.info.incarnation)
                    continue
                if not lease[0].refused:
                    process.trusts_until = self.now + 0.9 * TTL_S
                    row = msgspec.structs.replace(lease[0], number=lease[0].number + 1)
                    self._lease(node, row)

    def allow(self) -> None:
        """What the controller does with suspended leases (`health.refusals`)."""
        for node, (row, _, _) in list(self.leases.items()):
            process = self.processes[node]
            if row.refused and process.adopted >= self.view.epoch:
                self._lease(node, msgspec.structs.replace(row, refused=False))

    def _lease(self, node: str, row: LeaseRow) -> None:
        self.version += 1
        self.leases[node] = (row, self.version, self.now)

    def cut(self, one: str, other: str, on: bool) -> None:
        """The two reach each other no more, or again; everybody else reaches both."""
        if on and one != other:
            self.cuts.setdefault((one, other), self.now)
        elif not on:
            self.cuts.pop((one, other), None)

    def handing_over(self) -> tuple[str, str] | None:
        """A predecessor that served, and the successor that awaits it."""
        for number, row in enumerate(self.view.table):
            if row.awaits is None or row.primary is None:
                continue
            if any(at == number and term < row.term for at, term in self.served):
                return row.awaits, row.primary
        return None

    def are_cut(self, one: str, other: str) -> bool:
        return (one, other) in self.cuts or (other, one) in self.cuts

    # -- what is seen

    def adopt(self) -> None:
        """Every node that can follows the newest view; released predecessors let their successors serve."""
        for node, process in self.processes.items():
            if process.alive and not process.hung:
                process.adopted = self.view.epoch
                self.served.update(
                    (number, row.term)
                    for number, row in enumerate(self.view.table)
                    if row.primary == node and self._released(number, row)
                )

    def statuses(self, reports: bool) -> dict[str, StatusSeen]:
        found = {}
        for node, process in self.processes.items():
            if not process.alive or process.hung:
                continue
            found[node] = StatusSeen(self._status(node, process, reports), 0.1)
        return found

    def _status(self, node: str, process: Process, reports: bool) -> NodeStatus:
        view = self.views[process.adopted]
        caught_up, lagging, awaiting, released = [], [], [], []
        if view.incarnation(node) == process.info.incarnation:
            for number, row in enumerate(view.table):
                if row.awaits == node and self._has_stopped(number, row):
                    released.append((number, row.term))
                if row.primary != node:
                    continue
                if not self._released(number, row):
                    awaiting.append(number)
                    continue
                lagging += [
                    CopyReport(number, row.term, copy, row.session_of(copy) or 0)
                    for copy in (*row.replicas, *(item.node for item in row.filling))
                    if (number, copy) in self.lagging
                ]
                if reports:
                    caught_up += [
                        CopyReport(number, row.term, item.node, item.session)
                        for item in row.filling
                        if self._answers(item.node)
                        and (number, item.node) not in self.lagging
                        and not self.are_cut(node, item.node)
                    ]
        return NodeStatus(
            id=node,
            incarnation=process.info.incarnation,
            epoch=process.adopted,
            lease_left_s=1.0,
            caught_up=caught_up,
            lagging=lagging,
            awaiting=awaiting,
            released=released,
            stopping=process.stopping,
        )

    def _released(self, number: int, row: Partition) -> bool:
        """A predecessor releases once it follows the view of the handover, and its successor must hear of it."""
        return row.awaits is None or (
            self._has_stopped(number, row) and not self.are_cut(row.awaits, row.primary or "")
        )

    def _has_stopped(self, number: int, row: Partition) -> bool:
        """Cut off from its successor it waits for it to acknowledge a write, unless it never took any."""
        assert row.awaits is not None
        if not self._answers(row.awaits) or self.processes[row.awaits].adopted < row.term:
            return False
        before = max(
            (term for at, term in self.served if at == number and term < row.term), default=0
        )
        took_writes = before and self._primary_in(number, before) == row.awaits
        return not (took_writes and self.are_cut(row.awaits, row.primary or ""))

    def _primary_in(self, number: int, term: int) -> str | None:
        return self.views[term].table[number].primary

    def _answers(self, node: str) -> bool:
        process = self.processes.get(node)
        return process is not None and process.alive and not process.hung

    def observe(self, reports: bool) -> Observation:
        live = frozenset(
            row.incarnation
            for row, _, changed in self.leases.values()
            if self.now - changed < TTL_S and row.incarnation not in self.proven
        )
        if live != self.live:
            self.live, self.live_since = live, self.now
        self.absent_since = {
            node: self.absent_since.get(node, self.now)
            for node, info in self.view.nodes.items()
            if info.up and node not in self.leases
        }
        seen = Observation(
            now=self.now,
            view=self.view,
            settings=self.settings,
            nodes=dict(self.registered),
            leases={
                node: LeaseSeen(row, version, self.now - changed)
                for node, (row, version, changed) in self.leases.items()
            },
            dead=frozenset(self.proven),
            statuses=self.statuses(reports),
            draining=frozenset(self.draining),
            paused=self.paused,
            absent_for_s={node: self.now - at for node, at in self.absent_since.items()},
            losses={node: tuple(times) for node, times in self.losses.items()},
            cut_off_for_s={
                (one, other): self.now - since
                for (one, other), since in self.cuts.items()
                if self._answers(one)
                and self.view.incarnation(one)
                and self.view.incarnation(other)
            },
            stable_for_s=self.now - self.live_since,
            target=None if self.seen is None else self.seen.target,
        )
        self.seen = replace(seen, target=choose_target(seen))
        return self.seen

    # -- the step under test

    def step(self, reports: bool = True) -> Plan | None:
        """One cycle of the controller; None if there is nothing to do."""
        seen = self.observe(reports)
        plan = next_view(seen)
        assert next_view(seen) == plan, "not deterministic"
        self._check_short_ways(seen, plan)
        if plan is None:
            return None
        self._check_fences(seen, plan)
        self._check_table(seen, plan)
        self._publish(seen, plan)
        assert signature(self.observe(reports)) != signature(seen)
        return plan

    def _check_short_ways(self, seen: Observation, plan: Plan | None) -> None:
        """An equal signature means an equal answer, and healthy rows need no repair."""
        mark = signature(seen)
        if mark == self.idle:
            assert plan is None, "the signature hides a change"
        if plan is None:
            self.idle = mark
        verdicts, target = Verdicts(seen), choose_target(seen)
        short, general = (Repair(seen, verdicts, target) for _ in range(2))
        for number, row in enumerate(seen.view.table):
            assert short.repaired(number, row) == general.examined(number, row)

    def _publish(self, seen: Observation, plan: Plan) -> None:
        for node, version in plan.expect.items():
            assert (self.leases[node][1] if node in self.leases else 0) == version
        for node in plan.suspend:
            self._lease(node, msgspec.structs.replace(self.leases[node][0], refused=True))
        for node in plan.revoke:
            del self.leases[node]
        for node in plan.lost:
            self.losses.setdefault(node, []).append(self.now)
        old, self.view = self.view, plan.view
        self.views[self.view.epoch] = self.view
        for node, info in old.nodes.items():
            if info.up and self.view.incarnation(node) != info.incarnation:
                self.voided.add(info.incarnation)
        self._keep_truth(old)

    def _keep_truth(self, old: View) -> None:
        for number, (before, after) in enumerate(zip(old.table, self.view.table, strict=True)):
            listed = {self.view.incarnation(node) for node in after.in_sync}
            survivors = self.complete[number] & listed
            if after.primary is not None and after.term == self.view.epoch and not before.in_sync:
                self.complete[number] = listed  # appointed: all are empty, or the first is restored
                continue
            newly = {
                self.view.incarnation(node)
                for node in after.replicas
                if before.session_of(node) is not None
            }
            if newly:
                assert after.primary == before.primary, (
                    "joined the in-sync copies across a change of primary"
                )
            if before.in_sync and not after.in_sync:
                self.lost += 1
            self.complete[number] = survivors | newly

    # -- invariants

    def _check_fences(self, seen: Observation, plan: Plan) -> None:
        """Who loses a role, or its place, does not serve any more and cannot begin again by an old view."""
        for old, new in zip(seen.view.table, plan.view.table, strict=True):
            deposed = {old.primary, old.awaits} - {new.primary, new.awaits, None}
            for node in deposed:
                assert node is not None
                incarnation = seen.view.incarnation(node)
                process = self.processes[node]
                released = old.awaits == node and self._answers(node)
                fenced = node in plan.revoke or node in plan.suspend or plan.expect.get(node) == 0
                dead = process.info.incarnation != incarnation or incarnation in self.proven
                assert released or dead or fenced, f"{node} is not fenced"
                if fenced and not dead:
                    assert process.trusts_until <= self.now, f"{node} still trusts its lease"
        for node in plan.revoke:
            incarnation = self.leases[node][0].incarnation
            dead = incarnation in self.proven
            assert dead or self.now - self.leases[node][2] >= TTL_S
            assert plan.view.incarnation(node) != incarnation

    def _check_table(self, seen: Observation, plan: Plan) -> None:
        old, new = seen.view, plan.view
        assert new.epoch == old.epoch + 1
        for number, (before, after) in enumerate(zip(old.table, new.table, strict=True)):
            copies = [*after.in_sync, *(item.node for item in after.filling)]
            assert len(copies) == len(set(copies)), "two copies on one node"
            for node in copies:
                incarnation = new.incarnation(node)
                assert incarnation, f"{node} is listed and not up"
                assert incarnation not in self.voided, "a void incarnation is listed"
                assert incarnation not in self.proven, "a dead incarnation is listed"
            assert after.awaits is None or after.awaits in after.in_sync
            assert after.awaits != after.primary or after.primary is None
            assert after.term >= before.term
            if after.primary != before.primary and after.primary is not None:
                assert after.term == new.epoch, "a new primary needs a new term"
                assert before.session_of(after.primary) is None, "a filling node was promoted"
                if before.in_sync:
                    assert new.incarnation(after.primary) in self.complete[number]
            if after.primary is not None and after.primary == before.primary:
                assert after.term in (before.term, new.epoch)
            for item in after.filling:
                assert max(after.term, 1) <= item.session <= new.epoch
            if after.term != before.term:
                assert all(item.session == new.epoch for item in after.filling)
            self._check_losses(number, before, after, seen, new)

    def _check_losses(
        self, number: int, before: Partition, after: Partition, seen: Observation, new: View
    ) -> None:
        """The last in-sync copy goes only when it is void, or silent for the whole wait."""
        for node in set(before.in_sync) - set(after.in_sync):
            incarnation = seen.view.incarnation(node)
            void = (
                incarnation in self.proven or self.processes[node].info.incarnation != incarnation
            )
            if after.in_sync:
                continue
            lease = seen.leases.get(node)
            silent = seen.absent_for_s.get(node, 0.0) if lease is None else lease.unchanged_for_s
            assert void or silent >= self.settings.sole_copy_wait_s, "gave up the last copy"
        if after.in_sync:
            assert any(
                new.incarnation(node) in self.complete[number] for node in after.in_sync
            ) or (not before.in_sync)

    # -- the end

    def _settle_with_cuts(self) -> None:
        """Two nodes that are cut off from each other, and only they, keep no partition from being served for long."""
        for pair in list(self.cuts)[:-1]:
            del self.cuts[pair]
        for _ in range(20):
            self.tick(0.5)
            self.adopt()
            self.allow()
            for _ in range(30):
                if self.step() is None:
                    break
                self.adopt()
        for pair in self.cuts:
            for row in self.view.table:
                assert row.awaits is None or {row.awaits, row.primary} != set(pair)

    def settle(self) -> None:
        """Without further faults the view reaches its target within a bounded number of steps, and stays."""
        for process in self.processes.values():
            process.hung = False
        self.lagging.clear()
        self.paused = False
        self._settle_with_cuts()
        self.cuts.clear()
        for _ in range(400):
            self.tick(0.5)
            self.adopt()
            self.allow()
            while self.step() is not None:
                self.adopt()
            if self.now - self.live_since > 70.0 and self.step() is None:
                break
        seen = self.seen
        assert seen is not None
        assert seen.target is not None
        members = {node.id for node in seen.target.nodes}
        if not members:
            return
        for row, wanted in zip(self.view.table, seen.target.rows, strict=True):
            assert row.primary == wanted[0]
            assert set(wanted) <= set(row.in_sync)
            assert len(wanted) == min(self.settings.replicas, len(members))
            extra = set(row.in_sync) - set(wanted)
            assert not extra or len(row.in_sync) <= self.settings.replicas
            assert not row.filling
            assert row.awaits is None

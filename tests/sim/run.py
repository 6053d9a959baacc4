"""Run one seed: build the cluster, let clients and faults loose, check what came of it."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from tests.sim import fill_rules
from tests.sim.checker import check
from tests.sim.cluster import Cluster
from tests.sim.expiry import Expiry
from tests.sim.faults import Injector
from tests.sim.front import Front
from tests.sim.history import NOT_APPLIED, OK, UNKNOWN, History, Operation
from tests.sim.hub import Hub, Livelock
from tests.sim.instruments import instrumented
from tests.sim.invariants import Invalidated
from tests.sim.masters import MasterProcess
from tests.sim.plans import LAST_FAULT_S, Plan, plan_for
from tests.sim.workload import Mix, Workload

SETTLE_S = 30.0
"""Within this time after the last fault every partition is served again by R copies that agree."""

FORM_S = 1.3
"""Clients begin after this; the cluster must have formed `FORM_S` later in a planned schedule."""


@dataclass(slots=True)
class Result:
    """What came of a seed. `failures` is empty when all is well."""

    seed: int
    plan: Plan
    failures: list[str] = field(default_factory=list)
    history: History = field(default_factory=History)
    ticks: int = 0
    settled_at: float = 0.0
    trace: list[str] = field(default_factory=list)

    def summary(self) -> str:
        outcomes = [operation.outcome for operation in self.history.operations]
        return (
            f"seed {self.seed}: {self.plan.kind}, {len(outcomes)} operations"
            f" ({outcomes.count(UNKNOWN)} unknown, {outcomes.count(NOT_APPLIED)} not applied),"
            f" {self.ticks} turns, at rest at {self.settled_at:.2f} s"
        )

    def digest(self) -> str:
        """Two runs of one seed agree on this."""
        text = "\n".join(map(str, self.history.operations)) + f"\n{self.ticks}"
        return hashlib.sha256(text.encode()).hexdigest()[:16]


class Run:
    """One seed."""

    def __init__(
        self, seed: int, *, trace: bool = False, skip: frozenset[int] = frozenset()
    ) -> None:
        plan = plan_for(seed)
        self.hub = Hub(seed)
        self.result = Result(seed, plan)
        if trace:
            self.hub.log = self._log
        self.history = self.result.history
        self.cluster = Cluster(self.hub, plan)
        mix = Mix(keys=16) if plan.snapshots else Mix()
        if plan.eviction:
            mix = Mix(value_bytes=1500, keys=24, short_ttl=True)
        if plan.pipelines:
            mix = replace(mix, pipelines=True)
        if plan.tags:
            mix = replace(mix, tags=True)
        if plan.fills:
            mix = replace(mix, fills=True, clients=8, think_s=0.06)
        if plan.hot:
            mix = replace(
                mix, hot=True, reader=plan.reader, keys=min(mix.keys, 4), clients=12, think_s=0.05
            )
        mix = replace(mix, deadline_s=plan.deadline_s)
        self.workload = Workload(self.history, random.Random(f"work {seed}"), mix, plan.partitions)
        self.workload.ledger.on_ack = self.cluster.invariants.acknowledged
        self.cluster.on_master = self._add_clients
        self._faults = tuple(fault for index, fault in enumerate(plan.faults) if index not in skip)
        self._clients = 0
        self._expiry = Expiry(plan.rates, self.cluster.time_began)

    def go(self) -> Result:
        """All of it."""
        result = self.result
        with instrumented(self.cluster, result.seed):
            try:
                self._go()
            except Livelock as error:
                result.failures.append(str(error))
            finally:
                self.cluster.dispose()
        result.ticks = self.hub.ticks
        result.failures += self.hub.failures
        result.failures += self.workload.ledger.failures
        self._judge()
        return result

    def _go(self) -> None:
        self.cluster.start_all()
        Injector(self.cluster, random.Random(f"faults {self.result.seed}")).schedule(self._faults)
        self.hub.run(LAST_FAULT_S + 0.5)
        if not self.hub.stopped:
            self._settle()
        if self.hub.stopped:
            return
        self.workload.stopped = True
        self._read_all()

    def _settle(self) -> None:
        """Until the cluster is at rest, or too late."""
        limit = LAST_FAULT_S + SETTLE_S
        late = LAST_FAULT_S + 3.0
        if any(fault.kind == "set-back" for fault in self.result.plan.faults):
            # Only then are there writes in the terms that follow.
            late = LAST_FAULT_S + 14.0
        reason = "?"
        while self.hub.now < limit and not self.hub.stopped:
            self.cluster.invariants.pending()
            reason = self.cluster.invariants.unsettled()
            if not reason:
                self.result.settled_at = self.hub.now
                return
            self.hub.run(self.hub.now + 0.25)
            if self.hub.now > late:
                self.workload.stopped = True
        self.hub.fail(f"not at rest {SETTLE_S} s after the last fault: {reason}")

    def _read_all(self) -> None:
        """Every key once more, and nobody may still wait for a reply."""
        self.hub.run(self.hub.now + 0.5)
        routers = {
            each.loop: each.router for each in self.cluster.masters() if each.router is not None
        }
        done: list[bool] = []
        if routers:
            loop, router = next(iter(routers.items()))
            task = loop.create_task(self.workload.read_all("reader", loop, router))
            task.add_done_callback(lambda _: done.append(True))
            task.add_done_callback(self._ended)
        self.hub.run(self.hub.now + 20.0, stop=lambda: bool(done))
        self.hub.run(self.hub.now + 6.5 if not done else self.hub.now)
        if not done:
            self.hub.fail("the last reads did not end")

    def _add_clients(self, master: MasterProcess) -> None:
        """Clients of a master live on its loop and die with it; what they wait for then is unknown."""
        clients = self.workload.mix.clients
        share = (clients + 1) // 2

        async def client(name: str) -> None:
            path = await master.ready
            await asyncio.sleep(max(0.0, FORM_S - master.loop.true_now()))
            front = Front(path, master.loop, random.Random(f"front {self.result.seed} {name}"))
            await self.workload.client(name, master.loop, front)

        for _ in range(share):
            self._clients += 1
            task = master.loop.create_task(client(f"c{self._clients}@{master.name}"))
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """A client that breaks is a failure of the run: it would only do less, and everything would look well."""
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self.hub.fail(f"a client broke: {error!r}")

    # Judging

    def _judge(self) -> None:
        result = self.result
        self._add_simulator_operations()
        losses = self.cluster.invariants.losses
        result.failures += self.history.duplicate_versions(losses.set_backs())
        result.failures += [str(violation) for violation in check(self.history)]
        result.failures += losses.judge(self.history)
        result.failures += self._expiry.judge(self.workload.mortals, self.history)
        calm = result.plan.kind == "planned"
        result.failures += fill_rules.judge(
            self.history, result.plan.rates, self.cluster.invariants.lapses, calm=calm
        )
        if not self.hub.stopped:
            result.failures += self.workload.ledger.unanswered()
        if result.plan.kind == "planned":
            result.failures += [
                f"an error without a fault: {each}" for each in self.workload.ledger.errors
            ]
        self.history.operations.sort(key=lambda each: each.invoked)

    def _add_simulator_operations(self) -> None:
        """Removals that primaries reported, expiries, and total losses, as operations of the simulator."""
        operations = self.history.operations
        for at, number, key, version, _ in self.cluster.invariants.removals:
            operations.append(
                Operation(
                    "primary", "evict", key, at, expected=version, outcome=UNKNOWN, partition=number
                )
            )
        operations += self.cluster.invariants.returns
        operations += repeated(operations, self.cluster.invariants.invalidations)
        keys = sorted({operation.key for operation in operations})
        operations += self.cluster.invariants.losses.operations(keys)
        operations += self._expiry.operations(self.workload.mortals)

    def _log(self, who: str, what: str) -> None:
        self.result.trace.append(f"{self.hub.now:10.6f} {who:>10} {what}")


def repeated(
    operations: Sequence[Operation], invalidations: Sequence[Invalidated]
) -> list[Operation]:
    """Effects that an invalidation may have had after its first: one for each record in a later term (adr/0017)."""
    again: dict[tuple[bytes, Invalidated], Operation] = {}
    for each in operations:
        if each.kind != "untag":
            continue
        tag = (each.argument or b"").decode()
        until = each.returned if each.outcome == OK and each.returned is not None else math.inf
        records = [
            record
            for record in invalidations
            if (record.partition, record.tag) == (each.partition, tag)
            and each.invoked <= record.at <= until
        ]
        for record in records:
            if record.term > records[0].term:
                again[each.key, record] = Operation(
                    "primary", "untag", each.key, record.at, argument=each.argument, outcome=UNKNOWN
                )
    return list(again.values())


def run_seed(seed: int, *, trace: bool = False, skip: frozenset[int] = frozenset()) -> Result:
    """Run `seed`. `skip`: numbers of faults of its plan that do not happen."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        return Run(seed, trace=trace, skip=skip).go()
    finally:
        if enabled:
            gc.enable()

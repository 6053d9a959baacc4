"""Run one seed: build the cluster, let clients and faults loose, check what came of it."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import logging
import random
import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any
from unittest.mock import patch

import structlog

import aux.node.fills
import aux.node.node
import aux.node.status_report
import aux.server.control_commands
import aux.storage.store
import ringmaster.cluster.time_agreement
from aux.node.fills import Asker, Fills
from aux.node.node import Node
from aux.node.roles import Roles
from aux.replication.primary import Primary
from aux.server.server import ClientConnection
from aux.storage.memory_accounting import ProcessAccounting
from ringmaster.cluster.node_status import NodeStatus
from ringmaster.snapshot import format as layout
from tests.sim import fill_rules
from tests.sim.checker import check
from tests.sim.cluster import Cluster
from tests.sim.expiry import Expiry
from tests.sim.faults import Injector
from tests.sim.front import Front
from tests.sim.history import NOT_APPLIED, UNKNOWN, History, Operation
from tests.sim.hub import Hub, Livelock
from tests.sim.invariants import Served, requests_of
from tests.sim.masters import MasterProcess
from tests.sim.plans import LAST_FAULT_S, Plan, plan_for
from tests.sim.workload import Mix, Workload

BLOCK_BYTES = 64
"""Of a snapshot: a few entries, so that damage can leave the others."""

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
        self.workload = Workload(self.history, random.Random(f"work {seed}"), mix, plan.partitions)
        self.workload.on_ack = self.cluster.invariants.acknowledged
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
        result.failures += self.workload.failures
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
            result.failures += self.workload.unanswered()
        if result.plan.kind == "planned":
            result.failures += [
                f"an error without a fault: {each}" for each in self.workload.errors
            ]
        self.history.operations.sort(key=lambda each: each.invoked)

    def _add_simulator_operations(self) -> None:
        """Removals that primaries reported, expiries, and total losses, as operations of the simulator."""
        operations = self.history.operations
        for at, number, key, version in self.cluster.invariants.removals:
            operations.append(
                Operation(
                    "primary", "evict", key, at, expected=version, outcome=UNKNOWN, partition=number
                )
            )
        keys = sorted({operation.key for operation in operations})
        operations += self.cluster.invariants.losses.operations(keys)
        operations += self._expiry.operations(self.workload.mortals)

    def _log(self, who: str, what: str) -> None:
        self.result.trace.append(f"{self.hub.now:10.6f} {who:>10} {what}")


@cache
def _accounting() -> ProcessAccounting:
    """One for all nodes: its tables are always the same, and take a millisecond to make."""
    return ProcessAccounting()


@contextmanager
def instrumented(cluster: Cluster, seed: int) -> Iterator[None]:
    """The real code reports to the invariants, and nothing in it is random but by the seed."""
    hub = cluster.hub
    tokens = random.Random(f"tokens {seed}")
    invariants = cluster.invariants
    evict, expire = Primary.evict, Primary.expire

    class WatchedRoles(Roles):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            self.served = Served(invariants.served_changed)
            self.home = cluster.running()

        def loaded(self, primary: Primary) -> None:
            if self.home.crashed:
                return  # what a dead process was about to do is only thrown away at the end of the run
            invariants.losses.loaded(primary)
            super().loaded(primary)

    def status_of(node: Node) -> NodeStatus:
        status = aux.node.status_report.status_of(node)
        invariants.reported(status)
        return status

    receive = ClientConnection.data_received
    lead = ringmaster.cluster.time_agreement._Joining._lead_on

    def data_received(connection: ClientConnection, data: bytes) -> None:
        node, loop = connection._node, cluster.running()
        held = loop.boottime_at(loop.true_now()) < node.clock.lease.held_until
        before = requests_of(node)
        receive(connection, data)
        invariants.served(loop, node, held, before)

    async def lead_on(joining: Any, known: Any, record: Any) -> bool:
        done = await lead(joining, known, record)
        if done and (known is None or known.boot_id != joining._boot_id):
            cluster.begin_time(joining._clock.now_ms())
        return done

    def watched(method: Callable[..., Any], *, overlay: bool) -> Callable[..., Any]:
        """`method` removes keys that have an uncommitted entry, or (`overlay` false) those that have none."""

        def report(primary: Primary, key: bytes) -> Any:
            if primary.in_overlay(key) is overlay:
                invariants.evicted(cluster.running(), primary, key)
            return method(primary, key)

        return report

    state = random.getstate()
    random.seed(seed)
    with ExitStack() as stack:
        stack.enter_context(patch.object(aux.node.node, "Roles", WatchedRoles))
        stack.enter_context(patch.object(aux.storage.store, "ProcessAccounting", _accounting))
        stack.enter_context(patch.object(aux.server.control_commands, "status_of", status_of))
        stack.enter_context(patch.object(ClientConnection, "data_received", data_received))
        stack.enter_context(
            patch.object(ringmaster.cluster.time_agreement._Joining, "_lead_on", lead_on)
        )
        stack.enter_context(patch.object(Primary, "evict", watched(evict, overlay=False)))
        stack.enter_context(patch.object(Primary, "expire", watched(expire, overlay=True)))
        stack.enter_context(
            patch.object(secrets, "token_hex", lambda size=32: tokens.randbytes(size).hex())
        )
        stack.enter_context(patch.object(secrets, "token_bytes", tokens.randbytes))
        stack.enter_context(patch.object(layout, "BLOCK_BYTES", BLOCK_BYTES))
        stack.enter_context(patch.object(Fills, "forget", _noting(hub, invariants.lapses)))
        stack.enter_context(patch.object(aux.node.fills, "TOKEN_S", fill_rules.TOKEN_S))
        stack.callback(random.setstate, state)
        stack.callback(structlog.reset_defaults)
        structlog.configure(
            processors=[_Tracer(hub)],
            wrapper_class=structlog.make_filtering_bound_logger(
                logging.DEBUG if hub.log is not None else logging.CRITICAL
            ),
            logger_factory=structlog.ReturnLoggerFactory(),
            cache_logger_on_first_use=False,
        )
        yield


def _noting(hub: Hub, lapses: list[float]) -> Callable[[Fills, Asker], None]:
    """`Fills.forget`, which notes when a session ended."""
    forget = Fills.forget

    def noted(fills: Fills, asker: Asker) -> None:
        lapses.append(hub.now)
        forget(fills, asker)

    return noted


class _Tracer:
    """The real code's own log lines, in the trace."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    def __call__(self, _logger: object, level: str, event: dict[str, Any]) -> str:
        loop = asyncio._get_running_loop()
        who = getattr(loop, "name", "?")
        more = " ".join(f"{key}={value}" for key, value in event.items() if key != "event")
        self._hub.trace(who, f"{level}: {event.get('event')} {more}")
        return ""


def run_seed(seed: int, *, trace: bool = False, skip: frozenset[int] = frozenset()) -> Result:
    """Run `seed`. `skip`: numbers of faults of its plan that do not happen."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        return Run(seed, trace=trace, skip=skip).go()
    finally:
        if enabled:
            gc.enable()

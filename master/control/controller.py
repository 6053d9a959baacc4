"""The controller: observe, plan, publish, in a loop. All decisions are in `planning.py`; here is only the I/O.

Every master runs this loop and watches the leases' numbers, so that any can take over at once; only the one that is
elected plans and publishes. It keeps nothing that a successor needs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable, Mapping
from dataclasses import replace
from typing import Protocol

import msgspec
import structlog

from master.control.coordinator_reader import Leased, Read, Reads
from master.control.election import Election
from master.control.failure_detector import cut_off_since, refusals, unreachable_by_most
from master.control.loss_history import LOSSES_KEY, Losses
from master.control.planning.observation import (
    Observation,
    Plan,
    PlanningSettings,
    StatusSeen,
    Target,
)
from master.control.planning.planner import next_view, only_moves, signature
from master.control.planning.target import RebalanceProgress, choose_target, rebalance_progress
from master.control.view_push import nodes_up
from ringmaster.cluster.lease import lease_key
from ringmaster.cluster.process_lock import HeldLock, Liveness
from ringmaster.cluster.registration import node_key
from ringmaster.cluster.view import View, decode_view, encode_view, first_view
from ringmaster.cluster.view_follower import VIEW_KEY
from ringmaster.coordinator import Commit, Coordinator
from ringmaster.coordinator.cluster import STOPPING_KEY
from ringmaster.errors import CoordinatorUnavailable
from ringmaster.runtime.clock import Clock

CYCLE_S = 0.1
CALM_CYCLE_S = 0.2
"""While nothing moves and every lease is renewed in time; whatever is news wakes it."""

LATE_S = 0.9
"""A lease that has not changed for longer is late: renewed every 0.5 s, read every 0.2 s, it is 0.7 s at most."""

STANDBY_S = 0.3
"""Who is not elected only watches the leases' numbers, which move every 0.5 s; when it is elected it is woken."""

MOVE_PAUSE_S = 0.1
MOVE_PAUSE_TIMES = 320.0
"""Between two views that only move copies: so many times what planning and publishing the first one took, but no
longer than `PlanningSettings.move_pause_most_s`.

Each costs every process a few milliseconds that clients wait for; so it is about one in a hundred of them.
"""

LEAST_PAUSE_S = 0.005
"""Timers end up to a millisecond early."""

_log = structlog.get_logger(__name__)


class Probes(Protocol):
    """What the controller asks of `health.Prober`."""

    def statuses(self) -> Mapping[str, StatusSeen]:
        """The last status of each node."""

    def is_connected(self, node: str) -> bool:
        """Whether the link to `node` is up."""

    def unreachable(self) -> tuple[str, ...]:
        """Nodes this master cannot reach."""


class Controller:
    """Publishes views while elected.

    `cluster`, `partitions`: from the record `cluster`. `on_published(the view before, view, its JSON)` is
    called from the loop with each view that this master published: to adopt it and to `push_view` it.
    """

    def __init__(
        self,
        *,
        coordinator: Coordinator,
        liveness: Liveness,
        clock: Clock,
        election: Election,
        probes: Probes,
        settings: PlanningSettings,
        cluster: str,
        partitions: int,
        on_published: Callable[[View, View, bytes], None],
    ) -> None:
        self.cycles = self.published = self.conflicts = 0
        self._coordinator = coordinator
        self._liveness = liveness
        self._clock = clock
        self._election = election
        self._probes = probes
        self._settings = settings
        self._cluster = cluster
        self._partitions = partitions
        self._on_published = on_published
        self._wake = asyncio.Event()
        self._reads = Reads(coordinator, clock, settings.lease_ttl_s)
        self._view: tuple[View, int] | None = None
        self._target: Target | None = None
        self._losses = Losses()
        self._absent_since: dict[str, float] = {}
        self._left_since: dict[str, float] = {}
        self._cut_off_since: dict[tuple[str, str], float] = {}
        self._live: frozenset[tuple[str, str]] = frozenset()
        self._live_since = clock.boottime()
        self._calm_until = 0.0
        self._idle: Hashable = None
        self._at_rest = False
        self._settled = False
        self._available = True

    def wake(self, *, urgent: bool = True) -> None:
        """Look now: a link broke, a node is in trouble, this master was elected. Not `urgent`: a move went on a step."""
        if urgent:
            self._calm_until = 0.0
        if self._clock.boottime() >= self._calm_until:
            self._wake.set()

    @property
    def progress(self) -> RebalanceProgress | None:
        """How far the rebalance is; None on a master that is not the controller."""
        if self._view is None or self._target is None or not self._election.is_controller:
            return None
        return rebalance_progress(self._view[0], self._target)

    async def run(self) -> None:
        """Look every 0.1 s, at rest every 0.2 s (0.3 s if not elected), or at once when woken.

        Outages of the coordinator are waited out.
        """
        while True:
            self._wake.clear()
            again = False
            try:
                again = await self.cycle()
                self._note(None)
            except CoordinatorUnavailable as error:
                self._forget_reads()
                self._note(error)
            except msgspec.DecodeError as error:
                _log.error("the view in the coordinator is unreadable", reason=str(error))
            calm_s = self._calm_until - self._clock.boottime()
            if again and calm_s <= 0:
                # A view was published, or somebody else was faster: there may be more to do. Others first, though.
                await asyncio.sleep(0)
                continue
            try:
                async with asyncio.timeout(calm_s if calm_s > 0 else self._pause_s()):
                    await self._wake.wait()
            except TimeoutError:
                continue

    def _pause_s(self) -> float:
        """Until the next cycle, in seconds: no longer than until a lease lapses, so that it is seen when it does."""
        if not self._election.is_controller:
            return STANDBY_S
        cycle_s = CALM_CYCLE_S if self._settled else CYCLE_S
        lapse_s = self._reads.lapse_at - self._clock.boottime()
        return max(min(cycle_s, lapse_s), LEAST_PAUSE_S)

    async def cycle(self) -> bool:
        """Observe once and act on it; whether to look again at once. Raises `CoordinatorUnavailable`."""
        self.cycles += 1
        was_settled, self._settled = self._settled, False
        leased = await self._reads.leased()
        if not self._election.is_controller:
            self._view = None
            return False
        read = await self._reads.all(leased, may_remember=was_settled)
        if STOPPING_KEY in read.admin:
            return False  # whoever leaves now leaves on purpose
        view, version = self._view or await self._load_view()
        self._view = (view, version)
        await self._refuse(view, leased)
        await self._forget_masters()
        again = await self._judge(view, version, read)
        if again is None:
            read = await self._reads.all(leased, may_remember=False)
            again = STOPPING_KEY not in read.admin and await self._judge(view, version, read)
        return bool(again)

    async def _judge(self, view: View, version: int, read: Read) -> bool | None:
        """Act on `read`; whether to look again at once. None: more must be read first.

        What was remembered can only say that there is nothing to do: a plan rests on what was read in its cycle.
        """
        proofs = self._proofs(view, read)
        try:
            seen = self._observe(view, read, frozenset(proofs))
            mark = signature(seen)
            if mark == self._idle:
                self._settled = self._at_rest and self._is_settled(seen)
                return False
            if read.is_remembered:
                return None
            began = self._clock.boottime()
            self._target = choose_target(seen)
            plan = next_view(replace(seen, target=self._target))
            if plan is None:
                self._idle = mark
                self._at_rest = not any(row.filling or row.awaits for row in view.table)
                await self._tidy(view, read)
                return False
            return await self._publish(plan, seen, version, read, began)
        finally:
            for proof in proofs.values():
                proof.release()

    # -- observing

    def _is_settled(self, seen: Observation) -> bool:
        """Whether nobody is late, out of reach, on the way in or on the way out: news will wake us."""
        return (
            seen.stable_for_s >= max(seen.settings.bootstrap_wait_s, seen.settings.settle_s)
            and seen.leases.keys() == set(nodes_up(seen.view))
            and all(lease.unchanged_for_s < LATE_S for lease in seen.leases.values())
            and all(self._probes.is_connected(node) for node in seen.leases)
        )

    async def _load_view(self) -> tuple[View, int]:
        record = (await self._coordinator.read(VIEW_KEY)).get(VIEW_KEY)
        losses = (await self._coordinator.read(LOSSES_KEY)).get(LOSSES_KEY)
        if losses is not None:
            clock = self._clock
            self._losses = Losses.decode(losses.value, clock.boottime(), clock.wall())
        self._idle = None
        if record is None:
            return first_view(self._cluster, self._partitions, self._settings.replicas), 0
        return decode_view(record.value), record.version

    def _observe(self, view: View, read: Read, dead: frozenset[str]) -> Observation:
        now = self._clock.boottime()
        live = frozenset(
            (node, lease.row.incarnation)
            for node, lease in read.leases.items()
            if lease.unchanged_for_s < self._settings.lease_ttl_s
            and lease.row.incarnation not in dead
        )
        if live != self._live:
            self._live, self._live_since = live, now
        self._absent_since = {
            node: self._absent_since.get(node, now)
            for node in nodes_up(view)
            if node not in read.leases
        }
        self._left_since = {
            node: self._left_since.get(node, now) for node, info in view.nodes.items() if info.left
        }
        statuses = self._probes.statuses()
        self._cut_off_since = cut_off_since(
            self._cut_off_since, view, statuses, now, self._settings.status_max_age_s
        )
        return Observation(
            now=now,
            view=view,
            settings=self._settings,
            nodes=read.nodes,
            leases=read.leases,
            dead=dead,
            statuses=statuses,
            draining=_flagged(read.admin, "admin/drain/"),
            forget=_flagged(read.admin, "admin/forget/"),
            paused="admin/pause" in read.admin,
            absent_for_s={node: now - since for node, since in self._absent_since.items()},
            losses=self._losses.times(),
            cut_off_for_s={pair: now - since for pair, since in self._cut_off_since.items()},
            left_for_s={node: now - since for node, since in self._left_since.items()},
            stable_for_s=now - self._live_since,
            target=self._target,
        )

    def _proofs(self, view: View, read: Read) -> dict[str, HeldLock]:
        """Locks of incarnations that are gone, to be held until the view is published (R5)."""
        proofs: dict[str, HeldLock] = {}
        suspects = {(info.id, info.incarnation): info for info in read.nodes.values()}
        suspects.update(
            {(info.id, info.incarnation): info for info in view.nodes.values() if info.up}
        )
        for (node, incarnation), info in suspects.items():
            listed = view.incarnation(node) == incarnation
            if info.boot_id != self._liveness.boot_id or (not listed and node not in read.leases):
                continue
            if listed and self._probes.is_connected(node):
                continue
            proof = self._liveness.prove_dead(node, info.lock)
            if proof is not None:
                proofs[incarnation] = proof
        return proofs

    # -- acting

    async def _publish(
        self, plan: Plan, seen: Observation, version: int, read: Read, began: float
    ) -> bool:
        if not self._election.is_controller:
            return False
        raw = encode_view(plan.view)
        suspended = {
            lease_key(node): msgspec.json.encode(
                msgspec.structs.replace(read.leases[node].row, refused=True)
            )
            for node in plan.suspend
        }
        losses, put = self._losses, {VIEW_KEY: raw, **suspended}
        if plan.lost:
            now = self._clock.boottime()
            losses = losses.with_lost(sorted(plan.lost), now)
            put[LOSSES_KEY] = losses.encode(now, self._clock.wall())
        commit = Commit(
            expect={VIEW_KEY: version, **{lease_key(n): v for n, v in plan.expect.items()}},
            put=put,
            delete=frozenset(lease_key(node) for node in plan.revoke),
        )
        try:
            versions = await self._coordinator.commit(commit)
        except CoordinatorUnavailable:
            self._view = None
            raise
        if versions is None:
            self.conflicts += 1
            self._view = None
            # Nothing is lost if we lose again and again, but the loop must not spin on it.
            return self.conflicts % 8 != 0
        self.published += 1
        self._view = (plan.view, versions[VIEW_KEY])
        self._losses = losses
        if only_moves(plan, seen.view):
            now = self._clock.boottime()
            pause_s = MOVE_PAUSE_TIMES * (now - began)
            self._calm_until = now + min(
                max(pause_s, MOVE_PAUSE_S), self._settings.move_pause_most_s
            )
        for reason in plan.reasons:
            _log.info("view", epoch=plan.view.epoch, reason=reason)
        self._on_published(seen.view, plan.view, raw)
        return True

    async def _refuse(self, view: View, leased: Leased) -> None:
        up = frozenset(nodes_up(view))
        said = (row.unreachable for row in leased.masters.values())
        unreachable = unreachable_by_most(said, up)
        changes = refusals(view, leased.leases, self._probes.statuses(), unreachable)
        for node, row in changes.items():
            key = lease_key(node)
            commit = Commit(
                expect={key: leased.leases[node].version}, put={key: msgspec.json.encode(row)}
            )
            if await self._coordinator.commit(commit) is not None:
                _log.warning(
                    "renewals refused: most masters cannot reach it"
                    if row.refused
                    else "renewals allowed again",
                    node=node,
                )

    async def _forget_masters(self) -> None:
        """Delete the rows of masters that ended long ago, each on condition that it has not changed since."""
        for key, version in self._reads.gone_masters().items():
            commit = Commit(expect={key: version}, delete=frozenset({key}))
            if await self._coordinator.commit(commit) is not None:
                _log.info("the row of a master that is gone was removed", key=key)

    async def _tidy(self, view: View, read: Read) -> None:
        """Drop requests to forget a node that are done, or that came while it was up, and what forgotten nodes leave."""
        done = {f"admin/forget/{node}" for node in _flagged(read.admin, "admin/forget/")}
        for node in _flagged(read.admin, "admin/drain/"):
            if node not in view.nodes and node not in read.leases:
                done.add(f"admin/drain/{node}")
        if done:
            await self._coordinator.commit(Commit(delete=frozenset(done)))
        for node in read.nodes:
            if node not in view.nodes and node not in read.leases:
                await self._unregister(node)

    async def _unregister(self, node: str) -> None:
        """Delete the registration of a node without a lease.

        The registration is read before the lease, which is written first: so the lease is not on its way, it is over.
        """
        key, lease = node_key(node), lease_key(node)
        record = (await self._coordinator.read(key)).get(key)
        if record is None or lease in await self._coordinator.read(lease):
            return
        expect = {key: record.version, lease: 0}
        await self._coordinator.commit(Commit(expect=expect, delete=frozenset({key})))

    def _forget_reads(self) -> None:
        """While nobody could renew or read, nobody is late."""
        self._reads.failed()
        self._absent_since.clear()
        self._view = None

    def _note(self, error: CoordinatorUnavailable | None) -> None:
        if (error is None) != self._available:
            self._available = error is None
            if error is None:
                _log.info("controller: the coordinator is back")
            else:
                _log.warning("controller waits for the coordinator", reason=str(error))


def _flagged(admin: frozenset[str], prefix: str) -> frozenset[str]:
    return frozenset(key.removeprefix(prefix) for key in admin if key.startswith(prefix))

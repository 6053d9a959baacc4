"""The controller: observe, plan, publish, in a loop. Decisions are pure (`planning/`); here is the order of the I/O.

Every master runs this loop and watches the leases' numbers, so that any can take over at once; only the elected one
plans and publishes. It keeps nothing that a successor needs.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import replace

import msgspec
import structlog

from master.control.coordinator_reader import ClusterRows, CoordinatorReader
from master.control.election import Election
from master.control.housekeeping import (
    refuse_renewals,
    remove_done_requests,
    remove_gone_masters,
)
from master.control.observer import Observer, Probes
from master.control.pacing import Pacing
from master.control.planning.observation import Observation, Plan, PlanningSettings, Target
from master.control.planning.planner import next_view, only_moves, signature
from master.control.planning.target import choose_target
from master.control.publisher import Publisher
from ringmaster.cluster.process_lock import Liveness
from ringmaster.cluster.time_agreement import record_time
from ringmaster.cluster.view import View, first_view
from ringmaster.coordinator import Coordinator
from ringmaster.errors import CoordinatorUnavailable
from ringmaster.runtime.cluster_clock import ClusterClock

CYCLE_S = 0.1
IDLE_CYCLE_S = 0.2
"""While nothing moves and every lease is renewed in time; any news wakes the loop."""

STANDBY_S = 0.3
"""A master that is not elected only watches the leases' numbers, which change every 0.5 s; its election wakes it."""

_log = structlog.get_logger(__name__)


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
        clock: ClusterClock,
        election: Election,
        probes: Probes,
        settings: PlanningSettings,
        cluster: str,
        partitions: int,
        on_published: Callable[[View, View, bytes], None],
    ) -> None:
        self._coordinator = coordinator
        self._clock = clock
        self._boot_id = liveness.boot_id
        self._election = election
        self._probes = probes
        self._on_published = on_published
        self._reader = CoordinatorReader(coordinator, clock, settings.lease_ttl_s)
        self._observer = Observer(clock, liveness, probes, settings)
        self._publisher = Publisher(
            coordinator, clock, first_view(cluster, partitions, settings.replicas)
        )
        self._pacing = Pacing(clock, settings.max_move_pause_s)
        self._target: Target | None = None
        self._idle: Hashable = None
        """The signature of the last observation that needed no plan."""
        self._moves_nothing = False
        """Whether that view had no fill and no hand-over under way."""
        self._is_settled = False
        self._available = True

    def wake(self, *, urgent: bool = True) -> None:
        """Begin a cycle now: a link broke, a node is in trouble, this master was elected. Not `urgent`: a move advanced."""
        self._pacing.wake(urgent=urgent)

    @property
    def conflicts(self) -> int:
        """Views that were not published because somebody else had written first."""
        return self._publisher.conflicts

    async def run(self) -> None:
        """A cycle every 0.1 s, when idle every 0.2 s, on standby every 0.3 s, and at once when woken.

        Outages of the coordinator are waited out.
        """
        while True:
            self._pacing.begin_cycle()
            again = False
            try:
                again = await self.cycle()
                self._note(None)
            except CoordinatorUnavailable as error:
                self.failed()
                self._note(error)
            except msgspec.DecodeError as error:
                _log.error("the view in the coordinator is unreadable", reason=str(error))
            # No later than a lease lapses, so that it is noticed at once.
            lapse_s = self._reader.lapse_at - self._clock.boottime()
            if not self._election.is_controller:
                lapse_s = STANDBY_S
            await self._pacing.wait(self._wait_s(), lapse_s, again=again)

    def _wait_s(self) -> float:
        """Seconds until the next cycle."""
        if not self._election.is_controller:
            return STANDBY_S
        return IDLE_CYCLE_S if self._is_settled else CYCLE_S

    async def cycle(self) -> bool:
        """Observe once and act on it; whether to look again at once. Raises `CoordinatorUnavailable`."""
        was_settled, self._is_settled = self._is_settled, False
        leases = await self._reader.read_leases()
        if not self._election.is_controller:
            self._publisher.forget()
            return False
        rows = await self._reader.read_rest(leases, may_reuse=was_settled)
        if rows.is_stopping:
            return False  # nodes that leave now leave on purpose
        view = self._publisher.view
        if view is None:
            view = await self._publisher.load()
            self._idle = None
        await refuse_renewals(self._coordinator, view, leases, self._probes.statuses())
        await remove_gone_masters(self._coordinator, self._reader.gone_masters())
        if not rows.is_reused:
            await record_time(self._coordinator, self._clock, self._boot_id, rows.time)
        again = await self._act(view, rows)
        if again is None:
            rows = await self._reader.read_rest(leases, may_reuse=False)
            again = not rows.is_stopping and await self._act(view, rows)
        return bool(again)

    async def _act(self, view: View, rows: ClusterRows) -> bool | None:
        """Plan from `rows` and publish; whether to look again at once. None: `rows` must be read anew first.

        Reused rows can only show that there is nothing to do: a plan is made from rows read in its own cycle.
        """
        proofs = self._observer.prove_dead(view, rows)
        try:
            losses = self._publisher.losses.times()
            seen = self._observer.observe(view, rows, frozenset(proofs), losses, self._target)
            mark = signature(seen)
            if mark == self._idle:
                self._is_settled = self._moves_nothing and self._observer.is_settled(seen)
                return False
            if rows.is_reused:
                return None
            began = self._clock.boottime()
            self._target = choose_target(seen)
            plan = next_view(replace(seen, target=self._target))
            if plan is not None and only_moves(plan, view) and not self._pacing.may_move:
                return False
            if plan is not None:
                return await self._publish(plan, seen, rows, began)
            self._idle = mark
            self._moves_nothing = not any(row.filling or row.awaits for row in view.table)
            await remove_done_requests(self._coordinator, view, rows)
            return False
        finally:
            for proof in proofs.values():
                proof.release()

    async def _publish(
        self, plan: Plan, seen: Observation, rows: ClusterRows, began: float
    ) -> bool:
        """Publish `plan` while still elected; whether to look again at once."""
        if not self._election.is_controller:
            return False
        raw = await self._publisher.publish(plan, rows.leases)
        if raw is None:
            # A lost race harms nothing, but the loop must not spin on it.
            return self.conflicts % 8 != 0
        if only_moves(plan, seen.view):
            self._pacing.pause_after_move(began)
        for reason in plan.reasons:
            _log.info("view", epoch=plan.view.epoch, reason=reason)
        self._on_published(seen.view, plan.view, raw)
        return True

    def failed(self) -> None:
        """The coordinator is away: while nobody could renew or read, no node is late."""
        self._reader.failed()
        self._observer.failed()
        self._publisher.forget()

    def _note(self, error: CoordinatorUnavailable | None) -> None:
        """Log that the coordinator went away, or that it is back."""
        if (error is None) != self._available:
            self._available = error is None
            if error is None:
                _log.info("controller: the coordinator is back")
            else:
                _log.warning("controller waits for the coordinator", reason=str(error))

"""The published view and the record of losses: reading them once elected, and committing the next of both."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from master.control.loss_history import LOSSES_KEY, LossHistory
from master.control.planning.observation import LeaseSeen, Plan
from ringmaster.cluster.lease import lease_key
from ringmaster.cluster.view import View, decode_view, encode_view
from ringmaster.cluster.view_follower import VIEW_KEY
from ringmaster.coordinator import Commit, Coordinator
from ringmaster.errors import CoordinatorUnavailable
from ringmaster.runtime.cluster_clock import ClusterClock


class Publisher:
    """`view`: the newest one published, as far as this master knows; None when it must be read (again).

    `conflicts` counts commits that came too late because somebody else had written first.
    """

    def __init__(self, coordinator: Coordinator, clock: ClusterClock, first: View) -> None:
        self.view: View | None = None
        self.losses = LossHistory()
        self.conflicts = 0
        self._coordinator = coordinator
        self._clock = clock
        self._first = first
        self._version = 0

    async def load(self) -> View:
        """Read the view, the first one if none was published, and the losses.

        Raises `CoordinatorUnavailable` or `msgspec.DecodeError`.
        """
        record = (await self._coordinator.read(VIEW_KEY)).get(VIEW_KEY)
        losses = (await self._coordinator.read(LOSSES_KEY)).get(LOSSES_KEY)
        if losses is not None:
            clock = self._clock
            self.losses = LossHistory.decode(losses.value, clock.boottime(), clock.now_ms() / 1000)
        if record is None:
            self.view, self._version = self._first, 0
        else:
            self.view, self._version = decode_view(record.value), record.version
        return self.view

    def forget(self) -> None:
        """Read the view again before the next plan."""
        self.view = None

    async def publish(self, plan: Plan, leases: Mapping[str, LeaseSeen]) -> bytes | None:
        """Commit `plan` and the fences it needs (R2). The view's JSON, or None if an expectation failed.

        Raises `CoordinatorUnavailable`; the plan may have been published all the same.
        """
        raw = encode_view(plan.view)
        suspended = {
            lease_key(node): msgspec.json.encode(leases[node].row.with_refused(True))
            for node in plan.suspend
        }
        losses, put = self.losses, {VIEW_KEY: raw, **suspended}
        if plan.lost:
            now = self._clock.boottime()
            losses = losses.with_lost(sorted(plan.lost), now)
            put[LOSSES_KEY] = losses.encode(now, self._clock.now_ms() / 1000)
        commit = Commit(
            expect={VIEW_KEY: self._version, **{lease_key(n): v for n, v in plan.expect.items()}},
            put=put,
            delete=frozenset(lease_key(node) for node in plan.revoke),
        )
        try:
            versions = await self._coordinator.commit(commit)
        except CoordinatorUnavailable:
            self.view = None
            raise
        if versions is None:
            self.conflicts += 1
            self.view = None
            return None
        self.view, self._version = plan.view, versions[VIEW_KEY]
        self.losses = losses
        return raw

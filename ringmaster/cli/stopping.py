"""Tells a cluster that all of it is being stopped, so that its nodes seal their data instead of moving it off."""

from __future__ import annotations

import msgspec

from ringmaster.coordinator import Commit, Coordinator
from ringmaster.coordinator.cluster_record import STOPPING_KEY
from ringmaster.runtime.clock import Clock


async def announce_stop(coordinator: Coordinator, clock: Clock, timeout_s: float = 2.0) -> None:
    """Write the key. Raises `CoordinatorUnavailable`; the nodes find out without it, only later."""
    value = msgspec.json.encode({"since": clock.wall()})
    await coordinator.commit(Commit(put={STOPPING_KEY: value}), timeout_s)


async def withdraw_stop(coordinator: Coordinator, timeout_s: float = 5.0) -> None:
    """Remove the key before anything is started. Raises `CoordinatorUnavailable`."""
    await coordinator.commit(Commit(delete=frozenset({STOPPING_KEY})), timeout_s)

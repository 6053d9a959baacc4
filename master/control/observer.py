"""From what was read and probed to the observation that a plan is made from, with what must be remembered for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Protocol

from master.control.coordinator_reader import ClusterRows
from master.control.failure_detector import cut_off_since
from master.control.planning.observation import (
    Observation,
    PlanningSettings,
    StatusSeen,
    Target,
)
from master.control.view_push import nodes_up
from ringmaster.cluster.process_lock import HeldLock, Liveness
from ringmaster.cluster.view import View
from ringmaster.config.changeable import Value, checked_values
from ringmaster.runtime.clock import Clock

LATE_S = 0.9
"""A lease that has not changed for longer is late: renewed every 0.5 s and read every 0.2 s, it is 0.7 s at most."""


class Probes(Protocol):
    """What the controller needs of `failure_detector.Prober`."""

    def statuses(self) -> Mapping[str, StatusSeen]:
        """The last status of each node."""

    def is_connected(self, node: str) -> bool:
        """Whether the link to `node` is up."""

    def unreachable(self) -> tuple[str, ...]:
        """Nodes that this master cannot reach."""


class Observer:
    """Makes observations, and remembers since when what they report has been so."""

    def __init__(
        self, clock: Clock, liveness: Liveness, probes: Probes, settings: PlanningSettings
    ) -> None:
        self._clock = clock
        self._liveness = liveness
        self._probes = probes
        self._settings = settings
        self._absent_since: dict[str, float] = {}
        self._left_since: dict[str, float] = {}
        self._cut_off_since: dict[tuple[str, str], float] = {}
        self._live: frozenset[tuple[str, str]] = frozenset()
        self._live_since = clock.boottime()

    def observe(
        self,
        view: View,
        rows: ClusterRows,
        dead: frozenset[str],
        losses: Mapping[str, tuple[float, ...]],
        target: Target | None,
    ) -> Observation:
        """The observation of now. `dead`: incarnations whose locks are held as proof (R5)."""
        now = self._clock.boottime()
        live = frozenset(
            (node, lease.row.incarnation)
            for node, lease in rows.leases.items()
            if lease.unchanged_for_s < self._settings.lease_ttl_s
            and lease.row.incarnation not in dead
        )
        if live != self._live:
            self._live, self._live_since = live, now
        self._absent_since = {
            node: self._absent_since.get(node, now)
            for node in nodes_up(view)
            if node not in rows.leases
        }
        self._left_since = {
            node: self._left_since.get(node, now) for node, info in view.nodes.items() if info.left
        }
        values = checked_values(rows.settings.values)
        statuses = self._probes.statuses()
        self._cut_off_since = cut_off_since(
            self._cut_off_since, view, statuses, now, self._settings.status_max_age_s
        )
        return Observation(
            now=now,
            view=view,
            settings=planning_with(self._settings, values),
            nodes=rows.nodes,
            leases=rows.leases,
            dead=dead,
            statuses=statuses,
            draining=rows.requested("drain"),
            forget=rows.requested("forget"),
            paused=rows.is_paused,
            eviction=str(values.get("eviction", self._settings.eviction)),
            changed=rows.settings,
            absent_for_s={node: now - since for node, since in self._absent_since.items()},
            losses=losses,
            cut_off_for_s={pair: now - since for pair, since in self._cut_off_since.items()},
            left_for_s={node: now - since for node, since in self._left_since.items()},
            stable_for_s=now - self._live_since,
            target=target,
        )

    def prove_dead(self, view: View, rows: ClusterRows) -> dict[str, HeldLock]:
        """The locks of dead processes, by incarnation; to be held until the view is published (R5)."""
        proofs: dict[str, HeldLock] = {}
        suspects = {(info.id, info.incarnation): info for info in rows.nodes.values()}
        suspects.update(
            {(info.id, info.incarnation): info for info in view.nodes.values() if info.up}
        )
        for (node, incarnation), info in suspects.items():
            listed = view.incarnation(node) == incarnation
            if info.boot_id != self._liveness.boot_id or (not listed and node not in rows.leases):
                continue
            if listed and self._probes.is_connected(node):
                continue
            proof = self._liveness.prove_dead(node, info.lock)
            if proof is not None:
                proofs[incarnation] = proof
        return proofs

    def is_settled(self, seen: Observation) -> bool:
        """Whether no node is late, out of reach, joining or leaving: whatever happens next will wake the controller."""
        return (
            seen.stable_for_s >= max(seen.settings.bootstrap_wait_s, seen.settings.settle_s)
            and seen.leases.keys() == set(nodes_up(seen.view))
            and all(lease.unchanged_for_s < LATE_S for lease in seen.leases.values())
            and all(self._probes.is_connected(node) for node in seen.leases)
        )

    def failed(self) -> None:
        """A read failed: while nobody could renew, no node counts as absent."""
        self._absent_since.clear()


def planning_with(settings: PlanningSettings, values: Mapping[str, Value]) -> PlanningSettings:
    """`settings` with what an operator has changed since."""
    fills = values.get("max_fills")
    return settings if fills is None else replace(settings, max_fills=int(fills))

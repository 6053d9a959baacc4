"""Classify each node (LIVE … VOID) from one observation (R2, R5), and say which may be targets. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum, auto

from master.control.planning.observation import Observation
from ringmaster.cluster.node_status import NodeStatus

CUT_OFF_S = 3.0
"""After so long without a connection between two live nodes, moves between them are given up. Longer than a lease
lasts, so that a node that died is recognised as dead first."""

FLAP_WINDOW_S = 300.0
FLAPS_FREE = 2
"""Losses within the window that cost no delay."""

FLAP_DELAY_S = 2.0
FLAP_DELAY_MAX_S = 60.0


class Verdict(Enum):
    """The state of an incarnation that a view lists.

    LIVE: its lease is being renewed. LIMBO: renewals are refused since a moment ago, it may still serve. LAPSED: its
    lease's number has not changed for a TTL, so it does not serve while the number stays (it can be fenced). GONE: its
    lease was revoked or given up. VOID: proven dead, or replaced by a new incarnation; it holds no data any more.
    """

    LIVE = auto()
    LIMBO = auto()
    LAPSED = auto()
    GONE = auto()
    VOID = auto()


class Verdicts:
    """The verdict on each node of `seen.view`. `joining`: nodes that want to join it. `stillborn`: see below."""

    def __init__(self, seen: Observation) -> None:
        self._seen = seen
        self._of = {
            node: self._classify(node, info.incarnation)
            for node, info in seen.view.nodes.items()
            if info.up
        }
        self.joining = frozenset(node for node in seen.nodes if self._joins(node))
        self.stillborn = frozenset(node for node in seen.nodes if self._is_stillborn(node))

    def _classify(self, node: str, incarnation: str) -> Verdict:
        seen = self._seen
        lease = seen.leases.get(node)
        registered = seen.nodes.get(node)
        replaced = (registered is not None and registered.incarnation != incarnation) or (
            lease is not None and lease.row.incarnation != incarnation
        )
        if replaced or incarnation in seen.dead:
            return Verdict.VOID
        if lease is None:
            return Verdict.GONE
        if lease.unchanged_for_s >= seen.settings.lease_ttl_s:
            return Verdict.LAPSED
        return Verdict.LIMBO if lease.row.refused else Verdict.LIVE

    def _joins(self, node: str) -> bool:
        """Registered with a live lease, and not in the view. An incarnation that a view took out stays out."""
        lease = self._seen.leases.get(node)
        return (
            lease is not None
            and self._is_unlisted(node)
            and not lease.row.refused
            and lease.unchanged_for_s < self._seen.settings.lease_ttl_s
            and lease.row.incarnation not in self._seen.dead
        )

    def _is_stillborn(self, node: str) -> bool:
        """Dead before any view listed it; its lease keeps the next incarnation of that id from registering."""
        lease = self._seen.leases.get(node)
        return (
            lease is not None
            and self._is_unlisted(node)
            and (
                lease.row.incarnation in self._seen.dead
                or lease.unchanged_for_s >= self._seen.settings.lease_ttl_s
            )
        )

    def _is_unlisted(self, node: str) -> bool:
        """Whether the view does not list the incarnation that is registered and leased as `node`."""
        info, lease = self._seen.nodes[node], self._seen.leases.get(node)
        known = self._seen.view.nodes.get(node)
        return (
            lease is not None
            and lease.row.incarnation == info.incarnation
            and (known is None or known.incarnation != info.incarnation)
        )

    def of(self, node: str) -> Verdict:
        """The verdict on what the view lists as `node`; VOID for what is not up."""
        return self._of.get(node, Verdict.VOID)

    def is_live(self, node: str) -> bool:
        """Whether it may be given partitions: it serves, or is about to."""
        return self._of.get(node) is Verdict.LIVE

    def is_void(self, node: str) -> bool:
        """Whether no copy of it exists any more."""
        return self.of(node) is Verdict.VOID

    def is_silent(self, node: str) -> bool:
        """Whether it has no valid lease, though it may still hold its data."""
        return self.of(node) in (Verdict.LAPSED, Verdict.GONE)

    def silent_for_s(self, node: str) -> float:
        """For how long it has had no valid lease, counted from its last renewal."""
        if not self.is_silent(node):
            return 0.0
        lease = self._seen.leases.get(node)
        return self._seen.absent_for_s.get(node, 0.0) if lease is None else lease.unchanged_for_s

    def status(self, node: str) -> NodeStatus | None:
        """The status of the incarnation that the view lists; None if there is none or it is too old."""
        found = self._seen.statuses.get(node)
        if (
            found is None
            or found.age_s > self._seen.settings.status_max_age_s
            or found.status.incarnation != self._seen.view.incarnation(node)
        ):
            return None
        return found.status

    def cut_off_for_s(self, one: str, other: str) -> float:
        """For how long either node has reported that it does not reach the other; 0 if neither does."""
        said = self._seen.cut_off_for_s
        return max(said.get((one, other), 0.0), said.get((other, one), 0.0))

    def is_draining(self, node: str) -> bool:
        """Whether its partitions must move off: an operator asked for it, it registered so, or it is stopping."""
        seen = self._seen
        registered = seen.nodes.get(node)
        found = seen.statuses.get(node)
        return (
            node in seen.draining
            or (registered is not None and registered.draining)
            or (
                found is not None
                and found.status.stopping
                and found.status.incarnation == seen.view.incarnation(node)
            )
        )

    def members(self) -> list[str]:
        """Nodes that should hold copies, by id: live or joining, not draining, and not held off for flapping.

        A node in limbo stays a member, so that a hiccup moves nothing; so does a flapping one that holds copies.
        """
        seen = self._seen
        present = {
            node for node, verdict in self._of.items() if verdict in (Verdict.LIVE, Verdict.LIMBO)
        }
        staying = {node for node in present | self.joining if not self.is_draining(node)}
        unsteady = {node for node in staying if held_off(seen.losses.get(node, ()), seen.now)}
        if unsteady:
            unsteady -= present & seen.view.holders()
        return sorted(staying - unsteady)


def held_off(losses: Sequence[float], now: float) -> bool:
    """Whether a node that was lost at these times (seconds, ascending) must wait before it gets copies again.

    The first losses within the window cost nothing, so that a restart heals at once; then the delay doubles.
    """
    recent = [time for time in losses if now - time < FLAP_WINDOW_S]
    if len(recent) <= FLAPS_FREE:
        return False
    delay = min(FLAP_DELAY_MAX_S, FLAP_DELAY_S * 2.0 ** (len(recent) - FLAPS_FREE - 1))
    return now - recent[-1] < delay

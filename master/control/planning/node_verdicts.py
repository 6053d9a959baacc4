"""What is to be thought of each node: pure verdicts over one observation (R2, R5), and who may be a target."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum, auto

from master.control.planning.observation import Observation
from ringmaster.cluster.node_status import NodeStatus

CUT_OFF_S = 3.0
"""For how long two live nodes must not reach each other before what moves between them is given up. Longer than a
lease lasts: a node that has died is found out before."""

FLAP_WINDOW_S = 300.0
FLAPS_FREE = 2
FLAP_DELAY_S = 2.0
FLAP_DELAY_MAX_S = 60.0


class Verdict(Enum):
    """The state of an incarnation that a view lists.

    LIVE: its lease moves. LIMBO: refused a moment ago, it may still serve. LAPSED: its number stood still for a TTL,
    so it does not serve as long as the number stays (fencing is possible). GONE: its lease was revoked or given up.
    VOID: proven dead, or replaced by a new incarnation; it holds nothing any more.
    """

    LIVE = auto()
    LIMBO = auto()
    LAPSED = auto()
    GONE = auto()
    VOID = auto()


class Verdicts:
    """Verdicts on the nodes of `seen.view`, and on those that want to join it."""

    def __init__(self, seen: Observation) -> None:
        self._seen = seen
        self._of = {
            node: self._judge(node, info.incarnation)
            for node, info in seen.view.nodes.items()
            if info.up
        }
        self.joining = frozenset(node for node in seen.nodes if self._joins(node))
        self.stillborn = frozenset(node for node in seen.nodes if self._is_stillborn(node))

    def _judge(self, node: str, incarnation: str) -> Verdict:
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
        """A registered incarnation with a live lease that the view does not know. One that was taken out stays out."""
        lease = self._seen.leases.get(node)
        return (
            lease is not None
            and self._is_news(node)
            and not lease.row.refused
            and lease.unchanged_for_s < self._seen.settings.lease_ttl_s
            and lease.row.incarnation not in self._seen.dead
        )

    def _is_stillborn(self, node: str) -> bool:
        """Registered and dead before any view listed it; its lease is in the way of the next of that id."""
        lease = self._seen.leases.get(node)
        return (
            lease is not None
            and self._is_news(node)
            and (
                lease.row.incarnation in self._seen.dead
                or lease.unchanged_for_s >= self._seen.settings.lease_ttl_s
            )
        )

    def _is_news(self, node: str) -> bool:
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
        """Whether it may be given something: it serves, or will at once."""
        return self._of.get(node) is Verdict.LIVE

    def is_void(self, node: str) -> bool:
        """Whether no copy of it exists any more."""
        return self.of(node) is Verdict.VOID

    def is_silent(self, node: str) -> bool:
        """Whether it has no valid lease, though its data may still be there."""
        return self.of(node) in (Verdict.LAPSED, Verdict.GONE)

    def silent_for_s(self, node: str) -> float:
        """For how long it has had no valid lease, counted from its last renewal."""
        if not self.is_silent(node):
            return 0.0
        lease = self._seen.leases.get(node)
        return self._seen.absent_for_s.get(node, 0.0) if lease is None else lease.unchanged_for_s

    def status(self, node: str) -> NodeStatus | None:
        """The fresh status of the incarnation that the view lists."""
        found = self._seen.statuses.get(node)
        if (
            found is None
            or found.age_s > self._seen.settings.status_max_age_s
            or found.status.incarnation != self._seen.view.incarnation(node)
        ):
            return None
        return found.status

    def cut_off_for_s(self, one: str, other: str) -> float:
        """For how long one of two nodes has said that it does not reach the other; 0 if neither does."""
        said = self._seen.cut_off_for_s
        return max(said.get((one, other), 0.0), said.get((other, one), 0.0))

    def is_draining(self, node: str) -> bool:
        """Whether its partitions must move off: asked for, announced at registration, or stopping."""
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
        """Nodes that should hold copies, by id: live or joining, staying, and not held off for flapping.

        A node in limbo stays a member, so that a hiccup moves nothing; so does one that flaps but holds copies.
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
    """Whether a node that was lost at these times (seconds, ascending) must wait before it is given copies again.

    The first losses within the window are free, so that a restart heals at once; then the wait doubles.
    """
    recent = [time for time in losses if now - time < FLAP_WINDOW_S]
    if len(recent) <= FLAPS_FREE:
        return False
    delay = min(FLAP_DELAY_MAX_S, FLAP_DELAY_S * 2.0 ** (len(recent) - FLAPS_FREE - 1))
    return now - recent[-1] < delay

"""The planner's input and output: an observation, its settings, a plan. Data only; times in seconds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ringmaster.cluster.lease import LeaseRow
from ringmaster.cluster.node_status import NodeStatus
from ringmaster.cluster.runtime_settings import NOTHING_CHANGED, RuntimeSettings
from ringmaster.cluster.timing import LEASE_TTL_S
from ringmaster.cluster.view import NodeInfo, View
from ringmaster.config.eviction import DEFAULT_POLICY
from ringmaster.placement.placement import Method, PlacementNode, Row


@dataclass(frozen=True, slots=True)
class PlanningSettings:
    """`settle_s`: how long the membership must be unchanged before copies are moved for balance alone.

    `max_fills`: copies being filled at one time; `max_fills_per_node`: on one receiving node. `max_handovers`: planned
    changes of primary under way. `expect_nodes`: a cold start appoints primaries once so many nodes are there (0: once
    nothing has changed for `bootstrap_wait_s`). `status_max_age_s`: an older status counts as none.
    `max_move_pause_s`: the longest pause between two views that only move copies. `left_forgotten_s`: for how long a node that
    left in good order is listed. `eviction`: the policy, unless an operator has asked for another.
    """

    replicas: int = 2
    method: Method = "ring"
    lease_ttl_s: float = LEASE_TTL_S
    sole_copy_wait_s: float = 30.0
    bootstrap_wait_s: float = 1.0
    expect_nodes: int = 0
    settle_s: float = 1.0
    max_fills: int = 128
    max_fills_per_node: int = 64
    max_handovers: int = 64
    status_max_age_s: float = 2.0
    max_move_pause_s: float = 2.0
    left_forgotten_s: float = 600.0
    eviction: str = DEFAULT_POLICY


@dataclass(frozen=True, slots=True)
class LeaseSeen:
    """A lease's row, the version of its record, and for how long that has not changed (`LeaseWatch`)."""

    row: LeaseRow
    version: int
    unchanged_for_s: float


@dataclass(frozen=True, slots=True)
class StatusSeen:
    """A node's last status, and its age."""

    status: NodeStatus
    age_s: float


@dataclass(frozen=True, slots=True)
class Target:
    """Where every copy should be, for one set of members. `key` identifies that set; see `choose_target`."""

    key: tuple[object, ...]
    nodes: tuple[PlacementNode, ...]
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class Observation:
    """Everything that a plan depends on, at one point in time.

    `nodes`, `leases`, `statuses` are by node id, as registered. `dead`: incarnations that are proven dead (R5).
    `absent_for_s`: for how long a node of the view has had no lease row at all. `losses`: when nodes were lost lately
    (boottime), for the flap guard. `cut_off_for_s`: for how long a node has reported that it does not reach another, by
    (reporting node, other node). `left_for_s`: for how long the view has listed a node as
    left. `eviction`: the policy that is to hold. `changed`: the settings that operators ask for. `stable_for_s`: since the set of live nodes last changed. `target`: the last one
    used, kept while the members are the same.
    """

    now: float
    view: View
    settings: PlanningSettings
    nodes: Mapping[str, NodeInfo] = field(default_factory=dict)
    leases: Mapping[str, LeaseSeen] = field(default_factory=dict)
    dead: frozenset[str] = frozenset()
    statuses: Mapping[str, StatusSeen] = field(default_factory=dict)
    draining: frozenset[str] = frozenset()
    forget: frozenset[str] = frozenset()
    paused: bool = False
    eviction: str = DEFAULT_POLICY
    changed: RuntimeSettings = NOTHING_CHANGED
    absent_for_s: Mapping[str, float] = field(default_factory=dict)
    losses: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    cut_off_for_s: Mapping[tuple[str, str], float] = field(default_factory=dict)
    left_for_s: Mapping[str, float] = field(default_factory=dict)
    stable_for_s: float = 0.0
    target: Target | None = None

    @property
    def next_epoch(self) -> int:
        """Above the view and above the term of every snapshot, so that no version repeats (R10)."""
        terms = (seen.status.snapshot_term for seen in self.statuses.values())
        return max(self.view.epoch, *terms, 0) + 1


@dataclass(frozen=True, slots=True)
class Plan:
    """The next view, and what must hold for it to be published, all in one commit.

    `expect`: the version that each of these nodes' leases must have (0 = absent). `revoke`: of those, the ones to
    delete. `suspend`: of those, the ones to refuse instead; the node's incarnation keeps the copies still listed for
    it, and gets its lease back once it follows the view. `lost`: nodes that this plan takes out (for `losses`).
    `reasons`: for the log, one sentence each.
    """

    view: View
    expect: Mapping[str, int]
    revoke: frozenset[str]
    suspend: frozenset[str]
    lost: frozenset[str]
    reasons: tuple[str, ...]

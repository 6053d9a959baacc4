"""`GET /cluster` and `/readyz` as pure functions of what this master knows: view, node statuses, other masters."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import msgspec

from master.api.view_tally import Tally, tally
from ringmaster.cluster.node_status import NodeStatus
from ringmaster.cluster.registration import MasterRow
from ringmaster.cluster.view import NodeInfo, View

NODE_STATES = ("up", "draining", "drained", "unreachable", "left", "down")
"""Every state that a node may have."""

SERVING = frozenset({"up", "draining", "drained"})
"""The states of nodes that answer."""


WALL_CLOCK_OFF_MS = 1000
"""A wall clock that differs from cluster time by more is named."""


_REMEDY = {"down": "; if it is not to come back: ringmaster forget {}"}


class MasterSummary(msgspec.Struct, frozen=True):
    """One master that is alive."""

    id: str
    address: str
    pid: int


class NodeSummary(msgspec.Struct, frozen=True, kw_only=True):
    """One node. `state`: as `node_state` says, or unreachable: in the view, but this master has no answer from it.

    `wall_ahead_ms`: by how much its wall clock is ahead of cluster time.
    """

    id: str
    incarnation: str
    state: str
    address: str
    pid: int
    zone: str
    weight: float
    primaries: int
    replicas: int
    filling: int
    entries: int
    bytes: int
    max_bytes: int
    usable_bytes: int
    process_bytes: int
    hits: int
    misses: int
    writes: int
    evictions: int
    wall_ahead_ms: int


class Rebalance(msgspec.Struct, frozen=True, kw_only=True):
    """`moving`: copies being filled and primaries being handed over. `moved_*` count since the nodes started."""

    active: bool
    paused: bool
    moving: int
    moved_keys: int
    moved_bytes: int
    eta_s: float | None


class Restore(msgspec.Struct, frozen=True, kw_only=True):
    """After the loss of every copy. `partitions`: not loaded yet. `entries`: loaded since the nodes started."""

    active: bool
    partitions: int
    entries: int


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """The whole reply. `health`, all but ok with `reasons`: ok, recovering, degraded, down.

    Reasons beside ok: wall clocks that are all off alike, as after a step of the hosts' only clock, harm nothing.

    Recovering: every node is there and the copies that lack are being made, as after a start. Degraded: something is
    in the way of that. Down: nothing can be served.
    """

    cluster: str
    epoch: int
    controller: str | None
    partitions: int
    replicas: int
    eviction: str
    nodes: list[NodeSummary]
    masters: Sequence[MasterSummary]
    under_replicated: int
    rebalance: Rebalance
    restore: Restore
    health: str
    reasons: list[str]


def summarize(
    view: View,
    statuses: Mapping[str, NodeStatus],
    *,
    masters: Sequence[MasterRow],
    controller: str | None,
    coordinator_available: bool,
    eta_s: float | None,
    counted: Tally | None = None,
) -> Summary:
    """`statuses`: the latest answer of each node that answers this master; a node without one is unreachable.

    `counted`: the tally of `view`, if it is there already.
    """
    counted = counted or tally(view)
    moving, under_replicated = counted.moving, counted.under_replicated
    nodes = [
        _node_row(
            info,
            statuses.get(info.id),
            counted.copies.get(info.id, (0, 0, 0)),
            has_released=info.id not in counted.awaited,
        )
        for info in view.nodes.values()
    ]
    restoring = _restoring(view, statuses, counted.primaries)
    eta_s = eta_s if moving or under_replicated else 0.0
    suspended = _suspended(view, statuses)
    faults = _faults(view, nodes, under_replicated, coordinator_available=coordinator_available)
    faults += [
        f"node {node} may not serve: its lease is not renewed; can the coordinator be written?"
        for node in suspended
    ]
    faults += [
        f"node {node}: {sentence}"
        for node, status in sorted(statuses.items())
        for sentence in status.snapshot_problems
    ]
    notes = _clocks(nodes)
    if _clocks_differ(nodes):
        faults, notes = faults + notes, []
    lacks = _lacks(view, under_replicated, restoring, eta_s)
    serving = [row for row in nodes if row.state in SERVING and row.id not in suspended]
    health = _health(view, serving, faults, lacks, is_led=controller is not None)
    return Summary(
        cluster=view.cluster,
        epoch=view.epoch,
        controller=controller,
        partitions=view.partitions,
        replicas=view.replicas,
        eviction=view.eviction,
        nodes=sorted(nodes, key=lambda row: row.id),
        masters=[MasterSummary(row.id, row.address, row.pid) for row in masters],
        under_replicated=under_replicated,
        rebalance=Rebalance(
            active=moving > 0,
            paused=view.paused,
            moving=moving,
            moved_keys=sum(status.filled_keys for status in statuses.values()),
            moved_bytes=sum(status.filled_bytes for status in statuses.values()),
            eta_s=eta_s,
        ),
        restore=Restore(
            active=restoring > 0,
            partitions=restoring,
            entries=sum(status.restored_entries for status in statuses.values()),
        ),
        health=health,
        reasons=faults + lacks + notes,
    )


def _restoring(view: View, statuses: Mapping[str, NodeStatus], primaries: Collection[str]) -> int:
    """Partitions that their `primaries` are loading from snapshots, or about to: appointed anew, and not heard of since."""
    found = 0
    for node in primaries:
        status = statuses.get(node)
        if status is None or status.incarnation != view.incarnation(node):
            continue
        found += len(status.restoring)
        if status.epoch < view.epoch:
            found += sum(
                row.primary == node and row.term > status.epoch and not row.replicas
                for row in view.table
            )
    return found


def unready(view: View, statuses: Mapping[str, NodeStatus]) -> list[str]:
    """Why not every partition can be served through this master; empty when all can."""
    without = sum(row.primary is None for row in view.table)
    reasons = [] if without == 0 else [f"{without} of {view.partitions} partitions have no primary"]
    primaries = {row.primary for row in view.table if row.primary is not None}
    if restoring := _restoring(view, statuses, primaries):
        reasons.append(f"restoring {restoring} of {view.partitions} partitions from snapshots")
    silent = sorted(node for node in primaries if not _answers(view, statuses, node))
    if silent:
        reasons.append(f"no answer from {', '.join(silent)}")
    if suspended := [node for node in _suspended(view, statuses) if node in primaries]:
        reasons.append(f"the leases are not renewed of {', '.join(suspended)}")
    return reasons


def _suspended(view: View, statuses: Mapping[str, NodeStatus]) -> list[str]:
    """Nodes that take part and answer, but that no lease permits to serve at present (R2)."""
    return sorted(
        node
        for node, info in view.nodes.items()
        if info.up and _answers(view, statuses, node) and statuses[node].lease_left_s <= 0.0
    )


def _answers(view: View, statuses: Mapping[str, NodeStatus], node: str) -> bool:
    status = statuses.get(node)
    return status is not None and status.incarnation == view.incarnation(node)


def node_state(info: NodeInfo, *, drains: bool, holds: bool) -> str:
    """up, draining, drained (it holds no copy any more: it may stop), left (and so it did), down.

    `drains`: whether it is to move everything off; `holds`: whether a copy, or the role of a primary, is still its.
    """
    if not info.up:
        return "left" if info.left else "down"
    if drains:
        return "draining" if holds else "drained"
    return "up"


def _node_row(
    info: NodeInfo, status: NodeStatus | None, counts: tuple[int, int, int], *, has_released: bool
) -> NodeSummary:
    if status is not None and status.incarnation != info.incarnation:
        status = None
    drains = info.draining or (status is not None and status.stopping)
    state = node_state(info, drains=drains, holds=any(counts) or not has_released)
    if info.up and status is None:
        state = "unreachable"
    figures = status or NodeStatus(
        id=info.id, incarnation=info.incarnation, epoch=0, lease_left_s=0.0
    )
    return NodeSummary(
        id=info.id,
        incarnation=info.incarnation,
        state=state,
        address=info.address,
        pid=info.pid,
        zone=info.zone,
        weight=info.weight,
        primaries=counts[0],
        replicas=counts[1],
        filling=counts[2],
        entries=figures.entries,
        bytes=figures.bytes,
        max_bytes=figures.max_bytes or info.max_bytes,
        usable_bytes=figures.usable_bytes,
        process_bytes=figures.process_bytes,
        hits=figures.hits,
        misses=figures.misses,
        writes=figures.writes,
        evictions=figures.evictions,
        wall_ahead_ms=figures.wall_ahead_ms,
    )


def _faults(
    view: View, nodes: Sequence[NodeSummary], under_replicated: int, *, coordinator_available: bool
) -> list[str]:
    """What does not mend itself, or only once somebody or something comes back."""
    faults = [
        f"node {row.id} is {row.state}{_REMEDY.get(row.state, '').format(row.id)}"
        for row in nodes
        if row.state in ("down", "unreachable")
    ]
    members = sum(row.state == "up" for row in nodes)
    if not faults and under_replicated and 0 < members < view.replicas:
        they = "node takes" if members == 1 else "nodes take"
        faults.append(
            f"{view.replicas} copies of each partition are wanted, but only {members} {they} part"
        )
    if not coordinator_available:
        faults.append("the coordinator is unavailable; data is served with the last view")
    return faults


def _clocks(nodes: Sequence[NodeSummary]) -> list[str]:
    """Which nodes' wall clocks are off. Expiry does not depend on them, but logs do, and the next start from nothing."""
    return [
        f"the wall clock of {row.id} is {abs(row.wall_ahead_ms) / 1000:.1f} s"
        f" {'ahead of' if row.wall_ahead_ms > 0 else 'behind'} cluster time"
        for row in nodes
        if abs(row.wall_ahead_ms) > WALL_CLOCK_OFF_MS
    ]


def _clocks_differ(nodes: Sequence[NodeSummary]) -> bool:
    walls = [row.wall_ahead_ms for row in nodes if row.state in SERVING]
    return bool(walls) and max(walls) - min(walls) > WALL_CLOCK_OFF_MS


def _lacks(view: View, under_replicated: int, restoring: int, eta_s: float | None) -> list[str]:
    """What the cluster mends by itself while nothing is in its way, with its progress."""
    lacks = []
    without = sum(row.primary is None for row in view.table)
    if without:
        lacks.append(f"{without} of {view.partitions} partitions have no primary")
    if under_replicated > without:
        left = f", about {eta_s:.0f} s left" if eta_s else ""
        whole = view.partitions - under_replicated
        lacks.append(
            f"{whole} of {view.partitions} partitions have their {view.replicas} copies{left}"
        )
    if restoring:
        lacks.append(f"{restoring} partitions are being restored from their snapshots")
    return lacks


def _health(
    view: View,
    serving: Sequence[NodeSummary],
    faults: Sequence[str],
    lacks: Sequence[str],
    *,
    is_led: bool,
) -> str:
    if all(row.primary is None for row in view.table) or not serving:
        return "down"
    if faults or (lacks and not is_led):
        return "degraded"
    return "recovering" if lacks else "ok"

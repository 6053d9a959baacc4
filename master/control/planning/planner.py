"""The next view: a pure function of one observation.

`node_verdicts.py` classifies nodes, `target.py` says where copies should be, `repair.py` repairs rows after failures,
`rebalance.py` moves them towards the target. Here: which nodes the view lists, and which leases it fences.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import msgspec

from master.control.planning.node_verdicts import CUT_OFF_S, Verdict, Verdicts, held_off
from master.control.planning.observation import Observation, Plan
from master.control.planning.rebalance import RebalanceStep
from master.control.planning.repair import Repair
from master.control.planning.target import choose_target, member_info
from ringmaster.cluster.runtime_settings import RuntimeSettings, described
from ringmaster.cluster.view import NodeInfo, Partition, View, holders


def next_view(seen: Observation) -> Plan | None:
    """The view that should follow `seen.view`, or None if nothing needs to change.

    Safe whatever is missing from `seen`: a node that is not known to be dead or fenced keeps its roles. Repeated with
    the reports that follow, and without further faults, it converges to the target placement.
    """
    verdicts = Verdicts(seen)
    target = choose_target(seen, verdicts)
    repair = Repair(seen, verdicts, target)
    rows = [repair.repaired(number, row) for number, row in enumerate(seen.view.table)]
    rebalance = RebalanceStep(rows, seen, verdicts, target)
    rebalance.run()
    nodes = _nodes(seen, verdicts, rows)
    view = View(
        cluster=seen.view.cluster,
        epoch=seen.next_epoch,
        replicas=seen.settings.replicas,
        table=tuple(rows),
        nodes=nodes,
        paused=seen.paused,
        eviction=seen.eviction,
        settings=_settings(seen),
    )
    if msgspec.structs.replace(view, epoch=seen.view.epoch) == seen.view:
        return None
    fences = _fences(seen, verdicts, view)
    # A node that was drained leaves in good order: that is no flap.
    lost = {
        node
        for node, info in seen.view.nodes.items()
        if info.up
        and view.incarnation(node) != info.incarnation
        and not (info.draining or verdicts.is_draining(node))
    }
    counted = repair.reasons + rebalance.reasons
    reasons = [
        *_membership(seen, verdicts, view),
        *(f"copies on {node} dropped: {count}" for node, count in sorted(repair.lagging.items())),
        *(f"{what}: {count}" for what, count in sorted(counted.items())),
    ]
    return Plan(view, *fences, frozenset(lost | set(repair.lagging)), tuple(reasons))


def only_moves(plan: Plan, before: View) -> bool:
    """Whether the view after `plan` is not urgent: `plan` changes no node, and every partition has a primary."""
    return (
        not (plan.lost or plan.revoke or plan.suspend)
        and plan.view.nodes == before.nodes
        and all(row.primary is not None for row in before.table)
    )


def signature(seen: Observation) -> Hashable:
    """What `next_view` depends on; of times only which thresholds they have crossed. Equal signatures, equal answers.

    It reads nodes, never the table, so that an idle cluster costs next to nothing: the epoch stands for the view, and
    the target's inputs for the target (`seen.target` may be missing). `World.step` of the planning machine
    (`tests/stateful/planning_world.py`) compares it with `next_view`.
    """
    verdicts = Verdicts(seen)
    settings = seen.settings
    states = tuple(
        (node, verdicts.of(node), verdicts.silent_for_s(node) >= settings.sole_copy_wait_s)
        for node in seen.view.nodes
    )
    reports = tuple(
        (
            node,
            status.epoch,
            status.snapshot_term if status.restoring else 0,
            tuple(status.caught_up),
            tuple(status.lagging),
            tuple(status.awaiting),
            tuple(status.released),
        )
        for node in seen.view.nodes
        for status in [verdicts.status(node)]
        if status is not None
    )
    flags = (
        seen.paused,
        seen.eviction,
        seen.changed.version,
        seen.draining,
        seen.forget | _long_left(seen),
        seen.stable_for_s >= settings.bootstrap_wait_s,
        seen.stable_for_s >= settings.settle_s,
    )
    draining = tuple(node for node in seen.view.nodes if verdicts.is_draining(node))
    flapping = tuple(
        node for node, times in sorted(seen.losses.items()) if held_off(times, seen.now)
    )
    registered = tuple(sorted(seen.nodes.items()))
    cuts = tuple((pair, for_s >= CUT_OFF_S) for pair, for_s in sorted(seen.cut_off_for_s.items()))
    fresh = (verdicts.joining, verdicts.stillborn, registered)
    return seen.view.epoch, settings, states, reports, flags, draining, flapping, fresh, cuts


def _nodes(seen: Observation, verdicts: Verdicts, rows: Sequence[Partition]) -> dict[str, NodeInfo]:
    """The nodes of the next view, as registered: down without copies and lease, left out if to be forgotten.

    Who ends after it was drained has left, and is forgotten after a while without being asked for.
    """
    listed = holders(rows)
    forgotten = seen.forget | _long_left(seen)
    nodes: dict[str, NodeInfo] = {}
    for node in sorted({*seen.view.nodes, *verdicts.joining}):
        if node in verdicts.joining:
            up = True
            info = seen.nodes[node]
        else:
            info = seen.view.nodes[node]
            up = info.up and not (
                verdicts.is_void(node) or (verdicts.is_silent(node) and node not in listed)
            )
            registered = member_info(seen, node)
            if up and registered.incarnation == info.incarnation:
                info = registered
            if not up and node in forgotten:
                continue
        drains = verdicts.is_draining(node)
        left = info.left
        if info.up:
            left = not up and (drains or info.draining) and node not in seen.view.holders()
        nodes[node] = msgspec.structs.replace(info, up=up, draining=up and drains, left=left)
    for node in sorted(verdicts.stillborn):
        nodes[node] = msgspec.structs.replace(seen.nodes[node], up=False)
    return nodes


def _settings(seen: Observation) -> RuntimeSettings | msgspec.UnsetType:
    """None in the view before somebody has changed one."""
    return seen.changed if seen.changed.version else msgspec.UNSET


def _long_left(seen: Observation) -> frozenset[str]:
    least_s = seen.settings.left_forgotten_s
    return frozenset(node for node, for_s in seen.left_for_s.items() if for_s >= least_s)


def _fences(
    seen: Observation, verdicts: Verdicts, view: View
) -> tuple[dict[str, int], frozenset[str], frozenset[str]]:
    """Leases that must not have changed since they were read: (expected versions, to revoke, to suspend), by node id.

    A node that the view takes out is revoked. A node that stays, since its copies exist nowhere else, but is deposed as
    a primary, is suspended: otherwise it would go on serving by the old view once its renewals succeed again.
    """
    expect: dict[str, int] = {}
    revoke: set[str] = set()
    suspend: set[str] = set()
    deposed = _deposed(seen.view, view)
    for node in verdicts.stillborn:
        expect[node] = seen.leases[node].version
        revoke.add(node)
    for node, info in seen.view.nodes.items():
        if not info.up:
            continue
        lease = seen.leases.get(node)
        out = view.incarnation(node) != info.incarnation
        if lease is not None and lease.row.incarnation != info.incarnation:
            continue  # its successor's
        if out or (node in deposed and verdicts.is_silent(node)):
            expect[node] = 0 if lease is None else lease.version
            if lease is not None:
                (revoke if out else suspend).add(node)
    return expect, frozenset(revoke), frozenset(suspend)


def _deposed(before: View, after: View) -> set[str]:
    """Nodes that `before` lists as primary or awaited predecessor of a partition, and `after` does not."""
    deposed: set[str] = set()
    for old, new in zip(before.table, after.table, strict=True):
        if old is not new:
            deposed.update({old.primary, old.awaits} - {new.primary, new.awaits, None})  # type: ignore[arg-type]
    return deposed


def _membership(seen: Observation, verdicts: Verdicts, view: View) -> list[str]:
    reasons = []
    for node, info in view.nodes.items():
        before = seen.view.nodes.get(node)
        if info.up and (before is None or not before.up):
            reasons.append(f"{node} joins as {info.incarnation}")
        elif info.up and before is not None and before.incarnation != info.incarnation:
            reasons.append(
                f"{node} is back as {info.incarnation}; what {before.incarnation} held is void"
            )
        elif not info.up and before is not None and before.up:
            state = "has left" if info.left else "is down"
            reasons.append(f"{node} {state}: {_why(seen, verdicts, node)}")
        elif before is not None and info.draining != before.draining:
            reasons.append(f"{node} {'drains' if info.draining else 'drains no more'}")
    reasons += [f"{node} is forgotten" for node in seen.view.nodes if node not in view.nodes]
    if view.paused != seen.view.paused:
        reasons.append("rebalancing is paused" if view.paused else "rebalancing goes on")
    if view.eviction != seen.view.eviction:
        reasons.append(f"evictions by {view.eviction} from now on")
    reasons += described(view.changed_settings.values, seen.view.changed_settings.values)
    if view.replicas != seen.view.replicas:
        reasons.append(f"{view.replicas} copies of each partition from now on")
    return reasons


def _why(seen: Observation, verdicts: Verdicts, node: str) -> str:
    if seen.view.nodes[node].incarnation in seen.dead:
        return "its process is proven dead"
    match verdicts.of(node):
        case Verdict.LAPSED:
            return f"its lease has not been renewed for {verdicts.silent_for_s(node):.1f} s"
        case Verdict.GONE:
            return "its lease was given up or revoked"
        case _:
            return "it was replaced"

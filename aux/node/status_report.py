"""What a node reports of itself and of its copies: pure readings of its state."""

from __future__ import annotations

from aux.node.node import Node
from aux.node.roles import Roles
from aux.replication.lag import is_lagging
from aux.replication.primary import Copy, Primary
from ringmaster.cluster.node_status import CopyReport, NodeStatus


def status_of(node: Node) -> NodeStatus:
    """For the controller and the console. To report a copy as caught up binds us to wait for it (R3)."""
    roles, loader = node.roles, node.roles.loader
    now = node.clock.boottime()
    caught_up, lagging = _copies(node, now)
    # Asked for ten times a second by every master: nothing is gone through that cannot have something to say.
    waiting = [primary for primary in roles.primaries.values() if not primary.serving]
    awaiting = [*roles.awaiting]
    awaiting += [primary.number for primary in waiting if primary.number not in roles.releasing]
    return NodeStatus(
        id=node.id,
        incarnation=node.incarnation,
        epoch=roles.epoch,
        lease_left_s=node.clock.lease.held_until - now,
        caught_up=caught_up,
        lagging=lagging,
        awaiting=awaiting,
        released=_released(roles),
        unreachable=node.peers.unreachable(),
        restoring=[primary.number for primary in waiting if primary.restoring],
        snapshot_term=0 if loader is None else loader.highest_term,
        restored_entries=0 if loader is None else loader.loaded_entries,
        snapshot_problems=[] if loader is None else loader.problems(),
        stopping=node.stopping,
        spares_canaries=True,
        now_ms=node.clock.now_ms(),
        wall_ahead_ms=node.clock.wall_ahead_ms(),
        entries=node.store.entries,
        bytes=node.store.bytes,
        max_bytes=node.store.max_bytes,
        usable_bytes=max(0, node.store.max_bytes - node.store.overhead_bytes),
        process_bytes=node.options.resident_bytes(),
        fill_bytes_per_s=node.filler.bytes_per_s,
        hits=node.counters.hits + node.counters.copy_hits,
        misses=node.counters.misses,
        writes=node.counters.writes,
        evictions=node.counters.evictions,
        expirations=node.counters.expirations,
        invalidations=node.counters.invalidations,
        filled_keys=node.filler.filled_keys,
        filled_bytes=node.filler.filled_bytes,
    )


def _released(roles: Roles) -> list[tuple[int, int]]:
    """Partitions it has stopped to serve for good, by the term of the successor that is still to hear of it."""
    if roles.view is None:
        return []
    table = roles.view.table
    return [
        (number, table[number].term) for number in roles.releasing if number not in roles.primaries
    ]


def _copies(node: Node, now: float) -> tuple[list[CopyReport], list[CopyReport]]:
    """(caught up, lagging). A node without its lease reports no copy as lagging.

    A filled copy has caught up once all is *committed* that was sequenced before writes began to wait for it: it got
    that by the scan, without numbers, so it could not tell a successor which of it another copy may lack (R6). And
    once it has acknowledged as much: what was written during the last slice may be committed and still on its way to it.
    """
    caught_up: list[CopyReport] = []
    lagging: list[CopyReport] = []
    held = now < node.clock.lease.held_until
    for primary in node.roles.primaries.values():
        for copy in primary.copies.values():
            if not (copy.lost or copy.behind_since or copy.fill_session) or not copy.required:
                continue  # as nearly all are nearly always
            if copy.lost or is_lagging(copy, now):
                if held:
                    lagging.append(_report(primary, copy))
            elif copy.fill_session and min(primary.committed, copy.acked) >= copy.in_sync_from:
                caught_up.append(_report(primary, copy))
    return caught_up, lagging


def _report(primary: Primary, copy: Copy) -> CopyReport:
    return CopyReport(primary.number, primary.term, copy.node, copy.fill_session)

"""What a node reports of itself and of its copies: pure readings of its state."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aux.replication.primary import Copy, CopyState, Primary
from ringmaster.cluster.node_status import CopyReport, NodeStatus

if TYPE_CHECKING:
    from aux.node.node import Node

LAG_S: Final = 1.0
"""A required copy that makes no progress for this long is reported as lagging."""

LAG_SAMPLE_S: Final = 0.2
"""How often progress is looked at."""


def measure_lag(copy: Copy, seq: int, now: float, *, stalled: bool) -> None:
    """Note since when a required copy has made no progress; `stalled`: we were stopped ourselves."""
    behind = copy.state is not CopyState.STREAMING or copy.acked < seq
    if not behind:
        copy.behind_since = 0.0
    elif stalled or not copy.behind_since or copy.acked != copy.seen_acked:
        copy.behind_since = now
    copy.seen_acked = copy.acked


def status_of(node: Node) -> NodeStatus:
    """For the controller and the console. To report a copy as caught up binds us to wait for it (R3)."""
    now = node.clock.boottime()
    caught_up, lagging = _copies(node, now)
    # Asked for ten times a second by every master: nothing is gone through that cannot have something to say.
    waiting = [primary for primary in node.primaries.values() if not primary.serving]
    awaiting = [*node.awaiting]
    awaiting += [primary.number for primary in waiting if primary.number not in node.releasing]
    return NodeStatus(
        id=node.id,
        incarnation=node.incarnation,
        epoch=node.epoch,
        lease_left_s=node.lease.held_until - now,
        caught_up=caught_up,
        lagging=lagging,
        awaiting=awaiting,
        released=_released(node),
        unreachable=node.peers.unreachable(),
        restoring=[primary.number for primary in waiting if primary.restoring],
        snapshot_term=0 if node.loader is None else node.loader.highest_term,
        restored_entries=0 if node.loader is None else node.loader.loaded_entries,
        snapshot_problems=[] if node.loader is None else node.loader.problems(),
        stopping=node.stopping,
        entries=node.store.entries,
        bytes=node.store.bytes,
        max_bytes=node.options.max_bytes,
        usable_bytes=max(0, node.options.max_bytes - node.store.overhead_bytes),
        process_bytes=node.options.resident_bytes(),
        fill_bytes_per_s=node.options.fill_bytes_per_s,
        hits=node.counters.hits,
        misses=node.counters.misses,
        evictions=node.counters.evictions,
        expirations=node.counters.expirations,
        filled_keys=node.filler.filled_keys,
        filled_bytes=node.filler.filled_bytes,
    )


def _released(node: Node) -> list[tuple[int, int]]:
    """Partitions it has stopped to serve for good, by the term of the successor that is still to hear of it."""
    if node.view is None:
        return []
    table = node.view.table
    return [
        (number, table[number].term) for number in node.releasing if number not in node.primaries
    ]


def _copies(node: Node, now: float) -> tuple[list[CopyReport], list[CopyReport]]:
    """(caught up, lagging). Who does not hold its lease blames nobody.

    A filled copy has caught up once all is *committed* that was sequenced before writes began to wait for it: it got
    that by the scan, without numbers, so it could not tell a successor which of it another copy may lack (R6). And
    once it has acknowledged as much: what was written during the last slice may be committed and still on its way to it.
    """
    caught_up: list[CopyReport] = []
    lagging: list[CopyReport] = []
    held = now < node.lease.held_until
    for primary in node.primaries.values():
        for copy in primary.copies.values():
            if not (copy.lost or copy.behind_since or copy.fill_session) or not copy.required:
                continue  # as nearly all are nearly always
            if copy.lost or (copy.behind_since and now - copy.behind_since > LAG_S):
                if held:
                    lagging.append(_report(primary, copy))
            elif copy.fill_session and min(primary.committed, copy.acked) >= copy.in_sync_from:
                caught_up.append(_report(primary, copy))
    return caught_up, lagging


def _report(primary: Primary, copy: Copy) -> CopyReport:
    return CopyReport(primary.number, primary.term, copy.node, copy.fill_session)

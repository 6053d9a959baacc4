"""What it would take to move everything off a node, told before it is done. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import msgspec

from ringmaster.cluster.node_status import NodeStatus
from ringmaster.cluster.view import NodeInfo, View

COPIES_PER_S = 60.0
"""Empty copies that a drain moves in a second, with its rests (measured: 716 of one of three nodes in 12 s)."""


class DrainForecast(msgspec.Struct, frozen=True, kw_only=True):
    """`copies` and `bytes` are on the node now; `seconds` is a guess at how long they take to move.

    `too_few_copies`: partitions that would be left with fewer copies than the cluster should have, because the nodes
    that `stay` are too few. `lost`: of those, the ones without any: they cannot be moved off, the drain never ends.
    """

    node: str
    copies: int
    bytes: int
    seconds: float
    stay: int
    too_few_copies: int
    lost: int


def forecast_drain(
    view: View,
    statuses: Mapping[str, NodeStatus],
    node: NodeInfo,
    asked: Collection[str] = (),
) -> DrainForecast:
    """For a `node` of `view`. `statuses`: the latest answer of each node; `asked`: nodes whose drain is asked for."""
    stay = sum(
        other.up and other.id not in {node.id, *asked} and not _drains(other, statuses)
        for other in view.nodes.values()
    )
    copies = sum(
        node.id in row.in_sync or row.session_of(node.id) is not None for row in view.table
    )
    status = statuses.get(node.id)
    held = 0 if status is None or status.incarnation != node.incarnation else status.bytes
    pace = 0 if status is None else status.fill_bytes_per_s
    return DrainForecast(
        node=node.id,
        copies=copies,
        bytes=held,
        seconds=round(copies / COPIES_PER_S + (held / pace if pace else 0.0), 1),
        stay=stay,
        too_few_copies=copies if stay < view.replicas else 0,
        lost=0 if stay else copies,
    )


def _drains(node: NodeInfo, statuses: Mapping[str, NodeStatus]) -> bool:
    status = statuses.get(node.id)
    return node.draining or (
        status is not None and status.stopping and status.incarnation == node.incarnation
    )

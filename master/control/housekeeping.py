"""What the controller writes beside views: refused renewals, and the removal of rows that nobody needs any more."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import structlog

from master.control.coordinator_reader import ClusterRows, LeaseRows
from master.control.failure_detector import refusals, unreachable_by_most
from master.control.planning.observation import StatusSeen
from master.control.view_push import nodes_up
from ringmaster.cluster.lease import lease_key
from ringmaster.cluster.registration import node_key
from ringmaster.cluster.view import View
from ringmaster.coordinator import Commit, Coordinator

_log = structlog.get_logger(__name__)


async def refuse_renewals(
    coordinator: Coordinator, view: View, rows: LeaseRows, statuses: Mapping[str, StatusSeen]
) -> None:
    """Refuse the renewals of nodes that most masters cannot reach, and allow them again (R2)."""
    up = frozenset(nodes_up(view))
    unreachable = unreachable_by_most((row.unreachable for row in rows.masters.values()), up)
    for node, row in refusals(view, rows.leases, statuses, unreachable).items():
        key = lease_key(node)
        commit = Commit(
            expect={key: rows.leases[node].version}, put={key: msgspec.json.encode(row)}
        )
        if await coordinator.commit(commit) is not None:
            _log.warning(
                "renewals refused: most masters cannot reach it"
                if row.refused
                else "renewals allowed again",
                node=node,
            )


async def remove_gone_masters(coordinator: Coordinator, gone: Mapping[str, int]) -> None:
    """Delete these rows (key to version) of masters that ended long ago, unless they have changed since."""
    for key, version in gone.items():
        commit = Commit(expect={key: version}, delete=frozenset({key}))
        if await coordinator.commit(commit) is not None:
            _log.info("the row of a master that is gone was removed", key=key)


async def remove_done_requests(coordinator: Coordinator, view: View, rows: ClusterRows) -> None:
    """Delete requests to forget a node that are done, or that came while it was up."""
    done = set()
    for node in rows.requested("forget"):
        done.add(f"admin/forget/{node}")
        if node not in view.nodes and node not in rows.leases:
            done |= {node_key(node), f"admin/drain/{node}"}
    if done:
        await coordinator.commit(Commit(delete=frozenset(done)))

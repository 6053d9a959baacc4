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
    """Delete requests that are done, or came while the node was up, and the registrations of forgotten nodes."""
    gone = {node for node in rows.nodes if node not in view.nodes and node not in rows.leases}
    done = {f"admin/forget/{node}" for node in rows.requested("forget")}
    for node in rows.requested("drain"):
        if node not in view.nodes and node not in rows.leases:
            done.add(f"admin/drain/{node}")
    if done:
        await coordinator.commit(Commit(delete=frozenset(done)))
    for node in sorted(gone):
        await unregister(coordinator, node)


async def unregister(coordinator: Coordinator, node: str) -> None:
    """Delete the registration of a node without a lease.

    The registration is read before the lease, which is written first: so the lease is not on its way, it is over.
    """
    key, lease = node_key(node), lease_key(node)
    record = (await coordinator.read(key)).get(key)
    if record is None or lease in await coordinator.read(lease):
        return
    expect = {key: record.version, lease: 0}
    await coordinator.commit(Commit(expect=expect, delete=frozenset({key})))

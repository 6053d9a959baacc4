"""Views that the coordinator does not know, in a real cluster: refused where they are pushed, and got over where they are held."""

from __future__ import annotations

import asyncio
import socket
import sqlite3
from pathlib import Path

import msgspec
import pytest

from ringmaster.cluster.view import View, decode_view, encode_view
from ringmaster.cluster.view_delta import encode_step, step_between
from ringmaster.cluster.view_follower import VIEW_KEY
from ringmaster.coordinator.cluster_record import CLUSTER_KEY, ClusterRecord
from ringmaster.coordinator.sqlite import SqliteCoordinator
from ringmaster.protocol.handshake import handshake
from ringmaster.protocol.resp import encode
from tests.e2e.cluster import Cluster
from tests.e2e.conftest import NewCluster
from tests.e2e.waiting import wait_until

pytestmark = pytest.mark.e2e


def record(cluster: Cluster, key: str) -> bytes:
    """What the coordinator has."""

    async def read() -> bytes:
        coordinator = SqliteCoordinator(cluster.data_dir / "coordinator", cluster.lease_dir)
        try:
            return (await coordinator.read(key))[key].value
        finally:
            await coordinator.close()

    return asyncio.run(read())


def push(cluster: Cluster, view: View, node: str, *command: bytes) -> None:
    """As a master does it, with the cluster's secret."""
    known = msgspec.json.decode(record(cluster, CLUSTER_KEY), type=ClusterRecord)
    host, _, port = view.nodes[node].address.rpartition(":")
    with socket.create_connection((host, int(port)), 5) as connection:
        connection.sendall(handshake(known.id, "", known.secret) + encode(*command))
        answer = b""
        while answer.count(b"\r\n") < 3:
            answer += connection.recv(1000)
    assert answer == b"+OK\r\n" * 3


def epoch(cluster: Cluster) -> int:
    return decode_view(record(cluster, VIEW_KEY)).epoch


def fill(cluster: Cluster) -> None:
    with cluster.client() as client:
        for number in range(50):
            client.put(f"k{number}", b"v")


def hits(cluster: Cluster) -> int:
    with cluster.client() as client:
        return sum(client.get(f"k{number}") == b"v" for number in range(50))


def at_rest(cluster: Cluster) -> View:
    """The view, once nothing moves."""
    wait_until(lambda: cluster.status()["health"] == "ok", "the cluster is at rest", 60)
    return decode_view(record(cluster, VIEW_KEY))


def test_a_forged_view_is_refused(new_cluster: NewCluster) -> None:
    cluster = new_cluster("--partitions", "64", aux=2)
    fill(cluster)
    view = at_rest(cluster)
    empty = tuple(msgspec.structs.replace(row, primary=None, replicas=()) for row in view.table)
    forged = msgspec.structs.replace(view, epoch=10**9, table=empty)
    push(cluster, view, "aux1", b"RM.VIEW", encode_view(forged))
    wait_until(lambda: "pushed view refused" in cluster.log("aux1"), "the refusal is logged")
    assert hits(cluster) == 50
    assert "void" not in cluster.log("aux1")


def test_a_node_gets_over_a_forged_step(new_cluster: NewCluster) -> None:
    cluster = new_cluster("--partitions", "64", aux=2)
    fill(cluster)
    view = at_rest(cluster)
    rows = tuple(
        msgspec.structs.replace(row, primary=None, replicas=()) if number < 20 else row
        for number, row in enumerate(view.table)
    )
    forged = msgspec.structs.replace(view, epoch=view.epoch + 1, table=rows)
    step = step_between(view, forged)
    assert step is not None
    push(cluster, view, "aux1", b"RM.STEP", encode_step(step))
    wait_until(lambda: f"does not know view {forged.epoch}" in cluster.log("aux1"), "it is told")
    at_rest(cluster)
    assert hits(cluster) == 50


def take_snapshot(cluster: Cluster) -> None:
    with cluster.client() as client:
        where = client.request("POST", "/snapshots").headers["location"]
        wait_until(
            lambda: client.request("GET", where).json()["status"] == "done", "the snapshot", 30
        )


def coordinator_file(cluster: Cluster) -> Path:
    return cluster.data_dir / "coordinator" / "coordinator.sqlite"


def test_a_coordinator_that_was_set_back_under_a_running_cluster_is_got_over(
    new_cluster: NewCluster,
) -> None:
    """Masters and nodes held views that it does not know: they begin anew, and agree again."""
    cluster = new_cluster("--partitions", "64", aux=3)
    fill(cluster)
    at_rest(cluster)
    # What is lost with nothing to restore it from makes health degraded for an hour.
    take_snapshot(cluster)
    backup = sqlite3.connect(":memory:")
    running = sqlite3.connect(coordinator_file(cluster))
    try:
        running.backup(backup)
        before = epoch(cluster)
        with cluster.client() as client:
            client.request("POST", "/cluster/nodes/aux3/drain")
            wait_until(lambda: epoch(cluster) > before + 3, "views are published", 30)
            client.request("DELETE", "/cluster/nodes/aux3/drain")
        backup.backup(running)
    finally:
        running.close()
        backup.close()
    for name in (*cluster.nodes, *cluster.masters):
        wait_until(
            lambda name=name: "does not know view" in cluster.log(name), f"{name} notices", 20
        )
    cluster.wait_ready()
    at_rest(cluster)
    assert cluster.status()["epoch"] == epoch(cluster)
    fill(cluster)
    assert hits(cluster) == 50

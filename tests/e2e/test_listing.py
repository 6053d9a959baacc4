"""A listing of a real cluster, page by page, while keys are written, a node joins and another is killed."""

from __future__ import annotations

import itertools
import threading

import msgspec
import pytest

from ringmaster.client import Client
from ringmaster.errors import RingmasterError
from tests.conformance.raw_http import Connection
from tests.e2e.cluster import Cluster
from tests.e2e.conftest import NewCluster
from tests.e2e.waiting import wait_until

STAYING = 3000
LIMIT = 20


def write_meanwhile(cluster: Cluster, stop: threading.Event) -> None:
    """New keys in ascending order, as fast as one client can, and deletes of some; what fails meanwhile is no matter."""
    with cluster.client() as client:
        for number in itertools.count():
            if stop.is_set():
                return
            try:
                client.post(f"list:z{number:09}", b"1")
                client.post(f"list:stays{number % STAYING}", b"1")
                if number % 3 == 0:
                    client.delete(f"list:z{number:09}")
            except RingmasterError:
                continue


def page(client: Client, cursor: str | None) -> tuple[list[str], str | None]:
    query = f"/data?prefix=list:&limit={LIMIT}" + (f"&cursor={cursor}" if cursor else "")
    while True:
        try:
            reply = client.request("GET", query)
        except RingmasterError:
            continue
        if reply.status == 503:
            continue
        assert reply.status == 200, reply
        document = msgspec.json.decode(reply.body)
        return document["keys"], document["cursor"]


@pytest.mark.e2e
def test_a_listing_ends_with_every_key_once_while_all_about_it_moves(
    new_cluster: NewCluster,
) -> None:
    cluster = new_cluster("--partitions", "64", aux=3, room=1)
    items = [{"key": f"list:stays{number}", "value": 0} for number in range(STAYING)]
    with Connection(("127.0.0.1", cluster.port)) as connection:
        assert (
            connection.request("POST", "/data/bulk", (), msgspec.json.encode(items)).status == 200
        )
    # A node may have joined after the others had formed a cluster. What has one copy is lost with its node.
    wait_until(lambda: not cluster.status()["under_replicated"], "every key has two copies", 30)
    stop = threading.Event()
    writer = threading.Thread(target=write_meanwhile, args=(cluster, stop))
    writer.start()
    listed: list[str] = []
    views = {cluster.status()["epoch"]}
    try:
        cursor: str | None = None
        with cluster.client() as client:
            for number in range(STAYING):
                keys, cursor = page(client, cursor)
                listed += keys
                if number == 20:
                    cluster.add_node("aux4")
                elif number == 60:
                    views.add(cluster.status()["epoch"])
                    cluster.nodes["aux1"].kill()
                if cursor is None:
                    break
        views.add(cluster.status()["epoch"])
    finally:
        stop.set()
        writer.join()
    assert cursor is None, "the listing does not end"
    assert len(views) > 1
    staying = [key for key in listed if key.startswith("list:stays")]
    assert len(staying) == len(set(staying)) == STAYING, _what_happened(cluster)


def _what_happened(cluster: Cluster) -> str:
    """The state of the cluster, how many of the keys are there by single reads, and the ends of all logs."""
    with cluster.client() as client:
        there = sum(client.get(f"list:stays{number}") is not None for number in range(STAYING))
    logs = [
        f"--- {name}\n{cluster.log(name)[-4000:]}" for name in (*cluster.masters, *cluster.nodes)
    ]
    return "\n".join([f"{there} are there", str(cluster.status()), cluster.output, *logs])

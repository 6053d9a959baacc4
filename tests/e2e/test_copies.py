"""Copies of hot entries in real masters: what they answer, and what they never do (R13)."""

from __future__ import annotations

import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from ringmaster.client import Client
from ringmaster.errors import RingmasterError
from tests.e2e.cluster import Cluster
from tests.e2e.conftest import NewCluster
from tests.e2e.waiting import wait_until

pytestmark = pytest.mark.e2e

WRITE_S = 1.3
"""How long a write of a hot key may take when a master hangs."""


@pytest.fixture
def cluster(new_cluster: NewCluster) -> Cluster:
    return new_cluster("--partitions", "16", "--snapshot-interval", "0")


def addresses(cluster: Cluster) -> dict[str, str]:
    return {row["id"]: row["address"] for row in cluster.status()["masters"]}


def answered_by(client: Client, key: str) -> str:
    status = client.request("GET", f"/data/{key}").headers["cache-status"]
    return status.rpartition("detail=")[2]


def make_hot(client: Client, master: str, key: str) -> None:
    """Until `master` answers by itself."""
    wait_until(lambda: answered_by(client, key) == master, f"{master} has a copy of {key}", 10)


def test_a_hot_key_is_answered_by_every_master_and_a_write_is_seen_at_once(
    cluster: Cluster,
) -> None:
    masters = addresses(cluster)
    with Client(cluster.url) as front:
        front.put("k", b"0")
        clients = {name: Client(f"http://{address}") for name, address in masters.items()}
        for value in range(1, 20):
            for name, client in clients.items():
                make_hot(client, name, "k")
            front.put("k", b"%d" % value)
            for client in clients.values():
                assert client.get("k") == b"%d" % value
        tags = {client.request("GET", "/data/k").headers["etag"] for client in clients.values()}
        assert len(tags) == 1
        for client in clients.values():
            client.close()


def test_every_way_to_read_uses_copies(cluster: Cluster) -> None:
    name, address = next(iter(addresses(cluster).items()))
    with Client(f"http://{address}") as client:
        client.put("k", b"v")
        make_hot(client, name, "k")
        etag = client.request("GET", "/data/k").headers["etag"]
        head = client.request("HEAD", "/data/k")
        assert head.headers["cache-status"].endswith(f"detail={name}")
        assert head.headers["etag"] == etag
        same = client.request("GET", "/data/k", headers={"If-None-Match": etag})
        assert same.status == 304
        assert same.headers["cache-status"].endswith(f"detail={name}")
        assert "age" in same.headers
        part = client.request("GET", "/data/k", headers={"Range": "bytes=0-0"})
        assert (part.status, part.body) == (206, b"v")


def test_a_master_that_hangs_delays_one_write_and_answers_nothing_old_afterwards(
    cluster: Cluster,
) -> None:
    """Requests that arrive while it is stopped are in its socket, with its copy in memory, when it goes on."""
    masters = addresses(cluster)
    (hung, address), (_, other) = masters.items()
    host, _, port = address.rpartition(":")
    with Client(f"http://{address}") as client, Client(f"http://{other}") as writer:
        for value in range(3):
            writer.put("k", b"old %d" % value)
            make_hot(client, hung, "k")
            cluster.masters[hung].pause()
            began = time.monotonic()
            writer.put("k", b"new %d" % value)
            assert time.monotonic() - began < WRITE_S
            began = time.monotonic()
            writer.put("k", b"newer %d" % value)
            assert time.monotonic() - began < WRITE_S / 4
            with socket.create_connection((host, int(port))) as waiting:
                waiting.sendall(b"GET /data/k HTTP/1.1\r\nHost: localhost\r\n\r\n")
                cluster.masters[hung].resume()
                waiting.settimeout(10)
                reply = b""
                while b"newer %d" % value not in reply:
                    received = waiting.recv(65536)
                    assert received, reply
                    reply += received
            assert client.get("k") == b"newer %d" % value


def test_writes_of_a_hot_key_go_on_while_masters_and_nodes_die(cluster: Cluster) -> None:
    """Each reader asks one master and knows what was acknowledged before it asked."""
    masters = addresses(cluster)
    acknowledged = [0]
    stopped: list[bool] = []
    stale: list[tuple[int, bytes | None]] = []

    def read(address: str) -> int:
        reads = 0
        with Client(f"http://{address}", timeout_s=20) as client:
            while not stopped:
                known = acknowledged[0]
                try:
                    seen = client.get("k")
                except RingmasterError:  # its master is dead just now
                    time.sleep(0.05)
                    continue
                reads += 1
                if seen is None or int(seen) < known:
                    stale.append((known, seen))
        return reads

    with Client(cluster.url, timeout_s=20) as writer, ThreadPoolExecutor(4) as pool:
        writer.put("k", b"0")
        readers = [pool.submit(read, address) for address in masters.values() for _ in range(2)]
        value = 0
        until = time.monotonic() + 12
        breaks = iter(((3.0, "primary"), (7.0, "master")))
        at, what = next(breaks)
        while time.monotonic() < until:
            if time.monotonic() > until - 12 + at:
                if what == "primary":
                    cluster.nodes[writer.locate("k")["primary"]].kill()
                else:
                    cluster.masters[next(iter(masters))].kill()
                at, what = next(breaks, (99.0, ""))
            value += 1
            with suppress(RingmasterError):  # unknown: it may show, and what follows is higher
                writer.put("k", b"%d" % value)
                acknowledged[0] = value
            time.sleep(0.01)
        stopped.append(True)
        reads = [reader.result(30) for reader in readers]
    assert not stale
    assert min(reads) > 50
    assert value > 50

"""Why a key is not there, by real masters and nodes: each state, also when a primary was killed or every copy was lost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import Any

import pytest

from ringmaster.client import Client
from ringmaster.errors import Unserved
from tests.e2e.cluster import Cluster
from tests.e2e.conftest import NewCluster
from tests.e2e.waiting import wait_until

pytestmark = pytest.mark.e2e

QUIET = ("--partitions", "16", "--snapshot-interval", "0")


def command(url: str, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "ringmaster.cli", *words, "--url", url],
        check=True,
        capture_output=True,
        text=True,
        timeout=30,
    )
    return done.stdout


def kill_primary(cluster: Cluster, client: Client, key: str) -> None:
    """And wait until another node serves the key."""
    primary = client.locate(key)["primary"]
    cluster.nodes[primary].kill()
    wait_until(lambda: client.locate(key)["primary"] not in (None, primary), "a failover", 20)


def test_what_clients_did_is_told_and_after_a_failover_what_the_copy_knows(
    new_cluster: NewCluster,
) -> None:
    cluster = new_cluster(*QUIET)
    wait_until(lambda: not cluster.status()["under_replicated"], "every key has two copies", 30)
    with cluster.client() as client:

        def why(key: str) -> Any:
            return client.explain(key)

        assert why("never")["state"] == "unknown"
        client.put("here", b"1", tags=["x"])
        client.put("deleted", b"1")
        client.put("tagged", b"1", tags=["news"])
        client.put("short", b"1", ttl_s=0.2)
        found = why("here")
        assert (found["state"], found["entry"]["tags"]) == ("present", ["x"])
        client.delete("deleted")
        client.invalidate("news")
        wait_until(lambda: client.get("short") is None, "it has expired", 10)
        assert [why(key)["state"] for key in ("deleted", "tagged", "short")] == [
            "deleted",
            "invalidated",
            "expired",
        ]
        assert (why("deleted")["by"], why("tagged")["by"]) == ("HTTP", "news")
        assert command(cluster.url, "explain", "deleted").startswith("deleted: It was deleted at ")
        assert json.loads(command(cluster.url, "explain", "here", "--json"))["state"] == "present"
        misses = sum(node["misses"] for node in cluster.status()["nodes"])
        why("deleted")
        assert sum(node["misses"] for node in cluster.status()["nodes"]) == misses

        def copies_know() -> bool:
            # The removal of what has expired reaches the copy with a sweep, every second or so.
            return why("short")["at"] is not None and client.get("short") is None

        wait_until(copies_know, "the sweep", 10)
        kill_primary(cluster, client, "deleted")
        wait_until(lambda: why("deleted")["node"] is not None, "it is served", 20)
        after = why("deleted")
        # Of a delete its copies are told no reason.
        assert (after["state"], after["by"]) == ("unknown", None)
        assert after["at"] is not None
        assert "was primary then" in after["detail"]
        assert why("tagged")["state"] == "invalidated"


def test_an_eviction_names_its_prefix_and_who_needed_the_room(new_cluster: NewCluster) -> None:
    cluster = new_cluster(*QUIET, "--max-memory", "101MB", "--replicas", "1", masters=1, aux=1)
    with cluster.client() as client:
        for number in range(30):
            client.put(f"small/{number}", bytes(1000))
        for number in range(120):
            client.put(f"large:{number}", os.urandom(900_000))
        gone = next(n for n in range(120) if client.explain(f"large:{n}")["state"] != "present")
        found = client.explain(f"large:{gone}")
        assert (found["state"], found["by"]) == ("evicted", "large:")
        told = client.evictions()
        assert told["evictions"][0]["prefix"] == "large:"
        assert sum(row["count"] for row in told["evictions"]) == told["nodes"][0]["evictions"] > 0
    assert "large:" in command(cluster.url, "evictions")
    assert json.loads(command(cluster.url, "evictions", "--json"))["unreachable"] == []


def test_what_was_lost_with_every_copy_is_lost(new_cluster: NewCluster) -> None:
    cluster = new_cluster(*QUIET, "--sole-copy-wait", "3")
    wait_until(lambda: not cluster.status()["under_replicated"], "every key has two copies", 30)
    with cluster.client() as client:
        keys = [f"k{number}" for number in range(40)]
        for key in keys:
            client.put(key, b"1")
        for pid in [node.pid for node in cluster.nodes.values()]:
            os.kill(pid, signal.SIGKILL)

        def answered() -> bool:
            try:
                return all(client.get(key) is None for key in keys)
            except Unserved:
                return False

        wait_until(answered, "the cluster serves again", 60)
        for key in keys:
            found = client.explain(key)
            assert found["state"] == "lost", found
            assert "came back empty" in found["detail"]

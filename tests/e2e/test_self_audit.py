"""The self-audit of a real cluster: it blames nobody for what is legal, and finds what is not."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from ringmaster.chaos.target import is_at_rest
from ringmaster.client import Client
from ringmaster.errors import RingmasterError
from tests.e2e.cluster import Cluster
from tests.e2e.conftest import NewCluster
from tests.e2e.test_tokens import make
from tests.e2e.waiting import wait_until

pytestmark = pytest.mark.e2e

FAST = ("--audit-interval", "0.1")
PREFIX = "~ringmaster/audit/"


def figure(cluster: Cluster, name: str, token: str | None = None) -> float:
    """The sum of a metric over masters and labels; a master that does not answer counts nothing."""
    total = 0.0
    for number in range(cluster.sizes[0]):
        try:
            with Client(f"http://127.0.0.1:{cluster.master_port + number}", token=token) as client:
                text = client.request("GET", "/metrics").body.decode()
        except RingmasterError:
            continue
        total += sum(
            map(
                float,
                re.findall(rf"^ringmaster_audit_{name}(?:{{.*}})? (\S+)$", text, re.MULTILINE),
            )
        )
    return total


def served(cluster: Cluster, token: str | None = None) -> float:
    return figure(cluster, r'operations_total(?={kind="\w+",outcome="served"})', token)


def findings(cluster: Cluster) -> list[str]:
    """What the logs of all masters tell of it, those of masters that were restarted included."""
    return [
        line
        for name in cluster.masters
        for line in cluster.log(name).splitlines()
        if "self-audit:" in line
    ]


def works(cluster: Cluster, operations: int = 100, token: str | None = None) -> None:
    """Wait until it has done so much more."""
    wanted = served(cluster, token) + operations
    wait_until(lambda: served(cluster, token) > wanted, "the self-audit goes on", 60)


def test_deaths_hangs_and_stops_are_no_findings(new_cluster: NewCluster) -> None:
    cluster = new_cluster(*FAST, masters=3, aux=3)
    works(cluster)
    cluster.nodes["aux1"].kill()
    works(cluster)
    # A hang in the middle of a rebalance may take longer than the deadline, which is then no false alarm.
    wait_until(
        lambda: is_at_rest(cluster.status(), 3), "the node is back, all is where it belongs", 90
    )
    cluster.nodes["aux2"].pause()
    time.sleep(5)  # longer than its lease
    cluster.nodes["aux2"].resume()
    works(cluster)
    cluster.masters["master1"].terminate()
    works(cluster)
    cluster.masters["master2"].pause()
    time.sleep(5)
    cluster.masters["master2"].resume()
    works(cluster)
    cluster.masters["master3"].kill()
    works(cluster)
    assert findings(cluster) == []
    for name in ("stale_total", "lost_total", "unavailable_seconds_total"):
        assert figure(cluster, name) == 0, name
    assert cluster.stop() == 0
    assert findings(cluster) == []


def test_what_a_total_loss_takes_is_no_finding(new_cluster: NewCluster) -> None:
    cluster = new_cluster(*FAST, "--snapshot-interval", "1", masters=2, aux=2)
    works(cluster, 200)
    for node in cluster.nodes.values():
        node.kill()
    wait_until(lambda: cluster.status()["health"] == "ok", "the nodes are back", 60)
    works(cluster, 200)
    time.sleep(4)  # a miss is judged some seconds later
    assert (figure(cluster, "stale_total"), figure(cluster, "lost_total")) == (0, 0)


def test_what_is_changed_or_deleted_behind_its_back_is_found(tmp_path: Path) -> None:
    tokens = tmp_path / "tokens.toml"
    ops = make(tokens, "ops", "read,write,admin,metrics")
    options = ("--tokens", str(tokens), "--token", ops, *FAST)
    with Cluster(*options, masters=2, aux=2, folder=tmp_path) as cluster:
        cluster.wait_ready()
        works(cluster, token=ops)
        assert findings(cluster) == []
        with Client(cluster.url, token=ops) as client:

            def canaries() -> list[str]:
                body = client.request("GET", f"/data?prefix={PREFIX}&limit=1000").json()
                return [str(key) for key in body["keys"]]

            def delete() -> bool:
                for key in canaries():
                    client.delete(key)
                return figure(cluster, "lost_total", ops) > 0

            def change() -> bool:
                for key in canaries():
                    client.put(key, b"1", ttl_s=60)
                return figure(cluster, "stale_total", ops) > 0

            wait_until(delete, "the loss is counted", 60)
            wait_until(change, "the old value is counted", 60)
            assert client.request("GET", "/data?prefix=&limit=1000").json()["keys"] == []
        told = "\n".join(findings(cluster))
        assert "a read was stale" in told
        assert "an acknowledged write is lost" in told
        for field in ("key", "partition", "term", "node", "expected", "acknowledged_version"):
            assert field in told

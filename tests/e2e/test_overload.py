"""More is asked of a cluster than it can do: what is too much is refused, and nothing else happens."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from urllib.request import urlopen

import pytest

from tests.e2e.cluster import Cluster
from tests.e2e.conftest import NewCluster
from tests.e2e.waiting import wait_until

SECONDS = 4


def text(url: str) -> str:
    with urlopen(url, timeout=10.0) as response:  # noqa: S310 - loopback
        assert response.status == 200
        return str(response.read().decode())


def figure(url: str, name: str) -> float:
    found = re.search(rf"^{name} (\S+)$", text(url), re.MULTILINE)
    assert found, name
    return float(found[1])


@pytest.mark.e2e
def test_too_many_clients_are_refused_and_leases_and_epoch_stay_as_they_are(
    new_cluster: NewCluster, tmp_path: Path
) -> None:
    cluster: Cluster = new_cluster("--replicas", "2", masters=1, aux=2)
    metrics = f"{cluster.url}/metrics"
    nodes = [f"http://127.0.0.1:{cluster.aux_http_port + number}/metrics" for number in range(2)]
    with cluster.client() as client:
        client.put("a", b"x" * 100)
    wait_until(lambda: cluster.status()["health"] == "ok", "every partition has its copies", 30)
    with cluster.client() as client:
        assert client.get("a") is not None  # it is known what takes how long at rest
    epoch = cluster.status()["epoch"]
    leases: list[float] = []
    # Reads of many keys, so that the clients have the lesser part of the work.
    script = tmp_path / "bulk.lua"
    keys = json.dumps([f"k{number}" for number in range(100)])
    script.write_text(f"wrk.method = 'POST'\nwrk.body = '{keys}'\n")
    url = f"http://127.0.0.1:{cluster.master_port}/data/bulk/get"
    clients = subprocess.Popen(
        ["wrk", "-c1000", "-t2", f"-d{SECONDS}s", "-s", str(script), url],
        stdout=subprocess.DEVNULL,
    )
    while clients.poll() is None:
        assert text(f"{cluster.url}/healthz")
        assert text(f"{cluster.url}/readyz")
        leases += [figure(each, "ringmaster_aux_lease_seconds") for each in nodes]
    assert clients.returncode == 0
    assert figure(metrics, "ringmaster_shed_requests_total") > 0
    assert min(leases) > 0
    wait_until(lambda: figure(metrics, "ringmaster_shedding") == 0, "it is over", 5)
    wait_until(lambda: figure(metrics, "ringmaster_held_connections") == 0, "nobody is held", 5)
    refused = figure(metrics, "ringmaster_shed_requests_total")
    with cluster.client() as client:
        for _ in range(200):
            assert client.get("a") is not None
        client.put("c", b"x")
    assert figure(metrics, "ringmaster_shed_requests_total") == refused
    assert cluster.status()["epoch"] == epoch

"""More is asked of a cluster than it can do: what is too much is refused, and nothing else happens."""

from __future__ import annotations

import json
import re
from urllib.request import urlopen

import pytest

from bench.generator import WARM_S, heard, load
from tests.e2e.cluster import Cluster
from tests.e2e.conftest import NewCluster
from tests.e2e.waiting import wait_until

SECONDS = 4.0


def text(url: str) -> str:
    with urlopen(url, timeout=10.0) as response:  # noqa: S310 - loopback
        assert response.status == 200
        return str(response.read().decode())


def figure(url: str, name: str) -> float:
    found = re.search(rf"^{name} (\S+)$", text(url), re.MULTILINE)
    assert found, name
    return float(found[1])


def request(target: str, value: object) -> str:
    body = json.dumps(value)
    return f"POST {target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n{body}"


@pytest.mark.e2e
def test_too_many_clients_are_refused_and_leases_and_epoch_stay_as_they_are(
    new_cluster: NewCluster,
) -> None:
    cluster: Cluster = new_cluster("--replicas", "2", masters=1, aux=2)
    metrics = f"{cluster.url}/metrics"
    nodes = [f"http://127.0.0.1:{cluster.aux_http_port + number}/metrics" for number in range(2)]
    with cluster.client() as client:
        client.put("a", b"x" * 100)
    wait_until(lambda: cluster.status()["health"] == "ok", "every partition has its copies", 30)
    epoch = cluster.status()["epoch"]
    # Reads of many keys, so that the client has the lesser part of the work.
    requests = [
        request("/data/bulk/get", [f"k{number}" for number in range(100)]),
        request("/data", {"key": "b", "value": "x" * 100}),
    ]
    leases: list[float] = []
    clients = load(cluster.port, requests, cores="0-1", connections=1000, seconds=SECONDS)
    while clients.poll() is None:
        assert text(f"{cluster.url}/healthz")
        assert text(f"{cluster.url}/readyz")
        leases += [figure(each, "ringmaster_aux_lease_seconds") for each in nodes]
    told = heard(clients, WARM_S + SECONDS + 30.0)
    assert told.failed == 0
    assert told.accepted.rps > 0
    assert told.refused.rps > 0
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

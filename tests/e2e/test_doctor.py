"""`ringmaster doctor` beside a cluster that runs."""

from __future__ import annotations

import json
import subprocess

import pytest

from tests.e2e.cluster import RINGMASTER, Cluster

pytestmark = pytest.mark.e2e


def test_it_knows_whose_ports_these_are_and_how_the_cluster_is(shared_cluster: Cluster) -> None:
    flags = {
        "data-dir": shared_cluster.data_dir,
        "lease-dir": shared_cluster.lease_dir,
        "port": shared_cluster.port,
        "master-port": shared_cluster.master_port,
        "aux-port": shared_cluster.aux_port,
        "aux-http-port": shared_cluster.aux_http_port,
        "url": shared_cluster.url,
    }
    given = [text for name, value in flags.items() for text in (f"--{name}", str(value))]
    done = subprocess.run(
        [*RINGMASTER, "doctor", *given, "--json"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    rows = {row["name"]: row for row in json.loads(done.stdout)["checks"]}
    assert rows["ports"]["verdict"] == "ok"
    assert "a `ringmaster up` runs here" in rows["ports"]["figure"]
    assert rows["coordinator"]["figure"].startswith("sqlite: answered in ")
    assert rows["cluster"]["verdict"] == "ok"
    assert rows["clocks"]["figure"].startswith("aux1 ")
    assert "/dev/shm" not in rows

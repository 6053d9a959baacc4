"""Settings that change while a cluster runs: each is seen to take effect, on processes that run and on those that start later."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest

from ringmaster.client import Client
from ringmaster.errors import BadRequest
from tests.e2e.cluster import RINGMASTER, ROOT, Cluster
from tests.e2e.waiting import wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

MB = 10**6


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    options = ("--max-memory", "200MB", "--snapshot-interval", "0", "--partitions", "64")
    with Cluster(*options, aux=2) as running:
        running.wait_ready()
        yield running


@pytest.fixture
def client(cluster: Cluster) -> Iterator[Client]:
    """Nothing is changed when a test begins, nor after it."""
    with Client(cluster.url, timeout_s=10.0) as made:
        yield made
        made.change_settings(dict.fromkeys(made.settings()["changed"]))
        followed(made)


def change(client: Client, **changes: Any) -> dict[str, Any]:
    """Change these and wait until all follow; the rows by name."""
    client.change_settings(changes)
    return followed(client)


def followed(client: Client) -> dict[str, Any]:
    wait_until(lambda: client.settings()["followed"], "every process follows", 20)
    return {row["name"]: row for row in client.settings()["settings"]}


def nodes(client: Client) -> dict[str, dict[str, Any]]:
    return {node["id"]: node for node in client.cluster()["nodes"]}


def test_what_it_is_and_where_it_comes_from(client: Client) -> None:
    rows = followed(client)
    assert (rows["max_memory"]["value"], rows["max_memory"]["source"]) == (200 * MB, "flag")
    assert (rows["log_level"]["value"], rows["log_level"]["source"]) == ("info", "default")
    kinds = {each["id"]: each["kind"] for each in client.settings()["processes"]}
    assert kinds == {"aux1": "node", "aux2": "node", "master1": "master", "master2": "master"}


def test_less_memory_is_evicted_down_to_at_once_and_a_node_that_restarts_begins_with_it(
    cluster: Cluster, client: Client
) -> None:
    for number in range(1500):
        client.put(f"memory/{number}", bytes(100_000))
    before = nodes(client)
    assert all(node["bytes"] > 60 * MB for node in before.values())
    change(client, max_memory="110MB")

    def within() -> bool:
        found = nodes(client).values()
        return all(
            node["max_bytes"] == 110 * MB
            and node["bytes"] <= node["usable_bytes"]
            and node["process_bytes"] < 121 * MB
            for node in found
        )

    wait_until(within, "both nodes are within the smaller budget", 30)
    cluster.nodes["aux2"].kill()
    incarnation = before["aux2"]["incarnation"]
    wait_until(
        lambda: (
            nodes(client).get("aux2", {}).get("incarnation") not in (None, incarnation)
            and nodes(client)["aux2"]["state"] == "up"
        ),
        "aux2 is back",
        30,
    )
    rows = followed(client)
    assert (rows["max_memory"]["value"], rows["max_memory"]["started"]) == (110 * MB, 200 * MB)
    assert nodes(client)["aux2"]["max_bytes"] == 110 * MB
    change(client, max_memory=None)
    assert nodes(client)["aux1"]["max_bytes"] == 200 * MB


def test_snapshots_begin_when_they_get_an_interval(cluster: Cluster, client: Client) -> None:
    folder = cluster.data_dir / "snapshots"

    def bundles() -> int:
        return len([each for each in folder.rglob("*.bundle") if each.is_file()])

    client.put("snapshot/a", b"1")
    before = bundles()
    change(client, snapshot_interval="1s")
    wait_until(lambda: bundles() > before, "a snapshot is written", 20)
    assert {node["interval_s"] for node in _snapshots(client)["nodes"]} == {1.0}
    change(client, snapshot_interval=None)
    assert {node["interval_s"] for node in _snapshots(client)["nodes"]} == {0.0}


def test_the_policy_and_the_level_of_logs(cluster: Cluster, client: Client) -> None:
    change(client, eviction="lru", log_level="debug")
    assert client.cluster()["eviction"] == "lru"
    cluster.nodes["aux1"].kill()
    names = (*cluster.nodes, *cluster.masters)

    def debugs() -> set[str]:
        lines = {name: cluster.log(name).splitlines() for name in names}
        return {name for name, found in lines.items() if any("[debug" in line for line in found)}

    wait_until(lambda: debugs() >= {"aux1", "aux2", "master1", "master2"}, "all say more", 30)
    cluster.wait_ready()
    change(client, eviction=None, log_level=None)
    assert client.cluster()["eviction"] == "adaptive"


def test_a_bad_change_changes_nothing_and_a_late_one_is_refused(client: Client) -> None:
    before = client.settings()
    for bad in (
        {"max_memory": "300MB", "replicas": 3},
        {"max_memory": "300MB", "log_level": "loud"},
        {"max_memory": "1MB"},
        {"max_memory": 2**43},  # more than the machine has
    ):
        with pytest.raises(BadRequest):
            client.change_settings(bad)
    assert client.settings() == before
    assert client.change_settings({"max_fills": 8}, if_match=before["version"]) is not None
    assert client.change_settings({"max_fills": 9}, if_match=before["version"]) is None


def test_a_limit_by_address_holds_on_every_master(cluster: Cluster, client: Client) -> None:
    change(client, rate_limit_address="200/s,burst=2000")
    for port in range(cluster.master_port, cluster.master_port + 2):
        with Client(f"http://127.0.0.1:{port}") as one:
            assert "ratelimit" in one.request("GET", "/cluster").headers


def test_the_command_sets_waits_and_resets(cluster: Cluster) -> None:
    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*RINGMASTER, "settings", *words, "--url", cluster.url],
            cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    done = run("set", "max-fills=8", "rebalance_rate=1MiB")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "max_fills  8            run time (started with 128)",
        "rebalance_rate  1MiB/s       run time (started with 64MiB/s)",
    ]
    state = json.loads(run("--json").stdout)
    assert state["followed"]
    assert state["changed"] == {"max_fills": 8, "rebalance_rate": 2**20}
    refused = run("set", "max_fills=0")
    assert refused.returncode == 2
    assert "from 1 to 4,096" in refused.stderr
    late = run("set", "max_fills=9", "--if-version", "0-0-00000000")
    assert late.returncode == 1
    assert run("reset", "max_fills", "rebalance_rate").returncode == 0
    assert json.loads(run("--json").stdout)["changed"] == {}
    listed = run().stdout
    assert "max_memory " in listed
    assert "run time" not in listed


def test_a_process_that_hangs_is_named(cluster: Cluster, client: Client) -> None:
    cluster.masters["master2"].pause()
    try:
        with Client(f"http://127.0.0.1:{cluster.master_port}", timeout_s=10.0) as first:
            first.change_settings({"max_fills": 16})

            def only_that_one() -> bool:
                rows = first.settings()["processes"]
                return [row["id"] for row in rows if row["follows"] is not True] in (
                    ["master2"],
                    [],
                )

            wait_until(only_that_one, "the others follow", 20)
            began = time.monotonic()
            first.settings()
            assert time.monotonic() - began < 5
    finally:
        cluster.masters["master2"].resume()
    cluster.wait_ready()


def _snapshots(client: Client) -> Any:
    return client.request("GET", "/snapshots?files=0").json()

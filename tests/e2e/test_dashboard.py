"""Every query of the dashboard has data in a real Prometheus while a real cluster is under load."""

from __future__ import annotations

import http.client
import itertools
import json
import math
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e import prometheus as prom
from tests.e2e.cluster import Cluster
from tests.e2e.prometheus import Prometheus
from tests.e2e.waiting import wait_until

ROOT = Path(__file__).parents[2]
DASHBOARD = json.loads((ROOT / "grafana" / "dashboards" / "ringmaster-overview.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
QUERIES = [(panel["title"], target["expr"]) for panel in PANELS for target in panel["targets"]]

# The names that operators build upon; docs/operations.md lists them.
METRICS = [
    "ringmaster_requests_total",
    "ringmaster_request_seconds_bucket",
    "ringmaster_hits_total",
    "ringmaster_misses_total",
    "ringmaster_connections",
    "ringmaster_shed_requests_total",
    "ringmaster_held_connections",
    "ringmaster_epoch",
    "ringmaster_partitions_without_primary",
    "ringmaster_under_replicated_partitions",
    "ringmaster_nodes",
    "ringmaster_is_controller",
    "ringmaster_coordinator_up",
    "ringmaster_rebalance_moving",
    "ringmaster_aux_entries",
    "ringmaster_aux_bytes",
    "ringmaster_aux_usable_bytes",
    "ringmaster_aux_max_bytes",
    "ringmaster_aux_hits_total",
    "ringmaster_aux_misses_total",
    "ringmaster_aux_evictions_total",
    "ringmaster_aux_expirations_total",
    "ringmaster_aux_connections",
    "ringmaster_aux_partitions",
    "ringmaster_aux_epoch",
    "ringmaster_aux_lease_seconds",
    "ringmaster_aux_replication_pending",
    "ringmaster_aux_filled_keys_total",
    "ringmaster_aux_filled_bytes_total",
    "ringmaster_snapshot_last_success_timestamp_seconds",
    "ringmaster_snapshot_failures_total",
    "process_cpu_seconds_total",
    "process_resident_memory_bytes",
]

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(180),
    pytest.mark.skipif(prom.missing() is not None, reason=str(prom.missing())),
]


def resolved(expression: str) -> str:
    """The query as Grafana sends it, with every master and every node chosen."""
    text = expression.replace("$__rate_interval", f"{4 * prom.SCRAPE_INTERVAL_S}s")
    text = re.sub(r"\$(master|node)\b", ".*", text)
    assert "$" not in text, f"a variable that this test does not know: {text}"
    return text


def drive(host: str, port: int, ended: threading.Event) -> None:
    """Hits, misses, writes, deletes, bulk requests, expiries and a client's mistake, over and over."""
    connection = http.client.HTTPConnection(host, port, timeout=15)

    def send(method: str, path: str, body: Any = None) -> None:
        connection.request(method, path, None if body is None else json.dumps(body))
        connection.getresponse().read()

    for turn in itertools.count():
        if ended.is_set():
            connection.close()
            return
        key = f"dashboard:{turn % 500}"
        send("POST", "/data", {"key": key, "value": turn, "ttl": 1 if turn % 2 else 0})
        send("GET", f"/data/{key}")
        send("GET", "/data/never-written")
        send("PUT", f"/data/{key}", "bytes")
        send("DELETE", f"/data/{key}")
        send("POST", "/data/bulk", [{"key": f"bulk:{each}", "value": each} for each in range(10)])
        send("POST", "/data/bulk/get", [f"bulk:{each}" for each in range(12)])
        send("POST", "/data", {"key": ""})


@pytest.fixture(scope="module")
def watched(
    shared_cluster: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Prometheus]:
    """A Prometheus that has watched a cluster under load for some scrapes; the load goes on."""
    ended = threading.Event()
    host, port = shared_cluster.url.removeprefix("http://").split(":")
    load = threading.Thread(target=drive, args=(host, int(port), ended))
    folder = tmp_path_factory.mktemp("prometheus")
    targets = shared_cluster.data_dir / "prometheus-targets.json"
    with Prometheus(folder, targets, ROOT / "prometheus" / "alerts.yml") as watcher:
        load.start()
        try:
            busy = "rate(ringmaster_requests_total[4s]) > 0"
            wait_until(lambda: watcher.query(busy), "requests are counted", 60)
            yield watcher
        finally:
            ended.set()
            load.join(timeout=30)


def values(result: list[dict[str, Any]]) -> list[float]:
    return [float(series["value"][1]) for series in result]


def test_every_process_is_scraped(watched: Prometheus, shared_cluster: Cluster) -> None:
    found = {target["labels"]["instance"]: target["health"] for target in watched.targets()}
    assert found == dict.fromkeys([*shared_cluster.masters, *shared_cluster.nodes], "up")


@pytest.mark.parametrize("name", METRICS)
def test_a_promised_metric_exists_and_is_on_the_dashboard(watched: Prometheus, name: str) -> None:
    assert watched.query(name)
    assert any(re.search(rf"\b{name}\b", query) for _, query in QUERIES)


@pytest.mark.parametrize(
    ("title", "query"), QUERIES, ids=[f"{t}-{n}" for n, (t, _) in enumerate(QUERIES)]
)
def test_a_panel_shows_numbers(watched: Prometheus, title: str, query: str) -> None:
    # A rate needs two scrapes of a series that has just appeared.
    result: list[dict[str, Any]] = []
    wait_until(lambda: result.extend(watched.query(resolved(query))) or result, f"{title}: data")
    finite = [value for value in values(result) if math.isfinite(value)]
    assert finite, f"{title}: {result}"


def test_variables_offer_every_master_and_node(
    watched: Prometheus, shared_cluster: Cluster
) -> None:
    expected = {"master": set(shared_cluster.masters), "node": set(shared_cluster.nodes)}
    for variable in DASHBOARD["templating"]["list"]:
        if variable["type"] == "query":
            match = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["definition"])
            assert match
            offered = {labels[match[2]] for labels in watched.series(match[1])}
            assert offered == expected[variable["name"]]


def test_the_figures_are_those_of_the_load(watched: Prometheus) -> None:
    queries = dict(QUERIES)

    def both_hits_and_misses() -> bool:
        """On a slow machine a window of four scrapes may hold hits alone for a moment."""
        (ratio,) = values(watched.query(resolved(queries["Hit ratio"])))
        return 0 < ratio < 1

    wait_until(both_hits_and_misses, "the hit ratio shows hits and misses", 30)
    (nodes,) = values(watched.query(resolved(queries["Nodes up"])))
    assert nodes == 3
    (errors,) = values(watched.query(resolved(queries["Errors"])))
    assert errors == 0
    (p99,) = values(watched.query(resolved(queries["p99"])))
    assert 0 < p99 < 10


def test_a_healthy_cluster_raises_no_alert(watched: Prometheus) -> None:
    rules = watched.rules()
    assert rules
    assert {rule["name"]: rule["state"] for rule in rules if rule["state"] == "firing"} == {}
    assert {rule["health"] for rule in rules} <= {"ok", "unknown"}, rules


def test_panels_stand_beside_each_other_not_on_each_other() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert at["x"] + at["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells
    identifiers = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(identifiers)) == len(identifiers)


def test_no_axis_mixes_bytes_with_other_things() -> None:
    for panel in PANELS:
        of_bytes = {"_bytes" in target["expr"] for target in panel["targets"]}
        if of_bytes == {True, False}:
            properties = [
                each["id"]
                for override in panel["fieldConfig"]["overrides"]
                for each in override["properties"]
            ]
            assert {"unit", "custom.axisPlacement"} <= set(properties), panel["title"]

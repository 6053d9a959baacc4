"""Every query of the dashboards has data in a real Prometheus while a real cluster is under load."""

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
FOLDER = ROOT / "grafana" / "dashboards"
DASHBOARDS = [json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))]
QUERIES = [
    (f"{board['uid'].removeprefix('ringmaster-')}: {panel['title']}", target["expr"])
    for board in DASHBOARDS
    for panel in board["panels"]
    if panel["type"] != "row"
    for target in panel["targets"]
]
OPERATIONS = (ROOT / "docs" / "operations.md").read_text()
DOCUMENTED = sorted(
    {
        name
        for row in OPERATIONS.splitlines()
        if row.startswith("| `ringmaster_")
        for name in re.findall(r"`(ringmaster_[a-z0-9_]+)", row.split("|")[1])
    }
    # Of masters with tokens only.
    - {"ringmaster_token_reloads_total"}
)

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


@pytest.mark.parametrize("name", DOCUMENTED)
def test_a_documented_metric_exists_and_is_on_a_dashboard(watched: Prometheus, name: str) -> None:
    suffix = "_bucket" if name == "ringmaster_request_seconds" else ""
    assert watched.query(name + suffix)
    assert any(re.search(rf"\b{name}{suffix}\b", query) for _, query in QUERIES)


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
    for variable in [each for board in DASHBOARDS for each in board["templating"]["list"]]:
        if variable["type"] == "query":
            match = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["definition"])
            assert match
            offered = {labels[match[2]] for labels in watched.series(match[1])}
            assert offered == expected[variable["name"]]


def test_the_figures_are_those_of_the_load(watched: Prometheus) -> None:
    queries = dict(QUERIES)

    def both_hits_and_misses() -> bool:
        """On a slow machine a window of four scrapes may hold hits alone for a moment."""
        (ratio,) = values(watched.query(resolved(queries["overview: Hit ratio"])))
        return 0 < ratio < 1

    wait_until(both_hits_and_misses, "the hit ratio shows hits and misses", 30)
    (nodes,) = values(watched.query(resolved(queries["overview: Nodes up"])))
    assert nodes == 3
    (errors,) = values(watched.query(resolved(queries["overview: Errors"])))
    assert errors == 0
    (p99,) = values(watched.query(resolved(queries["overview: p99"])))
    assert 0 < p99 < 10


def test_a_healthy_cluster_raises_no_alert(watched: Prometheus) -> None:
    rules = watched.rules()
    assert rules
    assert {rule["name"]: rule["state"] for rule in rules if rule["state"] == "firing"} == {}
    assert {rule["health"] for rule in rules} <= {"ok", "unknown"}, rules


def test_a_change_of_the_view_is_annotated(watched: Prometheus, shared_cluster: Cluster) -> None:
    expressions = {
        each["name"]: resolved(each["expr"])
        for board in DASHBOARDS
        for each in board["annotations"]["list"]
    }
    assert set(expressions) == {"Views", "Nodes down"}
    with shared_cluster.client() as client:
        before = client.cluster()["epoch"]
        client.drain("aux3")
        wait_until(lambda: client.cluster()["epoch"] > before, "a view says that it drains", 30)
        client.drain("aux3", undo=True)
        wait_until(lambda: watched.query(expressions["Views"]), "the change is seen", 30)
        assert watched.query(expressions["Nodes down"]) == []
        wait_until(lambda: client.cluster()["health"] == "ok", "the node is taken back", 60)

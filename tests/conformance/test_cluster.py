"""/cluster, health, metrics, documents: what operators and supervisors ask for."""

from __future__ import annotations

import re

import pytest

from tests.conformance.fronts import Front, assert_problem
from tests.conformance.raw_http import Response
from tests.e2e.waiting import wait_until

NODE_FIELDS = {
    "id",
    "incarnation",
    "state",
    "address",
    "pid",
    "zone",
    "weight",
    "primaries",
    "replicas",
    "filling",
    "entries",
    "bytes",
    "max_bytes",
    "usable_bytes",
    "process_bytes",
    "hits",
    "misses",
    "writes",
    "evictions",
    "wall_ahead_ms",
}


def cluster(front: Front) -> dict[str, object]:
    response = front.request("GET", "/cluster")
    assert response.status == 200
    assert response.get("Content-Type") == "application/json"
    assert response.get("Cache-Control") == "no-store"
    body: dict[str, object] = response.json()
    return body


def test_the_cluster_has_the_shape_of_the_contract(front: Front) -> None:
    body = cluster(front)
    assert set(body) >= {
        "cluster",
        "epoch",
        "controller",
        "partitions",
        "replicas",
        "nodes",
        "masters",
        "under_replicated",
        "rebalance",
        "health",
        "reasons",
    }
    assert re.fullmatch(r"[0-9a-f]{32}", str(body["cluster"]))
    assert body["health"] in ("ok", "recovering", "degraded")
    nodes = body["nodes"]
    assert isinstance(nodes, list)
    assert [node["id"] for node in nodes] == ["aux1", "aux2"]
    for node in nodes:
        assert set(node) == NODE_FIELDS
        assert node["state"] == "up"
    assert sum(node["primaries"] for node in nodes) == body["partitions"]
    masters = body["masters"]
    assert isinstance(masters, list)
    assert all(set(master) == {"id", "address", "pid"} for master in masters)
    rebalance = body["rebalance"]
    assert isinstance(rebalance, dict)
    assert {"active", "moving", "moved_keys", "moved_bytes", "eta_s"} <= set(rebalance)
    if front.name != "fake":
        assert body["controller"] in {master["id"] for master in masters}
        # Those that ask for tokens (test_tokens.py) take part once a test has wanted them.
        others = {"guarded-aiohttp", "guarded-fastpath"}
        assert {master["id"] for master in masters} - others == {"aiohttp", "fastpath"}


@pytest.mark.parametrize(
    ("target", "key"),
    [
        ("/cluster/locate/a%2Fb", "a/b"),
        ("/cluster/locate/a//b/", "a//b/"),
        ("/cluster/locate?key=a+b", "a b"),
        ("/cluster/locate?key=..", ".."),
    ],
)
def test_locate_says_where_a_key_lives(front: Front, target: str, key: str) -> None:
    body = front.request("GET", target).json()
    assert set(body) == {"key", "partition", "primary", "replicas", "term", "epoch"}
    assert body["key"] == key
    # Another test may just have drained one of them.
    assert body["primary"] in ("aux1", "aux2")
    assert {body["primary"], *body["replicas"]} <= {"aux1", "aux2"}


def test_a_hit_names_the_node_that_locate_names(front: Front, key: str) -> None:
    front.request("PUT", f"/data/{key}", body=b"x")
    primary = front.request("GET", f"/cluster/locate/{key}").json()["primary"]
    status = front.request("GET", f"/data/{key}").get("Cache-Status") or ""
    if front.name != "fake":
        assert status.endswith(f"detail={primary}")


@pytest.mark.parametrize("target", ["/cluster/locate/", "/cluster/locate/%FF", "/cluster/locate"])
def test_locate_of_a_bad_key_is_400(front: Front, target: str) -> None:
    assert_problem(front.request("GET", target), 400)


def test_an_unknown_node_is_404(front: Front) -> None:
    for method, target in (
        ("POST", "/cluster/nodes/nobody/drain"),
        ("DELETE", "/cluster/nodes/nobody/drain"),
        ("DELETE", "/cluster/nodes/nobody"),
        ("DELETE", "/cluster/nodes/a%20b"),
    ):
        assert_problem(front.request(method, target), 404)


def test_a_node_that_is_up_is_not_forgotten(front: Front) -> None:
    assert_problem(front.request("DELETE", "/cluster/nodes/aux1"), 409)


def test_drain_and_back(front: Front) -> None:
    assert front.request("POST", "/cluster/nodes/aux1/drain?force=1").status == 202
    taken_back = front.request("DELETE", "/cluster/nodes/aux1/drain")
    assert taken_back.status == 202
    assert taken_back.get("Cache-Control") == "no-store"
    if front.name != "fake":
        wait_until(lambda: states(front) == {"up"}, "both take part again")


def states(front: Front) -> set[str]:
    nodes = cluster(front)["nodes"]
    assert isinstance(nodes, list)
    return {node["state"] for node in nodes}


def test_a_drain_that_leaves_too_few_copies_is_409_and_does_nothing(front: Front) -> None:
    refused = front.request("POST", "/cluster/nodes/aux1/drain")
    assert_problem(refused, 409)
    assert refused.json()["too_few_copies"] > 0
    assert "force=1" in refused.json()["detail"]
    if front.name != "fake":
        assert states(front) == {"up"}


def test_a_dry_run_says_what_a_drain_would_take(front: Front) -> None:
    reply = front.request("POST", "/cluster/nodes/aux1/drain?dry_run=1")
    assert reply.status == 200
    body = reply.json()
    assert set(body) == {
        "node", "copies", "bytes", "seconds", "stay", "too_few_copies", "lost",
    }  # fmt: skip
    assert (body["node"], body["stay"], body["lost"]) == ("aux1", 1, 0)
    assert body["copies"] == body["too_few_copies"] > 0


@pytest.mark.parametrize("query", ["force=yes", "dry_run=2", "dry_run=1&dry_run=1", "wait=1"])
def test_a_drain_with_an_unknown_parameter_is_400(front: Front, query: str) -> None:
    assert_problem(front.request("POST", f"/cluster/nodes/aux1/drain?{query}"), 400)


def test_pause_and_resume(front: Front) -> None:
    assert front.request("POST", "/cluster/rebalance/pause").status == 204
    if front.name != "fake":
        wait_for(front, "paused", True)
    assert front.request("POST", "/cluster/rebalance/resume").status == 204
    if front.name != "fake":
        wait_for(front, "paused", False)


def test_the_eviction_policy_is_changed_while_the_cluster_runs(front: Front) -> None:
    for policy in ("sieve", "adaptive"):
        assert front.request("PUT", f"/cluster/eviction/{policy}").status == 204
        if front.name != "fake":
            wait_until(lambda: cluster(front)["eviction"] == policy, f"it is {policy}")  # noqa: B023
    assert_problem(front.request("PUT", "/cluster/eviction/fifo"), 404)
    assert_problem(front.request("PUT", "/cluster/eviction/lru", body=b"{}"), 400)


def wait_for(front: Front, field: str, value: object) -> None:
    def said() -> object:
        rebalance = cluster(front)["rebalance"]
        assert isinstance(rebalance, dict)
        return rebalance[field]

    wait_until(lambda: said() == value, f"{field} is {value}")


def test_operators_requests_take_no_body(front: Front) -> None:
    for target in ("/cluster/rebalance/resume", "/cluster/nodes/aux1/drain"):
        method = "DELETE" if target.endswith("drain") else "POST"
        assert_problem(front.request(method, target, body=b"{}"), 400)


def test_health_and_readiness(front: Front) -> None:
    for path in ("/healthz", "/readyz"):
        reply = front.request("GET", path)
        assert reply.status == 200
        assert reply.get("Cache-Control") == "no-store"
        assert reply.json()["status"]


def test_metrics_are_prometheus_text(front: Front) -> None:
    if front.name == "fake":
        pytest.skip("the fake has none")
    reply = front.request("GET", "/metrics")
    if front.proxied:
        assert_problem(reply, 404)
        return
    assert reply.status == 200
    assert (reply.get("Content-Type") or "").startswith("text/plain; version=")
    for name in ("requests_total", "request_seconds_bucket", "hits_total", "epoch", "links_up"):
        assert f"\nringmaster_{name}" in reply.body.decode()


def test_pages_need_nothing_from_outside(front: Front) -> None:
    for path in ("/", "/docs"):
        page = front.request("GET", path)
        assert page.status == 200
        assert page.get("Content-Type") == "text/html; charset=utf-8"
        policy = page.get("Content-Security-Policy") or ""
        assert policy.startswith("default-src 'none'")
        assert "unsafe" not in policy
        assert not re.search(rb"(src|href)=.(https?:)?//", page.body)


def test_openapi_describes_the_routes(front: Front) -> None:
    document = front.request("GET", "/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    assert {"/data", "/data/{key}", "/data/bulk", "/cluster", "/healthz"} <= set(document["paths"])


def events(front: Front, *headers: tuple[str, str]) -> tuple[Response, list[bytes]]:
    """The head of the stream, and its first two blocks."""
    with front.connect() as connection:
        fields = "".join(f"{name}: {value}\r\n" for name, value in headers)
        connection.send(
            f"GET /cluster/events HTTP/1.1\r\nHost: localhost\r\n"
            f"Accept: text/event-stream\r\n{fields}\r\n".encode()
        )
        head = connection.read_until(b"\r\n\r\n")
        status = int(head.split(b" ", 2)[1])
        lines = head.decode().split("\r\n")[1:-2]
        pairs = tuple((name, value.strip()) for name, _, value in (x.partition(":") for x in lines))
        blocks = []
        if status == 200:
            while len(blocks) < 2:
                block = connection.read_until(b"\n\n")
                blocks += [] if block.lstrip(b"\r\n0123456789abcdef").startswith(b": ") else [block]
        return Response(status, pairs, b""), blocks


def test_events_begin_with_the_present_view(front: Front) -> None:
    if front.name == "fake":
        pytest.skip("the fake publishes no views")
    head, blocks = events(front)
    assert head.status == 200
    assert (head.get("Content-Type") or "").startswith("text/event-stream")
    assert head.get("Cache-Control") == "no-store"
    assert b"retry: " in blocks[0]
    match = re.search(rb"id: (\d+)\nevent: view\ndata: (\{.*\})\n\n", blocks[1])
    assert match is not None


def test_a_bad_last_event_id_is_400(front: Front) -> None:
    reply = front.request("GET", "/cluster/events", [("Last-Event-ID", "x")])
    assert_problem(reply, 400)


def test_settings_are_read_and_patched_by_version(front: Front) -> None:
    target = "/cluster/settings"
    kind = ("Content-Type", "application/merge-patch+json")
    before = front.request("GET", target)
    assert before.status == 200
    assert before.get("Cache-Control") == "no-store"
    assert before.get("ETag") == f'"{before.json()["version"]}"'
    tag = ("If-Match", before.get("ETag") or "")
    done = front.request("PATCH", target, [kind, tag], b'{"max_fills":64}')
    try:
        assert done.status == 200
        assert done.json()["changed"]["max_fills"] == 64
        assert_problem(front.request("PATCH", target, [kind, tag], b'{"max_fills":65}'), 412)
        assert_problem(front.request("PATCH", target, [kind], b'{"max_fills":0}'), 400)
        assert_problem(front.request("PATCH", target, [kind], b'{"port":1}'), 400)
        assert_problem(
            front.request("PATCH", target, [kind, ("Origin", "http://evil.example")], b"{}"), 403
        )
        assert_problem(front.request("PATCH", f"{target}?x=1", [kind], b"{}"), 400)
        assert_problem(front.request("PUT", target, [kind], b"{}"), 405)
        assert front.request("OPTIONS", target).get("Allow") == "GET, HEAD, OPTIONS, PATCH"
    finally:
        after = front.request("PATCH", target, [kind], b'{"max_fills":null}')
    assert after.json()["changed"].get("max_fills") is None
    if front.name != "fake":
        wait_until(lambda: front.request("GET", target).json()["followed"], "all follow")

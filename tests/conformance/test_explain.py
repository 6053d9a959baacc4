"""`GET /data/{key}?explain` and `GET /cluster/evictions`: why a miss is one."""

from __future__ import annotations

import time

import pytest

from tests.conformance.fronts import Front, assert_problem

FIELDS = {"key", "state", "at", "by", "detail", "node", "partition", "unreachable", "entry"}


def explained(front: Front, target: str) -> dict[str, object]:
    reply = front.request("GET", target)
    assert reply.status == 200
    assert reply.get("Content-Type") == "application/json"
    assert reply.get("Cache-Control") == "no-store"
    body: dict[str, object] = reply.json()
    assert set(body) == FIELDS
    return body


def test_a_key_that_is_there_is_present_with_what_locate_says(front: Front, key: str) -> None:
    put = front.request("PUT", f"/data/{key}?tag=a&ttl=60", body=b"12345")
    body = explained(front, f"/data/{key}?explain")
    located = front.request("GET", f"/cluster/locate/{key}?meta=1").json()
    assert (body["key"], body["state"], body["by"]) == (key, "present", None)
    assert (body["node"], body["partition"]) == (located["primary"], located["partition"])
    entry = body["entry"]
    assert isinstance(entry, dict)
    assert f'"{entry["version"]}"' == put.get("ETag")
    assert {**entry, "ttl": 0} == {**located["entry"], "ttl": 0}
    assert entry["restored"] is False


def test_each_way_to_lose_a_key_is_told(front: Front, key: str) -> None:
    if front.name == "fake":
        pytest.skip("the fake has no nodes that remember")
    assert explained(front, f"/data/{key}?explain")["state"] == "unknown"
    front.request("PUT", f"/data/{key}?ttl=0.05&tag=tag-{key}", body=b"1")
    time.sleep(0.1)  # its time to live
    assert explained(front, f"/data/{key}?explain")["state"] == "expired"
    front.request("PUT", f"/data/{key}?tag=tag-{key}", body=b"1")
    front.request("DELETE", f"/data?tag=tag-{key}")
    body = explained(front, f"/data/{key}?explain")
    assert (body["state"], body["by"]) == ("invalidated", f"tag-{key}")
    front.request("PUT", f"/data/{key}", body=b"1")
    front.request("DELETE", f"/data/{key}")
    body = explained(front, f"/data?key={key}&explain")
    assert (body["state"], body["by"], body["entry"]) == ("deleted", "HTTP", None)
    assert str(body["at"]).endswith("Z")


def test_a_bulk_delete_is_a_delete(front: Front, key: str) -> None:
    front.request("PUT", f"/data/{key}", body=b"1")
    front.request("POST", "/data/bulk/delete", body=b'["%b"]' % key.encode())
    if front.name != "fake":
        assert explained(front, f"/data/{key}?explain")["state"] == "deleted"


@pytest.mark.parametrize("query", ["explain=0", "explain=yes", "explain&explain", "explain&ttl=1"])
def test_explain_takes_nothing_beside_it(front: Front, key: str, query: str) -> None:
    assert_problem(front.request("GET", f"/data/{key}?{query}"), 400)


@pytest.mark.parametrize("method", ["PUT", "POST", "DELETE"])
def test_explain_is_for_get_alone(front: Front, key: str, method: str) -> None:
    front.request("PUT", f"/data/{key}", body=b"1")
    assert_problem(front.request(method, f"/data/{key}?explain"), 400)
    assert front.request("HEAD", f"/data/{key}?explain").status == 400
    assert front.request("GET", f"/data/{key}").body == b"1"


def test_explain_needs_a_key(front: Front) -> None:
    assert_problem(front.request("GET", "/data?explain"), 400)
    assert_problem(front.request("GET", "/data?prefix=a&explain"), 400)


def test_evictions_have_the_shape_of_the_contract(front: Front) -> None:
    reply = front.request("GET", "/cluster/evictions?limit=5")
    assert reply.status == 200
    body = reply.json()
    assert set(body) == {"evictions", "nodes", "unreachable"}
    assert all(set(row) == {"prefix", "by", "count"} for row in body["evictions"])
    assert all(set(node) == {"id", "since", "evictions"} for node in body["nodes"])
    if front.name != "fake":
        assert [node["id"] for node in body["nodes"]] == ["aux1", "aux2"]
    for limit in ("0", "1001", "x"):
        assert_problem(front.request("GET", f"/cluster/evictions?limit={limit}"), 400)

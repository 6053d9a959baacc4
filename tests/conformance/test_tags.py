"""Tags: what carries one is gone for every reader once its invalidation has returned; and values served stale."""

from __future__ import annotations

import json
import time
from typing import Any
from urllib.parse import quote

import pytest

from tests.conformance.fronts import Front, assert_problem


def post(front: Front, key: str, value: object, **more: Any) -> None:
    body = json.dumps({"key": key, "value": value, **more}).encode()
    assert front.request("POST", "/data", body=body).status in (200, 201)


def status(front: Front, key: str) -> int:
    return front.request("GET", f"/data/{key}").status


@pytest.fixture
def tag(key: str) -> str:
    return f"tag-{key}"


def test_an_invalidation_takes_all_that_carries_the_tag_and_nothing_else(
    front: Front, key: str, tag: str
) -> None:
    post(front, f"{key}-1", 1, tags=[tag, "other"])
    post(front, f"{key}-2", {"a": 2}, tags=["x", tag], ttl=100)
    post(front, f"{key}-3", 3, tags=[f"{tag}-not"])
    post(front, f"{key}-4", 4)
    assert front.request("PUT", f"/data/{key}-5?tag={tag}&tag=z", body=b"5").status == 201
    body = json.dumps([{"key": f"{key}-6", "value": 6, "tags": [tag]}]).encode()
    assert front.request("POST", "/data/bulk", body=body).status == 200
    assert [status(front, f"{key}-{n}") for n in range(1, 7)] == [200] * 6
    reply = front.request("DELETE", f"/data?tag={tag}")
    assert reply.status == 204
    assert reply.body == b""
    assert [status(front, f"{key}-{n}") for n in range(1, 7)] == [404, 404, 200, 200, 404, 404]


def test_what_was_invalidated_is_there_for_nobody(front: Front, key: str, tag: str) -> None:
    post(front, key, 1, tags=[tag])
    etag = front.request("GET", f"/data/{key}").get("ETag")
    assert front.request("DELETE", f"/data?tag={tag}").status == 204
    assert front.request("HEAD", f"/data/{key}").status == 404
    listed = json.loads(front.request("GET", f"/data?prefix={key}").body)
    assert listed["keys"] == []
    wanted = json.dumps([key]).encode()
    assert json.loads(front.request("POST", "/data/bulk/get", body=wanted).body)["values"] == {}
    refused = front.request("PUT", f"/data/{key}", [("If-Match", etag)], b"x")
    assert refused.status == 412
    assert_problem(front.request("POST", f"/data/{key}?ttl=5"), 404)
    created = front.request("PUT", f"/data/{key}", [("If-None-Match", "*")], b"x")
    assert created.status == 201


def test_what_is_written_after_an_invalidation_lives(front: Front, key: str, tag: str) -> None:
    for number in range(5):
        post(front, key, number, tags=[tag])
        assert front.request("DELETE", f"/data?tag={tag}").status == 204
        assert status(front, key) == 404
        post(front, key, number, tags=[tag])
        assert status(front, key) == 200


def test_several_tags_go_at_once_and_one_that_nothing_carries_is_as_good(
    front: Front, key: str, tag: str
) -> None:
    post(front, f"{key}-1", 1, tags=[f"{tag}-1"])
    post(front, f"{key}-2", 2, tags=[f"{tag}-2"])
    target = f"/data?tag={tag}-1&tag={tag}-2&tag={tag}-3"
    assert front.request("DELETE", target).status == 204
    assert front.request("DELETE", target).status == 204
    assert status(front, f"{key}-1") == status(front, f"{key}-2") == 404


@pytest.mark.parametrize("name", ["a b&c=d", "ä€😀", "%41", "x" * 128, "\n"])
def test_any_text_can_be_a_tag(front: Front, key: str, name: str) -> None:
    post(front, key, 1, tags=[name])
    assert front.request("DELETE", f"/data?tag={quote(name, safe='')}").status == 204
    assert status(front, key) == 404


@pytest.mark.parametrize(
    "tags",
    [[""], ["x" * 129], ["é" * 65], [1], "t", {"t": 1}, [None], [f"t{n}" for n in range(17)]],
)
def test_bad_tags_are_400_and_change_nothing(front: Front, key: str, tags: object) -> None:
    body = json.dumps({"key": key, "value": 1, "tags": tags}).encode()
    assert_problem(front.request("POST", "/data", body=body), 400)
    assert status(front, key) == 404


@pytest.mark.parametrize(
    "query",
    [
        "tag=",
        "tag=" + "x" * 129,
        "&".join(f"tag=t{number}" for number in range(17)),
        "tag=t&ttl=5",
        "tag=t&key=k",
        "tag=%ff",
    ],
)
def test_a_bad_invalidation_is_400(front: Front, query: str) -> None:
    assert_problem(front.request("DELETE", f"/data?{query}"), 400)


def test_a_tag_that_is_named_again_counts_once(front: Front, key: str) -> None:
    post(front, key, 1, tags=["t"] * 20)
    assert front.request("DELETE", f"/data?{'&'.join(['tag=u'] * 20)}").status == 204
    assert status(front, key) == 200
    refused = front.request("DELETE", f"/data?{'&'.join(['tag=u'] * 65)}")
    assert_problem(refused, 400)


def test_too_many_tags_are_said_to_be_of_a_request_or_of_an_entry(front: Front) -> None:
    query = "&".join(f"tag=t{number}" for number in range(17))
    for method, words in (
        ("DELETE", "one request invalidates 16"),
        ("PUT", "an entry may carry 16"),
    ):
        target = f"/data?{query}" + ("&key=k" if method == "PUT" else "")
        refused = front.request(method, target, body=b"1" if method == "PUT" else None)
        assert words in str(assert_problem(refused, 400)["detail"])


def test_a_bad_tag_of_a_put_is_400(front: Front, key: str) -> None:
    assert_problem(front.request("PUT", f"/data/{key}?tag=", body=b"1"), 400)
    assert_problem(front.request("DELETE", f"/data/{key}?tag=t"), 400)
    assert status(front, key) == 404


def test_a_condition_goes_with_a_key_and_not_with_tags(front: Front, key: str, tag: str) -> None:
    post(front, key, 1, tags=[tag])
    for name in ("If-Match", "If-None-Match"):
        for condition in ("*", '"of-nobody"'):
            refused = front.request("DELETE", f"/data?tag={tag}", [(name, condition)])
            assert "with tags" in str(assert_problem(refused, 400)["detail"])
    assert status(front, key) == 200


def test_a_bulk_item_with_a_bad_tag_leaves_the_others_alone(front: Front, key: str) -> None:
    items = [{"key": f"{key}-1", "value": 1, "tags": [""]}, {"key": f"{key}-2", "value": 2}]
    reply = front.request("POST", "/data/bulk", body=json.dumps(items).encode())
    assert [result["status"] for result in json.loads(reply.body)["results"]] == [400, 201]


def test_a_value_is_served_stale_after_its_time_and_then_no_more(front: Front, key: str) -> None:
    post(front, key, 1, ttl=0.3, swr=1.2)
    fresh = front.request("GET", f"/data/{key}")
    assert "stale" not in fresh.get("Cache-Status")
    time.sleep(0.5)  # the value's own time passes
    stale = front.request("GET", f"/data/{key}")
    assert stale.status == 200
    assert "; hit; stale; ttl=-" in stale.get("Cache-Status")
    wanted = json.dumps([key]).encode()
    values = json.loads(front.request("POST", "/data/bulk/get", body=wanted).body)["values"]
    assert values == {key: 1}
    time.sleep(1.2)
    assert status(front, key) == 404


@pytest.mark.parametrize("fields", [{"swr": 5}, {"swr": 5, "ttl": 0}, {"swr": -1, "ttl": 1}])
def test_a_bad_swr_is_400(front: Front, key: str, fields: dict[str, float]) -> None:
    body = json.dumps({"key": key, "value": 1, **fields}).encode()
    assert_problem(front.request("POST", "/data", body=body), 400)
    query = "&".join(f"{name}={value}" for name, value in fields.items())
    assert_problem(front.request("PUT", f"/data/{key}?{query}", body=b"1"), 400)
    assert status(front, key) == 404

"""/data/bulk: many entries in one request."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from tests.conformance.fronts import LIMITS, Front, assert_problem
from tests.conformance.raw_http import Response


def post(front: Front, path: str, body: Any) -> Response:
    return front.request("POST", path, body=json.dumps(body).encode())


def test_items_are_written_in_order_and_independently(front: Front, key: str) -> None:
    front.request("PUT", f"/data/{key}-old", body=b"x")
    items = [
        {"key": f"{key}-new", "value": [1, {"a": None}]},
        {"key": f"{key}-old", "value": 2, "ttl": 100},
        {"key": "", "value": 3},
        {"key": f"{key}-bad", "value": 4, "ttl": -1},
        {"key": f"{key}-cond", "value": 5, "if_match": "*"},
        {"value": 6},
        7,
        {"key": f"{key}-more", "value": 8, "tll": 5},
        {"key": f"{key}-less"},
    ]
    reply = post(front, "/data/bulk", items)
    assert reply.status == 200
    assert reply.get("Cache-Control") == "no-store"
    assert set(reply.json()) == {"results"}
    results = reply.json()["results"]
    assert [each["status"] for each in results] == [201, 200, 400, 400, 412, 400, 400, 400, 400]
    assert [each["key"] for each in results[:5]] == [
        f"{key}-new",
        f"{key}-old",
        "",
        f"{key}-bad",
        f"{key}-cond",
    ]
    assert [each["key"] for each in results[5:]] == [None, None, f"{key}-more", f"{key}-less"]
    assert all(set(each) == {"key", "status", "version"} for each in results[:2])
    assert all({"type", "title", "detail"} <= set(each) for each in results[2:])
    assert front.request("GET", f"/data/{key}-new").json()["value"] == [1, {"a": None}]
    assert front.request("GET", f"/data/{key}-new").etag == f'"{results[0]["version"]}"'
    assert "ttl" in (front.request("GET", f"/data/{key}-old").get("Cache-Status") or "")
    assert front.request("GET", f"/data/{key}-bad").status == 404
    assert front.request("GET", f"/data/{key}-cond").status == 404


def test_values_written_in_bulk_are_the_bytes_that_were_sent(front: Front, key: str) -> None:
    body = b'[ {"key":"%b","value":{"b" : 1.50, "n":12345678901234567890} } ]' % key.encode()
    assert front.request("POST", "/data/bulk", body=body).status == 200
    read = front.request("GET", f"/data/{key}")
    assert b'{"b" : 1.50, "n":12345678901234567890}' in read.body


def test_a_key_twice_is_400_and_nothing_is_written(front: Front, key: str) -> None:
    items = [{"key": key, "value": 1}, {"key": f"{key}-2", "value": 1}, {"key": key, "value": 2}]
    assert_problem(post(front, "/data/bulk", items), 400)
    assert front.request("GET", f"/data/{key}").status == 404
    assert front.request("GET", f"/data/{key}-2").status == 404


def test_get_returns_what_is_there(front: Front, key: str) -> None:
    front.request("POST", "/data", body=b'{"key":"%b-json","value":{"x":1}}' % key.encode())
    put = [("Content-Type", "text/plain"), ("Content-Encoding", "br")]
    front.request("PUT", f"/data/{key}-put", put, b"\x00bytes")
    reply = post(front, "/data/bulk/get", [f"{key}-put", f"{key}-missing", f"{key}-put", ""])
    assert reply.status == 200
    assert reply.get("Cache-Control") == "no-store"
    found = reply.json()["values"][f"{key}-put"]
    assert found["content_type"] == "text/plain"
    assert base64.b64decode(found["base64"]) == b"\x00bytes"
    assert set(reply.json()["values"]) == {f"{key}-put"}
    assert set(reply.json()["errors"]) == {""}
    assert reply.json()["errors"][""]["status"] == 400


def test_get_with_meta_says_version_and_ttl(front: Front, key: str) -> None:
    etag = front.request("PUT", f"/data/{key}-p", body=b"x").etag
    front.request("POST", "/data", body=b'{"key":"%b-j","value":[1],"ttl":50}' % key.encode())
    values = post(front, "/data/bulk/get?meta=1", [f"{key}-p", f"{key}-j"]).json()["values"]
    assert values[f"{key}-p"] == {
        "content_type": "application/octet-stream",
        "base64": "eA==",
        "version": etag.strip('"'),
        "ttl": None,
    }
    assert values[f"{key}-j"]["value"] == [1]
    assert 0 < values[f"{key}-j"]["ttl"] <= 50
    assert post(front, "/data/bulk/get?meta=0", [f"{key}-j"]).json()["values"] == {f"{key}-j": [1]}
    assert_problem(post(front, "/data/bulk/get?meta=2", []), 400)


def test_delete_counts_what_was_there(front: Front, key: str) -> None:
    for number in range(3):
        front.request("PUT", f"/data/{key}-{number}", body=b"x")
    wanted = [f"{key}-{number}" for number in range(4)]
    reply = post(front, "/data/bulk/delete", [*wanted, wanted[0], "k" * 513])
    assert reply.status == 200
    assert reply.json()["deleted"] == 3
    assert set(reply.json()["errors"]) == {"k" * 513}
    assert post(front, "/data/bulk/get", wanted).json() == {"values": {}, "errors": {}}


def test_empty_lists_are_fine(front: Front) -> None:
    assert post(front, "/data/bulk", []).json() == {"results": []}
    assert post(front, "/data/bulk/get", []).json() == {"values": {}, "errors": {}}
    assert post(front, "/data/bulk/delete", []).json() == {"deleted": 0, "errors": {}}


@pytest.mark.parametrize("body", [b"", b"{}", b"null", b"[1", b"[1]x", b"[{]", b'["\xff"]'])
@pytest.mark.parametrize("path", ["/data/bulk", "/data/bulk/get", "/data/bulk/delete"])
def test_malformed_json_is_400(front: Front, path: str, body: bytes) -> None:
    assert_problem(front.request("POST", path, body=body), 400)


@pytest.mark.parametrize("path", ["/data/bulk", "/data/bulk/get", "/data/bulk/delete"])
def test_too_many_items_are_413(front: Front, path: str) -> None:
    item: Any = {"key": "x", "value": 1} if path == "/data/bulk" else "x"
    assert_problem(post(front, path, [item] * (LIMITS.max_items + 1)), 413)


@pytest.mark.parametrize("path", ["/data/bulk", "/data/bulk/get", "/data/bulk/delete"])
def test_a_body_above_the_limit_is_413_before_it_is_read(front: Front, path: str) -> None:
    length = [("Content-Length", str(LIMITS.max_bulk + 1))]
    with front.connect() as connection:
        connection.send(f"POST {path} HTTP/1.1\r\nHost: localhost\r\n".encode())
        connection.send(f"Content-Length: {length[0][1]}\r\n\r\n[".encode())
        assert_problem(connection.read_response(), 413)


def test_an_item_above_the_value_limit_fails_alone(front: Front, key: str) -> None:
    items = [
        {"key": f"{key}-large", "value": "x" * (LIMITS.max_value + 1)},
        {"key": f"{key}-small", "value": 1},
    ]
    results = post(front, "/data/bulk", items).json()["results"]
    assert [each["status"] for each in results] == [413, 201]
    assert front.request("GET", f"/data/{key}-large").status == 404


def test_ten_thousand_items_make_the_round_trip(front: Front, key: str) -> None:
    wanted = {f"{key}/{number}": number for number in range(LIMITS.max_items)}
    items = [{"key": each, "value": value} for each, value in wanted.items()]
    results = post(front, "/data/bulk", items).json()["results"]
    assert [each["status"] for each in results] == [201] * len(items)
    assert post(front, "/data/bulk/get", list(wanted)).json() == {"values": wanted, "errors": {}}
    assert post(front, "/data/bulk/delete", list(wanted)).json()["deleted"] == len(wanted)


def test_a_bulk_get_of_too_many_bytes_is_413(front: Front, key: str) -> None:
    count = LIMITS.max_bulk // LIMITS.max_value + 2
    value = bytes(LIMITS.max_value)
    wanted = [f"{key}-{number}" for number in range(count)]
    for each in wanted:
        assert front.request("PUT", f"/data/{each}", body=value).status == 201
    assert_problem(post(front, "/data/bulk/get", wanted), 413)
    assert len(post(front, "/data/bulk/get", wanted[:10]).json()["values"]) == 10
    post(front, "/data/bulk/delete", wanted)


def test_conditions_of_a_header_do_not_go_with_bulk(front: Front) -> None:
    for header in ("If-Match", "If-None-Match", "Fill-Token"):
        reply = front.request("POST", "/data/bulk", [(header, "*")], b"[]")
        assert_problem(reply, 400)


def test_bulk_paths_are_ordinary_keys_for_other_methods(front: Front) -> None:
    for name in ("bulk", "bulk/get", "bulk/delete"):
        assert front.request("PUT", f"/data/{name}", body=b"x").status in (201, 204)
        assert front.request("GET", f"/data/{name}").body == b"x"
        assert front.request("HEAD", f"/data/{name}").status == 200
        assert front.request("POST", f"/data?key={name}&ttl=9").status == 200
        assert front.request("DELETE", f"/data/{name}").status == 204

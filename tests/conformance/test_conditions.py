"""If-Match, If-None-Match, Range and If-Range."""

from __future__ import annotations

import pytest

from tests.conformance.fronts import Front, assert_problem
from tests.conformance.raw_http import Response


def put(front: Front, key: str, body: bytes = b"0123456789", **headers: str) -> Response:
    fields = [(name.replace("_", "-"), value) for name, value in headers.items()]
    return front.request("PUT", f"/data/{key}", fields, body)


def get(front: Front, key: str, **headers: str) -> Response:
    fields = [(name.replace("_", "-"), value) for name, value in headers.items()]
    return front.request("GET", f"/data/{key}", fields)


def test_put_if_absent(front: Front, key: str) -> None:
    created = put(front, key, b"first", If_None_Match="*")
    assert created.status == 201
    refused = put(front, key, b"second", If_None_Match="*")
    assert_problem(refused, 412)
    assert refused.etag == created.etag
    assert get(front, key).body == b"first"


def test_post_if_absent_by_header_and_by_field(front: Front, key: str) -> None:
    body = b'{"key":"%b","value":1}' % key.encode()
    assert front.request("POST", "/data", [("If-None-Match", "*")], body).status == 201
    assert_problem(front.request("POST", "/data", [("If-None-Match", "*")], body), 412)
    body = b'{"key":"%b","value":2,"if_none_match":"*"}' % key.encode()
    assert_problem(front.request("POST", "/data", body=body), 412)
    assert get(front, key).json()["value"] == 1


def test_compare_and_set(front: Front, key: str) -> None:
    first = put(front, key, b"1")
    second = put(front, key, b"2", If_Match=first.etag)
    assert second.status == 204
    refused = put(front, key, b"3", If_Match=first.etag)
    assert_problem(refused, 412)
    assert refused.etag == second.etag
    listed = put(front, key, b"3", If_Match=f'"nonsense", {second.etag} ,{first.etag}')
    assert listed.status == 204
    assert get(front, key).body == b"3"


def test_compare_and_set_by_fields_of_a_post(front: Front, key: str) -> None:
    body = '{"key":"%s","value":%d%s}'
    first = front.request("POST", "/data", body=(body % (key, 1, "")).encode()).json()["version"]
    for form in ('"%s"', '["%s"]', r'"\"%s\""'):
        text = body % (key, 2, f',"if_match":{form % first}')
        reply = front.request("POST", "/data", body=text.encode())
        assert reply.status == 200, form
        again = front.request("POST", "/data", body=text.encode())
        assert_problem(again, 412)
        first = again.etag.strip('"')
    text = body % (key, 3, ',"if_match":"*"')
    assert front.request("POST", "/data", body=text.encode()).status == 200


def test_replace_only(front: Front, key: str) -> None:
    refused = put(front, key, If_Match="*")
    assert_problem(refused, 412)
    assert refused.get("ETag") is None
    assert get(front, key).status == 404
    put(front, key)
    assert put(front, key, If_Match="*").status == 204


def test_delete_incr_and_touch_take_conditions(front: Front, key: str) -> None:
    tag = front.request("POST", f"/data/{key}?incr=1").etag
    wrong = [("If-Match", '"1-1-00000000"')]
    assert_problem(front.request("POST", f"/data/{key}?incr=1", wrong), 412)
    assert_problem(front.request("POST", f"/data/{key}?ttl=9", wrong), 412)
    assert_problem(front.request("DELETE", f"/data/{key}", wrong), 412)
    assert get(front, key).json()["value"] == 1
    assert front.request("POST", f"/data/{key}?ttl=9", [("If-Match", tag)]).status == 200
    counted = front.request("POST", f"/data/{key}?incr=1", [("If-Match", tag)])
    assert counted.json()["value"] == 2
    assert front.request("DELETE", f"/data/{key}", [("If-Match", counted.etag)]).status == 204
    assert_problem(front.request("DELETE", f"/data/{key}", [("If-Match", "*")]), 412)


def test_if_match_goes_before_if_none_match(front: Front, key: str) -> None:
    tag = put(front, key).etag
    assert put(front, key, If_Match='"x"', If_None_Match=tag).status == 412
    assert get(front, key, If_Match='"x"', If_None_Match=tag).status == 412
    assert get(front, key, If_Match=tag, If_None_Match=tag).status == 304


def test_a_weak_tag_matches_for_reading_only(front: Front, key: str) -> None:
    tag = put(front, key).etag
    assert get(front, key, If_None_Match=f"W/{tag}").status == 304
    assert put(front, key, If_Match=f"W/{tag}").status == 412


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_not_modified(front: Front, key: str, method: str) -> None:
    tag = put(front, key).etag
    for value in (tag, f'"other", {tag}', "*"):
        reply = front.request(method, f"/data/{key}", [("If-None-Match", value)])
        assert (reply.status, reply.body) == (304, b"")
        assert reply.etag == tag
        assert reply.get("Cache-Control") == "no-cache"
        assert (reply.get("Cache-Status") or "").startswith("ringmaster; hit")
    assert front.request(method, f"/data/{key}", [("If-None-Match", '"other"')]).status == 200
    assert front.request(method, f"/data/{key}-no", [("If-None-Match", "*")]).status == 404


@pytest.mark.parametrize("value", ["abc", '"abc', '"a" "b"', '*, "a"'])
@pytest.mark.parametrize("name", ["If-Match", "If-None-Match"])
def test_a_malformed_condition_is_400_and_changes_nothing(
    front: Front, key: str, name: str, value: str
) -> None:
    put(front, key, b"kept")
    assert_problem(front.request("PUT", f"/data/{key}", [(name, value)], b"new"), 400)
    assert_problem(front.request("GET", f"/data/{key}", [(name, value)]), 400)
    assert get(front, key).body == b"kept"


@pytest.mark.parametrize("value", ["", ",", " , ,"])
def test_an_empty_list_is_one_that_nothing_is_in(front: Front, key: str, value: str) -> None:
    put(front, key, b"kept")
    for method, name, status in (
        ("GET", "If-None-Match", 200),
        ("GET", "If-Match", 412),
        ("HEAD", "If-None-Match", 200),
        ("PUT", "If-Match", 412),
        ("DELETE", "If-Match", 412),
        ("PUT", "If-None-Match", 204),
    ):
        body = b"new" if method == "PUT" else None
        assert front.request(method, f"/data/{key}", [(name, value)], body).status == status
    assert get(front, key).body == b"new"


@pytest.mark.parametrize("field", ["1", '""', "[]", '["*"]', "[1]", "{}", "true"])
def test_a_malformed_condition_field_is_400(front: Front, key: str, field: str) -> None:
    body = f'{{"key":"{key}","value":1,"if_match":{field}}}'.encode()
    assert_problem(front.request("POST", "/data", body=body), 400)


def test_a_condition_said_twice_is_400(front: Front, key: str) -> None:
    body = f'{{"key":"{key}","value":1,"if_match":"*"}}'.encode()
    assert_problem(front.request("POST", "/data", [("If-Match", "*")], body), 400)


@pytest.mark.parametrize(
    ("asked", "part", "said"),
    [
        ("bytes=0-3", b"0123", "bytes 0-3/10"),
        ("bytes=4-", b"456789", "bytes 4-9/10"),
        ("bytes=-3", b"789", "bytes 7-9/10"),
        ("bytes=-99", b"0123456789", "bytes 0-9/10"),
        ("bytes=8-99", b"89", "bytes 8-9/10"),
        ("BYTES=9-9", b"9", "bytes 9-9/10"),
    ],
)
def test_one_range_of_a_put_value(
    front: Front, key: str, asked: str, part: bytes, said: str
) -> None:
    put(front, key, Content_Type="text/plain")
    reply = get(front, key, Range=asked)
    assert (reply.status, reply.body) == (206, part)
    assert reply.get("Content-Range") == said
    assert reply.get("Content-Type") == "text/plain"
    assert reply.etag == get(front, key).etag
    assert reply.get("Content-Security-Policy") == "sandbox"


@pytest.mark.parametrize("asked", ["bytes=10-", "bytes=10-20", "bytes=-0"])
def test_a_range_beyond_the_value_is_416(front: Front, key: str, asked: str) -> None:
    put(front, key)
    reply = get(front, key, Range=asked)
    assert_problem(reply, 416)
    assert reply.get("Content-Range") == "bytes */10"


@pytest.mark.parametrize("asked", ["lines=1-2", "bytes=3-1", "bytes=0-1,3-4", "bytes=", "x"])
def test_a_range_that_cannot_be_served_is_ignored(front: Front, key: str, asked: str) -> None:
    put(front, key)
    assert get(front, key, Range=asked).status == 200


def test_a_range_of_a_json_value_or_of_head_is_ignored(front: Front, key: str) -> None:
    put(front, key)
    assert front.request("HEAD", f"/data/{key}", [("Range", "bytes=0-1")]).status == 200
    front.request("POST", "/data", body=b'{"key":"%b","value":1}' % key.encode())
    assert get(front, key, Range="bytes=0-1").status == 200


def test_if_range_must_be_the_current_tag(front: Front, key: str) -> None:
    tag = put(front, key).etag
    assert get(front, key, Range="bytes=0-1", If_Range=tag).status == 206
    assert get(front, key, Range="bytes=0-1", If_Range='"old"').status == 200
    assert get(front, key, Range="bytes=0-1", If_Range=f"W/{tag}").status == 200
    assert get(front, key, Range="bytes=0-1", If_None_Match=tag).status == 304

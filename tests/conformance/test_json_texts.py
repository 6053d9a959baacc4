"""JSON at its edges: halves of surrogate pairs, lists with empty elements, weak tags, numbers below zero's."""

from __future__ import annotations

import pytest

from tests.conformance.fronts import Front, assert_problem

HALVES = [
    r'"\ud800"',
    r'"\uDC00x"',
    r'["\ud83d", "\ud83d\ude00", "\\ud800"]',
    r'{"\udfff": "\ud800\ud800"}',
]


def post(front: Front, key: str, value: str) -> int:
    return front.request(
        "POST", "/data", body=b'{"key":"%b","value":%b}' % (key.encode(), value.encode())
    ).status


@pytest.mark.parametrize("value", HALVES)
def test_half_a_surrogate_pair_is_legal_in_a_value(front: Front, key: str, value: str) -> None:
    assert post(front, key, value) == 201
    expected = b'{"key":"%b","value":%b}' % (key.encode(), value.encode())
    assert front.request("GET", f"/data/{key}").body == expected
    read = front.request("POST", "/data/bulk/get", body=b'["%b"]' % key.encode())
    assert b'"%b":%b' % (key.encode(), value.encode()) in read.body


@pytest.mark.parametrize("value", HALVES)
def test_half_a_surrogate_pair_in_one_item_leaves_the_others_alone(
    front: Front, key: str, value: str
) -> None:
    body = f'[{{"key":"{key}a","value":1}}, {{"key":"{key}b" , "value" : {value}}},{{"key":"\\ud800","value":2}}]'
    reply = front.request("POST", "/data/bulk", body=body.encode())
    assert [item["status"] for item in reply.json()["results"]] == [201, 201, 400]
    expected = f'{{"key":"{key}b","value":{value}}}'.encode()
    assert front.request("GET", f"/data/{key}b").body == expected


def test_half_a_surrogate_pair_is_no_key_and_that_is_said(front: Front) -> None:
    reply = front.request("POST", "/data", body=rb'{"key":"\ud800","value":1}')
    assert "surrogate" in str(assert_problem(reply, 400)["detail"])
    reply = front.request("POST", "/data/bulk/get", body=rb'["\ud800","a"]')
    assert [problem["status"] for problem in reply.json()["errors"].values()] == [400]


@pytest.mark.parametrize("form", ["{},, {}", ", {}, {}", "{}, {} ,", ",,{}\t,,{},"])
def test_empty_elements_of_a_list_do_not_count(front: Front, key: str, form: str) -> None:
    front.request("PUT", f"/data/{key}", body=b"0123456789")
    etag = front.request("GET", f"/data/{key}").etag
    tags = form.format('"x"', etag)
    assert front.request("GET", f"/data/{key}", [("If-None-Match", tags)]).status == 304
    assert front.request("GET", f"/data/{key}", [("If-Match", tags)]).status == 200
    assert front.request("PUT", f"/data/{key}", [("If-Match", tags)], b"0123456789").status == 204
    ranged = front.request("GET", f"/data/{key}", [("Range", "bytes=, 2-3 ,")])
    assert (ranged.status, ranged.body) == (206, b"23")
    assert front.request("GET", f"/data/{key}", [("If-Match", ",, *")]).status == 200


def test_a_list_of_nothing_matches_nothing(front: Front, key: str) -> None:
    post(front, key, "1")
    assert front.request("GET", f"/data/{key}", [("If-None-Match", " , ,")]).status == 200
    assert_problem(front.request("GET", f"/data/{key}", [("If-Match", " , ,")]), 412)


def test_a_weak_tag_matches_nothing_that_is_to_be_replaced(front: Front, key: str) -> None:
    post(front, key, "1")
    etag = front.request("GET", f"/data/{key}").etag
    weak = f'{{"key":"{key}","value":2,"if_match":"W/{etag}"}}'.replace('"W/"', '"W/\\"').replace(
        '""}', '\\""}'
    )
    assert_problem(front.request("POST", "/data", body=weak.encode()), 412)
    assert_problem(front.request("DELETE", f"/data/{key}", [("If-Match", f"W/{etag}")]), 412)


@pytest.mark.parametrize("stored", ["-0", "0", "-1"])
def test_whatever_json_calls_an_integer_can_be_incremented(
    front: Front, key: str, stored: str
) -> None:
    post(front, key, stored)
    reply = front.request("POST", f"/data/{key}?incr=2")
    assert reply.json()["value"] == int(stored) + 2

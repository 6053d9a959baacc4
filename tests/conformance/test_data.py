"""/data: one entry at a time, header by header."""

from __future__ import annotations

import re

import pytest

from tests.conformance.fronts import Front, assert_problem
from tests.e2e.waiting import wait_until

HIT_STATUS = re.compile(r"ringmaster; hit(; ttl=\d+)?; detail=[A-Za-z0-9._-]+")
VERSION = re.compile(r"[0-9a-f]+-[0-9a-f]+-[0-9a-f]{8}")


def post(front: Front, key: str, value: str, extra: str = "") -> None:
    body = f'{{"key":"{key}","value":{value}{extra}}}'
    assert front.request("POST", "/data", body=body.encode()).status in (200, 201)


def test_post_creates_then_replaces(front: Front, key: str) -> None:
    body = b'{"key":"%b","value":1}' % key.encode()
    created = front.request("POST", "/data", body=body)
    assert created.status == 201
    assert created.get("Location") == f"/data/{key}"
    assert created.get("Content-Type") == "application/json"
    assert created.get("Cache-Control") == "no-store"
    assert created.get("Date")
    assert set(created.json()) == {"key", "version", "expires_at"}
    assert created.json()["expires_at"] is None
    assert VERSION.fullmatch(created.json()["version"])
    assert created.etag == f'"{created.json()["version"]}"'
    replaced = front.request("POST", "/data", body=body)
    assert replaced.status == 200
    assert replaced.get("Location") is None
    assert replaced.etag != created.etag


@pytest.mark.parametrize(
    "value",
    [
        "1",
        "-0",
        "1.0",
        "1E400",
        "123456789012345678901234567890",
        '"x"',
        r'"\u00e9\/é😀"',
        "null",
        "true",
        "[]",
        "{}",
        '{"b" : 1,\t"a":[ 2 ] , "a":3}',
        '"' + "x" * 200_000 + '"',
        "[" * 100 + "]" * 100,
    ],
    ids=lambda value: value[:20],
)
def test_a_json_value_comes_back_as_the_bytes_that_were_sent(
    front: Front, key: str, value: str
) -> None:
    post(front, key, value)
    read = front.request("GET", f"/data/{key}")
    assert read.body == f'{{"key":"{key}","value":{value}}}'.encode()
    assert read.get("Content-Type") == "application/json"


def test_a_hit_has_the_headers_of_the_contract(front: Front, key: str) -> None:
    post(front, key, "1")
    hit = front.request("GET", f"/data/{key}")
    assert hit.status == 200
    assert VERSION.fullmatch(hit.etag.strip('"'))
    assert int(hit.get("Age") or "-1") >= 0
    assert hit.get("Cache-Control") == "no-cache"
    assert HIT_STATUS.fullmatch(hit.get("Cache-Status") or "")
    assert "ttl" not in (hit.get("Cache-Status") or "")
    assert hit.get("X-Content-Type-Options") == "nosniff"
    assert hit.get("Content-Security-Policy") == "sandbox"
    assert hit.get("Content-Length") == str(len(hit.body))
    assert hit.get("Date")
    assert "aiohttp" not in (hit.get("Server") or "")


def test_a_miss_is_a_problem_that_says_miss(front: Front, key: str) -> None:
    miss = front.request("GET", f"/data/{key}")
    assert_problem(miss, 404)
    assert miss.get("Cache-Status") == "ringmaster; fwd=miss"


def test_put_creates_then_replaces_bytes(front: Front, key: str) -> None:
    created = front.request("PUT", f"/data/{key}", body=b"\x00\xff one")
    assert (created.status, created.body) == (201, b"")
    assert created.get("Location") == f"/data/{key}"
    assert created.get("Cache-Control") == "no-store"
    replaced = front.request("PUT", f"/data/{key}", body=b"two")
    assert (replaced.status, replaced.body) == (204, b"")
    assert replaced.etag != created.etag
    read = front.request("GET", f"/data/{key}")
    assert (read.body, read.etag) == (b"two", replaced.etag)
    assert read.get("Content-Type") == "application/octet-stream"
    assert front.request("HEAD", f"/data/{key}").etag == replaced.etag


@pytest.mark.parametrize("size", [0, 1, 10, 1000, 65_535, 65_536, 300_000])
def test_bytes_of_any_size_come_back(front: Front, key: str, size: int) -> None:
    value = bytes(number * 7 % 251 for number in range(size))
    assert front.request("PUT", f"/data/{key}", body=value).status == 201
    assert front.request("GET", f"/data/{key}").body == value


def test_a_chunked_body_is_the_same_value(front: Front, key: str) -> None:
    headers = [("Transfer-Encoding", "chunked")]
    body = b"3\r\nabc\r\n4;x=y\r\ndefg\r\n0\r\n\r\n"
    assert front.request("PUT", f"/data/{key}", headers, body).status == 201
    assert front.request("GET", f"/data/{key}").body == b"abcdefg"


def test_content_headers_of_a_put_come_back_verbatim(front: Front, key: str) -> None:
    given = [
        ("Content-Type", 'text/html; charset="UTF-8"'),
        ("Content-Encoding", "gzip"),
        ("Content-Disposition", 'attachment; filename="a b.html"'),
    ]
    front.request("PUT", f"/data/{key}", given, b"\x1f\x8b not really gzip")
    for method in ("GET", "HEAD"):
        read = front.request(method, f"/data/{key}")
        assert read.status == 200
        for name, value in given:
            assert read.get(name) == value
    assert front.request("GET", f"/data/{key}").body == b"\x1f\x8b not really gzip"


def test_a_post_replaces_a_put_with_its_content_headers(front: Front, key: str) -> None:
    front.request("PUT", f"/data/{key}", [("Content-Encoding", "gzip")], b"x")
    post(front, key, "1")
    read = front.request("GET", f"/data/{key}")
    assert read.get("Content-Encoding") is None
    assert read.json()["value"] == 1


@pytest.mark.parametrize("kind", ["post", "put"])
def test_head_is_get_without_the_body(front: Front, key: str, kind: str) -> None:
    if kind == "post":
        post(front, key, '"some value"', ',"ttl":100')
    else:
        front.request("PUT", f"/data/{key}?ttl=100", [("Content-Type", "text/plain")], b"bytes")
    ignored = {"date", "age", "connection"}
    replies = [front.request(method, f"/data/{key}") for method in ("GET", "HEAD")]
    got, head = ({k.lower(): v for k, v in each.headers} for each in replies)
    assert {k: v for k, v in got.items() if k not in ignored} == {
        k: v for k, v in head.items() if k not in ignored
    }
    missing = front.request("HEAD", f"/data/{key}-missing")
    assert (missing.status, missing.body) == (404, b"")
    assert missing.get("Cache-Status") == "ringmaster; fwd=miss"


def test_delete_is_204_whether_or_not_there_was_one(front: Front, key: str) -> None:
    front.request("PUT", f"/data/{key}", body=b"x")
    for _ in range(2):
        gone = front.request("DELETE", f"/data/{key}")
        assert (gone.status, gone.body) == (204, b"")
        assert gone.get("Cache-Control") == "no-store"
    assert front.request("GET", f"/data/{key}").status == 404


def test_delete_without_a_key_is_400(front: Front) -> None:
    assert_problem(front.request("DELETE", "/data"), 400)


@pytest.mark.parametrize("kind", ["post", "put"])
def test_an_entry_with_a_ttl_expires(front: Front, key: str, kind: str) -> None:
    if kind == "post":
        post(front, key, "1", ',"ttl":0.3')
    else:
        front.request("PUT", f"/data/{key}?ttl=0.3", body=b"1")
    alive = front.request("GET", f"/data/{key}")
    assert alive.status == 200
    assert "; ttl=1;" in (alive.get("Cache-Status") or "")
    wait_until(lambda: front.request("GET", f"/data/{key}").status == 404, "expired", 5)
    assert front.request("HEAD", f"/data/{key}").status == 404


def test_expires_at_says_when(front: Front, key: str) -> None:
    body = b'{"key":"%b","value":1,"ttl":1000.5}' % key.encode()
    expires = front.request("POST", "/data", body=body).json()["expires_at"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", expires)


def test_a_ttl_of_zero_or_null_is_none(front: Front, key: str) -> None:
    for ttl in ("0", "0.0", "null"):
        post(front, key, "1", f',"ttl":{ttl}')
        assert "ttl" not in (front.request("GET", f"/data/{key}").get("Cache-Status") or "ttl")
    front.request("PUT", f"/data/{key}?ttl=0", body=b"1")
    assert "ttl" not in (front.request("GET", f"/data/{key}").get("Cache-Status") or "ttl")


def test_the_smallest_ttl_is_not_for_ever(front: Front, key: str) -> None:
    front.request("PUT", f"/data/{key}?ttl=0.0000000001", body=b"1")
    wait_until(lambda: front.request("GET", f"/data/{key}").status == 404, "expired", 1)


@pytest.mark.parametrize(
    "ttl", ["-1", "-0.5", "NaN", "Infinity", "1e400", '"60"', "true", "[1]", "{}", "1e15"]
)
def test_a_bad_ttl_in_json_is_400_and_changes_nothing(front: Front, key: str, ttl: str) -> None:
    post(front, key, "1")
    body = f'{{"key":"{key}","value":2,"ttl":{ttl}}}'.encode()
    assert_problem(front.request("POST", "/data", body=body), 400)
    assert front.request("GET", f"/data/{key}").json()["value"] == 1


@pytest.mark.parametrize("ttl", ["-1", "nan", "inf", "x", "", "1s", "1e400", "1e15", "1_0", "٣"])
def test_a_bad_ttl_in_a_query_is_400_and_changes_nothing(front: Front, key: str, ttl: str) -> None:
    front.request("PUT", f"/data/{key}", body=b"1")
    encoded = "".join(f"%{byte:02X}" for byte in ttl.encode())
    assert_problem(front.request("PUT", f"/data/{key}?ttl={encoded}", body=b"2"), 400)
    assert_problem(front.request("POST", f"/data/{key}?ttl={encoded}"), 400)
    assert front.request("GET", f"/data/{key}").body == b"1"


def test_incr_counts_from_zero(front: Front, key: str) -> None:
    first = front.request("POST", f"/data/{key}?incr=5")
    assert first.status == 200
    assert set(first.json()) == {"key", "value", "version"}
    assert (first.json()["key"], first.json()["value"]) == (key, 5)
    second = front.request("POST", f"/data?key={key}&incr=-7")
    assert second.json()["value"] == -2
    assert second.etag != first.etag
    assert front.request("GET", f"/data/{key}").json() == {"key": key, "value": -2}


def test_incr_gives_a_new_key_the_ttl(front: Front, key: str) -> None:
    front.request("POST", f"/data/{key}?incr=1&ttl=100")
    front.request("POST", f"/data/{key}?incr=1")
    status = front.request("GET", f"/data/{key}").get("Cache-Status") or ""
    assert "; ttl=100;" in status or "; ttl=99;" in status


@pytest.mark.parametrize("value", ['"1"', "1.5", "null", "[1]", "1e2", "true"])
def test_incr_of_no_integer_is_409(front: Front, key: str, value: str) -> None:
    post(front, key, value)
    assert_problem(front.request("POST", f"/data/{key}?incr=1"), 409)
    assert (
        front.request("GET", f"/data/{key}").body == f'{{"key":"{key}","value":{value}}}'.encode()
    )


def test_incr_that_overflows_is_409_and_changes_nothing(front: Front, key: str) -> None:
    largest = 2**63 - 1
    assert front.request("POST", f"/data/{key}?incr={largest}").json()["value"] == largest
    assert_problem(front.request("POST", f"/data/{key}?incr=1"), 409)
    assert front.request("GET", f"/data/{key}").json()["value"] == largest
    assert front.request("POST", f"/data/{key}?incr={-largest - 1}").json()["value"] == -1


@pytest.mark.parametrize("number", ["x", "", "1.5", "9223372036854775808", "-9223372036854775809"])
def test_a_bad_incr_is_400(front: Front, key: str, number: str) -> None:
    assert_problem(front.request("POST", f"/data/{key}?incr={number}"), 400)


def test_touch_changes_the_expiry_alone(front: Front, key: str) -> None:
    front.request("PUT", f"/data/{key}", [("Content-Type", "text/plain")], b"kept")
    before = front.request("GET", f"/data/{key}")
    touched = front.request("POST", f"/data/{key}?ttl=100")
    assert touched.status == 200
    assert touched.etag == before.etag
    after = front.request("GET", f"/data/{key}")
    assert (after.body, after.etag, after.get("Content-Type")) == (
        b"kept",
        before.etag,
        "text/plain",
    )
    assert re.search("; ttl=(100|99);", after.get("Cache-Status") or "")
    assert front.request("POST", f"/data/{key}?ttl=0").status == 200
    assert "ttl" not in (front.request("GET", f"/data/{key}").get("Cache-Status") or "ttl")


def test_touch_of_a_missing_key_is_404(front: Front, key: str) -> None:
    assert_problem(front.request("POST", f"/data/{key}?ttl=1"), 404)


def test_an_operation_takes_no_body_and_needs_a_parameter(front: Front, key: str) -> None:
    assert_problem(front.request("POST", f"/data/{key}?incr=1", body=b"1"), 400)
    assert_problem(front.request("POST", f"/data/{key}"), 400)
    assert front.request("GET", f"/data/{key}").status == 404


def test_keys_are_listed_by_prefix_page_by_page(front: Front, key: str) -> None:
    wanted = {f"{key}/é {number}" for number in range(25)}
    for each in wanted:
        body = b'[{"key":"%b","value":1}]' % each.encode()
        front.request("POST", "/data/bulk", body=body)
    front.request("PUT", f"/data/{key}-other", body=b"1")
    found: list[str] = []
    cursor = ""
    while True:
        page = front.request("GET", f"/data?prefix={key}/&limit=10{cursor}")
        assert page.status == 200
        assert page.get("Cache-Control") == "no-store"
        assert set(page.json()) == {"keys", "cursor"}
        assert len(page.json()["keys"]) <= 10
        found += page.json()["keys"]
        if page.json()["cursor"] is None:
            break
        cursor = f"&cursor={page.json()['cursor']}"
    assert sorted(found) == sorted(wanted)


def test_a_cursor_goes_with_its_prefix_and_as_it_was_returned(front: Front, key: str) -> None:
    for number in range(3):
        front.request("PUT", f"/data/{key}/{number}", body=b"1")
    first = front.request("GET", f"/data?prefix={key}/&limit=1").json()
    assert len(first["keys"]) == 1
    cursor = first["cursor"]
    if front.name != "fake":  # which counts keys
        changed = cursor[:-3] + ("A" if cursor[-3] != "A" else "B") + cursor[-2:]
        for prefix, other in ((f"{key}/1", cursor), ("", cursor), (f"{key}/", changed)):
            refused = front.request("GET", f"/data?prefix={prefix}&limit=1&cursor={other}")
            assert "prefix" in str(assert_problem(refused, 400)["detail"])
    rest = front.request("GET", f"/data?prefix={key}/&cursor={cursor}").json()
    assert sorted(first["keys"] + rest["keys"]) == [f"{key}/{number}" for number in range(3)]


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=x", "limit=-1", "cursor=nonsense", "limit=100000", "tag=t"]
)
def test_a_bad_listing_is_400(front: Front, query: str) -> None:
    assert_problem(front.request("GET", f"/data?prefix=a&{query}"), 400)


def test_get_without_key_or_prefix_is_400(front: Front) -> None:
    assert_problem(front.request("GET", "/data"), 400)


@pytest.mark.parametrize(
    ("method", "target", "headers", "body"),
    [
        ("PUT", "/data/x", [("Fill-Token", "abc")], b"1"),
        ("DELETE", "/data/x", [("Fill-Token", "abc")], None),
        ("PUT", "/data/x?tll=5", [], b"1"),
        ("GET", "/data/x?ttl=5", [], None),
        ("POST", "/data?ttl=5", [], b'{"key":"x","value":1}'),
        ("POST", "/data", [], b'{"key":"x","value":1,"tll":5}'),
        ("PUT", "/data/x", [("Content-Range", "bytes 0-1/2")], b"ab"),
    ],
)
def test_what_is_not_supported_is_refused_not_ignored(
    front: Front, method: str, target: str, headers: list[tuple[str, str]], body: bytes | None
) -> None:
    assert_problem(front.request(method, target, headers, body), 400)
    assert front.request("GET", "/data/x").status == 404


def test_what_curl_sends_is_json_whatever_its_type_says(front: Front, key: str) -> None:
    body = b'{"key":"%b","value":1}' % key.encode()
    form = [("Content-Type", "application/x-www-form-urlencoded"), ("Accept", "*/*")]
    assert front.request("POST", "/data", form, body).status == 201
    assert front.request("POST", "/data", [], body).status == 200

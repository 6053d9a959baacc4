"""The table of statuses: each with a request that earns it, and none that kills more than it must."""

from __future__ import annotations

import pytest

from tests.conformance.fronts import LIMITS, Front, assert_problem


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"x",
        b"{",
        b"null",
        b"[]",
        b'"x"',
        b"{}",
        b'{"key":"x"}',
        b'{"value":1}',
        b'{"key":"x","value":}',
        b'{"key":"x","value":NaN}',
        b'{"key":"x","value":[1,Infinity]}',
        b'{"key":"x","value":01}',
        b'{"key":"x","value":+1}',
        b'{"key":"x","value":.5}',
        b'{"key":"x","value":1.}',
        b"{'key':'x','value':1}",
        b'{"key":"x","value":1,}',
        b'{"key":"x","value":1}{}',
        b'{"key":"x","value":1} x',
        b'{"key":"x","value":1,"value":1}',
        b'{"key":"x","key":"x","value":1}',
        b'{"key":"x","k\\u0065y":"x","value":1}',
        b'{"key":"x","value":1,"ttl":1,"ttl":2}',
        b'{"key":"x","value":"\xff"}',
        b'{"key":"x","value":"\x01"}',
        b'{"key":"x","value":"\\x"}',
        b'{"key":"x","value":tru}',
        b'\xef\xbb\xbf{"key":"x","value":1}',
        b'{"key":"x","value":' + b"[" * 50_000 + b"]" * 50_000 + b"}",
        b'{"key":"x","value":/* no */1}',
    ],
    ids=lambda body: repr(body[:40]),
)
def test_malformed_json_is_400_and_the_connection_lives(front: Front, body: bytes) -> None:
    with front.connect() as connection:
        assert_problem(connection.request("POST", "/data", (), body), 400)
        if front.name != "fastpath":
            assert connection.request("GET", "/data/x").status == 404


def test_a_problem_says_what_to_do(front: Front) -> None:
    problem = assert_problem(front.request("PUT", "/data/x?ttl=-1", body=b""), 400)
    assert "ttl" in str(problem["detail"])
    assert "60" in str(problem["detail"])


@pytest.mark.parametrize(
    "path", ["/nope", "/data2", "/cluster/", "/Cluster", "/cluster/nope", "//"]
)
def test_an_unknown_route_is_404(front: Front, path: str) -> None:
    assert_problem(front.request("GET", path), 404)


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("PATCH", "/data/x", "DELETE, GET, HEAD, OPTIONS, POST, PUT"),
        ("PATCH", "/data/bulk", "DELETE, GET, HEAD, OPTIONS, POST, PUT"),
        ("POST", "/cluster", "GET, HEAD, OPTIONS"),
        ("PUT", "/healthz", "GET, HEAD, OPTIONS"),
        ("GET", "/cluster/rebalance/pause", "OPTIONS, POST"),
        ("GET", "/cluster/nodes/aux1/drain", "DELETE, OPTIONS, POST"),
        ("POST", "/cluster/nodes/aux1", "DELETE, OPTIONS"),
        ("DELETE", "/", "GET, HEAD, OPTIONS"),
    ],
)
def test_a_wrong_method_is_405_with_allow(front: Front, method: str, path: str, allow: str) -> None:
    reply = front.request(method, path)
    assert_problem(reply, 405)
    assert reply.get("Allow") == allow


@pytest.mark.parametrize("path", ["/data/x", "/data", "/cluster", "/data/bulk", "/"])
def test_options_is_204_with_allow(front: Front, path: str) -> None:
    reply = front.request("OPTIONS", path)
    assert (reply.status, reply.body) == (204, b"")
    assert "OPTIONS" in (reply.get("Allow") or "")
    assert "GET" in (reply.get("Allow") or "")


def test_a_value_above_the_limit_is_413_and_changes_nothing(front: Front, key: str) -> None:
    front.request("PUT", f"/data/{key}", body=b"kept")
    large = bytes(LIMITS.max_value + 1)
    assert_problem(front.request("PUT", f"/data/{key}", body=large), 413)
    text = b'{"key":"%b","value":"%b"}' % (key.encode(), b"x" * LIMITS.max_value)
    assert_problem(front.request("POST", "/data", body=text), 413)
    assert front.request("GET", f"/data/{key}").body == b"kept"


def test_the_largest_value_is_stored(front: Front, key: str) -> None:
    value = bytes(LIMITS.max_value)
    assert front.request("PUT", f"/data/{key}", body=value).status == 201
    assert front.request("GET", f"/data/{key}").body == value
    text = b'"%b"' % (b"x" * (LIMITS.max_value - 2))
    body = b'{"key":"%b","value":%b}' % (key.encode(), text)
    assert front.request("POST", "/data", body=body).status == 200


def test_a_chunked_value_above_the_limit_is_413(front: Front, key: str) -> None:
    chunk = b"10000\r\n" + bytes(65536) + b"\r\n"
    head = [("Transfer-Encoding", "chunked")]
    reply = front.request("PUT", f"/data/{key}", head, chunk * 6 + b"0\r\n\r\n")
    assert_problem(reply, 413)
    assert front.request("GET", f"/data/{key}").status == 404


def test_after_an_early_error_the_rest_is_drained(front: Front, key: str) -> None:
    body = bytes(1024 * 1024 - 1)
    with front.connect() as connection:
        assert_problem(connection.request("PUT", f"/data/{key}?ttl=x", (), body), 400)
        if front.name in ("fake", "aiohttp"):
            assert connection.request("GET", f"/data/{key}").status == 404


def test_a_target_of_more_than_8_kb_is_414(front: Front) -> None:
    assert_problem(front.request("GET", "/data/" + "k" * 9000), 414)


@pytest.mark.parametrize(
    "headers",
    [[("X-Large", "x" * 9000)], [(f"X-{number}", "x" * 4000) for number in range(10)]],
    ids=["one", "all"],
)
def test_headers_that_are_too_large_are_431(front: Front, headers: list[tuple[str, str]]) -> None:
    assert_problem(front.request("GET", "/data/x", headers), 431)


def test_json_from_a_page_must_say_that_it_is(front: Front, key: str) -> None:
    body = b'{"key":"%b","value":1}' % key.encode()
    own = ("Origin", "http://localhost")
    for wrong in ([own], [own, ("Content-Type", "text/plain")]):
        assert_problem(front.request("POST", "/data", wrong, body), 415)
        assert_problem(front.request("POST", "/data/bulk", wrong, b"[%b]" % body), 415)
    right = [own, ("Content-Type", "application/json; charset=utf-8")]
    assert front.request("POST", "/data", right, body).status == 201


@pytest.mark.parametrize(
    "headers",
    [
        [("Origin", "http://evil.example")],
        [("Origin", "null")],
        [("Origin", "http://localhost:81")],
        [("Origin", "http://localhost.evil.example")],
        [("Sec-Fetch-Site", "cross-site")],
    ],
    ids=lambda headers: headers[0][1],
)
def test_a_page_of_another_site_changes_nothing(
    front: Front, key: str, headers: list[tuple[str, str]]
) -> None:
    json = ("Content-Type", "application/json")
    body = b'{"key":"%b","value":1}' % key.encode()
    assert_problem(front.request("POST", "/data", [*headers, json], body), 403)
    assert_problem(front.request("PUT", f"/data/{key}", headers, b"x"), 403)
    assert_problem(front.request("POST", f"/data/{key}?incr=1", headers), 403)
    assert_problem(front.request("DELETE", f"/data/{key}", headers), 403)
    assert_problem(front.request("POST", "/cluster/rebalance/pause", headers), 403)
    assert front.request("GET", f"/data/{key}", headers).status == 404


def test_our_own_pages_may_change_things(front: Front, key: str) -> None:
    own = [("Origin", "http://localhost"), ("Sec-Fetch-Site", "same-origin")]
    assert front.request("PUT", f"/data/{key}", own, b"x").status == 201


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "metadata.internal:80"])
def test_an_unknown_host_is_403(front: Front, key: str, host: str) -> None:
    assert_problem(front.request("GET", f"/data/{key}", [("Host", host)]), 403)
    assert_problem(front.request("PUT", f"/data/{key}", [("Host", host)], b"x"), 403)


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "localhost:8080",
        "LOCALHOST",
        "127.0.0.1:1",
        "[::1]:8080",
        "192.0.2.1",
        "cache.example:80",
    ],
)
def test_addresses_and_names_that_are_ours_are_known(front: Front, key: str, host: str) -> None:
    assert front.request("PUT", f"/data/{key}", [("Host", host)], b"x").status in (201, 204)


@pytest.mark.parametrize("value", ["0", "-1", "x", "nan", ""])
def test_a_bad_timeout_is_400(front: Front, key: str, value: str) -> None:
    reply = front.request("GET", f"/data/{key}", [("Ringmaster-Timeout", value)])
    assert_problem(reply, 400)


def test_a_timeout_that_is_long_enough_changes_nothing(front: Front, key: str) -> None:
    headers = [("Ringmaster-Timeout", "0.9"), ("Prefer", "respond-async, wait=5")]
    assert front.request("PUT", f"/data/{key}", headers, b"x").status == 201
    assert front.request("GET", f"/data/{key}", headers).body == b"x"

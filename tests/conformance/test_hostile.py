"""What only a raw socket sends: smuggling, broken framing, odd targets, clients that dawdle or leave."""

from __future__ import annotations

import socket
import struct

import pytest

from tests.conformance.fronts import LIMITS, Front, assert_problem
from tests.conformance.raw_http import Connection, request_bytes

HOST = b"Host: localhost\r\n"

SMUGGLING = {
    "length and chunked": b"PUT /data/x HTTP/1.1\r\n" + HOST
    + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked and length": b"PUT /data/x HTTP/1.1\r\n" + HOST
    + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    "two lengths": b"PUT /data/x HTTP/1.1\r\n" + HOST
    + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    "the same length twice": b"PUT /data/x HTTP/1.1\r\n" + HOST
    + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\na",
    "list of lengths": b"PUT /data/x HTTP/1.1\r\n" + HOST + b"Content-Length: 1, 1\r\n\r\na",
    "negative length": b"PUT /data/x HTTP/1.1\r\n" + HOST + b"Content-Length: -1\r\n\r\na",
    "signed length": b"PUT /data/x HTTP/1.1\r\n" + HOST + b"Content-Length: +1\r\n\r\na",
    "hexadecimal length": b"PUT /data/x HTTP/1.1\r\n" + HOST + b"Content-Length: 0x1\r\n\r\na",
    "no number": b"PUT /data/x HTTP/1.1\r\n" + HOST + b"Content-Length: one\r\n\r\na",
    "huge length": b"PUT /data/x HTTP/1.1\r\n" + HOST + b"Content-Length: 99999999999999999999\r\n\r\n",
    "bare line feeds": b"PUT /data/x HTTP/1.1\nHost: localhost\nContent-Length: 1\n\na",
    "a bare line feed": b"PUT /data/x HTTP/1.1\r\n" + HOST + b"X: y\nContent-Length: 1\r\n\r\na",
    "space before the colon": b"PUT /data/x HTTP/1.1\r\n" + HOST + b"Content-Length : 1\r\n\r\na",
    "folded header": b"PUT /data/x HTTP/1.1\r\n" + HOST + b"X: a\r\n b\r\nContent-Length: 1\r\n\r\na",
    "null in a header": b"PUT /data/x HTTP/1.1\r\n" + HOST + b"X: a\x00b\r\nContent-Length: 1\r\n\r\na",
    "nameless header": b"PUT /data/x HTTP/1.1\r\n" + HOST + b": v\r\nContent-Length: 1\r\n\r\na",
    "two hosts": b"GET /data/x HTTP/1.1\r\n" + HOST + b"Host: evil.example\r\n\r\n",
    "no host": b"GET /data/x HTTP/1.1\r\nAccept: */*\r\n\r\n",
    "bad host": b"GET /data/x HTTP/1.1\r\nHost: a b\r\n\r\n",
    "no version": b"GET /data/x\r\n\r\n",
    "old version": b"GET /data/x HTTP/0.9\r\n" + HOST + b"\r\n",
    "null behind the method": b"PUT\x00 /data/x HTTP/1.1\r\n" + HOST + b"Content-Length: 1\r\n\r\na",
    "garbage": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "redis": b"*1\r\n$4\r\nPING\r\n\r\n",
    "space in the target": b"GET /data/a b HTTP/1.1\r\n" + HOST + b"\r\n",
    "raw bytes in the target": b"GET /data/\xc3\xa9 HTTP/1.1\r\n" + HOST + b"\r\n",
    "control character in the target": b"GET /data/\x01 HTTP/1.1\r\n" + HOST + b"\r\n",
    "unknown coding": b"PUT /data/x HTTP/1.1\r\n" + HOST
    + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
}  # fmt: skip

# What nginx makes whole before it passes it on, or has another legal answer to.
NGINX_MENDS = {"bare line feeds", "a bare line feed", "no version", "old version"}


@pytest.mark.parametrize("name", SMUGGLING)
def test_what_is_not_http_is_400_and_closes(front: Front, name: str) -> None:
    if front.proxied and name in NGINX_MENDS:
        pytest.skip("nginx never passes this on; tests/e2e/test_nginx.py has its side")
    with front.connect() as connection:
        connection.send(SMUGGLING[name])
        assert_problem(connection.read_response(), 501 if name == "unknown coding" else 400)
        if name != "bad host" and not front.proxied:
            assert connection.closed_by_peer()
    assert front.request("GET", "/data/x").status == 404


@pytest.mark.parametrize(
    "body",
    [
        b"zz\r\nabc\r\n0\r\n\r\n",
        b"3\r\nabcd\r\n0\r\n\r\n",
        b"3\nabc\n0\n\n",
        b"-3\r\nabc\r\n0\r\n\r\n",
        b"0x3\r\nabc\r\n0\r\n\r\n",
        b"3 \r\nabc\r\n0\r\n\r\n",
        b"ffffffffffffffffff\r\nabc\r\n0\r\n\r\n",
        b"3\r\nabc0\r\n\r\n",
    ],
)
@pytest.mark.parametrize("split", [False, True], ids=["at once", "body later"])
def test_bad_chunking_is_400_and_closes(front: Front, key: str, body: bytes, split: bool) -> None:
    head = f"PUT /data/{key} HTTP/1.1\r\n".encode() + HOST + b"Transfer-Encoding: chunked\r\n\r\n"
    with front.connect() as connection:
        if split:
            connection.send(head + b"1\r\na\r\n")
            # The head is answered by nobody yet; what follows comes in a segment of its own.
            connection.send(body)
        else:
            connection.send(head + body)
        response = connection.read_response()
        if front.proxied and body.startswith((b"3 \r\n", b"3\n")):
            # nginx reads these as chunks and passes the body on with a length.
            return
        assert_problem(response, 400)
        assert connection.closed_by_peer()
    assert front.request("GET", f"/data/{key}").status == 404


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("http://localhost/data/x", 404),
        ("http://localhost:8080/data/x?key=y", 400),
        ("http://evil.example/data/x", 403),
        ("//localhost/data/x", 404),
        ("/data/x#y", 400),
        ("/data/../cluster", 404),
        ("/data/%2e%2e/cluster", 404),
        ("/./data/x", 404),
        ("/%64ata/x", 404),
    ],
)
def test_odd_targets_are_taken_as_they_are(front: Front, target: str, status: int) -> None:
    response = front.request("GET", target)
    if front.proxied and status in (400, 403):
        # nginx takes the authority out of the target, and has its own word on a fragment.
        assert response.status in (400, 403, 404)
    else:
        assert_problem(response, status)


def test_asterisk_form_is_for_options(front: Front) -> None:
    if front.proxied:
        pytest.skip("nginx answers this itself")
    assert front.request("OPTIONS", "*").status == 204
    assert_problem(front.request("GET", "*"), 400)


def test_connect_is_refused(front: Front) -> None:
    response = front.request("CONNECT", "localhost:443")
    assert response.status in (400, 404, 405)
    assert response.get("Content-Type") == "application/problem+json"


def test_an_upgrade_is_not_taken(front: Front, key: str) -> None:
    headers = [("Connection", "Upgrade"), ("Upgrade", "websocket")]
    assert front.request("PUT", f"/data/{key}", headers, b"x").status == 201
    assert front.request("GET", f"/data/{key}", headers).body == b"x"


def test_http_1_0_is_answered_and_closed(front: Front, key: str) -> None:
    front.request("PUT", f"/data/{key}", body=b"x")
    with front.connect() as connection:
        connection.send(f"GET /data/{key} HTTP/1.0\r\n\r\n".encode())
        assert connection.read_response().body == b"x"
        assert connection.closed_by_peer()


def test_100_is_sent_before_the_body_is(front: Front, key: str) -> None:
    head = [("Expect", "100-continue"), ("Content-Length", "3")]
    with front.connect() as connection:
        connection.send(request_bytes("PUT", f"/data/{key}", head))
        assert connection.read_response().status == 100
        connection.send(b"abc")
        assert connection.read_response().status == 201
    assert front.request("GET", f"/data/{key}").body == b"abc"


@pytest.mark.parametrize(
    ("method", "target", "headers", "status"),
    [
        ("PUT", "/data/x", [("Content-Length", str(LIMITS.max_value + 1))], 413),
        ("PUT", "/data/x", [("Content-Length", "3"), ("Host", "evil.example")], 403),
        ("PUT", "/data/x", [("Content-Length", "3"), ("Origin", "http://evil.example")], 403),
        ("POST", "/data", [("Content-Length", "3"), ("Origin", "http://localhost")], 415),
        ("PUT", "/data/%", [("Content-Length", "3")], 400),
        ("PATCH", "/data/x", [("Content-Length", "3")], 405),
        ("POST", "/nope", [("Content-Length", "3")], 404),
    ],
)
def test_100_is_not_sent_before_the_head_is_accepted(
    front: Front, method: str, target: str, headers: list[tuple[str, str]], status: int
) -> None:
    if front.proxied:
        pytest.skip("nginx reads the body before it asks a master")
    with front.connect() as connection:
        connection.send(request_bytes(method, target, [*headers, ("Expect", "100-continue")]))
        assert_problem(connection.read_response(), status)
        assert connection.closed_by_peer()


def test_another_expectation_is_417(front: Front) -> None:
    assert_problem(front.request("PUT", "/data/x", [("Expect", "200-ok")], b"x"), 417)


def test_a_body_that_never_comes_ends_with_its_sender(front: Front, key: str) -> None:
    with front.connect() as connection:
        connection.send(request_bytes("PUT", f"/data/{key}", [("Content-Length", "10")]) + b"half")
    assert front.request("GET", f"/data/{key}").status == 404


def test_a_client_that_resets_does_no_harm(front: Front, key: str) -> None:
    for _ in range(20):
        connection = front.connect()
        connection.send(request_bytes("PUT", f"/data/{key}", body=b"x" * 1000))
        linger = struct.pack("ii", 1, 0)
        connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        connection.close()
    assert front.request("GET", f"/data/{key}").status in (200, 404)


def test_requests_byte_by_byte_are_read(front: Front, key: str) -> None:
    with front.connect() as connection:
        for byte in request_bytes("PUT", f"/data/{key}", body=b"slowly"):
            connection.send(bytes([byte]))
        assert connection.read_response().status == 201
    assert front.request("GET", f"/data/{key}").body == b"slowly"


def test_pipelined_requests_are_answered_in_order(front: Front, key: str) -> None:
    count = 50
    with front.connect() as connection:
        requests = [
            request_bytes("PUT", f"/data/{key}-{number}", body=b"%d" % number)
            for number in range(count)
        ]
        connection.send(b"".join(requests))
        for _ in range(count):
            assert connection.read_response().status == 201
        connection.send(
            b"".join(request_bytes("GET", f"/data/{key}-{number}") for number in range(count))
        )
        for number in range(count):
            assert connection.read_response().body == b"%d" % number


def test_many_requests_use_one_connection(front: Front, key: str) -> None:
    with front.connect() as connection:
        connection.request("PUT", f"/data/{key}", (), b"x")
        for _ in range(50):
            assert connection.request("GET", f"/data/{key}").body == b"x"
            assert connection.request("GET", f"/data/{key}-missing").status == 404


def test_a_reply_that_is_not_read_stops_nobody_else(front: Front, key: str) -> None:
    value = bytes(LIMITS.max_value)
    front.request("PUT", f"/data/{key}", body=value)
    lazy: list[Connection] = []
    for _ in range(10):
        connection = front.connect()
        connection.send(request_bytes("GET", f"/data/{key}") * 5)
        lazy.append(connection)
    assert front.request("GET", f"/data/{key}").body == value
    assert all(connection.read_response().body == value for connection in lazy)
    for connection in lazy:
        connection.close()

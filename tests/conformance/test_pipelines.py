"""Several requests of one connection: their order, where each of them ends, and clients that stop sending."""

from __future__ import annotations

import socket

import pytest

from tests.conformance.fronts import Front
from tests.conformance.raw_http import Connection, Response, request_bytes

_HOST = b"Host: localhost\r\n"


def post(key: str, value: int) -> bytes:
    return request_bytes("POST", "/data", body=b'{"key":"%b","value":%d}' % (key.encode(), value))


def put(key: str, value: bytes = b"v") -> bytes:
    return request_bytes("PUT", f"/data/{key}", body=value)


def get(key: str) -> bytes:
    return request_bytes("GET", f"/data/{key}")


def delete(key: str) -> bytes:
    return request_bytes("DELETE", f"/data/{key}")


def pipelined(front: Front, *requests: bytes) -> list[Response]:
    with front.connect() as connection:
        connection.send(b"".join(requests))
        return [connection.read_response() for _ in requests]


@pytest.mark.parametrize("times", range(5))
def test_a_read_sees_the_write_before_it(front: Front, key: str, times: int) -> None:
    replies = pipelined(front, put(key), get(key), delete(key), get(key))
    assert [reply.status for reply in replies] == [201, 200, 204, 404]


def test_the_later_of_two_writes_is_read(front: Front, key: str) -> None:
    replies = pipelined(front, put(key, b"1"), put(key, b"2"), get(key))
    assert [reply.status for reply in replies] == [201, 204, 200]
    assert replies[2].body == b"2"
    replies = pipelined(front, post(key, 3), get(key), post(key, 4), get(key))
    assert [reply.json()["value"] for reply in replies[1::2]] == [3, 4]


def test_a_bulk_read_sees_the_write_before_it_and_not_the_one_behind(
    front: Front, key: str
) -> None:
    bulk = request_bytes("POST", "/data/bulk/get", body=b'["%b"]' % key.encode())
    replies = pipelined(front, post(key, 1), bulk, post(key, 2), bulk, get(key))
    assert replies[1].json()["values"] == {key: 1}
    assert replies[3].json()["values"] == {key: 2}


def test_operations_take_effect_in_their_order(front: Front, key: str) -> None:
    incr = request_bytes("POST", f"/data/{key}?incr=1")
    replies = pipelined(front, incr, incr, get(key), incr, delete(key), incr)
    values = [reply.json()["value"] for reply in replies if reply.body]
    assert values == [1, 2, 2, 3, 1]


def test_many_reads_in_one_segment_are_all_answered(front: Front, key: str) -> None:
    front.request("PUT", f"/data/{key}", body=b"v")
    replies = pipelined(front, *[get(key)] * 50)
    assert {(reply.status, reply.body) for reply in replies} == {(200, b"v")}


def test_a_good_request_before_a_malformed_one_is_done(front: Front, key: str) -> None:
    with front.connect() as connection:
        connection.send(put(key) + b"GET /data/x HTTP/1.1\r\nHost : a\r\n\r\n")
        assert connection.read_response().status == 201
        assert connection.read_response().status == 400
        assert connection.closed_by_peer()
    assert front.request("GET", f"/data/{key}").body == b"v"


@pytest.mark.parametrize(
    "trailer", [b"Range: bytes=0-1", b"Host: evil.example", b"If-Match: *", b"If-None-Match: *"]
)
def test_a_trailer_is_no_header_of_the_next_request(front: Front, key: str, trailer: bytes) -> None:
    chunked = (
        b"PUT /data/%b HTTP/1.1\r\n%bTransfer-Encoding: chunked\r\n\r\n5\r\nvalue\r\n0\r\n%b\r\n\r\n"
        % (key.encode(), _HOST, trailer)
    )
    replies = pipelined(front, chunked, get(key))
    assert [reply.status for reply in replies] == [201, 200]
    assert replies[1].body == b"value"


def test_an_upgrade_swallows_nothing(front: Front, key: str) -> None:
    headers = [
        ("Connection", "Upgrade, HTTP2-Settings"),
        ("Upgrade", "h2c"),
        ("HTTP2-Settings", "AA"),
    ]
    upgrade = request_bytes("PUT", f"/data/{key}", headers, b"v")
    replies = pipelined(front, upgrade, get(key))
    assert [reply.status for reply in replies] == [201, 200]


ENDED = {
    "GET": get,
    "HEAD": lambda key: request_bytes("HEAD", f"/data/{key}"),
    "PUT": put,
    "PUT of 1 MiB": lambda key: put(key, b"x" * 250_000),
    "POST": lambda key: post(key, 1),
    "DELETE": delete,
    "incr": lambda key: request_bytes("POST", f"/data/{key}?incr=1"),
    "bulk": lambda key: request_bytes("POST", "/data/bulk", body=b"[]"),
    "bulk get": lambda key: request_bytes("POST", "/data/bulk/get", body=b'["%b"]' % key.encode()),
    "cluster": lambda key: request_bytes("GET", "/healthz"),
    "no route": lambda key: request_bytes("GET", "/nowhere"),
}


@pytest.mark.parametrize("what", ENDED)
def test_a_client_that_stops_sending_gets_its_reply(front: Front, key: str, what: str) -> None:
    request = ENDED[what](key)
    usual = front.exchange(request) if what != "HEAD" else front.request("HEAD", f"/data/{key}")
    front.request("DELETE", f"/data/{key}")
    with front.connect() as connection:
        connection.send(request)
        connection.socket.shutdown(socket.SHUT_WR)
        reply = connection.read_response(head=what == "HEAD")
        assert reply.status == usual.status
        assert connection.closed_by_peer()


def test_a_client_that_stops_sending_gets_all_replies(front: Front, key: str) -> None:
    with front.connect() as connection:
        connection.send(put(key) + get(key) + delete(key))
        connection.socket.shutdown(socket.SHUT_WR)
        assert [connection.read_response().status for _ in range(3)] == [201, 200, 204]


def test_what_is_half_a_request_when_a_client_stops_sending_does_nothing(
    front: Front, key: str
) -> None:
    with front.connect() as connection:
        connection.send(put(key, b"x" * 100_000)[:-1])
        connection.socket.shutdown(socket.SHUT_WR)
        connection.socket.settimeout(5)
        while connection.socket.recv(1 << 16):
            pass
    assert front.request("GET", f"/data/{key}").status == 404


def test_a_body_above_the_limit_is_refused_readably(front: Front, key: str) -> None:
    """However much the client sends before it reads: no reset overtakes the reply."""
    for size in (9 * 2**20, 31 * 2**20):
        connection = Connection(front.address)
        connection.send(request_bytes("PUT", f"/data/{key}", body=b"x" * size))
        assert connection.read_response().status == 413
        connection.close()

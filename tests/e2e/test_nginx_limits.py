"""What the front door answers by itself: limits, what is not well-formed, what stays inside."""

import asyncio

import pytest

from tests.e2e.fake_master import exchange
from tests.e2e.front import LIMIT, NGINX, Front, problem

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(NGINX is None, reason="nginx is not installed (Debian package nginx)"),
]


async def test_a_body_over_the_limit_is_413_before_any_master_sees_it(door: Front) -> None:
    head = f"PUT /data/a HTTP/1.1\r\nHost: x\r\nContent-Length: {LIMIT + 1}\r\n\r\n".encode()
    reply = await exchange(door.port, head + b"x" * 1000)
    assert reply.status == 413
    assert problem(reply)["outcome"] == "not-applied"
    chunk = b"%x\r\n" % LIMIT + b"x" * LIMIT + b"\r\n1\r\nx\r\n0\r\n\r\n"
    head = b"PUT /data/a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert (await exchange(door.port, head + chunk, 30)).status == 413
    assert not door.received()


async def test_a_body_of_exactly_the_limit_passes(door: Front) -> None:
    body = bytes(range(256)) * (LIMIT // 256)
    assert (await door.ask("PUT", "/data/a", body)).status == 200
    assert door.received()[0].body == body


async def test_a_chunked_body_arrives_with_one_length(door: Front) -> None:
    raw = b"POST /data HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n"
    assert (await exchange(door.port, raw)).status == 200
    (received,) = door.received()
    assert received.body == b"abc"
    assert received.headers[b"content-length"] == [b"3"]


@pytest.mark.parametrize(
    "raw",
    [
        b"GET /data/%zz HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /data/a HTTP/1.1\r\n\r\n",
        b"GET /data/a HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
        b"GE<T /data/a HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /data HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /data HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"POST /data HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na",
        b"POST /data HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST /data HTTP/1.1\r\nHost: x\r\nContent-Length: +1\r\n\r\na",
        b"POST /data HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET /../../etc HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
)
async def test_what_is_not_well_formed_is_400_and_reaches_no_master(
    door: Front, raw: bytes
) -> None:
    reply = await exchange(door.port, raw)
    assert reply.status == 400
    problem(reply)
    assert not door.received()


async def test_an_unknown_transfer_encoding_is_501(door: Front) -> None:
    raw = b"POST /data HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"
    reply = await exchange(door.port, raw)
    assert reply.status == 501
    problem(reply)
    assert not door.received()


async def test_lines_over_8_kb_are_414_and_431(door: Front) -> None:
    reply = await door.ask("GET", "/data/" + "a" * 9000)
    assert reply.status == 414
    problem(reply)
    reply = await door.ask("GET", "/data/a", None, "X-A: " + "a" * 9000)
    assert reply.status == 431
    problem(reply)
    assert not door.received()


@pytest.mark.parametrize("method", ["GET", "PUT"])
async def test_an_unknown_expectation_is_417(door: Front, method: str) -> None:
    body = b"x" if method == "PUT" else None
    reply = await door.ask(method, "/data/a", body, "Expect: 200-maybe")
    assert reply.status == 417
    problem(reply)
    assert not door.received()


async def test_the_known_expectation_is_met(door: Front) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
    head = b"PUT /data/a HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nExpect: 100-Continue\r\n\r\n"
    writer.write(head)
    async with asyncio.timeout(5):
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"x")
        assert (await reader.readline()) == b"HTTP/1.1 200 OK\r\n"
    writer.transport.abort()
    assert door.received()[0].body == b"x"


@pytest.mark.parametrize("target", ["/metrics", "/metrics?x=1", "/x/../metrics", "/%6detrics"])
async def test_metrics_stay_inside(door: Front, target: str) -> None:
    reply = await door.ask("GET", target)
    assert reply.status == 404
    problem(reply)
    assert not door.received()


async def test_trace_is_405(door: Front) -> None:
    reply = await door.ask("TRACE", "/data/a")
    assert reply.status == 405
    problem(reply)
    assert "PUT" in reply.headers["allow"]


async def test_an_error_page_of_nginx_cannot_be_asked_for(door: Front) -> None:
    reply = await door.ask("GET", "/.nginx/400")
    assert reply.status == 404
    problem(reply)


async def test_nothing_says_which_version_of_nginx_it_is(door: Front) -> None:
    assert (await door.ask("GET", "/data/a")).headers["server"] == "nginx"

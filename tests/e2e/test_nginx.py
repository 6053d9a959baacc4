"""The real nginx with the real template, in front of masters that misbehave on purpose."""

import asyncio
import json
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from ringmaster.cli import nginx as front
from tests.e2e.fake_master import (
    FakeMaster,
    RawReply,
    Received,
    Writer,
    answer_ok,
    answer_raw,
    break_off,
    exchange,
    request,
)
from tests.e2e.waiting import accepts, free_port, until

NGINX = front.find_nginx()
ENTRYPOINT = Path(__file__).parents[2] / "nginx" / "entrypoint.sh"

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(NGINX is None, reason="nginx is not installed (Debian package nginx)"),
]

MAX_VALUE = 8 * 2**20
LIMIT = front.body_limit(MAX_VALUE)


@dataclass(frozen=True, slots=True)
class Front:
    """Nginx on `port`, with masters a and b behind it."""

    port: int
    a: FakeMaster
    b: FakeMaster

    async def ask(
        self, method: str, target: str, body: bytes | None = None, *headers: str
    ) -> RawReply:
        return await exchange(self.port, request(method, target, body, *headers))

    def received(self, method: bytes | None = None) -> list[Received]:
        every = [*self.a.received, *self.b.received]
        return [each for each in every if method is None or each.method == method]

    def both_answer(self, answer: object) -> None:
        self.a.answer = self.b.answer = answer  # type: ignore[assignment]


@pytest_asyncio.fixture
async def door() -> AsyncIterator[Front]:
    assert NGINX is not None
    folder = Path(tempfile.mkdtemp(prefix="rm-nginx-"))
    a, b = FakeMaster(folder / "a.sock"), FakeMaster(folder / "b.sock")
    await a.start()
    await b.start()
    port = free_port()
    front.write_configuration(
        folder / "nginx",
        listen=f"127.0.0.1:{port}",
        masters=[a.address, b.address],
        max_value_bytes=MAX_VALUE,
        deadline_s=6.0,
        workers=1,
    )
    process = subprocess.Popen(front.command(NGINX, folder / "nginx"), stderr=subprocess.PIPE)  # noqa: ASYNC220
    try:
        await until(lambda: accepts(port), "nginx listens")
        yield Front(port, a, b)
    finally:
        process.terminate()
        _, complaints = process.communicate(timeout=10)
        await a.stop()
        await b.stop()
        shutil.rmtree(folder)
    assert b"[emerg]" not in complaints, complaints.decode()


def problem(reply: RawReply) -> dict[str, object]:
    """The reply's problem, its form checked."""
    assert reply.headers["content-type"] == "application/problem+json"
    fields: dict[str, object] = json.loads(reply.body)
    assert fields["status"] == reply.status
    assert {"type", "title", "detail"} <= fields.keys()
    assert reply.headers["cache-control"] == "no-store"
    return fields


ODD_TARGETS = [
    "/data/a%2Fb",
    "/data/a//b/",
    "/data//",
    "/data/a/./b/../c",
    "/data/%2e%2e",
    "/data/100%25",
    "/data/a+b",
    "/data/a%2Bb?x=%20+",
    "/data/%3F%23",
    "/data/%F0%9F%8E%AA",
    "/data/e%CC%81",
    "/data/a?b=c?d#e",
    "/data/a;b,c:d@e!$&'()*=~",
    "/data?key=..%2F..%2Fetc&x=%00",
    "/data/" + "%C3%A9" * 256,
    "/data/x/%2e%2e/%2e%2e/metrics",
    "//data",
]


@pytest.mark.parametrize("method", ["GET", "PUT"])
async def test_targets_pass_through_untouched(door: Front, method: str) -> None:
    body = b"" if method == "PUT" else None
    for target in ODD_TARGETS:
        assert (await door.ask(method, target, body)).status == 200, target
    assert [each.target.decode() for each in door.received()].sort() is None
    assert {each.target.decode() for each in door.received()} == set(ODD_TARGETS)


async def test_headers_pass_through_except_those_that_only_nginx_may_say(door: Front) -> None:
    await door.ask(
        "GET",
        "/data/a",
        None,
        "X-Forwarded-For: 198.51.100.1",
        "Forwarded: for=198.51.100.1",
        "X-Real-IP: 198.51.100.1",
        "X_Under: 1",
        'If-None-Match: "1-2-3"',
        "Fill-Token: t",
    )
    (received,) = door.received()
    assert received.headers[b"host"] == [b"cache.example:8080"]
    assert received.headers[b"x-forwarded-for"] == [b"127.0.0.1"]
    assert received.headers[b"if-none-match"] == [b'"1-2-3"']
    assert received.headers[b"fill-token"] == [b"t"]
    assert not {b"forwarded", b"x-real-ip", b"x_under", b"connection"} & received.headers.keys()


async def test_a_client_of_http_1_0_without_host_gets_one(door: Front) -> None:
    reply = await exchange(door.port, b"GET /data/a HTTP/1.0\r\n\r\n")
    assert reply.status == 200
    assert door.received()[0].headers[b"host"] == [b"localhost"]


async def test_connections_to_masters_are_kept(door: Front) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
    for _ in range(4):
        writer.write(request("GET", "/data/a"))
        async with asyncio.timeout(5):
            await reader.readuntil(b"ok")
    writer.transport.abort()
    assert len(door.a._writers) + len(door.b._writers) <= 2


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_read_is_tried_on_another_master(door: Front, method: str) -> None:
    door.a.answer = break_off
    for _ in range(6):
        assert (await door.ask(method, "/data/a")).status == 200
    assert door.a.received


async def test_a_read_that_waits_is_tried_on_another_master(door: Front) -> None:
    door.a.answer = break_off
    for _ in range(3):
        assert (await door.ask("GET", "/data/a", None, "Prefer: wait=30")).status == 200
    assert door.a.received


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
async def test_a_write_is_never_sent_twice(door: Front, method: str) -> None:
    door.both_answer(break_off)
    reply = await door.ask(method, "/data/a", b"x")
    assert reply.status == 503
    assert problem(reply)["outcome"] == "unknown"
    assert reply.headers["retry-after"] == "1"
    assert len(door.received(method.encode())) == 1


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
async def test_a_write_is_not_repeated_when_a_kept_connection_breaks(
    door: Front, method: str
) -> None:
    for _ in range(8):
        assert (await door.ask("GET", "/data/warm")).status == 200
    door.both_answer(break_off)
    reply = await door.ask(method, "/data/a", b"")
    assert problem(reply)["outcome"] == "unknown"
    assert len(door.received(method.encode())) == 1


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
async def test_a_write_that_no_master_takes_is_not_applied(door: Front, method: str) -> None:
    await door.a.stop()
    await door.b.stop()
    for _ in range(4):  # refused by each, then known to be down
        reply = await door.ask(method, "/data/a", b"x")
        assert reply.status == 503
        assert problem(reply)["outcome"] == "not-applied"
        assert reply.headers["retry-after"] == "1"


async def test_a_write_whose_reply_is_cut_off_is_unknown(door: Front) -> None:
    async def half(_: Received, writer: Writer) -> bool:
        writer.write(b"HTTP/1.1 201 Cre")
        return False

    door.both_answer(half)
    assert problem(await door.ask("PUT", "/data/a", b"x"))["outcome"] == "unknown"
    assert len(door.received()) == 1


async def test_a_large_write_that_a_master_takes_half_of_is_unknown(door: Front) -> None:
    await door.a.stop()
    await door.b.stop()

    async def take_some(reader: asyncio.StreamReader, writer: Writer) -> None:
        await reader.read(1000)
        writer.transport.abort()

    servers = [await asyncio.start_unix_server(take_some, each.path) for each in (door.a, door.b)]
    reply = await door.ask("PUT", "/data/a", b"x" * 2**20)
    for server in servers:
        server.close()
    assert problem(reply)["outcome"] == "unknown"


async def test_a_read_that_no_master_takes_is_a_plain_503(door: Front) -> None:
    await door.a.stop()
    await door.b.stop()
    reply = await door.ask("GET", "/data/a")
    assert reply.status == 503
    assert "outcome" not in problem(reply)
    assert reply.headers["retry-after"] == "1"


async def test_a_masters_own_errors_pass_unchanged(door: Front) -> None:
    own = b'{"status":503,"outcome":"not-applied","detail":"mine"}'
    head = b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/problem+json\r\n"
    door.both_answer(
        answer_raw(head + b"Retry-After: 7\r\nContent-Length: %d\r\n\r\n" % len(own) + own)
    )
    reply = await door.ask("PUT", "/data/a", b"x")
    assert (reply.status, reply.body, reply.headers["retry-after"]) == (503, own, "7")
    reply = await door.ask("GET", "/data/a")
    assert (reply.status, reply.body) == (503, own)
    assert len(door.received()) == 2


async def test_reply_headers_pass_unchanged(door: Front) -> None:
    names = {
        "etag": '"1-2-ab"',
        "age": "3",
        "cache-control": "no-cache",
        "cache-status": "ringmaster; hit; ttl=42; detail=aux1",
        "content-type": "text/html; charset=x",
        "content-encoding": "br",
        "content-security-policy": "sandbox",
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in names.items())
    door.both_answer(answer_raw(f"HTTP/1.1 200 OK\r\n{lines}Content-Length: 1\r\n\r\nx".encode()))
    reply = await door.ask(
        "GET", "/data/a", None, "Accept-Encoding: gzip", 'If-None-Match: "1-2-ab"'
    )
    assert reply.status == 200
    assert names.items() <= reply.headers.items()


async def test_a_reply_cannot_send_nginx_elsewhere(door: Front) -> None:
    door.both_answer(
        answer_raw(b"HTTP/1.1 200 OK\r\nX-Accel-Redirect: /metrics\r\nContent-Length: 1\r\n\r\nx")
    )
    assert (await door.ask("GET", "/data/a")).body == b"x"


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


async def test_an_event_stream_arrives_event_by_event(door: Front) -> None:
    more = asyncio.Event()

    async def stream(_: Received, writer: Writer) -> bool:
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nX-Accel-Buffering: no\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n7\r\nid: 1\n\n\r\n"
        )
        await more.wait()
        writer.write(b"7\r\nid: 2\n\n\r\n")
        await writer.drain()
        return False

    door.both_answer(stream)
    reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
    writer.write(request("GET", "/cluster/events"))
    async with asyncio.timeout(5):
        await reader.readuntil(b"id: 1\n\n")
        more.set()
        await reader.readuntil(b"id: 2\n\n")
    writer.transport.abort()


async def test_large_replies_pass_byte_for_byte(door: Front) -> None:
    body = bytes(range(256)) * 32768
    door.both_answer(
        answer_raw(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    )
    assert (await door.ask("GET", "/data/a")).body == body


async def test_a_restarted_master_is_found_again(door: Front) -> None:
    await door.b.stop()
    assert (await door.ask("GET", "/data/a")).status == 200
    await door.a.stop()
    assert (await door.ask("GET", "/data/a")).status == 503
    await door.b.start()
    for _ in range(100):
        if (await door.ask("PUT", "/data/a", b"x")).status == 200:
            break
        await asyncio.sleep(0.05)
    assert door.b.received[-1].method == b"PUT"


async def test_a_master_that_hangs_does_not_hold_up_the_other(door: Front) -> None:
    release = asyncio.Event()

    async def hang(request: Received, writer: Writer) -> bool:
        await release.wait()
        return await answer_ok(request, writer)

    door.a.answer = hang
    waiting = [asyncio.create_task(door.ask("GET", f"/data/{n}")) for n in range(8)]
    await until(lambda: len(door.received()) == 8, "all requests sent")
    for _ in range(4):  # the one with fewer requests in flight is chosen
        assert (await door.ask("PUT", "/data/a", b"x")).status == 200
    release.set()
    assert {(await each).status for each in waiting} == {200}


async def test_the_container_follows_the_masters_name(tmp_path: Path) -> None:
    """With `getent` replaced: two addresses, then one, then none, which says nothing about the masters."""
    tools = tmp_path / "bin"
    tools.mkdir()
    answers = tmp_path / "addresses"
    (tools / "getent").write_text(f"#!/bin/sh\ncat {answers}\n")
    (tools / "getent").chmod(0o755)
    answers.write_text("127.0.0.2 STREAM master\n127.0.0.3 STREAM master\n127.0.0.2 DGRAM\n")
    port, run = free_port(), tmp_path / "run"
    environment = {
        "PATH": f"{tools}:/usr/sbin:/usr/bin:/bin",
        "RINGMASTER_UPSTREAM": f"master:{free_port()}",
        "RINGMASTER_LISTEN": f"127.0.0.1:{port}",
        "RINGMASTER_NGINX_RUN_DIR": str(run),
        "RINGMASTER_NGINX_TEMPLATE": str(front.TEMPLATE),
        "RINGMASTER_RESOLVE_EVERY": "0.05",
        "RINGMASTER_NGINX_WORKERS": "1",
    }
    process = subprocess.Popen([str(ENTRYPOINT)], env=environment, stderr=subprocess.PIPE)  # noqa: ASYNC220
    upstream = run / "upstream.conf"
    try:
        await until(lambda: accepts(port), "nginx listens")
        assert len(upstream.read_text().splitlines()) == 2
        answers.write_text("127.0.0.3 STREAM master\n")
        await until(lambda: len(upstream.read_text().splitlines()) == 1, "one address left")
        assert "127.0.0.3" in upstream.read_text()
        answers.write_text("")
        reply = await exchange(port, request("PUT", "/data/a", b"x"))
        assert problem(reply)["outcome"] == "not-applied"
        assert "127.0.0.3" in upstream.read_text()
    finally:
        process.terminate()
        _, said = process.communicate(timeout=10)
    assert process.returncode == 0, said.decode()
    assert b"masters at master changed: 1" in said

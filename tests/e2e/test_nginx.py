"""The front door: what passes through it, what is tried again, and what is said of a write that failed."""

import asyncio
import json
import subprocess
import time
from pathlib import Path

import pytest

from master.fastpath.overload import problem_of_overload, slowed
from ringmaster.cli import nginx as front
from tests.e2e.fake_master import (
    Received,
    Writer,
    answer_ok,
    answer_raw,
    break_off,
    exchange,
    request,
)
from tests.e2e.front import NGINX, Front, problem
from tests.e2e.waiting import accepts, free_port, until

ENTRYPOINT = Path(__file__).parents[2] / "nginx" / "entrypoint.sh"

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(NGINX is None, reason="nginx is not installed (Debian package nginx)"),
]


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
    assert received.headers[b"x_under"] == [b"1"]
    assert not {b"forwarded", b"x-real-ip", b"connection"} & received.headers.keys()


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


async def test_the_end_of_a_refusal_comes_a_second_after_its_head_and_delays_nothing_else(
    door: Front,
) -> None:
    refusal = slowed(problem_of_overload(write=False).raw(b"Date: Mon, 30 Nov 2026 00:00:00 GMT"))
    clock = asyncio.get_running_loop().time
    reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
    late_s = 0.0
    # One that came in the last moment of a second is passed on whole.
    for _ in range(5):
        if late_s < 0.5:
            door.both_answer(answer_raw(refusal))
            began = clock()
            writer.write(request("GET", "/data/a"))
            head = await reader.readuntil(b"\r\n\r\n")
            assert clock() - began < 0.5
            assert head.startswith(b"HTTP/1.1 503 ")
            assert b"\r\nRetry-After: 1\r\n" in head
            assert b"X-Accel" not in head
            came = clock()
            assert json.loads(await reader.readuntil(b"}"))["status"] == 503
            late_s = clock() - came
        door.both_answer(answer_ok)
        began = clock()
        writer.write(request("GET", "/data/a"))
        assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200 ")
        assert clock() - began < 0.5
    writer.transport.abort()
    assert 0.5 < late_s < 3.0


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
    async with asyncio.timeout(10):
        while (await door.ask("PUT", "/data/a", b"x")).status != 200:  # noqa: ASYNC110 - nginx tells nobody
            await asyncio.sleep(0.05)
    assert door.b.received[-1].method == b"PUT"


async def test_reads_find_the_only_master_that_is_up_though_both_count_as_failed(
    door: Front,
) -> None:
    await door.b.stop()
    assert (await door.ask("GET", "/data/a")).status == 200
    assert (await door.ask("GET", "/data/a")).status == 200  # by now b has failed once
    await door.a.stop()
    assert (await door.ask("GET", "/data/a")).status == 503
    await door.b.start()
    for _ in range(4):
        assert (await door.ask("GET", "/data/a")).status == 200


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


async def test_a_read_that_waits_leaves_a_frozen_master_when_its_time_is_over(door: Front) -> None:
    """Nothing else says so: another read took 45 s, and was refused then. Side by side, since each takes as long as it waits for."""
    thawed = asyncio.Event()

    async def freeze(request: Received, writer: Writer) -> bool:
        await thawed.wait()
        return False

    door.a.answer = freeze

    async def read(wait: str) -> tuple[int, float]:
        began = time.monotonic()
        asked = request("GET", "/data/a", None, f"Prefer: {wait}")
        reply = await exchange(door.port, asked, timeout_s=20)
        return reply.status, time.monotonic() - began

    # Two of each: the second of a pair goes to the other master.
    asked = ["wait=3", 'wait="3"', "WAIT=0", "wait=9"]
    found = await asyncio.gather(*[read(wait) for wait in asked for _ in range(2)])
    assert {status for status, _ in found} == {200}
    assert max(took for _, took in found[:6]) < 11
    assert max(took for _, took in found[6:]) < 15
    assert len(door.a.received) >= 3
    thawed.set()


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
        "RINGMASTER_NGINX_TEMPLATE": str(front.template_path()),
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

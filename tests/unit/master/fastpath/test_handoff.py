"""What the fast path does not know goes to aiohttp: whole, framed canonically, one request at a time."""

import pytest

from tests.unit.fake_wire import ticks
from tests.unit.master.fastpath.world import (
    HOST,
    WRITTEN,
    World,
    canonical,
    entry,
    get,
    post,
    put,
    statuses,
)


@pytest.mark.parametrize(
    "request_",
    [
        b"HEAD /data/a HTTP/1.1\r\n" + HOST + b"\r\n",
        b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n",
        b"GET /cluster HTTP/1.1\r\n" + HOST + b"\r\n",
        b"GET /database HTTP/1.1\r\n" + HOST + b"\r\n",
        b"GET /data?prefix=a HTTP/1.1\r\n" + HOST + b"\r\n",
        b"GET /data HTTP/1.1\r\n" + HOST + b"\r\n",
        b"GET /data/" + b"a" * 3000 + b" HTTP/1.1\r\n" + HOST + b"\r\n",
        b"GET /data/a HTTP/1.1\r\nHost: evil.example\r\n\r\n",
        b"GET /data/a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
        get(more=b"If-None-Match: *\r\n"),
        get(more=b"Range: bytes=0-1\r\n"),
        get(more=b"Prefer: wait=1, respond-async\r\n"),
        get(more=b"Prefer: wait=31\r\n"),
        get(more=b"Content-Length: 0\r\n"),
        get(more=b"Content-Length: 3\r\n") + b"abc",
        put(b"v", more=b"If-Match: *\r\n"),
        put(b"v", more=b"Expect: 100-continue\r\n"),
        put(b"v", b"/data/a?ttl=1&other=x"),
        put(b"v", b"/data/a?ttl=1&ttl=1"),
        b"PUT /data/a HTTP/1.1\r\n" + HOST + b"\r\n",
        put(b"x" * 300_000),
        b"POST /data/a?incr=1 HTTP/1.1\r\n" + HOST + b"Content-Length: 0\r\n\r\n",
        b"POST /data/bulk HTTP/1.1\r\n" + HOST + b"Content-Length: 2\r\n\r\n[]",
        post(b'{"key":"a","value":1,"if_match":"*"}'),
    ],
)
async def test_a_request_that_only_aiohttp_knows_is_handed_over(
    world: World, request_: bytes
) -> None:
    for cut in (len(request_), len(request_) - 1, len(request_) // 2, 1):
        client = world.client()
        client.receive(request_[:cut])
        client.receive(request_[cut:] + get(b"/data/next")) if cut < len(request_) else None
        [fallback] = world.fallbacks
        assert fallback.taken() == canonical(request_)
        assert await world.asked() == []
        if cut == len(request_):
            client.receive(get(b"/data/next"))
        assert fallback.taken() == b""
        assert not client.reading
        fallback.reply()
        await ticks()
        assert [command[2] for command in await world.asked()] == [b"next"]
        world.aux.receive(b"$-1\r\n")
        assert statuses(client.said()) == [299, 404]
        assert client.reading
        world.fallbacks.clear()
        client.lose()


async def test_a_target_of_absolute_form_is_handed_over_as_a_path(world: World) -> None:
    client = world.client()
    client.receive(b"GET http://127.0.0.1:80/data/a HTTP/1.1\r\n" + HOST + b"\r\n")
    [fallback] = world.fallbacks
    assert fallback.taken() == canonical(b"GET /data/a HTTP/1.1\r\nHost: 127.0.0.1:80\r\n\r\n")


async def test_the_next_request_finds_the_same_borrower(world: World) -> None:
    client = world.client()
    for target in (b"/cluster", b"/healthz"):
        request = b"GET %b HTTP/1.1\r\n%b\r\n" % (target, HOST)
        client.receive(request)
        [fallback] = world.fallbacks
        assert fallback.taken() == canonical(request)
        fallback.reply()
        await ticks()


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /data/a HTTP/2.0\r\n" + HOST + b"\r\n", 505),
        (b"GET /data/a HTTP/0.9\r\n" + HOST + b"\r\n", 400),
        (b"GET /data/a\r\n", 400),
        (b"GET  /data/a HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"GET /data/a HTTP/1.1\r\n\r\n", 400),
        (b"GET /data/\xc3\xa9 HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"CONNECT a:1 HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"BREW /data/a HTTP/1.1\r\n" + HOST + b"\r\n", 405),
        (b"GET /data/" + b"a" * 9000, 414),
        (get(more=b"X: " + b"a" * 9000 + b"\r\n"), 431),
        (get(more=(b"X: " + b"a" * 8000 + b"\r\n") * 5), 431),
        (get(more=b"X: a\r\n" * 200), 431),
        (b"GET /data/a HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 9000, 431),
        (b"GET /data/a HTTP/1.1\n" + HOST + b"\n", 400),
        (b"GET /data/a HTTP/1.1\r\nHost: a\n\r\n", 400),
        (b"\x16\x03\x01", 400),
        (b"*1\r\n$4\r\nPING\r\n", 400),
        (put(b"v", more=b"Content-Length: 1\r\n"), 400),
        (get(more=b"Content-Length: 1, 1\r\n") + b"x", 400),
        (put(b"v", more=b"Transfer-Encoding: chunked\r\n"), 400),
        (b"PUT /data/a HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (b"PUT /data/a HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: gzip\r\n\r\n", 501),
    ],
)
async def test_what_has_no_certain_end_is_refused_after_the_replies_before_it(
    world: World, request_: bytes, status: int
) -> None:
    client = world.client()
    client.receive(put(b"good") + request_)
    assert [command[0] for command in await world.asked()] == [b"RM.SET"]
    world.aux.receive(WRITTEN % 1)
    await ticks()
    assert statuses(client.said()) == [201, status]
    assert client.shut
    client.receive(b"more")
    client.end()
    await ticks()
    assert client.closed
    assert world.fallbacks == []
    assert not world.path.connections


async def test_an_empty_line_before_a_request_is_passed_over(world: World) -> None:
    client = world.client()
    client.receive(b"\r\n" + get() + b"\r\n")
    await world.asked()
    world.aux.receive(entry(b"1"))
    assert statuses(client.said()) == [200]
    client.receive(get())
    assert len(await world.asked()) == 1


async def test_hop_by_hop_fields_go_no_further(world: World) -> None:
    client = world.client()
    fields = b"TE: trailers\r\nUpgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: x\r\n"
    client.receive(get(more=fields) + get(b"/data/next"))
    [fallback] = world.fallbacks
    assert fallback.taken() == canonical(get())
    fallback.reply()
    await ticks()
    assert [command[2] for command in await world.asked()] == [b"next"]


async def test_chunks_arrive_anew_without_extensions_and_trailers(world: World) -> None:
    client = world.client()
    head = b"PUT /data/a HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: Chunked\r\nTrailer: X\r\n\r\n"
    raw = head + b"3;a=b\r\nabc\r\n2\r\nde\r\n0\r\nRange: bytes=0-1\r\n\r\n" + get(b"/data/n")
    for size in (len(raw), 1, 7):
        for at in range(0, len(raw), size):
            client.receive(raw[at : at + size])
        fallback = world.fallbacks[-1]
        seen = fallback.taken()
        assert seen.endswith(b"0\r\n\r\n")
        assert b"ange" not in seen
        assert b"transfer-encoding: chunked\r\n" in seen
        body = seen.partition(b"\r\n\r\n")[2]
        assert b"".join(body.split(b"\r\n")[1:-2:2]) == b"abcde"
        fallback.reply()
        await ticks()
        assert [command[2] for command in await world.asked()] == [b"n"]
        world.aux.receive(b"$-1\r\n")
        client.said()


@pytest.mark.parametrize(
    "body",
    [
        b"zz\r\n",
        b"3\r\nabcd",
        b"3\nabc\n",
        b"-3\r\n",
        b"3 \r\n",
        b"f" * 18 + b"\r\n",
        b"0\r\nno trailer\r\n",
    ],
)
async def test_broken_chunks_break_the_body(world: World, body: bytes) -> None:
    client = world.client()
    client.receive(b"PUT /data/a HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n")
    client.receive(body)
    [fallback] = world.fallbacks
    assert [problem.status for problem in fallback.problems] == [400]


async def test_what_comes_first_is_answered_before_a_request_is_handed_over(world: World) -> None:
    client = world.client()
    client.receive(get() + b"OPTIONS * HTTP/1.0\r\n")
    await world.asked()
    await ticks()
    client.receive(b"Host: a\r\n\r\n")
    assert world.fallbacks == []
    world.aux.receive(entry(b"1"))
    await ticks()
    assert statuses(client.said()) == [200]
    assert world.fallbacks[0].data == canonical(b"OPTIONS * HTTP/1.0\r\nHost: a\r\n\r\n", b"close")
    assert client.reading


async def test_a_borrower_hears_of_what_happens_to_the_connection(world: World) -> None:
    client = world.client()
    client.receive(b"GET /cluster/events HTTP/1.1\r\n" + HOST + b"\r\n")
    world.clock.ahead += 1000
    for connection in list(world.path.connections):
        connection.sweep(world.clock.boottime())
    client.protocol.pause_writing()
    client.protocol.resume_writing()
    client.lose()
    assert world.fallbacks[0].calls == ["pause", "resume", "lost"]
    assert not world.path.connections


async def test_a_borrower_that_wants_no_more_ends_the_connection(world: World) -> None:
    client = world.client()
    client.receive(b"GET /cluster HTTP/1.1\r\n" + HOST + b"\r\n")
    world.fallbacks[0].close()
    await ticks()
    assert client.closed
    assert world.fallbacks[0].calls == ["lost"]


async def test_an_early_reply_is_not_overtaken_by_a_reset(world: World) -> None:
    client = world.client()
    client.receive(put(b"x" * 300_000)[:200_000])
    world.fallbacks[0].close()
    await ticks()
    assert statuses(client.said()) == [299]
    assert client.shut
    assert not client.closed
    client.receive(b"x" * 100_000)
    assert not client.closed
    client.end()
    await ticks()
    assert client.closed


async def test_who_goes_on_sending_after_an_early_reply_is_cut_off(world: World) -> None:
    for patient in (True, False):
        client = world.client()
        client.receive(put(b"x" * 300_000)[:200_000])
        world.fallbacks[-1].close()
        if patient:
            world.clock.ahead += 6
            for connection in list(world.path.connections):
                connection.sweep(world.clock.boottime())
        else:
            for _ in range(65):
                client.receive(b"x" * 2**20)
        assert client.closed
        await ticks()


async def test_a_client_that_shuts_its_sending_side_gets_its_replies(world: World) -> None:
    client = world.client()
    client.receive(get() + put(b"v") + get(b"/data/b") + b"GET /data/cut-off")
    client.end()
    await world.asked()
    world.aux.receive(entry(b"1"))
    await world.asked()
    world.aux.receive(WRITTEN % 0)
    await world.asked()
    world.aux.receive(entry(b"2"))
    await ticks()
    assert statuses(client.said()) == [200, 204, 200]
    assert client.closed


async def test_a_client_that_shuts_its_sending_side_gets_aiohttps_reply(world: World) -> None:
    client = world.client()
    client.receive(b"POST /data/a?incr=1 HTTP/1.1\r\n" + HOST + b"\r\n")
    client.end()
    assert not client.closed
    world.fallbacks[0].reply()
    await ticks()
    assert statuses(client.said()) == [299]
    assert client.closed


async def test_a_body_that_ends_too_early_is_broken(world: World) -> None:
    client = world.client()
    client.receive(put(b"x" * 300_000)[:200_000])
    client.end()
    assert [problem.status for problem in world.fallbacks[0].problems] == [400]


@pytest.mark.parametrize("idle", [b"", b"GET /data/a HT"])
async def test_an_idle_client_that_shuts_its_sending_side_is_closed(
    world: World, idle: bytes
) -> None:
    client = world.client()
    if idle:
        client.receive(idle)
    client.end()
    await ticks()
    assert client.closed

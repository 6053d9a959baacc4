"""What the fast path does not know goes to aiohttp: for one request, or for good."""

import pytest

from tests.unit.fake_wire import ticks
from tests.unit.master.fastpath.world import HOST, World, entry, get, post, put, statuses


@pytest.mark.parametrize(
    "request_",
    [
        b"HEAD /data/a HTTP/1.1\r\n" + HOST + b"\r\n",
        b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n",
        b"GET /cluster HTTP/1.1\r\n" + HOST + b"\r\n",
        b"GET /database HTTP/1.1\r\n" + HOST + b"\r\n",
        b"GET /data?prefix=a HTTP/1.1\r\n" + HOST + b"\r\n",
        b"GET /data HTTP/1.1\r\n" + HOST + b"\r\n",
        b"GET http://localhost/data/a HTTP/1.1\r\n" + HOST + b"\r\n",
        b"GET /data/" + b"a" * 3000 + b" HTTP/1.1\r\n" + HOST + b"\r\n",
        b"GET /data/a HTTP/1.1\r\n\r\n",
        b"GET /data/a HTTP/1.1\r\nHost: evil.example\r\n\r\n",
        get(more=b"If-None-Match: *\r\n"),
        get(more=b"Range: bytes=0-1\r\n"),
        get(more=b"Prefer: wait=1\r\n"),
        get(more=b"Content-Length: 0\r\n"),
        get(more=b"Content-Length: 3\r\n") + b"abc",
        put(b"v", more=b"If-Match: *\r\n"),
        put(b"v", b"/data/a?ttl=1&tag=x"),
        put(b"v", b"/data/a?ttl=1&ttl=1"),
        b"PUT /data/a HTTP/1.1\r\n" + HOST + b"\r\n",
        put(b"x" * 300_000),
        b"POST /data/a?incr=1 HTTP/1.1\r\n" + HOST + b"Content-Length: 0\r\n\r\n",
        b"POST /data/bulk HTTP/1.1\r\n" + HOST + b"Content-Length: 2\r\n\r\n[]",
        post(b'{"key":"a","value":1,"if_match":"*"}'),
    ],
)
async def test_a_request_that_only_aiohttp_knows_borrows_the_connection(
    world: World, request_: bytes
) -> None:
    for cut in (len(request_), len(request_) - 1, len(request_) // 2):
        client = world.client()
        head = request_.index(b"\r\n\r\n") + 4
        if cut < head and not request_.startswith((b"GET /data", b"PUT /data", b"POST /data")):
            continue
        client.receive(request_[:cut])
        client.receive(request_[cut:] + get(b"/data/next")) if cut < len(request_) else None
        [fallback] = world.fallbacks
        assert fallback.data == request_
        assert await world.asked() == []
        if cut == len(request_):
            client.receive(get(b"/data/next"))
        assert fallback.data == request_
        assert not client.reading
        fallback.reply()
        await ticks()
        assert fallback.calls == ["detach"]
        assert [command[2] for command in await world.asked()] == [b"next"]
        world.aux.receive(b"$-1\r\n")
        assert statuses(client.said()) == [299, 404]
        assert client.reading
        world.fallbacks.clear()
        client.lose()


@pytest.mark.parametrize(
    "request_",
    [
        b"GET /data/a HTTP/1.0\r\n" + HOST + b"\r\n",
        b"GET /data/a HTTP/2.0\r\n" + HOST + b"\r\n",
        b"GET  /data/a HTTP/1.1\r\n" + HOST + b"\r\n",
        b"GET /data/\xc3\xa9 HTTP/1.1\r\n" + HOST + b"\r\n",
        b"CONNECT a:1 HTTP/1.1\r\n" + HOST + b"\r\n",
        b"GET /data/" + b"a" * 9000,
        b"GET /data/a HTTP/1.1\n" + HOST + b"\n",
        b"GET /data/a HTTP/1.1\r\nHost: a\n\r\n",
        b"\r\nGET /data/a HTTP/1.1\r\n" + HOST + b"\r\n",
        b"\x16\x03\x01",
        get(more=b"Connection: close\r\n"),
        get(more=b"Upgrade: websocket\r\nConnection: upgrade\r\n"),
        put(b"v", more=b"Expect: 100-continue\r\n"),
        put(b"v", more=b"Transfer-Encoding: chunked\r\n"),
        put(b"v", more=b"Content-Length: 1\r\n"),
        get(more=b"Content-Length: 1, 1\r\n") + b"x",
    ],
)
async def test_where_a_request_ends_in_doubt_the_connection_is_handed_over_untouched(
    world: World, request_: bytes
) -> None:
    client = world.client()
    client.receive(request_)
    await ticks(5)
    [fallback] = world.fallbacks
    assert fallback.on_reply is None
    assert fallback.data == request_
    assert await world.asked() == []
    assert client.writes == []
    assert client.reading
    client.receive(b"more")
    assert fallback.data == request_ + b"more"
    assert not world.path.connections


async def test_a_doubt_waits_for_the_replies_before_it(world: World) -> None:
    client = world.client()
    client.receive(get() + b"OPTIONS * HTTP/1.0\r\n")
    await world.asked()
    await ticks()
    assert world.fallbacks == []
    assert not client.reading
    client.receive(b"Host: a\r\n\r\n")
    world.aux.receive(entry(b"1"))
    await ticks()
    assert statuses(client.said()) == [200]
    assert world.fallbacks[0].data == b"OPTIONS * HTTP/1.0\r\nHost: a\r\n\r\n"
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


async def test_a_borrower_that_closes_the_connection_keeps_it_closed(world: World) -> None:
    client = world.client()
    client.receive(b"GET /cluster HTTP/1.1\r\n" + HOST + b"\r\n" + get())
    world.fallbacks[0].reply()
    client.close()
    await ticks()
    assert world.fallbacks[0].calls == ["lost"]
    assert await world.asked() == []

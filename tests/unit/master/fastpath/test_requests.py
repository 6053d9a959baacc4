"""Plain requests on the fast path: what is asked of the node, what the client gets, in order and bounded."""

import asyncio

import pytest

from master.fastpath.connection import MAX_PIPELINE
from master.http.limits import Limits
from ringmaster.protocol.entry_meta import Meta, unpack_meta
from ringmaster.protocol.write_options import WriteOptions, decode_options
from tests.unit.fake_wire import ticks, until
from tests.unit.master.fastpath.world import (
    HOST,
    WRITTEN,
    World,
    entry,
    get,
    post,
    put,
    statuses,
)


async def test_a_hit_and_a_miss(world: World) -> None:
    client = world.client()
    client.receive(get(b"/data/a+b"))
    assert await world.asked() == [[b"RM.GET", b"0.1", b"a+b"]]
    world.aux.receive(entry(b"[1]"))
    raw = client.said()
    assert raw.startswith(b"HTTP/1.1 200 OK\r\n")
    assert raw.endswith(b'\r\n\r\n{"key":"a+b","value":[1]}')
    assert b"detail=aux1\r\n" in raw
    client.receive(get(b"/data/%C3%A9"))
    assert await world.asked() == [[b"RM.GET", b"0.1", "é".encode()]]
    world.aux.receive(b"$-1\r\n")
    assert statuses(client.said()) == [404]
    assert (world.counters.hits, world.counters.misses) == (1, 1)


async def test_a_key_by_parameter(world: World) -> None:
    client = world.client()
    client.receive(get(b"/data?key=a+b"))
    assert await world.asked() == [[b"RM.GET", b"0.1", b"a b"]]


async def test_writes(world: World) -> None:
    client = world.client()
    client.receive(put(b"\x00v", b"/data/p?ttl=1.5", b"Content-Type: text/plain\r\n"))
    [[command, _, key, value, options]] = await world.asked()
    assert (command, key, value) == (b"RM.SET", b"p", b"\x00v")
    assert decode_options(options).ttl_ms == 1500
    assert decode_options(options).flags == 0
    world.aux.receive(WRITTEN % 1)
    raw = client.said()
    assert raw.startswith(b"HTTP/1.1 201 Created\r\nLocation: /data/p\r\n")
    assert b'ETag: "1a-2b-0f3c9d1e"\r\n' in raw

    client.receive(b"DELETE /data/p HTTP/1.1\r\n" + HOST + b"\r\n")
    assert await world.asked() == [[b"RM.DEL", b"0.1", b"p"]]
    world.aux.receive(WRITTEN % 3)
    assert statuses(client.said()) == [204]

    client.receive(post(b'{"key": "k", "value": {"a": 1.0}}'))
    assert await world.asked() == [[b"RM.SET", b"0.1", b"k", b'{"a": 1.0}']]
    world.aux.receive(WRITTEN % 0)
    assert b'"version":"1a-2b-0f3c9d1e"' in client.said()

    client.receive(post(b'{"key": "k", "value": 1, "ttl": 2}'))
    [[*_, options]] = await world.asked()
    assert decode_options(options) == WriteOptions(ttl_ms=2000)
    world.aux.receive(WRITTEN % 0)
    assert [(each.method, each.count) for each in world.counters if each.count] == [
        ("POST", 2),
        ("PUT", 1),
        ("DELETE", 1),
    ]


async def test_a_put_with_ttl_swr_and_tags(world: World) -> None:
    client = world.client()
    target = b"/data/p?tag=a&ttl=1.5&swr=2&tag=b%20c&tag=a"
    client.receive(put(b"v", target, b"Content-Type: text/plain\r\n"))
    [[command, _, key, value, raw]] = await world.asked()
    options = decode_options(raw)
    meta = Meta(content_type="text/plain", tags=("a", "b c"), swr_ms=2000)
    assert (command, key, value) == (b"RM.SET", b"p", b"v")
    assert (options.ttl_ms, options.flags, unpack_meta(options.meta)) == (1500, 0, meta)
    world.aux.receive(WRITTEN % 0)
    for wrong in (b"?tag=", b"?swr=1", b"?swr=1&ttl=0", b"?tag=%b" % (b"x" * 129), b"?ttl=-1"):
        client.receive(put(b"v", b"/data/p" + wrong))
    assert await world.asked() == []
    assert statuses(client.said()) == [204, 400, 400, 400, 400, 400]


async def test_an_invalidation_of_tags(world: World) -> None:
    client = world.client()
    client.receive(b"DELETE /data?tag=a&tag=b+c HTTP/1.1\r\n" + HOST + b"\r\n" + get(b"/data/p"))
    await ticks()
    assert await world.asked() == [[b"RM.UNTAG", b"0.1", b"a", b"b c"]]
    assert client.said() == b""
    world.aux.receive(b"*0\r\n")
    await ticks()
    assert [words[0] for words in await world.asked()] == [b"RM.GET"]
    world.aux.receive(b"$-1\r\n")
    assert statuses(client.said()) == [204, 404]
    for wrong in (
        b"?tag=",
        b"?tag=a&tag=%b" % (b"x" * 129),
        b"?tag=%b" % b"&tag=".join(b"t%d" % number for number in range(17)),
    ):
        client.receive(b"DELETE /data" + wrong + b" HTTP/1.1\r\n" + HOST + b"\r\n")
    assert await world.asked() == []
    assert statuses(client.said()) == [400, 400, 400]
    assert not world.fallbacks


async def test_a_delete_may_say_that_it_has_no_body(world: World) -> None:
    client = world.client()
    client.receive(b"DELETE /data/p HTTP/1.1\r\n" + HOST + b"Content-Length: 0\r\n\r\n" + get())
    assert await world.asked() == [[b"RM.DEL", b"0.1", b"p"]]
    world.aux.receive(WRITTEN % 3)
    assert [words[0] for words in await world.asked()] == [b"RM.GET"]
    client.receive(b"DELETE /data/p HTTP/1.1\r\n" + HOST + b"Content-Length: 1\r\n\r\nx")
    world.aux.receive(b"$-1\r\n")
    assert await world.asked() == []
    assert len(world.fallbacks) == 1


async def test_an_invalidation_that_may_be_half_done_says_so(world: World) -> None:
    client = world.client()
    client.receive(b"DELETE /data?tag=a HTTP/1.1\r\n" + HOST + b"\r\n")
    await world.asked()
    world.aux.receive(b"-SHED too many invalidations wait to be swept\r\n")
    await ticks()
    raw = client.said()
    assert statuses(raw) == [503]
    assert b'"outcome":"unknown"' in raw


REPLIES = {
    b"RM.SET": WRITTEN % 0,
    b"RM.DEL": WRITTEN % 0,
    b"RM.GET": b"$-1\r\n",
    b"RM.VALUES": b"*2\r\n$-1\r\n$-1\r\n",
}


def bulk_get(keys: bytes) -> bytes:
    return b"POST /data/bulk/get HTTP/1.1\r\n%bContent-Length: %d\r\n\r\n%b" % (
        HOST,
        len(keys),
        keys,
    )


async def test_a_request_in_any_pieces_is_the_same_request(world: World) -> None:
    raw = put(b"value") + get() + post(b'{"key":"b","value":2}')
    for cut in range(1, len(raw)):
        client = world.client()
        client.receive(raw[:cut])
        client.receive(raw[cut:])
        assert await in_turn(world) == [b"RM.SET", b"RM.GET", b"RM.SET"]
        assert statuses(client.said()) == [204, 404, 201]
    client = world.client()
    for at in range(len(raw)):
        client.receive(raw[at : at + 1])
    assert len(await in_turn(world)) == 3


async def in_turn(world: World) -> list[bytes]:
    """Answer the commands that come, until none does; their names."""
    replies = [WRITTEN % 0, b"$-1\r\n", WRITTEN % 1]
    names = []
    while commands := await world.asked():
        assert len(commands) == 1
        names.append(commands[0][0])
        world.aux.receive(replies[len(names) - 1])
    return names


@pytest.mark.parametrize(
    "requests",
    [
        [put(b"v"), get()],
        [put(b"v"), put(b"w"), get()],
        [post(b'{"key":"a","value":1}'), get()],
        [put(b"v"), get(), b"DELETE /data/a HTTP/1.1\r\n" + HOST + b"\r\n"],
        [post(b'{"key":"a","value":{"b":1}}'), bulk_get(b'["a","b"]')],
        [bulk_get(b'["a","b"]'), put(b"v")],
        [get(), get(b"/data/%61"), put(b"v"), get()],
    ],
)
async def test_a_pipeline_sees_its_own_effects(world: World, requests: list[bytes]) -> None:
    """Only reads run side by side (RFC 9112 9.3.2)."""
    client = world.client()
    client.receive(b"".join(requests))
    seen: list[str] = []
    in_flight: list[bytes] = []
    while commands := await world.asked():
        in_flight = [command[0] for command in commands]
        seen += [name.decode() for name in in_flight]
        assert len(commands) == 1 or not {b"RM.SET", b"RM.DEL"} & {*in_flight}
        for command in commands:
            world.aux.receive(REPLIES[command[0]])
    assert len(client.said().split(b"HTTP/1.1 ")) - 1 == len(requests)
    assert len(seen) == len(requests)


async def test_replies_leave_in_the_order_of_the_requests(world: World) -> None:
    client = world.client()
    client.receive(get(b"/data/1") + get(b"/data/%") + get(b"/data/2"))
    assert client.said() == b""
    world.aux.receive(b"")
    await ticks()
    world.aux.receive(b"-WAIT 1\r\n" + entry(b"2"))
    assert client.said() == b""
    await until(lambda: len(world.aux.writes) >= 2)
    world.aux.receive(entry(b"1"))
    await ticks(5)
    raw = client.said()
    assert statuses(raw) == [200, 400, 200]
    assert raw.index(b'"value":1') < raw.index(b'"value":2')


async def test_replies_that_are_ready_leave_and_the_next_is_waited_for(world: World) -> None:
    client = world.client()
    client.receive(get(b"/data/1") + get(b"/data/%") + get(b"/data/2") + get(b"/data/%"))
    await world.asked()
    world.aux.receive(entry(b"1"))
    assert statuses(client.said()) == [200, 400]
    world.aux.receive(entry(b"2"))
    assert statuses(client.said()) == [200, 400]


async def test_a_pipeline_is_bounded_and_goes_on(world: World) -> None:
    client = world.client()
    client.receive(b"".join(get(b"/data/%d" % n) for n in range(40)))
    seen = 0
    while seen < 40:
        commands = await world.asked()
        assert 0 < len(commands) <= MAX_PIPELINE
        assert client.reading is (seen + len(commands) >= 40)
        for command in commands:
            assert command[2] == b"%d" % seen
            seen += 1
            world.aux.receive(entry(command[2]))
    assert statuses(client.said()) == [200] * 40
    assert client.reading


async def test_a_client_that_does_not_read_is_not_read_from(world: World) -> None:
    client = world.client()
    client.receive(get())
    await world.asked()
    client.protocol.pause_writing()
    client.receive(get(b"/data/b"))
    assert await world.asked() == []
    assert not client.reading
    world.aux.receive(entry(b"1"))
    client.protocol.resume_writing()
    assert [command[2] for command in await world.asked()] == [b"b"]
    assert client.reading


async def test_replies_that_nobody_reads_are_bounded(world: World) -> None:
    sweep = asyncio.create_task(world.path.run())
    clients = [world.client() for _ in range(3)]
    for number, client in enumerate(clients):
        client.protocol.pause_writing()
        client.unread = (number + 1) * 30 * 2**20
    await until(lambda: clients[2].closed)
    assert [client.closed for client in clients] == [False, False, True]
    sweep.cancel()


@pytest.mark.parametrize(
    ("request_", "status", "why"),
    [
        (get(b"/data/"), 400, b"empty"),
        (get(b"/data/%zz"), 400, b"%25"),
        (get(b"/data/%FF"), 400, b"UTF-8"),
        (put(b"v", b"/data/a?ttl=-1"), 400, b"ttl"),
        (post(b"{"), 400, b"JSON"),
        (post(b'{"key":"","value":1}'), 400, b"empty"),
        (post(b'{"key":"a","value":1,"ttl":"5"}'), 400, b"ttl"),
    ],
)
async def test_a_clients_mistake_is_a_problem_and_the_connection_goes_on(
    world: World, request_: bytes, status: int, why: bytes
) -> None:
    client = world.client()
    client.receive(request_ + get())
    assert [command[2] for command in await world.asked()] == [b"a"]
    world.aux.receive(entry(b"1"))
    raw = client.said()
    assert statuses(raw) == [status, 200]
    assert why in raw
    assert b"application/problem+json" in raw


@pytest.mark.parametrize("limits", [Limits(max_value=4)])
async def test_a_value_above_the_limit_never_reaches_a_node(world: World) -> None:
    client = world.client()
    client.receive(post(b'{"key":"a","value":12345}'))
    assert await world.asked() == []
    assert statuses(client.said()) == [413]
    client.receive(put(b"12345"))
    assert len(world.fallbacks) == 1


async def test_an_empty_line_before_a_request_is_passed_over_however_it_comes(world: World) -> None:
    client = world.client()
    for piece in (b"\r", b"\n", b"\r", b"\n" + get()):
        client.receive(piece)
    assert await world.asked() == [[b"RM.GET", b"0.1", b"a"]]


@pytest.mark.parametrize(
    ("method", "rest"),
    [
        (b"GET", get()[3:]),
        (b"DELETE", get()[3:]),
        (b"PUT", put(b"v")[3:]),
        (b"POST", put(b"v")[3:]),
    ],
)
async def test_nothing_may_stand_between_a_method_and_its_space(
    world: World, method: bytes, rest: bytes
) -> None:
    """A NUL there was taken for the key, which no client may have."""
    for _ in range(2):
        client = world.client()
        client.receive(method + b"\x00" + rest)
        assert await world.asked() == []
        assert statuses(client.said()) == [400]
        client.lose()

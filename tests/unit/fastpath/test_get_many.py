"""Bulk reads on the fast path: what leaves for the node, what comes back, and what happens when something is missing."""

import json

import pytest

from master.api.limits import Limits
from tests.unit.fake_wire import ticks, until
from tests.unit.fastpath.world import HOST, World, entry, statuses


def bulk(*keys: object, more: bytes = b"") -> bytes:
    body = json.dumps(keys).encode()
    return b"POST /data/bulk/get HTTP/1.1\r\n%bContent-Length: %d\r\n%b\r\n%b" % (
        HOST, len(body), more, body,
    )  # fmt: skip


def body_of(raw: bytes) -> dict[str, dict[str, object]]:
    head, _, body = raw.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n")
    assert b"\r\nCache-Control: no-store\r\n" in head
    decoded: dict[str, dict[str, object]] = json.loads(body)
    return decoded


async def test_one_command_asks_for_all_keys_and_each_is_asked_for_once(world: World) -> None:
    client = world.client()
    client.receive(bulk("a", "b", "a", "c"))
    [command] = await world.asked()
    assert command == [b"RM.VALUES", b"0.1\n0.1\n0.1", b"a\nb\nc"]
    world.aux.receive(b"*3\r\n" + entry(b"[1]") + b"$-1\r\n" + entry(b'"x"'))
    assert body_of(client.said()) == {"values": {"a": [1], "c": "x"}, "errors": {}}
    assert (world.counters.hits, world.counters.misses) == (2, 1)


async def test_values_that_are_all_there_come_in_the_order_of_the_keys(world: World) -> None:
    client = world.client()
    client.receive(bulk("b", "a"))
    await world.asked()
    world.aux.receive(b"*2\r\n" + entry(b"2") + entry(b"1"))
    assert client.said().endswith(b'\r\n\r\n{"values":{"b":2,"a":1},"errors":{}}')
    assert world.counters.hits == 2


async def test_a_value_of_bytes_and_a_key_with_spaces(world: World) -> None:
    client = world.client()
    client.receive(bulk("a b"))
    await world.asked()
    world.aux.receive(b"*1\r\n" + entry(b"\x00\xff", 0))
    values = body_of(client.said())["values"]
    assert values == {"a b": {"base64": "AP8=", "content_type": "application/octet-stream"}}


async def test_replies_keep_their_order_among_other_requests(world: World) -> None:
    client = world.client()
    client.receive(bulk("a") + b"GET /data/k HTTP/1.1\r\n%b\r\n" % HOST)
    assert [command[0] for command in await world.asked()] == [b"RM.VALUES", b"RM.GET"]
    world.aux.receive(b"*1\r\n" + entry(b"1"))
    assert body_of(client.said())["values"] == {"a": 1}
    world.aux.receive(entry(b"2"))
    assert client.said().endswith(b'{"key":"k","value":2}')


async def test_what_was_not_served_is_asked_for_again_and_nothing_else(world: World) -> None:
    client = world.client()
    client.receive(bulk("a", "b"))
    await world.asked()
    world.aux.receive(b"*2\r\n" + entry(b"1") + b"-MOVED 9\r\n")
    await until(lambda: bool(world.aux.writes))
    assert await world.asked() == [[b"RM.MGET", b"0.1", b"b"]]
    world.aux.receive(b"*1\r\n" + entry(b"2"))
    await until(lambda: bool(client.writes))
    assert body_of(client.said()) == {"values": {"a": 1, "b": 2}, "errors": {}}


async def test_a_partition_that_moves_is_read_where_it_went(world: World) -> None:
    client = world.client()
    client.receive(bulk("a"))
    await world.asked()
    await world.adopt(2, "2")
    await until(lambda: bool(world.aux.writes))
    assert await world.asked() == [[b"RM.MGET", b"0.2", b"a"]]
    world.aux.receive(b"*1\r\n" + entry(b"3"))
    await until(lambda: bool(client.writes))
    assert body_of(client.said())["values"] == {"a": 3}


async def test_a_refusal_is_an_error_of_each_key(world: World) -> None:
    client = world.client()
    client.receive(bulk("a", "b"))
    await world.asked()
    world.aux.receive(b"-SHED too much\r\n")
    await until(lambda: bool(client.writes))
    answer = body_of(client.said())
    assert answer["values"] == {}
    assert set(answer["errors"]) == {"a", "b"}


@pytest.mark.parametrize("reply", [b"*1\r\n" + entry(b"1"), b":5\r\n"])
async def test_after_a_reply_that_cannot_be_right_all_is_asked_for_again(
    world: World, reply: bytes
) -> None:
    client = world.client()
    client.receive(bulk("a", "b"))
    await world.asked()
    world.aux.receive(reply)
    await until(lambda: bool(world.aux.writes))
    world.aux.taken()
    world.aux.receive(b"*2\r\n" + entry(b"1") + entry(b"2"))
    await until(lambda: bool(client.writes))
    assert body_of(client.said())["values"] == {"a": 1, "b": 2}


async def test_at_the_deadline_what_came_is_the_reply(world: World) -> None:
    client = world.client()
    client.receive(bulk("a", "b"))
    await world.asked()
    world.clock.ahead = 7.0
    for connection in world.path.connections:
        connection.sweep(world.clock.boottime())
    await until(lambda: bool(client.writes))
    errors = body_of(client.said())["errors"]
    assert set(errors) == {"a", "b"}
    world.aux.receive(b"*2\r\n" + entry(b"1") + entry(b"2"))
    assert client.said() == b""


class TestLimits:
    @pytest.fixture
    def limits(self) -> Limits:
        return Limits(max_bulk=300)

    async def test_more_than_the_limit_is_413(self, world: World) -> None:
        client = world.client()
        client.receive(bulk("a", "b"))
        await world.asked()
        world.aux.receive(b"*2\r\n" + entry(b"1" * 150) + entry(b"2" * 150))
        raw = client.said()
        assert statuses(raw) == [413]
        assert b'"max_bytes":300' in raw


@pytest.mark.parametrize("keys", [["é"], [""], ["x" * 513], [1], [f"k{i}" for i in range(513)], []])
async def test_what_is_not_plain_is_left_to_aiohttp(world: World, keys: list[object]) -> None:
    client = world.client()
    request = bulk(*keys)
    client.receive(request)
    await ticks()
    [fallback] = world.fallbacks
    assert fallback.data == request
    assert await world.asked() == []

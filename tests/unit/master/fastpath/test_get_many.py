"""Bulk reads on the fast path: what leaves for the node, what comes back, and what happens when something is missing."""

import gc
import json

import pytest

from master.fastpath.bulk_get import GetMany
from master.http.limits import Limits
from ringmaster.protocol.entry import pack_json
from ringmaster.routing.copies import Copy
from ringmaster.routing.event_links import Session
from ringmaster.routing.scatter_gather import Gather, KeyBatch
from ringmaster.routing.table import Route
from tests.unit.fake_wire import ticks, until
from tests.unit.master.fastpath.world import HOST, World, canonical, entry, statuses


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


def hold(world: World, **values: bytes) -> Session:
    """Have the master hold copies of these; the session with which they came."""
    copies = world.router.copies
    session = Session(
        ("aux1", "1"), "m", world.clock, lambda *_: None, lambda *_: None, lambda: 1, copies=True
    )
    session.trusted_until = float("inf")
    link = world.router.link_of("aux1")
    assert link is not None
    route = Route(0, 1, session.owner, link)
    for key, value in values.items():
        held = Copy(pack_json(26, 43, 0, value), route, session, b"1", float("inf"))
        copies.held[key.encode()] = held
    return session


async def test_what_this_master_holds_is_answered_without_asking_as_what_a_node_says(
    world: World,
) -> None:
    client = world.client()
    client.receive(bulk("a", "b"))
    await world.asked()
    world.aux.receive(entries_of(b"[1]", b'"x"'))
    said = client.said()
    session = hold(world, a=b"[1]", b=b'"x"')
    client.receive(bulk("a", "b"))
    assert client.said() == said
    assert not await world.asked()
    assert (world.counters.hits, world.router.copies.hits) == (4, 2)
    client.receive(bulk("a", "c", "b"))
    assert await world.asked() == [[b"RM.VALUES", b"0.1", b"c"]]
    world.aux.receive(texts(b"2"))
    assert body_of(client.said())["values"] == {"a": [1], "b": "x", "c": 2}
    session.trusted_until = 0.0
    client.receive(bulk("a", "b"))
    assert await world.asked() == [[b"RM.VALUES", b"0.1\n0.1", b"a\nb"]]


async def test_copies_that_are_together_too_large_are_refused() -> None:
    world = World(Limits(max_bulk=2**20))
    await world.start()
    hold(world, **{f"k{number}": b'"%b"' % (b"x" * 40_000) for number in range(50)})
    client = world.client()
    client.receive(bulk(*(f"k{number}" for number in range(50))))
    assert statuses(client.said()) == [413]
    await world.router.close()


async def test_a_read_that_is_answered_leaves_nothing_to_the_garbage_collector(
    world: World,
) -> None:
    client = world.client()
    gc.collect()
    gc.disable()
    try:
        client.receive(bulk("a", "b"))
        await world.asked()
        world.aux.receive(b"*2\r\n" + entry(b"[1]") + b"$-1\r\n")
        assert client.said()
        left = [each for each in gc.get_objects() if isinstance(each, (GetMany, Gather, KeyBatch))]
    finally:
        gc.enable()
    assert left == []


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
    world.aux.receive(b"*2\r\n" + entry(b"1") + b"-MOVED 1\r\n")
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


def texts(*values: bytes) -> bytes:
    """A node's reply to `RM.VALUES`: JSON alone, nothing for a miss."""
    joined = b"\0".join(values)
    return b"$%d\r\n%b\r\n" % (len(joined), joined)


def entries_of(*values: bytes) -> bytes:
    return b"*%d\r\n%b" % (
        len(values), b"".join(entry(value) if value else b"$-1\r\n" for value in values),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("keys", "values"),
    [
        (["a"], [b"1"]),
        (["a"], [b""]),
        (["a", "b"], [b"", b""]),
        (["b", "a", "c"], [b'{"x":\n[1,\r\n2]}', b"", b'"\\u0000 \xc3\xa9"']),
        (['"', "a\\b", "a b", "n"], [b"1", b"2", b"", b"3"]),
        ([f"k{n}" for n in range(512)], [b"%d" % n if n % 7 else b"" for n in range(512)]),
        (["a,b", "a","c", ",", '","', "', '"], [b"1", b"2", b"3", b"4", b"5", b"6"]),
    ],
)  # fmt: skip
async def test_bare_values_make_the_body_that_entries_make(
    world: World, keys: list[str], values: list[bytes]
) -> None:
    said = []
    for reply in (texts(*values), entries_of(*values)):
        client = world.client()
        client.receive(bulk(*keys))
        [command] = await world.asked()
        assert command[2] == "\n".join(keys).encode()
        world.aux.receive(reply)
        said.append(client.said().partition(b"\r\n\r\n")[2])
        said.append(b"%d %d" % (world.counters.hits, world.counters.misses))
    hits, misses = sum(map(bool, values)), len(values) - sum(map(bool, values))
    assert said[1] == b"%d %d" % (hits, misses)
    assert said[3] == b"%d %d" % (2 * hits, 2 * misses)
    assert said[0] == said[2]
    assert json.loads(said[0])["values"] == {
        key: json.loads(value) for key, value in zip(keys, values, strict=True) if value
    }


@pytest.mark.parametrize(
    "reply",
    [
        texts(b"1"),
        texts(b"1", b"2", b"3"),
        texts(),
        b"$-1\r\n",
        b"-ERR unknown command 'RM.VALUES'\r\n",
    ],
)
async def test_values_in_a_wrong_number_are_nobody_s_and_all_is_asked_for_one_by_one(
    world: World, reply: bytes
) -> None:
    client = world.client()
    client.receive(bulk("a", "b"))
    await world.asked()
    world.aux.receive(reply)
    await until(lambda: bool(world.aux.writes))
    assert await world.asked() == [[b"RM.MGET", b"0.1", b"a", b"0.1", b"b"]]
    world.aux.receive(entries_of(b"4", b"5"))
    await until(lambda: bool(client.writes))
    assert body_of(client.said())["values"] == {"a": 4, "b": 5}


async def test_late_values_of_a_former_primary_are_nobody_s(world: World) -> None:
    client = world.client()
    client.receive(bulk("a", "b"))
    await world.asked()
    former = world.aux
    await world.adopt(2, "2")
    former.receive(texts(b"1", b"1"))
    await until(lambda: bool(world.aux.writes))
    other = world.client()
    other.receive(bulk("b", "c"))
    assert await world.asked() == [
        [b"RM.MGET", b"0.2", b"a", b"0.2", b"b"],
        [b"RM.VALUES", b"0.2\n0.2", b"b\nc"],
    ]
    world.aux.receive(entries_of(b"2", b"3") + texts(b"3", b"4"))
    await until(lambda: bool(client.writes))
    assert body_of(client.said())["values"] == {"a": 2, "b": 3}
    assert body_of(other.said())["values"] == {"b": 3, "c": 4}


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

    @pytest.mark.parametrize(("size", "status"), [(125, 200), (126, 413)])
    async def test_bare_values_count_like_entries(
        self, world: World, size: int, status: int
    ) -> None:
        raws = []
        for reply in (texts, entries_of):
            client = world.client()
            client.receive(bulk("a", "none", "k" * 300))
            await world.asked()
            world.aux.receive(reply(b"1" * 125, b"", b"2" * size))
            raws.append(client.said().partition(b"\r\n\r\n"))
        assert statuses(raws[0][0] + b"\r\n\r\n") == [status]
        assert raws[0][2] == raws[1][2]


@pytest.mark.parametrize("keys", [["é"], [""], ["x" * 513], [1], [f"k{i}" for i in range(513)], []])
async def test_what_is_not_plain_is_left_to_aiohttp(world: World, keys: list[object]) -> None:
    client = world.client()
    request = bulk(*keys)
    client.receive(request)
    await ticks()
    [fallback] = world.fallbacks
    assert fallback.data == canonical(request)
    assert await world.asked() == []

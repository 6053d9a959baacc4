"""Commands of one connection see each other's effects, though a copy acknowledges late."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from aux.server.late_replies import MAX_LATE_BYTES
from aux.server.server import ClientConnection
from ringmaster.protocol.resp import Reader, Reply, encode
from tests.fakes.nodes import World, row
from tests.unit.aux.server.test_redis_commands import keys_of
from tests.unit.fake_wire import FakeTransport, ticks

A, B, C = keys_of(0, 3)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """`a` is primary of both partitions, `b` their copy, which has yet to hear of anything that is written."""
    async with World("ab", partitions=2) as world:
        world.adopt(world.view(1, row("a", "b", term=1), row("a", "b", term=1)))
        await world.settle()
        world["a"].ask(b"SET", A, b"old")
        await world.settle()
        world.wire("a", "b").held = True
        yield world


class Client:
    """One connection to `a`."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._connection = ClientConnection(world["a"].server)
        self._transport = FakeTransport(self._connection)
        self._connection.connection_made(self._transport)
        self._reader = Reader()

    def send(self, *commands: tuple[bytes | int, ...]) -> None:
        """In one segment."""
        self._transport.receive(b"".join(encode(*command) for command in commands))

    def replies(self) -> list[Reply]:
        """What came since the last call; errors as text."""
        data = b"".join(self._transport.writes)
        self._transport.writes.clear()
        found = self._reader.feed(data) if data else []
        return [str(each) if isinstance(each, Exception) else each for each in found]

    async def later(self) -> list[Reply]:
        """The same once the copy has acknowledged everything."""
        self._world.wire("a", "b").held = False
        await self._world.settle()
        await ticks()
        return self.replies()


@pytest.mark.parametrize(
    ("commands", "replies"),
    [
        ([(b"SET", A, b"1"), (b"GET", A)], [b"OK", b"1"]),
        ([(b"SET", A, b"1"), (b"SET", A, b"2"), (b"GET", A)], [b"OK", b"OK", b"2"]),
        ([(b"SET", A, b"1"), (b"GET", A), (b"SET", A, b"2"), (b"GET", A)], [b"OK", b"1", b"OK", b"2"]),
        ([(b"SET", A, b"1"), (b"GET", A), (b"DEL", A), (b"GET", A)], [b"OK", b"1", 1, None]),
        ([(b"DEL", A), (b"EXISTS", A), (b"TTL", A), (b"PTTL", A)], [1, 0, -2, -2]),
        ([(b"SET", B, b"1"), (b"EXISTS", B, B, A, C)], [b"OK", 3]),
        ([(b"SET", B, b"1"), (b"MGET", A, B, C)], [b"OK", [b"old", b"1", None]]),
        ([(b"SET", B, b"1", b"EX", b"10"), (b"TTL", B), (b"PTTL", B)], [b"OK", 10, 10_000]),
        ([(b"EXPIRE", A, b"7"), (b"TTL", A), (b"GET", A)], [1, 7, b"old"]),
        ([(b"EXPIRE", A, b"0"), (b"GET", A)], [1, None]),
        ([(b"SET", A, b"1", b"NX"), (b"GET", A)], [None, b"old"]),
        ([(b"SET", B, b"1"), (b"SET", B, b"2", b"NX"), (b"GET", B)], [b"OK", None, b"1"]),
        ([(b"GET", A), (b"SET", A, b"1"), (b"PING",), (b"GET", A)], [b"old", b"OK", b"PONG", b"1"]),
    ],
)  # fmt: skip
async def test_a_read_sees_what_was_written_before_it_in_the_same_segment_and_nothing_later(
    world: World, commands: list[tuple[bytes, ...]], replies: list[Reply]
) -> None:
    client = Client(world)
    client.send(*commands)
    early = client.replies()
    assert early + await client.later() == replies


async def test_each_key_of_an_mget_is_read_as_of_its_place_in_the_order(world: World) -> None:
    [other] = keys_of(1, 1)
    client = Client(world)
    client.send((b"SET", A, b"1"), (b"SET", other, b"1"), (b"MGET", other, A), (b"SET", A, b"2"))
    assert await client.later() == [b"OK", b"OK", [b"1", b"1"], b"OK"]


async def test_keys_that_nobody_writes_are_read_at_once(world: World) -> None:
    writer, reader = Client(world), Client(world)
    writer.send((b"SET", B, b"1"))
    reader.send((b"GET", A), (b"MGET", A, C), (b"EXISTS", A), (b"TTL", A))
    assert reader.replies() == [b"old", [b"old", None], 1, -1]


async def test_a_value_that_expires_while_a_read_waits_is_not_given(world: World) -> None:
    client = Client(world)
    client.send((b"SET", A, b"1", b"PX", b"100"), (b"GET", A), (b"EXISTS", A))
    world["a"].clock.now += 0.2
    assert await client.later() == [b"OK", None, 0]


async def test_whether_a_value_expired_is_not_said_while_a_later_write_may_keep_it(
    world: World,
) -> None:
    client = Client(world)
    client.send(
        (b"SET", A, b"1", b"PX", b"100"), (b"GET", A), (b"EXISTS", A), (b"PTTL", A),
        (b"PEXPIRE", A, b"60000"), (b"GET", A),
    )  # fmt: skip
    world["a"].clock.now += 0.2
    first, *unsure, kept, last = await client.later()
    assert (first, kept, last) == (b"OK", 1, b"1")
    assert [str(each).split()[0] for each in unsure] == ["TRYAGAIN"] * 3


async def test_hits_and_misses_are_counted_once(world: World) -> None:
    counters = world["a"].node.counters
    before = counters.hits, counters.misses
    client = Client(world)
    client.send((b"SET", A, b"1"), (b"GET", A), (b"DEL", B), (b"MGET", A, B))
    await client.later()
    assert (counters.hits - before[0], counters.misses - before[1]) == (2, 1)


async def test_a_read_that_waits_for_a_write_that_is_lost_is_an_error(world: World) -> None:
    client = Client(world)
    client.send((b"SET", A, b"1"), (b"GET", A), (b"MGET", A, C))
    world["a"].node.give_up("a test")
    await ticks()
    written, *read = client.replies()
    assert str(written).startswith("UNKNOWN")
    assert [str(each).split()[0] for each in read] == ["TRYAGAIN", "TRYAGAIN"]


async def test_a_read_whose_lease_lapsed_while_it_waited_is_an_error(world: World) -> None:
    client = Client(world)
    client.send((b"SET", A, b"1"), (b"GET", A))
    await ticks()
    world["a"].node.clock.lease.held_until = 0.0
    wire = world.wire("a", "b")
    while wire.queue:
        wire.deliver()
    await ticks()
    assert [str(each).split()[0] for each in client.replies()[1:]] == ["TRYAGAIN"]


async def test_reads_that_wait_are_bounded_by_the_bytes_they_will_bring(world: World) -> None:
    client = Client(world)
    value = bytes(2**20)
    client.send((b"SET", A, value), *[(b"GET", A)] * 100)
    replies = await client.later()
    assert len(replies) == 101
    answered = replies.count(value)
    assert MAX_LATE_BYTES // 2**20 - 2 < answered <= MAX_LATE_BYTES // 2**20
    assert {str(each) for each in replies[1 + answered :]} == {
        "SHED too many reads wait for replication"
    }
    client.send((b"GET", A))
    assert (client.replies() or await client.later()) == [value]


async def test_a_masters_read_does_not_wait(world: World) -> None:
    client = Client(world)
    token = world["a"].token()
    client.send((b"RM.SET", token, B, b"1"), (b"RM.GET", token, B))
    written, read = await client.later()
    assert isinstance(written, list)
    assert read is None

"""The router against primaries that the test plays: what is asked again, what is not, and what the caller hears."""

import asyncio
from collections.abc import AsyncIterator
from typing import cast

import pytest
import pytest_asyncio

from aux.storage.listing import Listings
from ringmaster.cluster.view import NodeInfo, Partition, View
from ringmaster.errors import (
    OutcomeUnknown,
    PeerError,
    RingmasterError,
    Shed,
    TooFewCopies,
    TooLarge,
    Unserved,
)
from ringmaster.protocol.hashing import partition_of
from ringmaster.protocol.resp import Command, encode
from ringmaster.protocol.write_options import WriteReply
from ringmaster.routing.listing import cursor_of
from ringmaster.routing.router import Router
from ringmaster.routing.scatter_gather import STRAGGLER, Gather, SingleRequest
from ringmaster.runtime.clock import Clock, SystemClock
from tests.fakes.virtual_time import LoopClock, in_virtual_time
from tests.unit.fake_wire import FakeNetwork, FakeTransport, ticks, until

P = 4
CLOCK = SystemClock()


def key_in(partition: int, nth: int = 0) -> bytes:
    keys = (b"k%d" % n for n in range(10_000))
    return [
        key for _, key in zip(range(400), keys, strict=False) if partition_of(key, P) == partition
    ][nth]


def node(name: str, incarnation: str = "1", up: bool = True) -> NodeInfo:
    return NodeInfo(id=name, incarnation=incarnation, address=f"{name}:{incarnation}", up=up)


def view(epoch: int, primaries: str, *nodes: NodeInfo, terms: int = 1) -> View:
    """`primaries`: one letter per partition, the node's id; a dash for none."""
    table = tuple(Partition(primary=None if p == "-" else p, term=terms) for p in primaries)
    return View(cluster="c", epoch=epoch, replicas=1, table=table, nodes={n.id: n for n in nodes})


def soon(seconds: float = 3.0) -> float:
    return CLOCK.boottime() + seconds


class World:
    def __init__(self, clock: Clock = CLOCK) -> None:
        self.network = FakeNetwork()
        self.router = Router(self.network, clock, jitter=lambda: 0.5)

    async def adopt(self, new: View) -> None:
        """Adopt `new` and greet its nodes."""
        known = len(self.network.made)
        self.router.adopt(new)
        fresh = sum(1 for info in new.nodes.values() if info.up) - len(
            {a for a, t in self.network.made if not t.closed}
        )
        await until(lambda: len(self.network.made) >= known + fresh)
        for _, transport in self.network.made[known:]:
            assert transport.taken()[0][0] == b"RM.HELLO"
            transport.receive(b"+OK\r\n")
        await ticks(5)

    def at(self, address: str) -> FakeTransport:
        return self.network.at(address)

    async def asked(self, address: str) -> list[Command]:
        """The next commands that the node at `address` hears."""
        transport = self.at(address)
        await until(lambda: transport.writes)
        return transport.taken()


@pytest_asyncio.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    yield world
    await world.router.close()


async def two_nodes(world: World) -> World:
    await world.adopt(view(1, "abab", node("a"), node("b")))
    return world


def reading(world: World, key: bytes, seconds: float = 3.0) -> asyncio.Task[bytes | None]:
    return asyncio.create_task(world.router.read(key, soon(seconds)))


def writing(world: World, key: bytes, seconds: float = 3.0) -> asyncio.Task[WriteReply]:
    return asyncio.create_task(world.router.write(b"RM.SET", key, (b"v",), soon(seconds)))


async def test_a_read_goes_to_the_primary_with_the_token(world: World) -> None:
    await two_nodes(world)
    for partition, address in enumerate(["a:1", "b:1", "a:1", "b:1"]):
        key = key_in(partition)
        task = reading(world, key)
        assert await world.asked(address) == [[b"RM.GET", b"%d.1" % partition, key]]
        world.at(address).receive(b"$3\r\nraw\r\n")
        assert await task == b"raw"
        assert world.router.node_of(key) == address[:1].encode()


async def test_a_miss_is_none_and_head_gives_header_and_size(world: World) -> None:
    await two_nodes(world)
    task = reading(world, key_in(0))
    await world.asked("a:1")
    world.at("a:1").receive(b"$-1\r\n")
    assert await task is None
    head = asyncio.create_task(world.router.head(key_in(0), soon()))
    assert (await world.asked("a:1"))[0][0] == b"RM.HEAD"
    world.at("a:1").receive(b"*2\r\n$2\r\nhd\r\n:77\r\n")
    assert await head == (b"hd", 77)


async def greeted(world: World, address: str, known: int) -> FakeTransport:
    """The link to `address` that is made after `known` others, once it is up."""
    await until(lambda: len(world.network.made) > known)
    at, transport = world.network.made[known]
    assert at == address
    await until(lambda: transport.writes)
    assert transport.taken() == [[b"RM.HELLO", b"c", b"1"]]
    transport.receive(b"+OK\r\n")
    await ticks(5)
    return transport


async def test_a_large_value_comes_by_a_link_of_its_own(world: World) -> None:
    await two_nodes(world)
    shared, known = world.at("a:1"), len(world.network.made)
    task = reading(world, key_in(0))
    await world.asked("a:1")
    shared.receive(b"-LARGE 1000000\r\n")
    large = await greeted(world, "a:1", known)
    await until(lambda: large.writes)
    assert large.taken() == [[b"RM.GET", b"0.1", key_in(0)]]
    # Meanwhile others are asked and answered on the link before.
    other = reading(world, key_in(2))
    await until(lambda: shared.writes)
    shared.receive(b"$1\r\nv\r\n")
    assert await other == b"v"
    large.receive(b"$5\r\nlarge\r\n")
    assert await task == b"large"


async def test_few_large_values_are_on_their_way_at_a_time(world: World) -> None:
    await two_nodes(world)
    shared, known = world.at("a:1"), len(world.network.made)
    tasks = [reading(world, key_in(0, nth)) for nth in range(5)]
    await until(lambda: shared.writes)
    shared.receive(b"-LARGE 1000000\r\n" * 5)
    large = await greeted(world, "a:1", known)
    unanswered = 0
    for _ in tasks:
        await ticks(5)
        unanswered += len(large.taken())
        assert 1 <= unanswered <= 2
        unanswered -= 1
        large.receive(b"$1\r\nv\r\n")
    assert [await task for task in tasks] == [b"v"] * 5


async def test_a_large_value_whose_turn_does_not_come_is_unserved(world: World) -> None:
    await two_nodes(world)
    shared, known = world.at("a:1"), len(world.network.made)
    tasks = [reading(world, key_in(0, nth), 0.3) for nth in range(3)]
    await until(lambda: shared.writes)
    shared.receive(b"-LARGE 1000000\r\n" * 3)
    await greeted(world, "a:1", known)
    for task in tasks:
        with pytest.raises(Unserved):
            await task


async def test_a_large_value_of_a_partition_that_moved_is_asked_for_where_it_is(
    world: World,
) -> None:
    await two_nodes(world)
    known = len(world.network.made)
    task = reading(world, key_in(0))
    await world.asked("a:1")
    world.at("a:1").receive(b"-LARGE 1000000\r\n")
    large = await greeted(world, "a:1", known)
    await until(lambda: large.writes)
    world.router.adopt(view(2, "bbab", node("a"), node("b"), terms=2))
    large.receive(b"-MOVED 2\r\n")
    there = await greeted(world, "b:1", known + 1)
    await until(lambda: there.writes)
    assert there.taken() == [[b"RM.GET", b"0.2", key_in(0)]]
    there.receive(b"$5\r\nlarge\r\n")
    assert await task == b"large"


ANSWERS = {
    reading: (b"$1\r\nv\r\n", b"v"),
    writing: (b"*4\r\n:1\r\n:1\r\n:7\r\n:0\r\n", WriteReply(1, 1, 7, 0)),
}


@pytest.mark.parametrize("error", [b"-MOVED 1\r\n", b"-WAIT 1\r\n", b"-MOVED 0\r\n"])
async def test_reads_and_writes_refused_for_now_are_asked_again(world: World, error: bytes) -> None:
    await two_nodes(world)
    for start in (reading, writing):
        task = start(world, key_in(0))
        for _ in range(3):
            await world.asked("a:1")
            world.at("a:1").receive(error)
        await world.asked("a:1")
        done, expected = ANSWERS[start]
        world.at("a:1").receive(done)
        assert await task == expected


async def test_a_lost_link_costs_a_read_nothing_and_a_write_its_outcome(world: World) -> None:
    await two_nodes(world)
    read, write = reading(world, key_in(0)), writing(world, key_in(0))
    await world.asked("a:1")
    lost = world.at("a:1")
    lost.lose()
    with pytest.raises(OutcomeUnknown):
        await write
    await until(lambda: world.at("a:1") is not lost)
    await world.asked("a:1")
    world.at("a:1").receive(b"+OK\r\n")
    assert [command[0] for command in await world.asked("a:1")] == [b"RM.GET"]
    world.at("a:1").receive(b"$1\r\nx\r\n")
    assert await read == b"x"


async def test_a_write_that_was_never_sent_is_sent_when_the_link_is_back(world: World) -> None:
    await two_nodes(world)
    lost = world.at("a:1")
    lost.lose()
    task = writing(world, key_in(0))
    await until(lambda: world.at("a:1") is not lost)
    await world.asked("a:1")
    world.at("a:1").receive(b"+OK\r\n")
    assert [command[0] for command in await world.asked("a:1")] == [b"RM.SET"]
    world.at("a:1").receive(b"*4\r\n:0\r\n:1\r\n:8\r\n:0\r\n")
    assert await task == WriteReply(0, 1, 8, 0)


async def test_a_new_incarnation_fails_what_is_in_flight_to_the_old_one(world: World) -> None:
    await two_nodes(world)
    read, write = reading(world, key_in(0)), writing(world, key_in(0))
    await world.asked("a:1")
    old = world.at("a:1")
    await world.adopt(view(2, "abab", node("a", "2"), node("b"), terms=2))
    assert old.closed
    with pytest.raises(OutcomeUnknown):
        await write
    assert await world.asked("a:2") == [[b"RM.GET", b"0.2", key_in(0)]]
    world.at("a:2").receive(b"$-1\r\n")
    assert await read is None


async def test_a_read_follows_its_partition_at_once_and_the_late_reply_reaches_nobody(
    world: World,
) -> None:
    await two_nodes(world)
    read, write = reading(world, key_in(0)), writing(world, key_in(0))
    await world.asked("a:1")
    await world.adopt(view(2, "bbab", node("a"), node("b"), terms=2))
    assert (await world.asked("b:1"))[0][:2] == [b"RM.GET", b"0.2"]
    world.at("a:1").receive(b"$3\r\nold\r\n*4\r\n:0\r\n:1\r\n:9\r\n:0\r\n")
    world.at("b:1").receive(b"$3\r\nnew\r\n")
    assert await read == b"new"
    assert await write == WriteReply(0, 1, 9, 0)


async def test_an_older_view_is_ignored(world: World) -> None:
    await world.adopt(view(5, "aaaa", node("a")))
    world.router.adopt(view(4, "----"))
    world.router.adopt(view(5, "----"))
    assert world.router.node_of(b"x") == b"a"


async def test_without_a_primary_a_request_waits_for_one_until_its_deadline(world: World) -> None:
    with pytest.raises(Unserved):
        await world.router.read(b"x", soon(0.05))
    with pytest.raises(Unserved):
        await world.router.write(b"RM.SET", b"x", (b"v",), soon(0.05))
    task = reading(world, b"x")
    await world.adopt(view(1, "aaaa", node("a")))
    await world.asked("a:1")
    world.at("a:1").receive(b"$1\r\nv\r\n")
    assert await task == b"v"


async def test_a_deadline_in_flight_is_unserved_for_a_read_and_unknown_for_a_write(
    world: World,
) -> None:
    await two_nodes(world)
    with pytest.raises(Unserved):
        await world.router.read(key_in(0), soon(0.03))
    with pytest.raises(OutcomeUnknown):
        await world.router.write(b"RM.SET", key_in(0), (b"v",), soon(0.03))
    task = reading(world, key_in(2))
    await ticks()
    world.at("a:1").receive(b"$4\r\nlate\r\n*4\r\n:0\r\n:1\r\n:9\r\n:0\r\n$4\r\nmine\r\n")
    assert await task == b"mine"


async def test_nothing_is_sent_after_the_deadline(world: World) -> None:
    await two_nodes(world)
    with pytest.raises(Unserved):
        await world.router.write(b"RM.SET", key_in(0), (b"v",), soon(-1))
    await ticks()
    assert world.at("a:1").taken() == []


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (b"-SHED full\r\n", Shed),
        (b"-MINSYNC 1 of 2\r\n", TooFewCopies),
        (b"-TOOBIG no\r\n", TooLarge),
        (b"-UNKNOWN role lost\r\n", OutcomeUnknown),
        (b"-ERR what\r\n", PeerError),
        (b"+OK\r\n", OutcomeUnknown),
    ],
)
async def test_a_final_refusal_of_a_write_is_not_asked_again(
    world: World, reply: bytes, error: type[RingmasterError]
) -> None:
    await two_nodes(world)
    task = writing(world, key_in(0))
    await world.asked("a:1")
    world.at("a:1").receive(reply)
    with pytest.raises(error):
        await task
    await ticks()
    assert world.at("a:1").taken() == []


async def test_many_reads_leave_in_one_command_per_node_and_a_dead_node_fails_only_its_own(
    world: World,
) -> None:
    await two_nodes(world)
    keys = [key_in(0), key_in(1), key_in(0, 1), key_in(2), key_in(3)]
    task = asyncio.create_task(world.router.read_many(keys, soon(0.1)))
    assert await world.asked("a:1") == [
        [b"RM.MGET", b"0.1", keys[0], b"0.1", keys[2], b"2.1", keys[3]]
    ]
    world.at("a:1").receive(b"*3\r\n$1\r\n0\r\n$-1\r\n$1\r\n2\r\n")
    results = await task
    assert [results[0], results[2], results[3]] == [b"0", None, b"2"]
    assert isinstance(results[1], Unserved)
    assert isinstance(results[4], Unserved)


async def test_of_many_reads_those_refused_for_now_are_asked_again(world: World) -> None:
    await two_nodes(world)
    keys = [key_in(0), key_in(0, 1), key_in(2)]
    task = asyncio.create_task(world.router.read_many(keys, soon()))
    await world.asked("a:1")
    world.at("a:1").receive(b"*3\r\n-AGAIN full\r\n$1\r\n1\r\n-WAIT 1\r\n")
    assert await world.asked("a:1") == [[b"RM.MGET", b"0.1", keys[0], b"2.1", keys[2]]]
    world.at("a:1").receive(b"-WAIT 1\r\n")
    await world.asked("a:1")
    world.at("a:1").receive(b"*2\r\n$1\r\n0\r\n-SHED full\r\n")
    results = await task
    assert results[:2] == [b"0", b"1"]
    assert isinstance(results[2], Shed)


async def test_many_reads_follow_a_partition_that_moves(world: World) -> None:
    await two_nodes(world)
    keys = [key_in(0), key_in(2)]
    task = asyncio.create_task(world.router.read_many(keys, soon()))
    await world.asked("a:1")
    await world.adopt(view(2, "bbab", node("a"), node("b"), terms=2))
    world.at("a:1").receive(b"*2\r\n$3\r\nold\r\n$3\r\nold\r\n")
    assert await world.asked("b:1") == [[b"RM.MGET", b"0.2", keys[0]]]
    assert await world.asked("a:1") == [[b"RM.MGET", b"2.2", keys[1]]]
    world.at("b:1").receive(b"*1\r\n$1\r\n0\r\n")
    world.at("a:1").receive(b"*1\r\n$1\r\n2\r\n")
    assert await task == [b"0", b"2"]


async def test_very_many_reads_are_several_commands(world: World) -> None:
    await world.adopt(view(1, "aaaa", node("a")))
    keys = [b"%d" % n for n in range(1300)]
    task = asyncio.create_task(world.router.read_many(keys, soon()))
    commands = await world.asked("a:1")
    assert [len(command) // 2 for command in commands] == [512, 512, 276]
    for command in commands:
        world.at("a:1").receive(encode(*command[2::2]))
    assert await task == keys


async def test_many_writes_have_an_outcome_each(world: World) -> None:
    await two_nodes(world)
    writes = [(b"RM.SET", key_in(p), (b"v",)) for p in range(4)]
    task = asyncio.create_task(world.router.write_many(writes, soon(0.1)))
    await ticks()
    world.at("a:1").receive(b"-MOVED 1\r\n-TOOBIG\r\n")
    world.at("b:1").receive(b"*4\r\n:1\r\n:1\r\n:5\r\n:0\r\n")
    assert [command[1] for command in await world.asked("a:1")] != []
    results = await task
    assert isinstance(results[0], OutcomeUnknown | Unserved)
    assert results[1] == WriteReply(1, 1, 5, 0)
    assert isinstance(results[2], TooLarge)
    assert isinstance(results[3], OutcomeUnknown)


STORED = b"*4\r\n:1\r\n:1\r\n:5\r\n:0\r\n"


async def begin_writes(count: int, within_s: float) -> tuple[World, asyncio.Task[list[object]]]:
    """One write to each of the first `count` partitions, on nodes a and b by turns, under way at 1000 s."""
    world = await two_nodes(World(LoopClock()))
    writes = [(b"RM.SET", key_in(p), (b"v",)) for p in range(count)]
    deadline = asyncio.get_running_loop().time() + within_s
    task = asyncio.create_task(world.router.write_many(writes, deadline))
    await world.asked("a:1")
    return world, cast("asyncio.Task[list[object]]", task)


@in_virtual_time
async def test_settled_writes_do_not_wait_until_the_deadline_for_a_node_that_hangs() -> None:
    world, task = await begin_writes(4, within_s=60.0)
    await world.asked("b:1")
    world.at("a:1").receive(STORED)
    await asyncio.sleep(0.7)
    world.at("b:1").receive(STORED)
    await asyncio.sleep(0.7)
    world.at("b:1").receive(b"-MOVED 1\r\n")
    loop = asyncio.get_running_loop()
    began = loop.time()
    [again] = await world.asked("b:1")
    assert again[2] == key_in(3)
    assert 3.0 <= loop.time() - began <= 3.5
    world.at("b:1").receive(STORED)
    first, second, hung, moved = await task
    assert first == second == moved == WriteReply(1, 1, 5, 0)
    assert str(hung) == str(STRAGGLER)
    assert isinstance(hung, OutcomeUnknown)
    await world.router.close()


@in_virtual_time
async def test_writes_none_of_which_is_settled_wait_until_the_deadline() -> None:
    world, task = await begin_writes(2, within_s=4.9)
    await asyncio.sleep(4.0)
    world.at("a:1").receive(STORED)
    stored, hung = await task
    assert asyncio.get_running_loop().time() == pytest.approx(1004.9, abs=0.1)
    assert stored == WriteReply(1, 1, 5, 0)
    assert isinstance(hung, OutcomeUnknown)
    await world.router.close()


async def test_a_read_without_a_task_tells_its_handler(world: World) -> None:
    done: list[None] = []
    gather = Gather(3, lambda: done.append(None))
    refused, read, written = (SingleRequest(gather, index, None) for index in range(3))
    world.router.get_nowait(b"x", refused)
    assert isinstance(gather.replies[0], RingmasterError)
    await two_nodes(world)
    world.router.get_nowait(key_in(1), read)
    world.router.write_nowait(b"RM.DEL", key_in(1), (), written)
    assert await world.asked("b:1") == [
        [b"RM.GET", b"1.1", key_in(1)],
        [b"RM.DEL", b"1.1", key_in(1)],
    ]
    world.at("b:1").receive(b"$1\r\nv\r\n:1\r\n")
    assert gather.replies[1:] == [b"v", 1]
    assert done == [None]


KEYS = (key_in(1), key_in(0), key_in(1, 1) + b"x" * 400)
"""Short and long ones, in partitions of both nodes."""


async def sent_twice(world: World, key: bytes) -> bool:
    """Whether the next bytes to the primary of `key` are one frame, and the same once more."""
    transport = world.at(f"{world.router.node_of(key).decode()}:1")
    await until(lambda: transport.writes)
    data = b"".join(transport.writes)
    transport.writes.clear()
    return len(data) > 0 and data[: len(data) // 2] * 2 == data


@pytest.mark.parametrize("key", KEYS)
async def test_a_read_has_the_same_frame_either_way(world: World, key: bytes) -> None:
    await two_nodes(world)
    gather = Gather(2, lambda: None)
    short, general = (SingleRequest(gather, index, None) for index in range(2))
    world.router.get_nowait(key, short)
    world.router.write_nowait(b"RM.GET", key, (), general)
    assert await sent_twice(world, key)
    read = reading(world, key)
    await asyncio.sleep(0)
    world.router.write_nowait(b"RM.GET", key, (), general)
    assert await sent_twice(world, key)
    read.cancel()


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("value", [b"", b"1", b"x" * 1023, b"x" * 5000])
async def test_a_plain_write_has_the_same_frame_either_way(
    world: World, key: bytes, value: bytes
) -> None:
    await two_nodes(world)
    gather = Gather(2, lambda: None)
    short, general = (SingleRequest(gather, index, None) for index in range(2))
    world.router.set_nowait(key, value, short)
    world.router.write_nowait(b"RM.SET", key, (value,), general)
    assert await sent_twice(world, key)


async def test_a_listing_goes_through_all_partitions_in_pages(world: World) -> None:
    await world.adopt(view(1, "aaaa", node("a")))
    held = {0: [b"a", b"b", b"c"], 1: [], 2: [b"d"], 3: [b"e", b"f"]}
    nodes = Listings(0)

    async def serve() -> None:
        while True:
            for command in await world.asked("a:1"):
                name, token, position, limit, prefix = command
                assert (name, prefix) == (b"RM.LIST", b"")
                entries = dict.fromkeys(held[int(token.split(b".")[0])], b"entry")
                page = nodes.page(
                    token, entries, position, int(limit), prefix, lambda *_: True, 0.0
                )
                assert page is not None
                world.at("a:1").receive(encode(page[0], len(entries), *page[1]))

    server = asyncio.create_task(serve())
    for limit in range(1, 8):
        seen: list[bytes] = []
        cursor: str | None = None
        for _ in range(20):
            keys, cursor = await world.router.scan(b"", limit, cursor, soon())
            assert len(keys) <= limit
            seen += keys
            if cursor is None:
                break
        assert sorted(seen) == [b"a", b"b", b"c", b"d", b"e", b"f"]
    server.cancel()


async def test_a_listing_from_before_the_first_view_waits_for_it(world: World) -> None:
    task = asyncio.create_task(world.router.scan(b"", 1, cursor_of((3, b""), b""), soon()))
    await ticks()
    await two_nodes(world)
    assert await world.asked("b:1") == [[b"RM.LIST", b"3.1", b"", b"1", b""]]
    world.at("b:1").receive(encode(b"", 1, b"k"))
    assert await task == ([b"k"], None)


async def test_a_request_from_before_the_first_view_finds_its_partition(world: World) -> None:
    task = reading(world, key_in(1))
    await ticks()
    await two_nodes(world)
    assert await world.asked("b:1") == [[b"RM.GET", b"1.1", key_in(1)]]
    world.at("b:1").receive(b"$-1\r\n")
    assert await task is None

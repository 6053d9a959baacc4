"""Connections of a node: order, bounds, authorization, and that no bytes of a client hurt anybody else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aux.node.event_sessions import MAX_UNREAD_BYTES
from aux.server.authorization import MAX_OUTSIDE, MAX_UNKNOWN_BYTES
from aux.server.server import (
    MAX_QUEUED,
    MAX_TURN_BYTES,
    ClientConnection,
    Server,
)
from ringmaster.cluster.node_status import decode_status
from ringmaster.cluster.view import encode_view
from ringmaster.cluster.view_delta import checksum_of, encode_step, step_between
from ringmaster.errors import PeerError
from ringmaster.net.network import AsyncioNetwork
from ringmaster.protocol.handshake import LARGE, SHARED, reader_password
from ringmaster.protocol.resp import Reader, Reply, encode
from tests.fakes.nodes import CLUSTER, World, row
from tests.unit.fake_wire import FakeTransport, ticks, until

SECRET = "open sesame"


class Client:
    """Speaks to one connection of a node's server."""

    def __init__(self, server: Server) -> None:
        self.connection = ClientConnection(server)
        self.transport = FakeTransport(self.connection)
        self.connection.connection_made(self.transport)
        self._reader = Reader()

    def send(self, *frames: bytes) -> None:
        self.transport.receive(b"".join(frames))

    def replies(self) -> list[Reply]:
        """What came since the last call."""
        data = b"".join(self.transport.writes)
        self.transport.writes.clear()
        return self._reader.feed(data) if data else []

    def ask(self, *words: bytes | int) -> Reply:
        return self.ask_raw(encode(*words))

    def ask_raw(self, frame: bytes) -> Reply:
        self.send(frame)
        [reply] = self.replies()
        return reply


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """`a` is primary of the one partition, `b` its copy; the wire between them is held."""
    async with World("ab") as world:
        world.adopt(world.view(1, row("a", "b", term=1)))
        await world.settle()
        world.wire("a", "b").held = True
        yield world


@pytest.fixture
async def alone() -> AsyncIterator[World]:
    """`a` is the only copy."""
    async with World("a") as world:
        world.adopt(world.view(1, row("a", term=1)))
        yield world


async def test_a_session_is_read_from_while_a_large_event_is_on_its_way(alone: World) -> None:
    client = Client(alone["a"].server)
    assert client.ask(b"RM.SESSION", b"m1", 1, 1, 0) in (b"OK", "OK")
    assert client.transport.high == MAX_UNREAD_BYTES
    assert client.ask(b"RM.RENEW", 1, 0) == 1


async def test_replies_keep_their_order_around_a_write_that_waits(world: World) -> None:
    client = Client(world["a"].server)
    client.send(
        encode(b"PING"), encode(b"RM.SET", b"0.1", b"k", b"1"), encode(b"RM.GET", b"0.1", b"k"),
        encode(b"PING", b"last"),
    )  # fmt: skip
    assert client.replies() == [b"PONG"]
    world.wire("a", "b").held = False
    await world.settle()
    await ticks()
    assert client.replies() == [[1, 1, 1, 0], None, b"last"]


async def test_replies_of_one_tick_leave_in_one_write(alone: World) -> None:
    client = Client(alone["a"].server)
    client.send(*[encode(b"RM.SET", b"0.1", b"%d" % number, b"1") for number in range(50)])
    assert len(client.transport.writes) == 1
    assert len(client.replies()) == 50


async def test_a_client_that_vanishes_while_its_write_waits_costs_nobody_anything(
    world: World,
) -> None:
    client, other = Client(world["a"].server), Client(world["a"].server)
    client.send(encode(b"RM.SET", b"0.1", b"k", b"1"))
    client.transport.lose()
    world.wire("a", "b").held = False
    await world.settle()
    await ticks()
    assert list(world["a"].server.connections) == [other.connection]
    assert world["a"].get(b"k") == b"1"
    assert other.ask(b"PING") == b"PONG"


async def test_a_client_with_too_many_replies_queued_is_read_no_further(world: World) -> None:
    client = Client(world["a"].server)
    client.send(encode(b"RM.SET", b"0.1", b"k", b"1"), encode(b"PING") * (MAX_QUEUED + 1))
    assert not client.transport.reading
    world.wire("a", "b").held = False
    await world.settle()
    await until(lambda: client.transport.reading)
    assert len(client.replies()) == MAX_QUEUED + 2


async def test_large_replies_behind_a_waiting_write_stop_the_reading_too(world: World) -> None:
    world.wire("a", "b").held = False
    world["a"].put(b"big", bytes(2**20))
    await world.settle()
    world.wire("a", "b").held = True
    client = Client(world["a"].server)
    client.send(encode(b"RM.SET", b"0.1", b"k", b"1"), encode(b"RM.GET", b"0.1", b"big") * 40)
    await ticks(60)
    assert not client.transport.reading
    assert client.connection._queued_bytes < 20 * 2**20
    world.wire("a", "b").held = False
    await world.settle()
    await until(lambda: client.transport.reading)
    assert len(client.replies()) == 41
    assert client.connection._queued_bytes == 0


async def test_many_large_replies_are_made_a_few_at_a_time_and_only_as_they_are_taken(
    alone: World,
) -> None:
    alone["a"].put(b"big", bytes(2**20))
    client = Client(alone["a"].server)
    client.send(encode(b"RM.GET", b"0.1", b"big") * 100, encode(b"PING"))
    assert not client.transport.reading
    assert sum(map(len, client.transport.writes)) < 2 * MAX_TURN_BYTES + 4096
    client.connection.pause_writing()
    await ticks(20)
    assert sum(map(len, client.transport.writes)) < 4 * MAX_TURN_BYTES
    client.connection.resume_writing()
    await until(lambda: client.transport.reading)
    replies = client.replies()
    assert len(replies) == 101
    assert replies[-1] == b"PONG"


async def test_commands_that_waited_their_turn_ask_for_the_lease_again(alone: World) -> None:
    alone["a"].put(b"big", bytes(2**20))
    client = Client(alone["a"].server)
    client.send(encode(b"RM.GET", b"0.1", b"big") * 3)
    alone["a"].node.clock.lease.held_until = 0.0
    await until(lambda: client.transport.reading)
    first, *others = client.replies()
    assert isinstance(first, bytes)
    assert all(str(each).startswith("WAIT") for each in others[1:])


async def test_without_the_lease_nothing_is_served_and_what_needs_none_is(alone: World) -> None:
    alone["a"].node.clock.lease.held_until = 0.0
    client = Client(alone["a"].server)
    served: list[tuple[bytes, ...]] = [
        (b"RM.GET", b"0.1", b"k"), (b"RM.MGET", b"0.1", b"k"), (b"RM.VALUES", b"0.1", b"k"), (b"RM.HEAD", b"0.1", b"k"),
        (b"RM.SET", b"0.1", b"k", b"v"), (b"RM.DEL", b"0.1", b"k"), (b"RM.INCR", b"0.1", b"k", b"1"),
        (b"RM.TOUCH", b"0.1", b"k"), (b"RM.LIST", b"0.1", b"", b"10", b""),
        (b"GET", b"k"), (b"SET", b"k", b"v"), (b"DEL", b"k"), (b"MGET", b"k"), (b"EXISTS", b"k"),
        (b"TTL", b"k"), (b"EXPIRE", b"k", b"1"), (b"get", b"k"),
    ]  # fmt: skip
    for words in served:
        assert str(client.ask(*words)) == "WAIT 1 the lease has lapsed", words
    assert client.ask(b"PING") == b"PONG"
    assert isinstance(client.ask(b"RM.STATUS"), bytes)


async def test_no_address_says_anything_before_the_secret(alone: World) -> None:
    server = Server(alone["a"].node, AsyncioNetwork(), CLUSTER, SECRET)
    client = Client(server)
    for words in ((b"PING",), (b"RM.HELLO", CLUSTER.encode(), b""), (b"RM.GET", b"0.1", b"k")):
        assert str(client.ask(*words)).startswith("NOAUTH")
    assert str(client.ask(b"AUTH", b"guess")).startswith("WRONGPASS")
    assert str(client.ask(b"AUTH")).startswith("NOAUTH")
    assert client.ask(b"auth", b"default", SECRET.encode()) == b"OK"
    assert client.ask(b"PING") == b"PONG"


async def test_a_reader_may_read_by_standard_commands_and_nothing_else(alone: World) -> None:
    server = Server(alone["a"].node, AsyncioNetwork(), CLUSTER, SECRET)
    alone["a"].put(b"k", b"v")
    client = Client(server)
    assert str(client.ask(b"AUTH", b"reader", SECRET.encode())).startswith("WRONGPASS")
    assert str(client.ask(b"AUTH", reader_password(SECRET).encode())).startswith("WRONGPASS")
    assert client.ask(b"AUTH", b"reader", reader_password(SECRET).encode()) == b"OK"
    assert client.ask(b"get", b"k") == b"v"
    assert client.ask(b"MGET", b"k", b"none") == [b"v", None]
    assert client.ask(b"PING") == b"PONG"
    for words in (
        (b"SET", b"k", b"x"),
        (b"del", b"k"),
        (b"EXPIRE", b"k", b"1"),
        (b"RM.GET", b"0.1", b"k"),
    ):
        assert str(client.ask(*words)).startswith("NOPERM"), words
    assert server.authorization.refused == 1
    assert str(client.ask(b"FLUSHALL")).startswith("ERR unknown")
    assert client.ask(b"AUTH", SECRET.encode()) == b"OK"
    assert client.ask(b"SET", b"k", b"x") == b"OK"


async def test_commands_of_masters_and_nodes_take_the_secret_on_every_address(alone: World) -> None:
    server = Server(alone["a"].node, AsyncioNetwork(), CLUSTER, SECRET)
    client = Client(server)
    forged = encode_view(alone.view(1_000_000_000, row(None, term=1)))
    internal = [
        (b"RM.VIEW", forged), (b"rm.view", forged), (b"RM.STEP", b"{}"), (b"RM.REPL", b"9" * 15),
        (b"RM.OPEN", b"0", b"9", b"9", b"fill", b"9", b"0", b"x"), (b"RM.STATUS", b"9" * 15),
        (b"RM.RELEASED", b"0", b"9", b"x"), (b"RM.SET", b"0.1", b"k", b"v"), (b"RM.UNTAG", b"0.1", b"t"),
    ]  # fmt: skip
    before = alone["a"].node.clock.now_ms()
    for words in internal:
        assert str(client.ask(*words)).startswith("NOAUTH"), words
    assert server.authorization.refused == len(internal)
    assert alone["a"].node.roles.epoch == 1
    assert alone["a"].node.clock.now_ms() < before + 60_000
    assert client.ask(b"AUTH", SECRET.encode()) == b"OK"
    assert isinstance(client.ask(b"RM.STATUS"), bytes)


@pytest.mark.parametrize(
    "announced",
    [
        b"*2\r\n$4\r\nAUTH\r\n$60000000\r\n",
        b"*3\r\n$6\r\nRM.SET\r\n$50000\r\n",
        b"",  # a line typed by hand
    ],
)
async def test_who_has_not_said_the_secret_is_sent_away_before_much_of_a_command_is_kept(
    alone: World, announced: bytes
) -> None:
    server = Server(alone["a"].node, AsyncioNetwork(), CLUSTER, SECRET)
    client = Client(server)
    client.send(announced + b"x" * 10)
    assert client.replies() == []
    kept = 0
    while kept <= MAX_UNKNOWN_BYTES and not client.replies():
        client.send(b"x" * 1000)
        kept += 1000
    await asyncio.sleep(0)
    assert client.transport.closed
    assert kept <= MAX_UNKNOWN_BYTES + 1000


async def test_who_has_not_said_the_secret_cannot_announce_a_large_array(alone: World) -> None:
    server = Server(alone["a"].node, AsyncioNetwork(), CLUSTER, SECRET)
    assert str(Client(server).ask_raw(b"*999999\r\n")).startswith("ERR Protocol")
    client = Client(server)
    assert client.ask(b"AUTH", SECRET.encode()) == b"OK"
    client.send(b"*999999\r\n")
    assert client.replies() == []


async def test_large_commands_are_taken_behind_the_secret_even_in_the_same_bytes(
    alone: World,
) -> None:
    server = Server(alone["a"].node, AsyncioNetwork(), CLUSTER, SECRET)
    client = Client(server)
    value = b"x" * 1_000_000
    write = encode(b"RM.SET", alone["a"].token(), b"k", value)
    client.send(encode(b"AUTH", SECRET.encode()) + write[:20_000])
    for start in range(20_000, len(write), 50_000):
        client.send(write[start : start + 50_000])
    assert client.replies() == [b"OK", [1, 1, 1, 0]]
    assert alone["a"].get(b"k") == value


async def test_quit_is_answered_and_what_comes_behind_it_is_not(alone: World) -> None:
    client = Client(alone["a"].server)
    client.send(encode(b"QUIT"), encode(b"RM.SET", b"0.1", b"k", b"1"))
    assert client.replies() == [b"OK"]
    assert client.transport.closed
    assert alone["a"].get(b"k") is None


async def test_quit_waits_for_the_replies_before_it(world: World) -> None:
    client = Client(world["a"].server)
    client.send(encode(b"RM.SET", b"0.1", b"k", b"1"), encode(b"QUIT"))
    client.send(encode(b"PING"))
    assert not client.transport.closed
    world.wire("a", "b").held = False
    await world.settle()
    await ticks()
    assert client.replies() == [[1, 1, 1, 0], b"OK"]
    assert client.transport.closed


async def test_lines_typed_by_hand_are_commands_in_any_case(alone: World) -> None:
    client = Client(alone["a"].server)
    client.send(b"ping\r\nset k v\nGet k\r\n")
    assert client.replies() == [b"PONG", b"OK", b"v"]


async def test_a_command_is_run_in_the_same_way_in_any_case(alone: World) -> None:
    commands: list[tuple[bytes, ...]] = [
        (b"RM.SET", b"0.1", b"k", b"v"), (b"RM.GET", b"0.1", b"k"), (b"RM.GET", b"0.9", b"k"),
        (b"RM.GET", b"0.1"), (b"GET", b"k"), (b"SET", b"k"), (b"DEL", b"none"),
    ]  # fmt: skip
    for words in commands:
        client = Client(alone["a"].server)
        upper, lower = client.ask(*words), client.ask(words[0].lower(), *words[1:])
        if words[0] == b"RM.SET":
            assert (upper, lower) == ([1, 1, 1, 0], [0, 1, 2, 0])
        else:
            assert str(upper) == str(lower), words
    alone["a"].node.clock.lease.held_until = 0.0
    for words in commands:
        client = Client(alone["a"].server)
        assert str(client.ask(*words)) == str(client.ask(words[0].lower(), *words[1:])), words


@pytest.mark.parametrize(
    "head", [b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"POST /x HTTP/1.1\r\n\r\n"]
)
async def test_a_browser_is_sent_away(alone: World, head: bytes) -> None:
    client = Client(alone["a"].server)
    client.send(head)
    assert str(client.replies()[-1]).startswith("ERR Protocol error")
    assert client.transport.closed


async def test_what_came_before_malformed_bytes_is_run_and_answered(world: World) -> None:
    client = Client(world["a"].server)
    client.send(
        encode(b"RM.SET", b"0.1", b"k", b"1"), encode(b"PING"), b"*1\r\n:5\r\n", encode(b"PING")
    )
    await ticks()
    assert client.replies() == []
    world.wire("a", "b").deliver()
    await ticks()
    written, pong, error = client.replies()
    assert written == [1, 1, 1, 0]
    assert pong in (b"PONG", "PONG")
    assert str(error).startswith("ERR Protocol error")
    assert client.transport.closed


async def test_an_unknown_command_is_named_in_one_line(alone: World) -> None:
    client = Client(alone["a"].server)
    reply = client.ask(b"no\r\nsuch" + b"x" * 500)
    assert str(reply) == f"ERR unknown command 'NOSUCH{'X' * 56}'"


async def test_hello_checks_the_cluster_and_the_incarnation(alone: World) -> None:
    client = Client(alone["a"].server)
    assert client.ask(b"RM.HELLO", CLUSTER.encode(), b"") == b"OK"
    assert client.ask(b"RM.HELLO", CLUSTER.encode(), b"a-1") == b"OK"
    assert str(client.ask(b"RM.HELLO", b"other", b"")).startswith("WRONG")
    assert str(client.ask(b"RM.HELLO", CLUSTER.encode(), b"a-0")).startswith("WRONG")


async def test_a_large_value_is_not_sent_where_others_wait_behind_it(alone: World) -> None:
    shared, other = Client(alone["a"].server), Client(alone["a"].server)
    pt = b"0.1"
    assert shared.ask(b"RM.HELLO", CLUSTER.encode(), b"a-1", SHARED) == b"OK"
    assert other.ask(b"RM.HELLO", CLUSTER.encode(), b"a-1") == b"OK"
    other.ask(b"RM.SET", pt, b"small", b"v" * 1000)
    other.ask(b"RM.SET", pt, b"large", b"v" * LARGE)
    assert isinstance(shared.ask(b"RM.GET", pt, b"small"), bytes)
    told = shared.ask(b"RM.GET", pt, b"large")
    assert isinstance(told, PeerError)
    assert told.code == "LARGE"
    entry = other.ask(b"RM.GET", pt, b"large")
    assert isinstance(entry, bytes)
    assert int(told.detail) == len(entry) > LARGE


async def test_not_even_the_first_view_may_be_of_another_cluster() -> None:
    async with World("a") as world:
        other = msgspec.structs.replace(world.view(1, row("a", term=1)), cluster="d" * 32)
        reply = Client(world["a"].server).ask(b"RM.VIEW", encode_view(other))
        assert str(reply).startswith("WRONG")
        assert world["a"].node.roles.view is None


async def test_a_step_is_followed_from_the_view_it_leads_on_from_and_from_no_other() -> None:
    async with World("a", partitions=4) as world:
        client, node = Client(world["a"].server), world["a"].node
        others = [row("a", term=1)] * 3
        before = world.view(2, row("a", term=1), *others)
        after = world.view(3, row("a", term=3), *others)
        step = step_between(before, after)
        assert step is not None
        raw = encode_step(step)
        assert str(client.ask(b"RM.STEP", raw)) == "BEHIND 0"
        node.roles.adopt(world.view(1, others[0], *others))
        assert str(client.ask(b"RM.STEP", raw)) == "BEHIND 1"
        node.roles.adopt(before)
        # Only to the very next epoch.
        far = msgspec.structs.replace(step, epoch=10**9)
        assert str(client.ask(b"RM.STEP", encode_step(far))) == "BEHIND 2"
        heard: list[int] = []
        node.heard_of = heard.append
        assert client.ask(b"RM.STEP", raw) == b"OK"
        assert heard == [3]
        assert node.roles.view == after
        assert node.roles.primaries[0].term == 3
        assert client.ask(b"RM.STEP", raw) == b"OK"
        other_past = msgspec.structs.replace(step, after=3, epoch=4)
        assert str(client.ask(b"RM.STEP", encode_step(other_past))) == "BEHIND 3"
        step = msgspec.structs.replace(other_past, checksum=checksum_of(after))
        foreign = msgspec.structs.replace(step, cluster="d" * 32)
        assert str(client.ask(b"RM.STEP", encode_step(foreign))).startswith("WRONG")
        beyond = msgspec.structs.replace(step, rows={4: row("a", term=1)})
        assert str(client.ask(b"RM.STEP", encode_step(beyond))).startswith("ERR")
        assert node.roles.epoch == 3


async def test_a_pushed_view_is_looked_up_unless_it_is_old_or_of_another_cluster(
    alone: World,
) -> None:
    client, node = Client(alone["a"].server), alone["a"].node
    heard: list[int] = []
    node.heard_of = heard.append
    newer = alone.view(3, row("a", term=1))
    assert client.ask(b"RM.VIEW", encode_view(newer)) == b"OK"
    assert client.ask(b"RM.VIEW", encode_view(alone.view(node.roles.epoch))) == b"OK"
    other = msgspec.structs.replace(newer, cluster="d" * 32, epoch=9)
    assert str(client.ask(b"RM.VIEW", encode_view(other))).startswith("WRONG")
    assert str(client.ask(b"RM.VIEW", b"{}")).startswith("ERR")
    raw = client.ask(b"RM.STATUS")
    assert isinstance(raw, bytes)
    assert (heard, decode_status(raw).epoch) == ([3], 1)


MALFORMED: list[tuple[bytes, ...]] = [
    (b"RM.GET",), (b"RM.GET", b"0.1"), (b"RM.GET", b"x", b"k"), (b"RM.GET", b"0.x", b"k"),
    (b"RM.MGET", b"0.1"), (b"RM.MGET", b"x", b"k"), (b"RM.VALUES", b"x", b"k"), (b"RM.VALUES", b"0.1"), (b"RM.HEAD",), (b"RM.HEAD", b"", b"k"),
    (b"RM.SET", b"0.1", b"k"), (b"RM.SET", b"0.1", b"k", b"v", b"no msgpack"),
    (b"RM.SET", b"0.1", b"k", b"v", msgspec.msgpack.encode([2**60])),
    (b"RM.SET", b"0.1", b"k", b"v", msgspec.msgpack.encode([0, 999])),
    (b"RM.INCR", b"0.1", b"k"), (b"RM.INCR", b"0.1", b"k", b"much"), (b"RM.TOUCH", b"0.1"),
    (b"RM.INCR", b"0.1", b"new", b"1", msgspec.msgpack.encode([2**60])),
    (b"RM.DEL", b"0.1"), (b"RM.DEL", b"0.1", b"k", b"\xc1"),
    (b"RM.LIST", b"0.1", b""), (b"RM.LIST", b"0.1", b"", b"x", b""), (b"RM.LIST", b"0.1", b"short", b"1", b""), (b"RM.LIST", b"0.1"),
    (b"RM.HELLO",), (b"RM.HELLO", CLUSTER.encode(), b"\xff"), (b"RM.VIEW",), (b"RM.VIEW", b"\xff"), (b"RM.STEP",), (b"RM.STEP", b"{}"),
    (b"RM.OPEN",), (b"RM.OPEN", b"0", b"x", b"1", b"sync", b"0", b"0", b"a-1"),
    (b"RM.REPL",), (b"RM.REPL", b"x"), (b"RM.REPL", b"1", b"short", b"k", b"v"),
    (b"RM.RELEASED", b"0"), (b"RM.RELEASED", b"0", b"1", b"\xff"),
    (b"GET",), (b"SET", b"k"), (b"SET", b"k", b"v", b"PX", b"9" * 30), (b"SET", b"k", b"v", b"EX"),
    (b"SET", b"k", b"v", b"NX", b"XX"), (b"SET", b"", b"v"), (b"SET", b"k" * 513, b"v"),
    (b"EXPIRE", b"k"), (b"EXPIRE", b"k", b"soon"), (b"DEL",), (b"MGET",), (b"TTL",), (b"ECHO",),
    (b"SELECT",), (b"SELECT", b"1"), (b"CONFIG",), (b"CONFIG", b"SET", b"save", b""),
]  # fmt: skip


@pytest.mark.parametrize("words", MALFORMED, ids=repr)
async def test_malformed_arguments_are_an_error_and_nothing_else(
    alone: World, words: tuple[bytes, ...]
) -> None:
    client = Client(alone["a"].server)
    alone["a"].put(b"k", b"1")
    assert str(client.ask(*words)).startswith("ERR"), words
    assert client.ask(b"PING") == b"PONG"
    assert alone["a"].holds() == {b"k": b"1"}


async def test_a_ttl_of_ages_is_refused_where_a_key_would_have_to_keep_it(alone: World) -> None:
    client = Client(alone["a"].server)
    alone["a"].put(b"k", b"1")
    assert str(client.ask(b"EXPIRE", b"k", b"9" * 30)).startswith("ERR")
    assert client.ask(b"TTL", b"k") == -1


@pytest.mark.parametrize("number", [b"1", b"-1", b"99999999999"])
async def test_partitions_that_do_not_exist_are_nobody_s(alone: World, number: bytes) -> None:
    client = Client(alone["a"].server)
    assert str(client.ask(b"RM.GET", number + b".1", b"k")).startswith("MOVED")
    opened = client.ask(b"RM.OPEN", number, 1, 1, b"sync", 0, 0, b"b-1")
    assert str(opened).startswith("UNLISTED")
    assert str(client.ask(b"RM.RELEASED", number, 1, b"b-1")).startswith("UNLISTED")


NAMES = [
    b"RM.GET", b"RM.MGET", b"RM.VALUES", b"RM.HEAD", b"RM.SET", b"RM.DEL", b"RM.INCR", b"RM.TOUCH", b"RM.LIST",
    b"RM.HELLO", b"RM.OPEN", b"RM.REPL", b"RM.RELEASED", b"RM.STATUS", b"RM.VIEW", b"RM.STEP", b"RM.ADVICE", b"RM.HOTKEYS", b"GET",
    b"RM.EXPLAIN", b"RM.EVICTIONS", b"RM.SETTINGS",
    b"SET", b"DEL", b"EXISTS", b"MGET", b"TTL", b"PTTL", b"EXPIRE", b"PEXPIRE", b"PING", b"ECHO", b"DBSIZE",
    b"INFO", b"CONFIG", b"COMMAND", b"CLIENT", b"SELECT", b"AUTH",
]  # fmt: skip
WORDS = st.one_of(
    st.sampled_from([b"0.1", b"0", b"1", b"-1", b"k", b"", b"sync", b"fill", b"a-1", b"EX", b"NX"]),
    st.integers(-(2**70), 2**70).map(lambda number: b"%d" % number),
    st.binary(max_size=40),
    st.lists(
        st.one_of(st.none(), st.integers(-(2**63), 2**63), st.text(max_size=3)), max_size=7
    ).map(msgspec.msgpack.encode),
)


@pytest.mark.thorough
@given(
    commands=st.lists(st.tuples(st.sampled_from(NAMES), st.lists(WORDS, max_size=7)), max_size=8)
)
def test_whatever_a_client_says_it_gets_one_reply_to_each_command(
    commands: list[tuple[bytes, list[bytes]]],
) -> None:
    async def check() -> None:
        async with World("a") as world:
            world.adopt(world.view(1, row("a", term=1)))
            client = Client(world["a"].server)
            for name, words in commands:
                client.send(encode(name, *words))
                assert len(client.replies()) == 1, (name, words)
            assert client.ask(b"PING") == b"PONG"

    asyncio.run(check())


@given(data=st.binary(max_size=200), cut=st.integers(0, 200))
def test_whatever_bytes_come_other_clients_are_served(data: bytes, cut: int) -> None:
    async def check() -> None:
        async with World("a") as world:
            world.adopt(world.view(1, row("a", term=1)))
            client, other = Client(world["a"].server), Client(world["a"].server)
            client.send(data[:cut])
            client.send(data[cut:])
            assert other.ask(b"PING") == b"PONG"

    asyncio.run(check())


@pytest.mark.parametrize(
    "words",
    [
        (b"RM.SET", b"0.1", b"k", b"1", b"\x96\x00\x00\xc4\x00\xa1\xff\xc0\xa0"),
        (b"RM.SET", b"0.1", b"k", b"1", b"\x97\x00\x00\xc4\x00\xc0\xc0\xa0" + b"\x91" * 100_000),
        (b"RM.SET", b"0.1", b"k", b"1", b"\xc1"),
        (b"RM.VIEW", b'{"cluster":"\xff","epoch":9}'),
        (b"RM.VIEW", b'{"more":' + b"[" * 100_000),
    ],
    ids=["not UTF-8", "deep", "no msgpack", "view not UTF-8", "deep view"],
)
async def test_arguments_that_do_not_decode_are_wrong_arguments(
    world: World, words: tuple[bytes, ...]
) -> None:
    client = Client(world["a"].server)
    assert str(client.ask(*words)).startswith("ERR wrong ")
    assert client.ask(b"PING") == b"PONG"


def server_for(node: World, most: int, secret: str = SECRET) -> Server:
    return Server(node["a"].node, AsyncioNetwork(), CLUSTER, secret, most)


FULL = "ERR max number of clients reached"
UNKNOWN = "NOAUTH Authentication required."


async def test_a_client_beyond_the_cap_hears_so_at_its_first_word_and_is_closed(
    world: World,
) -> None:
    server = server_for(world, 2)
    first, second, third = (Client(server) for _ in range(3))
    assert third.transport.writes == []
    assert str(third.ask(b"PING")) == FULL
    assert third.transport.closed
    assert str(first.ask(b"PING")) == str(second.ask(b"PING")) == UNKNOWN
    await ticks()
    first.transport.lose()
    assert str(Client(server).ask(b"PING")) == UNKNOWN
    assert server.authorization.turned_away == 1


async def test_who_says_the_secret_first_is_let_in_beyond_the_cap(world: World) -> None:
    server = server_for(world, 1)
    assert str(Client(server).ask(b"PING")) == UNKNOWN
    master, stranger = Client(server), Client(server)
    assert master.ask(b"AUTH", SECRET.encode()) == b"OK"
    assert master.ask(b"PING") == b"PONG"
    assert str(stranger.ask(b"AUTH", b"sesame")) == FULL
    assert stranger.transport.closed


async def test_who_says_nothing_beyond_the_cap_is_closed(world: World) -> None:
    server = server_for(world, 1)
    _, silent = Client(server), Client(server)
    await until(lambda: silent.transport.closed)
    assert [str(reply) for reply in silent.replies()] == [FULL]
    assert not server.authorization.outside


async def test_few_wait_outside_and_none_without_a_secret(world: World) -> None:
    server = server_for(world, 1)
    clients = [Client(server) for _ in range(MAX_OUTSIDE + 2)]
    assert [client.transport.closed for client in clients] == [False] * (MAX_OUTSIDE + 1) + [True]
    open_to_all = server_for(world, 1, "")
    _, second = Client(open_to_all), Client(open_to_all)
    assert [str(reply) for reply in second.replies()] == [FULL]

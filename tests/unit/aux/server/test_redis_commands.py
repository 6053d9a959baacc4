"""The standard Redis commands: their Redis meaning, our checks."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from ringmaster.protocol.entry_meta import Meta, pack_meta
from ringmaster.protocol.hashing import partition_of
from ringmaster.protocol.write_options import WriteOptions, encode_options
from tests.fakes.nodes import TestNode, World, row


@pytest.fixture
async def node() -> AsyncIterator[TestNode]:
    """The only copy."""
    async with World("a") as world:
        world.adopt(world.view(1, row("a", term=1)))
        yield world["a"]


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """`a` is primary of the even partition, `b` of the odd one; each keeps a copy of the other's."""
    async with World("ab", partitions=2) as world:
        world.adopt(world.view(1, row("a", "b", term=1), row("b", "a", term=1)))
        await world.settle()
        yield world


def keys_of(partition: int, count: int) -> list[bytes]:
    names = (b"key-%d" % number for number in range(1000))
    return [key for key in names if partition_of(key, 2) == partition][:count]


async def test_set_get_del_exists(node: TestNode) -> None:
    assert node.ask(b"GET", b"k").raw == b"$-1\r\n"
    assert node.ask(b"SET", b"k", b"v").raw == b"+OK\r\n"
    assert node.ask(b"GET", b"k").raw == b"$1\r\nv\r\n"
    assert node.ask(b"EXISTS", b"k", b"none", b"k").reply == 2
    assert node.ask(b"MGET", b"k", b"none").reply == [b"v", None]
    assert node.ask(b"DEL", b"k", b"none").reply == 1
    assert node.ask(b"EXISTS", b"k").reply == 0


@pytest.mark.parametrize("value", [b"", b"\r\n", bytes(range(256)), b"x" * 100_000])
async def test_values_are_bytes(node: TestNode, value: bytes) -> None:
    node.ask(b"SET", b"k", value)
    assert node.ask(b"GET", b"k").reply == value


async def test_a_get_is_an_mget_of_one_key(world: World) -> None:
    [ours, gone, brief], [theirs] = keys_of(0, 3), keys_of(1, 1)
    node = world["a"]
    node.ask(b"SET", ours, b"v")
    node.ask(b"SET", brief, b"v", b"PX", b"100")
    await world.settle()
    for _ in range(2):
        for key in (ours, gone, brief, theirs):
            counters, seen = node.node.counters, []
            for command in (b"GET", b"MGET"):
                before = counters.hits, counters.misses
                reply = node.ask(command, key).reply
                seen.append(
                    (
                        str(
                            reply if command == b"GET" or not isinstance(reply, list) else reply[0]
                        ),
                        counters.hits - before[0],
                        counters.misses - before[1],
                        list(node.holds(0)),
                    )
                )
            assert seen[0] == seen[1], key
        node.clock.now += 0.2


async def test_a_stale_value_is_read_until_its_grace_is_over_or_its_tag_invalidated(
    node: TestNode,
) -> None:
    meta = pack_meta(Meta(tags=("t",), swr_ms=60_000))
    options = encode_options(WriteOptions(ttl_ms=1000, meta=meta))
    for key in (b"k", b"l"):
        node.ask(b"RM.SET", node.token(), key, b"old", options)
    node.clock.now += 30
    assert node.ask(b"GET", b"k").reply == b"old"
    assert node.ask(b"MGET", b"k", b"l").reply == [b"old", b"old"]
    assert node.ask(b"EXISTS", b"k").reply == 1
    node.clock.now += 40
    assert node.ask(b"MGET", b"k", b"l").reply == [None, None]
    node.ask(b"RM.SET", node.token(), b"k", b"new", options)
    node.clock.now += 30
    node.ask(b"RM.UNTAG", node.token(), b"t")
    assert node.ask(b"GET", b"k").reply is None


async def test_a_read_of_a_key_that_expires_under_a_write_waits_for_it(world: World) -> None:
    [key] = keys_of(0, 1)
    node = world["a"]
    node.ask(b"SET", key, b"1", b"PX", b"100")
    await world.settle()
    world.wire("a", "b").held = True
    kept = node.ask(b"PEXPIRE", key, b"60000")
    node.clock.now += 0.1
    read = [node.ask(command, key) for command in (b"GET", b"MGET", b"EXISTS", b"TTL")]
    assert {each.raw for each in read} == {None}
    world.wire("a", "b").held = False
    await world.settle()
    assert kept.reply == 1
    assert [each.reply for each in read] == [b"1", [b"1"], 1, 60]
    assert node.ask(b"GET", key).reply == b"1"


async def test_set_s_options(node: TestNode) -> None:
    assert node.ask(b"SET", b"k", b"1", b"XX").reply is None
    assert node.ask(b"SET", b"k", b"1", b"nx", b"px", b"1500").reply == b"OK"
    assert node.ask(b"SET", b"k", b"2", b"NX").reply is None
    assert node.ask(b"PTTL", b"k").reply == 1500
    assert node.ask(b"SET", b"k", b"2", b"XX", b"EX", b"10").reply == b"OK"
    assert node.ask(b"TTL", b"k").reply == 10
    assert node.ask(b"SET", b"k", b"3").reply == b"OK"
    assert node.ask(b"TTL", b"k").reply == -1
    for wrong in ((b"EX", b"0"), (b"EX", b"-1"), (b"EX", b"1", b"PX", b"1"), (b"KEEPTTL",)):
        assert str(node.ask(b"SET", b"k", b"4", *wrong).reply) == "ERR syntax error"
    assert node.ask(b"GET", b"k").reply == b"3"


async def test_expiry(node: TestNode) -> None:
    assert node.ask(b"TTL", b"k").reply == -2
    assert node.ask(b"EXPIRE", b"k", b"5").reply == 0
    node.ask(b"SET", b"k", b"1")
    assert node.ask(b"EXPIRE", b"k", b"5").reply == 1
    assert node.ask(b"TTL", b"k").reply == 5
    assert node.ask(b"PEXPIRE", b"k", b"500").reply == 1
    node.clock.now += 0.5
    assert node.ask(b"GET", b"k").reply is None
    assert node.ask(b"EXISTS", b"k").reply == 0
    assert node.ask(b"TTL", b"k").reply == -2
    node.ask(b"SET", b"k", b"1")
    assert node.ask(b"EXPIRE", b"k", b"-1").reply == 1
    assert node.holds() == {}


@pytest.mark.parametrize(
    "key",
    [
        b"",
        b"x" * 513,
        b"b\xff",
        b"\xc0\x80",
        b"\xed\xa0\x80",
        b"a\x00",
        b"a\r\nb",
        b"\x7f",
        b"\xc2\x85",
    ],
)
async def test_keys_that_http_refuses_are_refused_by_what_may_write_them(
    node: TestNode, key: bytes
) -> None:
    refusal = "ERR a key is 1 to 512 bytes of UTF-8 without control characters"
    assert str(node.ask(b"SET", key, b"v").reply) == refusal
    assert str(node.ask(b"SET", key, b"v", b"PX", b"100", b"NX").reply) == refusal
    assert str(node.ask(b"EXPIRE", key, b"5").reply) == refusal
    assert str(node.ask(b"PEXPIRE", key, b"5").reply) == refusal
    assert node.holds() == {}


@pytest.mark.parametrize("key", ["é", "x" * 512, "\u2028", "a b", "\U0001f600"])
async def test_keys_that_http_takes_are_taken(node: TestNode, key: str) -> None:
    assert node.ask(b"SET", key.encode(), b"v").reply == b"OK"
    assert node.ask(b"EXPIRE", key.encode(), b"5").reply == 1


async def test_an_illegal_key_that_is_there_already_is_read_and_removed(node: TestNode) -> None:
    for remove in ((b"DEL", b"b\xff"), (b"EXPIRE", b"b\xff", b"0")):
        node.put(b"b\xff", b"v")
        assert node.ask(b"GET", b"b\xff").reply == b"v"
        assert node.ask(*remove).reply == 1
        assert node.holds() == {}


async def test_keys_of_other_nodes_are_pointed_to(world: World) -> None:
    [ours], [theirs] = keys_of(0, 1), keys_of(1, 1)
    node = world["a"]
    commands: list[tuple[bytes, ...]] = [
        (b"GET", theirs), (b"SET", theirs, b"v"), (b"DEL", ours, theirs), (b"MGET", ours, theirs),
        (b"EXISTS", theirs), (b"TTL", theirs), (b"EXPIRE", theirs, b"1"),
    ]  # fmt: skip
    for command in commands:
        assert str(node.ask(*command).reply) == "MOVED 1 b", command
    assert node.node.roles.primaries[0].seq == 0
    assert node.node.roles.replicas[1].seq == 0


async def test_a_del_of_many_keys_is_answered_when_all_are_gone_everywhere(world: World) -> None:
    first, second = keys_of(0, 2)
    node = world["a"]
    node.ask(b"SET", first, b"1")
    await world.settle()
    world.wire("a", "b").held = True
    deleted = node.ask(b"DEL", first, second)
    await world.settle()
    assert deleted.raw is None
    world.wire("a", "b").held = False
    await world.settle()
    assert deleted.reply == 1
    assert world["b"].holds(0) == {}


async def test_an_error_among_several_removals_is_the_answer(world: World) -> None:
    first, second = keys_of(0, 2)
    world.wire("a", "b").held = True
    deleted = world["a"].ask(b"DEL", first, second)
    world["a"].node.give_up("a test")
    assert str(deleted.reply).startswith("UNKNOWN")


async def test_a_write_waits_for_the_copies_and_a_read_does_not_see_it_before(world: World) -> None:
    [key] = keys_of(0, 1)
    world.wire("a", "b").held = True
    written = world["a"].ask(b"SET", key, b"1")
    assert written.raw is None
    read = world["a"].ask(b"GET", key)
    assert read.raw is None
    assert world["a"].get(key, 0) is None
    world.wire("a", "b").held = False
    await world.settle()
    assert (written.reply, read.reply) == (b"OK", b"1")
    assert world["a"].ask(b"GET", key).raw == b"$1\r\n1\r\n"


async def test_a_draining_partition_is_not_served(world: World) -> None:
    [key] = keys_of(0, 1)
    world["a"].node.roles.adopt(
        world.view(2, row("b", "a", term=2, awaits="a"), row("b", "a", term=1))
    )
    assert str(world["a"].ask(b"GET", key).reply) == "MOVED 0 b"


async def test_before_the_first_view_nothing_is_served() -> None:
    async with World("a") as world:
        assert str(world["a"].ask(b"GET", b"k").reply).startswith("CLUSTERDOWN")


async def test_what_tools_ask_first(node: TestNode) -> None:
    node.ask(b"SET", b"k", b"1")
    assert node.ask(b"PING").raw == b"+PONG\r\n"
    assert node.ask(b"PING", b"hello").reply == b"hello"
    assert node.ask(b"ECHO", b"hello").reply == b"hello"
    assert node.ask(b"DBSIZE").reply == 1
    assert node.ask(b"COMMAND").reply == []
    assert node.ask(b"CLIENT", b"SETNAME", b"x").reply == b"OK"
    assert node.ask(b"SELECT", b"0").reply == b"OK"
    assert node.ask(b"CONFIG", b"GET", b"save").reply == [b"save", b""]
    assert node.ask(b"CONFIG", b"get", b"maxmemory").reply == [b"maxmemory", b"67108864"]
    assert node.ask(b"CONFIG", b"GET", b"unheard-of").reply == []
    assert node.ask(b"COMMAND", b"DOCS", b"GET").reply == []
    assert node.ask(b"CLIENT", b"setinfo", b"LIB-NAME", b"x").reply == b"OK"
    info = node.ask(b"INFO").reply.decode()
    assert "incarnation:a-1" in info
    assert "arch_bits:64" in info
    assert "cluster_enabled:0" in info
    assert "db0:keys=1," in info


async def test_config_get_takes_patterns_and_several_of_them(node: TestNode) -> None:
    everything = node.ask(b"CONFIG", b"GET", b"*").reply
    assert everything[::2] == [b"save", b"appendonly", b"maxmemory", b"maxmemory-policy"]
    some = node.ask(b"CONFIG", b"GET", b"MAXMEMORY*", b"maxmemory", b"s?ve", b"[x").reply
    assert some[::2] == [b"save", b"maxmemory", b"maxmemory-policy"]
    assert node.ask(b"CONFIG", b"GET", b"*" * 65).reply == []


@pytest.mark.parametrize(
    "words",
    [(b"CLIENT",), (b"CLIENT", b"TRACKING", b"ON"), (b"CLIENT", b"REPLY", b"OFF"), (b"CLIENT", b"ID"),
     (b"CLIENT", b"a\r\n+OK"), (b"COMMAND", b"COUNT")],
)  # fmt: skip
async def test_what_a_node_would_not_do_is_never_answered_ok(
    node: TestNode, words: tuple[bytes, ...]
) -> None:
    assert str(node.ask(*words).reply).startswith("ERR unknown subcommand")
    assert node.ask(b"PING").raw == b"+PONG\r\n"

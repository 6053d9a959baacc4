"""What real nodes remember of keys that left, for each reason, on the primary and on a copy."""

from __future__ import annotations

from typing import cast

from ringmaster.cluster.evictions import NodeEvictions, decode_evictions
from ringmaster.cluster.explanation import NodeMemory, Removal, decode_memory, explain
from ringmaster.protocol.entry_meta import Meta, pack_meta
from ringmaster.protocol.hashing import partition_of
from ringmaster.protocol.write_options import WriteOptions, encode_options
from tests.fakes.nodes import TestNode, World, row

PT = b"0.1"
MIB = 2**20


def asked(node: TestNode, key: bytes) -> NodeMemory:
    return decode_memory(cast(bytes, node.ask(b"RM.EXPLAIN", key).reply))


def evictions(node: TestNode) -> NodeEvictions:
    return decode_evictions(cast(bytes, node.ask(b"RM.EVICTIONS", 100).reply))


def why(world: World, key: bytes, primary: str = "a") -> tuple[str, str]:
    """(state, by), by what all nodes say."""
    memories: dict[str, NodeMemory | None] = {
        name: asked(each, key) for name, each in world.nodes.items()
    }
    found = explain(memories, primary, lambda _: True)
    return found.state, found.by


def put(node: TestNode, key: bytes, *, ttl_ms: int = 0, tags: tuple[str, ...] = ()) -> None:
    meta = pack_meta(Meta(tags=tags)) if tags else b""
    options = encode_options(WriteOptions(ttl_ms=ttl_ms, meta=meta))
    node.ask(b"RM.SET", PT, key, b"v", options)


async def two(world: World) -> TestNode:
    world.adopt(world.view(1, row("a", "b", term=1)))
    await world.settle()
    return world["a"]


async def test_a_delete_is_remembered_with_the_token_or_the_door() -> None:
    async with World("ab") as world:
        node = await two(world)
        for key in (b"t", b"h", b"r", b"e"):
            put(node, key)
        await world.settle()
        node.ask(b"RM.DEL", PT, b"t", encode_options(WriteOptions(by="app")))
        node.ask(b"RM.DEL", PT, b"h")
        node.ask(b"DEL", b"r")
        node.ask(b"EXPIRE", b"e", 0)
        await world.settle()
        assert why(world, b"t") == ("deleted", "app")
        assert why(world, b"h") == ("deleted", "HTTP")
        assert why(world, b"r") == ("deleted", "Redis")
        assert why(world, b"e") == ("deleted", "Redis")
        assert [each.reason for each in asked(world["b"], b"t").removals] == ["removed"]


async def test_a_delete_of_what_is_not_there_and_one_that_fails_are_none() -> None:
    async with World("a") as world:
        world.adopt(world.view(1, row("a", term=1)))
        node = world["a"]
        node.ask(b"RM.DEL", PT, b"k")
        node.ask(b"DEL", b"k")
        put(node, b"k2")
        node.ask(b"RM.DEL", PT, b"k2", encode_options(WriteOptions(if_match=((9, 9),))))
        assert asked(node, b"k").removals == []
        assert asked(node, b"k2").removals == []


async def test_an_expired_entry_is_told_before_and_after_it_is_removed_by_copies_as_well() -> None:
    async with World("ab") as world:
        node = await two(world)
        put(node, b"k", ttl_ms=5_000)
        await world.settle()
        ends_ms = node.node.clock.now_ms() + 5_000
        for each in world.nodes.values():
            each.clock.now += 6.0
        assert b"k" in node.holds()
        assert asked(node, b"k").dead == Removal("expired", ends_ms)
        await world.settle()
        assert b"k" not in node.holds()
        for each in world.nodes.values():
            assert asked(each, b"k").removals == [Removal("expired", ends_ms)]


async def test_a_write_that_finds_the_key_expired_leaves_word_of_it() -> None:
    async with World("a") as world:
        world.adopt(world.view(1, row("a", term=1)))
        node = world["a"]
        put(node, b"k", ttl_ms=5_000)
        node.clock.now += 6.0
        node.ask(b"RM.DEL", PT, b"k")
        assert why(world, b"k") == ("expired", "")


async def test_an_invalidated_entry_is_told_with_its_tag_before_and_after_the_sweep() -> None:
    async with World("ab") as world:
        node = await two(world)
        put(node, b"k", tags=("x", "y"))
        await world.settle()
        node.ask(b"RM.UNTAG", PT, b"y")
        await world.settle(ticks=False)
        assert why(world, b"k") == ("invalidated", "y")
        await node.node.sweeper._sweep(node.node.roles.primaries[0], 100)
        assert b"k" not in node.holds()
        await world.settle(ticks=False)
        assert why(world, b"k") == ("invalidated", "y")
        assert [each.by for each in asked(world["b"], b"k").removals] == ["y"]


async def test_an_eviction_names_the_prefix_whose_write_needed_the_room() -> None:
    async with World("a", max_bytes=8 * MIB) as world:
        world.adopt(world.view(1, row("a", term=1)))
        node = world["a"]
        node.node.store.set_policy("lru")
        for number in range(8):
            node.put(b"old/%d" % number, bytes(MIB // 2))
        assert evictions(node).rows == []
        for number in range(16):
            node.put(b"new:%d" % number, bytes(MIB // 2))
            node.node.eviction.trim()
        assert why(world, b"old/0") == ("evicted", "new:")
        told = evictions(node)
        assert {(each.prefix, each.by) for each in told.rows} >= {("old/", "new:")}
        assert sum(each.count for each in told.rows) == told.evictions
        assert told.evictions == node.node.counters.evictions


async def test_in_a_batch_each_write_answers_for_the_bytes_that_it_brought() -> None:
    async with World("a", max_bytes=8 * MIB) as world:
        world.adopt(world.view(1, row("a", term=1)))
        node = world["a"]
        node.node.store.set_policy("lru")
        for number in range(90):
            node.put(b"old/%d" % number, bytes(MIB // 10))
            node.node.eviction.trim()
        before = evictions(node).evictions
        node.put(b"large/1", bytes(MIB * 9 // 10))
        node.put(b"small/1", bytes(MIB // 10))
        node.node.eviction.trim()
        counts = {each.by: each.count for each in evictions(node).rows}
        assert counts["large/"] + counts["small/"] == evictions(node).evictions - before
        assert 8 <= counts["large/"] <= 10
        assert counts["small/"] in (1, 2)


async def test_what_less_room_pushes_out_was_evicted_for_no_write() -> None:
    async with World("a", max_bytes=8 * MIB) as world:
        world.adopt(world.view(1, row("a", term=1)))
        node = world["a"]
        node.node.store.set_policy("lru")
        for number in range(14):
            node.put(b"k/%d" % number, bytes(MIB // 2))
            node.node.eviction.trim()
        node.node.store.set_overhead(4 * MIB)
        node.node.eviction.trim()
        assert why(world, b"k/0") == ("evicted", "")
        assert evictions(node).rows[0].by is None


async def test_what_goes_because_a_copy_has_too_little_memory_names_its_node() -> None:
    async with World("ab", max_bytes=64 * MIB) as world:
        world["b"].node.store.max_bytes = 2 * MIB
        world["b"].node.store.set_overhead(0)
        node = await two(world)
        for number in range(40):
            node.put(b"%d" % number, bytes(MIB // 4))
            await world.settle()
        gone = next(key for key in (b"%d" % n for n in range(40)) if key not in node.holds())
        assert asked(node, gone).removals[0] == Removal(
            "evicted-for-copy", asked(node, gone).removals[0].at_ms, "b"
        )
        assert why(world, gone)[0] == "evicted"


async def test_a_copy_that_takes_over_says_honestly_that_it_was_told_no_reason() -> None:
    async with World("ab") as world:
        node = await two(world)
        put(node, b"k")
        await world.settle()
        node.ask(b"RM.DEL", PT, b"k")
        await world.settle()
        world.adopt(world.view(2, row("b", term=2), without="a"), "b")
        memory = asked(world["b"], b"k")
        found = explain({"b": memory}, "b", lambda _: True)
        assert (found.state, found.by) == ("unknown", "")
        assert found.at_ms == memory.removals[0].at_ms
        assert "was removed" in found.detail
        assert "primary then" in found.detail


async def test_a_node_says_since_when_it_has_the_partition_and_how_it_came() -> None:
    async with World("ab", partitions=2) as world:
        world.adopt(world.view(1, row(None, term=0), row("b", term=1)))
        world["a"].clock.now += 10.0
        world["a"].node.housekeeping.tick()
        world.adopt(world.view(2, row("a", term=2), row("b", term=1)))
        node = world["a"].node
        key = next(k for k in (b"%d" % n for n in range(99)) if partition_of(k, 2) == 0)
        memory = asked(world["a"], key)
        assert memory.is_new
        assert memory.since_ms == node.clock.now_ms()
        assert asked(world["b"], key).since_ms == 0
        assert explain({"a": memory}, "a", lambda _: True).detail.startswith("It was never written")


async def test_a_partition_of_which_every_copy_was_lost_says_so() -> None:
    async with World("ab") as world:
        world.adopt(world.view(1, row("b", term=1)))
        put(world["b"], b"k")
        world.adopt(world.view(2, row("a", term=2), without="b"), "a")
        memory = asked(world["a"], b"k")
        assert memory.lost_ms == memory.since_ms > 0
        assert explain({"a": memory}, "a", lambda _: True).state == "lost"


async def test_asking_is_no_read_and_no_use() -> None:
    async with World("a") as world:
        world.adopt(world.view(1, row("a", term=1)))
        node = world["a"]
        put(node, b"k")
        data = node.node.roles.primaries[0].data
        used = node.node.store.last_used(data)
        asked(node, b"k")
        asked(node, b"none")
        assert node.node.store.last_used(data) == used
        assert (node.node.counters.hits, node.node.counters.misses) == (0, 0)

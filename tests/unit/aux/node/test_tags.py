"""Invalidated tags on real nodes: through commits, copies, fills, promotions and sweeps (R11)."""

from __future__ import annotations

import pytest
from xxhash import xxh3_64_intdigest

from aux.node.tag_sweep import Sweep
from aux.replication.primary import Primary
from ringmaster.protocol.entry_meta import Meta, pack_meta
from ringmaster.protocol.tag_records import is_dead, record_key
from ringmaster.protocol.write_options import Status, WriteOptions, encode_options
from tests.fakes.nodes import Answer, TestNode, World, row


def put(node: TestNode, key: bytes, *tags: str, value: bytes = b"1") -> Answer:
    options = encode_options(WriteOptions(meta=pack_meta(Meta(tags=tags))))
    return node.ask(b"RM.SET", node.token(), key, value, options)


def untag(node: TestNode, *tags: bytes) -> Answer:
    return node.ask(b"RM.UNTAG", node.token(), *tags)


def primary_of(node: TestNode) -> Primary:
    return node.node.roles.primaries[0]


async def pair(world: World) -> TestNode:
    """`a` is primary, `b` has a copy; k1 and k2 carry the tag t."""
    world.adopt(world.view(1, row("a", "b", term=1)))
    await world.settle()
    node = world["a"]
    for key in (b"k1", b"k2"):
        put(node, key, "t", "u")
    node.put(b"plain", b"2")
    await world.settle()
    return node


async def test_readers_see_an_invalidation_when_every_copy_has_it_and_not_before() -> None:
    async with World("ab") as world:
        node = await pair(world)
        told = untag(node, b"t")
        assert told.raw is None
        assert node.get(b"k1") == b"1"
        await world.settle()
        assert told.reply == []
        assert node.get(b"k1") is None
        assert node.get(b"plain") == b"2"
        reply = node.ask(b"RM.MGET", node.token(), b"k2", node.token(), b"plain").reply
        assert reply[0] is None
        assert reply[1] is not None
        assert node.ask(b"RM.HEAD", node.token(), b"k2").reply is None
        assert node.ask(b"RM.LIST", node.token(), b"", 10, b"").reply[2:] == [b"plain"]


async def test_a_write_behind_an_invalidation_finds_nothing_and_lives() -> None:
    async with World("ab") as world:
        node = await pair(world)
        told = untag(node, b"t")
        written = put(node, b"k1", "t", value=b"new")
        await world.settle()
        assert told.reply == []
        assert written.reply[0] == Status.CREATED
        assert node.get(b"k1") == b"new"
        assert node.get(b"k2") is None


async def test_a_refusal_that_rests_on_an_invalidation_waits_for_it() -> None:
    async with World("ab") as world:
        node = await pair(world)
        untag(node, b"t")
        options = encode_options(WriteOptions(if_match="*"))
        refused = node.ask(b"RM.SET", node.token(), b"k1", b"2", options)
        assert refused.raw is None
        await world.settle()
        assert refused.reply[:3] == [Status.CONDITION_FAILED, 0, 0]


async def test_a_tag_that_nothing_carries_is_done_at_once_and_sequences_nothing() -> None:
    async with World("ab") as world:
        node = await pair(world)
        before = primary_of(node).seq
        assert untag(node, b"other").reply == []
        assert primary_of(node).seq == before


async def test_a_second_invalidation_waits_for_the_first_and_needs_no_record() -> None:
    async with World("ab") as world:
        node = await pair(world)
        first = untag(node, b"t")
        before = primary_of(node).seq
        second = untag(node, b"t")
        assert (second.raw, primary_of(node).seq) == (None, before)
        await world.settle()
        assert first.reply == second.reply == []
        put(node, b"k3", "t")
        await world.settle()
        third = untag(node, b"t")
        assert primary_of(node).seq > before
        await world.settle()
        assert third.reply == []
        assert node.get(b"k3") is None


async def test_a_promoted_copy_knows_what_is_dead() -> None:
    async with World("ab") as world:
        node = await pair(world)
        untag(node, b"t")
        await world.settle()
        world.adopt(world.view(2, row("b", term=2), without="a"), "b")
        await world.settle()
        assert world["b"].get(b"k1") is None
        assert world["b"].get(b"plain") == b"2"


async def test_what_a_promoted_copy_got_by_replication_can_be_invalidated_there() -> None:
    async with World("ab") as world:
        await pair(world)
        world.adopt(world.view(2, row("b", term=2), without="a"), "b")
        await world.settle()
        assert untag(world["b"], b"t").reply == []
        assert world["b"].get(b"k1") is None


async def test_an_invalidation_nobody_heard_of_is_restated_by_the_next_primary() -> None:
    """`b` has it, `c` has not, and the client has heard nothing: `b` decides for both."""
    async with World("abc") as world:
        world.adopt(world.view(1, row("a", "b", "c", term=1)))
        await world.settle()
        put(world["a"], b"k1", "t")
        await world.settle()
        world.wire("a", "c").held = True
        told = untag(world["a"], b"t")
        await world.settle()
        assert told.raw is None
        world.wire("a", "c").cut()
        world.adopt(world.view(2, row("b", "c", term=2), without="a"), "bc")
        await world.settle()
        assert world["b"].get(b"k1") is None
        assert record_key("t") in world["c"].node.roles.replicas[0].data.tags


async def test_a_fill_brings_the_records_before_the_entries() -> None:
    async with World("abc") as world:
        node = await pair(world)
        untag(node, b"t")
        await world.settle()
        world.adopt(world.view(2, row("a", "b", term=1, c=2)))
        await world.settle()
        data = world["c"].node.roles.replicas[0].data
        assert b"k1" in data.entries
        assert record_key("t") in data.tags
        assert data.carriers is not None


async def test_a_sweep_removes_what_is_dead_everywhere_and_then_the_records() -> None:
    async with World("ab") as world:
        node = await pair(world)
        untag(node, b"t")
        await world.settle()
        sweep = Sweep(primary_of(node))
        removed = 0
        while not sweep.is_over:
            removed += sweep.step(1)
        sweep.end()
        assert record_key("t") in primary_of(node).data.tags  # until the copies have it
        await world.settle()
        assert removed == 2
        for name in "ab":
            assert world[name].holds() == {b"plain": b"2"}
            assert world[name].node.store.tagged == 0
        assert untag(node, b"t").reply == []
        assert primary_of(node).pending == 0


async def test_a_sweep_finds_dead_what_readers_find_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same tags on both sides of a record, tags that were never invalidated, and more metas than are remembered."""
    monkeypatch.setattr("aux.node.tag_sweep._MOST_METAS", 3)
    async with World("ab") as world:
        node = await pair(world)
        primary = primary_of(node)
        sets = [("t",), ("u",), ("t", "u"), ("v",), ("v", "t"), ("w", "u"), ("w",)]
        for turn, tags in enumerate(2 * sets):
            put(node, b"early%d" % turn, *tags)
        untag(node, b"t")
        for turn, tags in enumerate(2 * sets):
            put(node, b"between%d" % turn, *tags)
        untag(node, b"u", b"nothing")
        for turn, tags in enumerate(2 * sets):
            put(node, b"late%d" % turn, *tags)
        await world.settle()
        expected = {
            key
            for key, entry in primary.data.entries.items()
            if not is_dead(entry, primary.data.tags)
        }
        sweep = Sweep(primary)
        while not sweep.is_over:
            sweep.step(4)
        sweep.end()
        await world.settle()
        assert set(primary.data.entries) == set(world["b"].holds()) == expected
        carriers = primary.data.carriers
        assert carriers is not None
        assert all(carriers.has(xxh3_64_intdigest(tag)) for tag in (b"t", b"u", b"v", b"w"))


async def test_a_sweep_keeps_the_record_of_a_tag_that_was_invalidated_meanwhile() -> None:
    async with World("ab") as world:
        node = await pair(world)
        untag(node, b"t")
        await world.settle()
        sweep = Sweep(primary_of(node))
        put(node, b"late", "t")
        untag(node, b"t")
        while not sweep.is_over:
            sweep.step(10)
        sweep.end()
        await world.settle()
        assert node.get(b"late") is None
        assert record_key("t") in primary_of(node).data.tags


async def test_a_sweep_forgets_no_tag_that_is_on_its_way() -> None:
    async with World("ab") as world:
        node = await pair(world)
        untag(node, b"u")
        await world.settle()
        put(node, b"late", "t")
        sweep = Sweep(primary_of(node))
        while not sweep.is_over:
            sweep.step(10)
        sweep.end()
        await world.settle()
        assert node.get(b"late") == b"1"
        untag(node, b"t")
        await world.settle()
        assert node.get(b"late") is None


async def test_what_a_sweep_removed_and_one_copy_missed_is_removed_there_by_the_next_primary() -> (
    None
):
    async with World("abc") as world:
        world.adopt(world.view(1, row("a", "b", "c", term=1)))
        await world.settle()
        put(world["a"], b"k1", "t")
        await world.settle()
        untag(world["a"], b"t")
        await world.settle()
        world.wire("a", "c").held = True
        sweep = Sweep(primary_of(world["a"]))
        sweep.step(10)
        sweep.end()
        await world.settle()
        assert world["b"].holds() == {}
        assert world["c"].holds() == {b"k1": b"1"}
        world.wire("a", "c").cut()
        world.adopt(world.view(2, row("b", "c", term=2), without="a"), "bc")
        await world.settle()
        assert world["b"].get(b"k1") is None
        assert world["c"].holds() == {}


async def test_partitions_that_are_not_served_are_named() -> None:
    async with World("ab") as world:
        node = await pair(world)
        reply = node.ask(b"RM.UNTAG", node.token() + b"\n0.9", b"t")
        await world.settle()
        assert reply.reply == [b"0.9"]
        assert node.get(b"k1") is None


async def test_a_partition_that_has_moved_since_the_last_invalidation_is_named() -> None:
    async with World("ab") as world:
        node = await pair(world)
        token = node.token()
        for _ in range(2):
            untag(node, b"t")
            await world.settle()
        world.adopt(world.view(2, row("b", term=2)))
        await world.settle()
        assert node.ask(b"RM.UNTAG", token, b"t").reply == [token]
        assert world["b"].ask(b"RM.UNTAG", token, b"t").reply == [token]
        assert untag(world["b"], b"t").reply == []


async def test_one_that_loses_a_partition_names_it_and_no_other_that_is_done() -> None:
    async with World("ab", partitions=2) as world:
        world.adopt(world.view(1, row("a", "b", term=1), row("a", "b", term=1)))
        await world.settle()
        node = world["a"]
        options = encode_options(WriteOptions(meta=pack_meta(Meta(tags=("t",)))))
        for number in range(2):
            node.ask(b"RM.SET", node.token(number), b"k", b"1", options)
        await world.settle()
        told = node.ask(b"RM.UNTAG", b"0.1\n1.1", b"t")
        world.adopt(world.view(2, row("a", "b", term=1), row("b", term=2)))
        await world.settle()
        assert told.reply == [b"1.1"]


async def test_malformed_commands_change_nothing() -> None:
    async with World("a") as world:
        world.adopt(world.view(1, row("a", term=1)))
        await world.settle()
        put(world["a"], b"k", "t")
        for command in ((b"",), (b"x" * 129,), ()):
            try:
                world["a"].ask(b"RM.UNTAG", world["a"].token(), *command)
            except (ValueError, IndexError):
                continue
            raise AssertionError(command)
        assert world["a"].get(b"k") == b"1"

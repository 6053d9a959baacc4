"""A node that is filled: what it gets, and when it counts as caught up."""

from __future__ import annotations

import asyncio

from tests.fakes.nodes import World, caught_up, row


async def test_a_fill_counts_as_caught_up_only_when_what_it_carried_is_committed() -> None:
    """It got a pending write by the scan, without a number: as a primary it could not tell who lacks it.

    `c` never got the write. Were `b` listed in sync now and promoted, `b` would serve it and `c`, promoted
    after that, would not.
    """
    async with World() as world:
        world.adopt(world.view(1, row("a", "c", term=1)))
        await world.settle()
        world["a"].put(b"k", b"1")
        await world.settle()
        world.wire("a", "c").held = True
        pending = world["a"].put(b"k", b"2")
        await world.settle()
        world.adopt(world.view(2, row("a", "c", term=1, b=2)))
        await world.settle()
        assert world["b"].holds() == {b"k": b"2"}
        assert world["a"].node.roles.primaries[0].copies["b"].required
        assert caught_up(world, "a") == []
        world.wire("a", "c").held = False
        await world.settle()
        assert pending.reply[0] == 0
        assert caught_up(world, "a") == ["b"]


async def test_a_fill_carries_writes_made_meanwhile_and_no_removed_key() -> None:
    async with World("ab") as world:
        world.adopt(world.view(1, row("a", term=1)))
        for number in range(1200):
            world["a"].put(b"%d" % number, b"x")
        world.adopt(world.view(2, row("a", term=1, b=2)))
        await asyncio.sleep(0)
        wire = world.wire("a", "b")
        wire.deliver()  # RM.OPEN
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        world["a"].put(b"3", b"new")
        world["a"].put(b"more", b"new")
        world["a"].ask(b"RM.DEL", world["a"].token(), b"1199")
        await world.settle()
        assert caught_up(world, "a") == ["b"]
        assert world["b"].holds() == world["a"].holds()
        assert len(world["b"].holds()) == 1200


async def test_a_caught_up_fill_is_waited_for_until_a_view_excludes_it() -> None:
    async with World("ab") as world:
        world.adopt(world.view(1, row("a", term=1)))
        world.adopt(world.view(2, row("a", term=1, b=2)))
        await world.settle()
        assert caught_up(world, "a") == ["b"]
        world.wire("a", "b").held = True
        written = world["a"].put(b"k", b"1")
        await world.settle()
        assert written.raw is None
        world.adopt(world.view(3, row("a", term=1)), "a")
        assert written.reply == [1, 1, 1, 0]


async def test_a_fill_reset_before_it_has_everything_begins_again_and_holds_nothing_up() -> None:
    async with World("ab") as world:
        world.adopt(world.view(1, row("a", term=1)))
        world["a"].put(b"k", b"1")
        world.adopt(world.view(2, row("a", term=1, b=2)))
        await asyncio.sleep(0)
        wire = world.wire("a", "b")
        wire.deliver()
        await asyncio.sleep(0)
        wire.cut()
        written = world["a"].put(b"k", b"2")
        assert written.reply[0] == 0
        wire.mend()
        await world.settle()
        assert caught_up(world, "a") == ["b"]
        assert world["b"].holds() == {b"k": b"2"}


async def test_a_node_listed_again_takes_nothing_of_the_session_it_had_before() -> None:
    async with World("ab") as world:
        world.adopt(world.view(1, row("a", term=1)))
        world["a"].put(b"k", b"1")
        world.adopt(world.view(2, row("a", term=1, b=2)))
        await world.settle()
        world["a"].put(b"k", b"2")
        await asyncio.sleep(0)
        late, _ = world.wire("a", "b").queue[0]
        world["b"].node.roles.adopt(world.view(3, row("a", term=1, b=3)))
        assert world["b"].takes(late) == [0, 0]
        assert world["b"].holds() == {}


async def test_a_copy_has_not_caught_up_while_a_committed_write_is_on_its_way_to_it() -> None:
    """It is written behind the last slice of the scan, and committed by the others before that arrives."""
    async with World() as world:
        world.adopt(world.view(1, row("a", "b", term=1)))
        await world.settle()
        assert world["a"].put(b"old", b"1").raw is None
        await world.settle()
        world.adopt(world.view(2, row("a", "b", term=1, c=2)))
        wire = world.wire("a", "c")
        wire.held = True
        wire.deliver()  # RM.OPEN
        for _ in range(5):
            await asyncio.sleep(0)
        slices = len(wire.queue)
        assert wire.names() == [b"RM.REPL"] * slices
        written = world["a"].put(b"new", b"2")
        await world.settle()
        assert written.reply == [1, 1, 2, 0]
        assert len(wire.queue) == slices + 1
        for _ in range(slices):
            wire.deliver()
        await world.settle()
        assert (world["c"].holds(), caught_up(world, "a")) == ({b"old": b"1"}, [])
        wire.deliver()
        await world.settle()
        assert (world["c"].holds(), caught_up(world, "a")) == ({b"old": b"1", b"new": b"2"}, ["c"])

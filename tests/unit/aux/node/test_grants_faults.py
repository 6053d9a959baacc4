"""Copies in masters through rare faults: deposed primaries, reversed hand-overs, masters that hear nothing (R13)."""

from __future__ import annotations

from aux.node.grants import GATE_S
from tests.fakes.nodes import World, row
from tests.unit.aux.node.test_grants import (
    Master,
    failed_over,
    given,
    later,
    one_node,
    put,
    read,
    read_often,
)


async def test_a_gate_is_inherited_with_what_opens_it() -> None:
    """B is gated; a view gives it the partition in a newer term (its successor died): nobody opens the new gate."""
    async with World("ab") as world:
        first, second = await failed_over(world)
        node = world["b"]
        world.adopt(world.view(3, row("b", term=3), without="a"), "b")
        first.ask(b"RM.FOLLOW", 3)
        second.ask(b"RM.FOLLOW", 3)
        for _ in range(20):
            later(node, 1.0)
            first.ask(b"RM.RENEW", 1, 0)
        primary = node.node.roles.primaries[0]
        assert node.node.grants.gates == 0
        assert not primary.gated
        assert put(node, value=b"new").raw is not None


async def test_a_primary_that_is_deposed_but_stays_listed_takes_its_copies_back() -> None:
    """A is silent for a while, c is promoted without awaiting it, a stays listed (sole copy of another partition), follows, has
    its lease again: it answers the renewals of a master that is behind the view and still holds the copy.
    """
    async with World("ac") as world:
        world.adopt(world.view(1, row("a", "c", term=1)))
        await world.settle()
        master = Master(world["a"])
        put(world["a"])
        await world.settle()
        read_often(world["a"])
        await world.settle()
        given(world["a"], master)
        world["a"].node.clock.lease.held_until = 0.0  # silent
        world.adopt(world.view(2, row("c", term=2)))
        later(world["c"], GATE_S + 0.05)
        written = put(world["c"], value=b"new")
        assert written.raw is not None  # committed: the gate opened by time
        world["a"].node.clock.lease.held_until = 1e9  # allowed again, since it follows view 2
        trusted = master.ask(b"RM.RENEW", 1, 0) == 1
        assert not trusted or (b"drop", b"k") in master.told()


async def test_a_handover_that_is_reversed_keeps_what_masters_have() -> None:
    """A drains, its recall is not answered yet; the hand-over is reversed; b says "released" at once."""
    async with World("ab") as world:
        world.adopt(world.view(1, row("a", "b", term=1)))
        await world.settle()
        master = Master(world["a"])
        put(world["a"])
        await world.settle()
        read_often(world["a"])
        await world.settle()
        given(world["a"], master)
        world.adopt(world.view(2, row("b", "a", term=2, awaits="a")))
        await world.settle()
        assert not world["b"].node.roles.served
        world.adopt(world.view(3, row("a", "b", term=3, awaits="b")))
        await world.settle()
        written = put(world["a"], value=b"new") if world["a"].node.roles.served else None
        await world.settle()
        # The master has neither dropped its copy nor lapsed.
        assert written is None or written.raw is None


async def test_an_eviction_waits_for_copies_that_an_invalidation_has_asked_back() -> None:
    async with World("a") as world:
        node = await one_node(world)
        master = Master(node)
        put(node, b"k", b"v", "t")
        given(node, master)
        node.ask(b"RM.UNTAG", node.token(), b"t")
        assert node.node.roles.primaries[0].evict(b"k")
        # The master still answers with v.
        assert read(node) == b"v"


async def test_an_expiry_waits_for_copies_that_an_invalidation_has_asked_back() -> None:
    async with World("a") as world:
        node = await one_node(world)
        master = Master(node)
        put(node, b"k", b"v", "t", ttl_ms=1_000)
        given(node, master)  # good for 900 ms by the master's clock
        node.ask(b"RM.UNTAG", node.token(), b"t")
        node.clock.now += 0.85
        clock = node.node.clock
        clock.hear(clock.now_ms() + 200)  # a peer's later cluster time
        # The master still answers with v.
        assert b"AGAIN" in node.ask(b"RM.GET", node.token(), b"k").raw


async def test_a_gate_is_kept_over_a_hand_over_whose_successor_dies() -> None:
    async with World("abc") as world:
        world.adopt(world.view(1, row("a", "b", "c", term=1)))
        await world.settle()
        masters = Master(world["a"]), Master(world["a"], b"m2")
        put(world["a"])
        await world.settle()
        read_often(world["a"])
        await world.settle()
        given(world["a"], *masters)
        await world.settle()
        first = Master(world["b"])  # m2 is gone: the gate of term 2 would open by time
        world.adopt(world.view(2, row("b", "c", term=2), without="a"), "bc")
        await world.settle()
        first.ask(b"RM.FOLLOW", 2)
        assert world["b"].node.grants.gates == 1
        world.adopt(world.view(3, row("c", "b", term=3, awaits="b"), without="a"), "bc")
        await world.settle()
        world.adopt(world.view(4, row("b", term=4), without="ac"), "b")
        first.ask(b"RM.FOLLOW", 4)
        for _ in range(20):
            later(world["b"], 1.0)
        assert not world["b"].node.roles.primaries[0].gated
        assert put(world["b"], value=b"new").raw is not None


async def test_the_end_of_a_sweep_takes_no_copies_back() -> None:
    async with World("a") as world:
        node = await one_node(world)
        master = Master(node)
        put(node, b"k", b"old", "t")
        node.ask(b"RM.UNTAG", node.token(), b"t")
        put(node, b"k", b"new", "t")
        given(node, master)
        primary = node.node.roles.primaries[0]
        for key in list(primary.tags):
            primary.submit_record(key, None)
        assert master.told() == []


async def test_a_master_that_renews_and_never_says_dropped_does_not_block_writes() -> None:
    async with World("a") as world:
        node = await one_node(world)
        master = Master(node)
        put(node)
        given(node, master)
        written = put(node, value=b"new")
        for number in range(1, 40):  # 12 s: what the node says does not reach the master
            later(node, 0.3)
            master.ask(b"RM.RENEW", number, 0)
        assert written.raw is not None


async def test_a_master_that_takes_no_copies_is_not_waited_for_in_a_new_term() -> None:
    async with World("ab") as world:
        world.adopt(world.view(1, row("a", "b", term=1)))
        await world.settle()
        taker = Master(world["a"])
        Master(world["a"], b"plain", copies=0)
        put(world["a"])
        await world.settle()
        read_often(world["a"])
        await world.settle()
        given(world["a"], taker)
        follower = Master(world["b"])
        world.adopt(world.view(2, row("b", term=2), without="a"), "b")
        follower.ask(b"RM.FOLLOW", 2)
        assert not world["b"].node.roles.primaries[0].gated


async def test_a_master_that_comes_later_is_given_what_others_have() -> None:
    async with World("a") as world:
        node = await one_node(world)
        first = Master(node)
        put(node)
        given(node, first)
        second = Master(node, b"m2")
        for _ in range(4):
            read_often(node)
        assert (b"copy", b"k") in second.told()


async def test_evictions_behind_a_gate_are_not_more_than_was_wanted() -> None:
    async with World("ab") as world:
        world.adopt(world.view(1, row("a", "b", term=1)))
        await world.settle()
        Master(world["a"])
        for number in range(2000):
            put(world["a"], b"k%d" % number)
            if number % 100 == 0:
                await world.settle()
        await world.settle()
        read_often(world["a"], b"k0")
        await world.settle()
        world.adopt(world.view(2, row("b", term=2), without="a"), "b")
        node = world["b"].node
        assert node.roles.primaries[0].gated
        for _ in range(10):
            node.eviction._evict(200, None)  # one or two entries each time, ten ticks
        assert node.roles.primaries[0].pending < 100

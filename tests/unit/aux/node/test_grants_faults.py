"""Copies in masters through rare faults: deposed primaries, reversed hand-overs, masters that hear nothing (R13)."""

from __future__ import annotations

from typing import Any, cast

import pytest

import aux.node.grants
from aux.node.grants import GATE_S
from ringmaster.net.link import Link, OnReply
from ringmaster.protocol.entry import value_offset
from ringmaster.protocol.resp import CommandReader, Reader
from ringmaster.routing.copies import Copies
from ringmaster.routing.event_links import Session
from ringmaster.routing.table import Route
from tests.fakes.nodes import Answer, TestNode, World, row
from tests.unit.aux.node.test_grants import (
    Master,
    failed_over,
    given,
    later,
    one_node,
    put,
    read,
)


@pytest.fixture(autouse=True)
def every_read_is_hot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aux.node.grants, "HOT", 1)
    monkeypatch.setattr("aux.server.data_commands.SAMPLE_MASK", 0)
    monkeypatch.setattr("aux.server.bulk_commands.SAMPLE_MASK", 0)


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
        read(world["a"])
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
        read(world["a"])
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
        read(world["a"])
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
        read(world["a"])
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
        for _ in range(50):
            read(node)
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
        read(world["a"], b"k0")
        await world.settle()
        world.adopt(world.view(2, row("b", term=2), without="a"), "b")
        node = world["b"].node
        assert node.roles.primaries[0].gated
        for _ in range(10):
            node.eviction._evict(200, None)  # one or two entries each time, ten ticks
        assert node.roles.primaries[0].pending < 100


class EventsLink(Answer):
    """Both ends of a master's events link; the network delivers at once."""

    connected = True

    def __init__(self, node: TestNode, copies: Copies) -> None:
        super().__init__()
        self.node, self.copies = node, copies
        self.session = Session(
            (node.node.id, node.node.incarnation), "m1", node.clock,
            lambda session, event: copies.event(session, event) and None,
            lambda *_: None, lambda: 1, copies=True,
        )  # fmt: skip
        self.session.link = cast(Link, self)
        self.session.up()

    def send(self, frame: bytes, on_reply: OnReply) -> None:
        [words] = CommandReader().feed(frame)
        raw = (self.node.server.always | self.node.server.leased)[words[0]](self, words)  # type: ignore[arg-type]
        on_reply(Reader().feed(raw)[0])

    def push(self, frame: bytes, most_unread: int) -> bool:
        for event in Reader().feed(frame):
            self.session.event(cast("list[Any]", event))
        return True

    def unread(self) -> int:
        return 0

    def listen(self, most_unread: int) -> None:
        """It reads on."""

    def abort(self) -> None:
        self.connected = False
        self.session.down()
        self.copies.lost(self.session)


async def test_a_copy_of_a_deposed_primary_is_not_answered_after_a_newer_write() -> None:
    async with World("ac") as world:
        world.adopt(world.view(1, row("a", "c", term=1)))
        await world.settle()
        a, c = world["a"], world["c"]
        route = Route(0, 1, ("a", "a-1"), cast(Link, None))  # the master stays at view 1
        copies = Copies(a.clock, lambda _key: route, 2**20)
        link = EventsLink(a, copies)
        put(a)
        await world.settle()
        read(a)
        await world.settle()
        read(a)
        assert copies.entry_of(b"k") is not None
        # 2.1 s without the coordinator: a's lease lapses; the master's renewals are refused, its session lives on.
        a.node.clock.lease.held_until = 0.0
        for _ in range(7):
            for each in (a, c):
                later(each, 0.3)
            link.session.renew()
        assert copies.entry_of(b"k") is None
        world.adopt(world.view(2, row("c", term=2)))  # a is suspended, and stays listed
        a.node.clock.lease.held_until = 1e9  # it follows view 2: allowed again
        for _ in range(4):
            for each in (a, c):
                later(each, 0.3)
            link.session.renew()
        assert c.clock.now > GATE_S
        assert put(c, value=b"new").raw is not None  # acknowledged
        got = copies.entry_of(b"k")
        assert got is None, got[value_offset(got) :]

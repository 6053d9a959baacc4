"""Copies in masters, the node's side: who gets them, what waits until they are dropped, and what a new term waits for (R13)."""

from __future__ import annotations

from typing import Any

from aux.node.event_sessions import SESSION_S
from aux.node.grants import GATE_S, HOT, MOST_BYTES
from ringmaster.protocol.entry import value_offset
from ringmaster.protocol.entry_meta import Meta, pack_meta
from ringmaster.protocol.resp import CommandReader, Reader, encode
from ringmaster.protocol.write_options import WriteOptions, encode_options
from tests.fakes.nodes import Answer, TestNode, World, row


class Master(Answer):
    """A master's events connection. `events`: what was said on it and not looked at."""

    def __init__(self, node: TestNode, name: bytes = b"m1", *, copies: int = 1) -> None:
        super().__init__()
        self.node = node
        self.events: list[list[bytes]] = []
        self.waiting_bytes = 0
        assert self.ask(b"RM.SESSION", name, 1, 1, copies) in (b"OK", "OK")

    def push(self, frame: bytes, most_unread: int) -> bool:
        self.events += Reader().feed(frame)  # type: ignore[arg-type]
        return True

    def unread(self) -> int:
        return self.waiting_bytes

    def listen(self, most_unread: int) -> None:
        """It reads on."""

    def abort(self) -> None:
        """The connection is lost."""

    def ask(self, *command: bytes | int) -> Any:
        [words] = CommandReader().feed(encode(*command))
        table = self.node.server.always | self.node.server.leased
        raw = table[words[0]](self, words)  # type: ignore[arg-type]
        assert raw is not None
        return Reader().feed(raw)[0]

    def told(self) -> list[tuple[bytes, bytes]]:
        """(kind, key) of what was said since this was last asked."""
        events, self.events = self.events, []
        self.numbers = [event[3] for event in events if event[0] == b"drop"]
        return [(event[0], event[2]) for event in events]

    def drop(self) -> None:
        """Say that all copies asked back are dropped."""
        assert [kind for kind, _ in self.told()] == [b"drop"] * len(self.numbers)
        self.ask(b"RM.DROPPED", self.numbers[-1])


async def one_node(world: World) -> TestNode:
    world.adopt(world.view(1, row("a", term=1)))
    return world["a"]


def put(
    node: TestNode, key: bytes = b"k", value: bytes = b"v", *tags: str, ttl_ms: int = 0
) -> Answer:
    options = WriteOptions(meta=pack_meta(Meta(tags=tags)), ttl_ms=ttl_ms)
    return node.ask(b"RM.SET", node.token(), key, value, encode_options(options))


def read(node: TestNode, key: bytes = b"k") -> Any:
    reply = node.ask(b"RM.GET", node.token(), key).reply
    return reply[value_offset(reply) :] if isinstance(reply, bytes) else reply


def read_often(node: TestNode, key: bytes = b"k") -> None:
    """Some of so many reads are counted, and of these a few are enough."""
    for _ in range(12 * HOT):
        read(node, key)


def given(node: TestNode, *masters: Master, key: bytes = b"k") -> None:
    """`key` is read until the masters have copies: at first all copies of the partition are to know their names."""
    read_often(node, key)
    for master in masters:
        assert (b"copy", key) in master.told()


def later(node: TestNode, seconds: float) -> None:
    node.clock.now += seconds
    node.node.housekeeping.tick()


async def test_a_key_that_is_read_often_is_given_to_every_master() -> None:
    async with World("a") as world:
        node = await one_node(world)
        first, second = Master(node), Master(node, b"m2")
        put(node)
        given(node, first, second)
        read(node)
        assert first.told() == second.told() == []
        assert node.node.grants.keys == 1


async def test_a_write_is_committed_when_every_master_has_dropped_its_copy() -> None:
    async with World("a") as world:
        node = await one_node(world)
        first, second = Master(node), Master(node, b"m2")
        put(node)
        given(node, first, second)
        written = put(node, value=b"new")
        assert written.raw is None
        assert read(node) == b"v"
        first.drop()
        assert written.raw is None
        second.drop()
        assert written.reply[0] == 0
        assert read(node) == b"new"


async def test_a_write_waits_no_longer_than_the_session_of_a_master_that_hangs() -> None:
    async with World("a") as world:
        node = await one_node(world)
        master = Master(node)
        put(node)
        given(node, master)
        written = put(node, value=b"new")
        later(node, SESSION_S - 0.05)
        assert written.raw is None
        later(node, 0.1)
        assert written.reply[0] == 0
        assert node.node.grants.keys == 0
        assert put(node, value=b"newer").raw is not None


async def test_a_master_whose_connection_is_lost_may_answer_until_its_session_has_lapsed() -> None:
    async with World("a") as world:
        node = await one_node(world)
        master = Master(node)
        put(node)
        given(node, master)
        node.node.sessions.ended(master)
        written = put(node, value=b"new")
        assert written.raw is None
        assert master.told() == []
        later(node, SESSION_S + 0.05)
        assert written.raw is not None


async def test_a_master_that_stops_is_not_waited_for() -> None:
    async with World("a") as world:
        node = await one_node(world)
        master = Master(node)
        put(node)
        given(node, master)
        written = put(node, value=b"new")
        assert master.ask(b"RM.END") in (b"OK", "OK")
        assert written.raw is not None
        assert node.node.grants.keys == 0


async def test_keys_of_bulk_reads_are_given_as_well() -> None:
    async with World("a") as world:
        node = await one_node(world)
        master = Master(node)
        put(node)
        for _ in range(6 * HOT):
            node.ask(b"RM.MGET", node.token(), b"k")
            node.ask(b"RM.VALUES", node.token(), b"k")
        assert master.told() == [(b"copy", b"k")]


async def test_deletes_touches_and_counts_take_copies_back_as_well() -> None:
    async with World("a") as world:
        node = await one_node(world)
        master = Master(node)
        for command in (
            (b"RM.DEL", node.token(), b"k"),
            (b"RM.TOUCH", node.token(), b"k", encode_options(WriteOptions(ttl_ms=10_000))),
            (b"RM.INCR", node.token(), b"k", b"1"),
        ):
            put(node, value=b"1")
            given(node, master)
            answer = node.ask(*command)
            assert answer.raw is None, command
            master.drop()
            assert answer.raw is not None, command


async def test_other_keys_of_the_partition_are_committed_in_their_order() -> None:
    async with World("a") as world:
        node = await one_node(world)
        master = Master(node)
        put(node)
        given(node, master)
        hot, cold = put(node, value=b"new"), put(node, b"other")
        assert hot.raw is cold.raw is None
        assert read(node, b"other") is None
        master.drop()
        assert hot.raw is not None
        assert cold.raw is not None
        assert read(node, b"other") == b"v"


async def test_an_invalidation_takes_back_the_copies_of_what_carries_the_tag() -> None:
    async with World("a") as world:
        node = await one_node(world)
        master = Master(node)
        put(node, b"k", b"v", "t")
        put(node, b"other", b"v", "u")
        given(node, master)
        given(node, master, key=b"other")
        answer = node.ask(b"RM.UNTAG", node.token(), b"t")
        assert answer.raw is None
        assert read(node) == b"v"
        assert master.told() == [(b"drop", b"k")]
        master.ask(b"RM.DROPPED", master.numbers[-1])
        assert answer.raw is not None
        assert read(node) is None


async def test_what_is_about_to_die_is_not_given() -> None:
    async with World("ab") as world:
        world.adopt(world.view(1, row("a", "b", term=1)))
        await world.settle()
        node = world["a"]
        master = Master(node)
        put(node, b"k", b"v", "t")
        put(node, b"named")
        await world.settle()
        read_often(node, b"named")
        await world.settle()
        node.ask(b"RM.UNTAG", node.token(), b"t")
        read_often(node)
        put(node, b"other")
        assert read(node, b"other") is None
        assert master.told() == []


async def test_a_read_that_finds_an_expired_entry_cannot_say_so_before_the_copies_are_dropped() -> (
    None
):
    async with World("a") as world:
        node = await one_node(world)
        master = Master(node)
        put(node, ttl_ms=5_000)
        read_often(node)
        [copy] = [event for event in master.events if event[0] == b"copy"]
        assert 4_000 < int(copy[5]) <= 4_500
        master.told()
        node.clock.now += 5.1
        assert b"AGAIN" in node.ask(b"RM.GET", node.token(), b"k").raw
        assert master.told() == [(b"drop", b"k")]
        master.ask(b"RM.DROPPED", master.numbers[-1])
        assert read(node) is None


async def test_an_eviction_is_seen_when_the_copies_are_dropped() -> None:
    async with World("a") as world:
        node = await one_node(world)
        master = Master(node)
        put(node)
        given(node, master)
        primary = node.node.roles.primaries[0]
        assert primary.evict(b"k")
        assert read(node) == b"v"
        master.drop()
        assert read(node) is None


async def test_a_master_that_does_not_read_or_takes_none_is_given_none() -> None:
    async with World("a") as world:
        node = await one_node(world)
        slow = Master(node)
        slow.waiting_bytes = 2 * 2**20
        plain = Master(node, b"m2", copies=0)
        put(node)
        read_often(node)
        assert slow.told() == plain.told() == []
        assert put(node, value=b"new").raw is not None


async def test_what_is_large_or_expires_at_once_is_not_given() -> None:
    async with World("a") as world:
        node = await one_node(world)
        master = Master(node)
        put(node, value=b"x" * MOST_BYTES)
        put(node, b"short", ttl_ms=400)
        read_often(node)
        read_often(node, b"short")
        assert master.told() == []


async def test_a_copy_that_was_returned_is_not_asked_for() -> None:
    async with World("a") as world:
        node = await one_node(world)
        master = Master(node)
        put(node)
        read_often(node)
        [copy] = [event for event in master.events if event[0] == b"copy"]
        master.ask(b"RM.RETURN", node.token(), b"k", b"999")
        assert node.node.grants.keys == 1
        master.ask(b"RM.RETURN", node.token(), b"k", copy[4])
        assert node.node.grants.keys == 0
        assert put(node, value=b"new").raw is not None


async def test_use_of_copies_keeps_the_entry_and_is_counted() -> None:
    async with World("a") as world:
        node = await one_node(world)
        master = Master(node)
        put(node)
        put(node, b"other")
        given(node, master)
        read(node, b"other")
        master.ask(b"RM.USED", node.token(), b"k", 40)
        assert node.node.counters.copy_hits == 40
        victim = node.node.store.victim()
        assert victim is not None
        assert victim[1] == b"other"


async def test_without_its_lease_a_node_has_nobody_trust_a_session() -> None:
    async with World("a") as world:
        node = await one_node(world)
        master = Master(node)
        assert master.ask(b"RM.RENEW", 1, 0) == 1
        node.node.clock.lease.held_until = 0.0
        assert "WAIT" in repr(master.ask(b"RM.RENEW", 2, 1))


# New terms.


async def failed_over(world: World) -> tuple[Master, Master]:
    """`a` gave copies to two masters and is gone; `b` is primary in term 2 and knows their names."""
    world.adopt(world.view(1, row("a", "b", term=1)))
    await world.settle()
    masters = Master(world["a"]), Master(world["a"], b"m2")
    put(world["a"])
    await world.settle()
    read_often(world["a"])
    await world.settle()
    given(world["a"], *masters)
    followers = Master(world["b"]), Master(world["b"], b"m2")
    world.adopt(world.view(2, row("b", term=2), without="a"), "b")
    return followers


async def test_a_new_primary_writes_when_every_master_follows_its_term() -> None:
    async with World("ab") as world:
        first, second = await failed_over(world)
        node = world["b"]
        first.ask(b"RM.FOLLOW", 2)
        second.ask(b"RM.FOLLOW", 1)
        assert not node.node.roles.served
        second.ask(b"RM.FOLLOW", 3)
        assert put(node, value=b"new").reply[0] == 0


async def test_a_new_primary_waits_for_a_master_that_hangs_until_its_trust_has_ended() -> None:
    async with World("ab") as world:
        first, _ = await failed_over(world)
        node = world["b"]
        first.ask(b"RM.FOLLOW", 2)
        later(node, GATE_S - 0.1)
        assert not node.node.roles.served
        later(node, 0.15)
        assert put(node, value=b"new").reply[0] == 0


async def test_a_new_primary_does_not_wait_where_nobody_had_copies() -> None:
    async with World("ab") as world:
        world.adopt(world.view(1, row("a", "b", term=1)))
        await world.settle()
        put(world["a"])
        await world.settle()
        world.adopt(world.view(2, row("b", term=2), without="a"), "b")
        assert put(world["b"], value=b"new").reply[0] == 0


async def test_what_was_not_committed_is_not_shown_before_masters_follow() -> None:
    async with World("ab") as world:
        world.adopt(world.view(1, row("a", "b", term=1)))
        await world.settle()
        master = Master(world["a"])
        put(world["a"])
        await world.settle()
        read_often(world["a"])
        await world.settle()
        given(world["a"], master)
        put(world["a"], value=b"new")
        await world.settle()
        assert read(world["a"]) == b"v"
        follower = Master(world["b"])
        world.adopt(world.view(2, row("b", term=2), without="a"), "b")
        assert not world["b"].node.roles.served
        follower.ask(b"RM.FOLLOW", 2)
        assert read(world["b"]) == b"new"


async def test_a_partition_is_handed_over_when_its_copies_are_taken_back() -> None:
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
        master.drop()
        await world.settle()
        assert world["b"].node.roles.served
        assert put(world["b"], value=b"new").raw is None
        await world.settle()
        assert read(world["b"]) == b"new"


async def test_after_a_total_loss_nothing_is_served_while_a_master_may_have_copies() -> None:
    async with World("a") as world:
        node = world["a"]
        world.adopt(world.view(6, row(None, term=3)))
        world.adopt(world.view(7, row("a", term=7)))
        assert not node.node.roles.served
        later(node, GATE_S + 0.1)
        assert node.node.roles.served


async def test_a_primary_in_a_new_term_on_the_same_node_asks_for_the_copies_of_the_one_before() -> (
    None
):
    async with World("a") as world:
        node = await one_node(world)
        master = Master(node)
        put(node)
        given(node, master)
        world.adopt(world.view(2, row("a", term=2)))
        written = put(node, value=b"new")
        assert written.raw is None
        master.drop()
        assert written.reply[0] == 0

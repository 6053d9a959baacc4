"""Fill tokens and those who wait for them, on real nodes: through commits, leases, time and sessions (R12)."""

from __future__ import annotations

from typing import Any

import pytest

import aux.node.fills
from aux.node.event_sessions import SESSION_S
from aux.node.fills import MAX_INVALIDATED, TOKEN_S
from ringmaster.protocol.entry import value_offset
from ringmaster.protocol.entry_meta import Meta, pack_meta
from ringmaster.protocol.resp import CommandReader, Reader, encode
from ringmaster.protocol.write_options import Status, WriteOptions, encode_options
from tests.fakes.nodes import Answer, TestNode, World, row
from tests.unit.timing import timed


class Master(Answer):
    """A master's events connection. `events`: what was said on it; `reads`: whether it takes that."""

    def __init__(self, node: TestNode) -> None:
        super().__init__()
        self.node = node
        self.events: list[list[bytes]] = []
        self.reads = True
        self.aborted = False
        assert self.ask(b"RM.SESSION", b"m1", 1, 0, 0) == b"OK"

    def push(self, frame: bytes, most_unread: int) -> bool:
        if self.reads:
            self.events += Reader().feed(frame)  # type: ignore[arg-type]
        return self.reads

    def listen(self, most_unread: int) -> None:
        """It reads on."""

    def abort(self) -> None:
        self.aborted = True

    def ask(self, *command: bytes | int) -> Any:
        [words] = CommandReader().feed(encode(*command))
        table = self.node.server.always | self.node.server.leased
        raw = table[words[0]](self, words)  # type: ignore[arg-type]
        assert raw is not None
        return Reader().feed(raw)[0]

    def fill(self, key: bytes = b"k", callers: int = 1) -> Any:
        return self.ask(b"RM.FILL", self.node.token(), key, callers)


async def pair(world: World) -> TestNode:
    world.adopt(world.view(1, row("a", "b", term=1)))
    await world.settle()
    return world["a"]


def write(
    node: TestNode, token: bytes = b"", value: bytes = b"v", *tags: str, **more: Any
) -> Answer:
    options = WriteOptions(
        **{"meta": pack_meta(Meta(tags=tags)), "fill_token": token.decode(), **more}
    )
    return node.ask(b"RM.SET", node.token(), b"k", value, encode_options(options))


def seen(event: list[bytes]) -> tuple[bytes, bytes]:
    """Kind, and the value or token."""
    kind, _, _, payload = event
    return kind, payload[value_offset(payload) :] if kind == b"value" else payload


async def test_who_waits_is_told_when_every_copy_has_the_value_and_not_before() -> None:
    async with World("ab") as world:
        node = await pair(world)
        first, second = Master(node), Master(node)
        _, token, waits = first.fill()
        assert (bool(token), waits) == (True, 0)
        assert second.fill() == [None, b"", 1]
        written = write(node, token)
        assert written.raw is None
        assert second.events == []
        await world.settle()
        assert written.reply[0] == Status.CREATED
        assert [seen(event) for event in second.events] == [(b"value", b"v")]
        assert first.events == []
        assert node.node.fills.keys == 0


async def test_who_asks_for_a_token_has_read_the_key_and_is_counted_no_second_time() -> None:
    async with World("ab") as world:
        node = await pair(world)
        master = Master(node)
        assert node.get(b"k") is None
        master.fill()
        write(node, b"", b"old", ttl_ms=1000, meta=pack_meta(Meta(swr_ms=5000)))
        await world.settle()
        node.clock.now += 2
        assert node.get(b"k") == b"old"
        master.fill()
        assert (node.node.counters.hits, node.node.counters.misses) == (1, 1)
        assert node.node.fills.asked == 2


async def test_while_a_write_is_under_way_nobody_gets_a_token() -> None:
    async with World("ab") as world:
        node = await pair(world)
        master = Master(node)
        write(node)
        assert master.fill() == [None, b"", 1]
        node.ask(b"RM.DEL", node.token(), b"k")
        await world.settle()
        assert [seen(event)[0] for event in master.events] == [b"value"]
        assert master.fill(callers=0)[1]


async def test_a_token_ends_with_its_time_and_the_next_gets_it() -> None:
    async with World("a") as world:
        world.adopt(world.view(1, row("a", term=1)))
        node = world["a"]
        first, second, third = Master(node), Master(node), Master(node)
        token = first.fill()[1]
        second.fill()
        third.fill()
        node.clock.now += TOKEN_S - 0.1
        node.node.fills.tick(node.clock.now)
        assert second.events == []
        node.clock.now += 0.2
        node.node.fills.tick(node.clock.now)
        [event] = second.events
        assert seen(event)[0] == b"fill"
        assert third.events == []
        assert write(node, token).reply[0] == Status.FILL_LOST
        assert node.get(b"k") is None
        assert write(node, seen(event)[1]).reply[0] == Status.CREATED
        assert [seen(event) for event in third.events] == [(b"value", b"v")]


async def test_who_lost_a_token_is_told_the_version_that_is_there_when_it_is_committed() -> None:
    async with World("ab") as world:
        node = await pair(world)
        token = Master(node).fill()[1]
        assert write(node, token[:-1] + b"9").reply == [Status.FILL_LOST, 0, 0, 0]
        newer = write(node)
        lost = write(node, token)
        assert lost.raw is None
        await world.settle()
        _, term, seq, _ = newer.reply
        assert lost.reply == [Status.FILL_LOST, term, seq, 0]
        assert Master(node).ask(b"RM.GIVEUP", node.token(), b"k", token) == lost.reply


async def test_without_the_lease_nobody_is_told_until_it_holds_again() -> None:
    async with World("a") as world:
        world.adopt(world.view(1, row("a", term=1)))
        node = world["a"]
        first, second = Master(node), Master(node)
        token = first.fill()[1]
        second.fill()
        node.node.clock.lease.held_until = 0.0
        assert write(node, token).text.startswith("-UNKNOWN")
        assert second.events == []
        node.node.fills.tick(node.clock.now)
        assert second.events == []
        node.node.clock.lease.held_until = 1e9
        node.node.fills.tick(node.clock.now)
        assert [seen(event) for event in second.events] == [(b"value", b"v")]


async def test_another_term_knows_no_token() -> None:
    async with World("ab") as world:
        node = await pair(world)
        token = Master(node).fill()[1]
        world.adopt(world.view(2, row("b", term=2), without="a"), "b")
        await world.settle()
        assert write(world["b"], token).reply[0] == Status.FILL_LOST
        assert world["b"].get(b"k") is None


async def test_a_master_that_goes_leaves_its_place_and_one_that_does_not_renew_goes() -> None:
    async with World("a") as world:
        world.adopt(world.view(1, row("a", term=1)))
        node = world["a"]
        first, second, third = Master(node), Master(node), Master(node)
        token = first.fill()[1]
        second.fill()
        third.fill()
        node.clock.now += SESSION_S / 2
        assert third.ask(b"RM.RENEW", 7, 0) == 7
        assert first.ask(b"RM.RENEW", 3, 0) == 3
        node.clock.now += SESSION_S / 2 + 0.01
        node.node.sessions.tick(node.clock.now)
        assert (first.aborted, second.aborted, third.aborted) == (False, True, False)
        assert first.ask(b"RM.GIVEUP", node.token(), b"k", token)[0] == Status.REPLACED
        assert [seen(event)[0] for event in third.events] == [b"fill"]
        assert second.events == []
        assert str(second.fill()).startswith("NOSESSION")


async def test_a_holder_that_left_is_followed_by_who_waits_or_else_by_who_asks() -> None:
    async with World("a") as world:
        world.adopt(world.view(1, row("a", term=1)))
        node = world["a"]
        first, second = Master(node), Master(node)
        token = first.fill()[1]
        first.ask(b"RM.LEAVE", node.token(), b"k", token)
        assert write(node, token, if_match="*").reply[0] == Status.CONDITION_FAILED
        other = second.fill()[1]
        assert other
        assert write(node, token).reply[0] == Status.FILL_LOST
        first.fill()
        second.ask(b"RM.LEAVE", node.token(), b"k", other)
        assert [seen(event)[0] for event in first.events] == [b"fill"]


async def test_an_invalidation_ends_tokens_for_what_carries_the_tag_or_would() -> None:
    async with World("a") as world:
        world.adopt(world.view(1, row("a", term=1)))
        node = world["a"]
        master = Master(node)
        token = master.fill()[1]
        node.ask(b"RM.UNTAG", node.token(), b"t")
        assert write(node, token, b"v", "t").reply[0] == Status.FILL_LOST
        assert write(node, token, b"v", "u").reply[0] == Status.CREATED
        write(node, b"", b"old", "t", ttl_ms=1)
        node.clock.now += 1
        token = master.fill()[1]
        node.ask(b"RM.UNTAG", node.token(), b"t")
        later = master.fill()[1]
        assert later != token


async def test_an_invalidation_takes_no_time_for_keys_that_do_not_carry_the_tag() -> None:
    """16 tags and 5,000 keys that somebody waits for took 20 ms."""
    async with World("a") as world:
        world.adopt(world.view(1, row("a", term=1)))
        node = world["a"]
        master = Master(node)
        for number in range(5000):
            master.fill(b"missing%d" % number, callers=2)
        tags = [b"t%d" % number for number in range(16)]
        _, took_s = timed(lambda: node.ask(b"RM.UNTAG", node.token(), *tags))
        assert took_s < 0.002


async def test_a_token_for_what_carries_a_tag_is_forgotten_by_it_once_it_is_used() -> None:
    async with World("a") as world:
        world.adopt(world.view(1, row("a", term=1)))
        node = world["a"]
        master = Master(node)
        write(node, b"", b"old", "t", "u", ttl_ms=1000)
        node.clock.now += 1
        first = master.fill()[1]
        assert write(node, first, b"new", "u", ttl_ms=1000).reply[0] == Status.CREATED
        node.clock.now += 1
        second = master.fill()[1]
        node.ask(b"RM.UNTAG", node.token(), b"t")
        assert write(node, second, b"newer", "u").reply[0] == Status.CREATED


async def test_more_invalidations_than_are_kept_end_every_token() -> None:
    async with World("a") as world:
        world.adopt(world.view(1, row("a", term=1)))
        node = world["a"]
        master = Master(node)
        token = master.fill()[1]
        for number in range(MAX_INVALIDATED + 1):
            node.ask(b"RM.UNTAG", node.token(), b"t%d" % number)
        assert write(node, token, b"v", "t0").reply[0] == Status.FILL_LOST


async def test_a_stale_value_has_one_token_and_nobody_waits() -> None:
    async with World("a") as world:
        world.adopt(world.view(1, row("a", term=1)))
        node = world["a"]
        options = WriteOptions(ttl_ms=1000, meta=pack_meta(Meta(swr_ms=5000)))
        node.ask(b"RM.SET", node.token(), b"k", b"old", encode_options(options))
        first, second = Master(node), Master(node)
        entry, token, waits = first.fill()
        assert (entry[value_offset(entry) :], token, waits) == (b"old", b"", 0)
        node.clock.now += 2
        assert first.fill(callers=3)[1:] == [b"0.1.1", 0]
        assert second.fill(callers=3)[1:] == [b"", 0]
        node.clock.now += 5
        assert second.fill() == [None, b"", 1]


async def test_there_is_a_bound_to_the_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aux.node.fills, "MAX_KEYS", 2)
    async with World("a") as world:
        world.adopt(world.view(1, row("a", term=1)))
        node = world["a"]
        master = Master(node)
        assert master.fill(b"1")[1]
        assert master.fill(b"2")[1]
        assert master.fill(b"3") == [None, b"", 0]
        assert master.fill(b"2") == [None, b"", 1]
        node.ask(b"RM.DEL", node.token(), b"1")
        assert master.fill(b"3")[1]


async def test_tokens_that_were_used_leave_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aux.node.fills, "MAX_KEYS", 10)
    async with World("a") as world:
        world.adopt(world.view(1, row("a", term=1)))
        node = world["a"]
        master = Master(node)
        kept = master.fill(b"kept")[1]
        for _ in range(100):
            assert write(node, master.fill()[1]).reply[0] == Status.CREATED
            node.ask(b"RM.DEL", node.token(), b"k")
        assert len(node.node.fills._ends) <= 21
        node.clock.now += TOKEN_S + 1
        node.node.fills.tick(node.clock.now)
        assert master.ask(b"RM.GIVEUP", node.token(), b"kept", kept)[0] == Status.FILL_LOST


async def test_a_master_that_does_not_read_hears_nothing_more() -> None:
    async with World("a") as world:
        world.adopt(world.view(1, row("a", term=1)))
        node = world["a"]
        first, second = Master(node), Master(node)
        token = first.fill()[1]
        second.fill()
        second.reads = False
        assert write(node, token).reply[0] == Status.CREATED
        node.node.sessions.ended(second)
        assert len(node.node.sessions) == 1


async def test_a_token_that_was_left_is_for_who_asks_while_the_stale_value_is_being_removed() -> (
    None
):
    async with World("ab") as world:
        node = await pair(world)
        options = WriteOptions(ttl_ms=1000, meta=pack_meta(Meta(swr_ms=5000)))
        node.ask(b"RM.SET", node.token(), b"k", b"old", encode_options(options))
        await world.settle()
        first, second = Master(node), Master(node)
        node.clock.now += 2
        token = first.fill()[1]
        first.ask(b"RM.LEAVE", node.token(), b"k", token)
        assert node.node.roles.served[node.token()].evict(b"k")
        assert second.fill() == [None, b"", 1]
        await world.settle()
        assert [seen(event)[0] for event in second.events] == [b"fill"]


async def test_without_room_an_expired_key_is_undecided_while_it_is_being_touched(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(aux.node.fills, "MAX_KEYS", 0)
    async with World("ab") as world:
        node = await pair(world)
        write(node, ttl_ms=1000)
        await world.settle()
        node.ask(b"RM.TOUCH", node.token(), b"k", encode_options(WriteOptions(ttl_ms=9000)))
        node.clock.now += 2
        assert str(Master(node).fill()).startswith("AGAIN")
        await world.settle()
        assert Master(node).fill()[0]


@pytest.mark.parametrize("by_event", [False, True])
async def test_a_token_that_its_master_may_not_have_heard_of_is_for_others(by_event: bool) -> None:
    async with World("a") as world:
        world.adopt(world.view(1, row("a", term=1)))
        node = world["a"]
        first, second, third = Master(node), Master(node), Master(node)
        first.ask(b"RM.RENEW", 7, 0)
        if by_event:
            token = third.fill()[1]
            first.fill()
            third.ask(b"RM.GIVEUP", node.token(), b"k", token)
        else:
            first.fill()
        assert first.ask(b"RM.RENEW", 8, 7) == 8
        assert second.fill() == [None, b"", 1]
        node.node.sessions.ended(first)
        assert [seen(event)[0] for event in second.events] == [b"fill"]


async def test_a_token_that_its_master_has_heard_of_outlives_the_session() -> None:
    async with World("a") as world:
        world.adopt(world.view(1, row("a", term=1)))
        node = world["a"]
        first, second = Master(node), Master(node)
        token = first.fill()[1]
        first.ask(b"RM.RENEW", 1, 0)
        first.ask(b"RM.RENEW", 2, 1)
        second.fill()
        node.node.sessions.ended(first)
        assert second.events == []
        assert write(node, token).reply[0] == Status.CREATED


async def test_a_token_may_be_given_up_without_the_lease_and_goes_on_when_it_holds_again() -> None:
    async with World("a") as world:
        world.adopt(world.view(1, row("a", term=1)))
        node = world["a"]
        first, second = Master(node), Master(node)
        token = first.fill()[1]
        second.fill()
        node.node.clock.lease.held_until = 0.0
        assert b"RM.GIVEUP" in node.server.always
        assert first.ask(b"RM.GIVEUP", node.token(), b"k", token)[0] == Status.REPLACED
        # But what is there now is not told.
        assert str(first.ask(b"RM.GIVEUP", node.token(), b"k", token)).startswith("WAIT")
        assert second.events == []
        node.node.clock.lease.held_until = 1e9
        node.node.fills.tick(node.clock.now)
        assert [seen(event)[0] for event in second.events] == [b"fill"]

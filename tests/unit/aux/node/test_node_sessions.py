"""A primary and its copies: writes, sessions, promotion; every message is in the test's hand, lost, late or cut."""

from __future__ import annotations

import asyncio

import pytest

from aux.node.housekeeping import MAX_UNACKED_BYTES
from ringmaster.protocol.resp import encode
from tests.fakes.nodes import World, lagging, row


async def test_a_write_is_answered_and_read_only_when_every_copy_has_it() -> None:
    async with World() as world:
        world.adopt(world.view(1, row("a", "b", "c", term=1)))
        await world.settle()
        world.wire("a", "c").held = True
        written = world["a"].put(b"k", b"1")
        await world.settle()
        assert (written.raw, world["a"].get(b"k"), world["b"].holds()) == (None, None, {b"k": b"1"})
        world.wire("a", "c").held = False
        await world.settle()
        assert written.reply == [1, 1, 1, 0]
        assert world["a"].get(b"k") == b"1"


async def test_a_write_whose_acknowledgement_is_lost_is_committed_after_the_session_is_resumed() -> (
    None
):
    async with World("ab") as world:
        world.adopt(world.view(1, row("a", "b", term=1)))
        await world.settle()
        written = world["a"].put(b"k", b"1")
        await asyncio.sleep(0)
        wire = world.wire("a", "b")
        wire.deliver(answer=False)
        wire.cut()
        assert written.raw is None
        wire.mend()
        await world.settle()
        assert written.reply == [1, 1, 1, 0]
        assert world["b"].node.roles.replicas[0].seq == 1


async def test_what_was_sent_in_an_old_session_is_refused_in_the_new_one() -> None:
    """Two connections: bytes of the one before arrive after the session was opened anew."""
    async with World("ab") as world:
        world.adopt(world.view(1, row("a", "b", term=1)))
        await world.settle()
        wire = world.wire("a", "b")
        written = world["a"].put(b"k", b"1")
        await asyncio.sleep(0)
        late, _ = wire.queue[0]
        wire.cut()
        wire.mend()
        wire.deliver()  # RM.OPEN
        assert world["b"].takes(late) == [0, 0]  # over its budget by 0 bytes, partition 0 refused
        await world.settle()
        assert written.reply == [1, 1, 1, 0]
        assert world["b"].holds() == {b"k": b"1"}


async def test_entries_of_a_deposed_primary_never_pass_for_those_of_its_successor() -> None:
    """Both number from 1: a frame that the old one sent before it was stopped arrives in the new one's session."""
    async with World() as world:
        world.adopt(world.view(1, row("a", "b", "c", term=1)))
        await world.settle()
        world["a"].put(b"k", b"old")
        await asyncio.sleep(0)
        late, _ = world.wire("a", "c").queue[0]
        for wire in world.wires:
            wire.queue.clear()
        world.adopt(world.view(2, row("b", "c", term=2), without="a"), "bc")
        await world.settle()
        assert world["b"].serves()
        assert world["c"].takes(late) == [0, 0]
        written = world["b"].put(b"k", b"new")
        await world.settle()
        assert written.reply[0] == 1
        assert world["c"].holds() == {b"k": b"new"}


async def test_an_older_term_cannot_open_a_session_after_the_view_moved_on() -> None:
    async with World() as world:
        world.adopt(world.view(1, row("a", "b", "c", term=1)))
        await world.settle()
        world.adopt(world.view(2, row("b", "c", term=2), without="a"), "bc")
        late = encode(b"RM.OPEN", 0, 1, 9, b"sync", 0, 0, b"a-1")
        assert str(world["c"].takes(late)).startswith("STALE")


async def test_a_promoted_primary_serves_only_after_the_other_copies_took_its_state() -> None:
    """`c` has a write that `b` lacks; once `b` serves, both have the same."""
    async with World() as world:
        world.adopt(world.view(1, row("a", "b", "c", term=1)))
        await world.settle()
        world["a"].put(b"k", b"1")
        await world.settle()
        world.wire("a", "b").held = True
        unknown = world["a"].put(b"k", b"2")
        await world.settle()
        assert world["c"].holds() == {b"k": b"2"}
        world.adopt(world.view(2, row("b", "c", term=2), without="a"), "bc")
        assert not world["b"].serves()
        await world.settle()
        assert world["b"].serves()
        assert world["b"].get(b"k") == b"1"
        assert world["c"].holds() == {b"k": b"1"}
        assert unknown.raw is None


@pytest.mark.parametrize("losses", [1, 2, 3])
async def test_a_promotion_whose_open_reply_is_lost_still_takes_over_what_the_copy_has_more(
    losses: int,
) -> None:
    async with World() as world:
        world.adopt(world.view(1, row("a", "b", "c", term=1)))
        await world.settle()
        world.wire("a", "b").held = True
        world["a"].put(b"k", b"2")
        await world.settle()
        world.adopt(world.view(2, row("b", "c", term=2), without="a"), "bc")
        wire = world.wire("b", "c")
        for _ in range(losses):
            assert wire.names() == [b"RM.OPEN"]
            wire.deliver(answer=False)
            wire.cut()
            wire.mend()
        await world.settle()
        assert world["b"].serves()
        assert world["b"].holds() == world["c"].holds() == {}


async def test_a_restatement_cut_short_goes_on_with_the_next_primary() -> None:
    """`c` alone has the write. `b` dies while it restates, `d` takes over: `c` still knows what is not settled."""
    async with World("abcd") as world:
        world.adopt(world.view(1, row("a", "b", "c", "d", term=1)), "abcd")
        await world.settle()
        world.wire("a", "b").held = world.wire("a", "d").held = True
        world["a"].put(b"k", b"2")
        await world.settle()
        world.adopt(world.view(2, row("b", "c", "d", term=2), without="a"), "bcd")
        world.wire("b", "c").deliver()  # RM.OPEN is answered; the entries never arrive
        world.adopt(world.view(3, row("d", "c", term=3), without="ab"), "cd")
        await world.settle()
        assert world["d"].serves()
        assert world["c"].holds() == world["d"].holds() == {}


async def test_a_copy_that_lacks_what_is_committed_and_forgotten_is_reported_and_never_resumed() -> (
    None
):
    async with World("ab") as world:
        world.adopt(world.view(1, row("a", "b", term=1)))
        await world.settle()
        for number in range(3):
            world["a"].put(b"k", b"%d" % number)
        await world.settle()
        wire = world.wire("a", "b")
        wire.cut()
        world["b"].node.roles.replicas[0].seq = 1  # what can only happen by a fault
        wire.mend()
        await world.settle()
        assert lagging(world, "a") == ["b"]


async def test_a_copy_that_makes_no_progress_is_reported_after_a_second_but_not_by_who_was_stopped() -> (
    None
):
    async with World("ab") as world:
        world.adopt(world.view(1, row("a", "b", term=1)))
        await world.settle()
        world.wire("a", "b").held = True
        world["a"].put(b"k", b"1")
        node, clock = world["a"].node, world["a"].clock
        node.housekeeping.tick()
        clock.now += 3.0  # stopped
        node.housekeeping.tick()
        assert lagging(world, "a") == []
        for _ in range(25):
            clock.now += 0.05
            node.housekeeping.tick()
        assert lagging(world, "a") == ["b"]
        node.clock.lease.held_until = 0.0
        assert lagging(world, "a") == []


async def test_what_waits_for_a_copy_whose_link_is_down_is_bounded() -> None:
    async with World("ab", max_bytes=2**30) as world:
        world.adopt(world.view(1, row("a", "b", term=1)))
        await world.settle()
        world.wire("a", "b").cut()
        value = bytes(8 * 2**20)
        answers = []
        for number in range(20):
            answers.append(world["a"].put(b"%d" % number, value))
            world["a"].node.housekeeping.tick()
        shed = [answer for answer in answers if answer.text.startswith("-SHED")]
        assert len(shed) >= 20 - MAX_UNACKED_BYTES // len(value) - 1
        world.wire("a", "b").mend()
        await world.settle()
        assert world["a"].node.roles.primaries[0].pending_bytes == 0
        world["a"].node.housekeeping.tick()
        assert world["a"].put(b"k", b"1").raw is None  # accepted again

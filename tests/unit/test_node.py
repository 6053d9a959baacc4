"""Nodes under hand-made views, with every message in the test's hand: what must hold whatever is lost, late or cut."""

from __future__ import annotations

import asyncio

import pytest

from aux.node import MAX_UNACKED_BYTES
from aux.report import status_of
from ringmaster.resp import encode
from tests.fakes.nodes import World, row


def caught_up(world: World, name: str) -> list[str]:
    return [report.node for report in status_of(world[name].node).caught_up]


def lagging(world: World, name: str) -> list[str]:
    return [report.node for report in status_of(world[name].node).lagging]


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
        assert world["b"].node.replicas[0].seq == 1


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
        assert world["a"].node.primaries[0].copies["b"].required
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
        world["b"].node.adopt(world.view(3, row("a", term=1, b=3)))
        assert world["b"].takes(late) == [0, 0]
        assert world["b"].holds() == {}


async def test_a_planned_hand_over_loses_no_write_and_two_never_serve() -> None:
    async with World("ab") as world:
        world.adopt(world.view(1, row("a", "b", term=1)))
        await world.settle()
        written = world["a"].put(b"k", b"1")
        view = world.view(2, row("b", "a", term=2, awaits="a"))
        world["b"].node.adopt(view)
        assert not world["b"].serves()
        world["a"].node.adopt(view)
        assert not world["a"].serves()  # draining: its write is pending
        assert not world["b"].serves()
        await world.settle()
        assert written.reply[0] == 1
        assert world["b"].serves()
        assert not world["a"].serves()
        assert world["b"].get(b"k") == b"1"
        assert not list(world["a"].node.releasing)


@pytest.mark.parametrize("heard", [True, False])
async def test_released_is_said_again_when_the_link_breaks(heard: bool) -> None:
    async with World("ab") as world:
        world.adopt(world.view(1, row("a", "b", term=1)))
        await world.settle()
        view = world.view(2, row("b", "a", term=2, awaits="a"))
        world["a"].node.adopt(view)
        if heard:
            world["b"].node.adopt(view)
        wire = world.wire("a", "b")
        assert wire.names() == [b"RM.RELEASED"]
        wire.deliver(answer=False)
        wire.cut()
        wire.mend()
        world["b"].node.adopt(view)
        await world.settle()
        assert world["b"].serves()
        assert not list(world["a"].node.releasing)


async def test_released_is_not_piled_up_while_nobody_answers() -> None:
    async with World("ab") as world:
        world.adopt(world.view(1, row("a", "b", term=1)))
        await world.settle()
        world["a"].node.adopt(world.view(2, row("b", "a", term=2, awaits="a")))
        for _ in range(100):
            world["a"].node.tick()
        assert world.wire("a", "b").names() == [b"RM.RELEASED"]


async def test_released_of_an_earlier_hand_over_opens_nothing() -> None:
    """From a to b, back to a, to b again: what `a` said the first time arrives late."""
    async with World("ab") as world:
        world.adopt(world.view(1, row("a", "b", term=1)))
        await world.settle()
        world.adopt(world.view(2, row("b", "a", term=2, awaits="a")))
        late, _ = next(item for item in world.wire("a", "b").queue if b"RM.RELEASED" in item[0])
        await world.settle()
        world.adopt(world.view(3, row("b", "a", term=2)))
        world.adopt(world.view(4, row("a", "b", term=4, awaits="b")))
        await world.settle()
        world.adopt(world.view(5, row("a", "b", term=4)))
        assert world["a"].serves()
        world["b"].node.adopt(world.view(6, row("b", "a", term=6, awaits="a")))
        assert str(world["b"].takes(late)).startswith("STALE")
        assert not world["b"].serves()
        assert world["a"].serves()


async def test_released_is_said_to_a_successor_s_successor_too() -> None:
    """`b` heard it and died before anybody knew; `c` awaits `a` as the view tells it to."""
    async with World() as world:
        world.adopt(world.view(1, row("a", "b", "c", term=1)))
        await world.settle()
        world.adopt(world.view(2, row("b", "c", "a", term=2, awaits="a")))
        await world.settle()
        assert world["b"].serves()
        assert not list(world["a"].node.releasing)
        world.adopt(world.view(3, row("c", "a", term=3, awaits="a"), without="b"), "ac")
        await world.settle()
        assert world["c"].serves()
        assert not list(world["a"].node.releasing)


async def test_a_late_answer_of_a_dead_successor_does_not_silence_the_release() -> None:
    async with World() as world:
        world.adopt(world.view(1, row("a", "b", "c", term=1)))
        await world.settle()
        world.wire("a", "b").held = True
        world.adopt(world.view(2, row("b", "c", "a", term=2, awaits="a")))
        await world.settle()
        world.wire("a", "c").held = True
        world.adopt(world.view(3, row("c", "a", term=3, awaits="a"), without="b"), "ac")
        await world.settle()
        assert not world["c"].serves()
        world.wire("a", "c").held = False
        await world.settle()
        assert world["c"].serves()


async def test_a_predecessor_taken_back_by_the_view_serves_in_the_new_term() -> None:
    async with World("ab") as world:
        world.adopt(world.view(1, row("a", "b", term=1)))
        await world.settle()
        world["a"].put(b"k", b"1")
        await world.settle()
        world.adopt(world.view(2, row("b", "a", term=2, awaits="a")), "a")
        world.adopt(world.view(3, row("a", term=3), without="b"), "a")
        await world.settle()
        assert world["a"].serves()
        assert world["a"].get(b"k") == b"1"


async def test_views_may_be_skipped() -> None:
    """`b` sees neither that it was removed nor that it is filled: only the view that lists it filling again."""
    async with World("ab") as world:
        world.adopt(world.view(1, row("a", "b", term=1)))
        await world.settle()
        world["a"].put(b"gone", b"1")
        await world.settle()
        world["a"].node.adopt(world.view(2, row("a", term=1)))
        world["a"].ask(b"RM.DEL", world["a"].token(), b"gone")
        world.adopt(world.view(3, row("a", term=1, b=3)))
        await world.settle()
        assert world["b"].holds() == {}
        assert caught_up(world, "a") == ["b"]


async def test_an_older_view_changes_nothing() -> None:
    async with World("ab") as world:
        world.adopt(world.view(5, row("a", term=5)))
        world.adopt(world.view(4, row("b", term=4)))
        assert world["a"].serves()
        assert not world["b"].serves()


async def test_a_view_without_this_incarnation_voids_it_once_it_was_listed() -> None:
    async with World("ab") as world:
        world["b"].node.adopt(world.view(1, row("a", term=1), without="b"))
        assert world["b"].reasons == []
        world.adopt(world.view(2, row("a", "b", term=1)))
        await world.settle()
        pending = world["a"].put(b"k", b"1")
        world["a"].node.adopt(world.view(3, row("b", term=3), without="a"))
        assert pending.text.startswith("-UNKNOWN")
        assert world["a"].reasons == ["view 3 does not list this incarnation"]
        assert world["a"].node.store.entries == 0


async def test_a_void_node_does_not_begin_to_serve_by_a_late_reply() -> None:
    """The reply to RM.OPEN comes after the node was given up; its lease may still be renewed for a moment."""
    async with World("ab") as world:
        world.adopt(world.view(1, row("a", "b", term=1)))
        wire = world.wire("a", "b")
        _, on_reply = wire.queue[0]
        world["a"].node.give_up("a test")
        on_reply([0, 0, b"k"])
        assert not world["a"].serves()
        assert world["a"].node.store.entries == 0


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
        world["b"].node.replicas[0].seq = 1  # what can only happen by a fault
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
        node.tick()
        clock.now += 3.0  # stopped
        node.tick()
        assert lagging(world, "a") == []
        for _ in range(25):
            clock.now += 0.05
            node.tick()
        assert lagging(world, "a") == ["b"]
        node.lease.held_until = 0.0
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
            world["a"].node.tick()
        shed = [answer for answer in answers if answer.text.startswith("-SHED")]
        assert len(shed) >= 20 - MAX_UNACKED_BYTES // len(value) - 1
        world.wire("a", "b").mend()
        await world.settle()
        assert world["a"].node.primaries[0].pending_bytes == 0
        world["a"].node.tick()
        assert world["a"].put(b"k", b"1").raw is None  # accepted again


async def test_an_alone_primary_whose_lease_lapsed_while_it_wrote_does_not_acknowledge() -> None:
    async with World("a") as world:
        world.adopt(world.view(1, row("a", term=1)))
        world["a"].node.lease.held_until = 0.0
        assert world["a"].put(b"k", b"1").text.startswith("-UNKNOWN")


async def test_the_last_copy_dropped_by_a_view_frees_writes_only_while_the_lease_holds() -> None:
    async with World("ab") as world:
        world.adopt(world.view(1, row("a", "b", term=1)))
        await world.settle()
        world.wire("a", "b").held = True
        pending = world["a"].put(b"k", b"1")
        world["a"].node.lease.held_until = 0.0
        world["a"].node.adopt(world.view(2, row("a", term=1)))
        assert pending.text.startswith("-UNKNOWN")


async def test_a_sealed_node_serves_by_no_command_but_commits_what_was_sequenced() -> None:
    async with World("ab") as world:
        world.adopt(world.view(1, row("a", "b", term=1)))
        await world.settle()
        pending = world["a"].put(b"k", b"1")
        token = world["a"].token()
        world["a"].node.seal()
        ours: list[tuple[bytes, ...]] = [
            (b"RM.GET", token, b"k"), (b"RM.SET", token, b"k", b"2"),
        ]  # fmt: skip
        redis: list[tuple[bytes, ...]] = [
            (b"GET", b"k"), (b"SET", b"k", b"2"), (b"DEL", b"k"), (b"TTL", b"k"),
        ]  # fmt: skip
        for command in ours:
            assert world["a"].ask(*command).text.startswith("-WAIT")
        for command in redis:
            assert world["a"].ask(*command).text.startswith("-CLUSTERDOWN")
        await world.settle()
        assert pending.reply[0] == 1


async def test_copies_take_evictions_and_expiries_from_the_primary_alone() -> None:
    async with World("ab") as world:
        world.adopt(world.view(1, row("a", "b", term=1)))
        await world.settle()
        options = b"\x96\xcd\x03\xe8\x02\xc4\x00\xc0\xc0\xa0"  # ttl 1000 ms
        world["a"].ask(b"RM.SET", world["a"].token(), b"k", b"1", options)
        await world.settle()
        world["b"].clock.now += 60
        world["b"].node.tick()
        assert world["b"].holds() == {b"k": b"1"}
        world["a"].clock.now += 2
        assert world["a"].get(b"k") is None
        for _ in range(50):
            world["a"].clock.now += 0.5
            world["a"].node.tick()
        await world.settle()
        assert world["a"].holds() == world["b"].holds() == {}


async def test_a_promoted_node_s_clock_is_not_behind_its_primary_s() -> None:
    async with World("ab") as world:
        world["a"].clock.wall_offset_s = 3600.0
        world.adopt(world.view(1, row("a", "b", term=1)))
        await world.settle()
        world["a"].put(b"k", b"1")
        await world.settle()
        assert world["b"].node.wall_ms() >= world["a"].node.wall_ms()


async def test_below_min_in_sync_writes_are_refused_and_reads_go_on() -> None:
    async with World("ab", min_in_sync=2) as world:
        world.adopt(world.view(1, row("a", term=1)))
        assert world["a"].put(b"k", b"1").text.startswith("-MINSYNC")
        assert world["a"].get(b"k") is None
        world.adopt(world.view(2, row("a", term=1, b=2)))
        await world.settle()
        world.adopt(world.view(3, row("a", "b", term=1)))
        written = world["a"].put(b"k", b"1")
        await world.settle()
        assert written.reply[0] == 1


async def test_a_release_that_the_successor_cannot_hear_is_reported_to_the_controller() -> None:
    async with World("ab") as world:
        world.adopt(world.view(1, row("a", "b", term=1)))
        await world.settle()
        assert status_of(world["a"].node).released == []
        world["a"].put(b"k", b"1")
        world.wire("a", "b").held = True
        world.adopt(world.view(2, row("b", "a", term=2, awaits="a")))
        assert status_of(world["a"].node).released == []  # its write is pending
        world.wire("a", "b").held = False
        await asyncio.sleep(0)
        world.wire("a", "b").deliver()
        world.wire("a", "b").cut()
        await world.settle()
        assert not world["b"].serves()
        assert status_of(world["a"].node).released == [(0, 2)]
        world.adopt(world.view(3, row("b", "a", term=2)))
        await world.settle()
        assert world["b"].serves()
        assert status_of(world["a"].node).released == []

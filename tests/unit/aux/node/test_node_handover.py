"""One primary hands over to the next: no write is lost, two never serve, a release is heard at last."""

from __future__ import annotations

import asyncio

import pytest

from aux.node.status_report import status_of
from tests.fakes.nodes import World, row


async def test_a_planned_hand_over_loses_no_write_and_two_never_serve() -> None:
    async with World("ab") as world:
        world.adopt(world.view(1, row("a", "b", term=1)))
        await world.settle()
        written = world["a"].put(b"k", b"1")
        view = world.view(2, row("b", "a", term=2, awaits="a"))
        world["b"].node.roles.adopt(view)
        assert not world["b"].serves()
        world["a"].node.roles.adopt(view)
        assert not world["a"].serves()  # draining: its write is pending
        assert not world["b"].serves()
        await world.settle()
        assert written.reply[0] == 1
        assert world["b"].serves()
        assert not world["a"].serves()
        assert world["b"].get(b"k") == b"1"
        assert not list(world["a"].node.roles.releasing)


@pytest.mark.parametrize("heard", [True, False])
async def test_released_is_said_again_when_the_link_breaks(heard: bool) -> None:
    async with World("ab") as world:
        world.adopt(world.view(1, row("a", "b", term=1)))
        await world.settle()
        view = world.view(2, row("b", "a", term=2, awaits="a"))
        world["a"].node.roles.adopt(view)
        if heard:
            world["b"].node.roles.adopt(view)
        wire = world.wire("a", "b")
        assert wire.names() == [b"RM.RELEASED"]
        wire.deliver(answer=False)
        wire.cut()
        wire.mend()
        world["b"].node.roles.adopt(view)
        await world.settle()
        assert world["b"].serves()
        assert not list(world["a"].node.roles.releasing)


async def test_released_is_not_piled_up_while_nobody_answers() -> None:
    async with World("ab") as world:
        world.adopt(world.view(1, row("a", "b", term=1)))
        await world.settle()
        world["a"].node.roles.adopt(world.view(2, row("b", "a", term=2, awaits="a")))
        for _ in range(100):
            world["a"].node.housekeeping.tick()
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
        world["b"].node.roles.adopt(world.view(6, row("b", "a", term=6, awaits="a")))
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
        assert not list(world["a"].node.roles.releasing)
        world.adopt(world.view(3, row("c", "a", term=3, awaits="a"), without="b"), "ac")
        await world.settle()
        assert world["c"].serves()
        assert not list(world["a"].node.roles.releasing)


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


async def test_a_hand_over_that_is_turned_round_serves_again_where_it_was() -> None:
    """The two cannot reach each other while a write waits for the successor: neither could go on."""
    async with World("ab") as world:
        world.adopt(world.view(1, row("a", "b", term=1)))
        await world.settle()
        first = world["a"].put(b"k", b"1")
        await world.settle()
        world.wire("a", "b").cut()
        written = world["a"].put(b"k", b"2")
        view = world.adopt(world.view(2, row("b", "a", term=2, awaits="a")))
        world["b"].node.peers.connect(view, "a")
        world.wire("b", "a").cut()
        await world.settle()
        assert (first.reply, written.raw) == ([1, 1, 1, 0], None)
        assert status_of(world["a"].node).released == []
        world.adopt(world.view(3, row("a", "b", term=3, awaits="b")))
        await world.settle()
        assert status_of(world["b"].node).released == [(0, 3)]
        assert written.text.startswith("-UNKNOWN")
        assert not world["a"].serves()
        assert not world["b"].serves()
        world.adopt(world.view(4, row("a", term=3)))
        await world.settle()
        assert world["a"].serves()
        assert world["a"].get(b"k") == b"2"
        assert world["a"].put(b"k", b"3").reply == [0, 3, 1, 0]

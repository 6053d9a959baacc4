"""Sessions that are refused: asked for again ever later, and at once when something has changed (R4)."""

from __future__ import annotations

import asyncio
from itertools import pairwise

from aux.replication.sender import RETRY_MAX_S, RETRY_S
from tests.fakes.nodes import Wire, World, row
from tests.fakes.virtual_time import in_virtual_time


async def opens(world: World, wire: Wire, seconds: float) -> list[float]:
    """Deliver at once and tick as nodes do; when sessions were asked for."""
    loop = asyncio.get_running_loop()
    asked, end = [], loop.time() + seconds
    ticked_at = 0.0
    while loop.time() < end:
        while wire.queue:
            asked += [loop.time()] * wire.names().count(b"RM.OPEN")
            for _ in range(len(wire.queue)):
                wire.deliver()
        if loop.time() - ticked_at >= 0.05:
            ticked_at = loop.time()
            world["a"].node.housekeeping.tick()
        await asyncio.sleep(0.001)
    return asked


@in_virtual_time
async def test_refused_sessions_are_asked_for_ever_later_and_never_much_later_than_a_second() -> (
    None
):
    async with World("ab") as world:
        world.adopt(world.view(1, row("a", "b", term=1)), "a")
        asked = await opens(world, world.wire("a", "b"), 10.0)
        pauses = [after - before for before, after in pairwise(asked)]
        assert pauses[0] <= RETRY_S + 0.002
        assert 0.4 <= max(pauses) / RETRY_MAX_S <= 1.01
        assert 10 < len(asked) < 40


@in_virtual_time
async def test_a_new_view_of_ours_and_a_new_connection_begin_again_at_once() -> None:
    async with World("ab") as world:
        world.adopt(world.view(1, row("a", "b", term=1)), "a")
        wire = world.wire("a", "b")
        await opens(world, wire, 10.0)
        now = asyncio.get_running_loop().time()
        world.adopt(world.view(2, row("a", "b", term=1)), "a")
        asked = await opens(world, wire, 0.1)
        assert asked[0] <= now + 0.002
        assert asked[1] - asked[0] <= RETRY_S + 0.002
        await opens(world, wire, 10.0)
        wire.cut()
        now = asyncio.get_running_loop().time()
        wire.mend()
        assert (await opens(world, wire, 0.1))[0] <= now + 0.002


@in_virtual_time
async def test_once_the_peer_s_view_lists_the_copy_a_refused_session_opens_within_a_second() -> (
    None
):
    async with World("ab") as world:
        view = world.adopt(world.view(1, row("a", "b", term=1)), "a")
        await opens(world, world.wire("a", "b"), 10.0)
        written = world["a"].put(b"k", b"1") if world["a"].serves() else None
        assert written is None  # it waits for its copy
        world.adopt(view, "b")
        await opens(world, world.wire("a", "b"), RETRY_MAX_S + 0.1)
        assert world["a"].serves()


@in_virtual_time
async def test_one_refused_copy_does_not_hold_up_the_others() -> None:
    async with World("ab", partitions=2) as world:
        world.adopt(world.view(1, row("a", "b", term=1), row("a", "b", term=1)), "a")
        wire = world.wire("a", "b")
        await opens(world, wire, 10.0)
        # The peer's view is one that lists it for one of the two.
        world.adopt(world.view(2, row("a", "b", term=1), row("a", term=1)), "b")
        await opens(world, wire, RETRY_MAX_S + 0.1)
        assert [primary.number for primary in world["a"].node.roles.served.values()] == [0]


async def test_how_far_a_peer_is_over_its_budget_is_known_from_its_last_word() -> None:
    async with World("ab") as world:
        world.adopt(world.view(1, row("a", "b", term=1)))
        await world.settle()
        peer = world["a"].node.peers.get("b")
        assert peer is not None
        wire = world.wire("a", "b")
        for over_bytes in (1234, 0):
            peer.barrier(lambda _: None)
            _, on_reply = wire.queue.popleft()
            on_reply([over_bytes])
            assert peer.over_bytes == over_bytes

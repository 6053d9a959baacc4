"""How often a node looks after itself: seldom at rest, and at once when there is something to look after."""

from __future__ import annotations

import asyncio

from aux.node.housekeeping import IDLE_TICKS, TICK_S
from aux.node.node import Node
from tests.fakes.nodes import World, row
from tests.fakes.virtual_time import in_virtual_time


def counted(node: Node) -> list[int]:
    """What each tick from now on stands for."""
    ticks: list[int] = []
    tick = node.housekeeping.tick

    def count(times: int = 1) -> bool:
        ticks.append(times)
        return tick(times)

    node.housekeeping.tick = count  # type: ignore[method-assign]
    return ticks


@in_virtual_time
async def test_at_rest_one_tick_stands_for_several() -> None:
    async with World("ab") as world:
        world.adopt(world.view(1, row("a", "b", term=1)))
        await world.settle()
        ticks = counted(world["a"].node)
        task = asyncio.create_task(world["a"].node.run())
        await asyncio.sleep(2.0)
        assert len(ticks) <= 2.0 / TICK_S / IDLE_TICKS + 3
        assert sum(ticks) >= 2.0 / TICK_S - IDLE_TICKS - 1
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@in_virtual_time
async def test_what_is_sent_to_a_copy_ends_the_rest_until_it_is_acknowledged() -> None:
    async with World("ab") as world:
        world.adopt(world.view(1, row("a", "b", term=1)))
        await world.settle()
        ticks = counted(world["a"].node)
        task = asyncio.create_task(world["a"].node.run())
        await asyncio.sleep(1.01)
        ticks.clear()
        world.wire("a", "b").held = True
        world["a"].put(b"k", b"v")
        await asyncio.sleep(0.001)
        assert ticks == [1]
        await asyncio.sleep(1.0)
        assert len(ticks) >= 1.0 / TICK_S - 1
        world.wire("a", "b").held = False
        await world.settle(ticks=False)
        await asyncio.sleep(TICK_S)
        ticks.clear()
        await asyncio.sleep(1.0)
        assert len(ticks) <= 1.0 / TICK_S / IDLE_TICKS + 1
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_copy_that_is_not_in_step_gives_no_rest() -> None:
    async with World("ab") as world:
        world.adopt(world.view(1, row("a", "b", term=1)))
        node = world["a"].node
        node.housekeeping.tick()
        assert not node.housekeeping.tick()
        await world.settle()
        node.housekeeping.tick()
        assert node.housekeeping.tick()
        world["a"].put(b"k", b"v")
        assert not node.housekeeping.tick()
        await world.settle()
        node.housekeeping.tick()
        assert node.housekeeping.tick()
        world.adopt(world.view(2, row("a", term=1, b=2)))
        assert not node.housekeeping.tick()

"""Invalidations of tags: which partitions are asked again, and which must not be (adr/0017)."""

import asyncio

from tests.unit.fake_wire import ticks
from tests.unit.ringmaster.routing.test_router import World, node, soon, view


async def test_only_the_partitions_that_a_node_lost_meanwhile_are_asked_again() -> None:
    world = World()
    await world.adopt(view(1, "aabb", node("a"), node("b")))
    task = asyncio.create_task(world.router.invalidate([b"t"], soon()))
    await ticks(5)
    assert world.at("a:1").taken() == [[b"RM.UNTAG", b"0.1\n1.1", b"t"]]
    assert world.at("b:1").taken() == [[b"RM.UNTAG", b"2.1\n3.1", b"t"]]
    world.at("b:1").receive(b"*0\r\n")
    # Partition 1 moves while its node waits for copies of both.
    await world.adopt(view(2, "abbb", node("a"), node("b")))
    await ticks(5)
    assert world.at("a:1").taken() == world.at("b:1").taken() == []
    world.at("a:1").receive(b"*1\r\n$3\r\n1.1\r\n")
    await ticks(5)
    assert world.at("a:1").taken() == []
    assert world.at("b:1").taken() == [[b"RM.UNTAG", b"1.1", b"t"]]
    world.at("b:1").receive(b"*0\r\n")
    await task
    await world.router.close()


async def test_after_a_node_is_lost_all_its_partitions_are_asked_again() -> None:
    world = World()
    await world.adopt(view(1, "aabb", node("a"), node("b")))
    task = asyncio.create_task(world.router.invalidate([b"t"], soon()))
    await ticks(5)
    world.at("b:1").receive(b"*0\r\n")
    assert len(world.at("b:1").taken()) == 1
    await world.adopt(view(2, "bbbb", node("a", up=False), node("b"), terms=2))
    await ticks(5)
    assert world.at("b:1").taken() == [[b"RM.UNTAG", b"0.2\n1.2", b"t"]]
    world.at("b:1").receive(b"*0\r\n")
    await task
    await world.router.close()

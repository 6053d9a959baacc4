"""When the controller looks and publishes: its own loop, in virtual time."""

from __future__ import annotations

import asyncio
from collections import Counter
from itertools import pairwise

import pytest

from master.control import pacing
from master.control.controller import CYCLE_S, IDLE_CYCLE_S
from master.control.pacing import MOVE_PAUSE_S
from master.control.planning.observation import PlanningSettings
from ringmaster.cluster.view import View
from tests.fakes.virtual_time import LoopClock, in_virtual_time
from tests.unit.master.control.controller_world import World


async def running(world: World, seconds: float) -> list[float]:
    """Let the controller run by itself in virtual time; when it published."""
    loop = asyncio.get_running_loop()
    published: list[float] = []
    world.clock = LoopClock()  # type: ignore[assignment]
    world.controller = world.another_controller()
    world.controller._on_published = lambda before, view, raw: published.append(loop.time())
    task = asyncio.create_task(world.controller.run())
    until = loop.time() + seconds
    while loop.time() < until:
        world.nodes.renew()
        world.controller.wake(urgent=False)
        await asyncio.sleep(0.02)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return published


@in_virtual_time
async def test_views_that_only_move_copies_are_a_while_apart_and_a_death_is_not_kept_waiting():
    world = World(partitions=256)
    for node in ("aux1", "aux2", "aux3"):
        world.nodes.start(node)
    await running(world, 3.0)
    world.nodes.start("aux4")
    moving = await running(world, 6.0)
    gaps = [after - before for before, after in pairwise(moving)]
    assert len(gaps) > 3
    assert (
        sorted(gaps)[2] >= MOVE_PAUSE_S - 0.001
    )  # but for the view that takes it in, and the first fills
    assert "aux4" in world.holders()

    loop = asyncio.get_running_loop()
    died: list[float] = []

    def kill_and_wake(before: View, view: View, raw: bytes) -> None:
        if not died:
            died.append(loop.time())
            world.nodes.kill("aux4")
            world.controller.wake()

    world.nodes.start("aux5")
    world.controller = world.another_controller()
    world.controller._on_published = kill_and_wake
    task = asyncio.create_task(world.controller.run())
    async with asyncio.timeout(20):
        while not died or world.view.nodes["aux4"].up:
            world.nodes.renew()
            await asyncio.sleep(0.005)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert loop.time() - died[0] < MOVE_PAUSE_S / 2


async def at_rest(world: World) -> asyncio.Task[None]:
    """Two nodes, long after they came, and the controller's own loop in virtual time."""
    for node in ("aux1", "aux2"):
        world.nodes.start(node)
    await running(world, 6.0)
    world.controller = world.another_controller()
    task = asyncio.create_task(world.controller.run())
    await renewing(world, 2.0)
    world.coordinator.reads.clear()
    return task


async def renewing(world: World, seconds: float) -> None:
    """The nodes renew twice a second."""
    for _ in range(int(seconds * 2)):
        world.nodes.renew()
        await asyncio.sleep(0.5)


async def ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@in_virtual_time
async def test_at_rest_a_controller_looks_half_as_often_and_reads_registrations_every_other_time():
    world = World()
    task = await at_rest(world)
    await renewing(world, 4.0)
    reads = Counter(world.coordinator.reads)
    assert 4.0 / IDLE_CYCLE_S - 2 <= reads["lease/", "master/"] <= 4.0 / IDLE_CYCLE_S + 1
    assert (
        4.0 / IDLE_CYCLE_S / 2 - 2 <= reads["node/", "admin/", "time"] <= 4.0 / IDLE_CYCLE_S / 2 + 1
    )
    assert set(reads) == {("lease/", "master/"), ("node/", "admin/", "time")}
    await ended(task)


@in_virtual_time
async def test_at_rest_a_node_that_comes_is_noticed_by_its_lease_and_a_request_within_two_cycles():
    world = World()
    task = await at_rest(world)
    world.nodes.start("aux3")
    await asyncio.sleep(IDLE_CYCLE_S + 0.001)
    assert "aux3" in world.published[-1].nodes
    await renewing(world, 10.0)
    world.coordinator.put("admin/drain/aux1", b"{}")
    count = len(world.published)
    await asyncio.sleep(2 * IDLE_CYCLE_S + 0.001)
    assert len(world.published) > count
    await ended(task)


@in_virtual_time
async def test_a_lease_is_revoked_when_it_lapses_and_not_a_cycle_later():
    world = World()
    task = await at_rest(world)
    world.nodes.renew()
    await asyncio.sleep(IDLE_CYCLE_S)  # it has been read by now
    world.nodes.nodes["aux2"].hung = True
    count, hung_at = len(world.published), asyncio.get_running_loop().time() - IDLE_CYCLE_S
    while len(world.published) == count:
        world.nodes.renew()
        await asyncio.sleep(0.001)
    assert not world.view.nodes["aux2"].up
    late_s = asyncio.get_running_loop().time() - hung_at - world.settings.lease_ttl_s
    assert 0.0 <= late_s <= IDLE_CYCLE_S + 0.02
    await ended(task)


@in_virtual_time
async def test_a_lease_is_revoked_in_time_however_long_the_pauses_between_moves_are():
    world = World(partitions=256)
    world.settings = PlanningSettings(replicas=2, max_fills=4, max_fills_per_node=4)
    for node in ("aux1", "aux2", "aux3"):
        world.nodes.start(node)
    await running(world, 6.0)
    world.nodes.start("aux4")
    loop = asyncio.get_running_loop()
    moved: list[float] = []
    world.controller = world.another_controller()
    world.controller._on_published = lambda before, view, raw: moved.append(loop.time())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pacing, "MOVE_PAUSE_S", world.settings.max_move_pause_s)
        task = asyncio.create_task(world.controller.run())
        await renewing(world, 5.0)
        assert moved[-1] - moved[-2] >= world.settings.max_move_pause_s - 0.001
        world.nodes.renew()
        world.nodes.nodes["aux2"].hung = True
        hung_at = loop.time()
        world.coordinator.put("master/m1", b'{"id":"m1","address":"","unreachable":["aux2"]}')
        while world.view.nodes["aux2"].up:
            world.nodes.renew()
            await asyncio.sleep(0.01)
        await ended(task)
    assert loop.time() - hung_at <= world.settings.lease_ttl_s + pacing.PAUSED_CYCLE_S + 0.05


@in_virtual_time
async def test_a_node_out_of_reach_is_looked_at_as_often_as_ever():
    world = World()
    task = await at_rest(world)
    world.nodes.nodes["aux2"].cut = True
    await renewing(world, 1.0)
    world.coordinator.reads.clear()
    await renewing(world, 1.0)
    assert Counter(world.coordinator.reads)["node/", "admin/", "time"] >= 1.0 / CYCLE_S - 1
    await ended(task)

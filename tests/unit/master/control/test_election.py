from __future__ import annotations

import asyncio

import msgspec

from master.control.election import Election
from ringmaster.cluster.registration import (
    CONTROLLER_KEY,
    ControllerRow,
    MasterRow,
    master_lock,
)
from tests.fakes.cluster import FakeClock, FakeLiveness
from tests.fakes.coordinator import MemoryCoordinator
from tests.unit.fake_wire import until


def election(
    name: str, coordinator: MemoryCoordinator, liveness: FakeLiveness, clock: FakeClock
) -> Election:
    liveness.held.add(master_lock(name))
    me = MasterRow(
        id=name,
        address="",
        incarnation=f"{name}-1",
        boot_id=liveness.boot_id,
        lock=liveness.identity(master_lock(name)),
    )
    return Election(coordinator, liveness, clock, me, lambda: None)


async def stop(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_the_first_master_is_elected_and_the_second_is_not():
    coordinator, liveness, clock = MemoryCoordinator(), FakeLiveness(), FakeClock()
    first = election("m1", coordinator, liveness, clock)
    second = election("m2", coordinator, liveness, clock)
    one = asyncio.create_task(first.run())
    await until(lambda: first.is_controller)
    two = asyncio.create_task(second.run())
    await until(lambda: CONTROLLER_KEY in second._watch.unchanged(0.0))
    assert not second.is_controller
    await stop(one)
    await stop(two)


async def test_a_controller_proven_dead_is_succeeded_at_once():
    coordinator, liveness, clock = MemoryCoordinator(), FakeLiveness(), FakeClock()
    first = election("m1", coordinator, liveness, clock)
    one = asyncio.create_task(first.run())
    await until(lambda: first.is_controller)
    await stop(one)
    liveness.held.discard(master_lock("m1"))
    second = election("m2", coordinator, liveness, clock)
    two = asyncio.create_task(second.run())
    await until(lambda: second.is_controller)
    assert master_lock("m1") not in liveness.held
    await stop(two)


async def test_a_controller_that_hangs_is_succeeded_after_a_ttl_and_not_before():
    coordinator, liveness, clock = MemoryCoordinator(), FakeLiveness(), FakeClock()
    coordinator.put("controller", msgspec.json.encode(ControllerRow(id="m1", incarnation="m1-1")))
    second = election("m2", coordinator, liveness, clock)
    task = asyncio.create_task(second.run())
    await until(lambda: CONTROLLER_KEY in second._watch.unchanged(0.0))
    for _ in range(3):
        assert not second.is_controller
        clock.now += 0.6
        await until(lambda: second._watch._last == clock.now)
    clock.now += 0.6
    await until(lambda: second.is_controller)
    await stop(task)


async def test_a_controller_whose_lease_ran_out_by_the_clock_is_none():
    coordinator, liveness, clock = MemoryCoordinator(), FakeLiveness(), FakeClock()
    first = election("m1", coordinator, liveness, clock)
    task = asyncio.create_task(first.run())
    await until(lambda: first.is_controller)
    coordinator.down = True
    clock.now += 1.9
    assert not first.is_controller
    await stop(task)


async def test_a_clean_stop_gives_the_lease_up():
    coordinator, liveness, clock = MemoryCoordinator(), FakeLiveness(), FakeClock()
    first = election("m1", coordinator, liveness, clock)
    task = asyncio.create_task(first.run())
    await until(lambda: first.is_controller)
    await stop(task)
    await first.close()
    assert "controller" not in coordinator.records

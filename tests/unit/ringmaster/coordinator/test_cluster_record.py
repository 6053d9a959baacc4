"""A starting process waits for the coordinator, up to a limit."""

import asyncio

import pytest

from ringmaster.coordinator.cluster_record import STARTUP_WAIT_S, find_cluster
from ringmaster.errors import CoordinatorUnavailable
from tests.fakes.coordinator import MemoryCoordinator
from tests.fakes.virtual_time import LoopClock, in_virtual_time


@in_virtual_time
async def test_the_record_is_created_or_found_once_the_coordinator_answers() -> None:
    coordinator, clock, stop = MemoryCoordinator(), LoopClock(), asyncio.Event()
    coordinator.down = True
    finding = asyncio.create_task(find_cluster(coordinator, 8, clock, stop))
    await asyncio.sleep(10.0)
    assert not finding.done()
    coordinator.down = False
    record = await finding
    assert record is not None
    assert record.partitions == 8
    assert await find_cluster(coordinator, 16, clock, stop) == record


@in_virtual_time
async def test_a_process_told_to_stop_while_it_waits_stops_at_once() -> None:
    coordinator, stop = MemoryCoordinator(), asyncio.Event()
    coordinator.down = True
    finding = asyncio.create_task(find_cluster(coordinator, 8, LoopClock(), stop))
    await asyncio.sleep(10.0)
    stop.set()
    began = asyncio.get_running_loop().time()
    assert await finding is None
    assert asyncio.get_running_loop().time() == began


@in_virtual_time
async def test_waiting_ends_after_the_startup_wait() -> None:
    coordinator, clock = MemoryCoordinator(), LoopClock()
    coordinator.down = True
    began = clock.boottime()
    with pytest.raises(CoordinatorUnavailable):
        await find_cluster(coordinator, 8, clock, asyncio.Event())
    assert STARTUP_WAIT_S <= clock.boottime() - began <= STARTUP_WAIT_S + 1.0

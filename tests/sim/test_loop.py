"""Simulated time: asyncio runs on it unchanged, and each process has clocks of its own."""

import asyncio

import pytest

from tests.sim.hub import Hub, Livelock
from tests.sim.loop import NodeLoop


def test_asyncio_primitives_run_on_virtual_time() -> None:
    hub = Hub(1)
    loop = NodeLoop(hub, "n")
    seen: list[object] = []

    async def main() -> None:
        queue: asyncio.Queue[int] = asyncio.Queue(1)
        event = asyncio.Event()

        async def producer() -> None:
            for number in range(3):
                await asyncio.sleep(1000)
                await queue.put(number)
            event.set()

        async with asyncio.TaskGroup() as group:
            group.create_task(producer())
            seen.extend([await queue.get() for _ in range(3)])
            await event.wait()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(600):
                await asyncio.Event().wait()
        seen.append(asyncio.get_running_loop() is loop)

    task = loop.create_task(main())
    hub.run(10_000)
    assert task.done()
    task.result()
    assert seen == [0, 1, 2, True]


def test_clocks_drift_and_step() -> None:
    hub = Hub(1)
    fast, slow = NodeLoop(hub, "fast", rate=1.05), NodeLoop(hub, "slow", rate=0.95)
    began = (fast.boottime(), slow.boottime(), slow.wall())
    woke: list[float] = []
    fast.call_later(10, lambda: woke.append(hub.now))
    slow.call_later(10, lambda: woke.append(hub.now))
    slow.wall_offset_s = -3600.0
    hub.run(100)
    assert fast.boottime() - began[0] == pytest.approx(105)
    assert slow.boottime() - began[1] == pytest.approx(95)
    assert slow.wall() - began[2] == pytest.approx(95 - 3600)
    assert woke == [pytest.approx(10 / 1.05), pytest.approx(10 / 0.95)]


def test_a_livelock_is_reported() -> None:
    hub = Hub(1)
    loop = NodeLoop(hub, "n")

    def again() -> None:
        loop.call_soon(again)

    loop.call_soon(again)
    with pytest.raises(Livelock):
        hub.run(1)

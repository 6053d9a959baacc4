"""Running scenarios one after the other, each on a cluster of its own."""

from __future__ import annotations

import asyncio

from ringmaster.chaos.load import Load
from ringmaster.chaos.report import Result, evaluate
from ringmaster.chaos.scenarios import Scenario
from ringmaster.chaos.target import LocalTarget


async def run_scenario(
    scenario: Scenario, clients: int = 16, seed: int = 1, options: tuple[str, ...] = ()
) -> Result:
    """Start a cluster, load it, break it, wait until it is whole, count. Raises `RingmasterError`."""
    target = LocalTarget(scenario.nodes, scenario.alone, options)
    try:
        await target.start()
        load = Load(target.url, clients, scenario.keys, seed=seed)
        events: list[tuple[float, str]] = []
        try:
            await load.fill()
            load.start()
            await asyncio.sleep(scenario.settle_s)
            await scenario.act(target, lambda text: events.append((load.now(), text)))
            await asyncio.sleep(scenario.settle_s)
        finally:
            samples = await load.finish()
        longest = max(client.longest_gap_s for client in load.clients)
        return evaluate(scenario, samples, longest, events)
    finally:
        await target.close()

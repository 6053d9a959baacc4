"""Running a scenario against a target."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from ringmaster.chaos.load import Load
from ringmaster.chaos.local import LocalTarget
from ringmaster.chaos.report import Result, evaluate
from ringmaster.chaos.scenarios import Scenario
from ringmaster.chaos.target import Target

BALLAST_BYTES = 1000


def local_target(scenario: Scenario, options: tuple[str, ...] = ()) -> LocalTarget:
    """A cluster of its own for `scenario`."""
    return LocalTarget(scenario.nodes, scenario.alone, options, scenario.node_options)


async def run_scenario(
    scenario: Scenario,
    clients: int = 16,
    seed: int = 1,
    target: Target | None = None,
    headers: Mapping[str, str] | None = None,
) -> Result:
    """Start `target` (a local cluster of its own if None), load it, break it, wait until it is whole, count.

    `headers` go with each request of the load. Raises `RingmasterError`.
    """
    target = target or local_target(scenario)
    try:
        await target.start()
        load = Load(
            target.url,
            clients,
            scenario.keys,
            seed=seed,
            per_second=scenario.per_second,
            headers=headers,
        )
        events: list[tuple[float, str]] = []
        try:
            await load.ballast(scenario.ballast, BALLAST_BYTES)
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

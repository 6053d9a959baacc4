"""Faults on real processes under load. `ringmaster chaos` has all of them, with the bounds on waiting.

Waiting depends on what else the machine does, so here it is bounded only by the clients' deadline.
"""

import pytest

from ringmaster.chaos.run import run_scenario
from ringmaster.chaos.scenarios import SCENARIOS

DEADLINE_S = 6.0
BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}

pytestmark = pytest.mark.e2e


@pytest.mark.parametrize(
    "name", ["kill", "stop", "drain", "controller", "master-hang", "coordinator"]
)
async def test_nothing_acknowledged_is_lost_and_nothing_read_is_stale(name: str) -> None:
    result = await run_scenario(BY_NAME[name], clients=8)
    assert (result.lost, result.stale) == (0, 0), result.examples
    if BY_NAME[name].errors_allowed == "none":
        assert (result.errors, result.unknown) == (0, 0), result.examples
    if BY_NAME[name].errors_allowed == "writes":
        assert result.errors == 0, result.examples
    assert result.longest_gap_s < max(DEADLINE_S, BY_NAME[name].longest_gap_s)
    assert result.requests > 100

"""`ringmaster chaos --compose` on real containers. Bounds on waiting are looked at by hand: the machine is shared here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ringmaster.chaos.compose import ComposeTarget
from ringmaster.chaos.run import run_scenario
from ringmaster.chaos.scenarios import SCENARIOS
from tests.compose.project import FILES, ROOT, Project

DEADLINE_S = 6.0
BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}


@pytest.mark.parametrize("name", ["kill", "stop", "drain", "join"])
async def test_nothing_acknowledged_is_lost_and_nothing_read_is_stale(
    project: Project,
    settled: Callable[[int], dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    settled(3)
    # What compose is told must not change while it runs.
    monkeypatch.setenv("RINGMASTER_PORT", str(project.port))
    monkeypatch.setenv("RINGMASTER_PROMETHEUS_PORT", str(project.prometheus_port))
    monkeypatch.setenv("RINGMASTER_GRAFANA_PORT", str(project.grafana_port))
    target = ComposeTarget(BY_NAME[name].nodes, [str(ROOT / file) for file in FILES], project.name)
    result = await run_scenario(BY_NAME[name], clients=4, target=target)
    assert (result.lost, result.stale) == (0, 0), result.examples
    if BY_NAME[name].errors_allowed == "none":
        assert (result.errors, result.unknown) == (0, 0), result.examples
    else:
        assert result.errors == 0, result.examples
    assert result.longest_gap_s < DEADLINE_S
    assert result.requests > 100
    assert len(project.containers("aux")) == 3

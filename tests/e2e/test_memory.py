"""What a node's process takes before it holds anything, and the least budget, by which settings are refused."""

from __future__ import annotations

import pytest

from ringmaster.config.types import MIN_MEMORY_BYTES, PROCESS_BYTES
from tests.e2e.conftest import NewCluster
from tests.e2e.waiting import wait_until


@pytest.mark.e2e
def test_the_least_budget_holds_entries_beside_a_process_as_large_as_is_said(
    new_cluster: NewCluster,
) -> None:
    budget = ("--max-memory", str(MIN_MEMORY_BYTES), "--replicas", "1")
    cluster = new_cluster(*budget, masters=1, aux=1)

    def figures() -> dict[str, int]:
        found: dict[str, int] = cluster.status()["nodes"][0]
        return found

    wait_until(lambda: figures()["process_bytes"] > 0, "memory is measured")
    at_rest = figures()
    assert 0.85 * PROCESS_BYTES < at_rest["process_bytes"] < 1.1 * PROCESS_BYTES
    assert at_rest["usable_bytes"] > 16 * 2**20
    with cluster.client() as client:
        for number in range(400):
            client.put(f"memory/{number}", b"x" * 100_000)
    wait_until(lambda: figures()["evictions"] > 0, "what was written is more than fits")
    written = figures()
    assert written["entries"] > 40
    assert written["process_bytes"] < 1.05 * MIN_MEMORY_BYTES

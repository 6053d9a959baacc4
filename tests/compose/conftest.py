"""One cluster for all tests of a module; each leaves it healthy, with three masters and three nodes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.compose.project import DOCKERFILES, FILES, Project, obstacle, wait_for
from tests.compose.traffic import Client


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.compose)
            item.add_marker(pytest.mark.timeout(1200))


@pytest.fixture(scope="module")
def project() -> Iterator[Project]:
    """`docker-compose up --build -d` of the repository's file."""
    if reason := obstacle(DOCKERFILES):
        pytest.skip(reason)
    with Project("test", FILES) as project:
        yield project


@pytest.fixture
def client(project: Project) -> Iterator[Client]:
    with closing(Client(project.port)) as client:
        yield client


@pytest.fixture
def settled(client: Client) -> Callable[[int], dict[str, Any]]:
    """`settled(n)` waits until n nodes serve, every partition has its copies, and nothing moves."""

    def settle(nodes: int) -> dict[str, Any]:
        def look() -> dict[str, Any] | None:
            cluster: dict[str, Any] = client.json("/cluster")
            up = [node for node in cluster["nodes"] if node["state"] == "up"]
            # One that is merely unreachable may still be primary in the view.
            decided = {node["state"] for node in cluster["nodes"]} <= {"up", "down"}
            calm = (
                decided and not cluster["under_replicated"] and not cluster["rebalance"]["active"]
            )
            shared = all(node["primaries"] for node in up)
            return cluster if len(up) == nodes and calm and shared else None

        return wait_for(f"{nodes} nodes that share all partitions", look, timeout_s=90)

    return settle


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    outcome: Any = yield
    report = outcome.get_result()
    project = getattr(item, "funcargs", {}).get("project")
    if report.when == "call" and report.failed and isinstance(project, Project):
        report.sections.append(("containers' logs", project.logs()))

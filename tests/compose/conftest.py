"""One cluster for all compose tests; each leaves it healthy, with three masters and three nodes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.compose.project import Project, missing_tool, wait_for
from tests.compose.traffic import Client


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.compose)
            item.add_marker(pytest.mark.timeout(600))


@pytest.fixture(scope="session")
def project() -> Iterator[Project]:
    """`docker-compose up --build -d` of the repository's file; `up_output` is what it wrote."""
    if reason := missing_tool():
        pytest.skip(reason)
    project = Project()
    try:
        project.up_output = project.compose("up", "--build", "-d")
        yield project
    finally:
        project.compose("down", "--volumes", "--rmi", "local", "--timeout", "5")


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
            calm = not cluster["under_replicated"] and not cluster["rebalance"]["active"]
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

"""The overlay with etcd: the same cluster, with a coordinator of which one member may fail."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.compose.project import ETCD_DOCKERFILES, ETCD_FILES, Project, obstacle
from tests.compose.traffic import Client, Readers

Settled = Callable[[int], dict[str, Any]]


@pytest.fixture(scope="module")
def project() -> Iterator[Project]:
    if reason := obstacle(ETCD_DOCKERFILES):
        pytest.skip(reason)
    with Project("etcd-test", ETCD_FILES) as project:
        yield project


def test_each_member_of_etcd_is_confined(project: Project, settled: Settled) -> None:
    settled(3)
    for name in ("etcd1", "etcd2", "etcd3"):
        (member,) = project.containers(name)
        assert member["Config"]["User"] == "10001:10001"
        assert member["HostConfig"]["ReadonlyRootfs"]
        assert member["HostConfig"]["CapDrop"] == ["ALL"]
        assert not any(member["NetworkSettings"]["Ports"].values())


@pytest.mark.parametrize("member", ["etcd1", "etcd2", "etcd3"])
def test_any_member_of_etcd_and_then_a_node_may_be_killed(
    project: Project, client: Client, settled: Settled, member: str
) -> None:
    values = {f"{member}:{number}": number for number in range(1000)}
    settled(3)
    client.put_many(values)
    with Readers(project.port, values):
        project.docker("kill", project.containers(member)[0]["Id"])
        project.docker("kill", project.containers("aux")[0]["Id"])
        settled(2)
        client.put_many({"written meanwhile": member})
        project.compose("up", "-d")
        settled(3)
    assert not client.differing(values | {"written meanwhile": member})

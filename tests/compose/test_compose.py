"""`docker-compose up --build` for real: starts, serves, scales, breaks and stops."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from contextlib import closing
from typing import Any
from urllib.parse import quote

from tests.compose.project import Project, wait_for
from tests.compose.traffic import Client, Readers

Settled = Callable[[int], dict[str, Any]]

SERVICES = {"nginx": 1, "master": 3, "aux": 3, "prometheus": 1, "grafana": 1}


def some_values(tag: str, count: int = 3000) -> dict[str, Any]:
    return {
        f"{tag}:{number}": {"n": number, "text": "ä" * (number % 50)} for number in range(count)
    }


def test_it_starts_as_it_is_without_a_warning(project: Project, settled: Settled) -> None:
    assert not re.search("warn|deprecat|error", project.up_output, re.IGNORECASE), project.up_output
    assert {name: len(project.containers(name)) for name in SERVICES} == SERVICES
    cluster = settled(3)
    assert len(cluster["masters"]) == 3
    assert cluster["health"] == "ok"


def test_masters_and_nodes_become_healthy(project: Project) -> None:
    def all_healthy() -> bool:
        checked = [one for name in ("nginx", "master", "aux") for one in project.containers(name)]
        return {one["State"]["Health"]["Status"] for one in checked} == {"healthy"}

    wait_for("healthy containers", all_healthy)


def test_the_services_run_compiled_and_their_images_hold_no_compiler(project: Project) -> None:
    for name in ("master", "aux"):
        inside = ("exec", project.containers(name)[0]["Id"])
        assert "(compiled)" in project.docker(*inside, "ringmaster", "--version")
        script = (
            "command -v gcc cc; find / -xdev -name Python.h -o -xdev -name mypyc -o -xdev -name cc1"
        )
        assert project.docker(*inside, "sh", "-c", f"{script}; true") == ""


def test_only_the_three_doors_are_published_and_only_on_loopback(project: Project) -> None:
    published = {
        (name, port["HostIp"], int(port["HostPort"]))
        for name in SERVICES
        for one in project.containers(name)
        for ports in one["NetworkSettings"]["Ports"].values()
        for port in ports or []
    }
    assert published == {
        ("nginx", "127.0.0.1", project.port),
        ("prometheus", "127.0.0.1", project.prometheus_port),
        ("grafana", "127.0.0.1", project.grafana_port),
    }


def test_every_container_is_confined(project: Project) -> None:
    for name in SERVICES:
        for one in project.containers(name):
            host = one["HostConfig"]
            assert not one["Config"]["User"].startswith(("0", "root")), name
            assert one["Config"]["User"], name
            assert host["ReadonlyRootfs"], name
            assert host["CapDrop"] == ["ALL"], name
            assert host["SecurityOpt"] == ["no-new-privileges:true"], name
            assert host["Memory"], name
            assert host["PidsLimit"], name
            assert host["RestartPolicy"]["Name"] == "unless-stopped", name


def test_what_is_written_through_the_front_door_is_read_there(client: Client) -> None:
    for key in ("plain", "a//b/", "100%", "a+b c", "é😀", "x" * 512):
        value = {"of": key}
        status, body = client.request(
            "POST", "/data", json.dumps({"key": key, "value": value}).encode()
        )
        assert status in (200, 201), body
        status, body = client.request("GET", f"/data?key={quote(key, safe='')}")
        assert (status, json.loads(body)["value"]) == (200, value)


def prometheus(project: Project, path: str) -> Any:
    with closing(Client(project.prometheus_port)) as client:
        return client.json(f"/api/v1/{path}")["data"]


def prometheus_targets(project: Project) -> dict[str, int]:
    """How many targets of each job give metrics just now."""
    found: dict[str, int] = {}
    for target in prometheus(project, "targets")["activeTargets"]:
        if target["health"] == "up":
            job = target["labels"]["job"]
            found[job] = found.get(job, 0) + 1
    return found


def test_prometheus_finds_every_master_and_node(project: Project) -> None:
    expected = {"master": 3, "aux": 3, "prometheus": 1}
    wait_for("all targets", lambda: prometheus_targets(project) == expected)
    rules = prometheus(project, "rules")["groups"]
    assert {rule["health"] for group in rules for rule in group["rules"]} <= {"ok", "unknown"}


def test_nodes_are_added_and_removed_without_a_miss(
    project: Project, client: Client, settled: Settled
) -> None:
    values = some_values("scale")
    settled(3)
    client.put_many(values)
    with Readers(project.port, values):
        project.compose("up", "-d", "--scale", "aux=5")
        settled(5)
        assert not client.differing(values)
        wait_for("5 scraped nodes", lambda: prometheus_targets(project).get("aux") == 5)
        project.compose("up", "-d", "--scale", "aux=3")
        settled(3)
    assert not client.differing(values)


def test_masters_are_added_and_removed_without_an_error(
    project: Project, client: Client, settled: Settled
) -> None:
    values = some_values("masters", 300)
    client.put_many(values)
    with Readers(project.port, values):
        project.compose("up", "-d", "--scale", "master=5")
        wait_for("5 masters", lambda: len(client.json("/cluster")["masters"]) == 5)
        project.compose("up", "-d", "--scale", "master=2")
        wait_for("2 masters", lambda: len(client.json("/cluster")["masters"]) == 2)
        project.compose("up", "-d")
        wait_for("3 masters", lambda: len(client.json("/cluster")["masters"]) == 3)
    settled(3)


def test_a_killed_node_loses_nothing_and_comes_back(
    project: Project, client: Client, settled: Settled
) -> None:
    values = some_values("killed")
    settled(3)
    client.put_many(values)
    with Readers(project.port, values):
        project.docker("kill", project.containers("aux")[0]["Id"])
        settled(2)
        client.put_many({"written without it": 1})
        # What was killed by hand stays down until it is asked for (Docker's rule for every restart policy).
        project.compose("up", "-d")
        settled(3)
    assert not client.differing(values)


def test_a_frozen_node_is_replaced_and_says_nothing_old_when_it_wakes(
    project: Project, client: Client, settled: Settled
) -> None:
    settled(3)
    old = some_values("frozen", 1000)
    client.put_many(old)
    container = project.containers("aux")[2]["Id"]
    project.docker("pause", container)
    try:
        settled(2)
        new = {key: {"after": value} for key, value in old.items()}
        client.put_many(new)
    finally:
        project.docker("unpause", container)
    with Readers(project.port, new):
        settled(3)
    assert not client.differing(new)


def test_a_crashed_node_is_restarted(project: Project, client: Client, settled: Settled) -> None:
    values = some_values("crashed")
    settled(3)
    client.put_many(values)
    container = project.containers("aux")[1]
    with Readers(project.port, values):
        # Everything but init, at once; init then ends as well.
        project.kill_processes(container["Id"])

        def restarted() -> bool:
            now = json.loads(project.docker("inspect", container["Id"]))[0]
            return bool(now["RestartCount"] and now["State"]["Running"])

        wait_for("a restarted container", restarted)
        settled(3)
    assert not client.differing(values)


def test_stopped_and_started_again_it_has_everything(
    project: Project, client: Client, settled: Settled
) -> None:
    values = some_values("stopped")
    settled(3)
    client.put_many(values)
    project.compose("stop")
    codes = {
        (name, one["State"]["ExitCode"], one["State"]["OOMKilled"])
        for name in ("nginx", "master", "aux", "prometheus")
        for one in project.containers(name, running=False)
    }
    assert {code[1:] for code in codes} == {(0, False)}, codes
    project.compose("start")
    settled(3)
    assert not client.differing(values)
    client.put_many({"after": 2})
    assert not client.differing({"after": 2})

"""Verdicts from facts: what is fine, what is worth a word, what cannot be."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ringmaster.cli.doctor.checks import (
    ClusterFact,
    CoordinatorFact,
    DiskFact,
    Facts,
    Finding,
    MemoryFact,
    NginxFact,
    PortFact,
    SharedMemoryFact,
    Versions,
    check_cluster,
    check_coordinator,
    check_disk,
    check_files,
    check_memory,
    check_nginx,
    check_ports,
    check_shared_memory,
    check_versions,
    findings,
    worst,
)
from ringmaster.cli.doctor.command import report

GIB = 2**30
MEMORY = MemoryFact(8 * GIB, 6 * GIB, 3, GIB, 2, 2**26)
DISK = DiskFact("data", "", 10 * GIB, 3 * GIB)
FREE = PortFact(8080, "the front door", "--port")
FINE = Facts(
    versions=Versions("0.1.0 (compiled)", is_compiled=True, python=(3, 11, 7)),
    nginx=NginxFact("/usr/sbin/nginx", "1.28.0", "auto"),
    ports=[FREE],
    running=False,
    files=(1024, 1_000_000),
    wanted_files=16_384,
    memory=MEMORY,
    disk=DISK,
    shared_memory=SharedMemoryFact("/dev/shm", GIB, 2**24),
    coordinator=CoordinatorFact("sqlite in data/coordinator"),
)


def verdicts(found: Any) -> list[str]:
    return [each.verdict for each in found]


def test_a_machine_that_suits_has_nothing_to_change() -> None:
    found = findings(FINE)
    assert worst(found) == "ok"
    assert [each.name for each in found] == [
        *("ringmaster", "python", "nginx", "ports", "open files", "memory", "disk", "/dev/shm"),
        "coordinator",
    ]
    assert not any(each.advice for each in found)


@pytest.mark.parametrize(
    ("change", "verdict", "name"),
    [
        ({"files": (1024, 4096)}, "warn", "open files"),
        ({"coordinator": CoordinatorFact("sqlite", "locked")}, "bad", "coordinator"),
        ({"ports": [FREE, replace(FREE, port=7001, problem="in use")]}, "bad", "ports"),
        ({"disk": replace(DISK, problem="it is a file")}, "bad", "disk"),
    ],
)
def test_the_whole_is_as_bad_as_its_worst_part(change: Any, verdict: str, name: str) -> None:
    found = findings(replace(FINE, **change))
    assert worst(found) == verdict
    (culprit,) = [each for each in found if each.verdict != "ok"]
    assert (culprit.name, bool(culprit.advice)) == (name, True)


def test_versions() -> None:
    old = Versions("0.1.0 (interpreted)", is_compiled=False, python=(3, 10, 1))
    assert verdicts(check_versions(old)) == ["warn", "bad"]
    alone = Versions("x", is_compiled=True, python=(3, 12, 0), missing_services=["master"])
    assert verdicts(check_versions(alone)) == ["ok", "ok", "bad"]


@pytest.mark.parametrize(
    ("path", "wanted", "verdict"),
    [
        ("/usr/sbin/nginx", "auto", "ok"),
        (None, "auto", "warn"),
        (None, "on", "bad"),
        (None, "off", "ok"),
    ],
)
def test_nginx_is_needed_only_where_it_is_wanted(
    path: str | None, wanted: str, verdict: str
) -> None:
    assert check_nginx(NginxFact(path, "1.28.0", wanted)).verdict == verdict


def test_ports_that_our_own_cluster_uses_are_no_fault() -> None:
    taken = replace(FREE, problem="in use by another process")
    assert verdicts(check_ports([taken], running=True)) == ["ok"]
    (finding,) = check_ports([taken], running=False)
    assert finding == Finding(
        "ports",
        "bad",
        "8080 for the front door: in use by another process",
        "choose another with --port",
    )


@pytest.mark.parametrize(
    ("soft", "hard", "verdict"),
    [(256, 20_000, "ok"), (-1, -1, "ok"), (1024, 4096, "warn"), (256, 512, "bad")],
)
def test_only_the_hard_limit_on_files_counts(soft: int, hard: int, verdict: str) -> None:
    assert check_files(soft, hard, 16_384).verdict == verdict


@pytest.mark.parametrize(
    ("total", "available", "running", "verdict"),
    [
        (8 * GIB, 6 * GIB, False, "ok"),
        (8 * GIB, 2 * GIB, False, "warn"),
        (8 * GIB, 2 * GIB, True, "ok"),
        (3 * GIB, 3 * GIB, False, "bad"),
        (3 * GIB, 3 * GIB, True, "bad"),
    ],
)
def test_memory_counts_what_a_running_cluster_has_already(
    total: int, available: int, running: bool, verdict: str
) -> None:
    fact = replace(MEMORY, total=total, available=available)
    assert check_memory(fact, running=running).verdict == verdict


@pytest.mark.parametrize(
    ("free", "verdict"), [(4 * GIB, "ok"), (2 * GIB, "warn"), (2**20, "bad"), (0, "bad")]
)
def test_the_disk_has_room_for_snapshots(free: int, verdict: str) -> None:
    assert check_disk(replace(DISK, free=free)).verdict == verdict


@pytest.mark.parametrize(("free", "verdict"), [(GIB, "ok"), (2**20, "warn"), (None, "warn")])
def test_shared_memory_is_better_and_not_needed(free: int | None, verdict: str) -> None:
    assert check_shared_memory(SharedMemoryFact("/dev/shm", free, 2**24)).verdict == verdict


@pytest.mark.parametrize(
    ("fact", "verdict", "figure"),
    [
        (CoordinatorFact("sqlite"), "ok", "sqlite: made at the first start"),
        (
            CoordinatorFact("etcd://h", "", 1.25, "3.5.21"),
            "ok",
            "etcd://h 3.5.21: answered in 1.2 ms",
        ),
        (CoordinatorFact("etcd://h", "refused"), "bad", "etcd://h: refused"),
    ],
)
def test_the_coordinator(fact: CoordinatorFact, verdict: str, figure: str) -> None:
    found = check_coordinator(fact)
    assert (found.verdict, found.figure) == (verdict, figure)


def node(name: str, ahead: int, state: str = "up") -> dict[str, Any]:
    return {"id": name, "wall_ahead_ms": ahead, "state": state}


@pytest.mark.parametrize(
    ("health", "verdict"),
    [("ok", "ok"), ("recovering", "ok"), ("degraded", "warn"), ("down", "bad")],
)
def test_a_cluster_is_judged_by_its_health(health: str, verdict: str) -> None:
    status = {"health": health, "nodes": [node("aux1", 3)], "reasons": ["aux2 is down"]}
    first, clocks = check_cluster(ClusterFact("http://c", status))
    assert (first.verdict, clocks.verdict) == (verdict, "ok")
    assert ("aux2 is down" in first.advice) == (verdict != "ok")


def test_clocks_that_are_off_are_named_by_node() -> None:
    nodes = [node("aux1", 3), node("aux2", -2500), node("aux3", 9000, state="down")]
    _, clocks = check_cluster(ClusterFact("http://c", {"health": "ok", "nodes": nodes}))
    assert clocks.verdict == "warn"
    assert clocks.figure == "aux1 +3 ms, aux2 -2500 ms"
    assert "where aux2 runs" in clocks.advice


def test_a_cluster_that_does_not_answer_is_bad() -> None:
    assert verdicts(check_cluster(ClusterFact("http://c", None, "refused"))) == ["bad"]


def test_the_report_says_below_each_finding_what_to_change() -> None:
    lines = [line.plain for line in report([Finding("disk", "bad", "full", "make room")])]
    assert lines == ["bad   disk  full", "            -> make room"]

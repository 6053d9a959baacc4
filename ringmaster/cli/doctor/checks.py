"""From facts about a machine, and the settings of a cluster, to verdicts. Pure: `gather.py` finds the facts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from ringmaster.cli.tables import readable_bytes

Verdict = Literal["ok", "warn", "bad"]

LEAST_PYTHON: Final = (3, 11)
LEAST_FILES: Final = 1024
LEAST_DISK_BYTES: Final = 256 * 2**20
WALL_CLOCK_OFF_MS: Final = 1000
"""As of the health of a cluster, which names wall clocks that are off by more."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What was looked at, how it is, the figure, and what to change (empty: nothing)."""

    name: str
    verdict: Verdict
    figure: str
    advice: str = ""


@dataclass(frozen=True, slots=True)
class PortFact:
    """`problem`: why one cannot listen on it; empty if one can. `flag` moves it."""

    port: int
    whose: str
    flag: str
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Versions:
    """`services`: the names of those that are missing here."""

    ringmaster: str
    is_compiled: bool
    python: tuple[int, int, int]
    missing_services: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class NginxFact:
    """`path` None: not installed. `wanted`: as `--nginx`, `on` also with a certificate. `version` empty: it did not say."""

    path: str | None
    version: str
    wanted: str


@dataclass(frozen=True, slots=True)
class MemoryFact:
    """Bytes: what the machine or the container has, and has left; what nodes and masters may take."""

    total: int
    available: int
    nodes: int
    max_memory: int
    masters: int
    master_bytes: int


@dataclass(frozen=True, slots=True)
class DiskFact:
    """`problem`: why the folder cannot be written; empty if it can. `snapshots`: bytes that they may take."""

    folder: str
    problem: str
    free: int
    snapshots: int


@dataclass(frozen=True, slots=True)
class SharedMemoryFact:
    """`free` None: there is none that can be written."""

    folder: str
    free: int | None
    needed: int


@dataclass(frozen=True, slots=True)
class CoordinatorFact:
    """`problem`: why it does not answer; empty if it does, in `took_ms`, None if there is nothing to ask yet."""

    engine: str
    problem: str = ""
    took_ms: float | None = None
    version: str = ""


@dataclass(frozen=True, slots=True)
class ClusterFact:
    """`status`: of `GET /cluster`, None if it does not answer, for `problem`."""

    url: str
    status: Mapping[str, Any] | None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Facts:
    """`running`: a `ringmaster up` has this data dir. `shared_memory` None: leases are not kept there. `cluster` None: none was named."""

    versions: Versions
    nginx: NginxFact
    ports: Sequence[PortFact]
    running: bool
    files: tuple[int, int]
    wanted_files: int
    memory: MemoryFact
    disk: DiskFact
    shared_memory: SharedMemoryFact | None
    coordinator: CoordinatorFact
    cluster: ClusterFact | None = None


def findings(facts: Facts) -> list[Finding]:
    """All of them, in the order in which one would ask."""
    found = [
        *check_versions(facts.versions),
        check_nginx(facts.nginx),
        *check_ports(facts.ports, running=facts.running),
        check_files(*facts.files, facts.wanted_files),
        check_memory(facts.memory, running=facts.running),
        check_disk(facts.disk),
    ]
    if facts.shared_memory is not None:
        found.append(check_shared_memory(facts.shared_memory))
    found.append(check_coordinator(facts.coordinator))
    if facts.cluster is not None:
        found += check_cluster(facts.cluster)
    return found


def worst(found: Sequence[Finding]) -> Verdict:
    """The verdict on the whole."""
    verdicts = {each.verdict for each in found}
    return "bad" if "bad" in verdicts else "warn" if "warn" in verdicts else "ok"


def check_versions(versions: Versions) -> Iterator[Finding]:
    """Ringmaster, Python, and whether the services are here."""
    yield Finding(
        "ringmaster",
        "ok" if versions.is_compiled else "warn",
        versions.ringmaster,
        "" if versions.is_compiled else "`make compiled` lets a core serve more",
    )
    text = ".".join(map(str, versions.python))
    fits = versions.python >= LEAST_PYTHON
    needed = ".".join(map(str, LEAST_PYTHON))
    yield Finding("python", "ok" if fits else "bad", text, "" if fits else f"use {needed} or newer")
    if versions.missing_services:
        yield Finding(
            "services",
            "bad",
            f"not installed: {', '.join(versions.missing_services)}",
            "run it in a checkout, or install the wheel of `make wheel`",
        )


def check_nginx(nginx: NginxFact) -> Finding:
    """The front door."""
    if nginx.wanted == "off":
        return Finding("nginx", "ok", "not wanted: the masters share the port")
    if nginx.path is None:
        return Finding(
            "nginx",
            "bad" if nginx.wanted == "on" else "warn",
            "not installed",
            "install nginx"
            + ("" if nginx.wanted == "on" else "; without it the masters share the port"),
        )
    return Finding("nginx", "ok", f"{nginx.version or 'of an unknown version'}, {nginx.path}")


def check_ports(ports: Sequence[PortFact], *, running: bool) -> Iterator[Finding]:
    """Those that are taken, one by one, and the others together."""
    free = [fact for fact in ports if not fact.problem]
    if free:
        numbers = ", ".join(str(fact.port) for fact in free)
        yield Finding("ports", "ok", f"{len(free)} of {len(ports)} are free: {numbers}")
    taken = [fact for fact in ports if fact.problem]
    if taken and running:
        numbers = ", ".join(str(fact.port) for fact in taken)
        yield Finding("ports", "ok", f"in use, and a `ringmaster up` runs here: {numbers}")
        return
    for fact in taken:
        yield Finding(
            "ports",
            "bad",
            f"{fact.port} for {fact.whose}: {fact.problem}",
            f"choose another with {fact.flag}",
        )


def check_files(soft: int, hard: int, wanted: int) -> Finding:
    """The limits on open files (`nofile`); -1: none. Services raise the soft one to the hard one by themselves."""
    if hard < 0 or hard >= wanted:
        return Finding("open files", "ok", f"limit {'none' if hard < 0 else hard}, {wanted} wanted")
    return Finding(
        "open files",
        "bad" if hard < LEAST_FILES else "warn",
        f"limit {hard} (soft {soft}), {wanted} wanted: fewer connections are taken",
        f"raise the hard limit: `ulimit -Hn {wanted}`, or LimitNOFILE={wanted} of a systemd unit",
    )


def check_memory(memory: MemoryFact, *, running: bool) -> Finding:
    """What a cluster may take, against what there is."""
    wanted = memory.nodes * memory.max_memory + memory.masters * memory.master_bytes
    figure = (
        f"{memory.nodes} nodes of {readable_bytes(memory.max_memory)} and {memory.masters} masters may take "
        f"{readable_bytes(wanted)}; {readable_bytes(memory.available)} of {readable_bytes(memory.total)} are free"
    )
    advice = "lower --max-memory, or --aux"
    if wanted > memory.total:
        return Finding("memory", "bad", figure, advice)
    if wanted > memory.available and not running:
        return Finding("memory", "warn", figure, f"{advice}, or end something else")
    return Finding("memory", "ok", figure)


def check_disk(disk: DiskFact) -> Finding:
    """Room for snapshots, and whether they can be written."""
    if disk.problem:
        return Finding(
            "disk", "bad", f"{disk.folder}: {disk.problem}", "choose another with --data-dir"
        )
    figure = (
        f"{readable_bytes(disk.free)} free in {disk.folder}; "
        f"snapshots may take {readable_bytes(disk.snapshots)}"
    )
    if disk.free >= disk.snapshots:
        return Finding("disk", "ok", figure)
    verdict: Verdict = "bad" if disk.free < LEAST_DISK_BYTES else "warn"
    return Finding("disk", verdict, figure, "make room, or choose another disk with --snapshot-dir")


def check_shared_memory(shared: SharedMemoryFact) -> Finding:
    """The leases' place."""
    advice = (
        "leases are on the disk then, where a stall of two seconds interrupts service; "
        "mount a tmpfs there (in a container: --shm-size)"
    )
    if shared.free is None:
        return Finding(shared.folder, "warn", "not a tmpfs that can be written", advice)
    figure = f"{readable_bytes(shared.free)} free, {readable_bytes(shared.needed)} needed"
    if shared.free < shared.needed:
        return Finding(shared.folder, "warn", figure, advice)
    return Finding(shared.folder, "ok", figure)


def check_coordinator(coordinator: CoordinatorFact) -> Finding:
    """Whether it answers."""
    engine = f"{coordinator.engine} {coordinator.version}".rstrip()
    if coordinator.problem:
        return Finding(
            "coordinator",
            "bad",
            f"{engine}: {coordinator.problem}",
            "see to it, or name another with --coordinator",
        )
    if coordinator.took_ms is None:
        return Finding("coordinator", "ok", f"{engine}: made at the first start")
    return Finding("coordinator", "ok", f"{engine}: answered in {coordinator.took_ms:.1f} ms")


def check_cluster(cluster: ClusterFact) -> Iterator[Finding]:
    """The health of a cluster that runs, and the wall clocks of its nodes."""
    if cluster.status is None:
        yield Finding("cluster", "bad", cluster.problem, "is it running? --url says where it is")
        return
    health = str(cluster.status.get("health"))
    reasons = [str(each) for each in cluster.status.get("reasons") or ()]
    verdict: Verdict = "ok"
    if health not in ("ok", "recovering"):
        verdict = "bad" if health == "down" else "warn"
    nodes = cluster.status.get("nodes") or ()
    yield Finding(
        "cluster",
        verdict,
        f"{cluster.url} is {health}, {len(nodes)} nodes",
        "" if verdict == "ok" else "; ".join(reasons),
    )
    answering = [node for node in nodes if node.get("state") in ("up", "draining", "drained")]
    if answering:
        yield check_clocks(
            {str(node["id"]): int(node.get("wall_ahead_ms", 0)) for node in answering}
        )


def check_clocks(walls: Mapping[str, int]) -> Finding:
    """By how many milliseconds each node's wall clock is ahead of cluster time."""
    figure = ", ".join(f"{name} {ahead:+d} ms" for name, ahead in sorted(walls.items()))
    off = [name for name, ahead in sorted(walls.items()) if abs(ahead) > WALL_CLOCK_OFF_MS]
    if not off:
        return Finding("clocks", "ok", figure)
    return Finding(
        "clocks",
        "warn",
        figure,
        f"set the clocks right (chrony, ntpd) where {', '.join(off)} run{'s' if len(off) == 1 else ''}; "
        "expiry does not depend on them, logs do",
    )

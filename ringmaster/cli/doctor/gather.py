"""Finds the facts for `checks.py`. Makes nothing, changes nothing, and what cannot be found out is a fact too."""

from __future__ import annotations

import errno
import os
import re
import resource
import subprocess
import sys
import time
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from ringmaster.access.sender import token_from_environment
from ringmaster.cli.control_socket import ask_up
from ringmaster.cli.doctor.checks import (
    ClusterFact,
    CoordinatorFact,
    DiskFact,
    Facts,
    MemoryFact,
    NginxFact,
    PortFact,
    SharedMemoryFact,
    Versions,
)
from ringmaster.cli.local_cluster import LocalCluster, bind_problem
from ringmaster.cli.memory_folder import LEAST_FREE_BYTES, SHARED_MEMORY, free_shared_memory
from ringmaster.cli.nginx import find_nginx
from ringmaster.client.aio import AsyncClient
from ringmaster.config.settings import UpSettings
from ringmaster.config.types import PROCESS_BYTES
from ringmaster.coordinator import Coordinator
from ringmaster.coordinator.cluster_record import CLUSTER_KEY
from ringmaster.coordinator.engines import configured_coordinator
from ringmaster.coordinator.etcd import EtcdCoordinator
from ringmaster.errors import RingmasterError
from ringmaster.net.admission import SPARE_FILES
from ringmaster.runtime.compiled import full_version, is_compiled
from ringmaster.runtime.machine_memory import machine_memory

ASK_S: Final = 3.0
NGINX_FILES: Final = 16_384
"""`worker_rlimit_nofile` of its configuration."""


async def gather(settings: UpSettings, url: str | None) -> Facts:
    """Everything about this machine, as a cluster with `settings` would find it, and about a cluster at `url`. Raises `SettingsError`."""
    nginx = _nginx(settings)
    cluster = LocalCluster(settings, settings.data_dir, nginx.path)
    return Facts(
        versions=_versions(),
        nginx=nginx,
        ports=_ports(cluster),
        running=_runs(settings.data_dir),
        files=_files(),
        wanted_files=_wanted_files(settings, nginx),
        memory=_memory(settings),
        disk=_disk(settings),
        shared_memory=_shared_memory(settings),
        coordinator=await _coordinator(settings),
        cluster=None if url is None else await _cluster(url, settings.token or None),
    )


def _versions() -> Versions:
    missing = [name for name in ("master", "aux") if find_spec(name) is None]
    major, minor, micro = sys.version_info[:3]
    return Versions(full_version(), is_compiled(), (major, minor, micro), missing)


def _nginx(settings: UpSettings) -> NginxFact:
    wanted = settings.nginx if settings.tls_cert is None else "on"
    path = find_nginx()
    return NginxFact(path, "" if path is None else _nginx_version(path), wanted)


def _nginx_version(path: str) -> str:
    """It prints `nginx version: nginx/1.22.1` as if it were an error."""
    with suppress(OSError, subprocess.TimeoutExpired):
        done = subprocess.run(
            [path, "-v"], capture_output=True, text=True, timeout=ASK_S, check=False
        )
        if match := re.search(r"nginx/(\S+)", done.stderr):
            return match[1]
    return ""


def _ports(cluster: LocalCluster) -> list[PortFact]:
    facts = []
    for host, port, whose, flag in cluster.ports():
        error = bind_problem(host, port) if port <= 65535 else None
        problem = "" if error is None else error.strerror or str(error)
        if error is not None and error.errno == errno.EADDRINUSE:
            problem = "in use by another process"
        facts.append(PortFact(port, whose, flag, problem if port <= 65535 else "there is none"))
    return facts


def _runs(data_dir: Path) -> bool:
    try:
        ask_up(data_dir, {"do": "show"}, ASK_S)
    except RingmasterError:
        return False
    return True


def _files() -> tuple[int, int]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return tuple(-1 if limit == resource.RLIM_INFINITY else limit for limit in (soft, hard))  # type: ignore[return-value]


def _wanted_files(settings: UpSettings, nginx: NginxFact) -> int:
    """Of the process that wants the most."""
    connections = max(settings.max_connections, settings.max_clients)
    has_nginx = nginx.path is not None and nginx.wanted != "off"
    return max(connections + SPARE_FILES, NGINX_FILES if has_nginx else 0)


def _memory(settings: UpSettings) -> MemoryFact:
    total, available = machine_memory()
    return MemoryFact(
        total=total,
        available=available,
        nodes=settings.aux,
        max_memory=settings.max_memory,
        masters=settings.masters,
        master_bytes=PROCESS_BYTES + settings.copies_memory,
    )


def _disk(settings: UpSettings) -> DiskFact:
    problem, free = folder_facts(settings.data_dir)
    snapshots_problem, free_for_snapshots = folder_facts(settings.snapshot_path)
    folder = settings.data_dir if problem else settings.snapshot_path
    return DiskFact(
        folder=str(folder),
        problem=problem or snapshots_problem,
        free=min(free, free_for_snapshots),
        snapshots=settings.aux * settings.max_memory,
    )


def folder_facts(folder: Path) -> tuple[str, int]:
    """Why it cannot be written, or made (empty if it can), and the free bytes of its disk."""
    there = next(each for each in (folder.absolute(), *folder.absolute().parents) if each.exists())
    try:
        if not there.is_dir():
            return f"{there} is a file", 0
        if not os.access(there, os.R_OK | os.W_OK | os.X_OK):
            return f"{there} cannot be written", 0
        status = os.statvfs(there)
    except OSError as error:
        return error.strerror or str(error), 0
    return "", status.f_bavail * status.f_frsize


def _shared_memory(settings: UpSettings) -> SharedMemoryFact | None:
    if settings.lease_dir is not None or not settings.coordinator.startswith("sqlite"):
        return None
    return SharedMemoryFact(str(SHARED_MEMORY), free_shared_memory(), LEAST_FREE_BYTES)


async def _coordinator(settings: UpSettings) -> CoordinatorFact:
    engine = settings.coordinator
    if engine == "sqlite" and not settings.coordinator_path.is_dir():
        # What opens one makes its folder.
        return CoordinatorFact(f"{engine} in {settings.coordinator_path}")
    coordinator = configured_coordinator(settings)
    began = time.monotonic()
    try:
        await coordinator.read(CLUSTER_KEY, ASK_S)
        took_ms = (time.monotonic() - began) * 1000
        return CoordinatorFact(engine, "", took_ms, await _etcd_version(coordinator))
    except RingmasterError as error:
        return CoordinatorFact(engine, str(error))
    finally:
        await coordinator.close()


async def _etcd_version(coordinator: Coordinator) -> str:
    return await coordinator.server_version() if isinstance(coordinator, EtcdCoordinator) else ""


async def _cluster(url: str, token: str | None) -> ClusterFact:
    """Raises `SettingsError` if that is no URL."""
    async with AsyncClient(
        url, ASK_S, connections=1, token=token or token_from_environment()
    ) as client:
        try:
            status = await client.cluster()
        except RingmasterError as error:
            return ClusterFact(url, None, str(error))
    known = isinstance(status, dict)
    return ClusterFact(url, status if known else None, "" if known else "the reply is no status")

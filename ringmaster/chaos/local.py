"""A local cluster to break: `ringmaster up` with some nodes beside it that nobody restarts."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sqlite3
import tempfile
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Final

from ringmaster.chaos.processes import Processes, Wrap
from ringmaster.chaos.target import ask_cluster, wait_healthy
from ringmaster.errors import RingmasterError
from ringmaster.net.free_ports import free_ports

RESTART_TIMEOUT_S: Final = 60.0


class LocalTarget:
    """Two masters and `nodes` aux servers, of which the last `alone` run without a supervisor.

    Everything lives in a temporary folder and is ended by `close`, by pid. `options` are given to `ringmaster up`,
    `node_options` to that and to nodes without a supervisor. `wrap`: as of `Processes`.
    """

    def __init__(
        self,
        nodes: int,
        alone: int,
        options: tuple[str, ...] = (),
        node_options: tuple[str, ...] = (),
        wrap: Wrap | None = None,
    ) -> None:
        self._nodes = nodes
        self._alone = alone
        self._options = (*options, *node_options)
        self._node_options = node_options
        self.folder = Path(tempfile.mkdtemp(prefix="rm-chaos-"))
        self._processes = Processes(self.folder, wrap)
        ports = free_ports(3 + 2 * (nodes + 4))
        self._port, self._master_port, self._ports = ports[0], ports[1], iter(ports[3:])

    @property
    def url(self) -> str:
        """The front door."""
        return f"http://127.0.0.1:{self._port}"

    async def start(self) -> None:
        """Until every partition is served with all its copies."""
        supervised = self._nodes - self._alone
        first, http = next(self._ports), next(self._ports)
        for _ in range(2 * (supervised - 1)):
            next(self._ports)
        flags = {
            "data-dir": self.folder / "data",
            "lease-dir": self.folder / "leases",
            "masters": 2,
            "aux": supervised,
            "port": self._port,
            "master-port": self._master_port,
            "aux-port": first,
            "aux-http-port": http + max(0, supervised - 1),
        }
        given = [text for name, value in flags.items() for text in (f"--{name}", str(value))]
        await self._processes.start("up", "-m", "ringmaster.cli", "up", *given, *self._options)
        for number in range(self._alone):
            await self.join(f"solo{number + 1}")
        await wait_healthy(self, self._nodes)

    async def join(self, name: str) -> None:
        """Start one more node that nobody restarts; returns at once."""
        flags = {
            "data-dir": self.folder / "data",
            "lease-dir": self.folder / "leases",
            "id": name,
            "port": next(self._ports),
            "http-port": next(self._ports),
        }
        given = [text for flag, value in flags.items() for text in (f"--{flag}", str(value))]
        await self._processes.start(name, "-m", "aux", *given, *self._node_options)

    async def cluster(self) -> dict[str, Any]:
        """`GET /cluster`, from any master that answers. Raises `RingmasterError` if none does."""
        ports = (self._port, self._master_port, self._master_port + 1)
        return await ask_cluster([f"http://127.0.0.1:{port}" for port in ports])

    async def expendable(self) -> list[str]:
        """The nodes without a supervisor."""
        return [f"solo{number + 1}" for number in range(self._alone)]

    async def kept(self) -> list[str]:
        """The supervised ones."""
        return [f"aux{number + 1}" for number in range(self._nodes - self._alone)]

    async def kill(self, node: str) -> None:
        """SIGKILL to a node."""
        os.kill(await self.pid("nodes", node), signal.SIGKILL)

    async def kill_and_restart(self, node: str) -> None:
        """SIGKILL; its supervisor starts it again at once."""
        await self.kill(node)

    async def restart(self, node: str) -> None:
        """SIGTERM; its supervisor starts it again when it has drained."""
        before = await self.pid("nodes", node)
        os.kill(before, signal.SIGTERM)
        async with asyncio.timeout(RESTART_TIMEOUT_S):
            while True:
                await asyncio.sleep(0.2)
                found = [each for each in (await self.cluster())["nodes"] if each["id"] == node]
                if found and found[0]["state"] == "up" and found[0]["pid"] != before:
                    return

    async def drain(self, node: str) -> None:
        """SIGTERM to a node; returns at once."""
        os.kill(await self.pid("nodes", node), signal.SIGTERM)

    async def pause(self, node: str, seconds: float) -> None:
        """SIGSTOP, and SIGCONT after that long."""
        await _freeze(await self.pid("nodes", node), seconds)

    async def pause_master(self, master: str, seconds: float) -> None:
        """The same with a master."""
        await _freeze(await self.pid("masters", master), seconds)

    async def kill_master(self, master: str) -> None:
        """SIGKILL to a master."""
        os.kill(await self.pid("masters", master), signal.SIGKILL)

    async def pid(self, kind: str, name: str) -> int:
        """The process of a node or master."""
        for process in (await self.cluster())[kind]:
            if process["id"] == name:
                pid: int = process["pid"]
                return pid
        raise RingmasterError(f"no {name} among the {kind}")

    async def lock_coordinator(self, seconds: float) -> None:
        """Hold the write locks of both SQLite files for that long. Raises `RingmasterError` if they are not found."""
        folders = (self.folder / "data" / "coordinator", self.folder / "leases")
        files = [file for folder in folders for file in folder.glob("*.sqlite")]
        if len(files) != len(folders):
            raise RingmasterError(f"not the coordinator's two databases: {files}")
        connections = [sqlite3.connect(file, timeout=5.0, isolation_level=None) for file in files]
        try:
            for connection in connections:
                connection.execute("BEGIN IMMEDIATE")
            await asyncio.sleep(seconds)
        finally:
            for connection in connections:
                with closing(connection):
                    connection.rollback()

    async def close(self) -> None:
        """End everything and remove the folder."""
        try:
            for name in self._processes.names():
                if name != "up":
                    with suppress(RingmasterError):  # it ended by itself meanwhile
                        await self._processes.kill(name)
            await self._processes.end(["up"])
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)


async def _freeze(pid: int, seconds: float) -> None:
    os.kill(pid, signal.SIGSTOP)
    try:
        await asyncio.sleep(seconds)
    finally:
        os.kill(pid, signal.SIGCONT)

"""A local cluster to break: `ringmaster up` with some nodes beside it that nobody restarts."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import sqlite3
import sys
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import aiohttp

from ringmaster.errors import RingmasterError

START_TIMEOUT_S: Final = 60.0
POLL_S: Final = 0.05


class LocalTarget:
    """Two masters and `nodes` aux servers, of which the last `alone` run without a supervisor.

    Everything lives in a temporary folder and is ended by `close`, by pid.
    """

    def __init__(self, nodes: int, alone: int, options: tuple[str, ...] = ()) -> None:
        self._nodes = nodes
        self._alone = alone
        self._options = options
        self.folder = Path(tempfile.mkdtemp(prefix="rm-chaos-"))
        self._processes: dict[str, asyncio.subprocess.Process] = {}
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
        await self._spawn("up", "-m", "ringmaster.cli", "up", *given, *self._options)
        for number in range(self._alone):
            await self.add_node(f"solo{number + 1}")
        await self.wait_healthy(self._nodes)

    async def add_node(self, name: str) -> None:
        """Start one more node that nobody restarts; returns at once."""
        flags = {
            "data-dir": self.folder / "data",
            "lease-dir": self.folder / "leases",
            "id": name,
            "port": next(self._ports),
            "http-port": next(self._ports),
        }
        given = [text for flag, value in flags.items() for text in (f"--{flag}", str(value))]
        await self._spawn(name, "-m", "aux", *given)

    async def cluster(self) -> dict[str, Any]:
        """`GET /cluster`, from any master that answers. Raises `RingmasterError` if none does."""
        timeout = aiohttp.ClientTimeout(total=2.0)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            for port in (self._port, self._master_port, self._master_port + 1):
                try:
                    async with session.get(f"http://127.0.0.1:{port}/cluster") as response:
                        if response.status == 200:
                            body: dict[str, Any] = await response.json()
                            return body
                except (aiohttp.ClientError, TimeoutError):
                    continue
        raise RingmasterError("no master answers")

    async def wait_healthy(self, nodes: int, timeout_s: float = START_TIMEOUT_S) -> float:
        """Until `nodes` nodes are up and every partition has its copies where they belong; how long that took."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        while loop.time() - began < timeout_s:
            try:
                seen = await self.cluster()
            except RingmasterError:
                seen = {}
            up = [node for node in seen.get("nodes", ()) if node["state"] == "up"]
            if (
                len(up) >= nodes
                and seen["under_replicated"] == 0
                and not seen["rebalance"]["active"]
                and all(node["primaries"] for node in up)
            ):
                return loop.time() - began
            await asyncio.sleep(POLL_S)
        raise RingmasterError(f"the cluster did not come to rest in {timeout_s:g} s")

    async def pid(self, kind: str, name: str) -> int:
        """The process of a node or master."""
        for process in (await self.cluster())[kind]:
            if process["id"] == name:
                pid: int = process["pid"]
                return pid
        raise RingmasterError(f"no {name} among the {kind}")

    async def signal(self, kind: str, name: str, number: signal.Signals) -> None:
        """Send a signal to a node (`kind` nodes) or master (`masters`)."""
        os.kill(await self.pid(kind, name), number)

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
        for name, process in self._processes.items():
            if process.returncode is None:
                process.send_signal(signal.SIGTERM if name == "up" else signal.SIGKILL)
        for process in self._processes.values():
            try:
                async with asyncio.timeout(20.0):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    async def _spawn(self, name: str, *arguments: str) -> None:
        log = self.folder / f"{name}.log"
        with log.open("ab") as output:
            self._processes[name] = await asyncio.create_subprocess_exec(
                sys.executable, "-P", *arguments,
                stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output,
            )  # fmt: skip


def free_ports(count: int) -> list[int]:
    """That many consecutive free ports of the loopback address, as free as they can be told to be."""
    for first in range(20_000, 30_000, 97):
        if all(_is_free(port) for port in range(first, first + count)):
            return list(range(first, first + count))
    raise RingmasterError("no free ports between 20000 and 30000")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True

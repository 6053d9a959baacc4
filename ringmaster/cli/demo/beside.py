"""Nodes of our own beside a `ringmaster up` that runs on this machine: they join, may be killed, and leave again."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from ringmaster.chaos.processes import Processes, Wrap
from ringmaster.chaos.target import ask_cluster
from ringmaster.cli.supervisor import last_line
from ringmaster.client.aio import AsyncClient
from ringmaster.errors import BadRequest, RingmasterError, SettingsError
from ringmaster.net.free_ports import free_ports

LEAVE_S: Final = 60.0
"""A node moves its data off for 30 s at most (`--drain-timeout`), and writes a last snapshot."""

_POLL_S: Final = 0.2


class BesideTarget:
    """`url`: where the cluster answers; `data_dir`: of the `ringmaster up`; `token`, `headers`: what to identify oneself with."""

    def __init__(
        self, url: str, data_dir: Path, token: str | None, headers: Mapping[str, str], wrap: Wrap
    ) -> None:
        self.url = url
        self._data_dir = data_dir
        self._token = token
        self._headers = headers
        self._folder = Path(tempfile.mkdtemp(prefix="rm-beside-"))
        self._processes = Processes(self._folder, wrap)
        self._joined: list[str] = []
        self._expected: set[str] = set()

    async def cluster(self) -> dict[str, Any]:
        """`GET /cluster`. Raises `RingmasterError` if it does not answer, `SettingsError` if a node of ours ended by itself."""
        for name in self._expected - set(self._processes.names()):
            why = last_line(self._folder / f"{name}.log")
            raise SettingsError(f"the node {name} ended by itself: {why}")
        return await ask_cluster([self.url], self._headers)

    async def join(self, name: str) -> None:
        """Start a node; returns at once."""
        port, http_port = free_ports(2)
        flags = {
            "data-dir": self._data_dir,
            "id": name,
            "host": "127.0.0.1",
            "advertise": f"127.0.0.1:{port}",
            "port": port,
            "http-port": http_port,
        }
        given = [text for flag, value in flags.items() for text in (f"--{flag}", str(value))]
        if name not in self._joined:
            self._joined.append(name)
        await self._processes.start(name, "-m", "aux", *given)
        self._expected.add(name)

    async def kill(self, node: str) -> None:
        """SIGKILL to a node that was started here; no other can be meant."""
        self._expected.discard(node)
        await self._processes.kill(node)

    async def close(self) -> None:
        """Have the nodes that were started here leave, and the cluster forget them."""
        try:
            await self._processes.end(self._processes.names(), LEAVE_S)
            if self._joined:
                async with AsyncClient(
                    self.url, timeout_s=3.0, connections=1, token=self._token
                ) as client:
                    for name in self._joined:
                        await _forgotten(client, name)
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)


async def _forgotten(client: AsyncClient, name: str) -> None:
    """Until it is not listed. Raises `RingmasterError` if it comes to no end."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + LEAVE_S
    while True:
        try:
            await client.forget(name)
            if all(row["id"] != name for row in (await client.cluster())["nodes"]):
                return
            reason = "it is still listed"
        except BadRequest as error:
            reason = str(error)  # the view does not say yet that it has left
        except RingmasterError as error:
            reason = str(error)
        if loop.time() > deadline:
            raise RingmasterError(f"{name} could not be taken off the list: {reason}")
        await asyncio.sleep(_POLL_S)

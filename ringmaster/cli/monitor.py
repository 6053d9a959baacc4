"""Shows a running local cluster: a live table on a terminal, lines elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Final

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from ringmaster.cli.supervisor import Child
from ringmaster.cli.tables import children_table, cluster_table, summary
from ringmaster.client.aio import AsyncClient
from ringmaster.errors import RingmasterError
from ringmaster.runtime.compiled import full_version

POLL_S: Final = 1.0
QUIET_POLL_S: Final = 2.0
"""Where only changes are printed."""

STARTING_POLL_S: Final = 0.1
SLOW_START_S: Final = 20.0


class Monitor:
    """Polls the cluster at `url` and shows what it says. `report` may be called at any time. `token`: as of the clients.
    `front`: the front door, where that is not `url`.
    """

    def __init__(
        self, url: str, console: Console, token: str | None = None, front: str = ""
    ) -> None:
        self._url = url
        self._front = front or url
        self._token = token
        self._console = console
        self._said = ""
        self._is_stopping = False

    def report(self, sentence: str) -> None:
        """Print a line, above the table if there is one."""
        self._console.print(sentence, markup=False)

    def stopping(self) -> None:
        """Say that the cluster stops; from now on it is no news that nobody answers."""
        self._is_stopping = True
        self._said = "stopping"
        self.report(self._said)

    async def run(self, children: Callable[[], tuple[Child, ...]]) -> None:
        """Say when the cluster is ready, then show it, and the `children` there are, until cancelled."""
        self.report(f"ringmaster {full_version()}")
        self.report(f"starting: {', '.join(child.program.name for child in children())}")
        async with AsyncClient(
            self._url, timeout_s=3.0, connections=1, token=self._token
        ) as client:
            await self._wait_until_ready(client)
            self.report(f"ready: {self._front}  (Ctrl-C stops it)")
            if self._console.is_terminal:
                with Live(console=self._console, auto_refresh=False, transient=True) as live:
                    while True:
                        live.update(await self._picture(client, children()), refresh=True)
                        await asyncio.sleep(POLL_S)
            while True:
                self._tell(await self._status(client))
                await asyncio.sleep(QUIET_POLL_S)

    async def _wait_until_ready(self, client: AsyncClient) -> None:
        loop = asyncio.get_running_loop()
        complain_at = loop.time() + SLOW_START_S
        while True:
            try:
                reply = await client.request("GET", "/readyz")
                if reply.status == 200:
                    return
                reason = f"/readyz answers {reply.status}"
            except RingmasterError as error:
                reason = str(error)
            if loop.time() > complain_at:
                self.report(f"not ready yet: {reason}")
                complain_at = loop.time() + SLOW_START_S
            await asyncio.sleep(STARTING_POLL_S)

    async def _status(self, client: AsyncClient) -> Mapping[str, Any] | str:
        try:
            status = await client.cluster()
        except RingmasterError as error:
            return "stopping" if self._is_stopping else str(error)
        return status if isinstance(status, dict) else "the reply is no status"

    async def _picture(self, client: AsyncClient, children: tuple[Child, ...]) -> RenderableType:
        status = await self._status(client)
        if isinstance(status, str):
            upper: RenderableType = Text(status, style="red")
        else:
            upper = cluster_table(status, self._console.width)
        return Group(Text(self._url, style="bold"), upper, Text(), children_table(children))

    def _tell(self, status: Mapping[str, Any] | str) -> None:
        line = status if isinstance(status, str) else summary(status)
        if line != self._said:
            self._said = line
            self.report(line)

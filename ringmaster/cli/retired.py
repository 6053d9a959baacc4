"""Nodes that a local cluster was stopped with and is started without: forgotten once everything is held elsewhere.

What they held was sealed in snapshots at the clean stop, and the other nodes restore it. A node that ended in any other way
is left for its operator to judge: it stays `down`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from ringmaster.client.aio import AsyncClient
from ringmaster.errors import RingmasterError

STOPPED_NAME: Final = "stopped-nodes.json"
POLL_S: Final = 1.0


def note_stopped(data_dir: Path, nodes: Sequence[str]) -> None:
    """Keep the ids of nodes that were stopped cleanly. Without room for that the next start takes them for lost."""
    try:
        (data_dir / STOPPED_NAME).write_text(json.dumps(sorted(nodes)))
    except OSError:
        (data_dir / STOPPED_NAME).unlink(missing_ok=True)


def take_stopped(data_dir: Path) -> frozenset[str]:
    """The ids that the last run noted at its clean stop. They are told once: what happens from now on is another run's."""
    path = data_dir / STOPPED_NAME
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        found = []
    path.unlink(missing_ok=True)
    return frozenset(map(str, found)) if isinstance(found, list) else frozenset()


def to_forget(
    status: Mapping[str, Any], stopped: Collection[str], wanted: Collection[str]
) -> frozenset[str] | None:
    """Those of `stopped` that are down and not `wanted`, by `GET /cluster`; None while partitions lack copies."""
    if not status["controller"] or status["under_replicated"] or status["restore"]["active"]:
        return None
    down = {row["id"] for row in status["nodes"] if row["state"] == "down"}
    return frozenset(down & set(stopped) - set(wanted))


class Retirement:
    """`pending`: nodes that were stopped cleanly and are still listed, as far as is known."""

    def __init__(
        self,
        url: str,
        stopped: Collection[str],
        wanted: Callable[[], Collection[str]],
        report: Callable[[str], None],
    ) -> None:
        self.pending = frozenset(stopped) - frozenset(wanted())
        self._url = url
        self._wanted = wanted
        self._report = report

    async def run(self) -> None:
        """Until none is pending. What cannot be done now is tried again."""
        if not self.pending:
            return
        async with AsyncClient(self._url, timeout_s=3.0, connections=1) as client:
            while self.pending:
                await asyncio.sleep(POLL_S)
                try:
                    await self._look(client)
                except RingmasterError:
                    continue

    async def _look(self, client: AsyncClient) -> None:
        found = to_forget(await client.cluster(), self.pending, self._wanted())
        if found is None:
            return
        self.pending = found
        for node in sorted(self.pending):
            await client.forget(node)
            self.pending -= {node}
            self._report(
                f"{node} is not started any more and all it had is on other nodes: forgotten"
            )

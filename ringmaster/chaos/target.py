"""What a scenario may do to a cluster, whatever it runs on; and looking at it through its front door."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

import aiohttp

from ringmaster.errors import RingmasterError

START_TIMEOUT_S: Final = 60.0
LOOK_TIMEOUT_S: Final = 2.0
POLL_S: Final = 0.05


class Target(Protocol):
    """A cluster to break. Every method raises `RingmasterError` if it cannot be done."""

    @property
    def url(self) -> str:
        """The front door."""

    async def start(self) -> None:
        """Until every partition is served with all its copies."""

    async def close(self) -> None:
        """End it, or leave it as it was found."""

    async def cluster(self) -> dict[str, Any]:
        """`GET /cluster`."""

    async def expendable(self) -> Sequence[str]:
        """Nodes that stay down when they die, by id."""

    async def kept(self) -> Sequence[str]:
        """Nodes that `kill_and_restart` and `restart` are meant for, by id."""

    async def kill(self, node: str) -> None:
        """SIGKILL; it stays down."""

    async def kill_and_restart(self, node: str) -> None:
        """SIGKILL, and started again at once."""

    async def restart(self, node: str) -> None:
        """SIGTERM, so that it drains, and started again; until it is back."""

    async def drain(self, node: str) -> None:
        """SIGTERM, so that it drains; it stays down."""

    async def pause(self, node: str, seconds: float) -> None:
        """Frozen for that long."""

    async def join(self, name: str) -> None:
        """Start one more node, called `name` where names can be given."""

    async def kill_master(self, master: str) -> None:
        """SIGKILL."""

    async def pause_master(self, master: str, seconds: float) -> None:
        """Frozen for that long."""

    async def lock_coordinator(self, seconds: float) -> None:
        """Nobody can write to the coordinator for that long."""


async def ask_cluster(
    urls: Sequence[str], headers: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """`GET /cluster` from the first of `urls` that answers. Raises `RingmasterError` if none does."""
    timeout = aiohttp.ClientTimeout(total=LOOK_TIMEOUT_S)
    async with aiohttp.ClientSession(timeout=timeout, headers=headers) as session:
        for url in urls:
            try:
                async with session.get(f"{url}/cluster") as response:
                    if response.status == 200:
                        body: dict[str, Any] = await response.json()
                        return body
            except (aiohttp.ClientError, TimeoutError):
                continue
    raise RingmasterError("no master answers")


def is_at_rest(seen: dict[str, Any], nodes: int) -> bool:
    """Whether `nodes` nodes are up and every partition has its copies where they belong."""
    up = [node for node in seen.get("nodes", ()) if node["state"] == "up"]
    return (
        len(up) >= nodes
        and seen["under_replicated"] == 0
        and not seen["rebalance"]["active"]
        and all(node["primaries"] for node in up)
    )


async def wait_healthy(
    target: Target, nodes: int, timeout_s: float = START_TIMEOUT_S, poll_s: float = POLL_S
) -> float:
    """Until `target` is at rest with `nodes` nodes; how long that took. Raises `RingmasterError` if it does not come to it."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    while loop.time() - began < timeout_s:
        try:
            if is_at_rest(await target.cluster(), nodes):
                return loop.time() - began
        except RingmasterError:
            pass  # no master answers just now
        await asyncio.sleep(poll_s)
    raise RingmasterError(f"the cluster did not come to rest in {timeout_s:g} s")

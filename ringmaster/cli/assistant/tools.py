"""What an assistant may ask of a cluster, and do to it. Nothing here knows of the protocol that carries it.

Each public coroutine of `Questions` and `Operations` is a tool: its name, arguments and docstring are what the assistant sees. None
returns a value of the cache: what users store is not for an assistant to read, and may speak to it. Keys and tags are listed as they are, and are
data as well.
"""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import urlencode

from ringmaster.client import AsyncClient
from ringmaster.client.reply import data_target, path_segment
from ringmaster.errors import BadRequest

MOST_KEYS: Final = 1000


class Questions:
    """Tools that change nothing."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    async def status(self) -> dict[str, Any]:
        """How the cluster is: health and reasons, each node with state, memory, hits, misses, evictions and partitions, masters, what moves."""
        return await self._get("/cluster")

    async def locate(self, key: str) -> dict[str, Any]:
        """Where a key belongs (partition, primary, replicas), and its entry's size, version, tags and time to live if there is one."""
        return await self._get(f"/cluster/locate/{path_segment(key)}?meta=1")

    async def explain(self, key: str) -> dict[str, Any]:
        """Why a key is there or is a miss: present, expired, evicted, deleted, invalidated by a tag, lost, or unknown; when, and by what."""
        return await self._get(data_target(key, explain=""))

    async def hot_keys(self, limit: int = 20) -> dict[str, Any]:
        """The keys that are read most, with reads a second, node and partition. `limit`: 1 to 1000."""
        return await self._get(f"/cluster/hotkeys?limit={limit}")

    async def evictions(self) -> dict[str, Any]:
        """Which key prefixes were evicted, and for which prefixes' writes."""
        return await self._get("/cluster/evictions")

    async def advice(self) -> dict[str, Any]:
        """What the hit ratio would be with more or less memory, more or fewer nodes, and other eviction policies."""
        return await self._get("/cluster/advice")

    async def keys(
        self, prefix: str, limit: int = 100, cursor: str | None = None
    ) -> dict[str, Any]:
        """A page of keys that begin with `prefix`; `cursor` of the answer, if it is not null, asks for the next. `limit`: 1 to 1000."""
        if not 1 <= limit <= MOST_KEYS:
            raise BadRequest(f"limit is 1 to {MOST_KEYS}")
        asked = {"prefix": prefix, "limit": limit} | ({"cursor": cursor} if cursor else {})
        return await self._get("/data?" + urlencode(asked))

    async def snapshots(self) -> dict[str, Any]:
        """What snapshots there are: partitions without one, bytes, damage, and when each node wrote last."""
        return await self._get("/snapshots?files=0")

    async def drain_forecast(self, node: str) -> dict[str, Any]:
        """What draining a node would take: copies and bytes to move, seconds, and how many partitions would have too few copies. Does nothing."""
        target = f"/cluster/nodes/{path_segment(node)}/drain?dry_run=1"
        return await self._ask("POST", target)

    async def _get(self, target: str) -> dict[str, Any]:
        return await self._ask("GET", target)

    async def _ask(self, method: str, target: str) -> dict[str, Any]:
        reply = await self._client.request(method, target)
        if reply.status == 404:
            raise BadRequest(str(reply.json().get("detail", "there is no such thing")))
        answer = reply.json() if reply.body else None
        return answer if isinstance(answer, dict) else {"done": True}


class Operations(Questions):
    """Those, and tools that change the cluster."""

    async def drain(self, node: str) -> dict[str, Any]:
        """Move everything off a node, so that it may be stopped without a miss. Ask `drain_forecast` first; `status` shows the progress."""
        return await self._ask("POST", f"/cluster/nodes/{path_segment(node)}/drain")

    async def undrain(self, node: str) -> dict[str, Any]:
        """Take a drain back: the node takes part again."""
        return await self._ask("DELETE", f"/cluster/nodes/{path_segment(node)}/drain")

    async def pause_rebalance(self) -> dict[str, Any]:
        """Have nothing move for balance until `resume_rebalance`. Lost copies are made again all the same."""
        return await self._ask("POST", "/cluster/rebalance/pause")

    async def resume_rebalance(self) -> dict[str, Any]:
        """Have copies move for balance again."""
        return await self._ask("POST", "/cluster/rebalance/resume")

    async def take_snapshot(self) -> dict[str, Any]:
        """Have every node write a snapshot now."""
        return await self._ask("POST", "/snapshots")

    async def delete_key(self, key: str) -> dict[str, Any]:
        """Remove one entry. That it was not there is no error."""
        return await self._ask("DELETE", data_target(key))

    async def invalidate_tag(self, tag: str) -> dict[str, Any]:
        """Remove every entry that carries this tag, however many there are."""
        await self._client.invalidate(tag)
        return {"done": True}

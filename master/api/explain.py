"""`GET /data/{key}?explain`: why a key is not there. The nodes remember; this asks all of them, since partitions move."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol

import msgspec

from master.api.ask_nodes import ANSWER_S, AskLink, NodesApi
from master.api.cluster import JSON_HEADERS
from master.api.request import Exchange
from master.api.response import Reply
from master.http.target import Parameters, check_parameters
from ringmaster.cluster.explanation import NodeMemory, decode_memory, explain
from ringmaster.cluster.view import View
from ringmaster.config.quantities import rfc3339
from ringmaster.errors import BadRequest
from ringmaster.protocol.hashing import partition_of
from ringmaster.protocol.resp import encode
from ringmaster.runtime.cluster_clock import ClusterClock

NAME: Final = "explain"
_YES: Final = ("", "1")


class EntryReport(Protocol):
    """What this needs of `master.api.locate.LocateApi`."""

    async def entry(self, key: bytes, deadline: float) -> dict[str, Any] | None: ...


def check_explain(parameters: Parameters, method: str) -> None:
    """Raises `BadRequest` unless they ask for an explanation and for nothing else."""
    if method != "GET":
        raise BadRequest(f"explain goes with GET, not with {method}")
    asked = parameters[NAME][0]
    if asked not in _YES:
        raise BadRequest(f"explain is {asked[:40]!r}; write ?explain without a value")
    if len(parameters) > 1:
        raise BadRequest("explain goes with no other parameter than key; leave the others out")
    check_parameters(parameters, NAME)


class ExplainApi(NodesApi):
    """What nodes remember of keys. `entries`: knows of those that are there."""

    def __init__(
        self,
        view: Callable[[], View],
        link_of: Callable[[str], AskLink | None],
        clock: ClusterClock,
        entries: EntryReport,
    ) -> None:
        super().__init__(view, link_of, clock)
        self._entries = entries

    async def show(self, exchange: Exchange, key: bytes) -> Reply:
        """The state of `key`, which the sender may read. Neither a hit nor a miss nor a use."""
        entry = await self._entries.entry(key, exchange.deadline())
        view = self._view()
        number = partition_of(key, view.partitions)
        row = view.table[number]
        body: dict[str, Any] = {
            "key": key.decode(),
            "state": "present",
            "at": None,
            "by": None,
            "detail": "It is there.",
            "node": row.primary,
            "partition": number,
            "unreachable": [],
            "entry": entry,
        }
        if entry is None:
            body |= await self._explained(exchange, key, row.primary)
        elif entry["restored"]:
            body["detail"] = "It is there, as a snapshot had it when every copy had been lost."
        return Reply.build(200, JSON_HEADERS, msgspec.json.encode(body))

    async def _explained(
        self, exchange: Exchange, key: bytes, primary: str | None
    ) -> dict[str, Any]:
        memories: dict[str, NodeMemory | None] = await self._ask_all(
            exchange, encode(b"RM.EXPLAIN", key), decode_memory, ANSWER_S
        )
        access = exchange.access
        found = explain(memories, primary, lambda prefix: access.permits("read", prefix.encode()))
        return {
            "state": found.state,
            "at": rfc3339(found.at_ms) if found.at_ms else None,
            "by": found.by or None,
            "detail": found.detail,
            "unreachable": sorted(node for node, memory in memories.items() if memory is None),
        }

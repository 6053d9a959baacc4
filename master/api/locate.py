"""/cluster/locate: where a key lives, and with `meta=1` what is known of its entry without its value."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import msgspec

from master.api.cluster import JSON_HEADERS
from master.api.request import Exchange
from master.api.response import Reply
from master.http.responses import Replies, is_stale
from master.http.target import check_parameters
from ringmaster.cluster.view import View
from ringmaster.config.quantities import rfc3339
from ringmaster.errors import BadRequest
from ringmaster.protocol.entry import JSON, RESTORED, header, meta_of
from ringmaster.protocol.hashing import partition_of
from ringmaster.runtime.cluster_clock import ClusterClock

_LOCATE = b"/cluster/locate/"
_OCTETS = "application/octet-stream"


class HeadRouter(Protocol):
    """What this needs of `ringmaster.routing.router.Router`."""

    async def head(self, key: bytes, deadline: float) -> tuple[bytes, int] | None: ...


class LocateApi:
    """`view()` is the current view."""

    def __init__(
        self,
        view: Callable[[], View],
        router: HeadRouter,
        replies: Replies,
        clock: ClusterClock,
    ) -> None:
        self._view = view
        self._router = router
        self._replies = replies
        self._clock = clock

    async def show(self, exchange: Exchange) -> Reply:
        """`GET /cluster/locate/{key}`, or `?key=` for keys that clients would rewrite in a path."""
        key, parameters = exchange.key(_LOCATE)
        exchange.access.require_key("read", key)
        check_parameters(parameters, "meta")
        asked = parameters.get("meta", ["0"])[0]
        if asked not in ("0", "1"):
            raise BadRequest(f"meta must be 0 or 1, not {asked!r}")
        view = self._view()
        number = partition_of(key, view.partitions)
        row = view.table[number]
        body: dict[str, Any] = {
            "key": key.decode(),
            "partition": number,
            "primary": row.primary,
            "replicas": row.replicas,
            "term": row.term,
            "epoch": view.epoch,
        }
        if asked == "1":
            body["entry"] = await self.entry(key, exchange.deadline())
        return Reply.build(200, JSON_HEADERS, msgspec.json.encode(body))

    async def entry(self, key: bytes, deadline: float) -> dict[str, Any] | None:
        """What is known of it; None: there is none. Neither a hit nor a use."""
        found = await self._router.head(key, deadline)
        if found is None:
            return None
        head, size = found
        decoded, meta = header(head), meta_of(head)
        left_ms = decoded.expires_ms - self._clock.now_ms()
        stale = decoded.expires_ms > 0 and is_stale(head, left_ms)
        is_json = bool(decoded.flags & JSON)
        return {
            "version": self._replies.version(decoded.term, decoded.seq).decode(),
            "content_type": "application/json" if is_json else meta.content_type or _OCTETS,
            "value_bytes": size,
            "expires_at": rfc3339(decoded.expires_ms) if decoded.expires_ms else None,
            "ttl": (left_ms if stale else max(0, left_ms)) / 1000 if decoded.expires_ms else None,
            "stale": stale,
            "tags": list(meta.tags),
            "restored": bool(decoded.flags & RESTORED),
        }

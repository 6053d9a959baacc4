"""/healthz, /readyz and /metrics: for supervisors, load balancers and Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from master.api.cluster import JSON_HEADERS
from master.api.request import Exchange
from master.api.response import Reply
from master.api.summary import unready
from master.http.problem import RETRY_AFTER_S, Problem
from ringmaster.cluster.node_status import NodeStatus
from ringmaster.cluster.view import View


class HealthApi:
    """`exposition()` is the Prometheus text and its content type."""

    def __init__(
        self,
        view: Callable[[], View],
        statuses: Callable[[], Mapping[str, NodeStatus]],
        exposition: Callable[[], tuple[bytes, str]],
    ) -> None:
        self._view = view
        self._statuses = statuses
        self._exposition = exposition

    async def healthz(self, exchange: Exchange) -> Reply:
        """200: the process lives and its loop turns."""
        return Reply.build(200, JSON_HEADERS, b'{"status":"ok"}')

    async def readyz(self, exchange: Exchange) -> Reply:
        """200 when every partition can be served, else 503 and why."""
        view = self._view()
        reasons = unready(view, self._statuses())
        if reasons:
            retry = (("Retry-After", str(RETRY_AFTER_S)),)
            raise Problem(503, "unavailable", "; ".join(reasons), headers=retry, reasons=reasons)
        body = {"status": "ready", "epoch": view.epoch}
        return Reply.build(200, JSON_HEADERS, msgspec.json.encode(body))

    async def metrics(self, exchange: Exchange) -> Reply:
        """Prometheus text format."""
        text, content_type = self._exposition()
        return Reply.build(
            200, (("Content-Type", content_type), ("Cache-Control", "no-store")), text
        )

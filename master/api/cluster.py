"""/cluster: what the cluster is doing, and the operator's requests to it.

A request is a key in the coordinator; the controller acts on it. So any master takes it and none remembers it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import msgspec

from master.api.cluster_watch import ClusterWatch
from master.api.drain import DrainForecast, forecast_drain
from master.api.request import Exchange
from master.api.response import Reply
from master.api.summary import summarize
from master.api.view_tally import Tallies
from master.http.problem import Problem
from ringmaster.cluster.node_status import NodeStatus
from ringmaster.cluster.view import NodeInfo, View
from ringmaster.coordinator import Commit, Coordinator
from ringmaster.errors import BadRequest, CoordinatorUnavailable
from ringmaster.runtime.clock import Clock

JSON_HEADERS = (("Content-Type", "application/json"), ("Cache-Control", "no-store"))

_NODE = re.compile(r"/cluster/nodes/([A-Za-z0-9._-]{1,64})(/drain)?")
_DRAIN = "admin/drain/"
_DRAINS = "admin/drains"
"""Written with every request to drain, so that of two that were decided on the same state one is decided again."""

_ATTEMPTS = 10


class ClusterApi:
    """`view()` is the current view; `statuses()` the latest answer of each node that answers."""

    def __init__(
        self,
        coordinator: Coordinator,
        cluster_watch: ClusterWatch,
        clock: Clock,
        view: Callable[[], View],
        statuses: Callable[[], Mapping[str, NodeStatus]],
        master_id: str,
    ) -> None:
        self._coordinator = coordinator
        self._cluster_watch = cluster_watch
        self._clock = clock
        self._view = view
        self._statuses = statuses
        self._master_id = master_id
        self._tallies = Tallies()

    async def show(self, exchange: Exchange) -> Reply:
        """`GET /cluster`."""
        view = self._view()
        summary = summarize(
            view,
            self._statuses(),
            masters=self._cluster_watch.masters,
            controller=self._cluster_watch.controller,
            coordinator_available=self._cluster_watch.available,
            eta_s=self._cluster_watch.eta_s,
            counted=self._tallies.of(view),
        )
        return Reply.build(200, JSON_HEADERS, msgspec.json.encode(summary))

    async def drain(self, exchange: Exchange) -> Reply:
        """`POST /cluster/nodes/{id}/drain`: 202; 409 if too few copies would remain, unless `force=1`.

        With `dry_run=1`: 200, what it would take, and nothing is done.
        """
        parameters = exchange.parameters("dry_run", "force")
        dry_run, force = (_is_set(parameters, name) for name in ("dry_run", "force"))
        node = self._node(exchange)
        await exchange.refuse_body()
        for _ in range(_ATTEMPTS):
            # The view may not know of a drain that was asked for a moment ago.
            found = await self._coordinator.read_all((_DRAIN, _DRAINS))
            decided_on = found.pop(_DRAINS, None)
            others = [key.removeprefix(_DRAIN) for key in found]
            forecast = forecast_drain(self._view(), self._statuses(), node, others)
            if dry_run:
                return Reply.build(200, JSON_HEADERS, msgspec.json.encode(forecast))
            guarded = not force and not node.draining
            if guarded and forecast.too_few_copies:
                raise _too_few(forecast, self._view().replicas)
            expect = {_DRAINS: decided_on.version if decided_on else 0} if guarded else {}
            put = dict.fromkeys((_DRAIN + node.id, _DRAINS), self._stamp())
            if await self._coordinator.commit(Commit(expect=expect, put=put)) is not None:
                return _accepted(node.id, "draining")
        raise CoordinatorUnavailable("other requests to drain keep coming first")

    async def undrain(self, exchange: Exchange) -> Reply:
        """`DELETE /cluster/nodes/{id}/drain`: 202."""
        exchange.parameters()
        node = self._node(exchange)
        await self._withdraw(exchange, _DRAIN + node.id)
        return _accepted(node.id, "taking part")

    async def forget(self, exchange: Exchange) -> Reply:
        """`DELETE /cluster/nodes/{id}`: 202, 409 while it is up."""
        exchange.parameters()
        node = self._node(exchange)
        if node.up:
            raise Problem(
                409, "node-is-up", f"node {node.id} is up; drain and stop it, then forget it"
            )
        await self._request(exchange, f"admin/forget/{node.id}")
        return _accepted(node.id, "forgotten")

    async def pause(self, exchange: Exchange) -> Reply:
        """`POST /cluster/rebalance/pause`: 204."""
        await self._request(exchange, "admin/pause")
        return Reply.build(204, (("Cache-Control", "no-store"),))

    async def resume(self, exchange: Exchange) -> Reply:
        """`POST /cluster/rebalance/resume`: 204."""
        await self._withdraw(exchange, "admin/pause")
        return Reply.build(204, (("Cache-Control", "no-store"),))

    def _node(self, exchange: Exchange) -> NodeInfo:
        match = _NODE.fullmatch(exchange.path)
        node = None if match is None else self._view().nodes.get(match[1])
        if node is None:
            raise Problem(404, "no-such-node", "no node with this id; GET /cluster lists them")
        return node

    async def _request(self, exchange: Exchange, key: str) -> None:
        await exchange.refuse_body()
        await self._coordinator.commit(Commit(put={key: self._stamp()}))

    def _stamp(self) -> bytes:
        return msgspec.json.encode({"by": self._master_id, "at": self._clock.wall()})

    async def _withdraw(self, exchange: Exchange, key: str) -> None:
        await exchange.refuse_body()
        await self._coordinator.commit(Commit(delete=frozenset({key})))


def _is_set(parameters: Mapping[str, str], name: str) -> bool:
    value = parameters.get(name, "0")
    if value not in ("0", "1"):
        raise BadRequest(f"{name} must be 0 or 1, not {value!r}")
    return value == "1"


def _too_few(forecast: DrainForecast, replicas: int) -> Problem:
    left = (
        "no other node is there to take over"
        if forecast.lost
        else f"{forecast.stay} node{'s' if forecast.stay > 1 else ''} would be left for "
        f"{replicas} copies of each partition"
    )
    return Problem(
        409,
        "too-few-copies",
        f"{left}; start another node first, or drain it all the same with force=1",
        too_few_copies=forecast.too_few_copies,
    )


def _accepted(node: str, becomes: str) -> Reply:
    body = msgspec.json.encode({"node": node, "becomes": becomes, "progress": "/cluster"})
    return Reply.build(202, JSON_HEADERS, body)

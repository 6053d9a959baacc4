"""`GET /cluster/events`: every new view as a server-sent event whose id is its epoch (WHATWG HTML §9.2).

A subscriber has no queue of its own: it reads on from its last epoch in one short history, and when that is further
back than the history reaches, it gets the newest state. A slow reader costs nothing.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

import msgspec
from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

from master.api.request import Exchange
from master.api.summary import node_state
from master.api.traffic import STEP_MS, TrafficSteps
from master.http.access import Access
from master.http.problem import Problem
from master.http.target import integer_of_text
from ringmaster.cluster.view import Partition, View
from ringmaster.errors import BadRequest

HISTORY = 256
MOST_SUBSCRIBERS = 256
HEARTBEAT_S = 5.0
"""Less than the 8 s after which nginx takes a silent master for dead."""
SLOW_S = 10.0

_HEADERS = {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",
    "X-Content-Type-Options": "nosniff",
    "Server": "ringmaster",
}


class ViewEvents:
    """The newest views, and who waits for the next. Close it before the server so that streams end.

    `now_ms()` is cluster time; `traffic` what this master answered.
    """

    def __init__(self, now_ms: Callable[[], int], traffic: TrafficSteps) -> None:
        self._now_ms = now_ms
        self._traffic = traffic
        self._history: deque[tuple[int, bytes]] = deque(maxlen=HISTORY)
        self._news = asyncio.Event()
        self._closed = False
        self._last: View | None = None
        self.subscribers = 0

    def publish(self, view: View) -> None:
        """Tell everyone about `view`. Older or equal epochs are ignored."""
        if self._last is not None and view.epoch <= self._last.epoch:
            return
        self._history.append((view.epoch, _event(view, self._last, self._now_ms())))
        self._last = view
        self._wake()

    def close(self) -> None:
        """End all streams."""
        self._closed = True
        self._wake()

    async def stream(self, exchange: Exchange) -> web.StreamResponse:
        """Serve one subscriber until it leaves, its token is revoked, or this closes."""
        parameters = exchange.parameters("history", "traffic")
        most = integer_of_text(parameters.get("history", "1"), "history", 1, HISTORY)
        with_traffic = integer_of_text(parameters.get("traffic", "0"), "traffic", 0, 1) == 1
        epoch = _last_event_id(exchange)
        if epoch < 0:
            epoch = self._epoch_before(most)
        if self.subscribers >= MOST_SUBSCRIBERS:
            detail = f"{MOST_SUBSCRIBERS} event streams are open already"
            raise Problem(503, "unavailable", detail, headers=(("Retry-After", "10"),))
        response = web.StreamResponse(headers=_HEADERS)
        response.force_close()
        self.subscribers += 1
        try:
            await response.prepare(exchange.request)
            if exchange.method != "HEAD":
                stream = _Stream(response, exchange.request.writer)
                await self._feed(stream, exchange.access, epoch, with_traffic=with_traffic)
        except ConnectionError:
            pass  # It left.
        finally:
            self.subscribers -= 1
        return response

    async def _feed(
        self, stream: _Stream, access: Access, epoch: int, *, with_traffic: bool
    ) -> None:
        await stream.send(b"retry: 1000\n\n")
        told_ms = 0
        while not self._closed and not access.revoked:
            if with_traffic and self._traffic.last_ms > told_ms:
                # Without an id: it is of this master, not of the cluster.
                await stream.send(b"event: traffic\ndata: %b\n\n" % self._traffic.told(told_ms))
                told_ms = self._traffic.last_ms
            news = self._news
            for number, event in self._since(epoch):
                await stream.send(event)
                epoch = number
            if news is not self._news:
                continue
            try:
                async with asyncio.timeout(STEP_MS / 1000 if with_traffic else HEARTBEAT_S):
                    await news.wait()
            except TimeoutError:
                await stream.send(b": still here\n\n")

    def _epoch_before(self, most: int) -> int:
        """After which the `most` newest events come."""
        older = list(self._history)[:-most]
        return older[-1][0] if older else self._history[0][0] - 1 if self._history else -1

    def _since(self, epoch: int) -> list[tuple[int, bytes]]:
        if not self._history:
            return []
        if epoch < self._history[0][0] - 1:
            return [self._history[-1]]
        return [each for each in self._history if each[0] > epoch]

    def _wake(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()


class _Stream:
    def __init__(self, response: web.StreamResponse, writer: AbstractStreamWriter) -> None:
        self._response = response
        self._writer = writer

    async def send(self, data: bytes) -> None:
        """Send, and wait until the subscriber has room for more. Raises `ConnectionError` if that takes too long."""
        try:
            async with asyncio.timeout(SLOW_S):
                await self._response.write(data)
                await self._writer.drain()
        except TimeoutError as error:
            raise ConnectionError("the subscriber does not read") from error


def _last_event_id(exchange: Exchange) -> int:
    text = exchange.header("Last-Event-ID")
    if text is None or text == "":
        return -1
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise BadRequest("Last-Event-ID must be an epoch, a whole number")
    return int(text)


def _event(view: View, before: View | None, now_ms: int) -> bytes:
    holders = view.holders() | {row.awaits for row in view.table}
    old = before.table if before is not None and len(before.table) == len(view.table) else ()
    body = {
        "epoch": view.epoch,
        "at_ms": now_ms,
        "nodes": {
            node.id: node_state(node, drains=node.draining, holds=node.id in holders)
            for node in view.nodes.values()
        },
        "changed": sum(1 for row, was in zip(view.table, old, strict=False) if row != was)
        if old
        else view.partitions,
        "promoted": sum(map(_is_promoted, view.table, old)),
        "without_primary": sum(row.primary is None for row in view.table),
        "under_replicated": sum(len(row.in_sync) < view.replicas for row in view.table),
        "moving": sum(len(row.filling) + (row.awaits is not None) for row in view.table),
        "paused": view.paused,
    }
    return b"id: %d\nevent: view\ndata: %s\n\n" % (view.epoch, msgspec.json.encode(body))


def _is_promoted(row: Partition, was: Partition) -> bool:
    """Whether a replica took over from a primary that did not hand over."""
    moved = None not in (row.primary, was.primary) and row.primary != was.primary
    return moved and row.awaits is None and was.primary not in row.in_sync

"""Reads of the fast path that ask to wait (R12): `Prefer: wait`."""

from __future__ import annotations

from master.fastpath.context import Client
from master.fastpath.requests import Get
from master.http.preferences import applied
from ringmaster.protocol.resp import Reply
from ringmaster.routing.fills import Ask


class WaitingGet(Get):
    """`GET /data/{key}` that waits up to `wait_s` seconds for a missing key, or is given a token to fill it.

    Nearly all find the key; those that do not, or find it stale, ask once more, for a place in the line. `proxied`: the
    connection is not the client's, so its end says nothing of who holds a token.
    """

    __slots__ = ("_fills", "ask", "proxied", "wait_s")

    def __init__(
        self, connection: Client, key: bytes, began: float, wait_s: int, *, proxied: bool
    ) -> None:
        super().__init__(connection, key, began)
        self.wait_s = wait_s
        self.proxied = proxied
        self.ask: Ask | None = None
        self._fills = connection.context.router.fills

    def replied(self, reply: Reply) -> None:
        connection = self.connection
        if connection is None:
            return
        self.connection = None
        context = connection.context
        if isinstance(reply, bytes) and not context.replies.is_stale(reply):
            route = self.route
            node = b"" if route is None else route.node
            raw = context.replies.hit(self.key, reply, node, applied(self.wait_s))
            context.get_hit.observe(context.clock.boottime() - self.began)
            connection.finish(self, raw)
        else:
            context.spawn(self._wait(connection), self, connection)

    def patience_s(self, deadline_s: float) -> float:
        return min(self.wait_s, deadline_s) if self.wait_s else deadline_s

    def dropped(self) -> None:
        self.connection = None
        ask = self.ask
        if ask is not None:
            self._fills.drop(ask)

    async def _wait(self, connection: Client) -> bytes:
        context = connection.context
        fills = self._fills
        answer_by = self.began + context.limits.deadline_s
        until = self.began + self.wait_s if self.wait_s else answer_by
        ask = self.ask = fills.begin(self.key, waits=self.wait_s > 0)
        filled = await fills.result(ask, answer_by, until)
        token = filled.fill_token
        if token:
            if not self.proxied:
                connection.hold(self.key, token)
            elif connection.is_lost:
                fills.left(self.key, token)
        lines = applied(self.wait_s, token) if filled.waited else b""
        seconds = context.clock.boottime() - self.began
        if filled.entry is None:
            context.get_miss.observe(seconds)
            return context.replies.miss(lines)
        context.get_hit.observe(seconds)
        return context.replies.hit(self.key, filled.entry, context.router.node_of(self.key), lines)

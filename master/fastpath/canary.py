"""Requests of the masters' self-audit: served as any other, and counted nowhere, so that figures are those of clients."""

from __future__ import annotations

from master.fastpath.context import Client
from master.fastpath.requests import Get, Write
from ringmaster.errors import RingmasterError
from ringmaster.protocol.resp import Reply
from ringmaster.protocol.write_options import WriteReply
from ringmaster.routing.outcomes import read_outcome


class CanaryGet(Get):
    """`Get` without its counters."""

    __slots__ = ()

    def replied(self, reply: Reply) -> None:
        connection = self.connection
        if connection is None:
            return
        if reply is None or isinstance(reply, bytes):
            self.connection = None
            route = self.route
            node = b"" if route is None else route.node
            connection.finish(self, self._render(connection, reply, node))
            return
        outcome = read_outcome(reply)
        if isinstance(outcome, RingmasterError):
            self.fail(outcome)
            return
        self.connection = None
        connection.context.spawn(self._again(connection, reply), self, connection)

    async def _again(self, connection: Client, refusal: Reply) -> bytes:
        context = connection.context
        deadline = self.began + context.limits.deadline_s
        entry = await context.router.read(self.key, deadline, refusal)
        return self._render(connection, entry, context.router.node_of(self.key))

    def _render(self, connection: Client, entry: bytes | None, node: bytes) -> bytes:
        replies = connection.context.replies
        return replies.miss() if entry is None else replies.hit(self.key, entry, node)


class CanaryWrite(Write):
    """`Write` without its counters. There are no conditions, so it is done if it is answered."""

    __slots__ = ()

    def _answer(self, connection: Client, reply: WriteReply) -> bytes:
        return self.render(self.key, reply)


def begin_canary(
    connection: Client, method: bytes, key: bytes, args: tuple[bytes, bytes], now: float
) -> bool:
    """Begin a `GET` or `PUT` of `key`; `args`: value and options of a `PUT`. False for any other: nothing has begun."""
    context = connection.context
    if method == b"GET":
        get = CanaryGet(connection, key, now)
        connection.waiting.append(get)
        context.router.get_nowait(key, get)
        return True
    if method != b"PUT":
        return False
    write = CanaryWrite(connection, key, now, "PUT", b"RM.SET", args, context.replies.put)
    connection.waiting.append(write)
    context.router.write_nowait(write.command, key, args, write)
    return True

"""Requests of the fast path between their arrival and their reply.

The reply of the primary comes as a callback. What is not a plain reply is left to a task, so that
waiting and asking again are the router's alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from master.fastpath.context import Client, Context, InFlight
from master.http.write_rules import refusal
from ringmaster.errors import RingmasterError
from ringmaster.protocol.entry import header
from ringmaster.protocol.resp import Reply
from ringmaster.protocol.write_options import Status, WriteReply
from ringmaster.routing.outcomes import read_outcome, write_outcome

_CREATED: Final = int(Status.CREATED)
_WRITTEN: Final = _CREATED
"""The highest status of a write that was done; looking a member up in its enum is a call in CPython 3.11."""


class Get(InFlight):
    """`GET /data/{key}`. `plain`: the key stands in a JSON string as it is."""

    __slots__ = ()

    plain = False

    def replied(self, reply: Reply) -> None:
        connection = self.connection
        if connection is None:
            return
        context = connection.context
        turn = context.turn
        if turn.over:
            turn.begin()
        if isinstance(reply, bytes):
            self.connection = None
            route = self.route
            node = b"" if route is None else route.node
            raw = (
                context.replies.plain_hit(self.key, reply, node, turn.now_ms)
                if self.plain
                else context.replies.hit(self.key, reply, node)
            )
            context.get_hit.observe(turn.boottime - self.began)
            # As in `PlainPost.replied`: a look at how long requests wait.
            if turn.boottime >= context.overload.look_at:
                context.overload.waited(turn.boottime, turn.boottime - self.began)
            connection.finish(self, raw)
        elif reply is None:
            self.connection = None
            if turn.boottime >= context.overload.look_at:
                context.overload.waited(turn.boottime, turn.boottime - self.began)
            context.get_miss.observe(turn.boottime - self.began)
            connection.finish(self, context.replies.miss())
        else:
            self._unusual(reply)

    def _unusual(self, reply: Reply) -> None:
        outcome = read_outcome(reply)
        if isinstance(outcome, RingmasterError):
            self.fail(outcome)
            return
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.context.spawn(self._again(connection, reply), self, connection)

    async def _again(self, connection: Client, refusal: Reply) -> bytes:
        context = connection.context
        deadline = self.began + context.limits.deadline_s
        entry = await context.router.read(self.key, deadline, refusal)
        if entry is None:
            context.get_miss.observe(context.clock.boottime() - self.began)
            return context.replies.miss()
        context.get_hit.observe(context.clock.boottime() - self.began)
        return context.replies.hit(self.key, entry, context.router.node_of(self.key))


class PlainGet(Get):
    """A `Get` of a key that was written without any escape, as most are."""

    __slots__ = ()

    plain = True


class ConditionalGet(Get):
    """`GET /data/{key}` with an `If-None-Match` of one tag: `tag`, in its quotes."""

    __slots__ = ("tag",)

    def __init__(self, connection: Client, key: bytes, began: float, tag: bytes) -> None:
        super().__init__(connection, key, began)
        self.tag = tag

    def replied(self, reply: Reply) -> None:
        connection = self.connection
        if connection is None or not isinstance(reply, bytes):
            super().replied(reply)
            return
        self.connection = None
        route = self.route
        node = b"" if route is None else route.node
        connection.finish(self, self._found(connection.context, reply, node))

    async def _again(self, connection: Client, refusal: Reply) -> bytes:
        context = connection.context
        deadline = self.began + context.limits.deadline_s
        entry = await context.router.read(self.key, deadline, refusal)
        if entry is None:
            context.get_miss.observe(context.clock.boottime() - self.began)
            return context.replies.miss()
        return self._found(context, entry, context.router.node_of(self.key))

    def _found(self, context: Context, entry: bytes, node: bytes) -> bytes:
        """304 if the tag is that of `entry`, else 200."""
        seconds = context.clock.boottime() - self.began
        decoded = header(entry)
        if self.tag == b'"%b"' % context.replies.version(decoded.term, decoded.seq):
            context.get_same.observe(seconds)
            return context.replies.not_modified(entry, node)
        context.get_hit.observe(seconds)
        return context.replies.hit(self.key, entry, node)


class Write(InFlight):
    """A write without conditions; `render` makes the reply to its success."""

    __slots__ = ("args", "command", "render", "verb")

    write = True

    def __init__(
        self,
        connection: Client,
        key: bytes,
        began: float,
        verb: str,
        command: bytes,
        args: Sequence[bytes | int],
        render: Callable[[bytes, WriteReply], bytes],
    ) -> None:
        # Not by super(): a call less for each write.
        self.connection: Client | None = connection
        self.key = key
        self.began = began
        self.raw: bytes | None = None
        self.verb = verb
        self.command = command
        self.args = args
        self.render = render

    @property
    def method(self) -> str:
        return self.verb

    def replied(self, reply: Reply) -> None:
        connection = self.connection
        if connection is None:
            return
        if type(reply) is list:
            self.connection = None
            connection.finish(self, self._answer(connection, WriteReply(*reply)))
            return
        outcome = write_outcome(reply)
        if isinstance(outcome, RingmasterError):
            self.fail(outcome)
            return
        self.connection = None
        if isinstance(outcome, WriteReply):
            connection.finish(self, self._answer(connection, outcome))
        else:
            connection.context.spawn(self._again(connection, reply), self, connection)

    async def _again(self, connection: Client, refusal: Reply) -> bytes:
        context = connection.context
        deadline = self.began + context.limits.deadline_s
        reply = await context.router.write(self.command, self.key, self.args, deadline, refusal)
        return self._answer(connection, reply)

    def _answer(self, connection: Client, reply: WriteReply) -> bytes:
        context = connection.context
        if reply.status > _WRITTEN:
            refused = refusal(reply, context.replies)
            if refused is not None:
                return context.problem(self, refused)
        now = context.clock.boottime()
        context.written[self.verb].observe(now - self.began)
        if now >= context.overload.look_at:
            context.overload.waited(now, now - self.began)
        return self.render(self.key, reply)


class PlainPost(Write):
    """`POST /data` of a JSON value, without options; the key stands in a JSON string as it is."""

    __slots__ = ()

    def __init__(self, connection: Client, key: bytes, began: float, value: bytes) -> None:
        self.connection: Client | None = connection
        self.key = key
        self.began = began
        self.raw: bytes | None = None
        self.verb = "POST"
        self.command = b"RM.SET"
        self.args = (value,)
        self.render = connection.context.replies.posted

    def replied(self, reply: Reply) -> None:
        connection = self.connection
        if connection is None or type(reply) is not list or reply[0] > _WRITTEN or reply[3]:
            super().replied(reply)
            return
        self.connection = None
        context = connection.context
        turn = context.turn
        if turn.over:
            turn.begin()
        status, term, seq, _ = reply
        raw = context.replies.plain_posted(self.key, status == _CREATED, term, seq, turn.now_ms)
        context.posted.observe(turn.boottime - self.began)
        if turn.boottime >= context.overload.look_at:
            context.overload.waited(turn.boottime, turn.boottime - self.began)
        connection.finish(self, raw)


class Refused(InFlight):
    """A request that never reached a primary; its error waits for its turn."""

    __slots__ = ("verb",)

    def __init__(self, connection: Client, method: bytes, began: float) -> None:
        super().__init__(connection, b"", began)
        self.verb = method.decode()

    @property
    def method(self) -> str:
        return self.verb

    def replied(self, reply: Reply) -> None:
        """Nobody was asked."""

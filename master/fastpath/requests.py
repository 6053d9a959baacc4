"""Requests of the fast path between their arrival and their reply.

The reply of the primary comes as a callback. What is not a plain reply is left to a task, so that
waiting and asking again are the router's alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from master.api.data import refusal
from master.http.problem import Problem
from ringmaster.errors import DeadlineExceeded, RingmasterError
from ringmaster.protocol.resp import Reply
from ringmaster.protocol.write_options import Status, WriteReply
from ringmaster.routing.outcomes import Ask, judge_read, judge_write

if TYPE_CHECKING:
    from master.fastpath.connection import Connection

_CREATED: Final = int(Status.CREATED)
_WRITTEN: Final = _CREATED
"""The highest status of a write that was done; looking a member up in its enum is a call in CPython 3.11."""

_LATE: Final = DeadlineExceeded("no reply came within the deadline")


class InFlight(Ask):
    """One request. `raw` is its reply once that is made; `began` and `deadline` are by `Clock.boottime()`.

    `connection` is None as soon as a reply is in the making: a later one is ignored.
    """

    __slots__ = ("began", "connection", "key", "raw")

    write = False

    @property
    def method(self) -> str:
        """Of the request, for the counters."""
        return "GET"

    def __init__(self, connection: Connection, key: bytes, began: float) -> None:
        self.connection: Connection | None = connection
        self.key = key
        self.began = began
        self.raw: bytes | None = None

    def expire(self) -> None:
        """The deadline passed without a reply."""
        self.replied(_LATE)

    def fail(self, error: RingmasterError | Problem) -> None:
        """Answer with `error`."""
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.finish(self, connection.path.problem(self, error))


class Get(InFlight):
    """`GET /data/{key}`. `plain`: the key stands in a JSON string as it is."""

    __slots__ = ()

    plain = False

    def replied(self, reply: Reply) -> None:
        connection = self.connection
        if connection is None:
            return
        path = connection.path
        turn = path.turn
        if turn.over:
            turn.begin()
        if isinstance(reply, bytes):
            self.connection = None
            route = self.route
            node = b"" if route is None else route.node
            raw = (
                path.replies.plain_hit(self.key, reply, node, turn.wall)
                if self.plain
                else path.replies.hit(self.key, reply, node)
            )
            path.get_hit.observe(turn.boottime - self.began)
            connection.finish(self, raw)
        elif reply is None:
            self.connection = None
            path.get_miss.observe(turn.boottime - self.began)
            connection.finish(self, path.replies.miss())
        else:
            self._unusual(reply)

    def _unusual(self, reply: Reply) -> None:
        verdict = judge_read(reply)
        if isinstance(verdict, RingmasterError):
            self.fail(verdict)
            return
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.path.spawn(self._again(connection), self, connection)

    async def _again(self, connection: Connection) -> bytes:
        path = connection.path
        entry = await path.router.read(self.key, self.began + path.limits.deadline_s)
        if entry is None:
            path.get_miss.observe(path.clock.boottime() - self.began)
            return path.replies.miss()
        path.get_hit.observe(path.clock.boottime() - self.began)
        return path.replies.hit(self.key, entry, path.router.node_of(self.key))


class PlainGet(Get):
    """A `Get` of a key that was written without any escape, as most are."""

    __slots__ = ()

    plain = True


class Write(InFlight):
    """A write without conditions; `render` makes the reply to its success."""

    __slots__ = ("args", "command", "render", "verb")

    write = True

    def __init__(
        self,
        connection: Connection,
        key: bytes,
        began: float,
        verb: str,
        command: bytes,
        args: Sequence[bytes | int],
        render: Callable[[bytes, WriteReply], bytes],
    ) -> None:
        # Not by super(): a call less for each write.
        self.connection: Connection | None = connection
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
        verdict = judge_write(reply)
        if isinstance(verdict, RingmasterError):
            self.fail(verdict)
            return
        self.connection = None
        if isinstance(verdict, WriteReply):
            connection.finish(self, self._answer(connection, verdict))
        else:
            connection.path.spawn(self._again(connection), self, connection)

    async def _again(self, connection: Connection) -> bytes:
        path = connection.path
        deadline = self.began + path.limits.deadline_s
        reply = await path.router.write(self.command, self.key, self.args, deadline)
        return self._answer(connection, reply)

    def _answer(self, connection: Connection, reply: WriteReply) -> bytes:
        path = connection.path
        if reply.status > _WRITTEN:
            refused = refusal(reply, path.replies)
            if refused is not None:
                return path.problem(self, refused)
        path.written[self.verb].observe(path.clock.boottime() - self.began)
        return self.render(self.key, reply)


class PlainPost(Write):
    """`POST /data` of a JSON value, without options; the key stands in a JSON string as it is."""

    __slots__ = ()

    def __init__(self, connection: Connection, key: bytes, began: float, value: bytes) -> None:
        self.connection: Connection | None = connection
        self.key = key
        self.began = began
        self.raw: bytes | None = None
        self.verb = "POST"
        self.command = b"RM.SET"
        self.args = (value,)
        self.render = connection.path.replies.posted

    def replied(self, reply: Reply) -> None:
        connection = self.connection
        if connection is None or type(reply) is not list or reply[0] > _WRITTEN or reply[3]:
            super().replied(reply)
            return
        self.connection = None
        path = connection.path
        turn = path.turn
        if turn.over:
            turn.begin()
        status, term, seq, _ = reply
        raw = path.replies.plain_posted(self.key, status == _CREATED, term, seq, turn.wall)
        path.posted.observe(turn.boottime - self.began)
        connection.finish(self, raw)


class Refused(InFlight):
    """A request that never reached a primary; its error waits for its turn."""

    __slots__ = ("verb",)

    def __init__(self, connection: Connection, method: bytes, began: float) -> None:
        super().__init__(connection, b"", began)
        self.verb = method.decode()

    @property
    def method(self) -> str:
        return self.verb

    def replied(self, reply: Reply) -> None:
        """Nobody was asked."""

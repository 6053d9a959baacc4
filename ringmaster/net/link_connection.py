"""One pipelined connection to a peer: one write per loop tick, replies in order to those who wait for them.

It has its own queue of handlers and its own parser, so a late reply can never reach a request that was sent on another
connection.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from typing import Any, Final, cast

from ringmaster.errors import LinkBroken, LinkDown, LinkError, PeerError, WireError
from ringmaster.protocol.resp import CommandReader, Push, Reader, Reply

OnReply = Callable[[Reply], None]

OnPush = Callable[[list[Any]], None]

_STALL_CHECKS: Final = 4
_BUSY: Final = 8
"""With so many frames in a turn of the loop, wait for another turn before writing, as long as each brings more."""

_MOST_TURNS: Final = 3
"""For so many turns at most."""


class ReplyHandler(ABC):
    """Takes the reply to one request. A subclass with slots costs less than a callback for each request."""

    __slots__ = ()

    @abstractmethod
    def replied(self, reply: Reply) -> None:
        """The reply, or the error that came instead; the link calls it exactly once."""


class Callback(ReplyHandler):
    """Passes the reply on to a function."""

    __slots__ = ("_on_reply",)

    def __init__(self, on_reply: OnReply) -> None:
        self._on_reply = on_reply

    def replied(self, reply: Reply) -> None:
        self._on_reply(reply)


class LinkConnection:
    """One connection, from `connection_made` to its loss. `ready` and `lost` are futures."""

    def __init__(
        self, name: str, hello: bytes, stall_s: float, on_push: OnPush | None = None
    ) -> None:
        loop = asyncio.get_running_loop()
        self._loop = loop
        self._name = name
        self._hello = hello
        self._on_push = on_push
        self._greetings = len(CommandReader().feed(hello)) if hello else 0
        self._check_s = stall_s / _STALL_CHECKS
        self._reader = Reader()
        self._transport: asyncio.Transport | None = None
        self.frames: list[bytes] = []
        self._paused = False
        # Frames that waited at the last look, and for how many turns they have waited.
        self._seen = 0
        self._turns = 0
        self.answered = 0
        self._marks: deque[int] = deque()
        self._checks: asyncio.TimerHandle | None = None
        self.waiting: deque[ReplyHandler] = deque()
        self.unsent = 0
        self.is_lost = False
        self.on_lost: Callable[[LinkError], None] | None = None
        self.ready: asyncio.Future[None] = loop.create_future()
        self.lost: asyncio.Future[None] = loop.create_future()

    def as_protocol(self) -> asyncio.Protocol:
        """The connection as an asyncio protocol. It has the methods but does not inherit: an interpreted base class
        would make attribute access slow when this module is compiled.
        """
        return cast(asyncio.Protocol, self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if self.is_lost:
            self._transport.abort()
            return
        self._checks = self._loop.call_later(self._check_s, self._check)
        for _ in range(self._greetings):
            self.waiting.append(Callback(self._greeted))
        if self._greetings:
            self._transport.write(self._hello)
        else:
            self.ready.set_result(None)

    def _greeted(self, reply: Reply) -> None:
        self._greetings -= 1
        if isinstance(reply, PeerError):
            self.lose(LinkDown(f"{self._name} refused the greeting: {reply}"))
        elif not self._greetings and not self.ready.done():
            self.ready.set_result(None)

    def flush_soon(self) -> None:
        """To be called with the first frame of a turn of the loop: write all of the turn's frames when it is over."""
        if not self._paused:
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        frames = self.frames
        if self._paused or not frames or self._transport is None:
            return
        if self._turns < _MOST_TURNS and len(frames) >= max(_BUSY, self._seen + 1):
            # Under load fewer and larger writes save more time, here and at the peer, than the wait costs.
            self._seen = len(frames)
            self._turns += 1
            self._loop.call_soon(self._flush)
            return
        self._seen = self._turns = 0
        self.frames = []
        self.unsent = 0
        self._transport.write(frames[0] if len(frames) == 1 else b"".join(frames))

    def eof_received(self) -> None:
        """The peer sends no more. Returning None has the transport close the connection."""

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._flush()

    def data_received(self, data: bytes) -> None:
        if self.is_lost:
            return
        try:
            replies = self._reader.feed(data)
        except WireError as error:
            self.lose(LinkBroken(f"{self._name} does not speak the protocol: {error}"))
            return
        if self._on_push is not None:
            self._take_mixed(replies, self._on_push)
            return
        waiting = self.waiting
        if len(replies) > len(waiting):
            self.lose(LinkBroken(f"{self._name} sent a reply without a request"))
            return
        self.answered += len(replies)
        for reply in replies:
            # A callback may have closed the link, which answered all the others.
            if not waiting:
                break
            waiting.popleft().replied(reply)

    def _take_mixed(self, replies: list[Reply], on_push: OnPush) -> None:
        """Replies, and what was said unasked, in the order in which they came."""
        waiting = self.waiting
        for reply in replies:
            if type(reply) is Push:
                on_push(cast("list[Any]", reply))
            elif waiting:
                self.answered += 1
                waiting.popleft().replied(reply)
            elif not self.is_lost:
                self.lose(LinkBroken(f"{self._name} sent a reply without a request"))
            if self.is_lost:
                return

    def _check(self) -> None:
        """Break the connection if a request that was in flight `_STALL_CHECKS` checks ago still is.

        Counts checks, not clock time: while this process is stopped, no peer becomes late.
        """
        marks = self._marks
        marks.append(self.answered + len(self.waiting))
        if len(marks) > _STALL_CHECKS and self.answered < marks.popleft():
            self.lose(LinkBroken(f"{self._name} stalled"))
        else:
            self._checks = self._loop.call_later(self._check_s, self._check)

    def connection_lost(self, error: Exception | None) -> None:
        self.lose(LinkBroken(f"the connection to {self._name} was lost"))

    def lose(self, error: LinkError) -> None:
        """Give up this connection and fail every request on it. Idempotent."""
        if self.is_lost:
            return
        self.is_lost = True
        if self._checks is not None:
            self._checks.cancel()
        if self._transport is not None:
            self._transport.abort()
        # Emptied in place: `data_received` may be handing out replies from it right now.
        waiting = list(self.waiting)
        self.waiting.clear()
        unsent = len(self.frames)
        self.frames = []
        self.unsent = 0
        if not self.ready.done():
            self.ready.set_exception(LinkDown(str(error)))
            self.ready.exception()
        if not self.lost.done():
            self.lost.set_result(None)
        if self.on_lost is not None:
            self.on_lost(error)
        sent = len(waiting) - unsent
        never_sent = LinkDown(str(error))
        for index, handler in enumerate(waiting):
            handler.replied(error if index < sent else never_sent)

"""The pipelined connection to a peer: one write per loop tick, replies in order to callbacks.

Reconnects by itself. A connection has its own queue of callbacks and its own parser, so a late
reply can never reach a request that was sent on another connection.
"""

from __future__ import annotations

import asyncio
import random
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from typing import Any, Final, cast

import structlog

from ringmaster.errors import (
    DeadlineExceeded,
    LinkBroken,
    LinkDown,
    LinkError,
    LinkFull,
    PeerError,
    RingmasterError,
    WireError,
)
from ringmaster.net.network import Network
from ringmaster.protocol.resp import CommandReader, Push, Reader, Reply

OnReply = Callable[[Reply], None]

OnPush = Callable[[list[Any]], None]

CLOSED: Final = "closed"
OPEN: Final = "open"
HALF_OPEN: Final = "half-open"

_BACKOFF_LEAST_S: Final = 0.005
_BACKOFF_FIRST_S: Final = 0.02
_BACKOFF_MOST_S: Final = 1.0
_STEADY_S: Final = 1.0
"""A connection that was lost sooner was no success: a peer that takes connections and drops them is failing."""

_CONNECT_S: Final = 2.0
_STALL_CHECKS: Final = 4
_BUSY: Final = 8
"""With so many frames in a turn of the loop, wait for another turn before writing, as long as each brings more."""

_MOST_TURNS: Final = 3
"""For so many turns at most."""

_log = structlog.get_logger(__name__)


class ReplyHandler(ABC):
    """Takes the reply to one request. A subclass with slots costs less than a callback for each request."""

    __slots__ = ()

    @abstractmethod
    def replied(self, reply: Reply) -> None:
        """The reply, or the error that came instead; the link calls it exactly once."""


class _Callback(ReplyHandler):
    """Passes the reply on to a function."""

    __slots__ = ("_on_reply",)

    def __init__(self, on_reply: OnReply) -> None:
        self._on_reply = on_reply

    def replied(self, reply: Reply) -> None:
        self._on_reply(reply)


class ConnectCounts:
    """`attempts` to connect, and how many were `failures`, of several links together."""

    __slots__ = ("attempts", "failures")

    def __init__(self) -> None:
        self.attempts = 0
        self.failures = 0


class Link:
    """A connection to `address` that carries any number of requests at once.

    `hello`: commands sent first on each connection; the link is up when all were answered without
    an error. Bounds: `max_in_flight` requests without a reply, `max_buffer` bytes not yet taken by
    the transport. A reply that is `stall_s` seconds late breaks the connection. `jitter()` is
    uniform in [0, 1) and spreads reconnections. `on_up` and `on_down` are called from the loop, and so is `on_push` with what
    the peer says unasked, between the replies where it came; without `on_push` the peer may not.
    """

    def __init__(
        self,
        network: Network,
        address: str,
        *,
        name: str,
        hello: bytes,
        max_in_flight: int = 4096,
        max_buffer: int = 64 * 1024 * 1024,
        stall_s: float = 5.0,
        on_up: Callable[[], None] | None = None,
        on_down: Callable[[], None] | None = None,
        on_push: OnPush | None = None,
        jitter: Callable[[], float] = random.random,
        counts: ConnectCounts | None = None,
    ) -> None:
        self.name = name
        self.address = address
        self._network = network
        self._hello = hello
        self._max_in_flight = max_in_flight
        self._max_buffer = max_buffer
        self._stall_s = stall_s
        self._on_up = on_up
        self._on_down = on_down
        self._on_push = on_push
        self._jitter = jitter
        self._connection: _Connection | None = None
        self._opening: _Connection | None = None
        self._task: asyncio.Task[None] | None = None
        self._complaint = ""
        self._counts = ConnectCounts() if counts is None else counts
        # Before this connection.
        self._answered = 0

    def __repr__(self) -> str:
        connection = self._connection
        state = "down" if connection is None else f"up, {len(connection.waiting)} in flight"
        return f"<Link {self.name} {self.address} {state}>"

    @property
    def connected(self) -> bool:
        """Whether a request sent now would leave."""
        return self._connection is not None

    @property
    def in_flight(self) -> int:
        """Requests without a reply."""
        return 0 if self._connection is None else len(self._connection.waiting)

    @property
    def circuit(self) -> str:
        """`closed`: requests pass. `open`: the peer failed, and they fail at once, without a try. `half-open`: it is being tried."""
        if self._connection is not None:
            return CLOSED
        return OPEN if self._opening is None else HALF_OPEN

    @property
    def answered(self) -> int:
        """Replies that came, on all connections."""
        connection = self._connection
        return self._answered + (0 if connection is None else connection.answered)

    def start(self) -> None:
        """Connect, and reconnect whenever it is lost, until `close`."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(
                self._run(), name=f"link {self.name}"
            )

    def stop(self) -> asyncio.Task[None] | None:
        """Fail everything in flight now and stay down. Returns the task that is ending, if any. Idempotent."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
        self.abort(LinkBroken(f"the link to {self.name} was closed"))
        return task

    async def close(self) -> None:
        """`stop`, and wait until it is done."""
        task = self.stop()
        if task is not None:
            await asyncio.wait([task], timeout=_CONNECT_S)

    def pending(self) -> list[ReplyHandler]:
        """The handlers of the requests in flight, oldest first."""
        return [] if self._connection is None else list(self._connection.waiting)

    def abort(self, error: LinkError) -> None:
        """Drop the connection now: what was sent gets `error`, what was not gets `LinkDown`."""
        for connection in (self._connection, self._opening):
            if connection is not None:
                connection.lose(error)

    def send(self, frame: bytes, on_reply: OnReply) -> None:
        """`ask`, with a function for the reply."""
        self.ask(frame, _Callback(on_reply))

    def ask(self, frame: bytes, handler: ReplyHandler) -> None:
        """Send `frame`, one encoded command; `handler` gets its reply, exactly once.

        Never raises. `LinkDown` and `LinkFull` (never sent) arrive before `ask` returns,
        `LinkBroken` (sent, outcome unknown) when the connection is lost.
        """
        connection = self._connection
        if connection is None:
            handler.replied(LinkDown(f"not connected to {self.name}"))
            return
        waiting = connection.waiting
        if len(waiting) >= self._max_in_flight or connection.unsent > self._max_buffer:
            handler.replied(LinkFull(f"too much is in flight to {self.name}"))
            return
        waiting.append(handler)
        frames = connection.frames
        if not frames:
            connection.flush_soon()
        frames.append(frame)
        connection.unsent += len(frame)

    async def request(self, frame: bytes, timeout_s: float) -> bytes | int | list[Any] | None:
        """`send`, and wait for the reply at most `timeout_s` seconds.

        Raises the error that came instead of a reply, or `DeadlineExceeded`.
        """
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()

        def resolve(reply: Reply) -> None:
            if not future.done():
                future.set_result(reply)

        self.send(frame, resolve)
        try:
            async with asyncio.timeout(timeout_s):
                reply = await future
        except TimeoutError:
            raise DeadlineExceeded(f"no reply from {self.name} in {timeout_s:g} s") from None
        if isinstance(reply, RingmasterError):
            raise reply
        return reply

    async def _run(self) -> None:
        """Connect, wait until it is lost, back off, again. Owned by `start` and `close`.

        One attempt at a time, whatever is asked meanwhile, and between two a pause that is exponential, with full jitter (M. Brooker,
        "Exponential Backoff and Jitter", 2015).
        """
        loop = asyncio.get_running_loop()
        counts = self._counts
        backoff_s = _BACKOFF_FIRST_S
        while True:
            connection = _Connection(self.name, self._hello, self._stall_s, self._on_push)
            self._opening = connection
            counts.attempts += 1
            try:
                await self._network.connect(self.address, connection.as_protocol, _CONNECT_S)
                async with asyncio.timeout(_CONNECT_S):
                    await connection.ready
                since = loop.time()
                self._up(connection)
                await connection.lost
                if loop.time() - since >= _STEADY_S:
                    backoff_s = _BACKOFF_FIRST_S
            except (RingmasterError, TimeoutError) as error:
                counts.failures += 1
                self._complain(str(error) or "no answer to the greeting")
            finally:
                self._opening = None
                connection.lose(LinkBroken(f"the link to {self.name} was closed"))
            await asyncio.sleep(max(_BACKOFF_LEAST_S, backoff_s * self._jitter()))
            backoff_s = min(backoff_s * 2, _BACKOFF_MOST_S)

    def _up(self, connection: _Connection) -> None:
        self._complaint = ""
        self._opening = None
        if connection.is_lost:
            return
        connection.on_lost = self._down
        self._connection = connection
        _log.debug("link up", peer=self.name, address=self.address)
        if self._on_up is not None:
            self._on_up()

    def _down(self, reason: LinkError) -> None:
        connection = self._connection
        if connection is None:
            return
        self._answered += connection.answered
        self._connection = None
        _log.info("link lost", peer=self.name, address=self.address, reason=str(reason))
        if self._on_down is not None:
            self._on_down()

    def _complain(self, complaint: str) -> None:
        """Log a failed attempt, once per reason."""
        if complaint != self._complaint:
            self._complaint = complaint
            _log.warning("link down", peer=self.name, address=self.address, reason=complaint)


class _Connection:
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
            self.waiting.append(_Callback(self._greeted))
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

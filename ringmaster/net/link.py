"""The link to a peer: connects, and again whenever that is lost; what is sent meanwhile fails at once."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any, Final

import structlog

from ringmaster.errors import (
    DeadlineExceeded,
    LinkBroken,
    LinkDown,
    LinkError,
    LinkFull,
    RingmasterError,
)
from ringmaster.net.link_connection import Callback, LinkConnection, OnPush, OnReply, ReplyHandler
from ringmaster.net.network import Network
from ringmaster.protocol.resp import Reply

CLOSED: Final = "closed"
OPEN: Final = "open"
HALF_OPEN: Final = "half-open"

_BACKOFF_LEAST_S: Final = 0.005
_BACKOFF_FIRST_S: Final = 0.02
_BACKOFF_MOST_S: Final = 1.0
_STEADY_S: Final = 1.0
"""A connection that was lost sooner was no success: a peer that takes connections and drops them is failing."""

_CONNECT_S: Final = 2.0

_log = structlog.get_logger(__name__)


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
        self._connection: LinkConnection | None = None
        self._opening: LinkConnection | None = None
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
        self.ask(frame, Callback(on_reply))

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
            connection = LinkConnection(self.name, self._hello, self._stall_s, self._on_push)
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

    def _up(self, connection: LinkConnection) -> None:
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

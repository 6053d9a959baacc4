"""The RESP server: connections, their commands, and the order of replies.

Commands that arrive together are run together: the boot-time clock is read once after their bytes
came (R1), and their replies leave in one write. A reply that must wait keeps its place; what comes
behind it queues. Replies that queue, and those that the client does not read, are bounded: beyond
that, commands wait unread, or not yet run, in the order in which they came.
"""

from __future__ import annotations

import asyncio
import struct
from collections import deque
from typing import Final, cast

import msgspec

from aux.node.handlers import Client, Command, Handler
from aux.node.node import Node
from aux.server import replication_commands
from aux.server.authorization import (
    MAX_UNKNOWN_ARGS,
    MAX_UNKNOWN_BYTES,
    MISSING,
    NO_PLACE,
    OUTSIDE_S,
    READ_ONLY,
    READS,
    WRONG,
    Authorization,
    Rights,
)
from aux.server.control_commands import ControlCommands
from aux.server.copy_commands import CopyCommands
from aux.server.data_commands import DataCommands, bad_arguments
from aux.server.fill_commands import FillCommands
from aux.server.redis_commands import RedisCommands
from aux.server.tag_commands import TagCommands
from ringmaster.errors import WireError
from ringmaster.net.network import Listener, Network
from ringmaster.protocol.handshake import SHARED
from ringmaster.protocol.resp import CommandReader

MAX_QUEUED: Final = 20_000
MAX_QUEUED_BYTES: Final = 16 * 2**20
"""Replies waiting for their turn on one connection, and their bytes; a client that sends more is read no further."""

MAX_TURN_BYTES: Final = 2**20
"""After so many bytes of replies the commands behind wait for another turn of the loop."""

_MALFORMED: Final = (
    IndexError, ValueError, TypeError, OverflowError, RecursionError, struct.error,
    msgspec.MsgspecError,
)  # fmt: skip
"""What handlers raise where arguments are missing, or are not what they should be. Nothing was changed then."""


class Server:
    """Serves one node on any number of addresses.

    `secret`: of the cluster, on every address; see `Authorization`. `max_clients`: connections at one time, 0 for no cap.
    """

    def __init__(
        self, node: Node, network: Network, cluster: str, secret: str = "", max_clients: int = 0
    ) -> None:
        self.node = node
        self.max_clients = max_clients
        self.cluster = cluster.encode()
        # In order of arrival: to close them in another would make no two runs of the simulation alike.
        self.connections: dict[ClientConnection, None] = {}
        self.leased: dict[bytes, Handler] = {}
        self.always: dict[bytes, Handler] = {}
        self._network = network
        self._listeners: list[Listener] = []
        self._data = data = DataCommands(node)
        redis = RedisCommands(node, data, lambda: len(self.connections))
        fills = FillCommands(node, data)
        self.leased |= data.table() | redis.leased() | TagCommands(node, data).table()
        self.leased |= fills.leased()
        self.always |= ControlCommands(node, cluster).table() | redis.always() | self._peer_table()
        self.always |= fills.always() | CopyCommands(node).table()
        self.authorization = Authorization(
            secret,
            Rights(self.leased, self.always),
            Rights({name: self.leased[name] for name in READS}, redis.always()),
        )

    async def listen(self, address: str) -> str:
        """Accept connections. Returns the address with its real port."""
        listener = await self._network.listen(
            address, lambda: cast(asyncio.Protocol, ClientConnection(self))
        )
        self._listeners.append(listener)
        return listener.address

    def resized(self) -> None:
        """The node's budget has changed."""
        self._data.resized()

    def close(self) -> None:
        """Stop accepting and drop every connection."""
        for listener in self._listeners:
            listener.close()
        self._listeners.clear()
        for connection in list(self.connections):
            connection.abort()

    def _peer_table(self) -> dict[bytes, Handler]:
        node = self.node

        def hello(client: Client, command: Command) -> bytes:
            if command[1] != self.cluster:
                return b"-WRONG this node belongs to another cluster\r\n"
            if command[2] and command[2].decode() != node.incarnation:
                return b"-WRONG this is incarnation %b\r\n" % node.incarnation.encode()
            client.is_shared = len(command) > 3 and command[3] == SHARED
            return b"+OK\r\n"

        def opened(_client: object, command: Command) -> bytes:
            _, number, term, session, mode, fill_session, base, incarnation = command
            return replication_commands.open_session(
                node, int(number), int(term), int(session), mode, int(fill_session), int(base),
                incarnation.decode(),
            )  # fmt: skip

        def released(_client: object, command: Command) -> bytes:
            _, number, term, incarnation = command
            return replication_commands.released(node, int(number), int(term), incarnation.decode())

        return {
            b"RM.HELLO": hello,
            b"RM.OPEN": opened,
            b"RM.REPL": lambda _client, command: replication_commands.apply_entries(node, command),
            b"RM.RELEASED": released,
        }


class _Cell:
    """A reply that is not there yet, in its place in the queue."""

    __slots__ = ("_connection", "reply")

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self.reply: bytes | None = None

    def resolve(self, reply: bytes) -> None:
        self.reply = reply
        connection = self._connection
        if not connection.flushing:
            connection.resolved()


class ClientConnection:
    """One client.

    An `asyncio.Protocol` by its methods, not by inheritance: so its attributes are fast when it is compiled.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self._node = server.node
        self._authorization = server.authorization
        self._leased = server.leased
        self._always = server.always
        self._reader = CommandReader()
        self._authorized = not server.authorization.secret
        self.is_shared = False
        if not self._authorized:
            self._reader.allow(MAX_UNKNOWN_ARGS, MAX_UNKNOWN_BYTES)
        self._out: list[bytes] = []
        self._queue: deque[_Cell | bytes] = deque()
        self._queued_bytes = 0
        # Bytes of events since the last flush.
        self._pushed = 0
        # There may be commands that were not run yet: the replies to those before them were long.
        self._behind = False
        self._transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()
        # A flush is due in this tick of the loop.
        self.flushing = False
        self._running = False
        self._closing = False
        self._paused: set[str] = set()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are not asyncio.Transport by inheritance.
        self._transport = cast("asyncio.Transport", transport)
        server = self._server
        server.connections[self] = None
        if server.max_clients and len(server.connections) > server.max_clients:
            self._wait_outside()

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self._server.connections.pop(self, None)
        self._node.sessions.ended(self)
        self._authorization.left(self)
        self._queue.clear()
        self._out.clear()

    def data_received(self, data: bytes) -> None:
        if self._closing:
            return
        try:
            self._reader.take(data)
        except WireError as error:
            self._refuse(error)
            return
        if not self._behind:
            self._serve()

    def _serve(self) -> None:
        """Run what came; what lies behind `MAX_TURN_BYTES` of replies has to wait for the next turn."""
        self._running = True
        self._behind = False
        try:
            self._run_all()
        except WireError as error:
            self._running = False
            self._refuse(error)
            return
        self._running = False
        self._node.eviction.trim()
        if self._behind:
            self._pause_reading("behind")
        self._flush()
        if len(self._queue) > MAX_QUEUED or self._queued_bytes > MAX_QUEUED_BYTES:
            self._pause_reading("queue")
        if self._behind and len(self._paused) == 1:
            self._loop.call_soon(self._go_on)

    def _run_all(self) -> None:
        """Run what the reader has; raises `WireError` behind the last command that it understands."""
        live = self._node.clock.lease_held()
        # Most commands need nothing but their handler; `_run` knows the others, and runs these in the same way:
        # `test_a_command_is_run_in_the_same_way_in_any_case` compares the two.
        leased = self._leased if live and self._authorized else {}
        out, queue, reader = self._out, self._queue, self._reader
        size = 0
        while (command := reader.next()) is not None:
            handler = leased.get(command[0])
            if handler is None:
                reply = self._run(command, live=live)
            else:
                try:
                    reply = handler(self, command)
                except _MALFORMED as error:
                    reply = bad_arguments(error)
            if reply is not None:
                size += len(reply)
                if queue:
                    queue.append(reply)
                    self._queued_bytes += len(reply)
                else:
                    out.append(reply)
                if size > MAX_TURN_BYTES or self._closing:
                    self._behind = not self._closing
                    return

    def _refuse(self, error: WireError) -> None:
        """What came is no RESP: say so, behind the replies to what came before, and close."""
        self._reply(b"-ERR Protocol error: %b\r\n" % str(error).encode())
        self._closing = True
        self._flush()

    def _go_on(self) -> None:
        """Run what is left, unless something else holds it up (it comes back here then)."""
        if self._transport is None or self._paused != {"behind"}:
            return
        self._serve()
        if not self._behind:
            self._resume_reading("behind")

    def eof_received(self) -> None:
        """The other side sends no more: None has the transport close."""

    def pause_writing(self) -> None:
        self._pause_reading("writing")

    def resume_writing(self) -> None:
        self._resume_reading("writing")

    # Commands

    def _run(self, command: Command, *, live: bool) -> bytes | None:
        name = command[0]
        if not self._authorized:
            return self._authorize(name.upper(), command)
        handler = self._leased.get(name)
        if handler is not None:
            if not live:
                return b"-WAIT %d the lease has lapsed\r\n" % self._node.roles.epoch
        else:
            handler = self._always.get(name)
            if handler is None:
                return self._run_other(name, command, live=live)
        try:
            return handler(self, command)
        except _MALFORMED as error:
            return bad_arguments(error)

    def _run_other(self, name: bytes, command: Command, *, live: bool) -> bytes | None:
        """Names typed in another case, AUTH, QUIT, and what does not exist."""
        upper = name.upper()
        if upper != name and (upper in self._leased or upper in self._always):
            return self._run([upper, *command[1:]], live=live)
        if upper == b"AUTH":
            return self._authorize(upper, command)
        if upper == b"QUIT":
            self._closing = True
            return b"+OK\r\n"
        if upper in self._server.leased or upper in self._server.always:
            self._authorization.refuse(upper)
            return READ_ONLY
        return b"-ERR unknown command '%b'\r\n" % upper[:64].replace(b"\r", b"").replace(b"\n", b"")

    def _wait_outside(self) -> None:
        """There is no place, unless the cluster's secret is the first that it says."""
        if not self._authorization.wait_outside(self):
            self._turn_away()
            return
        self._authorized = False
        self._reader.allow(MAX_UNKNOWN_ARGS, MAX_UNKNOWN_BYTES)
        self._loop.call_later(OUTSIDE_S, self._give_up)

    def _give_up(self) -> None:
        if self._authorization.give_up(self):
            self._turn_away()

    def _turn_away(self) -> None:
        self._closing = True
        self._reply(NO_PLACE)
        self._flush()

    def _authorize(self, upper: bytes, command: Command) -> bytes:
        authorization = self._authorization
        if not authorization.first_said(self, upper, command):
            self._closing = True
            return NO_PLACE
        if upper == b"AUTH" and len(command) > 1:
            rights = authorization.log_in(command)
            if rights is None:
                return WRONG
            self._leased, self._always = rights.leased, rights.always
            self._authorized = True
            self._reader.allow()
            return b"+OK\r\n"
        if upper == b"QUIT":
            self._closing = True
            return b"+OK\r\n"
        authorization.refuse(upper)
        return MISSING

    # Replies

    def waiter(self) -> _Cell:
        cell = _Cell(self)
        self._queue.append(cell)
        return cell

    def push(self, frame: bytes, most_unread: int) -> bool:
        """See `aux.node.event_sessions.Channel`: it waits for no reply, and comes after those that are ready."""
        transport = self._transport
        if transport is None:
            return False
        unread = transport.get_write_buffer_size() + self._pushed
        if unread and unread + len(frame) > most_unread:
            transport.abort()
            return False
        self._pushed += len(frame)
        self._out.append(frame)
        self.resolved()
        return True

    def resolved(self) -> None:
        """A cell of ours has its reply: send what is complete, once per loop tick."""
        if not self._running and not self.flushing:
            self.flushing = True
            self._loop.call_soon(self._flush)

    def _reply(self, reply: bytes) -> None:
        if self._queue:
            self._queue.append(reply)
            self._queued_bytes += len(reply)
        else:
            self._out.append(reply)

    def _flush(self) -> None:
        self.flushing = False
        out, queue = self._out, self._queue
        while queue:
            item = queue[0]
            if type(item) is _Cell:
                reply = item.reply
                if reply is None:
                    break
            else:
                reply = cast(bytes, item)
                self._queued_bytes -= len(reply)
            queue.popleft()
            out.append(reply)
        transport = self._transport
        if transport is None:
            return
        self._pushed = 0
        if out:
            transport.write(out[0] if len(out) == 1 else b"".join(out))
            self._out = []
        if self._closing and not queue:
            transport.close()
        if len(queue) <= MAX_QUEUED // 2 and self._queued_bytes <= MAX_QUEUED_BYTES // 2:
            self._resume_reading("queue")

    def listen(self, most_unread: int) -> None:
        """See `aux.node.event_sessions.Channel`."""
        if self._transport is not None:
            self._transport.set_write_buffer_limits(high=most_unread)

    def unread(self) -> int:
        """See `aux.node.event_sessions.Channel`."""
        transport = self._transport
        return 0 if transport is None else transport.get_write_buffer_size() + self._pushed

    def abort(self) -> None:
        """Drop the connection now."""
        if self._transport is not None:
            self._transport.abort()

    def _pause_reading(self, why: str) -> None:
        if self._transport is not None and not self._paused:
            self._transport.pause_reading()
        self._paused.add(why)

    def _resume_reading(self, why: str) -> None:
        if why not in self._paused:
            return
        self._paused.discard(why)
        if self._transport is None:
            return
        if not self._paused:
            self._transport.resume_reading()
        elif self._paused == {"behind"}:
            self._loop.call_soon(self._go_on)

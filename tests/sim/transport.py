"""One simulated connection: two transports, and for each direction a stream of chunks in flight."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any

from tests.sim.loop import NodeLoop

if TYPE_CHECKING:
    from tests.sim.network import SimNetwork

READ_BYTES = 64 * 1024
"""A transport hands at most this much to its protocol at once."""

KERNEL_BYTES = 128 * 1024
"""What the kernels of both sides hold before a writer is told to pause."""

_EOF = b""


class Pipe:
    """A connection. `ends` are the connecting and the accepting transport."""

    def __init__(self, network: SimNetwork, client: NodeLoop, server: NodeLoop) -> None:
        self.network = network
        self.hosts = (client.name, server.name)
        self.broken = False
        first, second = SimTransport(self, client), SimTransport(self, server)
        first.peer, second.peer = second, first
        self.ends = (first, second)

    def __repr__(self) -> str:
        return f"{self.hosts[0]} <-> {self.hosts[1]}"

    @property
    def over(self) -> bool:
        """Neither end can see anything of it any more."""
        return all(end.lost or end.loop.crashed for end in self.ends)

    def flush(self, source: str, target: str) -> None:
        """The way from `source` to `target` is open again: what was held travels on."""
        for end in self.ends:
            if end.loop.name == source and end.peer.loop.name == target:
                end.resend()

    def reset(self, noticed: float) -> None:
        """The connection is gone in the middle of whatever was travelling."""
        self.broken = True
        random = self.network.hub.random
        for end in self.ends:
            if random.random() < noticed:
                self.network.hub.at(self.network.hub.now + self.network.delay(), end.reset_seen)


class SimTransport(asyncio.Transport):
    """An asyncio transport whose bytes travel through the hub."""

    peer: SimTransport

    def __init__(self, pipe: Pipe, loop: NodeLoop) -> None:
        super().__init__({"peername": ("sim", 0), "sockname": ("sim", 0)})
        self.pipe = pipe
        self.loop = loop
        self.lost = False
        self._protocol: asyncio.Protocol | None = None
        self._closing = False
        self._started = False
        self._paused = False
        self._reading = False
        self._ended = False
        self._inbox: deque[bytes] = deque()
        self._held: list[bytes] = []
        self._arrives = 0.0
        self._unread = 0
        self._high, self._low = 64 * 1024, 16 * 1024
        self._writing_paused = False
        self._reset = False

    def __repr__(self) -> str:
        return f"<SimTransport {self.loop.name} -> {self.peer.loop.name}>"

    # asyncio's side

    def start(self, protocol: asyncio.Protocol) -> None:
        """The process takes the connection over."""
        self._protocol = protocol
        self._started = True
        protocol.connection_made(self)
        if self._reset:
            self.loop.enter(self._lose, ConnectionResetError("reset by peer"))
        elif self._inbox:
            self._readable()

    def write(self, data: Any) -> None:
        if self._closing or self.lost or not data:
            return
        loop = self.loop
        if loop.crashed:
            return
        data = bytes(data)
        self._unread += len(data)
        loop.depart(self._leave, data)
        if self._unread > KERNEL_BYTES + self._high and not self._writing_paused:
            self._writing_paused = True
            if self._protocol is not None:
                self._protocol.pause_writing()

    def writelines(self, list_of_data: Any) -> None:
        self.write(b"".join(list_of_data))

    def can_write_eof(self) -> bool:
        return False

    def close(self) -> None:
        if self._closing or self.lost:
            return
        self._closing = True
        self.loop.depart(self._leave, _EOF)
        self.loop.call_soon(self._lose, None)

    def abort(self) -> None:
        if self.lost:
            return
        self._closing = True
        self.loop.depart(self._send_reset)
        self.loop.call_soon(self._lose, None)

    def is_closing(self) -> bool:
        return self._closing or self.lost

    def pause_reading(self) -> None:
        self._paused = True

    def resume_reading(self) -> None:
        self._paused = False
        if self._inbox:
            self._readable()

    def is_reading(self) -> bool:
        return not self._paused and not self.is_closing()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._high = 64 * 1024 if high is None else high
        self._low = self._high // 4 if low is None else low

    def get_write_buffer_size(self) -> int:
        return max(0, self._unread - KERNEL_BYTES)

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._low, self._high

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol  # type: ignore[assignment]

    def get_protocol(self) -> asyncio.BaseProtocol:
        assert self._protocol is not None
        return self._protocol

    # The way out

    def _send_reset(self) -> None:
        hub = self.loop.hub
        hub.at(hub.now + self.pipe.network.delay(), self.peer.reset_arrives)

    def _leave(self, data: bytes) -> None:
        network = self.pipe.network
        hub = network.hub
        if self.pipe.broken:
            hub.at(hub.now + network.delay(), self.reset_seen)
            return
        for chunk in self._chunks(data):
            self._arrives = max(self._arrives, hub.now + network.delay())
            hub.at(self._arrives, self._arrive, chunk)

    def _chunks(self, data: bytes) -> list[bytes]:
        network = self.pipe.network
        random = network.hub.random
        if len(data) < 2 or not network.faults.split or random.random() >= network.faults.split:
            return [data]
        place = random.randrange(1, len(data))
        return [data[:place], data[place:]]

    def _arrive(self, data: bytes) -> None:
        """At the other host. What meets a cut waits there for `resend`."""
        peer, network = self.peer, self.pipe.network
        if self.pipe.broken:
            return
        if self._held or network.is_cut(self.loop.name, peer.loop.name):
            self._held.append(data)
            return
        if peer.loop.crashed or peer.lost:
            if (not peer.loop.crashed or peer.loop.host_answers) and data != _EOF:
                network.hub.at(network.hub.now + network.delay(), self.reset_seen)
            return
        peer.received(data)

    def resend(self) -> None:
        """TCP tries again some time after a cut has healed."""
        if not self._held:
            return
        network = self.pipe.network
        self._arrives = max(self._arrives, network.hub.now + network.hub.random.uniform(0.0, 0.4))
        network.hub.at(self._arrives, self._rearrive)

    def _rearrive(self) -> None:
        if self.pipe.network.is_cut(self.loop.name, self.peer.loop.name):
            return
        held, self._held = self._held, []
        for data in held:
            self._arrive(data)

    # The way in

    def received(self, data: bytes) -> None:
        """Bytes (or the end, when empty) are in this host's kernel."""
        self._inbox.append(data)
        if self._started and not self._paused:
            self._readable()

    def reset_arrives(self) -> None:
        """The peer aborted; a cut hides it until this end writes."""
        self.pipe.broken = True
        if not self.pipe.network.is_cut(self.peer.loop.name, self.loop.name):
            self.reset_seen()

    def reset_seen(self) -> None:
        """Tell the protocol that the connection is gone."""
        self._reset = True
        if self._started and not self.lost:
            self.loop.enter(self._lose, ConnectionResetError("reset by peer"))

    def killed(self, noticed: bool) -> None:
        """The process at this end died."""
        hub, network = self.loop.hub, self.pipe.network
        if noticed:
            hub.at(max(self._arrives, hub.now) + network.delay(), self.peer.reset_arrives)

    def _readable(self) -> None:
        if not self._reading:
            self._reading = True
            self.loop.enter(self._read)

    def _read(self) -> None:
        self._reading = False
        if self.lost or self._closing or self._paused or self._protocol is None:
            return
        inbox, chunks, size = self._inbox, [], 0
        while inbox and size < READ_BYTES:
            if inbox[0] == _EOF:
                break
            chunk = inbox.popleft()
            size += len(chunk)
            chunks.append(chunk)
        if chunks:
            self.peer.drained(size)
            self._protocol.data_received(chunks[0] if len(chunks) == 1 else b"".join(chunks))
            if inbox and not self._paused:
                self._readable()
        elif inbox:
            inbox.clear()
            if not self._protocol.eof_received():
                self.close()

    def drained(self, size: int) -> None:
        """The other side has read `size` bytes of ours."""
        self._unread -= size
        if self._writing_paused and self._unread <= KERNEL_BYTES + self._low:
            self._writing_paused = False
            self.loop.enter(self._resume_writing)

    def _resume_writing(self) -> None:
        if not self.lost and not self._writing_paused and self._protocol is not None:
            self._protocol.resume_writing()

    def _lose(self, error: Exception | None) -> None:
        if self.lost:
            return
        self.lost = True
        self._inbox.clear()
        if self._protocol is not None:
            self._protocol.connection_lost(error)

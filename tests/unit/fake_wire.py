"""A network in memory for tests: connections are made at once, bytes go where the test says."""

import asyncio
from collections.abc import Callable

from ringmaster.errors import LinkDown
from ringmaster.net.network import Listener, ProtocolFactory
from ringmaster.protocol.resp import Command, CommandReader


class FakeTransport(asyncio.Transport):
    """Keeps what was written; the test plays the peer."""

    def __init__(self, protocol: asyncio.Protocol) -> None:
        super().__init__()
        self.protocol = protocol
        self.writes: list[bytes] = []
        self.closed = False
        self.reading = True
        self.commands = CommandReader()

    def write(self, data: bytes) -> None:
        if not self.closed:
            self.writes.append(bytes(data))

    def taken(self) -> list[Command]:
        """The commands written since the last call."""
        data = b"".join(self.writes)
        self.writes.clear()
        return self.commands.feed(data) if data else []

    def receive(self, data: bytes) -> None:
        """The peer sent `data`."""
        self.protocol.data_received(data)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self.high = high

    def lose(self) -> None:
        """The peer is gone."""
        self.closed = True
        self.protocol.connection_lost(None)

    def abort(self) -> None:
        self.close()

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            asyncio.get_running_loop().call_soon(self.protocol.connection_lost, None)

    def is_closing(self) -> bool:
        return self.closed

    def is_reading(self) -> bool:
        return self.reading

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True


class FakeNetwork:
    """`accept(address)` says whether a connection there succeeds; `made` lists them, newest last."""

    def __init__(self, accept: Callable[[str], bool] = lambda address: True) -> None:
        self.accept = accept
        self.made: list[tuple[str, FakeTransport]] = []
        self.attempts = 0

    async def connect(self, address: str, factory: ProtocolFactory, timeout_s: float) -> None:
        self.attempts += 1
        if not self.accept(address):
            raise LinkDown(f"refused: {address}")
        protocol = factory()
        transport = FakeTransport(protocol)
        self.made.append((address, transport))
        protocol.connection_made(transport)

    async def listen(self, address: str, factory: ProtocolFactory) -> Listener:
        raise AssertionError("nothing listens here")

    def at(self, address: str) -> FakeTransport:
        """The newest connection to `address`."""
        return next(transport for where, transport in reversed(self.made) if where == address)


async def until(condition: Callable[[], object], bound_s: float = 5.0) -> None:
    """Wait until `condition()` is true."""
    async with asyncio.timeout(bound_s):
        while not condition():  # noqa: ASYNC110 - the condition is the test's own
            await asyncio.sleep(0.001)


async def ticks(count: int = 3) -> None:
    """Let callbacks run."""
    for _ in range(count):
        await asyncio.sleep(0)

"""The network seam in memory: streams with delay, odd chunks, stalls, cuts, resets and half-open connections."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from ringmaster.errors import LinkDown, SettingsError
from ringmaster.net.network import Listener, ProtocolFactory
from tests.sim.hub import Hub
from tests.sim.loop import NodeLoop
from tests.sim.transport import Pipe, SimTransport


@dataclass(slots=True)
class NetworkFaults:
    """Odds per chunk, delays in seconds. All zero: a fast, orderly network."""

    delay_s: tuple[float, float] = (0.0001, 0.0005)
    split: float = 0.0
    stall: float = 0.0
    stall_s: float = 0.3


class SimNetwork:
    """All listeners and connections. Hosts are named by the process that lives there."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self.faults = NetworkFaults()
        self.pipes: list[Pipe] = []
        self._listeners: dict[str, SimListener] = {}
        self._cuts: dict[tuple[str, str], int] = {}
        self._ports = 20000

    def delay(self) -> float:
        """How long the next chunk travels."""
        low, high = self.faults.delay_s
        delay = low + (high - low) * self.hub.random.random()
        if self.faults.stall and self.hub.random.random() < self.faults.stall:
            delay += self.hub.random.uniform(0.05, self.faults.stall_s)
        return delay

    def is_cut(self, source: str, target: str) -> bool:
        """Whether nothing gets from `source` to `target` now."""
        return (source, target) in self._cuts

    def cut(self, source: str, target: str) -> None:
        """Silently lose what travels from `source` to `target`; TCP holds it and tries again after `heal`."""
        self.hub.trace("network", f"cut {source} -> {target}")
        self._cuts[source, target] = self._cuts.get((source, target), 0) + 1

    def heal(self, source: str, target: str) -> None:
        """Undo one `cut`."""
        count = self._cuts.get((source, target), 0) - 1
        if count > 0:
            self._cuts[source, target] = count
            return
        self._cuts.pop((source, target), None)
        self.hub.trace("network", f"healed {source} -> {target}")
        for pipe in self.open_pipes():
            pipe.flush(source, target)

    def heal_all(self) -> None:
        """Undo every cut."""
        for source, target in list(self._cuts):
            self._cuts[source, target] = 1
            self.heal(source, target)

    def open_pipes(self) -> list[Pipe]:
        """Connections at least one end of which is open."""
        self.pipes = [pipe for pipe in self.pipes if not pipe.over]
        return self.pipes

    def reset_some(self, node: str, *, noticed: float) -> None:
        """Reset one connection of `node`; each end notices with probability `noticed`, else when it next writes."""
        pipes = [pipe for pipe in self.open_pipes() if node in pipe.hosts]
        if pipes:
            pipe = self.hub.random.choice(pipes)
            self.hub.trace("network", f"reset {pipe}")
            pipe.reset(noticed)

    def bind(self, address: str, loop: NodeLoop, factory: ProtocolFactory) -> SimListener:
        """A listener at `address` (port 0: any free one). Raises `SettingsError` if it is taken."""
        if address.endswith(":0"):
            self._ports += 1
            address = f"{address[:-2]}:{self._ports}"
        old = self._listeners.get(address)
        if old is not None and not old.loop.crashed:
            raise SettingsError(f"cannot listen on {address}: address in use")
        listener = self._listeners[address] = SimListener(self, address, loop, factory)
        return listener

    def listener(self, address: str) -> SimListener | None:
        """Who listens at `address`; a process that died silently takes its host with it, so nobody answers."""
        return self._listeners.get(address)

    def unbind(self, listener: SimListener) -> None:
        """Stop accepting."""
        if self._listeners.get(listener.address) is listener:
            del self._listeners[listener.address]

    def crashed(self, loop: NodeLoop, *, noticed: bool) -> None:
        """A process died. Noticed: its kernel resets its connections. Else its host is gone without a word."""
        for pipe in self.open_pipes():
            for end in pipe.ends:
                if end.loop is loop:
                    end.killed(noticed)


class SimListener:
    """One listening address."""

    def __init__(
        self, network: SimNetwork, address: str, loop: NodeLoop, factory: ProtocolFactory
    ) -> None:
        self.network = network
        self.address = address
        self.loop = loop
        self.factory = factory

    def close(self) -> None:
        self.network.unbind(self)


class NodeNetwork:
    """`ringmaster.net.network.Network` as one process sees it."""

    def __init__(self, network: SimNetwork, loop: NodeLoop) -> None:
        self._network = network
        self._loop = loop

    async def connect(self, address: str, factory: ProtocolFactory, timeout_s: float) -> None:
        loop = self._loop
        done: asyncio.Future[SimTransport] = loop.create_future()
        loop.depart(self._send_syn, address, done)
        try:
            async with asyncio.timeout(timeout_s):
                transport = await asyncio.shield(done)
        except (OSError, TimeoutError) as error:
            raise LinkDown(f"cannot connect to {address}: {error or 'timed out'}") from error
        except asyncio.CancelledError:
            done.add_done_callback(_abandon)
            raise
        finally:
            if not done.done():
                done.add_done_callback(_abandon)
        protocol = factory()
        transport.start(protocol)

    async def listen(self, address: str, factory: ProtocolFactory) -> Listener:
        return self._network.bind(address, self._loop, factory)

    def _send_syn(self, address: str, done: asyncio.Future[SimTransport]) -> None:
        hub = self._loop.hub
        hub.at(hub.now + self._network.delay(), self._syn, address, done)

    def _syn(self, address: str, done: asyncio.Future[SimTransport]) -> None:
        """The connection request reaches the other host, whose kernel answers even if its process is frozen."""
        network, loop, hub = self._network, self._loop, self._loop.hub
        listener = network.listener(address)
        if loop.crashed:
            return
        target = listener.loop.name if listener is not None else _host_of(address)
        if network.is_cut(loop.name, target) or network.is_cut(target, loop.name):
            return
        back = hub.now + network.delay()
        if listener is None or listener.loop.crashed:
            if listener is None or listener.loop.host_answers:
                hub.at(back, _deliver, loop, done, ConnectionRefusedError("connection refused"))
            return
        pipe = Pipe(network, loop, listener.loop)
        network.pipes.append(pipe)
        client, server = pipe.ends
        listener.loop.enter(_accept, listener, server)
        hub.at(back, _deliver, loop, done, client)


def _deliver(
    loop: NodeLoop, done: asyncio.Future[SimTransport], result: SimTransport | OSError
) -> None:
    loop.enter(_resolve, done, result)


def _resolve(done: asyncio.Future[SimTransport], result: SimTransport | OSError) -> None:
    if isinstance(result, OSError):
        if not done.done():
            done.set_exception(result)
    else:
        done.set_result(result)


def _abandon(done: asyncio.Future[SimTransport]) -> None:
    """Nobody waits for this connection any more."""
    if not done.cancelled() and done.exception() is None:
        done.result().abort()


def _accept(listener: SimListener, transport: SimTransport) -> None:
    if listener.network.listener(listener.address) is listener:
        transport.start(listener.factory())
    else:
        transport.abort()


def _host_of(address: str) -> str:
    return address.rpartition(":")[0]

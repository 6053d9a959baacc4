"""Real nodes joined by wires that the test works by hand: nothing arrives unless it says so."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, Self

from aux.node.node import Node
from aux.node.options import NodeOptions
from aux.node.status_report import status_of
from aux.server.server import Server
from aux.storage.store import Store
from ringmaster.cluster.view import Filling, NodeInfo, Partition, View
from ringmaster.errors import LinkBroken, LinkDown
from ringmaster.net.network import AsyncioNetwork
from ringmaster.protocol import entry as entries
from ringmaster.protocol.hashing import token_of
from ringmaster.protocol.resp import CommandReader, Reader, Reply, encode
from ringmaster.runtime.cluster_clock import ClusterClock

CLUSTER = "c" * 32
OnReply = Callable[[Reply], None]


class HandClock:
    """Time passes when the test says so. `wall_offset_s` is this node's own error."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.wall_offset_s = 0.0

    def boottime(self) -> float:
        return self.now

    def wall(self) -> float:
        return 1_700_000_000.0 + self.now + self.wall_offset_s


class Wire:
    """A link from one node to another incarnation; what was sent waits in `queue` until the world delivers it."""

    def __init__(
        self,
        world: World,
        sender: str,
        peer: NodeInfo,
        up: Callable[[], None],
        down: Callable[[], None],
    ) -> None:
        self.world = world
        self.ends = (sender, peer.id)
        self.peer = peer
        self.connected = True
        self.held = False
        self.closed = False
        self.queue: deque[tuple[bytes, OnReply]] = deque()
        self._unanswered: list[OnReply] = []
        self._up = up
        self._down = down

    def start(self) -> None:
        self.world.wires.append(self)

    async def close(self) -> None:
        self.closed = True
        self.cut()

    def send(self, frame: bytes, on_reply: OnReply) -> None:
        if self.connected:
            self.queue.append((frame, on_reply))
        else:
            on_reply(LinkDown("cut"))

    def names(self) -> list[bytes]:
        """The commands that wait for delivery."""
        return [CommandReader().feed(frame)[0][0] for frame, _ in self.queue]

    def deliver(self, *, answer: bool = True) -> Reply:
        """The oldest frame arrives and, with `answer`, its reply comes back."""
        frame, on_reply = self.queue.popleft()
        reply = self.world.nodes[self.peer.id].takes(frame)
        if answer:
            on_reply(reply)
        else:
            self._unanswered.append(on_reply)
        return reply

    def cut(self) -> None:
        """The connection is reset: what is on its way arrives nowhere, nor do replies."""
        if not self.connected:
            return
        self.connected = False
        self._down()
        waiting = [*self._unanswered, *(on_reply for _, on_reply in self.queue)]
        self._unanswered.clear()
        self.queue.clear()
        for on_reply in waiting:
            on_reply(LinkBroken("cut"))

    def mend(self) -> None:
        self.connected = True
        self._up()


class Answer:
    """What a client gets: `reply` is None while it waits."""

    def __init__(self) -> None:
        self.raw: bytes | None = None
        self.is_shared = False

    def waiter(self) -> Answer:
        return self

    def resolve(self, reply: bytes) -> None:
        assert self.raw is None, "answered twice"
        self.raw = reply

    @property
    def reply(self) -> Any:
        return None if self.raw is None else Reader().feed(self.raw)[0]

    @property
    def text(self) -> str:
        return (self.raw or b"").decode()


class TestNode:
    """One node and its server's command tables."""

    __test__ = False

    def __init__(self, world: World, info: NodeInfo, **options: Any) -> None:
        self.clock = HandClock()
        self.reasons: list[str] = []
        max_bytes = options.pop("max_bytes", 64 * 1024 * 1024)
        self.node = Node(
            NodeOptions(
                info.id,
                info.incarnation,
                max_bytes,
                world.partitions,
                **{"fill_bytes_per_s": 0, **options},
            ),
            Store(max_bytes, world.partitions),
            ClusterClock(self.clock),
            lambda peer, *, on_up, on_down: Wire(world, info.id, peer, on_up, on_down),  # type: ignore[arg-type]
            self.reasons.append,
        )
        self.node.clock.lease.held_until = 1e9
        self.server = Server(self.node, AsyncioNetwork(), CLUSTER)

    def takes(self, frame: bytes) -> Reply:
        """The reply to a command of another node, or to one that needs no waiting."""
        [command] = CommandReader().feed(frame)
        raw = self._run(command, Answer())
        assert raw is not None
        return Reader().feed(raw)[0]

    def ask(self, *command: bytes | int) -> Answer:
        """A client's command."""
        answer = Answer()
        [words] = CommandReader().feed(encode(*command))
        raw = self._run(words, answer)
        if raw is not None:
            answer.resolve(raw)
        return answer

    def _run(self, words: list[bytes], answer: Answer) -> bytes | None:
        table = self.server.always if words[0] in self.server.always else self.server.leased
        return table[words[0]](answer, words)

    def token(self, number: int = 0) -> bytes:
        return token_of(number, self.node.roles.primaries[number].term)

    def put(self, key: bytes, value: bytes, number: int = 0) -> Answer:
        return self.ask(b"RM.SET", self.token(number), key, value)

    def get(self, key: bytes, number: int = 0) -> bytes | None:
        """What a reader sees."""
        reply = self.ask(b"RM.GET", self.token(number), key).reply
        assert reply is None or isinstance(reply, bytes), reply
        return None if reply is None else reply[entries.value_offset(reply) :]

    def holds(self, number: int = 0) -> dict[bytes, bytes]:
        """Key to value of its copy, whatever its role."""
        data = self.node.store.get(number)
        found = {} if data is None else data.entries
        return {key: entry[entries.value_offset(entry) :] for key, entry in found.items()}

    def serves(self) -> bool:
        return bool(self.node.roles.served)


class World:
    """Nodes `a`, `b`, … with one partition (or more), and the views they are given."""

    def __init__(self, names: str = "abc", partitions: int = 1, **options: Any) -> None:
        self.partitions = partitions
        self.wires: list[Wire] = []
        self.infos = {
            name: NodeInfo(id=name, incarnation=f"{name}-1", address=name) for name in names
        }
        self.nodes = {name: TestNode(self, info, **options) for name, info in self.infos.items()}
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(each.node.filler.run()) for each in self.nodes.values()]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for each in self.nodes.values():
            await each.node.peers.close()

    def __getitem__(self, name: str) -> TestNode:
        return self.nodes[name]

    def view(self, epoch: int, *rows: Partition, without: str = "") -> View:
        nodes = {name: info for name, info in self.infos.items() if name not in without}
        return View(cluster=CLUSTER, epoch=epoch, replicas=2, table=rows, nodes=nodes)

    def adopt(self, view: View, names: Iterable[str] = "abc") -> View:
        for name in names:
            if name in self.nodes:
                self.nodes[name].node.roles.adopt(view)
        return view

    def wire(self, sender: str, to: str) -> Wire:
        """The newest wire between them."""
        return next(wire for wire in reversed(self.wires) if wire.ends == (sender, to))

    async def settle(self, *, ticks: bool = True) -> None:
        """Deliver everything that is not held, until nothing moves any more."""
        quiet = 0
        while quiet < 5:
            await asyncio.sleep(0)
            quiet += 1
            for wire in list(self.wires):
                while wire.queue and not wire.held:
                    wire.deliver()
                    quiet = 0
        if ticks:
            for each in self.nodes.values():
                each.node.housekeeping.tick()
            await self.settle(ticks=False)


def row(
    primary: str | None, *replicas: str, term: int, awaits: str | None = None, **filling: int
) -> Partition:
    """`filling`: node to session."""
    return Partition(
        primary, replicas, tuple(Filling(*each) for each in filling.items()), term, awaits
    )


def caught_up(world: World, name: str) -> list[str]:
    """The nodes whose copies this one reports as caught up."""
    return [report.node for report in status_of(world[name].node).caught_up]


def lagging(world: World, name: str) -> list[str]:
    """The nodes whose copies this one reports as lagging."""
    return [report.node for report in status_of(world[name].node).lagging]

"""A client on one side of the fast path, a primary on the other, and aiohttp behind it, all played by the test."""

import asyncio
from collections.abc import Callable

from master.fastpath.server import FastPath
from master.http.access import Gate
from master.http.limits import Limits
from master.http.origin_check import Authority
from master.http.problem import Problem
from master.http.rate_limits import RateLimits
from master.http.request_counters import Counters
from master.http.responses import Replies
from ringmaster.cluster.view import NodeInfo, Partition, View
from ringmaster.net.admission import Admission
from ringmaster.protocol.entry import JSON, pack
from ringmaster.protocol.resp import Command
from ringmaster.routing.router import Router
from ringmaster.runtime.clock import SystemClock
from ringmaster.runtime.cluster_clock import ClusterClock
from tests.unit.fake_wire import FakeNetwork, FakeTransport, ticks, until

HOST = b"Host: localhost\r\n"
WRITTEN = b"*4\r\n:%d\r\n:26\r\n:43\r\n:0\r\n"


class ShiftedClock(SystemClock):
    """The machine's clock, moved by the test; its wall clock stands still, so that replies can be compared."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def boottime(self) -> float:
        return super().boottime() + self.ahead

    def wall(self) -> float:
        return 1_790_000_000.5


class Fallback:
    """Plays aiohttp: one for all requests of a connection that are handed over."""

    def __init__(self, on_reply: Callable[[], None]) -> None:
        self.on_reply = on_reply
        self.data = b""
        self.calls: list[str] = []
        self.problems: list[Problem] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def connection_lost(self, exc: BaseException | None) -> None:
        self.calls.append("lost")

    def data_received(self, data: bytes) -> None:
        self.data += data

    def sender_ended(self) -> None:
        """The client sends no more."""

    def pause_writing(self) -> None:
        self.calls.append("pause")

    def resume_writing(self) -> None:
        self.calls.append("resume")

    def break_body(self, problem: Problem) -> None:
        self.problems.append(problem)

    def taken(self) -> bytes:
        """What came since the last call."""
        data, self.data = self.data, b""
        return data

    def reply(self) -> None:
        self.transport.write(b"HTTP/1.1 299 Slow\r\n\r\n")
        self.on_reply()

    def close(self) -> None:
        """Reply, and want the connection closed."""
        self.transport.write(b"HTTP/1.1 299 Slow\r\n\r\n")
        self.transport.close()


class Client(FakeTransport):
    def __init__(self, protocol: asyncio.Protocol, address: str = "") -> None:
        super().__init__(protocol)
        self.unread = 0
        self.shut = False
        self.address = address
        protocol.connection_made(self)

    def get_extra_info(self, name: str, default: object = None) -> object:
        return (self.address, 1) if name == "peername" and self.address else default

    def get_write_buffer_size(self) -> int:
        return self.unread

    def end(self) -> None:
        """The client shuts its sending side."""
        if not self.protocol.eof_received():
            self.close()

    def write_eof(self) -> None:
        self.shut = True

    def said(self) -> bytes:
        data = b"".join(self.writes)
        self.writes.clear()
        return data


def statuses(raw: bytes) -> list[int]:
    found = []
    while raw:
        head, _, rest = raw.partition(b"\r\n\r\n")
        found.append(int(head[9:12]))
        size = 0
        for line in head.split(b"\r\n"):
            if line.startswith(b"Content-Length: "):
                size = int(line[16:])
        raw = rest[size:]
    return found


class World:
    def __init__(
        self,
        limits: Limits,
        gate: Gate | None = None,
        admission: Admission | None = None,
        rates: RateLimits | None = None,
    ) -> None:
        self.gate = gate or Gate()
        self.clock = ShiftedClock()
        cluster_clock = ClusterClock(self.clock)
        self.network = FakeNetwork()
        self.jitter = lambda: 0.5
        self.router = Router(self.network, self.clock, jitter=lambda: self.jitter())  # noqa: PLW0108 - tests replace it
        self.fallbacks: list[Fallback] = []
        self.counters = Counters()
        self.path = FastPath(
            self.router,
            Replies(cluster_clock, "0f3c9d1e"),
            self.counters,
            Authority(),
            limits,
            cluster_clock,
            self.fall_back,
            gate=self.gate,
            admission=admission,
            rates=rates,
            front=(),
        )

    def fall_back(self, on_reply: Callable[[], None]) -> Fallback:
        self.fallbacks.append(Fallback(on_reply))
        return self.fallbacks[-1]

    async def start(self) -> None:
        await self.adopt(1, "1")

    async def adopt(self, epoch: int, incarnation: str) -> None:
        info = NodeInfo(id="aux1", incarnation=incarnation, address=f"aux:{incarnation}")
        table = (Partition(primary="aux1", term=epoch),)
        self.router.adopt(
            View(cluster="c", epoch=epoch, replicas=1, table=table, nodes={"aux1": info})
        )
        await until(lambda: self.network.made[-1:] and self.network.made[-1][0] == info.address)
        self.aux.taken()
        self.aux.receive(b"+OK\r\n")
        await ticks(5)

    @property
    def aux(self) -> FakeTransport:
        return self.network.made[-1][1]

    def client(self, address: str = "") -> Client:
        return Client(self.path.protocol(), address)

    async def asked(self) -> list[Command]:
        await ticks()
        return self.aux.taken()


def get(target: bytes = b"/data/a", more: bytes = b"") -> bytes:
    return b"GET %b HTTP/1.1\r\n%b%b\r\n" % (target, HOST, more)


def put(body: bytes, target: bytes = b"/data/a", more: bytes = b"") -> bytes:
    return b"PUT %b HTTP/1.1\r\n%bContent-Length: %d\r\n%b\r\n%b" % (
        target, HOST, len(body), more, body,
    )  # fmt: skip


def post(body: bytes) -> bytes:
    return b"POST /data HTTP/1.1\r\n%bContent-Length: %d\r\n\r\n%b" % (HOST, len(body), body)


def entry(value: bytes, flags: int = JSON) -> bytes:
    raw = pack(
        slot=0, term=26, seq=43, expires_ms=0, written_s=0, flags=flags, meta=b"", value=value
    )
    return b"$%d\r\n%b\r\n" % (len(raw), raw)


def canonical(request: bytes, connection: bytes = b"keep-alive") -> bytes:
    """How a request arrives that was in good form already."""
    head, end, body = request.partition(b"\r\n\r\n")
    line, *fields = head.split(b"\r\n")
    names = [name.lower() + b":" + value for name, _, value in (f.partition(b":") for f in fields)]
    kept = [f for f in names if not f.startswith((b"connection", b"content-length"))]
    kept += [f for f in names if f.startswith(b"content-length")]
    return b"\r\n".join([line, *kept, b"connection: " + connection]) + end + body

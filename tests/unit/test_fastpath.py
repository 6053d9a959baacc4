"""The fast path: a client on one side, a primary on the other, both played by the test."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio

from master.api.limits import Limits
from master.authority import Authority
from master.connection import MAX_PIPELINE
from master.counters import Counters
from master.fastpath import FastPath
from master.replies import Replies
from master.router import Router
from ringmaster.clock import SystemClock
from ringmaster.commands import WriteOptions, decode_options
from ringmaster.entry import JSON, pack
from ringmaster.resp import Command
from ringmaster.view import NodeInfo, Partition, View
from tests.unit.fake_wire import FakeNetwork, FakeTransport, ticks, until

HOST = b"Host: localhost\r\n"
WRITTEN = b"*4\r\n:%d\r\n:26\r\n:43\r\n:0\r\n"


class ShiftedClock(SystemClock):
    """The machine's clock, moved by the test."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def boottime(self) -> float:
        return super().boottime() + self.ahead


class Fallback(asyncio.Protocol):
    """Plays aiohttp. With `on_reply` the connection is lent for one request, else it is handed over."""

    def __init__(self, on_reply: Callable[[], None] | None) -> None:
        self.on_reply = on_reply
        self.data = b""
        self.calls: list[str] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, FakeTransport)
        self.transport = transport

    def connection_lost(self, exc: BaseException | None) -> None:
        self.calls.append("lost")

    def data_received(self, data: bytes) -> None:
        self.data += data

    def pause_writing(self) -> None:
        self.calls.append("pause")

    def resume_writing(self) -> None:
        self.calls.append("resume")

    def detach(self) -> None:
        self.calls.append("detach")

    def reply(self) -> None:
        assert self.on_reply is not None
        self.transport.write(b"HTTP/1.1 299 Slow\r\n\r\n")
        self.on_reply()


class Client(FakeTransport):
    def __init__(self, protocol: asyncio.Protocol) -> None:
        super().__init__(protocol)
        self.unread = 0
        protocol.connection_made(self)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        assert isinstance(protocol, asyncio.Protocol)
        self.protocol = protocol

    def get_write_buffer_size(self) -> int:
        return self.unread

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
    def __init__(self, limits: Limits) -> None:
        self.clock = ShiftedClock()
        self.network = FakeNetwork()
        self.router = Router(self.network, self.clock, jitter=lambda: 0.5)
        self.fallbacks: list[Fallback] = []
        self.counters = Counters()
        self.path = FastPath(
            self.router,
            Replies(self.clock, "0f3c9d1e"),
            self.counters,
            Authority(),
            limits,
            self.clock,
            self.fall_back,
        )

    def fall_back(self, on_reply: Callable[[], None] | None) -> Fallback:
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

    def client(self) -> Client:
        return Client(self.path.protocol())

    async def asked(self) -> list[Command]:
        await ticks()
        return self.aux.taken()


@pytest.fixture
def limits() -> Limits:
    return Limits()


@pytest_asyncio.fixture
async def world(limits: Limits) -> AsyncIterator[World]:
    world = World(limits)
    await world.start()
    yield world
    await world.path.close(0)
    await world.router.close()


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


async def test_a_hit_and_a_miss(world: World) -> None:
    client = world.client()
    client.receive(get(b"/data/a+b"))
    assert await world.asked() == [[b"RM.GET", b"0.1", b"a+b"]]
    world.aux.receive(entry(b"[1]"))
    raw = client.said()
    assert raw.startswith(b"HTTP/1.1 200 OK\r\n")
    assert raw.endswith(b'\r\n\r\n{"key":"a+b","value":[1]}')
    assert b"detail=aux1\r\n" in raw
    client.receive(get(b"/data/%C3%A9"))
    assert await world.asked() == [[b"RM.GET", b"0.1", "é".encode()]]
    world.aux.receive(b"$-1\r\n")
    assert statuses(client.said()) == [404]
    assert (world.counters.hits, world.counters.misses) == (1, 1)


async def test_a_key_by_parameter(world: World) -> None:
    client = world.client()
    client.receive(get(b"/data?key=a+b"))
    assert await world.asked() == [[b"RM.GET", b"0.1", b"a b"]]


async def test_writes(world: World) -> None:
    client = world.client()
    client.receive(put(b"\x00v", b"/data/p?ttl=1.5", b"Content-Type: text/plain\r\n"))
    [[command, _, key, value, options]] = await world.asked()
    assert (command, key, value) == (b"RM.SET", b"p", b"\x00v")
    assert decode_options(options).ttl_ms == 1500
    assert decode_options(options).flags == 0
    world.aux.receive(WRITTEN % 1)
    raw = client.said()
    assert raw.startswith(b"HTTP/1.1 201 Created\r\nLocation: /data/p\r\n")
    assert b'ETag: "1a-2b-0f3c9d1e"\r\n' in raw

    client.receive(b"DELETE /data/p HTTP/1.1\r\n" + HOST + b"\r\n")
    assert await world.asked() == [[b"RM.DEL", b"0.1", b"p"]]
    world.aux.receive(WRITTEN % 3)
    assert statuses(client.said()) == [204]

    client.receive(post(b'{"key": "k", "value": {"a": 1.0}}'))
    assert await world.asked() == [[b"RM.SET", b"0.1", b"k", b'{"a": 1.0}']]
    world.aux.receive(WRITTEN % 0)
    assert b'"version":"1a-2b-0f3c9d1e"' in client.said()

    client.receive(post(b'{"key": "k", "value": 1, "ttl": 2}'))
    [[*_, options]] = await world.asked()
    assert decode_options(options) == WriteOptions(ttl_ms=2000)
    world.aux.receive(WRITTEN % 0)
    assert [(each.method, each.count) for each in world.counters if each.count] == [
        ("POST", 2),
        ("PUT", 1),
        ("DELETE", 1),
    ]


async def test_a_request_in_any_pieces_is_the_same_request(world: World) -> None:
    raw = put(b"value") + get() + post(b'{"key":"b","value":2}')
    for cut in range(1, len(raw)):
        client = world.client()
        client.receive(raw[:cut])
        client.receive(raw[cut:])
        assert [command[0] for command in await world.asked()] == [b"RM.SET", b"RM.GET", b"RM.SET"]
        world.aux.receive(WRITTEN % 0 + b"$-1\r\n" + WRITTEN % 1)
        assert statuses(client.said()) == [204, 404, 201]
    client = world.client()
    for at in range(len(raw)):
        client.receive(raw[at : at + 1])
    assert len(await world.asked()) == 3


async def test_replies_leave_in_the_order_of_the_requests(world: World) -> None:
    client = world.client()
    client.receive(get(b"/data/1") + get(b"/data/%") + get(b"/data/2"))
    assert client.said() == b""
    world.aux.receive(b"")
    await ticks()
    world.aux.receive(b"-WAIT 1\r\n" + entry(b"2"))
    assert client.said() == b""
    await until(lambda: len(world.aux.writes) >= 2)
    world.aux.receive(entry(b"1"))
    await ticks(5)
    raw = client.said()
    assert statuses(raw) == [200, 400, 200]
    assert raw.index(b'"value":1') < raw.index(b'"value":2')


async def test_a_pipeline_is_bounded_and_goes_on(world: World) -> None:
    client = world.client()
    client.receive(b"".join(get(b"/data/%d" % n) for n in range(40)))
    seen = 0
    while seen < 40:
        commands = await world.asked()
        assert 0 < len(commands) <= MAX_PIPELINE
        assert client.reading is (seen + len(commands) >= 40)
        for command in commands:
            assert command[2] == b"%d" % seen
            seen += 1
            world.aux.receive(entry(command[2]))
    assert statuses(client.said()) == [200] * 40
    assert client.reading


async def test_a_client_that_does_not_read_is_not_read_from(world: World) -> None:
    client = world.client()
    client.receive(get())
    await world.asked()
    client.protocol.pause_writing()
    client.receive(get(b"/data/b"))
    assert await world.asked() == []
    assert not client.reading
    world.aux.receive(entry(b"1"))
    client.protocol.resume_writing()
    assert [command[2] for command in await world.asked()] == [b"b"]
    assert client.reading


async def test_replies_that_nobody_reads_are_bounded(world: World) -> None:
    sweep = asyncio.create_task(world.path.run())
    clients = [world.client() for _ in range(3)]
    for number, client in enumerate(clients):
        client.protocol.pause_writing()
        client.unread = (number + 1) * 60 * 2**20
    await until(lambda: clients[2].closed)
    assert [client.closed for client in clients] == [False, False, True]
    sweep.cancel()


@pytest.mark.parametrize(
    "request_",
    [
        b"HEAD /data/a HTTP/1.1\r\n" + HOST + b"\r\n",
        b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n",
        b"GET /cluster HTTP/1.1\r\n" + HOST + b"\r\n",
        b"GET /database HTTP/1.1\r\n" + HOST + b"\r\n",
        b"GET /data?prefix=a HTTP/1.1\r\n" + HOST + b"\r\n",
        b"GET /data HTTP/1.1\r\n" + HOST + b"\r\n",
        b"GET http://localhost/data/a HTTP/1.1\r\n" + HOST + b"\r\n",
        b"GET /data/" + b"a" * 3000 + b" HTTP/1.1\r\n" + HOST + b"\r\n",
        b"GET /data/a HTTP/1.1\r\n\r\n",
        b"GET /data/a HTTP/1.1\r\nHost: evil.example\r\n\r\n",
        get(more=b"If-None-Match: *\r\n"),
        get(more=b"Range: bytes=0-1\r\n"),
        get(more=b"Prefer: wait=1\r\n"),
        get(more=b"Content-Length: 0\r\n"),
        get(more=b"Content-Length: 3\r\n") + b"abc",
        put(b"v", more=b"If-Match: *\r\n"),
        put(b"v", b"/data/a?ttl=1&tag=x"),
        put(b"v", b"/data/a?ttl=1&ttl=1"),
        b"PUT /data/a HTTP/1.1\r\n" + HOST + b"\r\n",
        put(b"x" * 300_000),
        b"POST /data/a?incr=1 HTTP/1.1\r\n" + HOST + b"Content-Length: 0\r\n\r\n",
        b"POST /data/bulk HTTP/1.1\r\n" + HOST + b"Content-Length: 2\r\n\r\n[]",
        post(b'{"key":"a","value":1,"if_match":"*"}'),
    ],
)
async def test_a_request_that_only_aiohttp_knows_borrows_the_connection(
    world: World, request_: bytes
) -> None:
    for cut in (len(request_), len(request_) - 1, len(request_) // 2):
        client = world.client()
        head = request_.index(b"\r\n\r\n") + 4
        if cut < head and not request_.startswith((b"GET /data", b"PUT /data", b"POST /data")):
            continue
        client.receive(request_[:cut])
        client.receive(request_[cut:] + get(b"/data/next")) if cut < len(request_) else None
        [fallback] = world.fallbacks
        assert fallback.data == request_
        assert await world.asked() == []
        if cut == len(request_):
            client.receive(get(b"/data/next"))
        assert fallback.data == request_
        assert not client.reading
        fallback.reply()
        await ticks()
        assert fallback.calls == ["detach"]
        assert [command[2] for command in await world.asked()] == [b"next"]
        world.aux.receive(b"$-1\r\n")
        assert statuses(client.said()) == [299, 404]
        assert client.reading
        world.fallbacks.clear()
        client.lose()


@pytest.mark.parametrize(
    "request_",
    [
        b"GET /data/a HTTP/1.0\r\n" + HOST + b"\r\n",
        b"GET /data/a HTTP/2.0\r\n" + HOST + b"\r\n",
        b"GET  /data/a HTTP/1.1\r\n" + HOST + b"\r\n",
        b"GET /data/\xc3\xa9 HTTP/1.1\r\n" + HOST + b"\r\n",
        b"CONNECT a:1 HTTP/1.1\r\n" + HOST + b"\r\n",
        b"GET /data/" + b"a" * 9000,
        b"GET /data/a HTTP/1.1\n" + HOST + b"\n",
        b"GET /data/a HTTP/1.1\r\nHost: a\n\r\n",
        b"\r\nGET /data/a HTTP/1.1\r\n" + HOST + b"\r\n",
        b"\x16\x03\x01",
        get(more=b"Connection: close\r\n"),
        get(more=b"Upgrade: websocket\r\nConnection: upgrade\r\n"),
        put(b"v", more=b"Expect: 100-continue\r\n"),
        put(b"v", more=b"Transfer-Encoding: chunked\r\n"),
        put(b"v", more=b"Content-Length: 1\r\n"),
        get(more=b"Content-Length: 1, 1\r\n") + b"x",
    ],
)
async def test_where_a_request_ends_in_doubt_the_connection_is_handed_over_untouched(
    world: World, request_: bytes
) -> None:
    client = world.client()
    client.receive(request_)
    await ticks(5)
    [fallback] = world.fallbacks
    assert fallback.on_reply is None
    assert fallback.data == request_
    assert await world.asked() == []
    assert client.writes == []
    assert client.reading
    client.receive(b"more")
    assert fallback.data == request_ + b"more"
    assert not world.path.connections


async def test_a_doubt_waits_for_the_replies_before_it(world: World) -> None:
    client = world.client()
    client.receive(get() + b"OPTIONS * HTTP/1.0\r\n")
    await world.asked()
    await ticks()
    assert world.fallbacks == []
    assert not client.reading
    client.receive(b"Host: a\r\n\r\n")
    world.aux.receive(entry(b"1"))
    await ticks()
    assert statuses(client.said()) == [200]
    assert world.fallbacks[0].data == b"OPTIONS * HTTP/1.0\r\nHost: a\r\n\r\n"
    assert client.reading


async def test_a_borrower_hears_of_what_happens_to_the_connection(world: World) -> None:
    client = world.client()
    client.receive(b"GET /cluster/events HTTP/1.1\r\n" + HOST + b"\r\n")
    world.clock.ahead += 1000
    for connection in list(world.path.connections):
        connection.sweep(world.clock.boottime())
    client.protocol.pause_writing()
    client.protocol.resume_writing()
    client.lose()
    assert world.fallbacks[0].calls == ["pause", "resume", "lost"]
    assert not world.path.connections


async def test_a_borrower_that_closes_the_connection_keeps_it_closed(world: World) -> None:
    client = world.client()
    client.receive(b"GET /cluster HTTP/1.1\r\n" + HOST + b"\r\n" + get())
    world.fallbacks[0].reply()
    client.close()
    await ticks()
    assert world.fallbacks[0].calls == ["lost"]
    assert await world.asked() == []


@pytest.mark.parametrize(
    ("request_", "status", "why"),
    [
        (get(b"/data/"), 400, b"empty"),
        (get(b"/data/%zz"), 400, b"%25"),
        (get(b"/data/%FF"), 400, b"UTF-8"),
        (put(b"v", b"/data/a?ttl=-1"), 400, b"ttl"),
        (post(b"{"), 400, b"JSON"),
        (post(b'{"key":"","value":1}'), 400, b"empty"),
        (post(b'{"key":"a","value":1,"ttl":"5"}'), 400, b"ttl"),
    ],
)
async def test_a_clients_mistake_is_a_problem_and_the_connection_goes_on(
    world: World, request_: bytes, status: int, why: bytes
) -> None:
    client = world.client()
    client.receive(request_ + get())
    assert [command[2] for command in await world.asked()] == [b"a"]
    world.aux.receive(entry(b"1"))
    raw = client.said()
    assert statuses(raw) == [status, 200]
    assert why in raw
    assert b"application/problem+json" in raw


@pytest.mark.parametrize("limits", [Limits(max_value=4)])
async def test_a_value_above_the_limit_never_reaches_a_node(world: World) -> None:
    client = world.client()
    client.receive(post(b'{"key":"a","value":12345}'))
    assert await world.asked() == []
    assert statuses(client.said()) == [413]
    client.receive(put(b"12345"))
    assert len(world.fallbacks) == 1


@pytest.mark.parametrize("limits", [Limits(deadline_s=0.2)])
async def test_deadlines_hold_without_a_timer_per_request(world: World) -> None:
    sweep = asyncio.create_task(world.path.run())
    client = world.client()
    client.receive(get() + put(b"v") + get(b"/data/c"))
    await world.asked()
    await until(lambda: client.writes)
    await ticks()
    raw = client.said()
    assert statuses(raw) == [503, 503, 503]
    assert b'"outcome":"unknown"' in raw
    assert b"Retry-After: 1\r\n" in raw
    world.aux.receive(entry(b"1") + WRITTEN % 0 + entry(b"3"))
    assert client.writes == []
    sweep.cancel()


async def test_a_write_on_a_lost_link_is_unknown_and_a_read_is_asked_again(world: World) -> None:
    client = world.client()
    client.receive(put(b"v") + get())
    await world.asked()
    await world.adopt(2, "2")
    raw = client.said()
    assert statuses(raw) == [503]
    assert b'"outcome":"unknown"' in raw
    assert await world.asked() == [[b"RM.GET", b"0.2", b"a"]]
    world.aux.receive(entry(b"1"))
    await ticks(5)
    assert statuses(client.said()) == [200]


@pytest.mark.parametrize(
    ("reply", "status", "outcome"),
    [
        (b"-SHED full\r\n", 503, b"not-applied"),
        (b"-MINSYNC 1 of 2\r\n", 503, b"not-applied"),
        (b"-UNKNOWN\r\n", 503, b"unknown"),
        (b"-TOOBIG\r\n", 413, b""),
        (WRITTEN % 2, 412, b""),
    ],
)
async def test_refusals_of_a_write(world: World, reply: bytes, status: int, outcome: bytes) -> None:
    client = world.client()
    client.receive(put(b"v"))
    await world.asked()
    world.aux.receive(reply)
    raw = client.said()
    assert statuses(raw) == [status]
    assert outcome in raw


async def test_a_write_that_did_not_run_is_sent_again(world: World) -> None:
    client = world.client()
    client.receive(put(b"v"))
    first = await world.asked()
    world.aux.receive(b"-MOVED 1\r\n")
    await until(lambda: world.aux.writes)
    assert world.aux.taken() == first
    world.aux.receive(WRITTEN % 0)
    await ticks(5)
    assert statuses(client.said()) == [204]


async def test_a_client_that_leaves_costs_nothing_more(world: World) -> None:
    client = world.client()
    client.receive(get() + put(b"v"))
    await world.asked()
    client.lose()
    world.aux.receive(b"-WAIT 1\r\n" + WRITTEN % 0)
    await ticks(5)
    assert client.writes == []
    assert not world.path.connections


@pytest.mark.parametrize(
    ("sent", "wait_s"),
    [(b"GET /data/a HTTP/1.1\r\nHo", 11), (put(b"value")[:-2], 61)],
)
async def test_a_request_that_does_not_arrive_gets_408(
    world: World, sent: bytes, wait_s: float
) -> None:
    sweep = asyncio.create_task(world.path.run())
    client = world.client()
    for at in range(len(sent)):
        # Byte by byte, which buys no time.
        client.receive(sent[at : at + 1])
        world.clock.ahead += wait_s / len(sent)
    await until(lambda: client.closed)
    assert statuses(client.said()) == [408]
    sweep.cancel()


async def test_an_idle_connection_is_closed_and_a_busy_one_is_not(world: World) -> None:
    idle, busy = world.client(), world.client()
    world.clock.ahead += 70
    busy.receive(get())
    await world.asked()
    world.aux.receive(entry(b"1"))
    world.clock.ahead += 10
    for connection in list(world.path.connections):
        connection.sweep(world.clock.boottime())
    await ticks()
    assert idle.closed
    assert not busy.closed


async def test_closing_lets_requests_finish_and_takes_no_more(world: World) -> None:
    client = world.client()
    client.receive(get())
    await world.asked()
    closing = asyncio.create_task(world.path.close(2.0))
    await ticks()
    client.receive(get(b"/data/b"))
    assert await world.asked() == []
    world.aux.receive(entry(b"1"))
    assert statuses(client.said()) == [200]
    await closing
    assert client.closed


async def test_a_bug_is_a_500_and_not_a_hung_client(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = world.client()
    client.receive(get())
    await world.asked()
    # The only way to have a bug on purpose.
    monkeypatch.setattr(Router, "read", None)
    world.aux.receive(b"-WAIT 1\r\n")
    await ticks(5)
    assert statuses(client.said()) == [500]

"""The link: one write per tick, replies in order, bounds, and no reply for a wrong request."""

import asyncio
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest

from ringmaster.errors import (
    DeadlineExceeded,
    LinkBroken,
    LinkDown,
    LinkFull,
    PeerError,
    SettingsError,
)
from ringmaster.net.link import CLOSED, HALF_OPEN, OPEN, ConnectCounts, Link
from ringmaster.net.network import AsyncioNetwork
from ringmaster.protocol.resp import CommandReader, Reply, encode
from tests.fakes.virtual_time import in_virtual_time
from tests.unit.fake_wire import FakeNetwork, FakeTransport, ticks, until

HELLO = encode(b"AUTH", b"secret") + encode(b"RM.HELLO", b"c", b"i")


async def raised(link: Link) -> FakeTransport:
    """`link`, started and greeted."""
    link.start()
    network = link._network
    assert isinstance(network, FakeNetwork)
    await until(lambda: network.made)
    transport = network.made[-1][1]
    if link._hello:
        assert len(transport.taken()) == 2
        transport.receive(b"+OK\r\n+OK\r\n")
    await until(lambda: link.connected)
    return transport


def make(network: FakeNetwork, hello: bytes = b"", **options: object) -> Link:
    return Link(network, "a:1", name="a", hello=hello, **{"jitter": lambda: 0.0, **options})  # type: ignore[arg-type]


async def test_requests_of_one_tick_leave_in_one_write_and_replies_come_in_order() -> None:
    link = make(FakeNetwork())
    transport = await raised(link)
    got: list[Reply] = []
    for number in range(5):
        link.send(encode(b"PING", number), got.append)
    assert transport.writes == []
    await ticks()
    assert len(transport.writes) == 1
    transport.receive(b":0\r\n:1\r\n:2")
    assert got == [0, 1]
    transport.receive(b"\r\n:3\r\n-ERR x\r\n")
    assert got[:4] == [0, 1, 2, 3]
    assert isinstance(got[4], PeerError)
    await link.close()


async def test_the_greeting_comes_first_and_its_replies_reach_nobody_else() -> None:
    ups: list[str] = []
    link = make(
        FakeNetwork(), HELLO, on_up=lambda: ups.append("up"), on_down=lambda: ups.append("down")
    )
    link.start()
    got: list[Reply] = []
    link.send(encode(b"PING"), got.append)
    assert isinstance(got[0], LinkDown)
    transport = await raised(link)
    assert ups == ["up"]
    link.send(encode(b"PING"), got.append)
    await ticks()
    transport.receive(b"+PONG\r\n")
    assert got[1] == b"PONG"
    await link.close()
    assert ups == ["up", "down"]


async def test_a_refused_greeting_keeps_the_link_down_and_tries_again() -> None:
    network = FakeNetwork()
    link = make(network, HELLO)
    link.start()
    for attempt in range(1, 4):
        await until(lambda attempt=attempt: len(network.made) >= attempt)
        assert not link.connected
        network.made[-1][1].receive(b"+OK\r\n-WRONG incarnation\r\n")
        assert network.made[-1][1].closed
    await link.close()


async def test_a_lost_connection_breaks_what_was_sent_and_returns_what_was_not() -> None:
    network = FakeNetwork()
    link = make(network)
    transport = await raised(link)
    got: list[Reply] = []
    link.send(encode(b"SET", b"a", b"1"), got.append)
    await ticks()
    link.send(encode(b"SET", b"b", b"1"), got.append)
    transport.lose()
    assert isinstance(got[0], LinkBroken)
    assert isinstance(got[1], LinkDown)
    await until(lambda: len(network.made) == 2 and link.connected)
    transport.receive(b"+LATE\r\n")
    link.send(encode(b"PING"), got.append)
    await ticks()
    transport.receive(b"+LATE\r\n")
    assert len(got) == 2
    network.made[-1][1].receive(b"+PONG\r\n")
    assert got[2] == b"PONG"
    await link.close()


async def test_bounds_shed_instead_of_queueing() -> None:
    link = make(FakeNetwork(), max_in_flight=2)
    await raised(link)
    got: list[Reply] = []
    for _ in range(3):
        link.send(encode(b"PING"), got.append)
    assert [type(reply) for reply in got] == [LinkFull]
    await link.close()
    assert [type(reply) for reply in got] == [LinkFull, LinkDown, LinkDown]


async def test_a_slow_transport_is_given_nothing_more_and_the_backlog_is_bounded() -> None:
    link = make(FakeNetwork(), max_buffer=1000)
    transport = await raised(link)
    transport.protocol.pause_writing()
    got: list[Reply] = []
    for _ in range(4):
        link.send(encode(b"SET", b"k", b"x" * 400), got.append)
    await ticks()
    assert transport.writes == []
    assert [type(reply) for reply in got] == [LinkFull]
    transport.protocol.resume_writing()
    assert len(transport.taken()) == 3
    link.send(encode(b"PING"), got.append)
    await ticks()
    assert transport.taken() == [[b"PING"]]
    await link.close()


@in_virtual_time
async def test_a_stalled_peer_breaks_the_link_and_a_slow_but_answering_one_does_not() -> None:
    link = make(FakeNetwork(), stall_s=0.08)
    transport = await raised(link)
    got: list[Reply] = []
    link.send(encode(b"PING"), got.append)
    for _ in range(40):
        await asyncio.sleep(0.005)
        link.send(encode(b"PING"), got.append)
        transport.receive(b"+PONG\r\n")
    assert len(got) == 40
    assert link.connected
    await until(lambda: len(got) == 41)
    assert isinstance(got[40], LinkBroken)
    assert "stalled" in str(got[40])
    await link.close()


@in_virtual_time
async def test_an_idle_link_does_not_stall() -> None:
    link = make(FakeNetwork(), stall_s=0.02)
    transport = await raised(link)
    await asyncio.sleep(60)
    assert link.connected
    assert not transport.closed
    await link.close()


@pytest.mark.parametrize("nonsense", [b"HTTP/1.1 400\r\n", b"+OK\r\n"])
def test_what_nobody_asked_for_closes_the_connection(nonsense: bytes) -> None:
    async def scenario() -> None:
        link = make(FakeNetwork())
        transport = await raised(link)
        transport.receive(nonsense)
        assert transport.closed
        assert not link.connected
        await link.close()

    asyncio.run(scenario())


async def test_a_callback_may_close_the_link() -> None:
    link = make(FakeNetwork())
    transport = await raised(link)
    got: list[Reply] = []
    link.send(encode(b"PING"), lambda reply: link.abort(LinkBroken("enough")))
    link.send(encode(b"PING"), got.append)
    await ticks()
    transport.receive(b"+PONG\r\n+PONG\r\n")
    assert [type(reply) for reply in got] == [LinkBroken]
    await link.close()


async def test_a_request_has_a_deadline_and_its_late_reply_reaches_nobody() -> None:
    link = make(FakeNetwork())
    transport = await raised(link)
    with pytest.raises(DeadlineExceeded):
        await link.request(encode(b"SLOW"), 0.01)
    fast = asyncio.ensure_future(link.request(encode(b"FAST"), 1.0))
    await ticks()
    transport.receive(b"+slow\r\n+fast\r\n")
    assert await fast == b"fast"
    bad = asyncio.ensure_future(link.request(encode(b"BAD"), 1.0))
    await ticks()
    transport.receive(b"-ERR bad\r\n")
    with pytest.raises(PeerError):
        await bad
    await link.close()


@in_virtual_time
async def test_it_backs_off_while_the_peer_is_away() -> None:
    network = FakeNetwork(lambda address: False)
    counts = ConnectCounts()
    link = make(network, jitter=lambda: 0.5, counts=counts)
    link.start()
    assert link.circuit == OPEN
    await asyncio.sleep(0.2)
    # After 10, 30, 70 and 150 ms.
    assert network.attempts == 5
    await asyncio.sleep(60)
    assert network.attempts == pytest.approx(120, abs=6)
    assert (counts.attempts, counts.failures) == (network.attempts, network.attempts)
    assert link.circuit == OPEN
    network.accept = lambda address: True
    await until(lambda: link.connected)
    assert link.circuit == CLOSED
    await link.close()
    assert not link.connected


@in_virtual_time
async def test_pauses_between_attempts_are_spread_over_their_whole_length() -> None:
    starts: list[float] = []

    def refuse(address: str) -> bool:
        starts.append(asyncio.get_running_loop().time())
        return False

    network = FakeNetwork(refuse)
    draws = Random(7)
    link = make(network, jitter=draws.random)
    link.start()
    await asyncio.sleep(300)
    await link.close()
    pauses = sorted(later - sooner for sooner, later in pairwise(starts[10:]))
    assert pauses[0] < 0.02
    assert 0.95 < pauses[-1] <= 1.0
    assert sum(pauses) / len(pauses) == pytest.approx(0.5, abs=0.05)


@in_virtual_time
async def test_a_peer_that_takes_connections_and_drops_them_is_failing() -> None:
    network = FakeNetwork()
    link = make(network, jitter=lambda: 0.5)
    link.start()
    for _ in range(200):
        await until(lambda: link.connected, 60)
        network.made[-1][1].lose()
        await asyncio.sleep(0.001)
    assert asyncio.get_running_loop().time() > 1000 + 0.5 * 180
    await link.close()


@in_virtual_time
async def test_after_a_connection_that_lasted_the_next_attempt_comes_soon() -> None:
    network = FakeNetwork(lambda address: False)
    link = make(network, jitter=lambda: 0.5)
    link.start()
    await asyncio.sleep(30)
    network.accept = lambda address: True
    await until(lambda: link.connected)
    await asyncio.sleep(2)
    lost_at = asyncio.get_running_loop().time()
    network.made[-1][1].lose()
    await until(lambda: not link.connected)
    await until(lambda: link.connected)
    assert asyncio.get_running_loop().time() - lost_at < 0.02
    await link.close()


@in_virtual_time
async def test_while_it_is_tried_the_circuit_is_half_open_and_requests_fail_at_once() -> None:
    network = FakeNetwork()
    link = make(network, HELLO)
    link.start()
    await until(lambda: network.made)
    assert link.circuit == HALF_OPEN
    replies: list[object] = []
    for _ in range(1000):
        link.send(encode(b"GET"), replies.append)
    assert len(replies) == 1000
    assert all(isinstance(reply, LinkDown) for reply in replies)
    assert network.attempts == 1
    await link.close()


@in_virtual_time
async def test_it_counts_what_was_answered_over_all_connections() -> None:
    network = FakeNetwork()
    link = make(network)
    for _ in range(2):
        transport = await raised(link)
        link.send(encode(b"GET"), lambda _: None)
        await ticks()
        transport.receive(b"+OK\r\n")
        transport.lose()
        await until(lambda: not link.connected)
        network.made.clear()
    assert link.answered == 2
    await link.close()


async def test_over_a_real_unix_socket(tmp_path: Path) -> None:
    class Echo(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = transport
            self.commands = CommandReader()

        def data_received(self, data: bytes) -> None:
            for command in self.commands.feed(data):
                self.transport.write(b"$%d\r\n%b\r\n" % (len(command[-1]), command[-1]))  # type: ignore[attr-defined]

    network = AsyncioNetwork()
    address = f"unix:{tmp_path}/s"
    listener = await network.listen(address, Echo)
    link = Link(network, address, name="echo", hello=HELLO)
    link.start()
    await until(lambda: link.connected)
    values = [b"%d" % n * 1000 for n in range(500)]
    replies = await asyncio.gather(*(link.request(encode(b"E", v), 5.0) for v in values))
    assert replies == values
    await link.close()
    listener.close()
    with pytest.raises(SettingsError):
        await network.listen("nowhere", Echo)

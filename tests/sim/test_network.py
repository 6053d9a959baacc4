"""Simulated processes and the streams between them: what freezes, crashes, cuts and resets do to bytes."""

import asyncio

import pytest

from ringmaster.errors import LinkDown, RingmasterError, SettingsError
from ringmaster.net.link import Link
from ringmaster.protocol.resp import CommandReader, encode
from tests.sim.hub import Hub
from tests.sim.loop import NodeLoop
from tests.sim.network import NodeNetwork, SimNetwork


class Recorder(asyncio.Protocol):
    """Keeps what arrives, and when."""

    def __init__(self, loop: NodeLoop) -> None:
        self.loop = loop
        self.received: list[tuple[float, bytes]] = []
        self.lost: list[Exception | None] = []
        self.transport: asyncio.Transport | None = None
        self.paused = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        self.received.append((self.loop.true_now(), data))

    def connection_lost(self, error: Exception | None) -> None:
        self.lost.append(error)

    def pause_writing(self) -> None:
        self.paused += 1

    def resume_writing(self) -> None:
        self.paused -= 1

    @property
    def bytes(self) -> bytes:
        return b"".join(data for _, data in self.received)


class World:
    """Two processes, `a` connected to `b`."""

    def __init__(self, seed: int = 1) -> None:
        self.hub = Hub(seed)
        self.network = SimNetwork(self.hub)
        self.a, self.b = NodeLoop(self.hub, "a"), NodeLoop(self.hub, "b")
        self.server: Recorder | None = None
        self.client = Recorder(self.a)
        self.b.create_task(NodeNetwork(self.network, self.b).listen("b:1", self._accept))
        self.a.create_task(
            NodeNetwork(self.network, self.a).connect("b:1", lambda: self.client, 5.0)
        )
        self.hub.run(1.0)

    def _accept(self) -> Recorder:
        self.server = Recorder(self.b)
        return self.server

    @property
    def ends(self) -> tuple[Recorder, Recorder]:
        assert self.server is not None
        return self.client, self.server

    def write(self, data: bytes) -> None:
        self.a.call_soon(lambda: self.client.transport.write(data))  # type: ignore[union-attr]


def test_what_a_process_sends_after_the_clock_read_at_which_it_froze_leaves_when_it_goes_on() -> (
    None
):
    world = World()
    client, server = world.ends
    reads: list[float] = []

    def work() -> None:
        assert client.transport is not None
        client.transport.write(b"before;")
        reads.append(world.a.boottime())
        client.transport.write(b"after;")
        reads.append(world.a.boottime())
        world.a.call_soon(lambda: client.transport.write(b"next"))  # type: ignore[union-attr]

    start = world.hub.now
    world.a.freeze_at_read(1, 3.0)
    world.a.call_soon(work)
    world.hub.run(10)
    assert reads[1] - reads[0] == pytest.approx(3.0)
    assert server.bytes == b"before;after;next"
    assert server.received[0][0] < start + 0.1
    assert server.received[1][0] >= start + 3.0


def test_a_frozen_process_handles_its_input_and_timers_when_it_goes_on() -> None:
    world = World()
    client, server = world.ends
    fired: list[float] = []
    world.b.call_later(1.0, lambda: fired.append(world.hub.now))
    world.b.freeze(5.0)
    world.write(b"x")
    world.hub.run(20)
    assert server.received[0][0] == pytest.approx(6.0)
    assert fired == [pytest.approx(6.0)]
    assert not client.lost


def test_a_crash_that_is_noticed_resets_connections_and_one_that_is_not_says_nothing() -> None:
    for noticed in (True, False):
        world = World()
        client, _ = world.ends
        world.b.host_answers = noticed
        world.b.crash()
        world.network.crashed(world.b, noticed=noticed)
        world.write(b"x")
        world.hub.run(60)
        assert [type(error) for error in client.lost] == ([ConnectionResetError] if noticed else [])


def test_a_process_can_die_between_two_sends_of_one_callback() -> None:
    world = World()
    client, server = world.ends

    def work() -> None:
        assert client.transport is not None
        client.transport.write(b"one;")
        client.transport.write(b"two;")

    world.a.crash_at_send(1)
    world.a.call_soon(work)
    world.hub.run(5)
    assert server.bytes == b"one;"
    assert world.a.crashed


def test_a_cut_holds_bytes_and_keeps_their_order_and_the_other_way_stays_open() -> None:
    world = World()
    client, server = world.ends
    world.network.cut("a", "b")
    for number in range(5):
        world.write(b"%d" % number)
    world.b.call_soon(lambda: server.transport.write(b"back"))  # type: ignore[union-attr]
    world.hub.run(10)
    assert server.bytes == b""
    assert client.bytes == b"back"
    world.network.heal("a", "b")
    world.write(b"5")
    world.hub.run(20)
    assert server.bytes == b"012345"


def test_chunks_are_split_and_stay_in_order() -> None:
    world = World()
    _, server = world.ends
    world.network.faults.split = 1.0
    world.network.faults.delay_s = (0.001, 0.5)
    data = bytes(range(256))
    for place in range(0, 256, 16):
        world.write(data[place : place + 16])
    world.hub.run(60)
    assert server.bytes == data
    assert len(server.received) > 16


def test_after_a_reset_that_nobody_noticed_the_next_write_finds_out() -> None:
    world = World()
    client, server = world.ends
    world.network.reset_some("a", noticed=0.0)
    world.hub.run(10)
    assert not client.lost
    world.write(b"x")
    world.hub.run(20)
    assert [type(error) for error in client.lost] == [ConnectionResetError]
    assert not server.lost
    assert server.bytes == b""


def test_close_says_goodbye_after_the_last_byte() -> None:
    world = World()
    client, server = world.ends
    world.write(b"last words")
    world.a.call_soon(client.transport.close)  # type: ignore[union-attr]
    world.hub.run(5)
    assert server.bytes == b"last words"
    assert client.lost == [None]
    assert server.lost == [None]


def test_a_writer_is_told_to_pause_while_its_peer_does_not_read() -> None:
    world = World()
    client, server = world.ends
    world.b.freeze(5.0)
    for _ in range(8):
        world.write(b"x" * 64 * 1024)
    world.hub.run(3)
    assert client.paused == 1
    world.hub.run(20)
    assert client.paused == 0
    assert len(server.bytes) == 8 * 64 * 1024


def test_connect_is_refused_without_a_listener_and_times_out_behind_a_cut() -> None:
    world = World()
    network = NodeNetwork(world.network, world.a)
    refused = world.a.create_task(network.connect("b:9", lambda: Recorder(world.a), 2.0))
    world.hub.run(1.5)
    assert isinstance(refused.exception(), LinkDown)
    world.network.cut("b", "a")
    late = world.a.create_task(network.connect("b:1", lambda: Recorder(world.a), 2.0))
    world.hub.run(3.0)
    assert not late.done()
    world.hub.run(5.0)
    assert isinstance(late.exception(), LinkDown)


def test_an_address_is_taken_until_its_process_dies() -> None:
    world = World()
    second = world.a.create_task(
        NodeNetwork(world.network, world.a).listen("b:1", lambda: Recorder(world.a))
    )
    world.hub.run(2)
    assert isinstance(second.exception(), SettingsError)
    world.b.crash()
    third = world.a.create_task(
        NodeNetwork(world.network, world.a).listen("b:1", lambda: Recorder(world.a))
    )
    world.hub.run(3)
    assert third.exception() is None


class Echo(asyncio.Protocol):
    """Answers every command with its last argument."""

    def __init__(self) -> None:
        self.reader = CommandReader()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        self.transport.write(
            b"".join(encode_bulk(command[-1]) for command in self.reader.feed(data))
        )


def encode_bulk(value: bytes) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(value), value)


def run_links(seed: int) -> tuple[list[object], int]:
    """The real link against a toy server, on a bad network."""
    hub = Hub(seed)
    network = SimNetwork(hub)
    a, b = NodeLoop(hub, "a", rate=1.03), NodeLoop(hub, "b", rate=0.97)
    network.faults.split = 0.5
    network.faults.stall = 0.05
    results: list[object] = []

    async def client() -> None:
        link = Link(
            NodeNetwork(network, a),
            "b:1",
            name="b",
            hello=encode(b"HELLO", b"x"),
            jitter=hub.random.random,
        )
        link.start()
        for number in range(100):
            try:
                results.append(await link.request(encode(b"ECHO", b"%d" % number), 1.0))
            except RingmasterError as error:
                results.append(type(error).__name__)
            await asyncio.sleep(0.05)
        await link.close()

    b.create_task(NodeNetwork(network, b).listen("b:1", Echo))
    a.create_task(client())
    for when in (1.0, 2.0, 3.0):
        hub.at(when, lambda: network.reset_some("a", noticed=0.5))
    hub.at(3.5, b.freeze, 1.5)
    hub.run(60)
    assert not hub.failures
    return results, hub.ticks


def test_the_real_link_never_mixes_up_replies_on_a_bad_network() -> None:
    for seed in range(20):
        results, _ = run_links(seed)
        assert len(results) == 100
        for number, result in enumerate(results):
            assert result == b"%d" % number or isinstance(result, str)
        assert sum(isinstance(result, bytes) for result in results) > 50


def test_a_seed_decides_everything() -> None:
    assert run_links(5) == run_links(5)
    assert run_links(5) != run_links(6)

"""Fills: chunks, the cap on bytes, and ends that are cut short (R7)."""

from __future__ import annotations

import asyncio

from aux.migration import ACK_TIMEOUT_S, CHUNK_KEYS, Filler
from aux.primary import Copy, CopyState, Primary
from aux.store import Store
from ringmaster import entry as entries
from tests.fakes.virtual_time import LoopClock, in_virtual_time


class FakePeer:
    """Acknowledges each barrier with `answer`, or never if that is None."""

    def __init__(self) -> None:
        self.answer: bool | None = True
        self.barriers = 0

    def barrier(self, on_reply: object) -> None:
        self.barriers += 1
        if self.answer is not None:
            on_reply(self.answer)  # type: ignore[operator]


class FakePeers:
    def __init__(self) -> None:
        self.peer: FakePeer | None = FakePeer()
        self.sent: list[tuple[bytes, bytes]] = []

    def send(self, copy: Copy, seq: int, key: bytes, entry: bytes) -> None:
        assert seq == 0
        self.sent.append((key, entry[entries.value_offset(entry) :]))

    def get(self, node: str) -> FakePeer | None:
        return self.peer


class World:
    def __init__(self, keys: int, bytes_per_s: int = 0, size: int = 1) -> None:
        self.store = Store(2**30, 4)
        self.peers = FakePeers()
        self.done: list[Copy] = []
        self.filler = Filler(self.peers, LoopClock(), bytes_per_s, self.done.append)  # type: ignore[arg-type]
        data = self.store.open(0, evictable=True)
        self.primary = Primary(0, 1, data, self.store, self.peers, lambda: True)  # type: ignore[arg-type]
        for number in range(keys):
            self.write(b"%d" % number, bytes(size))
        self.task = asyncio.get_running_loop().create_task(self.filler.run())

    def write(self, key: bytes, value: bytes) -> None:
        self.primary.submit(
            key,
            entries.pack(slot=0, term=1, seq=1, expires_ms=0, written_s=0, flags=0, meta=b"", value=value),
        )  # fmt: skip

    def fill(self, node: str = "b", session: int = 1) -> Copy:
        copy = Copy(self.primary, node, 5)
        copy.state, copy.session = CopyState.SCANNING, session
        self.filler.start_fill(copy)
        return copy

    async def end(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


@in_virtual_time
async def test_every_key_is_sent_once_in_chunks_that_are_acknowledged() -> None:
    world = World(CHUNK_KEYS * 2 + 1)
    copy = world.fill()
    await asyncio.sleep(1)
    assert world.done == [copy]
    assert copy.state is CopyState.STREAMING
    assert len(world.peers.sent) == len({key for key, _ in world.peers.sent}) == CHUNK_KEYS * 2 + 1
    assert world.peers.peer is not None
    assert world.peers.peer.barriers == 3
    assert world.filler.filled_keys == CHUNK_KEYS * 2 + 1
    await world.end()


@in_virtual_time
async def test_an_empty_partition_is_full_at_once() -> None:
    world = World(0)
    copy = world.fill()
    await asyncio.sleep(0.1)
    assert world.done == [copy]
    await world.end()


@in_virtual_time
async def test_fills_together_keep_within_the_bytes_per_second() -> None:
    world = World(100, bytes_per_s=100_000, size=20_000)  # 2 MB for each of two copies
    began = asyncio.get_running_loop().time()
    world.fill("b")
    world.fill("c")
    while len(world.done) < 2:  # noqa: ASYNC110 - virtual time
        await asyncio.sleep(0.1)
    assert 35 < asyncio.get_running_loop().time() - began < 60
    await world.end()


@in_virtual_time
async def test_a_fill_whose_link_breaks_is_closed_and_not_caught_up() -> None:
    world = World(10)
    assert world.peers.peer is not None
    world.peers.peer.answer = False
    copy = world.fill()
    await asyncio.sleep(0.1)
    assert (world.done, copy.state) == ([], CopyState.CLOSED)
    await world.end()


@in_virtual_time
async def test_a_chunk_that_is_never_acknowledged_does_not_hold_up_a_worker_for_ever() -> None:
    world = World(10)
    assert world.peers.peer is not None
    world.peers.peer.answer = None
    stuck = [world.fill(f"n{number}") for number in range(4)]
    await asyncio.sleep(ACK_TIMEOUT_S + 0.1)
    assert {copy.state for copy in stuck} == {CopyState.CLOSED}
    world.peers.peer.answer = True
    copy = world.fill("b", session=2)
    await asyncio.sleep(0.1)
    assert world.done == [copy]
    await world.end()


@in_virtual_time
async def test_a_fill_in_a_session_that_is_over_sends_nothing() -> None:
    world = World(10)
    copy = world.fill(session=1)
    copy.session = 2
    await asyncio.sleep(0.1)
    assert (world.peers.sent, world.done) == ([], [])
    await world.end()


@in_virtual_time
async def test_without_a_link_the_fill_waits_to_be_opened_again() -> None:
    world = World(10)
    world.peers.peer = None
    copy = world.fill()
    await asyncio.sleep(0.1)
    assert (world.done, copy.state) == ([], CopyState.CLOSED)
    await world.end()

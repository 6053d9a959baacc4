"""Fills: chunks, the cap on bytes, and ends that are cut short (R7)."""

from __future__ import annotations

import asyncio

import pytest

from aux.replication.fill import (
    ACK_TIMEOUT_S,
    CHUNK_KEYS,
    OVER_BUDGET_LOOK_S,
    OVER_BUDGET_WAIT_S,
    REST,
    REST_IN_REPAIR,
    Filler,
)
from aux.replication.primary import Copy, CopyState, Primary
from aux.storage.store import Store
from ringmaster.cluster.view import Filling, Partition, View
from ringmaster.protocol import entry as entries
from tests.fakes.virtual_time import LoopClock, in_virtual_time


class FakePeer:
    """Acknowledges each barrier with `answer`, or never if that is None."""

    def __init__(self) -> None:
        self.answer: bool | None = True
        self.over_bytes = 0
        self.barriers = 0

    def barrier(self, on_reply: object) -> None:
        self.barriers += 1
        if self.answer is not None:
            on_reply(self.answer)  # type: ignore[operator]


class WorkingClock(LoopClock):
    """Also goes on while a callback works; `worked_s` is how long that was in all."""

    worked_s = 0.0

    def boottime(self) -> float:
        return super().boottime() + self.worked_s


class FakePeers:
    def __init__(self, clock: WorkingClock) -> None:
        self.peer: FakePeer | None = FakePeer()
        self.sent: list[tuple[bytes, bytes]] = []
        self.clock = clock
        self.send_takes_s = 0.0

    def send(self, copy: Copy, seq: int, key: bytes, entry: bytes) -> None:
        assert seq == 0
        self.clock.worked_s += self.send_takes_s
        self.sent.append((key, entry[entries.value_offset(entry) :]))

    def get(self, node: str) -> FakePeer | None:
        return self.peer


class World:
    def __init__(self, keys: int, bytes_per_s: int = 0, size: int = 1) -> None:
        self.store = Store(2**30, 4)
        clock = WorkingClock()
        self.peers = FakePeers(clock)
        self.done: list[Copy] = []
        self.view: View | None = None
        self.filler = Filler(
            self.peers,  # type: ignore[arg-type]
            clock,
            bytes_per_s,
            self.done.append,
            lambda: self.view,
        )
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
async def test_slices_rest_longer_for_balance_than_where_a_copy_is_lacking() -> None:
    slices, slice_s = 10, 0.01
    took_s = {}
    for in_sync in (1, 2):
        world = World(CHUNK_KEYS * slices)
        world.peers.send_takes_s = slice_s / CHUNK_KEYS
        world.primary.in_sync = in_sync
        world.view = View(cluster="c" * 32, epoch=1, replicas=2, table=())
        began = asyncio.get_running_loop().time()
        world.fill()
        while not world.done:  # noqa: ASYNC110 - virtual time
            await asyncio.sleep(0.001)
        took_s[in_sync] = asyncio.get_running_loop().time() - began
        await world.end()
    assert took_s[1] == pytest.approx(slices * slice_s * REST_IN_REPAIR, rel=0.1)
    assert took_s[2] == pytest.approx(slices * slice_s * REST, rel=0.1)


@in_virtual_time
async def test_a_process_that_was_stopped_during_a_slice_does_not_rest_for_it() -> None:
    world = World(CHUNK_KEYS * 2)
    world.peers.send_takes_s = 60.0 / CHUNK_KEYS
    world.fill("b")
    await asyncio.sleep(0.001)
    assert len(world.peers.sent) == CHUNK_KEYS
    world.peers.send_takes_s = 0.0
    world.fill("c")
    await asyncio.sleep(1.0)
    assert {copy.node for copy in world.done} == {"b", "c"}
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


def filled_by(*primaries: str) -> View:
    """A view in which each of them fills b."""
    rows = tuple(Partition(primary, (), (Filling("b", 5),), 1) for primary in primaries)
    return View(cluster="c" * 32, epoch=5, replicas=2, table=rows, nodes={})


@in_virtual_time
async def test_those_who_fill_one_node_share_the_bytes_per_second_that_it_receives() -> None:
    took = []
    for view in (filled_by("a"), filled_by("a", "a", "c", "d")):
        world = World(100, bytes_per_s=100_000, size=20_000)  # 2 MB
        world.view = view
        began = asyncio.get_running_loop().time()
        world.fill("b")
        while not world.done:  # noqa: ASYNC110 - virtual time
            await asyncio.sleep(0.1)
        took.append(asyncio.get_running_loop().time() - began)
        await world.end()
    assert 17 < took[0] < 25
    assert 2.7 < took[1] / took[0] < 3.3


@in_virtual_time
async def test_a_node_that_gets_its_share_slowly_does_not_hold_up_fills_of_others() -> None:
    world = World(100, bytes_per_s=100_000, size=2_000)  # 0.2 MB
    world.view = filled_by(*"acdefghijk")
    began = asyncio.get_running_loop().time()
    world.fill("b")
    other = world.fill("x")
    while other not in world.done:  # noqa: ASYNC110 - virtual time
        await asyncio.sleep(0.1)
    assert asyncio.get_running_loop().time() - began < 6
    assert len(world.done) == 1
    await world.end()


@in_virtual_time
async def test_a_receiver_over_its_budget_is_waited_for_and_not_for_ever() -> None:
    world = World(CHUNK_KEYS * 3)
    assert world.peers.peer is not None
    world.peers.peer.over_bytes = 1_000_000
    world.fill("b")
    await asyncio.sleep(OVER_BUDGET_WAIT_S / 2)
    assert world.peers.sent == []
    assert world.peers.peer.barriers > 5  # each asks how things are
    world.peers.peer.over_bytes = 0
    await asyncio.sleep(OVER_BUDGET_LOOK_S + 0.01)
    assert len(world.done) == 1
    world.peers.peer.over_bytes = 1_000_000
    began = asyncio.get_running_loop().time()
    world.fill("c")
    while len(world.done) < 2:  # noqa: ASYNC110 - virtual time
        await asyncio.sleep(0.01)
    assert asyncio.get_running_loop().time() - began < OVER_BUDGET_WAIT_S + 0.2
    await world.end()


class SlowClock(LoopClock):
    """Each look at it costs a millisecond, as if work had been done."""

    def __init__(self) -> None:
        super().__init__()
        self.spent = 0.0

    def boottime(self) -> float:
        self.spent += 0.001
        return super().boottime() + self.spent


@in_virtual_time
async def test_slices_take_a_part_of_the_loop_s_time_however_fast_they_are_acknowledged() -> None:
    world = World(CHUNK_KEYS * 20)
    world.filler._clock = SlowClock()
    began = asyncio.get_running_loop().time()
    world.fill("b")
    world.fill("c")
    while len(world.done) < 2:  # noqa: ASYNC110 - virtual time
        await asyncio.sleep(0.001)
    slices = 2 * 20
    assert asyncio.get_running_loop().time() - began > slices * 0.001
    await world.end()

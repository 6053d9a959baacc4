from __future__ import annotations

import asyncio

import msgspec

from ringmaster.candidacy import CONTROLLER_KEY, Candidacy, ControllerRow
from ringmaster.registration import MasterRow, master_lock
from ringmaster.timing import LEASE_TTL_S
from tests.fakes.coordinator import MemoryCoordinator
from tests.fakes.liveness import LockTable, MemoryLiveness
from tests.fakes.virtual_time import LoopClock, in_virtual_time


class Masters:
    """Masters that share a coordinator and a directory of locks."""

    def __init__(self) -> None:
        self.store = MemoryCoordinator()
        self.locks = LockTable()
        self.clock = LoopClock()
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self.number = 0

    def start(self, name: str, boot_id: str = "boot") -> Candidacy:
        self.number += 1
        lock = MemoryLiveness(self.locks).hold(master_lock(name))
        row = MasterRow(
            id=name, address="", incarnation=f"i{self.number}", boot_id=boot_id, lock=lock.identity
        )
        candidacy = Candidacy(self.store, self.clock, MemoryLiveness(self.locks, boot_id), row)
        self.tasks[name] = asyncio.get_running_loop().create_task(candidacy.run())
        return candidacy

    async def stop(self, name: str) -> None:
        """The process goes on, but does nothing more."""
        task = self.tasks.pop(name)
        task.cancel()
        await asyncio.wait([task])

    async def kill(self, name: str) -> None:
        await self.stop(name)
        del self.locks.held[master_lock(name)]

    def holder(self) -> str:
        return msgspec.json.decode(self.store.records[CONTROLLER_KEY].value, type=ControllerRow).id


@in_virtual_time
async def test_one_of_several_is_elected_and_stays() -> None:
    masters = Masters()
    candidacies = [masters.start(name) for name in ("a", "b", "c")]
    await asyncio.sleep(1.0)
    [elected] = [each for each in candidacies if each.is_elected]
    for _ in range(100):
        await asyncio.sleep(0.1)
        assert [each for each in candidacies if each.is_elected] == [elected]
    assert {each.holder for each in candidacies} == {masters.holder()}


@in_virtual_time
async def test_a_controller_that_is_proven_dead_is_followed_within_a_moment() -> None:
    masters = Masters()
    masters.start("a")
    await asyncio.sleep(0.1)
    successor = masters.start("b")
    await asyncio.sleep(1.0)
    await masters.kill("a")
    await asyncio.sleep(0.3)
    assert successor.is_elected
    assert master_lock("a") not in masters.locks.held


@in_virtual_time
async def test_a_controller_that_only_stands_still_is_followed_after_the_ttl() -> None:
    masters = Masters()
    first = masters.start("a")
    await asyncio.sleep(0.1)
    successor = masters.start("b")
    await asyncio.sleep(1.0)
    await masters.stop("a")
    await asyncio.sleep(LEASE_TTL_S - 0.5)
    assert not successor.is_elected
    await asyncio.sleep(1.0)
    assert successor.is_elected
    assert not first.is_elected


@in_virtual_time
async def test_a_controller_of_another_boot_is_never_proven_dead() -> None:
    masters = Masters()
    masters.start("a", "boot 2")
    await asyncio.sleep(0.1)
    successor = masters.start("b")
    await asyncio.sleep(1.0)
    await masters.kill("a")
    await asyncio.sleep(1.0)
    assert not successor.is_elected
    await asyncio.sleep(1.5)
    assert successor.is_elected


@in_virtual_time
async def test_a_controller_that_resigns_is_followed_within_a_moment() -> None:
    masters = Masters()
    first = masters.start("a")
    await asyncio.sleep(0.1)
    successor = masters.start("b")
    await asyncio.sleep(1.0)
    await masters.stop("a")
    await first.resign()
    assert not first.is_elected
    await asyncio.sleep(0.3)
    assert successor.is_elected


@in_virtual_time
async def test_a_master_that_restarts_follows_itself_at_once() -> None:
    masters = Masters()
    masters.start("a")
    await asyncio.sleep(0.1)
    await masters.kill("a")
    again = masters.start("a")
    await asyncio.sleep(0.1)
    assert again.is_elected


@in_virtual_time
async def test_after_an_outage_there_is_one_controller_again() -> None:
    masters = Masters()
    candidacies = [masters.start("a"), masters.start("b")]
    await asyncio.sleep(1.0)
    masters.store.down = True
    await asyncio.sleep(30.0)
    assert not any(each.is_elected for each in candidacies)
    masters.store.down = False
    await asyncio.sleep(1.0)
    assert sum(each.is_elected for each in candidacies) == 1


@in_virtual_time
async def test_a_controller_that_was_replaced_stands_again() -> None:
    masters = Masters()
    first = masters.start("a")
    await asyncio.sleep(0.1)
    other = ControllerRow(id="z", incarnation="z")
    masters.store.put(CONTROLLER_KEY, msgspec.json.encode(other))
    await asyncio.sleep(0.6)
    assert not first.is_elected
    assert first.holder == "z"
    await asyncio.sleep(LEASE_TTL_S + 0.5)
    assert first.is_elected


@in_virtual_time
async def test_an_unreadable_row_is_replaced() -> None:
    masters = Masters()
    masters.store.put(CONTROLLER_KEY, b"?")
    first = masters.start("a")
    await asyncio.sleep(0.1)
    assert first.is_elected


@in_virtual_time
async def test_a_lost_reply_to_taking_the_lease_does_not_cost_the_ttl() -> None:
    masters = Masters()
    masters.store.lost_replies = 1
    first = masters.start("a")
    await asyncio.sleep(1.0)
    assert first.is_elected

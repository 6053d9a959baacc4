from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from itertools import count
from typing import Any, TypeVar

import msgspec
import pytest

from ringmaster.cluster.lease import LeaseRow
from ringmaster.cluster.registration import (
    MasterRegistration,
    MasterRow,
    Registration,
    register,
    register_master,
)
from ringmaster.cluster.timing import LEASE_RENEW_S, LEASE_TTL_S
from ringmaster.cluster.view import NodeInfo
from ringmaster.coordinator import Commit
from ringmaster.errors import DuplicateId
from ringmaster.runtime.cluster_clock import ClusterClock
from tests.fakes.coordinator import MemoryCoordinator
from tests.fakes.liveness import LockTable, MemoryLiveness
from tests.fakes.virtual_time import LoopClock, in_virtual_time

T = TypeVar("T")


class Site:
    """A coordinator and a directory of locks; `start` is a process's registration."""

    def __init__(self) -> None:
        self.store = MemoryCoordinator()
        self.locks = LockTable()
        self.clock = ClusterClock(LoopClock())
        self._incarnations = count(1)

    def _incarnate(self) -> str:
        return f"{next(self._incarnations):016x}"

    async def start(
        self, name: str = "n1", boot_id: str = "boot", patience_s: float = 60.0
    ) -> Registration:
        node = NodeInfo(id=name, incarnation="", address="127.0.0.1:1", weight=2.0)
        liveness = MemoryLiveness(self.locks, boot_id)
        return await register(
            self.store, liveness, node, self.clock, patience_s=patience_s, incarnate=self._incarnate
        )

    async def start_master(self, name: str = "m1", boot_id: str = "boot") -> MasterRegistration:
        row = MasterRow(id=name, address="127.0.0.1:2")
        liveness = MemoryLiveness(self.locks, boot_id)
        return await register_master(
            self.store, liveness, row, self.clock, patience_s=10.0, incarnate=self._incarnate
        )

    def lease(self, name: str = "n1") -> LeaseRow:
        return msgspec.json.decode(self.store.records[f"lease/{name}"].value, type=LeaseRow)

    def node(self, name: str = "n1") -> NodeInfo:
        return msgspec.json.decode(self.store.records[f"node/{name}"].value, type=NodeInfo)


def begin(coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    return asyncio.get_running_loop().create_task(coroutine)


@in_virtual_time
async def test_a_node_registers_itself_and_its_lease_in_one_commit() -> None:
    site = Site()
    registration = await site.start()
    assert site.node() == registration.info
    assert (registration.info.boot_id, registration.info.lock) == (
        "boot",
        registration.lock.identity,
    )
    lease = site.lease()
    assert (lease.incarnation, lease.boot_id, lease.lock) == (
        registration.info.incarnation,
        "boot",
        registration.lock.identity,
    )
    assert (
        registration.version
        == site.store.version_of("lease/n1")
        == site.store.version_of("node/n1")
    )
    assert "n1" in site.locks.held


@in_virtual_time
async def test_its_keeper_renews_the_lease_and_keeps_the_proof_in_the_row() -> None:
    site = Site()
    registration = await site.start()
    revoked: list[bool] = []
    keeper = registration.keeper(site.store, site.clock, lambda: revoked.append(True))
    running = begin(keeper.run())
    await asyncio.sleep(3 * LEASE_RENEW_S)
    assert keeper.is_held
    lease = site.lease()
    assert lease.number >= 3
    assert lease.lock == registration.lock.identity
    site.store.delete("lease/n1")
    await running
    assert revoked == [True]


@in_virtual_time
async def test_a_second_process_with_the_id_of_a_live_one_is_refused() -> None:
    site = Site()
    first = await site.start()
    with pytest.raises(DuplicateId):
        await site.start()
    assert site.lease().incarnation == first.info.incarnation


@in_virtual_time
async def test_a_predecessor_that_is_proven_gone_is_replaced_at_once() -> None:
    site = Site()
    first = await site.start()
    first.lock.release()
    began = site.clock.boottime()
    second = await site.start()
    assert site.clock.boottime() == began
    assert site.lease().incarnation == site.node().incarnation == second.info.incarnation
    assert second.info.incarnation != first.info.incarnation


@in_virtual_time
async def test_who_proves_the_predecessor_dead_may_hold_its_lock_for_a_moment() -> None:
    site = Site()
    first = await site.start()
    first.lock.release()
    proof = MemoryLiveness(site.locks).prove_dead("n1", first.lock.identity)
    assert proof is not None
    starting = begin(site.start())
    await asyncio.sleep(1.0)
    assert not starting.done()
    proof.release()
    await starting


@pytest.mark.parametrize("change", ["another boot", "another lock file", "unreadable row"])
@in_virtual_time
async def test_a_predecessor_that_is_not_proven_gone_is_waited_for_until_it_is_revoked(
    change: str,
) -> None:
    site = Site()
    first = await site.start()
    first.lock.release()
    boot_id = "boot"
    if change == "another boot":
        boot_id = "boot 2"
    elif change == "another lock file":
        site.locks.files["n1"] = 77
    else:
        site.store.put("lease/n1", b"?")
    starting = begin(site.start(boot_id=boot_id))
    await asyncio.sleep(20.0)
    assert not starting.done()
    assert site.node().incarnation == first.info.incarnation
    site.store.delete("lease/n1")
    second = await starting
    assert site.lease().incarnation == second.info.incarnation


@in_virtual_time
async def test_waiting_for_the_predecessor_is_bounded_and_lets_the_lock_go() -> None:
    site = Site()
    first = await site.start()
    first.lock.release()
    with pytest.raises(DuplicateId, match="not revoked yet"):
        await site.start(boot_id="boot 2", patience_s=5.0)
    assert "n1" not in site.locks.held


@in_virtual_time
async def test_a_registration_that_is_cancelled_lets_the_lock_go() -> None:
    site = Site()
    site.store.down = True
    starting = begin(site.start())
    await asyncio.sleep(1.0)
    assert "n1" in site.locks.held
    starting.cancel()
    await asyncio.wait([starting])
    assert "n1" not in site.locks.held


@in_virtual_time
async def test_an_outage_is_waited_out() -> None:
    site = Site()
    site.store.down = True
    starting = begin(site.start())
    await asyncio.sleep(30.0)
    site.store.down = False
    registration = await starting
    assert site.lease().incarnation == registration.info.incarnation


@in_virtual_time
async def test_a_lost_reply_registers_no_second_incarnation() -> None:
    site = Site()
    site.store.lost_replies = 1
    registration = await site.start()
    assert site.lease().incarnation == registration.info.incarnation
    assert registration.version == site.store.version_of("lease/n1")
    assert len(site.store.commits) == 1


@in_virtual_time
async def test_a_commit_of_which_only_the_lease_part_was_done_is_completed() -> None:
    site = Site()
    site.store.held_back = []
    starting = begin(site.start())
    await asyncio.sleep(0.1)
    [half], site.store.held_back = site.store.held_back, None
    site.store.apply(Commit(put={"lease/n1": half.put["lease/n1"]}))
    registration = await starting
    assert site.node().incarnation == site.lease().incarnation == registration.info.incarnation
    assert registration.version == site.store.version_of("lease/n1")


@in_virtual_time
async def test_a_node_whose_id_begins_like_another_s_is_not_taken_for_it() -> None:
    site = Site()
    await site.start("n10")
    first = await site.start("n1")
    assert site.lease("n1").incarnation == first.info.incarnation
    assert site.lease("n10").incarnation != first.info.incarnation


# Masters


@in_virtual_time
async def test_a_master_registers_and_its_lock_is_not_a_node_s() -> None:
    site = Site()
    await site.start("x")
    master = await site.start_master("x")
    row = msgspec.json.decode(site.store.records["master/x"].value, type=MasterRow)
    assert row == master.row
    assert row.lock == master.lock.identity


@in_virtual_time
async def test_a_master_that_is_proven_gone_is_replaced_at_once() -> None:
    site = Site()
    first = await site.start_master()
    first.lock.release()
    began = site.clock.boottime()
    second = await site.start_master()
    assert site.clock.boottime() == began
    assert second.version > first.version


@in_virtual_time
async def test_a_master_of_another_boot_is_replaced_once_it_stands_still() -> None:
    site = Site()
    first = await site.start_master()
    first.lock.release()
    began = site.clock.boottime()
    await site.start_master(boot_id="boot 2")
    assert LEASE_TTL_S <= site.clock.boottime() - began < LEASE_TTL_S + 1.0


@in_virtual_time
async def test_a_master_of_another_boot_that_is_alive_keeps_its_id() -> None:
    site = Site()
    first = await site.start_master()
    first.lock.release()

    async def renew() -> None:
        while True:
            site.store.put("master/m1", msgspec.json.encode(first.row))
            await asyncio.sleep(LEASE_RENEW_S)

    renewing = begin(renew())
    with pytest.raises(DuplicateId, match="may still be alive"):
        await site.start_master(boot_id="boot 2")
    renewing.cancel()

"""The loop of the self-audit, in virtual time, with masters that do wrong and masters that only seem to."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import structlog

from master.audit.answers import Answer, Answered
from master.audit.auditor import Auditor
from master.audit.canaries import CANARIES, TRUSTED_S
from ringmaster.cluster.node_status import NodeStatus
from ringmaster.cluster.view import NodeInfo, Partition, View
from tests.fakes.audited_masters import AuditedMasters
from tests.fakes.virtual_time import LoopClock, in_virtual_time

DEADLINE_S = 6.0
PARTITIONS = 64


def view(epoch: int, *, copies: tuple[str, ...] = ("aux1", "aux2"), life: int = 1) -> View:
    """All partitions with the same copies; `life`: of all nodes."""
    nodes = {name: NodeInfo(id=name, incarnation=f"{name}-{life}", address="") for name in copies}
    row = Partition(primary=copies[0], replicas=copies[1:], term=epoch) if copies else Partition()
    return View(cluster="c", epoch=epoch, replicas=2, table=(row,) * PARTITIONS, nodes=nodes)


def status(node: str) -> NodeStatus:
    return NodeStatus(
        id=node, incarnation=f"{node}-1", epoch=1, lease_left_s=1.0, spares_canaries=True
    )


class World:
    """An auditor among fake masters."""

    def __init__(self, *names: str) -> None:
        self.masters = AuditedMasters(*names)
        self.clock = LoopClock()
        self.statuses = {"aux1": status("aux1"), "aux2": status("aux2")}
        self.is_current = True
        self.auditor = Auditor(
            self.masters,
            self.clock,
            peers=lambda: self.masters.peers,
            statuses=lambda: self.statuses,
            is_current=lambda: self.is_current,
            name="m1/x",
            partitions=PARTITIONS,
            deadline_s=DEADLINE_S,
            interval_s=1.0,
            jitter=lambda: 0.5,
        )
        self.auditor.follow(view(1))

    @property
    def found(self) -> tuple[int, int]:
        """(stale, lost)."""
        return self.auditor.findings.stale, self.auditor.findings.lost

    @property
    def unavailable_s(self) -> float:
        return round(self.auditor.findings.unavailable_s, 2)

    def put_back(self) -> None:
        """Every key shows the value before its last one."""
        for key, value in self.masters.values.items():
            self.masters.values[key] = value - 1


@asynccontextmanager
async def running(*names: str) -> AsyncIterator[World]:
    world = World(*(names or ("m1", "m2", "m3")))
    task = asyncio.create_task(world.auditor.run())
    try:
        yield world
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@in_virtual_time
async def test_a_healthy_cluster_is_not_blamed_and_all_masters_and_partitions_have_their_turn() -> (
    None
):
    async with running() as world:
        await asyncio.sleep(600)
        assert world.found == (0, 0)
        assert world.unavailable_s == 0
        done = Counter((name, what) for name, what, _ in world.masters.calls)
        assert min(done[name, what] for name in ("m1", "m2", "m3") for what in ("get", "put")) > 150
        # A few a second, on few keys at a time.
        assert 2 < len(world.masters.calls) / 600 <= 3
        later = [key for _, _, key in world.masters.calls[-3 * CANARIES :]]
        assert len(set(later)) <= 2 * CANARIES
        assert len(world.masters.values) > PARTITIONS


@in_virtual_time
async def test_what_is_written_through_one_master_is_read_through_another_at_once() -> None:
    async with running() as world:
        await asyncio.sleep(100)
        calls = world.masters.calls
        writes = [n for n, (_, what, _) in enumerate(calls[:-1]) if what == "put"]
        for number in writes:
            (writer, _, key), (reader, what, read) = calls[number : number + 2]
            assert (what, read) == ("get", key)
            assert writer != reader


@in_virtual_time
async def test_a_master_that_is_alone_goes_through_itself() -> None:
    async with running("m1") as world:
        await asyncio.sleep(60)
        assert world.auditor.findings.operations["read", "served"] > 90
        assert world.found == (0, 0)


@in_virtual_time
async def test_without_any_master_to_reach_it_waits() -> None:
    async with running() as world:
        peers, world.masters.peers = world.masters.peers, []
        await asyncio.sleep(60)
        assert world.masters.calls == []
        world.masters.peers = peers
        await asyncio.sleep(10)
        assert world.masters.calls


@in_virtual_time
async def test_a_stale_read_is_counted_once_for_each_key_and_told_with_all_that_is_known() -> None:
    async with running() as world:
        await asyncio.sleep(10)
        world.put_back()
        with structlog.testing.capture_logs() as lines:
            await asyncio.sleep(60)
        assert world.found == (CANARIES, 0)
        told = [line for line in lines if line.get("finding") == "stale"]
        assert len(told) == CANARIES
        assert told[0]["log_level"] == "error"
        assert told[0]["expected"] == told[0]["read"] + 1
        assert {"key", "partition", "through", "node", "term", "epoch", "version"} <= told[0].keys()
        assert "stale" in world.auditor.findings.last


@in_virtual_time
async def test_a_master_that_shows_old_values_is_found_out() -> None:
    async with running() as world:

        def old(master: str, what: str, key: str) -> Answer | None:
            value = world.masters.values.get(key, 0)
            if (master, what) != ("m2", "get") or value < 2:
                return None
            return Answer(Answered.DONE, value - 1, "old", "m2")

        await asyncio.sleep(20)
        world.masters.fault = old
        await asyncio.sleep(20)
        assert world.found[0] > 3
        assert world.found[1] == 0


@in_virtual_time
async def test_a_value_of_somebody_else_is_stale() -> None:
    async with running() as world:
        await asyncio.sleep(10)
        for key in world.masters.values:
            world.masters.values[key] = 0
        await asyncio.sleep(20)
        assert world.found == (CANARIES, 0)


@in_virtual_time
async def test_acknowledged_writes_that_are_gone_are_counted_as_lost() -> None:
    async with running() as world:
        await asyncio.sleep(10)
        world.masters.values.clear()
        with structlog.testing.capture_logs() as lines:
            await asyncio.sleep(60)
        assert world.found == (0, CANARIES)
        told = [line for line in lines if line.get("finding") == "lost"]
        assert {line["read"] for line in told} == {None}


@in_virtual_time
async def test_a_key_whose_time_may_be_over_is_not_lost() -> None:
    async with running() as world:
        await asyncio.sleep(10)
        world.clock.stopped_s += TRUSTED_S + 1
        world.masters.values.clear()
        await asyncio.sleep(60)
        assert world.found == (0, 0)


@in_virtual_time
async def test_after_the_loss_of_every_copy_what_is_gone_is_no_finding() -> None:
    for told_after_s in (-0.1, 1.0):
        async with running() as world:
            await asyncio.sleep(10)
            # A peer may know of it a little before this master does, or after it.
            asyncio.get_running_loop().call_later(
                1.0 + told_after_s, world.auditor.follow, view(7, life=2)
            )
            await asyncio.sleep(1.0)
            world.masters.values.clear()
            await asyncio.sleep(60)
            assert world.found == (0, 0)


@in_virtual_time
async def test_after_the_loss_of_every_copy_older_values_that_say_so_are_no_finding() -> None:
    async with running() as world:
        await asyncio.sleep(10)
        world.put_back()
        world.masters.restored.update(world.masters.values)
        await asyncio.sleep(60)
        assert world.found == (0, 0)


@in_virtual_time
async def test_while_one_copy_stays_nothing_may_be_lost() -> None:
    async with running() as world:
        await asyncio.sleep(10)
        # One of two dies, and another one takes its place.
        world.auditor.follow(view(2, copies=("aux2",)))
        world.auditor.follow(view(3, copies=("aux2", "aux3")))
        world.masters.values.clear()
        await asyncio.sleep(60)
        assert world.found[1] >= CANARIES - 1


@in_virtual_time
async def test_a_miss_is_not_judged_before_views_are_heard_of_again() -> None:
    async with running() as world:
        await asyncio.sleep(10)
        world.is_current = False
        world.masters.values.clear()
        await asyncio.sleep(100)
        assert world.found == (0, 0)
        world.is_current = True
        await asyncio.sleep(5)
        assert world.found[1] > 0


@in_virtual_time
async def test_while_a_node_may_evict_the_keys_a_miss_is_no_loss() -> None:
    async with running() as world:
        old = msgspec.structs.replace(status("aux2"), spares_canaries=False)
        world.statuses["aux2"] = old
        await asyncio.sleep(10)
        # It is replaced by one of this version, which does not.
        world.statuses["aux2"] = status("aux2")
        world.masters.values.clear()
        await asyncio.sleep(TRUSTED_S - 20)
        assert world.found == (0, 0)


@in_virtual_time
async def test_writes_of_unknown_outcome_may_take_effect_or_not() -> None:
    async with running() as world:
        dice = iter(range(10**6))

        def unknown(_master: str, what: str, key: str) -> Answer | None:
            number = next(dice)
            if what == "get" or number % 3:
                return None
            if number % 2:  # it is applied, and nobody hears of it
                world.masters.values[key] = world.auditor._number  # the last that was sent
            return Answer(Answered.UNKNOWN)

        world.masters.fault = unknown
        await asyncio.sleep(300)
        assert world.auditor.findings.operations["write", "unknown"] > 30
        assert world.found == (0, 0)
        assert world.unavailable_s == 0


@in_virtual_time
async def test_a_master_that_hangs_or_is_gone_is_left_for_another_one() -> None:
    async with running() as world:
        await asyncio.sleep(10)
        world.masters.silent = {"m2"}
        world.masters.down = {"m3"}
        await asyncio.sleep(60)
        assert world.found == (0, 0)
        assert world.unavailable_s == 0
        assert world.auditor.findings.operations["write", "failed"] == 0


@in_virtual_time
async def test_what_is_served_late_but_within_the_deadline_is_no_failure() -> None:
    async with running() as world:
        await asyncio.sleep(10)
        world.masters.delay_s = DEADLINE_S / 2 - 0.1
        await asyncio.sleep(60)
        assert world.unavailable_s == 0
        assert world.found == (0, 0)


@in_virtual_time
async def test_time_without_service_is_counted_from_its_beginning_to_its_end() -> None:
    async with running() as world:
        await asyncio.sleep(10)

        def unserved(_master: str, _what: str, _key: str) -> Answer | None:
            return Answer(Answered.UNSERVED, detail="503 no primary")

        world.masters.fault = unserved
        with structlog.testing.capture_logs() as lines:
            await asyncio.sleep(60)
        world.masters.fault = lambda *_: None
        await asyncio.sleep(10)
        assert 57 < world.unavailable_s < 63
        before = world.unavailable_s
        await asyncio.sleep(60)
        assert world.unavailable_s == before
        assert world.found == (0, 0)
        assert lines[0]["event"] == "self-audit: not served"
        assert lines[0]["detail"] == "503 no primary"


@in_virtual_time
async def test_an_outage_shorter_than_the_deadline_is_none() -> None:
    async with running() as world:
        await asyncio.sleep(10)
        world.masters.fault = lambda *_: Answer(Answered.UNSERVED)
        await asyncio.sleep(5)
        world.masters.fault = lambda *_: None
        await asyncio.sleep(60)
        assert world.unavailable_s == 0


@in_virtual_time
async def test_a_cluster_that_starts_is_not_unavailable() -> None:
    async with running() as world:
        world.masters.fault = lambda *_: Answer(Answered.UNSERVED)
        await asyncio.sleep(100)
        world.masters.fault = lambda *_: None
        await asyncio.sleep(10)
        assert world.unavailable_s == 0


@in_virtual_time
async def test_what_is_refused_for_load_is_counted_as_that() -> None:
    async with running() as world:
        await asyncio.sleep(10)
        world.masters.fault = lambda *_: Answer(Answered.REFUSED, detail="503 Overloaded")
        await asyncio.sleep(60)
        assert world.unavailable_s == 0
        assert world.auditor.findings.operations["read", "refused"] > 5
        assert world.found == (0, 0)


@in_virtual_time
async def test_a_master_that_does_not_know_the_token_is_left_for_another_one() -> None:
    async with running() as world:

        def older(master: str, _what: str, _key: str) -> Answer | None:
            return Answer(Answered.REFUSED, detail="401 not known") if master == "m2" else None

        world.masters.fault = older
        await asyncio.sleep(60)
        assert world.auditor.findings.operations["write", "served"] > 50
        assert world.found == (0, 0)
        assert world.unavailable_s == 0


@in_virtual_time
async def test_a_process_that_was_stopped_itself_blames_nobody() -> None:
    async with running() as world:
        await asyncio.sleep(10)

        def stopped(*_: Any) -> Answer | None:
            world.clock.stopped_s += 30.0
            world.masters.fault = lambda *_: None
            return Answer(Answered.SILENT)

        for _ in range(10):
            world.masters.fault = stopped
            await asyncio.sleep(5)
        assert world.unavailable_s == 0
        assert world.found == (0, 0)

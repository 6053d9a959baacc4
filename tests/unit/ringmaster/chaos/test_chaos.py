"""`ringmaster chaos`: what it counts, and that its faults happen."""

from __future__ import annotations

import asyncio
import gc
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from ringmaster.chaos.load import Client, Load, Sample
from ringmaster.chaos.local import LocalTarget
from ringmaster.chaos.report import evaluate, table
from ringmaster.chaos.scenarios import SCENARIOS
from ringmaster.coordinator import Commit
from ringmaster.coordinator.engines import open_coordinator
from ringmaster.errors import RingmasterError
from tests.e2e.waiting import until
from tests.fakes.virtual_time import in_virtual_time

KILL = next(scenario for scenario in SCENARIOS if scenario.name == "kill")
DRAIN = next(scenario for scenario in SCENARIOS if scenario.name == "drain")


def sample(outcome: str, began: float = 0.0) -> Sample:
    return Sample(began, 0.001, write=False, outcome=outcome)


@pytest.mark.parametrize("outcome", ["lost", "stale", "error"])
def test_what_breaks_a_promise_fails_the_run(outcome: str) -> None:
    assert evaluate(KILL, [sample("ok")], 0.1, []).passed
    assert not evaluate(KILL, [sample("ok"), sample(outcome)], 0.1, []).passed
    assert not evaluate(KILL, [sample("ok")], KILL.longest_gap_s + 0.1, []).passed


def test_unknown_outcomes_are_allowed_for_a_kill_and_not_for_a_drain() -> None:
    assert evaluate(KILL, [sample("unknown")], 0.1, []).passed
    assert not evaluate(DRAIN, [sample("unknown")], 0.1, []).passed


REBALANCE = next(scenario for scenario in SCENARIOS if scenario.name == "rebalance")
MARKS = [(10.0, "at rest"), (20.0, "joined"), (30.0, "moved"), (32.0, "leaves"), (40.0, "gone")]


def paced(moving_s: float) -> list[Sample]:
    """A request every 0.1 s: 1 ms before data moves and between the moves, `moving_s` meanwhile."""
    samples = []
    for tenth in range(500):
        at = tenth / 10
        moves = 20 <= at < 30 or 32 <= at < 40
        samples.append(Sample(at, moving_s if moves else 0.001, write=False, outcome="ok"))
    return samples


def test_the_table_has_a_p99_in_every_row() -> None:
    console = Console(width=160)
    with console.capture() as captured:
        results = [
            evaluate(KILL, paced(0.5), 0.1, MARKS),
            evaluate(REBALANCE, paced(0.0019), 0.1, MARKS),
        ]
        console.print(table(results))
    assert " 500.0 ms " in captured.get()
    assert " 1.9 ms (1.9 x rest) " in captured.get()


def test_p99_while_data_moves_is_held_against_p99_at_rest() -> None:
    slower = evaluate(REBALANCE, paced(0.0019), 0.1, MARKS)
    assert (slower.p99_rest_ms, slower.p99_moving_ms, slower.moving_s) == (1.0, 1.9, 18.0)
    assert slower.passed
    assert slower.as_json()["p99_ratio"] == 1.9
    assert not evaluate(REBALANCE, paced(0.0021), 0.1, MARKS).passed
    assert not evaluate(REBALANCE, paced(0.001), 0.1, MARKS[:1]).passed  # nothing moved
    assert evaluate(KILL, paced(1.0), 0.1, MARKS).p99_ratio == 0.0


@in_virtual_time
async def test_a_paced_client_counts_the_time_from_when_a_request_was_due() -> None:
    loop = asyncio.get_running_loop()

    class Slow(Client):
        """The first request takes a second, the others no time."""

        async def read(self, session: Any, key: str) -> Sample:
            began, first = loop.time(), not self.samples
            await asyncio.sleep(1.0 if first else 0.0)
            return Sample(began, loop.time() - began, write=False, outcome="ok")

        async def write(self, session: Any, key: str) -> Sample:
            return await self.read(session, key)

    client = Slow(0, "", 1, loop.time, seed=1, every_s=0.1)
    stop = asyncio.Event()
    running = asyncio.create_task(client.run(None, stop))  # type: ignore[arg-type]
    await asyncio.sleep(2.0)
    stop.set()
    await running
    took = [round(sample.took, 2) for sample in client.samples[:12]]
    assert took == [1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.0, 0.0]
    assert len(client.samples) in (20, 21)


async def test_locking_the_coordinator_keeps_both_of_its_databases_from_being_written() -> None:
    target = LocalTarget(3, 0)
    folders = (target.folder / "data" / "coordinator", target.folder / "leases")
    coordinator = open_coordinator("sqlite", *folders)
    try:
        with pytest.raises(RingmasterError, match="databases"):
            await target.lock_coordinator(0.0)
        both = Commit(put={"view": b"1", "lease/a": b"1"})
        assert await coordinator.commit(both)
        locking = asyncio.create_task(target.lock_coordinator(2.0))
        files = [file for folder in folders for file in folder.glob("*.sqlite")]
        assert len(files) == 2
        await until(lambda: all(map(is_locked, files)), "both are locked", 1.5)
        locking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await locking
        assert not any(map(is_locked, files))
    finally:
        await coordinator.close()
        await target.close()


def is_locked(file: Path) -> bool:
    connection = sqlite3.connect(file, timeout=0.0, isolation_level=None)
    try:
        connection.execute("BEGIN IMMEDIATE")
        connection.rollback()
    except sqlite3.OperationalError:
        return True
    finally:
        connection.close()
    return False


async def test_a_load_has_no_full_garbage_collection_of_its_own() -> None:
    """Its pause, which grows with the samples, would look like one of the cluster."""
    before = gc.get_threshold()
    load = Load("http://127.0.0.1:1", clients=1, keys=1)
    load.start()
    try:
        assert gc.get_threshold()[:2] == before[:2]
        assert gc.get_threshold()[2] > 100_000
    finally:
        await load.finish()
    assert gc.get_threshold() == before

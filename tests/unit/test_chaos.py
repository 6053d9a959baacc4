"""`ringmaster chaos`: what it counts, and that its faults happen."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest

from ringmaster.chaos.load import KeyState, Sample
from ringmaster.chaos.report import evaluate
from ringmaster.chaos.scenarios import SCENARIOS
from ringmaster.chaos.target import LocalTarget
from ringmaster.coordinator import Commit
from ringmaster.coordinator.engines import open_coordinator
from ringmaster.errors import RingmasterError
from tests.e2e.waiting import until

KILL = next(scenario for scenario in SCENARIOS if scenario.name == "kill")
DRAIN = next(scenario for scenario in SCENARIOS if scenario.name == "drain")


def sample(outcome: str, began: float = 0.0) -> Sample:
    return Sample(began, 0.001, write=False, outcome=outcome)


def test_a_read_of_an_older_value_is_stale_and_a_miss_of_an_acknowledged_one_is_lost() -> None:
    state = KeyState(acknowledged=7)
    assert state.judge(7) == "ok"
    assert state.judge(6) == "stale"
    assert state.judge(None) == "lost"


def test_a_write_in_doubt_may_be_read_once_it_has_shown_it_counts_as_acknowledged() -> None:
    state = KeyState(acknowledged=7, doubtful={8})
    assert state.judge(7) == "ok"
    assert state.judge(8) == "ok"
    assert state.judge(7) == "stale"


@pytest.mark.parametrize("outcome", ["lost", "stale", "error"])
def test_what_breaks_a_promise_fails_the_run(outcome: str) -> None:
    assert evaluate(KILL, [sample("ok")], 0.1, []).passed
    assert not evaluate(KILL, [sample("ok"), sample(outcome)], 0.1, []).passed
    assert not evaluate(KILL, [sample("ok")], KILL.longest_gap_s + 0.1, []).passed


def test_unknown_outcomes_are_allowed_for_a_kill_and_not_for_a_drain() -> None:
    assert evaluate(KILL, [sample("unknown")], 0.1, []).passed
    assert not evaluate(DRAIN, [sample("unknown")], 0.1, []).passed


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

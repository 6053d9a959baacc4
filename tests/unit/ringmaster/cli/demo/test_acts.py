"""What a demo counts, and in which order it looks at a cluster."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from ringmaster.chaos.load import Sample
from ringmaster.cli.demo.acts import Act, Growth, Troupe, counted, sentence, whole
from ringmaster.errors import RingmasterError, SettingsError
from tests.fakes.virtual_time import in_virtual_time


def sample(outcome: str = "ok", took_s: float = 0.001) -> Sample:
    return Sample(0.0, took_s, write=False, outcome=outcome)


def test_every_outcome_is_counted_and_the_longest_wait_is_kept() -> None:
    samples = [
        sample(),
        sample("lost", 0.0345),
        sample("stale"),
        sample("error"),
        sample("unknown"),
    ]
    act = counted("kill", samples, 12, 3.21)
    assert act == Act("kill", 5, 1, 1, 1, 1, 34.5, 12, 3.2)
    assert sentence(act) == (
        "5 requests: lost 1, stale 1, 1 error, 1 write of unknown outcome; the longest a client waited: 34 ms"
    )
    assert counted("nothing", [], 0, 0.0).wait_ms == 0.0


def test_the_whole_is_the_sum_and_the_longest_wait() -> None:
    acts = [Act("kill", 5, 0, 1, 0, 2, 34.5, 12, 3.2), Act("join", 7, 1, 0, 0, 0, 9.0, 3, 1.0)]
    assert whole(acts) == Act("all", 12, 1, 1, 0, 2, 34.5, 15, 4.2)


def test_growth_is_not_undone_by_a_counter_that_is_missing() -> None:
    growth = Growth()
    for value in (100, 130, 40, 40, 45):
        growth.see(value)
    assert growth.total == 35


@dataclass
class FakeClient:
    samples: list[Sample] = field(default_factory=list)


@dataclass
class FakeLoad:
    clients: list[FakeClient]


@dataclass
class FakeStage:
    """Says one reply after another; the last one stays. None: it does not answer."""

    replies: list[dict[str, Any] | None]
    load: FakeLoad
    url: str = "http://c"
    done: list[str] = field(default_factory=list)

    async def cluster(self) -> dict[str, Any]:
        reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        if reply is None:
            raise RingmasterError("no master answers")
        return reply

    async def join(self, name: str) -> None:
        self.done.append(f"join {name}")

    async def kill(self, node: str) -> None:
        self.done.append(f"kill {node}")
        self.load.clients[0].samples.append(sample("unknown", 0.05))


def status(*up: str, moved: int = 0, lacking: int = 0) -> dict[str, Any]:
    return {
        "nodes": [{"id": name, "state": "up", "primaries": 5} for name in up],
        "under_replicated": lacking,
        "rebalance": {"active": False, "moved_keys": moved},
    }


@in_virtual_time
async def test_a_kill_is_over_when_it_was_noticed_and_all_is_whole_again() -> None:
    load = FakeLoad([FakeClient([sample("error")]), FakeClient()])
    stage = FakeStage(
        [
            status("a", "b", "c", moved=10),
            # The view does not say it yet, so this is not the end.
            status("a", "b", "c", moved=10),
            None,
            status("a", "b", moved=10, lacking=7),
            status("a", "b", moved=25),
        ],
        load,
    )
    said: list[str] = []
    troupe = Troupe(stage, load, said.append, 0.0)  # type: ignore[arg-type]
    await troupe.kill("c", 2)
    (act,) = troupe.acts
    # What was there before the act does not count.
    assert (act.requests, act.errors, act.unknown, act.wait_ms) == (1, 0, 1, 50.0)
    assert act.moved_entries == 15
    assert stage.done == ["kill c"]
    assert any("15 entries moved" in line for line in said)


@in_virtual_time
async def test_what_never_comes_to_rest_is_an_error() -> None:
    load = FakeLoad([FakeClient()])
    stage = FakeStage([status("a", lacking=3)], load)
    troupe = Troupe(stage, load, [].append, 0.0)  # type: ignore[arg-type]
    with pytest.raises(RingmasterError, match="not within 120 s: the cluster notices the join"):
        await troupe.join("b", 2)


@in_virtual_time
async def test_a_node_that_cannot_run_is_not_waited_for() -> None:
    class Refused(FakeStage):
        async def cluster(self) -> dict[str, Any]:
            raise SettingsError("the node b ended by itself")

    load = FakeLoad([FakeClient()])
    troupe = Troupe(Refused([None], load), load, [].append, 0.0)  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="ended by itself"):
        await troupe.join("b", 2)

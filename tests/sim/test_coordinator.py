"""The simulated coordinator and locks keep the promises of the real ones, and fail as those may."""

from collections.abc import Coroutine
from typing import Any

import pytest

from ringmaster.coordinator import Commit
from ringmaster.errors import CoordinatorUnavailable, DuplicateId
from tests.sim.coordinator import CoordinatorStore, SimCoordinator
from tests.sim.hub import Hub
from tests.sim.liveness import SimLiveness, SimLocks
from tests.sim.loop import NodeLoop


class Store:
    """A coordinator with two clients."""

    def __init__(self) -> None:
        self.hub = Hub(1)
        self.store = CoordinatorStore(self.hub)
        self.a, self.b = NodeLoop(self.hub, "a"), NodeLoop(self.hub, "b")
        self.at_a, self.at_b = (
            SimCoordinator(self.store, self.a),
            SimCoordinator(self.store, self.b),
        )

    def run(self, loop: NodeLoop, coroutine: Coroutine[Any, Any, Any], seconds: float = 5.0) -> Any:
        task = loop.create_task(coroutine)
        self.hub.run(self.hub.now + seconds)
        assert task.done()
        return task.result()


def test_commits_are_conditional() -> None:
    world = Store()
    versions = world.run(world.a, world.at_a.commit(Commit(expect={"k": 0}, put={"k": b"1"})))
    assert world.run(world.b, world.at_b.commit(Commit(expect={"k": 0}, put={"k": b"2"}))) is None
    assert world.run(world.b, world.at_b.read("k"))["k"].value == b"1"
    expect = {"k": versions["k"]}
    assert world.run(
        world.b, world.at_b.commit(Commit(expect=expect, put={"j": b"3"}, delete=frozenset({"k"})))
    )
    assert set(world.run(world.a, world.at_a.read(""))) == {"j"}


def test_a_commit_whose_reply_is_lost_was_applied() -> None:
    world = Store()
    world.store.faults.lost_reply = 1.0
    with pytest.raises(CoordinatorUnavailable):
        world.run(world.a, world.at_a.commit(Commit(put={"k": b"1"})))
    assert world.store.records["k"].value == b"1"


def test_a_commit_behind_a_long_lock_is_applied_after_its_caller_gave_up() -> None:
    world = Store()
    world.store.locked_until = 3.0
    with pytest.raises(CoordinatorUnavailable):
        world.run(world.a, world.at_a.commit(Commit(put={"k": b"1"}), 1.0), 2.0)
    assert not world.store.records
    world.hub.run(5.0)
    assert world.store.records["k"].value == b"1"


def test_half_a_commit_is_its_lease_part() -> None:
    world = Store()
    world.store.faults.half_commit = 1.0
    with pytest.raises(CoordinatorUnavailable):
        world.run(world.a, world.at_a.commit(Commit(put={"view": b"1", "lease/n": b"2"})))
    assert set(world.store.records) == {"lease/n"}


def test_a_watch_fires_on_change_and_times_out_without() -> None:
    world = Store()
    watch = world.a.create_task(world.at_a.changed("k", 0, 30.0))
    world.hub.run(5.0)
    assert not watch.done()
    world.run(world.b, world.at_b.commit(Commit(put={"k": b"1"})))
    assert watch.result().value == b"1"
    assert world.run(world.a, world.at_a.changed("k", watch.result().version, 2.0)) is None


def test_an_outage_fails_everything_and_ends() -> None:
    world = Store()
    world.store.down = True
    for call in (
        world.at_a.read("k"),
        world.at_a.commit(Commit(put={"k": b"1"})),
        world.at_a.changed("k", 0, 2.0),
    ):
        with pytest.raises(CoordinatorUnavailable):
            world.run(world.a, call)
    world.store.down = False
    assert world.run(world.a, world.at_a.read("k")) == {}


def test_a_frozen_process_is_not_dead_and_a_crashed_one_is_if_its_host_lives() -> None:
    hub = Hub(1)
    locks = SimLocks()
    node, other = NodeLoop(hub, "node"), NodeLoop(hub, "other")
    held = SimLiveness(locks, node).hold("node")
    judge = SimLiveness(locks, other)
    node.freeze(10.0)
    assert judge.prove_dead("node", held.identity) is None
    with pytest.raises(DuplicateId):
        judge.hold("node")
    node.crash()
    node.host_answers = False
    assert judge.prove_dead("node", held.identity) is None
    node.host_answers = True
    assert judge.prove_dead("node", (9, 9)) is None
    proof = judge.prove_dead("node", held.identity)
    assert proof is not None
    with pytest.raises(DuplicateId):
        SimLiveness(locks, NodeLoop(hub, "again")).hold("node")
    proof.release()
    SimLiveness(locks, NodeLoop(hub, "again")).hold("node")

from __future__ import annotations

from dataclasses import replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from master.control.planning.observation import PlanningSettings
from tests.stateful.planning_world import World

NODES = [f"aux{i}" for i in range(5)]
nodes = st.sampled_from(NODES)


def cut_the_next_hand_over(world: World) -> bool:
    """Time and views go on until there is one, and nobody has followed it yet; whether there was."""
    for _ in range(40):
        if (pair := world.handing_over()) is not None:
            world.cut(*pair, on=True)
            return True
        world.tick(0.2)
        world.allow()
        world.step()
        if world.handing_over() is None:
            world.adopt()
    return False


class PlanningMachine(RuleBasedStateMachine):
    """Joins, deaths, hangs, drains, cuts between two nodes, lagging copies and late reports in any order; invariants are in the world."""

    world: World

    @initialize(
        replicas=st.integers(1, 3),
        count=st.integers(1, 4),
        method=st.sampled_from(["ring", "rendezvous"]),
    )
    def begin(self, replicas: int, count: int, method: str) -> None:
        self.world = World(
            PlanningSettings(
                replicas=replicas, method=method, max_fills=6, max_fills_per_node=4, max_handovers=3
            )  # type: ignore[arg-type]
        )
        for node in NODES[:count]:
            self.world.start(node)

    @rule(node=nodes, zone=st.sampled_from(["", "", "a", "b"]))
    def join(self, node: str, zone: str) -> None:
        self.world.start(node, zone)

    @rule(node=nodes, proven=st.booleans())
    def kill(self, node: str, proven: bool) -> None:
        self.world.kill(node, proven)

    @rule(node=nodes)
    def prove(self, node: str) -> None:
        process = self.world.processes.get(node)
        if process is not None and not process.alive:
            self.world.proven.add(process.info.incarnation)

    @rule(node=nodes, hung=st.booleans())
    def hang(self, node: str, hung: bool) -> None:
        if node in self.world.processes:
            self.world.processes[node].hung = hung

    @rule(node=nodes, on=st.booleans())
    def drain(self, node: str, on: bool) -> None:
        (self.world.draining.add if on else self.world.draining.discard)(node)

    @rule(node=nodes)
    def stop(self, node: str) -> None:
        if node in self.world.processes:
            self.world.processes[node].stopping = True

    @rule(on=st.booleans())
    def pause(self, on: bool) -> None:
        self.world.paused = on

    @rule(number=st.integers(0, 7), node=nodes, on=st.booleans())
    def lag(self, number: int, node: str, on: bool) -> None:
        (self.world.lagging.add if on else self.world.lagging.discard)((number, node))

    @rule(one=nodes, other=nodes, on=st.booleans())
    def cut(self, one: str, other: str, on: bool) -> None:
        self.world.cut(one, other, on)

    @rule()
    def cut_in_a_hand_over(self) -> None:
        """Right after the view of it."""
        cut_the_next_hand_over(self.world)

    @rule(replicas=st.integers(1, 3))
    def change_replicas(self, replicas: int) -> None:
        self.world.settings = replace(self.world.settings, replicas=replicas)

    @rule(seconds=st.sampled_from([0.1, 0.5, 1.0, 2.5, 35.0]))
    def wait(self, seconds: float) -> None:
        self.world.tick(seconds)

    @rule()
    def follow(self) -> None:
        self.world.adopt()

    @rule()
    def allow(self) -> None:
        self.world.allow()

    @rule(count=st.integers(1, 6), reports=st.booleans(), follow=st.booleans())
    def plan(self, count: int, reports: bool, follow: bool) -> None:
        for _ in range(count):
            if self.world.step(reports) is None:
                break
            if follow:
                self.world.adopt()

    @rule()
    def take_over(self) -> None:
        """Another controller begins with nothing but the view."""
        self.world.seen = None
        self.world.idle = None
        self.world.losses.clear()
        self.world.absent_since.clear()

    @precondition(lambda self: hasattr(self, "world"))
    @invariant()
    def no_acknowledged_write_is_lost_while_a_complete_copy_could_come_back(self) -> None:
        for number, row in enumerate(self.world.view.table):
            if row.primary is not None:
                incarnation = self.world.view.incarnation(row.primary)
                assert incarnation in self.world.complete[number]

    def teardown(self) -> None:
        if hasattr(self, "world"):
            self.world.settle()


TestPlanning = PlanningMachine.TestCase
TestPlanning.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_a_hand_over_between_two_that_are_cut_off_ends_though_the_cut_does_not():
    world = World(PlanningSettings(max_fills=6, max_fills_per_node=4, max_handovers=3))
    for node in NODES[:3]:
        world.start(node)
    for _ in range(20):
        world.tick(0.5)
        world.step()
        world.adopt()
    world.start(NODES[3])
    assert cut_the_next_hand_over(world)
    world.settle()

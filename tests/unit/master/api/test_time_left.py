"""The time that is left for copies to be made and moved: what is left is all of it, and the estimate is steady."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import pairwise

import msgspec
import pytest

from master.api.cluster_watch import PERIOD_S
from master.api.time_left import LEAST_S, PATIENCE_S, WINDOW_S, TimeLeft, work_left
from ringmaster.cluster.view import Filling, NodeInfo, Partition, View

PARTITIONS = 64


def node(name: str, **fields: object) -> NodeInfo:
    found = NodeInfo(id=name, incarnation=f"i-{name}", address="127.0.0.1:1")
    return msgspec.structs.replace(found, **fields)


def view(nodes: Iterable[NodeInfo], table: Callable[[int], Partition]) -> View:
    return View(
        cluster="c",
        epoch=9,
        replicas=2,
        nodes={each.id: each for each in nodes},
        table=tuple(table(number) for number in range(PARTITIONS)),
    )


def row(
    primary: str, *replicas: str, filling: tuple[str, ...] = (), awaits: bool = False
) -> Partition:
    found = Partition(primary=primary, replicas=replicas, term=1)
    return msgspec.structs.replace(
        found,
        filling=tuple(Filling(each, 1) for each in filling),
        awaits="i-gone" if awaits else None,
    )


def alternating(number: int) -> Partition:
    return row("a", "b") if number % 2 else row("b", "a")


def test_nothing_is_left_at_rest() -> None:
    assert work_left(view([node("a"), node("b")], alternating)) == 0
    assert work_left(view([], lambda _: Partition())) == 0


def test_copies_that_lack_are_left_however_few_are_under_way() -> None:
    def table(number: int) -> Partition:
        return row("a", filling=("b",)) if number < 8 else row("a")

    nodes = [node("a"), node("b"), node("gone", up=False)]
    # Every second primary moves as well once b has its copies.
    assert 64 + 30 <= work_left(view(nodes, table)) <= 64 + 32


def test_what_a_new_node_is_to_get_is_left_however_little_is_under_way() -> None:
    def table(number: int) -> Partition:
        return row("a", "b", filling=("c",)) if number < 8 else alternating(number)

    # Of 128 copies a third is c's, and of 64 primaries; 5 % more or less is close enough.
    left = work_left(view([node("a"), node("b"), node("c")], table))
    assert 38 + 18 <= left <= 43 + 22


def test_a_draining_node_has_no_share() -> None:
    nodes = [node("a"), node("b"), node("c", draining=True)]
    assert work_left(view(nodes, lambda _: row("c", "a"))) >= 64


def test_a_hand_over_is_left_until_it_is_done() -> None:
    def table(number: int) -> Partition:
        return row("a", "b", awaits=number < 5) if number % 2 else row("b", "a")

    assert work_left(view([node("a"), node("b")], table)) == 2


def watched(
    left: Callable[[float], int], end_s: float, until_s: float
) -> dict[float, float | None]:
    """What is said at each time when `left` says how much work there is; it ends at `end_s`, unless that comes later."""
    time_left, said = TimeLeft(), {}
    for step in range(int(min(end_s, until_s) / PERIOD_S)):
        now = 1000.0 + step * PERIOD_S
        time_left.observe(now, left(step * PERIOD_S))
        said[step * PERIOD_S] = time_left.seconds(now)
    return said


@pytest.mark.parametrize("batch", [1, 16, 64])
@pytest.mark.parametrize("end_s", [20, 60, 200])
def test_the_estimate_is_steady_while_batches_end_at_once(batch: int, end_s: int) -> None:
    total = 960

    def left(at_s: float) -> int:
        return total - int(total * at_s / end_s) // batch * batch

    said = watched(left, end_s, end_s)
    assert all(said[at_s] is None for at_s in said if at_s < LEAST_S)
    known = {at_s: seconds for at_s, seconds in said.items() if seconds is not None}
    first = min(known)
    assert first <= max(LEAST_S, 2 * batch * end_s / total) + PERIOD_S
    steps = [known[at_s + PERIOD_S] - known[at_s] for at_s in known if at_s + PERIOD_S in known]
    assert len(steps) == len(known) - 1, "what is known stays known"
    # It may rise, but by little: nobody sees it jump.
    assert max(steps) < 0.1 * end_s
    settled = [at_s for at_s in known if at_s > first + WINDOW_S]
    assert all(abs(at_s + known[at_s] - end_s) < 0.25 * end_s for at_s in settled)


def test_a_little_work_that_is_added_changes_little() -> None:
    said = watched(lambda at_s: int(1000 - 10 * at_s) + (40 if at_s > 20 else 0), 100, 30)
    known = [seconds for at_s, seconds in said.items() if at_s >= 15 and seconds is not None]
    assert len(known) == len([at_s for at_s in said if at_s >= 15])
    assert all(abs(after - before) < 2 for before, after in pairwise(known))


def test_much_work_that_is_added_is_watched_anew() -> None:
    said = watched(lambda at_s: int(100 - 2 * at_s) + (500 if at_s >= 10 else 0), 300, 30)
    assert said[9.5] is not None
    assert said[10.0] is None
    seconds = said[20.0]
    assert seconds is not None
    assert 250 < seconds < 320


def test_nothing_is_said_of_what_does_not_get_less() -> None:
    said = watched(lambda at_s: int(max(500 - 10 * at_s, 300)), 1e9, 200)
    assert said[19.5] is not None
    assert said[20 + PATIENCE_S + 1] is None


def test_the_end_is_the_end() -> None:
    time_left = TimeLeft()
    for step in range(40):
        time_left.observe(step * PERIOD_S, 40 - step)
    assert time_left.seconds(19.5) is not None
    time_left.observe(20.0, 0)
    assert time_left.seconds(20.0) is None
    time_left.observe(20.5, 7)
    assert time_left.seconds(20.5) is None

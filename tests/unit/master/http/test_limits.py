"""The memory that request bodies may take together."""

from __future__ import annotations

import pytest

from master.http.limits import GRACE_S, BodyBudget, BodyHold
from ringmaster.errors import Shed


class Body(BodyHold):
    """Notes when it lost its place."""

    def __init__(self, began: float) -> None:
        super().__init__(began, lambda: lost.append(self))
        lost: list[BodyHold] = []
        self.lost = lost


def test_what_has_arrived_counts_and_is_given_back() -> None:
    budget, first, second = BodyBudget(100), Body(0), Body(0)
    budget.take(first, 60, 0.1)
    budget.take(second, 40, 0.1)
    with pytest.raises(Shed):
        budget.take(second, 1, 0.2)
    assert budget.used == 100
    budget.give_back(first)
    budget.give_back(first)
    budget.take(second, 60, 0.3)
    assert budget.used == 100


def test_the_slowest_body_gives_up_its_place_to_one_that_sends() -> None:
    budget = BodyBudget(100, least_rate=50)
    slowest, slow, quick = Body(0), Body(0), Body(GRACE_S)
    budget.take(slowest, 30, 0.1)
    budget.take(slow, 40, 0.1)
    budget.take(quick, 60, GRACE_S + 0.5)
    assert (len(slowest.lost), len(slow.lost), slowest.evicted) == (1, 0, True)
    assert (budget.used, budget.evicted) == (100, 1)
    budget.take(quick, 40, GRACE_S + 0.6)
    assert len(slow.lost) == 1
    assert budget.used == 100


def test_a_body_that_is_quick_enough_new_or_complete_keeps_its_place() -> None:
    budget = BodyBudget(100, least_rate=10)
    quick, new, complete = Body(0), Body(9.5), Body(0)
    budget.take(quick, 80, 1)
    budget.take(complete, 10, 1)
    complete.arriving = False
    budget.take(new, 1, 9.6)
    with pytest.raises(Shed):
        budget.take(Body(9.9), 50, 7.0)
    assert quick.lost == complete.lost == new.lost == []


def test_no_body_is_evicted_for_itself() -> None:
    budget, slow = BodyBudget(100, least_rate=1000), Body(0)
    budget.take(slow, 90, 5)
    with pytest.raises(Shed):
        budget.take(slow, 20, 6)
    assert slow.lost == []

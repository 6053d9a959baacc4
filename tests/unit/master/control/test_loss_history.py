"""When nodes were lost, across controllers and clocks."""

from __future__ import annotations

from master.control.loss_history import LOSSES_KEPT, LossHistory
from master.control.planning.node_verdicts import FLAP_WINDOW_S


def test_a_successor_on_another_machine_knows_how_long_ago_nodes_were_lost() -> None:
    losses = LossHistory().with_lost(["a"], 100.0).with_lost(["a", "b"], 130.0)
    raw = losses.encode(140.0, 5_000.0)
    assert LossHistory.decode(raw, 9_010.0, 5_010.0).times() == {
        "a": (8_960.0, 8_990.0),
        "b": (8_990.0,),
    }


def test_what_is_older_than_the_window_is_forgotten_and_few_are_kept() -> None:
    losses = LossHistory().with_lost(["old"], 0.0)
    for second in range(100):
        losses = losses.with_lost(["a"], FLAP_WINDOW_S + second)
    assert set(losses.times()) == {"a"}
    assert len(losses.times()["a"]) == LOSSES_KEPT


def test_a_wall_clock_that_went_back_makes_losses_recent_not_future() -> None:
    raw = LossHistory().with_lost(["a"], 100.0).encode(100.0, 5_000.0)
    assert LossHistory.decode(raw, 200.0, 4_000.0).times() == {"a": (200.0,)}


def test_a_record_that_cannot_be_read_is_as_good_as_none() -> None:
    assert LossHistory.decode(b"{", 1.0, 1.0).times() == {}

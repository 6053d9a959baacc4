"""What `make bench` makes of its rounds."""

from bench.plan import Goal
from bench.report import ratio
from bench.wrk import Measurement

GOAL = Goal("a against b", ("a", "GET"), ("b", "GET"), 1.0, p99=True)


def rounds(*pairs: tuple[float, float]) -> list[Measurement]:
    return [Measurement(rps, 1.0, p99_ms, 0) for rps, p99_ms in pairs]


def test_a_ratio_is_the_median_of_the_ratios_of_each_round() -> None:
    runs = {
        ("a", "GET"): rounds((300, 1), (100, 4), (20, 20)),
        ("b", "GET"): rounds((100, 2), (200, 40), (5, 10)),
    }
    # Of the medians of each side it would be 1 and 0.4.
    assert ratio(GOAL, runs) == (3.0, 0.5)


def test_what_only_one_side_measured_says_nothing() -> None:
    assert ratio(GOAL, {("a", "GET"): rounds((1, 1))}) is None
    runs = {("a", "GET"): rounds((1, 1), (9, 9)), ("b", "GET"): rounds((2, 2))}
    assert ratio(GOAL, runs) == (0.5, 0.5)

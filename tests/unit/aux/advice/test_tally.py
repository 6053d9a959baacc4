"""The estimates: steadied by what is known of all reads."""

import random

from aux.advice.tally import GROUPS, estimate


def test_what_the_sample_misses_too_often_by_chance_is_taken_off_again() -> None:
    rng = random.Random(1)
    node = [rng.uniform(50, 150) for _ in range(GROUPS)]
    model = [0.5 * each + rng.uniform(-1, 1) for each in node]
    true = sum(node) * 0.8  # the sample has a quarter too many
    ratio, error = estimate(model, node, 10_000, int(true))
    assert abs((1 - ratio) * 10_000 - 0.5 * true) < 30
    assert error < 0.005


def test_without_reads_nothing_is_known() -> None:
    assert estimate([0.0] * GROUPS, [0.0] * GROUPS, 0, 0) == (0.0, 0.0)


def test_a_node_that_misses_nothing_tells_nothing_of_the_others() -> None:
    ratio, error = estimate([10.0] * GROUPS, [0.0] * GROUPS, 32_000, 0)
    assert ratio == 0.99
    assert error == 0.0


def test_a_hit_ratio_is_none_below_zero_or_above_one() -> None:
    assert estimate([100.0] * GROUPS, [0.0] * GROUPS, 10, 0)[0] == 0.0
    assert 0 <= estimate([1.0, 2.0] * 16, [5.0, 9.0] * 16, 100, 0)[0] <= 1

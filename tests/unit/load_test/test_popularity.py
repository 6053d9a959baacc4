"""Which keys the load test asks for. (Modules of it that import Locust, no test may import.)"""

import random
from collections import Counter

import pytest

from load_test.popularity import Popularity


def test_a_rank_is_drawn_in_proportion_to_its_power_law() -> None:
    draws = Popularity(100, 1.0, random.Random(1)).draw_many(200_000)
    seen = Counter(draws)
    harmonic = sum(1 / rank for rank in range(1, 101))
    for rank in (0, 1, 9, 99):
        expected = 200_000 / harmonic / (rank + 1)
        assert seen[rank] == pytest.approx(expected, rel=0.1)


def test_skew_zero_makes_all_keys_alike() -> None:
    seen = Counter(Popularity(10, 0.0, random.Random(2)).draw_many(50_000))
    assert sorted(seen) == list(range(10))
    assert max(seen.values()) < 1.1 * min(seen.values())


def test_no_keys_or_a_negative_skew_are_refused() -> None:
    for keys, s in ((0, 1.0), (10, -1.0)):
        with pytest.raises(ValueError, match="at least one key"):
            Popularity(keys, s, random.Random(3))

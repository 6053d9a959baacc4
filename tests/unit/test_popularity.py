"""Which keys the load test asks for. (Its other modules import Locust, which no test may.)"""

import importlib.util
import random
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="module")
def popularity() -> ModuleType:
    path = Path(__file__).parents[2] / "load_test" / "popularity.py"
    spec = importlib.util.spec_from_file_location("popularity", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_rank_is_drawn_in_proportion_to_its_power_law(popularity: ModuleType) -> None:
    draws = popularity.Popularity(100, 1.0, random.Random(1)).draw_many(200_000)
    seen = Counter(draws)
    harmonic = sum(1 / rank for rank in range(1, 101))
    for rank in (0, 1, 9, 99):
        expected = 200_000 / harmonic / (rank + 1)
        assert seen[rank] == pytest.approx(expected, rel=0.1)


def test_skew_zero_makes_all_keys_alike(popularity: ModuleType) -> None:
    seen = Counter(popularity.Popularity(10, 0.0, random.Random(2)).draw_many(50_000))
    assert sorted(seen) == list(range(10))
    assert max(seen.values()) < 1.1 * min(seen.values())


def test_no_keys_or_a_negative_skew_are_refused(popularity: ModuleType) -> None:
    for keys, s in ((0, 1.0), (10, -1.0)):
        with pytest.raises(ValueError, match="at least one key"):
            popularity.Popularity(keys, s, random.Random(3))

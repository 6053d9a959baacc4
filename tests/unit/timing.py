"""How much of a processor a call takes, on a machine that others use as well."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, TypeVar

T = TypeVar("T")

REFERENCE_S: Final = 0.0095
"""What `_reference` takes on one undisturbed core at about 2.5 GHz: the least of 200 runs."""


def timed(call: Callable[[], T], tries: int = 3) -> tuple[T, float]:
    """The result of `call`, which is pure, and the least processor time in seconds that it took in `tries` tries.

    Processor time grows too where another program shares the core: twice as much in the median was seen, four times at
    worst. So each try is measured against the reference just before and behind it; a faster machine gets no bonus.
    """
    least = float("inf")
    before = _reference()
    for _ in range(tries):
        began = time.process_time()
        result = call()
        took = time.process_time() - began
        after = _reference()
        slowness = max(1.0, min(before, after) / REFERENCE_S)
        least = min(least, took / slowness)
        before = after
    return result, least


def _reference() -> float:
    """Processor time of a fixed amount of work on dicts and objects, like that of a planner."""
    began = time.process_time()
    found: dict[int, tuple[int, str]] = {}
    for number in range(40_000):
        found[number * 7919 % 10_007] = (number, str(number))
    sum(len(text) for _, text in sorted(found.values()))
    return time.process_time() - began

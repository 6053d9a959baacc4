"""How much of a processor a call takes, on a machine that others use as well."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def timed(call: Callable[[], T], tries: int = 3) -> tuple[T, float]:
    """The result of `call`, which is pure, and the least processor time in seconds that it took in `tries` tries."""
    least = float("inf")
    for _ in range(tries):
        began = time.process_time()
        result = call()
        least = min(least, time.process_time() - began)
    return result, least

"""Whether a client makes a call again that failed, and when: never one that may have run, and not more than its budget allows."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

from ringmaster.errors import LinkBroken, LinkDown, RingmasterError, Unserved
from ringmaster.routing.retry_budget import RetryBudget, RetryPolicy

POLICY: Final = RetryPolicy(ratio=0.1, floor_per_s=1.0, most=10.0)
"""A tenth of the calls, and one a second; ten at once."""

_FIRST_PAUSE_S: Final = 0.1
_LONGEST_PAUSE_S: Final = 2.0


class Retrying:
    """Of one client. `times`: how often a call is made again at most; 0: never. `jitter()` is uniform in [0, 1).

    Times are in seconds, of one monotonic clock.
    """

    def __init__(self, times: int, now: float, jitter: Callable[[], float] = random.random) -> None:
        self._times = times
        self._jitter = jitter
        self._calls = 0
        self._budget = RetryBudget(POLICY, 0, now)

    def called(self) -> None:
        """A call begins; it earns a part of a retry."""
        self._calls += 1

    def pause_s(
        self, error: RingmasterError, method: str, attempt: int, now: float, deadline: float
    ) -> float | None:
        """How long to wait before the call that failed with `error` is made again; None if it is not.

        `attempt`: how often it was made again already. Exponential, with full jitter, after what the reply's `Retry-After` says.
        """
        if attempt >= self._times or not _is_harmless(error, method):
            return None
        pause_s = min(_FIRST_PAUSE_S * (1 << min(attempt, 10)), _LONGEST_PAUSE_S) * self._jitter()
        if isinstance(error, Unserved):
            pause_s += error.retry_after_s
        self._budget.earn(self._calls, now)
        if self._budget.left < 1 or now + pause_s >= deadline:
            return None
        self._budget.spend(1)
        return pause_s


def _is_harmless(error: RingmasterError, method: str) -> bool:
    """Whether the call is known not to have run, or only reads."""
    if isinstance(error, (LinkDown, Unserved)):
        return True
    return isinstance(error, LinkBroken) and method in ("GET", "HEAD")

"""How many retries requests have earned: what keeps retries from multiplying an overload. Pure; reads no clock."""

from __future__ import annotations

from typing import NamedTuple


class RetryPolicy(NamedTuple):
    """`ratio`: retries for each request answered. `floor_per_s`: retries a second that are there anyway, so that somebody finds
    out when a node serves again. `most`: retries that are kept, for the many requests that wait when a primary changes.
    """

    ratio: float = 0.1
    floor_per_s: float = 100.0
    most: float = 1000.0


class RetryBudget:
    """What is left for retries towards one node. Full at first; reads no clock.

    `answered` and `now` never go back: requests that the node has answered, and seconds.
    """

    __slots__ = ("_answered", "_now", "_policy", "left")

    def __init__(self, policy: RetryPolicy, answered: int, now: float) -> None:
        self._policy = policy
        self._answered = answered
        self._now = now
        self.left = policy.most

    def earn(self, answered: int, now: float) -> None:
        """Add what has been earned since."""
        policy = self._policy
        answers, seconds = max(0, answered - self._answered), max(0.0, now - self._now)
        self._answered += answers
        self._now += seconds
        earned = policy.ratio * answers + policy.floor_per_s * seconds
        self.left = min(policy.most, self.left + earned)

    def spend(self, count: int) -> None:
        """Pay for `count` retries that go together. They may go while one is left; the debt is worth a quarter of a second at most."""
        self.left = max(self.left - count, -self._policy.floor_per_s / 4)

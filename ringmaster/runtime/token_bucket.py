"""A bucket that holds requests to a rate."""

from __future__ import annotations

from ringmaster.runtime.rate import Rate


class Bucket:
    """A token bucket, kept as the time at which it is full (GCRA: ITU-T I.371, annex A). Reads no clock.

    It lets in whoever finds one whole token, and takes the whole cost of that: what costs more than is there leaves a debt, which
    those who come later wait for. `share`: as many processes hold such a bucket for the same client, so this one has that part of
    the rate, and of the burst, but room for one request at least. Times are in seconds, of one monotonic clock.
    """

    __slots__ = ("_burst", "_per_s", "full_at")

    def __init__(self, rate: Rate) -> None:
        self._per_s = rate.per_s
        self._burst = float(rate.burst)
        self.full_at = 0.0

    def left(self, now: float, share: int) -> float:
        """Tokens in it; below 0: a debt."""
        room = max(1.0, self._burst / share)
        missing = (self.full_at - now) * self._per_s / share
        return room - missing if missing > 0 else room

    def wait_s(self, now: float, share: int) -> float:
        """Seconds until the next may come in; 0: now."""
        left = self.left(now, share)
        # What is one token but for rounding is one.
        return 0.0 if left > 1 - 1e-6 else (1 - left) * share / self._per_s

    def take(self, cost: int, now: float, share: int) -> None:
        """Take `cost` tokens, whether or not they are there; below 0 gives back."""
        full_at = self.full_at
        self.full_at = (max(now, full_at)) + cost * share / self._per_s

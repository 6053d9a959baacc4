"""When requests are refused because those before them wait, and how many may be in flight meanwhile. Pure: reads no clock.

*When* is CoDel's rule (Nichols & Jacobson, "Controlling Queue Delay", ACM Queue 2012; RFC 8289 §3): a queue is bad if it
stands, that is, if even the least wait of a whole interval was above the target. A burst, however large, is none.
*How many* is Little's law: a window of what leaves in a second, times the target, keeps the wait near the target.
CoDel's own law, which drops a little more each time, is made for senders that slow down when they lose a packet; clients of HTTP do not.
"""

from __future__ import annotations

from collections import deque
from typing import Final

TARGET_S: Final = 0.005
INTERVAL_S: Final = 0.1
"""Both as in RFC 8289 §4.2 and §4.3."""

LEAST_WINDOW: Final = 128
"""So many may be in flight whatever they wait for: so few are no queue that a refusal would shorten. What is counted is what nodes
and aiohttp have, so these are fewer requests where one is with both, or with several nodes."""

_LEAST_LATE: Final = 2
_LATE_PART: Final = 125
_RATES: Final = 10
"""The window follows the best rate of so many intervals, so that one slow interval does not narrow it."""

_NO_QUEUE: Final = 8
"""With so few in flight none waits for others."""

_BASE_FACTOR: Final = 3.0
_RESTS: Final = 8
"""What an answer takes without any queue is the least of so many intervals at rest. In fewer all may have waited for something else, as
while a cluster starts."""

_MOST_TARGET_S: Final = 0.1
"""Where an answer takes long without any queue, as over a slow network, the target is so many times that, but no more than this."""


class Shedding:
    """`active`: requests beyond `window` in flight are to be refused. Times are seconds by one clock that never goes back.

    With a target of 0 it never is. Tell it of waits (`waited`), and close each interval when its time, `ends`, has come (`close_interval`). `least_wait_s`: of
    the last interval in which anything waited.
    """

    __slots__ = (
        "_base_s",
        "_began",
        "_interval_s",
        "_least_s",
        "_rates",
        "_rests",
        "_target_s",
        "active",
        "ends",
        "least_wait_s",
        "window",
    )

    def __init__(
        self, now: float, *, target_s: float = TARGET_S, interval_s: float = INTERVAL_S
    ) -> None:
        self._target_s = target_s
        self._interval_s = interval_s
        self._began = now
        self.ends = now + interval_s
        # Negative: nothing has waited in this interval.
        self._least_s = -1.0
        # What an answer takes when nothing queues; 0 while that is not known.
        self._base_s = 0.0
        self._rests: deque[float] = deque(maxlen=_RESTS)
        self._rates: deque[float] = deque(maxlen=_RATES)
        self.active = False
        self.window = LEAST_WINDOW
        self.least_wait_s = 0.0

    @property
    def target_s(self) -> float:
        """The wait that is aimed at."""
        return max(self._target_s, min(_BASE_FACTOR * self._base_s, _MOST_TARGET_S))

    def change_target(self, target_s: float) -> None:
        """Aim at another wait from now on; 0: refuse nothing any more once this interval is over."""
        self._target_s = target_s

    def waited(self, seconds: float) -> None:
        """A request that was answered now had waited for so long."""
        if seconds < self._least_s or self._least_s < 0.0:
            self._least_s = max(seconds, 0.0)

    def begin(self) -> None:
        """There is a queue that none of the waits shows."""
        if self._target_s:
            self.active = True
            self._widen()

    def late(self, most: int, answered: int) -> int:
        """How many requests that have waited long already may be answered in the next interval.

        `most` were in flight at one time in the last one, and `answered` answered: only what others leave unused, and so few that they
        do not show in the 99th percentile, unless half of the window is empty.
        """
        few = max(_LEAST_LATE, answered // _LATE_PART)
        return min(self.window - most, max(few, self.window // 2 - most))

    def close_interval(self, now: float, answered: int, most: int, pressed: bool) -> None:
        """The interval is over, and `answered` requests were answered in it; at most `most` were in flight when it was looked at.

        `pressed`: some were refused in it, or have still to be. When nobody asks for more than there is room for, it is no longer active.
        """
        least_s, self._least_s = self._least_s, -1.0
        seconds = now - self._began
        self._began = now
        self.ends = now + self._interval_s
        if seconds > 0.0:
            self._rates.append(answered / seconds)
        if least_s >= 0.0:
            self.least_wait_s = least_s
            if most <= _NO_QUEUE and not pressed:
                self._rests.append(least_s)
                if len(self._rests) == _RESTS:
                    self._base_s = min(self._rests)
        if self.active:
            self.active = pressed and self._target_s > 0.0
        elif least_s > self.target_s and most > _NO_QUEUE and self._target_s:
            self.active = True
        if self.active:
            self._widen()

    def _widen(self) -> None:
        if self._rates:
            self.window = max(LEAST_WINDOW, int(max(self._rates) * self.target_s))

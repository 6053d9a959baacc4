"""What part of the requests that come through a proxy is to be refused because they wait in the proxy. Pure: reads no clock.

A master does not see how long a request waits in the proxy in front of it. But a proxy has a connection to the master for each request in work, and
takes the one that was used last: as many connections as are in use, so many requests are in the proxy, and Little's law gives their wait.
The part that is refused follows it as in PIE (RFC 8033 §4.2), whose estimate is the same (§4.3); only its integral term is needed, since the
wait is that of some requests at once and not of one packet.
"""

from __future__ import annotations

from typing import Final

FEW: Final = 64
"""With so few in use nothing queues."""

_GAIN: Final = 0.02
"""By how much the part grows in a second in which the wait is twice the target."""

_MOST_EXCESS: Final = 10.0
_MOST_PART: Final = 0.5
_FORGET_S: Final = 1.0
"""While few are in use nobody is refused, and a part is forgotten at this time constant."""


class FrontQueue:
    """Tell it of each interval, 50 ms or so, when it is over (`close_interval`). `active`: ask `refuses` of each request.

    `part`: of the requests, that is to be refused. `wait_s`: how long they wait; not more than an interval is ever found. With a target of 0
    none is refused.
    """

    __slots__ = ("_began", "_owed", "_target_s", "active", "part", "wait_s")

    def __init__(self, now: float, target_s: float) -> None:
        self._target_s = target_s
        self._began = now
        self._owed = 0.0
        self.part = 0.0
        self.wait_s = 0.0
        self.active = False

    def close_interval(self, now: float, used: int, answered: int) -> None:
        """In the interval that is over `used` connections were in use and `answered` requests answered."""
        seconds, self._began = now - self._began, now
        if seconds <= 0.0 or not self._target_s:
            return
        self.wait_s = min(used * seconds / answered, seconds) if answered > 0 else 0.0
        self.active = used > FEW and answered > 0
        if self.active:
            excess = min(self.wait_s / self._target_s - 1.0, _MOST_EXCESS)
            self.part = min(max(self.part + seconds * _GAIN * excess, 0.0), _MOST_PART)
        else:
            self.part -= self.part * min(seconds / _FORGET_S, 1.0)

    def refuses(self) -> bool:
        """Whether the next request is one of that part; spread evenly."""
        self._owed += self.part
        if self._owed < 1.0:
            return False
        self._owed -= 1.0
        return True

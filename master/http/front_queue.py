"""What part of the requests that come through nginx is to be refused because they wait in nginx. Pure: reads no clock.

A master does not see how long a request waits in the proxy in front of it. But the proxy has a connection to the master for each request in work, and
takes the one that was used last: as many connections as are in use, so many requests are in the proxy, and Little's law gives their wait.

Who is refused is away for `AWAY_S`, since nginx sends the end of the refusal so late, and then asks again, in a closed loop at once. So as many
are refused as come back, and of those beyond the room that the target leaves a part: all at once would leave the proxy idle, and come back
all at once.
"""

from __future__ import annotations

from collections import deque
from typing import Final

FEW: Final = 64
"""With so few in use nothing queues."""

AWAY_S: Final = 1.0
_SPREAD_S: Final = 0.7
"""Time constant at which those beyond the room are refused."""

_MOST_PART: Final = 0.5


class FrontQueue:
    """Tell it of each interval, 50 ms or so, when it is over (`close_interval`). `active`: ask `refuses` of each request.

    `part`: of the requests, that is to be refused. `wait_s`: how long they wait; not more than an interval is ever found. With a target of 0
    none is refused.
    """

    __slots__ = ("_away", "_began", "_owed", "_refused", "_target_s", "active", "part", "wait_s")

    def __init__(self, now: float, target_s: float) -> None:
        self._target_s = target_s
        self._began = now
        self._owed = 0.0
        # Of this interval.
        self._refused = 0
        # (end of an interval, refused in it), of the last `AWAY_S`.
        self._away: deque[tuple[float, int]] = deque()
        self.part = 0.0
        self.wait_s = 0.0
        self.active = False

    def change_target(self, target_s: float) -> None:
        """Aim at another wait from now on; 0: refuse nothing."""
        self._target_s = target_s
        if not target_s:
            self.active, self.part = False, 0.0

    def close_interval(self, now: float, used: int, answered: int) -> None:
        """In the interval that is over `used` connections were in use and `answered` requests answered; those that were refused do not count."""
        seconds, self._began = now - self._began, now
        if seconds <= 0.0 or not self._target_s:
            return
        returning = self._returning(now, seconds)
        came = answered + self._refused
        self._away.append((now, self._refused))
        self._refused = 0
        room = max(FEW, int(answered / seconds * self._target_s))
        self.wait_s = min(used * seconds / answered, seconds) if answered > 0 else 0.0
        self.active = used > room and answered > 0
        self.part = 0.0
        if self.active:
            beyond = (used - room) * min(seconds / _SPREAD_S, 1.0)
            self.part = min((beyond + returning) / came, _MOST_PART)

    def refuses(self) -> bool:
        """Whether the next request is one of that part; spread evenly."""
        self._owed += self.part
        if self._owed < 1.0:
            return False
        self._owed -= 1.0
        self._refused += 1
        return True

    def _returning(self, now: float, seconds: float) -> int:
        """How many of those who were refused come back in the next interval, if it is as long."""
        away = self._away
        returning = 0
        while away and away[0][0] + AWAY_S <= now + seconds:
            ended, refused = away.popleft()
            # Those of a time that was not looked at are back already.
            if ended + AWAY_S > now - seconds:
                returning += refused
        return returning

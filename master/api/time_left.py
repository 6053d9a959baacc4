"""How long copies will still be made and moved: how many are left, and the pace of the last seconds. Pure."""

from __future__ import annotations

import math
from collections import Counter, deque
from typing import Final

from ringmaster.cluster.view import View
from ringmaster.placement.quotas import quotas_of

WINDOW_S: Final = 10.0
"""The pace is that of so many seconds: copies are begun in batches, and a batch often takes two."""

PATIENCE_S: Final = 60.0
"""Where nothing was done for longer than `WINDOW_S`, as with large partitions, the pace is that of so many at most."""

LEAST_S: Final = 4.0
"""Nothing is said of a pace that was watched for less."""

_SMOOTHED_S: Final = 3.0
# So much more to do is a new task, whose pace is another.
_MORE: Final = 1.1


def work_left(view: View) -> int:
    """Copies to be filled and roles of primaries to be handed over until every node has its share.

    More than what is under way: the controller begins with more as it goes. Where zones leave no room for a node's
    share, this does not become 0.
    """
    members = {
        node: (info.weight, info.zone)
        for node, info in view.nodes.items()
        if info.up and not info.draining
    }
    if not members:
        return 0
    held, primaries = Counter[str](), Counter[str]()
    filling = awaits = 0
    for row in view.table:
        held.update(row.in_sync)
        if row.primary is not None:
            primaries[row.primary] += 1
        filling += len(row.filling)
        awaits += row.awaits is not None
    wanted = min(view.replicas, len(members))
    quotas = quotas_of(members, view.partitions, wanted)
    lacking = sum(max(0, wanted - len(row.in_sync)) for row in view.table)
    copies = max(lacking, sum(max(0, quotas.held[node].low - held[node]) for node in members))
    roles = sum(max(0, quotas.primaries[node].low - primaries[node]) for node in members)
    return max(copies, filling) + max(roles, awaits)


class TimeLeft:
    """Watches work get less. `observe` often: what it says then counts down, and turns slowly when the pace does."""

    def __init__(self) -> None:
        # (when, work done by then)
        self._done: deque[tuple[float, int]] = deque()
        self._left = 0
        self._ends_at: float | None = None

    def observe(self, now: float, left: int) -> None:
        """`left` of the work at `now`, in seconds of any clock. A little work that is added does not count against the pace."""
        if left <= 0 or left > self._left * _MORE:
            self._done.clear()
            self._ends_at = None
        before, done = self._done[-1] if self._done else (now, 0)
        done += max(0, self._left - left) if self._done else 0
        self._left = left
        self._done.append((now, done))
        while len(self._done) > 1 and self._is_past(now, *self._done[1]):
            self._done.popleft()
        if left > 0:
            self._turn(now, now - before)

    def seconds(self, now: float) -> float | None:
        """Seconds until nothing is left; None if that is not known (yet)."""
        return None if self._ends_at is None else max(0.0, self._ends_at - now)

    def _is_past(self, now: float, when: float, done: int) -> bool:
        """Whether a pace that is measured from `when` is enough."""
        return when <= now - WINDOW_S and (done < self._done[-1][1] or when <= now - PATIENCE_S)

    def _turn(self, now: float, elapsed: float) -> None:
        """Move the end that is expected towards what the pace says."""
        (began, before), (_, done) = self._done[0], self._done[-1]
        if now - began < LEAST_S:
            return
        if done <= before:
            self._ends_at = None
            return
        ends_at = now + self._left * (now - began) / (done - before)
        if self._ends_at is None:
            self._ends_at = ends_at
        else:
            self._ends_at += (ends_at - self._ends_at) * -math.expm1(-elapsed / _SMOOTHED_S)

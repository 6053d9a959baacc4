"""What `ringmaster top` knows: the replies of a cluster over time, figures a second from their differences, and what changed. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

WINDOW_S: Final = 5.0
"""Figures a second are means over this time: the masters that answer know counters of slightly different age."""

MOST_CHANGES: Final = 100


@dataclass(frozen=True, slots=True)
class Reading:
    """One look: `at` in seconds of a clock that only goes forward; `status` of `GET /cluster`, `hot_keys` of the other."""

    at: float
    status: Mapping[str, Any]
    hot_keys: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True, slots=True)
class NodeRates:
    """Of one node, a second; `hit_ratio` of the reads of the window, None if there were none."""

    reads: float
    writes: float
    evictions: float
    hit_ratio: float | None


@dataclass(frozen=True, slots=True)
class Rates:
    """`nodes`: those of which two readings tell something, by id. `total`: of all of them."""

    nodes: Mapping[str, NodeRates]
    total: NodeRates | None
    moved_bytes: float


def rates(readings: Sequence[Reading]) -> Rates:
    """From the differences of counters between the first and the last of `readings`, oldest first.

    Counters begin again when a node does: only readings of its present incarnation count. A counter that seems to
    go back, as another master knew it a moment earlier, stands still.
    """
    if not readings:
        return Rates({}, None, 0.0)
    last = readings[-1]
    nodes: dict[str, NodeRates] = {}
    sums = [0.0, 0.0, 0.0, 0.0]
    for name, row in _rows(last.status).items():
        first = next((each for each in readings if _same(_rows(each.status).get(name), row)), last)
        elapsed_s = last.at - first.at
        if elapsed_s <= 0.0:
            continue
        before = _rows(first.status)[name]
        counted = [
            max(0, row.get(counter, 0) - before.get(counter, 0)) / elapsed_s
            for counter in ("hits", "misses", "writes", "evictions")
        ]
        nodes[name] = _node_rates(*counted)
        sums = [total + each for total, each in zip(sums, counted, strict=True)]
    return Rates(nodes, _node_rates(*sums) if nodes else None, _moved(readings[0], last))


def _node_rates(hits: float, misses: float, writes: float, evictions: float) -> NodeRates:
    reads = hits + misses
    return NodeRates(reads, writes, evictions, hits / reads if reads else None)


def _moved(first: Reading, last: Reading) -> float:
    """Bytes a second: the nodes' sums, so it goes back when one of them begins again."""
    elapsed_s = last.at - first.at
    before, after = (
        (each.status.get("rebalance") or {}).get("moved_bytes", 0) for each in (first, last)
    )
    return max(0.0, (after - before) / elapsed_s) if elapsed_s > 0.0 else 0.0


def _rows(status: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    return {str(row.get("id")): row for row in status.get("nodes") or ()}


def _same(before: Mapping[str, Any] | None, now: Mapping[str, Any]) -> bool:
    return before is not None and before.get("incarnation") == now.get("incarnation")


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    """What happened between two replies of `GET /cluster`, a sentence each."""
    old, new = _rows(before), _rows(after)
    for name, row in new.items():
        was = old.get(name)
        if was is None:
            yield f"{name} joined, {row.get('state')}"
        elif was.get("state") != row.get("state"):
            yield f"{name} {was.get('state')} -> {row.get('state')}"
        elif not _same(was, row):
            yield f"{name} was started again"
    yield from (f"{name} was forgotten" for name in old if name not in new)
    yield from _member_changes(before, after)
    for field, text in (("health", "health"), ("eviction", "eviction")):
        if before.get(field) != after.get(field):
            yield f"{text} {before.get(field)} -> {after.get(field)}"
    moving = [bool((each.get("rebalance") or {}).get("active")) for each in (before, after)]
    if moving[0] != moving[1]:
        yield "copies move" if moving[1] else "nothing moves any more"


def _member_changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    old, new = (
        {str(row.get("id")) for row in each.get("masters") or ()} for each in (before, after)
    )
    yield from (f"{name} came up" for name in sorted(new - old))
    yield from (f"{name} is gone" for name in sorted(old - new))
    if before.get("controller") != after.get("controller"):
        yield f"controller {before.get('controller') or 'none'} -> {after.get('controller') or 'none'}"


class Watch:
    """Everything seen so far: `latest`, `changes` (time of day, sentence; newest first), `problem`: why there is no reply now.

    `observe` and `lose` are given the time: nothing here reads a clock.
    """

    def __init__(self) -> None:
        self.changes: deque[tuple[str, str]] = deque(maxlen=MOST_CHANGES)
        self.problem = ""
        self._readings: deque[Reading] = deque()

    @property
    def latest(self) -> Reading | None:
        """None before the first reply."""
        return self._readings[-1] if self._readings else None

    def rates(self) -> Rates:
        """Over the last `WINDOW_S`."""
        return rates(self._readings)

    def observe(self, reading: Reading, time_of_day: str) -> None:
        """A reply came."""
        if self.problem:
            self.changes.appendleft((time_of_day, "the cluster answers again"))
        self.problem = ""
        if self._readings:
            for sentence in changes(self._readings[-1].status, reading.status):
                self.changes.appendleft((time_of_day, sentence))
        self._readings.append(reading)
        # One that is older than the window stays, so that there always are two.
        while len(self._readings) > 2 and self._readings[1].at <= reading.at - WINDOW_S:
            self._readings.popleft()

    def lose(self, problem: str, time_of_day: str) -> None:
        """No reply came."""
        if not self.problem:
            self.changes.appendleft((time_of_day, "the cluster does not answer"))
        self.problem = problem

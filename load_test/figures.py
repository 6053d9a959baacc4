"""The figures of one run, and how they differ from those of the run before. Pure."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from load_test.timeline import Second, Timeline, percentile

COMPARED_OPTIONS: Final = (
    "users", "processes", "keys", "zipf_s", "value_size", "bulk_size", "ttl", "run_time", "trace", "user_classes",
)  # fmt: skip
"""What must be alike for two runs to be comparable."""

AFTERMATH_S: Final = 10
GONE: Final = ("down", "unreachable", "left")


@dataclass(frozen=True, slots=True)
class Figures:
    """One run. Times in milliseconds; `hit_ratio` from 0 to 1, None if no key was read."""

    requests: int
    duration_s: float
    per_s: float
    p50_ms: float
    p99_ms: float
    failures: int
    hit_ratio: float | None


@dataclass(frozen=True, slots=True)
class Change:
    """One figure before and now, as they are shown. `percent`: None where there is nothing to divide by."""

    name: str
    before: str
    now: str
    percent: float | None

    @property
    def shown(self) -> str:
        """The change as text."""
        if self.percent is None:
            return "" if self.before == self.now else "new"
        return f"{self.percent:+.1f} %"


def timeline_of(run: Mapping[str, Any]) -> Timeline:
    """The timeline that a run kept."""
    timeline = Timeline()
    timeline.add(run["seconds"])
    return timeline


def figures_of(run: Mapping[str, Any]) -> Figures:
    """The figures of a run as it is kept in `run.json`."""
    timeline = timeline_of(run)
    times = timeline.times()
    requests = sum(second.requests for second in timeline.seconds.values())
    duration_s = float(run["duration_s"])
    return Figures(
        requests=requests,
        duration_s=duration_s,
        per_s=requests / duration_s if duration_s else 0.0,
        p50_ms=percentile(times, 0.5),
        p99_ms=percentile(times, 0.99),
        failures=sum(second.failures for second in timeline.seconds.values()),
        hit_ratio=timeline.hit_ratio(),
    )


def compare(before: Figures, now: Figures) -> list[Change]:
    """Requests a second, p50, p99, failures and hit ratio, with the change in per cent of what it was."""
    return [
        _change("requests/s", before.per_s, now.per_s, "{:,.0f}"),
        _change("p50 ms", before.p50_ms, now.p50_ms, "{:,g}"),
        _change("p99 ms", before.p99_ms, now.p99_ms, "{:,g}"),
        _change("failures", before.failures, now.failures, "{:,}"),
        _change("hit ratio", before.hit_ratio, now.hit_ratio, "{:.2%}"),
    ]


def _change(name: str, before: float | None, now: float | None, form: str) -> Change:
    percent = None
    if before is not None and now is not None and (before or not now):
        percent = 100 * (now - before) / before if before else 0.0
    shown = ["none" if each is None else form.format(each) for each in (before, now)]
    return Change(name, shown[0], shown[1], percent)


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What makes the comparison of two runs doubtful: options that differ, and another host."""
    told = []
    if before["host"] != now["host"]:
        told.append(f"host was {before['host']}")
    for name in COMPARED_OPTIONS:
        was = before["options"].get(name)
        if was != now["options"].get(name):
            told.append(f"{name} was {was}")
    return told


def comparison(changes: Sequence[Change], name: str, differ: Sequence[str]) -> str:
    """The comparison as text, one line a figure; `name` says which run it was."""
    lines = [f"{'against ' + name:<28}{'before':>12}{'now':>12}{'change':>12}"]
    lines += [f"{each.name:<28}{each.before:>12}{each.now:>12}{each.shown:>12}" for each in changes]
    if differ:
        lines.append(f"not alike: {', '.join(differ)}")
    return "\n".join(lines) + "\n"


def run_before(
    runs: Mapping[str, Mapping[str, Any]], now: Mapping[str, Any]
) -> tuple[str, Mapping[str, Any]] | None:
    """The latest of `runs`, by name, that began before `now` and had the same scenario."""
    earlier = [
        (name, run)
        for name, run in runs.items()
        if run["scenario"] == now["scenario"] and run["started"] < now["started"]
    ]
    return max(earlier, key=lambda each: each[1]["started"], default=None)


def node_rates(samples: Sequence[Mapping[str, Any]]) -> dict[str, list[tuple[float, float]]]:
    """Keys read a second at each node, as (time, rate), from its counts at the times of `samples`.

    A count that became smaller began again with a new process. The rate is NaN while a node is down.
    """
    rates: dict[str, list[tuple[float, float]]] = {}
    last: dict[str, tuple[float, int]] = {}
    for sample in samples:
        at = sample["at"]
        for node in sample["nodes"]:
            if node["state"] in GONE:
                last.pop(node["id"], None)
                rates.setdefault(node["id"], []).append((at, math.nan))
                continue
            reads = node["hits"] + node["misses"]
            known = last.get(node["id"])
            last[node["id"]] = at, reads
            if known is not None and at > known[0]:
                grown = reads - known[1] if reads >= known[1] else reads
                rates.setdefault(node["id"], []).append((at, grown / (at - known[0])))
    return rates


def node_values(
    samples: Sequence[Mapping[str, Any]], name: str
) -> dict[str, list[tuple[float, float]]]:
    """`name` of each node at the times of `samples`, as (time, value); NaN while it is down."""
    values: dict[str, list[tuple[float, float]]] = {}
    for sample in samples:
        for node in sample["nodes"]:
            value = math.nan if node["state"] in GONE else node[name]
            values.setdefault(node["id"], []).append((sample["at"], value))
    return values


def spread(values: Sequence[float]) -> float | None:
    """The largest by the mean: 1 is perfect balance. None if there is nothing to compare."""
    total = sum(values)
    return max(values) * len(values) / total if total else None


def view_changes(samples: Sequence[Mapping[str, Any]]) -> list[tuple[float, int]]:
    """(time, epoch) of each view that was seen to follow another."""
    return [
        (now["at"], now["epoch"])
        for before, now in itertools.pairwise(samples)
        if now["epoch"] != before["epoch"]
    ]


@dataclass(frozen=True, slots=True)
class Aftermath:
    """What followed a kill: within `AFTERMATH_S`, by seconds. `slowest_ms`: of one request."""

    text: str
    at_s: float
    before_per_s: float
    least_per_s: int
    slowest_ms: float
    failures: int


def aftermath(run: Mapping[str, Any]) -> list[Aftermath]:
    """For each kill: requests a second on average before it, and at the worst after it. `at_s` counts from the start."""
    found = []
    rows = per_second(run)
    for event in run["events"]:
        at_s = event["at"] - run["started"]
        before = [row.second.requests for row in rows if row.at_s + 1 <= at_s]
        after = [row.second for row in rows if at_s - 1 < row.at_s <= at_s + AFTERMATH_S]
        if before and after:
            found.append(
                Aftermath(
                    text=event["text"],
                    at_s=at_s,
                    before_per_s=sum(before) / len(before),
                    least_per_s=min(each.requests for each in after),
                    slowest_ms=max(max(each.times, default=0.0) for each in after),
                    failures=sum(each.failures for each in after),
                )
            )
    return found


@dataclass(frozen=True, slots=True)
class Row:
    """One second of a run; `at_s` counts from the start."""

    at_s: float
    second: Second


def per_second(run: Mapping[str, Any]) -> list[Row]:
    """Every whole second of a run, also those in which nothing ended; all there is if it was shorter than two."""
    timeline = timeline_of(run)
    started, ended = run["started"], run["started"] + run["duration_s"]
    whole = list(range(math.ceil(started), math.floor(ended)))
    if len(whole) < 2:
        whole = sorted(timeline.seconds)
    return [Row(at - started, timeline.seconds.get(at, Second())) for at in whole]

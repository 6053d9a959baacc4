"""What a scenario showed: counts, the longest gap, a table and a timeline."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from rich.table import Table

from ringmaster.chaos.load import Sample
from ringmaster.chaos.scenarios import Scenario

BUCKET_S: Final = 0.1


@dataclass(slots=True)
class Result:
    """Counts of one run. `unknown`: writes whose outcome the client could not learn.

    `p99_rest_ms`, `p99_moving_ms`: before data moved and while it did; 0 where the scenario does not look at it.
    """

    name: str
    text: str
    requests: int = 0
    lost: int = 0
    stale: int = 0
    errors: int = 0
    unknown: int = 0
    longest_gap_s: float = 0.0
    p99_ms: float = 0.0
    p99_rest_ms: float = 0.0
    p99_moving_ms: float = 0.0
    moving_s: float = 0.0
    allowed_gap_s: float = 0.0
    failures: list[str] = field(default_factory=list)
    examples: list[str] = field(default_factory=list)
    events: list[tuple[float, str]] = field(default_factory=list)
    timeline: list[tuple[float, float, int]] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether it kept every bound."""
        return not self.failures

    @property
    def p99_ratio(self) -> float:
        """How many times its value at rest p99 was while data moved; 0 if it was not looked at."""
        return self.p99_moving_ms / self.p99_rest_ms if self.p99_rest_ms else 0.0

    def as_json(self) -> dict[str, Any]:
        """All of it, for a file."""
        return {**asdict(self), "p99_ratio": round(self.p99_ratio, 2), "passed": self.passed}


def evaluate(
    scenario: Scenario,
    samples: Sequence[Sample],
    longest_gap_s: float,
    events: Sequence[tuple[float, str]],
) -> Result:
    """Count, and hold against what the scenario allows."""
    counts = Counter(sample.outcome for sample in samples)
    result = Result(
        scenario.name,
        scenario.text,
        requests=len(samples),
        lost=counts["lost"],
        stale=counts["stale"],
        errors=counts["error"],
        unknown=counts["unknown"],
        longest_gap_s=round(longest_gap_s, 3),
        allowed_gap_s=scenario.longest_gap_s,
        events=[(round(at, 3), text) for at, text in events],
        timeline=_timeline(samples),
    )
    result.p99_ms = _p99_ms(samples)
    if scenario.p99_allowed:
        _compare(result, samples, events)
    bad = [sample for sample in samples if sample.outcome != "ok"]
    result.examples = [
        f"{sample.began:.2f} s {sample.outcome}: {sample.detail}" for sample in bad[:5]
    ]
    if result.lost:
        result.failures.append(f"{result.lost} acknowledged writes lost")
    if result.stale:
        result.failures.append(f"{result.stale} stale reads")
    if longest_gap_s > scenario.longest_gap_s:
        result.failures.append(f"a client waited {longest_gap_s:.2f} s")
    if scenario.p99_allowed and not 0 < result.p99_ratio <= scenario.p99_allowed:
        result.failures.append(
            f"p99 was {result.p99_ratio:.1f} times its value at rest, {scenario.p99_allowed:g} are allowed"
        )
    if scenario.errors_allowed == "none" and (result.errors or result.unknown):
        result.failures.append(f"{result.errors + result.unknown} errors")
    if scenario.errors_allowed == "writes" and result.errors:
        result.failures.append(f"{result.errors} errors other than writes of unknown outcome")
    return result


def _p99_ms(samples: Sequence[Sample]) -> float:
    times = sorted(sample.took for sample in samples)
    return round(times[int(len(times) * 0.99)] * 1000, 2) if times else 0.0


def _compare(
    result: Result, samples: Sequence[Sample], events: Sequence[tuple[float, str]]
) -> None:
    """p99 at rest and while data moved. Marks: at rest, a move begins, it ends, the next begins, and so on."""
    times = [at for at, _ in events]
    moves = list(zip(times[1::2], times[2::2], strict=False))
    if not moves:
        return
    rest = [sample for sample in samples if times[0] <= sample.began < times[1]]
    moving = [
        sample for sample in samples if any(begin <= sample.began < end for begin, end in moves)
    ]
    result.p99_rest_ms, result.p99_moving_ms = _p99_ms(rest), _p99_ms(moving)
    result.moving_s = round(sum(end - begin for begin, end in moves), 1)


def _timeline(samples: Sequence[Sample]) -> list[tuple[float, float, int]]:
    """(time, longest request in milliseconds, requests) per bucket of `BUCKET_S`, by when they began."""
    buckets: dict[int, tuple[float, int]] = {}
    for sample in samples:
        slot = int(sample.began / BUCKET_S)
        longest, count = buckets.get(slot, (0.0, 0))
        buckets[slot] = (max(longest, sample.took), count + 1)
    return [
        (round(slot * BUCKET_S, 1), round(longest * 1000, 1), count)
        for slot, (longest, count) in sorted(buckets.items())
    ]


def table(results: Sequence[Result]) -> Table:
    """One row a fault."""
    columns = [
        "fault",
        "requests",
        "lost",
        "stale",
        "errors",
        "unknown",
        "longest gap",
        "allowed",
        "p99",
        "",
    ]
    rows = Table(title="ringmaster chaos")
    for name in columns:
        rows.add_column(name, justify="left" if name in ("fault", "") else "right", no_wrap=True)
    for result in results:
        rows.add_row(
            result.text,
            str(result.requests),
            str(result.lost),
            str(result.stale),
            str(result.errors),
            str(result.unknown),
            f"{result.longest_gap_s:.2f} s",
            f"{result.allowed_gap_s:.1f} s",
            _p99(result),
            "ok" if result.passed else "broken",
        )
    return rows


def _p99(result: Result) -> str:
    ratio = f" ({result.p99_ratio:.1f} x rest)" if result.p99_ratio else ""
    return f"{result.p99_ms:.1f} ms{ratio}"


def plot(results: Sequence[Result], path: Path) -> bool:
    """Draw each timeline into `path` (svg or png); False if matplotlib is not installed."""
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415 - an extra, loaded when asked for
    except ImportError:
        return False
    figure = Figure(figsize=(10, 2.2 * len(results)), layout="constrained")
    for axes, result in zip(
        figure.subplots(len(results), 1, squeeze=False)[:, 0], results, strict=True
    ):
        axes.plot([at for at, _, _ in result.timeline], [ms for _, ms, _ in result.timeline], lw=1)
        axes.set_yscale("log")
        axes.set_title(result.text, loc="left", fontsize=9)
        axes.set_ylabel("longest request\nof 0.1 s, ms", fontsize=8)
        for at, text in result.events:
            axes.axvline(at, color="tab:red", lw=0.8)
            axes.annotate(text, (at, 1), xycoords=("data", "axes fraction"), fontsize=7, va="top")
    axes.set_xlabel("seconds")
    figure.savefig(path)
    return True

"""Medians, ratios, tables and plots of one run."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from bench.plan import GOALS, Goal
from bench.wrk import Measurement

Runs = Mapping[tuple[str, str], Sequence[Measurement]]


def machine() -> dict[str, Any]:
    """What it ran on."""
    model = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        "unknown",
    )
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version()
        + (" of the system" if sys.base_prefix == "/usr" else ""),
        "load_at_start": round(os.getloadavg()[0], 2),
    }


def middle(measurements: Sequence[Measurement]) -> Measurement:
    """The median of each figure, the sum of failures."""
    return Measurement(
        median(one.rps for one in measurements),
        median(one.p50_ms for one in measurements),
        median(one.p99_ms for one in measurements),
        sum(one.failed for one in measurements),
    )


def ratio(goal: Goal, runs: Runs) -> tuple[float, float | None] | None:
    """(ratio of throughputs, ratio of p99s or None), medians of each round's; None if one side was not measured.

    A machine that others use drifts more within minutes than the contestants differ, so only what was measured in
    one round is compared.
    """
    rounds = [*zip(runs.get(goal.ours, ()), runs.get(goal.theirs, ()), strict=False)]
    if not rounds:
        return None
    value = goal.factor * median(ours.rps / theirs.rps for ours, theirs in rounds)
    tails = [ours.p99_ms / theirs.p99_ms for ours, theirs in rounds if theirs.p99_ms]
    return value, median(tails) if goal.p99 and tails else None


def markdown(runs: Runs, skipped: Mapping[str, str], about: Mapping[str, Any]) -> str:
    """The two tables: ratios against goals, then medians."""
    lines = [f"Machine: {', '.join(f'{name} {value}' for name, value in about.items())}.", ""]
    lines += ["| what | goal | ratio | p99, ours / theirs | |", "|---|---|---|---|---|"]
    for goal in GOALS:
        found = ratio(goal, runs)
        if found is None:
            lines.append(f"| {goal.text} | {goal.at_least:g} | not measured | | |")
            continue
        value, tail = found
        met = value >= goal.at_least and (tail is None or tail <= 1.0)
        shown = "" if tail is None else f"{tail:.2f}"
        lines.append(
            f"| {goal.text} | {goal.at_least:g} | {value:.2f} | {shown} | {'met' if met else 'missed'} |"
        )
    lines += [
        "",
        "| who | case | requests/s | p50 ms | p99 ms | failed |",
        "|---|---|---|---|---|---|",
    ]
    for (label, case), measurements in runs.items():
        one = middle(measurements)
        lines.append(
            f"| {label} | {case} | {one.rps:,.0f} | {one.p50_ms:.2f} | {one.p99_ms:.2f} | {one.failed} |"
        )
    lines += [f"\nSkipped: {label}: {reason}." for label, reason in skipped.items()]
    return "\n".join(lines) + "\n"


def as_json(runs: Runs, skipped: Mapping[str, str], about: Mapping[str, Any]) -> dict[str, Any]:
    """Every round of every case."""
    return {
        "machine": dict(about),
        "skipped": dict(skipped),
        "runs": [
            {
                "who": label,
                "case": case,
                "rps": [one.rps for one in measurements],
                "p50_ms": [one.p50_ms for one in measurements],
                "p99_ms": [one.p99_ms for one in measurements],
                "failed": sum(one.failed for one in measurements),
            }
            for (label, case), measurements in runs.items()
        ],
    }


def plot(runs: Runs, path: Path) -> bool:
    """Bars of medians by case, with every round as a dot; False if matplotlib is not installed."""
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415 - an extra, loaded when asked for
    except ImportError:
        return False
    cases = list(dict.fromkeys(case for _, case in runs))
    figure = Figure(figsize=(9, 1.9 * len(cases)), layout="constrained")
    for axes, case in zip(figure.subplots(len(cases), 1, squeeze=False)[:, 0], cases, strict=True):
        shown = [(label, found) for (label, name), found in runs.items() if name == case]
        labels = [label for label, _ in shown]
        axes.barh(labels, [middle(found).rps for _, found in shown], color="tab:blue", alpha=0.6)
        for row, (_, found) in enumerate(shown):
            axes.plot([one.rps for one in found], [row] * len(found), "k.", ms=3)
        axes.set_title(case, loc="left", fontsize=9)
        axes.tick_params(labelsize=7)
        axes.invert_yaxis()
    axes.set_xlabel("requests a second")
    figure.savefig(path)
    return True

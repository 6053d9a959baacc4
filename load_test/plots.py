"""The pictures of a load test, by matplotlib: each is a function of a run, as `run.json` keeps it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from load_test.figures import node_rates, node_values, per_second, view_changes
from load_test.timeline import percentile

MIB: Final = 1 << 20
KILL_COLOUR: Final = "tab:red"


def draw(run: Mapping[str, Any], folder: Path, suffix: str = ".svg") -> dict[str, str]:
    """Draws all that there is something to show of; {title: file name}. Empty if matplotlib is not installed."""
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415 - an extra, loaded when asked for
    except ImportError:
        return {}
    drawn = {}
    pictures: list[tuple[str, str, Callable[[Any, Mapping[str, Any]], None]]] = [
        ("requests", "Requests and failures a second", _requests),
        ("latency", "Response times", _latency),
        ("hits", "Hit ratio", _hits),
    ]
    if run["cluster"]:
        pictures += [
            ("reads-by-node", "Keys read at each node", _reads),
            ("memory-by-node", "Memory of each node", _memory),
            ("primaries-by-node", "Primaries of each node", _primaries),
        ]
    for name, title, picture in pictures:
        figure = Figure(figsize=(10, 3.2))
        # Of all alike, so that the same moment is at the same place.
        figure.subplots_adjust(left=0.08, right=0.87, top=0.92, bottom=0.15)
        axes = figure.subplots()
        picture(axes, run)
        _mark(axes, run)
        axes.set_xlim(0, max(1.0, run["duration_s"]))
        axes.set_xlabel("seconds")
        axes.grid(alpha=0.25)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(loc="upper left", bbox_to_anchor=(1.05, 1), fontsize=8, frameon=False)
        figure.savefig(folder / f"{name}{suffix}")
        drawn[title] = f"{name}{suffix}"
    return drawn


def _mark(axes: Any, run: Mapping[str, Any]) -> None:
    """Kills with their text; views as thin lines."""
    for at, _ in view_changes(run["cluster"]):
        axes.axvline(at - run["started"], color="tab:gray", lw=0.6, ls=":")
    for event in run["events"]:
        at_s = event["at"] - run["started"]
        axes.axvline(at_s, color=KILL_COLOUR, lw=1.2, ls="--")
        text = event["text"].split(" (")[0]
        axes.annotate(
            text, (at_s, 1), xycoords=("data", "axes fraction"), xytext=(3, 3),
            textcoords="offset points", fontsize=8, color=KILL_COLOUR,
        )  # fmt: skip


def _requests(axes: Any, run: Mapping[str, Any]) -> None:
    rows = per_second(run)
    at = [row.at_s + 0.5 for row in rows]
    axes.plot(at, [row.second.requests for row in rows], lw=1.3, label="requests")
    axes.set_ylim(bottom=0)
    axes.set_ylabel("requests a second")
    failures = [row.second.failures for row in rows]
    # A scale of their own: a few among thousands of requests would not be seen.
    beside = axes.twinx()
    beside.bar(at, failures, width=0.8, color=KILL_COLOUR, alpha=0.6)
    beside.set_ylim(0, max([5, *failures]) * 1.1)
    beside.set_ylabel("failures a second", color=KILL_COLOUR)


def _latency(axes: Any, run: Mapping[str, Any]) -> None:
    rows = [row for row in per_second(run) if row.second.times]
    at = [row.at_s + 0.5 for row in rows]
    for name, share in (("slowest", 1.0), ("p99", 0.99), ("p95", 0.95), ("p50", 0.5)):
        axes.plot(
            at, [max(0.1, percentile(row.second.times, share)) for row in rows], lw=1.2, label=name
        )
    axes.set_yscale("log")
    axes.set_ylabel("milliseconds")


def _hits(axes: Any, run: Mapping[str, Any]) -> None:
    rows = [row for row in per_second(run) if row.second.hits + row.second.misses]
    axes.plot(
        [row.at_s + 0.5 for row in rows],
        [100 * row.second.hits / (row.second.hits + row.second.misses) for row in rows],
        lw=1.3,
    )
    axes.set_ylim(0, 102)
    axes.set_ylabel("% of keys read")


def _reads(axes: Any, run: Mapping[str, Any]) -> None:
    _by_node(axes, run, node_rates(run["cluster"]), "keys a second")


def _memory(axes: Any, run: Mapping[str, Any]) -> None:
    values = node_values(run["cluster"], "bytes")
    scaled = {node: [(at, each / MIB) for at, each in line] for node, line in values.items()}
    _by_node(axes, run, scaled, "MiB")


def _primaries(axes: Any, run: Mapping[str, Any]) -> None:
    _by_node(axes, run, node_values(run["cluster"], "primaries"), "partitions")


def _by_node(
    axes: Any, run: Mapping[str, Any], lines: Mapping[str, list[tuple[float, float]]], unit: str
) -> None:
    for node, line in sorted(lines.items()):
        at = [each - run["started"] for each, _ in line]
        axes.plot(at, [value for _, value in line], lw=1.2, marker=".", ms=3, label=node)
    axes.set_ylim(bottom=0)
    axes.set_ylabel(unit)

"""Makes the report of a load test from what it kept, and prints how it compares with the run before.

    python -m load_test.report FOLDER [--before FOLDER]

FOLDER has `run.json`; beside it come `report.html`, its plots and `comparison.txt`. The run before is the latest among the
folders beside it that had the same scenario.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from statistics import fmean
from typing import Any, Final

from load_test.figures import (
    Aftermath,
    Change,
    Figures,
    aftermath,
    compare,
    comparison,
    differences,
    figures_of,
    node_rates,
    run_before,
    spread,
    view_changes,
)
from load_test.plots import draw

RUN_FILE: Final = "run.json"
KEPT_FILE: Final = "run.before.json"
"""What a run in the same folder left."""

_STYLE: Final = """
:root{color-scheme:light dark}body{font:15px/1.5 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem}
table{border-collapse:collapse;margin:1rem 0}td,th{padding:.2rem .8rem;text-align:right;border-bottom:1px solid #8884}
td:first-child,th:first-child{text-align:left}img{width:100%;background:#fff}.kill{color:#d33}a{color:inherit}small{opacity:.7}
"""


def html(
    run: Mapping[str, Any],
    figures: Figures,
    changes: Sequence[Change],
    against: str,
    differ: Sequence[str],
    plots: Mapping[str, str],
) -> str:
    """The report. Texts of the run are escaped; nothing is loaded but the plots beside it."""
    began = datetime.fromtimestamp(run["started"], UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    ratio = "no key was read" if figures.hit_ratio is None else f"{figures.hit_ratio:.2%}"
    parts = [
        f"<h1>Load test: {escape(run['scenario'])}</h1>",
        f"<p>{escape(run['host'])}, {began}, {figures.duration_s:.1f} s. {escape(_options(run))}</p>",
        _table(
            ("requests/s", "p50 ms", "p99 ms", "failures", "hit ratio"),
            [
                (
                    f"{figures.per_s:,.0f}", f"{figures.p50_ms:g}", f"{figures.p99_ms:g}",
                    f"{figures.failures:,} of {figures.requests:,}", ratio,
                )
            ],
        ),
        *(f'<p class="kill">{escape(each)}</p>' for each in kills(run, aftermath(run))),
        *_comparison(changes, against, differ),
    ]  # fmt: skip
    if not plots:
        parts.append("<p>No plots: matplotlib is not installed.</p>")
    for title, name in plots.items():
        parts.append(
            f'<h2>{escape(title)}</h2><img src="{escape(name)}" alt="{escape(title)} over time">'
        )
    if view_changes(run["cluster"]):
        parts.append("<p><small>Dotted lines: the view changed.</small></p>")
    parts += [*_balance(run), *_requests(run), *_errors(run)]
    parts.append(
        '<p><small><a href="locust.html">Locust\'s own report</a>, <a href="stats.csv">stats.csv</a>, '
        '<a href="history.csv">history.csv</a>, <a href="failures.csv">failures.csv</a>, '
        '<a href="run.json">run.json</a></small></p>'
    )
    head = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Load test</title><style>{_STYLE}</style>'
    return head + "\n".join(parts) + "</html>\n"


def _table(names: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["<tr>" + "".join(f"<th>{escape(name)}</th>" for name in names) + "</tr>"]
    lines += [
        "<tr>" + "".join(f"<td>{escape(each)}</td>" for each in row) + "</tr>" for row in rows
    ]
    return f"<table>{''.join(lines)}</table>"


def _options(run: Mapping[str, Any]) -> str:
    chosen = run["options"].items()
    return ", ".join(f"{name} {value}" for name, value in chosen if value not in (None, "", []))


def kills(run: Mapping[str, Any], found: Sequence[Aftermath]) -> list[str]:
    """What was killed and what followed, a sentence each."""
    told = [
        f"{each.at_s:.1f} s: {each.text}. Within ten seconds: {each.failures:,} failures, the slowest request {each.slowest_ms:g} ms, "
        f"at least {each.least_per_s:,} requests in a second ({each.before_per_s:,.0f} on average before)."
        for each in found
    ]
    return told or [
        f"{event['at'] - run['started']:.1f} s: {event['text']}." for event in run["events"]
    ]


def _comparison(changes: Sequence[Change], against: str, differ: Sequence[str]) -> list[str]:
    if not changes:
        return ["<p>No run of this scenario before it.</p>"]
    rows = [(each.name, each.before, each.now, each.shown) for each in changes]
    parts = [_table((f"against {against}", "before", "now", "change"), rows)]
    if differ:
        parts.append(f"<p>Not alike: {escape(', '.join(differ))}.</p>")
    return parts


def _balance(run: Mapping[str, Any]) -> list[str]:
    if not run["cluster"]:
        return [f"<h2>Balance</h2><p>GET /cluster gave nothing: {escape(run['trouble'])}</p>"]
    means = {
        node: fmean(known)
        for node, line in sorted(node_rates(run["cluster"]).items())
        if (known := [rate for _, rate in line if not math.isnan(rate)])
    }
    last = {node["id"]: node for node in run["cluster"][-1]["nodes"]}
    rows = [
        (
            node, f"{mean:,.0f}", str(last[node]["primaries"]) if node in last else "",
            f"{last[node]['entries']:,}" if node in last else "", last[node]["state"] if node in last else "gone",
        )
        for node, mean in means.items()
    ]  # fmt: skip
    uneven = spread(list(means.values()))
    told = f"<p>The busiest node reads {uneven:.2f} times the mean.</p>" if uneven else ""
    names = ("node", "keys read a second", "primaries at the end", "entries", "state")
    return ["<h2>Balance</h2>", _table(names, rows), told]


def _requests(run: Mapping[str, Any]) -> list[str]:
    rows = [
        (
            row["name"], f"{row['count']:,}", f"{row['per_s']:,.0f}",
            *(f"{ms:g}" for ms in row["ms"]), f"{row['failures']:,}",
        )
        for row in run["requests"]
    ]  # fmt: skip
    names = ("request", "count", "per s", "p50 ms", "p95 ms", "p99 ms", "max ms", "failed")
    return ["<h2>Requests</h2>", _table(names, rows)]


def _errors(run: Mapping[str, Any]) -> list[str]:
    if not run["errors"]:
        return []
    rows = [(f"{row['count']:,}", row["name"], row["error"]) for row in run["errors"]]
    return ["<h2>Failures</h2>", _table(("count", "request", "why"), rows)]


def runs_beside(folder: Path) -> dict[str, Mapping[str, Any]]:
    """What other runs kept, in `folder` before and in the folders beside it, by where; what cannot be read is left out."""
    found: dict[str, Mapping[str, Any]] = {}
    for path in (folder / KEPT_FILE, *folder.parent.glob(f"*/{RUN_FILE}")):
        if path != folder / RUN_FILE:
            try:
                run = json.loads(path.read_text(encoding="utf-8"))
                if run["format"] == 1:
                    found[path.parent.name] = run
            except (OSError, ValueError, KeyError, TypeError):
                continue
    return found


def write(folder: Path, before: Path | None) -> str:
    """Writes the report; returns what was killed and the comparison, empty if there is neither. OSError or ValueError for a bad folder."""
    run = json.loads((folder / RUN_FILE).read_text(encoding="utf-8"))
    earlier = run_before(runs_beside(folder), run)
    if before is not None:
        earlier = before.name, json.loads((before / RUN_FILE).read_text(encoding="utf-8"))
    figures = figures_of(run)
    name, text = "", ""
    changes: list[Change] = []
    differ: list[str] = []
    if earlier is not None:
        name, other = earlier
        changes, differ = compare(figures_of(other), figures), differences(other, run)
        text = comparison(changes, name, differ)
        (folder / "comparison.txt").write_text(text, encoding="utf-8")
    plots = draw(run, folder)
    page = html(run, figures, changes, name, differ, plots)
    (folder / "report.html").write_text(page, encoding="utf-8")
    if not plots:
        print("no plots: matplotlib is not installed", file=sys.stderr)
    return "".join(f"{each}\n" for each in kills(run, aftermath(run))) + text


def main() -> int:
    """Writes the report; see above."""
    parser = argparse.ArgumentParser(prog="load_test.report")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--before", type=Path)
    given = parser.parse_args()
    try:
        text = write(given.folder.resolve(), given.before and given.before.resolve())
    except (OSError, ValueError, KeyError) as error:
        print(f"no report: {error!r}", file=sys.stderr)
        return 1
    print(text, end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())

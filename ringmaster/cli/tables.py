"""What the terminal shows of a cluster: tables for people, one-line summaries for logs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ringmaster.cli.supervisor import Child

STYLES: Final = {
    "ok": "green",
    "up": "green",
    "left": "dim",
    "recovering": "cyan",
    "degraded": "yellow",
    "down": "red",
}
_TEXTS: Final = ("node", "state", "address")
_EXPENDABLE: Final = (
    "address",
    "process",
    "evicted",
    "hit rate",
    "replicas",
    "primaries",
    "entries",
)
"""Columns that a narrow terminal does without, in this order."""
_UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB")


def readable_bytes(count: float) -> str:
    """`1536` as `1.5 KiB`."""
    for unit in _UNITS[:-1]:
        if abs(count) < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} {_UNITS[-1]}"


def cluster_table(status: Mapping[str, Any], width: int | None = 120) -> RenderableType:
    """`GET /cluster` as a table of nodes and a line about the whole.

    What does not fit into `width` columns is left out, the least needed first; nothing is cut. None: no limit.
    """
    nodes = status.get("nodes", [])
    rows = [_node_row(node) for node in nodes]
    names = [name for name in _node_row({}) if any(row[name].plain for row in rows) or not rows]
    for name in _EXPENDABLE:
        if width is None or _width(names, rows) <= width:
            break
        if name in names:
            names.remove(name)
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 1, 0, 0))
    for name in names:
        justify: Any = "left" if name in _TEXTS else "right"
        table.add_column(name, justify=justify, no_wrap=True, min_width=_column(name, rows))
    for row in rows:
        table.add_row(*(row[name] for name in names))
    return Group(_headline(status), table)


def _width(names: Sequence[str], rows: Sequence[Mapping[str, Text]]) -> int:
    return sum(_column(name, rows) + 1 for name in names) - 1


def _column(name: str, rows: Sequence[Mapping[str, Text]]) -> int:
    return max([len(name), *(row[name].cell_len for row in rows)])


def children_table(children: tuple[Child, ...]) -> RenderableType:
    """The processes that are supervised."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("process", "state", "pid", "restarts"):
        table.add_column(name, justify="right" if name in ("pid", "restarts") else "left")
    for child in children:
        state = Text(child.state, style=STYLES.get(child.state, "yellow"))
        table.add_row(child.program.name, state, str(child.pid or ""), str(child.restarts or ""))
    return table


def summary(status: Mapping[str, Any]) -> str:
    """One line that changes only when something happened."""
    nodes = ", ".join(f"{node.get('id')} {node.get('state')}" for node in status.get("nodes", []))
    reasons = "; ".join(map(str, status.get("reasons") or []))
    return (
        f"{status.get('health', 'unknown')}: epoch {status.get('epoch')}, {nodes or 'no nodes'}"
        f"{f' ({reasons})' if reasons else ''}"
    )


def _headline(status: Mapping[str, Any]) -> Text:
    health = str(status.get("health", "unknown"))
    line = Text(health, style=f"bold {STYLES.get(health, 'yellow')}")
    line.append(
        f"  epoch {status.get('epoch')}, {status.get('partitions')} partitions, "
        f"{status.get('replicas')} copies each, controller {status.get('controller') or 'none'}",
        style="default",
    )
    if lacking := status.get("under_replicated"):
        line.append(f", {lacking} partitions lack copies", style="yellow")
    rebalance = status.get("rebalance") or {}
    if rebalance.get("active"):
        line.append(f", {rebalance.get('moving')} partitions moving", style="yellow")
    for reason in status.get("reasons") or []:
        line.append(f"\n{reason}", style="yellow")
    return line


def _node_row(node: Mapping[str, Any]) -> dict[str, Text]:
    """`memory`: what the entries take, of what they can have; `process`: all that the process takes, of its budget."""
    state = str(node.get("state", "unknown"))
    reads = node.get("hits", 0) + node.get("misses", 0)
    used, budget = node.get("bytes", 0), node.get("max_bytes", 0)
    usable, process = node.get("usable_bytes") or budget, node.get("process_bytes", 0)
    gone = state in ("left", "down")
    cells = {
        "node": str(node.get("id")),
        "state": state,
        "address": str(node.get("address", "")),
        "primaries": f"{node.get('primaries', 0):,}",
        "replicas": f"{node.get('replicas', 0):,}",
        "filling": f"{node['filling']:,}" if node.get("filling") else "",
        "entries": f"{node.get('entries', 0):,}",
        "memory": "" if gone else f"{readable_bytes(used)} of {readable_bytes(usable)}",
        "process": f"{readable_bytes(process)} of {readable_bytes(budget)}" if process else "",
        "hit rate": f"{node.get('hits', 0) / reads:.1%}" if reads else "",
        "evicted": f"{node.get('evictions', 0):,}",
    }
    return {
        name: Text(text, style=STYLES.get(text, "yellow") if name == "state" else "")
        for name, text in cells.items()
    }

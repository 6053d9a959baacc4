"""What the terminal shows of a cluster: tables for people, one-line summaries for logs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ringmaster.cli.supervisor import Child

_STYLES: Final = {"ok": "green", "up": "green", "left": "dim", "degraded": "yellow", "down": "red"}
_TEXTS: Final = ("node", "state", "address")
_UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB")


def readable_bytes(count: float) -> str:
    """`1536` as `1.5 KiB`."""
    for unit in _UNITS[:-1]:
        if abs(count) < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} {_UNITS[-1]}"


def cluster_table(status: Mapping[str, Any], width: int = 120) -> RenderableType:
    """`GET /cluster` as a table of nodes and a line about the whole. Addresses are left out of less than 100 columns."""
    nodes = status.get("nodes", [])
    narrow = width < 100
    left_out = {"address"} if narrow else set()
    if not any(node.get("filling") for node in nodes):
        left_out.add("filling")
    rows = [_node_row(node) for node in nodes]
    table = Table(box=None, header_style="bold", pad_edge=False, collapse_padding=narrow)
    for name in _node_row({}):
        if name not in left_out:
            table.add_column(name, justify="left" if name in _TEXTS else "right", no_wrap=True)
    for row in rows:
        table.add_row(*(cell for name, cell in row.items() if name not in left_out))
    return Group(_headline(status), table)


def children_table(children: tuple[Child, ...]) -> RenderableType:
    """The processes that are supervised."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("process", "state", "pid", "restarts"):
        table.add_column(name, justify="right" if name in ("pid", "restarts") else "left")
    for child in children:
        state = Text(child.state, style=_STYLES.get(child.state, "yellow"))
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
    line = Text(health, style=f"bold {_STYLES.get(health, 'yellow')}")
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


def _node_row(node: Mapping[str, Any]) -> dict[str, RenderableType]:
    state = str(node.get("state", "unknown"))
    reads = node.get("hits", 0) + node.get("misses", 0)
    used, budget = node.get("bytes", 0), node.get("max_bytes", 0)
    return {
        "node": str(node.get("id")),
        "state": Text(state, style=_STYLES.get(state, "yellow")),
        "address": str(node.get("address", "")),
        "primaries": f"{node.get('primaries', 0):,}",
        "replicas": f"{node.get('replicas', 0):,}",
        "filling": f"{node.get('filling', 0):,}",
        "entries": f"{node.get('entries', 0):,}",
        "memory": f"{readable_bytes(used)} of {readable_bytes(budget)}",
        "hit rate": f"{node.get('hits', 0) / reads:.1%}" if reads else "",
        "evicted": f"{node.get('evictions', 0):,}",
    }

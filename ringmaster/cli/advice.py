"""`ringmaster advise`: what the hit ratio would be with other sizes and policies."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import typer

from ringmaster.cli.operate import Json, Timeout, Token, Url, connected, print_json
from ringmaster.cli.tables import readable_bytes
from ringmaster.client.reply import DEFAULT_URL

_PART = 0.95


def advise(
    url: Url = DEFAULT_URL, timeout: Timeout = 10.0, token: Token = None, json: Json = False
) -> None:
    """Say what the hit ratio would be with other memory, more or fewer nodes, and other policies of eviction."""
    with connected(url, timeout, token) as client:
        answer = client.advice()
    if json or not isinstance(answer, dict):
        print_json(answer)
        return
    for line in advice_lines(answer):
        typer.echo(line)


def advice_lines(answer: Mapping[str, Any]) -> Iterator[str]:
    """`GET /cluster/advice` for people."""
    ratio = answer.get("hit_ratio")
    measured = (
        "no reads yet"
        if ratio is None
        else f"{ratio:.1%} of {answer.get('reads') or 0:,} reads hit"
    )
    yield (
        f"{answer.get('policy')}, {readable_bytes(answer.get('entry_bytes') or 0)} for entries: {measured} "
        f"in {answer.get('window_s') or 0:,.0f} s, {answer.get('sampled') or 0:,} of them sampled"
    )
    if unreachable := answer.get("unreachable"):
        yield f"no answer from {', '.join(unreachable)}"
    if not answer.get("enough"):
        yield str(answer.get("reason"))
        return
    for title, rows in (
        ("with other memory", [(_memory(row), row) for row in answer.get("sizes") or []]),
        ("with more or fewer nodes", [(_nodes(row), row) for row in answer.get("scaling") or []]),
        ("by other policies", [(row["policy"], row) for row in answer.get("policies") or []]),
    ):
        if rows:
            yield ""
            yield f"{title:<26}{'hit ratio':>10}{'against now':>13}{'error':>9}  for entries"
            yield from (_line(name, row) for name, row in rows)


def _memory(row: Mapping[str, Any]) -> str:
    return f"{row['memory']:g} x"


def _nodes(row: Mapping[str, Any]) -> str:
    return f"{row['node_count']} node{'' if row['node_count'] == 1 else 's'}"


def _line(name: str, row: Mapping[str, Any]) -> str:
    entries = readable_bytes(row["entry_bytes"])
    # A model that has room left holds all there is, or has not been filled yet.
    note = f", {row['filled']:.0%} used" if row["filled"] < _PART else ""
    if row["hit_ratio"] is None:
        return f"  {name:<24}{'too few requests yet':>32}  {entries}"
    return (
        f"  {name:<24}{row['hit_ratio']:>10.1%}{100 * row['gain']:>+13.1f}"
        f"{100 * row['error']:>9.1f}  {entries}{note}"
    )

"""`ringmaster explain` and `ringmaster evictions`: why keys are not there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from ringmaster.cli.operate import Json, Key, Timeout, Token, Url, connected, print_json
from ringmaster.client.reply import DEFAULT_URL


def explain(
    key: Key,
    url: Url = DEFAULT_URL,
    timeout: Timeout = 10.0,
    token: Token = None,
    json: Json = False,
) -> None:
    """Say why a key is not there: expired, evicted, deleted, invalidated, lost, or not known."""
    with connected(url, timeout, token) as client:
        answer = client.explain(key)
    if json or not isinstance(answer, dict):
        print_json(answer)
        return
    typer.echo(f"{answer.get('state')}: {answer.get('detail')}")
    if (entry := answer.get("entry")) is not None:
        typer.echo(_described(answer, entry))


def evictions(
    limit: Annotated[
        int, typer.Option(min=1, max=1000, metavar="number", help="How many at most.")
    ] = 20,
    url: Url = DEFAULT_URL,
    timeout: Timeout = 10.0,
    token: Token = None,
    json: Json = False,
) -> None:
    """Show whose entries were evicted for whose writes, by prefixes of keys."""
    with connected(url, timeout, token) as client:
        answer = client.evictions(limit)
    if json or not isinstance(answer, dict):
        print_json(answer)
        return
    typer.echo(f"{'evictions':>10}  {'evicted':<32}  for writes of")
    for row in answer.get("evictions") or []:
        typer.echo(f"{row['count']:>10,}  {row['prefix']:<32}  {row['by'] or '-'}")
    for node in answer.get("nodes") or []:
        typer.echo(f"{node['id']}: {node['evictions']:,} evictions since {node['since']}")
    if unreachable := answer.get("unreachable"):
        typer.echo(f"no answer from {', '.join(unreachable)}")


def _described(answer: Mapping[str, Any], entry: Mapping[str, Any]) -> str:
    """What there is of the key."""
    ttl = entry.get("ttl")
    expiry = "never expires" if ttl is None else f"expires in {ttl:,.1f} s"
    tags = ", ".join(entry.get("tags") or []) or "none"
    return (
        f"version {entry.get('version')} on {answer.get('node')}, {entry.get('value_bytes')} bytes of "
        f"{entry.get('content_type')}, {expiry}, tags: {tags}"
    )

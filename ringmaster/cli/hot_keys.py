"""`ringmaster hotkeys`: the keys that are read most."""

from __future__ import annotations

from typing import Annotated

import typer

from ringmaster.cli.operate import Json, Timeout, Token, Url, connected, print_json
from ringmaster.client.reply import DEFAULT_URL


def hotkeys(
    limit: Annotated[
        int, typer.Option(min=1, max=1000, metavar="number", help="How many at most.")
    ] = 20,
    url: Url = DEFAULT_URL,
    timeout: Timeout = 10.0,
    token: Token = None,
    json: Json = False,
) -> None:
    """Show which keys are read most: reads a second, node, partition, and how many masters hold copies."""
    with connected(url, timeout, token) as client:
        answer = client.hot_keys(limit)
    if json or not isinstance(answer, dict):
        print_json(answer)
        return
    typer.echo(f"{'reads/s':>10}  {'copies':>6}  {'partition':>9}  {'node':<12}  key")
    for row in answer.get("hot_keys") or []:
        typer.echo(
            f"{row['reads_per_s']:>10,.1f}  {row['copies']:>6}  {row['partition']:>9}  "
            f"{row['node']:<12}  {row['key']}"
        )
    if unreachable := answer.get("unreachable"):
        typer.echo(f"no answer from {', '.join(unreachable)}")

"""`ringmaster size`: how many nodes, or how much memory, for so many entries."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer

from ringmaster.cli.operate import Json, print_json
from ringmaster.cli.sizing import Plan, plan
from ringmaster.cli.tables import readable_bytes
from ringmaster.config.quantities import format_size, parse_size
from ringmaster.errors import SettingsError


def size(
    entries: Annotated[
        str,
        typer.Option("--entries", metavar="number", help="How many there are to be: 5000000, 5M."),
    ],
    value: Annotated[
        str, typer.Option("--value", metavar="size", help="The average size of a value: 800, 2KB.")
    ],
    key: Annotated[
        str, typer.Option("--key", metavar="size", help="The average size of a key.")
    ] = "32",
    replicas: Annotated[
        int, typer.Option("--replicas", min=1, max=8, metavar="number", help="Copies of each.")
    ] = 2,
    spare: Annotated[
        int,
        typer.Option(
            "--spare", min=0, max=255, metavar="number", help="Nodes that may be gone at one time."
        ),
    ] = 1,
    nodes: Annotated[
        int | None,
        typer.Option("--nodes", min=1, max=256, metavar="number", help="How many nodes there are."),
    ] = None,
    max_memory: Annotated[
        str | None,
        typer.Option("--max-memory", metavar="size", help="The budget of each: 256MB, 2GB."),
    ] = None,
    json: Json = False,
) -> None:
    """Say how much memory each of so many nodes needs, or how many nodes of so much memory it takes, to hold so many entries.

    Asks no cluster. Give either --nodes or --max-memory. docs/sizing.md has the formula.
    """
    if (nodes is None) == (max_memory is None):
        raise SettingsError("give either --nodes or --max-memory; the other is what comes out")
    try:
        found = plan(
            parse_size(entries),
            parse_size(key),
            parse_size(value),
            replicas=replicas,
            spare=spare,
            nodes=nodes,
            node_bytes=None if max_memory is None else parse_size(max_memory),
        )
    except ValueError as error:
        raise SettingsError(str(error)) from error
    if json:
        print_json(asdict(found))
        return
    for line in lines(found):
        typer.echo(line)


def lines(found: Plan) -> list[str]:
    """`found` for people."""
    told: list[tuple[str, Any]] = [
        ("an entry costs", f"{found.entry_bytes:,} bytes of memory, {found.replicas} times"),
        ("all of them", f"{readable_bytes(found.total_bytes)}, an uneven share included"),
        ("nodes", f"{found.nodes}, of which {found.spare} may be gone"),
        ("--max-memory", f"{format_size(found.node_bytes)} each"),
        ("for entries", f"{readable_bytes(found.usable_bytes)} of that"),
    ]
    first = f"{found.entries:,} entries, keys of {found.key_bytes:,} bytes and values of {found.value_bytes:,}"
    return [first, *(f"  {name:<16}{text}" for name, text in told)]

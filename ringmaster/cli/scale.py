"""`ringmaster scale`: more or fewer nodes for a `ringmaster up` that runs."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from ringmaster.cli.control_socket import ask_up
from ringmaster.cli.exit_codes import UNAVAILABLE
from ringmaster.cli.nodes import POLL_S, Progress, wait_until_drained
from ringmaster.cli.operate import Json, Timeout, Token, complain, connected, ending, say
from ringmaster.client.blocking import Client
from ringmaster.errors import BadRequest, RingmasterError

JOIN_S: Final = 120.0
_DEFAULT: Final = Path("data")


def scale(
    aux: Annotated[
        int,
        typer.Option(
            "--aux", min=1, max=256, help="How many nodes there shall be in all.", metavar="number"
        ),
    ],
    data_dir: Annotated[
        Path,
        typer.Option(
            "--data-dir",
            envvar="RINGMASTER_DATA_DIR",
            help="The data dir of the `ringmaster up` that is meant.",
        ),
    ] = _DEFAULT,
    force: Annotated[
        bool,
        typer.Option("--force", help="Remove nodes even if the others are too few for all copies."),
    ] = False,
    timeout: Timeout = 10.0,
    token: Token = None,
    json: Json = False,
) -> None:
    """Give a `ringmaster up` that runs on this host more nodes, or fewer.

    More: the new ones are started; the command returns when they hold data. Fewer: those with the highest numbers are
    drained, which moves their entries to the others, and stopped; it returns when they have left. Nothing is
    removed if the others are too few for all copies (409), unless forced. The next `ringmaster up` starts as many as its
    own --aux says.
    """
    with ending():
        now = ask_up(data_dir, {"do": "show"})
    with connected(str(now["url"]), timeout, token) as client:
        nodes = list(now["nodes"])
        if aux < len(nodes):
            _remove(client, data_dir, nodes[aux:], force=force)
        elif aux > len(nodes):
            _check_access(client)
            found = ask_up(data_dir, {"do": "scale", "aux": aux})["nodes"]
            _wait_until_up(client, list(found)[len(nodes) :])
    say({"nodes": [f"aux{number}" for number in range(1, aux + 1)]}, f"{aux} nodes", json=json)


def _check_access(client: Client) -> None:
    """Raises `BadRequest` if the cluster would not show what becomes of new nodes. Whether it answers just now does not matter."""
    try:
        client.cluster()
    except BadRequest:
        raise
    except RingmasterError:
        pass


def _remove(client: Client, data_dir: Path, names: list[str], *, force: bool) -> None:
    """Drain them all, stop them, and forget them. Nothing is done if one of the drains is refused."""
    asked: list[str] = []
    try:
        for name in reversed(names):
            client.drain(name, force=force)
            asked.append(name)
    except BadRequest:
        for name in asked:
            client.drain(name, undo=True)
        raise
    for name in asked:
        wait_until_drained(client, name)
    count = int(names[0].removeprefix("aux")) - 1
    ask_up(data_dir, {"do": "scale", "aux": count})
    for name in asked:
        _forget(client, name)


def _forget(client: Client, name: str) -> None:
    """Also drops the request to drain it, so that it takes part when it is added again."""
    deadline = time.monotonic() + JOIN_S
    while True:
        try:
            client.forget(name)
            return
        except BadRequest:
            # The view does not say yet that it has left.
            if time.monotonic() >= deadline:
                raise
        time.sleep(POLL_S)


def _wait_until_up(client: Client, names: list[str]) -> None:
    """Until they hold data and nothing moves any more."""
    deadline = time.monotonic() + JOIN_S
    with Progress() as progress:
        while True:
            try:
                status: dict[str, Any] = client.cluster()
            except RingmasterError as error:
                progress.show(str(error))
            else:
                rows = {row["id"]: row for row in status["nodes"]}
                found = [rows[name] for name in names if name in rows]
                if len(found) == len(names) and all(
                    row["state"] == "up" and row["primaries"] for row in found
                ):
                    return
                held = sum(row["primaries"] + row["replicas"] for row in found)
                progress.show(f"{', '.join(names)}: {held} copies so far")
            if time.monotonic() >= deadline:
                complain("scale", f"after {JOIN_S:g} s not all take part: {', '.join(names)}")
                raise typer.Exit(UNAVAILABLE)
            time.sleep(POLL_S)

"""The commands about members of a running cluster: `drain undrain forget`."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final

import typer

from ringmaster.cli.exit_codes import NO, UNAVAILABLE
from ringmaster.cli.operate import (
    Json,
    Node,
    Timeout,
    Token,
    Url,
    complain,
    connected,
    print_json,
    say,
)
from ringmaster.cli.tables import readable_bytes
from ringmaster.client.blocking import Client
from ringmaster.client.reply import DEFAULT_URL, path_segment
from ringmaster.errors import LinkError, Unserved

POLL_S: Final = 0.5
NOTICED_S: Final = 10.0
"""The controller acts on a request within a fraction of a second; after this long it was taken back."""

STALL_S: Final = 60.0
"""A drain of which nothing has moved for so long needs somebody to look at it."""

SAY_EVERY_S: Final = 5.0

_DRAINED: Final = {"drained": "is drained: it may stop", "left": "has left"}


def drain(
    node: Node,
    wait: Annotated[
        bool,
        typer.Option(
            "--wait/--no-wait",
            help="Return when it may be stopped, with progress until then, or at once.",
        ),
    ] = True,
    force: Annotated[
        bool,
        typer.Option("--force", help="Drain it even if the others are too few for all copies."),
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Change nothing; say how much would move and about how long it takes."
        ),
    ] = False,
    url: Url = DEFAULT_URL,
    timeout: Timeout = 10.0,
    token: Token = None,
    json: Json = False,
) -> None:
    """Move everything off a node; after that it may be stopped without a miss."""
    with connected(url, timeout, token) as client:
        if dry_run:
            _forecast(client, node, json=json)
            return
        if not client.drain(node, force=force):
            complain("drain", f"no such node: {node}")
            raise typer.Exit(NO)
        state = wait_until_drained(client, node) if wait else "draining"
    say({"node": node, "state": state}, f"{node} {_DRAINED[state]}" if wait else "", json=json)


def undrain(
    node: Node,
    url: Url = DEFAULT_URL,
    timeout: Timeout = 10.0,
    token: Token = None,
    json: Json = False,
) -> None:
    """Let a node that drains, or is drained, hold data again."""
    with connected(url, timeout, token) as client:
        if not client.drain(node, undo=True):
            complain("undrain", f"no such node: {node}")
            raise typer.Exit(NO)
    say({"node": node, "draining": False}, json=json)


def forget(
    node: Node,
    url: Url = DEFAULT_URL,
    timeout: Timeout = 10.0,
    token: Token = None,
    json: Json = False,
) -> None:
    """Strike a node that is down for good, or has left, off the cluster's list; it can join again."""
    with connected(url, timeout, token) as client:
        if not client.forget(node):
            complain("forget", f"no such node: {node}")
            raise typer.Exit(NO)
        deadline = time.monotonic() + timeout
        while _row(client, node) is not None:
            if time.monotonic() >= deadline:
                complain("forget", f"{node} is still listed; is a master the controller?")
                raise typer.Exit(UNAVAILABLE)
            time.sleep(POLL_S / 5)
    say({"node": node, "forgotten": True}, json=json)


def _forecast(client: Client, node: str, *, json: bool) -> None:
    reply = client.request("POST", f"/cluster/nodes/{path_segment(node)}/drain?dry_run=1")
    if reply.status == 404:
        complain("drain", f"no such node: {node}")
        raise typer.Exit(NO)
    found = reply.json()
    if json:
        print_json(found)
        return
    typer.echo(
        f"{node}: {found['copies']} copies with {readable_bytes(found['bytes'])} would move to "
        f"other nodes ({found['stay']}) in about {found['seconds']:g} s"
    )
    if found["too_few_copies"]:
        typer.echo(f"{found['too_few_copies']} partitions would have too few copies: needs --force")


def wait_until_drained(client: Client, node: str) -> str:
    """Returns once `node` is `drained`, so that it may stop, or has `left`, and says which. Ends the command if that is not going to happen."""
    with Progress() as progress:
        began = moved_at = time.monotonic()
        copies = -1
        while True:
            row, now = _look(client, node), time.monotonic()
            if row is None or row["state"] in ("drained", "left"):
                break
            left = row.get("primaries", 0) + row.get("replicas", 0) + row.get("filling", 0)
            if left != copies:
                copies, moved_at = left, now
            if row["state"] == "up" and now - began > NOTICED_S:
                _give_up(f"{node} does not drain any more; somebody took it back", NO)
            if row["state"] == "down":
                _give_up(f"{node} went down before it was drained", UNAVAILABLE)
            if now - moved_at > STALL_S:
                _give_up(
                    f"nothing has moved for {STALL_S:g} s, {left} copies are left on {node}; "
                    "it goes on draining, see `ringmaster status`",
                    UNAVAILABLE,
                )
            progress.show(f"{node}: {left} copies, {readable_bytes(row.get('bytes', 0))} left")
            time.sleep(POLL_S)
    return "left" if row is None else str(row["state"])


def _look(client: Client, node: str) -> Mapping[str, Any] | None:
    """The node's row; one that says nothing while the cluster does not answer, None if it is not listed."""
    try:
        return _row(client, node)
    except (LinkError, Unserved):
        return {"state": "unknown"}


def _row(client: Client, node: str) -> Mapping[str, Any] | None:
    rows: list[dict[str, Any]] = client.cluster()["nodes"]
    return next((row for row in rows if row["id"] == node), None)


def _give_up(sentence: str, code: int) -> None:
    complain("drain", sentence)
    raise typer.Exit(code)


class Progress:
    """One line on standard error that changes: in place on a terminal, else again every `SAY_EVERY_S`."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._live = sys.stderr.isatty()
        self._said = ""
        self._said_at = -SAY_EVERY_S

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._live and self._said:
            sys.stderr.write("\r\x1b[K")

    def show(self, sentence: str) -> None:
        """Say where it is now."""
        now = self._clock()
        if sentence == self._said or (not self._live and now - self._said_at < SAY_EVERY_S):
            return
        self._said, self._said_at = sentence, now
        sys.stderr.write(f"\r\x1b[K{sentence}" if self._live else f"{sentence}\n")
        sys.stderr.flush()

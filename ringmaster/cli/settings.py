"""`ringmaster settings`: what can change while the cluster runs; `set` and `reset` change it."""

from __future__ import annotations

import json as json_text
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Final

import typer

from ringmaster.cli.exit_codes import NO
from ringmaster.cli.operate import Json, Timeout, Token, Url, complain, connected, print_json
from ringmaster.cli.streams import text_of
from ringmaster.client.blocking import Client
from ringmaster.client.reply import DEFAULT_URL
from ringmaster.config.quantities import format_size
from ringmaster.errors import SettingsError

FOLLOW_S: Final = 10.0
"""How long to wait until every process follows."""

_POLL_S: Final = 0.2

app = typer.Typer(
    name="settings",
    help="Show or change settings while the cluster runs.",
    short_help="Show or change settings while the cluster runs.",
    add_completion=False,
    rich_markup_mode=None,
)

NoWait = Annotated[
    bool, typer.Option("--no-wait", help="Return at once, not when every process follows.")
]
IfVersion = Annotated[
    str | None,
    typer.Option(
        "--if-version",
        help="Only if this is still the version, as --json shows it: nobody has changed a setting since.",
    ),
]


@app.callback(invoke_without_command=True)
def show(
    context: typer.Context,
    url: Url = DEFAULT_URL,
    timeout: Timeout = 10.0,
    token: Token = None,
    json: Json = False,
) -> None:
    """Show what can change while the cluster runs: value, where it comes from, range; `set` and `reset` change it."""
    if context.invoked_subcommand is not None:
        return
    with connected(url, timeout, token) as client:
        _print(client.settings(), json=json)


@app.command("set", short_help="Set some, also for processes that start later.")
def set_values(
    values: Annotated[
        list[str],
        typer.Argument(
            metavar="name=value...", help="Such as max_memory=512MB.", show_default=False
        ),
    ],
    url: Url = DEFAULT_URL,
    timeout: Timeout = 10.0,
    token: Token = None,
    if_version: IfVersion = None,
    no_wait: NoWait = False,
    json: Json = False,
) -> None:
    """Set these, also for processes that start later; wait until all follow."""
    changes: dict[str, Any] = {}
    with connected(url, timeout, token) as client:
        for each in values:
            name, equals, value = text_of(each).partition("=")
            if not equals:
                raise SettingsError(f"{each!r}: write NAME=VALUE, such as max_memory=512MB")
            changes[_name(name)] = _number(value)
        _change(client, changes, if_version, wait=not no_wait, json=json)


@app.command("reset", short_help="Take some back to what processes were started with.")
def reset(
    names: Annotated[
        list[str],
        typer.Argument(metavar="name...", help="The names of the settings.", show_default=False),
    ],
    url: Url = DEFAULT_URL,
    timeout: Timeout = 10.0,
    token: Token = None,
    if_version: IfVersion = None,
    no_wait: NoWait = False,
    json: Json = False,
) -> None:
    """Take these back to what each process was started with."""
    with connected(url, timeout, token) as client:
        changes = dict.fromkeys(_name(text_of(each)) for each in names)
        _change(client, changes, if_version, wait=not no_wait, json=json)


def _change(
    client: Client, changes: Mapping[str, Any], version: str | None, *, wait: bool, json: bool
) -> None:
    state = client.change_settings(changes, if_match=None if version is None else text_of(version))
    if state is None:
        complain("settings", "somebody has changed the settings since that version; look again")
        raise typer.Exit(NO)
    deadline = time.monotonic() + FOLLOW_S
    while wait and not state.get("followed") and time.monotonic() < deadline:
        time.sleep(_POLL_S)
        state = client.settings()
    if json:
        print_json(state)
    else:
        rows = {row["name"]: row for row in state.get("settings") or []}
        for name in changes:
            typer.echo(_line(rows.get(name, {"name": name}), len(name)))
    if wait and not state.get("followed"):
        complain("settings", f"changed, but {_laggards(state)}")
        raise typer.Exit(NO)


def _print(state: Any, *, json: bool) -> None:
    if json or not isinstance(state, dict):
        print_json(state)
        return
    for line in settings_lines(state):
        typer.echo(line)


def settings_lines(state: Mapping[str, Any]) -> Iterator[str]:
    """`GET /cluster/settings` for people."""
    rows: Sequence[Mapping[str, Any]] = state.get("settings") or []
    width = max((len(str(row["name"])) for row in rows), default=0)
    for row in rows:
        yield _line(row, width)
    if not state.get("followed"):
        yield ""
        yield _laggards(state)


def _line(row: Mapping[str, Any], width: int) -> str:
    """`max_memory  512MB      run time (started with 256MB)   from 96MiB to 16TiB`."""
    unit = str(row.get("unit") or "")
    note = ""
    if row.get("differing"):
        note = ", ".join(f"{name} {shown(v, unit)}" for name, v in row["differing"].items())
        note = f" (started with: {note})"
    elif row.get("source") == "run time":
        note = f" (started with {shown(row.get('started'), unit)})"
    text = (
        f"{row['name']:<{width}}  {shown(row.get('value'), unit):<12} {row.get('source', '')}{note}"
    )
    return text.rstrip()


def shown(value: Any, unit: str) -> str:
    """A value as people write it."""
    if value is None:
        return "-"
    if value == "":
        return "none"
    if unit.startswith("bytes"):
        return format_size(int(value)) + unit.removeprefix("bytes")
    if isinstance(value, (int, float)):
        return f"{value:g}s" if unit == "s" else f"{value:g}"
    return str(value)


def _laggards(state: Mapping[str, Any]) -> str:
    late = [row["id"] for row in state.get("processes") or [] if row.get("follows") is not True]
    return f"{', '.join(late) or 'not every process'} did not say yet that it follows"


def _name(text: str) -> str:
    """As in the settings file; a flag's form is understood."""
    return text.strip().removeprefix("--").replace("-", "_")


def _number(text: str) -> Any:
    try:
        number = json_text.loads(text)
    except ValueError:
        return text
    return number if isinstance(number, (int, float)) and not isinstance(number, bool) else text

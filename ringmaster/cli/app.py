"""The commands of `ringmaster`."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from typing import Annotated, Final, NoReturn

import typer

from ringmaster import __version__
from ringmaster.cli import nodes, operate, snapshots, token
from ringmaster.cli.chaos import chaos
from ringmaster.cli.options import settings_command
from ringmaster.cli.redis_password import redis_password
from ringmaster.cli.scale import scale
from ringmaster.cli.streams import USAGE
from ringmaster.cli.up import up
from ringmaster.config.settings import UpSettings

_PASS_ON: Final = {
    "ignore_unknown_options": True,
    "allow_extra_args": True,
    "help_option_names": [],
}

app = typer.Typer(
    name="ringmaster",
    help="A distributed cache with an HTTP API that never serves a stale value.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """A distributed cache with an HTTP API that never serves a stale value."""
    if version:
        typer.echo(f"ringmaster {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit(USAGE)


app.command("up")(settings_command(UpSettings, up))


@app.command("master", context_settings=_PASS_ON)
def master(context: typer.Context) -> None:
    """Run one master; `ringmaster master --help` lists its options."""
    _become("master", context.args)


@app.command("aux", context_settings=_PASS_ON)
def aux(context: typer.Context) -> None:
    """Run one node; `ringmaster aux --help` lists its options."""
    _become("aux", context.args)


app.command("get")(operate.get)
app.command("put")(operate.put)
app.command("delete")(operate.delete)
app.command("invalidate")(operate.invalidate)
app.command("status")(operate.status)
app.command("locate")(operate.locate)
app.command("drain")(nodes.drain)
app.command("undrain")(nodes.undrain)
app.command("forget")(nodes.forget)
app.command("scale")(scale)
app.command("redis-password")(redis_password)
app.add_typer(snapshots.app)
app.add_typer(token.app)
app.command("chaos")(chaos)


def _become(module: str, arguments: list[str]) -> NoReturn:
    """Turn into the service: this package imports neither of the two."""
    if find_spec(module) is None:
        sys.stderr.write(
            f"ringmaster {module}: the service is not installed here; run it in a checkout\n"
        )
        raise SystemExit(USAGE)
    os.execv(sys.executable, [sys.executable, "-P", "-m", module, *arguments])  # noqa: S606 - no shell is meant

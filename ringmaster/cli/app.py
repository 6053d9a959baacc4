"""The commands of `ringmaster`."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from typing import Annotated, Final, NoReturn

import typer

from ringmaster.cli import nodes, operate, settings, snapshots, token
from ringmaster.cli.advice import advise
from ringmaster.cli.assistant.command import mcp
from ringmaster.cli.chaos import chaos
from ringmaster.cli.completion import completion
from ringmaster.cli.demo.command import demo
from ringmaster.cli.diagnose.command import OWN_OPTIONS as DIAGNOSE_OPTIONS
from ringmaster.cli.diagnose.command import diagnose
from ringmaster.cli.doctor.command import OWN_OPTIONS, doctor
from ringmaster.cli.exit_codes import USAGE
from ringmaster.cli.explain import evictions, explain
from ringmaster.cli.hot_keys import hotkeys
from ringmaster.cli.options import SETTINGS_EPILOG, settings_command
from ringmaster.cli.redis_password import redis_password
from ringmaster.cli.scale import scale
from ringmaster.cli.size import size
from ringmaster.cli.top.command import top
from ringmaster.cli.up import up
from ringmaster.config.settings import UpSettings
from ringmaster.runtime.compiled import full_version

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
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version, and whether the hot modules are compiled."
        ),
    ] = False,
) -> None:
    """A distributed cache with an HTTP API that never serves a stale value."""
    if version:
        typer.echo(f"ringmaster {full_version()}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit(USAGE)


app.command("up", epilog=SETTINGS_EPILOG, short_help="Run a local cluster: nodes, masters, nginx.")(
    settings_command(UpSettings, up)
)


@app.command("master", context_settings=_PASS_ON, short_help="Run one master, which serves HTTP.")
def master(context: typer.Context) -> None:
    """Run one master, which serves HTTP; `ringmaster master --help` lists its options."""
    _become("master", context.args)


@app.command("aux", context_settings=_PASS_ON, short_help="Run one node, which keeps entries.")
def aux(context: typer.Context) -> None:
    """Run one node, which keeps entries; `ringmaster aux --help` lists its options."""
    _become("aux", context.args)


app.command("get")(operate.get)
app.command("put")(operate.put)
app.command("delete")(operate.delete)
app.command("invalidate")(operate.invalidate)
app.command("status", short_help="Show the nodes and the health of the cluster.")(operate.status)
app.command("top", short_help="Show a cluster live, full screen.")(top)
app.command("locate", short_help="Show which nodes hold a key.")(operate.locate)
app.command("explain", short_help="Say why a key is not there.")(explain)
app.command("eviction", short_help="Show or change how nodes choose what to evict.")(
    operate.eviction
)
app.command("advise", short_help="Say what other sizes and policies would hit.")(advise)
app.command("size", short_help="Say how many nodes, or how much memory, entries need.")(size)
app.command("hotkeys", short_help="Show which keys are read most.")(hotkeys)
app.command("evictions", short_help="Show whose entries were evicted for whose writes.")(evictions)
app.command("drain", short_help="Move everything off a node, to stop it.")(nodes.drain)
app.command("undrain")(nodes.undrain)
app.command("forget", short_help="Strike a node that is gone off the list.")(nodes.forget)
app.command("scale", short_help="Change how many nodes a local cluster has.")(scale)
app.command("redis-password", short_help="Print the password for redis-cli.")(redis_password)
app.add_typer(settings.app)
app.add_typer(snapshots.app)
app.add_typer(token.app)
app.command(
    "doctor", epilog=SETTINGS_EPILOG, short_help="Check this machine, and say what to change."
)(settings_command(UpSettings, doctor, OWN_OPTIONS, "doctor"))
app.command(
    "diagnose",
    epilog=SETTINGS_EPILOG,
    short_help="Write an archive for a report, without secrets.",
)(settings_command(UpSettings, diagnose, DIAGNOSE_OPTIONS, "diagnose"))
app.command("demo", short_help="Show what becomes of the data when nodes come and go.")(demo)
app.command("chaos", short_help="Break a cluster on purpose, and measure.")(chaos)
app.command("mcp", short_help="Serve the cluster to an assistant, read-only unless told.")(mcp)
app.command("completion", short_help="Print the script that completes words in a shell.")(
    completion
)


def _become(module: str, arguments: list[str]) -> NoReturn:
    """Turn into the service: this package imports neither of the two."""
    if find_spec(module) is None:
        sys.stderr.write(
            f"ringmaster {module}: the service is not installed here; run it in a checkout\n"
        )
        raise SystemExit(USAGE)
    os.execv(sys.executable, [sys.executable, "-P", "-m", module, *arguments])  # noqa: S606 - no shell is meant

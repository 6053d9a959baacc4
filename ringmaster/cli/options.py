"""Command-line options made from the settings, so that each is defined once."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Final, TypeVar

import typer

from ringmaster.cli.exit_codes import NO, USAGE
from ringmaster.cli.reference import SettingRow, setting_rows
from ringmaster.cli.streams import run_command
from ringmaster.config.cluster_settings import ClusterSettings
from ringmaster.config.settings import load_settings
from ringmaster.errors import RingmasterError, SettingsError
from ringmaster.runtime.logging import configure_logging
from ringmaster.runtime.stacks import offer_stacks

SETTINGS_EPILOG: Final = (
    "A size is in bytes or has a unit: 64kB, 256MB, 1GiB. A duration is in seconds or has a unit: 500ms, 10s, 5m. "
    "Each option can also be a variable, as RINGMASTER_MAX_MEMORY for --max-memory, or stand in the settings file: "
    "ringmaster.toml in the current folder, unless --config names another. The flag wins, then the variable. "
    "docs/configuration.md has it all."
)
"""What stands below the options."""

_S = TypeVar("_S", bound=ClusterSettings)


def settings_command(
    kind: type[_S],
    run: Callable[..., None],
    more: Sequence[inspect.Parameter] = (),
    name: str = "",
) -> Callable[..., None]:
    """A typer command whose options are the settings of `kind`; it calls `run` with them.

    `more`: options that `run` gets by name; `name`: of the command, if that is not the one of `kind`.

    An error of ours ends it with one line: `SettingsError`, from the settings or from `run`, with exit code 2, any
    other with 1.
    """

    def command(**flags: object) -> None:
        own = {each.name: flags.pop(each.name) for each in more}
        try:
            run(load_settings(kind, **flags), **own)
        except RingmasterError as error:
            sys.stderr.write(f"ringmaster {name or kind.command}: {error}\n")
            raise SystemExit(USAGE if isinstance(error, SettingsError) else NO) from None

    parameters = [*more, *(_parameter(row) for row in setting_rows(kind))]
    command.__doc__ = run.__doc__
    command.__annotations__ = {each.name: each.annotation for each in parameters}
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return command


def run_service(
    kind: type[_S], run: Callable[[_S], None], arguments: Sequence[str] | None = None
) -> None:
    """`python -m master` and `python -m aux`: read the command line, set logging up, call `run`. Does not return.

    Errors of ours that `run` raises end it as `settings_command` says.
    """

    def logged(settings: _S) -> None:
        bound = {"service": kind.command, "id": getattr(settings, "name", "")}
        configure_logging(settings.log_level, settings.log_format, **bound)
        offer_stacks()
        run(settings)

    logged.__doc__ = run.__doc__
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    app.command(epilog=SETTINGS_EPILOG)(settings_command(kind, logged))
    name = f"ringmaster {kind.command}"
    given = None if arguments is None else list(arguments)
    run_command(lambda: app(args=given, prog_name=name), name)


def as_flags(settings: ClusterSettings, names: Sequence[str]) -> list[str]:
    """The command line that gives another process the same values of `names`; settings that are unset are left out."""
    rows = {row.name: row for row in setting_rows(type(settings))}
    flags: list[str] = []
    for name in names:
        value = getattr(settings, name)
        if value is None:
            continue
        row = rows[name]
        if row.is_switch:
            flags.append(row.flag if value else f"--no-{row.flag[2:]}")
        elif isinstance(value, bool):
            flags += [row.flag, "on" if value else "off"]
        else:
            flags += [row.flag, str(value)]
    return flags


def _parameter(row: SettingRow) -> inspect.Parameter:
    declaration = f"{row.flag}/--no-{row.flag[2:]}" if row.is_switch else row.flag
    default = f" [default: {row.default}]" if row.default else ""
    option: Any = typer.Option(
        declaration,
        help=row.description.replace("`", "") + default,
        metavar=None if row.is_switch else row.kind.replace(", ", "|").replace(" or ", "|"),
        show_default=False,
    )
    kind: Any = bool if row.is_switch else str
    return inspect.Parameter(
        row.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[kind | None, option],
    )

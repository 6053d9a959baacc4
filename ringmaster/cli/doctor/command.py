"""`ringmaster doctor`: looks at this machine, and at a cluster if one is named, and says what to change."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.text import Text

from ringmaster.cli.doctor.checks import Finding, findings, worst
from ringmaster.cli.doctor.gather import gather
from ringmaster.cli.exit_codes import NO
from ringmaster.cli.operate import Json, print_json
from ringmaster.cli.streams import text_of
from ringmaster.config.settings import UpSettings

_STYLES: Final = {"ok": "green", "warn": "yellow", "bad": "red"}
_NO_WRAP: Final = 10_000


def _url_of(argument: str | None) -> str | None:
    return None if argument is None else text_of(argument)


_Url = Annotated[
    str | None,
    typer.Option(
        "--url",
        envvar="RINGMASTER_URL",
        help="Look at the cluster at this URL, too: its health, and the wall clocks of its nodes.",
        show_default=False,
        callback=_url_of,
    ),
]

OWN_OPTIONS: Final = tuple(
    inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)
    for name, default, kind in (("url", None, _Url), ("json", False, Json))
)
"""Beside the settings of `ringmaster up`."""


def doctor(settings: UpSettings, *, url: str | None, json: bool) -> None:
    """Check whether this machine suits a cluster with these settings, which are those of `ringmaster up`, and what to change.

    Changes nothing. Exit code 1 if something is bad.
    """
    found = findings(asyncio.run(gather(settings, url)))
    if json:
        rows: Any = [asdict(finding) for finding in found]
        print_json({"verdict": worst(found), "checks": rows})
    else:
        console = Console(highlight=False, width=_NO_WRAP)
        for line in report(found):
            console.print(line, soft_wrap=True)
    if worst(found) == "bad":
        raise typer.Exit(NO)


def report(found: Sequence[Finding]) -> Iterator[Text]:
    """A line each, and below it what to change."""
    width = max(len(finding.name) for finding in found)
    for finding in found:
        line = Text(f"{finding.verdict:<4}", style=_STYLES[finding.verdict])
        line.append(f"  {finding.name:<{width}}  {finding.figure}", style="default")
        yield line
        if finding.advice:
            yield Text(f"{'':4}  {'':{width}}  -> {finding.advice}")

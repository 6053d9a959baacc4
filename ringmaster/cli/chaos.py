"""`ringmaster chaos`: break a local cluster on purpose and say what its clients saw."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Annotated

import orjson
import typer
from rich.console import Console

from ringmaster.chaos.report import Result, plot, table
from ringmaster.chaos.run import run_scenario
from ringmaster.chaos.scenarios import SCENARIOS
from ringmaster.cli.options import FAILED, USAGE
from ringmaster.errors import RingmasterError

WIDTH = 120

_NAMES = ", ".join(scenario.name for scenario in SCENARIOS)


def chaos(
    names: Annotated[
        list[str] | None, typer.Argument(help=f"Which faults, of {_NAMES}. All by default.")
    ] = None,
    clients: Annotated[int, typer.Option(min=1, max=256, help="Concurrent clients.")] = 16,
    seed: Annotated[int, typer.Option(help="Of the load's choices.")] = 1,
    json: Annotated[Path | None, typer.Option(help="Write all figures to this file.")] = None,
    timeline: Annotated[
        Path | None, typer.Option("--plot", help="Draw the timelines into this svg or png.")
    ] = None,
) -> None:
    """Run faults against local clusters made for it, under load; exit code 1 if a bound is broken.

    Each fault gets a cluster of its own in a temporary folder, on free ports of the loopback address.
    """
    known = {scenario.name: scenario for scenario in SCENARIOS}
    for name in names or ():
        if name not in known:
            _say(f"no fault is called {name!r}; choose from {_NAMES}")
            raise typer.Exit(USAGE)
    console = Console(highlight=False, width=WIDTH)
    results: list[Result] = []
    for scenario in [known[name] for name in names or known]:
        console.print(f"{scenario.text} …")
        try:
            results.append(asyncio.run(run_scenario(scenario, clients, seed)))
        except RingmasterError as error:
            _say(f"{scenario.name} could not be run: {error}")
            raise typer.Exit(FAILED) from None
        for example in results[-1].examples:
            console.print(f"  {example}", markup=False)
    console.print(table(results))
    for result in results:
        if not result.passed:
            console.print(f"{result.text}: {'; '.join(result.failures)}", markup=False)
    if json is not None:
        json.write_bytes(orjson.dumps([result.as_json() for result in results]))
    if timeline is not None and not plot(results, timeline):
        console.print("no plot: matplotlib is not installed (pip install ringmaster[bench])")
    if not all(result.passed for result in results):
        raise typer.Exit(FAILED)


def _say(sentence: str) -> None:
    sys.stderr.write(f"ringmaster chaos: {sentence}\n")

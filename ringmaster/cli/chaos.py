"""`ringmaster chaos`: break a cluster on purpose and say what its clients saw."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated

import orjson
import typer
from rich.console import Console

from ringmaster.access.sender import token_from_environment, token_headers
from ringmaster.chaos.compose import ComposeTarget
from ringmaster.chaos.report import Result, plot, table
from ringmaster.chaos.run import local_target, run_scenario
from ringmaster.chaos.scenarios import SCENARIOS, Scenario
from ringmaster.chaos.target import Target
from ringmaster.cli.exit_codes import NO, USAGE
from ringmaster.cli.operate import Token, ending, print_json
from ringmaster.errors import RingmasterError

WIDTH = 120
STANDARD_OUTPUT = Path("-")

_NAMES = ", ".join(scenario.name for scenario in SCENARIOS)


def chaos(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            help=f"Faults, of {_NAMES}. Without any: all, one after the other.",
            metavar="fault",
        ),
    ] = None,
    clients: Annotated[
        int, typer.Option(min=1, max=256, metavar="number", help="How many clients make the load.")
    ] = 16,
    seed: Annotated[
        int,
        typer.Option(
            metavar="number", help="The same seed makes the same choices of keys and operations."
        ),
    ] = 1,
    json: Annotated[
        Path | None,
        typer.Option(
            help="Write all figures to this file, as JSON; `-` prints them, and nothing else."
        ),
    ] = None,
    timeline: Annotated[
        Path | None,
        typer.Option("--plot", help="Draw what happened over time into this file, .svg or .png."),
    ] = None,
    compose: Annotated[
        bool,
        typer.Option("--compose", help="Do it to the containers of a compose project that runs."),
    ] = False,
    compose_file: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="path", help="With --compose: the project's file; once for each of several."
        ),
    ] = None,
    project: Annotated[
        str, typer.Option(help="With --compose: the project's name, if it is not the folder's.")
    ] = "",
    token: Token = None,
) -> None:
    """Break a cluster on purpose, under load, and print what its clients saw; exit code 1 if a bound is broken.

    Each fault gets a local cluster of its own in a temporary folder, on free ports of the loopback address. With
    `--compose` they are done to the containers of a compose project that runs, which is left scaled as it was found.
    """
    known = {scenario.name: scenario for scenario in SCENARIOS}
    for name in names or ():
        if name not in known:
            _say(f"no fault is called {name!r}; choose from {_NAMES}")
            raise typer.Exit(USAGE)

    with ending():
        headers = token_headers(token or token_from_environment()) if compose else {}

    def target_of(scenario: Scenario) -> Target:
        if compose:
            return ComposeTarget(
                scenario.nodes, [str(file) for file in compose_file or ()], project, headers
            )
        return local_target(scenario)

    console = Console(highlight=False, width=WIDTH, quiet=json == STANDARD_OUTPUT)
    results: list[Result] = []
    for scenario in [known[name] for name in names or known]:
        if compose and scenario.local_only:
            console.print(f"{scenario.text}: not with --compose")
            continue
        console.print(f"{scenario.text} …")
        try:
            results.append(asyncio.run(_run(scenario, clients, seed, target_of, headers)))
        except RingmasterError as error:
            _say(f"{scenario.name} could not be run: {error}")
            raise typer.Exit(NO) from None
        for example in results[-1].examples:
            console.print(f"  {example}", markup=False)
    _print(console, results)
    if json is not None:
        _write_json(json, results)
    if timeline is not None and not plot(results, timeline):
        console.print("no plot: matplotlib is not installed (pip install ringmaster[bench])")
    if not all(result.passed for result in results):
        raise typer.Exit(NO)


def _write_json(path: Path, results: list[Result]) -> None:
    figures = [result.as_json() for result in results]
    if path == STANDARD_OUTPUT:
        print_json(figures)
    else:
        path.write_bytes(orjson.dumps(figures))


def _print(console: Console, results: list[Result]) -> None:
    console.print(table(results))
    for result in results:
        if result.p99_ratio:
            console.print(
                f"{result.text}: p99 {result.p99_rest_ms:g} ms at rest, {result.p99_moving_ms:g} ms "
                f"during the {result.moving_s:g} s in which data moved"
            )
        if not result.passed:
            console.print(f"{result.text}: {'; '.join(result.failures)}", markup=False)


async def _run(
    scenario: Scenario,
    clients: int,
    seed: int,
    target_of: Callable[[Scenario], Target],
    headers: Mapping[str, str],
) -> Result:
    return await run_scenario(scenario, clients, seed, target_of(scenario), headers)


def _say(sentence: str) -> None:
    sys.stderr.write(f"ringmaster chaos: {sentence}\n")

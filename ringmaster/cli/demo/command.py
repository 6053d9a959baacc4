"""`ringmaster demo`: a cluster under load loses a node, gets one, gets the lost one back; the figures are those of its clients."""

from __future__ import annotations

import asyncio
import os
import signal
import webbrowser
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Final, TypeVar

import msgspec
import typer

from ringmaster.access.sender import token_from_environment, token_headers
from ringmaster.chaos.load import BULK_ITEMS, Load
from ringmaster.chaos.local import LocalTarget
from ringmaster.cli.control_socket import POINTER_NAME, ask_up
from ringmaster.cli.demo.acts import (
    BALLAST_BYTES,
    CLIENTS,
    KEYS_EACH,
    PER_SECOND,
    PREFIX,
    Act,
    Say,
    Stage,
    Troupe,
    counted,
    sentence,
    whole,
)
from ringmaster.cli.demo.beside import BesideTarget
from ringmaster.cli.exit_codes import INTERRUPTED, NO
from ringmaster.cli.operate import Json, Token, ending, print_json
from ringmaster.cli.streams import text_of
from ringmaster.cli.supervisor import supervised
from ringmaster.client.aio import AsyncClient
from ringmaster.errors import SettingsError

ENTRY_PREFIX: Final = f"{PREFIX}-entry"
LOAD_S: Final = 2.0
_Target = TypeVar("_Target", LocalTarget, BesideTarget)
_ENDING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True, slots=True)
class Plan:
    """What is wanted. `data_dir`: of a `ringmaster up` that runs; `url`: of a cluster of which no more is known; neither: a new one."""

    entries: int
    pause_s: float
    url: str | None = None
    data_dir: Path | None = None
    token: str | None = None
    keep: bool = False


def _url_of(argument: str | None) -> str | None:
    return None if argument is None else text_of(argument)


def demo(
    browser: Annotated[
        bool,
        typer.Option(
            "--browser/--no-browser",
            help="Open the console in a browser, where there is a desktop, or only print its URL.",
        ),
    ] = True,
    entries: Annotated[
        int, typer.Option(min=1, max=1_000_000, metavar="number", help="How many entries to write.")
    ] = 10_000,
    pause: Annotated[
        float,
        typer.Option(min=0.0, max=600.0, metavar="seconds", help="The time between two acts."),
    ] = 3.0,
    data_dir: Annotated[
        Path | None,
        typer.Option(
            "--data-dir",
            help="Use the `ringmaster up` that runs on this data dir: nodes are added to it, one of these is killed, "
            "and they leave again.",
            show_default=False,
        ),
    ] = None,
    url: Annotated[
        str | None,
        typer.Option(
            "--url",
            help="Use the cluster at this URL: entries are written and read, and nothing is killed.",
            show_default=False,
            callback=_url_of,
        ),
    ] = None,
    keep: Annotated[
        bool, typer.Option("--keep", help="Go on after the last act until Ctrl-C, to look around.")
    ] = False,
    token: Token = None,
    json: Json = False,
) -> None:
    """Show what happens to the data when a node dies, another joins, and the first comes back. Ends all it started.

    Exit code 1 if a write was lost or a read was stale.
    """
    with ending():
        if data_dir is not None and url is not None:
            raise SettingsError("give either --data-dir or --url, not both")
        own = data_dir is None and url is None
        sender = None if own else token or token_from_environment()
        plan = Plan(entries, pause, url, data_dir, sender, keep)
        acts = asyncio.run(until_interrupted(plan, _speaker(json=json), open_it=browser))
    if acts is None:
        raise typer.Exit(INTERRUPTED)
    if json:
        print_json({"acts": [asdict(act) for act in acts], "all": asdict(whole(acts))})
    if any(act.lost or act.stale for act in acts):
        raise typer.Exit(NO)


def _speaker(*, json: bool) -> Say:
    def say(line: str) -> None:
        typer.echo(line, err=json)

    return say


async def until_interrupted(plan: Plan, say: Say, *, open_it: bool) -> list[Act] | None:
    """What `perform` returns; None if a signal ended it, after everything was cleared away."""
    loop = asyncio.get_running_loop()
    task = asyncio.create_task(perform(plan, say, open_it=open_it))
    interrupted = False

    def interrupt() -> None:
        nonlocal interrupted
        if not interrupted:
            interrupted = True
            task.cancel()

    for number in _ENDING:
        loop.add_signal_handler(number, interrupt)
    try:
        return await task
    except asyncio.CancelledError:
        if not interrupted:
            raise
        return None
    finally:
        for number in _ENDING:
            loop.remove_signal_handler(number)


async def perform(plan: Plan, say: Say, *, open_it: bool) -> list[Act]:
    """All of it. Raises `RingmasterError` if the cluster does not do what it should; what was started is ended in any case."""
    async with _stage(plan, say) as (stage, nodes):
        say(f"console  {stage.url}/")
        if open_it:
            await _open(stage.url)
        acts = await _acts(plan, say, stage, nodes)
        say(f"in all   {sentence(whole(acts))}")
        if plan.keep:
            say("it goes on until Ctrl-C")
            with suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
    say("done     all that was started has ended")
    return acts


async def _acts(plan: Plan, say: Say, stage: Stage, nodes: int) -> list[Act]:
    headers = token_headers(plan.token)
    load = Load(
        stage.url, CLIENTS, KEYS_EACH, per_second=PER_SECOND, headers=headers, prefix=PREFIX
    )
    try:
        await load.ballast(plan.entries, BALLAST_BYTES, ENTRY_PREFIX)
        await load.fill()
        copies = (await stage.cluster())["replicas"]
        written = plan.entries + CLIENTS * KEYS_EACH
        say(f"write    {written:,} entries, in {load.now():.1f} s; each is on {copies} nodes")
        load.start()
        say(
            f"load     {CLIENTS} clients write and read {CLIENTS * KEYS_EACH} of them, and check every value"
        )
        await asyncio.sleep(plan.pause_s)
        troupe = Troupe(stage, load, say, plan.pause_s)
        if plan.url is None:
            await _play(plan, troupe, nodes)
        else:
            await asyncio.sleep(LOAD_S)
        marks = [0 if plan.url else len(client.samples) for client in load.clients]
        await load.finish()
        rest = [
            sample
            for client, mark in zip(load.clients, marks, strict=True)
            for sample in client.samples[mark:]
        ]
        troupe.acts.append(counted("last look", rest, 0, 0.0))
        say(f"look     at every entry of these clients once more: {sentence(troupe.acts[-1])}")
        return troupe.acts
    finally:
        await load.abandon()
        if plan.url is not None or plan.data_dir is not None:
            await _remove(
                plan, stage.url, [key for client in load.clients for key in client.states]
            )


async def _play(plan: Plan, troupe: Troupe, nodes: int) -> None:
    victim, newcomer = ("solo1", "solo2") if plan.data_dir is None else ("demo-1", "demo-2")
    if plan.data_dir is not None:
        # Only a node that was started for this may be killed.
        await troupe.join(victim, nodes + 1)
        nodes += 1
    await troupe.kill(victim, nodes - 1)
    await troupe.join(newcomer, nodes)
    await troupe.restart(victim, nodes + 1)


async def _remove(plan: Plan, url: str, keys: Sequence[str]) -> None:
    """The entries, from a cluster that stays."""
    names = [*keys, *(f"{ENTRY_PREFIX}-{number}" for number in range(plan.entries))]
    async with AsyncClient(url, connections=1, token=plan.token, retries=5) as client:
        for start in range(0, len(names), BULK_ITEMS):
            body = msgspec.json.encode(names[start : start + BULK_ITEMS])
            kind = {"Content-Type": "application/json"}
            await client.request("POST", "/data/bulk/delete", body, kind)


@asynccontextmanager
async def _stage(plan: Plan, say: Say) -> AsyncIterator[tuple[Stage, int]]:
    """The cluster, and how many nodes it has; what was started for it ends with the context."""
    if plan.url is not None:
        say(
            "nothing is killed: `--data-dir` of a `ringmaster up` on this machine would permit that"
        )
    if plan.url is None and plan.data_dir is None:
        async with _closing(LocalTarget(3, 1, wrap=_ends_with_us)) as target:
            say("start    2 masters and 3 nodes, in a temporary folder and on free ports")
            await target.start()
            yield target, 3
        return
    url, folder = plan.url, plan.data_dir
    if url is None:
        assert folder is not None  # noqa: S101 - one of the two is given
        _check_coordinator(folder)
        url = str((await asyncio.to_thread(ask_up, folder, {"do": "show"}))["url"])
    headers = token_headers(plan.token)
    beside = BesideTarget(url, folder or Path(), plan.token, headers, _ends_with_us)
    async with _closing(beside):
        seen = await beside.cluster()
        up = [row for row in seen["nodes"] if row["state"] == "up"]
        if plan.url is None and (seen["health"] != "ok" or min(seen["replicas"], len(up)) < 2):
            raise SettingsError(
                "nodes are killed only where every partition has two copies and all is well; "
                f"this cluster is {seen['health']} with {len(up)} nodes and {seen['replicas']} copies"
            )
        yield beside, len(up)


def _check_coordinator(data_dir: Path) -> None:
    """Raises `SettingsError` if a node that is told nothing but the data dir would not find the cluster, and begin another."""
    if (data_dir / POINTER_NAME).exists() and not (data_dir / "coordinator").is_dir():
        raise SettingsError(f"the coordinator of this cluster is not in {data_dir}")


@asynccontextmanager
async def _closing(target: _Target) -> AsyncIterator[_Target]:
    try:
        yield target
    finally:
        await target.close()


def _ends_with_us(argv: Sequence[str]) -> Sequence[str]:
    """Even if this process is killed."""
    return supervised(argv, signal.SIGTERM)


async def _open(url: str) -> None:
    """In a browser, if there is a desktop: without one a browser in this terminal might come up."""
    if os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
        with suppress(webbrowser.Error, OSError):
            await asyncio.to_thread(webbrowser.open, f"{url}/")

"""`ringmaster top`: the nodes, their load, what moves and what happened, as it is now."""

from __future__ import annotations

import asyncio
import shutil
import sys
import time
from collections.abc import Callable
from typing import Annotated, Any, Final

import msgspec
import typer
from rich.console import Console

from ringmaster.access.sender import token_from_environment
from ringmaster.cli.exit_codes import INTERRUPTED
from ringmaster.cli.operate import Timeout, Token, Url, ending, print_json
from ringmaster.cli.top.figures import Reading, Watch
from ringmaster.cli.top.frame import Options, frame
from ringmaster.cli.top.screen import Screen
from ringmaster.client.aio import AsyncClient
from ringmaster.client.reply import DEFAULT_URL
from ringmaster.errors import RingmasterError, SettingsError, TokenRefused

MOST_HOT_KEYS: Final = 20
_WIDTH: Final = 80
_NO_WRAP: Final = 10_000


def top(
    url: Url = DEFAULT_URL,
    interval: Annotated[
        float,
        typer.Option(min=0.1, max=3600.0, metavar="seconds", help="The time from look to look."),
    ] = 1.0,
    once: Annotated[
        bool, typer.Option("--once", help="Print one picture, of one interval, and end.")
    ] = False,
    timeout: Timeout = 3.0,
    token: Token = None,
    json: Annotated[
        bool, typer.Option("--json", help="Print one picture as JSON, and end.")
    ] = False,
) -> None:
    """Show a cluster live: nodes, requests, evictions, hot keys, moves, changes. Keys: q quits, p pauses, s sorts, ? helps."""
    with ending():
        asyncio.run(_top(url, interval, timeout, token, once=once, json=json))


async def _top(
    url: str, interval_s: float, timeout_s: float, token: str | None, *, once: bool, json: bool
) -> None:
    async with AsyncClient(
        url, timeout_s, connections=2, token=token or token_from_environment()
    ) as client:

        async def ask() -> Reading:
            return await look(client, time.monotonic)

        if once or json:
            await _once(ask, url, interval_s, json=json)
            return
        console = Console(highlight=False)
        if not console.is_terminal or console.is_dumb_terminal:
            raise SettingsError("the output is no terminal to draw on; --once prints one picture")
        keys = sys.stdin.fileno() if sys.stdin.isatty() else None
        screen = Screen(ask, url, console, interval_s, keys)
        await screen.run()
    if screen.interrupted:
        raise typer.Exit(INTERRUPTED)


async def look(client: AsyncClient, clock: Callable[[], float]) -> Reading:
    """Ask once. Without hot keys where they cannot be had. Raises `RingmasterError`."""
    status = await client.cluster()
    at = clock()
    if not isinstance(status, dict):
        raise RingmasterError("the reply is no status")
    try:
        answer: Any = await client.hot_keys(MOST_HOT_KEYS)
    except TokenRefused:
        raise
    except RingmasterError:
        answer = {}
    hot = answer.get("hot_keys") if isinstance(answer, dict) else None
    return Reading(at, status, hot or ())


async def _once(ask: Any, url: str, interval_s: float, *, json: bool) -> None:
    watch = Watch()
    watch.observe(await ask(), time.strftime("%H:%M:%S"))
    await asyncio.sleep(interval_s)
    watch.observe(await ask(), time.strftime("%H:%M:%S"))
    if json:
        latest = watch.latest
        assert latest is not None  # noqa: S101 - observed above
        rates = msgspec.to_builtins(watch.rates())
        print_json({"cluster": latest.status, "rates": rates, "hot_keys": latest.hot_keys})
        return
    width = shutil.get_terminal_size((_WIDTH, 0)).columns
    console = Console(highlight=False, width=_NO_WRAP)
    for line in frame(watch, url, Options(width, plain=console.options.ascii_only)):
        console.print(line, soft_wrap=True)

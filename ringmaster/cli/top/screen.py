"""The loop of `ringmaster top`: asks, draws, takes keys. What is shown is decided in `figures.py` and `frame.py`."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack, suppress
from dataclasses import replace
from typing import Final

from rich.console import Console
from rich.live import Live
from rich.text import Text

from ringmaster.cli.top.figures import Reading, Watch
from ringmaster.cli.top.frame import Options, frame, next_column
from ringmaster.cli.top.keyboard import read_keys, single_keys
from ringmaster.errors import BadRequest, RingmasterError

Ask = Callable[[], Awaitable[Reading]]
"""One look at the cluster. Raises `RingmasterError`."""

_ENDING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Screen:
    """Shows what `ask` says every `interval_s` seconds. `keys`: the descriptor of the keyboard, None if there is none.

    `interrupted`: it ended by a signal and not by a key.
    """

    def __init__(
        self, ask: Ask, url: str, console: Console, interval_s: float, keys: int | None
    ) -> None:
        self.interrupted = False
        self._ask = ask
        self._url = url
        self._console = console
        self._interval_s = interval_s
        self._keys = keys
        self._watch = Watch()
        self._options = Options(0, plain=console.options.ascii_only)
        self._news = asyncio.Event()
        self._resumed = asyncio.Event()
        self._resumed.set()
        self._over = False

    async def run(self) -> None:
        """Until `q` or a signal. Raises `BadRequest` if the cluster refuses to be looked at; the terminal is as before then."""
        loop = asyncio.get_running_loop()
        with ExitStack() as stack:
            for number in _ENDING:
                loop.add_signal_handler(number, self._interrupt)
                stack.callback(loop.remove_signal_handler, number)
            loop.add_signal_handler(signal.SIGWINCH, self._news.set)
            stack.callback(loop.remove_signal_handler, signal.SIGWINCH)
            if self._keys is not None:
                stack.enter_context(single_keys(self._keys))
                loop.add_reader(self._keys, self._on_keys, self._keys)
                stack.callback(loop.remove_reader, self._keys)
            live = stack.enter_context(
                Live(
                    console=self._console, screen=True, auto_refresh=False,
                    redirect_stdout=False, redirect_stderr=False,
                )
            )  # fmt: skip
            looking = asyncio.create_task(self._look())
            looking.add_done_callback(lambda _: self._news.set())
            try:
                while not self._over:
                    if looking.done():
                        looking.result()
                    live.update(self._picture(), refresh=True)
                    await self._news.wait()
                    self._news.clear()
            finally:
                looking.cancel()
                with suppress(asyncio.CancelledError, RingmasterError):
                    await looking

    async def _look(self) -> None:
        while True:
            await self._resumed.wait()
            try:
                reading = await self._ask()
            except BadRequest:
                raise
            except RingmasterError as error:
                self._watch.lose(str(error), _time_of_day())
            else:
                self._watch.observe(reading, _time_of_day())
            self._news.set()
            await asyncio.sleep(self._interval_s)

    def _picture(self) -> Text:
        size = self._console.size
        lines = frame(
            self._watch, self._url, replace(self._options, width=size.width, height=size.height)
        )
        return Text("\n", no_wrap=True, overflow="crop", end="").join(lines)

    def _on_keys(self, descriptor: int) -> None:
        try:
            pressed = read_keys(descriptor)
        except EOFError:
            self._interrupt()
            return
        for key in pressed:
            self._press(key)
        self._news.set()

    def _press(self, key: str) -> None:
        options = self._options
        match key:
            case "q":
                self._over = True
            case "p":
                self._options = replace(options, paused=not options.paused)
                (self._resumed.set if options.paused else self._resumed.clear)()
            case "s":
                self._options = replace(options, sort=next_column(options.sort))
            case "?":
                self._options = replace(options, help=not options.help)
            case _:
                pass

    def _interrupt(self) -> None:
        self.interrupted = self._over = True
        self._news.set()


def _time_of_day() -> str:
    return time.strftime("%H:%M:%S")

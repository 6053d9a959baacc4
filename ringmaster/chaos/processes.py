"""Processes of ours that are started, and ended whatever happens: their output goes to a folder."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from ringmaster.access.sender import FILE_VARIABLE, VARIABLE
from ringmaster.errors import RingmasterError

END_S: Final = 20.0

Wrap = Callable[[Sequence[str]], Sequence[str]]
"""From a command line to the one that is run, such as one that ends with its starter."""


class Processes:
    """By name. `wrap`: see `Wrap`; what is wrapped leads a session of its own, so that Ctrl-C reaches its starter only."""

    def __init__(self, logs: Path, wrap: Wrap | None = None) -> None:
        self._logs = logs
        self._wrap = wrap
        self._running: dict[str, asyncio.subprocess.Process] = {}

    async def start(self, name: str, *arguments: str) -> None:
        """Run Python with `arguments`; a process that had this name must have ended."""
        argv: Sequence[str] = (sys.executable, "-P", *arguments)
        with (self._logs / f"{name}.log").open("ab") as output:
            self._running[name] = await asyncio.create_subprocess_exec(
                *(argv if self._wrap is None else self._wrap(argv)),
                stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output, env=_environment(),
                start_new_session=self._wrap is not None,
            )  # fmt: skip

    def names(self) -> list[str]:
        """Those that run."""
        return [name for name, process in self._running.items() if process.returncode is None]

    async def kill(self, name: str) -> int:
        """SIGKILL; returns its pid when it has ended. Raises `RingmasterError` if it does not run."""
        process = self._running.get(name)
        if process is None or process.returncode is not None:
            raise RingmasterError(f"{name} does not run")
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        return process.pid

    async def end(self, names: Sequence[str], within_s: float = END_S) -> None:
        """SIGTERM to them all, SIGKILL to those that are still there after `within_s`; until they have ended."""
        chosen = [process for name, process in self._running.items() if name in names]
        for process in chosen:
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    process.send_signal(signal.SIGTERM)
        for process in chosen:
            try:
                async with asyncio.timeout(within_s):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()


def _environment() -> Mapping[str, str]:
    """Without tokens: those of another cluster are no use to this one."""
    ours = {VARIABLE, FILE_VARIABLE, "RINGMASTER_TOKENS"}
    return {name: value for name, value in os.environ.items() if name not in ours}

"""Keeps the tokens of a running master as their file has them: read again on SIGHUP, and when the file changes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import structlog

from ringmaster.access.grant import Grant
from ringmaster.access.token_file import read_tokens
from ringmaster.errors import SettingsError
from ringmaster.runtime.file_identity import Identity, file_identity

POLL_S: Final = 1.0
READ_S: Final = 10.0
"""A file that cannot be looked at for so long is on a disk or network that hangs."""

_log = structlog.get_logger(__name__)


class TokenWatch:
    """`adopt` gets the tokens of `path` whenever they may have changed; a file that is broken changes nothing.

    `reloads`, `failures`: how often the one and the other came about.
    """

    def __init__(self, path: Path, adopt: Callable[[Sequence[Grant]], None]) -> None:
        self._path = path
        self._adopt = adopt
        self._seen: Identity = None
        self._wanted = asyncio.Event()
        self.reloads = 0
        self.failures = 0

    def load(self) -> None:
        """Adopt what is there now. Raises `SettingsError`. Before the loop runs."""
        self._seen = file_identity(self._path)
        self._adopt(read_tokens(self._path))

    def reload(self) -> None:
        """Have the file read again, changed or not."""
        self._wanted.set()

    async def run(self, poll_s: float = POLL_S) -> None:
        """Until cancelled."""
        while True:
            asked = await self._is_asked(poll_s)
            try:
                async with asyncio.timeout(READ_S):
                    # Looked at first: what changes after that is read once more.
                    seen = await asyncio.to_thread(file_identity, self._path)
                    if asked or seen != self._seen:
                        self._seen = seen
                        grants = await asyncio.to_thread(read_tokens, self._path)
                        self._adopt(grants)
                        self.reloads += 1
                        _log.info("read the tokens again", tokens=len(grants))
            except (SettingsError, TimeoutError) as error:
                self.failures += 1
                problem = (
                    str(error) or f"the tokens file {self._path} cannot be read in {READ_S:g} s"
                )
                _log.error("kept the tokens as they were", problem=problem)

    async def _is_asked(self, within_s: float) -> bool:
        try:
            async with asyncio.timeout(within_s):
                await self._wanted.wait()
        except TimeoutError:
            return False
        self._wanted.clear()
        return True

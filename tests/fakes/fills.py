"""Reads that wait, for a fake router: who holds a token and who waits, in two dicts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from ringmaster.protocol.entry import expires_ms_of
from ringmaster.routing.fills import Ask, Filled
from ringmaster.runtime.cluster_clock import ClusterClock


class FakeFills:
    """`current(key)`: the entry there is. Tokens have no time of their own; one that was left goes to who asks next."""

    def __init__(self, clock: ClusterClock, current: Callable[[bytes], bytes | None]) -> None:
        self._clock = clock
        self._current = current
        self._tokens: dict[bytes, str] = {}
        self._left: set[str] = set()
        self._waiting: dict[bytes, list[Ask]] = {}
        self._given = 0

    def begin(self, key: bytes, *, waits: bool) -> Ask:
        ask = Ask(key, waits)
        ask.answered = True
        entry = self._current(key)
        expires_ms = 0 if entry is None else expires_ms_of(entry)
        if entry is not None and not (expires_ms and expires_ms <= self._clock.now_ms()):
            ask.resolve(Filled(entry))
        elif self._tokens.get(key) in {None, *self._left}:
            ask.resolve(Filled(entry, self._give(key)))
        elif entry is not None or not waits:
            ask.resolve(Filled(entry))
        else:
            self._waiting.setdefault(key, []).append(ask)
        return ask

    async def result(self, ask: Ask, answer_by: float, until: float) -> Filled:
        await asyncio.wait([ask.done], timeout=until - self._clock.boottime())
        ask.leave()
        return ask.done.result()

    def drop(self, ask: Ask) -> None:
        if ask.done.done():
            self.left(ask.key, ask.done.result().fill_token)
        ask.leave()

    def left(self, key: bytes, fill_token: str) -> None:
        if self.is_good(key, fill_token):
            self._left.add(fill_token)
            self._pass_on(key)

    def is_good(self, key: bytes, fill_token: str) -> bool:
        return bool(fill_token) and self._tokens.get(key) == fill_token

    def ended(self, key: bytes) -> None:
        """A write came, or the token was given up."""
        self._tokens.pop(key, None)
        entry = self._current(key)
        if entry is None:
            self._pass_on(key)
        else:
            for ask in self._waiting.pop(key, []):
                ask.resolve(Filled(entry))

    def _pass_on(self, key: bytes) -> None:
        waiting = self._waiting.get(key, [])
        while waiting:
            if not waiting[0].done.done():
                waiting.pop(0).resolve(Filled(None, self._give(key)))
                return
            waiting.pop(0)

    def _give(self, key: bytes) -> str:
        self._given += 1
        self._tokens[key] = f"0.7.{self._given:x}"
        return self._tokens[key]

"""Masters as the self-audit sees them: one dict behind all of them, and faults that a test turns on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from master.audit.answers import Answer, Answered
from master.audit.peers import Peer

Fault = Callable[[str, str, str], Answer | None]
"""(master, `get` or `put`, key) to what it answers instead of the truth; `None`: the truth."""


class AuditedMasters:
    """A `Transport`. `delay_s`: of each reply. `silent`: masters that hang. `calls`: (master, `get` or `put`, key) of each."""

    def __init__(self, *names: str) -> None:
        self.peers = [Peer(name, f"http://{name}") for name in names]
        self.values: dict[str, int] = {}
        self.restored: set[str] = set()
        self.calls: list[tuple[str, str, str]] = []
        self.delay_s = 0.001
        self.silent: set[str] = set()
        self.down: set[str] = set()
        self.fault: Fault = lambda _master, _what, _key: None

    async def get(self, peer: Peer, key: str, timeout_s: float) -> Answer:
        """Read `key`."""
        answer = await self._before(peer, "get", key, timeout_s)
        if answer is not None:
            return answer
        if key not in self.values:
            return Answer(Answered.MISSED)
        return Answer(
            Answered.DONE, self.values[key], "v", "aux1", is_restored=key in self.restored
        )

    async def put(self, peer: Peer, key: str, value: int, ttl_s: int, timeout_s: float) -> Answer:
        """Write `key`."""
        answer = await self._before(peer, "put", key, timeout_s)
        if answer is not None:
            return answer
        self.values[key] = value
        self.restored.discard(key)
        return Answer(Answered.DONE, version="v")

    async def _before(self, peer: Peer, what: str, key: str, timeout_s: float) -> Answer | None:
        self.calls.append((peer.id, what, key))
        if peer.id in self.down:
            return Answer(Answered.UNREACHED)
        if peer.id in self.silent:
            await asyncio.sleep(timeout_s)
            return Answer(Answered.SILENT)
        await asyncio.sleep(self.delay_s)
        return self.fault(peer.id, what, key)

"""The loop of the self-audit: writes a key through one master, reads it through others, and tells of what breaks the promise."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import structlog

from master.audit.answers import Answer, Answered, Transport
from master.audit.canaries import TRUSTED_S, TTL_S, Canaries, Canary, Suspicion
from master.audit.findings import FAILED, REFUSED, SERVED, UNKNOWN, Findings
from master.audit.peers import Peer
from ringmaster.audit.history import Verdict
from ringmaster.cluster.node_status import NodeStatus
from ringmaster.cluster.view import View
from ringmaster.runtime.clock import Clock

RIPE_S: Final = 3.0
"""A miss is judged so long after it: a peer may have heard before us that all copies were lost, and nodes of what they evict."""

MARGIN_S: Final = 1.0
"""Beyond the deadline of requests an operation may take so much longer."""

AGAIN_S: Final = 0.2
"""Pause after no master has served it."""

_log = structlog.get_logger(__name__)


class Auditor:
    """`peers()`: all masters that can be reached, this one among them. `statuses()`: of the nodes that answer.

    `is_current()`: whether this master hears of new views. `deadline_s`: of requests; what takes longer is a failure. `interval_s`:
    about how far rounds are apart. `name`: see `Canaries`. `jitter()` is uniform in [0, 1).
    """

    def __init__(
        self,
        transport: Transport,
        clock: Clock,
        *,
        peers: Callable[[], Sequence[Peer]],
        statuses: Callable[[], Mapping[str, NodeStatus]],
        is_current: Callable[[], bool],
        name: str,
        partitions: int,
        deadline_s: float,
        interval_s: float,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.findings = Findings()
        self._transport = transport
        self._clock = clock
        self._peers = peers
        self._statuses = statuses
        self._is_current = is_current
        self._canaries = Canaries(name, partitions)
        self._view: View | None = None
        self._patience_s = deadline_s + MARGIN_S
        # A master that hangs is left for another one; writes through it are then of unknown outcome.
        self._silence_s = max(deadline_s / 2, 0.5)
        self._interval_s = interval_s
        self._jitter = jitter
        self._number = 0
        self._turn = int(jitter() * 1000)
        # When a node was seen last that may evict our keys, as those of the version before do.
        self._evicting_at = -TRUSTED_S

    def follow(self, view: View) -> None:
        """The newest view. Call it with each one, in order."""
        self._view = view
        self._canaries.follow(view)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(self._interval_s * (0.5 + self._jitter()))
            if self._peers():
                await self._round()

    async def _round(self) -> None:
        now = self._clock.boottime()
        if not all(status.spares_canaries for status in self._statuses().values()):
            self._evicting_at = now
        for canary in self._canaries.suspicious:
            self._settle(canary, now)
        canary = self._canaries.next()
        if canary.suspicion is not None:
            return
        if canary.history.acknowledged:
            await self._read(canary)
        if not canary.is_questionable and await self._write(canary):
            await self._read(canary)

    async def _write(self, canary: Canary) -> bool:
        """Until one write is acknowledged, each with a value of its own; whether one was."""
        history, last = canary.history, Answer(Answered.SILENT)
        canary.visits += 1
        began = self._clock.boottime()
        while True:
            for peer in self._next_peers():
                sent = self._clock.boottime()
                left_s = began + self._patience_s - sent
                if left_s <= 0:
                    self._failed("write", canary, began, last)
                    return False
                self._number += 1
                value = self._number
                history.writing(value)
                last = await self._transport.put(
                    peer, canary.key, value, TTL_S, min(left_s, self._silence_s)
                )
                if last.kind is Answered.DONE:
                    canary.wrote(value, last.version, sent)
                    self._served("write")
                    return True
                if last.kind in (Answered.UNKNOWN, Answered.SILENT):
                    history.doubted(value)
                    self.findings.operations["write", UNKNOWN] += 1
                else:
                    history.refused(value)
                if last.kind is Answered.REFUSED and _is_for_load(last):
                    self.findings.operations["write", REFUSED] += 1
                    return False
                if last.kind is Answered.UNKNOWN:
                    await asyncio.sleep(AGAIN_S)  # as many doubtful values as fit into the time
            await asyncio.sleep(AGAIN_S)

    async def _read(self, canary: Canary) -> None:
        """Until one master says what there is, and judge that."""
        last = Answer(Answered.SILENT)
        began = self._clock.boottime()
        while True:
            for peer in self._next_peers():
                left_s = began + self._patience_s - self._clock.boottime()
                if left_s <= 0:
                    self._failed("read", canary, began, last)
                    return
                reading = canary.history.reading()
                last = await self._transport.get(peer, canary.key, min(left_s, self._silence_s))
                if last.kind in (Answered.DONE, Answered.MISSED):
                    self._served("read")
                    if last.is_restored:
                        canary.history.forgive()
                    value = last.value if last.kind is Answered.DONE else None
                    expected = reading.expected
                    verdict = canary.history.judge(reading, value)
                    self._judge(canary, verdict, expected, self._facts(canary, peer, last))
                    return
                canary.history.abandon(reading)
                if last.kind is Answered.REFUSED and _is_for_load(last):
                    self.findings.operations["read", REFUSED] += 1
                    return
            await asyncio.sleep(AGAIN_S)

    def _judge(
        self, canary: Canary, verdict: Verdict, expected: int, facts: dict[str, object]
    ) -> None:
        now = self._clock.boottime()
        if verdict is Verdict.STALE:
            canary.is_spoilt = True
            self.findings.stale += 1
            self._tell("stale", "a read was stale", expected, facts)
        elif verdict is Verdict.LOST and now < canary.trusted_until:
            canary.suspicion = Suspicion(now + RIPE_S, expected, facts)
        elif verdict is Verdict.LOST:
            # Its time may be over.
            canary.is_spoilt = True

    def _settle(self, canary: Canary, now: float) -> None:
        """A miss is a loss unless all copies were, or a node evicted it. It waits while there is no telling."""
        suspicion = canary.suspicion
        if suspicion is None or now < suspicion.ripe_at or not self._is_current():
            return
        canary.suspicion = None
        canary.is_spoilt = True
        if canary.history.expects and now - self._evicting_at > TRUSTED_S:
            self.findings.lost += 1
            self._tell("lost", "an acknowledged write is lost", suspicion.expected, suspicion.facts)

    def _next_peers(self) -> Sequence[Peer]:
        """All of them, beginning with another one each time."""
        peers = self._peers()
        self._turn += 1
        at = self._turn % len(peers) if peers else 0
        return [*peers[at:], *peers[:at]]

    def _served(self, kind: str) -> None:
        self.findings.operations[kind, SERVED] += 1
        self.findings.served(self._clock.boottime())

    def _failed(self, kind: str, canary: Canary, began: float, last: Answer) -> None:
        now = self._clock.boottime()
        if now - began > self._patience_s + MARGIN_S:
            return  # this process was stopped itself
        self.findings.operations[kind, FAILED] += 1
        self.findings.failed(began, now)
        facts = self._place(canary) | {"last": last.kind.value, "detail": last.detail}
        _log.error("self-audit: not served", operation=kind, for_s=round(now - began, 3), **facts)

    def _place(self, canary: Canary) -> dict[str, object]:
        view = self._view
        row = None if view is None else view.table[canary.partition]
        return {
            "key": canary.key,
            "partition": canary.partition,
            "primary": None if row is None else row.primary,
            "replicas": () if row is None else row.replicas,
            "term": 0 if row is None else row.term,
            "epoch": 0 if view is None else view.epoch,
        }

    def _facts(self, canary: Canary, peer: Peer, answer: Answer) -> dict[str, object]:
        return self._place(canary) | {
            "through": peer.id,
            "node": answer.node,
            "read": answer.value if answer.kind is Answered.DONE else None,
            "version": answer.version,
            "acknowledged_version": canary.version,
            "doubtful": sorted(canary.history.doubtful),
        }

    def _tell(self, kind: str, event: str, expected: int, facts: Mapping[str, object]) -> None:
        now = self._clock.boottime()
        _log.error(f"self-audit: {event}", finding=kind, expected=expected, **facts)
        sentence = (
            f"key {facts['key']} of partition {facts['partition']} through {facts['through']}"
        )
        self.findings.found(f"{event}: {sentence}", now)


def _is_for_load(answer: Answer) -> bool:
    """Whether it was refused for load or a limit, which has alerts of its own; else another master may take it."""
    return answer.detail.startswith(("503", "429"))

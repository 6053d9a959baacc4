"""/cluster/traffic: what this master answered to those who read and write keys in the last five minutes, in steps.

Steps are cut by cluster time, so that those of several masters can be added: whoever asks through a front door hears one
master, then another.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

import msgspec

from master.api.cluster import JSON_HEADERS
from master.api.request import Exchange
from master.api.response import Reply
from master.http.request_counters import BOUNDS_S, SHED, Counters
from master.http.target import integer_of_text
from ringmaster.runtime.cluster_clock import ClusterClock

STEP_MS: Final = 2_000
STEPS: Final = 150

_LOOKS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
"""Of these, those that neither hit nor missed asked for no value: they were for the state of the cluster, its health, its metrics,
or were streams of events, which take as long as somebody listens.
"""

_MOST_SINCE: Final = 2**53


class Step(msgspec.Struct, frozen=True, array_like=True):
    """One step. `at_ms`: its beginning in cluster time. `buckets[i]`: requests that took at most `bounds_s[i]`, not cumulative,
    those of the last bucket longer.
    """

    at_ms: int
    requests: int
    refused: int
    errors: int
    hits: int
    misses: int
    buckets: list[int]


class TrafficSteps:
    """Samples `counters` while `run` runs, and answers from the samples alone. `last_ms`: when the newest step began, 0 before."""

    def __init__(self, counters: Counters, clock: ClusterClock, master: str) -> None:
        self._counters = counters
        self._clock = clock
        self._master = master
        self._steps: deque[Step] = deque(maxlen=STEPS)
        self._before = self._totals()
        self.last_ms = 0

    async def run(self) -> None:
        """Sample until cancelled, at the end of each step."""
        while True:
            await asyncio.sleep((self._nearest_end() + STEP_MS - self._clock.now_ms()) / 1000)
            self.sample()

    def sample(self) -> None:
        """Close a step: what was counted since the last one."""
        now = self._totals()
        before, self._before = self._before, now
        buckets = [new - old for new, old in zip(now.buckets, before.buckets, strict=True)]
        at_ms = self._nearest_end() - STEP_MS
        self.last_ms = at_ms
        self._steps.append(
            Step(
                at_ms,
                now.requests - before.requests,
                now.refused - before.refused,
                now.errors - before.errors,
                now.hits - before.hits,
                now.misses - before.misses,
                buckets,
            )
        )

    def told(self, since_ms: int) -> bytes:
        """JSON of the steps that begin after `since_ms`."""
        return msgspec.json.encode(
            {
                "master": self._master,
                "now_ms": self._clock.now_ms(),
                "step_ms": STEP_MS,
                "bounds_s": BOUNDS_S,
                "steps": [step for step in self._steps if step.at_ms > since_ms],
            }
        )

    def _nearest_end(self) -> int:
        """Of a step: a timer may be a little early or late."""
        return (self._clock.now_ms() + STEP_MS // 2) // STEP_MS * STEP_MS

    def _totals(self) -> Step:
        requests = refused = errors = 0
        buckets = [0] * (len(BOUNDS_S) + 1)
        for series in self._counters:
            if series.outcome == "ok" and series.method in _LOOKS:
                continue
            count = series.count
            requests += count
            if series.outcome == SHED:
                # How long others take would seem short beside them.
                refused += count
                continue
            if series.status_class == "5xx":
                errors += count
            for index, each in enumerate(series.buckets):
                buckets[index] += each
        return Step(
            0, requests, refused, errors, self._counters.hits, self._counters.misses, buckets
        )


class TrafficApi:
    """The resource."""

    def __init__(self, steps: TrafficSteps) -> None:
        self._steps = steps

    async def show(self, exchange: Exchange) -> Reply:
        """`GET /cluster/traffic`; with `since`, the steps that begin after it."""
        parameters = exchange.parameters("since")
        since = integer_of_text(parameters.get("since", "0"), "since", 0, _MOST_SINCE)
        return Reply.build(200, JSON_HEADERS, self._steps.told(since))

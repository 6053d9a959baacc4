"""The acts of `ringmaster demo` on a cluster under load, and what its clients saw of each."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from ringmaster.chaos.load import Load, Sample
from ringmaster.chaos.target import is_at_rest
from ringmaster.errors import RingmasterError, SettingsError

CLIENTS: Final = 8
KEYS_EACH: Final = 50
PER_SECOND: Final = 400.0
PREFIX: Final = "demo"
BALLAST_BYTES: Final = 1000

REST_S: Final = 120.0
"""No act takes longer."""

POLL_S: Final = 0.1
NOTICED_S: Final = 15.0

Say = Callable[[str], None]


class Stage(Protocol):
    """A cluster whose nodes may be killed, as far as they were started for that."""

    @property
    def url(self) -> str:
        """Where clients reach it."""

    async def cluster(self) -> dict[str, Any]:
        """`GET /cluster`. Raises `RingmasterError` if it does not answer."""

    async def join(self, name: str) -> None:
        """Start a node; returns at once."""

    async def kill(self, node: str) -> None:
        """SIGKILL to a node that was started for this."""


@dataclass(frozen=True, slots=True)
class Act:
    """What clients saw while it went on. `wait_ms`: the longest that any of them waited for a reply. `took_s`: until all was whole again."""

    name: str
    requests: int
    lost: int
    stale: int
    errors: int
    unknown: int
    wait_ms: float
    moved_entries: int
    took_s: float


def counted(name: str, samples: Sequence[Sample], moved_entries: int, took_s: float) -> Act:
    """Counts of `samples`."""
    outcomes = Counter(sample.outcome for sample in samples)
    return Act(
        name=name,
        requests=len(samples),
        lost=outcomes["lost"],
        stale=outcomes["stale"],
        errors=outcomes["error"],
        unknown=outcomes["unknown"],
        wait_ms=round(max((sample.took for sample in samples), default=0.0) * 1000, 1),
        moved_entries=moved_entries,
        took_s=round(took_s, 1),
    )


def whole(acts: Iterable[Act]) -> Act:
    """All of them as one."""
    given = list(acts)
    return Act(
        name="all",
        requests=sum(act.requests for act in given),
        lost=sum(act.lost for act in given),
        stale=sum(act.stale for act in given),
        errors=sum(act.errors for act in given),
        unknown=sum(act.unknown for act in given),
        wait_ms=max((act.wait_ms for act in given), default=0.0),
        moved_entries=sum(act.moved_entries for act in given),
        took_s=round(sum(act.took_s for act in given), 1),
    )


def sentence(act: Act) -> str:
    """Its figures, for people."""
    doubtful = f", {_plural(act.unknown, 'write')} of unknown outcome" if act.unknown else ""
    errors = f", {_plural(act.errors, 'error')}" if act.errors else ""
    return (
        f"{act.requests:,} requests: lost {act.lost}, stale {act.stale}{errors}{doubtful}; "
        f"the longest a client waited: {act.wait_ms:.0f} ms"
    )


def _plural(count: int, word: str) -> str:
    return f"{count} {word}{'' if count == 1 else 's'}"


class Growth:
    """How much the sums of counters have grown, although those of a node that ends are missing from then on."""

    def __init__(self) -> None:
        self.total = 0
        self._last: int | None = None

    def see(self, value: int) -> None:
        """The sum as it is now."""
        if self._last is not None and value > self._last:
            self.total += value - self._last
        self._last = value


class Troupe:
    """Runs acts on `stage` under `load`, which has begun."""

    def __init__(self, stage: Stage, load: Load, say: Say, pause_s: float) -> None:
        self.acts: list[Act] = []
        self._stage = stage
        self._load = load
        self._say = say
        self._pause_s = pause_s

    async def kill(self, node: str, left: int) -> None:
        """SIGKILL, until every partition has its copies on the `left` others."""
        self._say(f"kill     {node}, by SIGKILL: what it held is on other nodes as well")

        async def act() -> None:
            await self._stage.kill(node)

        await self._play("kill", act, lambda seen: not _is_up(seen, node), left)

    async def join(self, node: str, nodes: int) -> None:
        """A node joins, until it has its share."""
        self._say(f"join     {node}: it is filled before it serves")

        async def act() -> None:
            await self._stage.join(node)

        await self._play("join", act, lambda seen: _is_up(seen, node), nodes)

    async def restart(self, node: str, nodes: int) -> None:
        """The one that was killed comes back."""
        self._say(f"restart  {node}: it comes back empty, and is filled")

        async def act() -> None:
            await self._stage.join(node)

        await self._play("restart", act, lambda seen: _is_up(seen, node), nodes)

    async def _play(
        self,
        name: str,
        act: Callable[[], Any],
        noticed: Callable[[Mapping[str, Any]], bool],
        nodes: int,
    ) -> None:
        loop = asyncio.get_running_loop()
        marks = [len(client.samples) for client in self._load.clients]
        moved = Growth()
        await self._until(lambda _: True, moved, NOTICED_S, "the cluster answers")
        began = loop.time()
        await act()
        await self._until(noticed, moved, REST_S, f"the cluster notices the {name}")
        await self._until(
            lambda seen: is_at_rest(dict(seen), nodes),
            moved,
            REST_S,
            "every copy is where it belongs",
        )
        took_s = loop.time() - began
        await asyncio.sleep(self._pause_s)
        samples = [
            sample
            for client, mark in zip(self._load.clients, marks, strict=True)
            for sample in client.samples[mark:]
        ]
        self.acts.append(counted(name, samples, moved.total, took_s))
        self._say(f"         whole again after {took_s:.1f} s; {moved.total:,} entries moved")
        self._say(f"         {sentence(self.acts[-1])}")

    async def _until(
        self, wanted: Callable[[Mapping[str, Any]], bool], moved: Growth, within_s: float, what: str
    ) -> None:
        """Look until it is as `wanted`. Raises `RingmasterError` if it does not come to that, or at once if that is certain."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + within_s
        while True:
            try:
                seen = await self._stage.cluster()
            except SettingsError:
                raise
            except RingmasterError:
                pass  # no master answers just now
            else:
                moved.see(seen["rebalance"]["moved_keys"])
                if wanted(seen):
                    return
            if loop.time() > deadline:
                raise RingmasterError(f"not within {within_s:g} s: {what}")
            await asyncio.sleep(POLL_S)


def _is_up(seen: Mapping[str, Any], node: str) -> bool:
    return any(row["id"] == node and row["state"] == "up" for row in seen["nodes"])

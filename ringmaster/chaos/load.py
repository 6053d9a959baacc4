"""Clients that know what they may see: each owns its keys, so it can tell a stale or lost value at once.

A key's values are increasing integers written by one client, one request at a time; `ringmaster/audit/history.py` says what
a read may show.
"""

from __future__ import annotations

import asyncio
import gc
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import aiohttp
import orjson

from ringmaster.audit.history import History
from ringmaster.errors import RingmasterError

RETRY_S: Final = 0.02
BULK_ITEMS: Final = 500
BULK_TRIES: Final = 20
BULK_PAUSE_S: Final = 0.5
REQUEST_TIMEOUT_S: Final = 15.0
PREFIX: Final = "chaos"
"""Of the clients' keys, unless another is given."""

HOT_SHARE: Final = 0.4
"""Of a client's requests are for one of its keys, which is so hot that masters have copies of it."""

HOT_WRITES: Final = 0.1
"""Of these requests write."""

_NO_FULL_COLLECTION: Final = 1_000_000


@dataclass(slots=True)
class Sample:
    """One request that ended. Times in seconds since the load began; `outcome`: ok, error, unknown, stale, lost."""

    began: float
    took: float
    write: bool
    outcome: str
    detail: str = ""


class Client:
    """One client with `keys` keys of its own, the first of them hot; of the others' requests half write.

    `every_s` 0: a request follows the one before. Else there is one every so many seconds, and its time counts from
    when it was due, so that one that is held up counts for those behind it too.
    """

    def __init__(
        self,
        number: int,
        url: str,
        keys: int,
        clock: Callable[[], float],
        *,
        seed: int,
        every_s: float = 0.0,
        prefix: str = PREFIX,
    ) -> None:
        self.samples: list[Sample] = []
        self.states = {f"{prefix}-{number}-{key}": History() for key in range(keys)}
        self.longest_gap_s = 0.0
        self._url = url
        self._clock = clock
        self._random = random.Random(f"{seed}-{number}")  # noqa: S311 - a load, not a secret
        self._names = list(self.states)
        self._next = 1
        self._last_success = 0.0
        self._every_s = every_s
        self._due = 0.0

    async def run(self, session: aiohttp.ClientSession, stop: asyncio.Event) -> None:
        """Until `stop` is set."""
        self._last_success = self._clock()
        # Not all in the same moment.
        self._due = self._last_success + self._every_s * self._random.random()
        while not stop.is_set():
            if self._every_s:
                await asyncio.sleep(max(0.0, self._due - self._clock()))
            hot = self._random.random() < HOT_SHARE
            key = self._names[0] if hot else self._random.choice(self._names)
            if self._random.random() < (HOT_WRITES if hot else 0.5):
                sample = await self.write(session, key)
            else:
                sample = await self.read(session, key)
            if self._every_s:
                sample.took += sample.began - self._due
                sample.began = self._due
                self._due += self._every_s
            self._note(sample)
            if sample.outcome in ("error", "unknown"):
                await asyncio.sleep(RETRY_S)

    async def fill(self, session: aiohttp.ClientSession) -> None:
        """Write every key once, again and again until acknowledged."""
        left = list(self._names)
        while left:
            if (await self.write(session, left[-1])).outcome == "ok":
                left.pop()
            else:
                await asyncio.sleep(RETRY_S)

    async def write(self, session: aiohttp.ClientSession, key: str) -> Sample:
        """Write the next value of `key`."""
        state, value, began = self.states[key], self._next, self._clock()
        self._next += 1
        body = orjson.dumps({"key": key, "value": value})
        state.writing(value)
        try:
            async with session.post(f"{self._url}/data", data=body) as response:
                raw = await response.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            state.doubted(value)
            return self._sample(began, "unknown", repr(error), write=True)
        if response.status in (200, 201):
            state.wrote(value)
            return self._sample(began, "ok", write=True)
        outcome = _outcome(raw)
        if outcome == "not-applied":
            state.refused(value)
        else:
            state.doubted(value)
        kind = "unknown" if outcome == "unknown" else "error"
        return self._sample(began, kind, f"{response.status} {outcome}", write=True)

    async def read(self, session: aiohttp.ClientSession, key: str) -> Sample:
        """Read `key` and judge what comes."""
        began = self._clock()
        state = self.states[key]
        reading = state.reading()
        try:
            async with session.get(f"{self._url}/data/{key}") as response:
                raw = await response.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            state.abandon(reading)
            return self._sample(began, "error", repr(error))
        if response.status == 200:
            value: int | None = orjson.loads(raw)["value"]
        elif response.status == 404:
            value = None
        else:
            state.abandon(reading)
            return self._sample(began, "error", str(response.status))
        verdict = state.judge(reading, value).value
        detail = "" if verdict == "ok" else f"{key}: read {value}, acknowledged {reading.expected}"
        return self._sample(began, verdict, detail)

    def _sample(
        self, began: float, outcome: str, detail: str = "", *, write: bool = False
    ) -> Sample:
        return Sample(began, self._clock() - began, write, outcome, detail)

    def _note(self, sample: Sample) -> None:
        self.samples.append(sample)
        if sample.outcome in ("error", "unknown"):
            return
        now = sample.began + sample.took
        gap = now - self._last_success
        self.longest_gap_s = max(self.longest_gap_s, gap)
        self._last_success = now


def _outcome(raw: bytes) -> str:
    try:
        return str(orjson.loads(raw).get("outcome", ""))
    except (orjson.JSONDecodeError, AttributeError):
        return ""


class Load:
    """`clients` clients against `url`; start, break things, then `finish`. `per_second`: requests of all, 0: no limit.

    `headers` go with each.
    """

    def __init__(
        self,
        url: str,
        clients: int,
        keys: int,
        *,
        seed: int = 1,
        per_second: float = 0.0,
        headers: Mapping[str, str] | None = None,
        prefix: str = PREFIX,
    ) -> None:
        loop = asyncio.get_running_loop()
        self._zero = loop.time()
        self._url = url
        every_s = clients / per_second if per_second else 0.0
        self.clients = [
            Client(number, url, keys, self.now, seed=seed, every_s=every_s, prefix=prefix)
            for number in range(clients)
        ]
        self._stop = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._thresholds = gc.get_threshold()
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_S),
            connector=aiohttp.TCPConnector(limit=0),
            headers=headers,
        )

    def now(self) -> float:
        """Seconds since this load was made."""
        return asyncio.get_running_loop().time() - self._zero

    async def ballast(self, entries: int, size: int, prefix: str = "ballast") -> None:
        """Write so many entries of `size` bytes that nobody looks at. Raises `RingmasterError` if they are not taken."""
        value = "x" * size
        for start in range(0, entries, BULK_ITEMS):
            numbers = range(start, min(start + BULK_ITEMS, entries))
            items = [{"key": f"{prefix}-{number}", "value": value} for number in numbers]
            refusal = ""
            for _ in range(BULK_TRIES):
                refusal = await self._bulk(items)
                if not refusal:
                    break
                await asyncio.sleep(
                    BULK_PAUSE_S
                )  # the front door may not have found its masters yet
            else:
                raise RingmasterError(f"the ballast was refused: {refusal}")

    async def _bulk(self, items: list[dict[str, str]]) -> str:
        """Empty if all are written, else what came instead."""
        try:
            async with self._session.post(
                f"{self._url}/data/bulk", data=orjson.dumps(items)
            ) as response:
                raw = await response.read()
            results = orjson.loads(raw).get("results", ())
        except (aiohttp.ClientError, TimeoutError, orjson.JSONDecodeError) as error:
            return repr(error)
        written = sum(each["status"] in (200, 201) for each in results)
        return "" if written == len(items) else repr(raw[:200])

    async def fill(self) -> None:
        """Write every key once."""
        await asyncio.gather(*(client.fill(self._session) for client in self.clients))

    def start(self) -> None:
        """Begin the mixed load. No full garbage collection until `finish`.

        One over some 100,000 samples takes a quarter of a second, in which every client would seem to wait.
        """
        self._thresholds = gc.get_threshold()
        gc.set_threshold(*self._thresholds[:2], _NO_FULL_COLLECTION)
        self._tasks = [
            asyncio.create_task(client.run(self._session, self._stop)) for client in self.clients
        ]

    async def abandon(self) -> None:
        """Stop at once, without a last look. Harmless after `finish`."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        gc.set_threshold(*self._thresholds)
        await self._session.close()

    async def finish(self) -> list[Sample]:
        """Stop, then read every key once more; all samples, in order of time."""
        self._stop.set()
        await asyncio.gather(*self._tasks)
        gc.set_threshold(*self._thresholds)
        for client in self.clients:
            for key in client.states:
                client.samples.append(await client.read(self._session, key))
        await self._session.close()
        samples = [sample for client in self.clients for sample in client.samples]
        return sorted(samples, key=lambda sample: sample.began)

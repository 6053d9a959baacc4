"""Which keys and values the users of one process ask for, and which requests a trace says."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from load_test.popularity import Popularity
from load_test.timeline import Timeline


class Workload:
    """What the options ask for; one per process, shared by its users."""

    def __init__(self, options: Any) -> None:
        self.bulk_size = int(options.bulk_size)
        self.fill_s = float(options.fill_time)
        self.stale_after_s = float(options.ttl) or 1.0
        self._prefix = str(options.key_prefix)
        self._ttl_s = float(options.ttl)
        self._value_size = int(options.value_size)
        self._filler = "x" * self._value_size
        self.random = random.Random(options.seed)
        # An odd stride scatters ranks over the key names, so that popular keys are no neighbours.
        self._popularity = Popularity(options.keys, options.zipf_s, self.random)
        self.timeline = Timeline()
        self.requests: Iterator[tuple[str, int]] = iter(())

    def key(self) -> str:
        """The key to use next."""
        return self._name(self._popularity.draw())

    def hot_key(self) -> str:
        """The one key that most requests of the scenario `hot-key` are for."""
        return f"{self._prefix}hot"

    def batch(self) -> list[str]:
        """Different keys for one bulk request, at most `bulk_size`."""
        return list({self._name(rank): None for rank in self._popularity.draw_many(self.bulk_size)})

    def value(self, key: str) -> str:
        """A value that names its key, so that a reply can be checked."""
        return f"{key}={self._filler}"

    def item(self, key: str, size: int | None = None) -> dict[str, Any]:
        """What POST takes; `size`: bytes of the value, if it is not that of the options."""
        filler = self._filler if size is None else "x" * max(0, size - len(key) - 1)
        item: dict[str, Any] = {"key": key, "value": f"{key}={filler}"}
        if self._ttl_s:
            item["ttl"] = self._ttl_s
        return item

    def looked_up(self, hits: int, misses: int) -> None:
        """Counts keys that were asked for."""
        self.timeline.looked_up(time.time(), hits=hits, misses=misses)

    def follow(self, trace: Iterable[tuple[bytes, int]], part: int, parts: int, unit: int) -> None:
        """Take requests from a trace: each `parts`-th from number `part` on. `unit`: bytes that a size of 1 stands for."""
        self.requests = (
            (self._prefix + key.decode("utf-8", "replace"), size * unit)
            for key, size in itertools.islice(trace, part, None, parts)
        )

    def _name(self, rank: int) -> str:
        return f"{self._prefix}{rank}"


def open_trace(path: Path, value_size: int) -> tuple[Iterator[tuple[bytes, int]], int]:
    """The requests of a trace file, and how many bytes a size of 1 stands for. ValueError for an unknown format.

    OSError if it cannot be read.
    """
    # Loaded where a trace is replayed only: it loads the store of a node as well.
    from bench.traces import kind_of, read_trace  # noqa: PLC0415

    unit = value_size if kind_of(path) == "lis" else 1
    path.open("rb").close()
    return read_trace(path), unit

"""The keys of one master's self-audit, a bounded number, in all partitions in turn. Pure: times and views come from outside."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ringmaster.audit.history import History
from ringmaster.cluster.view import View
from ringmaster.protocol.canary import CANARY_PREFIX
from ringmaster.protocol.hashing import partition_of

CANARIES: Final = 8
"""Keys at one time. One that is done with goes by its time to live."""

TTL_S: Final = 120
"""Of each key, so that they go when their master does."""

TRUSTED_S: Final = TTL_S / 2
"""For so long after its last write began a key must be there. It expires by cluster time, which others may move on."""

VISITS: Final = 3
"""How often a key is written before the next one takes its place, in another partition."""

MOST_DOUBTS: Final = 4
"""A key with so many writes of unknown outcome tells little more."""

_MOST_TRIED: Final = 2000
"""Names that are tried for one in a partition whose turn it is."""


@dataclass(slots=True)
class Suspicion:
    """A miss that may be a loss. It is judged at `ripe_at` (boottime): by then this master has heard of what others knew before."""

    ripe_at: float
    expected: int
    facts: dict[str, object]


class Canary:
    """One key. `trusted_until`: boottime until which its acknowledged value must be there. `is_spoilt`: nothing more is to be learned from it."""

    __slots__ = (
        "copies",
        "history",
        "is_spoilt",
        "key",
        "partition",
        "suspicion",
        "trusted_until",
        "version",
        "visits",
    )

    def __init__(self, key: str, partition: int) -> None:
        self.key = key
        self.partition = partition
        self.history = History()
        self.trusted_until = 0.0
        self.suspicion: Suspicion | None = None
        self.version = ""
        self.visits = 0
        self.is_spoilt = False
        # Incarnations that hold the partition in sync, by the newest view.
        self.copies: frozenset[str] = frozenset()

    def follow(self, view: View) -> None:
        """Take `view` over. Where no copy of the one before is left, all may have been lost: then nothing is promised (R10)."""
        before, self.copies = self.copies, in_sync(view, self.partition)
        if before.isdisjoint(self.copies):
            self.history.forgive()

    def wrote(self, value: int, version: str, began: float) -> None:
        """The write of `value`, which began then, was acknowledged."""
        self.history.wrote(value)
        self.version = version
        self.trusted_until = began + TRUSTED_S

    @property
    def is_questionable(self) -> bool:
        """Whether the last read of it showed what it should not have."""
        return self.is_spoilt or self.suspicion is not None

    @property
    def is_done(self) -> bool:
        """Whether another key is to take its place."""
        worn = self.visits >= VISITS or len(self.history.doubtful) >= MOST_DOUBTS
        return self.suspicion is None and (self.is_spoilt or worn)


class Canaries:
    """The keys of one master. `name`: no other process has the same, ever. `first`: the first number that is tried for a key's name."""

    def __init__(self, name: str, partitions: int) -> None:
        self._prefix = f"{CANARY_PREFIX.decode()}{name}/"
        self._partitions = partitions
        self._number = 0
        self._visited = bytearray(partitions)
        self._left = partitions
        self._slots: list[Canary | None] = [None] * CANARIES
        self._turn = 0
        self._view: View | None = None

    def follow(self, view: View) -> None:
        """The newest view."""
        self._view = view
        for canary in self._slots:
            if canary is not None:
                canary.follow(view)

    def next(self) -> Canary:
        """The one whose turn it is."""
        self._turn = (self._turn + 1) % CANARIES
        canary = self._slots[self._turn]
        if canary is None or canary.is_done:
            canary = self._slots[self._turn] = self._new()
        return canary

    @property
    def suspicious(self) -> list[Canary]:
        """Those that may have been lost."""
        return [each for each in self._slots if each is not None and each.suspicion is not None]

    def _new(self) -> Canary:
        """A key in a partition that has had none since all have had one; of few tries, in any."""
        key, partition = "", 0
        for _ in range(_MOST_TRIED):
            self._number += 1
            key = f"{self._prefix}{self._number}"
            partition = partition_of(key.encode(), self._partitions)
            if not self._visited[partition]:
                break
        self._left -= not self._visited[partition]
        self._visited[partition] = 1
        if self._left == 0:
            self._visited = bytearray(self._partitions)
            self._left = self._partitions
        canary = Canary(key, partition)
        if self._view is not None:
            canary.copies = in_sync(self._view, partition)
        return canary


def in_sync(view: View, partition: int) -> frozenset[str]:
    """Incarnations that hold `partition` in sync."""
    names = view.table[partition].in_sync
    return frozenset(filter(None, map(view.incarnation, names)))

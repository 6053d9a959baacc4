"""The history of one key that one writer writes, and whether what a read shows is legal in it. Pure: no clock, no I/O.

The check is linearizability of a register (Herlihy and Wing, TOPLAS 1990) for one writer whose writes do not overlap. A write that was
not clearly answered may take effect once, now or later, or never (R9).
"""

from __future__ import annotations

from enum import Enum


class Verdict(Enum):
    """Of one read. `STALE`: an older value than it had to show, or one that was never written. `LOST`: nothing, where a value had to be."""

    OK = "ok"
    STALE = "stale"
    LOST = "lost"


class Read:
    """One read under way: `legal` are the values that it may show, unless it is `free` to show any. Made by `History.reading`."""

    __slots__ = ("expected", "free", "legal")

    def __init__(self, expected: int, legal: set[int], *, free: bool) -> None:
        self.expected = expected
        self.legal = legal
        self.free = free


class History:
    """What the writer of a key knows of it. Values are integers above 0, each written at most once; 0 stands for none.

    `acknowledged`: the value that is known to have been there last. `doubtful`: those whose writes were not clearly answered and that
    no read has shown. `in_flight`: the one that is being written, 0 for none.
    """

    __slots__ = ("_anything", "_reads", "acknowledged", "doubtful", "in_flight")

    def __init__(self) -> None:
        self.acknowledged = 0
        self.doubtful: set[int] = set()
        self.in_flight = 0
        # Nothing is promised until a write is acknowledged again.
        self._anything = False
        self._reads: list[Read] = []

    def writing(self, value: int) -> None:
        """A write of `value` begins."""
        self.in_flight = value
        for read in self._reads:
            read.legal.add(value)

    def wrote(self, value: int) -> None:
        """It was acknowledged: a read that begins from now on shows it, or something newer."""
        self.in_flight = 0
        self.acknowledged = value
        self._anything = False

    def refused(self, value: int) -> None:
        """It was certainly not applied."""
        self.in_flight = 0
        for read in self._reads:
            read.legal.discard(value)

    def doubted(self, value: int) -> None:
        """It may have been applied, or may yet be."""
        self.in_flight = 0
        self.doubtful.add(value)

    def forgive(self) -> None:
        """Every copy may be gone, or its time is over: any value and none are legal until a write is acknowledged."""
        self._anything = True
        for read in self._reads:
            read.free = True

    @property
    def expects(self) -> bool:
        """Whether a read that begins now must show something."""
        return bool(self.acknowledged) and not self._anything

    def reading(self) -> Read:
        """A read begins. Give it to `judge` or to `abandon`, or it is kept for ever."""
        legal = {self.acknowledged, *self.doubtful}
        if self.in_flight:
            legal.add(self.in_flight)
        read = Read(self.acknowledged, legal, free=self._anything)
        self._reads.append(read)
        return read

    def abandon(self, read: Read) -> None:
        """It has shown nothing, not even that there is nothing."""
        self._reads.remove(read)

    def judge(self, read: Read, value: int | None) -> Verdict:
        """`read` ended and showed `value`, None for a miss. From a doubtful value that shows is learned that it took effect."""
        self._reads.remove(read)
        if read.free:
            return Verdict.OK
        if value is None:
            return Verdict.LOST if read.expected else Verdict.OK
        if value not in read.legal or value == 0:
            return Verdict.STALE
        if value in self.doubtful:
            self.doubtful.discard(value)
            self.acknowledged = value
        return Verdict.OK

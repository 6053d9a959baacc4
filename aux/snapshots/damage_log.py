"""What restores could not bring back: counted, and remembered for an hour for the health of the cluster."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

REMEMBER_S: Final = 3600.0
"""How long a loss is reported after the restore that met it."""

_MAX_DAMAGES: Final = 1000
_SHOWN: Final = 10


class DamageLog:
    """What restores could not bring back, for the health of the cluster; forgotten after `REMEMBER_S`."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._damages: deque[tuple[float, int | None, str]] = deque(maxlen=_MAX_DAMAGES)
        self._missing: dict[int, tuple[float, str, bool]] = {}
        self.damaged_files = 0
        self.lost_entries = 0
        self.missing_files = 0

    def damaged(self, partition: int | None, sentence: str, entries: int = 0) -> None:
        """A section of `partition`, or (None) a file, could not be read, or not all of it."""
        self.damaged_files += 1
        self.lost_entries += entries
        self._damages.append((self._now(), partition, sentence))

    def missing(self, partition: int, file: str, *, older: bool) -> None:
        """The newest section of a partition that had been served was not there, `older`: but one before it was.

        `file`: where it should have been; empty if nobody knows.
        """
        self.missing_files += 1
        self._missing[partition] = (self._now(), file, older)

    def damages(self) -> list[tuple[int | None, str]]:
        """(partition, sentence) of what is remembered; the partition is None where it is of a whole file."""
        since = self._now() - REMEMBER_S
        return [(partition, text) for at, partition, text in self._damages if at > since]

    @property
    def remembered(self) -> int:
        """How many sections or files were damaged or missing within the last `REMEMBER_S`."""
        since = self._now() - REMEMBER_S
        return len(self.damages()) + sum(at > since for at, _, _ in self._missing.values())

    def sentences(self) -> list[str]:
        """For people, few enough to be read."""
        damages = sorted(self.damages(), key=lambda damage: damage[0] is not None)
        shown = [
            f"a snapshot file is damaged: {text}" if number is None
            else f"the snapshot of partition {number} is damaged: {text}"
            for number, text in damages[:_SHOWN]
        ]  # fmt: skip
        if len(damages) > len(shown):
            more = len(damages) - len(shown)
            shown.append(f"{more} more snapshots are damaged; GET /snapshots lists them")
        return [*shown, *self._missing_sentences()]

    def _missing_sentences(self) -> list[str]:
        since = self._now() - REMEMBER_S
        groups: dict[tuple[str, bool], list[int]] = {}
        for number, (at, file, older) in sorted(self._missing.items()):
            if at > since:
                groups.setdefault((file, older), []).append(number)
        return [
            _missing_sentence(numbers, file, older=older)
            for (file, older), numbers in sorted(groups.items())[:_SHOWN]
        ]


def _missing_sentence(numbers: list[int], file: str, *, older: bool) -> str:
    listed = ", ".join(map(str, numbers[:10])) + (", …" if len(numbers) > 10 else "")
    where = f" ({file} should have it, and is missing or cannot be read)" if file else ""
    if older:
        return (
            f"the newest snapshot of {len(numbers)} partitions was not found{where}; "
            f"they came back as they were before it: {listed}"
        )
    return (
        f"no snapshot was found of {len(numbers)} partitions that lost every copy{where}; "
        f"they started empty: {listed}"
    )

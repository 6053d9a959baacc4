"""Where a node's snapshots are kept, how often they are written, and how many of them stay."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from ringmaster.snapshot import SnapshotStore

_T = TypeVar("_T")


class InThread(Protocol):
    """Runs a blocking call elsewhere; in a simulation, right here."""

    def __call__(self, call: Callable[[], _T], /) -> Awaitable[_T]:
        """The result, or what it raises."""


@dataclass(frozen=True, slots=True)
class SnapshotOptions:
    """`interval_s` 0: only on request and at a clean stop. `keep`: rounds that are kept."""

    interval_s: float = 10.0
    keep: int = 3
    restore: bool = True
    restore_max_age_s: float | None = None


@dataclass(frozen=True, slots=True)
class SnapshotSetup:
    """Where snapshots are kept and how; a simulation gives its own."""

    store: SnapshotStore
    in_thread: InThread
    options: SnapshotOptions

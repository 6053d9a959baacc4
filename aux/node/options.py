"""What a node is given: its options, its lease, and who loads snapshots for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from aux.replication.primary import Primary


class Lease(Protocol):
    """The node's permission to serve; `held_until` is boot time in seconds."""

    held_until: float


class NoLease:
    """Before the first renewal."""

    held_until = 0.0


class Loader(Protocol):
    """Brings back partitions of which every copy was lost (R10)."""

    @property
    def highest_term(self) -> int:
        """The highest term of any snapshot seen; views must number above it."""

    @property
    def loaded_entries(self) -> int:
        """Entries brought back so far."""

    def start(self, primary: Primary) -> bool:
        """Begin to load the newest snapshot into `primary`, then call `Roles.loaded`; False: there is nothing to wait for."""

    def problems(self) -> list[str]:
        """What an operator must know of snapshots, a sentence each."""


@dataclass(frozen=True, slots=True)
class NodeOptions:
    """What a node is told once. Rates in bytes a second, 0 for no cap.

    `resident_bytes()`: what the process takes of memory now, 0 where that is not measured. `machine_bytes`: the memory of its
    machine or container, 0 if that is not known.
    """

    id: str
    incarnation: str
    max_bytes: int
    partitions: int
    min_in_sync: int = 1
    fill_bytes_per_s: int = 64 * 1024 * 1024
    resident_bytes: Callable[[], int] = int
    machine_bytes: int = 0

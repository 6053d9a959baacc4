"""The coordinator: a small linearizable store of the view and of leases.

One interface, one file per engine. Keys are text, values bytes. Every value has a version, and versions grow with each
commit. Keys and their writers are listed in `docs/internals.md`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Record:
    """A value and its version (> 0)."""

    value: bytes
    version: int


@dataclass(frozen=True, slots=True)
class Commit:
    """A conditional transaction: applied as a whole, and only if every key in `expect` has that version (0 = absent).

    An engine that stores `lease/…`, `controller` and `master/…` separately applies that part first. If the other part
    then fails, the commit fails with the first part applied (revoke first, publish second: the safe order).
    """

    expect: Mapping[str, int] = field(default_factory=dict)
    put: Mapping[str, bytes] = field(default_factory=dict)
    delete: frozenset[str] = frozenset()


class Coordinator(Protocol):
    """Engines guarantee linearizable reads and commits. Every call raises `CoordinatorUnavailable` after `timeout_s`.

    An engine belongs to one event loop, opens no file or connection before its first call, and recovers from failures
    by itself. sqlite also raises `ForeignHost` from every call while another kernel uses its files.
    """

    async def read(self, prefix: str, timeout_s: float = 2.0) -> dict[str, Record]:
        """All records whose key begins with `prefix`, at one point in time after the call began."""

    async def read_all(self, prefixes: Sequence[str], timeout_s: float = 2.0) -> dict[str, Record]:
        """All records whose key begins with one of `prefixes` (at least one). One call is cheaper than one per prefix.

        At one point in time after the call began. An engine that stores some keys separately reads those at another.
        """

    async def commit(self, commit: Commit, timeout_s: float = 2.0) -> Mapping[str, int] | None:
        """The new version of each key put, or None if an expectation failed (then nothing changed, but see `Commit`).

        On `CoordinatorUnavailable` the commit may or may not have been applied, now or later.
        """

    async def changed(self, key: str, version: int, timeout_s: float) -> Record | None:
        """Wait until the version of `key` differs from `version`, then its record. None after `timeout_s`.

        The removal of a key is not reported, its return is. Of several changes in quick succession only the last may be
        reported.
        """

    async def close(self) -> None:
        """Release connections and threads."""

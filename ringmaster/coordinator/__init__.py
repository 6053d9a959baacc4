"""The coordinator: a small linearizable store of the view and of leases.

One interface, one file per engine. Keys are text, values bytes; every value has a version that grows with each
change of the store. Keys and their writers are listed in `docs/internals.md`.
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
    """All-or-nothing: applies if every key in `expect` has that version (0 = absent).

    An engine that keeps `lease/…`, `controller` and `master/…` apart applies that part first; if the other part
    then fails, the commit fails with the first part done (revoke first, publish second: the safe order).
    """

    expect: Mapping[str, int] = field(default_factory=dict)
    put: Mapping[str, bytes] = field(default_factory=dict)
    delete: frozenset[str] = frozenset()


class Coordinator(Protocol):
    """Engines guarantee linearizable reads and commits. All raise `CoordinatorUnavailable` after `timeout_s`.

    An engine belongs to one event loop and contacts nothing before its first call. It recovers by itself. sqlite also
    raises `ForeignHost` from every call while another kernel uses its files.
    """

    async def read(self, prefix: str, timeout_s: float = 2.0) -> dict[str, Record]:
        """All records whose key begins with `prefix`, at one point in time after the call began."""

    async def read_all(self, prefixes: Sequence[str], timeout_s: float = 2.0) -> dict[str, Record]:
        """All records whose key begins with one of `prefixes` (one or more), by one call: a call costs more than rows do.

        At one point in time after the call began; an engine that keeps some keys apart reads those at one of their own.
        """

    async def commit(self, commit: Commit, timeout_s: float = 2.0) -> Mapping[str, int] | None:
        """The new versions of the keys put, or None if an expectation failed (nothing changed).

        On `CoordinatorUnavailable` the commit may or may not have been applied, now or later.
        """

    async def changed(self, key: str, version: int, timeout_s: float) -> Record | None:
        """The record of `key` as soon as its version differs from `version`; None if it does not within `timeout_s`.

        An absent key has no record to tell of: its removal is not reported, its return is. Changes that follow each
        other fast may be told as one, the last.
        """

    async def close(self) -> None:
        """Release connections and threads."""

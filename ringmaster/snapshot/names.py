"""Names of snapshot files. They are made here and nowhere else; nothing from outside becomes a path."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple, TypeVar

MAX_TERM = 1 << 31
"""Terms are epochs; a name with a higher one is not ours (an entry keeps 32 bits of it)."""

_NAME = re.compile(r"p(\d{5})-t(\d{1,10})-s(\d{1,15})-([A-Za-z0-9][A-Za-z0-9._-]{0,63})\.snap")
_INCARNATION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_DRAFT = re.compile(r"\.(p\d{5}-t\d{1,10}-s\d{1,15}-[A-Za-z0-9._-]{1,64}\.snap)\.draft")


class SnapshotName(NamedTuple):
    """What a file holds: a partition as of (term, seq), written by an incarnation.

    A term of a partition belongs to one incarnation, so two processes never make the same name.
    """

    partition: int
    term: int
    seq: int
    incarnation: str

    @property
    def version(self) -> tuple[int, int]:
        """(term, seq): of two files of a partition the higher is the newer, whatever clocks said."""
        return self.term, self.seq

    def __str__(self) -> str:
        return f"p{self.partition:05d}-t{self.term}-s{self.seq}-{self.incarnation}.snap"

    @property
    def draft(self) -> str:
        """The name while it is written."""
        return f".{self}.draft"


def checked_name(partition: int, term: int, seq: int, incarnation: str) -> SnapshotName:
    """A name. Raises ValueError for numbers or an incarnation that cannot be in one."""
    name = SnapshotName(partition, term, seq, incarnation)
    if not _INCARNATION.fullmatch(incarnation) or parse_name(str(name)) != name:
        raise ValueError(f"no snapshot can have the name {name}")
    return name


def parse_name(text: str) -> SnapshotName | None:
    """The name that `text` is, None if it is none of ours."""
    match = _NAME.fullmatch(text)
    if match is None:
        return None
    name = SnapshotName(int(match[1]), int(match[2]), int(match[3]), match[4])
    return name if name.term < MAX_TERM and str(name) == text else None


def parse_draft(text: str) -> SnapshotName | None:
    """The name that a draft was to get, None if `text` is not the name of one."""
    match = _DRAFT.fullmatch(text)
    return None if match is None else parse_name(match[1])


_Item = TypeVar("_Item", bound="tuple[SnapshotName, int]")


def by_partition(files: Iterable[_Item]) -> dict[int, list[_Item]]:
    """The files of each partition, newest first."""
    found: dict[int, list[_Item]] = {}
    for file in files:
        found.setdefault(file[0].partition, []).append(file)
    for versions in found.values():
        versions.sort(key=lambda file: file[0].version, reverse=True)
    return found

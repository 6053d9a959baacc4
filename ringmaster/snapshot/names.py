"""Names of snapshot files. They are made here and nowhere else; nothing from outside becomes a path."""

from __future__ import annotations

import re
from typing import NamedTuple

MAX_TERM = 1 << 31
"""Terms are epochs; a file with a higher one is not ours (an entry keeps 32 bits of it)."""

_INCARNATION = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
_BUNDLE = re.compile(rf"b(\d{{10}})-({_INCARNATION})\.bundle")
_MANIFEST = re.compile(rf"m-({_INCARNATION})\.manifest")
_V1 = re.compile(rf"p(\d{{5}})-t(\d{{1,10}})-s(\d{{1,15}})-{_INCARNATION}\.snap")
_DRAFT = re.compile(r"\.(.{1,100})\.draft", re.DOTALL)


class BundleName(NamedTuple):
    """The `number`-th bundle of an incarnation, from 1. An incarnation is one process, so no two make the same name."""

    incarnation: str
    number: int

    def __str__(self) -> str:
        return f"b{self.number:010d}-{self.incarnation}.bundle"

    @property
    def draft(self) -> str:
        """The name while it is written."""
        return f".{self}.draft"


class ManifestName(NamedTuple):
    """The manifest of an incarnation, which it replaces after each of its rounds."""

    incarnation: str

    def __str__(self) -> str:
        return f"m-{self.incarnation}.manifest"

    @property
    def draft(self) -> str:
        """The name while it is written."""
        return f".{self}.draft"


class OldName(NamedTuple):
    """A file of version 1 of the format: one partition in each. It is listed so that it can be reported."""

    text: str
    partition: int
    term: int

    def __str__(self) -> str:
        return self.text


def checked_name(incarnation: str, number: int) -> BundleName:
    """A name. Raises ValueError for an incarnation or a number that cannot be in one."""
    name = BundleName(incarnation, number)
    if parse_name(str(name)) != name:
        raise ValueError(f"no snapshot can have the name {name}")
    return name


def parse_name(text: str) -> BundleName | ManifestName | OldName | None:
    """The name that `text` is, None if it is none of ours."""
    if match := _BUNDLE.fullmatch(text):
        return BundleName(match[2], int(match[1]))
    if match := _MANIFEST.fullmatch(text):
        return ManifestName(match[1])
    if match := _V1.fullmatch(text):
        return OldName(text, int(match[1]), min(int(match[2]), MAX_TERM - 1))
    return None


def parse_draft(text: str) -> BundleName | ManifestName | None:
    """The name that a draft was to get, None if `text` is not the name of one."""
    match = _DRAFT.fullmatch(text)
    name = None if match is None else parse_name(match[1])
    return None if isinstance(name, OldName) else name

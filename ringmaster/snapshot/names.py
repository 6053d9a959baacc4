"""Names of snapshot files. They are made and parsed here only, so no text from outside becomes a path."""

from __future__ import annotations

import re
from typing import NamedTuple

MAX_TERM = 1 << 31
"""The bound of terms, which are epochs: an entry has 32 bits for one. A name with a higher term is not valid."""

_INCARNATION = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
_BUNDLE = re.compile(rf"b(\d{{10}})-({_INCARNATION})\.bundle")
_MANIFEST = re.compile(rf"m-({_INCARNATION})\.manifest")
_VERSION_1 = re.compile(rf"p(\d{{5}})-t(\d{{1,10}})-s(\d{{1,15}})-{_INCARNATION}\.snap")
_DRAFT = re.compile(r"\.(.{1,100})\.draft", re.DOTALL)


class BundleName(NamedTuple):
    """The `number`-th bundle of an incarnation, from 1. An incarnation is one process, so names are unique."""

    incarnation: str
    number: int

    def __str__(self) -> str:
        return f"b{self.number:010d}-{self.incarnation}.bundle"

    @property
    def draft(self) -> str:
        """The file's name while it is being written."""
        return f".{self}.draft"


class ManifestName(NamedTuple):
    """The manifest of an incarnation, which replaces it after each round."""

    incarnation: str

    def __str__(self) -> str:
        return f"m-{self.incarnation}.manifest"

    @property
    def draft(self) -> str:
        """The file's name while it is being written."""
        return f".{self}.draft"


class Version1Name(NamedTuple):
    """A file of format version 1, which has one partition per file. It is listed so that it can be reported."""

    text: str
    partition: int
    term: int

    def __str__(self) -> str:
        return self.text


def checked_name(incarnation: str, number: int) -> BundleName:
    """The name of a bundle. Raises `ValueError` if `incarnation` or `number` cannot be part of one."""
    name = BundleName(incarnation, number)
    if parse_name(str(name)) != name:
        raise ValueError(f"{name} is not a valid name of a snapshot file")
    return name


def parse_name(text: str) -> BundleName | ManifestName | Version1Name | None:
    """The parsed name, None if `text` is not the name of a snapshot file."""
    if match := _BUNDLE.fullmatch(text):
        return BundleName(match[2], int(match[1]))
    if match := _MANIFEST.fullmatch(text):
        return ManifestName(match[1])
    if match := _VERSION_1.fullmatch(text):
        return Version1Name(text, int(match[1]), min(int(match[2]), MAX_TERM - 1))
    return None


def parse_draft(text: str) -> BundleName | ManifestName | None:
    """The name under which the draft would have been published, None if `text` is not the name of a draft."""
    match = _DRAFT.fullmatch(text)
    name = None if match is None else parse_name(match[1])
    return None if isinstance(name, Version1Name) else name

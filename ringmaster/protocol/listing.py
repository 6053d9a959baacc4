"""Positions in the listing of a partition's keys, as nodes and masters exchange them.

Keys are listed by their hash, equal ones by their bytes. New keys, whatever their names, come to lie evenly before and
behind a position, so that a listing gets to the end however fast keys are written; in the order of their names, keys
that are numbered or dated would all be written ahead of it.
"""

from __future__ import annotations

from typing import Final

from xxhash import xxh3_64_digest

LIST_STEP: Final = 2048
"""Keys that a node looks at for one command, at most: about a millisecond of its time."""

NO_SURVEY: Final = bytes(8)
SURVEY_SIZE: Final = 8
"""A position begins with the survey that the node made of the partition; `NO_SURVEY`: none."""

MARK_SIZE: Final = 8
"""Then comes a mark: so many bytes of hash, and the key that was listed last, or nothing: the hash itself is still ahead."""


def mark_of(key: bytes) -> bytes:
    """What keys are sorted by. The partition is in the last bits of the hash, so the first differ within a partition."""
    return xxh3_64_digest(key) + key

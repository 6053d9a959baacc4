"""Whether a file is still the one that was read."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

Identity = tuple[int, ...] | None


def file_identity(path: Path) -> Identity:
    """Changes when the file is replaced or written; None while there is none to be seen."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def file_identities(paths: Iterable[Path]) -> tuple[Identity, ...]:
    """The same of several."""
    return tuple(map(file_identity, paths))

"""Where a data dir says that the lease dir is, if that is elsewhere."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from ringmaster.errors import SettingsError

_LEASE_DIR_FILE: Final = "lease-dir"
"""The file in the data dir that names the lease dir, if that is elsewhere."""


def record_lease_dir(data_dir: Path, lease_dir: Path) -> None:
    """Write the lease dir's path into the data dir, where every process that is given no lease dir looks for it.

    Raises `SettingsError`.
    """
    record = data_dir / _LEASE_DIR_FILE
    try:
        if lease_dir == data_dir / "leases":
            record.unlink(missing_ok=True)
            return
        temporary = record.with_suffix(".tmp")
        temporary.write_bytes(os.fsencode(lease_dir.absolute()) + b"\n")
        temporary.replace(record)
    except OSError as error:
        raise SettingsError(f"cannot write {record}: {error.strerror}") from error


def recorded_lease_dir(data_dir: Path) -> Path | None:
    """The path that `record_lease_dir` wrote, None if there is none."""
    try:
        recorded = (data_dir / _LEASE_DIR_FILE).read_bytes().rstrip(b"\n")
    except OSError:
        return None
    return Path(os.fsdecode(recorded)) if recorded else None

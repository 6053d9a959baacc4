"""Who had a running `ringmaster up` change its cluster: a JSON object a line, in `logs/audit.log` of the data dir."""

from __future__ import annotations

import json
import os
import stat
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from ringmaster.cli.supervisor import LOG_LIMIT_BYTES

FILE_NAME: Final = "audit.log"


def note_change(logs: Path, **fields: object) -> str:
    """Append a line; returns it. One that has grown too large is begun anew, the old one kept beside it once.

    Raises `OSError`.
    """
    path = logs / FILE_NAME
    line = json.dumps({"event": "audit", **fields, "timestamp": datetime.now(UTC).isoformat()})
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
    if path.exists() and path.stat().st_size > LOG_LIMIT_BYTES:
        path.replace(path.with_suffix(".old"))
    descriptor = os.open(path, flags, stat.S_IRUSR | stat.S_IWUSR)
    with open(descriptor, "a", encoding="utf-8") as file:
        file.write(line + "\n")
    return line

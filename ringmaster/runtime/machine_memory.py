"""How much memory there is, on this machine or in its container."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

_CONTROL_GROUP: Final = Path("/sys/fs/cgroup")
_UNLIMITED: Final = 2**60


def machine_memory(
    meminfo: Path = Path("/proc/meminfo"), group: Path = _CONTROL_GROUP
) -> tuple[int, int]:
    """Bytes in all, and left; of the container, if that has less. 0 where it cannot be read."""
    rows = dict(re.findall(r"^(\w+):\s+(\d+) kB", _text(meminfo), re.MULTILINE))
    total, available = (int(rows.get(name, 0)) * 1024 for name in ("MemTotal", "MemAvailable"))
    limit, used = (_number(group / name) for name in ("memory.max", "memory.current"))
    if limit is not None and limit < min(total, _UNLIMITED):
        # The kernel gives the cache of files back first.
        match = re.search(r"^inactive_file (\d+)", _text(group / "memory.stat"), re.MULTILINE)
        cache = int(match[1]) if match else 0
        total, available = limit, min(available, max(0, limit - (used or 0) + cache))
    return total, available


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _number(path: Path) -> int | None:
    text = _text(path).strip()
    return int(text) if text.isdecimal() else None

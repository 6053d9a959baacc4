"""How much processor time this thread wants: what it has had, and what it has waited for."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

_SCHEDSTAT: Final = Path("/proc/thread-self/schedstat")


def wanted_time() -> float:
    """Seconds since the thread began. Without the kernel's account of waiting (proc(5), `schedstat`) those it has had.

    A thread that was idle for a part of an interval wanted less than its length.
    """
    try:
        ran_ns, waited_ns = _SCHEDSTAT.read_text(encoding="ascii").split()[:2]
    except (OSError, ValueError):
        return time.thread_time()
    return (int(ran_ns) + int(waited_ns)) / 1e9

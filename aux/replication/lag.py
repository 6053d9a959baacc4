"""How far a copy is behind its primary, and since when."""

from __future__ import annotations

from typing import Final

from aux.replication.primary import Copy, CopyState

LAG_S: Final = 1.0
"""A required copy that makes no progress for this long is reported as lagging."""

LAG_SAMPLE_S: Final = 0.2
"""How often progress is looked at."""


def measure_lag(copy: Copy, seq: int, now: float, *, stalled: bool) -> None:
    """Note since when a required copy has made no progress; `stalled`: we were stopped ourselves."""
    behind = copy.state is not CopyState.STREAMING or copy.acked < seq
    if not behind:
        copy.behind_since = 0.0
    elif stalled or not copy.behind_since or copy.acked != copy.seen_acked:
        copy.behind_since = now
    copy.seen_acked = copy.acked


def is_lagging(copy: Copy, now: float) -> bool:
    """Whether `copy` has made no progress for more than `LAG_S`, as `measure_lag` noted."""
    return bool(copy.behind_since) and now - copy.behind_since > LAG_S

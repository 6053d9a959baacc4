"""What the self-audit of one master has found since it started. Plain numbers; a collector reads them when somebody asks."""

from __future__ import annotations

from collections import Counter
from typing import Final

SERVED: Final = "served"
FAILED: Final = "failed"
UNKNOWN: Final = "unknown"
REFUSED: Final = "refused"
OUTCOMES: Final = (SERVED, FAILED, UNKNOWN, REFUSED)
"""Of a read or write: done; not within the deadline; a write without a clear answer, followed by another; refused for load or limits."""


class Findings:
    """`stale`, `lost`: reads that broke the promise. `operations`: by what was done (`read`, `write`) and its outcome.

    `last`: a sentence on the last finding, and `found_at`, boottime.
    """

    def __init__(self) -> None:
        self.stale = 0
        self.lost = 0
        self.unavailable_s = 0.0
        self.operations = Counter(
            {(kind, out): 0 for kind in ("read", "write") for out in OUTCOMES}
        )
        self.last = ""
        self.found_at = 0.0
        self._ever_served = False
        # Until when time without service has been counted; None while there is service.
        self._out_since: float | None = None

    def served(self, now: float) -> None:
        """An operation was served."""
        self._ever_served = True
        if self._out_since is not None:
            self.unavailable_s += max(0.0, now - self._out_since)
            self._out_since = None

    def failed(self, began: float, now: float) -> None:
        """One that began then was not. A cluster that has served nothing yet is starting."""
        if not self._ever_served:
            return
        counted = began if self._out_since is None else self._out_since
        self.unavailable_s += max(0.0, now - counted)
        self._out_since = now

    def found(self, sentence: str, now: float) -> None:
        """Something stale or lost, which is counted besides."""
        self.last = sentence
        self.found_at = now

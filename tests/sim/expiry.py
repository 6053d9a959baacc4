"""What a time to live promises: a value is there until it is over, and not longer, whatever wall clocks say (R8)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tests.sim.history import OK, UNKNOWN, History, Operation

SLACK_S = 0.6
"""By how much the cluster time of two processes that serve may differ: one that was cut off from the masters for five
seconds, with clocks that differ by 10 %, and 0.1 s for news on its way."""


class Expiry:
    """Of values that may be served stale after their time, this is the time with that.

    `rates`: of the processes' boot-time clocks. `began`: when cluster time was read from a wall clock, true seconds.
    """

    def __init__(self, rates: Sequence[float], began: Sequence[float]) -> None:
        self._fastest = max(rates)
        self._slowest = min(rates)
        self._began = began

    def operations(self, mortals: Sequence[Operation]) -> Iterator[Operation]:
        """Each of `mortals` may go from when its time to live can be over."""
        for operation in mortals:
            yield Operation(
                "simulator",
                "evict",
                operation.key,
                self._earliest(operation),
                argument=operation.argument,
                outcome=UNKNOWN,
            )

    def judge(self, mortals: Sequence[Operation], history: History) -> list[str]:
        """Reads that found one of `mortals` after its time."""
        latest = {
            operation.argument: self._latest(operation)
            for operation in mortals
            if operation.outcome == OK
        }
        return [
            f"outlived its time to live, which was over at {over:.3f} s: {read}"
            for read in history.operations
            if read.kind in {"get", "peek", "fetch"} and read.outcome == OK
            if (over := latest.get(read.value)) is not None and read.invoked > over
        ]

    def _earliest(self, operation: Operation) -> float:
        lives_s = operation.ttl_ms / 1000 / self._fastest - SLACK_S
        return self._unless_begun(operation.invoked, operation.invoked + max(0.0, lives_s))

    def _latest(self, operation: Operation) -> float:
        written = operation.returned
        assert written is not None
        over = written + operation.ttl_ms / 1000 / self._slowest + SLACK_S
        # Cluster time that is read from a wall clock anew may be behind what it was.
        return over if self._unless_begun(operation.invoked, over) == over else float("inf")

    def _unless_begun(self, since: float, until: float) -> float:
        return min([until, *(at for at in self._began if since < at < until)])

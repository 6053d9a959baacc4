"""What fills promise beside linearizability: one live token a key and term, and that waiters are told (R12)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tests.sim.history import NOT_APPLIED, OK, READS, UNKNOWN, History, Operation

TOKEN_S = 2.0
"""Of fill tokens in simulated nodes, so that some end by their time."""

TELL_S = 0.4
"""Without faults a waiter hears of a value within this."""

_SLACK_S = 0.1


def judge(
    history: History, rates: Sequence[float], lapses: Sequence[float], *, calm: bool
) -> list[str]:
    """Two tokens that live at once; if the run was `calm`, waiters that were not told.

    `rates`: of boot-time clocks. `lapses`: when a session of a master ended, and with it the tokens of which it may not have heard.
    """
    failures = []
    for operations in history.by_key().values():
        fetches = [each for each in operations if each.kind == "fetch" and each.outcome == OK]
        for first, second in _two_tokens(fetches, operations, TOKEN_S / max(rates) - _SLACK_S):
            if not any(first.invoked < at < (second.returned or at) for at in lapses):
                failures.append(f"two live tokens in one term: {first} and {second}")
        if calm:
            failures += _untold(fetches, operations)
    return failures


def _two_tokens(
    fetches: Sequence[Operation], operations: Sequence[Operation], token_s: float
) -> Iterator[tuple[Operation, Operation]]:
    granted = [each for each in fetches if each.token]
    for first in granted:
        for second in granted:
            if (
                second is not first
                and _term(second) == _term(first)
                and _number(second) > _number(first)
                and second.returned is not None
                and second.returned < first.invoked + token_s
                and not any(_may_end(each, first, second) for each in operations)
            ):
                yield first, second


def _may_end(operation: Operation, first: Operation, second: Operation) -> bool:
    """Whether `operation` may have ended the token of `first` before that of `second` was given; one of unknown outcome at any time (R9)."""
    if operation.kind in READS:
        return operation is first and operation.left
    return (
        second.returned is not None
        and operation.outcome != NOT_APPLIED
        and operation.invoked < second.returned
        and (
            operation.returned is None
            or operation.outcome == UNKNOWN
            or operation.returned > first.invoked
        )
    )


def _untold(fetches: Sequence[Operation], operations: Sequence[Operation]) -> Iterator[str]:
    """Waiters that came back with nothing although a value had been there for a while, and nothing took it away."""
    for fetch in fetches:
        if fetch.value is not None or fetch.token or not fetch.number or fetch.returned is None:
            continue
        for write in operations:
            if (
                write.kind in {"put", "fill"}
                and write.outcome == OK
                and write.status in {0, 1}
                and not write.ttl_ms
                and write.returned is not None
                and write.invoked > fetch.invoked + TELL_S
                and write.returned < fetch.returned - TELL_S
                and not any(
                    other.kind in {"delete", "untag", "evict"}
                    and other.invoked < fetch.returned
                    and (other.returned is None or other.returned > write.invoked)
                    for other in operations
                )
            ):
                yield f"not told of {write}: {fetch}"


def _term(operation: Operation) -> str:
    return operation.token.rpartition(".")[0]


def _number(operation: Operation) -> int:
    return int(operation.token.rpartition(".")[2], 16)

"""Switches that break R12: each is caught by a fill that should have been lost, a second token, or a read of what never was."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

import aux.storage.expiry
from aux.node.fills import PartitionFills
from aux.server.data_commands import DataCommands
from ringmaster.routing.fills import Ask, FillDesk
from tests.sim.mutation import Mutants

FILL_MUTANTS = mutant = Mutants()


@mutant
def token_kept_over_a_write() -> Iterator[None]:
    """R12: a write or delete of the key does not end its token."""
    with patch.object(PartitionFills, "sequenced", lambda *_: None):
        yield


@mutant
def token_not_looked_at() -> Iterator[None]:
    """R12: a write with a token is taken whether or not that lives."""
    with patch.object(DataCommands, "_is_good", lambda *_: True):
        yield


@mutant
def token_kept_over_an_invalidation() -> Iterator[None]:
    """R12: what is filled may carry a tag that was invalidated after its filler had read the source."""
    with patch.object(PartitionFills, "invalidated", lambda *_: None):
        yield


@mutant
def two_tokens_at_once() -> Iterator[None]:
    """R12: everybody who asks for a missing key may fill it."""
    take = PartitionFills._take

    def again(fills: PartitionFills, key: bytes, fill: Any, *others: Any) -> str:
        fill.left = True
        return take(fills, key, fill, *others)

    with patch.object(PartitionFills, "_take", again):
        yield


@mutant
def waiter_told_of_an_uncommitted_value() -> Iterator[None]:
    """R12: who waits hears of a value when it is sequenced."""
    sequenced, live = PartitionFills.sequenced, PartitionFills._live

    def newest(fills: PartitionFills, key: bytes) -> bytes | None:
        return fills._primary.newest(key) or live(fills, key)

    def early(fills: PartitionFills, key: bytes) -> None:
        sequenced(fills, key)
        loop = asyncio.get_running_loop()
        loop.call_soon(told, fills, key)

    def told(fills: PartitionFills, key: bytes) -> None:
        with patch.object(PartitionFills, "_live", newest):
            fills.settle(key)

    with patch.object(PartitionFills, "sequenced", early):
        yield


@mutant
def callers_join_without_being_asked_for() -> Iterator[None]:
    """R12: who comes while others wait is told what the primary said before it came."""
    begin = FillDesk.begin

    def join(desk: FillDesk, key: bytes, *, waits: bool) -> Ask:
        line = desk._lines.get(key)
        if not waits or line is None or not line.parked:
            return begin(desk, key, waits=waits)
        ask = Ask(key, waits)
        ask.answered = True
        line.parked[ask] = None
        return ask

    with patch.object(FillDesk, "begin", join):
        yield


@mutant
def stale_values_gone_at_once() -> Iterator[None]:
    """R12: a value is gone with its time to live, although it may be served stale."""

    def is_expired(entry: bytes, now_ms: int) -> bool:
        return 0 < aux.storage.expiry.expires_ms_of(entry) <= now_ms

    with patch.object(aux.storage.expiry, "is_expired", is_expired):
        yield

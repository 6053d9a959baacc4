"""Reads that wait, in aiohttp's hands: what is kept of them once they are answered (R12)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest

from master.api.data import DataApi
from master.api.request import Exchange
from master.http.responses import Replies
from ringmaster.runtime.cluster_clock import ClusterClock
from tests.fakes.router import FakeRouter
from tests.unit.master.fastpath.world import ShiftedClock


class FakeExchange:
    """`gone`: what is to be done when the client's connection is lost."""

    def __init__(self, *, is_proxied: bool) -> None:
        self.gone: list[Callable[[], None]] = []
        self.is_proxied = is_proxied
        self.holder_has_gone = False
        self.when_lost = self.gone.append
        self.not_when_lost = self.gone.remove

    def patience(self, _wait_s: int) -> tuple[float, float]:
        return 1e12, 1e12


async def wait(router: FakeRouter, exchange: FakeExchange) -> Any:
    api = DataApi(cast(Any, router), Replies(ClusterClock(ShiftedClock())), cast(Any, None))
    return await api._read_or_wait(cast(Exchange, exchange), b"k", 1)


@pytest.mark.parametrize("is_proxied", [True, False])
async def test_a_connection_keeps_nothing_of_an_entry_that_was_read(is_proxied: bool) -> None:
    router = FakeRouter(ClusterClock(ShiftedClock()))
    router.plant(b"k")
    exchange = FakeExchange(is_proxied=is_proxied)
    assert (await wait(router, exchange)).entry
    assert exchange.gone == []


async def test_a_token_is_left_by_the_connection_of_its_holder_but_not_by_that_of_a_proxy() -> None:
    router = FakeRouter(ClusterClock(ShiftedClock()))
    holder, proxy = FakeExchange(is_proxied=False), FakeExchange(is_proxied=True)
    first = await wait(router, holder)
    [left] = holder.gone
    left()
    second = await wait(router, proxy)
    assert first.fill_token != second.fill_token != ""
    assert proxy.gone == []

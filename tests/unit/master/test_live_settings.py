"""What a master takes on of settings that change while it runs."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from master.fastpath.overload import Overload
from master.http.problem import Problem
from master.http.rate_limits import RateLimits
from master.http.request_counters import Counters
from master.http.responses import Replies
from master.live_settings import LiveSettings
from ringmaster.access.grant import Grant
from ringmaster.cluster.runtime_settings import RuntimeSettings
from ringmaster.config.settings import MasterSettings, load_settings
from ringmaster.config.sources import started_with
from ringmaster.net.admission import Admission
from ringmaster.net.network import AsyncioNetwork
from ringmaster.routing.router import Router
from ringmaster.runtime.clock import SystemClock
from ringmaster.runtime.cluster_clock import ClusterClock


class World:
    """One master's parts that take settings on."""

    def __init__(self) -> None:
        clock = ClusterClock(SystemClock())
        router = Router(AsyncioNetwork(), SystemClock())
        self.overload = Overload(router, Replies(clock, "0" * 8), Counters(), clock, 0.005)
        self.rates, self.admission = RateLimits(), Admission(10_000, 5_000)
        self.grants: Sequence[Grant] = ()
        started = started_with(load_settings(MasterSettings), {})
        self.live = LiveSettings(
            started, self.overload, self.rates, self.admission, lambda: self.grants
        )
        self._version = 0

    def follow(self, **values: object) -> None:
        self._version += 1
        self.live.follower.follow(RuntimeSettings(version=self._version, values=values))


@pytest.fixture
def world() -> World:
    return World()


def test_a_limit_by_address_holds_and_goes_again(world: World) -> None:
    world.follow()
    assert not world.rates.active
    world.follow(rate_limit_address="1/h")
    assert world.rates.active
    world.rates.enter("10.0.0.1", "", 0.0)
    with pytest.raises(Problem):
        world.rates.enter("10.0.0.1", "", 0.0)
    world.follow(rate_limit_address="2/h")
    world.rates.enter("10.0.0.1", "", 0.0)  # a bucket of the new rate, full
    world.follow()
    assert not world.rates.active


def test_a_limit_for_tokens_is_of_those_that_have_none_of_their_own(world: World) -> None:
    world.grants = (
        Grant(name="plain", digest="a", rights=frozenset({"read"})),
        Grant(name="own", digest="b", rights=frozenset({"read"}), rate="5/s"),
    )
    world.follow(rate_limit_token="1/h")
    assert {name: str(held.rate) for name, held in world.rates._by_token.items()} == {
        "plain": "1/h",
        "own": "5/s",
    }
    world.follow()
    assert set(world.rates._by_token) == {"own"}


def test_caps_on_connections_send_nobody_away(world: World) -> None:
    world.follow()
    assert [world.admission.enter("10.0.0.1") for _ in range(3)] == ["", "", ""]
    world.follow(max_connections=3, max_connections_per_address=2)
    assert "3 connections already" in world.admission.enter("10.0.0.2")
    assert world.admission.total == 3
    world.follow(max_connections_per_address=3)
    assert "from this address" in world.admission.enter("10.0.0.1")
    assert world.admission.enter("10.0.0.2") == ""


def test_the_wait_from_which_on_requests_are_refused_changes_and_0_ends_it(world: World) -> None:
    world.follow(shed_after=0.2)
    assert world.overload.shedding.target_s == 0.2
    shedding = world.overload.shedding
    shedding.active = True
    world.follow(shed_after=0)
    shedding.waited(9.0)
    shedding.close_interval(shedding.ends, 100, 1000, pressed=True)
    assert not shedding.active
    assert not world.overload.front.active

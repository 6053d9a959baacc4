"""Copies in masters, the master's side: when it may answer from one, and what it says to the node (R13)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest_asyncio

from ringmaster.net.link import Link
from ringmaster.protocol.entry import pack, pack_json
from ringmaster.protocol.resp import Command
from ringmaster.routing.copies import COPY_BYTES, IDLE_REPORTS, REPORT_S, Copies
from ringmaster.routing.event_links import TRUST_S, Session
from ringmaster.routing.table import Route
from tests.unit.fake_wire import FakeNetwork, ticks, until

OWNER = ("a", "a-1")
KEY = b"k"
ENTRY = pack_json(1, 1, 0, b'"v"')


class HandClock:
    now = 100.0

    def boottime(self) -> float:
        return self.now

    def wall(self) -> float:
        return 0.0


class World:
    """One master, one node that it has a session with, and the partition of all keys."""

    def __init__(self, most_bytes: int = 2**20) -> None:
        self.clock = HandClock()
        self.network = FakeNetwork()
        self.link = Link(self.network, "a:1", name="a", hello=b"")
        self.route: Route | None = Route(0, 1, OWNER, self.link)
        self.copies = Copies(self.clock, lambda _key: self.route, most_bytes)
        self.session = self.a_session()

    def a_session(self) -> Session:
        session = Session(
            OWNER, "m1", self.clock, lambda *_: None, lambda *_: None, lambda: 1, copies=True
        )
        session.link = self.link
        return session

    async def begin(self, session: Session) -> None:
        """The session is open."""
        self.link.start()
        await until(lambda: self.link.connected)
        session.up()
        assert await self.taken() == [[b"RM.SESSION", b"m1", b"1", b"1", b"1"]]
        self.network.at("a:1").receive(b"+OK\r\n")

    async def taken(self) -> list[Command]:
        """What was said to the node since this was last asked; what needs an answer has none yet."""
        await ticks(6)
        return self.network.at("a:1").taken()

    def give(
        self, key: bytes = KEY, number: int = 1, left_ms: int = 0, token: bytes = b"0.1"
    ) -> None:
        event: list[Any] = [b"copy", token, key, ENTRY, b"%d" % number, b"%d" % left_ms]
        assert self.copies.event(self.session, event)

    async def renew(self, *, after_s: float = 0.0) -> None:
        """A renewal, which is answered some time after it was sent."""
        self.session.renew()
        assert (await self.taken())[-1][0] == b"RM.RENEW"
        self.clock.now += after_s
        self.network.at("a:1").receive(b":1\r\n")


async def a_world(most_bytes: int = 2**20) -> World:
    world = World(most_bytes)
    await world.begin(world.session)
    return world


@pytest_asyncio.fixture
async def world() -> AsyncIterator[World]:
    world = await a_world()
    yield world
    await world.link.close()


async def test_a_copy_is_used_while_its_session_is_trusted(world: World) -> None:
    world.give()
    assert world.copies.entry_of(KEY) == ENTRY
    world.clock.now += TRUST_S - 0.01
    assert world.copies.entry_of(KEY) == ENTRY
    world.clock.now += 0.02
    assert world.copies.entry_of(KEY) is None
    await world.renew()
    assert world.copies.entry_of(KEY) == ENTRY
    assert world.copies.hits == 3


async def test_values_are_those_of_all_keys_or_none(world: World) -> None:
    world.give(b"a")
    world.give(b"b", 2)
    assert world.copies.values_of([b"b", b"a"]) == [b'"v"', b'"v"']
    assert world.copies.hits == 2
    assert world.copies.values_of([b"a", b"c"]) is None
    raw = pack(
        slot=0, term=1, seq=1, expires_ms=0, written_s=0, flags=0, meta=b"", value=b"no JSON"
    )
    assert world.copies.event(world.session, [b"copy", b"0.1", b"c", raw, b"3", b"0"])
    assert world.copies.values_of([b"a", b"c"]) is None
    assert world.copies.hits == 2
    world.clock.now += TRUST_S + 0.01
    assert world.copies.values_of([b"b", b"a"]) is None


async def test_a_renewal_is_trusted_from_when_it_was_sent_and_not_at_all_if_it_is_refused(
    world: World,
) -> None:
    world.give()
    await world.renew(after_s=0.8)
    world.clock.now += 0.2
    assert world.copies.entry_of(KEY) is None


async def test_a_copy_that_is_asked_back_is_dropped_before_that_is_said(world: World) -> None:
    world.give()
    assert world.copies.event(world.session, [b"drop", b"0.1", KEY, b"7"])
    assert world.copies.entry_of(KEY) is None
    assert await world.taken() == [[b"RM.DROPPED", b"7"]]
    assert world.copies.bytes == 0
    assert world.copies.event(world.session, [b"drop", b"0.1", KEY, b"8"])
    assert world.copies.event(world.session, [b"drop", b"0.1", b"other", b"9"])
    assert await world.taken() == [[b"RM.DROPPED", b"9"]]


async def test_a_copy_of_another_term_or_from_another_node_is_given_back(world: World) -> None:
    world.give(token=b"0.2")
    world.route = Route(0, 1, ("b", "b-1"), world.link)
    world.give(number=2)
    world.route = None
    world.give(number=3)
    assert [words[3] for words in await world.taken()] == [b"1", b"2", b"3"]
    assert not world.copies.held


async def test_a_new_term_and_a_lost_session_end_copies(world: World) -> None:
    world.give()
    world.copies.rerouted([world.route])
    assert world.copies.entry_of(KEY) == ENTRY
    world.copies.rerouted([Route(0, 2, OWNER, world.link)])
    assert world.copies.entry_of(KEY) is None
    world.give()
    world.copies.lost(world.a_session())
    assert world.copies.entry_of(KEY) == ENTRY
    world.copies.lost(world.session)
    assert world.copies.entry_of(KEY) is None
    assert world.copies.bytes == 0


async def test_a_time_to_live_runs_from_the_last_renewal_that_the_node_had_answered_before(
    world: World,
) -> None:
    world.clock.now += 0.5
    world.give(left_ms=700)
    await world.renew()
    assert world.copies.entry_of(KEY) == ENTRY
    world.clock.now += 0.25
    assert world.copies.entry_of(KEY) is None


async def test_within_the_budget_the_copies_that_are_used_stay() -> None:
    size = 2 * (len(b"k1") + len(ENTRY)) + COPY_BYTES
    world = await a_world(16 * size)
    for number in range(16):
        world.give(b"%02d" % number, number)
    assert world.copies.entry_of(b"00") == ENTRY
    world.give(b"16", 16)
    assert world.copies.bytes <= 16 * size
    assert b"00" in world.copies.held
    returned = await world.taken()
    assert returned
    assert {words[0] for words in returned} == {b"RM.RETURN"}
    assert not {words[2] for words in returned} & world.copies.held.keys()


async def test_what_was_used_is_reported_and_what_was_not_is_given_back(world: World) -> None:
    world.give()
    world.give(b"idle", 2)
    world.copies.entry_of(KEY)
    world.copies.entry_of(KEY)
    world.clock.now += REPORT_S + 0.01
    world.copies.tick(world.clock.now)
    world.copies.tick(world.clock.now)
    assert await world.taken() == [[b"RM.USED", b"0.1", KEY, b"2"]]
    for _ in range(IDLE_REPORTS):
        world.clock.now += REPORT_S + 0.01
        world.copies.tick(world.clock.now)
    assert await world.taken() == [[b"RM.RETURN", b"0.1", b"idle", b"2"]]


async def test_many_copies_are_reported_some_at_a_time(world: World) -> None:
    keys = [b"%03d" % number for number in range(250)]
    for number, key in enumerate(keys):
        world.give(key, number)
        world.copies.entry_of(key)
    world.clock.now += REPORT_S + 0.01
    reported = []
    for more in (True, True, False):
        assert world.copies.tick(world.clock.now) is more
        [command] = await world.taken()
        reported.append(command[2::3])
    assert [len(slice_) for slice_ in reported] == [100, 100, 50]
    assert [key for slice_ in reported for key in slice_] == keys


async def test_other_events_are_not_for_copies(world: World) -> None:
    assert not world.copies.event(world.session, [b"value", b"0.1", KEY, ENTRY])

"""Listings while keys are written, deleted and used, partitions move, and nodes forget what they surveyed.

Nodes are the real `Listings` over dicts; the master's side is the real `list_page`. Whatever a schedule does between two
commands, every key that was there from the first page to the last is listed once, none is listed twice, and it ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aux.storage.listing import IDLE_S, Listings
from ringmaster.errors import BadRequest, Unserved
from ringmaster.net.link import Link
from ringmaster.protocol.hashing import partition_of
from ringmaster.routing.listing import list_page
from ringmaster.routing.scatter_gather import Request
from ringmaster.routing.table import Route, Table
from tests.fakes.cluster import FakeClock
from tests.unit.fake_wire import FakeNetwork

STEP = 8


class World:
    """Partitions as dicts; each is on one node, in a term. `disturb` is called before every command.

    `asked_at_once`: the keys in what one node was asked for at once.
    """

    def __init__(
        self, partitions: int, nodes: int, steps: list[tuple[int, int, int]], step: int = STEP
    ) -> None:
        self.partitions = partitions
        self.step = step
        self.listings = [Listings(0, step) for _ in range(nodes)]
        network = FakeNetwork()
        self.links = [Link(network, f"n{n}:1", name=f"n{n}", hello=b"") for n in range(nodes)]
        self.entries: list[dict[bytes, bytes]] = [{} for _ in range(partitions)]
        self.owner = [number % nodes for number in range(partitions)]
        self.term = [1] * partitions
        self.steps = list(steps)
        self.written = 0
        self.deleted: set[bytes] = set()
        self.clock = FakeClock()
        self.asked_at_once: list[int] = []
        self.down: set[int] = set()
        self.table_now = self._table()

    def _table(self) -> Table:
        return [
            Route(number, self.term[number], (f"n{owner}", "1"), self.links[owner])
            for number, owner in enumerate(self.owner)
        ]

    def put(self, key: bytes) -> None:
        """Write, or write anew: either way it is the most recently used."""
        entries = self.entries[partition_of(key, self.partitions)]
        entries.pop(key, None)
        entries[key] = b"entry"

    def disturb(self, kind: int, which: int, much: int) -> None:
        keys = [key for each in self.entries for key in each]
        if kind == 0:  # keys that are numbered upwards, as times and ids are
            for _ in range(much):
                self.written += 1
                self.put(b"p~%09d" % self.written)
        elif kind == 1 and keys:  # uses, which reorder
            for offset in range(much):
                self.put(keys[(which * 7 + offset * 13) % len(keys)])
        elif kind == 2:  # removals: deletes, evictions, expiries
            for key in keys[which % (len(keys) + 1) :][:much]:
                if not key.startswith(b"p-stays"):
                    del self.entries[partition_of(key, self.partitions)][key]
                    self.deleted.add(key)
        elif kind == 3:  # a move or failover: another node, another order, another term
            number = which % self.partitions
            self.owner[number] = (self.owner[number] + 1) % len(self.links)
            self.term[number] += 1
            self.entries[number] = dict(reversed(self.entries[number].items()))
            self.table_now = self._table()
        elif kind == 4:  # a node that forgets
            self.listings[which % len(self.listings)] = Listings(0, self.step)

    async def ask(self, requests: Sequence[Request], _deadline: float) -> list[object]:
        replies: list[object] = []
        of_node: dict[int, int] = {}
        for request in requests:
            number = request.key_hash & (self.partitions - 1)
            if self.steps:
                self.disturb(*self.steps.pop(0))
            owner = self.owner[number]
            of_node[owner] = of_node.get(owner, 0) + len(self.entries[number])
            if owner in self.down:
                replies.append(Unserved("down"))
                continue
            position, limit, prefix = cast("tuple[bytes, int, bytes]", request.args)
            entries = self.entries[number]
            token = b"%d.%d" % (number, self.term[number])
            page = None
            while page is None:  # What was surveyed in vain makes room after a while.
                page = self.listings[owner].page(
                    token, entries, position, limit, prefix, lambda *_: True, self.clock.now
                )
                self.clock.now += 0.0 if page else 2 * IDLE_S
            replies.append([page[0], b"%d" % len(entries), *page[1]])
        self.asked_at_once.append(max(of_node.values()))
        return replies

    async def page(self, limit: int, cursor: str | None) -> tuple[list[bytes], str | None]:
        deadline = self.clock.now + 6
        return await list_page(
            lambda: self.table_now, self.ask, self.clock, b"p", limit, cursor, deadline, self.step
        )


@given(
    steps=st.lists(
        st.tuples(st.integers(0, 4), st.integers(0, 1000), st.integers(1, 12)), max_size=60
    ),
    stays=st.integers(0, 120),
    layout=st.sampled_from([(1, 1), (1, 3), (4, 2), (16, 3)]),
    limit=st.integers(1, 40),
)
@settings(max_examples=200, deadline=None)
async def test_what_stays_is_listed_once_whatever_happens_meanwhile(
    steps: list[tuple[int, int, int]], stays: int, layout: tuple[int, int], limit: int
) -> None:
    world = World(*layout, steps)
    staying = {b"p-stays%d" % number for number in range(stays)}
    for key in staying:
        world.put(key)
    world.put(b"other")
    listed: list[bytes] = []
    cursor: str | None = None
    for _ in range(5000):
        keys, cursor = await world.page(limit, cursor)
        assert len(keys) <= limit
        listed += keys
        if cursor is None:
            break
    else:
        raise AssertionError("the listing does not end")
    assert staying <= set(listed)
    assert all(key.startswith(b"p") for key in listed)
    # A key that was deleted and written again may be there twice; no other.
    twice = {key for key in listed if listed.count(key) > 1}
    assert twice <= world.deleted


async def test_a_listing_overtakes_whoever_writes_faster_than_it_lists() -> None:
    """One key a page, and two new ones for each command, in ascending order: in the order of names it would never end."""
    world = World(1, 1, [(0, 0, 2)] * 100_000)
    for number in range(20):
        world.put(b"p%d" % number)
    cursor: str | None = None
    pages = 0
    while True:
        _, cursor = await world.page(1, cursor)
        pages += 1
        assert pages < 10_000
        if cursor is None:
            return


@pytest.mark.parametrize("nodes", [1, 3])
@pytest.mark.parametrize(("keys", "step"), [(2000, 256), (2000, 8), (200, 2048)])
async def test_a_node_is_asked_for_about_one_step_at_a_time(
    nodes: int, keys: int, step: int
) -> None:
    """After the first answer a master knows about how many keys a partition has."""
    world = World(64, nodes, [], step)
    for number in range(keys):
        world.put(b"p%d" % number)
    listed, cursor = await world.page(5000, None)
    assert cursor is None
    assert len(listed) == keys
    assert max(world.asked_at_once) <= max(1.5 * step, *map(len, world.entries))
    if step == 2048:
        assert len(world.asked_at_once) <= 4


async def test_a_page_of_what_is_served_comes_before_the_error_of_what_is_not() -> None:
    world = World(4, 2, [])
    for number in range(40):
        world.put(b"p%d" % number)
    world.down = {1}
    keys, cursor = await world.page(1000, None)
    assert set(keys) == {key for key in world.entries[0] if key.startswith(b"p")}
    with pytest.raises(Unserved):
        await world.page(1000, cursor)
    world.down.clear()
    rest, cursor = await world.page(1000, cursor)
    assert cursor is None
    assert len(keys) + len(rest) == 40


async def test_a_page_ends_after_half_of_its_time() -> None:
    world = World(16, 1, [])
    for number in range(300):
        world.put(b"p%d" % number)
    pages, cursor = 0, None
    listed: list[bytes] = []
    while pages == 0 or cursor is not None:
        deadline = world.clock.now + 6

        async def ask(requests: Sequence[Request], deadline: float) -> list[object]:
            world.clock.now += 2
            return await world.ask(requests, deadline)

        keys, cursor = await list_page(
            lambda: world.table_now, ask, world.clock, b"p", 1000, cursor, deadline, STEP
        )
        listed += keys
        pages += 1
    assert pages > 1
    assert sorted(listed) == sorted(key for each in world.entries for key in each)


async def test_a_cursor_of_another_prefix_or_partition_is_refused() -> None:
    world = World(4, 1, [])
    for number in range(40):
        world.put(b"p%d" % number)
    _, cursor = await world.page(3, None)
    assert cursor is not None
    number, _, position = cursor.partition("~")
    deadline = world.clock.now + 6
    for prefix, other in (
        (b"", cursor),
        (b"p1", cursor),
        (b"p", f"{int(number) + 1}~{position}"),
        (b"p", f"{number}~{position[:-1]}{'A' if position[-1] != 'A' else 'Q'}"),
        (b"p", f"{number}~{position[4:]}"),
    ):
        with pytest.raises(BadRequest, match="prefix"):
            await list_page(
                lambda: world.table_now, world.ask, world.clock, prefix, 3, other, deadline
            )


@pytest.mark.parametrize(
    "cursor", ["", "x", "9~", "-1~", "0~é", "0~a", "0.", "0~AAAA", "0~" + "A" * 800, "0~A===", "١~"]
)
async def test_a_made_up_cursor_is_refused(cursor: str) -> None:
    with pytest.raises(BadRequest):
        await World(4, 1, []).page(1, cursor)

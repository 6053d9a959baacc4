"""What came back from snapshots is judged right: against sections, histories and disks made by hand."""

from types import SimpleNamespace
from typing import Any, cast

from ringmaster.protocol.entry import JSON, RESTORED, pack
from tests.sim.cluster import Cluster
from tests.sim.history import History, Operation
from tests.sim.hub import Hub
from tests.sim.losses import WINDOW_S, Losses
from tests.sim.volume import Section

KEY = b"k"


def entry(seq: int, *, flags: int = JSON) -> bytes:
    return pack(
        slot=0, term=1, seq=seq, expires_ms=0, written_s=1, flags=flags, meta=b"", value=b"%d" % seq
    )


def section(seq: int, *entries: int) -> Section:
    return Section(
        0, (1, seq), dict.fromkeys([KEY][: len(entries)], b"".join(map(entry, entries))), True
    )


def put(returned: float, seq: int) -> Operation:
    return Operation(
        "c", "put", KEY, returned - 0.1, b"%d" % seq, returned=returned, outcome="ok", status=1,
        version=(1, seq), partition=0,
    )  # fmt: skip


def delete(returned: float, seq: int) -> Operation:
    return Operation(
        "c", "delete", KEY, returned - 0.1, returned=returned, outcome="ok", status=0,
        version=(1, seq), partition=0,
    )  # fmt: skip


class World:
    """One partition, and a volume on which `newest` is what counts. `known`: in a file whose header is damaged."""

    def __init__(
        self, *newest: Section, known: tuple[Section, ...] = (), trouble: bool = False
    ) -> None:
        self.hub = Hub(1)
        self.hub.now = 10.0
        self.volume = SimpleNamespace(
            newest=lambda _: list(newest),
            known=lambda _partition, _version: list(known),
            written=[],
            trouble=trouble,
            highest_term=lambda: 1,
        )
        plan = SimpleNamespace(partitions=1, punctual=True)
        cluster = SimpleNamespace(
            hub=self.hub, volume=self.volume, plan=plan, sealing=False, time_began=[]
        )
        self.losses = Losses(cast(Cluster, cluster))

    def lose(self) -> None:
        self.losses.lost(0)

    def serve(self, *entries: bytes, loaded: bool = True) -> list[str]:
        data = SimpleNamespace(
            tags={}, entries=dict.fromkeys([KEY][: len(entries)], b"".join(entries))
        )
        primary = cast(Any, SimpleNamespace(number=0, term=2, data=data))
        if loaded:
            self.losses.loaded(primary)
        self.losses.served(primary)
        return self.hub.failures

    def judge(self, *operations: Operation) -> list[str]:
        return self.losses.judge(History(list(operations)))


def test_what_was_lost_before_stays_lost_if_what_came_back_survives() -> None:
    world = World(section(3, 3))
    for copies in ("old", "old", "new", "new"):
        world.losses.lost(0, frozenset({copies}))
    world.losses.survived(0)
    assert world.losses.pending
    assert world.serve(entry(3, flags=JSON | RESTORED)) == []


def test_a_loss_that_is_seen_twice_is_none_if_the_copies_survive() -> None:
    world = World(section(3, 3))
    for _ in range(2):
        world.losses.lost(0, frozenset({"old"}))
    world.losses.survived(0)
    assert not world.losses.pending


def test_the_newest_section_marked_as_restored_is_what_must_come_back() -> None:
    for found, fine in (
        (entry(3, flags=JSON | RESTORED), True),
        (entry(3), False),
        (entry(2), False),
    ):
        world = World(section(3, 3))
        world.lose()
        assert (world.serve(found) == []) is fine


def test_what_was_known_before_its_header_was_damaged_may_come_back_and_need_not() -> None:
    back = entry(3, flags=JSON | RESTORED)
    older = entry(2, flags=JSON | RESTORED)
    for newest, found, fine in (
        ((), (back,), True),
        ((), (), True),
        ((), (older,), False),
        ((section(2, 2),), (back,), True),
        ((section(2, 2),), (older,), True),
        ((section(2, 2),), (), False),
    ):
        world = World(*newest, known=(section(3, 3),))
        world.lose()
        assert (world.serve(*found) == []) is fine, (newest, found)


def test_nothing_comes_back_unless_it_was_lost_and_nothing_begins_empty_beside_a_snapshot() -> None:
    assert "was not lost" in World(section(3, 3)).serve(entry(3))[0]
    world = World(section(3, 3))
    world.lose()
    assert "began empty" in world.serve(loaded=False)[0]


def test_what_is_older_than_the_window_must_be_in_a_snapshot() -> None:
    world = World(section(1, 1))
    world.lose()
    assert world.judge(put(10.0 - WINDOW_S + 0.1, 2)) == []
    assert "in no snapshot" in world.judge(put(10.0 - WINDOW_S - 0.1, 2))[0]


def test_trouble_with_the_disk_excuses_what_is_missing() -> None:
    world = World(section(1, 1), trouble=True)
    world.lose()
    assert world.judge(put(1.0, 2)) == []


def test_a_section_has_the_newest_write_up_to_its_version() -> None:
    world = World()
    writes = [put(1.0, 1), put(2.0, 3)]
    for written, fine in (
        (section(2, 1), True),
        (section(3, 3), True),
        (section(3, 1), False),
        (section(3), False),
    ):
        world.volume.written = [(5.0, written)]
        assert (world.judge(*writes) == []) is fine


def test_a_section_has_nothing_that_was_deleted_before() -> None:
    world = World()
    world.volume.written = [(5.0, section(2, 1))]
    assert "of" in world.judge(put(1.0, 1), delete(2.0, 2))[0]
    world.volume.written = [(5.0, section(2))]
    assert world.judge(put(1.0, 1), delete(2.0, 2)) == []


def test_a_read_says_that_it_was_restored_if_and_only_if_it_was() -> None:
    world = World(section(3, 3))
    world.lose()
    world.serve(entry(3, flags=JSON | RESTORED))
    read = Operation("c", "get", KEY, 11.0, returned=11.1, outcome="ok", value=b"3", version=(1, 3))
    assert "does not say so" in world.judge(read)[0]
    read.restored = True
    assert world.judge(read) == []
    read.version = (2, 1)
    assert "was not" in world.judge(read)[0]

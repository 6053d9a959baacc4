"""The checker against histories written by hand."""

import time
from random import Random

import pytest

from tests.sim.checker import check, check_key
from tests.sim.history import History, Operation, Version
from tests.sim.invariants import Invalidated
from tests.sim.run import repeated

CREATED, REPLACED, FAILED, ABSENT, NOT_INTEGER = 1, 0, 2, 3, 4


def get(start: float, end: float, value: str | None, version: Version | None = None) -> Operation:
    raw = None if value is None else value.encode()
    return Operation(
        "r", "get", b"k", start, returned=end, outcome="ok", value=raw, version=version
    )


def peek(start: float, end: float, value: str | None) -> Operation:
    raw = None if value is None else value.encode()
    return Operation("r", "peek", b"k", start, returned=end, outcome="ok", value=raw)


def put(start: float, end: float, value: str, seq: int, status: int = CREATED) -> Operation:
    return Operation(
        "w",
        "put",
        b"k",
        start,
        value.encode(),
        returned=end,
        outcome="ok",
        status=status,
        version=(1, seq),
    )


def unknown(start: float, value: str, kind: str = "put", **more: object) -> Operation:
    return Operation(
        "u", kind, b"k", start, value.encode(), outcome="unknown", returned=start + 1, **more
    )  # type: ignore[arg-type]


def back(
    start: float, end: float, kind: str, value: str | None = None, seq: int = 0, known_term: int = 0
) -> Operation:
    """Every copy is lost at `start`; at `end` a primary serves again, with `value` or without anything."""
    return Operation(
        "s", kind, b"k", start, returned=end, outcome="ok", value=value and value.encode(),
        expected=(1, seq) if value else None, number=known_term,
    )  # fmt: skip


def delete(start: float, end: float, status: int = REPLACED) -> Operation:
    return Operation("d", "delete", b"k", start, returned=end, outcome="ok", status=status)


def incr(
    start: float, end: float, total: int, seq: int, status: int = REPLACED, step: int = 1
) -> Operation:
    return Operation(
        "i", "incr", b"k", start, number=step, returned=end, outcome="ok", status=status,
        value=b"%d" % total, version=(1, seq),
    )  # fmt: skip


def cas(
    start: float, end: float, value: str, expected: Version, seq: int, status: int = REPLACED
) -> Operation:
    return Operation(
        "c", "cas", b"k", start, value.encode(), expected=expected, returned=end, outcome="ok", status=status,
        version=(1, seq),
    )  # fmt: skip


def event(kind: str, at: float, version: Version | None = None) -> Operation:
    return Operation("simulator", kind, b"k", at, expected=version, outcome="unknown")


def returned(at: float, value: str, version: Version) -> Operation:
    return Operation(
        "simulator", "return", b"k", at, value=value.encode(), expected=version, outcome="unknown"
    )


GOOD = {
    "nothing": [],
    "a miss before any write": [get(0, 1, None)],
    "read what was written": [put(0, 1, "a", 1), get(2, 3, "a", (1, 1))],
    "a concurrent read sees either, old": [put(0, 1, "a", 1), put(2, 5, "b", 2, REPLACED), get(3, 4, "a", (1, 1))],
    "a concurrent read sees either, new": [put(0, 1, "a", 1), put(2, 5, "b", 2, REPLACED), get(3, 4, "b", (1, 2))],
    "an unknown write never takes effect": [put(0, 1, "a", 1), unknown(2, "b"), get(9, 10, "a", (1, 1))],
    "an unknown write takes effect late": [
        put(0, 1, "a", 1), unknown(2, "b"), get(5, 6, "a", (1, 1)), get(7, 8, "b", (1, 2)),
    ],
    "an unknown delete": [put(0, 1, "a", 1), unknown(2, "", "delete"), get(5, 6, "a", (1, 1)), get(7, 8, None)],
    "an unknown increment": [incr(0, 1, 1, 1, CREATED), unknown(2, "", "incr", number=5), incr(9, 10, 7, 3)],
    "a failed put-if-absent reads": [
        put(0, 1, "a", 1),
        Operation("c", "add", b"k", 2, b"b", returned=3, outcome="ok", status=FAILED, version=(1, 1)),
    ],
    "cas on an unknown write that was read": [unknown(0, "a"), get(2, 3, "a", (1, 1)), cas(4, 5, "b", (1, 1), 2)],
    "cas fails on an unknown version": [
        put(0, 1, "a", 1), unknown(2, "b"), cas(4, 5, "c", (1, 1), 2, FAILED), get(6, 7, "b", (1, 2)),
    ],
    "delete of an absent key": [delete(0, 1, ABSENT), put(2, 3, "a", 1)],
    "two overlapping puts in either order": [
        put(0, 10, "a", 1), put(0, 10, "b", 2, REPLACED), get(11, 12, "b", (1, 2)),
    ],
    "an increment of a text fails": [
        put(0, 1, "a", 1),
        Operation("i", "incr", b"k", 2, number=1, returned=3, outcome="ok", status=NOT_INTEGER, version=(1, 1)),
    ],
    "a reported eviction allows a miss": [put(0, 1, "a", 1), event("evict", 2, (1, 1)), get(3, 4, None)],
    "an eviction of what it replaced": [
        put(0, 1, "a", 1), event("evict", 2, (1, 1)), put(3, 4, "b", 3), get(5, 6, "b", (1, 3)),
    ],
    "an eviction of an unknown write": [unknown(0, "a"), event("evict", 2, (1, 1)), get(1, 2, "a", (1, 1)), get(3, 4, None)],
    "an evicted value that a later primary still has": [
        put(0, 1, "a", 1), event("evict", 2, (1, 1)), get(3, 4, None), returned(5, "a", (1, 1)), get(6, 7, "a", (1, 1)),
    ],
    "total loss": [put(0, 1, "a", 1), event("wipe", 2), get(3, 4, None)],
    "a not-applied write leaves no trace": [
        put(0, 1, "a", 1),
        Operation("n", "put", b"k", 2, b"b", returned=3, outcome="not-applied"),
        get(4, 5, "a", (1, 1)),
    ],
    "a ttl change of what is there": [
        put(0, 1, "a", 1),
        Operation("t", "touch", b"k", 2, returned=3, outcome="ok", status=REPLACED),
    ],
}  # fmt: skip

GOOD |= {
    "a snapshot that came back": [
        put(0, 1, "a", 1), put(2, 3, "b", 2, REPLACED), back(4, 5, "wipe", "a", 1), get(6, 7, "a", (1, 1)), put(8, 9, "c", 3, REPLACED),
    ],
    "a snapshot that came back without the key": [put(0, 1, "a", 1), back(4, 5, "wipe"), get(6, 7, None)],
    "a read while it came back": [put(0, 1, "a", 1), put(2, 3, "b", 2, REPLACED), back(4, 9, "wipe", "a", 1), get(5, 6, "b", (1, 2))],
    "a version used again by a coordinator that was set back": [
        put(0, 1, "a", 1), put(2, 3, "b", 2, REPLACED), back(4, 5, "set-back", "a", 1), put(6, 7, "c", 2, REPLACED),
    ],
}  # fmt: skip

BAD = {
    "what was not in the snapshot": [
        put(0, 1, "a", 1), put(2, 3, "b", 2, REPLACED), back(4, 5, "wipe", "a", 1), get(6, 7, "b", (1, 2)),
    ],
    "a miss of what was in the snapshot": [put(0, 1, "a", 1), back(2, 3, "wipe", "a", 1), get(4, 5, None)],
    "a loss that is over": [put(0, 1, "a", 1), back(2, 3, "wipe", "a", 1), put(4, 5, "b", 2, REPLACED), get(6, 7, "a", (1, 1))],
    "a version used again": [put(0, 1, "a", 1), put(2, 3, "b", 2, REPLACED), back(4, 5, "wipe", "a", 1), put(6, 7, "c", 2, REPLACED)],
    "a version of a snapshot used again by a coordinator that was set back": [
        put(0, 1, "a", 1), back(4, 5, "set-back", "a", 1, known_term=1), put(6, 7, "c", 9, REPLACED),
    ],
    "a stale read": [put(0, 1, "a", 1), put(2, 3, "b", 2, REPLACED), get(4, 5, "a", (1, 1))],
    "a lost write": [put(0, 1, "a", 1), get(2, 3, None)],
    "a dirty read": [put(0, 1, "a", 1), unknown(2, "b"), get(3, 4, "b", (1, 2)), get(5, 6, "a", (1, 1))],
    "a resurrected value": [put(0, 1, "a", 1), delete(2, 3), get(4, 5, "a", (1, 1))],
    "an increment done twice": [incr(0, 1, 1, 1, CREATED), incr(2, 3, 3, 3)],
    "an increment lost": [incr(0, 1, 1, 1, CREATED), incr(2, 3, 1, 2)],
    "an unknown increment done twice": [
        incr(0, 1, 1, 1, CREATED), unknown(2, "", "incr", number=5), incr(9, 10, 12, 4),
    ],
    "a not-applied write that shows": [
        Operation("n", "put", b"k", 0, b"b", returned=1, outcome="not-applied"),
        get(2, 3, "b", (1, 1)),
    ],
    "a read from the future": [get(0, 1, "a", (1, 1)), put(2, 3, "a", 1)],
    "a value nobody wrote": [put(0, 1, "a", 1), get(2, 3, "x", (1, 9))],
    "an unknown write seen before it began": [get(0, 1, "a", (1, 1)), unknown(2, "a")],
    "an unknown write undone": [unknown(0, "a"), get(2, 3, "a", (1, 1)), get(4, 5, None)],
    "an unknown write twice": [
        unknown(0, "a"), get(2, 3, "a", (1, 1)), put(4, 5, "b", 2, REPLACED), get(6, 7, "a", (1, 1)),
    ],
    "cas on a version that was replaced": [
        put(0, 1, "a", 1), put(2, 3, "b", 2, REPLACED), cas(4, 5, "c", (1, 1), 3),
    ],
    "cas fails although the version is current": [put(0, 1, "a", 1), cas(2, 3, "b", (1, 1), 1, FAILED)],
    "put-if-absent fails on an absent key": [
        Operation("c", "add", b"k", 2, b"b", returned=3, outcome="ok", status=FAILED, version=(1, 1)),
    ],
    "two put-if-absent both win": [
        Operation("c", "add", b"k", 0, b"a", returned=9, outcome="ok", status=CREATED, version=(1, 1)),
        Operation("c", "add", b"k", 0, b"b", returned=9, outcome="ok", status=CREATED, version=(1, 2)),
    ],
    "delete says absent, the value is there": [put(0, 1, "a", 1), delete(2, 3, ABSENT)],
    "replaced, but there was nothing": [put(0, 1, "a", 1, REPLACED)],
    "a miss after an eviction of an older version": [
        put(0, 1, "a", 1), event("evict", 2, (1, 1)), put(3, 4, "b", 3, REPLACED), get(5, 6, None),
    ],
    "a miss before the eviction": [put(0, 1, "a", 1), get(2, 3, None), event("evict", 4, (1, 1))],
    "an evicted value comes back": [
        put(0, 1, "a", 1), event("evict", 2, (1, 1)), get(3, 4, None), get(5, 6, "a", (1, 1)),
    ],
    "an evicted value comes back over a delete": [
        put(0, 1, "a", 1), event("evict", 2, (1, 1)), get(3, 4, None), delete(4, 5, ABSENT), put(5, 6, "b", 3), delete(7, 8),
        returned(9, "a", (1, 1)), get(10, 11, "a", (1, 1)),
    ],
    "an evicted value comes back over another": [
        put(0, 1, "a", 1), event("evict", 2, (1, 1)), get(3, 4, None), put(5, 6, "b", 3), returned(7, "a", (1, 1)), get(8, 9, "a", (1, 1)),
    ],
    "the right value with a version of another": [put(0, 1, "a", 1), get(2, 3, "a", (1, 2))],
    "a ttl change of nothing": [Operation("t", "touch", b"k", 2, returned=3, outcome="ok", status=REPLACED)],
}  # fmt: skip


@pytest.mark.parametrize("name", GOOD)
def test_a_linearizable_history_passes(name: str) -> None:
    violation = check_key(b"k", GOOD[name])
    assert violation is None, str(violation)


@pytest.mark.parametrize("name", BAD)
def test_a_history_that_is_not_linearizable_is_found(name: str) -> None:
    violation = check_key(b"k", BAD[name])
    assert violation is not None
    assert "undecided" not in str(violation)


def test_keys_are_independent_and_each_is_reported() -> None:
    first, second = put(0, 1, "a", 1), get(2, 3, None)
    other = Operation(
        "w", "put", b"other", 0, b"z", returned=1, outcome="ok", status=CREATED, version=(1, 5)
    )
    assert [each.key for each in check(History([first, other, second]))] == [b"k"]


def test_one_version_for_two_writes_is_found() -> None:
    assert History([put(0, 1, "a", 1), put(2, 3, "b", 1, REPLACED)]).duplicate_versions()
    assert not History([put(0, 1, "a", 1), put(2, 3, "b", 2, REPLACED)]).duplicate_versions()


def random_history(seed: int, operations: int, clients: int, unknowns: int) -> list[Operation]:
    """A linearizable history by construction: each operation takes effect at a random instant within its time."""
    random = Random(seed)
    plan = []
    for number in range(operations):
        start = random.uniform(0, operations / clients)
        instant = start + random.uniform(0, 1.0)
        plan.append((instant, start, instant + random.uniform(0, 1.0), number))
    lost = set(random.sample(range(operations), unknowns))
    state: tuple[bytes, Version] | None = None
    history = []
    for seq, (instant, start, end, number) in enumerate(sorted(plan), 1):
        assert start <= instant <= end
        value = b"v%d" % number
        if number in lost:
            if random.random() < 0.5:
                state = (value, (1, seq))
            history.append(
                Operation("u", "put", b"k", start, value, outcome="unknown", returned=start + 6)
            )
        elif random.random() < 0.5:
            seen, version = state or (None, None)
            history.append(
                Operation(
                    "r", "get", b"k", start, returned=end, outcome="ok", value=seen, version=version
                )
            )
        elif random.random() < 0.2:
            status = ABSENT if state is None else REPLACED
            state = None
            history.append(
                Operation("d", "delete", b"k", start, returned=end, outcome="ok", status=status)
            )
        else:
            status = CREATED if state is None else REPLACED
            state = (value, (1, seq))
            history.append(
                Operation(
                    "w",
                    "put",
                    b"k",
                    start,
                    value,
                    returned=end,
                    outcome="ok",
                    status=status,
                    version=(1, seq),
                )
            )
    return sorted(history, key=lambda each: each.invoked)


@pytest.mark.parametrize("seed", range(30))
def test_random_linearizable_histories_pass_quickly(seed: int) -> None:
    history = random_history(seed, operations=200, clients=6, unknowns=8)
    began = time.process_time()
    violation = check_key(b"k", history)
    assert violation is None, str(violation)
    assert time.process_time() - began < 2.0


def test_a_stale_read_planted_in_a_random_history_is_found() -> None:
    found = 0
    for seed in range(30):
        history = random_history(seed, operations=100, clients=4, unknowns=3)
        reads = [
            each
            for each in history
            if each.kind == "get" and each.value is not None and each.invoked > 15
        ]
        writes = [
            each
            for each in history
            if each.kind == "put" and each.outcome == "ok" and each.returned < 5
        ]  # type: ignore[operator]
        reads[-1].value, reads[-1].version = writes[0].argument, writes[0].version
        violation = check_key(b"k", history)
        found += violation is not None and "undecided" not in str(violation)
    assert found == 30


def test_a_read_without_a_version_sees_the_newest_value_and_no_other() -> None:
    writes = [put(0, 1, "a", 1), put(2, 3, "b", 2, REPLACED)]
    assert check_key(b"k", [*writes, peek(4, 5, "b")]) is None
    assert check_key(b"k", [*writes, peek(2, 5, "a")]) is None
    assert check_key(b"k", [*writes, peek(4, 5, "a")]) is not None
    assert check_key(b"k", [*writes, peek(4, 5, None)]) is not None


def test_a_value_of_unknown_outcome_may_be_seen_first_by_a_read_without_a_version() -> None:
    lost = [put(0, 1, "a", 1), unknown(2, "b"), unknown(2, "c")]
    assert check_key(b"k", [*lost, peek(4, 5, "b"), peek(6, 7, "c")]) is None
    assert check_key(b"k", [*lost, peek(4, 5, "b"), peek(6, 7, "a")]) is not None


def test_a_read_of_a_sum_may_be_of_a_later_one_that_is_the_same() -> None:
    early = Operation("r", "get", b"k", 0, returned=12, outcome="ok", value=b"1", version=(1, 6))
    first = Operation("u", "incr", b"k", 1, number=1, outcome="unknown", returned=2)
    later = [incr(3, 4, 2, 4), delete(5, 6), incr(9, 10, 1, 6, CREATED)]
    assert check_key(b"k", [early, first, *later]) is None


def fetch(
    start: float, end: float, token: str = "", value: str | None = None, seq: int = 0
) -> Operation:
    return Operation(
        "f", "fetch", b"k", start, returned=end, outcome="ok", token=token,
        value=value and value.encode(), version=(1, seq) if value else None,
    )  # fmt: skip


def fill(
    start: float, end: float, token: str, value: str, seq: int, status: int = CREATED
) -> Operation:
    return Operation(
        "w", "fill", b"k", start, value.encode(), returned=end, outcome="ok", status=status,
        version=(1, seq), token=token,
    )  # fmt: skip


FILL_LOST = 6


def test_a_fill_token_is_good_until_the_key_is_written_deleted_or_given_to_another() -> None:
    granted = fetch(0, 1, "t1")
    assert check_key(b"k", [granted, fill(2, 3, "t1", "a", 1)]) is None
    assert check_key(b"k", [granted, fill(2, 3, "t2", "a", 1)]) is not None
    for between in (
        [put(1.2, 1.4, "b", 1), delete(1.5, 1.8)],
        [delete(1.2, 1.4, ABSENT)],
        [fetch(1.2, 1.4, "t2")],
        [Operation("g", "give-up", b"k", 1.2, returned=1.4, outcome="ok", status=0, token="t1")],
    ):
        assert check_key(b"k", [granted, *between, fill(2, 3, "t1", "a", 5)]) is not None
        lost = fill(2, 3, "t1", "a", 0, FILL_LOST)
        lost.version = None
        assert check_key(b"k", [granted, *between, lost]) is None
        lost.version = (1, 4)
        assert check_key(b"k", [granted, *between, lost]) is not None
    lost = fill(2, 3, "t1", "a", 4, FILL_LOST)
    assert check_key(b"k", [granted, put(1.2, 1.4, "b", 4), lost]) is None
    beside = [granted, delete(1.2, 2.5), fill(2, 3, "t1", "a", 5)]
    assert check_key(b"k", [*beside, fetch(4, 5)]) is None


def test_an_invalidation_of_a_tag_that_a_fill_carries_ends_its_token() -> None:
    tagged = fill(4, 5, "t1", "a", 1)
    tagged.tags = ("x",)
    for tag, allowed in ((b"x", False), (b"y", True)):
        untag = Operation("s", "untag", b"k", 2, tag, returned=3, outcome="ok")
        assert (check_key(b"k", [fetch(0, 1, "t1"), untag, tagged]) is None) is allowed


def test_of_two_fills_of_unknown_outcome_the_one_whose_token_lived_may_have_written() -> None:
    fills = [
        unknown(start, "x", kind="fill", token=token) for start, token in ((1, "t1"), (3, "t2"))
    ]
    fills[1].argument = b"y"
    granted = [fetch(0, 0.5, "t1"), fetch(2, 2.5, "t2")]
    assert check_key(b"k", [*granted, *fills, delete(5, 6)]) is None


def test_an_invalidation_takes_effect_again_only_in_a_later_term_while_it_runs() -> None:
    records = [Invalidated(at, 3, "x", term) for at, term in ((1, 1), (2, 1), (3, 2), (9, 3))]
    untag = Operation("s", "untag", b"k", 0.5, b"x", returned=4, outcome="ok", partition=3)
    assert [each.invoked for each in repeated([untag], records)] == [3]
    untag.outcome = "unknown"
    assert [each.invoked for each in repeated([untag], records)] == [3, 9]
    untag.partition = 4
    assert not repeated([untag], records)

"""Tags: the filter, and which entries are dead."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from xxhash import xxh3_64_intdigest

from aux.storage.partition_data import LOOK, NEVER
from aux.storage.store import Store
from aux.storage.tags import TagFilter
from ringmaster.protocol.entry import JSON, pack
from ringmaster.protocol.entry_meta import Meta, pack_meta
from ringmaster.protocol.tag_records import is_dead, is_record, pack_record, record_key, tags_of

tags = st.text(min_size=1, max_size=20)


def entry(seq: int, *carried: str, term: int = 1) -> bytes:
    return pack(
        slot=0, term=term, seq=seq, expires_ms=0, written_s=1, flags=JSON,
        meta=pack_meta(Meta(tags=carried)), value=b"1",
    )  # fmt: skip


def digest(tag: str) -> int:
    return xxh3_64_intdigest(tag.encode())


@given(st.lists(tags, max_size=50))
def test_a_filter_says_yes_of_all_that_was_added(added: list[str]) -> None:
    found = TagFilter()
    found.add(added)
    assert all(found.has(digest(tag)) for tag in added)


def test_a_filter_says_no_of_nearly_all_others() -> None:
    found = TagFilter()
    assert not any(found.has(digest(f"t{number}")) for number in range(1000))
    found.add(f"t{number}" for number in range(3000))
    wrong = sum(found.has(digest(f"other{number}")) for number in range(3000))
    assert wrong < 0.06 * 3000


@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.one_of(st.lists(tags, max_size=3), st.just(None))),
        max_size=30,
    ),
    st.lists(tags, min_size=1, max_size=20),
)
def test_an_index_names_every_partition_whose_filter_says_yes(
    steps: list[tuple[int, list[str] | None]], asked: list[str]
) -> None:
    """None: the partition is dropped and opened again, or a sweep made its filter anew."""
    store = Store(10**6, 4)
    datas = [store.open(number, evictable=True) for number in range(3)]
    for turn, (number, carried) in enumerate(steps):
        if carried is not None:
            datas[number].carry(tuple(carried))
        elif turn % 2:
            store.drop(number)
            datas[number] = store.open(number, evictable=False)
        else:
            datas[number].carriers = TagFilter()
        for tag in asked:
            named = store.tag_index.partitions(digest(tag))
            for data in datas:
                has = data.carriers is not None and data.carriers.has(digest(tag))
                assert named >> data.number & 1 or not has
                if not has:
                    store.tag_index.correct(digest(tag), data.number, data.carriers)
                    named = store.tag_index.partitions(digest(tag))
                    assert not named >> data.number & 1


def test_an_index_forgets_what_it_is_told() -> None:
    store = Store(10**6, 4)
    data = store.open(0, evictable=True)
    for number in range(1000):
        data.carry((f"t{number}",))
    store.drop(0)
    for number in range(1000):
        store.tag_index.correct(digest(f"t{number}"), 0, None)
    assert len(store.tag_index) == 0


def test_an_entry_is_dead_by_a_newer_record_of_one_of_its_tags() -> None:
    records = {record_key("t"): pack_record(2, 5, 1000)}
    assert is_dead(entry(4, "s", "t", term=2), records)
    assert is_dead(entry(9, "t", term=1), records)
    assert not is_dead(entry(6, "t", term=2), records)
    assert not is_dead(entry(1, "t", term=3), records)
    assert not is_dead(entry(4, "s", term=2), records)
    assert not is_dead(entry(4, term=2), records)


def test_records_are_no_entries_of_clients() -> None:
    assert is_record(record_key("t"))
    assert not is_record(b"t")
    assert tags_of(pack_record(1, 1, 1)) == ()


def test_a_partition_with_records_has_readers_look_at_its_entries() -> None:
    store = Store(10**6, 4)
    data = store.open(0, evictable=True)
    assert (data.next_due_ms, store.tagged) == (NEVER, 0)
    store.set_tag(data, record_key("t"), pack_record(1, 1, 1))
    store.set_tag(data, record_key("u"), pack_record(1, 2, 1))
    assert (data.next_due_ms, store.tagged) == (LOOK, 1)
    store.put(data, b"k", entry(3, "t"))
    store.remove(data, b"k")
    assert data.next_due_ms == LOOK
    assert store.due(data, 10**15) == []
    store.set_tag(data, record_key("t"), None)
    assert store.tagged == 1
    store.drop(0)
    assert store.tagged == 0

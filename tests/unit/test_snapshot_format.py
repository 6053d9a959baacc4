"""The bytes of snapshot files: what is written is read back, and what is damaged is found, at every byte."""

import io
import random

import pytest
import zstandard

from ringmaster.errors import SnapshotDamaged, SnapshotError, SnapshotUnreadable
from ringmaster.snapshot import format as layout
from ringmaster.snapshot.format import SnapshotHeader
from ringmaster.snapshot.names import SnapshotName, checked_name, parse_draft, parse_name
from ringmaster.snapshot.reader import Block, Damage, SnapshotReader, check_identity
from tests.fakes.snapshot_node import entry

SYNC = bytes(range(16))
Items = list[tuple[bytes, bytes]]


def header(entries: int) -> SnapshotHeader:
    return SnapshotHeader(
        cluster="ab" * 16,
        partitions=4,
        partition=2,
        term=3,
        seq=99,
        incarnation="inc1",
        created_ms=5,
        entries=entries,
        sync=SYNC,
    )


def make_file(items: Items, *, per_block: int = 3, compress: bool = False) -> bytes:
    compressor = zstandard.ZstdCompressor(level=1) if compress else None
    chunks = [layout.encode_header(header(len(items)))]
    blocks = 0
    for at in range(0, len(items), per_block):
        keys, entries = zip(*items[at : at + per_block], strict=True)
        chunks += layout.seal_block(SYNC, blocks, layout.gather(keys, entries), compressor)
        blocks += 1
    return b"".join([*chunks, layout.end_block(SYNC, blocks, len(items))])


def some_items(count: int, size: int = 10) -> Items:
    return [(b"key-%d" % n, entry(n, b"%d" % n * size)) for n in range(count)]


def read(raw: bytes) -> tuple[Items, list[Damage], bool]:
    reader = SnapshotReader(io.BytesIO(raw))
    items: Items = []
    damages: list[Damage] = []
    for found in reader.blocks():
        if isinstance(found, Block):
            items += zip(*layout.split_payload(found.raw, found.entries), strict=True)
        else:
            damages.append(found)
    return items, damages, reader.complete


@pytest.mark.parametrize("count", [0, 1, 3, 10])
@pytest.mark.parametrize("compress", [False, True])
def test_what_is_written_is_read_back_in_order(count: int, *, compress: bool) -> None:
    items = some_items(count, 300)
    assert read(make_file(items, compress=compress)) == (items, [], True)


def test_the_header_says_what_the_file_is() -> None:
    assert SnapshotReader(io.BytesIO(make_file(some_items(5)))).header == header(5)


def test_blocks_that_do_not_compress_are_kept_as_they_are() -> None:
    noise = random.Random(1).randbytes(4000)
    packed = layout.seal_block(
        SYNC, 0, layout.gather([b"k"], [entry(1, noise)]), zstandard.ZstdCompressor()
    )
    text = layout.seal_block(
        SYNC, 0, layout.gather([b"k"], [entry(1, b"a" * 4000)]), zstandard.ZstdCompressor()
    )
    assert sum(map(len, packed)) > 4000
    assert sum(map(len, text)) < 400


def test_a_partition_is_cut_into_blocks_of_a_bounded_size() -> None:
    items = some_items(5000, 30)
    keys, entries = map(list, zip(*items, strict=True))
    payloads = list(layout.payloads(keys, entries))
    assert sum(payload.entries for payload in payloads) == 5000
    assert len(payloads) > 3
    assert all(payload.size <= layout.BLOCK_BYTES + 6 * payload.entries for payload in payloads)


def test_an_entry_larger_than_a_block_has_one_of_its_own_and_is_not_copied() -> None:
    large = entry(2, b"x" * (3 * layout.BLOCK_BYTES))
    payloads = list(layout.payloads([b"a", b"b", b"c"], [entry(1, b"1"), large, entry(3, b"3")]))
    assert [payload.entries for payload in payloads] == [1, 1, 1]
    assert any(part is large for part in payloads[1].parts)


def test_a_file_cut_off_anywhere_is_never_taken_for_whole() -> None:
    items = some_items(20, 20)
    raw = make_file(items)
    for length in range(len(raw)):
        try:
            found, damages, complete = read(raw[:length])
        except SnapshotDamaged:
            continue
        assert damages, length
        assert not complete, length
        assert found == items[: len(found)]


def test_any_flipped_bit_is_found_and_costs_one_block_at_most() -> None:
    items = some_items(60, 20)
    raw = make_file(items)
    noise = random.Random(7)
    places = {
        *range(len(layout.encode_header(header(60))) + 60),
        *noise.sample(range(len(raw)), 600),
    }
    for place in places:
        damaged = bytearray(raw)
        damaged[place] ^= 1 << noise.randrange(8)
        try:
            found, damages, complete = read(bytes(damaged))
        except SnapshotError:
            assert place < 200  # the header
            continue
        assert damages, place
        assert not complete, place
        assert len(found) >= 57, place
        assert set(found) <= set(items)


def test_garbage_of_any_kind_is_refused_and_never_crashes() -> None:
    noise = random.Random(3)
    raw = make_file(some_items(30))
    for _ in range(300):
        damaged = bytearray(raw)
        for _ in range(noise.randrange(1, 40)):
            at = noise.randrange(len(damaged))
            damaged[at : at + noise.randrange(30)] = noise.randbytes(noise.randrange(30))
        try:
            found, damages, complete = read(bytes(damaged))
        except SnapshotError:
            continue
        assert damages or found == some_items(30)
        assert not (complete and damages)


def test_a_block_that_vanished_or_stands_twice_is_noticed() -> None:
    items = some_items(9)
    blocks = [
        b"".join(
            layout.seal_block(
                SYNC, n, layout.gather(*zip(*items[3 * n : 3 * n + 3], strict=True)), None
            )
        )
        for n in range(3)
    ]
    start, end = layout.encode_header(header(9)), layout.end_block(SYNC, 3, 9)
    for order in ([0, 2], [0, 1, 1, 2], [1, 0, 2], [0, 1]):
        _, damages, complete = read(start + b"".join(blocks[n] for n in order) + end)
        assert damages
        assert not complete


def test_bytes_behind_the_end_are_noticed() -> None:
    items, damages, complete = read(make_file(some_items(4)) + b"x")
    assert (len(items), complete) == (4, False)
    assert damages


def test_a_file_for_newer_readers_says_so() -> None:
    raw = layout.encode_header(header(0), version=7, oldest_reader=7)
    with pytest.raises(SnapshotUnreadable, match="version 7"):
        SnapshotReader(io.BytesIO(raw))


def test_a_newer_file_that_older_readers_may_read_is_read() -> None:
    raw = layout.encode_header(header(0), version=7, oldest_reader=1) + layout.end_block(SYNC, 0, 0)
    assert read(raw) == ([], [], True)


def test_something_else_is_no_snapshot() -> None:
    for raw in (b"", b"x", b"PK\x03\x04" * 100, bytes(5000)):
        with pytest.raises(SnapshotDamaged):
            SnapshotReader(io.BytesIO(raw))


def test_a_file_of_another_cluster_or_size_or_name_is_refused() -> None:
    name = SnapshotName(2, 3, 99, "inc1")
    check_identity(header(0), name, "ab" * 16, 4)
    with pytest.raises(SnapshotUnreadable, match="belongs to"):
        check_identity(header(0), name, "cd" * 16, 4)
    with pytest.raises(SnapshotUnreadable, match="partitions"):
        check_identity(header(0), name, "ab" * 16, 8)
    with pytest.raises(SnapshotDamaged):
        check_identity(header(0), name._replace(seq=100), "ab" * 16, 4)


@pytest.mark.parametrize(
    "text",
    ["", "p00001-t1-s1-inc.snap.draft", "p1-t1-s1-inc.snap", "../p00001-t1-s1-inc.snap", "p00001-t01-s1-inc.snap",
     "p00001-t1-s1-.snap", "p00001-t9999999999-s1-inc.snap", "p00001-t1-s1-a/b.snap", "p00001-t1-s1-inc.snap\n"],
)  # fmt: skip
def test_only_names_of_our_own_making_are_names(text: str) -> None:
    assert parse_name(text) is None


def test_a_name_survives_being_written() -> None:
    name = checked_name(17, 5, 123456, "0123456789abcdef")
    assert parse_name(str(name)) == name
    assert parse_draft(name.draft) == name
    assert parse_name(name.draft) is None
    with pytest.raises(ValueError, match="no snapshot"):
        checked_name(17, 5, 1, "../../etc/passwd")

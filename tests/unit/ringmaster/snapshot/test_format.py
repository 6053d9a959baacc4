"""The bytes of snapshot files: what was written is read back, and damage to any byte is found."""

import io
import random
import struct
import zlib
from collections.abc import Sequence

import pytest
import zstandard

from ringmaster.errors import SnapshotDamaged, SnapshotError, SnapshotUnreadable
from ringmaster.protocol.entry import pack
from ringmaster.snapshot import format as layout
from ringmaster.snapshot.format import BundleHeader, SectionId
from ringmaster.snapshot.index import (
    Manifest,
    Section,
    decode_index,
    decode_manifest,
    encode_index,
    encode_manifest,
)
from ringmaster.snapshot.names import (
    BundleName,
    ManifestName,
    Version1Name,
    checked_name,
    parse_draft,
    parse_name,
)
from ringmaster.snapshot.reader import (
    Block,
    BundleContents,
    Damage,
    SectionReader,
    check_identity,
    read_contents,
)
from tests.fakes.snapshot_node import entry

SYNC = bytes(range(16))
HEADER = BundleHeader(
    cluster="ab" * 16, partitions=4, incarnation="inc1", number=7, created_ms=5, sync=SYNC
)
NAME = BundleName("inc1", 7)
Items = list[tuple[bytes, bytes]]


def make_file(*sections: Items, per_block: int = 3, compress: bool = False) -> bytes:
    """A bundle with `sections`, of partitions 0, 1, … as of (3, 99)."""
    compressor = zstandard.ZstdCompressor(level=1) if compress else None
    raw = layout.encode_header(HEADER)
    index = []
    for number, items in enumerate(sections):
        section_id, offset = SectionId(number, 3, 99), len(raw)
        raw += layout.start_block(SYNC, section_id, len(items))
        blocks = 0
        for at in range(0, len(items), per_block):
            keys, entries = zip(*items[at : at + per_block], strict=True)
            payload = one_payload(keys, entries)
            raw += b"".join(layout.encode_block(SYNC, section_id, blocks, payload, compressor))
            blocks += 1
        raw += layout.end_block(SYNC, section_id, blocks, len(items))
        index.append(Section(section_id, len(items), offset, len(raw) - offset))
    return raw + b"".join(encode_index(HEADER, index, len(raw)))


def one_payload(keys: Sequence[bytes], entries: Sequence[bytes]) -> layout.Payload:
    """The payload of a block with all of these entries, which are few enough for one."""
    (payload,) = layout.payloads(keys, entries)
    return payload


def header_of_version(version: int, oldest_reader: int) -> bytes:
    """The header of a bundle in another version of the format."""
    raw = bytearray(layout.encode_header(HEADER))
    struct.pack_into("<HH", raw, len(layout.MAGIC), version, oldest_reader)
    struct.pack_into("<I", raw, len(raw) - 4, zlib.crc32(raw[:-4]))
    return bytes(raw)


def some_items(count: int, size: int = 10) -> Items:
    return [(b"key-%d" % n, entry(n, b"%d" % n * size)) for n in range(count)]


def read_section(
    raw: bytes, contents: BundleContents, section: Section
) -> tuple[Items, list[Damage]]:
    reader = SectionReader(io.BytesIO(raw), contents.header.sync, section)
    items: Items = []
    damages: list[Damage] = []
    for found in reader.blocks():
        if isinstance(found, Block):
            items += zip(*layout.split_payload(found.raw, found.entries), strict=True)
        else:
            damages.append(found)
    return items, damages


def read(raw: bytes) -> tuple[dict[int, Items], list[str]]:
    """What can be read of each partition, and everything that is wrong."""
    contents = read_contents(io.BytesIO(raw))
    problems = list(contents.problems)
    found: dict[int, Items] = {}
    for section in contents.sections:
        assert section.id.version == (3, 99)
        assert section.id.partition not in found
        items, damages = read_section(raw, contents, section)
        found[section.id.partition] = items
        problems += map(str, damages)
    return found, problems


@pytest.mark.parametrize("count", [0, 1, 3, 10])
@pytest.mark.parametrize("compress", [False, True])
def test_entries_are_read_back_in_the_order_written(count: int, *, compress: bool) -> None:
    items = some_items(count, 300)
    assert read(make_file(items, [], items, compress=compress)) == ({0: items, 1: [], 2: items}, [])


def test_header_and_index_describe_the_file() -> None:
    contents = read_contents(io.BytesIO(make_file(some_items(5), [])))
    assert contents.header == HEADER
    assert [(each.id, each.entries) for each in contents.sections] == [
        (SectionId(0, 3, 99), 5),
        (SectionId(1, 3, 99), 0),
    ]


def test_incompressible_blocks_are_stored_uncompressed() -> None:
    noise = random.Random(1).randbytes(4000)
    packed = layout.encode_block(
        SYNC,
        SectionId(0, 1, 1),
        0,
        one_payload([b"k"], [entry(1, noise)]),
        zstandard.ZstdCompressor(),
    )
    text = layout.encode_block(
        SYNC,
        SectionId(0, 1, 1),
        0,
        one_payload([b"k"], [entry(1, b"a" * 4000)]),
        zstandard.ZstdCompressor(),
    )
    assert sum(map(len, packed)) > 4000
    assert sum(map(len, text)) < 400


def test_a_partition_is_divided_into_blocks_of_bounded_size() -> None:
    items = some_items(5000, 30)
    keys, entries = map(list, zip(*items, strict=True))
    payloads = list(layout.payloads(keys, entries))
    assert sum(payload.entries for payload in payloads) == 5000
    assert len(payloads) > 3
    assert all(
        payload.size <= 2 * layout.BLOCK_BYTES + 20 * payload.entries for payload in payloads
    )


def test_block_sizes_are_bounded_even_if_entry_sizes_differ_much() -> None:
    noise = random.Random(4)
    items = [(b"%d" % n, entry(n, bytes(noise.choice([10, 100, 50_000])))) for n in range(500)]
    keys, entries = map(list, zip(*items, strict=True))
    payloads = list(layout.payloads(keys, entries))
    assert max(payload.size for payload in payloads) <= 2 * layout.BLOCK_BYTES + 20 * 500
    raw = [layout.split_payload(b"".join(each.parts), each.entries) for each in payloads]
    assert [key for found, _ in raw for key in found] == keys
    assert [each for _, found in raw for each in found] == entries


def test_an_entry_larger_than_a_block_gets_its_own_block_and_is_not_copied() -> None:
    large = entry(2, b"x" * (3 * layout.BLOCK_BYTES))
    payloads = list(layout.payloads([b"a", b"b", b"c"], [entry(1, b"1"), large, entry(3, b"3")]))
    assert [payload.entries for payload in payloads] == [1, 1, 1]
    assert any(part is large for part in payloads[1].parts)


SECTIONS = [some_items(20, 20), [], some_items(30, 20), some_items(7, 20)]


def test_a_file_cut_off_anywhere_is_never_mistaken_for_complete() -> None:
    raw = make_file(*SECTIONS)
    first = len(layout.encode_header(HEADER))
    for length in range(len(raw)):
        if length < first:
            with pytest.raises(SnapshotDamaged):
                read(raw[:length])
            continue
        found, problems = read(raw[:length])
        assert problems, length
        for number, items in found.items():
            assert items == SECTIONS[number][: len(items)]
            if number + 1 in found:
                assert items == SECTIONS[number]


@pytest.mark.thorough
def test_any_flipped_bit_is_found_and_costs_at_most_one_block() -> None:
    raw = make_file(*SECTIONS)
    noise = random.Random(7)
    every = {item for items in SECTIONS for item in items}
    for place in range(len(raw)):
        damaged = bytearray(raw)
        damaged[place] ^= 1 << noise.randrange(8)
        found, problems = read(bytes(damaged))
        assert problems, place
        got = {item for items in found.values() for item in items}
        assert got <= every
        assert len(got) >= len(every) - 3, place


def test_a_file_with_damaged_header_and_damaged_index_is_unreadable() -> None:
    raw = bytearray(make_file(*SECTIONS))
    raw[40] ^= 1
    raw[-1] ^= 1
    with pytest.raises(SnapshotDamaged):
        read(bytes(raw))


def test_an_index_that_does_not_match_the_file_is_ignored() -> None:
    raw = make_file(*SECTIONS)
    index = len(raw) - len(
        b"".join(encode_index(HEADER, read_contents(io.BytesIO(raw)).sections, 0))
    )
    wrong = [Section(SectionId(0, 3, 99), 20, 500, index - 500)]
    forged = raw[:index] + b"".join(encode_index(HEADER, wrong, index))
    found, problems = read(forged)
    assert found == dict(enumerate(SECTIONS))
    assert "does not match" in problems[0]


def test_random_damage_is_reported_and_never_crashes() -> None:
    noise = random.Random(3)
    raw = make_file(*SECTIONS)
    for _ in range(300):
        damaged = bytearray(raw)
        for _ in range(noise.randrange(1, 40)):
            at = noise.randrange(len(damaged))
            damaged[at : at + noise.randrange(30)] = noise.randbytes(noise.randrange(30))
        try:
            contents = read_contents(io.BytesIO(bytes(damaged)))
        except SnapshotError:
            continue
        problems = list(contents.problems)
        for section in contents.sections:
            items, damages = read_section(bytes(damaged), contents, section)
            assert set(items) <= set(SECTIONS[section.id.partition])
            problems += map(str, damages)
        assert problems or bytes(damaged) == raw


def test_missing_repeated_and_swapped_blocks_are_noticed() -> None:
    items, section_id = some_items(9), SectionId(0, 3, 99)
    blocks = [
        b"".join(
            layout.encode_block(
                SYNC,
                section_id,
                n,
                one_payload(*zip(*items[3 * n : 3 * n + 3], strict=True)),
                None,
            )
        )
        for n in range(3)
    ]
    begin = layout.encode_header(HEADER)
    for order in ([0, 2], [0, 1, 1, 2], [1, 0, 2], [0, 1]):
        body = layout.start_block(SYNC, section_id, 9) + b"".join(blocks[n] for n in order)
        body += layout.end_block(SYNC, section_id, 3, 9)
        section = Section(section_id, 9, len(begin), len(body))
        end = len(begin) + len(body)
        _, problems = read(begin + body + b"".join(encode_index(HEADER, [section], end)))
        assert problems


def test_bytes_after_the_end_are_noticed() -> None:
    found, problems = read(make_file(*SECTIONS) + b"x")
    assert found == dict(enumerate(SECTIONS))
    assert problems


def test_a_value_that_contains_another_snapshot_is_read_as_a_value() -> None:
    other = make_file(some_items(3)).replace(SYNC, bytes(16))
    items = [(b"key", entry(1, other)), *some_items(3)]
    raw = bytearray(make_file(items, some_items(2)))
    raw[-1] ^= 1
    assert read(bytes(raw))[0] == {0: items, 1: some_items(2)}


@pytest.mark.parametrize(("version", "oldest"), [(1, 1), (7, 7)])
def test_a_file_of_an_unsupported_version_is_refused_with_its_version(
    version: int, oldest: int
) -> None:
    raw = header_of_version(version, oldest)
    with pytest.raises(SnapshotUnreadable, match=f"version {version}"):
        read(raw)


def test_a_newer_file_that_allows_older_readers_is_read() -> None:
    raw = make_file(some_items(4))
    old = layout.encode_header(HEADER)
    new = header_of_version(7, 2)
    assert read(new + raw[len(old) :]) == ({0: some_items(4)}, [])


def test_a_file_that_is_not_a_snapshot_is_refused() -> None:
    for raw in (b"", b"x", b"PK\x03\x04" * 100, bytes(5000)):
        with pytest.raises(SnapshotDamaged):
            read(raw)


def test_a_file_of_another_cluster_partition_count_or_name_is_refused() -> None:
    check_identity(HEADER, NAME, "ab" * 16, 4)
    with pytest.raises(SnapshotUnreadable, match="belongs to"):
        check_identity(HEADER, NAME, "cd" * 16, 4)
    with pytest.raises(SnapshotUnreadable, match="partitions"):
        check_identity(HEADER, NAME, "ab" * 16, 8)
    with pytest.raises(SnapshotDamaged):
        check_identity(HEADER, NAME._replace(number=8), "ab" * 16, 4)


def test_a_manifest_is_read_back_and_any_damage_is_found() -> None:
    manifest = Manifest(cluster="ab" * 16, incarnation="inc1", newest=[(1, 2, 3, 4), (5, 6, 7, 8)])
    raw = encode_manifest(manifest)
    assert decode_manifest(raw) == manifest
    for at in range(len(raw)):
        damaged = bytearray(raw)
        damaged[at] ^= 4
        for broken in (bytes(damaged), raw[:at]):
            with pytest.raises(SnapshotError):
                decode_manifest(broken)


@pytest.mark.parametrize(
    "text",
    ["", "b0000000001-inc.bundle.draft", "b1-inc.bundle", "../b0000000001-inc.bundle", "b0000000001-.bundle",
     "b00000000001-inc.bundle", "b0000000001-a/b.bundle", "b0000000001-inc.bundle\n", "m-.manifest", "m-../x.manifest",
     "p1-t1-s1-inc.snap", "p00001-t1-s1-a/b.snap"],
)  # fmt: skip
def test_other_names_are_not_parsed(text: str) -> None:
    assert parse_name(text) is None


def test_names_are_parsed_back() -> None:
    for name in (checked_name("0123456789abcdef", 123456), ManifestName("inc1")):
        assert parse_name(str(name)) == name
        assert parse_draft(name.draft) == name
        assert parse_name(name.draft) is None
    for incarnation, number in (("../../etc/passwd", 1), ("inc1", 10**10)):
        with pytest.raises(ValueError, match="not a valid name"):
            checked_name(incarnation, number)


def test_a_file_of_format_version_1_is_recognised_by_its_name() -> None:
    text = "p00017-t5-s123456-0123456789abcdef.snap"
    assert parse_name(text) == Version1Name(text, 17, 5)
    assert parse_draft(f".{text}.draft") is None


def test_a_block_gets_the_memory_that_its_header_says_and_no_more() -> None:
    stored = zstandard.ZstdCompressor().compress(bytes(2**26))
    header = layout.BlockHeader(
        layout.ENTRIES, layout.ZSTD, SectionId(0, 3, 99), 0, 1, 100, len(stored), zlib.crc32(stored)
    )
    with pytest.raises(SnapshotDamaged, match="differs from its header"):
        layout.decode_block(header, stored, zstandard.ZstdDecompressor())


@pytest.mark.parametrize(
    "meta", [b"\x91\xa1\xff", b"\xc1", b"\x96\xa0\xa0\xa0\x90\x00" + b"\x91" * 5000]
)
def test_an_entry_whose_meta_cannot_be_read_is_damage(meta: bytes) -> None:
    whole = pack(slot=0, term=1, seq=1, expires_ms=0, written_s=0, flags=0, meta=meta, value=b"")
    for broken in (whole, whole[:-1], whole[:25]):
        payload = one_payload([b"k"], [broken])
        with pytest.raises(SnapshotDamaged, match="broken"):
            layout.split_payload(b"".join(payload.parts), 1)


@pytest.mark.parametrize(
    "section",
    [
        Section(SectionId(0, 3, 99), 1, -1, 100),
        Section(SectionId(0, 3, 99), 1, 2**63, 100),
        Section(SectionId(0, 3, 99), 1, 100, -200),
        Section(SectionId(0, 2**40, 99), 1, 100, 100),
        Section(SectionId(-1, 3, 99), 1, 100, 100),
    ],
)
def test_an_index_that_names_what_cannot_be_is_damaged(section: Section) -> None:
    block = b"".join(encode_index(HEADER, [section], 0)[:2])
    with pytest.raises(SnapshotDamaged, match="cannot be"):
        decode_index(block)


def test_a_manifest_with_a_term_that_cannot_be_is_damaged() -> None:
    raw = encode_manifest(Manifest(cluster="c", incarnation="i", newest=[(0, 2**40, 1, 1)]))
    with pytest.raises(SnapshotDamaged, match="cannot be"):
        decode_manifest(raw)

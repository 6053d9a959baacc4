import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringmaster.protocol import entry as layout
from ringmaster.protocol.entry_meta import Meta, pack_meta

U32 = st.integers(0, 2**32 - 1)
U48 = st.integers(0, 2**48 - 1)
METAS = st.builds(
    Meta,
    content_type=st.text(max_size=20),
    content_encoding=st.text(max_size=10),
    content_disposition=st.text(max_size=20),
    tags=st.lists(st.text(max_size=5), max_size=3).map(tuple),
    swr_ms=st.integers(0, 2**40),
)


@given(
    slot=U32, term=U32, seq=U48, expires_ms=U48, written_s=U32, flags=st.sampled_from([0, 2, 4, 6]),
    meta=METAS, value=st.binary(max_size=200),
)  # fmt: skip
def test_an_entry_gives_back_what_was_packed_into_it(
    slot, term, seq, expires_ms, written_s, flags, meta, value
):
    entry = layout.pack(
        slot=slot, term=term, seq=seq, expires_ms=expires_ms, written_s=written_s, flags=flags,
        meta=pack_meta(meta), value=value,
    )  # fmt: skip
    head = layout.header(entry)
    assert (head.slot, head.term, head.seq, head.expires_ms, head.written_s) == (
        slot, term, seq, expires_ms, written_s,
    )  # fmt: skip
    assert head.flags & ~layout.META == flags
    assert bool(head.flags & layout.META) == (meta != Meta())
    assert layout.meta_of(entry) == meta
    assert entry[layout.value_offset(entry) :] == value
    assert layout.raw_meta(entry) == pack_meta(meta)


def test_the_header_has_the_documented_25_bytes_in_the_documented_order():
    entry = layout.pack(
        slot=0x04030201, term=0x0E0D0C0B, seq=0x0A0908070605, expires_ms=0x14131211100F,
        written_s=0x18171615, flags=2, meta=b"", value=b"v",
    )  # fmt: skip
    assert layout.HEADER_SIZE == 25
    assert entry == bytes(range(1, 0x19)) + b"\x02v"


def test_the_exported_offsets_are_where_the_fields_are():
    entry = layout.pack(
        slot=0x04030201, term=0x0E0D0C0B, seq=0x0A0908070605, expires_ms=0x14131211100F,
        written_s=0x18171615, flags=2, meta=b"", value=b"v",
    )  # fmt: skip
    assert entry[: layout.SLOT_SIZE] == layout.pack_slot(0x04030201)
    assert layout.unpack_slot(entry) == (0x04030201,)
    expiry = entry[layout.EXPIRY_OFFSET : layout.EXPIRY_OFFSET + layout.EXPIRY_SIZE]
    assert int.from_bytes(expiry, "little") == layout.expires_ms_of(entry) == 0x14131211100F
    assert layout.slot_of(entry) == 0x04030201
    assert entry[layout.FLAGS_OFFSET] == 2
    assert layout.FLAGS_OFFSET + 1 == layout.HEADER_SIZE


@given(slot=U32, term=U32, seq=U48, now_ms=st.integers(0, 2**41), value=st.binary(max_size=20))
def test_a_plain_entry_is_what_pack_makes(slot, term, seq, now_ms, value):
    assert layout.pack_json(term, seq, now_ms, value, slot) == layout.pack(
        slot=slot, term=term, seq=seq, expires_ms=0, written_s=now_ms // 1000, flags=layout.JSON,
        meta=b"", value=value,
    )  # fmt: skip


@given(term=U32, seq=U48, expires_ms=U48, written_s=U32)
def test_an_unnamed_header_is_the_header_without_the_slot(term, seq, expires_ms, written_s):
    entry = layout.pack(
        slot=7, term=term, seq=seq, expires_ms=expires_ms, written_s=written_s, flags=2, meta=b"",
        value=b"v",
    )  # fmt: skip
    head = layout.header(entry)
    assert layout.unnamed_header(entry) == (
        head.seq, head.term, head.expires_ms, head.written_s, head.flags,
    )  # fmt: skip


def test_the_version_is_ordered_by_term_then_sequence_beyond_32_bits():
    entry = layout.pack(
        slot=0, term=1, seq=(1 << 32) + 5, expires_ms=0, written_s=0, flags=0, meta=b"", value=b""
    )
    assert layout.header(entry).seq == (1 << 32) + 5


def test_the_value_offset_needs_only_header_and_meta():
    meta = pack_meta(Meta(content_type="text/plain"))
    entry = layout.pack(
        slot=0, term=1, seq=1, expires_ms=0, written_s=0, flags=0, meta=meta, value=b"x" * 99
    )
    offset = layout.value_offset(entry)
    assert layout.value_offset(entry[:offset]) == offset
    assert layout.header(entry[: layout.HEADER_SIZE]).term == 1


@pytest.mark.parametrize("flag", [layout.JSON, layout.RESTORED])
def test_a_meta_flag_given_without_meta_is_cleared(flag):
    entry = layout.pack(
        slot=0,
        term=1,
        seq=1,
        expires_ms=0,
        written_s=0,
        flags=flag | layout.META,
        meta=b"",
        value=b"v",
    )
    assert layout.header(entry).flags == flag
    assert layout.meta_of(entry) == Meta()


def test_bare_is_a_json_text_without_meta_restored_or_not():
    def entry(flags: int, value: bytes = b"1", meta: bytes = b"") -> bytes:
        return layout.pack(
            slot=0, term=1, seq=1, expires_ms=0, written_s=0, flags=flags, meta=meta, value=value
        )

    assert layout.is_bare(entry(layout.JSON))
    assert layout.is_bare(entry(layout.JSON | layout.RESTORED))
    assert not layout.is_bare(entry(0))
    assert not layout.is_bare(entry(layout.JSON, b""))
    assert not layout.is_bare(entry(layout.JSON, meta=b"m"))

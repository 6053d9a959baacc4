"""What the command line reads from snapshots; and what a node does that starts from one with invalidated tags in it."""

from __future__ import annotations

from pathlib import Path

from ringmaster.protocol.entry import JSON, pack
from ringmaster.protocol.entry_meta import Meta, pack_meta
from ringmaster.protocol.tag_records import pack_record, record_key
from ringmaster.snapshot.archive import Archive
from ringmaster.snapshot.directory import LocalDirectory
from tests.fakes.snapshot_node import SnapshotNode, next_node, started
from tests.fakes.snapshot_store import CLUSTER


def put(node: SnapshotNode, key: bytes, *tags: str) -> None:
    primary = node.node.roles.primaries[0]
    primary.carry(tags)
    primary.submit(
        key,
        pack(
            slot=0, term=primary.term, seq=primary.next_seq, expires_ms=0, written_s=1,
            flags=JSON, meta=pack_meta(Meta(tags=tags)), value=b"1",
        ),
    )  # fmt: skip


async def invalidated(folder: Path) -> LocalDirectory:
    """A snapshot of partition 0 in which the tag t was invalidated between `dead` and `late`, and nothing swept yet."""
    store = LocalDirectory(folder, CLUSTER)
    node = await started(store)
    primary = node.node.roles.primaries[0]
    put(node, b"dead", "t", "u")
    primary.submit_record(record_key("t"), pack_record(primary.term, primary.next_seq, 1))
    put(node, b"late", "t")
    put(node, b"other", "u")
    await node.cycle()
    return store


async def test_what_a_tag_has_killed_is_not_exported_and_records_are_no_entries(
    tmp_path: Path,
) -> None:
    await invalidated(tmp_path)
    archive = Archive(tmp_path, CLUSTER)
    assert [entry.key for entry in archive.entries()] == [b"late", b"other"]
    assert archive.problems == []


async def test_a_node_that_restores_it_knows_what_is_dead(tmp_path: Path) -> None:
    store = await invalidated(tmp_path)
    node = await next_node(store)
    primary = node.node.roles.primaries[0]
    assert record_key("t") in primary.tags
    found = {key: primary.is_gone(entry, 1000) for key, entry in primary.data.entries.items()}
    assert found == {b"dead": True, b"late": False, b"other": False}

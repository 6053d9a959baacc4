"""What a restore into a running cluster sends, and what it does where something is refused."""

import json
from typing import Any, NamedTuple

import pytest

from ringmaster.cli.snapshot_import import Importer
from ringmaster.errors import BadRequest
from ringmaster.protocol.entry import JSON, header, pack
from ringmaster.protocol.entry_meta import Meta, pack_meta
from ringmaster.snapshot.archive import SnapshotEntry

EXTRAS = Meta(content_type="text/plain", tags=["a", "b"], swr_ms=5000)


class FakeReply(NamedTuple):
    status: int
    body: Any = None

    def json(self) -> Any:
        return self.body


class FakeCluster:
    """Answers like a cluster that does (not) know tags and swr."""

    def __init__(self, *, accepts: bool) -> None:
        self.accepts = accepts
        self.stored: dict[str, Any] = {}
        self.requests = 0

    def request(self, method: str, target: str, body: bytes, headers: dict[str, str]) -> FakeReply:
        self.requests += 1
        if method == "PUT":
            if not self.accepts and ("tag=" in target or "swr=" in target):
                raise BadRequest("tag is not supported by this version; leave it out")
            self.stored[target] = body
            return FakeReply(201)
        results = []
        for item in json.loads(body):
            refused = not self.accepts and ("tags" in item or "swr" in item)
            if not refused:
                self.stored[item["key"]] = item
            results.append({"key": item["key"], "status": 400 if refused else 201})
        return FakeReply(200, {"results": results})


def entry(key: str | bytes, meta: Meta, *, json_value: bool = True) -> SnapshotEntry:
    raw = pack(
        slot=0, term=1, seq=1, expires_ms=0, written_s=1, flags=JSON if json_value else 0,
        meta=pack_meta(meta), value=b"1",
    )  # fmt: skip
    raw_key = key.encode() if isinstance(key, str) else key
    return SnapshotEntry(0, raw_key, "1-1-abababab", header(raw), meta, b"1")


def imported(cluster: FakeCluster, *entries: SnapshotEntry) -> Importer:
    importer = Importer(cluster, overwrite=True)  # type: ignore[arg-type]
    for each in entries:
        importer.add(each)
    importer.flush()
    return importer


@pytest.mark.parametrize("json_value", [True, False])
def test_tags_and_swr_are_sent_where_they_are_accepted(*, json_value: bool) -> None:
    cluster = FakeCluster(accepts=True)
    done = imported(cluster, entry("k", EXTRAS, json_value=json_value), entry("l", Meta()))
    assert (done.written, done.stripped, done.failed) == (2, 0, 0)
    if json_value:
        assert cluster.stored["k"]["tags"] == ["a", "b"]
        assert cluster.stored["k"]["swr"] == 5


@pytest.mark.parametrize("json_value", [True, False])
def test_where_they_are_refused_everything_else_is_written_and_they_are_counted(
    *, json_value: bool
) -> None:
    cluster = FakeCluster(accepts=False)
    entries = [entry(f"k{n}", EXTRAS, json_value=json_value) for n in range(3)]
    done = imported(cluster, *entries, entry("plain", Meta()))
    assert (done.written, done.stripped, done.failed, done.errors) == (4, 3, 0, [])
    assert len(cluster.stored) == 4


def test_what_is_refused_for_another_reason_has_failed() -> None:
    cluster = FakeCluster(accepts=False)
    cluster.request = lambda *_: FakeReply(200, {"results": [{"key": "k", "status": 400}]})  # type: ignore[method-assign]
    done = imported(cluster, entry("k", EXTRAS))
    assert (done.written, done.failed) == (0, 1)


@pytest.mark.parametrize("json_value", [True, False])
def test_keys_that_http_refuses_are_skipped_counted_and_named(*, json_value: bool) -> None:
    cluster = FakeCluster(accepts=True)
    illegal = [b"b\xff", b"\xed\xa0\x80", b"a\n"]
    entries = [entry(key, Meta(), json_value=json_value) for key in ("k", *illegal, "l")]
    done = imported(cluster, *entries)
    assert (done.written, done.failed, done.skipped.count) == (2, 0, 3)
    assert done.skipped.names == ["b\\xff", "\\xed\\xa0\\x80", "a\\x0a"]
    assert len(cluster.stored) == 2

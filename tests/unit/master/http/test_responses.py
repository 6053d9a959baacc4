"""The bytes of the hot replies."""

import json

import pytest

from master.http.responses import Replies
from master.http.target import key_of_target
from ringmaster.protocol.entry import HEADER_SIZE, JSON, RESTORED, pack, value_offset
from ringmaster.protocol.entry_meta import Meta, pack_meta
from ringmaster.protocol.write_options import WriteReply
from ringmaster.runtime.cluster_clock import ClusterClock

NOW = 1_790_000_000.25
NOW_MS = int(NOW * 1000)


class Stopped:
    def __init__(self) -> None:
        self.now = self.wall_ahead_s = 0.0

    def boottime(self) -> float:
        return self.now

    def wall(self) -> float:
        return NOW + self.now + self.wall_ahead_s


def entry(
    value: bytes, flags: int = JSON, meta: Meta | None = None, expires_ms: int = 0, age_s: int = 7
) -> bytes:
    return pack(
        slot=0,
        term=0x1A,
        seq=0x2B,
        expires_ms=expires_ms,
        written_s=int(NOW) - age_s,
        flags=flags,
        meta=pack_meta(meta or Meta()),
        value=value,
    )


def parsed(raw: bytes) -> tuple[int, dict[str, str], bytes]:
    head, _, body = raw.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    version, status, _ = first.split(" ", 2)
    assert version == "HTTP/1.1"
    names = [line.split(": ")[0] for line in lines]
    assert len(names) == len(set(names))
    headers = dict(line.split(": ", 1) for line in lines)
    if status != "204":
        assert int(headers["Content-Length"]) == len(body)
    assert headers["Date"] == "Mon, 21 Sep 2026 14:13:20 GMT"
    return int(status), headers, body


def replies(*, private: bool = False) -> Replies:
    return Replies(ClusterClock(Stopped()), "0f3c9d1e", private=private)


def test_a_posted_value_comes_back_with_the_very_bytes() -> None:
    value = b'{"big": 123456789012345678901234567890, "f": 1.10}'
    status, headers, body = parsed(replies().hit(b"k", entry(value), b"aux1"))
    assert status == 200
    assert body == b'{"key":"k","value":' + value + b"}"
    assert headers["Content-Type"] == "application/json"
    assert headers["ETag"] == '"1a-2b-0f3c9d1e"'
    assert headers["Age"] == "7"
    assert headers["Cache-Control"] == "no-cache"
    assert headers["Cache-Status"] == "ringmaster; hit; detail=aux1"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Content-Security-Policy"] == "sandbox"


@pytest.mark.parametrize("key", ['"', "\\", "é", "😀", "a b", "</script>", "\u2028", "a/b"])
def test_any_key_comes_back_as_json(key: str) -> None:
    _, _, body = parsed(replies().hit(key.encode(), entry(b"1"), b"n"))
    assert json.loads(body) == {"key": key, "value": 1}


def test_a_put_value_comes_back_with_its_content_headers() -> None:
    meta = Meta(
        content_type="text/html", content_encoding="br", content_disposition='inline; x="é"'
    )
    status, headers, body = parsed(replies().hit(b"k", entry(b"\x00\xff", 0, meta), b"n"))
    assert (status, body) == (200, b"\x00\xff")
    assert headers["Content-Type"] == "text/html"
    assert headers["Content-Encoding"] == "br"
    assert headers["Content-Disposition"] == 'inline; x="é"'
    _, headers, _ = parsed(replies().hit(b"k", entry(b"", 0), b"n"))
    assert headers["Content-Type"] == "application/octet-stream"


@pytest.mark.parametrize(
    ("left_ms", "meta", "said"),
    [
        (41_001, Meta(), "; ttl=42"),
        (1, Meta(swr_ms=5000), "; ttl=1"),
        (-1500, Meta(swr_ms=5000), "; stale; ttl=-2"),
        # Its node found it alive a moment ago. Nobody said that it may be served stale.
        (-1, Meta(), "; ttl=0"),
        (-1, Meta(tags=("news",)), "; ttl=0"),
    ],
)
def test_the_time_left_is_said(left_ms: int, meta: Meta, said: str) -> None:
    expiring = entry(b"1", meta=meta, expires_ms=NOW_MS + left_ms)
    for reply in (
        replies().hit(b"k", expiring, b"n"),
        replies().plain_hit(b"k", expiring, b"n", NOW_MS),
    ):
        _, headers, _ = parsed(reply)
        assert headers["Cache-Status"] == f"ringmaster; hit{said}; detail=n"


def test_a_restored_entry_says_so() -> None:
    for flags in (JSON | RESTORED, RESTORED):
        _, headers, _ = parsed(replies().hit(b"k", entry(b"1", flags), b"n"))
        assert headers["Cache-Status"] == "ringmaster; hit; detail=restored"


def test_an_authenticated_hit_is_private_and_a_clock_behind_gives_age_0() -> None:
    _, headers, _ = parsed(replies(private=True).hit(b"k", entry(b"1", age_s=-9), b"n"))
    assert headers["Cache-Control"] == "private, no-cache"
    assert headers["Age"] == "0"


@pytest.mark.parametrize("key", [b"k", 'é"'.encode()])
@pytest.mark.parametrize(
    "hit",
    [
        entry(b"12"),
        entry(b"12", expires_ms=int(NOW * 1000) + 5),
        entry(b"12", meta=Meta(swr_ms=5)),
        entry(b"12", 0),
        entry(b"12", 0, Meta(content_type="a/b")),
        entry(b"12", JSON | RESTORED),
    ],
)
def test_the_head_and_the_pieces_are_those_of_the_whole(key: bytes, hit: bytes) -> None:
    made = replies()
    whole = made.hit(key, hit, b"n")
    head, _, body = whole.partition(b"\r\n\r\n")
    assert made.hit_head(key, hit[: value_offset(hit)], 2, b"n") == head + b"\r\n\r\n"
    content, content_body = made.content(key, hit)
    assert content_body == body
    assert content + made.validators(hit[: value_offset(hit)], b"n") in whole
    assert len(hit) > HEADER_SIZE


def test_a_miss_is_a_problem_that_nobody_stores() -> None:
    status, headers, body = parsed(replies().miss())
    assert status == 404
    assert headers["Content-Type"] == "application/problem+json"
    assert headers["Cache-Control"] == "no-store"
    assert headers["Cache-Status"] == "ringmaster; fwd=miss"
    assert json.loads(body)["status"] == 404


def test_a_created_value_has_a_location_that_leads_to_it() -> None:
    key = "../ü?".encode()
    status, headers, body = parsed(replies().posted(key, WriteReply(1, 26, 43, 1_790_000_000_005)))
    assert status == 201
    assert key_of_target(headers["Location"].encode())[0] == key
    assert headers["ETag"] == '"1a-2b-0f3c9d1e"'
    assert headers["Cache-Control"] == "no-store"
    assert json.loads(body) == {
        "key": key.decode(),
        "version": "1a-2b-0f3c9d1e",
        "expires_at": "2026-09-21T14:13:20.005Z",
    }
    status, headers, body = parsed(replies().posted(key, WriteReply(0, 26, 43, 0)))
    assert status == 200
    assert "Location" not in headers
    assert json.loads(body)["expires_at"] is None


def test_put_delete_and_incr() -> None:
    status, headers, body = parsed(replies().put(b"k", WriteReply(1, 26, 43, 0)))
    assert (status, headers["Location"], body) == (201, "/data/k", b"")
    status, headers, body = parsed(replies().put(b"k", WriteReply(0, 26, 43, 0)))
    assert (status, headers["ETag"], body) == (204, '"1a-2b-0f3c9d1e"', b"")
    assert "Content-Length" not in headers
    status, headers, body = parsed(replies().deleted())
    assert (status, headers["Cache-Control"], body) == (204, "no-store", b"")
    status, _, body = parsed(replies().counted(b"k", WriteReply(0, 26, 43, 0, -5)))
    assert json.loads(body) == {"key": "k", "value": -5, "version": "1a-2b-0f3c9d1e"}


@pytest.mark.parametrize("key", [b"k", b"a/b~!$&'()*+,;=:@-_."])
@pytest.mark.parametrize(
    "hit",
    [
        entry(b"12"),
        entry(b"12", age_s=-3),
        entry(b"12", expires_ms=int(NOW * 1000) + 5),
        entry(b"12", expires_ms=int(NOW * 1000) - 5),
        entry(b"12", meta=Meta(swr_ms=5)),
        entry(b"12", 0),
        entry(b"12", JSON | RESTORED),
    ],
)
def test_the_short_way_to_a_hit_makes_the_same_bytes(key: bytes, hit: bytes) -> None:
    assert replies().plain_hit(key, hit, b"n", NOW_MS) == replies().hit(key, hit, b"n")


@pytest.mark.parametrize("key", [b"k", b"a b/c?"])
@pytest.mark.parametrize("created", [True, False])
def test_the_short_way_to_a_written_value_makes_the_same_bytes(key: bytes, created: bool) -> None:
    general = replies().posted(key, WriteReply(int(created), 26, 43, 0))
    assert replies().plain_posted(key, created, 26, 43, NOW_MS) == general


def test_the_date_is_the_wall_clock_s_read_once_a_second() -> None:
    clock = Stopped()
    made = Replies(ClusterClock(clock))
    first = made.date()
    assert first == b"Mon, 21 Sep 2026 14:13:20 GMT"
    clock.wall_ahead_s = -3600.0
    clock.now = 0.7
    assert made.date() is first
    clock.now = 1.8
    assert made.date() == b"Mon, 21 Sep 2026 13:13:22 GMT"


def test_a_wall_clock_that_steps_changes_neither_age_nor_ttl() -> None:
    clock = Stopped()
    made = Replies(ClusterClock(clock), "0f3c9d1e")
    stored = entry(b"1", expires_ms=NOW_MS + 9000)
    before = made.hit(b"k", stored, b"n")
    clock.wall_ahead_s = -60.0
    assert made.hit(b"k", stored, b"n") == before

"""Whole replies to the hot requests of /data as bytes: the one source for the fast path and aiohttp.

Each is status line, headers, empty line and body for a connection that stays open. Errors are
`master/http/problem.py`'s.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import formatdate
from typing import Final

import msgspec

from master.http.target import location_of
from ringmaster.protocol.entry import (
    FLAGS_OFFSET,
    HEADER_SIZE,
    JSON,
    META,
    RESTORED,
    expires_ms_of,
    header,
    meta_of,
    unnamed_header,
    value_offset,
)
from ringmaster.protocol.write_options import WriteReply
from ringmaster.runtime.cluster_clock import ClusterClock

plain_text = re.compile(rb"[ !#-\[\]-~]*").fullmatch
"""Matches bytes that are a JSON string as they are, but for the quotes."""

# Numbers of the hottest replies as text: a look-up costs less than a conversion.
_TABLE: Final = 4096
_DECIMAL: Final = [b"%d" % number for number in range(_TABLE)]
_HEX: Final = [b"%x" % number for number in range(_TABLE)]
_HEX_DIGITS: Final = [b"%03x" % number for number in range(_TABLE)]

_AROUND_JSON: Final = len(b'{"key":"","value":}')
_VALIDATORS: Final = (
    b'ETag: "%x-%x-%b%d\r\n'
    b"Cache-Status: ringmaster; hit%b; detail=%b\r\n"
    b"X-Content-Type-Options: nosniff\r\n"
    b"Content-Security-Policy: sandbox\r\n"
)
_WRITTEN: Final = (
    b"HTTP/1.1 %b\r\n"
    b"Content-Type: application/json\r\n"
    b"%b"
    b'ETag: "%b"\r\n'
    b"Cache-Control: no-store\r\n"
    b"Content-Length: %b\r\n"
    b"Date: %b\r\n"
    b"\r\n"
    b"%b"
)
_AROUND_POSTED: Final = len(b'{"key":"","version":"","expires_at":null}')
_CREATED_EMPTY: Final = (
    b"HTTP/1.1 201 Created\r\n"
    b"Location: %b\r\n"
    b'ETag: "%x-%x-%b"\r\n'
    b"Cache-Control: no-store\r\n"
    b"Content-Length: 0\r\n"
    b"Date: %b\r\n"
    b"\r\n"
)
_NO_CONTENT: Final = b"HTTP/1.1 204 No Content\r\n%bCache-Control: no-store\r\nDate: %b\r\n\r\n"
_DOCUMENT: Final = (
    b"HTTP/1.1 200 OK\r\n"
    b"Content-Type: application/json\r\n"
    b"Cache-Control: no-store\r\n"
    b"Content-Length: %d\r\n"
    b"Date: %b\r\n"
    b"\r\n"
    b"%b"
)
_MISS: Final = (
    b"HTTP/1.1 404 Not Found\r\n"
    b"Content-Type: application/problem+json\r\n"
    b"Cache-Control: no-store\r\n"
    b"Cache-Status: ringmaster; fwd=miss\r\n"
    b"%b"
    b"Content-Length: %d\r\n"
    b"Date: %b\r\n"
    b"\r\n"
    b"%b"
)
_MISS_BODY: Final = (
    b'{"type":"/docs#no-such-key","title":"No such key","status":404,'
    b'"detail":"there is no entry with this key"}'
)
_PUT_TYPE: Final = "application/octet-stream"


class Replies:
    """Renders replies of one cluster. `salt`: the first 8 digits of the cluster's id, part of every ETag.

    `private`: requests are authenticated, so shared caches must not keep a hit.
    """

    __slots__ = ("_after_version", "_clock", "_date", "_date_second", "salt")

    def __init__(
        self, clock: ClusterClock, salt: str = "00000000", *, private: bool = False
    ) -> None:
        self._clock = clock
        self.salt = salt.encode()
        # What follows term and sequence in a hit's ETag, up to the age: as one piece, so that `private` costs nothing.
        self._after_version = b'%b"\r\nCache-Control: %bno-cache\r\nAge: ' % (
            self.salt,
            b"private, " if private else b"",
        )
        self._date = b""
        # The second of cluster time in which `_date` was made.
        self._date_second = -1

    def date(self, now_ms: int | None = None) -> bytes:
        """The value of `Date`: the wall clock, read once a second."""
        second = (self._clock.now_ms() if now_ms is None else now_ms) // 1000
        if second != self._date_second:
            self._date_second = second
            self._date = formatdate(int(self._clock.wall()), usegmt=True).encode()
        return self._date

    def plain_hit(self, key: bytes, entry: bytes, node: bytes, now_ms: int) -> bytes:
        """What `hit` replies for a `key` that stands in a JSON string as it is (`plain_text`)."""
        seq, term, expires_ms, written_s, flags = unnamed_header(entry)
        if flags != JSON:
            return self.hit(key, entry, node)
        second = now_ms // 1000
        age_s = second - written_s if second > written_s else 0
        size = len(key) + len(entry) + (_AROUND_JSON - HEADER_SIZE)
        # One format for the hottest reply, in place and of bytes only: so it is compiled to copies. `_validators` and
        # `_framed` say the same in pieces (`test_the_short_way_to_a_hit_makes_the_same_bytes`).
        return (
            b"HTTP/1.1 200 OK\r\n"
            b"Content-Type: application/json\r\n"
            b'ETag: "%b-%b-%b%b\r\n'
            b"Cache-Status: ringmaster; hit%b; detail=%b\r\n"
            b"X-Content-Type-Options: nosniff\r\n"
            b"Content-Security-Policy: sandbox\r\n"
            b"Content-Length: %b\r\n"
            b"Date: %b\r\n"
            b"\r\n"
            b'{"key":"%b","value":%b}'
        ) % (
            _HEX[term] if term < _TABLE else _hex(term),
            _HEX[seq] if seq < _TABLE else _hex(seq),
            self._after_version,
            _DECIMAL[age_s] if age_s < _TABLE else _decimal(age_s),
            _ttl(entry, expires_ms, now_ms) if expires_ms else b"",
            node,
            _DECIMAL[size] if size < _TABLE else _decimal(size),
            self._date if self._date_second == second else self.date(now_ms),
            key,
            entry[HEADER_SIZE:],
        )

    def is_stale(self, entry: bytes) -> bool:
        """Whether the time of `entry` is over: it is served for a while, and to be written anew."""
        expires_ms = expires_ms_of(entry)
        return expires_ms > 0 and self._clock.now_ms() >= expires_ms

    def hit(self, key: bytes, entry: bytes, node: bytes, more: bytes = b"") -> bytes:
        """200 with the value of `entry`, which node `node` gave. `more`: header lines."""
        now_ms = self._clock.now_ms()
        content, body = self.content(key, entry)
        return self._framed(content, self._validators(entry, node, now_ms) + more, body)

    def hit_head(self, key: bytes, head: bytes, value_size: int, node: bytes) -> bytes:
        """The same as `hit` without the body, from an entry's header and meta and its value's size."""
        if head[FLAGS_OFFSET] & JSON:
            value_size += len(json_text(key)) + 17
        now_ms = self._clock.now_ms()
        lines = self._validators(head, node, now_ms)
        return _framed_head(_content_lines(head), lines, value_size, self.date(now_ms))

    def validators(self, entry: bytes, node: bytes) -> bytes:
        """The header lines that a hit, its 304 and its 206 have in common; `entry` may end after its meta."""
        return self._validators(entry, node, self._clock.now_ms())

    def not_modified(self, entry: bytes, node: bytes, more: bytes = b"") -> bytes:
        """304: the client has that value. `entry` may end after its meta. `more`: header lines."""
        lines = self.validators(entry, node) + more
        return b"HTTP/1.1 304 Not Modified\r\n%bDate: %b\r\n\r\n" % (lines, self.date())

    @staticmethod
    def content(key: bytes, entry: bytes) -> tuple[bytes, bytes]:
        """(header lines that describe the content, the content)."""
        value = entry[value_offset(entry) :]
        if entry[FLAGS_OFFSET] & JSON:
            value = b'{"key":%b,"value":%b}' % (json_text(key), value)
        return _content_lines(entry), value

    def json(self, body: bytes) -> bytes:
        """200 with a JSON document that nobody stores."""
        return _DOCUMENT % (len(body), self.date(), body)

    def miss(self, more: bytes = b"") -> bytes:
        """404: no such key. `more`: header lines."""
        return _MISS % (more, len(_MISS_BODY), self.date(), _MISS_BODY)

    def plain_posted(self, key: bytes, created: bool, term: int, seq: int, now_ms: int) -> bytes:
        """What `posted` replies for a `key` that stands in a JSON string as it is, and an entry that never expires."""
        version = self.version(term, seq)
        # One format, in place and of bytes only, as in `plain_hit`. With `posted` it is compared by
        # `test_the_short_way_to_a_written_value_makes_the_same_bytes`.
        return (
            b"HTTP/1.1 %b\r\n"
            b"Content-Type: application/json\r\n"
            b"%b"
            b'ETag: "%b"\r\n'
            b"Cache-Control: no-store\r\n"
            b"Content-Length: %b\r\n"
            b"Date: %b\r\n"
            b"\r\n"
            b'{"key":"%b","version":"%b","expires_at":null}'
        ) % (
            b"201 Created" if created else b"200 OK",
            b"Location: %b\r\n" % location_of(key) if created else b"",
            version,
            _decimal(len(key) + len(version) + _AROUND_POSTED),
            self._date if self._date_second == now_ms // 1000 else self.date(now_ms),
            key,
            version,
        )

    def posted(self, key: bytes, reply: WriteReply) -> bytes:
        """201 or 200: a JSON value was written."""
        status, term, seq, expires_ms, _ = reply
        created = status == 1
        version = self.version(term, seq)
        body = b'{"key":%b,"version":"%b","expires_at":%b}' % (
            json_text(key),
            version,
            _instant(expires_ms) if expires_ms else b"null",
        )
        return _WRITTEN % (
            b"201 Created" if created else b"200 OK",
            b"Location: %b\r\n" % location_of(key) if created else b"",
            version,
            _decimal(len(body)),
            self.date(),
            body,
        )

    def counted(self, key: bytes, reply: WriteReply) -> bytes:
        """200: an integer was incremented."""
        version = self.version(reply.term, reply.seq)
        body = b'{"key":%b,"value":%d,"version":"%b"}' % (json_text(key), reply.number, version)
        return _WRITTEN % (b"200 OK", b"", version, _decimal(len(body)), self.date(), body)

    def put(self, key: bytes, reply: WriteReply) -> bytes:
        """201 or 204: a value of bytes was written."""
        if reply.status == 1:
            location = location_of(key)
            return _CREATED_EMPTY % (location, reply.term, reply.seq, self.salt, self.date())
        etag = b'ETag: "%x-%x-%b"\r\n' % (reply.term, reply.seq, self.salt)
        return _NO_CONTENT % (etag, self.date())

    def deleted(self) -> bytes:
        """204: there is no such entry now."""
        return _NO_CONTENT % (b"", self.date())

    def version(self, term: int, seq: int) -> bytes:
        """The text of a version; in double quotes it is the ETag."""
        return b"%b-%b-%b" % (_hex(term), _hex(seq), self.salt)

    def _validators(self, head: bytes, node: bytes, now_ms: int) -> bytes:
        decoded = header(head)
        expires_ms = decoded.expires_ms
        return _VALIDATORS % (
            decoded.term,
            decoded.seq,
            self._after_version,
            max(now_ms // 1000 - decoded.written_s, 0),
            _ttl(head, expires_ms, now_ms) if expires_ms else b"",
            b"restored" if decoded.flags & RESTORED else node,
        )

    def _framed(self, content: bytes, lines: bytes, body: bytes) -> bytes:
        return _framed_head(content, lines, len(body), self.date()) + body


def _decimal(number: int) -> bytes:
    """`number`, not negative, as `%d` gives it."""
    return _DECIMAL[number] if number < _TABLE else b"%d" % number


def _hex(number: int) -> bytes:
    """`number`, not negative, as `%x` gives it."""
    if number < _TABLE:
        return _HEX[number]
    if number < _TABLE * _TABLE:
        return _HEX[number >> 12] + _HEX_DIGITS[number & (_TABLE - 1)]
    return b"%x" % number


def json_text(key: bytes) -> bytes:
    """`key` as a JSON string."""
    return b'"%b"' % key if plain_text(key) else msgspec.json.encode(key.decode())


def _framed_head(content: bytes, lines: bytes, size: int, date: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\n%b%bContent-Length: %d\r\nDate: %b\r\n\r\n" % (
        content,
        lines,
        size,
        date,
    )


def _content_lines(head: bytes) -> bytes:
    flags = head[FLAGS_OFFSET]
    if flags & JSON:
        return b"Content-Type: application/json\r\n"
    if not flags & META:
        return b"Content-Type: application/octet-stream\r\nAccept-Ranges: bytes\r\n"
    meta = meta_of(head)
    text = f"Content-Type: {meta.content_type or _PUT_TYPE}\r\nAccept-Ranges: bytes\r\n"
    if meta.content_encoding:
        text += f"Content-Encoding: {meta.content_encoding}\r\n"
    if meta.content_disposition:
        text += f"Content-Disposition: {meta.content_disposition}\r\n"
    return text.encode("utf-8", "surrogateescape")


def _ttl(head: bytes, expires_ms: int, now_ms: int) -> bytes:
    """Seconds left, rounded up; negative and marked when stale. 0: it was alive when its node looked, and is not served stale."""
    left_ms = expires_ms - now_ms
    if left_ms > 0:
        return b"; ttl=%d" % -(-left_ms // 1000)
    return b"; stale; ttl=%d" % (left_ms // 1000) if is_stale(head, left_ms) else b"; ttl=0"


def is_stale(head: bytes, left_ms: int) -> bool:
    """Whether an entry of which so many milliseconds are left is served for a while after its time. `head` may end after its meta."""
    return left_ms <= 0 and bool(head[FLAGS_OFFSET] & META) and meta_of(head).swr_ms > 0


def _instant(expires_ms: int) -> bytes:
    """RFC 3339 in JSON, null for never (0)."""
    if not expires_ms:
        return b"null"
    seconds, ms = divmod(expires_ms, 1000)
    if seconds > 253402300799:
        return b"null"
    return b'"%b.%03dZ"' % (
        datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S").encode(),
        ms,
    )

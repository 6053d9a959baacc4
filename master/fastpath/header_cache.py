"""Which header blocks are so plain that the fast path may answer, remembered by their very bytes.

A client sends the same header fields with each request, so one dict look-up replaces parsing them.
A block seen for the first time is parsed by llhttp (httptools), which is strict about everything
that request smuggling needs; whatever is not plainly harmless is left to aiohttp.
"""

from __future__ import annotations

from typing import Final

import httptools

from master.http.origin_check import Authority, Forbidden
from ringmaster.errors import BadRequest
from ringmaster.protocol.entry_meta import Meta, pack_meta
from ringmaster.protocol.write_options import WriteOptions, encode_options

_REMEMBERED: Final = 4096
_MAX_BLOCK: Final = 4096
_DEFAULT_TYPE: Final = "application/octet-stream"

# They change nothing in a reply to a plain request. Any other field is a reason to ask aiohttp.
_HARMLESS: Final = frozenset(
    {
        b"accept",
        b"accept-charset",
        b"accept-encoding",
        b"accept-language",
        b"cache-control",
        b"dnt",
        b"pragma",
        b"priority",
        b"referer",
        b"traceparent",
        b"tracestate",
        b"user-agent",
        b"x-forwarded-for",
        b"x-forwarded-host",
        b"x-forwarded-proto",
        b"x-real-ip",
        b"x-request-id",
    }
)
_ONCE: Final = frozenset({b"host", b"connection", b"content-length", b"content-type"})
# They say where a request ends, or that something else follows it.
_FRAMING: Final = frozenset(
    {b"transfer-encoding", b"upgrade", b"expect", b"te", b"trailer", b"http2-settings"}
)


class Head:
    """A plain header block. `length`: of the body, -1 where none is announced.

    `put_options`: encoded `WriteOptions` of a PUT with this content type and without a ttl.
    """

    __slots__ = ("length", "meta", "put_options")

    def __init__(self, length: int, content_type: str) -> None:
        self.length = length
        self.meta = pack_meta(
            Meta(content_type="" if content_type == _DEFAULT_TYPE else content_type)
        )
        self.put_options = encode_options(WriteOptions(flags=0, meta=self.meta))


class Heads:
    """Judges header blocks. `known` maps blocks to heads; look there first."""

    __slots__ = ("_authority", "known")

    def __init__(self, authority: Authority) -> None:
        self._authority = authority
        self.known: dict[bytes, Head] = {}

    def judge(self, block: bytes) -> Head | None:
        """The head that `block` is (field lines, each with its CRLF), None if it is not plain."""
        if len(block) > _MAX_BLOCK or b"\r\n\r\n" in block:
            return None
        fields = _parsed(block)
        if fields is None:
            return None
        once: dict[bytes, bytes] = {}
        for name, value in fields:
            if name in _ONCE:
                if name in once:
                    return None
                once[name] = value.strip(b" \t")
            elif name not in _HARMLESS:
                return None
        head = self._plain(once)
        if head is not None:
            if len(self.known) >= _REMEMBERED:
                self.known.clear()
            self.known[block] = head
        return head

    def length_of(self, block: bytes) -> int | None:
        """Bytes of the body that `block` announces, None where only aiohttp can tell the request's end."""
        head = self.known.get(block)
        if head is not None:
            return max(head.length, 0)
        fields = None if b"\r\n\r\n" in block else _parsed(block)
        if fields is None:
            return None
        length = 0
        for name, value in fields:
            if name in _FRAMING:
                return None
            if name == b"connection" and value.strip(b" \t").lower() != b"keep-alive":
                return None
            if name == b"content-length":
                digits = value.strip(b" \t")
                if not digits.isdigit() or len(digits) > 10:
                    return None
                length = int(digits)
        return length

    def _plain(self, once: dict[bytes, bytes]) -> Head | None:
        host = once.get(b"host")
        length = once.get(b"content-length", b"")
        content_type = once.get(b"content-type", b"")
        if once.get(b"connection", b"keep-alive").lower() != b"keep-alive":
            return None
        if host is None or not host.isascii() or not content_type.isascii():
            return None
        if length and (not length.isdigit() or len(length) > 10):
            return None
        try:
            self._authority.check_host(host.decode())
        except (BadRequest, Forbidden):
            return None
        return Head(int(length) if length else -1, content_type.decode())


class _Fields:
    """What llhttp says of a header block."""

    __slots__ = ("complete", "fields")

    def __init__(self) -> None:
        self.fields: list[tuple[bytes, bytes]] = []
        self.complete = False

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self.complete = True


def _parsed(block: bytes) -> list[tuple[bytes, bytes]] | None:
    found = _Fields()
    try:
        httptools.HttpRequestParser(found).feed_data(b"PUT / HTTP/1.1\r\n" + block + b"\r\n")
    except (httptools.HttpParserError, httptools.HttpParserUpgrade):
        return None
    return found.fields if found.complete else None

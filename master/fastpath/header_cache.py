"""Which header blocks are so plain that the fast path may answer, remembered by their very bytes.

A client sends the same header fields with each request, so one dict look-up replaces parsing them.
A block seen for the first time is parsed by llhttp (httptools), which is strict about everything
that request smuggling needs; whatever is not plainly harmless is left to aiohttp. So a token is looked
up once for each header block, not for each request, and a block without a valid one is not remembered.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from master.http.access import Access, Gate, Unauthorized
from master.http.field_cutting import without_field
from master.http.framing import parse_fields
from master.http.origin_check import Authority, Forbidden
from master.http.write_rules import is_fill_token
from ringmaster.errors import BadRequest
from ringmaster.protocol.entry_meta import Meta, pack_meta
from ringmaster.protocol.write_options import WriteOptions, encode_options

_REMEMBERED: Final = 4096
_MAX_BLOCK: Final = 4096
# Fewer than the masters take, of which there are also those that `without_tag` cuts out.
_MAX_FIELDS: Final = 64
_DEFAULT_TYPE: Final = "application/octet-stream"

NO_KEYS: Final = 0
SOME_KEYS: Final = 1
ALL_KEYS: Final = 2

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
        b"x-forwarded-for",
        b"x-forwarded-host",
        b"x-forwarded-proto",
        b"x-real-ip",
        b"x-request-id",
    }
)
# One tag: what a client sends that keeps a copy of one value. Lists, `*` and what is malformed are left to aiohttp.
_one_tag = re.compile(rb'[ \t]*(?:W/)?("[!#-~]{0,200}")[ \t]*').fullmatch
_ONCE: Final = frozenset(
    {b"authorization", b"host", b"connection", b"content-length", b"content-type", b"user-agent"}
)


class Head:
    """A plain header block. `length`: of the body, -1 where none is announced.

    `put_options`: encoded `WriteOptions` of a PUT with this content type and no parameters; `delete_args`: what a DELETE says
    behind the key, the name of the token. `access`: what is to be asked
    about each key, None if its sender may read and write all of them. What that says of the two usual requests is
    settled here: `gets`: which keys a GET may read, `NO_KEYS` also where a body is announced and for the self-audit; `matches_plain`: see `Access`;
    `post_length`: `length`, or -2 unless all keys may be written.
    """

    __slots__ = (
        "access",
        "content_type",
        "delete_args",
        "gets",
        "length",
        "matches_plain",
        "meta",
        "post_length",
        "put_options",
    )

    def __init__(self, length: int, content_type: str, access: Access) -> None:
        everywhere = not access.prefixes and not access.tags
        reads, writes = access.has("read"), access.has("write")
        self.length = length
        self.access = None if reads and writes and everywhere else access
        self.gets = NO_KEYS
        if length < 0 and reads and not access.is_canary:
            self.gets = ALL_KEYS if not access.prefixes else SOME_KEYS
        self.matches_plain = access.matches_plain
        self.post_length = length if writes and not access.prefixes else -2
        self.content_type = "" if content_type == _DEFAULT_TYPE else content_type
        self.meta = pack_meta(Meta(content_type=self.content_type))
        self.put_options = encode_options(WriteOptions(flags=0, meta=self.meta))
        self.delete_args: tuple[bytes, ...] = ()
        if access.token:
            self.delete_args = (encode_options(WriteOptions(by=access.token)),)

    def may_get(self, key: bytes) -> bool:
        """Whether this is the head of a GET without a body whose sender may read `key`, which needs no decoding."""
        gets = self.gets
        return gets == ALL_KEYS or (gets == SOME_KEYS and self.matches_plain(key) is not None)


def without_tag(block: bytes) -> tuple[bytes, bytes] | None:
    """(`block` without its first `If-None-Match`, the one tag in that, less its `W/`); None if there is no such field.

    A second such field stays where it is, and the rest is not plain. So is a field that goes on in the next line.
    """
    found = without_field(block, b"if-none-match")
    if found is None:
        return None
    tag = _one_tag(found[1])
    return None if tag is None else (found[0], tag[1])


def without_fill_token(block: bytes) -> tuple[bytes, str] | None:
    """(`block` without its first `Fill-Token`, that token); None if there is no such field, or no token in it."""
    found = without_field(block, b"fill-token")
    if found is None:
        return None
    token = is_fill_token(found[1].strip(b" \t").decode("latin-1"))
    return None if token is None else (found[0], token[0])


class Sender(NamedTuple):
    """What a header block says of who sends it. `forwarded`: its `X-Forwarded-For`, empty without one."""

    access: Access
    forwarded: str


class Heads:
    """Judges header blocks. `known` maps blocks to heads; look there first, and `forget` it when tokens change."""

    __slots__ = ("_authority", "_gate", "_senders", "known")

    def __init__(self, authority: Authority, gate: Gate) -> None:
        self._authority = authority
        self._gate = gate
        self.known: dict[bytes, Head] = {}
        self._senders: dict[bytes, Sender] = {}

    def forget(self) -> None:
        """Nothing is known of any block any more."""
        self.known.clear()
        self._senders.clear()

    def sender_of(self, block: bytes) -> Sender | None:
        """Who sends `block` (field lines, each with its CRLF), plain or not; None if that is not certain."""
        sender = self._senders.get(block)
        if sender is None:
            sender = self._look_up(block)
            if sender is not None and len(block) <= _MAX_BLOCK:
                if len(self._senders) >= _REMEMBERED:
                    self._senders.clear()
                self._senders[block] = sender
        return sender

    def _look_up(self, block: bytes) -> Sender | None:
        fields = parse_fields(block)
        if fields is None:
            return None
        tokens = [value for name, value in fields if name == b"authorization"]
        if len(tokens) > 1 or not all(map(bytes.isascii, tokens)):
            return None
        try:
            access = self._gate.admit(tokens[0].decode() if tokens else None)
        except Unauthorized:
            return None
        hops = b",".join(value for name, value in fields if name == b"x-forwarded-for")
        return Sender(access, hops.decode("latin-1"))

    def judge(self, block: bytes) -> Head | None:
        """The head that `block` is (field lines, each with its CRLF), None if it is not plain."""
        if len(block) > _MAX_BLOCK:
            return None
        fields = parse_fields(block)
        if fields is None or len(fields) > _MAX_FIELDS:
            return None
        once: dict[bytes, bytes] = {}
        for name, value in fields:
            if name in _ONCE:
                if name in once:
                    return None
                once[name] = value
            elif name not in _HARMLESS:
                return None
        head = self._plain(once)
        if head is not None:
            if len(self.known) >= _REMEMBERED:
                self.known.clear()
            self.known[block] = head
        return head

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
        token = once.get(b"authorization")
        if token is not None and not token.isascii():
            return None
        if token is not None and self._gate.is_open and self._gate.canary(token.decode()) is None:
            return None
        try:
            self._authority.check_host(host.decode())
            access = self._gate.admit(None if token is None else token.decode())
        except (BadRequest, Forbidden, Unauthorized):
            return None
        return Head(int(length) if length else -1, content_type.decode(), access)

"""What clients send to a master: requests cut out of bytes, header blocks and values, keys, JSON bodies."""

from __future__ import annotations

import json

from master.api.ranges import parse_range
from master.fastpath.header_cache import Heads, without_tag
from master.http.access import Access, Gate
from master.http.chunked import MAX_TRAILERS, Chunks
from master.http.conditions import parse_header
from master.http.framing import CHUNKED, check_beginning, frame, parse_fields
from master.http.json_bodies import (
    parse_item,
    parse_items,
    parse_keys,
)
from master.http.limits import Limits
from master.http.origin_check import Authority
from master.http.plain_bodies import item_before_more, plain_item, plain_keys_of
from master.http.target import (
    MAX_TTL_S,
    check_parameters,
    integer_of_text,
    key_of_target,
    key_of_text,
    location_of,
    parse_query,
    seconds_of_text,
)
from master.http.write_rules import item_options
from ringmaster.access.grant import digest_of, make_grant
from ringmaster.errors import BadRequest
from ringmaster.protocol.keys import MAX_KEY, escaped, key_fault
from tests.fuzz.front import front
from tests.fuzz.outcome import cut, outcome, refuses

LIMITS = Limits(max_line=512, max_header=2048, max_fields=16)
TOKEN = "rmt_of_the_corpus"
GATE = Gate([make_grant("app", digest_of(TOKEN), ["read"], ["app/"])])
SALT = "0f3c9d1e"
MOST_ITEMS = 100


def requests(data: bytes) -> None:
    """A client's bytes lead to the same requests and replies, whole and in any pieces."""
    whole, *others = (front().transcript(pieces) for pieces in cut(data))
    for other in others:
        assert other == whole


def request_head(data: bytes) -> None:
    """A head that is accepted stays what it is when it is read again, and is not refused before it is whole."""
    raw = data.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
    found = outcome(frame, raw, LIMITS)
    if refuses(found):
        return
    again = frame(found.head, Limits())
    assert again == found
    assert found.length == CHUNKED or 0 <= found.length < 10**15
    for end in range(1, len(raw)):
        if b"\r\n\r\n" not in raw[:end]:
            assert check_beginning(raw[:end], LIMITS) > 0


def chunked_body(data: bytes) -> None:
    """A chunked body ends at the same place with the same content, whole and in any pieces."""
    found = [_unchunked(pieces) for pieces in cut(data)]
    assert found[1:] == found[:-1]


def _unchunked(pieces: list[bytes]) -> tuple[bytes, bytes] | str:
    """(the body so far, what follows it), or that it is broken."""
    chunks = Chunks()
    body, rest = b"", b""
    for piece in pieces:
        if chunks.ended:
            rest += piece
            continue
        found = outcome(chunks.feed, piece)
        if refuses(found):
            return "broken"
        body += found[0]
        rest = found[1]
    assert len(chunks._rest) <= MAX_TRAILERS
    # An incomplete body may be about to be refused: a line is looked at when it ends, or is too long.
    ended = outcome(chunks.feed, b"\r\n") if not chunks.ended else None
    return "broken" if refuses(ended) else (body, rest)


def header_block(data: bytes) -> None:
    """What the fast path takes for plain is a header block that the general way accepts, with the same meaning."""
    block = data if data.endswith(b"\r\n") else data + b"\r\n"
    fields = parse_fields(block)
    for gate in (Gate(), GATE):
        heads = Heads(Authority(["*"]), gate)
        head = heads.judge(block)
        if head is None:
            continue
        framing = frame(b"GET / HTTP/1.1\r\n" + block + b"\r\n", Limits())
        assert framing.keeps
        assert framing.length == max(head.length, 0)
        assert heads.known == {block: head}
        if gate is GATE:
            assert dict(fields or ()).get(b"authorization", b"").endswith(TOKEN.encode())
    split = without_tag(block)
    if split is not None and fields is not None:
        rest = parse_fields(split[0]) if split[0] else []
        assert rest is not None
        tags = [value for name, value in fields if name == b"if-none-match"]
        assert tags[0].removeprefix(b"W/") == split[1]
        at = [name for name, _ in fields].index(b"if-none-match")
        assert fields[:at] + fields[at + 1 :] == rest


def header_values(data: bytes) -> None:
    """The values of single headers are understood, ignored or refused with a sentence."""
    text = data.decode("utf-8", "surrogateescape")
    for strong in (True, False):
        versions = outcome(parse_header, "If-Match", text.split("\n"), SALT, strong=strong)
        assert refuses(versions) or versions is None or len(versions) <= 64
    authority = Authority(["cache.example.org"])
    outcome(authority.check_host, text)
    outcome(authority.check_change, "localhost:8080", text, None)
    outcome(authority.check_change, text, "http://localhost:8080", text)
    for gate in (Gate(), GATE):
        access = outcome(gate.admit, text)
        assert isinstance(access, Access) or len(text) < 8 or text not in str(access)
    milliseconds = outcome(seconds_of_text, text)
    assert refuses(milliseconds) or 0 <= milliseconds <= MAX_TTL_S * 1000
    number = outcome(integer_of_text, text, "incr", -(2**63), 2**63 - 1)
    assert refuses(number) or -(2**63) <= number < 2**63
    span = parse_range([text], 1000)
    assert span is None or span[1] <= 1000


def target(data: bytes) -> None:
    """A target names a legal key, or none, or is refused; its parameters are text."""
    found = outcome(key_of_target, data)
    if not refuses(found):
        key, parameters = found
        assert key is None or key_fault(key) is None
        outcome(check_parameters, parameters, "ttl", "tag")
    query = outcome(parse_query, data)
    assert refuses(query) or sum(map(len, query.values())) <= 64


def key(data: bytes) -> None:
    """A legal key is found again at the place that a reply gives for it, and is shown so that it can be typed."""
    legal = key_fault(data) is None
    assert not legal or 0 < len(data) <= MAX_KEY
    shown = escaped(data)
    assert shown.isascii()
    assert shown.isprintable()
    assert shown.encode().decode("unicode_escape").encode("latin-1") == data
    found = outcome(key_of_target, location_of(data)) if data else None
    if legal:
        assert found == (data, {})
        assert key_of_text(data.decode()) == data
    elif data:
        assert refuses(found)


def json_item(data: bytes) -> None:
    """The value of an item is the very bytes that were sent; the short ways say what the long one says."""
    item = outcome(parse_item, data)
    plain = plain_item(data)
    if isinstance(item, BadRequest):
        assert plain is None
        return
    assert not refuses(item)
    assert item.value in data
    json.loads(item.value, parse_int=len)
    key = outcome(key_of_text, item.key)
    assert refuses(key) or key_fault(key) is None
    options = outcome(item_options, item, SALT)
    assert refuses(options) or options.ttl_ms >= 0
    if plain is not None:
        assert plain == (key, item.value)
    more = item_before_more(data)
    if more is not None:
        other = parse_item(b'{"key":"","value":0' + more[2])
        assert (more[0], more[1]) == (key, item.value)
        assert (other.ttl, other.swr, other.tags) == (item.ttl, item.swr, item.tags)


def json_lists(data: bytes) -> None:
    """Lists of items and of keys are taken apart as they stand, or refused."""
    try:
        texts = outcome(parse_items, data, MOST_ITEMS)
        if not refuses(texts):
            assert len(texts) <= MOST_ITEMS
            for text in texts:
                assert text in data
                outcome(parse_item, text)
    except OverflowError:
        pass
    plain = plain_keys_of(data, MOST_ITEMS)
    try:
        keys = outcome(parse_keys, data, MOST_ITEMS)
    except OverflowError:
        assert plain is None
        return
    if refuses(keys):
        assert plain is None
        return
    assert plain is None or plain == [each.encode() for each in keys]
    for each in keys:
        outcome(key_of_text, each)

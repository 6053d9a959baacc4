"""Where a request ends (RFC 9112): its head checked once, strictly, and written again in the one form that all behind read.

Fast path and API stand behind this, so they cannot differ about a request's end, and nothing that only a sender and
one of several readers understand gets any further: fields of the connection, transfer codings, trailers.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import httptools

from master.http.limits import Limits
from master.http.origin_check import host_name
from master.http.problem import Problem

CHUNKED: Final = -1
"""A body whose length is said piece by piece."""

_MAX_LENGTH_DIGITS: Final = 15
# As nginx has it; the standard allows more, nobody uses it.
_METHOD: Final = rb"[A-Z_-]{1,32}"
_line = re.compile(rb"(" + _METHOD + rb") ([!-~]+) HTTP/([0-9])\.([0-9])").fullmatch
# A version above 1, whatever follows: no later version must look like those that are known.
_later_line = re.compile(_METHOD + rb" [!-~]+ HTTP/(?:[2-9]|[1-9][0-9])").match
# Of a path, or of absolute form (RFC 9112 §3.2.2).
_target = re.compile(rb"/|[A-Za-z][A-Za-z0-9+.-]*://").match
# What may still become such a line.
_beginning = re.compile(_METHOD + rb"(?: (?:[!-~]+(?: [HTP/0-9.]{0,8})?)?)?\r?").fullmatch
# llhttp refuses all codings but chunked, without saying why, so it is shown the other fields first.
_codings = re.compile(rb"(?im)^transfer-encoding:([^\r\n]*)")
_bare_line_feed = re.compile(rb"(?<!\r)\n").search

METHODS: Final = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")
"""What somebody behind may have a use for. Any other is refused here: a parser may not even know it."""

_METHODS: Final = frozenset(method.encode() for method in METHODS)
_ALLOW: Final = (("Allow", "DELETE, GET, HEAD, OPTIONS, POST, PUT"),)

# They are between the client and this connection.
_HOP_BY_HOP: Final = frozenset(
    {
        b"connection",
        b"content-length",
        b"http2-settings",
        b"keep-alive",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
# Fields of one value. Who is sent two may take the first, the last or both as a list, so nobody is asked to.
_ONCE: Final = frozenset(
    {
        b"authorization",
        b"content-length",
        b"content-location",
        b"content-range",
        b"content-type",
        b"expect",
        b"host",
        b"if-modified-since",
        b"if-range",
        b"if-unmodified-since",
        b"max-forwards",
        b"transfer-encoding",
        b"user-agent",
    }
)

Field = tuple[bytes, bytes]
"""Name in lower case, value without the white space around it."""


@dataclass(frozen=True, slots=True)
class Framing:
    """`head`: the request's, in canonical form. `length`: bytes of its body, or `CHUNKED`. `keeps`: whether the connection stays."""

    head: bytes
    length: int
    keeps: bool


def frame(raw: bytes, limits: Limits) -> Framing:
    """The framing that the head `raw`, from its request line to its empty line, asks for.

    Raises `Problem`; the connection closes after it.
    """
    line, _, rest = raw.partition(b"\r\n")
    method, target, version = _request_line(line, limits)
    fields = _checked_fields(rest[:-2], version, limits)
    once = _single(fields)
    _check_host(once.get(b"host"), version)
    authority, path = _split_target(target)
    if authority is not None:
        _check_host(authority, version)
        fields = [(b"host", authority), *(field for field in fields if field[0] != b"host")]
    length = _body_length(once)
    options = _options(fields)
    keeps = (b"keep-alive" in options) if version == b"1.0" else (b"close" not in options)
    lines = [b"%b %b HTTP/%b" % (method, path, version)]
    lines += [b"%b: %b" % field for field in fields if field[0] not in _HOP_BY_HOP]
    if length == CHUNKED:
        lines.append(b"transfer-encoding: chunked")
    elif b"content-length" in once:
        lines.append(b"content-length: %d" % length)
    lines.append(b"connection: keep-alive" if keeps else b"connection: close")
    return Framing(b"\r\n".join(lines) + b"\r\n\r\n", length, keeps)


def check_beginning(data: bytes, limits: Limits) -> int:
    """Look at `data`, the beginning of a head that has no empty line yet.

    Returns how many bytes there may be, without another line feed, before it must be looked at again. Raises `Problem`
    if it cannot become the head of a request any more.
    """
    if data == b"\r":
        # Half of an empty line before the request line, which is passed over once it is whole.
        return 2
    line, end, rest = data.partition(b"\r\n")
    if _bare_line_feed(data):
        raise bad_http("lines end with CR LF")
    if not end:
        if len(data) > limits.max_line - 2:
            raise _line_too_long(limits)
        # Half of an empty line may stand first.
        if data != b"\r" and _beginning(data) is None:
            raise bad_http("this is no request line")
        return limits.max_line
    _request_line(line, limits)
    last = len(rest) - (rest.rfind(b"\r\n") + 2 if b"\r\n" in rest else 0)
    if last > limits.max_line - 2:
        raise _field_too_long(limits)
    if len(rest) > limits.max_header:
        raise _header_too_long(limits)
    return len(data) - last + limits.max_line


def parse_fields(block: bytes) -> list[Field] | None:
    """The fields in `block` (field lines, each with its CR LF), None if llhttp, which is strict, takes exception."""
    if b"\r\n\r\n" in block or _bare_line_feed(block):
        return None
    found = _Fields()
    try:
        httptools.HttpRequestParser(found).feed_data(b"PUT / HTTP/1.1\r\n" + block + b"\r\n")
    except httptools.HttpParserUpgrade:
        pass
    except httptools.HttpParserError:
        return None
    return found.fields if found.complete else None


def list_of(value: bytes) -> Iterator[bytes]:
    """The elements of a list in a header, in lower case; empty ones do not count (RFC 9110 §5.6.1.2)."""
    for element in value.split(b","):
        stripped = element.strip(b" \t")
        if stripped:
            yield stripped.lower()


def bad_http(what: str) -> Problem:
    """400, after which the connection closes."""
    return Problem(400, "bad-http", f"This is not valid HTTP/1.1: {what}.", close=True)


def _request_line(line: bytes, limits: Limits) -> tuple[bytes, bytes, bytes]:
    """Method, target and version, which is 1.0 or 1.1."""
    if len(line) > limits.max_line - 2:
        raise _line_too_long(limits)
    found = _line(line)
    if found is None and _later_line(line) is None:
        raise bad_http("the request line must be a method, a target in ASCII and HTTP/1.1")
    method, target = line.split(b" ", 2)[:2]
    if _target(target) is None and (method, target) != (b"OPTIONS", b"*"):
        raise bad_http("its target must be a path, or http:// with an authority and a path")
    if found is None or found[3] > b"1":
        detail = "the versions of HTTP that are served here are 1.1 and 1.0"
        raise Problem(505, "version-not-supported", detail, close=True)
    if found[3] == b"0":
        raise bad_http("its version must be 1.1 or 1.0")
    if method not in _METHODS:
        detail = f"{method.decode()} does nothing here"
        raise Problem(405, "method-not-allowed", detail, headers=_ALLOW, close=True)
    # A higher minor version is to be answered as the highest that is known (RFC 9110 §2.5).
    return method, target, b"1.0" if found[4] == b"0" else b"1.1"


def _checked_fields(block: bytes, version: bytes, limits: Limits) -> list[Field]:
    if len(block) > limits.max_header:
        raise _header_too_long(limits)
    if any(len(line) > limits.max_line - 2 for line in block.split(b"\r\n")):
        raise _field_too_long(limits)
    if block.count(b"\r\n") > limits.max_fields:
        detail = f"at most {limits.max_fields} header fields are allowed"
        raise Problem(431, "headers-too-large", detail, close=True)
    _check_codings(block, version)
    fields = parse_fields(block) if block else []
    if fields is None:
        raise bad_http("a header line is broken")
    return fields


def _check_codings(block: bytes, version: bytes) -> None:
    codings = [value.strip(b" \t").lower() for value in _codings.findall(block)]
    if codings and version == b"1.0":
        raise bad_http("HTTP/1.0 knows no Transfer-Encoding (RFC 9112 6.1)")
    if not codings or codings == [b"chunked"]:
        return
    if b"\0" in b"".join(codings) or parse_fields(_codings.sub(b"x-coding:", block)) is None:
        raise bad_http("a header line is broken")
    if len(codings) > 1:
        raise bad_http("transfer-encoding is there twice")
    detail = "the only Transfer-Encoding known here is chunked"
    raise Problem(501, "unknown-coding", detail, close=True)


def _check_host(host: bytes | None, version: bytes) -> None:
    if host is None:
        if version == b"1.1":
            raise bad_http("a request needs a Host header")
    elif not host.isascii() or host_name(host.decode()) is None:
        raise bad_http("Host must be a host name or an address, and a port if there is one")


def _single(fields: list[Field]) -> dict[bytes, bytes]:
    """The fields that may be there once."""
    once: dict[bytes, bytes] = {}
    for name, value in fields:
        if name in _ONCE:
            if name in once:
                raise bad_http(f"{name.decode()} is there twice")
            once[name] = value
    return once


def _split_target(target: bytes) -> tuple[bytes | None, bytes]:
    """The authority in a target of absolute form, which wins over `Host` (RFC 9112 §3.2.2), and its path and query."""
    if target.startswith(b"/") or b"://" not in target:
        return None, target
    rest = target.split(b"://", 1)[1]
    end = min((at for at in map(rest.find, (b"/", b"?", b"#")) if at >= 0), default=len(rest))
    path = rest[end:]
    return rest[:end], path if path.startswith(b"/") else b"/" + path


def _body_length(once: dict[bytes, bytes]) -> int:
    coding, length = once.get(b"transfer-encoding"), once.get(b"content-length")
    if coding is not None:
        if length is not None:
            raise bad_http("Content-Length and Transfer-Encoding exclude each other")
        return CHUNKED
    if length is None:
        return 0
    digits = length.lstrip(b"0") or length[-1:]
    if not length.isdigit() or len(digits) > _MAX_LENGTH_DIGITS:
        raise bad_http("Content-Length must be one decimal number")
    return int(digits)


def _options(fields: list[Field]) -> set[bytes]:
    """What `Connection` says."""
    return {option for name, value in fields if name == b"connection" for option in list_of(value)}


def _line_too_long(limits: Limits) -> Problem:
    detail = f"the request line may have {limits.max_line} bytes, its end included"
    return Problem(414, "target-too-long", detail, close=True)


def _field_too_long(limits: Limits) -> Problem:
    detail = f"a header line may have {limits.max_line} bytes, its end included"
    return Problem(431, "headers-too-large", detail, close=True)


def _header_too_long(limits: Limits) -> Problem:
    detail = f"all header lines together may have {limits.max_header} bytes"
    return Problem(431, "headers-too-large", detail, close=True)


class _Fields:
    """What llhttp says of a header block."""

    __slots__ = ("complete", "fields")

    def __init__(self) -> None:
        self.fields: list[Field] = []
        self.complete = False

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name.lower(), value.strip(b" \t")))

    def on_headers_complete(self) -> None:
        self.complete = True

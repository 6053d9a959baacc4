"""Malformed and ambiguous requests, and how many replies each is to get: where readers differ, requests are smuggled.

Each stands before a request of another key, the *next* one, on the same connection. `SMUGGLED` is a whole request that
some cases hide where it may not be taken for one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

HOST: Final = b"Host: localhost\r\n"
CHUNKED: Final = b"Transfer-Encoding: chunked\r\n"
ONE: Final = b"Content-Length: 1\r\n"
ONE_CHUNK: Final = b"1\r\na\r\n0\r\n\r\n"
SMUGGLED: Final = b"PUT /data/smuggled HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\ns"


@dataclass(frozen=True, slots=True)
class Case:
    """`replies`: the statuses of a master's, in order, and `next` if the next request is answered as well.

    `row`: of the table of differences in docs/http-api.md, if there is one; `nginx`: the replies through nginx then.
    """

    raw: bytes
    replies: str
    row: str = ""
    nginx: str = ""


def length(size: int) -> bytes:
    return b"Content-Length: %d\r\n" % size


def ask(
    fields: bytes = b"",
    body: bytes = b"",
    *,
    method: bytes = b"GET",
    target: bytes = b"/data/x",
    version: bytes = b"HTTP/1.1",
) -> bytes:
    """A request that has a Host and `fields`."""
    return b"%b %b %b\r\n%b%b\r\n%b" % (method, target, version, HOST, fields, body)


def put(
    fields: bytes = ONE,
    body: bytes = b"a",
    *,
    target: bytes = b"/data/x",
    version: bytes = b"HTTP/1.1",
) -> bytes:
    return ask(fields, body, method=b"PUT", target=target, version=version)


def line(text: bytes) -> bytes:
    """A request with this line."""
    return text + b"\r\n" + HOST + b"\r\n"


def to(target: bytes) -> bytes:
    return line(b"GET " + target + b" HTTP/1.1")


def host(field: bytes, version: bytes = b"HTTP/1.1") -> bytes:
    return b"GET /data/x " + version + b"\r\nConnection: keep-alive\r\n" + field + b"\r\n"


def sized(text: bytes) -> bytes:
    """One byte that a length so written announces."""
    return put(b"Content-Length: " + text + b"\r\n")


def coded(field: bytes, fields: bytes = b"") -> bytes:
    """One chunk that `field` announces."""
    return put(field + b"\r\n" + fields, ONE_CHUNK)


def chunks(body: bytes) -> bytes:
    return put(CHUNKED, body)


def named(name: bytes) -> bytes:
    return put(ONE + name + b": a\r\n")


FIRST = "a line feed first"
LF = "a bare line feed"
CR = "a carriage return too many"
TAB = "a tab beside a length, a coding or a host"
SPACE = "two spaces before the target"
OLD = "no version"
ABOVE = "dots that lead above the root"
ODD_HOST = "an absolute target with _ or % in its host"
NO_COLON = "a header line without a colon"
SIZE = "white space behind the size of a chunk"
EXTENSION = "a broken chunk extension"
TRAILER = "a broken trailer"
TWICE = "a condition on two lines"

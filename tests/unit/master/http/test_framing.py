"""Where requests end, and the canonical form of their heads."""

import pytest

from master.http.chunked import MAX_SIZE_LINE, MAX_TRAILERS, Chunks
from master.http.framing import CHUNKED, Framing, check_beginning, frame, list_of
from master.http.limits import Limits
from master.http.problem import Problem

LIMITS = Limits()
LINE = b"GET /data/a HTTP/1.1\r\n"
HOST = b"Host: localhost\r\n"


def head(more: bytes = b"", line: bytes = LINE) -> bytes:
    return line + HOST + more + b"\r\n"


def framed(raw: bytes) -> Framing:
    return frame(raw, LIMITS)


def test_a_head_is_written_again_with_what_is_its_own() -> None:
    raw = head(
        b"X-A:  b \t\r\nConnection: TE, keep-alive\r\nTE: trailers\r\nContent-Length: 007\r\n"
    )
    assert framed(raw) == Framing(
        b"GET /data/a HTTP/1.1\r\nhost: localhost\r\nx-a: b\r\ncontent-length: 7\r\n"
        b"connection: keep-alive\r\n\r\n",
        7,
        keeps=True,
    )


@pytest.mark.parametrize(
    ("version", "connection", "keeps"),
    [
        (b"1.1", b"", True),
        (b"1.1", b"Connection: close\r\n", False),
        (b"1.1", b"Connection: x, ,CLOSE\r\n", False),
        (b"1.1", b"Connection: x\r\nConnection: close\r\n", False),
        (b"1.0", b"", False),
        (b"1.0", b"Connection: Keep-Alive\r\n", True),
        (b"1.7", b"", True),
    ],
)
def test_whether_the_connection_stays(version: bytes, connection: bytes, keeps: bool) -> None:
    raw = head(connection, b"GET / HTTP/%b\r\n" % version)
    assert framed(raw).keeps is keeps
    assert framed(raw).head.endswith(
        b"connection: keep-alive\r\n\r\n" if keeps else b"close\r\n\r\n"
    )


@pytest.mark.parametrize(
    "name",
    ["Authorization", "Content-Type", "Expect", "If-Range", "If-Modified-Since", "User-Agent"],
)
def test_a_field_of_one_value_is_not_taken_twice(name: str) -> None:
    field = f"{name}: a\r\n".encode()
    framed(head(field))
    with pytest.raises(Problem):
        framed(head(field + b"X: a\r\n" + field.lower()))


@pytest.mark.parametrize(
    ("target", "authority", "path"),
    [
        (b"http://a.example/data/b?c", b"a.example", b"/data/b?c"),
        (b"HTTPS://[::1]:80", b"[::1]:80", b"/"),
        (b"http://a?key=b", b"a", b"/?key=b"),
        (b"http://a#b", b"a", b"/#b"),
        (b"http://a//b", b"a", b"//b"),
    ],
)
def test_the_authority_of_a_target_is_the_host(
    target: bytes, authority: bytes, path: bytes
) -> None:
    assert framed(head(b"X: a\r\n", b"GET %b HTTP/1.1\r\n" % target)).head == (
        b"GET %b HTTP/1.1\r\nhost: %b\r\nx: a\r\nconnection: keep-alive\r\n\r\n" % (path, authority)
    )


def test_zeros_before_a_length_are_no_part_of_it() -> None:
    assert framed(head(b"Content-Length: " + b"0" * 50 + b"12\r\n")).length == 12
    assert framed(head(b"Content-Length: " + b"0" * 50 + b"\r\n")).length == 0


def test_a_higher_minor_version_is_answered_as_the_highest_known() -> None:
    assert framed(head(line=b"GET / HTTP/1.7\r\n")).head.startswith(b"GET / HTTP/1.1\r\n")


def test_chunked_is_known_in_any_case() -> None:
    found = framed(head(b"Transfer-Encoding: CHUNKED\r\n"))
    assert found.length == CHUNKED
    assert found.head.endswith(b"transfer-encoding: chunked\r\nconnection: keep-alive\r\n\r\n")


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (head(HOST), 400),
        (LINE + b"\r\n", 400),
        (head(b"Content-Length: \r\n"), 400),
        (head(b"Content-Length: " + b"9" * 16 + b"\r\n"), 400),
        (head(b"Content-Length: 1\r\nContent-Length: 1\r\n"), 400),
        (head(b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n"), 400),
        (head(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"), 400),
        (head(b"Transfer-Encoding: chunked, chunked\r\n"), 501),
        (head(b"Transfer-Encoding: gzip\r\n"), 501),
        (head(b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n"), 400),
        (head(b"Transfer-Encoding:\r\n chunked\r\n"), 400),
        (head(b"Transfer-Encoding: gzip\0\r\n"), 400),
        (head(b"Transfer-Encoding: gzip\r\n", b"PUT / HTTP/1.0\r\n"), 400),
        (head(b"Transfer-Encoding: chunked\r\n", b"PUT / HTTP/1.0\r\n"), 400),
        (head(b"X : a\r\n"), 400),
        (head(b"X: a\r\n b\r\n"), 400),
        (head(b"X: a\x00\r\n"), 400),
        (head(b"X\r\n"), 400),
        (head(b"X: a\rb\r\n"), 400),
        (head(line=b"get / HTTP/1.1\r\n"), 400),
        (head(line=b"CONNECT a:1 HTTP/1.1\r\n"), 400),
        (head(line=b"CONNECT /a HTTP/1.1\r\n"), 405),
        (head(line=b"GET * HTTP/1.1\r\n"), 400),
        (head(line=b"GET a/b HTTP/1.1\r\n"), 400),
        (head(line=b"PRI * HTTP/2.0\r\n"), 400),
        (head(line=b"GET / HTTP/11\r\n"), 505),
        (head(line=b"GET / HTTP/1.10\r\n"), 400),
        (LINE + b"Host: a b\r\n\r\n", 400),
        (b"GET / HTTP/1.0\r\nHost: \r\n\r\n", 400),
        (head(line=b"GET http://a@b/ HTTP/1.1\r\n"), 400),
        (head(line=b"GET http:///a HTTP/1.1\r\n"), 400),
        (head(line=b"BREW / HTTP/1.1\r\n"), 405),
        (head(line=b"GET / HTTP/3.0\r\n"), 505),
        (head(line=b"GET / http/1.1\r\n"), 400),
        (head(line=b"GET /a b HTTP/1.1\r\n"), 400),
        (head(line=b"GET /%b HTTP/1.1\r\n" % (b"a" * 8178)), 414),
        (head(b"X: %b\r\n" % (b"a" * 8188)), 431),
    ],
)
def test_what_two_readers_could_take_differently_is_refused(raw: bytes, status: int) -> None:
    with pytest.raises(Problem) as caught:
        framed(raw)
    assert caught.value.status == status
    assert caught.value.close


def test_a_line_may_have_as_many_bytes_as_is_said_and_no_more() -> None:
    framed(head(line=b"GET /%b HTTP/1.1\r\n" % (b"a" * (8192 - len(LINE) + len(b"data/a")))))
    framed(head(b"X: %b\r\n" % (b"a" * (8192 - len(b"X: \r\n")))))


@pytest.mark.parametrize(
    "data",
    [
        b"\r",
        b"G",
        b"GET",
        b"GET ",
        b"GET /data/a",
        b"GET /data/a HTT",
        LINE[:-1],
        LINE,
        LINE + b"Ho",
    ],
)
def test_a_beginning_may_still_become_a_request(data: bytes) -> None:
    again = check_beginning(data, LIMITS)
    assert len(data) < again <= len(data) + LIMITS.max_line


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"\x16\x03\x01", 400),
        (b"GET\x00", 400),
        (b"\r\r", 400),
        (b"\rG", 400),
        (b"GET /a b c", 400),
        (b"GET /a\r\n", 400),
        (LINE + b"a: b\nc", 400),
        (b"GET /" + b"a" * 9000, 414),
        (LINE + b"a" * 9000, 431),
        (LINE + (b"a: " + b"b" * 8000 + b"\r\n") * 5, 431),
    ],
)
def test_a_beginning_that_cannot_become_a_request_is_refused_at_once(
    data: bytes, status: int
) -> None:
    with pytest.raises(Problem) as caught:
        check_beginning(data, LIMITS)
    assert caught.value.status == status


def test_empty_elements_of_a_list_do_not_count() -> None:
    assert list(list_of(b", a ,,B,\t")) == [b"a", b"b"]


CHUNKS = b"3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\nRange: x\r\n\r\nNEXT"


@pytest.mark.parametrize("size", [1, 2, 3, 5, 100])
def test_chunks_are_the_same_in_any_pieces(size: int) -> None:
    chunks, body, rest = Chunks(), b"", b""
    for at in range(0, len(CHUNKS), size):
        if chunks.ended:
            rest += CHUNKS[at : at + size]
            continue
        more, rest = chunks.feed(CHUNKS[at : at + size])
        body += more
    assert (body, rest, chunks.ended) == (b"abc0123456789", b"NEXT", True)


@pytest.mark.parametrize(
    "data",
    [
        b"3\nabc",
        b"3\r\nabcd",
        b"3\r\nabc\n",
        b"+3\r\n",
        b"0x3\r\n",
        b" 3\r\n",
        b"3 \r\n",
        b"\r\n",
        b"f" * 13 + b"\r\n",
        b"3;" + b"a" * MAX_SIZE_LINE + b"\r\n",
        b"3" * (MAX_SIZE_LINE + 1),
        b"0\r\na\r\n",
        b"0\r\na: b\nc: d\r\n\r\n",
        b"0\r\n" + (b"a: " + b"b" * 1000 + b"\r\n") * (MAX_TRAILERS // 1000 + 1),
    ],
)
def test_broken_chunks_are_refused(data: bytes) -> None:
    with pytest.raises(Problem) as caught:
        Chunks().feed(data)
    assert caught.value.status == 400

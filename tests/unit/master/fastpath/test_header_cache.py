"""Which header blocks the fast path takes on sight."""

import pytest

from master.fastpath.header_cache import Heads
from master.http.access import Gate
from master.http.origin_check import Authority
from ringmaster.protocol.entry_meta import Meta, pack_meta
from ringmaster.protocol.write_options import WriteOptions, decode_options

HOST = b"Host: localhost:8080\r\n"


def judged(block: bytes) -> bool:
    heads = Heads(Authority(), Gate())
    head = heads.judge(block)
    assert (heads.known == {block: head}) is (head is not None)
    return head is not None


@pytest.mark.parametrize(
    "more",
    [
        b"",
        b"User-Agent: curl/7\r\nAccept: */*\r\n",
        b"Connection: keep-alive\r\n",
        b"connection: Keep-Alive\r\n",
        b"Content-Length: 12\r\n",
        b"Content-Length:\t12 \r\n",
        b"Content-Type: text/plain\r\nContent-Length: 0\r\n",
        b"X-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Proto: http\r\n",
    ],
)
def test_a_plain_block_is_taken(more: bytes) -> None:
    assert judged(HOST + more)


@pytest.mark.parametrize(
    "block",
    [
        b"",
        b"Accept: */*\r\n",
        b"Host: evil.example\r\n",
        b"Host: \r\n",
        b"Host: a b\r\n",
        HOST + HOST,
        HOST + b"Transfer-Encoding: chunked\r\n",
        HOST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n",
        HOST + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n",
        HOST + b"Content-Length: 3\r\nContent-Length: 3\r\n",
        HOST + b"Content-Length: 3\r\ncontent-length: 4\r\n",
        HOST + b"Content-Length: 3, 3\r\n",
        HOST + b"User-Agent: a\r\nuser-agent: a\r\n",
        HOST + b"DNT: 1\r\n" * 64,
        HOST + b"Content-Length: +3\r\n",
        HOST + b"Content-Length: -3\r\n",
        HOST + b"Content-Length: 0x3\r\n",
        HOST + b"Content-Length: \r\n",
        HOST + b"Content-Length: 99999999999999999999\r\n",
        HOST + b"Content-Length : 3\r\n",
        HOST + b"X: a\n",
        HOST + b"User-Agent: a\nContent-Length: 3\r\n",
        HOST + b"User-Agent: a\r\n b\r\n",
        HOST + b"User-Agent: a\x00b\r\n",
        HOST + b"User-Agent: a\rb\r\n",
        HOST + b": a\r\n",
        HOST + b"User-Agent\r\n",
        HOST + b"\r\nGET /x HTTP/1.1\r\n",
        HOST + b"Content-Type: t\xe9xt/plain\r\n",
        HOST + b"User-Agent: " + b"x" * 5000 + b"\r\n",
        *(
            HOST + name + b": x\r\n"
            for name in (
                b"Expect", b"Upgrade", b"Origin", b"Sec-Fetch-Site", b"Authorization", b"Cookie",
                b"If-Match", b"If-None-Match", b"If-Modified-Since", b"Range", b"If-Range", b"Prefer",
                b"Ringmaster-Timeout", b"Fill-Token", b"Content-Encoding", b"Content-Disposition",
                b"Content-Range", b"TE", b"Trailer", b"X-Unknown", b"Proxy-Connection",
            )
        ),
        HOST + b"Connection: close\r\n",
        HOST + b"Connection: upgrade\r\n",
        HOST + b"Connection: keep-alive, X-Forwarded-For\r\n",
    ],
)  # fmt: skip
def test_any_other_block_is_left_to_aiohttp(block: bytes) -> None:
    assert not judged(block)


def test_what_is_remembered_is_bounded() -> None:
    heads = Heads(Authority(), Gate())
    for number in range(5000):
        assert heads.judge(HOST + b"User-Agent: %d\r\n" % number) is not None
    assert len(heads.known) <= 4096


@pytest.mark.parametrize(
    ("content_type", "kept"),
    [(b"text/html; charset=x", "text/html; charset=x"), (b"application/octet-stream", "")],
)
def test_the_options_of_a_put_carry_its_content_type(content_type: bytes, kept: str) -> None:
    head = Heads(Authority(), Gate()).judge(
        HOST + b"Content-Length: 5\r\nContent-Type: %b\r\n" % content_type
    )
    assert head is not None
    assert head.length == 5
    assert decode_options(head.put_options) == WriteOptions(
        flags=0, meta=pack_meta(Meta(content_type=kept))
    )

"""Chunked bodies (RFC 9112 §7.1): taken apart strictly, extensions and trailers thrown away."""

from __future__ import annotations

import re
from typing import Final

from master.http.framing import bad_http

MAX_SIZE_LINE: Final = 1024
"""Bytes of a chunk's size and extensions; nobody needs more."""

MAX_TRAILERS: Final = 8192

_size_line = re.compile(rb"0*([0-9A-Fa-f]{1,12})(?:[ \t]*;[\t -~\x80-\xff]*)?").fullmatch
_trailer = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t -~\x80-\xff]*").fullmatch


class Chunks:
    """Gets the bytes of a body as they come. `ended`: the last one was in what was fed."""

    __slots__ = ("_left", "_rest", "_trailers", "ended")

    def __init__(self) -> None:
        self.ended = False
        # Bytes that the present chunk still owes, its CR LF included; 0 between chunks.
        self._left = 0
        # An incomplete line.
        self._rest = b""
        # Bytes of trailers so far; None before them.
        self._trailers: int | None = None

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        """(the body's bytes in `data`, what follows the body). Raises `Problem` where the framing is broken."""
        found: list[bytes] = []
        data = self._rest + data
        self._rest = b""
        at, size = 0, len(data)
        while at < size and not self.ended:
            if self._left:
                at = self._take_data(data, at, found)
                continue
            end = data.find(b"\r\n", at)
            if end < 0:
                self._keep(data[at:])
                break
            line, at = data[at:end], end + 2
            if self._trailers is None:
                self._begin_chunk(line)
            else:
                self._take_trailer(line)
        return b"".join(found), data[at:] if self.ended else b""

    def _take_data(self, data: bytes, at: int, found: list[bytes]) -> int:
        piece = data[at : at + self._left]
        owed = max(self._left - 2, 0)
        found.append(piece[:owed])
        end = b"\r\n"[2 - min(self._left, 2) :]
        if not end.startswith(piece[owed:]):
            raise bad_http("a chunk is longer than it says")
        self._left -= len(piece)
        return at + len(piece)

    def _begin_chunk(self, line: bytes) -> None:
        size = _size_line(line) if len(line) <= MAX_SIZE_LINE else None
        if size is None:
            raise bad_http("the size of a chunk is broken")
        length = int(size[1], 16)
        if length:
            self._left = length + 2
        else:
            self._trailers = 0

    def _take_trailer(self, line: bytes) -> None:
        if not line:
            self.ended = True
            return
        self._trailers = (self._trailers or 0) + len(line)
        if self._trailers > MAX_TRAILERS or _trailer(line) is None:
            raise bad_http("the trailers are broken or too long")

    def _keep(self, rest: bytes) -> None:
        most = MAX_SIZE_LINE if self._trailers is None else MAX_TRAILERS
        if len(rest) > most or b"\n" in rest:
            raise bad_http("a line in the chunks is broken")
        self._rest = rest

"""A whole reply whose bytes are exactly what we say: aiohttp adds no header of its own."""

from __future__ import annotations

import asyncio

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import HttpVersion10

from master.http.problem import Problem
from master.http.reply_head import BODILESS, Headers, reply_head

WRITE_S = 60.0
"""Seconds a client may take to read a reply before its connection is cut."""


class Reply(web.StreamResponse):
    """`head` is the status line and headers, each line ended, without the empty line; `body` follows on non-HEAD."""

    def __init__(self, status: int, head: bytes, body: bytes | memoryview = b"") -> None:
        super().__init__(status=status)
        self._head = head
        self._content = body
        self._sent: web.BaseRequest | None = None

    @classmethod
    def build(cls, status: int, headers: Headers, body: bytes = b"") -> Reply:
        """A reply with these headers and the length of `body`."""
        return cls(status, reply_head(status, headers, len(body)), body)

    @classmethod
    def of_problem(cls, problem: Problem) -> Reply:
        """The reply that says so."""
        reply = cls.of_bytes(problem.raw())
        if problem.close:
            reply.force_close()
        return reply

    @classmethod
    def of_bytes(cls, raw: bytes) -> Reply:
        """The reply that `raw` is, empty line and body included."""
        end = raw.index(b"\r\n\r\n") + 2
        return cls(int(raw[9:12]), raw[:end], memoryview(raw)[end + 2 :])

    def add(self, lines: bytes) -> None:
        """Say this as well: header lines, each ended."""
        self._head += lines

    def dated(self, date: bytes) -> None:
        """Say when it was made, unless it says so already."""
        if b"\r\nDate: " not in self._head:
            self._head += b"Date: %b\r\n" % date

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        if self._keep_alive is None:
            self._keep_alive = request.keep_alive
        self._sent = request
        return request.writer

    async def write_eof(self, data: bytes = b"") -> None:
        """Send everything. Cuts the connection of a client that does not read it within `WRITE_S`."""
        request = self._sent
        assert request is not None  # noqa: S101 - aiohttp always prepares first
        end = b"\r\n"
        if not self._keep_alive:
            end = b"Connection: close\r\n\r\n"
        elif request.version == HttpVersion10:
            end = b"Connection: keep-alive\r\n\r\n"
        empty = request.method == "HEAD" or self.status in BODILESS or not self._content
        try:
            async with asyncio.timeout(WRITE_S):
                await request.writer.write(
                    self._head + end if empty else b"".join((self._head, end, self._content))
                )
                await request.writer.drain()
        except TimeoutError as error:
            if request.transport is not None:
                request.transport.abort()
            raise ConnectionError("the client does not read its reply") from error
        await request.writer.write_eof()

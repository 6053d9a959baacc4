"""One client's connection on the fast path: requests cut out of its bytes, replies sent in their order."""

from __future__ import annotations

import asyncio
import re
from collections import deque
from typing import TYPE_CHECKING, Final, cast

from master import keys
from master.api.data import check_size, item_options
from master.api.items import parse_item
from master.api.problem import problem_bytes
from master.heads import Head
from master.inflight import Get, InFlight, Refused, Write
from ringmaster.commands import PLAIN, WriteOptions, encode_options
from ringmaster.errors import BadRequest, TooLarge

if TYPE_CHECKING:
    from master.fastpath import FastPath

MAX_PIPELINE: Final = 16
MAX_BODY: Final = 256 * 1024
_WRITE_S: Final = 60.0

# The common request line: a key that needs no decoding. Groups: method, key, (no) target.
_plain_line = re.compile(
    rb"(GET|PUT|DELETE) /data/([A-Za-z0-9_.~!$&'()*+,;=:@/-]{1,512})() HTTP/1\.1\r\n"
).match
# Any other line that may be ours. Groups: method, (no) key, target.
_line = re.compile(rb"(GET|PUT|DELETE|POST)(\0)? (/data(?:[/?][!-~]{0,2048})?) HTTP/1\.1\r\n").match
_bare_lf = re.compile(rb"(?<!\r)\n").search
_OURS: Final = (b"GET /data", b"PUT /data", b"DELETE /data", b"POST /data")


class Connection(asyncio.Protocol):
    """One client. Replies leave in the order of the requests; at most `MAX_PIPELINE` are in flight."""

    __slots__ = (
        "_buffer",
        "_doubt",
        "_draining",
        "_holding",
        "_need",
        "_parsing",
        "_since",
        "_transport",
        "_waiting",
        "path",
        "paused",
    )

    def __init__(self, path: FastPath) -> None:
        self.path = path
        self.paused = False
        self._transport: asyncio.Transport | None = None
        self._waiting: deque[InFlight] = deque()
        self._buffer = bytearray()
        # Bytes from the beginning of an incomplete request to the end of its body, 0 where unknown.
        self._need = 0
        # When the client last went idle, began an incomplete request, or stopped reading.
        self._since = 0.0
        # The buffer begins with a request for aiohttp, which gets it once every reply before it has left.
        self._doubt = False
        # Reading is paused because of what waits here.
        self._holding = False
        self._parsing = False
        self._draining = False

    @property
    def unread(self) -> int:
        """Bytes of replies that the client has not taken."""
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    # -- from the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._since = self.path.clock.boottime()
        self.path.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._waiting.clear()
        self._buffer.clear()
        self.path.connections.discard(self)

    def pause_writing(self) -> None:
        self.paused = True
        self._since = self.path.clock.boottime()

    def resume_writing(self) -> None:
        self.paused = False
        self._since = self.path.clock.boottime()
        self._go_on()

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer
        if not buffer:
            now = self.path.clock.boottime()
            self._parse(data, now, now)
            return
        buffer += data
        if not self._holding and len(buffer) >= self._need:
            data = bytes(buffer)
            buffer.clear()
            # Whoever sends a request byte by byte does not get more time by it.
            self._parse(data, self._since, self.path.clock.boottime())

    # -- to the client

    def finish(self, request: InFlight, raw: bytes) -> None:
        """`raw` is the reply to `request`: send it as soon as all before it are sent."""
        transport = self._transport
        if transport is None:
            return
        waiting = self._waiting
        if waiting[0] is not request:
            request.raw = raw
            return
        waiting.popleft()
        if waiting and waiting[0].raw is not None:
            parts = [raw]
            while waiting and waiting[0].raw is not None:
                parts.append(cast(bytes, waiting.popleft().raw))
            raw = b"".join(parts)
        transport.write(raw)
        if self._buffer or self._draining:
            self._go_on()

    def drain(self) -> None:
        """Take no further request; close when those in flight are answered."""
        self._draining = True
        self._go_on()

    def abort(self) -> None:
        """Drop the client."""
        if self._transport is not None:
            self._transport.abort()

    def sweep(self, now: float) -> None:
        """Enforce the deadlines of what waits here."""
        limits = self.path.limits
        waiting = self._waiting
        if waiting:
            for request in list(waiting):
                if request.began + limits.deadline_s > now:
                    break
                request.expire()
            self._since = now if not self.paused else self._since
        waited_s = now - self._since
        if self.paused:
            if waited_s > _WRITE_S:
                self.abort()
        elif waiting:
            return
        elif self._buffer:
            if self._need and waited_s > limits.body_s:
                self._late(f"the body did not arrive within {limits.body_s:g} s")
            elif not self._need and waited_s > limits.header_s:
                self._late(f"The request's headers did not arrive within {limits.header_s:g} s.")
        elif waited_s > limits.keepalive_s and self._transport is not None:
            self._transport.close()

    def _late(self, detail: str) -> None:
        self.path.counters.observe("other", 408, "error", self.path.clock.boottime() - self._since)
        if self._transport is not None:
            self._transport.write(problem_bytes(408, "request-timeout", detail))
            self._transport.close()

    # -- requests

    def _go_on(self) -> None:
        """Something that was waited for has happened: take what is in the buffer, as far as it goes."""
        if self._parsing or self._transport is None or self.paused:
            return
        if self._draining and not self._waiting:
            self._transport.close()
        elif self._doubt:
            if not self._waiting:
                self._hand_over()
        elif self._holding and len(self._waiting) < MAX_PIPELINE:
            data = bytes(self._buffer)
            self._buffer.clear()
            now = self.path.clock.boottime()
            self._parse(data, now, now)

    def _parse(self, data: bytes, since: float, now: float) -> None:
        """Begin every complete request in `data`, whose first byte arrived at `since`; keep the rest."""
        self._parsing = True
        self._need = 0
        at, size = 0, len(data)
        waiting, path = self._waiting, self.path
        known = path.heads.known
        hold = False
        while at < size:
            if len(waiting) >= MAX_PIPELINE or self.paused or self._draining:
                hold = True
                break
            end = data.find(b"\r\n\r\n", at)
            if end < 0:
                self._doubt = not self._plausible(data, at)
                break
            line = _plain_line(data, at) or _line(data, at)
            if line is None:
                self._doubt = True
                break
            block = data[line.end() : end + 2]
            head = known.get(block) or path.heads.judge(block)
            method, key, target = line.groups()
            if method == b"GET" and key is not None and head is not None and head.length < 0:
                # What `_begin` does, without the calls: most requests come this way.
                get = Get(self, key, now)
                waiting.append(get)
                path.router.get_nowait(key, get)
                at = end + 4
                continue
            following = self._following(head, method, end + 4)
            if head is None or following < 0:
                self._doubt = True
                break
            if following > size:
                self._need = following - at
                break
            body = data[end + 4 : following]
            if not self._begin(method, key, target, head, body, now):
                self._doubt = True
                break
            at = following
        self._parsing = False
        self._since = now if at else since
        self._keep(data[at:] if at else data, hold or self._doubt)

    def _keep(self, rest: bytes, holding: bool) -> None:
        """Keep what no request was made of; read on unless that must wait."""
        transport = self._transport
        if transport is None:
            return
        if rest:
            self._buffer += rest
        if holding and rest:
            if not self._holding:
                self._holding = True
                transport.pause_reading()
            # What it waits for may have happened while parsing.
            if not self._waiting or (not self._doubt and len(self._waiting) < MAX_PIPELINE):
                asyncio.get_running_loop().call_soon(self._go_on)
        elif self._holding:
            self._holding = False
            transport.resume_reading()

    def _plausible(self, data: bytes, at: int) -> bool:
        """Whether the incomplete head at `at` may still become a request of ours."""
        rest = data[at : at + 12]
        limit = self.path.limits.max_target
        return (
            any(rest.startswith(ours) or ours.startswith(rest) for ours in _OURS)
            and len(data) - at <= limit
            and _bare_lf(data, at) is None
        )

    def _following(self, head: Head | None, method: bytes, body: int) -> int:
        """Where the next request begins, given where this one's body does; -1 in doubt."""
        if head is None:
            return -1
        length = head.length
        if method in {b"GET", b"DELETE"}:
            return body if length < 0 else -1
        limits = self.path.limits
        most = limits.max_value if method == b"PUT" else limits.max_item
        return body + length if 0 <= length <= min(MAX_BODY, most) else -1

    def _begin(
        self,
        method: bytes,
        key: bytes | None,
        target: bytes | None,
        head: Head,
        body: bytes,
        now: float,
    ) -> bool:
        """Begin a request for `key`, or for what `target` names. False in doubt, then nothing has begun."""
        ttl_ms = 0
        try:
            if method == b"POST":
                return target == b"/data" and self._post(body, now)
            if key is None:
                key, parameters = keys.key_of_target(target or b"")
                ttl = parameters.pop("ttl", None) if method == b"PUT" else None
                if key is None or parameters or (ttl is not None and len(ttl) > 1):
                    return False
                ttl_ms = 0 if ttl is None else keys.seconds_of_text(ttl[0])
        except (BadRequest, TooLarge) as error:
            refused = Refused(self, method, now)
            self._waiting.append(refused)
            refused.fail(error)
            return True
        path = self.path
        if method == b"GET":
            get = Get(self, key, now)
            self._waiting.append(get)
            path.router.get_nowait(key, get)
        elif method == b"PUT":
            options = head.put_options
            if ttl_ms:
                options = encode_options(WriteOptions(ttl_ms=ttl_ms, flags=0, meta=head.meta))
            args = (body, options)
            self._send(Write(self, key, now, "PUT", b"RM.SET", args, path.replies.put))
        else:
            self._send(Write(self, key, now, "DELETE", b"RM.DEL", (), path.deleted))
        return True

    def _post(self, body: bytes, now: float) -> bool:
        item = parse_item(body)
        if item.if_match is not None or item.if_none_match is not None:
            return False
        key = keys.key_of_text(item.key)
        check_size(item.value, self.path.limits.max_value)
        args: tuple[bytes, ...] = (item.value,)
        if item.ttl is not None:
            options = item_options(item.ttl, None, None, "")
            if options != PLAIN:
                args = (item.value, encode_options(options))
        self._send(Write(self, key, now, "POST", b"RM.SET", args, self.path.replies.posted))
        return True

    def _send(self, write: Write) -> None:
        self._waiting.append(write)
        self.path.router.write_nowait(write.command, write.key, write.args, write)

    def _hand_over(self) -> None:
        """Let aiohttp answer what is in the buffer, and close. All replies before it have left."""
        transport = self._transport
        if transport is None:
            return
        data = bytes(self._buffer)
        self.connection_lost(None)
        other = self.path.fallback()
        transport.set_protocol(other)
        other.connection_made(transport)
        if self._holding:
            transport.resume_reading()
        other.data_received(data)

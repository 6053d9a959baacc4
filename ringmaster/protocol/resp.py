"""The wire: RESP (the Redis serialization protocol, version 2) encoded and decoded by hiredis.

The only importer of hiredis. See `docs/internals.md` for the commands.
"""

from __future__ import annotations

import re
from collections import deque
from typing import Any, Final

import hiredis

from ringmaster.errors import PeerError, RingmasterError, WireError

Reply = bytes | int | list[Any] | None | RingmasterError
"""What a peer answered: an error reply is a `PeerError` value, never raised."""

Command = list[bytes]
"""A command's name and arguments, at least one item."""

MAX_ARGS: Final = 1_000_000
MAX_BUFFER: Final = 64 * 1024 * 1024
_MAX_INLINE: Final = 64 * 1024
_MAX_HEAD: Final = 32
_SMALL: Final = 8192
_CHEAP: Final = 16
_MOST_PENDING: Final = 16

_UNFINISHED: Final = object()
# `redis-cli --pipe` ends with an empty line and an ECHO of 20 random bytes, whatever it sent before.
_PIPE_END: Final = b"\r\n*2\r\n$4\r\nECHO\r\n$20\r\n"
_PIPE_END_SIZE: Final = len(_PIPE_END) + 22

_BROWSER: Final = frozenset({b"post", b"host:"})

# An announcement of 10,000 elements or more in bytes that nobody walked yet. Allowed to be wrong: a hit inside a
# value only means that the chunk is walked. A search for a set of characters takes 4 ns per byte, for one 0.7.
_large_aggregate = re.compile(rb"[*%~>|]\d{5}").search
_large_array = re.compile(rb"\*\d{5}").search


_PERCENT: Final = 0x25
_TILDE: Final = 0x7E
_GREATER: Final = 0x3E
_BAR: Final = 0x7C


def _is_suspicious(data: bytes) -> bool:
    """Whether `data` may announce a large array, map, set, push or attribute."""
    # CPython looks for a number at once, and words an error first if it is given bytes to look for.
    if _PERCENT in data or _TILDE in data or _GREATER in data or _BAR in data:
        return _large_aggregate(data) is not None
    return _large_array(data) is not None


def encode(*args: bytes | int) -> bytes:
    """A command as an array of bulk strings."""
    frame: bytes = hiredis.pack_command(args)  # type: ignore[arg-type]
    return frame


Push: Final = hiredis.PushNotification
"""What a peer says unasked (RESP3), a list: told from replies by its type."""


def encode_push(*args: bytes) -> bytes:
    """What is said unasked."""
    return b">%d\r\n%b" % (
        len(args),
        b"".join([b"$%d\r\n%b\r\n" % (len(arg), arg) for arg in args]),
    )


_BULK_HEADS: Final = [b"$%d\r\n" % size for size in range(1024)]


def bulk_head(size: int) -> bytes:
    """The announcement of a bulk string of `size` bytes; small ones come from a table.

    `test_a_plain_write_has_the_same_frame_either_way` compares it with `encode`.
    """
    return _BULK_HEADS[size] if size < 1024 else b"$%d\r\n" % size


def _peer_error(text: str | bytes) -> PeerError:
    if isinstance(text, bytes):
        text = text.decode("utf-8", "replace")
    code, _, detail = text.partition(" ")
    return PeerError(code, detail)


class Reader:
    """Replies out of the bytes of one connection."""

    __slots__ = ("_held", "_max_buffer", "_reader")

    def __init__(self, max_buffer: int = MAX_BUFFER) -> None:
        self._reader = hiredis.Reader(
            protocolError=WireError, replyError=_peer_error, notEnoughData=_UNFINISHED
        )
        self._max_buffer = max_buffer
        self._held = 0

    def feed(self, data: bytes) -> list[Reply]:
        """The replies that `data` completes, in order.

        Raises `WireError` if this is not RESP, or one reply is larger than `max_buffer` bytes: the
        connection is of no further use.
        """
        reader = self._reader
        reader.feed(data)
        replies: list[Reply] = []
        try:
            reply = reader.gets()
            while reply is not _UNFINISHED:
                replies.append(reply)
                reply = reader.gets()
        except (TypeError, MemoryError) as error:
            # A map with an array for a key; an array that is announced larger than the memory.
            raise WireError(f"a reply that nobody can hold: {error}") from error
        if replies:
            self._held = len(data)
        else:
            self._held += len(data)
            if self._held > self._max_buffer:
                raise WireError(f"a reply exceeds {self._max_buffer} bytes")
        return replies


class CommandReader:
    """Commands out of the bytes of one client: arrays of bulk strings, or lines typed by hand.

    `take` some bytes, then ask for the `next` command until there is none: so one command is in memory at a time. Both raise `WireError`
    if this is no RESP command, exceeds a bound, or is a browser's HTTP request (cross-protocol attack): close the connection.

    Bounded: `max_bulk` bytes per argument, `max_args` arguments, `max_buffer` bytes per command.
    What announces more is refused before anything is allocated for it.
    """

    __slots__ = (
        "_clean", "_exhausted", "_found", "_held", "_later", "_line", "_lines", "_max_buffer", "_pending", "_reader", "_size", "_tail", "_walk"
    )  # fmt: skip

    def __init__(
        self,
        max_bulk: int = MAX_BUFFER,
        max_args: int = MAX_ARGS,
        max_buffer: int = MAX_BUFFER,
    ) -> None:
        self._reader = hiredis.Reader(protocolError=WireError, notEnoughData=_UNFINISHED)
        self._max_buffer = max_buffer
        self._held = 0
        # Between two commands, so that the next byte begins one.
        self._clean = True
        # All commands that were complete have been asked for; else what comes is taken later.
        self._exhausted = True
        self._later: deque[bytes] = deque()
        # Of what was taken last: how much it was, and whether it completed a command.
        self._size = 0
        self._found = False
        # What hiredis has already and the walk has not, and its last bytes.
        self._pending: list[bytes] = []
        self._tail = b""
        self._walk = _Walk(max_bulk, max_args)
        # A line that has not ended, and commands from those that have.
        self._line = b""
        self._lines: deque[Command] = deque()

    def allow(self, max_args: int = MAX_ARGS, max_buffer: int = MAX_BUFFER) -> None:
        """Change these bounds, from the next bytes on."""
        self._max_buffer = max_buffer
        self._walk.max_args = max_args

    def feed(self, data: bytes) -> list[Command]:
        """The commands that `data` completes, in order, all at once."""
        self.take(data)
        commands: list[Command] = []
        while (command := self.next()) is not None:
            commands.append(command)
        return commands

    def take(self, data: bytes) -> None:
        """These bytes have come."""
        if self._exhausted:
            self._begin(data)
        else:
            self._later.append(data)

    def next(self) -> Command | None:
        """The next command that is complete, None if there is none."""
        if self._exhausted:
            return None
        reader = self._reader
        while True:
            if self._lines:
                return self._lines.popleft()
            if not self._clean:
                command = reader.gets()
                if command is not _UNFINISHED:
                    self._found = True
                    if not reader.has_data():
                        self._clean = True
                        self._pending.clear()
                        self._walk.reset()
                    checked = _checked(command)
                    if checked:
                        return checked
                    continue
                self._hold()
            if not self._later:
                self._exhausted = True
                return None
            self._begin(self._later.popleft())

    def _begin(self, data: bytes) -> None:
        self._exhausted = False
        if self._clean and (self._line or data[:1] != b"*"):
            self._inline(data)
            return
        if len(data) > _PIPE_END_SIZE and data[-_PIPE_END_SIZE:-22] == _PIPE_END:
            # Cut in two it is understood; if these bytes are part of a value, cutting them changes nothing.
            self._later.appendleft(data[-_PIPE_END_SIZE:])
            data = data[:-_PIPE_END_SIZE]
        self._array(data)

    def _array(self, data: bytes) -> None:
        self._check(data)
        self._reader.feed(data)
        if self._clean:
            self._held = 0
            self._clean = False
        self._size = len(data)
        self._found = False

    def _hold(self) -> None:
        """What was taken ends within a command."""
        if self._found:
            self._held = self._size
            return
        self._held += self._size
        if self._held > self._max_buffer:
            raise WireError(f"a command exceeds {self._max_buffer} bytes")

    def _check(self, data: bytes) -> None:
        """Raise `WireError` rather than let hiredis see an announcement that is out of bounds.

        Walking costs 0.5 us per argument, so it is done where it is cheap (large values) or where
        something looks like a large announcement.
        """
        pending = self._pending
        if not pending:
            if len(data) > _SMALL or not self._clean:
                data = self._walk.feed(data, _CHEAP)
                if not data:
                    return
            if not _is_suspicious(data):
                pending.append(data)
                self._tail = data[-_MAX_HEAD:]
            else:
                self._walk.feed(data)
            return
        seen = self._tail + data
        pending.append(data)
        self._tail = seen[-_MAX_HEAD:]
        if len(pending) > _MOST_PENDING or _is_suspicious(seen):
            for each in pending:
                self._walk.feed(each)
            pending.clear()

    def _inline(self, data: bytes) -> None:
        """Lines of words. An array may follow them; after an array only arrays do until it is complete."""
        data = self._line + data
        self._line = b""
        while data and data[0] != 42:  # an asterisk
            line, newline, rest = data.partition(b"\n")
            if not newline or len(line) > _MAX_INLINE:
                if len(line) > min(_MAX_INLINE, self._max_buffer):
                    raise WireError("a line of this length is no command")
                self._line = line
                return
            data = rest
            words = line.split()
            if words and words[0].lower() in _BROWSER:
                raise WireError("an HTTP request was sent to a RESP port")
            if words:
                self._lines.append(words)
        if data:
            self._array(data)


def _checked(command: object) -> Command:
    """`command`, which may be empty. Raises `WireError` unless it is an array of bulk strings."""
    # What is said unasked is a list of another type.
    if not isinstance(command, list) or type(command) is Push:
        raise WireError("a command is an array of bulk strings")
    for arg in command:
        if not isinstance(arg, bytes):
            raise WireError("a command's arguments are bulk strings")
    return command


class _Walk:
    """Reads only the announcements of a stream of commands, to check them before hiredis acts on them.

    hiredis allocates an array the moment it is announced; its values are jumped over here.
    """

    __slots__ = ("_args_left", "_head", "_max_bulk", "_skip", "max_args")

    def __init__(self, max_bulk: int, max_args: int) -> None:
        self._max_bulk = max_bulk
        self.max_args = max_args
        self.reset()

    def reset(self) -> None:
        self._args_left = 0
        self._skip = 0
        self._head = b""

    def feed(self, data: bytes, most: int = MAX_BUFFER) -> bytes:
        """Read up to `most` announcements in `data`; returns what lies behind them.

        Raises `WireError` at the first that is malformed or too large.
        """
        at, end = 0, len(data)
        while at < end:
            if self._skip:
                step = min(self._skip, end - at)
                self._skip -= step
                at += step
                continue
            if not most:
                return data[at:]
            most -= 1
            newline = data.find(b"\n", at, at + _MAX_HEAD)
            if newline < 0:
                self._head += data[at : at + _MAX_HEAD]
                if len(self._head) >= _MAX_HEAD:
                    raise WireError("an announcement has no end")
                return b""
            self._announced(self._head + data[at : newline + 1])
            self._head = b""
            at = newline + 1
        return b""

    def _announced(self, head: bytes) -> None:
        if len(head) < 4 or not head.endswith(b"\r\n") or not head[1:-2].isdigit():
            raise WireError("malformed announcement")
        size = int(head[1:-2])
        if self._args_left:
            if head[0] != 36:  # a dollar sign
                raise WireError("a command's arguments are bulk strings")
            if size > self._max_bulk:
                raise WireError(f"an argument exceeds {self._max_bulk} bytes")
            self._args_left -= 1
            self._skip = size + 2
            return
        if head[0] != 42:  # an asterisk
            raise WireError("a command is an array of bulk strings")
        if size > self.max_args:
            raise WireError(f"a command has more than {self.max_args} arguments")
        self._args_left = size

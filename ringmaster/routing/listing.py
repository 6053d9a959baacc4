"""A page of keys, gathered partition by partition from the nodes.

A node lists in small steps (`aux/storage/listing.py`), and is asked for no more than one step at a time, so that it serves
everybody else in between.
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, cast

from xxhash import xxh3_64_digest

from ringmaster.errors import BadRequest, RingmasterError
from ringmaster.net.link import Link
from ringmaster.protocol.keys import MAX_KEY
from ringmaster.protocol.listing import LIST_STEP, MARK_SIZE, NO_SURVEY, SURVEY_SIZE, mark_of
from ringmaster.routing.scatter_gather import Request
from ringmaster.routing.table import Table
from ringmaster.runtime.clock import Clock

_MOST_ASKED: Final = 64
"""Partitions that a listing asks for at once."""

_MOST_OF_NODE: Final = 32
_CHECK_SIZE: Final = 8
_SMALLEST: Final = SURVEY_SIZE + MARK_SIZE
_NO_CURSOR: Final = (
    "the cursor is not one that a listing with this prefix returned; start without one"
)
_cursor_parts = re.compile(r"(\d{1,5})~([A-Za-z0-9_-]*)", re.ASCII).fullmatch

Place = tuple[int, bytes]
"""A partition, and the position in it behind which a listing goes on; empty for its beginning."""

Ask = Callable[[Sequence[Request], float], Awaitable[list[object]]]
"""(requests, deadline) to an outcome for each: a reply or an error."""


async def list_page(
    table: Callable[[], Table],
    ask: Ask,
    clock: Clock,
    prefix: bytes,
    limit: int,
    cursor: str | None,
    deadline: float,
    step: int = LIST_STEP,
) -> tuple[list[bytes], str | None]:
    """Up to `limit` keys that begin with `prefix`, and the cursor for the next page, None at the end.

    After half of the time there is, or when a partition is not served, the page ends with what it has, if the next one can
    go on from further on. Raises `BadRequest` for a cursor that no page returned, else what the partition's error is.
    """
    partitions = len(table())
    start = place = _parse_cursor(cursor, partitions, prefix)
    halfway = (clock.boottime() + deadline) / 2
    keys: list[bytes] = []
    of_node, largest = 0, 1
    while place[0] < partitions:
        asked = _next_partitions(table(), place[0], of_node)
        room = limit - len(keys)
        requests = [
            Request(each, b"RM.LIST", (place[1] if each == place[0] else b"", room, prefix))
            for each in asked
        ]
        for each, reply in zip(asked, await ask(requests, deadline), strict=True):
            if isinstance(reply, RingmasterError):
                if place == start:
                    raise reply
                return keys, cursor_of(place, prefix)
            following, size, *found = cast("list[bytes]", reply)
            largest = max(largest, int(size))
            room = limit - len(keys)
            if len(found) > room:
                keys += found[:room]
                if room:
                    place = each, (following[:SURVEY_SIZE] or NO_SURVEY) + mark_of(found[room - 1])
                return keys, cursor_of(place, prefix)
            keys += found
            place = (each, following) if following else (each + 1, b"")
            if following:
                break
        if place[0] < partitions and (len(keys) == limit or clock.boottime() > halfway):
            return keys, cursor_of(place, prefix)
        of_node = min(_MOST_OF_NODE, step // largest)
    return keys, None


def _next_partitions(table: Table, first: int, of_node: int) -> range:
    """Those from `first` on that are asked for at once: at most `of_node` of each node.

    One alone if `of_node` is less than 2: a node may then survey each, and what it was asked for in vain takes the place of
    another survey for a while.
    """
    if of_node < 2:
        return range(first, first + 1)
    asked: dict[Link | None, int] = {}
    following = first
    while following < min(len(table), first + _MOST_ASKED):
        route = table[following]
        link = None if route is None else route.link
        asked[link] = asked.get(link, 0) + 1
        if asked[link] > of_node:
            break
        following += 1
    return range(first, following)


def cursor_of(place: Place, prefix: bytes) -> str:
    """The text by which a listing of keys with `prefix` goes on from `place`."""
    partition, position = place
    text = urlsafe_b64encode(position + _check_of(place, prefix)).decode().rstrip("=")
    return f"{partition}~{text}"


def _check_of(place: Place, prefix: bytes) -> bytes:
    """A cursor ends with it: one that was changed, or is of another prefix, would skip keys."""
    partition, position = place
    return xxh3_64_digest(b"%d~%d~%b%b" % (partition, len(prefix), prefix, position))


def _parse_cursor(cursor: str | None, partitions: int, prefix: bytes) -> Place:
    if cursor is None:
        return 0, b""
    parts = _cursor_parts(cursor)
    if parts is None:
        raise BadRequest(_NO_CURSOR)
    number, text = parts.groups()
    try:
        raw = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError as error:
        raise BadRequest(_NO_CURSOR) from error
    place = int(number), raw[:-_CHECK_SIZE]
    size = len(place[1])
    is_position = not size or _SMALLEST <= size <= _SMALLEST + MAX_KEY
    if place[0] >= partitions or not is_position or raw[-_CHECK_SIZE:] != _check_of(place, prefix):
        raise BadRequest(_NO_CURSOR)
    return place

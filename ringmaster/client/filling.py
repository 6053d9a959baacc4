"""`get_or_set` without I/O: which requests to send, and when to make the value, so that of many callers one makes it."""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ringmaster.client import calls
from ringmaster.client.calls import Call
from ringmaster.errors import BadRequest, RingmasterError

DEFAULT_WAIT_S: Final = 10
MAX_WAIT_S: Final = 30
PATIENCE_S: Final = 120
"""For so long a caller waits for others to make a value, before it makes it itself."""

_LEAST_S: Final = 0.5
"""Of a call's time, what is left for the reply when its wait is over."""

_MALFORMED: Final = 400


@dataclass(frozen=True, slots=True)
class Make:
    """A step in which the caller's function makes the value."""


Step = Call[Any] | Make


@dataclass(frozen=True, slots=True)
class Entry:
    """How a made value is to be stored; see `Client.put`."""

    ttl_s: float | None
    swr_s: float | None
    tags: Sequence[str]
    content_type: str | None


def steps(key: str, entry: Entry, wait_s: int) -> Generator[Step, Any, bytes]:
    """Yields what is to be done, is sent what came of it, and returns the value.

    Raises `BadRequest` for arguments that are wrong, at once where it needs no master to see that, else when the value is to be stored.
    A failure of `Make`, or an interruption, thrown in, gives the right to make the value to the next who waits. So does a value
    that cannot be stored, which is returned all the same, and one that is no bytes, which is a TypeError. If the right was lost meanwhile (to a
    write, a delete, or because it took longer than a token lives), what is there then is returned, or what was made. Who cannot
    wait, or waited in vain for two minutes, makes the value, and stores it if nobody has.
    """
    _check(entry)
    _stored(key, b"", entry, None)
    for _ in range(-(-PATIENCE_S // max(wait_s, 1))):
        found = yield calls.fetch(key, wait_s)
        if not found.fill_token:
            if found.value is not None:
                return bytes(found.value)
            if found.waited and wait_s:
                continue
            break
        given_up = calls.give_up(key, found.fill_token)
        try:
            value = _checked((yield Make()))
            stored = yield from _quietly(_stored(key, value, entry, found.fill_token))
        except GeneratorExit:
            raise
        except BaseException:
            yield from _quietly(given_up)
            raise
        if stored is None:
            yield from _quietly(given_up)
        if stored is False:
            newer = yield from _quietly(calls.get(key))
            return value if newer is None else bytes(newer)
        return value
    value = _checked((yield Make()))
    yield from _quietly(_stored(key, value, entry, None))
    return value


def _check(entry: Entry) -> None:
    """What a master would refuse, before anything is made for it."""
    given: list[tuple[str, object]] = [("ttl_s", entry.ttl_s), ("swr_s", entry.swr_s)]
    for name, value in given:
        if value is None:
            continue
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not 0 <= value < math.inf
        ):
            raise BadRequest(f"{name} is a number of seconds, 0 or more, not {value!r}")
    if entry.swr_s and not entry.ttl_s:
        raise BadRequest("swr_s begins when ttl_s is over; give ttl_s as well")


def _checked(made: object) -> bytes:
    """Nothing else is stored: HTTP libraries would send texts, files and lists as well."""
    if not isinstance(made, bytes | bytearray | memoryview):
        raise TypeError(f"`make` must return bytes, not {type(made).__name__}")
    return bytes(made)


def _stored(key: str, value: bytes, entry: Entry, fill_token: str | None) -> Call[bool]:
    return calls.fill(
        key, value, entry.content_type, entry.ttl_s, entry.tags, entry.swr_s, fill_token
    )


def _quietly(call: Call[Any]) -> Generator[Step, Any, Any]:
    """The result of `call`, None if it failed. Raises `BadRequest` if that was for its arguments."""
    try:
        return (yield call)
    except BadRequest as error:
        if error.status == _MALFORMED:
            raise
        return None
    except RingmasterError:
        return None


def usable_wait_s(wait_s: object, timeout_s: float) -> int:
    """`wait_s`, but less than what a call may take in all. Raises `BadRequest` unless it is from 0 to `MAX_WAIT_S`."""
    if not isinstance(wait_s, int | float) or not 0 <= wait_s <= MAX_WAIT_S:
        raise BadRequest(f"wait_s is a number of seconds from 0 to {MAX_WAIT_S}, not {wait_s!r}")
    return max(0, min(int(wait_s), int(timeout_s - _LEAST_S)))

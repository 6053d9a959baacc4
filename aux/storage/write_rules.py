"""What a write does to a key: pure decisions from the current entry to the next.

The caller gives the *newest* entry of the key (an uncommitted one included, an expired one taken as absent) and the
version the write would get; nothing here has side effects, reads a clock or knows of replication.
"""

from __future__ import annotations

from typing import Final

import msgspec

from ringmaster.protocol import entry as entries
from ringmaster.protocol.write_options import ANY, Status, Version, WriteOptions

INT64_MIN: Final = -(2**63)
INT64_MAX: Final = 2**63 - 1


class Outcome(msgspec.Struct, frozen=True, gc=False):
    """What is to be done and said.

    `changes`: whether there is something to sequence; then `entry` is the new entry, None a removal.
    The rest is the write reply: the version now current, or the one that stood in the way.
    """

    status: int
    changes: bool = False
    entry: bytes | None = None
    term: int = 0
    seq: int = 0
    expires_ms: int = 0
    number: int = 0


class Moment(msgspec.Struct, frozen=True, gc=False):
    """When and as what a write is applied: its version and the cluster time in milliseconds."""

    term: int
    seq: int
    now_ms: int

    def expiry(self, ttl_ms: int) -> int:
        """The absolute expiry of a ttl; 0 stays 0 (never)."""
        return self.now_ms + ttl_ms if ttl_ms else 0


def set_value(newest: bytes | None, value: bytes, options: WriteOptions, moment: Moment) -> Outcome:
    """Replace whatever there is, if the conditions hold."""
    if failed := _condition_failure(newest, options):
        return failed
    expires_ms = moment.expiry(options.ttl_ms)
    new = entries.pack(
        slot=0,
        term=moment.term,
        seq=moment.seq,
        expires_ms=expires_ms,
        written_s=moment.now_ms // 1000,
        flags=options.flags,
        meta=options.meta,
        value=value,
    )
    status = Status.CREATED if newest is None else Status.REPLACED
    return Outcome(status, True, new, moment.term, moment.seq, expires_ms)


def delete(newest: bytes | None, options: WriteOptions, moment: Moment) -> Outcome:
    """Remove the entry. An absent one is removed too: a copy elsewhere may still have it (R8)."""
    if failed := _condition_failure(newest, options):
        return failed
    status = Status.ABSENT if newest is None else Status.REPLACED
    return Outcome(status, True, None, moment.term, moment.seq)


def increment(newest: bytes | None, delta: int, options: WriteOptions, moment: Moment) -> Outcome:
    """Add to a signed 64-bit integer kept as a JSON value; a missing key starts at 0 with the ttl."""
    if failed := _condition_failure(newest, options):
        return failed
    if newest is None:
        current, expires_ms, flags, meta = 0, moment.expiry(options.ttl_ms), options.flags, b""
    else:
        kept = entries.header(newest)
        expires_ms, flags, meta = kept.expires_ms, kept.flags, entries.raw_meta(newest)
        number = _integer(newest[entries.value_offset(newest) :])
        if number is None:
            return Outcome(Status.NOT_INTEGER, term=kept.term, seq=kept.seq)
        current = number
    total = current + delta
    if not INT64_MIN <= total <= INT64_MAX:
        term, seq = _version(newest)
        return Outcome(Status.OVERFLOW, term=term, seq=seq)
    new = entries.pack(
        slot=0,
        term=moment.term,
        seq=moment.seq,
        expires_ms=expires_ms,
        written_s=moment.now_ms // 1000,
        flags=flags & ~entries.RESTORED,
        meta=meta,
        value=b"%d" % total,
    )
    status = Status.CREATED if newest is None else Status.REPLACED
    return Outcome(status, True, new, moment.term, moment.seq, expires_ms, total)


def touch(newest: bytes | None, options: WriteOptions, moment: Moment) -> Outcome:
    """Change the expiry alone; the version stays. Nothing there comes before any condition (RFC 9110 §13.2.1)."""
    if newest is None:
        return Outcome(Status.ABSENT)
    if failed := _condition_failure(newest, options):
        return failed
    kept = entries.header(newest)
    expires_ms = moment.expiry(options.ttl_ms)
    new = entries.pack(
        slot=0,
        term=kept.term,
        seq=kept.seq,
        expires_ms=expires_ms,
        written_s=kept.written_s,
        flags=kept.flags,
        meta=entries.raw_meta(newest),
        value=newest[entries.value_offset(newest) :],
    )
    return Outcome(Status.REPLACED, True, new, kept.term, kept.seq, expires_ms)


def fill_lost(newest: bytes | None, _moment: Moment) -> Outcome:
    """The token of a fill lives no more: nothing changes, and the version that is there is told (R12)."""
    term, seq = _version(newest)
    return Outcome(Status.FILL_LOST, term=term, seq=seq)


def _condition_failure(newest: bytes | None, options: WriteOptions) -> Outcome | None:
    """RFC 9110 section 13.2.2: If-Match first, then If-None-Match; None if both hold."""
    if options.if_match is None and options.if_none_match is None:
        return None
    version = _version(newest)
    matched = options.if_match is None or _matches(options.if_match, newest, version)
    if matched and not (
        options.if_none_match is not None and _matches(options.if_none_match, newest, version)
    ):
        return None
    return Outcome(Status.CONDITION_FAILED, term=version[0], seq=version[1])


def _matches(wanted: str | tuple[Version, ...], newest: bytes | None, version: Version) -> bool:
    if newest is None:
        return False
    return wanted == ANY or version in wanted


def _version(newest: bytes | None) -> Version:
    if newest is None:
        return (0, 0)
    kept = entries.header(newest)
    return (kept.term, kept.seq)


def _integer(value: bytes) -> int | None:
    """`value` as a signed 64-bit JSON integer, None if it is anything else."""
    digits = value[1:] if value[:1] == b"-" else value
    if not digits.isdigit() or len(digits) > 19 or (digits[:1] == b"0" and len(digits) > 1):
        return None
    number = int(value)
    return number if INT64_MIN <= number <= INT64_MAX else None

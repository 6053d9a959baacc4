"""Expiry: whether an entry has expired, and which keys of a partition are due to be removed."""

from __future__ import annotations

from typing import Final

from aux.storage.partition_data import LOOK, NEVER, PartitionData
from ringmaster.protocol.entry import expires_ms_of, meta_of
from ringmaster.protocol.tag_records import is_dead

SCAN_STEP: Final = 2048
"""Entries that one call of `due_keys` looks at, at most: 0.3 ms."""

_RESCAN_MIN_MS: Final = 1_000
_RESCAN_MAX_MS: Final = 16_000
_WORTH_SCANNING: Final = 16
"""One in so many entries must be due for a scan to have been worth it."""


def is_expired(entry: bytes, now_ms: int) -> bool:
    """Whether the entry's expiry (and the time it may be served stale after that) has passed."""
    expires_ms = expires_ms_of(entry)
    if not expires_ms or now_ms < expires_ms:
        return False
    return now_ms >= expires_ms + meta_of(entry).swr_ms


def is_gone(data: PartitionData, entry: bytes, now_ms: int) -> bool:
    """Whether an entry of `data` is there no more for those who read: expired, or dead by a committed invalidation."""
    return is_expired(entry, now_ms) or (bool(data.tags) and is_dead(entry, data.tags))


def scan_begins(data: PartitionData, now_ms: int) -> bool:
    """Whether `due_keys` would begin to scan `data` from the start."""
    return not data.scan and now_ms >= data.next_due_ms


def due_keys(data: PartitionData, now_ms: int) -> list[bytes]:
    """Keys past expiry and grace (swr) at cluster time `now_ms`.

    Looks at no more than `SCAN_STEP` entries a call and goes on from there in the next. A partition is scanned when its
    earliest expiry has passed, and then not again for 1 to 16 seconds, the longer the less there was to find.
    """
    if not data.scan:
        if now_ms < data.next_due_ms:
            return []
        data.scan = list(data.entries)
        data.next_due_ms = NEVER  # puts lower it while the scan goes on
        data.scan_due_ms = NEVER
    due: list[bytes] = []
    entries = data.entries
    scan = data.scan
    next_due_ms = data.scan_due_ms
    for _ in range(min(len(scan), SCAN_STEP)):
        key = scan.pop()
        entry = entries.get(key)
        if entry is None:
            continue
        expires_ms = expires_ms_of(entry)
        if not expires_ms:
            continue
        if expires_ms <= now_ms:
            expires_ms += meta_of(entry).swr_ms
        if expires_ms <= now_ms:
            due.append(key)
        elif expires_ms < next_due_ms:
            next_due_ms = expires_ms
    data.scan_due_ms = next_due_ms
    if due:
        # The caller may leave some where they are: what is due is looked at again.
        data.scan_due_ms = min(next_due_ms, now_ms)
    if not scan:
        _end_scan(data, now_ms, found=len(due))
    return due


def _end_scan(data: PartitionData, now_ms: int, *, found: int) -> None:
    if found * _WORTH_SCANNING >= len(data.entries):
        data.rescan_ms = _RESCAN_MIN_MS
    else:
        data.rescan_ms = min(_RESCAN_MAX_MS, max(_RESCAN_MIN_MS, 2 * data.rescan_ms))
    bound = min(data.next_due_ms, data.scan_due_ms)
    if bound == NEVER:
        data.next_due_ms = LOOK if data.tags else NEVER
    else:
        data.next_due_ms = max(bound, now_ms + data.rescan_ms)

"""What entries cost: the bytes that CPython and glibc really take for them, and how to give them back.

CPython serves objects up to 512 bytes from 16 KiB pools of one size class each (16-byte steps, 48
bytes of pool header); larger ones come from malloc: 8 bytes of header, 16-byte steps, and whole pages
from `MMAP_THRESHOLD` on. On another interpreter or C library the figures are close, not exact: the
server corrects what is left with `Store.set_overhead`, from `resident_bytes`.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Sized
from typing import Final, Protocol

_BYTES_HEADER: Final = 33  # sys.getsizeof(b"")
_EMPTY_DICT: Final = ({}).__sizeof__()
_POOL: Final = 16 * 1024
_POOL_HEADER: Final = 48
_SMALL: Final = 512
_PAGE: Final = 4096
_TABLED: Final = 4096

MMAP_THRESHOLD: Final = 64 * 1024
"""Blocks of this many bytes and more are mapped each on their own, after `tune_allocator`.

A block that is unmapped when it is freed fragments nothing. At 64 KiB rounding up to pages costs at
most 6 %, and the system calls less than the copy of the value.
"""

_MAPPED_BLOCKS: Final = (
    32 * 1024
)  # Linux allows a process 65,530 mappings by default; pools need some.
_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
_M_MMAP_MAX: Final = -4
_M_ARENA_MAX: Final = -8


class Accounting(Protocol):
    """How the store counts bytes. Every method is pure."""

    slot_bytes: int
    """Bytes per slot of the recency array."""

    def entry(self, key: bytes, entry: bytes) -> int:
        """Bytes for a key and its entry."""

    def table(self, entries: Sized) -> int:
        """Bytes for a partition's hash table beyond an empty one."""


def block_bytes(length: int) -> int:
    """Bytes of memory that a `bytes` object of `length` takes, its share of pool headers included."""
    size = length + _BYTES_HEADER
    if size <= _SMALL:
        size = (size + 15) & ~15
        per_pool = (_POOL - _POOL_HEADER) // size
        return -(-_POOL // per_pool)
    size = max(32, (size + 8 + 15) & ~15)
    if size >= MMAP_THRESHOLD:
        return (size + 8 + _PAGE - 1) & ~(_PAGE - 1)
    return size


_BLOCK_BYTES: Final = tuple(block_bytes(length) for length in range(_TABLED))


class ProcessAccounting:
    """Counts what the process uses. `entry` takes 0.1 µs."""

    slot_bytes = 8

    def entry(self, key: bytes, entry: bytes) -> int:
        length = len(entry)
        if length < _TABLED:
            return _BLOCK_BYTES[len(key)] + _BLOCK_BYTES[length]
        return _BLOCK_BYTES[len(key)] + block_bytes(length)

    def table(self, entries: Sized) -> int:
        size: int = entries.__sizeof__()
        return size - _EMPTY_DICT


def resident_bytes() -> int:
    """Resident memory of this process in bytes, from /proc; 0 where there is none."""
    try:
        with open("/proc/self/statm", "rb", buffering=0) as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def tune_allocator() -> bool:
    """Sets glibc's malloc up for a cache; at the start of a process, before any data. False without glibc.

    A fixed mmap threshold (glibc's own grows to 32 MiB with the first large block freed, and the heap
    then keeps large holes), one arena, and a heap top that is given back early.
    """
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallopt"):
        return False
    return all(
        libc.mallopt(option, value) == 1
        for option, value in (
            (_M_MMAP_THRESHOLD, MMAP_THRESHOLD),
            (_M_MMAP_MAX, _MAPPED_BLOCKS),
            (_M_TRIM_THRESHOLD, 1024 * 1024),
            (_M_ARENA_MAX, 1),
        )
    )


def release_free_memory() -> None:
    """Gives free pages of malloc's heap back to the system, those between live blocks as well."""
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).malloc_trim(0)

"""What entries cost: the bytes that CPython and glibc really take for them, and how to give them back.

With `PYTHONMALLOC=malloc` (`restart_with_malloc`) every object comes from glibc: 8 bytes of header,
16-byte steps, whole pages from `MMAP_THRESHOLD` on. Else objects up to 512 bytes come from 16 KiB pools
of one size class each. On another interpreter or C library the figures are close, not exact:
`Footprint` corrects what is left, holes in the heap included, by measuring resident memory.

Measured by `bench/memory.py` (Python 3.11, glibc 2.36, default 1024 partitions, a million entries of 16 and
100 bytes): 171 bytes an entry beyond key and value after filling, 220 when all has been read or overwritten
in random order; 159 and 202 with CPython's allocator.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import sys
from collections.abc import Callable, Sized
from typing import Final, Protocol

_BYTES_HEADER: Final = 33  # sys.getsizeof(b"")
_EMPTY_DICT: Final = ({}).__sizeof__()
_POOL: Final = 16 * 1024
_POOL_HEADER: Final = 48
_SMALL: Final = 512
_PAGE: Final = 4096
_TICK: Final = 8
_RELEASE_SHARE: Final = 50
_HEADROOM_SHARE: Final = 64
_TABLED: Final = 4096

MMAP_THRESHOLD: Final = 64 * 1024
"""Blocks of this many bytes and more are mapped each on their own, after `tune_allocator`.

A block that is unmapped when it is freed fragments nothing. At 64 KiB rounding up to pages costs at
most 6 %, and the system calls less than the copy of the value.
"""

# Linux allows a process 65,530 mappings by default; others need some.
_MAPPED_BLOCKS: Final = 32 * 1024
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
_M_MMAP_MAX: Final = -4
_M_ARENA_MAX: Final = -8


class Accounting(Protocol):
    """How the store counts bytes. Every method is pure."""

    def entry(self, key_length: int, entry_length: int) -> int:
        """Bytes for a key and its entry: a sum of what each costs by itself."""

    def table(self, entries: Sized) -> int:
        """Bytes for a partition's hash table beyond an empty one."""


def malloc_bytes(length: int) -> int:
    """Bytes of memory that a `bytes` object of `length` takes from glibc's malloc."""
    size = max(32, (length + _BYTES_HEADER + 8 + 15) & ~15)
    if size >= MMAP_THRESHOLD:
        return (size + 8 + _PAGE - 1) & ~(_PAGE - 1)
    return size


def pymalloc_bytes(length: int) -> int:
    """The same with CPython's own allocator for small objects, their share of pool headers included."""
    size = (length + _BYTES_HEADER + 15) & ~15
    return malloc_bytes(length) if size > _SMALL else -(-_POOL // ((_POOL - _POOL_HEADER) // size))


def uses_pymalloc() -> bool:
    """Whether this interpreter was started with CPython's own allocator for small objects."""
    return os.environ.get("PYTHONMALLOC", "default") not in {"malloc", "malloc_debug"}


class ProcessAccounting:
    """Counts what the process uses; `entry` includes its tick of 8 bytes and takes 0.1 µs."""

    def __init__(self, *, pymalloc: bool | None = None) -> None:
        pymalloc = uses_pymalloc() if pymalloc is None else pymalloc
        small = pymalloc_bytes if pymalloc else malloc_bytes
        self._blocks = tuple(small(length) for length in range(_TABLED))
        self._keys = tuple(cost + _TICK for cost in self._blocks)

    def entry(self, key_length: int, entry_length: int) -> int:
        if entry_length < _TABLED:
            return self._keys[key_length] + self._blocks[entry_length]
        return self._keys[key_length] + malloc_bytes(entry_length)

    def table(self, entries: Sized) -> int:
        size: int = entries.__sizeof__()
        return size - _EMPTY_DICT


def resident_bytes() -> int:
    """Resident memory of this process in bytes, from /proc; 0 where there is none."""
    try:
        # Asked for up to ten times a second: opening it takes longer than reading it.
        return int(os.pread(_statm(), 128, 0).split()[1]) * _PAGE_BYTES
    except OSError:
        return 0


@functools.cache
def _statm() -> int:
    """A descriptor of this process's own, open until it ends. Raises `OSError`."""
    return os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)


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


def restart_with_malloc() -> None:
    """Starts this program anew, in this process, with malloc for small objects too; returns if it runs so already.

    To be called before anything is opened. CPython's own allocator gives memory back in arenas of 1 MiB
    that hold nothing at all; under entries whose sizes change, a few old keys keep most arenas, and two
    thirds of the budget were lost (`bench/memory.py`). malloc gives single pages back, at 18 bytes more an entry.
    """
    if uses_pymalloc() and sys.platform == "linux":
        environment = {**os.environ, "PYTHONMALLOC": "malloc"}
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)  # noqa: S606


def release_free_memory() -> None:
    """Gives free pages of malloc's heap back to the system, those between live blocks as well."""
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


class Budgeted(Protocol):
    """What `Footprint` corrects: the `Store`."""

    max_bytes: int

    @property
    def bytes(self) -> int: ...

    def set_overhead(self, overhead_bytes: int) -> None: ...


GROWTH_BYTES_PER_S: Final = 1024 * 1024 * 1024
"""Faster than a node can take entries in, several times."""

LOOK_S: Final = 0.1
REST_LOOK_S: Final = 1.0


def look_after_s(free_bytes: int) -> float:
    """When to measure again, in seconds: before `free_bytes` can have been used up, ten times a second at most."""
    return min(max(free_bytes / GROWTH_BYTES_PER_S, LOOK_S), REST_LOOK_S)


class Footprint:
    """Keeps resident memory within the budget: what the process uses beyond the counted bytes is overhead.

    Modules, buffers and the holes of a fragmented heap are all in that; a 64th of the budget stays free for the holes
    that come before the next look. Call `correct` ten times a second (less often far below the budget: `look_after_s`),
    then evict while the store is over its budget, some at a time: a step may be large.
    """

    def __init__(
        self,
        store: Budgeted,
        *,
        resident: Callable[[], int] = resident_bytes,
        release: Callable[[], None] = release_free_memory,
    ) -> None:
        self._store = store
        self._resident = resident
        self._release = release
        self._released_at = 0

    def correct(self) -> int:
        """Measures, tells the store its overhead and the headroom, and returns the overhead in bytes.

        0 and no effect where it cannot be measured.

        Takes 20 µs; when the overhead has grown by 2 % of the budget, free pages are given back first,
        which takes 40 ms per GiB in many small pieces.
        """
        resident = self._resident()
        if not resident:
            return 0
        overhead = max(0, resident - self._store.bytes)
        if overhead - self._released_at > self._store.max_bytes // _RELEASE_SHARE:
            self._release()
            overhead = max(0, self._resident() - self._store.bytes)
            self._released_at = overhead
        else:
            self._released_at = min(self._released_at, overhead)
        self._store.set_overhead(overhead + self._store.max_bytes // _HEADROOM_SHARE)
        return overhead

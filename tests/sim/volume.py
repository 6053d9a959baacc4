"""The shared volume of snapshots in memory, as seen by many processes: slow, full, failing, rotting, cut short by a death."""

from __future__ import annotations

import asyncio
import errno
import io
import itertools
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from ringmaster.errors import SnapshotError
from ringmaster.snapshot import FileName
from ringmaster.snapshot.format import split_payload
from ringmaster.snapshot.index import Section as IndexedSection
from ringmaster.snapshot.names import BundleName
from ringmaster.snapshot.reader import Block, BundleContents, SectionReader, read_contents
from tests.fakes.snapshot_store import MemoryStore
from tests.sim.history import Version
from tests.sim.hub import Hub
from tests.sim.loop import NodeLoop

_T = TypeVar("_T")
MOST_STEPS = 16
"""A call that a death cuts short does fewer steps than this."""


class _Died(BaseException):
    """The process of the thread is gone."""


@dataclass(frozen=True, slots=True)
class Section:
    """One partition as a file has it. `whole`: nothing of it is damaged."""

    partition: int
    version: Version
    entries: dict[bytes, bytes]
    whole: bool

    @property
    def usable(self) -> bool:
        """Whether a restore has to be content with it: only what cannot be read at all gives way to an older one."""
        return self.whole or bool(self.entries)


def sections_of(name: FileName, content: bytes) -> list[Section]:
    """What can be read of a file."""
    contents = _contents(name, content)
    return [] if contents is None else _sections_by(contents, content)


def _contents(name: FileName, content: bytes) -> BundleContents | None:
    if not isinstance(name, BundleName):
        return None
    try:
        return read_contents(io.BytesIO(content))
    except SnapshotError:
        return None


def _sections_by(contents: BundleContents, content: bytes) -> list[Section]:
    stream = io.BytesIO(content)
    return [_read(stream, contents, section) for section in contents.sections]


def _read(stream: io.BytesIO, contents: BundleContents, section: IndexedSection) -> Section:
    reader = SectionReader(stream, contents.header.sync, section)
    entries: dict[bytes, bytes] = {}
    damaged = False
    for item in reader.blocks():
        if isinstance(item, Block):
            keys, values = split_payload(item.raw, item.entries)
            entries.update(zip(keys, values, strict=True))
        else:
            damaged = True
    whole = not damaged or reader.entries == 0
    return Section(section.id.partition, section.id.version, entries, whole)


@dataclass(slots=True)
class VolumeFaults:
    """Odds per call; delays in seconds."""

    delay_s: tuple[float, float] = (0.0005, 0.005)
    full: float = 0.0
    failing: float = 0.0
    away: bool = False


class Volume:
    """What is durable. `written`: every section that was ever published, with the time at which it became durable."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self.faults = VolumeFaults()
        self.store = MemoryStore()
        self.store.fails = self._fails
        self.store.keeps = self._keeps
        self.written: list[tuple[float, Section]] = []
        self._contents: dict[FileName, BundleContents] = {}
        """Of files that were damaged, as they were before."""

        self.trouble = False
        """Whether anything has ever gone wrong with it."""

        self._dies_in = 0

    def threads(self, loop: NodeLoop) -> Threads:
        """Those of one process."""
        return Threads(self, loop)

    def delay(self) -> float:
        return self.hub.random.uniform(*self.faults.delay_s)

    def newest(self, partition: int) -> list[Section]:
        """The sections of `partition` with one of which a restore must be content: the newest of any use."""
        found = [each for each in self._sections() if each.partition == partition and each.usable]
        version = max((each.version for each in found), default=(0, 0))
        return [each for each in found if each.version == version]

    def known(self, partition: int, version: Version) -> list[Section]:
        """Usable sections of `partition` above `version` in files whose header is damaged.

        Who looked at such a file before still finds them: that is more than must be found.
        """
        return [
            each
            for name, contents in self._contents.items()
            for each in _sections_by(contents, self.store.content.get(name, b""))
            if each.partition == partition and each.usable and each.version > version
        ]

    def highest_term(self) -> int:
        """Of any section that is there, whole or not."""
        return max((section.version[0] for section in self._sections()), default=0)

    def _sections(self) -> Iterator[Section]:
        for name, content in self.store.content.items():
            yield from sections_of(name, content)

    def rot(self, kind: int) -> None:
        """A file is cut short, altered in one place or several, or gone."""
        self.trouble = True
        names = self._damageable()
        if names:
            self._damage(self.hub.random.choice(names), kind)

    def rot_inside(self) -> None:
        """About half of the files lose what is in their middle, so that they look well until they are read."""
        self.trouble = True
        for name in self._damageable():
            if self.hub.random.random() < 0.5:
                size = len(self.store.content[name])
                self._damage(name, 1, range(size // 8, size * 3 // 4, 8))

    def _damageable(self) -> list[FileName]:
        return sorted((name for name, each in self.store.content.items() if each), key=str)

    def _damage(self, name: FileName, kind: int, places: Sequence[int] = ()) -> None:
        content = self.store.content[name]
        contents = _contents(name, content)
        if contents is not None:
            self._contents[name] = contents
        place = self.hub.random.randrange(len(content))
        self.hub.trace("volume", f"{('cuts short', 'alters', 'loses')[kind]} {name}")
        if kind == 0:
            self.store.content[name] = content[:place]
        elif kind == 1:
            altered = bytearray(content)
            more = self.hub.random.choices(range(len(content)), k=self.hub.random.choice((0, 3, 7)))
            for each in places or [place, *more]:
                altered[each] ^= 1 << self.hub.random.randrange(8)
            self.store.content[name] = bytes(altered)
        else:
            del self.store.content[name]

    def cut_short(self, call: Callable[[], object]) -> None:
        """`call` of a process that dies meanwhile: it gets as far as it gets."""
        self._dies_in = self.hub.random.randrange(1, MOST_STEPS)
        try:
            call()
        except (_Died, OSError, SnapshotError):
            pass
        finally:
            self._dies_in = 0

    def _step(self) -> None:
        if self._dies_in:
            self._dies_in -= 1
            if not self._dies_in:
                raise _Died

    def _fails(self, operation: str) -> None:
        self._step()
        faults, random = self.faults, self.hub.random
        if faults.away:
            raise OSError(errno.EIO, "the volume is away")
        if operation == "append" and faults.full and random.random() < faults.full:
            raise OSError(errno.ENOSPC, "no space left on device")

    def _keeps(self, name: FileName, content: bytes) -> bytes:
        """Each file of a publication becomes durable on its own: what comes after a failure or a death does not."""
        self._step()
        faults = self.faults
        if faults.failing and self.hub.random.random() < faults.failing:
            raise OSError(errno.EIO, "fsync or rename failed")
        self.hub.trace("volume", f"has {name}")
        self.written += [(self.hub.now, section) for section in sections_of(name, content)]
        return content


class Threads:
    """`in_thread` of one process: its calls take time, stand still while it is frozen, and end where it dies."""

    def __init__(self, volume: Volume, loop: NodeLoop) -> None:
        self._volume = volume
        self._loop = loop
        self._running: dict[int, Callable[[], object]] = {}
        self._numbers = itertools.count()
        loop.on_crash.insert(0, self._killed)

    def __call__(self, call: Callable[[], _T], /) -> Awaitable[_T]:
        done: asyncio.Future[_T] = self._loop.create_future()
        number = next(self._numbers)
        self._running[number] = call
        self._loop.depart(self._later, number, done)
        return done

    def _later(self, number: int, done: asyncio.Future[Any]) -> None:
        hub = self._volume.hub
        hub.at(hub.now + self._volume.delay(), self._finish, number, done)

    def _finish(self, number: int, done: asyncio.Future[Any]) -> None:
        loop, hub = self._loop, self._volume.hub
        if number not in self._running:
            return
        if loop.frozen_until > hub.now:
            hub.at(loop.frozen_until, self._finish, number, done)
            return
        call = self._running.pop(number)
        try:
            result = call()
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the caller's
            loop.enter(_fail, done, error)
        else:
            loop.enter(_resolve, done, result)

    def _killed(self) -> None:
        running, self._running = self._running, {}
        for call in running.values():
            self._volume.cut_short(call)


def _resolve(done: asyncio.Future[Any], result: object) -> None:
    if not done.done():
        done.set_result(result)


def _fail(done: asyncio.Future[Any], error: Exception) -> None:
    if not done.done():
        done.set_exception(error)

"""Brings back partitions of which every copy was lost (R10).

Files are read, checked and decompressed in a thread; entries go into the store in slices, a turn of the loop each. A
partition is not served and has no copies before all of it is in. Only the newest section that can be read at all is
used: entries that it lost are not taken from an older one, which may hold what was deleted since.
"""

from __future__ import annotations

import asyncio
import struct
from collections import deque
from collections.abc import Iterator
from contextlib import closing
from typing import BinaryIO, Final, NamedTuple

import structlog

from aux.node.node import Node
from aux.replication.primary import Primary
from aux.snapshots.damage_log import DamageLog
from aux.snapshots.options import InThread
from aux.storage.expiry import is_expired
from ringmaster.errors import SnapshotDamaged, SnapshotError
from ringmaster.protocol.entry import (
    EXPIRY_OFFSET,
    EXPIRY_SIZE,
    FLAGS_OFFSET,
    META,
    RESTORED,
)
from ringmaster.protocol.tag_records import is_record, tags_of
from ringmaster.snapshot import SnapshotStore
from ringmaster.snapshot.catalog import Catalog, CatalogReader, StoredSection
from ringmaster.snapshot.format import split_payload
from ringmaster.snapshot.reader import Block, Damage, SectionReader

SLICE: Final = 250
"""Entries put into the store in one turn of the loop: about a millisecond."""

WORKERS: Final = 2
READ_AHEAD: Final = 8
"""Blocks read by one call into the thread: half a MiB."""

_RETRY_S: Final = 1.0
_EXPIRY: Final = slice(EXPIRY_OFFSET, EXPIRY_OFFSET + EXPIRY_SIZE)
_NEVER: Final = bytes(EXPIRY_SIZE)
_FLAGGED: Final = [bytes((flags | RESTORED,)) for flags in range(256)]

_log = structlog.get_logger(__name__)


class Loaded(NamedTuple):
    """The section that a partition was loaded from, in `term`; None: it never had one."""

    term: int
    stored: StoredSection | None


class Restorer:
    """The `Loader` of a node. `restores`: whether snapshots are loaded at all; `max_age_s`: older ones are not."""

    def __init__(
        self,
        node: Node,
        store: SnapshotStore,
        in_thread: InThread,
        cluster: str,
        *,
        restores: bool = True,
        max_age_s: float | None = None,
    ) -> None:
        self.highest_term = 0
        self.loaded_entries = 0
        self.damage_log = DamageLog(node.clock.boottime)
        self.loaded_from: dict[int, Loaded] = {}
        """Partitions that a restore would bring back as they were loaded: nothing of them was lost or left out."""

        self.is_blank = False
        """Whether nothing was ever written to the store, as of the last look."""

        self.kept: set[str] = set()
        """Names of damaged files, which are left to whoever looks into it."""

        self._node = node
        self._store = store
        self._in_thread = in_thread
        self._catalog_reader = CatalogReader(store, cluster, node.options.partitions)
        self._told: set[str] = set()
        self._unsettled: set[int] = set()
        self._restores = restores
        self._max_age_s = max_age_s
        self._wanted: deque[Primary] = deque()
        self._ready: asyncio.Queue[tuple[Primary, list[StoredSection]]] = asyncio.Queue()
        self._work = asyncio.Event()
        self._work.set()  # a first look tells the highest term
        self._listing_error = ""

    @property
    def waiting(self) -> int:
        """Partitions that are not loaded yet."""
        return sum(primary.restoring for primary in self._node.roles.primaries.values())

    def is_as_stored(self, primary: Primary) -> bool:
        """Whether what `primary` was appointed with is what a restore of it would find."""
        loaded = self.loaded_from.get(primary.number)
        return loaded is not None and loaded.term == primary.term

    def start(self, primary: Primary) -> bool:
        """Queue `primary`: whether there is a file is known once the store has been asked."""
        self._wanted.append(primary)
        self._work.set()
        return True

    def problems(self) -> list[str]:
        """What was lost, and what cannot be restored just now."""
        if self._listing_error:
            waiting = f"cannot list the snapshots in {self._store.location}: {self._listing_error}"
            return [waiting, *self.damage_log.sentences()]
        return self.damage_log.sentences()

    async def run(self) -> None:
        """Restore what is asked for, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for number in range(WORKERS):
                tasks.create_task(self._worker(), name=f"restore-{number}")
            while True:
                await self._work.wait()
                self._work.clear()
                await self._find()

    async def _find(self) -> None:
        """Look once for everything that is wanted by now."""
        try:
            catalog = await self._in_thread(self._catalog_reader.read)
        except OSError as error:
            # What is wanted stays so: nothing is taken for empty because the volume is away.
            if not self._listing_error:
                _log.error(
                    "cannot list the snapshots", location=self._store.location, reason=str(error)
                )
            self._listing_error = str(error)
            self._work.set()
            await asyncio.sleep(_RETRY_S)
            return
        self._listing_error = ""
        self.is_blank = catalog.is_blank
        self.highest_term = max(self.highest_term, catalog.highest_term)
        wanted, self._wanted = self._wanted, deque()
        self._report_files(catalog, restoring=bool(wanted))
        for primary in wanted:
            self._sort_out(primary, catalog)

    def _sort_out(self, primary: Primary, catalog: Catalog) -> None:
        """Queue a partition that can be loaded; begin with one that cannot."""
        number = primary.number
        self._unsettled.discard(number)
        sections = catalog.sections.get(number, [])
        missed = catalog.missing(number)
        # Where nothing is known of a partition, writes of any term known here may have been lost.
        newest = catalog.highest_term
        if sections or missed:
            named = catalog.expected[number].version[0] if missed else 0
            newest = max(named, sections[0].section.id.term if sections else 0)
        if newest >= primary.term:
            _log.warning(
                "a snapshot is newer than the view; waiting for a higher term",
                partition=number, term=primary.term, snapshot=newest,
            )  # fmt: skip
            return
        lost = self._restores and bool(primary.lost_term) and self._is_current(primary)
        if self._restores and (missed or (lost and not sections and catalog.is_blank)):
            self.damage_log.missing(number, str(missed or ""), older=bool(sections))
            self._unsettled.add(number)
            _log.error("the newest snapshot is missing", partition=number, file=str(missed or ""))
        elif not sections and not missed:
            self.loaded_from[number] = Loaded(primary.term, None)
            # Where there are snapshots of others, nothing of this one was ever due.
            primary.data.origin.is_whole = not catalog.is_blank
        if sections and self._restores:
            self._ready.put_nowait((primary, sections))
        else:
            self._node.roles.loaded(primary)

    def _report_files(self, catalog: Catalog, *, restoring: bool) -> None:
        """Say what is wrong with whole files: those that no reader here can read at once, others when they are needed."""
        if catalog.version_1 and "old" not in self._told:
            self._told.add("old")
            self._tell_file(catalog.version_1_problem)
        for problem in catalog.problems:
            if problem.file not in self._told and restoring:
                self._told.add(problem.file)
                self.kept.add(problem.file)
                self._tell_file(f"{problem.file}: {problem.reason}")

    def _tell_file(self, sentence: str) -> None:
        self.damage_log.damaged(None, sentence)
        _log.error("a snapshot file is damaged", detail=sentence)

    async def _worker(self) -> None:
        while True:
            primary, sections = await self._ready.get()
            try:
                await self._restore(primary, sections)
            except Exception as error:  # noqa: BLE001 - a partition without its past is better than no node
                self._report(sections[0], repr(error), 0)
            self._node.roles.loaded(primary)

    async def _restore(self, primary: Primary, sections: list[StoredSection]) -> None:
        """Load the newest of `sections` that can be read, newest first. Whatever happens, the partition is served."""
        for stored in sections:
            if not self._is_current(primary):
                return
            try:
                loaded = await self._load(primary, stored)
            except (OSError, SnapshotError) as error:
                self._report(stored, str(error), 0)
                continue
            if loaded:
                return
        _log.error("nothing could be restored", partition=primary.number)

    async def _load(self, primary: Primary, stored: StoredSection) -> bool:
        """Whether that settles it: False if nothing at all could be read where there was something."""
        if self._is_too_old(stored):
            _log.warning("a snapshot is older than --restore-max-age", file=str(stored.bundle))
            return True
        reading = await self._in_thread(lambda: _Reading(self._store.open(stored.bundle), stored))
        reader = reading.reader
        try:
            read = 0
            damages: list[str] = []
            while items := await self._read_on(reading):
                for item in items:
                    if isinstance(item, Damage):
                        damages.append(str(item))
                        continue
                    try:
                        read += await self._insert(primary, item, read, reader.entries or 0)
                    except (SnapshotDamaged, ValueError, struct.error) as error:
                        damages.append(f"block {item.position}: {error}")
                if not self._is_current(primary):
                    return True
        finally:
            await self._in_thread(reading.close)
        origin, header = primary.data.origin, stored.header
        whole = header.sealed and not damages and primary.number not in self._unsettled
        origin.came_back(self._node.store.removals.now_ms, header.created_ms, whole=whole)
        if damages:
            total = reader.entries or read
            self._report(stored, "; ".join(damages[:3]), total - read, total)
        elif primary.number not in self._unsettled:
            self.loaded_from[primary.number] = Loaded(primary.term, stored)
        return read > 0 or not damages or reader.entries == 0

    async def _read_on(self, reading: _Reading) -> list[Block | Damage]:
        """The next blocks; what the disk refuses to give is damage like any other."""
        try:
            return await self._in_thread(reading.next)
        except OSError as error:
            reading.exhausted = True
            return [Damage(0, str(error))]

    async def _insert(self, primary: Primary, block: Block, first: int, total: int) -> int:
        """Put a block's entries into the store in slices; how many the block has. Raises `SnapshotDamaged`."""
        node = self._node
        keys, entries = split_payload(block.raw, block.entries)
        now_ms = node.clock.now_ms()
        for at in range(0, len(keys), SLICE):
            if not self._is_current(primary):
                break
            items = []
            for key, entry in zip(keys[at : at + SLICE], entries[at : at + SLICE], strict=True):
                flags = entry[FLAGS_OFFSET]
                if is_record(key):
                    node.store.set_tag(primary.data, key, entry)
                elif entry[_EXPIRY] == _NEVER or not is_expired(entry, now_ms):
                    if flags & META:
                        primary.data.carry(tags_of(entry))
                    marked = entry[:FLAGS_OFFSET] + _FLAGGED[flags] + entry[FLAGS_OFFSET + 1 :]
                    items.append((key, marked))
            node.store.load(primary.data, items, first + at, total)
            self.loaded_entries += len(items)
            node.eviction.trim()
            await asyncio.sleep(0)
        return len(keys)

    def _is_current(self, primary: Primary) -> bool:
        return self._node.roles.primaries.get(primary.number) is primary and primary.restoring

    def _is_too_old(self, stored: StoredSection) -> bool:
        if self._max_age_s is None:
            return False
        return self._node.clock.now_ms() - stored.header.created_ms > self._max_age_s * 1000

    def _report(self, stored: StoredSection, reason: str, lost: int, total: int = 0) -> None:
        extent = f"{lost} of {total} entries lost" if total else "nothing of it could be read"
        number, file = stored.section.id.partition, str(stored.bundle)
        self.kept.add(file)
        self._unsettled.add(number)
        self.damage_log.damaged(number, f"{file}, {extent} ({reason})", lost)
        _log.error(
            "a snapshot is damaged", partition=number, file=file, lost=lost, of=total, reason=reason
        )


class _Reading:
    """An open file; every method blocks."""

    def __init__(self, stream: BinaryIO, stored: StoredSection) -> None:
        self._stream = stream
        self.reader = SectionReader(stream, stored.header.sync, stored.section)
        self._blocks: Iterator[Block | Damage] = self.reader.blocks()
        self.exhausted = False

    def next(self) -> list[Block | Damage]:
        """The next few; empty at the end."""
        found: list[Block | Damage] = []
        if self.exhausted:
            return found
        for item in self._blocks:
            found.append(item)
            if len(found) == READ_AHEAD:
                break
        return found

    def close(self) -> None:
        """Close the file."""
        with closing(self._stream):
            pass

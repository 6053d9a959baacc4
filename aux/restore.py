"""Brings back partitions of which every copy was lost (R10).

Files are read, checked and decompressed in a thread; entries go into the store in slices, a turn of the loop each. A
partition is not served and has no copies before all of it is in. Only the newest file that can be read at all is
used: entries that it lost are not taken from an older one, which may hold what was deleted since.
"""

from __future__ import annotations

import asyncio
import struct
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import BinaryIO, Final

import structlog

from aux.commands import is_expired
from aux.node import Node
from aux.primary import Primary
from aux.retention import InThread
from ringmaster.entry import HEADER_SIZE, RESTORED
from ringmaster.errors import SnapshotDamaged, SnapshotError
from ringmaster.snapshot import SnapshotStore, StoredFile
from ringmaster.snapshot.format import SnapshotHeader, split_payload
from ringmaster.snapshot.names import by_partition
from ringmaster.snapshot.reader import Block, Damage, SnapshotReader, check_identity

SLICE: Final = 250
"""Entries put into the store in one turn of the loop: about a millisecond."""

WORKERS: Final = 2
READ_AHEAD: Final = 4
"""Blocks read by one call into the thread: half a MiB."""

REMEMBER_S: Final = 3600.0
"""How long a loss is reported after the restore that met it."""

_RETRY_S: Final = 1.0
_MAX_DAMAGES: Final = 1000
_EXPIRY: Final = slice(14, 20)
_NEVER: Final = bytes(6)
_FLAGGED: Final = [bytes((flags | RESTORED,)) for flags in range(256)]

_log = structlog.get_logger(__name__)


class Losses:
    """What restores could not bring back, for the health of the cluster; forgotten after `REMEMBER_S`."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._damages: deque[tuple[float, int, str]] = deque(maxlen=_MAX_DAMAGES)
        self._missing: dict[int, float] = {}
        self.damaged_files = 0
        self.lost_entries = 0
        self.missing_files = 0

    def damaged(self, partition: int, sentence: str, entries: int) -> None:
        """A file of `partition` could not be read, or not all of it."""
        self.damaged_files += 1
        self.lost_entries += entries
        self._damages.append((self._now(), partition, sentence))

    def missing(self, partition: int) -> None:
        """There was no file to restore a partition from that had been served before."""
        self.missing_files += 1
        self._missing[partition] = self._now()

    def damages(self) -> list[tuple[int, str]]:
        """(partition, sentence) of what is remembered."""
        since = self._now() - REMEMBER_S
        return [(partition, text) for at, partition, text in self._damages if at > since]

    @property
    def remembered(self) -> int:
        """How many files were damaged or missing, of late."""
        since = self._now() - REMEMBER_S
        return len(self.damages()) + sum(at > since for at in self._missing.values())

    def sentences(self) -> list[str]:
        """For people, few enough to be read."""
        since = self._now() - REMEMBER_S
        texts = [f"the snapshot of partition {n} is damaged: {text}" for n, text in self.damages()]
        shown = texts[:10]
        if len(texts) > len(shown):
            shown.append(
                f"{len(texts) - len(shown)} more snapshots are damaged; GET /snapshots lists them"
            )
        missing = sorted(number for number, at in self._missing.items() if at > since)
        if missing:
            first = ", ".join(map(str, missing[:10])) + (", …" if len(missing) > 10 else "")
            shown.append(
                f"no snapshot was found of {len(missing)} partitions that lost every copy; they started empty: {first}"
            )
        return shown


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
        self.expired_entries = 0
        self.losses = Losses(node.clock.boottime)
        self.loaded_from: dict[int, StoredFile] = {}
        self.kept: set[str] = set()
        """Names of damaged files, which are left to whoever looks into it."""

        self._node = node
        self._store = store
        self._in_thread = in_thread
        self._cluster = cluster
        self._restores = restores
        self._max_age_s = max_age_s
        self._wanted: deque[Primary] = deque()
        self._ready: asyncio.Queue[tuple[Primary, list[StoredFile]]] = asyncio.Queue()
        self._work = asyncio.Event()
        self._work.set()  # a first look tells the highest term
        self._listing_error = ""

    @property
    def waiting(self) -> int:
        """Partitions that are not loaded yet."""
        return sum(primary.restoring for primary in self._node.primaries.values())

    def start(self, primary: Primary) -> bool:
        """Queue `primary`: whether there is a file is known once the store has been asked."""
        self._wanted.append(primary)
        self._work.set()
        return True

    def problems(self) -> list[str]:
        """What was lost, and what cannot be restored just now."""
        if self._listing_error:
            waiting = f"cannot list the snapshots in {self._store.place}: {self._listing_error}"
            return [waiting, *self.losses.sentences()]
        return self.losses.sentences()

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
        """Look once for the files of everything that is wanted by now."""
        try:
            found = by_partition(await self._in_thread(self._store.files))
        except OSError as error:
            # What is wanted stays so: nothing is taken for empty because the volume is away.
            if not self._listing_error:
                _log.error("cannot list the snapshots", place=self._store.place, reason=str(error))
            self._listing_error = str(error)
            self._work.set()
            await asyncio.sleep(_RETRY_S)
            return
        self._listing_error = ""
        for versions in found.values():
            self.highest_term = max(self.highest_term, versions[0].name.term)
        wanted, self._wanted = self._wanted, deque()
        for primary in wanted:
            versions = found.get(primary.number, [])
            if versions and versions[0].name.term >= primary.term:
                _log.warning(
                    "a snapshot is newer than the view; waiting for a higher term",
                    partition=primary.number, term=primary.term, snapshot=str(versions[0].name),
                )  # fmt: skip
            elif versions and self._restores:
                self._ready.put_nowait((primary, versions))
            else:
                if primary.lost_term and self._restores and self._is_current(primary):
                    self.losses.missing(primary.number)
                    _log.error("no snapshot to restore from", partition=primary.number)
                self._node.loaded(primary)

    async def _worker(self) -> None:
        while True:
            primary, versions = await self._ready.get()
            try:
                await self._restore(primary, versions)
            except Exception as error:  # noqa: BLE001 - a partition without its past is better than no node
                self._report(versions[0], repr(error), 0)
            self._node.loaded(primary)

    async def _restore(self, primary: Primary, versions: list[StoredFile]) -> None:
        """Load the newest of `versions` that can be read, newest first. Whatever happens, the partition is served."""
        for file in versions:
            if not self._is_current(primary):
                return
            try:
                loaded = await self._load(primary, file)
            except (OSError, SnapshotError) as error:
                self._report(file, str(error), 0)
                continue
            if loaded:
                self.loaded_from[primary.number] = file
                return
        _log.error("nothing could be restored", partition=primary.number)

    async def _load(self, primary: Primary, file: StoredFile) -> bool:
        """Whether that settles it: False if nothing at all could be read where there was something."""
        reading = await self._in_thread(lambda: _Reading(self._store.open(file.name)))
        try:
            header = reading.reader.header
            check_identity(header, file.name, self._cluster, self._node.options.partitions)
            if self._is_too_old(header):
                _log.warning("a snapshot is older than --restore-max-age", file=str(file.name))
                return True
            read = 0
            damages: list[str] = []
            while items := await self._read_on(reading):
                for item in items:
                    if isinstance(item, Damage):
                        damages.append(str(item))
                        continue
                    try:
                        read += await self._insert(primary, item, read, header.entries)
                    except (SnapshotDamaged, ValueError, struct.error) as error:
                        damages.append(f"block {item.position}: {error}")
                if not self._is_current(primary):
                    return True
        finally:
            await self._in_thread(reading.close)
        if damages:
            self._report(file, "; ".join(damages[:3]), header.entries - read, header.entries)
        return read > 0 or not damages

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
        now_ms = node.wall_ms()
        for at in range(0, len(keys), SLICE):
            if not self._is_current(primary):
                break
            items = [
                (
                    key,
                    entry[: HEADER_SIZE - 1]
                    + _FLAGGED[entry[HEADER_SIZE - 1]]
                    + entry[HEADER_SIZE:],
                )
                for key, entry in zip(keys[at : at + SLICE], entries[at : at + SLICE], strict=True)
                if entry[_EXPIRY] == _NEVER or not is_expired(entry, now_ms)
            ]
            node.store.load(primary.data, items, first + at, total)
            self.loaded_entries += len(items)
            self.expired_entries += min(SLICE, len(keys) - at) - len(items)
            node.budget.trim()
            await asyncio.sleep(0)
        return len(keys)

    def _is_current(self, primary: Primary) -> bool:
        return self._node.primaries.get(primary.number) is primary and primary.restoring

    def _is_too_old(self, header: SnapshotHeader) -> bool:
        if self._max_age_s is None:
            return False
        return self._node.clock.wall() - header.created_ms / 1000 > self._max_age_s

    def _report(self, file: StoredFile, reason: str, lost: int, total: int = 0) -> None:
        extent = f"{lost} of {total} entries lost" if total else "nothing of it could be read"
        self.kept.add(str(file.name))
        self.losses.damaged(file.name.partition, f"{file.name}, {extent} ({reason})", lost)
        _log.error(
            "a snapshot is damaged",
            partition=file.name.partition, file=str(file.name), lost=lost, of=total, reason=reason,
        )  # fmt: skip


class _Reading:
    """An open file; every method blocks."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        try:
            self.reader = SnapshotReader(stream)
        except BaseException:
            stream.close()
            raise
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

"""The side of a snapshot's writing that runs in a thread: blocks into a bundle, bundles into durable files.

Nothing here touches the store of entries or the loop. Of the interpreter's time it takes little: compression, checksums
and writing let other threads run.
"""

from __future__ import annotations

import secrets
from contextlib import suppress
from typing import Final, NamedTuple

import zstandard

from ringmaster.snapshot import Draft, SnapshotStore
from ringmaster.snapshot import format as layout
from ringmaster.snapshot.format import BundleHeader, Payload, SectionId
from ringmaster.snapshot.index import Manifest, Section, encode_index, encode_manifest
from ringmaster.snapshot.names import BundleName, ManifestName, checked_name

BUNDLE_BYTES: Final = 64 * 1024 * 1024
"""A bundle is ended behind the section that makes it this large, so that a failure costs no more than that."""

_TRY_AGAIN: Final = 16
"""Where compression does not pay, it is tried again at every 16th block."""


class Cut:
    """One partition on its way to disk, as of `section_id`, as the `number`-th cut of this node. `created_ms`: cluster time."""

    __slots__ = (
        "begun",
        "blocks",
        "created_ms",
        "entries",
        "number",
        "offset",
        "sealed",
        "section_id",
    )

    def __init__(
        self, section_id: SectionId, entries: int, number: int, *, created_ms: int, sealed: bool
    ) -> None:
        self.section_id = section_id
        self.entries = entries
        self.number = number
        self.created_ms = created_ms
        self.sealed = sealed
        self.begun = False
        self.blocks = 0
        self.offset = 0


class Part:
    """Some blocks of a cut; `last`: there are no more."""

    __slots__ = ("cut", "last", "payloads")

    def __init__(self, cut: Cut) -> None:
        self.cut = cut
        self.payloads: list[Payload] = []
        self.last = False


class BlockBatch:
    """What the thread gets at a time."""

    __slots__ = ("parts", "size")

    def __init__(self) -> None:
        self.parts: list[Part] = []
        self.size = 0

    def open(self, cut: Cut) -> Part:
        part = Part(cut)
        self.parts.append(part)
        return part


class Written(NamedTuple):
    """A cut that is durable now."""

    cut: Cut
    name: BundleName
    section: Section


class BundleWriter:
    """Writes the bundles and the manifest of one incarnation. Used by one thread at a time."""

    def __init__(
        self,
        store: SnapshotStore,
        cluster: str,
        partitions: int,
        incarnation: str,
        bundle_bytes: int = BUNDLE_BYTES,
    ) -> None:
        self._store = store
        self._cluster = cluster
        self._partitions = partitions
        self._incarnation = incarnation
        self._bundle_bytes = bundle_bytes
        self._number = 0
        self._open: _Bundle | None = None
        self._newest: dict[int, tuple[int, int, int, int]] = {}
        self._durable: list[Written] = []
        self._stale = False
        self._compressor = zstandard.ZstdCompressor(level=1)
        self._plain = 0

    @property
    def is_behind(self) -> bool:
        """Whether the manifest does not name what was published."""
        return self._stale

    def write(self, batch: BlockBatch) -> None:
        """Write what is in `batch`. Raises `OSError`; then call `give_up`."""
        chunks: list[bytes] = []
        for part in batch.parts:
            cut = part.cut
            bundle = self._open or self._begin(cut, chunks)
            if not cut.begun:
                cut.begun = True
                cut.offset = bundle.size
                bundle.add(chunks, layout.start_block(bundle.sync, cut.section_id, cut.entries))
            for payload in part.payloads:
                bundle.add(chunks, *self._seal(bundle.sync, cut, payload))
            if part.last:
                end = layout.end_block(bundle.sync, cut.section_id, cut.blocks, cut.entries)
                bundle.add(chunks, end)
                bundle.finish(cut)
                if bundle.size >= self._bundle_bytes:
                    bundle.draft.append(chunks)
                    chunks = []
                    self._publish(bundle)
        if self._open is not None and chunks:
            self._open.draft.append(chunks)

    def finish(self, *, name_nothing: bool = False) -> None:
        """End the round: the last bundle, then the manifest if there is something new to name. Raises as `write`.

        `name_nothing`: write a manifest in any case, so that a store where nothing was written differs from one that
        lost everything.
        """
        if self._open is not None:
            self._publish(self._open)
        if self._stale or name_nothing:
            self._write_manifest()

    def take(self) -> list[Written]:
        """What became durable since this was last asked, also if something failed after that."""
        durable, self._durable = self._durable, []
        return durable

    def give_up(self) -> None:
        """Nothing of the bundle that is being written counts any more. Never raises."""
        bundle, self._open = self._open, None
        if bundle is not None:
            with suppress(OSError):
                bundle.draft.discard()

    def _write_manifest(self) -> None:
        rows = [self._newest[number] for number in sorted(self._newest)]
        manifest = Manifest(cluster=self._cluster, incarnation=self._incarnation, newest=rows)
        draft = self._store.begin(ManifestName(self._incarnation))
        try:
            draft.append([encode_manifest(manifest)])
            self._store.publish([draft])
        except BaseException:
            draft.discard()
            raise
        self._stale = False

    def _begin(self, cut: Cut, chunks: list[bytes]) -> _Bundle:
        self._number += 1
        header = BundleHeader(
            cluster=self._cluster,
            partitions=self._partitions,
            incarnation=self._incarnation,
            number=self._number,
            created_ms=cut.created_ms,
            sealed=cut.sealed,
            sync=secrets.token_bytes(layout.SYNC_SIZE),
        )
        name = checked_name(self._incarnation, self._number)
        bundle = self._open = _Bundle(name, header, self._store.begin(name))
        bundle.add(chunks, layout.encode_header(header))
        return bundle

    def _seal(self, sync: bytes, cut: Cut, payload: Payload) -> list[bytes]:
        tried = self._plain % _TRY_AGAIN == 0
        chunks = layout.encode_block(
            sync, cut.section_id, cut.blocks, payload, self._compressor if tried else None
        )
        cut.blocks += 1
        packed = tried and sum(map(len, chunks)) < payload.size
        self._plain = 0 if packed else self._plain + 1
        return chunks

    def _publish(self, bundle: _Bundle) -> None:
        """End the bundle that is open."""
        bundle.draft.append(encode_index(bundle.header, bundle.sections, bundle.size))
        self._store.publish([bundle.draft])
        self._open = None
        self._stale = True
        for cut, section in zip(bundle.cuts, bundle.sections, strict=True):
            self._newest[section.id.partition] = (*section.id, bundle.name.number)
            self._durable.append(Written(cut, bundle.name, section))


class _Bundle:
    """The bundle being written. `size` counts what is gathered for it as well."""

    __slots__ = ("cuts", "draft", "header", "name", "sections", "size", "sync")

    def __init__(self, name: BundleName, header: BundleHeader, draft: Draft) -> None:
        self.name = name
        self.header = header
        self.sync = header.sync
        self.draft = draft
        self.size = 0
        self.sections: list[Section] = []
        self.cuts: list[Cut] = []

    def add(self, chunks: list[bytes], *more: bytes) -> None:
        chunks += more
        self.size += sum(map(len, more))

    def finish(self, cut: Cut) -> None:
        self.cuts.append(cut)
        self.sections.append(
            Section(cut.section_id, cut.entries, cut.offset, self.size - cut.offset)
        )

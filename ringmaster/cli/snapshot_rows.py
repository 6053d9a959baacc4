"""How `ringmaster snapshot list` and `verify` show what there is."""

from __future__ import annotations

import time

import msgspec
import typer

from ringmaster.config.quantities import rfc3339
from ringmaster.snapshot.archive import SectionCheck
from ringmaster.snapshot.catalog import Catalog, StoredSection
from ringmaster.snapshot.format import BundleHeader


def print_sections(catalog: Catalog, *, older: bool, json: bool) -> None:
    """A line per partition, or (`older`) per section, newest first."""
    for number in sorted(catalog.sections):
        sections = catalog.sections[number]
        for stored in sections if older else sections[:1]:
            typer.echo(section_json(stored) if json else _section_line(stored))


def print_files(catalog: Catalog, *, json: bool) -> None:
    """A line per bundle, with the partitions in it."""
    inside: dict[str, list[StoredSection]] = {str(name): [] for name in catalog.size_of}
    newest = set()
    for number, sections in catalog.sections.items():
        newest.add((str(sections[0].bundle), number))
        for stored in sections:
            inside[str(stored.bundle)].append(stored)
    for name in sorted(catalog.size_of):
        typer.echo(
            _file_line(str(name), catalog.size_of[name], inside[str(name)], newest, json=json)
        )


def _file_line(
    name: str, size: int, sections: list[StoredSection], newest: set[tuple[str, int]], *, json: bool
) -> str:
    numbers = sorted(stored.section.id.partition for stored in sections)
    needed = sum((name, number) in newest for number in numbers)
    header = sections[0].header if sections else None
    if json:
        row = {
            "file": name,
            "bytes": size,
            "partitions": numbers,
            "newest_of": needed,
            "created_at": None if header is None else rfc3339(header.created_ms),
            "sealed": header is not None and header.sealed,
        }
        return msgspec.json.encode(row).decode()
    held = f"{len(numbers):>5} partitions, newest of {needed:>5}"
    sealed = "  sealed" if header is not None and header.sealed else ""
    return f"{_when(header):19}  {held}  {size:>11} bytes  {name}{sealed}"


def section_json(stored: StoredSection, check: SectionCheck | None = None) -> str:
    """A section as a JSON object, with what `verify` found, if given."""
    section, name, header = stored
    row = {
        "partition": section.id.partition,
        "file": str(name),
        "term": section.id.term,
        "sequence": section.id.seq,
        "bytes": section.size,
        "entries": section.entries if check is None else check.entries,
        "created_at": rfc3339(header.created_ms),
        "sealed": header.sealed,
        "problems": [] if check is None else check.problems,
    }
    return msgspec.json.encode(row).decode()


def summary(catalog: Catalog) -> str:
    """How much there is."""
    return f"{len(catalog.sections)} partitions in {len(catalog.size_of)} files"


def _section_line(stored: StoredSection) -> str:
    section, name, header = stored
    entries = "?" if section.entries is None else section.entries
    mark = f"partition {section.id.partition:>5}  {section.id.term}.{section.id.seq}"
    columns = f"{entries:>9} entries  {section.size:>11} bytes"
    return f"{_when(header):19}  {mark:32}  {columns}  {name}{'  sealed' if header.sealed else ''}"


def _when(header: BundleHeader | None) -> str:
    if header is None:
        return "?"
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(header.created_ms / 1000))

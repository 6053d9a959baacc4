"""How `ringmaster snapshot list` and `verify` show what there is."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import msgspec
import typer

from ringmaster.snapshot.archive import SectionVerdict
from ringmaster.snapshot.catalog import Catalog, Place
from ringmaster.snapshot.format import BundleHeader


def print_sections(catalog: Catalog, *, older: bool, json: bool) -> None:
    """A line per partition, or (`older`) per section, newest first."""
    for number in sorted(catalog.places):
        places = catalog.places[number]
        for place in places if older else places[:1]:
            typer.echo(section_json(place) if json else _section_line(place))


def print_files(catalog: Catalog, *, json: bool) -> None:
    """A line per bundle, with the partitions in it."""
    inside: dict[str, list[Place]] = {str(name): [] for name in catalog.size_of}
    newest = set()
    for number, places in catalog.places.items():
        newest.add((str(places[0].name), number))
        for place in places:
            inside[str(place.name)].append(place)
    for name in sorted(catalog.size_of):
        typer.echo(
            _file_line(str(name), catalog.size_of[name], inside[str(name)], newest, json=json)
        )


def _file_line(
    name: str, size: int, places: list[Place], newest: set[tuple[str, int]], *, json: bool
) -> str:
    numbers = sorted(place.section.mark.partition for place in places)
    needed = sum((name, number) in newest for number in numbers)
    header = places[0].header if places else None
    if json:
        row = {
            "file": name,
            "bytes": size,
            "partitions": numbers,
            "newest_of": needed,
            "created_at": None if header is None else date(header.created_ms / 1000),
            "sealed": header is not None and header.sealed,
        }
        return msgspec.json.encode(row).decode()
    held = f"{len(numbers):>5} partitions, newest of {needed:>5}"
    sealed = "  sealed" if header is not None and header.sealed else ""
    return f"{_when(header):19}  {held}  {size:>11} bytes  {name}{sealed}"


def section_json(place: Place, verdict: SectionVerdict | None = None) -> str:
    """A section as a JSON object, with what `verify` found, if given."""
    section, name, header = place
    row = {
        "partition": section.mark.partition,
        "file": str(name),
        "term": section.mark.term,
        "sequence": section.mark.seq,
        "bytes": section.size,
        "entries": section.entries if verdict is None else verdict.entries,
        "created_at": date(header.created_ms / 1000),
        "sealed": header.sealed,
        "problems": [] if verdict is None else verdict.problems,
    }
    return msgspec.json.encode(row).decode()


def date(wall_s: float) -> str:
    """Wall time as the HTTP interface writes it: `2026-09-21T14:13:20.005Z`."""
    moment = datetime.fromtimestamp(wall_s, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def summary(catalog: Catalog) -> str:
    """How much there is."""
    return f"{len(catalog.places)} partitions in {len(catalog.size_of)} files"


def _section_line(place: Place) -> str:
    section, name, header = place
    entries = "?" if section.entries is None else section.entries
    mark = f"partition {section.mark.partition:>5}  {section.mark.term}.{section.mark.seq}"
    columns = f"{entries:>9} entries  {section.size:>11} bytes"
    return f"{_when(header):19}  {mark:32}  {columns}  {name}{'  sealed' if header.sealed else ''}"


def _when(header: BundleHeader | None) -> str:
    if header is None:
        return "?"
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(header.created_ms / 1000))

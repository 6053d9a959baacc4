"""`ringmaster snapshot create|list|verify|restore|export`.

`create` and `restore` talk to a running cluster; `list`, `verify`, `export` read files, so they work after a disaster.
Exit code 1: damage was found, or some entries could not be written.
"""

from __future__ import annotations

import base64
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import typer

from ringmaster.access.sender import token_from_environment
from ringmaster.cli import snapshot_rows as rows
from ringmaster.cli.exit_codes import NO, UNAVAILABLE, exit_code_of
from ringmaster.cli.operate import Json, Timeout, Token, Url, print_json
from ringmaster.cli.snapshot_import import Importer, is_expired
from ringmaster.client.blocking import Client
from ringmaster.client.reply import DEFAULT_URL
from ringmaster.config.quantities import rfc3339
from ringmaster.errors import BadRequest, RingmasterError, Unserved
from ringmaster.protocol.canary import is_canary
from ringmaster.protocol.entry import JSON
from ringmaster.protocol.keys import SkippedKeys
from ringmaster.snapshot.archive import Archive, SnapshotEntry, file_problems, find_archive

_POLL_S: Final = 0.2
_DEFAULT: Final = Path("data")

app = typer.Typer(
    name="snapshot",
    help="Take, look at, check, bring back and convert snapshots.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Folder = Annotated[
    Path, typer.Argument(help="A data dir, a folder of snapshots, or one cluster's within it.")
]
Cluster = Annotated[
    str | None,
    typer.Option("--cluster", help="The cluster's id, or its beginning, if there are several."),
]


@app.command("create", short_help="Have every node write its snapshots now.")
def create(
    url: Url = DEFAULT_URL, timeout: Timeout = 60.0, token: Token = None, json: Json = False
) -> None:
    """Have every node write its snapshots now, and wait until they are on disk, `--timeout` seconds at most."""
    with _ending(), Client(url, timeout, token=token or token_from_environment()) as client:
        reply = client.request("POST", "/snapshots")
        if reply.status != 202:
            raise BadRequest("the cluster takes no snapshots on request")
        progress = reply.json()
        deadline = time.monotonic() + timeout
        while progress["status"] == "running" and time.monotonic() < deadline:
            time.sleep(_POLL_S)
            reply = client.request("GET", f"/snapshots/{progress['id']}")
            if reply.status == 404:
                raise Unserved(f"no node remembers the snapshot {progress['id']} any more")
            progress = reply.json()
        if json:
            print_json(progress)
        for node, state in {} if json else progress["nodes"].items():
            written = f"{state.get('written', 0)} of {state.get('partitions', 0)} partitions"
            typer.echo(f"{node}: {state['status']}, {written} {state.get('error', '')}".rstrip())
        if progress["status"] != "done":
            raise typer.Exit(UNAVAILABLE)


@app.command("list", short_help="Show the newest snapshot of each partition.")
def show(
    folder: Folder = _DEFAULT,
    cluster: Cluster = None,
    older: Annotated[
        bool, typer.Option("--all", help="List older snapshots of each partition, too.")
    ] = False,
    files: Annotated[
        bool, typer.Option("--files", help="List the files instead of the partitions.")
    ] = False,
    json: Json = False,
) -> None:
    """Show the newest snapshot of each partition and the file it is in, or the files."""
    with _ending():
        archive = find_archive(folder, cluster)
        catalog = archive.catalog()
        if files:
            rows.print_files(catalog, json=json)
        else:
            rows.print_sections(catalog, older=older, json=json)
        if not json:
            typer.echo(f"cluster {archive.cluster}: {rows.summary(catalog)}")
        _print_problems(file_problems(catalog))


@app.command("verify")
def verify(folder: Folder = _DEFAULT, cluster: Cluster = None, json: Json = False) -> None:
    """Read every block of every snapshot file. Exit code 1 if any is damaged or missing."""
    with _ending():
        archive = find_archive(folder, cluster)
        catalog = archive.catalog()
        entries = damaged = 0
        for number in sorted(catalog.sections):
            for stored in catalog.sections[number]:
                check = archive.verify(stored)
                entries += check.entries
                damaged += not check.sound
                if json:
                    typer.echo(rows.section_json(stored, check))
                elif not check.sound:
                    total = "?" if check.total is None else check.total
                    extent = f"{check.entries} of {total} entries can be read"
                    found = "; ".join(check.problems)
                    typer.echo(f"{stored.bundle}: partition {number} damaged, {extent}: {found}")
        problems = file_problems(catalog)
        for problem in problems:
            typer.echo(problem, err=json)
        if not json:
            whole = f"{rows.summary(catalog)}, {entries} entries, {damaged + len(problems)} damaged"
            typer.echo(f"cluster {archive.cluster}: {whole}")
        if damaged or problems:
            raise typer.Exit(NO)


@app.command("export", short_help="Print the newest snapshots as JSON lines.")
def export(
    folder: Folder = _DEFAULT,
    cluster: Cluster = None,
    expired: Annotated[bool, typer.Option("--expired", help="Print expired entries, too.")] = False,
    json: Annotated[  # noqa: ARG001 - as of all other commands
        bool, typer.Option("--json", help="Changes nothing: what is printed is JSON anyway.")
    ] = False,
) -> None:
    """Print the newest snapshot of every partition as JSON lines. Exit code 1 if some of it is damaged.

    Entries whose keys are not legal (UTF-8 without control characters) are left out, counted and named.
    """
    with _ending():
        archive = find_archive(folder, cluster)
        now_ms = int(time.time() * 1000)
        skipped = SkippedKeys()
        for entry in _of_clients(archive):
            if (expired or not is_expired(entry, now_ms)) and not skipped.skips(entry.key):
                sys.stdout.buffer.write(msgspec.json.encode(_line(entry)) + b"\n")
        sys.stdout.buffer.flush()
        _print_skipped(skipped)
        _report(archive.problems)


@app.command("restore", short_help="Write a snapshot into a running cluster.")
def restore(
    folder: Folder,
    cluster: Cluster = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace keys that the cluster has already.")
    ] = False,
    url: Url = DEFAULT_URL,
    timeout: Timeout = 60.0,
    token: Token = None,
    json: Json = False,
) -> None:
    """Write a snapshot, also of another cluster, into a running cluster, with the time to live that is left.

    Keys that the cluster has are left alone, unless --overwrite. Tags and swr are left out, and counted, where the
    cluster refuses them. Entries whose keys are not legal are left out, counted and named.
    """
    with _ending(), Client(url, timeout, token=token or token_from_environment()) as client:
        archive = find_archive(folder, cluster)
        importer = Importer(client, overwrite=overwrite)
        for entry in _of_clients(archive):
            importer.add(entry)
        importer.flush()
        counts = {
            name: getattr(importer, name)
            for name in ("written", "kept", "expired", "failed", "stripped")
        }
        if json:
            print_json({**counts, "skipped": importer.skipped.count})
        else:
            typer.echo(
                "{written} entries written, {kept} were there already, "
                "{expired} had expired, {failed} failed".format(**counts)
            )
        if importer.stripped:
            sys.stderr.write(
                f"ringmaster snapshot: {importer.stripped} entries were written without their tags and swr, "
                "which this cluster does not accept\n"
            )
        _print_skipped(importer.skipped)
        for sentence in importer.errors:
            sys.stderr.write(f"ringmaster snapshot: {sentence}\n")
        _report(archive.problems)
        if importer.failed:
            raise typer.Exit(NO)


@contextmanager
def _ending() -> Iterator[None]:
    """Errors end the command with one line and the exit code for them."""
    try:
        yield
    except RingmasterError as error:
        sys.stderr.write(f"ringmaster snapshot: {error}\n")
        raise typer.Exit(exit_code_of(error)) from None


def _of_clients(archive: Archive) -> Iterator[SnapshotEntry]:
    """The entries of `archive` but for those of the masters' self-audit: an old one, written back, would alarm them."""
    return (entry for entry in archive.entries() if not is_canary(entry.key))


def _print_problems(problems: Sequence[str]) -> None:
    for problem in problems[:20]:
        sys.stderr.write(f"ringmaster snapshot: {problem}\n")


def _print_skipped(skipped: SkippedKeys) -> None:
    if skipped.count:
        sys.stderr.write(
            f"ringmaster snapshot: entries skipped because their keys are not legal, {skipped}\n"
        )


def _report(problems: Sequence[str]) -> None:
    _print_problems(problems)
    if problems:
        raise typer.Exit(NO)


def _line(entry: SnapshotEntry) -> dict[str, Any]:
    decoded, meta = entry.header, entry.meta
    line: dict[str, Any] = {
        "key": entry.key.decode(),
        "version": entry.version,
        "written_at": rfc3339(int(decoded.written_s * 1000)),
        "expires_at": rfc3339(decoded.expires_ms) if decoded.expires_ms else None,
    }
    if decoded.flags & JSON:
        line["value"] = msgspec.Raw(entry.value)
    else:
        line["content_type"] = meta.content_type or "application/octet-stream"
        line["base64"] = base64.b64encode(entry.value).decode()
    if meta.content_encoding:
        line["content_encoding"] = meta.content_encoding
    if meta.content_disposition:
        line["content_disposition"] = meta.content_disposition
    if meta.tags:
        line["tags"] = meta.tags
    if meta.swr_ms:
        line["swr"] = meta.swr_ms / 1000
    return line

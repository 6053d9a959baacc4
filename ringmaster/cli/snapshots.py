"""`ringmaster snapshot create|list|verify|restore|export`.

`create` and `restore` talk to a running cluster; `list`, `verify`, `export` read files, so they work after a disaster.
Exit codes as in `operate.py`; 1 also for damage that was found.
"""

from __future__ import annotations

import base64
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import typer

from ringmaster.cli.operate import UNAVAILABLE, Json, Timeout, Url
from ringmaster.cli.options import FAILED, USAGE
from ringmaster.client.blocking import Client
from ringmaster.client.reply import DEFAULT_URL, data_target
from ringmaster.entry import JSON
from ringmaster.errors import BadRequest, RingmasterError, SettingsError
from ringmaster.snapshot.archive import Archive, FileVerdict, Record, find_archive

_POLL_S: Final = 0.2
_BATCH: Final = 500
_BATCH_BYTES: Final = 4 * 1024 * 1024
_DEFAULT: Final = Path("data")

app = typer.Typer(
    name="snapshot",
    help="Take, look at, check, bring back and convert snapshots.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Folder = Annotated[
    Path, typer.Argument(help="The data dir, the folder of snapshots, or one cluster's.")
]
Cluster = Annotated[
    str | None,
    typer.Option("--cluster", help="The cluster's id, or its beginning, if there are several."),
]


@app.command("create")
def create(url: Url = DEFAULT_URL, timeout: Timeout = 60.0) -> None:
    """Have every node write its snapshots now, and wait until they are on disk."""
    with _ending(), Client(url, timeout) as client:
        progress = client.request("POST", "/snapshots").json()
        deadline = time.monotonic() + timeout
        while progress["status"] == "running" and time.monotonic() < deadline:
            time.sleep(_POLL_S)
            progress = client.request("GET", f"/snapshots/{progress['id']}").json()
        for node, state in progress["nodes"].items():
            written = f"{state.get('written', 0)} of {state.get('partitions', 0)} partitions"
            typer.echo(f"{node}: {state['status']}, {written} {state.get('error', '')}".rstrip())
        if progress["status"] != "done":
            raise typer.Exit(UNAVAILABLE)


@app.command("list")
def show(
    folder: Folder = _DEFAULT,
    cluster: Cluster = None,
    older: Annotated[bool, typer.Option("--all", help="Older files too.")] = False,
    json: Json = False,
) -> None:
    """Show the newest snapshot of each partition."""
    with _ending():
        archive = find_archive(folder, cluster)
        count = 0
        for versions in archive.versions().values():
            for name, size in versions if older else versions[:1]:
                verdict = archive.head(name, size)
                count += 1
                typer.echo(_json(verdict) if json else _listed(verdict))
        if not json:
            typer.echo(f"cluster {archive.cluster}: {count} files")


@app.command("verify")
def verify(folder: Folder = _DEFAULT, cluster: Cluster = None, json: Json = False) -> None:
    """Read every block of every file. Exit code 1 if any is damaged."""
    with _ending():
        archive = find_archive(folder, cluster)
        files = entries = damaged = 0
        for versions in archive.versions().values():
            for name, size in versions:
                verdict = archive.verify(name, size)
                files += 1
                entries += verdict.entries
                damaged += not verdict.sound
                if json:
                    typer.echo(_json(verdict))
                elif not verdict.sound:
                    total = verdict.header.entries if verdict.header else "?"
                    extent = f"{verdict.entries} of {total} entries can be read"
                    typer.echo(f"{name}: damaged, {extent}: {'; '.join(verdict.problems)}")
        if not json:
            typer.echo(
                f"cluster {archive.cluster}: {files} files, {entries} entries, {damaged} damaged"
            )
        if damaged:
            raise typer.Exit(FAILED)


@app.command("export")
def export(
    folder: Folder = _DEFAULT,
    cluster: Cluster = None,
    expired: Annotated[bool, typer.Option("--expired", help="Expired entries too.")] = False,
) -> None:
    """Print the newest snapshot of every partition as JSON lines. Exit code 1 if some of it is damaged."""
    with _ending():
        archive = find_archive(folder, cluster)
        now_ms = int(time.time() * 1000)
        for record in archive.records():
            if expired or not _is_expired(record, now_ms):
                sys.stdout.buffer.write(msgspec.json.encode(_line(record)) + b"\n")
        sys.stdout.buffer.flush()
        _report(archive)


@app.command("restore")
def restore(
    folder: Folder,
    cluster: Cluster = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace what the cluster has already.")
    ] = False,
    url: Url = DEFAULT_URL,
    timeout: Timeout = 60.0,
) -> None:
    """Write a snapshot, also of another cluster, into a running cluster, with the time to live that is left.

    Keys that the cluster has are left alone, unless --overwrite.
    """
    with _ending(), Client(url, timeout) as client:
        archive = find_archive(folder, cluster)
        importer = _Importer(client, overwrite=overwrite)
        for record in archive.records():
            importer.add(record)
        importer.flush()
        typer.echo(
            f"{importer.written} entries written, {importer.kept} were there already, "
            f"{importer.expired} had expired, {importer.failed} failed"
        )
        for sentence in importer.errors:
            sys.stderr.write(f"ringmaster snapshot: {sentence}\n")
        _report(archive)
        if importer.failed:
            raise typer.Exit(FAILED)


class _Importer:
    """Sends records to a cluster, JSON values in bulk, others one by one. Counts what became of them."""

    def __init__(self, client: Client, *, overwrite: bool) -> None:
        self.written = self.kept = self.expired = self.failed = 0
        self.errors: list[str] = []
        self._client = client
        self._overwrite = overwrite
        self._items: list[dict[str, Any]] = []
        self._size = 0

    def add(self, record: Record) -> None:
        """Send it, now or with the next `flush`."""
        now_ms = int(time.time() * 1000)
        if _is_expired(record, now_ms):
            self.expired += 1
            return
        ttl_s = (
            max(record.header.expires_ms - now_ms, 1) / 1000 if record.header.expires_ms else None
        )
        if not record.header.flags & JSON:
            self._put(record, ttl_s)
            return
        item: dict[str, Any] = {"key": record.key.decode(), "value": msgspec.Raw(record.value)}
        if ttl_s is not None:
            item["ttl"] = ttl_s
        if record.meta.swr_ms:
            item["swr"] = record.meta.swr_ms / 1000
        if record.meta.tags:
            item["tags"] = record.meta.tags
        if not self._overwrite:
            item["if_none_match"] = "*"
        self._items.append(item)
        self._size += len(record.value) + len(record.key)
        if len(self._items) >= _BATCH or self._size >= _BATCH_BYTES:
            self.flush()

    def flush(self) -> None:
        """Send what is gathered."""
        items, self._items, self._size = self._items, [], 0
        if not items:
            return
        reply = self._client.request(
            "POST", "/data/bulk", msgspec.json.encode(items), {"Content-Type": "application/json"}
        )
        for result in reply.json()["results"]:
            self._count(result["status"], f"{result['key']}: {result.get('detail', '')}")

    def _put(self, record: Record, ttl_s: float | None) -> None:
        meta = record.meta
        headers = {"Content-Type": meta.content_type or "application/octet-stream"}
        if meta.content_encoding:
            headers["Content-Encoding"] = meta.content_encoding
        if meta.content_disposition:
            headers["Content-Disposition"] = meta.content_disposition
        if not self._overwrite:
            headers["If-None-Match"] = "*"
        target = data_target(
            record.key.decode(), ttl=ttl_s, swr=meta.swr_ms / 1000 if meta.swr_ms else None
        )
        target += "".join(f"&{data_target('', tag=tag).rpartition('&')[2]}" for tag in meta.tags)
        try:
            self._count(self._client.request("PUT", target, record.value, headers).status, "")
        except BadRequest as error:
            self._count(400, f"{record.key.decode()}: {error}")

    def _count(self, status: int, sentence: str) -> None:
        if status in (200, 201, 204):
            self.written += 1
        elif status == 412:
            self.kept += 1
        else:
            self.failed += 1
            if len(self.errors) < 10:
                self.errors.append(sentence)


@contextmanager
def _ending() -> Iterator[None]:
    """Errors end the command with one line and the exit code for them."""
    try:
        yield
    except BrokenPipeError:
        raise typer.Exit(FAILED) from None
    except OSError as error:
        sys.stderr.write(f"ringmaster snapshot: {error}\n")
        raise typer.Exit(FAILED) from None
    except RingmasterError as error:
        sys.stderr.write(f"ringmaster snapshot: {error}\n")
        mistake = isinstance(error, BadRequest | SettingsError)
        raise typer.Exit(USAGE if mistake else UNAVAILABLE) from None


def _report(archive: Archive) -> None:
    for problem in islice(archive.problems, 20):
        sys.stderr.write(f"ringmaster snapshot: {problem}\n")
    if archive.problems:
        raise typer.Exit(FAILED)


def _is_expired(record: Record, now_ms: int) -> bool:
    return 0 < record.header.expires_ms <= now_ms


def _line(record: Record) -> dict[str, Any]:
    decoded, meta = record.header, record.meta
    line: dict[str, Any] = {
        "key": record.key.decode("utf-8", "replace"),
        "version": record.version,
        "written_at": decoded.written_s,
        "expires_at": decoded.expires_ms / 1000 if decoded.expires_ms else None,
    }
    if decoded.flags & JSON:
        line["value"] = msgspec.Raw(record.value)
    else:
        line["content_type"] = meta.content_type or "application/octet-stream"
        line["base64"] = base64.b64encode(record.value).decode()
    if meta.content_encoding:
        line["content_encoding"] = meta.content_encoding
    if meta.content_disposition:
        line["content_disposition"] = meta.content_disposition
    if meta.tags:
        line["tags"] = meta.tags
    if meta.swr_ms:
        line["swr"] = meta.swr_ms / 1000
    return line


def _listed(verdict: FileVerdict) -> str:
    header = verdict.header
    written, notes = "?", list(verdict.problems)
    if header is not None:
        written = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(header.created_ms / 1000))
        notes += ["sealed"] if header.sealed else []
    columns = f"{written:19}  {verdict.entries:>9} entries  {verdict.size:>11} bytes"
    return f"{columns}  {verdict.name}  {'; '.join(notes)}".rstrip()


def _json(verdict: FileVerdict) -> str:
    header = verdict.header
    row = {
        "partition": verdict.name.partition,
        "file": str(verdict.name),
        "term": verdict.name.term,
        "sequence": verdict.name.seq,
        "bytes": verdict.size,
        "entries": verdict.entries,
        "created_at": None if header is None else header.created_ms / 1000,
        "sealed": header is not None and header.sealed,
        "problems": verdict.problems,
    }
    return msgspec.json.encode(row).decode()

"""What goes into the archive, and what could not be had. Bounded: what does not fit is cut or left out, and said to be."""

from __future__ import annotations

import io
import os
import tarfile
import time
from pathlib import Path
from typing import Any, Final

import msgspec

from ringmaster.cli.diagnose.redaction import Redaction
from ringmaster.errors import SettingsError

PART_BYTES: Final = 4 * 2**20
TOTAL_BYTES: Final = 64 * 2**20
"""Before compression."""

MANIFEST: Final = "manifest.json"


class Bundle:
    """Parts by name. Secrets are taken out of each as it is added, by `redaction`."""

    def __init__(self, redaction: Redaction) -> None:
        self.redaction = redaction
        self.missing: list[dict[str, str]] = []
        self._parts: dict[str, bytes] = {}
        self._rows: list[dict[str, Any]] = []
        self._bytes = 0

    @property
    def names(self) -> list[str]:
        """Of the parts there are."""
        return list(self._parts)

    def add(self, name: str, content: bytes, what: str, *, end: bool = False) -> None:
        """Of what is longer than `PART_BYTES` the beginning is kept, or the `end`."""
        content = self.redaction.clean(content)
        whole = len(content)
        if whole > PART_BYTES:
            content = content[-PART_BYTES:] if end else content[:PART_BYTES]
        if self._bytes + len(content) > TOTAL_BYTES:
            self.lack(name, f"there are {TOTAL_BYTES // 2**20} MiB of other things already")
            return
        self._bytes += len(content)
        self._parts[name] = content
        row: dict[str, Any] = {"name": name, "what": what, "bytes": len(content)}
        if whole > len(content):
            row["cut_from"] = whole
        self._rows.append(row)

    def add_json(self, name: str, content: Any, what: str) -> None:
        """The same, of anything that JSON can say."""
        self.add(name, msgspec.json.format(msgspec.json.encode(content, order="sorted")), what)

    def lack(self, what: str, why: str) -> None:
        """Say of `what` that it is not in it, and why."""
        cleaned = self.redaction.clean(why.encode("utf-8", "replace")).decode("utf-8", "replace")
        self.missing.append({"what": what, "why": cleaned})

    def write(self, path: Path, about: dict[str, Any]) -> None:
        """Write the archive, readable by its owner alone. Raises `SettingsError`; then there is no file."""
        manifest = {
            **about,
            "files": sorted(self._rows, key=lambda row: str(row["name"])),
            "missing": self.missing,
            "redacted": self.redaction.count,
        }
        content = self.redaction.clean(msgspec.json.format(msgspec.json.encode(manifest)))
        root = path.name.removesuffix(".gz").removesuffix(".tar").removesuffix(".tgz")
        parts = {MANIFEST: content, **self._parts}
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            with os.fdopen(os.open(path, flags, 0o600), "wb") as file:
                try:
                    with tarfile.open(fileobj=file, mode="w:gz") as archive:
                        for name in sorted(parts, key=lambda name: (name != MANIFEST, name)):
                            _put(archive, f"{root}/{name}", parts[name])
                except BaseException:
                    path.unlink(missing_ok=True)
                    raise
        except OSError as error:
            raise SettingsError(f"cannot write {path}: {error.strerror or error}") from error


def _put(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode, entry.mtime = len(content), 0o600, int(time.time())
    archive.addfile(entry, io.BytesIO(content))

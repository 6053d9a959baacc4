"""The archive: bounded, private, and with a manifest that says what is in it and what is not."""

from __future__ import annotations

import json
import stat
import tarfile
from pathlib import Path
from typing import Any

import pytest

from ringmaster.cli.diagnose import bundle as bundles
from ringmaster.cli.diagnose.bundle import Bundle
from ringmaster.cli.diagnose.redaction import Redaction
from ringmaster.errors import SettingsError


def read(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as archive:
        return {each.name: archive.extractfile(each).read() for each in archive}  # type: ignore[union-attr]


def manifest(path: Path) -> Any:
    return json.loads(read(path)["a/manifest.json"])


def test_it_is_its_owners_and_says_what_is_in_it(tmp_path: Path) -> None:
    bundle = Bundle(Redaction(["hidden"]))
    bundle.add("x/y.txt", b"a hidden thing", "a thing")
    bundle.lack("z", "nothing answers hidden questions")
    bundle.write(tmp_path / "a.tar.gz", {"created": "now"})
    path = tmp_path / "a.tar.gz"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert read(path)["a/x/y.txt"] == b"a [redacted] thing"
    assert manifest(path) == {
        "created": "now",
        "files": [{"name": "x/y.txt", "what": "a thing", "bytes": 18}],
        "missing": [{"what": "z", "why": "nothing answers [redacted] questions"}],
        "redacted": 2,
    }


def test_what_is_too_long_is_cut_and_what_is_too_much_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundles, "PART_BYTES", 10)
    monkeypatch.setattr(bundles, "TOTAL_BYTES", 25)
    bundle = Bundle(Redaction([]))
    bundle.add("begin", b"0123456789abc", "cut")
    bundle.add("end", b"0123456789abc", "cut", end=True)
    bundle.add("more", b"0123456789", "too much")
    bundle.add("less", b"01234", "fits")
    bundle.write(tmp_path / "a.tgz", {})
    files = read(tmp_path / "a.tgz")
    assert (files["a/begin"], files["a/end"], files["a/less"]) == (
        b"0123456789",
        b"3456789abc",
        b"01234",
    )
    told = manifest(tmp_path / "a.tgz")
    assert [row["what"] for row in told["missing"]] == ["more"]
    assert told["files"][0]["cut_from"] == 13


def test_it_replaces_no_file_and_follows_no_link(tmp_path: Path) -> None:
    target = tmp_path / "target"
    (tmp_path / "a.tar.gz").symlink_to(target)
    with pytest.raises(SettingsError, match="cannot write"):
        Bundle(Redaction([])).write(tmp_path / "a.tar.gz", {})
    assert not target.exists()
    with pytest.raises(SettingsError, match="cannot write"):
        Bundle(Redaction([])).write(tmp_path / "no" / "a.tar.gz", {})

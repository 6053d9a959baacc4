"""The folder in memory of a local cluster: private, kept for the next start, gone once its data dir is."""

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from ringmaster.cli.memory_folder import (
    LEAST_FREE_BYTES,
    SHARED_MEMORY,
    memory_folder,
    remove_abandoned,
)
from ringmaster.cluster.process_lock import FlockLiveness
from ringmaster.errors import SettingsError


@contextmanager
def folder_of(data_dir: Path, *, runs: bool = True) -> Iterator[Path]:
    """The folder of a cluster that `runs` or was stopped; taken away at the end."""
    data_dir.mkdir(exist_ok=True)
    with ExitStack() as running:
        folder = running.enter_context(memory_folder(data_dir))
        if folder is None:
            pytest.skip(f"there is no tmpfs on {SHARED_MEMORY}")
        if not runs:
            running.close()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def test_it_is_private_and_one_for_each_data_dir(tmp_path: Path) -> None:
    with folder_of(tmp_path / "one") as one, folder_of(tmp_path / "two") as two:
        assert one != two
        assert one.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("make", [Path.mkdir, Path.touch, lambda path: path.symlink_to("/tmp")])
def test_one_that_others_can_read_or_that_is_no_folder_is_refused(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    with folder_of(tmp_path) as folder:
        pass
    make(folder)
    if folder.is_dir() and not folder.is_symlink():
        folder.chmod(0o755)
    try:
        with (
            pytest.raises(SettingsError, match="choose another with --lease-dir"),
            memory_folder(tmp_path),
        ):
            pass
    finally:
        folder.rmdir() if make is Path.mkdir else folder.unlink()


def test_there_is_none_without_a_tmpfs(tmp_path: Path) -> None:
    for elsewhere in (tmp_path, tmp_path / "missing"):
        with memory_folder(tmp_path, elsewhere) as folder:
            assert folder is None


def test_it_stays_for_the_next_start_while_there_is_a_data_dir(tmp_path: Path) -> None:
    with folder_of(tmp_path / "stopped", runs=False) as left:
        (left / "locks").mkdir()
        with folder_of(tmp_path / "other"):
            assert left.exists()
        with memory_folder(tmp_path / "stopped") as again:
            assert again == left
            assert (left / "locks").exists()


def test_the_next_start_of_any_cluster_removes_one_whose_data_dir_is_gone(tmp_path: Path) -> None:
    with folder_of(tmp_path / "gone", runs=False) as left:
        FlockLiveness(left / "locks").hold("a").release()
        (tmp_path / "gone").rmdir()
        with folder_of(tmp_path / "other"):
            assert not left.exists()


def test_it_is_not_removed_while_a_process_holds_an_id(tmp_path: Path) -> None:
    with folder_of(tmp_path / "gone", runs=False) as left:
        (tmp_path / "gone").rmdir()
        lock = FlockLiveness(left / "locks").hold("a")
        remove_abandoned(SHARED_MEMORY)
        assert left.exists()
        lock.release()
        remove_abandoned(SHARED_MEMORY)
        assert not left.exists()


def test_it_is_not_removed_while_its_cluster_starts(tmp_path: Path) -> None:
    with folder_of(tmp_path / "one") as folder:
        (tmp_path / "one").rmdir()
        remove_abandoned(SHARED_MEMORY)
        assert folder.exists()


def test_one_that_names_no_data_dir_is_not_removed(tmp_path: Path) -> None:
    with folder_of(tmp_path / "gone", runs=False) as left:
        (tmp_path / "gone").rmdir()
        (left / "data-dir").unlink()
        remove_abandoned(SHARED_MEMORY)
        assert left.exists()


def test_a_memory_without_room_is_done_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ringmaster.cli.memory_folder._free_bytes", lambda _: LEAST_FREE_BYTES - 1)
    with memory_folder(tmp_path) as folder:
        assert folder is None


def test_a_memory_that_is_full_meanwhile_is_done_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(folder: Path, data_dir: Path) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("ringmaster.cli.memory_folder._claim_for", full)
    with memory_folder(tmp_path) as folder:
        assert folder is None

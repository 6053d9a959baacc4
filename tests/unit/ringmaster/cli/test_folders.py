"""The folders of a local cluster."""

import os
from pathlib import Path

import pytest

from ringmaster.cli.folders import (
    SOCKET_PATH_LIMIT,
    private_folder,
    run_folder,
    sole_use,
)
from ringmaster.errors import SettingsError


def test_a_data_dir_is_private_and_used_once(tmp_path: Path) -> None:
    folder = private_folder(tmp_path / "a" / "data")
    assert folder.stat().st_mode & 0o777 == 0o700
    with (
        sole_use(folder),
        pytest.raises(
            SettingsError, match=rf"another `ringmaster up` \(pid {os.getpid()}\) is running on"
        ),
        sole_use(folder),
    ):
        pass
    with sole_use(folder):
        pass


def test_a_data_dir_that_is_a_file_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for wanted in (tmp_path / "file", tmp_path / "file" / "data"):
        with pytest.raises(SettingsError, match=r"/file is a file, a folder is needed"):
            private_folder(wanted)


def test_a_data_dir_that_cannot_be_made_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "missing")
    with pytest.raises(SettingsError, match="/link cannot be used: File exists"):
        private_folder(tmp_path / "link")


def test_sockets_move_to_a_temporary_folder_where_paths_are_too_long(tmp_path: Path) -> None:
    with run_folder(tmp_path, ["a.sock"]) as folder:
        assert folder == tmp_path / "run"
    deep = tmp_path / ("d" * SOCKET_PATH_LIMIT)
    with run_folder(deep, ["a.sock"]) as folder:
        assert len(str(folder / "a.sock")) <= SOCKET_PATH_LIMIT
        assert folder.stat().st_mode & 0o777 == 0o700
    assert not folder.exists()

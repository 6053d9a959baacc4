"""Snapshots in a local folder: durable before they are visible, private, no symbolic link followed."""

import errno
import os
import random
import resource
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ringmaster.errors import SettingsError
from ringmaster.snapshot.directory import LocalDirectory, clusters_in
from ringmaster.snapshot.names import BundleName, ManifestName, Version1Name
from tests.fakes.snapshot_node import SnapshotNode, next_node, started

CLUSTER = "ab" * 16
NAME = BundleName("inc1", 3)


@pytest.fixture
def store(tmp_path: Path) -> LocalDirectory:
    return LocalDirectory(tmp_path / "snapshots", CLUSTER)


def write(store: LocalDirectory, name: BundleName = NAME, content: bytes = b"content") -> None:
    draft = store.begin(name)
    draft.append([content[:3], b"", content[3:]])
    store.publish([draft])


def read(store: LocalDirectory, name: BundleName = NAME) -> bytes:
    with store.open(name) as stream:
        return stream.read()


def test_a_file_is_visible_once_it_is_published_and_not_before(store: LocalDirectory) -> None:
    assert store.files() == []
    draft = store.begin(NAME)
    draft.append([b"12345"])
    assert store.files() == []
    store.publish([draft])
    assert [(file.name, file.size) for file in store.files()] == [(NAME, 5)]
    assert read(store) == b"12345"


def test_files_and_folders_are_for_their_owner_only(store: LocalDirectory) -> None:
    old = os.umask(0)
    try:
        write(store)
    finally:
        os.umask(old)
    folder = Path(store.location)
    assert stat.S_IMODE((folder / str(NAME)).stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_two_clusters_in_one_folder_do_not_see_each_other(tmp_path: Path) -> None:
    one, other = LocalDirectory(tmp_path, "ab" * 16), LocalDirectory(tmp_path, "cd" * 16)
    write(one)
    write(other, NAME._replace(number=9))
    assert [file.name for file in one.files()] == [NAME]
    assert [file.name for file in other.files()] == [NAME._replace(number=9)]
    assert clusters_in(tmp_path) == ["ab" * 16, "cd" * 16]


def test_no_symbolic_link_is_followed(tmp_path: Path, store: LocalDirectory) -> None:
    write(store)
    folder = Path(store.location)
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    linked = NAME._replace(number=4)
    (folder / str(linked)).symlink_to(victim)
    (folder / linked.draft).symlink_to(victim)
    assert [file.name for file in store.files()] == [NAME]
    with pytest.raises(OSError, match=r"symbolic|loop|Too many"):
        store.open(linked)
    write(store, linked, b"new")
    assert victim.read_bytes() == b"precious"
    assert read(store, linked) == b"new"


def test_a_cluster_folder_that_is_a_symbolic_link_is_refused(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / CLUSTER).symlink_to(elsewhere)
    store = LocalDirectory(tmp_path, CLUSTER)
    with pytest.raises(OSError, match=r"Not a directory|symbolic"):
        store.begin(NAME)
    assert list(elsewhere.iterdir()) == []


def test_only_regular_files_are_read(store: LocalDirectory) -> None:
    write(store)
    pipe = NAME._replace(number=5)
    os.mkfifo(Path(store.location) / str(pipe))
    assert [file.name for file in store.files()] == [NAME]
    with pytest.raises(OSError, match="not a regular file"):
        store.open(pipe)


def test_a_cluster_id_that_is_a_path_is_refused(tmp_path: Path) -> None:
    for text in ("..", "../" * 10, "", "A" * 32):
        with pytest.raises(SettingsError):
            LocalDirectory(tmp_path, text)


def test_only_drafts_of_dead_incarnations_are_swept(store: LocalDirectory) -> None:
    mine, theirs = store.begin(NAME), store.begin(NAME._replace(incarnation="gone"))
    mine.append([b"x"])
    theirs.append([b"x"])
    theirs.close()
    assert store.sweep({"inc1"}) == 1
    store.publish([mine])
    assert read(store) == b"x"
    assert [path.name for path in Path(store.location).iterdir()] == [str(NAME)]


def test_a_discarded_draft_leaves_no_file(store: LocalDirectory) -> None:
    draft = store.begin(NAME)
    draft.append([b"x"])
    draft.discard()
    draft.discard()
    assert list(Path(store.location).iterdir()) == []


def test_files_are_deleted_and_missing_ones_ignored(store: LocalDirectory) -> None:
    write(store)
    store.delete([NAME, NAME._replace(number=77)])
    assert store.files() == []


def test_many_chunks_are_written_in_order(store: LocalDirectory) -> None:
    chunks = [os.urandom(1000) for _ in range(3000)]
    draft = store.begin(NAME)
    draft.append(chunks)
    store.publish([draft])
    assert read(store) == b"".join(chunks)


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    assert threading.current_thread() is threading.main_thread()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)


def test_without_space_the_error_is_raised_and_no_file_appears(
    store: LocalDirectory,
) -> None:
    write(store)
    draft = store.begin(NAME._replace(number=4))
    with file_size_limit(100_000), pytest.raises(OSError, match="too large"):
        draft.append([bytes(60_000), bytes(60_000)])
    draft.discard()
    assert [file.name for file in store.files()] == [NAME]
    assert len(list(Path(store.location).iterdir())) == 1


def test_a_manifest_is_replaced_and_files_of_version_1_are_listed(store: LocalDirectory) -> None:
    name = ManifestName("inc1")
    for content in (b"1", b"22"):
        draft = store.begin(name)
        draft.append([content])
        store.publish([draft])
    old = "p00004-t2-s3-inc1.snap"
    (Path(store.location) / old).write_bytes(b"x")
    (Path(store.location) / "something else").write_bytes(b"x")
    assert sorted((str(file.name), file.size) for file in store.files()) == [
        (str(name), 2),
        (old, 1),
    ]
    assert Version1Name(old, 4, 2) in [file.name for file in store.files()]
    with store.open(name) as stream:
        assert stream.read() == b"22"


def names_in(store: LocalDirectory) -> set[str]:
    """The names of all files in the folder, drafts included."""
    return {path.name for path in Path(store.location).iterdir()}


async def written_to(store: LocalDirectory) -> SnapshotNode:
    """A node that has written one key of each partition to `store`."""
    world = await started(store)
    for number in range(4):
        world.put(number, b"a")
    assert await world.cycle()
    return world


async def test_a_full_disk_costs_a_node_its_snapshot_and_leaves_no_draft(
    store: LocalDirectory,
) -> None:
    world = await written_to(store)
    before = {file.name for file in store.files()}
    world.put(2, b"b", random.Random(1).randbytes(300_000))
    with file_size_limit(100_000):
        assert not await world.cycle()
    assert "too large" in world.service.problems()[0]
    assert world.service.writer.pipeline.failures == 1
    assert names_in(store) == set(map(str, before))
    assert await world.service.writer.write_due()
    assert world.service.problems() == []
    assert len(store.files()) == len(before) + 1


async def test_an_fsync_that_fails_costs_a_node_its_snapshot_and_leaves_no_draft(
    store: LocalDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = await written_to(store)
    before = names_in(store)
    world.put(2, b"b")

    def fail(_descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fail)
        assert not await world.cycle()
    assert "Input/output error" in world.service.problems()[0]
    assert names_in(store) == before
    assert await world.service.writer.write_due()
    again = await next_node(store)
    assert list(again.data(2)) == [b"a", b"b"]
    assert again.service.problems() == []


async def test_a_round_costs_two_syncs_for_the_bundle_and_two_for_the_manifest(
    store: LocalDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = await written_to(store)
    synced = 0
    fsync = os.fsync

    def count(descriptor: int) -> None:
        nonlocal synced
        synced += 1
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", count)
    for number in range(4):
        world.put(number, b"b")
    assert await world.cycle()
    assert synced == 4


_AS_NOBODY = """
import os, sys
from pathlib import Path
from ringmaster.snapshot.directory import LocalDirectory
from ringmaster.snapshot.names import BundleName
folder, cluster = sys.argv[1:]
os.chdir("/")
inner = os.open(folder, os.O_RDONLY)
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
store = LocalDirectory(Path(f"/proc/self/fd/{inner}"), cluster)
assert len(store.files()) == 1
try:
    store.begin(BundleName("inc1", 4))
except PermissionError:
    print("refused")
"""


def test_a_read_only_folder_is_an_error(store: LocalDirectory) -> None:
    """In a process without privileges: root may write into read-only folders."""
    write(store)
    folder = Path(store.location)
    folder.chmod(0o500)
    if os.geteuid() == 0:
        os.chown(folder, 65534, 65534)
        os.chown(folder.parent, 65534, 65534)
    try:
        done = subprocess.run(
            [sys.executable, "-c", _AS_NOBODY, str(folder.parent), CLUSTER],
            capture_output=True, text=True, timeout=30, check=False,
        )  # fmt: skip
    finally:
        folder.chmod(0o700)
    assert done.stdout == "refused\n", done.stderr
    assert [file.name for file in store.files()] == [NAME]

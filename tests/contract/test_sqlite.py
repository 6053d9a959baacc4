"""The sqlite engine against real files, other processes, a full disk, damage and other kernels."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from pathlib import Path

import pytest

from ringmaster.coordinator import Commit, database, file_watch
from ringmaster.coordinator.database import Database
from ringmaster.coordinator.host import Host, this_host
from ringmaster.coordinator.sqlite import SqliteCoordinator
from ringmaster.errors import CoordinatorUnavailable, ForeignHost
from tests.e2e.waiting import until

Opener = Callable[..., SqliteCoordinator]

# Takes the write lock of a database, says so, and holds it until its input ends.
HOLD_LOCK = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
sys.stdin.read()
connection.execute("ROLLBACK")
"""

# Counts a key up by conditional commits, from a process of its own.
COUNT = """
import asyncio, sys
from pathlib import Path
from ringmaster.coordinator import Commit
from ringmaster.coordinator.sqlite import SqliteCoordinator

async def count(key, steps):
    coordinator = SqliteCoordinator(Path(sys.argv[1]))
    while steps:
        record = (await coordinator.read(key)).get(key)
        value, version = (0, 0) if record is None else (int(record.value), record.version)
        if await coordinator.commit(Commit({key: version}, {key: b"%d" % (value + 1)})) is not None:
            steps -= 1
    await coordinator.close()

asyncio.run(count(sys.argv[2], int(sys.argv[3])))
"""


@pytest.fixture
async def opener(tmp_path: Path) -> AsyncIterator[Opener]:
    """Coordinators on one directory; `host` pretends to be another kernel."""
    opened: list[SqliteCoordinator] = []

    def open_one(leases: str = "leases", host: Host | None = None) -> SqliteCoordinator:
        opened.append(SqliteCoordinator(tmp_path / "shared", tmp_path / leases, host))
        return opened[-1]

    yield open_one
    for each in opened:
        await each.close()


def main_file(tmp_path: Path) -> Path:
    return tmp_path / "shared" / "coordinator.sqlite"


def lease_file(tmp_path: Path) -> Path:
    [path] = (tmp_path / "leases").glob("leases-*.sqlite")
    return path


def files_below(path: Path) -> list[Path]:
    return [each for each in path.rglob("*") if each.is_file()]


async def put(
    coordinator: SqliteCoordinator, key: str, value: bytes = b"x", expect: int = 0
) -> int:
    versions = await coordinator.commit(Commit({key: expect}, {key: value}))
    assert versions is not None
    return versions[key]


class Locked:
    """Another process that holds a file's write lock while the block runs."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def __aenter__(self) -> None:
        pipe = asyncio.subprocess.PIPE
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", HOLD_LOCK, str(self._path), stdin=pipe, stdout=pipe
        )
        assert self._process.stdout is not None
        assert await asyncio.wait_for(self._process.stdout.readline(), 20) == b"locked\n"

    async def __aexit__(self, *_: object) -> None:
        await asyncio.wait_for(self._process.communicate(b""), 20)


@pytest.mark.parametrize("key", ["counter", "lease/counter"])
async def test_processes_that_contend_lose_no_commit(
    opener: Opener, tmp_path: Path, key: str
) -> None:
    coordinator = opener(leases="shared")
    await put(coordinator, key, b"0")
    command = [sys.executable, "-c", COUNT, str(tmp_path / "shared"), key, "100"]
    processes = [await asyncio.create_subprocess_exec(*command) for _ in range(2)]
    async with asyncio.timeout(60):
        assert [await process.wait() for process in processes] == [0, 0]
    assert (await coordinator.read(key))[key].value == b"200"


async def test_a_change_by_another_process_is_noticed(opener: Opener, tmp_path: Path) -> None:
    coordinator = opener(leases="shared")
    version = await put(coordinator, "view", b"0")
    waiting = asyncio.create_task(coordinator.changed("view", version, 30.0))
    command = [sys.executable, "-c", COUNT, str(tmp_path / "shared"), "view", "1"]
    process = await asyncio.create_subprocess_exec(*command)
    record = await waiting
    assert record is not None
    assert record.value == b"1"
    assert await asyncio.wait_for(process.wait(), 20) == 0


async def test_a_lock_held_for_a_second_delays_a_commit_and_nothing_else(
    opener: Opener, tmp_path: Path
) -> None:
    coordinator = opener()
    view, lease = await put(coordinator, "view"), await put(coordinator, "lease/n1")
    async with Locked(main_file(tmp_path)):
        commit = asyncio.create_task(
            coordinator.commit(Commit({"view": view}, {"view": b"y"}), 10.0)
        )
        loop = asyncio.get_running_loop()
        until, slowest = loop.time() + 1.0, 0.0
        while loop.time() < until:
            began = loop.time()
            lease = await put(coordinator, "lease/n1", b"renewed", lease)
            await coordinator.read("view")
            slowest = max(slowest, loop.time() - began)
            await asyncio.sleep(0.02)
        assert not commit.done()
        assert slowest < 0.5
    assert await commit is not None


async def test_a_lock_held_longer_than_the_timeout_makes_the_commit_fail_and_never_apply(
    opener: Opener, tmp_path: Path
) -> None:
    coordinator = opener()
    view = await put(coordinator, "view", b"old")
    async with Locked(main_file(tmp_path)):
        with pytest.raises(CoordinatorUnavailable, match=r"did not answer within 0\.2 s"):
            await coordinator.commit(Commit(put={"view": b"new"}), 0.2)
        await coordinator.read("view")  # the thread has turned to something else
    assert (await coordinator.read("view"))["view"].value == b"old"
    assert await put(coordinator, "view", b"newer", view) > view


async def test_calls_that_pile_up_behind_a_stall_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.sqlite"
    database.create(path)
    disk_answers = threading.Event()

    def locate() -> Path:
        assert disk_answers.wait(10.0)
        return path

    stalled = Database(locate, "the database", "FULL")
    calls = [asyncio.create_task(stalled.read("", 5.0)) for _ in range(300)]
    await until(lambda: any(call.done() for call in calls), "some are refused")
    disk_answers.set()
    results = await asyncio.gather(*calls, return_exceptions=True)
    refused = [result for result in results if isinstance(result, CoordinatorUnavailable)]
    assert 0 < len(refused) < 300
    assert "stalled" in str(refused[0])
    assert all(result == {} for result in results if result not in refused)
    await stalled.close()


async def test_a_full_disk_is_a_clear_error_that_passes(
    opener: Opener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    coordinator = opener()
    view = await put(coordinator, "view", b"old")
    open_database = database._open

    def open_full(path: Path) -> sqlite3.Connection:
        connection = open_database(path)
        connection.execute("PRAGMA max_page_count = 1")  # SQLite's own way to run out of space
        return connection

    with monkeypatch.context() as patched:
        patched.setattr(database, "_open", open_full)
        full = opener()
        with pytest.raises(CoordinatorUnavailable, match="the disk is full"):
            await full.commit(Commit({"view": view}, {"view": b"n" * 1_000_000}))
        assert (await full.read("view"))["view"].value == b"old"
    record = await coordinator.changed("view", 0, 1.0)
    assert record is not None
    assert record.version == view
    await coordinator.commit(Commit({"view": view}, {"view": b"n" * 1_000_000}))
    assert len((await full.read("view"))["view"].value) == 1_000_000


async def test_a_file_replaced_by_garbage_is_unavailable_until_it_is_back(
    opener: Opener, tmp_path: Path
) -> None:
    coordinator = opener()
    view, lease = await put(coordinator, "view", b"precious"), await put(coordinator, "lease/n1")
    waiting = asyncio.create_task(coordinator.changed("view", view, 20.0))
    await coordinator.read("view")
    path = main_file(tmp_path)
    aside, garbage = path.with_name("aside"), path.with_name("garbage")
    garbage.write_bytes(os.urandom(20_000))
    # In one step: a poll that found the file missing, or empty, would have the waiting call raise another error.
    aside.hardlink_to(path)
    garbage.replace(path)
    for _ in range(2):
        with pytest.raises(
            CoordinatorUnavailable,
            match=r"coordinator\.sqlite cannot be used: the file is not a data",
        ):
            await coordinator.commit(Commit({"view": view}, {"view": b"lost"}))
    with pytest.raises(CoordinatorUnavailable, match="not a database"):
        await waiting
    await put(coordinator, "lease/n1", b"renewed meanwhile", lease)
    aside.replace(path)
    assert (await coordinator.read("view"))["view"].value == b"precious"
    assert await put(coordinator, "view", b"again", view) > view


@pytest.mark.parametrize("content", [b"", None])
async def test_a_file_that_is_emptied_or_gone_is_not_begun_anew(
    opener: Opener, tmp_path: Path, content: bytes | None
) -> None:
    coordinator = opener()
    await put(coordinator, "lease/n1")
    await put(coordinator, "view")
    for path, key in ((main_file(tmp_path), "view"), (lease_file(tmp_path), "lease/n1")):
        aside = path.with_name("aside")
        path.rename(aside)
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(CoordinatorUnavailable, match=str(path)):
            await coordinator.read(key)
        with pytest.raises(CoordinatorUnavailable, match=str(path)):
            await opener().read(key)
        aside.replace(path)
        assert key in await coordinator.read(key)


async def test_a_directory_that_cannot_be_made_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    coordinator = SqliteCoordinator(tmp_path / "file" / "shared")
    with pytest.raises(CoordinatorUnavailable, match="Not a directory"):
        await coordinator.read("view")
    await coordinator.close()


async def test_files_are_for_their_owner_alone(opener: Opener, tmp_path: Path) -> None:
    coordinator = opener()
    await put(coordinator, "view")
    await put(coordinator, "lease/n1")
    files = files_below(tmp_path)
    assert len(files) >= 5
    assert {path.stat().st_mode & 0o077 for path in files} == {0}


async def test_waiting_for_changes_costs_almost_no_processor_time(opener: Opener) -> None:
    coordinator = opener()
    view, lease = await put(coordinator, "view"), await put(coordinator, "lease/n1")
    began, used = time.monotonic(), time.process_time()
    await asyncio.gather(
        coordinator.changed("view", view, 1.5), coordinator.changed("lease/n1", lease, 1.5)
    )
    share = (time.process_time() - used) / (time.monotonic() - began)
    # Measured on a busy 2-core machine: 0.13 % of a core for one file. The bound is loose.
    assert share < 0.03


@pytest.mark.parametrize("can_watch", [False, True])
async def test_a_change_is_noticed_even_if_its_write_is_not_reported(
    opener: Opener, monkeypatch: pytest.MonkeyPatch, *, can_watch: bool
) -> None:
    watched: list[str] = []

    def watch(_: file_watch.FileWatch, path: str) -> bool:
        watched.append(path)
        return can_watch

    # The real inotify can neither be made to reach its limit nor to lose events. Without reports, both look like this.
    monkeypatch.setattr(file_watch.FileWatch, "watch", watch)
    one, two = opener(), opener()
    version = await put(one, "view", b"0")
    waiting = asyncio.create_task(two.changed("view", version, 10.0))
    await until(lambda: watched, "the log is watched")
    # Waiting begins with a burst of polls; that must be over.
    await asyncio.sleep(file_watch.BURST_S + file_watch.SYNC_POLL_S)
    await put(one, "view", b"1", version)
    async with asyncio.timeout(5.0):
        record = await waiting
    assert record is not None
    assert record.value == b"1"


async def test_a_closed_coordinator_says_so_and_leaves_no_thread(opener: Opener) -> None:
    coordinator = opener()
    await put(coordinator, "view")
    await coordinator.close()
    await coordinator.close()
    with pytest.raises(CoordinatorUnavailable, match="closed"):
        await coordinator.read("view")


# Who may use the files


def elsewhere(
    boot_id: str = "boot b", machine_id: str = "machine b", *, local: bool = True
) -> Host:
    return Host(boot_id, machine_id, lambda _: local)


async def test_containers_under_one_kernel_share_the_files(opener: Opener) -> None:
    one, two = (
        opener(host=elsewhere(machine_id="c1")),
        opener(host=elsewhere(machine_id="c2", local=False)),
    )
    version = await put(one, "view")
    assert (await two.read("view"))["view"].version == version


@pytest.mark.parametrize("machine_id", ["machine a", "machine b"])
async def test_another_kernel_is_refused_while_a_user_lives(
    opener: Opener, machine_id: str
) -> None:
    one = opener(host=elsewhere("boot a", "machine a"))
    await put(one, "view")
    two = opener(host=elsewhere("boot b", machine_id))
    with pytest.raises(ForeignHost, match="use etcd for several"):
        await two.read("view")
    with pytest.raises(ForeignHost):
        await two.changed("lease/n1", 0, 5.0)
    assert "view" in await one.read("view")


@pytest.mark.parametrize(
    "after",
    [
        elsewhere("boot b", "machine a", local=False),
        elsewhere("boot b", "new container", local=True),
    ],
    ids=["same machine", "local file system"],
)
async def test_after_a_reboot_the_view_stands_and_leases_are_void(
    opener: Opener, tmp_path: Path, after: Host
) -> None:
    before = opener(host=elsewhere("boot a", "machine a", local=False))
    view = await put(before, "view", b"lasting")
    await put(before, "lease/n1")
    old = lease_file(tmp_path)
    await before.close()
    again = opener(host=after)
    assert (await again.read("view"))["view"].version == view
    assert await again.read("lease/") == {}
    assert not old.exists()


async def test_another_machine_on_a_network_file_system_is_refused_even_if_nobody_seems_to_live(
    opener: Opener, tmp_path: Path
) -> None:
    one = opener(host=elsewhere("boot a", "machine a", local=False))
    await put(one, "view")
    await one.close()
    two = opener(host=elsewhere("boot b", "machine b", local=False))
    with pytest.raises(ForeignHost, match="another machine"):
        await two.read("view")
    (tmp_path / "shared" / "host.json").unlink()  # the operator's word that the other is gone
    assert "view" in await two.read("view")


async def test_after_a_clean_or_unclean_end_of_all_processes_leases_of_the_same_boot_stand(
    opener: Opener,
) -> None:
    one = opener()
    version = await put(one, "lease/n1")
    await one.close()
    assert (await opener().read("lease/n1"))["lease/n1"].version == version


async def test_a_damaged_lease_database_is_replaced_by_the_first_process_of_a_new_start(
    opener: Opener, tmp_path: Path
) -> None:
    one = opener()
    await put(one, "lease/n1")
    await one.close()
    lease_file(tmp_path).write_bytes(b"garbage" * 1000)
    assert await opener().read("lease/") == {}


async def test_processes_with_different_lease_directories_do_not_work_past_each_other(
    opener: Opener,
) -> None:
    await put(opener(), "lease/n1")
    with pytest.raises(CoordinatorUnavailable, match="another lease directory"):
        await opener(leases="elsewhere").read("lease/")


async def test_many_processes_that_start_at_once_agree_on_the_files(tmp_path: Path) -> None:
    command = [sys.executable, "-c", COUNT, str(tmp_path / "shared"), "lease/n1", "5"]
    processes = [
        await asyncio.create_subprocess_exec(*command, stderr=subprocess.PIPE) for _ in range(4)
    ]
    async with asyncio.timeout(60):
        for process in processes:
            _, errors = await process.communicate()
            assert process.returncode == 0, errors.decode()
    assert len(list((tmp_path / "shared").glob("leases-*.sqlite"))) == 1


def test_the_host_of_this_process_is_known(tmp_path: Path) -> None:
    host = this_host()
    assert len(host.boot_id) == 36
    assert host.machine_id
    assert host.is_local(Path("/dev/shm"))
    assert not host.is_local(Path("/proc"))


def test_a_new_database_is_whole_or_not_there(tmp_path: Path) -> None:
    path = tmp_path / "new" / "x.sqlite"
    (tmp_path / "new").mkdir()
    path.with_name("x.sqlite.tmp").write_bytes(b"left by a crash")
    database.create(path)
    assert database.is_usable(path)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert sorted(each.name for each in path.parent.iterdir()) == ["x.sqlite"]

"""The etcd engine against members that die, hang, want a password or speak TLS."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ringmaster.coordinator import Commit, Coordinator
from ringmaster.coordinator.engines import open_coordinator
from ringmaster.coordinator.etcd import EtcdCoordinator, EtcdOptions
from ringmaster.coordinator.sqlite import SqliteCoordinator
from ringmaster.errors import CoordinatorUnavailable, SettingsError
from ringmaster.net.free_ports import free_ports
from tests.contract.etcd_server import EtcdCluster, EtcdMember
from tests.contract.watching import waits

Opener = Callable[..., Coordinator]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., EtcdCluster]]:
    clusters: list[EtcdCluster] = []

    def start_one(**options: Any) -> EtcdCluster:
        clusters.append(EtcdCluster(tmp_path, **options))
        clusters[-1].start()
        return clusters[-1]

    yield start_one
    for cluster in clusters:
        cluster.stop()


@pytest.fixture
async def opener() -> AsyncIterator[Opener]:
    opened: list[Coordinator] = []

    def open_one(members: list[EtcdMember], options: EtcdOptions | None = None) -> Coordinator:
        opened.append(EtcdCoordinator([member.url for member in members], options or EtcdOptions()))
        return opened[-1]

    yield open_one
    for each in opened:
        await each.close()


async def put(coordinator: Coordinator, key: str, value: bytes, within_s: float = 2.0) -> int:
    versions = await coordinator.commit(Commit(put={key: value}), within_s)
    assert versions is not None
    return versions[key]


async def put_at_last(coordinator: Coordinator, key: str, value: bytes) -> int:
    """A put that may be repeated, until it succeeds."""
    async with asyncio.timeout(20):
        while True:
            try:
                return await put(coordinator, key, value, 1.0)
            except CoordinatorUnavailable:
                await asyncio.sleep(0.05)


async def test_when_the_leader_is_killed_nothing_is_lost_and_work_goes_on(
    start: Callable[..., EtcdCluster], opener: Opener
) -> None:
    cluster = start(size=3)
    leader = cluster.leader()
    # The leader is the first that both clients ask.
    members = sorted(cluster.members, key=lambda member: member is not leader)
    writer, watcher = opener(members), opener(members)
    before = await put(writer, "view", b"before")
    watching = asyncio.create_task(watcher.changed("view", before, 30.0))
    await waits(watching)
    leader.kill()
    after = await put_at_last(writer, "view", b"after")
    assert after > before
    record = await watching
    assert record is not None
    assert record.value == b"after"
    leader.start()
    async with asyncio.timeout(20):
        assert (await opener([leader]).read("view", 15.0))["view"].value == b"after"


async def test_a_commit_whose_reply_was_lost_is_never_reported_as_refused(
    start: Callable[..., EtcdCluster], opener: Opener
) -> None:
    cluster = start(size=3)
    coordinator = opener(cluster.members)
    version = await put(coordinator, "lease/n1", b"0")
    cluster.leader().kill()
    number, unknown = 0, 0
    async with asyncio.timeout(20):
        while number < 5:
            commit = Commit({"lease/n1": version}, {"lease/n1": b"%d" % (number + 1)})
            try:
                versions = await coordinator.commit(commit, 0.3)
            except CoordinatorUnavailable:
                unknown += 1
                record = (await coordinator.read("lease/n1", 10.0))["lease/n1"]
                number, version = int(record.value), record.version
                continue
            if (
                versions is None
            ):  # only a commit of ours that was reported as unknown can have come before
                assert unknown
                record = (await coordinator.read("lease/n1", 10.0))["lease/n1"]
                assert int(record.value) == number + 1
                version = record.version
            else:
                version = versions["lease/n1"]
            number += 1
    assert int((await coordinator.read("lease/n1"))["lease/n1"].value) == 5


async def test_a_member_that_hangs_delays_a_read_but_does_not_fail_it(
    start: Callable[..., EtcdCluster], opener: Opener
) -> None:
    cluster = start(size=3)
    leader = cluster.leader()
    hung = next(member for member in cluster.members if member is not leader)
    await put_at_last(opener([leader]), "view", b"v")
    hung.pause()
    coordinator = opener(sorted(cluster.members, key=lambda member: member is not hung))
    try:
        # Half of the time is the hung member's, the rest is for another.
        assert (await coordinator.read("view", 4.0))["view"].value == b"v"
        # A write goes to one member only, so each would fail that the hung one was asked for.
        for _ in range(5):
            await put(coordinator, "view", b"w")
    finally:
        hung.resume()


async def test_a_member_that_is_not_there_is_passed_over(
    start: Callable[..., EtcdCluster], opener: Opener
) -> None:
    [member] = start().members
    [port] = free_ports(1)
    nobody = EtcdMember("nobody", f"http://127.0.0.1:{port}", [])
    coordinator = opener([nobody, member])
    assert await put(coordinator, "view", b"v")
    assert (await coordinator.read("view"))["view"].value == b"v"


async def test_without_any_member_every_call_says_so_in_time(opener: Opener) -> None:
    [port] = free_ports(1)
    coordinator = opener([EtcdMember("nobody", f"http://127.0.0.1:{port}", [])])
    loop = asyncio.get_running_loop()
    began = loop.time()
    with pytest.raises(CoordinatorUnavailable, match=str(port)):
        await coordinator.read("view", 0.3)
    with pytest.raises(CoordinatorUnavailable, match=str(port)):
        await coordinator.commit(Commit(put={"view": b"v"}), 0.3)
    with pytest.raises(CoordinatorUnavailable, match=str(port)):
        await coordinator.changed("view", 0, 0.3)
    assert loop.time() - began < 3.0


async def test_a_member_that_starts_late_is_found(
    start: Callable[..., EtcdCluster], opener: Opener
) -> None:
    [member] = start().members
    coordinator = opener([member])
    await put(coordinator, "view", b"v")
    member.kill()
    with pytest.raises(CoordinatorUnavailable):
        await coordinator.read("view", 0.2)
    member.start()
    assert (await coordinator.read("view", 20.0))["view"].value == b"v"


async def test_clusters_with_different_names_do_not_see_each_other(
    start: Callable[..., EtcdCluster], opener: Opener
) -> None:
    members = start().members
    one, two = (
        opener(members, EtcdOptions(cluster="one")),
        opener(members, EtcdOptions(cluster="two")),
    )
    await put(one, "view", b"v")
    assert await two.read("") == {}
    assert set(await one.read("")) == {"view"}


async def test_user_and_password_are_sent_and_an_expired_token_is_renewed(
    start: Callable[..., EtcdCluster], opener: Opener
) -> None:
    cluster = start()
    [member] = cluster.members
    for path, request in (
        ("user/add", {"name": "root", "password": "pw"}),
        ("role/add", {"name": "root"}),
        ("user/grant", {"user": "root", "role": "root"}),
        ("enable", {}),
    ):
        member.post(f"/v3/auth/{path}", request)
    with pytest.raises(CoordinatorUnavailable, match="user name"):
        await opener([member]).read("view", 0.3)
    with pytest.raises(CoordinatorUnavailable, match="authentication failed"):
        await opener([member], EtcdOptions(user="root", password="no")).read("view", 2.0)
    coordinator = opener([member], EtcdOptions(user="root", password="pw"))
    version = await put(coordinator, "view", b"v")
    member.kill()  # tokens live in the member's memory
    member.start()
    cluster.wait(
        lambda: bool(member.post("/v3/auth/authenticate", {"name": "root", "password": "pw"}))
    )
    newer = await put_at_last(coordinator, "view", b"w")
    assert newer > version
    waiting = asyncio.create_task(coordinator.changed("view", newer, 10.0))
    await waits(waiting)
    await put(coordinator, "view", b"x")
    record = await waiting
    assert record is not None
    assert record.value == b"x"


@pytest.mark.parametrize(
    ("url", "options", "expected"),
    [
        ("etcd://a:1,b", EtcdOptions(), "http://a:1,http://b:2379"),
        ("etcds://[::1]:5/", EtcdOptions(), "https://[::1]:5"),
    ],
)
def test_an_etcd_url_names_its_members(url: str, options: EtcdOptions, expected: str) -> None:
    assert f"<EtcdCoordinator {expected} /ringmaster/default/>" == repr(
        open_coordinator(url, Path(), None, options)
    )


def test_a_sqlite_url_names_its_directory(tmp_path: Path) -> None:
    for url, directory in (("sqlite", tmp_path), ("sqlite:/somewhere", Path("/somewhere"))):
        coordinator = open_coordinator(url, tmp_path)
        assert isinstance(coordinator, SqliteCoordinator)
        assert repr(coordinator) == f"<SqliteCoordinator {directory}/coordinator.sqlite>"


@pytest.mark.parametrize(
    "url", ["", "sqlite:", "redis://a", "etcd://", "etcd://a:x", "etcd://u:p@a:1", "etcd://a/b"]
)
def test_other_urls_are_refused_with_a_reason(url: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="coordinator"):
        open_coordinator(url, tmp_path)


def test_a_password_is_in_no_repr() -> None:
    options = EtcdOptions(user="u", password="secret")
    assert "secret" not in repr(options)
    assert "secret" not in repr(EtcdCoordinator(["http://a:1"], options))


async def test_a_member_says_its_version(start: Callable[..., EtcdCluster], opener: Opener) -> None:
    coordinator = opener(start().members)
    assert isinstance(coordinator, EtcdCoordinator)
    major, minor, _ = (await coordinator.server_version(10.0)).split(".", 2)
    assert (int(major), int(minor)) >= (3, 4)

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
import pytest
from structlog.testing import capture_logs

from ringmaster.cluster.view import View, encode_view, first_view
from ringmaster.cluster.view_follower import VIEW_KEY, ViewCounts, ViewFollower
from ringmaster.errors import UnknownView
from tests.fakes.coordinator import MemoryCoordinator
from tests.fakes.virtual_time import in_virtual_time

CLUSTER = "c" * 32


def view_of(epoch: int, cluster: str = CLUSTER) -> View:
    return View(cluster=cluster, epoch=epoch, replicas=2, table=first_view(cluster, 4, 2).table)


class Following:
    """A follower and what it was told."""

    def __init__(self) -> None:
        self.store = MemoryCoordinator()
        self.epochs: list[int] = []
        self.follower = ViewFollower(
            self.store, CLUSTER, lambda view: self.epochs.append(view.epoch)
        )

    def publish(self, epoch: int, cluster: str = CLUSTER) -> int:
        return self.store.put(VIEW_KEY, encode_view(view_of(epoch, cluster)))

    @contextmanager
    def running(self) -> Iterator[asyncio.Task[None]]:
        task = asyncio.get_running_loop().create_task(self.follower.run())
        try:
            yield task
        finally:
            task.cancel()


@in_virtual_time
async def test_each_newer_view_is_told_once_in_order() -> None:
    following = Following()
    following.publish(1)
    with following.running():
        await asyncio.sleep(0.1)
        for epoch in (2, 3):
            version = following.publish(epoch)
            await asyncio.sleep(0.1)
        await asyncio.sleep(30)
    assert following.epochs == [1, 2, 3]
    assert (following.follower.epoch, following.follower.version) == (3, version)


@in_virtual_time
async def test_waiting_for_the_first_view_goes_on_for_ever() -> None:
    following = Following()
    with following.running():
        await asyncio.sleep(600)
        assert following.follower.view is None
        assert following.follower.epoch == -1
        following.publish(0)
        await asyncio.sleep(0.1)
    assert following.epochs == [0]


@in_virtual_time
async def test_a_pushed_view_counts_and_the_same_from_the_coordinator_is_not_told_again() -> None:
    following = Following()
    with following.running():
        assert following.follower.offer(view_of(5))
        assert not following.follower.offer(view_of(5))
        assert not following.follower.offer(view_of(4))
        following.publish(5)
        await asyncio.sleep(0.1)
    assert following.epochs == [5]


@in_virtual_time
async def test_an_unreadable_view_is_reported_and_the_old_one_stays() -> None:
    following = Following()
    following.publish(1)
    with following.running(), capture_logs() as logs:
        await asyncio.sleep(0.1)
        following.store.put(VIEW_KEY, b'{"epoch": "?"}')
        await asyncio.sleep(60)
        assert following.follower.epoch == 1
        assert [log["event"] for log in logs] == ["unreadable view ignored"]
        following.publish(2)
        await asyncio.sleep(0.1)
    assert following.epochs == [1, 2]


@in_virtual_time
async def test_a_view_of_another_cluster_is_ignored() -> None:
    following = Following()
    with following.running():
        following.publish(9, cluster="d" * 32)
        await asyncio.sleep(0.1)
        assert not following.follower.offer(view_of(9, "d" * 32))
    assert following.epochs == []


@in_virtual_time
async def test_an_outage_is_logged_once_and_the_last_view_stays() -> None:
    following = Following()
    following.publish(1)
    with following.running(), capture_logs() as logs:
        await asyncio.sleep(0.1)
        following.store.down = True
        following.store.wake()
        await asyncio.sleep(60)
        assert following.follower.epoch == 1
        assert not following.follower.is_connected
        following.store.down = False
        following.publish(2)
        await asyncio.sleep(1.5)
        assert following.follower.is_connected
    assert following.epochs == [1, 2]
    assert [log["log_level"] for log in logs] == ["warning", "info"]


@in_virtual_time
async def test_a_pushed_view_counts_during_an_outage() -> None:
    following = Following()
    following.store.down = True
    with following.running():
        await asyncio.sleep(1)
        assert following.follower.offer(view_of(3))
    assert following.epochs == [3]


@in_virtual_time
async def test_what_was_heard_by_another_way_is_not_told_again() -> None:
    following = Following()
    known = view_of(2)
    following.follower = ViewFollower(
        following.store,
        CLUSTER,
        lambda view: following.epochs.append(view.epoch),
        lambda: known,
    )
    with following.running():
        for epoch in (2, 3):
            version = following.publish(epoch)
            await asyncio.sleep(0.1)
    assert following.epochs == [3]
    assert following.follower.version == version


@in_virtual_time
async def test_a_view_that_is_pushed_as_well_is_left_to_the_push_for_a_moment() -> None:
    following = Following()
    told: list[View] = []
    following.follower = ViewFollower(
        following.store,
        CLUSTER,
        lambda view: following.epochs.append(view.epoch),
        lambda: told[-1] if told else None,
    )
    loop = asyncio.get_running_loop()
    with following.running():
        await asyncio.sleep(0.1)
        loop.call_later(0.02, told.append, view_of(1))
        following.publish(1)
        await asyncio.sleep(0.2)
        assert following.epochs == []  # the push was faster
        following.publish(2)
        await asyncio.sleep(0.2)
        assert following.epochs == [2]  # none came


class Pushed(Following):
    """A follower beside which steps are taken on: `held` is what it follows."""

    def __init__(self) -> None:
        super().__init__()
        self.held: View | None = None
        self.follower = ViewFollower(self.store, CLUSTER, self.take, held=lambda: self.held)

    def take(self, view: View) -> None:
        self.held = view
        self.epochs.append(view.epoch)

    def step(self, view: View) -> None:
        self.held = view
        self.follower.heard_of(view.epoch)


@in_virtual_time
async def test_a_view_that_is_announced_is_read_at_once() -> None:
    following = Pushed()
    following.publish(1)
    with following.running():
        await asyncio.sleep(1)
        following.publish(2)
        following.follower.heard_of(2)
        await asyncio.sleep(0.01)
        assert following.epochs == [1, 2]
    assert following.follower.counts == ViewCounts()


@in_virtual_time
async def test_an_announced_view_that_the_coordinator_does_not_know_is_refused() -> None:
    following = Pushed()
    following.publish(1)
    with capture_logs() as logs, following.running() as task:
        await asyncio.sleep(1)
        following.follower.heard_of(10**9)
        await asyncio.sleep(1)
        assert following.epochs == [1]
        following.publish(2)
        following.follower.heard_of(2)
        await asyncio.sleep(60)
        assert not task.done()
    assert following.epochs == [1, 2]
    assert following.follower.counts == ViewCounts(refused=1)
    assert [each["epoch"] for each in logs if "refused" in each["event"]] == [10**9]


@in_virtual_time
async def test_steps_that_the_coordinator_has_are_asked_for_only_if_the_watch_is_late() -> None:
    following = Pushed()
    following.publish(1)
    with following.running() as task:
        await asyncio.sleep(1)
        for epoch in range(2, 20):
            following.publish(epoch)
            following.step(view_of(epoch))
            await asyncio.sleep(0.3)
        await asyncio.sleep(60)
        assert not task.done()
    assert following.epochs == [1]
    assert following.follower.counts == ViewCounts()


@in_virtual_time
async def test_a_step_that_the_coordinator_does_not_know_voids_what_is_held() -> None:
    following = Pushed()
    following.publish(1)
    with following.running() as task:
        await asyncio.sleep(1)
        following.step(view_of(2))
        with pytest.raises(UnknownView, match="does not know view 2"):
            await asyncio.wait_for(task, 5)
    assert following.follower.counts == ViewCounts(unknown=1)


@in_virtual_time
async def test_steps_are_doubted_until_the_coordinator_is_back() -> None:
    following = Pushed()
    following.publish(1)
    with following.running() as task:
        await asyncio.sleep(1)
        following.store.down = True
        following.step(view_of(2))
        await asyncio.sleep(30)
        assert not task.done()
        following.store.down = False
        with pytest.raises(UnknownView):
            await asyncio.wait_for(task, 30)


@in_virtual_time
async def test_another_view_of_the_epoch_that_is_held_voids_it() -> None:
    following = Pushed()
    following.publish(1)
    with following.running() as task:
        await asyncio.sleep(1)
        following.step(msgspec.structs.replace(view_of(2), paused=True))
        following.publish(2)
        with pytest.raises(UnknownView):
            await asyncio.wait_for(task, 5)


@in_virtual_time
async def test_the_same_view_in_other_bytes_is_the_same() -> None:
    following = Pushed()
    following.publish(1)
    with following.running() as task:
        await asyncio.sleep(1)
        following.step(view_of(2))
        following.store.put(VIEW_KEY, encode_view(view_of(2)).replace(b":", b": "))
        await asyncio.sleep(60)
        assert not task.done()


@pytest.mark.parametrize("pushed", [False, True])
@in_virtual_time
async def test_a_coordinator_that_was_set_back_is_noticed(pushed: bool) -> None:
    following = Pushed() if pushed else Following()
    following.publish(1)
    backup = dict(following.store.records)
    with following.running() as task:
        await asyncio.sleep(1)
        for epoch in (2, 3):
            following.publish(epoch)
            await asyncio.sleep(1)
        following.store.set_back(backup)
        following.publish(2)
        with pytest.raises(UnknownView):
            await asyncio.wait_for(task, 10)


@in_virtual_time
async def test_a_coordinator_that_was_set_back_and_has_caught_up_is_noticed() -> None:
    """The views that it gave out meanwhile were not seen; its versions are lower."""
    following = Following()
    following.publish(1)
    backup = dict(following.store.records)
    with following.running() as task:
        await asyncio.sleep(1)
        for _ in range(10):
            following.store.put("other", b"")
        following.publish(2)
        await asyncio.sleep(1)
        following.store.set_back(backup)
        following.publish(3)
        with pytest.raises(UnknownView):
            await asyncio.wait_for(task, 10)
    assert following.epochs == [1, 2]


@in_virtual_time
async def test_a_view_published_here_may_be_ahead_of_the_watch() -> None:
    following = Following()
    following.publish(1)
    with following.running() as task:
        await asyncio.sleep(1)
        following.follower.offer(view_of(3))
        following.publish(2)
        await asyncio.sleep(0.5)
        following.publish(3)
        await asyncio.sleep(60)
        assert not task.done()
    assert following.epochs == [1, 3]

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec

from master.control.failure_detector import (
    REPORT_AGAIN_S,
    Prober,
    Reach,
    cut_off_since,
    refusals,
    unreachable_by_most,
)
from master.control.planning.observation import LeaseSeen, StatusSeen
from ringmaster.cluster.lease import LeaseRow
from ringmaster.cluster.node_status import NodeStatus
from ringmaster.cluster.view import Filling, NodeInfo, Partition, View
from ringmaster.errors import DeadlineExceeded, LinkBroken
from ringmaster.runtime.cluster_clock import ClusterClock
from tests.fakes.cluster import FakeClock
from tests.fakes.virtual_time import LoopClock, in_virtual_time
from tests.unit.fake_wire import until


def view_of(*nodes: str, epoch: int = 5) -> View:
    infos = {n: NodeInfo(id=n, incarnation=f"{n}-1", address=n) for n in nodes}
    return View(cluster="c" * 32, epoch=epoch, replicas=1, table=(), nodes=infos)


def status(node: str, epoch: int = 5, incarnation: str = "") -> NodeStatus:
    return NodeStatus(
        id=node, incarnation=incarnation or f"{node}-1", epoch=epoch, lease_left_s=1.0
    )


class FakeLink:
    """Answers with a status, or hangs until released."""

    def __init__(self, reply: NodeStatus | Exception) -> None:
        self.connected = True
        self.on_lost: Callable[[], None] | None = None
        self.reply = reply
        self.asked = 0

    def lose(self) -> None:
        self.connected = False
        assert self.on_lost is not None
        self.on_lost()

    async def request(self, frame: bytes, timeout_s: float) -> object:
        self.asked += 1
        await asyncio.sleep(0)
        if isinstance(self.reply, Exception):
            raise self.reply
        return msgspec.json.encode(self.reply)


async def stopped(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def test_one_lost_probe_makes_no_node_unreachable():
    assert not Reach().after(False, 0.0).is_unreachable


def test_three_failures_make_a_node_unreachable_only_when_a_second_lies_between():
    quick = Reach().after(False, 0.0).after(False, 0.1).after(False, 0.2)
    assert not quick.is_unreachable
    assert quick.after(False, 1.0).is_unreachable
    assert not Reach().after(False, 0.0).after(False, 2.0).is_unreachable
    assert quick.after(False, 1.0).after(True, 1.1) == Reach()


def test_most_masters_must_agree():
    up = frozenset("abc")
    assert unreachable_by_most([["a"], ["a"], []], up) == {"a"}
    assert unreachable_by_most([["a"], []], up) == frozenset()
    assert unreachable_by_most([], up) == frozenset()
    assert unreachable_by_most([["gone"]], up) == frozenset()


def test_masters_that_can_reach_hardly_anything_are_not_believed():
    assert unreachable_by_most([["a", "b"]], frozenset("abc")) == frozenset()
    assert unreachable_by_most([["a"]], frozenset("a")) == frozenset()
    assert unreachable_by_most([["a"]], frozenset("ab")) == {"a"}


def lease(node: str, refused: bool) -> LeaseSeen:
    return LeaseSeen(LeaseRow(incarnation=f"{node}-1", number=3, refused=refused), 4, 0.1)


def test_an_unreachable_node_s_renewals_are_refused_once():
    view = view_of("a", "b")
    changes = refusals(view, {"a": lease("a", False), "b": lease("b", False)}, {}, frozenset("a"))
    assert list(changes) == ["a"]
    assert changes["a"].refused
    assert refusals(view, {"a": lease("a", True)}, {}, frozenset("a")) == {}


def test_renewals_are_allowed_again_only_when_the_node_follows_the_present_view():
    view, leases = view_of("a"), {"a": lease("a", True)}
    old = {"a": StatusSeen(status("a", epoch=4), 0.1)}
    stale = {"a": StatusSeen(status("a"), 5.0)}
    other = {"a": StatusSeen(status("a", incarnation="a-0"), 0.1)}
    for statuses in ({}, old, stale, other):
        assert refusals(view, leases, statuses, frozenset()) == {}
    changes = refusals(view, leases, {"a": StatusSeen(status("a"), 0.1)}, frozenset())
    assert not changes["a"].refused


def test_a_lease_of_an_incarnation_that_the_view_does_not_list_is_left_alone():
    row = LeaseSeen(LeaseRow(incarnation="a-2", number=1), 4, 0.1)
    assert refusals(view_of("a"), {"a": row}, {}, frozenset("a")) == {}


async def test_a_probe_keeps_the_status_and_its_age_from_the_question_on():
    clock, link, news = FakeClock(), FakeLink(status("a")), []
    prober = Prober(ClusterClock(clock), lambda node: link, lambda: news.append(1))
    prober.adopt(view_of("a"))
    task = asyncio.create_task(prober.run())
    await until(lambda: bool(prober.statuses()))
    clock.now += 0.15
    assert prober.statuses()["a"].age_s == 0.15 or abs(prober.statuses()["a"].age_s - 0.15) < 1e-9
    assert news
    await stopped(task)


@in_virtual_time
async def test_only_who_is_eager_asks_more_often_while_copies_move():
    moving = (Partition("a", (), (Filling("b", 5),), 5),)
    asked = {}
    for is_eager in (False, True):
        for table in ((), moving):
            link = FakeLink(status("a"))
            prober = Prober(
                ClusterClock(LoopClock()),
                lambda node, link=link: link,
                is_eager=lambda eager=is_eager: eager,
            )
            prober.adopt(msgspec.structs.replace(view_of("a"), table=table))
            task = asyncio.create_task(prober.run())
            await asyncio.sleep(2.0)
            await stopped(task)
            asked[is_eager, bool(table)] = link.asked
    often = asked.pop((True, True))
    # Times are looked at every 0.05 s, so an interval may be one look longer.
    assert set(asked.values()) <= {9, 10}
    assert often >= 3 * max(asked.values())


async def test_a_node_that_fails_its_probes_is_unreachable_until_it_answers():
    clock, link = FakeClock(), FakeLink(DeadlineExceeded("late"))
    prober = Prober(ClusterClock(clock), lambda node: link)
    prober.adopt(view_of("a"))
    task = asyncio.create_task(prober.run())
    for count in range(1, 5):
        await until(lambda wanted=count: link.asked >= wanted)  # type: ignore[misc]
        clock.now += 0.5
    await until(lambda: prober.unreachable() == ("a",))
    link.reply = status("a")
    clock.now += 0.5
    await until(lambda: prober.unreachable() == ())
    await stopped(task)


async def test_an_answer_of_another_incarnation_does_not_count():
    clock, link = FakeClock(), FakeLink(status("a", incarnation="a-0"))
    prober = Prober(ClusterClock(clock), lambda node: link)
    prober.adopt(view_of("a"))
    task = asyncio.create_task(prober.run())
    await until(lambda: link.asked >= 1)
    await asyncio.sleep(0)
    assert prober.statuses() == {}
    await stopped(task)


@in_virtual_time
async def test_a_broken_link_is_news_at_once_and_a_moment_later_and_then_no_more():
    news: list[float] = []
    clock, link = LoopClock(), FakeLink(LinkBroken("gone"))
    prober = Prober(ClusterClock(clock), lambda node: link, lambda: news.append(clock.boottime()))
    prober.adopt(view_of("a"))
    task = asyncio.create_task(prober.run())
    await asyncio.sleep(0.1)
    assert news == []
    broke_at = clock.boottime()
    link.lose()
    assert news == [broke_at]
    assert not prober.is_connected("a")
    await asyncio.sleep(1.0)
    assert [round(at - broke_at, 6) for at in news] == [0.0, REPORT_AGAIN_S]
    await stopped(task)


@in_virtual_time
async def test_a_link_that_is_up_again_at_once_is_told_of_once():
    news: list[int] = []
    link = FakeLink(LinkBroken("gone"))
    prober = Prober(ClusterClock(LoopClock()), lambda node: link, lambda: news.append(1))
    prober.adopt(view_of("a"))
    link.lose()
    link.connected = True
    await asyncio.sleep(1.0)
    assert news == [1]


async def test_a_link_to_a_node_that_the_view_lists_no_more_is_no_news():
    news: list[int] = []
    link = FakeLink(LinkBroken("gone"))
    prober = Prober(ClusterClock(LoopClock()), lambda node: link, lambda: news.append(1))
    prober.adopt(view_of("a"))
    prober.adopt(view_of())
    link.lose()
    assert news == []


@in_virtual_time
async def test_nodes_are_asked_together_and_a_new_one_at_once():
    clock = LoopClock()
    links = {node: FakeLink(status(node)) for node in "ab"}
    prober = Prober(ClusterClock(clock), links.__getitem__)
    prober.adopt(view_of("a"))
    task = asyncio.create_task(prober.run())
    await asyncio.sleep(0.1)
    assert links["a"].asked == 1
    prober.adopt(view_of("a", "b"))
    await asyncio.sleep(0.01)
    assert (links["a"].asked, links["b"].asked) == (1, 1)
    await stopped(task)


def test_a_new_incarnation_begins_with_a_clean_slate():
    prober = Prober(ClusterClock(FakeClock()), lambda node: None)
    prober.adopt(view_of("a", "b"))
    prober.adopt(view_of("b"))
    assert not prober.is_connected("a")
    assert prober.statuses() == {}


def test_since_when_two_nodes_are_cut_off_is_counted_from_the_first_word_of_it_without_a_break():
    view = view_of("a", "b", "c")
    said = msgspec.structs.replace(status("a"), unreachable=["b", "gone"])
    first = cut_off_since({}, view, {"a": StatusSeen(said, 0.1)}, 100.0, 2.0)
    assert first == {("a", "b"): 100.0}
    assert cut_off_since(first, view, {"a": StatusSeen(said, 0.1)}, 103.0, 2.0) == first
    for seen in ({}, {"a": StatusSeen(said, 2.1)}, {"a": StatusSeen(status("a"), 0.1)}):
        assert cut_off_since(first, view, seen, 103.0, 2.0) == {}
    other = msgspec.structs.replace(said, incarnation="another")
    assert cut_off_since(first, view, {"a": StatusSeen(other, 0.1)}, 103.0, 2.0) == {}

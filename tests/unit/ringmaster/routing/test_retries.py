"""How often nodes are asked again: storms are played against the router in virtual time, and what reaches a node is counted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from ringmaster.cluster.view import NodeInfo, Partition, View
from ringmaster.errors import PeerError, Unserved
from ringmaster.protocol.hashing import partition_of
from ringmaster.protocol.resp import Command
from ringmaster.routing.pending import MOVED
from ringmaster.routing.retry_budget import RetryBudget, RetryPolicy
from ringmaster.routing.router import Router
from tests.fakes.virtual_time import LoopClock, in_virtual_time
from tests.unit.fake_wire import FakeNetwork, FakeTransport, ticks, until

POLICY = RetryPolicy(ratio=0.1, floor_per_s=10.0, most=50.0)


def test_a_budget_is_a_share_of_what_was_answered_and_some_a_second() -> None:
    budget = RetryBudget(POLICY, 1000, 5.0)
    assert budget.left == 50
    budget.spend(50)
    budget.earn(1100, 5.0)
    assert budget.left == pytest.approx(10)
    budget.earn(1100, 6.0)
    assert budget.left == pytest.approx(20)
    budget.earn(10**6, 60.0)
    assert budget.left == 50


def test_what_goes_together_may_leave_a_small_debt() -> None:
    budget = RetryBudget(POLICY, 0, 0.0)
    budget.spend(10_000)
    assert budget.left == -2.5
    budget.earn(0, 0.35)
    assert budget.left == pytest.approx(1)


def test_what_was_counted_once_is_not_earned_again() -> None:
    budget = RetryBudget(POLICY, 100, 10.0)
    budget.spend(40)
    budget.earn(90, 9.0)
    budget.earn(100, 10.0)
    assert budget.left == 10


class World:
    """A router, and nodes of which each answers all it is asked with `reply(command)`; None is no answer."""

    def __init__(self, policy: RetryPolicy = POLICY) -> None:
        self.network = FakeNetwork()
        self.clock = LoopClock()
        self.router = Router(self.network, self.clock, jitter=lambda: 0.5, retry=policy)
        self.reply: Callable[[str, Command], bytes | None] = lambda address, command: b"$-1\r\n"
        self.epoch = 0
        self.asked: list[tuple[str, Command]] = []
        self._playing = asyncio.get_running_loop().create_task(self._play())

    async def _play(self) -> None:
        while True:
            await asyncio.sleep(0.002)
            for address, transport in self.network.made:
                if not transport.closed:
                    self._answer(address, transport)

    def _answer(self, address: str, transport: FakeTransport) -> None:
        for command in transport.taken():
            if command[0] == b"RM.HELLO":
                transport.receive(b"+OK\r\n")
                continue
            self.asked.append((address, command))
            reply = self.reply(address, command)
            if reply is not None:
                transport.receive(reply)

    async def adopt(self, epoch: int, *primaries: str) -> None:
        self.epoch = epoch
        nodes = {name: NodeInfo(id=name, incarnation=name, address=name) for name in primaries}
        table = tuple(Partition(primary=name, term=epoch) for name in primaries)
        self.router.adopt(View(cluster="c", epoch=epoch, replicas=1, table=table, nodes=nodes))
        await asyncio.sleep(0.01)

    def reading(self, count: int, seconds: float = 6.0) -> list[asyncio.Task[bytes | None]]:
        deadline = self.clock.boottime() + seconds
        return [
            asyncio.create_task(self.router.read(b"key-%d" % number, deadline))
            for number in range(count)
        ]

    async def close(self) -> None:
        self._playing.cancel()
        await self.router.close()


@in_virtual_time
async def test_a_node_that_refuses_for_long_gets_few_requests_twice() -> None:
    world = World()
    await world.adopt(1, "a")
    world.reply = lambda address, command: b"-WAIT 1\r\n"
    tasks = world.reading(800, 5.0)
    await asyncio.wait(tasks)
    assert all(isinstance(task.exception(), Unserved) for task in tasks)
    # What was kept, and what comes in five seconds: both of the floor and of what was answered.
    assert len(world.asked) <= 800 + 50 + 5 * 10 + 0.1 * 800
    assert world.router.retries.put_off > 0
    await world.close()


@in_virtual_time
async def test_once_it_serves_again_everybody_who_waits_is_served_soon() -> None:
    world = World()
    await world.adopt(1, "a")
    world.reply = lambda address, command: b"-WAIT 1\r\n"
    tasks = world.reading(800)
    await asyncio.sleep(1.5)
    before = len(world.asked)
    world.reply = lambda address, command: b"$-1\r\n"
    since = world.clock.boottime()
    await asyncio.wait(tasks)
    assert [task.result() for task in tasks] == [None] * 800
    assert world.clock.boottime() - since < 0.5
    assert len(world.asked) - before <= 800 + 60
    await world.close()


@in_virtual_time
async def test_a_newer_view_has_each_request_sent_once_more_whatever_is_left() -> None:
    world = World()
    await world.adopt(1, "a")
    world.reply = lambda address, command: b"-MOVED 2\r\n" if address == "a" else b"$-1\r\n"
    tasks = world.reading(500)
    await asyncio.sleep(2)
    # The node knows a newer view: until that is here, it is seldom asked again.
    assert len(world.asked) <= 500 + 50 + 2 * 10 + 50
    await world.adopt(2, "b")
    await asyncio.wait(tasks)
    assert [task.result() for task in tasks] == [None] * 500
    assert sum(address == "b" for address, _ in world.asked) == 500
    await world.close()


@in_virtual_time
async def test_a_node_that_gives_up_a_view_that_nobody_else_has_is_asked_within_a_second() -> None:
    world = World()
    await world.adopt(1, "a")
    world.reply = lambda address, command: b"-MOVED 1000000000\r\n"
    [task] = world.reading(1)
    await asyncio.sleep(1)
    world.reply = lambda address, command: b"$-1\r\n"
    await asyncio.sleep(0.6)
    assert task.done()
    assert task.result() is None
    await world.close()


@in_virtual_time
async def test_a_node_that_has_not_heard_of_the_view_yet_is_asked_again() -> None:
    world = World()
    await world.adopt(7, "a")
    world.reply = lambda address, command: b"-MOVED 6\r\n"
    [task] = world.reading(1)
    await asyncio.sleep(0.05)
    world.reply = lambda address, command: b"$-1\r\n"
    await asyncio.sleep(0.06)
    assert task.done()
    assert len(world.asked) > 2
    await world.close()


@in_virtual_time
async def test_thousands_of_requests_for_a_dead_node_cost_no_attempts_and_no_polls() -> None:
    world = World()
    alive = False
    world.network.accept = lambda address: alive
    await world.adopt(1, "a")
    tasks = world.reading(3000)
    await asyncio.sleep(4)
    # One attempt at a time, about two a second, whoever waits.
    assert world.network.attempts <= 4 * 2 + 8
    assert world.asked == []
    retries = world.router.retries
    assert retries.after_pause == 0
    assert retries.put_off == 0
    alive = True
    since = world.clock.boottime()
    await asyncio.wait(tasks)
    assert [task.result() for task in tasks] == [None] * 3000
    assert world.clock.boottime() - since < 1.1
    assert len(world.asked) == 3000
    await world.close()


@in_virtual_time
async def test_a_node_that_hangs_takes_nothing_from_the_budget_of_another() -> None:
    world = World()
    await world.adopt(1, *("ab" * 8))
    world.reply = lambda address, command: b"-WAIT 1\r\n"
    tasks = world.reading(1000)
    await asyncio.sleep(1)
    world.reply = lambda address, command: b"-WAIT 1\r\n" if address == "a" else b"$-1\r\n"
    await asyncio.sleep(0.5)
    done = sum(task.done() for task in tasks)
    assert 400 < done < 600
    for task in tasks:
        task.cancel()
    await world.close()


@in_virtual_time
async def test_a_bulk_read_is_asked_again_by_commands_not_by_keys() -> None:
    world = World()
    await world.adopt(1, "a")
    world.reply = lambda address, command: b"-WAIT 1\r\n"
    keys = [b"key-%d" % number for number in range(5000)]
    deadline = world.clock.boottime() + 3
    outcomes = await world.router.read_many(keys, deadline)
    assert all(isinstance(outcome, Unserved) for outcome in outcomes)
    assert 10 < len(world.asked) <= 10 + 50 + 3 * 10 + 30
    await world.close()


@in_virtual_time
async def test_a_bulk_write_that_is_refused_is_asked_again_only_for_what_was_refused() -> None:
    world = World(RetryPolicy())
    await world.adopt(1, *("ab" * 8))
    refusing = True

    def reply(address: str, command: Command) -> bytes:
        if address == "a" and refusing:
            return b"-WAIT 1\r\n"
        return b"*4\r\n:0\r\n:1\r\n:1\r\n:0\r\n"

    world.reply = reply
    writes = [(b"RM.SET", b"key-%d" % number, (b"v",)) for number in range(200)]
    task = asyncio.create_task(world.router.write_many(writes, world.clock.boottime() + 3))
    await asyncio.sleep(0.5)
    refusing = False
    outcomes = await task
    assert not any(isinstance(outcome, Exception) for outcome in outcomes)
    of_b = [command[2] for address, command in world.asked if address == "b"]
    assert len(of_b) == len({*of_b})
    await world.close()


@in_virtual_time
async def test_in_whatever_order_they_are_asked_again_each_gets_its_own_answer() -> None:
    world = World(RetryPolicy())
    await world.adopt(1, *"abcd")
    by_node = {"abcd"[partition_of(b"%d" % number, 4)]: b"%d" % number for number in range(99)}
    keys = [by_node[name] for name in "abcd"]

    def reply(address: str, command: Command) -> bytes:
        if world.epoch == 1:
            # The second is asked again and again, the others wait for the view.
            return b"-WAIT 1\r\n" if address == "b" else b"-MOVED 2\r\n"
        return b"*1\r\n$%d\r\n%b\r\n" % (len(command[2]), command[2])

    world.reply = reply
    task = asyncio.create_task(world.router.read_many(keys, world.clock.boottime() + 3))
    await asyncio.sleep(0.3)
    assert len(world.asked) > 5
    await world.adopt(2, *"abcd")
    assert await task == keys
    await world.close()


@in_virtual_time
async def test_what_the_fast_path_was_refused_is_not_sent_again_at_once() -> None:
    world = World(RetryPolicy(0.1, 10.0, 1.0))
    await world.adopt(1, "a")
    world.reply = lambda address, command: b"-WAIT 1\r\n"
    deadline = world.clock.boottime() + 1
    tasks = [
        asyncio.create_task(world.router.read(b"k", deadline, PeerError("WAIT", "1")))
        for _ in range(100)
    ]
    await asyncio.wait(tasks)
    assert len(world.asked) <= 1 + 10 + 1
    await world.close()


@in_virtual_time
async def test_what_a_newer_view_took_back_is_sent_again_at_once() -> None:
    world = World(RetryPolicy(0.1, 10.0, 1.0))
    await world.adopt(1, "a")
    deadline = world.clock.boottime() + 1
    since = world.clock.boottime()
    tasks = [asyncio.create_task(world.router.read(b"k", deadline, MOVED)) for _ in range(100)]
    await asyncio.wait(tasks)
    assert world.clock.boottime() - since < 0.02
    await world.close()


@in_virtual_time
async def test_who_leaves_while_it_waits_leaves_nothing_behind() -> None:
    world = World()
    await world.adopt(1, "a")
    world.reply = lambda address, command: b"-WAIT 1\r\n"
    [task] = world.reading(1)
    await asyncio.sleep(0.02)
    task.cancel()
    await asyncio.wait([task])
    link = world.router.link_of("a")
    assert link is not None
    assert not world.router.retries.of(link).serves._waiting
    assert not world.router._retry_loop.changed._waiting
    await world.close()


@in_virtual_time
async def test_nobody_is_told_of_a_node_more_often_than_every_20_ms() -> None:
    world = World(RetryPolicy(0.1, 1000.0, 1000.0))
    await world.adopt(1, "a")
    # Half of the keys are served, the others never.
    world.reply = lambda address, command: b"-WAIT 1\r\n" if command[2][-1] % 2 else b"$-1\r\n"
    stuck = world.reading(400, 2.0)
    await asyncio.wait(stuck)
    await until(lambda: all(task.done() for task in stuck))
    served = sum(task.exception() is None for task in stuck)
    assert served == 200
    await ticks()
    await world.close()

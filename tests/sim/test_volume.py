"""The simulated volume of snapshots fails as disks and dying processes do."""

import asyncio

import pytest

from ringmaster.snapshot.names import BundleName, checked_name
from tests.sim.hub import Hub
from tests.sim.loop import NodeLoop
from tests.sim.volume import Volume


class World:
    def __init__(self, seed: int = 1) -> None:
        self.hub = Hub(seed)
        self.volume = Volume(self.hub)
        self.loop = NodeLoop(self.hub, "a1")
        self.in_thread = self.volume.threads(self.loop)

    def name(self, number: int) -> BundleName:
        return checked_name("inc", number)

    def publish(self, *numbers: int) -> None:
        """Blocking, as in a thread."""
        drafts = [self.volume.store.begin(self.name(number)) for number in numbers]
        for draft in drafts:
            draft.append([b"content"])
        self.volume.store.publish(drafts)

    def call(self, *numbers: int) -> asyncio.Task[None]:
        async def ask() -> None:
            await self.in_thread(lambda: self.publish(*numbers))

        return self.loop.create_task(ask())

    @property
    def there(self) -> list[int]:
        return sorted(name.number for name in self.volume.store.bundles)


def test_a_call_takes_time_and_stands_still_while_its_process_does() -> None:
    world = World()
    task = world.call(1)
    world.hub.run(0.0)
    assert not task.done()
    world.loop.freeze(5.0)
    world.hub.run(4.9)
    assert world.there == []
    world.hub.run(5.5)
    assert (task.done(), world.there) == (True, [1])


def test_a_death_cuts_a_publication_short_anywhere_and_what_is_there_stays() -> None:
    left = set()
    for seed in range(60):
        world = World(seed)
        world.call(1, 2, 3)
        world.hub.run(0.0)
        world.loop.crash()
        left.add(tuple(world.there))
        world.hub.run(1.0)
        assert tuple(world.there) in left
    assert left >= {(), (1,), (1, 2), (1, 2, 3)}


@pytest.mark.parametrize("trouble", ["full", "failing", "away"])
def test_trouble_is_an_error_of_the_call_and_ends(trouble: str) -> None:
    world = World()
    setattr(world.volume.faults, trouble, 1.0)
    task = world.call(1)
    world.hub.run(1.0)
    with pytest.raises(OSError, match=r"space|fsync|away"):
        task.result()
    setattr(world.volume.faults, trouble, 0.0)
    again = world.call(2)
    world.hub.run(2.0)
    again.result()
    assert world.there == [2]


def test_rot_cuts_alters_or_loses_one_file() -> None:
    for kind in range(3):
        world = World()
        world.publish(1, 2)
        world.volume.rot(kind)
        contents = list(world.volume.store.content.values())
        assert world.volume.trouble
        assert contents.count(b"content") == 1
        assert len(contents) == (1 if kind == 2 else 2)


def test_a_draft_that_another_node_swept_cannot_be_published() -> None:
    world = World()
    store = world.volume.store
    draft = store.begin(world.name(1))
    assert store.sweep({"another"}) == 1
    with pytest.raises(FileNotFoundError):
        store.publish([draft])
    world.volume.cut_short(lambda: store.publish([draft]))
    assert world.there == []

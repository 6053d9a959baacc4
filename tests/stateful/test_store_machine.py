"""The store against a model: one dict per partition, one list of all keys by recency."""

from collections import OrderedDict

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from aux.storage.store import Store
from ringmaster.protocol import entry as layout

PARTITIONS = 4
NUMBERS = st.integers(0, PARTITIONS - 1)
KEYS = st.integers(0, 30).map(lambda number: b"%d" % number)
LARGE = 64
"""More entries than that are not freed at once when their partition is dropped."""

MOST_SWEEPS = 20


def entry_of(value: bytes, expires_ms: int) -> bytes:
    return layout.pack(
        slot=0, term=1, seq=1, expires_ms=expires_ms, written_s=9, flags=0, meta=b"", value=value
    )


def unslotted(entry: bytes | None) -> bytes | None:
    return None if entry is None else bytes(layout.SLOT_SIZE) + entry[layout.SLOT_SIZE :]


class StoreMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.store = Store(1 << 20, PARTITIONS, policy="lru")
        self.evictable: dict[int, bool] = {}
        # (partition, key) -> entry, least recently used first.
        self.model: OrderedDict[tuple[int, bytes], bytes] = OrderedDict()
        self.now_ms = 1_000
        self.is_freeing = False
        """What a large partition that was dropped held is freed little by little, and counts until then."""

    @rule(number=NUMBERS, evictable=st.booleans())
    def open_or_change_role(self, number, evictable):
        if number in self.evictable:
            self.store.set_evictable(number, evictable)
        else:
            assert self.store.get(number) is None
            self.store.open(number, evictable=evictable)
        self.evictable[number] = evictable

    @rule(number=NUMBERS)
    def drop(self, number):
        data = self.store.get(number)
        self.is_freeing |= data is not None and len(data.entries) > LARGE
        self.store.drop(number)
        self.evictable.pop(number, None)
        for place in [place for place in self.model if place[0] == number]:
            del self.model[place]

    @precondition(lambda self: self.evictable)
    @rule(
        data=st.data(),
        key=KEYS,
        size=st.sampled_from([0, 1, 20, 5_000]),
        ttl_ms=st.sampled_from([0, 0, 500, 90_000]),
    )
    def put(self, data, key, size, ttl_ms):
        number = data.draw(st.sampled_from(sorted(self.evictable)))
        entry = entry_of(b"v" * size, ttl_ms and self.now_ms + ttl_ms)
        self.store.put(self.store.get(number), key, entry)
        self.model[number, key] = entry
        self.model.move_to_end((number, key))

    @precondition(lambda self: self.evictable)
    @rule(data=st.data(), count=st.integers(1, 60))
    def put_many(self, data, count):
        number = data.draw(st.sampled_from(sorted(self.evictable)))
        for extra in range(count):
            key = b"many%d" % extra
            self.store.put(self.store.get(number), key, entry_of(key, 0))
            self.model[number, key] = entry_of(key, 0)
            self.model.move_to_end((number, key))

    @precondition(lambda self: self.evictable)
    @rule(data=st.data(), key=KEYS)
    def touch(self, data, key):
        number = data.draw(st.sampled_from(sorted(self.evictable)))
        entry = self.store.touch(self.store.get(number), key)
        assert unslotted(entry) == self.model.get((number, key))
        if entry is not None and self.evictable[number]:
            self.model.move_to_end((number, key))

    @precondition(lambda self: self.evictable)
    @rule(data=st.data(), key=KEYS)
    def remove(self, data, key):
        number = data.draw(st.sampled_from(sorted(self.evictable)))
        entry = self.store.remove(self.store.get(number), key)
        assert unslotted(entry) == self.model.pop((number, key), None)

    @precondition(lambda self: self.evictable)
    @rule(data=st.data(), keys=st.lists(KEYS, max_size=8))
    def remove_many(self, data, keys):
        number = data.draw(st.sampled_from(sorted(self.evictable)))
        there = [key for key in dict.fromkeys(keys) if (number, key) in self.model]
        assert self.store.remove_many(self.store.get(number), keys) == there
        for key in there:
            del self.model[number, key]

    def expected_victim(self, among) -> tuple[int, bytes] | None:
        for number, key in self.model:
            if self.evictable[number] and number in among:
                return number, key
        return None

    @rule(count=st.integers(1, 40), among=st.none() | st.frozensets(NUMBERS))
    def evict(self, count, among):
        for _ in range(count):
            victim = self.store.victim(among)
            expected = self.expected_victim(range(PARTITIONS) if among is None else among)
            assert (victim and (victim[0].number, victim[1])) == expected
            if victim is None:
                break
            assert unslotted(self.store.remove(victim[0], victim[1])) == self.model.pop(expected)

    @rule(among=st.sets(NUMBERS))
    def look_at_the_victim_among(self, among):
        victim = self.store.victim(among)
        assert (victim and (victim[0].number, victim[1])) == self.expected_victim(among)

    @rule(step_ms=st.sampled_from([1, 400, 20_000]))
    def sweep(self, step_ms):
        self.now_ms += step_ms
        for number in sorted(self.evictable):
            data = self.store.get(number)
            found = self.store.due(data, self.now_ms)
            overdue = {
                key
                for (home, key), entry in self.model.items()
                if home == number and 0 < layout.header(entry).expires_ms <= self.now_ms
            }
            assert set(found) <= overdue
            if step_ms == 20_000:
                assert set(found) == overdue, "no partition rests longer than 16 s"
            for key in found:
                self.store.remove(data, key)
                del self.model[number, key]

    @invariant()
    def everything_agrees(self):
        kept = {}
        for number in self.evictable:
            data = self.store.get(number)
            mine = [(key, entry) for (home, key), entry in self.model.items() if home == number]
            assert [(key, unslotted(entry)) for key, entry in data.entries.items()] == mine
            for key, entry in data.entries.items():
                slot = layout.header(entry).slot
                assert kept.setdefault(slot, (number, key)) == (number, key), "a slot is shared"
            assert data.bytes >= 0
        assert self.store.entries == len(self.model)
        excess = self.store.bytes - sum(self.store.get(number).bytes for number in self.evictable)
        assert excess >= 0
        assert excess == 0 or self.is_freeing
        self.is_freeing = excess > 0
        if not self.model:
            assert self.store.bytes == excess

    def teardown(self):
        for number in list(self.evictable):
            self.store.drop(number)
        spare = self.store.open(0, evictable=False)
        for _ in range(MOST_SWEEPS):
            self.store.due(spare, self.now_ms)
        self.store.drop(0)
        assert self.store.bytes == self.store.entries == 0
        assert self.store.victim() is None


TestStoreMachine = StoreMachine.TestCase
TestStoreMachine.settings = settings(max_examples=150, stateful_step_count=60)

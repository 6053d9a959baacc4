import json
import os
import subprocess
import sys

import pytest

from aux.storage.memory_accounting import (
    GROWTH_BYTES_PER_S,
    LOOK_S,
    REST_LOOK_S,
    Footprint,
    ProcessAccounting,
    look_after_s,
    malloc_bytes,
    pymalloc_bytes,
)

linux = pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="needs /proc/self/statm")

PROBE = """
import json
from aux.storage.memory_accounting import resident_bytes, tune_allocator
tune_allocator()
result = {}
everything = []
for length in (25, 125, 400, 900, 5_000, 70_000):
    count = 20_000_000 // (length + 60)
    kept = [None] * count
    before = resident_bytes()
    for i in range(count):
        kept[i] = b"x" * length
    result[length] = (resident_bytes() - before) / count
    everything.append(kept)
print(json.dumps(result))
"""


def run(program: str, allocator: str):
    environment = {**os.environ, "PYTHONMALLOC": allocator}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        stdout=subprocess.PIPE,
        check=True,
        timeout=280,
    )
    return json.loads(done.stdout)


@linux
@pytest.mark.parametrize(
    ("allocator", "cost"), [("malloc", malloc_bytes), ("pymalloc", pymalloc_bytes)]
)
def test_a_block_is_counted_as_the_resident_memory_it_takes(allocator, cost):
    for length, resident in run(PROBE, allocator).items():
        assert cost(int(length)) == pytest.approx(resident, rel=0.06), f"{length} bytes"


@pytest.mark.thorough
@linux
def test_an_entry_costs_at_most_220_bytes_beyond_key_and_value():
    found = run(
        "import json; from bench.memory import *; print(json.dumps(measure_overhead(200_000, 256)))",
        "malloc",
    )
    assert found["filled"]["overhead_per_entry"] <= 220
    assert 0.9 < found["overwritten"]["counted_per_resident"] < 1.1


@linux
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_resident_memory_keeps_within_ten_per_cent_of_the_budget_overfilled_tenfold():
    found = run(
        "import json; from bench.memory import *; print(json.dumps(measure_budget(192, 256, corrected=True)))",
        "malloc",
    )
    assert found["peak"] <= 1.1


def test_an_entry_costs_its_two_blocks_and_its_tick():
    accounting = ProcessAccounting(pymalloc=False)
    for key, entry in ((1, 25), (512, 4_095), (16, 4_096), (16, 8 << 20)):
        assert accounting.entry(key, entry) == malloc_bytes(key) + malloc_bytes(entry) + 8
    assert (
        ProcessAccounting(pymalloc=True).entry(16, 125)
        == pymalloc_bytes(16) + pymalloc_bytes(125) + 8
    )
    assert accounting.table({}) == 0
    assert accounting.table({b"k": b"v"}) > 0


class FakeStore:
    def __init__(self, max_bytes: int, used: int) -> None:
        self.max_bytes = max_bytes
        self.used = used
        self.overhead = 0

    @property
    def bytes(self) -> int:
        return self.used

    def set_overhead(self, overhead_bytes: int) -> None:
        self.overhead = overhead_bytes


def test_what_is_resident_beyond_the_counted_bytes_is_overhead():
    store = FakeStore(1_000, 300)
    assert Footprint(store, resident=lambda: 310, release=lambda: None).correct() == 10
    assert store.overhead == 10 + 1_000 // 64
    assert Footprint(store, resident=lambda: 100, release=lambda: None).correct() == 0


def test_free_pages_are_given_back_only_when_the_overhead_has_grown():
    store = FakeStore(1_000, 300)
    resident = [330]
    released = []

    def release() -> None:
        released.append(resident[0])
        resident[0] -= 5

    footprint = Footprint(store, resident=lambda: resident[0], release=release)
    assert footprint.correct() == 25
    resident[0] += 20
    assert footprint.correct() == 45
    assert released == [330]
    resident[0] += 1
    assert footprint.correct() == 41
    assert released == [330, 346]


def test_nothing_is_corrected_where_nothing_can_be_measured():
    store = FakeStore(1_000, 300)
    store.overhead = 77
    assert Footprint(store, resident=lambda: 0, release=lambda: None).correct() == 0
    assert store.overhead == 77


def test_memory_is_looked_at_before_it_can_have_grown_to_the_budget():
    assert look_after_s(-1) == look_after_s(0) == LOOK_S
    assert look_after_s(GROWTH_BYTES_PER_S // 2) == 0.5
    assert look_after_s(100 * GROWTH_BYTES_PER_S) == REST_LOOK_S

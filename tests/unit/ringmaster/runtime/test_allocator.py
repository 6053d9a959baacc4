"""What a burst took goes back to the system."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest

from ringmaster.runtime.allocator import GROWN_BYTES, give_back_memory
from tests.unit.fake_wire import until


class Memory:
    """Plays a process that grows, and whose free pages can be released."""

    def __init__(self) -> None:
        self.bytes = 10**8
        self.held = 10**8
        self.looks = 0
        self.releases = 0

    def resident(self) -> int:
        self.looks += 1
        return self.bytes

    def release(self) -> None:
        self.releases += 1
        self.bytes = self.held


async def looked(memory: Memory) -> None:
    since = memory.looks
    await until(lambda: memory.looks > since + 3)


async def test_pages_are_released_after_growth_and_not_again_for_what_is_held() -> None:
    memory = Memory()
    task = asyncio.create_task(give_back_memory(memory.resident, memory.release, 0.001))
    await looked(memory)
    assert memory.releases == 0
    memory.bytes += GROWN_BYTES + 1
    memory.held += GROWN_BYTES
    await looked(memory)
    assert memory.releases == 1
    memory.bytes += GROWN_BYTES // 2
    await looked(memory)
    assert memory.releases == 1
    memory.bytes += GROWN_BYTES
    await looked(memory)
    assert memory.releases == 2
    task.cancel()


BURST = """
from ringmaster.runtime.allocator import release_free_pages
from ringmaster.runtime.allocator import resident_bytes as resident

before = resident()
blocks, between = [], []
for _ in range(2000):
    blocks.append(bytes(60_000).replace(b"\\0", b"x"))
    between.append(bytes(600).replace(b"\\0", b"x"))
full = resident()
blocks.clear()
release_free_pages()
print(before, full, resident())
"""


def test_the_free_pages_of_the_heap_are_found() -> None:
    # In a process of its own: one that has run other tests has free pages already.
    done = subprocess.run(
        [sys.executable, "-c", BURST], capture_output=True, text=True, timeout=30, check=True
    )
    before, full, after = map(int, done.stdout.split())
    if not before:
        pytest.skip("no /proc")
    assert full > before + 100 * 2**20
    assert after < full - 90 * 2**20

"""A fixture that the tests of several modules of snapshots share."""

import pytest

from tests.fakes.snapshot_store import MemoryStore


@pytest.fixture
def store() -> MemoryStore:
    """A store of snapshots, empty; tests of another kind of store have a `store` of their own."""
    return MemoryStore()

"""Every test of the HTTP contract runs against every front there is."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from tests.conformance.fronts import LIMITS, Front
from tests.fakes.master import FakeMaster

_numbers = itertools.count(1)


@pytest.fixture(scope="session", params=["fake"])
def front(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Front]:
    """A way to the cache, shared by all tests: each uses keys of its own."""
    master = FakeMaster(tmp_path_factory.mktemp("fake"), LIMITS)
    with master.running():
        yield Front(request.param, master.address)


@pytest.fixture
def key(request: pytest.FixtureRequest) -> str:
    """A key that no other test uses, of characters that mean nothing anywhere."""
    return f"conformance-{next(_numbers)}"

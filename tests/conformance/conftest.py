"""Every test of the HTTP contract runs against every front: a fake, a master with and without the fast path, nginx."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from tests.conformance.fronts import LIMITS, Front
from tests.conformance.live import LiveCluster
from tests.conformance.seed_of_day import SEED_VARIABLE, seed_of_day
from tests.fakes.master import FakeMaster

_numbers = itertools.count(1)


def pytest_report_header() -> str:
    """A line at the beginning of a run."""
    return f"requests by description: {SEED_VARIABLE}={seed_of_day()} repeats"


@pytest.fixture(scope="session")
def live_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveCluster]:
    """Real processes, started once for all tests that want them."""
    with LiveCluster(tmp_path_factory.mktemp("live")).running() as cluster:
        yield cluster


@pytest.fixture(scope="session")
def fake_master(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeMaster]:
    """The HTTP side of a master in this process, with one dict for all nodes."""
    with FakeMaster(tmp_path_factory.mktemp("fake"), LIMITS).running() as master:
        yield master


@pytest.fixture(scope="session", params=["fake", "aiohttp", "fastpath", "nginx"])
def front(request: pytest.FixtureRequest) -> Front:
    """A way to the cache, shared by all tests: each uses keys of its own."""
    if request.param == "fake":
        return Front("fake", request.getfixturevalue("fake_master").address)
    cluster: LiveCluster = request.getfixturevalue("live_cluster")
    if request.param == "nginx" and cluster.nginx is None:
        pytest.skip("nginx is not installed (Debian: nginx)")
    return cluster.front(request.param)


@pytest.fixture
def key() -> str:
    """A key that no other test uses, of characters that mean nothing anywhere."""
    return f"conformance-{next(_numbers)}"

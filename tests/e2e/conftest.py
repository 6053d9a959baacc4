"""Real clusters for the tests here."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack

import pytest
import pytest_asyncio

from ringmaster.cli.nginx import find_nginx
from tests.e2e.cluster import Cluster
from tests.e2e.front import Front, nginx_in_front

NewCluster = Callable[..., Cluster]


@pytest.fixture
def new_cluster() -> Iterator[NewCluster]:
    """Start a cluster (arguments as for `Cluster`) that is ready, and ended after the test."""
    with ExitStack() as stack:

        def start(*options: str, **sizes: object) -> Cluster:
            cluster = stack.enter_context(Cluster(*options, **sizes))  # type: ignore[arg-type]
            cluster.wait_ready()
            return cluster

        yield start


@pytest.fixture(scope="module")
def shared_cluster() -> Iterator[Cluster]:
    """One cluster of two masters and three nodes for all tests of a module that break nothing; with nginx if installed."""
    with Cluster(nginx="auto" if find_nginx() else "off") as cluster:
        cluster.wait_ready()
        yield cluster


@pytest_asyncio.fixture
async def door() -> AsyncIterator[Front]:
    """Nginx in front of two masters that can be told to misbehave."""
    async with nginx_in_front() as front:
        yield front

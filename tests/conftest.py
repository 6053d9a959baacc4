"""What holds for every test. Fixtures live beside the tests that use them."""

import sys
from collections.abc import Iterator

import pytest
from hypothesis import settings

# A deadline per example would measure how busy the machine is.
settings.register_profile("ringmaster", deadline=None, print_blob=True)
settings.load_profile("ringmaster")


@pytest.fixture(scope="session", autouse=True)
def no_monkey_patching() -> Iterator[None]:
    """Locust patches sockets, threads and time when it is imported, so tests run it as a program of its own."""
    yield
    assert not {"locust", "gevent"} & sys.modules.keys()

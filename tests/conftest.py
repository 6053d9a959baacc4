"""What holds for every test. Fixtures live beside the tests that use them."""

import os
import sys
from collections.abc import Iterator

import pytest
from hypothesis import settings

import aux.storage.lru
import master.fastpath.connection
import ringmaster.net.link

# `tooling/run-tests --compiled` says so: what is tested then is the compiled modules, and nothing else by mistake.
WANTED = bool(os.environ.get("RINGMASTER_TEST_COMPILED"))
for module in (aux.storage.lru, master.fastpath.connection, ringmaster.net.link):
    assert str(module.__file__).endswith(".so") is WANTED, f"{module.__file__} is tested"

# A deadline per example would measure how busy the machine is.
settings.register_profile("ringmaster", deadline=None, print_blob=True)
settings.load_profile("ringmaster")


@pytest.fixture(scope="session", autouse=True)
def no_monkey_patching() -> Iterator[None]:
    """Locust patches sockets, threads and time when it is imported, so tests run it as a program of its own."""
    yield
    assert not {"locust", "gevent"} & sys.modules.keys()

"""`python -m tests.peers`: download the test suite of redis-py, and run it against the one node of a local cluster.

The suite comes with the source distribution of the version that `requirements-dev.txt` pins, and is checked against the
hash there. `build/peers` keeps it. `redis_py.toml` selects the tests; arguments go to pytest.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Final

import redis

from ringmaster.errors import RingmasterError
from tests.e2e.cluster import ROOT, Cluster
from tests.e2e.test_redis_tools import password
from tests.e2e.waiting import wait_until

HERE: Final = Path(__file__).parent
FOLDER: Final = ROOT / "build" / "peers"
SELECTION: Final = HERE / "redis_py.toml"
FILES: Final = (
    "test_commands.py",
    "test_encoding.py",
    "test_connection_pool.py",
    "test_pipeline.py",
    "test_multiprocessing.py",
    "test_asyncio/test_commands.py",
    "test_asyncio/test_encoding.py",
    "test_asyncio/test_connection_pool.py",
    "test_asyncio/test_pipeline.py",
)
"""The files of the suite that talk to a server at all, but for those of modules, scripts and other kinds of servers."""

TIMEOUT_S: Final = 1200.0


class CannotDownload(RingmasterError):
    """The suite could not be downloaded, or is not what `requirements-dev.txt` says."""


def suite() -> Path:
    """The folder of the unpacked source distribution. Raises `CannotDownload`."""
    name = f"redis-{version('redis')}"
    folder = FOLDER / name
    if not folder.is_dir():
        FOLDER.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=FOLDER) as scratch:
            _download(Path(scratch))
            archive = Path(scratch) / f"{name}.tar.gz"
            subprocess.run(["tar", "-xzf", archive, "-C", scratch], check=True, timeout=60)
            (Path(scratch) / name).rename(folder)
    return folder


def _download(folder: Path) -> None:
    requirements = (ROOT / "requirements-dev.txt").read_text()
    pinned = re.search(r"^redis==.*(?:\n +--hash=.*)+", requirements, re.MULTILINE)
    assert pinned is not None
    wanted = folder / "redis.txt"
    wanted.write_text(pinned[0] + "\n")
    # Without isolation, so that what builds the distribution is not downloaded as well: hatchling is installed.
    done = subprocess.run(
        [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "download", "--no-deps",
         "--no-binary", ":all:", "--no-build-isolation", "--require-hashes", "--dest", folder, "-r", wanted],
        check=False, timeout=120,
    )  # fmt: skip
    if done.returncode:
        raise CannotDownload("pip could not download the source distribution of redis-py")


def run(folder: Path, port: int, secret: str, arguments: list[str]) -> int:
    """The exit code of the suite's pytest, with the node's port and the cluster's secret."""
    # RESP 2 is all that a node speaks. Both options, since some tests use one and some the other.
    url = f"redis://:{secret}@127.0.0.1:{port}/0?protocol=2"
    words = [
        sys.executable, "-m", "pytest", "-p", "redis_py_plugin", "-p", "pytest_asyncio.plugin", "-p", "pytest_timeout",
        "-p", "no:cacheprovider", "-o", "addopts=", "-o", "filterwarnings=ignore", "--disable-warnings", "--tb=short", "-q",
        "--redis-url", url, "--redis-mod-url", url, "--protocol", "2", *arguments,
        *(f"tests/{name}" for name in FILES),
    ]  # fmt: skip
    environment = os.environ | {
        "PYTHONPATH": str(HERE),
        "RINGMASTER_PEER": str(SELECTION),
        # The suite expects the plugins that it names, and none of those that come with our tools.
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
    }
    return subprocess.run(
        words, cwd=folder, env=environment, check=False, timeout=TIMEOUT_S
    ).returncode


def serves(port: int, secret: str) -> bool:
    """Whether the node answers for its keys."""
    client = redis.Redis(port=port, password=secret, protocol=2)
    try:
        return bool(client.set("ready", "1")) and client.delete("ready") == 1
    except redis.RedisError:
        return False
    finally:
        client.close()


def main() -> int:
    """The exit code: 0 if every selected test passed."""
    try:
        folder = suite()
    except CannotDownload as error:
        sys.stderr.write(f"test-peers: {error}\n")
        return 1
    options = ("--replicas", "1", "--snapshot-interval", "3600")
    with Cluster(*options, masters=1, aux=1) as cluster:
        cluster.wait_ready()
        secret = password(cluster.data_dir)
        wait_until(lambda: serves(cluster.aux_port, secret), "every key is served", 15)
        return run(folder, cluster.aux_port, secret, sys.argv[1:])


if __name__ == "__main__":
    raise SystemExit(main())

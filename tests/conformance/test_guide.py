"""Every curl command of docs/http-api.md, in its order, against every front."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conformance.fronts import Front

GUIDE = Path(__file__).parents[2] / "docs" / "http-api.md"
BLOCKS = re.findall(r"```sh\n(.*?)```", GUIDE.read_text(), re.DOTALL)
HOST = "localhost:8080"

pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="not installed: curl")


def commands() -> list[tuple[str, int]]:
    """Each command and the status that it says."""
    lines = [line for block in BLOCKS for line in block.splitlines()]
    parted = [line.rpartition("#") for line in lines]
    return [(command.strip(), int(status)) for command, _, status in parted]


def test_the_guide_has_commands_for_every_task() -> None:
    assert len(commands()) >= 30
    assert all(command.startswith("curl ") and HOST in command for command, _ in commands())


def test_every_command_of_the_guide_is_answered_as_it_says(front: Front, tmp_path: Path) -> None:
    assert isinstance(front.address, tuple)
    host = f"{front.address[0]}:{front.address[1]}"
    cleaning = (["curl", "-d", json.dumps(keys()), f"{HOST}/data/bulk/delete"], 200)
    token = ""
    told = [(shlex.split(command), status) for command, status in commands()]
    for words, status in [cleaning, *told]:
        asked = [word.replace(HOST, host).replace("$TOKEN", token) for word in words]
        done = subprocess.run(
            [*asked, "-sS", "-o", str(tmp_path / "body"), "-D", str(tmp_path / "head"), "-w", "%{http_code}"],
            capture_output=True, text=True, timeout=20, check=False,
        )  # fmt: skip
        body = (tmp_path / "body").read_text() if (tmp_path / "body").exists() else ""
        found = re.search(r"(?im)^Fill-Token: (\S+)", (tmp_path / "head").read_text())
        token = token if found is None else found[1]
        assert (done.returncode, done.stdout) == (0, str(status)), (words, done.stderr, body)


def keys() -> list[str]:
    """What the guide writes: it begins without them on every front, and they share a cluster."""
    return [
        "user/7", "photo/1", "photo/2", "visits", "limit/ada/12:01", "word", "page",
        "lock/report", "page/1", "page/2", "page/3", "rates", "a", "b",
    ]  # fmt: skip

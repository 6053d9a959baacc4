"""What README.md says under "See it", step by step: from a fresh clone to a rebalance in the console within three minutes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ringmaster.net.free_ports import free_ports
from tests.e2e.browser import CHROMIUM, new_page
from tests.e2e.cluster import ROOT
from tests.e2e.waiting import until

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="not installed: chromium"),
]

WITHIN_S = 180.0
CHANGES = "[...document.querySelectorAll('#changes li')].map((line) => line.textContent).join()"


def commands() -> list[str]:
    """The commands of that section."""
    readme = (ROOT / "README.md").read_text()
    section = readme.partition("\n## See it\n")[2].partition("\n## ")[0]
    return re.findall(r"```bash\n(.*?)\n```", section, re.DOTALL)


async def ran(*command: str, cwd: Path) -> int:
    """The exit code of a command."""
    process = await asyncio.create_subprocess_exec(*command, cwd=cwd)
    return await process.wait()


@contextlib.contextmanager
def running(command: str, folder: Path, environment: dict[str, str]) -> Iterator[Path]:
    """Run it like a terminal does until the block ends; what it prints is in the file."""
    printed = folder / "printed"
    with printed.open("wb") as output:
        terminal = subprocess.Popen(
            ["bash", "-c", command],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        yield printed
    finally:
        # As Ctrl-C does.
        os.killpg(terminal.pid, signal.SIGINT)
        terminal.wait(60)


async def test_a_rebalance_is_seen_within_three_minutes(tmp_path: Path) -> None:
    up, scale = commands()
    clone, browser = tmp_path / "clone", tmp_path / "browser"
    browser.mkdir()
    port, master, _, aux, *rest = free_ports(11)
    environment = os.environ | {
        "RINGMASTER_PORT": str(port),
        "RINGMASTER_MASTER_PORT": str(master),
        "RINGMASTER_AUX_PORT": str(aux),
        "RINGMASTER_AUX_HTTP_PORT": str(rest[3]),
    }
    began = time.monotonic()
    assert await ran("git", "clone", "--quiet", str(ROOT), str(clone), cwd=tmp_path) == 0
    with running(up, clone, environment) as printed:
        await until(lambda: "ready: " in printed.read_text(), "it says ready", WITHIN_S)
        async with new_page(browser) as page:
            await page.show(height=1100)
            await page.go(f"http://127.0.0.1:{port}/")
            await page.until("document.querySelectorAll('#nodes tr').length === 3")
            scaling = asyncio.create_task(ran("bash", "-c", scale, cwd=clone))
            await page.until(f"{CHANGES}.includes('aux4 joined')")
            await page.until("/aux4: [1-9]/.test(document.getElementById('legend').textContent)")
            assert time.monotonic() - began < WITHIN_S
            await page.screenshot(ROOT / "build" / "console" / "readme.png")
            assert not page.complaints
            assert await scaling == 0

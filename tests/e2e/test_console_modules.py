"""What of the console is pure: traffic of several masters added up, and keys as a tree."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from master.api.console_page import CONSOLE
from tests.e2e.browser import CHROMIUM, Page, new_page

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(CHROMIUM is None, reason="not installed: chromium"),
]


@pytest_asyncio.fixture
async def page(tmp_path: Path) -> AsyncIterator[Page]:
    async with new_page(tmp_path) as page:
        yield page


async def evaluate(page: Page, module: str, script: str) -> Any:
    """What `script` returns, with all that the module exports in `m`."""
    source = (CONSOLE / module).read_text()
    return await page.evaluate(
        f"import(URL.createObjectURL(new Blob([{source!r}], {{type: 'text/javascript'}}))).then((m) => {{{script}}})"
    )


async def test_keys_are_cut_at_slashes_and_colons(page: Page) -> None:
    keys = ["a/1", "a/2", "a/b:c", "b:x", "c", "a/"]
    assert await evaluate(page, "tree.js", f"return m.level({keys!r}, '')") == {
        "folders": [{"prefix": "a/", "count": 4}, {"prefix": "b:", "count": 1}],
        "keys": ["c"],
    }
    below = [key for key in keys if key.startswith("a/")]
    assert await evaluate(page, "tree.js", f"return m.level({below!r}, 'a/')") == {
        "folders": [{"prefix": "a/b:", "count": 1}],
        "keys": ["a/", "a/1", "a/2"],
    }


async def test_a_quantile_lies_in_the_bucket_where_it_is(page: Page) -> None:
    bounds = [0.001, 0.01, 0.1]
    script = f"return [[0, 0, 0, 0], [10, 0, 0, 0], [0, 10, 0, 0], [9, 0, 0, 1]].map((b) => m.quantile({bounds}, b, 0.5))"
    assert await evaluate(page, "steps.js", script) == pytest.approx(
        [None, 0.0005, 0.0055, 0.001 * 5 / 9]
    )
    # Nothing is known of how much longer the longest took.
    assert (
        await evaluate(page, "steps.js", f"return m.quantile({bounds}, [9, 0, 0, 1], 0.99)") == 0.1
    )


SUM = """
const steps = new m.Steps();
const reply = (master, ...rows) => ({master, step_ms: 2000, bounds_s: [0.001],
    steps: rows.map(([at, requests, hits, misses]) => [at, requests, 0, 0, hits, misses, [requests, 0]])});
"""


async def test_steps_of_masters_are_added(page: Page) -> None:
    script = (
        SUM
        + """
        steps.take(reply("m1", [2000, 10, 8, 2], [4000, 20, 5, 15]));
        steps.take(reply("m2", [2000, 30, 30, 0]));
        const [times, requests,,,, hits] = steps.columns();
        return {times, requests, hits, since: steps.since(["m1", "m2"]), unheard: steps.since(["m1", "m3"])};
    """
    )
    assert await evaluate(page, "steps.js", script) == {
        # The second step of m2 is still to come.
        "times": [2],
        "requests": [20],
        "hits": [38 / 40],
        "since": 2000,
        "unheard": 0,
    }


async def test_a_master_that_is_gone_is_not_waited_for(page: Page) -> None:
    script = (
        SUM
        + """
        steps.take(reply("m1", [2000, 10, 8, 2]));
        steps.take(reply("m2", [2000, 10, 8, 2], [20000, 40, 0, 0]));
        const [times, requests,,,, hits] = steps.columns();
        return [times.at(-1), requests.at(-1), requests[1], hits.at(-1)];
    """
    )
    assert await evaluate(page, "steps.js", script) == [20, 20, None, None]


async def test_five_minutes_are_kept(page: Page) -> None:
    script = (
        SUM
        + """
        for (let at = 2000; at <= 700000; at += 2000) steps.take(reply("m1", [at, 2, 0, 0]));
        return [steps.columns()[0].length, steps.byMaster.get("m1").size];
    """
    )
    assert await evaluate(page, "steps.js", script) == [150, 151]

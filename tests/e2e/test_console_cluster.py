"""The console of a real cluster: what happens is seen within two seconds, keys and nodes are handled, and all can read it.

Pictures of it are left in `build/console`.
"""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from ringmaster.cli.nginx import find_nginx
from tests.e2e.browser import CHROMIUM, Page, new_page
from tests.e2e.cluster import ROOT, Cluster
from tests.e2e.waiting import wait_until

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(CHROMIUM is None, reason="not installed: chromium"),
]

PICTURES = ROOT / "build" / "console"
AXE = Path(__file__).parent / "vendor" / "axe.min.js"
SEEN_S = 2.0

NOT_A_SCRIPT = "<img src=x onerror='window.ran = 1'><script>window.ran = 1</script>"
CHANGES = "[...document.querySelectorAll('#changes li')].map((line) => line.textContent).join()"
HEALTHY = "document.getElementById('health').dataset.health === 'ok'"
MAP = "document.getElementById('map-text').textContent"
HEIGHT = "document.documentElement.scrollHeight"
NODES = "[...document.querySelectorAll('#nodes tr')].map((row) => row.innerText).join()"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Of three nodes, with keys in it."""
    with Cluster(nginx="auto" if find_nginx() else "off") as running:
        running.wait_ready()
        with running.client() as client:
            for n in range(300):
                client.post(f"shop:{n % 7}/item/{n}", b"%d" % n)
            client.put("users/1", NOT_A_SCRIPT.encode(), content_type="text/html")
            client.put(f"users/{NOT_A_SCRIPT}", b"a strange key")
            for _ in range(50):
                client.get("users/1")
        wait_until(lambda: running.status()["health"] == "ok", "it is healthy", 30)
        yield running


@pytest_asyncio.fixture
async def page(tmp_path: Path, cluster: Cluster) -> AsyncIterator[Page]:
    folder = tmp_path / "browser"
    folder.mkdir()
    async with new_page(folder) as page:
        await page.show()
        await page.go(f"{cluster.url}/")
        await page.until(f"{HEALTHY} && document.querySelectorAll('#legend li').length >= 3")
        yield page
        assert not page.complaints
        assert not await page.evaluate("'ran' in window")


async def click(page: Page, selector: str) -> None:
    await page.until(f"document.querySelector({json.dumps(selector)})?.disabled === false")
    await page.evaluate(f"document.querySelector({json.dumps(selector)}).click()")


async def enter(page: Page, **values: str) -> None:
    for name, value in values.items():
        where = json.dumps(name.replace("_", "-"))
        await page.evaluate(f"document.getElementById({where}).value = {json.dumps(value)}")


async def confirm(page: Page) -> None:
    await page.until("document.getElementById('dialog').open")
    await click(page, "#dialog-yes")


async def unlock(page: Page) -> None:
    await page.evaluate("document.getElementById('unlock').click()")


async def complaints_of_axe(page: Page) -> list[str]:
    """What of WCAG 2.1 A and AA the page does not keep."""
    await page.evaluate(AXE.read_text() + "; null")
    found = await page.evaluate(
        """axe.run(document, {runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa']}).then((result) =>
            result.violations.map((rule) => rule.id + ': ' + rule.nodes.map((node) => node.html).slice(0, 5).join(' | ')))"""
    )
    return [str(each) for each in found]


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1280, 360])
async def test_it_can_be_read_by_everybody(
    page: Page, cluster: Cluster, dark: bool, width: int
) -> None:
    await page.show(width=width, dark=dark)
    await enter(page, prefix="", key="users/1")
    await click(page, "#list button")
    await page.until("document.querySelectorAll('#tree li').length > 1")
    await click(page, "#look button")
    await page.until("!document.getElementById('entry').hidden")
    # A transition of colours that is not over yet would be looked at as it is.
    await page.until("document.getAnimations().length === 0")
    assert await complaints_of_axe(page) == []
    assert await page.evaluate("document.documentElement.scrollWidth") <= width
    await page.show(width=width, height=await page.evaluate(HEIGHT), dark=dark)
    await page.screenshot(PICTURES / f"{'dark' if dark else 'light'}-{width}.png")


async def test_the_theme_can_be_chosen(page: Page, cluster: Cluster) -> None:
    background = "getComputedStyle(document.body).backgroundColor"
    light = await page.evaluate(background)
    choose = "{const list = document.getElementById('theme'); list.value = '%s'; list.dispatchEvent(new Event('change'))}"
    await page.evaluate(choose % "dark")
    assert await page.evaluate(background) != light
    await page.reload()
    assert await page.evaluate(background) != light
    await page.evaluate(choose % "")
    assert await page.evaluate(background) == light


async def test_a_partition_is_described_by_keyboard(page: Page, cluster: Cluster) -> None:
    await page.evaluate("document.getElementById('map').focus()")
    await page.press("ArrowRight")
    await page.until(f"{MAP}.startsWith('Partition 0: primary aux')")
    await page.press("ArrowRight")
    await page.until(f"{MAP}.startsWith('Partition 1: primary aux')")
    assert "replicas aux" in await page.evaluate(MAP)


async def test_traffic_of_all_masters_is_drawn(page: Page, cluster: Cluster) -> None:
    await page.until(
        "document.getElementById('traffic-note').textContent.startsWith('All 2 masters')"
    )
    await page.until("document.getElementById('now-latency').textContent.includes('p99')")
    assert await page.evaluate("document.querySelectorAll('.chart canvas').length") == 3


async def test_a_key_is_written_found_shown_and_deleted(page: Page, cluster: Cluster) -> None:
    assert await page.evaluate("document.querySelector('#put button').disabled")
    await unlock(page)
    await enter(
        page, key="new/one", put_value='{"n": 12345678901234567890}', put_tags="red, blue", put_ttl="60"
    )  # fmt: skip
    await click(page, "#put button")
    await page.until("document.getElementById('key-note').textContent === 'Written.'")
    facts = await page.evaluate("document.getElementById('entry').innerText")
    for told in ("application/json", "red, blue", "primary", "replicas", "more"):
        assert told in facts
    assert await page.evaluate("document.getElementById('value').hidden")
    await click(page, "#show")
    shown = "document.getElementById('value').textContent"
    await page.until(f"""{shown} === '{{"n": 12345678901234567890}}'""")
    await click(page, "#delete")
    await confirm(page)
    await page.until("document.getElementById('key-note').textContent === 'Deleted.'")
    with cluster.client() as client:
        assert client.get("new/one") is None


async def test_stored_markup_stays_text(page: Page, cluster: Cluster) -> None:
    await enter(page, prefix="users/", key="users/1")
    await click(page, "#list button")
    await page.until("document.querySelectorAll('#tree li').length >= 2")
    assert "onerror" in await page.evaluate("document.getElementById('tree').textContent")
    await click(page, "#look button")
    await page.until("!document.getElementById('value-buttons').hidden")
    await click(page, "#show")
    await page.until("document.getElementById('value').textContent.includes('onerror')")
    assert await page.evaluate("document.querySelectorAll('main img, main script').length") == 0


async def test_keys_are_a_tree(page: Page, cluster: Cluster) -> None:
    await enter(page, prefix="")
    await click(page, "#list button")
    await page.until("document.getElementById('list-note').textContent.startsWith('All of them')")
    assert "shop: (300)" in await page.evaluate("document.getElementById('tree').innerText")
    await page.evaluate("document.querySelector('#tree summary').click()")
    await page.until("document.querySelectorAll('#tree details details').length === 7")


async def test_a_drain_is_told_beforehand_and_asked_about(page: Page, cluster: Cluster) -> None:
    button = "#nodes tr:nth-child(3) button"
    assert await page.evaluate(f"document.querySelector('{button}').disabled")
    await unlock(page)
    await click(page, button)
    await page.until("document.getElementById('dialog').open")
    told = await page.evaluate("document.getElementById('dialog').innerText")
    for word in ("copies to move", "bytes to move", "takes about", "copies at risk"):
        assert word in told
    assert await complaints_of_axe(page) == []
    await page.screenshot(PICTURES / "drain.png")
    await click(page, "#dialog-no")
    assert {node["state"] for node in cluster.status()["nodes"]} == {"up"}
    await click(page, button)
    await confirm(page)
    await page.until(f"{CHANGES}.includes('aux3 is being drained')")
    await page.until(f"{NODES}.includes('Take back')")
    await click(page, button)
    await page.until(f"{CHANGES}.includes('aux3 takes part again')")
    wait_until(lambda: cluster.status()["health"] == "ok", "it is healthy again", 60)


async def test_a_snapshot_is_taken(page: Page, cluster: Cluster) -> None:
    await page.until("document.getElementById('snapshots-text').textContent.includes('partitions')")
    await unlock(page)
    await click(page, "#snapshot")
    await page.until("document.getElementById('snapshot-note').textContent === 'Taken.'")


async def test_a_kill_and_a_join_are_seen_at_once(page: Page, cluster: Cluster) -> None:
    cluster.nodes["aux2"].kill()
    killed = time.monotonic()
    await page.until(f"{CHANGES}.includes('aux2 died')")
    assert time.monotonic() - killed < SEEN_S
    await page.until(f"{CHANGES}.includes('aux2 is back')")
    assert "promoted" in await page.evaluate(CHANGES)
    cluster.add_node("aux9")
    wait_until(
        lambda: "aux9" in {node["id"] for node in cluster.status()["nodes"]}, "aux9 joined", 20
    )
    joined = time.monotonic()
    await page.until(f"{CHANGES}.includes('aux9 joined') && {NODES}.includes('aux9')")
    assert time.monotonic() - joined < SEEN_S
    await page.until(
        "/aux9: [1-9]/.test(document.getElementById('legend').textContent.replaceAll('aux', ' aux'))"
    )
    await page.screenshot(PICTURES / "rebalance.png")


async def test_it_goes_on_when_masters_are_replaced(page: Page, cluster: Cluster) -> None:
    for name, master in cluster.masters.items():
        before = master.kill()
        wait_until(lambda old=before, m=master: m.pid != old, f"{name} was started again", 20)
        wait_until(cluster.is_ready, "masters answer", 20)
    with cluster.client() as client:
        client.request("POST", "/cluster/rebalance/pause")
        await page.until(f"{CHANGES}.includes('rebalancing is paused')")
        client.request("POST", "/cluster/rebalance/resume")
    await page.until(f"{CHANGES}.includes('rebalancing goes on')")
    await page.until(HEALTHY)
    # What was under way with those masters failed, and the browser says so.
    page.complaints.clear()

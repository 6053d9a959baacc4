"""The console in a real browser: with tokens it asks for one, keeps it to itself, and says which right is missing."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import msgspec
import pytest
import pytest_asyncio

from master.http.limits import Limits
from ringmaster.access.grant import Grant, digest_of, make_grant, new_token
from ringmaster.client import Client
from ringmaster.cluster.view import Filling
from tests.e2e.browser import CHROMIUM, Page, new_page
from tests.fakes.master import FakeMaster, healthy_view

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(CHROMIUM is None, reason="not installed: chromium"),
]

READER, SCRAPER = new_token(), new_token()
GRANTS = (
    make_grant("reader", digest_of(READER), ["read"], ["app/"]),
    make_grant("scraper", digest_of(SCRAPER), ["metrics"]),
)
HEALTH = "document.getElementById('health').textContent"
SIGNED_IN = f"{HEALTH}.includes('· epoch ') && !document.getElementById('state').hidden"
ASKED = "!document.getElementById('sign-in').hidden"
NODES = "document.querySelectorAll('#nodes tr').length"
CHANGES = "[...document.querySelectorAll('#changes li')].map((line) => line.value)"
TOLD = "[...document.querySelectorAll('#changes li')].map((line) => line.textContent).join()"
KEPT = "JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie, location.href])"


def running(tmp_path: Path, grants: tuple[Grant, ...] | None) -> Iterator[FakeMaster]:
    with FakeMaster(tmp_path, Limits(), grants).running() as master:
        master.call(master.events.publish, master.view)
        yield master


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[FakeMaster]:
    yield from running(tmp_path, GRANTS)


@pytest.fixture
def unguarded(tmp_path: Path) -> Iterator[FakeMaster]:
    yield from running(tmp_path, None)


@pytest_asyncio.fixture
async def page(tmp_path: Path) -> AsyncIterator[Page]:
    folder = tmp_path / "browser"
    folder.mkdir()
    async with new_page(folder) as page:
        yield page


async def load(page: Page, master: FakeMaster) -> None:
    host, port = master.address
    await page.go(f"http://{host}:{port}/")


async def sign_in(page: Page, token: str, *, keep: bool = False) -> None:
    await page.until(ASKED)
    await page.evaluate(
        f"""{{
            document.getElementById("token").value = {json.dumps(token)};
            document.getElementById("keep").checked = {json.dumps(keep)};
            document.querySelector("#sign-in button").click();
        }}"""
    )


def publish(master: FakeMaster, epoch: int, *, paused: bool = False) -> None:
    """What a new view does: the page may then ask for the state, and be told of the change."""
    master.view = msgspec.structs.replace(healthy_view(epoch), paused=paused)
    master.call(master.events.publish, master.view)


async def test_without_tokens_it_asks_for_none(page: Page, unguarded: FakeMaster) -> None:
    await load(page, unguarded)
    await page.until(SIGNED_IN)
    assert await page.evaluate(NODES) == 2
    assert not await page.evaluate(ASKED)
    assert await page.evaluate("document.getElementById('sign-out').hidden")
    assert not page.complaints


async def test_with_a_token_it_shows_state_and_changes(page: Page, guarded: FakeMaster) -> None:
    await load(page, guarded)
    await page.until(ASKED)
    assert "“read”" in await page.evaluate(HEALTH)
    assert await page.evaluate(NODES) == 0
    await sign_in(page, READER)
    await page.until(SIGNED_IN)
    assert await page.evaluate(NODES) == 2
    await page.until(f"{CHANGES}.length === 1")
    publish(guarded, 1_000, paused=True)
    publish(guarded, 1_001)
    await page.until(f"{CHANGES}.join() === '1001,1000,' + {healthy_view().epoch}")
    await page.until(f"{HEALTH}.includes('epoch 1001')")


async def test_the_token_is_kept_nowhere(page: Page, guarded: FakeMaster) -> None:
    await load(page, guarded)
    await sign_in(page, READER)
    await page.until(SIGNED_IN)
    assert READER not in await page.evaluate(KEPT)
    assert READER not in await page.evaluate("document.documentElement.outerHTML")
    assert await page.evaluate("document.getElementById('token').value") == ""
    assert not [each for each in page.requests if READER in each["url"]]
    await page.reload()
    await page.until(ASKED)


async def test_a_token_that_is_to_be_kept_lasts_as_long_as_the_tab(
    page: Page, guarded: FakeMaster
) -> None:
    await load(page, guarded)
    await sign_in(page, READER, keep=True)
    await page.until(SIGNED_IN)
    await page.reload()
    await page.until(SIGNED_IN)
    local, session, cookie, url = json.loads(await page.evaluate(KEPT))
    assert (local, list(session.values()), cookie) == ({}, [READER], "")
    assert READER not in url
    await page.evaluate("document.getElementById('sign-out').click()")
    assert await page.evaluate(ASKED)
    assert READER not in await page.evaluate(KEPT)
    assert await page.evaluate(NODES) == 0


async def test_it_says_which_right_is_missing(page: Page, guarded: FakeMaster) -> None:
    await load(page, guarded)
    await sign_in(page, SCRAPER, keep=True)
    await page.until(f"{HEALTH}.includes('The right “read” is missing')")
    assert "scraper" in await page.evaluate(HEALTH)
    assert await page.evaluate(ASKED)
    assert SCRAPER not in await page.evaluate(KEPT)
    await sign_in(page, READER)
    await page.until(SIGNED_IN)


@pytest.mark.parametrize("token", [f"rmt_{'0' * 43}", "no token", "töken"])
async def test_an_unknown_token_is_refused(page: Page, guarded: FakeMaster, token: str) -> None:
    await load(page, guarded)
    await sign_in(page, token)
    await page.until(f"{HEALTH}.startsWith('Not signed in: ')")
    assert await page.evaluate(ASKED)
    await sign_in(page, READER)
    await page.until(SIGNED_IN)


async def test_a_revoked_token_ends_it(page: Page, guarded: FakeMaster) -> None:
    await load(page, guarded)
    await sign_in(page, READER, keep=True)
    await page.until(SIGNED_IN)
    guarded.call(guarded.gate.replace, GRANTS[1:])
    await page.until(f"{HEALTH}.includes('revoked')")
    assert await page.evaluate(ASKED)
    assert await page.evaluate(NODES) == 0
    assert READER not in await page.evaluate(KEPT)


async def test_the_description_opens_with_the_token_and_its_style(
    page: Page, guarded: FakeMaster
) -> None:
    await load(page, guarded)
    await sign_in(page, READER)
    await page.until(SIGNED_IN)
    await page.evaluate("window.open = (url) => { window.opened = url; }")
    await page.evaluate("document.getElementById('docs').click()")
    await page.until("'opened' in window")
    url = await page.evaluate("window.opened")
    assert url.startswith("blob:")
    await page.evaluate(f"location.href = {json.dumps(url)}")
    await page.until("document.title === 'Ringmaster: the HTTP interface'")
    assert (
        await page.evaluate("getComputedStyle(document.querySelector('dd')).marginLeft") == "24px"
    )
    refused = [each for each in page.complaints if "Content Security Policy" in each]
    assert not refused


async def test_with_another_right_the_rest_is_shown(page: Page, guarded: FakeMaster) -> None:
    await load(page, guarded)
    await sign_in(page, READER)
    await page.until("document.getElementById('snapshots-text').textContent.includes('“admin”')")
    assert await page.evaluate(SIGNED_IN)


async def test_a_hidden_tab_asks_nothing(page: Page, unguarded: FakeMaster) -> None:
    await load(page, unguarded)
    await page.until(SIGNED_IN)
    hide = "Object.defineProperty(document, 'hidden', {get: () => %s, configurable: true})"
    tell = "document.dispatchEvent(new Event('visibilitychange'))"
    await page.evaluate(f"{hide % 'true'}; {tell}")
    # Nothing tells that nothing comes but time: twice as long as between two questions.
    asked = len(page.requests)
    publish(unguarded, 1_000, paused=True)
    await page.evaluate("new Promise((resolve) => setTimeout(resolve, 2000))")
    assert len(page.requests) == asked
    assert 1_000 not in await page.evaluate(CHANGES)
    await page.evaluate(f"{hide % 'false'}; {tell}")
    await page.until(f"{HEALTH}.includes('epoch 1000') && {CHANGES}.includes(1000)")
    assert not page.complaints


async def test_signing_out_takes_keys_from_the_page(page: Page, guarded: FakeMaster) -> None:
    await load(page, guarded)
    await sign_in(page, READER)
    await page.until(SIGNED_IN)
    await page.evaluate("document.getElementById('key').value = 'app/secret'")
    await page.evaluate("document.querySelector('#look button').click()")
    await page.until("document.getElementById('key-note').textContent.includes('no such key')")
    await page.evaluate("document.getElementById('unlock').click()")
    await page.evaluate("document.getElementById('sign-out').click()")
    assert "app/secret" not in await page.evaluate("document.body.textContent")
    assert await page.evaluate("document.getElementById('key').value") == ""
    assert not await page.evaluate("document.getElementById('unlock').checked")
    # That it needs a token it learned by asking once.
    assert len([each for each in page.complaints if "401" in each]) == 1


async def test_a_key_that_the_token_is_not_good_for_is_refused_in_words(
    page: Page, guarded: FakeMaster
) -> None:
    await load(page, guarded)
    await sign_in(page, READER)
    await page.until(SIGNED_IN)
    await page.evaluate("document.getElementById('key').value = 'other/1'")
    await page.evaluate("document.querySelector('#look button').click()")
    await page.until("/right|Not done/.test(document.getElementById('key-note').textContent)")
    assert await page.evaluate(SIGNED_IN)


async def test_everything_is_reached_by_the_tab_key(page: Page, unguarded: FakeMaster) -> None:
    await load(page, unguarded)
    await page.until(SIGNED_IN)
    reached: list[str] = []
    for _ in range(40):
        await page.press("Tab")
        reached.append(await page.evaluate("document.activeElement.id"))
        if reached[-1] == "key":
            break
    wanted = ["unlock", "theme", "docs", "map", "changes", "prefix", "key"]
    assert [each for each in reached if each in wanted] == wanted
    # It is seen where one is.
    assert await page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
    await page.call("Input.insertText", text="some/key")
    await page.press("Enter")
    await page.until("document.getElementById('key-note').textContent.includes('no such key')")


async def test_a_restore_and_a_rebalance_are_shown_as_they_go(
    page: Page, unguarded: FakeMaster
) -> None:
    text = "document.getElementById('restore-text').textContent"
    aux1 = unguarded.statuses["aux1"]
    unguarded.statuses["aux1"] = msgspec.structs.replace(
        aux1, restoring=[0, 2, 4], restored_entries=10
    )
    base = healthy_view()
    filled = msgspec.structs.replace(base.table[0], replicas=(), filling=(Filling("aux2", 7),))
    unguarded.view = msgspec.structs.replace(base, table=(filled, *base.table[1:]))
    await load(page, unguarded)
    await page.until(f"{text}.includes('0 of 3 partitions, 10 entries')")
    await page.until(
        "document.getElementById('moves-text').textContent.startsWith('1 copy moving')"
    )
    await page.evaluate("document.getElementById('map').focus()")
    await page.press("ArrowRight")
    await page.until(
        "document.getElementById('map-text').textContent.includes('being filled aux2')"
    )
    unguarded.statuses["aux1"] = msgspec.structs.replace(aux1, restoring=[2], restored_entries=90)
    await page.until(f"{text}.includes('2 of 3 partitions, 90 entries')")
    unguarded.statuses["aux1"] = msgspec.structs.replace(aux1, restored_entries=120)
    unguarded.view = healthy_view(8)
    await page.until(f"{text} === 'Restored from snapshots: 120 entries.'")
    await page.until("document.getElementById('moves').value === 1")
    await page.until(f"{TOLD}.includes('restored from snapshots')")


async def test_a_drain_that_puts_copies_at_risk_takes_a_tick_more(
    page: Page, unguarded: FakeMaster
) -> None:
    await load(page, unguarded)
    await page.until(SIGNED_IN)
    await page.evaluate("document.getElementById('unlock').click()")
    await page.evaluate("document.querySelector('#nodes button').click()")
    await page.until("document.getElementById('dialog').open")
    risk = "document.getElementById('dialog-risk').textContent"
    assert "8 partitions would have too few copies" in await page.evaluate(risk)
    assert await page.evaluate("document.getElementById('dialog-yes').disabled")
    assert not [each for each in page.requests if "force=1" in each["url"]]
    await page.evaluate("document.getElementById('dialog-check').click()")
    await page.evaluate("document.getElementById('dialog-yes').click()")
    await page.until("document.getElementById('node-note').textContent.includes('being drained')")
    [asked] = [each for each in page.requests if "force=1" in each["url"]]
    assert asked["url"].endswith("/cluster/nodes/aux1/drain?force=1")


async def test_markup_in_the_state_of_the_cluster_stays_text(
    page: Page, unguarded: FakeMaster
) -> None:
    evil = "<img src=x onerror='window.ran = 1'>"
    aux1 = unguarded.statuses["aux1"]
    unguarded.statuses["aux1"] = msgspec.structs.replace(aux1, snapshot_problems=[evil])
    await load(page, unguarded)
    await page.until("document.getElementById('reasons').textContent.includes('<img')")
    assert await page.evaluate("document.querySelectorAll('main img').length") == 0
    assert not await page.evaluate("'ran' in window")


ROWS = "[...document.querySelectorAll('#settings tr')].map((row) => row.textContent)"


async def test_settings_are_shown_with_their_source(page: Page, unguarded: FakeMaster) -> None:
    host, port = unguarded.address
    with Client(f"http://{host}:{port}") as client:
        client.change_settings({"max_fills": 8, "rate_limit_address": "100000/s"})
        await load(page, unguarded)
        await page.until(f"{ROWS}.length > 5")
        rows = await page.evaluate(ROWS)
        client.change_settings({"max_fills": None, "rate_limit_address": None})
    assert "max_fills8run time, started with 128masters" in rows
    assert "rate_limit_address100000/srun time, started with nonemasters" in rows
    assert "max_memory–unknownnodes" in rows  # no node answers this master
    said = await page.evaluate("document.getElementById('settings-text').textContent")
    assert said == "2 settings changed. Not known to follow: aux1, aux2."
    assert not page.complaints

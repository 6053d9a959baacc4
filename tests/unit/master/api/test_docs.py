"""The page at /docs and the console work without a network: they ask nothing of anybody but their own origin."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser

import pytest

from master.http.limits import Limits
from tests.conformance.raw_http import Connection, Response
from tests.fakes.master import FakeMaster

# Attributes whose value a browser loads or goes to.
LINKS = {"src", "href", "srcset", "data", "action", "formaction", "poster", "background", "ping"}
# A link that is followed only when it is clicked may lead elsewhere.
FOLLOWED = {("a", "href")}


@pytest.fixture(scope="module")
def master(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeMaster]:
    with FakeMaster(tmp_path_factory.mktemp("docs"), Limits()).running() as running:
        yield running


def read(master: FakeMaster, path: str) -> Response:
    with Connection(master.address) as connection:
        return connection.request("GET", path)


class Loaded(HTMLParser):
    """What a browser fetches for a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.tags: set[str] = set()
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.loaded += [
            value or "" for name, value in attrs if name in LINKS and (tag, name) not in FOLLOWED
        ]


@pytest.mark.parametrize("path", ["/docs", "/"])
def test_a_page_loads_nothing_from_elsewhere(master: FakeMaster, path: str) -> None:
    reply = read(master, path)
    assert reply.status == 200
    html = reply.body.decode()
    page = Loaded(html)
    assert all(each.startswith(("data:", "#")) for each in page.loaded), page.loaded
    assert not page.tags & {"iframe", "object", "embed", "base", "img", "video", "audio"}
    styles = " ".join(re.findall(r"<style>(.*?)</style>", html, re.DOTALL))
    assert "@import" not in styles
    assert "url(" not in styles


@pytest.mark.parametrize("path", ["/docs", "/"])
def test_a_browser_is_told_to_load_nothing(master: FakeMaster, path: str) -> None:
    policy = read(master, path).get("Content-Security-Policy") or ""
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    allowed = " ".join(rules.values()).split()
    assert all(each in {"'none'", "'self'"} or each.startswith("'sha256-") for each in allowed)


def test_docs_needs_no_script(master: FakeMaster) -> None:
    html = read(master, "/docs").body.decode()
    assert "<script" not in html
    assert "GET /data/{key}" in re.sub(r"<[^>]*>", "", html)

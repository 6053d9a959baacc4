"""`make docs`: every page is in the site, links between pages follow, and nothing is loaded from elsewhere."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tooling.docs_site import SITE, listed, pages, rewritten

ROOT = Path(__file__).parents[2]
LOADED = re.compile(
    r"<(?:script|img|iframe|source)[^>]*\ssrc=\"https?:|<link[^>]*rel=\"?(?:stylesheet|preload|icon)[^>]*https?:"
)


def test_the_site_has_every_page_and_loads_nothing_from_elsewhere() -> None:
    done = subprocess.run(
        [sys.executable, "tooling/docs_site.py"],
        cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=110, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    for place in pages().values():
        name = place.replace("README.md", "index.md").removesuffix(".md") + ".html"
        text = (SITE / name).read_text()
        assert not LOADED.search(text), name
    assert "sizing.html" in (SITE / "index.html").read_text()
    assert (SITE / "search.json").stat().st_size > 100_000


def test_what_the_navigation_names_is_a_page() -> None:
    named = listed(tomllib.loads((ROOT / "zensical.toml").read_text())["project"]["nav"])
    assert named <= {*pages().values()}


KNOWN = {
    "README.md": "index.md",
    "docs/a.md": "a.md",
    "docs/adr/1.md": "adr/1.md",
    "docs/images/x.png": "images/x.png",
}


@pytest.mark.parametrize(
    ("source", "text", "result"),
    [
        ("README.md", "[a](docs/a.md#part)", "[a](a.md#part)"),
        ("docs/a.md", "[home](../README.md)", "[home](index.md)"),
        ("docs/adr/1.md", "[a](../a.md)", "[a](../a.md)"),
        ("README.md", "![p](docs/images/x.png)", "![p](images/x.png)"),
        ("docs/a.md", "[code](../Makefile)", "code"),
        ("docs/a.md", "[web](https://example.org/x)", "[web](https://example.org/x)"),
        ("docs/a.md", "[here](#part)", "[here](#part)"),
        ("docs/a.md", "```\n[a](../README.md)\n```", "```\n[a](../README.md)\n```"),
    ],
)
def test_links_follow_their_pages(source: str, text: str, result: str) -> None:
    assert rewritten(text, source, KNOWN) == result


def test_a_link_that_leads_nowhere_is_an_error() -> None:
    with pytest.raises(SystemExit, match="leads nowhere"):
        rewritten("[gone](gone.md)", "docs/a.md", KNOWN)

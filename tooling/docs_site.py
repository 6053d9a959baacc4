"""Builds the documentation as a site, into build/site, without network. The pages are those of the checkout; zensical.toml orders them.

usage: python tooling/docs_site.py

Pages outside of docs/ get a place in the site, links between pages follow, and a link to a file that is no page is left as its text.
A link that leads nowhere, and a page that zensical.toml does not name, are errors.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parents[1]
STAGED: Final = ROOT / "build" / "docs"
SITE: Final = ROOT / "build" / "site"
OUTSIDE: Final = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "CONTRIBUTING.md",
    "SECURITY.md": "SECURITY.md",
    "CHANGELOG.md": "CHANGELOG.md",
    "examples/README.md": "examples.md",
}
"""Pages that are not in docs/, and where they are in the site."""

_link = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s#]*)(#[^)\s]*)?\)")


def pages() -> dict[str, str]:
    """Where each page of the site comes from: path in the checkout to path in the site."""
    inside = {
        str(path.relative_to(ROOT)): str(path.relative_to(ROOT / "docs"))
        for path in sorted((ROOT / "docs").rglob("*.md"))
    }
    return OUTSIDE | inside


def rewritten(text: str, source: str, known: dict[str, str]) -> str:
    """The page `source` for its place in the site. `known`: as `pages`, pictures included."""

    def moved(found: re.Match[str]) -> str:
        picture, words, target, anchor = found.groups()
        if not target or "://" in target:
            return found[0]
        path = os.path.normpath(Path(source).parent / target)
        if path in known:
            there = os.path.relpath(known[path], Path(known[source]).parent)
            return f"{picture}[{words}]({there}{anchor or ''})"
        if not (ROOT / path).exists():
            raise SystemExit(f"{source}: {target} leads nowhere")
        return words

    parts = re.split(r"(```.*?```)", text, flags=re.DOTALL)
    return "".join(part if part.startswith("```") else _link.sub(moved, part) for part in parts)


def listed(nav: list[Any]) -> set[str]:
    """The pages that a navigation names."""
    names: set[str] = set()
    for entry in nav:
        for value in entry.values():
            names |= {value} if isinstance(value, str) else listed(value)
    return names


def main() -> None:
    """Raises `SystemExit` with a sentence for what is wrong."""
    known = pages()
    with (ROOT / "zensical.toml").open("rb") as file:
        named = listed(tomllib.load(file)["project"]["nav"])
    decisions = {page for page in known.values() if page.startswith("adr/")}
    if missing := {*known.values()} - decisions - named:
        raise SystemExit(f"zensical.toml does not name {', '.join(sorted(missing))}")
    shutil.rmtree(STAGED, ignore_errors=True)
    shutil.rmtree(SITE, ignore_errors=True)
    pictures = {
        str(path.relative_to(ROOT)): str(path.relative_to(ROOT / "docs"))
        for path in (ROOT / "docs" / "images").iterdir()
    }
    for source, place in pictures.items():
        (STAGED / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / source, STAGED / place)
    for source, place in known.items():
        (STAGED / place).parent.mkdir(parents=True, exist_ok=True)
        text = (ROOT / source).read_text()
        (STAGED / place).write_text(rewritten(text, source, known | pictures))
    program = Path(sys.executable).with_name("zensical")
    done = subprocess.run(
        [program, "build", "--strict", "--clean"],
        cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    print(f"build/site/index.html: {len(known)} pages")


if __name__ == "__main__":
    main()

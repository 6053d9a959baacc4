"""The console as one page, put together at the start from the files in `master/console`: there is no build step.

A page that needs nothing else can be bound to the hashes of its own scripts. Were they files of this origin, its policy
would have to permit any script of it, and values that clients store have that origin too.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

CONSOLE: Final = Path(__file__).parent.parent / "console"

_ENTRY: Final = "app.js"
_STYLES: Final = ("vendor/uPlot.min.css", "console.css")
_SCRIPTS: Final = ("vendor/uPlot.iife.min.js",)

# What a module may say to others: one import a line, and `export` before a function, a class or a constant.
_IMPORT = re.compile(r'^import \{ ([\w, ]+) \} from "\./([\w.-]+)";$', re.MULTILINE)
_EXPORT = re.compile(r"^export (?=(?:async )?(?:function\*?|class|const) (\w+))", re.MULTILINE)
_LEFT_OVER = re.compile(r"^(?:import|export)\b.*$", re.MULTILINE)


def console_page(folder: Path = CONSOLE) -> str:
    """The whole page. Raises `ValueError` for a module that says more to others than is understood here."""
    styles = "".join(f"<style>{(folder / name).read_text('utf-8')}</style>" for name in _STYLES)
    scripts = "".join(f"<script>{(folder / name).read_text('utf-8')}</script>" for name in _SCRIPTS)
    bodies: dict[str, str] = {}
    _gather(folder, _ENTRY, bodies, ())
    own = '"use strict";\nconst modules = {};\n' + "".join(bodies.values())
    page = (folder / "index.html").read_text("utf-8")
    page = page.replace("<!-- styles -->", styles)
    return page.replace("<!-- scripts -->", f"{scripts}<script>{own}</script>")


def _gather(folder: Path, name: str, bodies: dict[str, str], importers: tuple[str, ...]) -> None:
    """Add `name` and all it imports to `bodies`, each behind those that it needs, in a scope of its own."""
    if name in importers:
        raise ValueError(f"{name} imports itself by way of {importers[-1]}")
    if name in bodies:
        return
    text = (folder / name).read_text("utf-8")
    for imported in _IMPORT.finditer(text):
        _gather(folder, imported[2], bodies, (*importers, name))
    exported = ", ".join(match[1] for match in _EXPORT.finditer(text))
    text = _EXPORT.sub("", _IMPORT.sub(r'const { \1 } = modules["\2"];', text))
    if left_over := _LEFT_OVER.search(text):
        raise ValueError(f"{name}: {left_over[0]}")
    bodies[name] = f'modules["{name}"] = (() => {{\n{text}\nreturn {{ {exported} }};\n}})();\n'

"""The console is put together from its files: modules keep their own scopes, and what is not understood is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from master.api.console_page import CONSOLE, console_page


def folder_of(tmp_path: Path, **modules: str) -> Path:
    (tmp_path / "vendor").mkdir()
    for name in ("vendor/uPlot.min.css", "console.css", "vendor/uPlot.iife.min.js"):
        (tmp_path / name).write_text(f"/* {name} */")
    (tmp_path / "index.html").write_text("<!-- styles --><!-- scripts -->")
    for name, text in modules.items():
        (tmp_path / f"{name}.js").write_text(text)
    return tmp_path


def test_a_module_comes_behind_those_it_imports(tmp_path: Path) -> None:
    page = console_page(
        folder_of(
            tmp_path,
            app='import { one } from "./a.js";\nimport { two } from "./b.js";\none(two);\n',
            a='import { two } from "./b.js";\nexport function one() { return two; }\n',
            b="export const two = 2;\n",
        )
    )
    assert page.index('modules["b.js"] =') < page.index('modules["a.js"] =')
    assert page.count('modules["b.js"] = (') == 1
    assert 'const { two } = modules["b.js"];' in page
    assert "return { one };" in page
    assert "export" not in page


def test_modules_that_import_each_other_are_refused(tmp_path: Path) -> None:
    folder = folder_of(
        tmp_path,
        app='import { a } from "./a.js";\n',
        a='import { b } from "./app.js";\n',
    )
    with pytest.raises(ValueError, match=r"app\.js imports itself"):
        console_page(folder)


@pytest.mark.parametrize("line", ["export default 1;", 'import "./a.js";', "export let a = 1;"])
def test_what_is_not_understood_is_refused(tmp_path: Path, line: str) -> None:
    with pytest.raises(ValueError, match=r"app\.js: "):
        console_page(folder_of(tmp_path, app=f"{line}\n"))


def test_no_module_is_left_out() -> None:
    page = console_page()
    for path in CONSOLE.glob("*.js"):
        assert f'modules["{path.name}"] = (' in page
    assert "<!-- s" not in page


def test_text_becomes_markup_nowhere() -> None:
    for path in CONSOLE.glob("*.js"):
        text = path.read_text()
        for dangerous in ("innerHTML", "outerHTML", "insertAdjacent", "document.write", "eval("):
            assert dangerous not in text, path.name

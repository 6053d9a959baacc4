"""What documents and comments name exists: paths, modules, links, rules, mutants, make targets, ADRs."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from tests.sim.mutants import MUTANTS

ROOT = Path(__file__).parents[2]
FOLDERS = sorted(
    path.name
    for path in ROOT.iterdir()
    if path.is_dir()
    and not path.name.startswith(".")
    and path.name not in {"build", "data", "dist"}
)
HIDDEN = [".ci", ".github"]
CONSISTENCY = "docs/consistency.md"

_EXTENSION = r"\.(?:py|md|sh|yml|yaml|json|toml|txt|lua|conf|template|html)"
_FOLDER = "|".join(map(re.escape, (*FOLDERS, *HIDDEN)))
_PATH = re.compile(rf"(?<![\w./<>@:-])((?:{_FOLDER})/[\w./-]*{_EXTENSION})\b")
"""A file below one of our folders, in any text."""

_TICKED_FOLDER = re.compile(rf"`((?:{_FOLDER})(?:/[\w.-]+)*/?)`")
_SHORT = re.compile(r"(?<![\w./*<>-])((?:[a-z_0-9-]+/)*[a-z_0-9-]+\.(?:py|md))\b")
"""A file by its name or by the end of its path."""

_MODULE = re.compile(r"`((?:ringmaster|master|aux|tests|bench)(?:\.[A-Za-z_]\w*)+)(?:\(\))?`")
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_TICKED = re.compile(r"`([^`\n]+)`")
_MAKE = re.compile(r"(?:^|\s)make ([a-z][a-z-]*)")
_RULE = re.compile(r"\bR\d{1,2}\b")
_ADR = re.compile(r"\badr/(\d{4})\b(?!-)")

DOCUMENTS = sorted(
    str(path.relative_to(ROOT))
    for pattern in ("*.md", "docs/*.md", "docs/adr/*.md", "examples/*.md", ".github/**/*.md")
    for path in ROOT.glob(pattern)
)


def _sources() -> Iterator[Path]:
    for folder in (*FOLDERS, *HIDDEN):
        for path in (ROOT / folder).rglob("*"):
            if path.suffix in {".py", ".sh", ".yml", ".template", ".lua", ".toml"}:
                yield path
    yield from (path for path in ROOT.iterdir() if path.suffix in {".yml", ".toml"})
    yield from (ROOT / "Makefile", ROOT / "Dockerfile", ROOT / ".ci" / "run")
    yield from (path for path in (ROOT / "tooling").iterdir() if path.is_file() and not path.suffix)


SOURCES = sorted({str(path.relative_to(ROOT)) for path in _sources()} - {"tests/unit/test_docs.py"})


def read(name: str) -> str:
    return (ROOT / name).read_text()


def comments(source: str) -> str:
    """Its comments and docstrings, as far as lines tell: code that names a file fails by itself."""
    text = read(source)
    if not source.endswith(".py"):
        return "\n".join(line for line in text.splitlines() if "#" in line)
    quoted = re.findall(r'"""(.*?)"""', text, re.DOTALL)
    return "\n".join([*quoted, *re.findall(r"#(.*)", text)])


def targets() -> set[str]:
    return set(re.findall(r"^([a-z][a-z-]*):", read("Makefile"), re.MULTILINE))


def rules() -> dict[str, str]:
    """The number of each rule, and what is written about it."""
    sections = re.split(r"^##", read(CONSISTENCY), flags=re.MULTILINE)
    return {
        match[1]: section
        for section in sections
        if (match := re.match(r"# (R\d+) ", section)) is not None
    }


def mutants_of(section: str) -> set[str]:
    """The mutants that the section of a rule names."""
    _, _, listed = section.partition("\n- Mutant")
    return set(_TICKED.findall(listed))


def missing(names: Iterable[str], *bases: Path) -> list[str]:
    """Those that are in none of the folders."""
    return sorted({name for name in names if not any((base / name).exists() for base in bases)})


def module_exists(name: str) -> bool:
    """Whether what is named in lower case is a package or module; what comes after a module is something in it."""
    path = ROOT
    for part in name.split("."):
        if (path / part).with_suffix(".py").is_file():
            return True
        if not (path / part).is_dir():
            # Something that the package itself defines: `ringmaster.client.Client`.
            return part[0].isupper() or part in (path / "__init__.py").read_text()
        path /= part
    return True


@pytest.mark.parametrize("name", DOCUMENTS)
def test_paths_that_a_document_names_exist(name: str) -> None:
    text = read(name)
    named = [*_PATH.findall(text), *_TICKED_FOLDER.findall(text)]
    assert missing(named, ROOT) == []


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_document_names_a_module_by_its_whole_path(name: str) -> None:
    ticked = " ".join(_TICKED.findall(read(name)))
    named = (short for short in _SHORT.findall(ticked) if short != "__main__.py")
    assert missing(named, ROOT, (ROOT / name).parent) == []


@pytest.mark.parametrize("name", SOURCES)
def test_paths_that_comments_name_exist(name: str) -> None:
    text = comments(name)
    ticked = " ".join(_TICKED.findall(text))
    beside = (ROOT / name).parent
    assert missing(_PATH.findall(text), ROOT) == []
    assert missing(_SHORT.findall(ticked), ROOT, beside) == []


def test_modules_that_documents_and_comments_name_exist() -> None:
    texts = {name: read(name) for name in DOCUMENTS} | {name: comments(name) for name in SOURCES}
    unknown = {
        (name, module)
        for name, text in texts.items()
        for module in _MODULE.findall(text)
        if not module.endswith(".toml") and not module_exists(module)
    }
    assert unknown == set()


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_between_documents_resolve(name: str) -> None:
    links = (link.partition("#")[0] for link in _LINK.findall(read(name)) if "://" not in link)
    assert missing(filter(None, links), (ROOT / name).parent) == []


def test_make_targets_that_documents_and_comments_name_exist() -> None:
    unknown = set()
    for name in (*DOCUMENTS, *SOURCES):
        text = read(name) if name in DOCUMENTS else comments(name)
        code = _TICKED.findall(text)
        if name in DOCUMENTS:
            code += [
                line for line in text.splitlines() if re.match(r"(?:    |\$ )?make [a-z]", line)
            ]
        named = {target for piece in code for target in _MAKE.findall(piece)}
        unknown |= {(name, target) for target in named - targets()}
    assert unknown == set()


def test_adrs_that_documents_and_comments_name_exist() -> None:
    unknown = {
        (name, number)
        for name in (*DOCUMENTS, *SOURCES)
        for number in _ADR.findall(read(name))
        if not list(ROOT.glob(f"docs/adr/{number}-*.md"))
    }
    assert unknown == set()


def test_the_index_lists_every_adr() -> None:
    files = {path.name for path in ROOT.glob("docs/adr/[0-9]*.md")}
    listed = re.findall(
        r"^\| (\d{4}) \| \[[^]]+\]\(([^)]+)\)", read("docs/adr/README.md"), re.MULTILINE
    )
    assert {name for _, name in listed} == files
    assert all(name.startswith(f"{number}-") for number, name in listed)


def test_rules_that_documents_and_comments_name_are_defined() -> None:
    defined = set(rules())
    unknown = {
        (name, rule)
        for name in (*DOCUMENTS, *SOURCES)
        for rule in _RULE.findall(read(name))
        if rule not in defined
    }
    assert unknown == set()


def test_rules_are_numbered_without_a_gap() -> None:
    assert list(rules()) == [f"R{number}" for number in range(1, len(rules()) + 1)]


@pytest.mark.parametrize("rule", rules())
def test_a_rule_says_what_keeps_it_and_which_mutants_show_it(rule: str) -> None:
    section = rules()[rule]
    keepers, _, _ = section.partition("\n- Kept by ")[2].partition("\n- ")
    assert _PATH.findall(keepers)
    assert mutants_of(section)


def test_the_rules_name_every_mutant_and_no_other() -> None:
    named = set().union(*map(mutants_of, rules().values()))
    assert named == set(MUTANTS)


@pytest.mark.parametrize("mutant", sorted(MUTANTS))
def test_a_mutant_is_listed_with_the_rules_that_it_says_it_breaks(mutant: str) -> None:
    said, colon, _ = (MUTANTS[mutant].__doc__ or "").partition(":")
    listed = {rule for rule, section in rules().items() if mutant in mutants_of(section)}
    assert set(_RULE.findall(said) if colon else ()) <= listed


def test_a_plain_read_is_described_in_ten_files_that_import_each_other() -> None:
    """In the order of the calls: on each side of the wire every file is reached from one before it."""
    section = _section("docs/architecture.md", "A read, step by step")
    names = re.findall(r"^\d+\. `([\w/]+\.py)`", section, re.MULTILINE)
    assert 1 <= len(names) <= 10
    assert set(re.findall(r"`([\w/]+\.py)`", section)) == set(names)
    roots = {"master/fastpath/connection.py", "aux/server/server.py"}
    for at, name in enumerate(names):
        imported = name.removesuffix(".py").replace("/", ".")
        callers = [(ROOT / before).read_text() for before in names[:at]]
        known = any(f"from {imported} import" in text for text in callers)
        # They reach their callers by way of what those are given.
        given = {
            "aux/storage/adaptive.py",
            "master/http/responses.py",
            "ringmaster/net/link.py",
            "ringmaster/routing/router.py",
        }
        assert known or name in roots | given, name


def _section(document: str, title: str) -> str:
    text = (ROOT / document).read_text()
    return text.partition(f"## {title}\n")[2].partition("\n## ")[0]

"""The wheel, the requirements files and the contracts that a release rests on."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest

import ringmaster
from tooling import compile as compiling

ROOT = Path(__file__).parents[2]
REQUIREMENTS = ["requirements.txt", "requirements-dev.txt", "requirements-compile.txt"]


def pins(name: str) -> dict[str, str]:
    """Package to the text of its requirement, continuation lines joined."""
    text = (ROOT / name).read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return {re.split(r"[=\[ ;]", line, maxsplit=1)[0]: line for line in lines}


def build_wheel(checkout: Path, to: Path, **environment: str) -> Path:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(to)],
        cwd=checkout,
        check=True,
        capture_output=True,
        timeout=60,
        env=os.environ | environment,
    )
    (wheel,) = to.glob("*.whl")
    return wheel


def test_the_wheel_holds_ringmaster_only(tmp_path: Path) -> None:
    wheel = build_wheel(ROOT, tmp_path)
    assert wheel.name.endswith("-py3-none-any.whl")
    names = zipfile.ZipFile(wheel).namelist()
    dist_info = f"ringmaster-{ringmaster.__version__}.dist-info"
    assert {name.split("/")[0] for name in names} == {"ringmaster", dist_info}
    assert "ringmaster/py.typed" in names


def test_the_compiled_wheel_holds_services_and_machine_code_too(tmp_path: Path) -> None:
    checkout = tmp_path / "checkout"
    compiled = checkout / "build" / "compiled"
    for name in ("pyproject.toml", "README.md", "LICENSE", "ringmaster", "nginx", "tooling"):
        (checkout / name).parent.mkdir(exist_ok=True)
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, checkout / name)
    for package in compiling.PACKAGES:
        shutil.copytree(ROOT / package, compiled / package)
    suffix = EXTENSION_SUFFIXES[0]
    modules = [path.removesuffix(".py") for path in compiling.modules()]
    for module in ("shared__mypyc", *modules):
        (compiled / f"{module}{suffix}").write_bytes(b"machine code")
    wheel = build_wheel(checkout, tmp_path, HATCH_BUILD_HOOK_ENABLE_CUSTOM="true")
    # For this Python and this kind of machine alone.
    assert not wheel.name.endswith("-any.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {f"{module}{suffix}" for module in ("shared__mypyc", *modules)} <= names
    services = {"master/__main__.py", "aux/__main__.py", "ringmaster/cli/ringmaster.conf.template"}
    assert services <= names
    console = (ROOT / "master" / "console").rglob("*.*")
    assert {str(path.relative_to(ROOT)) for path in console} <= names
    assert not {name for name in names if "__pycache__" in name or name.startswith("tooling/")}


def test_what_compiling_is_said_to_bring_is_what_was_measured() -> None:
    table = (ROOT / "docs" / "performance.md").read_text()
    for method in ("GET", "POST"):
        (with_it,) = re.findall(
            rf"^\| ringmaster, one core \| {method} 100 B \| ([\d,]+)", table, re.MULTILINE
        )
        (without,) = re.findall(
            rf"^\| ringmaster, one core, interpreted \| {method} 100 B \| ([\d,]+)",
            table,
            re.MULTILINE,
        )
        (said,) = re.findall(rf"([\d.]+) times the {method}s", compiling.HINT)
        ratio = int(with_it.replace(",", "")) / int(without.replace(",", ""))
        assert float(said) == pytest.approx(ratio, abs=0.01)


def test_no_image_is_made_of_the_stage_with_the_compiler() -> None:
    made_of: dict[str, str] = {}
    text: dict[str, str] = {}
    for stage in (ROOT / "Dockerfile").read_text().split("\nFROM ")[1:]:
        base, _, name = stage.split("\n", maxsplit=1)[0].split()
        made_of[name], text[name] = base, stage
    assert "gcc" in text["compiled"]
    for image in ("master", "aux"):
        name = image
        while name in made_of:
            assert name != "compiled"
            assert "apt-get" not in text[name]
            assert "requirements-" not in text[name]
            name = made_of[name]
        assert f"COPY --from=compiled /source/build/compiled/{image} " in text[image]


@pytest.mark.parametrize("name", REQUIREMENTS)
def test_requirements_name_no_place_to_load_from(name: str) -> None:
    text = (ROOT / name).read_text()
    assert not re.search(
        r"://|^\s*-|@\s|\.(com|org|net|io|dev)\b", re.sub(r"--hash=\S+", "", text), re.MULTILINE
    )


@pytest.mark.parametrize("name", REQUIREMENTS)
def test_every_requirement_is_pinned_and_hashed(name: str) -> None:
    for package, line in pins(name).items():
        assert re.match(rf"{re.escape(package)}==\S+ ", line)
        assert "--hash=sha256:" in line


def test_hooks_and_hosted_ci_use_what_this_checkout_has() -> None:
    hooks = (ROOT / ".pre-commit-config.yaml").read_text()
    assert re.findall(r"repo: (\S+)", hooks) == ["local"]
    assert set(re.findall(r"language: (\S+)", hooks)) == {"system"}
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text()
    assert re.findall(r"- run: (\.\S+)", workflow) == [".ci/run"]


def test_continuous_integration_simulates_at_least_a_thousand_seeds() -> None:
    (seeds,) = re.findall(r"RINGMASTER_SIM_SEEDS:-(\d+)", (ROOT / ".ci" / "run").read_text())
    assert int(seeds) >= 1000


def test_what_runs_and_what_develops_use_the_same_versions() -> None:
    def versions(name: str) -> set[str]:
        return {line.split(" --hash", 1)[0].strip() for line in pins(name).values()}

    assert versions("requirements.txt") <= versions("requirements-dev.txt")


def test_every_direct_dependency_is_locked_and_explained() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    explained = (ROOT / "docs" / "dependencies.md").read_text()
    runtime = project["project"]["dependencies"]
    tools = [
        *project["dependency-groups"]["dev"],
        *project["project"]["optional-dependencies"]["bench"],
    ]
    for name, wanted in (("requirements.txt", runtime), ("requirements-dev.txt", runtime + tools)):
        locked = pins(name)
        for requirement in wanted:
            package = re.split(r"[><=\[]", requirement, maxsplit=1)[0]
            assert package in locked
            assert f"| {package} |" in explained

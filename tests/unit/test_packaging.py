"""The wheel, the requirements files and the contracts that a release rests on."""

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import ringmaster

ROOT = Path(__file__).parents[2]
REQUIREMENTS = ["requirements.txt", "requirements-dev.txt"]


def pins(name: str) -> dict[str, str]:
    """Package to the text of its requirement, continuation lines joined."""
    text = (ROOT / name).read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return {re.split(r"[=\[ ;]", line, maxsplit=1)[0]: line for line in lines}


def test_the_wheel_holds_ringmaster_only(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT,
        check=True,
        capture_output=True,
        timeout=60,
    )
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    dist_info = f"ringmaster-{ringmaster.__version__}.dist-info"
    assert {name.split("/")[0] for name in names} == {"ringmaster", dist_info}
    assert "ringmaster/py.typed" in names


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

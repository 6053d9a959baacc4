"""What `make sbom` names, and what `make audit` concludes."""

import json
import subprocess
import sys
from pathlib import Path

from tests.unit.test_packaging import pins
from tooling.audit import verdict
from tooling.sbom import direct

ROOT = Path(__file__).parents[2]


def test_the_sbom_names_every_package_that_runs_in_its_locked_version(tmp_path: Path) -> None:
    path = tmp_path / "sbom.json"
    subprocess.run([sys.executable, "tooling/sbom.py", str(path)], cwd=ROOT, check=True, timeout=60)
    bom = json.loads(path.read_text())
    assert (bom["bomFormat"], bom["specVersion"]) == ("CycloneDX", "1.6")
    named = {each["name"]: each for each in bom["components"]}
    locked = pins("requirements.txt")
    assert named.keys() == locked.keys()
    for name, line in locked.items():
        assert f"{name}=={named[name]['version']} " in line
        assert named[name]["purl"].startswith(f"pkg:pypi/{name}@")
    root = bom["metadata"]["component"]["bom-ref"]
    (ours,) = [each["dependsOn"] for each in bom["dependencies"] if each["ref"] == root]
    assert {named[name]["bom-ref"] for name in direct()} == set(ours)


def looked_up(name: str, *flaws: str) -> dict[str, object]:
    vulns = [{"id": flaw, "fix_versions": ["2.0"]} for flaw in flaws]
    return {"name": name, "version": "1.0", "vulns": vulns}


SKIPPED = {"name": "c", "skip_reason": "it was not found"}


def test_an_audit_that_looked_nothing_up_has_failed() -> None:
    assert verdict([looked_up("a"), looked_up("b")]) == (
        0,
        ["nothing is known against the 2 packages that run"],
    )
    assert verdict([looked_up("a"), looked_up("b", "PYSEC-1")]) == (
        1,
        ["b 1.0: PYSEC-1, mended in 2.0"],
    )
    assert verdict([looked_up("a"), SKIPPED]) == (2, ["1 of 2 could not be looked up: c"])
    assert verdict([SKIPPED])[0] == 2

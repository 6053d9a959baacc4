"""Writes build/sbom.json: what an installed Ringmaster consists of, in CycloneDX's format. Run by `make sbom`; needs no network.

usage: python tooling/sbom.py [FILE]

From the lock, not from what is installed: .venv holds the tools as well, and what else depends on the machine.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any, Final

import ringmaster

ROOT: Final = Path(__file__).parents[1]
_COMMAND: Final = (
    sys.executable, "-W", "ignore", "-m", "cyclonedx_py", "requirements", "--pyproject", "pyproject.toml",
    "--mc-type", "application", "--output-reproducible", "--spec-version", "1.6", "--output-format", "JSON",
    "--output-file", "-", "requirements.txt",
)  # fmt: skip


def main() -> None:
    """Write the file, and say so."""
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "build" / "sbom.json"
    made = subprocess.run(_COMMAND, cwd=ROOT, check=True, stdout=subprocess.PIPE, timeout=120)
    bom = completed(json.loads(made.stdout))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(bom, indent=2) + "\n")
    print(f"sbom: {path} names {len(bom['components'])} components")


def completed(bom: dict[str, Any]) -> dict[str, Any]:
    """`bom` with what the lock does not say: our version, and which components are our own choice."""
    root = bom["metadata"]["component"]
    root["version"] = ringmaster.__version__
    chosen = direct()
    refs = [each["bom-ref"] for each in bom["components"] if each["name"] in chosen]
    others = [each for each in bom["dependencies"] if each["ref"] != root["bom-ref"]]
    bom["dependencies"] = [{"ref": root["bom-ref"], "dependsOn": sorted(refs)}, *others]
    return bom


def direct() -> set[str]:
    """The names of the packages that run and that pyproject.toml asks for."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return {re.split(r"[><=\[; ]", each, maxsplit=1)[0] for each in project["dependencies"]}


if __name__ == "__main__":
    main()

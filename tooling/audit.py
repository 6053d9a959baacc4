"""Looks up every package that runs, as requirements.txt pins it, in the registry of advisories. Run by `make audit`.

usage: python tooling/audit.py [options of pip-audit]

pip-audit comes into a throwaway environment. Exit code 0: all were looked up and nothing is known; 1: something is; 2: some could
not be looked up, so nothing is said about them.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parents[1]
PIP_AUDIT: Final = "pip-audit~=2.9"


def main() -> int:
    """The exit code."""
    with tempfile.TemporaryDirectory() as scratch:
        venv.create(scratch, with_pip=True)
        python = str(Path(scratch) / "bin" / "python")
        install = [
            python,
            "-m",
            "pip",
            "--disable-pip-version-check",
            "--quiet",
            "install",
            PIP_AUDIT,
        ]
        if subprocess.run(install, check=False, capture_output=True, timeout=300).returncode:
            return _failed(
                "pip-audit could not be installed: no package index is reached from here"
            )
        command = [
            python, "-m", "pip_audit", "--requirement", "requirements.txt", "--require-hashes", "--disable-pip",
            "--progress-spinner", "off", "--format", "json", *sys.argv[1:],
        ]  # fmt: skip
        ran = subprocess.run(
            command, cwd=ROOT, check=False, capture_output=True, text=True, timeout=600
        )
    try:
        found = json.loads(ran.stdout)["dependencies"]
    except (ValueError, KeyError):
        lines = ran.stderr.strip().splitlines() or ["it said nothing"]
        return _failed(f"no registry of advisories is reached from here ({lines[-1][:200]})")
    code, lines = verdict(found)
    print("\n".join(f"audit: {line}" for line in lines), file=sys.stderr if code else sys.stdout)
    return code


def verdict(found: list[dict[str, Any]]) -> tuple[int, list[str]]:
    """The exit code and what to say, from what pip-audit found of each package.

    It counts a package that it could not look up neither as safe nor as unsafe, and succeeds: here that is a failure.
    """
    lines = [
        f"{each['name']} {each['version']}: {flaw['id']}, mended in {', '.join(flaw['fix_versions']) or 'no version'}"
        for each in found
        for flaw in each.get("vulns", ())
    ]
    if lines:
        return 1, lines
    skipped = [each["name"] for each in found if "skip_reason" in each]
    if len(skipped) == len(found):
        return 2, ["no registry of advisories is reached from here: nothing was looked up"]
    if skipped:
        return 2, [f"{len(skipped)} of {len(found)} could not be looked up: {', '.join(skipped)}"]
    return 0, [f"nothing is known against the {len(found)} packages that run"]


def _failed(sentence: str) -> int:
    print(f"audit: {sentence}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())

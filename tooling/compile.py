"""Compiles the hot modules ahead of time with mypyc, into build/compiled: the same sources, a quarter faster.

usage: python tooling/compile.py [--path | --missing]

build/compiled holds a copy of the three packages with the modules that `pyproject.toml` lists under [tool.compiled] as
extension modules beside their sources. Whoever puts that folder first on PYTHONPATH runs it; the checkout itself stays as it
is. Nothing is done when build/compiled is current. A C compiler and Python's headers are needed.

--path: print the folder if it is there and current, else nothing but a hint on standard error; compile nothing.
--missing: print the Debian packages that compiling needs and this machine lacks; compile nothing.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from importlib.metadata import version
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
PACKAGES: Final = ("ringmaster", "master", "aux")
BUILD: Final = ROOT / "build"
COMPILED: Final = BUILD / "compiled"
DIGEST: Final = ".digest"
# Where the compiler looks: the interpreter's own folder, and those of CPATH.
HEADERS: Final = [
    Path(folder) / "Python.h"
    for folder in (sysconfig.get_path("include"), *os.environ.get("CPATH", "").split(":"))
    if folder
]
HINT: Final = "`make compiled`, once, takes two or three minutes and lets a core serve 1.18 times the GETs and 1.51 times the POSTs"
"""Measured: the rows of docs/performance.md with and without "interpreted"."""

_IGNORED: Final = shutil.ignore_patterns("__pycache__", "*.so", "*.pyc")

# Runs in the folder that is compiled; a process of its own, since setuptools changes the one it runs in.
_SETUP: Final = """
import os, sys
from mypyc.build import mypycify
from setuptools import setup
modules = sys.argv[1:]
sys.argv = ["setup", "--quiet", "build_ext", "--inplace", "--parallel", str(os.cpu_count() or 1)]
flags = ["--config-file=mypy.toml", *modules]
setup(name="compiled", packages=[], ext_modules=mypycify(flags, opt_level="2", debug_level="0"))
"""


def modules() -> list[str]:
    """Paths of the modules to be compiled, relative to the checkout."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        names: list[str] = tomllib.load(file)["tool"]["compiled"]["modules"]
    return [f"{name.replace('.', '/')}.py" for name in names]


def digest() -> str:
    """Of everything that the result depends on."""
    found = hashlib.sha256(f"{sys.version} {version('mypy')} {sysconfig.get_platform()}".encode())
    found.update(Path(__file__).read_bytes())
    found.update("\n".join(modules()).encode())
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*")):
            if path.is_file() and path.suffix not in {".pyc", ".so"}:
                found.update(f"{path.relative_to(ROOT)}\0".encode() + path.read_bytes())
    return found.hexdigest()


def has_headers() -> bool:
    """Whether Python's are there."""
    return any(path.is_file() for path in HEADERS)


def missing() -> list[str]:
    """Debian packages that are needed and not there. Headers of an interpreter of another origin are its own affair."""
    packages = [] if shutil.which("cc") else ["gcc"]
    if not has_headers() and sys.base_prefix == "/usr":
        packages.append(f"python{sys.version_info.major}.{sys.version_info.minor}-dev")
    return packages


def is_current(wanted: str) -> bool:
    """Whether build/compiled is what `wanted` describes."""
    path = COMPILED / DIGEST
    return path.is_file() and path.read_text() == wanted


def mypy_settings() -> str:
    """[tool.mypy] of pyproject.toml without the packages, which would be compiled as well."""
    lines = (ROOT / "pyproject.toml").read_text().splitlines()
    kept = []
    inside = False
    for line in lines:
        if line.startswith("["):
            inside = line.startswith(("[tool.mypy]", "[[tool.mypy."))
        if inside and not line.startswith("packages"):
            kept.append(line)
    return "\n".join(kept)


def build(wanted: str) -> None:
    """Compile into a folder beside, then put it in the place of build/compiled. Raises `CalledProcessError`."""
    fresh = BUILD / f"compiled.{os.getpid()}.tmp"
    shutil.rmtree(fresh, ignore_errors=True)
    try:
        for package in PACKAGES:
            shutil.copytree(ROOT / package, fresh / package, ignore=_IGNORED)
        # Files that the packages look for beside themselves.
        (fresh / "nginx").symlink_to(ROOT / "nginx")
        (fresh / "mypy.toml").write_text(mypy_settings())
        log = BUILD / "compile.log"
        with log.open("w") as output:
            subprocess.run(
                [sys.executable, "-c", _SETUP, *modules()],
                cwd=fresh,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                check=True,
                env={**os.environ, "MYPYPATH": "."},
            )
        shutil.rmtree(fresh / "build", ignore_errors=True)
        shutil.rmtree(fresh / ".mypy_cache", ignore_errors=True)
        (fresh / DIGEST).write_text(wanted)
        shutil.rmtree(COMPILED, ignore_errors=True)
        fresh.rename(COMPILED)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def main() -> int:
    """See the module's docstring. 1: it cannot be compiled here, and why is said on standard error."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--path", action="store_true")
    what.add_argument("--missing", action="store_true")
    given = parser.parse_args()
    if given.missing:
        print(*missing())
        return 0
    wanted = digest()
    if given.path:
        if is_current(wanted):
            print(COMPILED)
        else:
            sys.stderr.write(f"Interpreted: {HINT}\n")
        return 0
    if is_current(wanted):
        return 0
    if shutil.which("cc") is None or not has_headers():
        sys.stderr.write(f"compile: a C compiler (cc) and {HEADERS[0]} are needed\n")
        return 1
    print("compile: the hot modules, with mypyc; this takes a minute or two")
    BUILD.mkdir(exist_ok=True)
    try:
        build(wanted)
    except subprocess.CalledProcessError:
        sys.stderr.write((BUILD / "compile.log").read_text()[-4000:])
        sys.stderr.write("compile: failed; all of the output is in build/compile.log\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

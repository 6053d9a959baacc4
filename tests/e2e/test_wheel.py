"""The wheel of `make wheel`, installed where nothing else of this checkout is."""

from __future__ import annotations

import os
import site
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.cluster import ROOT, Cluster
from tooling.compile import digest, is_current

pytestmark = [pytest.mark.e2e, pytest.mark.thorough]


def ran(*command: str | Path, cwd: Path = ROOT, **environment: str) -> str:
    clean = {name: text for name, text in os.environ.items() if not name.startswith("PYTHON")}
    return subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=clean | environment,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        timeout=120,
    ).stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the programs of a fresh environment with the wheel in it; what it depends on is borrowed."""
    if not is_current(digest()):
        pytest.skip("build/compiled is not current: make compiled")
    folder = tmp_path_factory.mktemp("wheel")
    hook = {"HATCH_BUILD_HOOK_ENABLE_CUSTOM": "true"}
    build = ("hatchling", "build", "--target", "wheel", "--directory", folder)
    ran(sys.executable, "-m", *build, **hook)
    (wheel,) = folder.glob("*.whl")
    environment = folder / "environment"
    ran(sys.executable, "-m", "venv", environment)
    python = environment / "bin" / "python"
    ran(python, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", wheel)
    (packages,) = environment.glob("lib/python*/site-packages")
    # Python reads no .pth files of folders that one names; so the checkout, which such a file leads to, stays out.
    (packages / "borrowed.pth").write_text("\n".join(site.getsitepackages()) + "\n")
    return environment / "bin"


def test_its_hot_modules_are_compiled(installed: Path, tmp_path: Path) -> None:
    assert "(compiled)" in ran(installed / "ringmaster", "--version", cwd=tmp_path)
    script = "import aux.server.server as a, master.fastpath.connection as b, ringmaster.net.link as c; print(a.__file__, b.__file__, c.__file__)"
    for path in ran(installed / "python", "-c", script, cwd=tmp_path).split():
        assert path.startswith(str(installed.parent))
        assert path.endswith(".so")


@pytest.mark.parametrize("nginx", ["off", "auto"])
def test_it_runs_a_cluster(
    installed: Path, tmp_path: Path, nginx: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTHONPATH", raising=False)
    program = (str(installed / "ringmaster"),)
    with Cluster(masters=1, aux=2, nginx=nginx, cwd=tmp_path, program=program) as cluster:
        cluster.wait_ready()
        assert "(compiled)" in cluster.output
        with cluster.client() as client:
            client.put("a", b"one")
            assert client.get("a") == b"one"
        for name in ("master1", "aux1"):
            assert "compiled=True" in cluster.log(name)

"""What `make wheel` adds to the wheel: the services, and the hot modules as machine code. A build hook of hatchling.

Without HATCH_BUILD_HOOK_ENABLE_CUSTOM=true it is not called, and the wheel is that of `pip install .`: the library and the command, for any
Python. With it, build/compiled must be current (`make compiled`), and the wheel is for this Python and this kind of machine.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class CompiledWheel(BuildHookInterface[Any]):
    """Paths in the wheel are those in build/compiled."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        root = Path(self.root)
        compiled = root / "build" / "compiled"
        included = {str(path): str(path.relative_to(compiled)) for path in _services(compiled)}
        if not included:
            raise FileNotFoundError(f"nothing compiled in {compiled}: make compiled")
        included[str(root / "nginx" / "ringmaster.conf.template")] = (
            "ringmaster/cli/ringmaster.conf.template"
        )
        build_data["force_include"].update(included)
        build_data["pure_python"] = False
        build_data["infer_tag"] = True


def _services(compiled: Path) -> Iterator[Path]:
    """The two services, and extension modules; sources of the library are in the wheel anyway."""
    yield from compiled.glob("*.so")
    yield from compiled.glob("ringmaster/**/*.so")
    for service in ("master", "aux"):
        for path in compiled.glob(f"{service}/**/*"):
            if path.is_file() and "__pycache__" not in path.parts:
                yield path

"""What this machine and this installation are: versions, limits, settings, the doctor's result, the ends of logs."""

from __future__ import annotations

import asyncio
import importlib.metadata
import os
import platform
import resource
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from ringmaster.cli.diagnose.bundle import Bundle
from ringmaster.cli.doctor.checks import findings, worst
from ringmaster.cli.doctor.gather import gather
from ringmaster.config.settings import UpSettings
from ringmaster.errors import RingmasterError
from ringmaster.runtime.compiled import full_version
from ringmaster.runtime.machine_memory import machine_memory

LOG_BYTES: Final = 2 * 2**20
"""Of the end of each log."""

_LOGS: Final = 64
_LIBRARIES: Final = (
    *("aiohttp", "uvloop", "httptools", "hiredis", "msgspec", "orjson", "pydantic"),
    *("pydantic-settings", "prometheus-client", "structlog", "typer", "xxhash", "zstandard"),
)


def add_versions(bundle: Bundle) -> None:
    """Of ourselves, Python, libraries and the system."""
    found: dict[str, str] = {}
    for name in _LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    total, available = machine_memory()
    limits = {
        name.removeprefix("RLIMIT_").lower(): resource.getrlimit(getattr(resource, name))
        for name in dir(resource)
        if name.startswith("RLIMIT_")
    }
    facts = {
        "ringmaster": full_version(),
        "python": sys.version,
        "libraries": found,
        "platform": platform.platform(),
        "machine": platform.machine(),
        "processors": {"all": os.cpu_count(), "ours": len(os.sched_getaffinity(0))},
        "memory_bytes": {"all": total, "available": available},
        "load": os.getloadavg(),
        "limits": limits,
    }
    bundle.add_json("versions.json", facts, "versions, platform, and the limits of this command")


def add_settings(bundle: Bundle, settings: UpSettings) -> None:
    """As this command finds them, with where each comes from; of secrets only whether they are set."""
    rows: dict[str, Any] = {}
    for name, field in type(settings).model_fields.items():
        value = getattr(settings, name)
        if not field.repr:
            value = "[redacted]" if value else ""
        elif isinstance(value, Path):
            value = str(value)
        rows[name] = {"value": value, "source": settings.source_of(name)}
    bundle.add_json("settings.json", rows, "the settings that `ringmaster up` would have here")


def add_doctor(bundle: Bundle, settings: UpSettings) -> None:
    """What `ringmaster doctor` says."""
    try:
        found = findings(asyncio.run(gather(settings, None)))
    except RingmasterError as error:
        bundle.lack("doctor.json", str(error))
        return
    rows: Mapping[str, Any] = {"verdict": worst(found), "checks": [asdict(each) for each in found]}
    bundle.add_json("doctor.json", rows, "`ringmaster doctor` with these settings")


def add_logs(bundle: Bundle, data_dir: Path) -> None:
    """The end of each log of `ringmaster up`."""
    folder = data_dir / "logs"
    try:
        paths = sorted(each for each in folder.iterdir() if each.suffix in (".log", ".old"))
    except OSError as error:
        bundle.lack("logs", f"cannot read {folder}: {error.strerror}")
        return
    for path in paths[:_LOGS]:
        try:
            with path.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - LOG_BYTES))
                content = file.read(LOG_BYTES)
            if size > LOG_BYTES:
                content = content.partition(b"\n")[2]  # half a line may have half a secret
        except OSError as error:
            bundle.lack(f"logs/{path.name}", str(error.strerror))
            continue
        what = "its end" if size > LOG_BYTES else "the whole of it"
        bundle.add(f"logs/{path.name}", content, f"{path.name}, {size} bytes: {what}", end=True)

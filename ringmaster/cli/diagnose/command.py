"""`ringmaster diagnose`: gathers within a bounded time, whatever hangs, and writes the archive."""

from __future__ import annotations

import asyncio
import inspect
import os
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

import typer

from ringmaster.access.sender import read_token, token_from_environment, token_headers
from ringmaster.cli.diagnose.bundle import PART_BYTES, Bundle
from ringmaster.cli.diagnose.cluster_state import add_cluster
from ringmaster.cli.diagnose.machine import add_doctor, add_logs, add_settings, add_versions
from ringmaster.cli.diagnose.processes import add_processes
from ringmaster.cli.diagnose.redaction import Redaction, secret_variables
from ringmaster.cli.local_cluster import LocalCluster
from ringmaster.cli.operate import Json, print_json
from ringmaster.cli.streams import text_of
from ringmaster.config.settings import UpSettings
from ringmaster.errors import RingmasterError, SettingsError

WITHIN_S: Final = 15.0
"""For everything. Parts that are not there by then are left out."""

_Url = Annotated[
    str | None,
    typer.Option(
        "--url",
        envvar="RINGMASTER_URL",
        help="Where the cluster answers. Without: where `ringmaster up` with these settings would.",
        show_default=False,
    ),
]
_Output = Annotated[
    Path | None,
    typer.Option(
        "--output", help="The file to write; without, one in this folder.", show_default=False
    ),
]

OWN_OPTIONS: Final = tuple(
    inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)
    for name, default, kind in (
        ("url", None, _Url),
        ("output", None, _Output),
        ("json", False, Json),
    )
)
"""Beside the settings of `ringmaster up`."""


def diagnose(settings: UpSettings, *, url: str | None, output: Path | None, json: bool) -> None:
    """Write one archive for a report: state, settings, metrics, logs and stacks, without secrets and without what is stored.

    The settings are those of `ringmaster up`. Its manifest says what is in it, and what could not be had, and why.
    """
    began = time.monotonic()
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    path = output or Path(f"ringmaster-diagnose-{stamp}.tar.gz")
    if path.exists():
        raise SettingsError(f"{path} is there already; --output names another file")
    redaction = Redaction([settings.etcd_password, *secret_variables(os.environ)])
    bundle = Bundle(redaction)
    token = _token(bundle, settings)
    front = text_of(url) if url is not None else LocalCluster(settings, settings.data_dir, None).url
    gather(bundle, settings, front, token, began + WITHIN_S)
    about = {
        "created": stamp,
        "seconds": round(time.monotonic() - began, 1),
        "url": front,
        "data_dir": str(settings.data_dir),
        "left_out": "what is stored (keys and values), tokens, passwords, private keys, the cluster's secret, snapshots",
    }
    bundle.write(path, about)
    if json:
        print_json({"file": str(path), "files": sorted(bundle.names), "missing": bundle.missing})
        return
    typer.echo(str(path))
    for each in bundle.missing:
        typer.echo(f"not in it: {each['what']}: {each['why']}", err=True)


def gather(
    bundle: Bundle, settings: UpSettings, url: str, token: str | None, deadline: float
) -> None:
    """All parts, side by side. Those that take longer than until `deadline` (monotonic) are left out, their threads to themselves."""
    parts: dict[str, Callable[[Bundle], None]] = {
        "versions": add_versions,
        "settings": lambda own: add_settings(own, settings),
        "cluster": lambda own: asyncio.run(add_cluster(own, settings, url, token)),
        "processes": lambda own: add_processes(own, settings.data_dir),
        "logs": lambda own: add_logs(own, settings.data_dir),
        "doctor": lambda own: add_doctor(own, settings),
    }
    running = {name: _Part(name, add, bundle.redaction) for name, add in parts.items()}
    for part in running.values():
        part.wait(bundle, deadline)
    # Secrets that one part has learnt are taken out of all.
    for part in running.values():
        part.hand_over(bundle)


class _Part:
    """One part, in a thread that nobody waits for at the end: a disk or a kernel that hangs must not hold the archive up."""

    def __init__(self, name: str, add: Callable[[Bundle], None], redaction: Redaction) -> None:
        self._name = name
        self._own = _Collected(redaction)
        self._add = add
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._add(self._own)
        except (RingmasterError, OSError, ValueError) as error:
            self._own.lack(self._name, f"{type(error).__name__}: {error}")

    def wait(self, bundle: Bundle, deadline: float) -> None:
        """Until it is done, or the deadline."""
        self._thread.join(max(0.0, deadline - time.monotonic()))
        if self._thread.is_alive():
            bundle.lack(self._name, "gathering it took too long: it is incomplete")

    def hand_over(self, bundle: Bundle) -> None:
        """What there is by now goes into `bundle`."""
        self._own.hand_over(bundle)


class _Collected(Bundle):
    """What one thread has gathered, as it came. Never more of a part than twice what is kept of it."""

    def __init__(self, redaction: Redaction) -> None:
        super().__init__(redaction)
        self._raw: list[tuple[str, bytes, str, bool]] = []

    def add(self, name: str, content: bytes, what: str, *, end: bool = False) -> None:
        most = 2 * PART_BYTES
        self._raw.append((name, content[-most:] if end else content[:most], what, end))

    def hand_over(self, bundle: Bundle) -> None:
        """Everything that was added by now."""
        for name, content, what, end in list(self._raw):
            bundle.add(name, content, what, end=end)
        for each in list(self.missing):
            bundle.lack(each["what"], each["why"])


def _token(bundle: Bundle, settings: UpSettings) -> str | None:
    """The one to ask with; from now on it is a secret that is known."""
    try:
        named = read_token(settings.token_file) if settings.token_file else None
        token = settings.token or named or token_from_environment()
        token_headers(token)
    except RingmasterError as error:
        bundle.lack("token", str(error))
        return None
    if token:
        bundle.redaction.learn([token])
    return token

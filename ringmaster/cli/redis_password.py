"""`ringmaster redis-password`: with what `redis-cli` identifies itself to a node."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from ringmaster.cli.exit_codes import exit_code_of
from ringmaster.cli.operate import Json, print_json
from ringmaster.config.settings import UpSettings, load_settings
from ringmaster.coordinator import Coordinator
from ringmaster.coordinator.cluster_record import CLUSTER_KEY, ClusterRecord
from ringmaster.coordinator.engines import configured_coordinator
from ringmaster.errors import CoordinatorError, RingmasterError, SettingsError
from ringmaster.protocol.handshake import reader_password


def redis_password(
    write: Annotated[
        bool,
        typer.Option("--write", help="The cluster's secret, which may do everything, instead."),
    ] = False,
    data_dir: Annotated[
        Path | None, typer.Option("--data-dir", help="As given to the cluster's processes.")
    ] = None,
    coordinator: Annotated[
        str | None, typer.Option("--coordinator", help="As given to the cluster's processes.")
    ] = None,
    json: Json = False,
) -> None:
    """Print the password of the user `reader` of the nodes' Redis ports. The cluster is found as `ringmaster up` finds it."""
    try:
        settings = load_settings(UpSettings, data_dir=data_dir, coordinator=coordinator)
        # What opens an SQLite coordinator makes its folder.
        missing = settings.coordinator == "sqlite" and not settings.coordinator_path.is_dir()
        record = None if missing else asyncio.run(_record(configured_coordinator(settings)))
        if record is None:
            raise SettingsError(
                "there is no cluster here; say where it is with --data-dir or --coordinator"
            )
    except RingmasterError as error:
        sys.stderr.write(f"ringmaster redis-password: {error}\n")
        raise SystemExit(exit_code_of(error)) from None
    password = record.secret if write else reader_password(record.secret)
    if json:
        print_json({"user": "default" if write else "reader", "password": password})
    else:
        typer.echo(password)


async def _record(coordinator: Coordinator) -> ClusterRecord | None:
    """None if there is none."""
    try:
        found = (await coordinator.read(CLUSTER_KEY)).get(CLUSTER_KEY)
        return None if found is None else msgspec.json.decode(found.value, type=ClusterRecord)
    except msgspec.DecodeError as error:
        raise CoordinatorError(f"the cluster record cannot be decoded: {error}") from error
    finally:
        await coordinator.close()

"""The sqlite coordinator: one host, no server. Two files, so that leases do not wait for the view's fsync.

`coordinator.sqlite` in the shared directory holds the view and everything else that must be durable (WAL,
synchronous=FULL). The lease database holds `lease/…`, `controller` and `master/…` (WAL, synchronous=OFF; on a tmpfs where
there is one): rows that mean nothing after a reboot, so a crash of the machine may lose them. `host.py` decides who may
open the files.
"""

from __future__ import annotations

import asyncio
import secrets
import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from ringmaster.coordinator import Commit, Record, database
from ringmaster.coordinator.database import Database
from ringmaster.coordinator.host import Host, HostClaim, this_host
from ringmaster.errors import CoordinatorUnavailable

LEASE_PREFIXES: Final = ("lease/", "controller", "master/")
"""Keys that begin with one of these live in the lease database."""


class SqliteCoordinator:
    """`directory` is shared by all processes, and so is `lease_directory` (default: `directory`), preferably on a tmpfs.

    No file is opened before the first call. Every call raises `ForeignHost` while another kernel uses the files.
    """

    def __init__(
        self, directory: Path, lease_directory: Path | None = None, host: Host | None = None
    ) -> None:
        self._main_path = directory / "coordinator.sqlite"
        self._lease_directory = lease_directory or directory
        self._claim = HostClaim(directory, host or this_host(), self._create)
        self._main = Database(self._locate_main, "the coordinator's database", "FULL")
        self._leases = Database(self._locate_leases, "the lease database", "OFF")

    def __repr__(self) -> str:
        return f"<SqliteCoordinator {self._main_path}>"

    async def read(self, prefix: str, timeout_s: float = 2.0) -> dict[str, Record]:
        """As in the interface; a prefix that spans both files is read at two points in time."""
        return await self.read_all((prefix,), timeout_s)

    async def read_all(self, prefixes: Sequence[str], timeout_s: float = 2.0) -> dict[str, Record]:
        """As in the interface; the main file is read first."""
        in_main = [prefix for prefix in prefixes if not _is_lease(prefix)]
        in_leases = [prefix for prefix in prefixes if _may_be_lease(prefix)]
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        records: dict[str, Record] = {}
        if in_main:
            records |= await self._main.read(in_main, timeout_s)
        if in_leases:
            records |= await self._leases.read(in_leases, max(deadline - loop.time(), 0.0))
        return records

    async def commit(self, commit: Commit, timeout_s: float = 2.0) -> Mapping[str, int] | None:
        main, leases = _part_of(commit, leases=False), _part_of(commit, leases=True)
        if leases is None:
            return await self._main.commit(main or Commit(), timeout_s)
        if main is None:
            return await self._leases.commit(leases, timeout_s)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        # There is no atomic commit across two files. Check the main file's expectations, so that the lease part is rarely
        # applied in vain. Then revoke first and publish second: a crash in between leaves a suspended node, whereas the
        # other order would leave two nodes that serve.
        if not await self._main.matches(main.expect, timeout_s):
            return None
        lease_versions = await self._leases.commit(leases, max(deadline - loop.time(), 0.0))
        if lease_versions is None:
            return None
        main_versions = await self._main.commit(main, max(deadline - loop.time(), 0.0))
        return None if main_versions is None else {**lease_versions, **main_versions}

    async def changed(self, key: str, version: int, timeout_s: float) -> Record | None:
        return await (self._leases if _is_lease(key) else self._main).changed(
            key, version, timeout_s
        )

    async def close(self) -> None:
        await asyncio.gather(self._main.close(), self._leases.close())
        self._claim.release()

    # Everything below runs in the databases' threads.

    def _locate_main(self) -> Path:
        self._claim.lease_file()
        return self._main_path

    def _locate_leases(self) -> Path:
        path = self._lease_directory / self._claim.lease_file()
        if not path.exists():
            raise CoordinatorUnavailable(
                f"the lease database {path} is missing, though other processes use the coordinator: either they were"
                " given another lease directory, or it was deleted and every process must be stopped and started again"
            )
        return path

    def _create(self, lease_file: str, is_same_boot: bool) -> str:
        """Create what is missing. No other process has the files open meanwhile, so no lease is in use (`host.py`)."""
        try:
            if not self._main_path.exists():
                database.create(self._main_path)
            if is_same_boot and database.is_usable(self._lease_directory / lease_file):
                return lease_file
            if lease_file:
                database.remove(self._lease_directory / lease_file)
            lease_file = f"leases-{secrets.token_hex(4)}.sqlite"
            database.create(self._lease_directory / lease_file)
        except sqlite3.Error as error:
            raise CoordinatorUnavailable(
                f"the coordinator's files cannot be created: {error}"
            ) from error
        return lease_file


def _is_lease(key: str) -> bool:
    return key.startswith(LEASE_PREFIXES)


def _may_be_lease(prefix: str) -> bool:
    """Whether keys that begin with `prefix` may live in the lease database."""
    return _is_lease(prefix) or any(other.startswith(prefix) for other in LEASE_PREFIXES)


def _part_of(commit: Commit, *, leases: bool) -> Commit | None:
    """The part of `commit` for the lease database, or for the main one; None if it is empty."""
    part = Commit(
        {key: version for key, version in commit.expect.items() if _is_lease(key) is leases},
        {key: value for key, value in commit.put.items() if _is_lease(key) is leases},
        frozenset(key for key in commit.delete if _is_lease(key) is leases),
    )
    return part if part.expect or part.put or part.delete else None

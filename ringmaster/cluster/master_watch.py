"""Which masters are alive: those whose row has changed lately. Nobody's wall clock is compared."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import structlog

from ringmaster.cluster.lease import LeaseWatch
from ringmaster.cluster.registration import MASTER_PREFIX, MasterRow
from ringmaster.coordinator import Record
from ringmaster.runtime.decoding import decode_json

_log = structlog.get_logger(__name__)


class MasterWatch:
    """Watches the rows of masters; one that has not changed for `gone_after_s` is a dead master's. Pure: no I/O.

    Gaps between reads count as in `LeaseWatch`.
    """

    def __init__(self, gone_after_s: float) -> None:
        self._gone_after_s = gone_after_s
        self._watch = LeaseWatch()

    def observe(self, now: float, records: Mapping[str, Record]) -> dict[str, MasterRow]:
        """The rows of live masters by id, from `records`: all that begin with `MASTER_PREFIX`, others are ignored.

        `now`: boottime in seconds, read after the reply came.
        """
        records = {key: record for key, record in records.items() if key.startswith(MASTER_PREFIX)}
        self._watch.observe(now, {key: record.version for key, record in records.items()})
        rows = {}
        for key, record in records.items():
            if self._watch.unchanged_for(key) >= self._gone_after_s:
                continue
            try:
                row = decode_json(record.value, MasterRow)
            except msgspec.DecodeError as error:
                _log.error("unreadable row ignored", key=key, reason=str(error))
            else:
                rows[key.removeprefix(MASTER_PREFIX)] = row
        return rows

    def failed(self) -> None:
        """A read failed: while nobody could renew or read, nobody is late."""
        self._watch.failed()

    def unchanged(self, for_s: float) -> dict[str, int]:
        """Keys and versions of the rows that have not changed for `for_s` seconds."""
        return self._watch.unchanged(for_s)

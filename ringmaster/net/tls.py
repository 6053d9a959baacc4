"""Mutual TLS between masters and nodes: each side shows a certificate that the cluster's own authority has signed.

Names are not compared: who holds such a certificate is one of the cluster's processes, wherever it runs.
"""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path
from typing import Final

import structlog

from ringmaster.errors import SettingsError
from ringmaster.runtime.file_identity import file_identities

POLL_S: Final = 5.0
HANDSHAKE_S: Final = 5.0

_log = structlog.get_logger(__name__)


class MutualTls:
    """The contexts of both sides, from files in PEM. `run` keeps them as new as the files. Raises `SettingsError`."""

    def __init__(self, ca: Path, certificate: Path, key: Path) -> None:
        self._files = (ca, certificate, key)
        self.client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.client.check_hostname = False
        self.server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        for context in (self.client, self.server):
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            context.verify_mode = ssl.CERT_REQUIRED
        self._seen = file_identities(self._files)
        self._load()

    def refresh(self) -> bool:
        """Take on files that changed, for connections made from now on; whether they had. Raises `SettingsError`, once for each change."""
        found = file_identities(self._files)
        if found == self._seen:
            return False
        self._seen = found
        self._load()
        return True

    async def run(self) -> None:
        """Until cancelled. Files that cannot be used are told of, and the old ones stay."""
        while True:
            await asyncio.sleep(POLL_S)
            try:
                if self.refresh():
                    _log.info("the certificate for links was renewed")
            except SettingsError as error:
                _log.error("the new certificate for links is not used", reason=str(error))

    def _load(self) -> None:
        ca, certificate, key = self._files
        try:
            # A pair that does not fit must not replace half of the old one.
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(certificate, key)
            for context in (self.client, self.server):
                context.load_verify_locations(ca)
                context.load_cert_chain(certificate, key)
        except (OSError, ssl.SSLError) as error:
            names = ", ".join(map(str, self._files))
            raise SettingsError(
                f"cannot use --link-ca, --link-cert and --link-key ({names}): {error}"
            ) from error

"""TLS to etcd: whom to trust, and what to show, from files that may change while the process runs."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path

import structlog

from ringmaster.errors import SettingsError
from ringmaster.net.tls import POLL_S
from ringmaster.runtime.file_identity import file_identities

_log = structlog.get_logger(__name__)


class EtcdTls:
    """`ca`: authorities to trust instead of the system's; `certificate` and `key`: our own, if etcd wants one. All in PEM.

    `now`: seconds of any steady clock. Raises `SettingsError` for files that cannot be used.
    """

    def __init__(
        self, ca: Path | None, certificate: Path | None, key: Path | None, now: Callable[[], float]
    ) -> None:
        self._ca, self._certificate, self._key = ca, certificate, key
        self._files = [path for path in (ca, certificate, key) if path is not None]
        self._now = now
        self._look_at = now() + POLL_S
        self._seen = file_identities(self._files)
        self._context = self._load()

    def context(self) -> ssl.SSLContext:
        """For a call that is made now; another one after the files have changed, so that connections made with the old ones are used no more.

        Looks at most every `POLL_S`. Files that cannot be used are told of, once for each change, and the old ones stay.
        """
        now = self._now()
        if now >= self._look_at:
            self._look_at = now + POLL_S
            self._refresh()
        return self._context

    def _refresh(self) -> None:
        found = file_identities(self._files)
        if found == self._seen:
            return
        self._seen = found
        try:
            self._context = self._load()
        except SettingsError as error:
            _log.error("the new certificate for etcd is not used", reason=str(error))
        else:
            _log.info("the certificate for etcd was renewed")

    def _load(self) -> ssl.SSLContext:
        try:
            context = ssl.create_default_context(cafile=self._ca)
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            if self._certificate is not None:
                context.load_cert_chain(self._certificate, self._key)
        except (OSError, ssl.SSLError) as error:
            names = ", ".join(map(str, self._files))
            raise SettingsError(
                f"cannot use --etcd-ca, --etcd-cert and --etcd-key ({names}): {error}"
            ) from error
        return context

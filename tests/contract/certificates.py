"""Certificates for tests: an authority, and what it has signed for this machine, made with openssl."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


class Authority:
    """`ca.pem` in `folder`, and certificates for 127.0.0.1 in files `NAME.pem` and `NAME.key`, good for both sides."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.ca = folder / "ca.pem"
        (folder / "names").write_text(
            "subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth,clientAuth\n"
        )
        self._openssl("req", "-x509", *_NEW_KEY, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=ca", "-days", "2")  # fmt: skip

    def sign(self, name: str) -> tuple[Path, Path]:
        """A new pair: the certificate and its key."""
        self._openssl("req", *_NEW_KEY, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")  # fmt: skip
        signer = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "names")
        self._openssl("x509", "-req", "-in", f"{name}.csr", *signer, "-out", f"{name}.pem", "-days", "2")  # fmt: skip
        return self.folder / f"{name}.pem", self.folder / f"{name}.key"

    def _openssl(self, *words: str) -> None:
        subprocess.run(
            ["openssl", *words], cwd=self.folder, check=True, capture_output=True, timeout=60
        )


def replace_files(sources: tuple[Path, ...], targets: tuple[Path, ...]) -> None:
    """Give each target the content of its source in one step, as tools that renew certificates do."""
    for source, target in zip(sources, targets, strict=True):
        fresh = target.with_suffix(".new")
        fresh.write_bytes(source.read_bytes())
        os.replace(fresh, target)

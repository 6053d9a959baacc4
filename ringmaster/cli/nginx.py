"""nginx in front of a local cluster: its configuration from the template, in a folder of its own."""

from __future__ import annotations

import math
import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from ringmaster.errors import SettingsError

_TEMPLATE: Final = "ringmaster.conf.template"
BULK_LIMIT_BYTES: Final = 32 * 2**20
SHUTDOWN_TIMEOUT_S: Final = 2
"""Event streams never end by themselves; a local cluster that is told to stop does not wait for them."""
LEAST_READ_TIMEOUT_S: Final = 8
"""Event streams say something every 5 s."""
_FRAMING_BYTES: Final = 64 * 1024
_PLACEHOLDER = re.compile(r"@([A-Z_]+)@")


def template_path() -> Path:
    """Beside this file in a wheel that holds the services; in a checkout that of the image."""
    here = Path(__file__)
    shipped = here.with_name(_TEMPLATE)
    return shipped if shipped.is_file() else here.parents[2] / "nginx" / _TEMPLATE


class Certificate(NamedTuple):
    """Files in PEM: the certificate with its chain, and its key."""

    chain: Path
    key: Path

    @property
    def directives(self) -> str:
        """For nginx. Older protocols than TLS 1.2 are refused."""
        return (
            f"ssl_certificate {_quoted(str(self.chain))}; ssl_certificate_key {_quoted(str(self.key))};"
            " ssl_protocols TLSv1.2 TLSv1.3; ssl_session_cache shared:tls:10m; ssl_session_tickets off;"
        )


def find_nginx() -> str | None:
    """The path of nginx, also where the PATH of a user who is not root leaves it out; None if not installed."""
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")


def body_limit(max_value_bytes: int) -> int:
    """The largest body the masters take: a bulk request, or a value with the JSON around it."""
    return max(BULK_LIMIT_BYTES, max_value_bytes + _FRAMING_BYTES)


def render(template: str, values: Mapping[str, str]) -> str:
    """The template with every `@NAME@` replaced. Raises `SettingsError` for a name without a value."""

    def value(match: re.Match[str]) -> str:
        try:
            return values[match[1]]
        except KeyError:
            raise SettingsError(f"the nginx template has an unknown word {match[0]}") from None

    return _PLACEHOLDER.sub(value, template)


def server_lines(addresses: Sequence[str]) -> str:
    """The masters for `upstream.conf`; addresses are `host:port` or `unix:/path`.

    Each is its own spare too: with every master counted as failed, nginx tries them all the same, not none.
    """
    return "".join(
        f"server {quoted} max_fails=1 fail_timeout=1s;\nserver {quoted} max_fails=0 backup;\n"
        for quoted in map(_quoted, addresses)
    )


def write_configuration(
    folder: Path,
    *,
    listen: str,
    masters: Sequence[str],
    max_value_bytes: int,
    deadline_s: float,
    workers: int,
    certificate: Certificate | None = None,
) -> None:
    """Write `nginx.conf` and `upstream.conf` into `folder`, made with mode 0700. Raises `SettingsError`."""
    read_timeout_s = max(LEAST_READ_TIMEOUT_S, math.ceil(deadline_s) + 2)
    values = {
        # The masters' sockets are root's then, and nginx would give its rights up.
        "USER_LINE": "user root root;" if os.geteuid() == 0 else "",
        "WORKERS": str(workers),
        "LISTEN": listen,
        "TLS": " ssl http2" if certificate else "",
        "CERTIFICATE": certificate.directives if certificate else "",
        # Masters are reached by unix sockets, or by loopback.
        "SCHEME": "http",
        "UPSTREAM_TLS": "",
        "BODY_LIMIT": str(body_limit(max_value_bytes)),
        "SHUTDOWN_TIMEOUT": str(SHUTDOWN_TIMEOUT_S),
        "READ_TIMEOUT": str(read_timeout_s),
        "NEXT_TIMEOUT": str(read_timeout_s + 2),
    }
    try:
        template = template_path().read_text(encoding="utf-8")
        folder.mkdir(mode=0o700, exist_ok=True)
        (folder / "nginx.conf").write_text(render(template, values), encoding="utf-8")
        (folder / "upstream.conf").write_text(server_lines(masters), encoding="utf-8")
    except OSError as error:
        raise SettingsError(f"cannot write nginx's configuration: {error}") from error


def command(nginx: str, folder: Path) -> tuple[str, ...]:
    """The command line that runs nginx in the foreground with the configuration in `folder`."""
    configuration = str(folder / "nginx.conf")
    return (nginx, "-e", "stderr", "-p", f"{folder}/", "-c", configuration, "-g", "daemon off;")


def check_configuration(nginx: str, folder: Path, timeout_s: float = 10.0) -> str:
    """Empty if nginx accepts the configuration, else what it says of it."""
    try:
        done = subprocess.run(
            [*command(nginx, folder)[:-2], "-t", "-q"],
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return "" if done.returncode == 0 else done.stderr.strip() or f"exit code {done.returncode}"


def _quoted(address: str) -> str:
    return '"' + address.replace("\\", "\\\\").replace('"', '\\"') + '"'

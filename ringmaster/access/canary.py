"""The token by which masters know one another's self-audit: it follows from the cluster's secret, and is good for its keys alone."""

from __future__ import annotations

import hashlib
import hmac
from typing import Final

from ringmaster.access.grant import Grant, digest_of, make_grant
from ringmaster.protocol.canary import CANARY_PREFIX

CANARY_NAME: Final = "self-audit"


def canary_token(secret: str) -> str:
    """The token of the masters of a cluster with this secret, which it does not tell (HMAC, RFC 2104)."""
    digest = hmac.new(secret.encode(), b"self-audit of masters", hashlib.sha256)
    return "rma_" + digest.hexdigest()


def canary_grant(secret: str) -> Grant:
    """What it permits: to read and write the keys of the self-audit."""
    digest = digest_of(canary_token(secret))
    return make_grant(CANARY_NAME, digest, ("read", "write"), (CANARY_PREFIX.decode(),))

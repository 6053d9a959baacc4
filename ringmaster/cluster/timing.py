"""Times that the protocol rests on, in seconds. `docs/consistency.md` derives them."""

from __future__ import annotations

from typing import Final

LEASE_TTL_S: Final = 2.0
"""A lease whose number has not changed for this long may be revoked."""

LEASE_TRUST: Final = 0.9
"""The part of the TTL for which a node trusts its lease, from sending the renewal: leaves 10 % for clock drift."""

LEASE_RENEW_S: Final = 0.5
"""How often a node raises its lease's number."""

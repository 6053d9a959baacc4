"""The seed of what is generated anew each day."""

from __future__ import annotations

import os
from datetime import UTC, datetime

SEED_VARIABLE = "RINGMASTER_OPENAPI_SEED"


def seed_of_day() -> int:
    """What `RINGMASTER_OPENAPI_SEED` says, else today's number."""
    return int(os.environ.get(SEED_VARIABLE) or datetime.now(UTC).date().toordinal())

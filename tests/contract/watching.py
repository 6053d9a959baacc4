"""A client that waits for a change."""

from __future__ import annotations

import asyncio
from typing import Any

BEGINS_S = 0.1
"""Nothing shows from outside when an engine has begun to wait; a later change must find it waiting."""


async def waits(waiting: asyncio.Task[Any]) -> None:
    """Let real time pass in which `waiting` begins; it must not end."""
    done, _ = await asyncio.wait([waiting], timeout=BEGINS_S)
    assert not done, waiting

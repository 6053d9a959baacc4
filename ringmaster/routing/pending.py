"""A request that waits for its reply, and can be sent elsewhere when a newer view moves its partition."""

from __future__ import annotations

from typing import Final

from ringmaster.errors import PeerError
from ringmaster.net.link_connection import ReplyHandler
from ringmaster.routing.table import Route, Table

MOVED: Final = PeerError("MOVED", "0")
"""What a read is told when a newer view moves its partition, as if the former primary had said so."""


class PendingRequest(ReplyHandler):
    """A request in flight. `route`: where a read was sent; None for a write, which is never sent twice.

    When a read is rerouted, `replied` may be called a second time, by the late reply: only the first call counts.
    """

    __slots__ = ("route",)

    route: Route | None

    def rerouted(self, table: Table) -> None:
        """A newer view routes by `table`: fail a read whose partition moved, so that it is sent again there."""
        route = self.route
        if route is not None and table[route.partition] is not route:
            self.replied(MOVED)

"""Hand-over, the predecessor's part: saying "released" to the successor until it has heard (R6)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Final

from aux.replication.sender import Peers
from ringmaster.cluster.view import View
from ringmaster.errors import PeerError, RingmasterError
from ringmaster.protocol.resp import Reply, encode

RETRY_S: Final = 0.005
"""After how long a successor whose view was older is told again."""


class Releases:
    """Partitions that we hand over: first drained by the node, then said to be released.

    `is_drained(number)`: whether we hold nothing of it as primary any more. Nothing is said before.
    """

    def __init__(
        self,
        node_id: str,
        incarnation: str,
        peers: Peers,
        view: Callable[[], View | None],
        is_drained: Callable[[int], bool],
    ) -> None:
        self._id = node_id
        self._incarnation = incarnation.encode()
        self._peers = peers
        self._view = view
        self._is_drained = is_drained
        self._numbers: set[int] = set()
        self._saying: dict[int, tuple[str, int]] = {}

    def __contains__(self, number: int) -> bool:
        return number in self._numbers

    def __iter__(self) -> Iterator[int]:
        return iter(sorted(self._numbers))

    def __len__(self) -> int:
        return len(self._numbers)

    def begin(self, number: int) -> None:
        """Hand `number` over to whom the view names; `say` follows when it is drained."""
        self._numbers.add(number)

    def cancel(self, number: int) -> None:
        """It is ours again, or there is nobody to tell. Idempotent."""
        self._numbers.discard(number)

    def clear(self) -> None:
        """Forget all of them."""
        self._numbers.clear()
        self._saying.clear()

    def say(self, number: int) -> None:
        """Tell the successor that the present view names, one message at a time; nothing if there is none to tell."""
        view = self._view()
        if number not in self._numbers or view is None or not self._is_drained(number):
            return
        row = view.table[number]
        if row.awaits != self._id or row.primary is None:
            self.cancel(number)
            return
        told = (row.primary, row.term)
        peer = self._peers.connect(view, row.primary)
        if peer is None or self._saying.get(number) == told:
            return
        self._saying[number] = told

        def again() -> None:
            if self._saying.get(number) == told:
                del self._saying[number]
            self.say(number)

        def heard(reply: Reply) -> None:
            if isinstance(reply, PeerError):  # its view is a moment behind ours, or ahead
                asyncio.get_running_loop().call_later(RETRY_S, again)
                return
            if self._saying.get(number) == told:
                del self._saying[number]
                if not isinstance(reply, RingmasterError):
                    self.cancel(number)

        peer.link.send(encode(b"RM.RELEASED", number, row.term, self._incarnation), heard)

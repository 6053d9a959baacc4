"""Sending side of replication: one FIFO link to each peer, sessions of copies on it (R3, R4).

Everything submitted in one loop tick leaves in one `RM.REPL` frame per peer; its reply acknowledges all
of it. No tasks: the link's callbacks drive it, and `Peers.tick` mends what is closed.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable
from typing import Any, Final, Protocol

import structlog

from aux.replication.primary import Copy, CopyState
from ringmaster.cluster.view import NodeInfo, View
from ringmaster.errors import PeerError, RingmasterError
from ringmaster.net.link_connection import OnReply
from ringmaster.protocol.resp import Reply, encode

ENTRY_HEAD: Final = struct.Struct("<IQQQ")
"""partition, session, seq (0: scanned by a fill), commit."""

_pack_head = ENTRY_HEAD.pack

MAX_FRAME_BYTES: Final = 1024 * 1024
MAX_FRAME_ENTRIES: Final = 1000

RETRY_S: Final = 0.01
RETRY_MAX_S: Final = 1.0
"""After how long a session that was refused is opened again: at first the peer's view may be a moment behind. Each
refusal in a row doubles it, up to the second of these; a success, a new view and a new connection begin again."""

FILL: Final = b"fill"
SYNC: Final = b"sync"

_log = structlog.get_logger(__name__)


class PeerLink(Protocol):
    """What a peer needs of its `ringmaster.net.link.Link`."""

    @property
    def connected(self) -> bool: ...

    def start(self) -> None: ...

    def send(self, frame: bytes, on_reply: OnReply) -> None: ...

    async def close(self) -> None: ...


class LinkFactory(Protocol):
    """Makes the link to a peer; the composition root knows network, address and greeting."""

    def __call__(
        self, peer: NodeInfo, *, on_up: Callable[[], None], on_down: Callable[[], None]
    ) -> PeerLink:
        """A link that is not started yet."""


class Sessions(Protocol):
    """What the node does with the course of sessions."""

    def fill(self, copy: Copy) -> None:
        """The fill of `copy` is open: scan."""

    def progressed(self, copy: Copy) -> None:
        """`copy` opened or, while its primary does not serve, acknowledged something."""

    def wake(self) -> None:
        """Something is sent to a copy: look after it from now on."""

    def over_budget(self, node: str, over_bytes: int) -> None:
        """`node` holds so much more for its primaries than its budget allows."""


class Peer:
    """One incarnation of another node, and the copies it keeps for our primaries."""

    def __init__(
        self,
        info: NodeInfo,
        incarnation: str,
        sessions: Sessions,
        make_link: LinkFactory,
        now_ms: Callable[[], int],
    ) -> None:
        self.info = info
        self.copies: dict[Copy, None] = {}  # in the order they came
        self.unacked_bytes = 0
        self.over_bytes = 0  # how far it was over its budget, by its last word
        self._incarnation = incarnation
        self._sessions = sessions
        self._now_ms = now_ms
        self._items: list[bytes | int] = []
        self._items_bytes = 0
        self._marks: dict[Copy, tuple[int, int]] = {}
        self._flushing = False
        self._session = 0
        self._refusals: dict[Copy, int] = {}
        self._resting: set[Copy] = set()
        self.link = make_link(info, on_up=self.begin_anew, on_down=self._lost)
        self.link.start()

    def __repr__(self) -> str:
        return (
            f"<Peer {self.info.id} {self.info.incarnation} {len(self.copies)} copies {self.link!r}>"
        )

    def send(self, copy: Copy, seq: int, key: bytes, entry: bytes | None) -> None:
        """Queue one entry for this tick's frame."""
        primary = copy.primary
        session = copy.session
        entry = entry or b""
        items = self._items
        items += (_pack_head(primary.number, session, seq, primary.committed), key, entry)
        self._items_bytes = size = self._items_bytes + len(key) + len(entry) + 64
        self._marks[copy] = (session, seq or self._marks.get(copy, (0, 0))[1])
        if size > MAX_FRAME_BYTES or len(items) > 3 * MAX_FRAME_ENTRIES:
            self._flush()
        elif not self._flushing:
            self._flushing = True
            asyncio.get_running_loop().call_soon(self._tick_end)

    def barrier(self, on_reply: Callable[[bool], None]) -> None:
        """Call back with True once everything queued up to now is acknowledged, False if it never will be."""
        self._flush()
        frame = encode(b"RM.REPL", self._now_ms())

        def replied(reply: Reply) -> None:
            if isinstance(reply, list):
                self._hear_budget(reply[0])
            on_reply(not isinstance(reply, RingmasterError))

        self.link.send(frame, replied)

    def begin_anew(self) -> None:
        """Forget refusals, and open every closed session: the peer may judge differently now."""
        self._refusals.clear()
        self._resting.clear()
        self.open_all()

    def open_all(self) -> None:
        """Open every closed session, but for those that were refused a moment ago."""
        closed = CopyState.CLOSED
        for copy in [copy for copy in self.copies if copy.state is closed]:
            if not copy.lost and copy not in self._resting:
                self.open(copy)

    def drop(self, copy: Copy) -> None:
        """Forget `copy`."""
        self.copies.pop(copy, None)
        self._refusals.pop(copy, None)
        self._resting.discard(copy)

    def open(self, copy: Copy) -> None:
        """Begin a session for `copy`: a fill from nothing, or go on from what it has."""
        if not self.link.connected:
            return
        self._flush()
        primary = copy.primary
        self._session += 1
        # The term in it: sessions of two primaries of a partition never have the same number.
        session = copy.session = primary.term << 32 | self._session
        fill = not copy.required
        base = primary.seq if fill else 0
        copy.state = CopyState.SCANNING if fill else CopyState.OPENING
        copy.acked = base if fill else copy.acked
        frame = encode(
            b"RM.OPEN",
            primary.number,
            primary.term,
            session,
            FILL if fill else SYNC,
            copy.fill_session,
            base,
            self._incarnation.encode(),
        )
        self.link.send(frame, lambda reply: self._opened(copy, session, reply))

    def _opened(self, copy: Copy, session: int, reply: Reply) -> None:
        if copy.session != session or copy not in self.copies:
            return
        if isinstance(reply, RingmasterError):
            if isinstance(reply, PeerError) and reply.code not in ("UNLISTED", "STALE"):
                _log.warning("session refused", copy=repr(copy), reason=str(reply))
            copy.state = CopyState.CLOSED
            if isinstance(reply, PeerError):
                self._rest(copy, session)
            return
        self._refusals.pop(copy, None)
        if copy.state is CopyState.SCANNING:
            self._sessions.fill(copy)
            return
        assert isinstance(reply, list)  # noqa: S101 - the protocol's reply to RM.OPEN
        self._resume(copy, int(reply[0]), int(reply[1]), reply[2:])

    def _rest(self, copy: Copy, session: int) -> None:
        """Open `copy` again after a while, ever longer."""
        refusals = self._refusals.get(copy, 0)
        self._refusals[copy] = refusals + 1
        self._resting.add(copy)
        # Partitions that were refused together come back one after the other; the same run again does the same.
        spread = 0.5 + copy.primary.number * 0.618034 % 0.5
        delay_s = min(RETRY_MAX_S, RETRY_S * 2.0 ** min(refusals, 16)) * spread
        asyncio.get_running_loop().call_later(delay_s, self._rested, copy, session)

    def _rested(self, copy: Copy, session: int) -> None:
        if copy in self._resting and copy.session == session:
            self._resting.discard(copy)
            if copy.state is CopyState.CLOSED:
                self.open(copy)

    def _resume(self, copy: Copy, term: int, seq: int, keys: list[Any]) -> None:
        primary = copy.primary
        stands = seq if term == primary.term else 0
        if stands < primary.committed:
            self._cannot_resume(copy)
            return
        copy.state = CopyState.STREAMING
        primary.resend(copy, stands)
        if not copy.merged:
            copy.merged = True
            primary.restate(keys)
        primary.acknowledge(copy, stands)
        self._sessions.progressed(copy)

    def _cannot_resume(self, copy: Copy) -> None:
        """It lacks entries that are committed and forgotten: fill it again, or have a view drop it."""
        copy.state = CopyState.CLOSED
        if copy.fill_session and copy.acked < copy.in_sync_from:
            copy.primary.set_copy(copy.node, copy.fill_session)
            self.drop(copy)
            self.copies[copy.primary.copies[copy.node]] = None
            copy.primary.advance()
        else:
            copy.lost = True

    def _tick_end(self) -> None:
        self._flushing = False
        self._flush()

    def _flush(self) -> None:
        if not self._items:
            return
        items, size, marks = self._items, self._items_bytes, self._marks
        self._items, self._items_bytes, self._marks = [], 0, {}
        self.unacked_bytes += size
        self._sessions.wake()
        frame = encode(b"RM.REPL", self._now_ms(), *items)
        self.link.send(frame, lambda reply: self._acknowledged(marks, size, reply))

    def _acknowledged(self, marks: dict[Copy, tuple[int, int]], size: int, reply: Reply) -> None:
        self.unacked_bytes -= size
        if not isinstance(reply, list):
            for copy, (session, _) in marks.items():
                if copy.session == session:
                    copy.state = CopyState.CLOSED
            return
        refused = set(reply[1:]) if len(reply) > 1 else ()
        copies, closed = self.copies, CopyState.CLOSED
        for copy, (session, seq) in marks.items():
            if copy.session != session or copy not in copies:
                continue
            primary = copy.primary
            if refused and primary.number in refused:
                copy.state = closed
            elif seq and copy.state is not closed:
                primary.acknowledge(copy, seq)
                if not primary.serving:
                    self._sessions.progressed(copy)
        self._hear_budget(reply[0])

    def _hear_budget(self, over_bytes: int) -> None:
        self.over_bytes = over_bytes
        if over_bytes:
            self._sessions.over_budget(self.info.id, over_bytes)

    def _lost(self) -> None:
        for copy in self.copies:
            copy.state = CopyState.CLOSED


class Peers:
    """Every peer the view lists that keeps copies for us; the primaries' `Outlet`. `now_ms()` goes with each frame."""

    def __init__(
        self,
        incarnation: str,
        sessions: Sessions,
        make_link: LinkFactory,
        now_ms: Callable[[], int],
    ) -> None:
        self._incarnation = incarnation
        self._sessions = sessions
        self._make_link = make_link
        self._now_ms = now_ms
        self._peers: dict[str, Peer] = {}
        self._closing: set[asyncio.Task[None]] = set()

    def send(self, copy: Copy, seq: int, key: bytes, entry: bytes | None) -> None:
        """`Outlet`: to the peer that keeps `copy`; dropped if it is gone (the session is closed then)."""
        peer = self._peers.get(copy.node)
        if peer is None:
            copy.state = CopyState.CLOSED
        else:
            peer.send(copy, seq, key, entry)

    def get(self, node: str) -> Peer | None:
        """The peer of that id, None if we keep no link to it."""
        return self._peers.get(node)

    def connect(self, view: View, node: str) -> Peer | None:
        """The peer of that id as `view` lists it, linked anew if it is another incarnation; None if it is down."""
        peer = self._peers.get(node)
        incarnation = view.incarnation(node)
        if peer is not None:
            if peer.info.incarnation == incarnation:
                return peer
            self._close(node)
        if not incarnation:
            return None
        peer = Peer(
            view.nodes[node], self._incarnation, self._sessions, self._make_link, self._now_ms
        )
        self._peers[node] = peer
        return peer

    def forget(self, view: View) -> None:
        """Close links to incarnations that `view` does not list; what the others refused is asked for again."""
        for node, peer in list(self._peers.items()):
            if view.incarnation(node) != peer.info.incarnation:
                self._close(node)
            else:
                asyncio.get_running_loop().call_soon(peer.begin_anew)

    def keep(self, copy: Copy, view: View) -> None:
        """Open and mend sessions of `copy` from now on."""
        peer = self.connect(view, copy.node)
        if peer is not None:
            peer.copies[copy] = None
            peer.open(copy)

    def drop(self, copy: Copy) -> None:
        """Stop that."""
        peer = self._peers.get(copy.node)
        if peer is not None:
            peer.drop(copy)
        copy.state = CopyState.CLOSED
        copy.session = -1

    def tick(self) -> None:
        """Open again what is closed."""
        for peer in self._peers.values():
            peer.open_all()

    @property
    def unacked_bytes(self) -> int:
        """Bytes sent or queued to peers and not acknowledged."""
        return sum(peer.unacked_bytes for peer in self._peers.values())

    def unreachable(self) -> list[str]:
        """Ids of peers whose link is down."""
        return [node for node, peer in self._peers.items() if not peer.link.connected]

    async def close(self) -> None:
        """Close all links."""
        for node in list(self._peers):
            self._close(node)
        if self._closing:
            await asyncio.wait(self._closing, timeout=2.0)

    def _close(self, node: str) -> None:
        peer = self._peers.pop(node)
        for copy in peer.copies:
            copy.state = CopyState.CLOSED
            copy.session = -1
        peer.copies.clear()
        peer.begin_anew()
        task = asyncio.get_running_loop().create_task(peer.link.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

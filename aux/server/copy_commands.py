"""The `RM.` commands of masters on their events connections: sessions, and what becomes of copies (R12, R13)."""

from __future__ import annotations

from typing import Final, cast

from aux.node.event_sessions import Channel
from aux.node.handlers import Client, Command, Handler
from aux.node.node import Node

NO_SESSION: Final = b"-NOSESSION open one first\r\n"
_OK: Final = b"+OK\r\n"
NO_LEASE: Final = b"-WAIT the lease has lapsed\r\n"
_UNANSWERED: Final = b"-WAIT for copies to be dropped\r\n"


class CopyCommands:
    """Sessions of masters with `node`. None of these commands needs the lease."""

    def __init__(self, node: Node) -> None:
        self._clock = node.clock
        self._served = node.roles.served
        self._store = node.store
        self._sessions = node.sessions
        self._grants = node.grants
        self._counters = node.counters
        self._advisor = node.advisor

    def table(self) -> dict[bytes, Handler]:
        """Handlers by command name."""
        return {
            b"RM.SESSION": self.open,
            b"RM.RENEW": self.renew,
            b"RM.END": self.end,
            b"RM.FOLLOW": self.follow,
            b"RM.DROPPED": self.dropped,
            b"RM.RETURN": self.give_back,
            b"RM.USED": self.used,
        }

    def open(self, client: Client, command: Command) -> bytes:
        """`RM.SESSION master number epoch copies`: events of this node come on this connection from now on.

        `epoch`: of the view the master follows. `copies`: 1 if it takes copies. The session is to be trusted if the lease is held.
        """
        # Masters of earlier versions say no more than the first two, and take no copies.
        _, master, number, epoch, copies = command if len(command) > 3 else (*command, b"0", b"0")
        int(number)
        session = self._sessions.open(
            cast(Channel, client), master.decode(), self._clock.boottime()
        )
        session.takes_copies = copies == b"1"
        if session.takes_copies:
            self._grants.took(session)
        self._grants.follows(session, int(epoch))
        return _OK if self._clock.lease_held() else NO_LEASE

    def renew(self, client: Client, command: Command) -> bytes:
        """`RM.RENEW number heard`: the master is still there. Replies with the number; `heard` is the last such reply it had.

        Without the lease the session lives on, and is not to be trusted: another node may be given what is ours. Nor is that of a
        master which does not answer.
        """
        session = self._sessions.of(client)
        if session is None:
            return NO_SESSION
        _, number, heard = command
        session.renewals, session.heard = int(number), int(heard)
        if not session.renew(self._clock.boottime()):
            return _UNANSWERED
        return b":%d\r\n" % session.renewals if self._clock.lease_held() else NO_LEASE

    def end(self, client: Client, _command: Command) -> bytes:
        """`RM.END`: the master stops, and has no copies any more."""
        session = self._sessions.of(client)
        if session is not None:
            self._sessions.end_now(session)
        return _OK

    def follow(self, client: Client, command: Command) -> bytes:
        """`RM.FOLLOW epoch`: the master follows that view, and has dropped its copies of earlier terms."""
        session = self._sessions.of(client)
        if session is None:
            return NO_SESSION
        self._grants.follows(session, int(command[1]))
        return _OK

    def dropped(self, client: Client, command: Command) -> bytes:
        """`RM.DROPPED number`: the master has dropped what the events up to that number asked for."""
        session = self._sessions.of(client)
        if session is None:
            return NO_SESSION
        session.dropped(int(command[1]))
        return _OK

    def give_back(self, client: Client, command: Command) -> bytes:
        """`RM.RETURN pt key number`: the master has dropped the copy of that grant by itself."""
        session = self._sessions.of(client)
        primary = self._served.get(command[1])
        if session is not None and primary is not None:
            self._grants.returned(primary, command[2], int(command[3]), session)
        return _OK

    def used(self, _client: Client, command: Command) -> bytes:
        """`RM.USED (pt key times)*`: so often the master has answered from its copies since it last said so."""
        words = iter(command[1:])
        for token, key, times in zip(words, words, words, strict=True):
            self._counters.copy_hits += int(times)
            primary = self._served.get(token)
            if primary is not None:
                entry = self._store.touch(primary.data, key)
                if primary.data.sampled and entry is not None:
                    self._advisor.read(primary.data, key, entry, int(times))
                self._grants.used(primary, key, int(times))
        return _OK

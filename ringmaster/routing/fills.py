"""Reads that wait: for a missing key, until somebody has written it, or until it is their turn to (R12).

The callers of one master that ask for one key share one place in the line at the key's primary. A caller is answered only by
what the primary said after it was asked on that caller's behalf: so nobody gets what was true before it asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, Final, NamedTuple

from ringmaster.errors import RingmasterError, Unserved
from ringmaster.protocol.resp import Reply, encode
from ringmaster.routing.event_links import EventLinks, Session
from ringmaster.routing.outcomes import RETRY, read_outcome
from ringmaster.routing.retries import Retries
from ringmaster.routing.table import Route
from ringmaster.runtime.clock import Clock

_CALM_S: Final = 1.0
"""A line that waits for a sign, a session that comes up or a newer view, looks around by itself so often."""


class Filled(NamedTuple):
    """`entry`: what the key has, maybe stale. `fill_token`: the caller may fill it. `waited`: False where the node had no room for it."""

    entry: bytes | None
    fill_token: str = ""
    waited: bool = True


class Ask:
    """One caller: see `FillDesk`. `waits`: whether it waits for a missing key at all."""

    __slots__ = ("answered", "done", "key", "waits")

    def __init__(self, key: bytes, waits: bool) -> None:
        self.key = key
        self.waits = waits
        # The primary was asked on its behalf, and said that the key was missing.
        self.answered = False
        self.done: asyncio.Future[Filled] = asyncio.get_running_loop().create_future()

    def resolve(self, filled: Filled) -> bool:
        """Answer it; False if it is answered, or gone, already."""
        if self.done.done():
            return False
        self.done.set_result(filled)
        return True

    def fail(self, error: RingmasterError) -> None:
        """Answer it with an error."""
        if not self.done.done():
            self.done.set_exception(error)
            self.done.exception()  # nobody may be there to hear it

    def leave(self) -> None:
        """The caller has gone: it takes no token."""
        self.resolve(Filled(None))


class _Line:
    """Who asks for one key. `coming`: to be asked for next. `asked`: their command is on its way. `parked`: the primary, by
    `route` and `session`, will tell them. `spare`: a token that came while nobody was parked, for those asked.

    Who leaves is taken out of `coming` and `parked` at once; thousands may do so at one time.
    """

    __slots__ = (
        "asked",
        "attempt",
        "coming",
        "key",
        "parked",
        "route",
        "session",
        "spare",
        "timer",
        "turn",
    )

    def __init__(self, key: bytes) -> None:
        self.key = key
        self.coming: dict[Ask, None] = {}
        self.asked: list[Ask] = []
        self.parked: dict[Ask, None] = {}
        self.route: Route | None = None
        self.session: Session | None = None
        self.spare = ""
        self.timer: asyncio.TimerHandle | None = None
        self.attempt = 0
        # Of asking: a reply to an earlier one is not for those who are asked now.
        self.turn = 0


class FillDesk:
    """The lines of one master. `begin` to ask, await `result`, and `drop` what was begun when the caller has gone.

    `route_of(key)`: where the key's primary is. `retries`: what may be asked of it again.
    """

    def __init__(
        self,
        clock: Clock,
        route_of: Callable[[bytes], Route | None],
        retries: Retries,
    ) -> None:
        self._clock = clock
        self._route_of = route_of
        self._retries = retries
        self._lines: dict[bytes, _Line] = {}
        self._hurries = False
        self.events: EventLinks | None = None

    def __len__(self) -> int:
        return len(self._lines)

    def begin(self, key: bytes, *, waits: bool) -> Ask:
        """Ask for `key`. What comes back is for `result`."""
        ask = Ask(key, waits and not self._hurries)
        line = self._lines.get(key)
        if line is None:
            line = self._lines[key] = _Line(key)
        line.coming[ask] = None
        self._send(line)
        return ask

    async def result(self, ask: Ask, answer_by: float, until: float) -> Filled:
        """What became of `ask`; nothing is there at `until` if there was nothing (deadlines as in `Router`).

        Raises `Unserved` if the primary did not answer at all by `answer_by`, or by `until` if that is earlier.
        """
        try:
            for deadline in (min(answer_by, until), until):
                left_s = deadline - self._clock.boottime()
                if left_s > 0:
                    await asyncio.wait([ask.done], timeout=left_s)
                if ask.done.done():
                    return ask.done.result()
                if not ask.answered:
                    raise Unserved("not served within the deadline: its primary did not answer")
            return Filled(None)
        finally:
            if not ask.done.done():
                self._leave(ask)

    def drop(self, ask: Ask) -> None:
        """The caller of `ask` is gone: what it was given, or would be, is for others."""
        if not ask.done.done():
            self._leave(ask)
        elif ask.done.exception() is None and ask.done.result().fill_token:
            self.left(ask.key, ask.done.result().fill_token)

    def left(self, key: bytes, fill_token: str) -> None:
        """The connection of the caller that holds `fill_token` is closed: it is for the next who asks."""
        route = self._route_of(key)
        session = self._session_of(route)
        if route is not None and session is not None and session.is_up:
            session.tell(b"RM.LEAVE", route.token, key, fill_token.encode())

    def rerouted(self) -> None:
        """A newer view was adopted: who waits where the key's primary is no more asks again."""
        for line in list(self._lines.values()):
            if line.route is not None and self._route_of(line.key) is not line.route:
                self._again(line)

    def wake(self) -> None:
        """What could not be asked may now be."""
        for line in list(self._lines.values()):
            if line.timer is not None:
                self._send(line)

    def changed(self, session: Session, is_up: bool) -> None:
        """The connection of `session` came up, or was lost with all that was waited for on it."""
        if is_up:
            self.wake()
            return
        for line in list(self._lines.values()):
            if line.session is session:
                self._again(line)

    def event(self, session: Session, event: list[Any]) -> None:
        """The node of `session` said something unasked."""
        kind, token, key, payload = event
        line = self._lines.get(key)
        here = (
            line is not None
            and line.session is session
            and line.route is not None
            and line.route.token == token
        )
        if kind == b"value":
            if line is not None and here:
                parked, line.parked = line.parked, {}
                for ask in parked:
                    ask.resolve(Filled(payload))
                self._tidy(key)
        elif kind == b"fill":
            if line is None or not here or not self._hand(line, payload.decode()):
                # Not waiting any more, so that this master is not the next to be given one.
                session.tell(b"RM.STOP", token, key)
                session.tell(b"RM.GIVEUP", token, key, payload)

    def hurry(self) -> None:
        """Nobody waits from now on: who does hears that there is nothing yet, and may ask another master."""
        self._hurries = True
        for line in list(self._lines.values()):
            parked, line.parked = line.parked, {}
            for ask in parked:
                ask.resolve(Filled(None))
            for ask in (*line.coming, *line.asked):
                ask.waits = False
            self._tidy(line.key)

    def close(self) -> None:
        """Everybody who waits hears that it is not served."""
        lines, self._lines = self._lines, {}
        for line in lines.values():
            self._stop_timer(line)
            for ask in (*line.coming, *line.asked, *line.parked):
                ask.fail(Unserved("this master stops"))
            line.coming, line.parked = {}, {}

    # Parts.

    def _hand(self, line: _Line, fill_token: str) -> bool:
        """Give the token to the first who is there, or keep it for those who are being asked for; False if there is nobody."""
        while line.parked:
            ask = next(iter(line.parked))
            del line.parked[ask]
            if ask.resolve(Filled(None, fill_token)):
                self._tidy(line.key)
                return True
        if line.asked:
            line.spare = fill_token
            return True
        self._tidy(line.key)
        return False

    def _send(self, line: _Line) -> None:
        """Ask on behalf of all who are coming, unless a command is on its way: they come with the next."""
        self._stop_timer(line)
        if line.asked:
            return
        if not line.coming:
            self._tidy(line.key)
            return
        route = self._route_of(line.key)
        session = self._session_of(route)
        if route is None or session is None or not session.is_up:
            self._wait(line, _CALM_S, self._send)
            return
        line.asked, line.coming = list(line.coming), {}
        line.route, line.session = route, session
        line.turn += 1
        callers = len(line.parked) + sum(ask.waits for ask in line.asked)
        if callers and not all(ask.waits for ask in line.asked):
            callers += 1  # who waits for nothing may get the token, and the others still wait
        frame = encode(b"RM.FILL", route.token, line.key, callers)
        session.ask(frame, partial(self._replied, line, line.turn, session))

    def _replied(self, line: _Line, turn: int, session: Session, reply: Reply) -> None:
        if turn != line.turn or not line.asked:
            return  # asked again meanwhile, of another primary: a token of this one is good no more
        asked, line.asked = line.asked, []
        if isinstance(reply, list):
            line.attempt = 0
            entry, fill_token, waits = reply
            self._settle(line, asked, entry, fill_token.decode(), waits=bool(waits))
            self._send(line)
            return
        outcome = read_outcome(reply)
        if outcome is not RETRY and isinstance(outcome, RingmasterError):
            for ask in asked:
                ask.fail(outcome)
            self._send(line)
            return
        self._put_back(line, asked)
        self._later(line)

    def _settle(
        self, line: _Line, asked: list[Ask], entry: bytes | None, fill_token: str, *, waits: bool
    ) -> None:
        """The primary said what there is: answer those who were asked for, or have them wait."""
        if entry is None:
            fill_token = fill_token or line.spare
        line.spare = ""
        for ask in asked:
            ask.answered = True
            if entry is not None or fill_token:
                if ask.resolve(Filled(entry, fill_token)):
                    fill_token = ""
                    continue
            elif not ask.waits or not waits:
                ask.resolve(Filled(None, waited=not ask.waits))
            if entry is None and ask.waits and waits and not ask.done.done():
                line.parked[ask] = None
        if fill_token and line.route is not None and line.session is not None:
            # Who asked has gone.
            line.session.tell(b"RM.GIVEUP", line.route.token, line.key, fill_token.encode())

    def _again(self, line: _Line) -> None:
        """Ask anew on behalf of all who wait: what was asked before counts no more."""
        waiting, line.parked, line.asked = [*line.parked, *line.asked], {}, []
        self._put_back(line, waiting)
        line.route, line.session, line.spare = None, None, ""
        line.turn += 1
        self._later(line)

    def _put_back(self, line: _Line, asks: list[Ask]) -> None:
        """Those of `asks` who are still there are to be asked for again, before who is coming."""
        line.coming = dict.fromkeys(ask for ask in asks if not ask.done.done()) | line.coming

    def _leave(self, ask: Ask) -> None:
        """The caller has gone; it takes no token."""
        ask.leave()
        line = self._lines.get(ask.key)
        if line is not None:
            line.coming.pop(ask, None)
            line.parked.pop(ask, None)
            self._tidy(ask.key)

    def _later(self, line: _Line) -> None:
        """Ask again in a moment, whatever its primary replied last."""
        pause_s = self._retries.pause_s(line.attempt)
        line.attempt += 1
        self._wait(line, pause_s, self._retry)

    def _retry(self, line: _Line) -> None:
        """Ask again if the primary's budget for that allows it, else later."""
        route = self._route_of(line.key)
        if route is not None and not self._retries.pay({self._retries.of(route.link): 1}):
            self._wait(line, self._retries.put_off_s(line.attempt), self._retry)
            line.attempt += 1
        else:
            self._send(line)

    def _wait(self, line: _Line, pause_s: float, then: Callable[[_Line], None]) -> None:
        self._stop_timer(line)
        line.timer = asyncio.get_running_loop().call_later(pause_s, then, line)

    def _tidy(self, key: bytes) -> None:
        """Forget the line of `key` if nobody is in it any more; its primary need not tell us then."""
        line = self._lines.get(key)
        if line is None or line.asked or line.coming or line.parked:
            return
        self._stop_timer(line)
        del self._lines[key]
        if line.session is not None and line.route is not None and line.session.is_up:
            line.session.tell(b"RM.STOP", line.route.token, key)

    def _stop_timer(self, line: _Line) -> None:
        if line.timer is not None:
            line.timer.cancel()
            line.timer = None

    def _session_of(self, route: Route | None) -> Session | None:
        if route is None or self.events is None:
            return None
        return self.events.with_node(route.owner)

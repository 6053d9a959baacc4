"""Is the history of a key linearizable?

Wing and Gong's search in the just-in-time form of Lowe ("Testing for linearizability", 2017): events are taken in
the order of time, a set of configurations (state, which pending operations have taken effect) is kept, and an
operation must have taken effect when it returns. Keys are independent of each other (P-compositionality). An
unknown write never returns, so it may take effect once at any time after its invocation, or never. Configurations
that another one dominates (same state, fewer unknown writes used up) are dropped, which keeps the set small.

Versions are checked on the way: each write of a key has a higher version than those before it. That is a promise of
its own (ETags never repeat), and it is what makes long histories with many unknown writes quick to decide.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from tests.sim.history import (
    NOT_APPLIED,
    OK,
    PENDING,
    READS,
    UNKNOWN,
    History,
    Operation,
    Version,
    text_of,
)

REPLACED, CREATED, FAILED, ABSENT, NOT_INTEGER, OVERFLOW, FILL_LOST = range(7)

MAX_CONFIGURATIONS = 100_000


class State(NamedTuple):
    """What a key may hold: its value (None: absent) and version (None: not known), and the highest version so far.

    `token`: the fill token that nothing has ended, as far as clients can know; empty for none. `evicted`: the version of an
    entry whose primary evicted it, while nothing was written since.
    """

    value: bytes | None
    version: Version | None
    floor: Version
    token: str = ""
    evicted: Version | None = None

    def __str__(self) -> str:
        return "absent" if self.value is None else f"{text_of(self.value)} @{self.version}"


OPAQUE = b"?"
"""Stands for every value that nobody saw."""

HIGHEST_SEQ = (1 << 48) - 1

EMPTY = State(None, None, (0, 0))

Config = tuple[State, int]


@dataclass(frozen=True, slots=True)
class Violation:
    """`operation` cannot be explained; `states` are what the key may have held just before it returned."""

    key: bytes
    operation: Operation
    states: tuple[State, ...]
    reason: str

    def __str__(self) -> str:
        states = ", ".join(sorted(str(state) for state in self.states)[:6]) or "nothing"
        return f"{self.reason}: {self.operation}; the key could only be: {states}"


def check(history: History) -> list[Violation]:
    """The first violation of each key that has one."""
    violations = []
    for key, operations in history.by_key().items():
        violation = check_key(key, operations)
        if violation is not None:
            violations.append(violation)
    return violations


def check_key(key: bytes, operations: Iterable[Operation]) -> Violation | None:
    """The first operation on `key` that no linearization explains, or None."""
    return _Search(key, [each for each in operations if _matters(each)]).run()


def _matters(operation: Operation) -> bool:
    """Not-applied writes and failed reads say nothing; an unknown ttl change alters no value."""
    if operation.outcome == NOT_APPLIED:
        return False
    return operation.outcome == OK or operation.kind not in READS | {"touch"}


class _Search:
    def __init__(self, key: bytes, operations: list[Operation]) -> None:
        self.key = key
        self.operations = operations
        self.owners = _owners(operations)
        self.tags = {
            each.argument: each.tags
            for each in operations
            if each.kind in {"put", "fill"} and each.argument is not None
        }
        self.filled_tags = {each.token: each.tags for each in operations if each.kind == "fill"}
        self.versions = {value: version for version, value in self.owners.items()}
        peeked = {each.value for each in operations if each.kind == "peek"}
        self.seen = self.versions.keys() | peeked
        self.pending: dict[int, Operation] = {}
        self.opaque = self._opaque_writes()
        self.pure = 0
        self.unknown = 0

    def run(self) -> Violation | None:
        events: list[tuple[float, int, int]] = []
        for index, operation in enumerate(self.operations):
            events.append((operation.invoked, 0, index))
            if operation.outcome in {UNKNOWN, PENDING}:
                self.unknown |= 1 << index
            elif operation.returned is not None:
                # At the same instant invocations come first: such operations count as concurrent.
                events.append((operation.returned, 1, index))
        events.sort()
        configs: set[Config] = {(EMPTY, 0)}
        for _, returns, index in events:
            operation = self.operations[index]
            if not returns:
                self.pending[index] = operation
                if _is_pure(operation) and not (self.filled_tags and operation.kind == "delete"):
                    self.pure |= 1 << index
                    configs = {self._settle(config) for config in configs}
                continue
            after = self._explain(configs, index)
            if after is None:
                states = tuple({state for state, _ in configs})
                return Violation(self.key, operation, states, "undecided, too many configurations")
            if not after:
                states = tuple({state for state, _ in configs})
                return Violation(self.key, operation, states, "not linearizable")
            bit = 1 << index
            del self.pending[index]
            self.pure &= ~bit
            configs = self._prune({(state, used & ~bit) for state, used in after})
        return None

    def _explain(self, configs: set[Config], index: int) -> set[Config] | None:
        """Every configuration reachable from `configs` in which `index` has taken effect; None: too many."""
        bit = 1 << index
        limit = self._version_of(self.operations[index])
        others = [
            (1 << other, operation)
            for other, operation in self.pending.items()
            if limit is None or (self._version_of(operation) or limit) <= limit
        ]
        found = {config for config in configs if config[1] & bit}
        seen = set(configs)
        stack = [config for config in configs if not config[1] & bit]
        while stack:
            state, used = stack.pop()
            opaque_tried = False
            for flag, operation in others:
                if flag & self.opaque and not used & flag:
                    if opaque_tried:
                        continue
                    opaque_tried = True
                if used & flag:
                    continue
                for after in self._apply(operation, state):
                    # What an unknown write leaves as it was, it may as well do later.
                    if after == state and self.unknown & flag:
                        continue
                    config = self._settle((after, used | flag))
                    if config in seen:
                        continue
                    seen.add(config)
                    if config[1] & bit:
                        found.add(config)
                    else:
                        stack.append(config)
            if len(seen) > MAX_CONFIGURATIONS:
                return None
        return found

    def _settle(self, config: Config) -> Config:
        """Pending reads that fit take effect at once: that never hurts, because they change nothing.

        But for a sum whose version is not known: sums repeat, and the read may be of another one.
        """
        state, used = config
        left = self.pure & ~used
        while left:
            bit = left & -left
            left ^= bit
            operation = self.operations[bit.bit_length() - 1]
            if (
                state.version is None
                and state.value is not None
                and _integer(state.value) is not None
            ):
                continue
            for after in self._apply(operation, state):
                # A get names the version of the value it saw; the value is unique, so this only adds knowledge.
                state = after
                used |= bit
        return state, used

    def _prune(self, configs: set[Config]) -> set[Config]:
        """Drop what has the state of another, and has used up more unknown writes."""
        unknown = self.unknown
        if not unknown or len(configs) < 2:
            return configs
        groups: dict[tuple[State, int], list[int]] = {}
        for state, used in configs:
            groups.setdefault((state, used & ~unknown), []).append(used & unknown)
        kept: set[Config] = set()
        for (state, rest), masks in groups.items():
            masks.sort(key=int.bit_count)
            minimal: list[int] = []
            for mask in masks:
                if not any(mask & small == small for small in minimal):
                    minimal.append(mask)
                    kept.add((state, rest | mask))
        return kept

    def _opaque_writes(self) -> int:
        """Unknown puts whose values nobody saw: one is as good as another, so only the first left over is tried."""
        mask = 0
        for index, operation in enumerate(self.operations):
            if (
                operation.kind == "put"
                and operation.outcome != OK
                and operation.argument not in self.seen
            ):
                mask |= 1 << index
        return mask

    def _version_of(self, operation: Operation) -> Version | None:
        """The version that `operation` wrote or read, if some client learned it."""
        if operation.outcome == OK:
            return operation.version
        return self.versions.get(operation.argument) if operation.argument is not None else None

    def _fits(self, state: State, version: Version | None) -> bool:
        """Whether the entry in `state` can have `version`."""
        if state.value is None or version is None:
            return False
        if state.version is not None:
            return state.version == version
        return version > state.floor and self.owners.get(version, state.value) == state.value

    def _write(self, state: State, value: bytes | None, version: Version | None) -> list[State]:
        """`value` is written with `version` (None: not known)."""
        if version is None and value is not None:
            version = self.versions.get(value)
        if version is None:
            return [State(value, None, state.floor)]
        if version <= state.floor:
            return []
        return [State(value, None if value is None else version, version)]

    def _apply(self, operation: Operation, state: State) -> list[State]:
        """The states after `operation` takes effect in `state`; none if its result contradicts `state`."""
        return _APPLY[operation.kind](self, operation, state)

    def _get(self, operation: Operation, state: State) -> list[State]:
        if operation.value is None:
            return [state] if state.value is None else []
        if (
            state.value != operation.value
            or operation.version is None
            or not self._fits(state, operation.version)
        ):
            return []
        return (
            [state]
            if state.version is not None
            else [State(state.value, operation.version, operation.version, state.token)]
        )

    def _fetch(self, operation: Operation, state: State) -> list[State]:
        found = self._get(operation, state)
        return (
            [each._replace(token=operation.token) for each in found] if operation.token else found
        )

    def _peek(self, operation: Operation, state: State) -> list[State]:
        return [state] if state.value == operation.value else []

    def _seen(self, operation: Operation, state: State) -> list[State]:
        """A write that was refused, and HEAD, read the version of what is there (None: nothing is)."""
        if operation.version is None:
            return [state] if state.value is None else []
        return [state] if self._fits(state, operation.version) else []

    def _put(self, operation: Operation, state: State) -> list[State]:
        assert operation.argument is not None
        if operation.outcome == OK:
            if operation.status == FAILED:
                return self._seen(operation, state)
            if (state.value is None) != (operation.status == CREATED):
                return []
            return self._write(state, operation.argument, operation.version)
        if operation.argument not in self.seen:
            return [State(OPAQUE, None, state.floor)]
        return self._write(state, operation.argument, None)

    def _fill(self, operation: Operation, state: State) -> list[State]:
        """Like a put, while its token lives. A token may end unseen, with its term or its time: then the write is lost, and told what is there."""
        if operation.outcome == OK and operation.status == FILL_LOST:
            return self._seen(operation, state)
        return self._put(operation, state) if state.token == operation.token else []

    def _give_up(self, operation: Operation, state: State) -> list[State]:
        return [state._replace(token="")] if state.token == operation.token else [state]

    def _add(self, operation: Operation, state: State) -> list[State]:
        if operation.outcome == OK and operation.status == FAILED:
            return self._seen(operation, state) if operation.version is not None else []
        return self._put(operation, state) if state.value is None else []

    def _cas(self, operation: Operation, state: State) -> list[State]:
        if operation.outcome == OK and operation.status == FAILED:
            if state.value is not None and state.version == operation.expected:
                return []
            return self._seen(operation, state)
        return self._put(operation, state) if self._fits(state, operation.expected) else []

    def _delete(self, operation: Operation, state: State) -> list[State]:
        absent = operation.outcome == OK and operation.status == ABSENT
        if absent:
            return [state._replace(token="", evicted=None)] if state.value is None else []
        if operation.outcome == OK and state.value is None:
            return []
        return self._write(state, None, operation.version)

    def _incr(self, operation: Operation, state: State) -> list[State]:
        current = 0 if state.value is None else _integer(state.value)
        if operation.outcome == OK and operation.status == NOT_INTEGER:
            return [state] if current is None else []
        if current is None:
            return []
        text = b"%d" % (current + operation.number)
        if operation.outcome == OK:
            if text != operation.value or (state.value is None) != (operation.status == CREATED):
                return []
            return self._write(state, text, operation.version)
        return [State(text, None, state.floor)]

    def _touch(self, operation: Operation, state: State) -> list[State]:
        return [state] if (state.value is None) == (operation.status == ABSENT) else []

    def _untag(self, operation: Operation, state: State) -> list[State]:
        """Gone if it carries the tag, whatever version it got."""
        gone = State(None, None, state.floor)
        tag = (operation.argument or b"").decode()
        if tag in self.filled_tags.get(state.token, ()):
            state = state._replace(token="")
        if state.value == OPAQUE:
            return [state, gone]
        carried = self.tags.get(state.value, ()) if state.value is not None else ()
        return [gone if tag in carried else state]

    def _evict(self, operation: Operation, state: State) -> list[State]:
        if operation.argument is not None:
            # It may expire from here on, whatever version it got.
            gone = state.value in {operation.argument, OPAQUE}
        else:
            gone = self._fits(state, operation.expected)
        return [State(None, None, state.floor, state.token, operation.expected)] if gone else []

    def _return(self, operation: Operation, state: State) -> list[State]:
        """A copy that had not heard of the eviction serves now (R8)."""
        if state.evicted != operation.expected:
            return []
        assert operation.expected is not None
        floor = max(state.floor, operation.expected)
        return [State(operation.value, operation.expected, floor, state.token)]

    def _wipe(self, operation: Operation, state: State) -> list[State]:
        return [State(operation.value, operation.expected, state.floor)]

    def _set_back(self, operation: Operation, _state: State) -> list[State]:
        return [State(operation.value, operation.expected, (operation.number, HIGHEST_SEQ))]


_APPLY = {
    "get": _Search._get,
    "peek": _Search._peek,
    "fetch": _Search._fetch,
    "fill": _Search._fill,
    "give-up": _Search._give_up,
    "head": _Search._seen,
    "put": _Search._put,
    "add": _Search._add,
    "cas": _Search._cas,
    "delete": _Search._delete,
    "incr": _Search._incr,
    "touch": _Search._touch,
    "evict": _Search._evict,
    "return": _Search._return,
    "untag": _Search._untag,
    "wipe": _Search._wipe,
    "set-back": _Search._set_back,
}


def _is_pure(operation: Operation) -> bool:
    """Whether it can only read (its result is known, so whether it wrote is known too)."""
    if operation.kind in READS | {"touch"}:
        return not operation.token
    return operation.outcome == OK and operation.status in {FAILED, ABSENT, NOT_INTEGER, FILL_LOST}


def _integer(value: bytes) -> int | None:
    try:
        return int(value)
    except ValueError:
        return None


def _owners(operations: list[Operation]) -> dict[Version, bytes]:
    """The value of each version that some client saw together with it. (Sums are not unique, so they tell nothing.)"""
    owners: dict[Version, bytes] = {}
    for operation in operations:
        if operation.outcome != OK or operation.version is None:
            continue
        if operation.kind in {"get", "fetch"} and operation.value is not None:
            owners[operation.version] = operation.value
        elif operation.status in {REPLACED, CREATED}:
            value = operation.value if operation.kind == "incr" else operation.argument
            if value is not None:
                owners[operation.version] = value
    return owners

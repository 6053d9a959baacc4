"""What `make bench` measures: contestants, cases, and the ratios that are to be met."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from bench.peers import BOTH_CORES, SERVER_CORE, Etcd, NginxSelf, Peer, Ringmaster, Webdis


@dataclass(frozen=True, slots=True)
class Case:
    """One kind of request. `keys` of `size` bytes under `prefix`; `zipf`: popularity 0.99 instead of uniform."""

    name: str
    kind: str
    prefix: str = "k"
    keys: int = 10_000
    size: int = 100
    zipf: bool = False


GET: Final = Case("GET 100 B", "get")
SET: Final = Case("POST 100 B", "set")
MIX: Final = Case("90/10 100 B", "mix")
OPTIONS: Final = Case("POST 100 B, ttl and tags", "options", prefix="t")
SAME: Final = Case("GET 100 B, If-None-Match: 304", "same", prefix="c")
BULK: Final = Case("bulk get of 100", "bulk")
ZIPF: Final = Case("GET 100 B, Zipf 0.99 of 1 M", "get", prefix="z", keys=1_000_000, zipf=True)
ONE_K: Final = Case("GET 1 KB", "get", prefix="s1k", size=1000)
TEN_K: Final = Case("GET 10 KB", "get", prefix="s10k", keys=2000, size=10_000)
HUNDRED_K: Final = Case("GET 100 KB", "get", prefix="s100k", keys=200, size=100_000)
ETCD: Final = Case("GET 100 B", "etcd", keys=1000)


@dataclass(frozen=True, slots=True)
class Entry:
    """A contestant in one arrangement, and the cases it runs. wrk gets `client_cores` and `threads`.

    `warm_s`: seconds of the first case before anything is measured; after 12, masters have copies of 10,000 keys that are asked for
    equally often, and the snapshot of what was loaded is written. Every case is begun `LEAD_S` before it is measured.
    """

    label: str
    make: Callable[[], Peer]
    cases: tuple[Case, ...]
    client_cores: str = "1"
    threads: int = 1
    warm_s: int = 12


LEAD_S: Final = 1
"""What the case before left behind is over then, such as copies of keys that are written now."""

ENTRIES: Final = (
    Entry(
        "ringmaster, one core",
        lambda: Ringmaster(SERVER_CORE),
        (GET, BULK, SET, MIX, OPTIONS, SAME),
    ),
    Entry(
        "ringmaster, one core, 2 replicas", lambda: Ringmaster(SERVER_CORE, replicas=2), (SET, GET)
    ),
    Entry(
        "ringmaster, one core, no fast path",
        lambda: Ringmaster(SERVER_CORE, fastpath=False),
        (GET, SET, OPTIONS, SAME),
    ),
    Entry(
        "ringmaster, one core, interpreted",
        lambda: Ringmaster(SERVER_CORE, compiled=False),
        (GET, BULK, SET),
    ),
    Entry("webdis + redis, one core", lambda: Webdis(SERVER_CORE), (GET, SET, MIX)),
    Entry(
        "ringmaster, one core, 1 M keys",
        lambda: Ringmaster(SERVER_CORE),
        (ZIPF,),
    ),
    Entry(
        "webdis + redis, one core, 1 M keys",
        lambda: Webdis(SERVER_CORE),
        (ZIPF,),
    ),
    Entry("etcd gateway, one core", lambda: Etcd(SERVER_CORE), (ETCD,)),
    Entry(
        "ringmaster behind nginx",
        lambda: Ringmaster(BOTH_CORES, nginx=True),
        (GET, ONE_K, TEN_K, HUNDRED_K, SET, MIX),
        BOTH_CORES,
    ),
    Entry(
        "webdis + redis behind nginx",
        lambda: Webdis(BOTH_CORES, nginx=True),
        (GET, ONE_K, TEN_K, HUNDRED_K, SET, MIX),
        BOTH_CORES,
    ),
    Entry(
        "ringmaster behind a plain nginx",
        lambda: Ringmaster(BOTH_CORES, plain=True),
        (GET, SET),
        BOTH_CORES,
    ),
    Entry(
        "webdis + redis behind a plain nginx",
        lambda: Webdis(BOTH_CORES, plain=True),
        (GET, SET),
        BOTH_CORES,
    ),
    Entry("nginx behind nginx", lambda: NginxSelf(BOTH_CORES), (GET,), BOTH_CORES),
)


@dataclass(frozen=True, slots=True)
class Goal:
    """`ours` against `theirs` in requests a second, times `factor`; and our p99 against theirs if `p99`."""

    text: str
    ours: tuple[str, str]
    theirs: tuple[str, str]
    at_least: float
    factor: float = 1.0
    p99: bool = False


_ONE, _WEB = "ringmaster, one core", "webdis + redis, one core"
_FRONT, _WEBFRONT = "ringmaster behind nginx", "webdis + redis behind nginx"
_PLAIN, _WEBPLAIN = "ringmaster behind a plain nginx", "webdis + redis behind a plain nginx"
_MANY, _WEBMANY = "ringmaster, one core, 1 M keys", "webdis + redis, one core, 1 M keys"

GOALS: Final = (
    Goal("GET, one core, against webdis + Redis", (_ONE, GET.name), (_WEB, GET.name), 2.2, p99=True),
    Goal("GET, one core, Zipf 0.99 of 1 M keys, against webdis + Redis", (_MANY, ZIPF.name), (_WEBMANY, ZIPF.name), 1.8),
    Goal(
        "GET behind a plain nginx, against nginx → webdis → Redis",
        (_PLAIN, GET.name), (_WEBPLAIN, GET.name), 1.3, p99=True,
    ),
    Goal(
        "GET behind the nginx of `ringmaster up`, against nginx → webdis → Redis",
        (_FRONT, GET.name), (_WEBFRONT, GET.name), 1.5, p99=True,
    ),
    Goal("the same, against nginx → nginx", (_FRONT, GET.name), ("nginx behind nginx", GET.name), 0.85),
    Goal("POST, 1 replica, against webdis SET", (_ONE, SET.name), (_WEB, SET.name), 1.3, p99=True),
    Goal(
        "POST, 2 replicas, against webdis SET",
        ("ringmaster, one core, 2 replicas", SET.name), (_WEB, SET.name), 0.8,
    ),
    Goal(
        "GET, fast path against none",
        (_ONE, GET.name), ("ringmaster, one core, no fast path", GET.name), 2.5, p99=True,
    ),
    Goal("bulk get, keys a second against single GETs", (_ONE, BULK.name), (_ONE, GET.name), 12.0, factor=100.0),
    Goal("aux against Redis, GET -P 16", ("aux", "redis-benchmark GET"), ("redis", "redis-benchmark GET"), 0.20),
    Goal("GET 10 KB behind nginx", (_FRONT, TEN_K.name), (_WEBFRONT, TEN_K.name), 1.0, p99=True),
    Goal("GET 100 KB behind nginx", (_FRONT, HUNDRED_K.name), (_WEBFRONT, HUNDRED_K.name), 1.0, p99=True),
)  # fmt: skip

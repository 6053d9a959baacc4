"""The settings of what serves clients: of a master, and of the masters of a local cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from ringmaster.config.cluster_settings import ClusterSettings
from ringmaster.config.types import Duration, Networks, RateText, Size


class ServingSettings(ClusterSettings):
    """Settings that all masters of a cluster should share."""

    fastpath: Annotated[
        bool,
        Field(
            description="Serve plain requests of /data on a short way, several times as fast. Off: to compare."
        ),
    ] = True
    deadline: Annotated[
        Duration,
        Field(
            gt=0,
            le=60,
            description="How long a client's request may take until it is answered 503.",
        ),
    ] = 6.0
    shed_after: Annotated[
        Duration,
        Field(
            ge=0,
            le=10,
            description="Once requests have taken so long for a tenth of a second, so that even the quickest did, as many are answered "
            "503 at once as must be for the others to be that quick. 0: never.",
        ),
    ] = 0.005
    host_names: Annotated[
        str,
        Field(
            description="Host names under which clients reach it, separated by commas; localhost and IP addresses always "
            "work, `*` allows any name. Other Host headers are refused, against DNS rebinding. With `--tokens` any is accepted."
        ),
    ] = ""
    tokens: Annotated[
        Path | None,
        Field(
            description="File of the tokens with which clients identify themselves (`ringmaster token create`), not "
            "readable by others; read again when it changes. Unset: everyone who reaches it may do everything."
        ),
    ] = None
    bootstrap_wait: Annotated[
        Duration,
        Field(
            le=300,
            description="How long a cluster that starts waits for further nodes before it places data.",
        ),
    ] = 1.0
    max_fills: Annotated[
        int, Field(ge=1, le=4096, description="How many copies may be filled at the same time.")
    ] = 128
    copies_memory: Annotated[
        Size,
        Field(
            ge=0,
            description="How much of a master's memory copies of hot entries may take, from which it answers without asking a "
            "node; they are never stale. 0: no copies.",
        ),
    ] = 32 * 2**20
    audit_interval: Annotated[
        Duration,
        Field(
            le=3600,
            description="About how long after one another a master writes a small key of its own through one master and reads it "
            "through another, to see that nothing is stale, lost or not served (`ringmaster_audit_…`). 0: never.",
        ),
    ] = 1.0
    max_connections: Annotated[
        int,
        Field(
            ge=0,
            le=1_000_000,
            description="Connections that one master takes at one time; more are answered 503 and closed. 0: no cap. "
            "Those by its unix socket, as from the nginx beside it, are counted and never refused.",
        ),
    ] = 10_000
    max_connections_per_address: Annotated[
        int,
        Field(
            ge=0,
            le=1_000_000,
            description="How many of them may come from one client address. 0: no cap, as where a proxy on another "
            "machine is the only client.",
        ),
    ] = 5_000
    rate_limit_address: Annotated[
        RateText | None,
        Field(
            description="Requests that one client address may send, `1000/s`, `60/m` or `5000/h`, evenly; `1000/s,burst=3000` lets "
            "in as many at once of what was left unused, else that many are the number before the stroke. More get 429. An item "
            "of a bulk request is one request. For the whole cluster: each master lets in its share. Unset: no limit."
        ),
    ] = None
    rate_limit_token: Annotated[
        RateText | None,
        Field(
            description="The same for each token of `--tokens` that has no `rate` of its own. Unset: no limit."
        ),
    ] = None
    trusted_proxies: Annotated[
        Networks | None,
        Field(
            description="Addresses or networks of proxies, separated by commas, whose `X-Forwarded-For` says for which client "
            "address a request counts. What comes by the unix socket is trusted anyway, as from the nginx of `ringmaster up`."
        ),
    ] = None

"""Load for a Ringmaster cluster: users that read, users that write, users that work in bulk.

`loadTest.sh` runs it; by hand: `locust -f load_test/locustfile.py --host http://127.0.0.1:8080`.

There is no think time: each user sends its next request as soon as it has the last reply (a closed loop), so
the figures are the cluster's and the load generator's, and requests a second = users / mean response time.

`RINGMASTER_TOKEN`, or a file that `RINGMASTER_TOKEN_FILE` names, has the token where masters ask for one.

A miss is an ordinary answer of a cache. It is counted under a name of its own (`GET /data/{key} miss`) and in
the hit ratio, and is no failure; a 404 that is not Ringmaster's is one, and so is a value of another key.
"""

from __future__ import annotations

import json
import os
import random
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from locust import FastHttpUser, constant, events, tag, task
from locust.env import Environment
from locust.runners import MasterRunner, WorkerRunner
from popularity import Popularity
from summary import Items, render

GET = "GET /data/{key}"


class Workload:
    """What the options ask for; one per process, shared by its users."""

    def __init__(self, options: Any) -> None:
        self.bulk_size = int(options.bulk_size)
        self._prefix = str(options.key_prefix)
        self._ttl_s = float(options.ttl)
        self._filler = "x" * int(options.value_size)
        # An odd stride scatters ranks over the key names, so that popular keys are no neighbours.
        self._popularity = Popularity(options.keys, options.zipf_s, random.Random(options.seed))
        self.items = Items()

    def key(self) -> str:
        """The key to use next."""
        return self._name(self._popularity.draw())

    def batch(self) -> list[str]:
        """Different keys for one bulk request, at most `bulk_size`."""
        return list({self._name(rank): None for rank in self._popularity.draw_many(self.bulk_size)})

    def value(self, key: str) -> str:
        """A value that names its key, so that a reply can be checked."""
        return f"{key}={self._filler}"

    def item(self, key: str) -> dict[str, Any]:
        """What POST takes."""
        item: dict[str, Any] = {"key": key, "value": self.value(key)}
        if self._ttl_s:
            item["ttl"] = self._ttl_s
        return item

    def _name(self, rank: int) -> str:
        return f"{self._prefix}{rank}"


@events.init_command_line_parser.add_listener
def add_options(parser: ArgumentParser) -> None:
    """Options of ours beside Locust's own."""
    group = parser.add_argument_group("Ringmaster")
    group.add_argument("--keys", type=int, default=10_000, help="How many different keys (10000).")
    group.add_argument(
        "--zipf-s",
        type=float,
        default=0.99,
        help="Skew of their popularity: 0 = all alike, 0.99 = as YCSB (default), larger = more skewed.",
    )
    group.add_argument("--value-size", type=int, default=100, help="Bytes of a value (100).")
    group.add_argument("--bulk-size", type=int, default=100, help="Keys of a bulk request (100).")
    group.add_argument("--ttl", type=float, default=0.0, help="Expiry in seconds, 0 = never (0).")
    group.add_argument("--key-prefix", default="load:", help="What every key begins with (load:).")
    group.add_argument(
        "--seed", type=int, default=None, help="Makes the choice of keys repeatable."
    )
    group.add_argument("--summary-file", default="", help="Where to write the summary as well.")


@events.init.add_listener
def prepare(environment: Environment, **_: Any) -> None:
    """Reads the options once; with `--processes`, brings the counts of all workers together."""
    workload = Workload(environment.parsed_options)
    environment.workload = workload  # type: ignore[attr-defined]
    if isinstance(environment.runner, WorkerRunner):

        def report(data: dict[str, Any], **_: Any) -> None:
            data["items"] = workload.items.take()

        environment.events.report_to_master.add_listener(report)
    elif isinstance(environment.runner, MasterRunner):

        def collect(data: dict[str, Any], **_: Any) -> None:
            workload.items.add(*data.get("items", (0, 0)))

        environment.events.worker_report.add_listener(collect)


@events.quitting.add_listener
def summarise(environment: Environment, **_: Any) -> None:
    """The one-screen summary, once everything has been counted."""
    if isinstance(environment.runner, WorkerRunner):
        return
    text = render(environment.stats, environment.workload.items)  # type: ignore[attr-defined]
    path = environment.parsed_options.summary_file
    if path:
        Path(path).write_text(text, encoding="utf-8")
    else:
        print(text)
    # Nothing measured is no success either.
    failed = environment.stats.total.num_failures or not environment.stats.total.num_requests
    environment.process_exit_code = 1 if failed else 0


def _reason(response: Any) -> str:
    """Why a reply is a failure: its status, or what broke when there is none."""
    if response.status_code:
        return f"status {response.status_code}"
    return str(getattr(response, "error", None) or "no reply")


def token_headers() -> dict[str, str]:
    """The header with the token of the environment, if there is one."""
    token, named = os.environ.get("RINGMASTER_TOKEN"), os.environ.get("RINGMASTER_TOKEN_FILE")
    if not token and named:
        token = Path(named).read_text(encoding="utf-8").strip()
    return {"Authorization": f"Bearer {token}"} if token else {}


class CacheUser(FastHttpUser):
    """What all users do: requests whose replies are checked and counted."""

    abstract = True
    wait_time = constant(0)
    connection_timeout = 5.0
    # The masters' own deadline is 6 s.
    network_timeout = 10.0
    default_headers = token_headers()

    @property
    def workload(self) -> Workload:
        """The options, as they were read when Locust started."""
        workload: Workload = self.environment.workload
        return workload

    def read(self, key: str) -> bool:
        """GET; true if it was there."""
        with self.client.get(f"/data/{key}", name=GET, catch_response=True) as response:
            if response.status_code == 404 and "fwd=miss" in response.headers.get(
                "Cache-Status", ""
            ):
                response.request_meta["name"] = f"{GET} miss"
                response.success()
                self.workload.items.add(hits=0, misses=1)
                return False
            if response.status_code != 200:
                response.failure(_reason(response))
            elif json.loads(response.content).get("value") != self.workload.value(key):
                response.failure("the value of another key")
            else:
                self.workload.items.add(hits=1, misses=0)
                return True
        return True

    def write(self, key: str) -> None:
        """POST."""
        self._expect((200, 201), "POST", "/data", "POST /data", json=self.workload.item(key))

    def remove(self, key: str) -> None:
        """DELETE."""
        self._expect((204,), "DELETE", f"/data/{key}", "DELETE /data/{key}")

    def _expect(
        self, good: tuple[int, ...], method: str, path: str, name: str, **body: Any
    ) -> None:
        with self.client.request(method, path, name=name, catch_response=True, **body) as response:
            if response.status_code in good:
                response.success()
            else:
                response.failure(_reason(response))


class ReadHeavy(CacheUser):
    """An application in front of a slower store: 95 % reads, and what was missing is put in."""

    weight = 6

    @tag("read")
    @task(95)
    def get_or_fill(self) -> None:
        """A read; on a miss the write that follows it."""
        key = self.workload.key()
        if not self.read(key):
            self.write(key)

    @tag("read")
    @task(5)
    def update(self) -> None:
        """A new value."""
        self.write(self.workload.key())


class WriteHeavy(CacheUser):
    """A producer: 70 % writes, 20 % reads, 10 % deletes."""

    weight = 3

    @tag("write")
    @task(7)
    def post(self) -> None:
        """A new value."""
        self.write(self.workload.key())

    @tag("write")
    @task(2)
    def get(self) -> None:
        """A read that fills nothing in."""
        self.read(self.workload.key())

    @tag("write")
    @task(1)
    def delete(self) -> None:
        """The end of an entry."""
        self.remove(self.workload.key())


class Bulk(CacheUser):
    """A batch job: many keys in one request, half of them written."""

    weight = 1

    @tag("bulk")
    @task(1)
    def post_many(self) -> None:
        """New values, each of which must have been taken."""
        items = [self.workload.item(key) for key in self.workload.batch()]
        with self.client.post(
            "/data/bulk", json=items, name="POST /data/bulk", catch_response=True
        ) as response:
            if response.status_code != 200:
                response.failure(_reason(response))
                return
            results = json.loads(response.content)["results"]
            refused = [item["status"] for item in results if item["status"] not in (200, 201)]
            if refused or len(results) != len(items):
                response.failure(f"{len(refused)} of {len(items)} items refused: {refused[:3]}")

    @tag("bulk")
    @task(1)
    def get_many(self) -> None:
        """Values of many keys; those not in the reply are misses."""
        keys = self.workload.batch()
        with self.client.post(
            "/data/bulk/get", json=keys, name="POST /data/bulk/get", catch_response=True
        ) as response:
            if response.status_code != 200:
                response.failure(_reason(response))
                return
            reply = json.loads(response.content)
            values = reply["values"]
            if reply["errors"]:
                response.failure(f"{len(reply['errors'])} of {len(keys)} keys failed")
            elif any(value != self.workload.value(key) for key, value in values.items()):
                response.failure("the value of another key")
            else:
                self.workload.items.add(hits=len(values), misses=len(keys) - len(values))

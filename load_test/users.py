"""Users of a cache: each sends its next request when it has the last reply, and checks every one.

A miss is an ordinary answer of a cache. It is counted under a name of its own (`GET /data/{key} miss`) and in
the hit ratio, and is no failure; a 404 that is not Ringmaster's is one, and so is a value of another key.
"""

from __future__ import annotations

import json
from typing import Any, Final
from urllib.parse import quote

import gevent
from locust import FastHttpUser, constant, tag, task
from locust.exception import StopUser

from load_test.breaking import token_headers
from load_test.workload import Workload

GET: Final = "GET /data/{key}"
WAITING: Final = "GET /data/{key} waiting"
HOT_SHARE: Final = 0.9
"""Of the requests of the scenario `hot-key` are for one key."""

WAIT_S: Final = 5


def _reason(response: Any) -> str:
    """Why a reply is a failure: its status and, of a write, what became of it; what broke when there is none."""
    if not response.status_code:
        return str(getattr(response, "error", None) or "no reply")
    try:
        outcome = json.loads(response.content).get("outcome")
    except (ValueError, AttributeError):
        outcome = None
    return f"status {response.status_code}" + (f", outcome {outcome}" if outcome else "")


class CacheUser(FastHttpUser):
    """What all users do: requests whose replies are checked and counted."""

    abstract = True
    wait_time = constant(0)
    connection_timeout = 5.0
    # The masters' own deadline is 6 s.
    network_timeout = 10.0
    default_headers = token_headers()

    kept_in_paths = "%:/"
    """Characters of a key that a path has as they are."""

    @property
    def workload(self) -> Workload:
        """The options, as they were read when Locust started."""
        workload: Workload = self.environment.workload
        return workload

    def path(self, key: str) -> str:
        """The path of an entry."""
        return f"/data/{quote(key, safe=self.kept_in_paths)}"

    def read(self, key: str) -> bool:
        """GET; true if it was there."""
        with self.client.get(self.path(key), name=GET, catch_response=True) as response:
            if response.status_code == 404 and "fwd=miss" in response.headers.get(
                "Cache-Status", ""
            ):
                response.request_meta["name"] = f"{GET} miss"
                response.success()
                self.workload.looked_up(hits=0, misses=1)
                return False
            if response.status_code != 200:
                response.failure(_reason(response))
            else:
                self._check(response, key)
        return True

    def _check(self, response: Any, key: str) -> None:
        """Counts a hit whose value is that of the key; any other is a failure."""
        value = str(json.loads(response.content).get("value"))
        # How long it is, is another matter: a trace says so, and options of a run before did.
        if value.rstrip("x") != f"{key}=":
            response.failure("the value of another key")
        else:
            self.workload.looked_up(hits=1, misses=0)

    def write(self, key: str, size: int | None = None) -> None:
        """POST; `size`: bytes of the value, if it is not that of the options."""
        item = self.workload.item(key, size)
        self._expect((200, 201), "POST", "/data", "POST /data", json=item)

    def remove(self, key: str) -> None:
        """DELETE."""
        self._expect((204,), "DELETE", self.path(key), "DELETE /data/{key}")

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
                self.workload.looked_up(hits=len(values), misses=len(keys) - len(values))


class HotKey(CacheUser):
    """One key that everybody wants: 90 % of the requests are for it, and 1 % write."""

    @tag("hot-key")
    @task(99)
    def get(self) -> None:
        """A read; on a miss the write that follows it."""
        key = self._draw()
        if not self.read(key):
            self.write(key)

    @tag("hot-key")
    @task(1)
    def post(self) -> None:
        """A new value."""
        self.write(self._draw())

    def _draw(self) -> str:
        hot = self.workload.random.random() < HOT_SHARE
        return self.workload.hot_key() if hot else self.workload.key()


class Stampede(CacheUser):
    """Values that take time to make and expire at once: on a miss one caller makes the value, the others wait for it."""

    @tag("stampede")
    @task
    def get_or_make(self) -> None:
        """`Prefer: wait`; who gets the token makes the value and writes it with the token."""
        key = self.workload.key()
        token = self._ask(key)
        if token is None:
            return
        gevent.sleep(self.workload.fill_s)
        item = self.workload.item(key) | {"ttl": self.workload.stale_after_s}
        headers = {"Fill-Token": token} if token else {}
        with self.client.post(
            "/data", json=item, headers=headers, name="POST /data fill", catch_response=True
        ) as response:
            # 412: somebody wrote it meanwhile, or the token's time was over.
            if response.status_code in (200, 201, 412):
                response.success()
            else:
                response.failure(_reason(response))

    def _ask(self, key: str) -> str | None:
        """The token to fill the key with, empty if nobody was given one; None if there is nothing to fill."""
        with self.client.get(
            self.path(key), headers={"Prefer": f"wait={WAIT_S}"}, name=WAITING, catch_response=True
        ) as response:
            if response.status_code == 200:
                self._check(response, key)
                return None
            if response.status_code == 404 and "fwd=miss" in response.headers.get(
                "Cache-Status", ""
            ):
                token = str(response.headers.get("Fill-Token", ""))
                response.request_meta["name"] = f"{GET} {'token' if token else 'miss'}"
                response.success()
                self.workload.looked_up(hits=0, misses=1)
                return token
            response.failure(_reason(response))
            return None


class Replay(CacheUser):
    """The requests of a trace file, in its order: a read, and on a miss the write that follows it."""

    kept_in_paths = ":/"

    @tag("replay")
    @task
    def next(self) -> None:
        """The next request; at the trace's end the user is done."""
        request = next(self.workload.requests, None)
        if request is None:
            self.environment.trace_ended()
            raise StopUser
        key, size = request
        if not self.read(key):
            self.write(key, size)

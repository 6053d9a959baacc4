"""Load for a Ringmaster cluster, by scenario.

`loadTest.sh` runs it; by hand: `PYTHONPATH=. locust -f load_test/locustfile.py --host http://127.0.0.1:8080`.

There is no think time: each user sends its next request as soon as it has the last reply (a closed loop), so
the figures are the cluster's and the load generator's, and requests a second = users / mean response time.

`RINGMASTER_TOKEN`, or a file that `RINGMASTER_TOKEN_FILE` names, has the token where masters ask for one.
"""

from __future__ import annotations

import json
import time
from argparse import ArgumentParser
from pathlib import Path
from typing import Any, Final

from locust import events
from locust.env import Environment
from locust.runners import MasterRunner, WorkerRunner

from load_test.figures import COMPARED_OPTIONS
from load_test.observer import Observer
from load_test.summary import duration_s, errors, render, requests
from load_test.users import Bulk, CacheUser, HotKey, ReadHeavy, Replay, Stampede, WriteHeavy
from load_test.workload import Workload, open_trace

SCENARIOS: Final[dict[str, tuple[type[CacheUser], ...]]] = {
    "mixed": (ReadHeavy, WriteHeavy, Bulk),
    "read-heavy": (ReadHeavy,),
    "write-heavy": (WriteHeavy,),
    "hot-key": (HotKey,),
    "stampede": (Stampede,),
    "bulk": (Bulk,),
    "failover": (ReadHeavy, WriteHeavy, Bulk),
    "replay": (Replay,),
}
TRACE_ENDED: Final = "trace-ended"


@events.init_command_line_parser.add_listener
def add_options(parser: ArgumentParser) -> None:
    """Options of ours beside Locust's own."""
    group = parser.add_argument_group("Ringmaster")
    group.add_argument(
        "--scenario", choices=SCENARIOS, default="mixed", help="Which users there are (mixed)."
    )
    group.add_argument("--keys", type=int, default=10_000, help="How many different keys (10000).")
    group.add_argument(
        "--zipf-s",
        type=float,
        default=0.99,
        help="Skew of their popularity: 0 = all alike, 0.99 = as YCSB (default), larger = more skewed.",
    )
    group.add_argument("--value-size", type=int, default=100, help="Bytes of a value (100).")
    group.add_argument("--bulk-size", type=int, default=100, help="Keys of a bulk request (100).")
    group.add_argument(
        "--ttl", type=float, default=0.0, help="Expiry in seconds, 0 = never (0; stampede: 1)."
    )
    group.add_argument(
        "--fill-time", type=float, default=0.05, help="Stampede: seconds to make a value (0.05)."
    )
    group.add_argument("--trace", default="", help="Replay: the trace file, .tsv or .lis.")
    group.add_argument("--key-prefix", default="load:", help="What every key begins with (load:).")
    group.add_argument(
        "--seed", type=int, default=None, help="Makes the choice of keys repeatable."
    )
    group.add_argument(
        "--kill-at", type=float, default=0.0, help="Kill a node after so many seconds, 0 = never."
    )
    group.add_argument("--kill-node", default="", help="Which node (the one with most primaries).")
    group.add_argument("--data-dir", default="", help="The data folder of a local cluster (data).")
    group.add_argument("--compose-file", default="", help="The compose file of one in containers.")
    group.add_argument("--summary-file", default="", help="Where to write the summary as well.")
    group.add_argument("--run-file", default="", help="Where to keep what the report is made of.")


@events.init.add_listener
def prepare(environment: Environment, **_: Any) -> None:
    """Reads the options once; with `--processes`, brings the counts of all workers together."""
    options, runner = environment.parsed_options, environment.runner
    workload = Workload(options)
    environment.workload = workload  # type: ignore[attr-defined]
    if not options.user_classes:
        environment.user_classes = list(SCENARIOS[options.scenario])

    @environment.events.request.add_listener
    def count(response_time: float, exception: Any, **_: Any) -> None:
        workload.timeline.request(time.time(), response_time, failed=exception is not None)

    if isinstance(runner, WorkerRunner):

        def report(data: dict[str, Any], **_: Any) -> None:
            data["seconds"] = workload.timeline.take()

        environment.events.report_to_master.add_listener(report)
    elif isinstance(runner, MasterRunner):

        def collect(data: dict[str, Any], **_: Any) -> None:
            workload.timeline.add(data.get("seconds", ()))

        environment.events.worker_report.add_listener(collect)
    _prepare_replay(environment, workload)
    if not isinstance(runner, WorkerRunner):
        environment.observer = _observer(environment)  # type: ignore[attr-defined]


def _prepare_replay(environment: Environment, workload: Workload) -> None:
    """Who leads ends the run when all workers have come to the end of the trace."""
    options, runner = environment.parsed_options, environment.runner
    ended: set[str] = set()

    def trace_ended() -> None:
        if not ended:
            ended.add("")
            if isinstance(runner, WorkerRunner):
                runner.send_message(TRACE_ENDED)
            elif runner is not None:
                # Not in the greenlet of the user, which quitting kills.
                runner.greenlet.spawn(runner.quit)

    environment.trace_ended = trace_ended  # type: ignore[attr-defined]

    def one_ended(msg: Any, **_: Any) -> None:
        ended.add(msg.node_id)
        if len(ended) >= (options.processes or 1):
            runner.greenlet.spawn(runner.quit)

    if isinstance(runner, MasterRunner):
        runner.register_message(TRACE_ENDED, one_ended)

    @environment.events.test_start.add_listener
    def begin(**_: Any) -> None:
        if options.trace and not isinstance(runner, MasterRunner):
            trace, unit = open_trace(Path(options.trace), options.value_size)
            index = runner.worker_index if isinstance(runner, WorkerRunner) else 0
            workload.follow(trace, index, options.processes or 1, unit)


def _observer(environment: Environment) -> Observer:
    options = environment.parsed_options
    given = {
        "--data-dir": options.data_dir,
        "--compose-file": options.compose_file,
        "--node": options.kill_node,
    }
    words = [word for flag, value in given.items() if value for word in (flag, value)]
    observer = Observer(str(environment.host), options.kill_at, words)

    @environment.events.test_start.add_listener
    def begin(**_: Any) -> None:
        observer.start()

    return observer


@events.quitting.add_listener
def conclude(environment: Environment, **_: Any) -> None:
    """The one-screen summary and what the report is made of, once everything has been counted."""
    if isinstance(environment.runner, WorkerRunner):
        return
    observer: Observer = environment.observer  # type: ignore[attr-defined]
    observer.stop()
    options = environment.parsed_options
    text = render(environment.stats, environment.workload.timeline)  # type: ignore[attr-defined]
    # Of our own code, or of a trace that cannot be read on: what was measured until then is not what was asked for.
    raised = environment.runner.exceptions if environment.runner else {}
    text += "".join(f"exception   {each['count']:,} x {each['msg']}\n" for each in raised.values())
    if options.summary_file:
        Path(options.summary_file).write_text(text, encoding="utf-8")
    else:
        print(text)
    if options.run_file:
        kept = json.dumps(_run(environment, observer))
        Path(options.run_file).write_text(kept + "\n", encoding="utf-8")
    # Nothing measured is no success either, and a failover without one is none.
    total = environment.stats.total
    failed = bool(total.num_failures or raised or not total.num_requests)
    if options.kill_at and not any("killed (" in event["text"] for event in observer.events):
        failed = True
    environment.process_exit_code = 1 if failed else 0


def _run(environment: Environment, observer: Observer) -> dict[str, Any]:
    """All that is kept of a run, as JSON."""
    options = environment.parsed_options
    total = environment.stats.total
    chosen = {name: getattr(options, name, None) for name in COMPARED_OPTIONS}
    return {
        "format": 1,
        "started": total.start_time,
        "duration_s": duration_s(total),
        "host": environment.host,
        "scenario": options.scenario,
        "options": chosen | {"users": options.num_users, "processes": options.processes or 1},
        "seconds": environment.workload.timeline.rows(),  # type: ignore[attr-defined]
        "cluster": observer.samples,
        "events": observer.events,
        "trouble": observer.trouble,
        "requests": requests(environment.stats),
        "errors": errors(environment.stats),
    }

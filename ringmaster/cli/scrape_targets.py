"""Where Prometheus finds the metrics of a local cluster: the file that `prometheus/local.yml` reads."""

from __future__ import annotations

from pathlib import Path

import orjson

from ringmaster.cli.local_cluster import LOOPBACK, LocalCluster

FILE_NAME = "prometheus-targets.json"


def scrape_targets(cluster: LocalCluster) -> list[dict[str, object]]:
    """One group per process, in the form of Prometheus' file_sd; `instance` is the process' id."""
    settings = cluster.settings
    found = [
        ("master", name, settings.master_port + index) for index, name in enumerate(cluster.masters)
    ]
    found += [
        ("aux", name, settings.aux_http_port + index) for index, name in enumerate(cluster.nodes)
    ]
    return [
        {"targets": [f"{LOOPBACK}:{port}"], "labels": {"job": job, "instance": name}}
        for job, name, port in found
    ]


def write_scrape_targets(cluster: LocalCluster) -> Path:
    """Write the file into the data dir, in one step, so that Prometheus never reads half of it. Raises `OSError`."""
    path = cluster.settings.data_dir / FILE_NAME
    unfinished = path.with_suffix(".tmp")
    unfinished.write_bytes(orjson.dumps(scrape_targets(cluster), option=orjson.OPT_INDENT_2))
    unfinished.replace(path)
    return path

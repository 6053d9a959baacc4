"""The file that tells Prometheus where a local cluster's metrics are."""

from pathlib import Path

import orjson

from ringmaster.cli.local_cluster import LocalCluster
from ringmaster.cli.scrape_targets import write_scrape_targets
from ringmaster.config.settings import UpSettings


def test_every_master_and_node_is_listed_with_its_id(tmp_path: Path) -> None:
    settings = UpSettings(data_dir=tmp_path, masters=2, aux=1, master_port=9001, aux_http_port=9501)
    path = write_scrape_targets(LocalCluster(settings, tmp_path, None))
    assert path == tmp_path / "prometheus-targets.json"
    assert orjson.loads(path.read_bytes()) == [
        {"targets": ["127.0.0.1:9001"], "labels": {"job": "master", "instance": "master1"}},
        {"targets": ["127.0.0.1:9002"], "labels": {"job": "master", "instance": "master2"}},
        {"targets": ["127.0.0.1:9501"], "labels": {"job": "aux", "instance": "aux1"}},
    ]


def test_a_smaller_cluster_leaves_nobody_of_a_larger_one(tmp_path: Path) -> None:
    for nodes in (5, 2):
        settings = UpSettings(data_dir=tmp_path, masters=1, aux=nodes)
        path = write_scrape_targets(LocalCluster(settings, tmp_path, None))
    assert len(orjson.loads(path.read_bytes())) == 3
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


def test_the_configuration_for_a_local_cluster_reads_this_file() -> None:
    root = Path(__file__).parents[4]
    assert "[../data/prometheus-targets.json]" in (root / "prometheus" / "local.yml").read_text()

"""Grafana's dashboards, by the models of Grafana's own schema. Whether their queries have data: tests/e2e/test_dashboard.py."""

import enum
import json
import types
import typing
from pathlib import Path
from typing import Any

import pytest
from grafana_foundation_sdk.cog import plugins
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as models

FOLDER = Path(__file__).parents[2] / "grafana" / "dashboards"
BOARDS = {
    path.stem.removeprefix("ringmaster-"): json.loads(path.read_text())
    for path in sorted(FOLDER.glob("*.json"))
}
OF_PLUGINS = ("definition", "step", "titleFormat")
"""Fields of query variables and of Prometheus' annotations that the schema leaves to the plugins."""

boards = pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS)


def panels(board: dict[str, Any]) -> list[dict[str, Any]]:
    return [panel for panel in board["panels"] if panel["type"] != "row"]


def lost(given: Any, kept: Any, path: str = "") -> list[str]:
    """Where `given` says something that `kept` does not."""
    if isinstance(given, dict) and isinstance(kept, dict):
        return [
            place
            for name, value in given.items()
            for place in (
                lost(value, kept[name], f"{path}.{name}") if name in kept else [f"{path}.{name}"]
            )
        ]
    if isinstance(given, list) and isinstance(kept, list) and len(given) == len(kept):
        return [
            place
            for number, (one, other) in enumerate(zip(given, kept, strict=True))
            for place in lost(one, other, f"{path}[{number}]")
        ]
    return [] if given == kept else [f"{path}: {given!r} became {kept!r}"]


def wrong(value: Any, kind: Any, path: str) -> list[str]:
    """Where a value of the models is not of the type that they give it. What they read, they do not check."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        # The one that is meant, so that the place is told and not only that none fits.
        meant = [each for each in arguments if (typing.get_origin(each) or each) is type(value)]
        return min((wrong(value, each, path) for each in meant or arguments), key=len)
    if origin is typing.Literal:
        return [] if value in arguments else [f"{path}: {value!r}"]
    if origin in (list, dict):
        if not isinstance(value, origin):
            return [f"{path}: {value!r}"]
        parts = value.items() if origin is dict else enumerate(value)
        return [
            place for key, each in parts for place in wrong(each, arguments[-1], f"{path}[{key}]")
        ]
    if kind in (str, int, float, bool, type(None)):
        expected = (int, float) if kind is float else kind
        fits = isinstance(value, expected) and isinstance(value, bool) == (kind is bool)
        return [] if fits else [f"{path}: {value!r}"]
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return [] if value in {each.value for each in kind} else [f"{path}: {value!r}"]
    if not type(value).__module__.startswith("grafana_foundation_sdk"):
        return []
    if isinstance(kind, type) and kind is not object and not isinstance(value, kind):
        return [f"{path}: {value!r}"]
    return [
        place
        for name, hint in typing.get_type_hints(type(value)).items()
        if getattr(value, name) is not None
        for place in wrong(getattr(value, name), hint, f"{path}.{name}")
    ]


def by_models(board: dict[str, Any]) -> models.Dashboard:
    """The dashboard as Grafana's models read it."""
    plugins.register_default_plugins()
    return models.Dashboard.from_json(json.loads(json.dumps(board)))


def written(board: dict[str, Any]) -> Any:
    """The dashboard as the models write what they read."""
    return json.loads(JSONEncoder().encode(by_models(board)))


def test_there_is_one_for_each_purpose() -> None:
    assert set(BOARDS) == {"overview", "nodes", "failover", "snapshots", "load"}


@boards
def test_grafanas_models_know_every_field(board: dict[str, Any]) -> None:
    places = [place.rpartition(".") for place in lost(board, written(board))]
    unknown = [
        (where, name)
        for where, _, name in places
        if not where.startswith((".annotations.list", ".templating.list")) or name not in OF_PLUGINS
    ]
    assert unknown == []


@boards
def test_every_value_is_of_the_type_that_the_models_give_it(board: dict[str, Any]) -> None:
    assert wrong(by_models(board), models.Dashboard, "") == []


def test_a_value_of_another_type_would_be_found() -> None:
    board = json.loads(json.dumps(BOARDS["nodes"]))
    stat = next(panel for panel in board["panels"] if panel["type"] == "stat")
    stat["fieldConfig"]["defaults"]["decimals"] = "2"
    stat["options"]["colorMode"] = "rainbow"
    stat["targets"][0]["expr"] = 3
    board["graphTooltip"] = 7
    places = " ".join(wrong(by_models(board), models.Dashboard, ""))
    for name in ("decimals", "color_mode", "expr", "graph_tooltip"):
        assert name in places, places


def test_a_misspelt_field_would_be_found() -> None:
    board = json.loads(json.dumps(BOARDS["nodes"]))
    stat = next(panel for panel in board["panels"] if panel["type"] == "stat")
    stat["fieldConfig"]["defaults"]["treshold"] = {}
    stat["options"]["reduceOption"] = {}
    stat["targets"][0]["expression"] = "up"
    places = " ".join(lost(board, written(board)))
    for name in ("treshold", "reduceOption", "expression"):
        assert name in places


@boards
def test_panels_stand_beside_each_other_not_on_each_other(board: dict[str, Any]) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        at = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert at["x"] + at["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells
    identifiers = [panel["id"] for panel in board["panels"]]
    assert len(set(identifiers)) == len(identifiers)
    titles = [panel["title"] for panel in panels(board)]
    assert len(set(titles)) == len(titles)


@boards
def test_no_axis_mixes_bytes_with_other_things(board: dict[str, Any]) -> None:
    for panel in panels(board):
        # What is divided by bytes is none.
        of_bytes = {
            "_bytes" in target["expr"] and " / " not in target["expr"]
            for target in panel["targets"]
            if panel["type"] == "timeseries"
        }
        if of_bytes == {True, False}:
            properties = [
                each["id"]
                for override in panel["fieldConfig"]["overrides"]
                for each in override["properties"]
            ]
            assert {"unit", "custom.axisPlacement"} <= set(properties), panel["title"]


@boards
def test_changes_of_the_view_are_annotated(board: dict[str, Any]) -> None:
    names = {each["name"]: each["expr"] for each in board["annotations"]["list"]}
    assert "ringmaster_epoch" in names["Views"]


@boards
def test_a_dashboard_leads_to_the_others(board: dict[str, Any]) -> None:
    (link,) = board["links"]
    assert link["tags"] == board["tags"] == ["ringmaster"]


def test_each_has_a_name_of_its_own_that_its_file_has_too() -> None:
    assert [board["uid"] for board in BOARDS.values()] == [f"ringmaster-{name}" for name in BOARDS]
    assert len({board["title"] for board in BOARDS.values()}) == len(BOARDS)

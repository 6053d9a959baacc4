"""The description of `/cluster/settings`, made from the catalogue of what can change."""

from __future__ import annotations

from master.api import openapi_headers
from master.api.openapi_parts import (
    ANY,
    INTEGER,
    PROBLEM,
    STRING,
    TAGS,
    VERSION,
    Node,
    exactly,
    header,
    list_of,
    map_of,
    operation,
    says,
    struct,
)
from master.api.settings_summary import ProcessSummary, SettingSummary
from ringmaster.config.changeable import CHANGEABLE, Changeable


def settings_paths() -> Node:
    """`/cluster/settings`."""
    state = exactly(
        version=VERSION,
        epoch=INTEGER,
        followed={"type": "boolean"},
        changed=map_of(ANY),
        settings=list_of(struct(SettingSummary)),
        processes=list_of(struct(ProcessSummary)),
    )
    holds = says("What holds now.", state, openapi_headers.WRITTEN)
    patch: Node = {
        "type": "object",
        "properties": {name: _field(each) for name, each in CHANGEABLE.items()},
        "additionalProperties": False,
    }
    body = {
        media_type: {"schema": patch}
        for media_type in ("application/json", "application/merge-patch+json")
    }
    return {
        "/cluster/settings": {
            "get": operation("What can change while the cluster runs", {"200": holds}),
            "patch": operation(
                "Change it, by a JSON merge patch (RFC 7396) of `changed`",
                {"200": holds, "412": PROBLEM},
                header("If-Match", "The ETag of what the change is meant for.", TAGS),
                body=body,
            ),
        }
    }


def _field(setting: Changeable) -> Node:
    """A value as JSON, or as people write it: checked by more than a schema can say. null takes it back."""
    kinds: list[Node] = [STRING if not setting.choices else {"enum": list(setting.choices)}]
    if setting.maximum is not None:
        kinds.append(
            {"type": "number", "minimum": setting.minimum or 0, "maximum": setting.maximum}
        )
    return {
        "anyOf": [*kinds, {"type": "null"}],
        "description": f"{setting.description} null: as processes were started.",
    }

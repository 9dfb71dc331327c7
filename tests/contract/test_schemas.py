"""Published events keep their promise: a schema changes by optional additions only."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest

import shared.contracts as _declares_the_events  # noqa: F401 - fills the registry
from shared.events import REGISTRY
from tests.support.schema_compatibility import breaches
from tests.support.snapshots import SCHEMAS, UPDATING, check

NEW_VERSION = "declare the event anew with the next version, beside the old one (see tests/support/snapshots.py)"


@pytest.mark.parametrize("type_", REGISTRY)
def test_an_event_keeps_what_it_published(type_: str) -> None:
    """Compared with its snapshot, the event's schema has at most optional additions; additions are then committed."""
    schema = REGISTRY[type_].model_json_schema()
    path = SCHEMAS / f"{type_}.json"
    if path.exists():
        found = breaches(json.loads(path.read_text(encoding="utf-8")), schema)
        assert not found, f"{type_} breaks its readers: {found}; {NEW_VERSION}"
    check(path, json.dumps(schema, indent=2, ensure_ascii=False, sort_keys=True) + "\n")


def test_a_published_event_does_not_vanish() -> None:
    """An event that has a snapshot is still declared: messages of it lie in streams and feeds."""
    assert UPDATING or {path.stem for path in SCHEMAS.glob("*.json")} == set(REGISTRY)


SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "partner": {"type": "string", "pattern": "^[A-Z]{2}$"},
        "level": {"type": "integer", "default": 0},
        "state": {"$ref": "#/$defs/State"},
        "note": {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None},
        "pairs": {"type": "array", "items": {"type": "array", "prefixItems": [{"type": "string"}, {"type": "number"}]}},
        "actor": {"$ref": "#/$defs/Actor"},
    },
    "required": ["partner", "state"],
    "$defs": {
        "State": {"type": "string", "enum": ["open", "ended"]},
        "Actor": {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]},
    },
}


def changed(change: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    """The schema after a change."""
    new = copy.deepcopy(SCHEMA)
    change(new)
    return new


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda s: s["properties"].update(more={"type": "string", "default": ""}), id="optional field"),
        pytest.param(lambda s: s["$defs"]["Actor"]["properties"].update(kind={"type": "string"}), id="optional inside"),
        pytest.param(lambda s: s["properties"]["partner"].update(description="Who."), id="description"),
        pytest.param(lambda s: s["properties"]["partner"].update(examples=["CA"]), id="example"),
        pytest.param(lambda s: s["$defs"].update(Unused={"type": "string"}), id="definition without use"),
        pytest.param(lambda s: s.update(title="Other"), id="title"),
    ],
)
def test_optional_additions_and_words_are_allowed(change: Callable[[dict[str, Any]], object]) -> None:
    """What neither an old nor a new reader stumbles over is no breach."""
    assert breaches(SCHEMA, changed(change)) == []


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda s: s["properties"].pop("note"), id="field removed"),
        pytest.param(lambda s: s["$defs"]["Actor"]["properties"].pop("name"), id="field removed inside"),
        pytest.param(
            lambda s: (s["properties"].update(more={"type": "string"}), s["required"].append("more")), id="new required"
        ),
        pytest.param(lambda s: s["required"].append("level"), id="optional became required"),
        pytest.param(lambda s: s["required"].remove("partner"), id="required became optional"),
        pytest.param(lambda s: s["properties"]["level"].update(type="string"), id="type changed"),
        pytest.param(lambda s: s["properties"]["note"].update(anyOf=[{"type": "string"}]), id="null no longer allowed"),
        pytest.param(lambda s: s["$defs"]["State"]["enum"].remove("ended"), id="enumeration narrowed"),
        pytest.param(lambda s: s["$defs"]["State"]["enum"].append("late"), id="enumeration widened"),
        pytest.param(lambda s: s["properties"]["partner"].update(pattern="^[A-Z]{3}$"), id="pattern changed"),
        pytest.param(lambda s: s["properties"]["level"].update(minimum=1), id="limit added"),
        pytest.param(lambda s: s["properties"]["level"].update(default=1), id="default changed"),
        pytest.param(
            lambda s: s["properties"]["pairs"]["items"]["prefixItems"][1].update(type="string"), id="tuple part changed"
        ),
        pytest.param(lambda s: s["properties"]["pairs"]["items"]["prefixItems"].pop(), id="tuple shortened"),
        pytest.param(lambda s: s["properties"].update(state={"type": "string"}), id="enumeration dropped"),
    ],
)
def test_everything_else_is_a_breach(change: Callable[[dict[str, Any]], object]) -> None:
    """What an old or a new reader could stumble over is found."""
    assert breaches(SCHEMA, changed(change))

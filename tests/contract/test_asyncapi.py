"""The AsyncAPI document says what is true: every event, every consumer, and schemas that real events satisfy."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import jsonschema

from shared.asyncapi import document, render
from shared.events import REGISTRY
from tests.support.bus_rig import make_message
from tests.support.consumes import CONSUMES
from tests.support.snapshots import ROOT, check


def test_the_committed_document_is_current() -> None:
    """`docs/asyncapi.json` is what the contracts and the services' subscriptions give."""
    check(ROOT / "docs" / "asyncapi.json", render(document(CONSUMES)))


def test_every_event_has_a_channel_and_a_publisher() -> None:
    """Address, message, and the owner's operation are there for each declared event, and nothing else is."""
    made = document(CONSUMES)
    assert [channel["address"] for channel in made["channels"].values()] == [f"{type_}.{{key}}" for type_ in REGISTRY]
    sending = [operation for operation in made["operations"].values() if operation["action"] == "send"]
    assert len(sending) == len(REGISTRY)
    receiving = [operation for operation in made["operations"].values() if operation["action"] == "receive"]
    assert len(receiving) == sum(len(events) for events in CONSUMES.values())


def references(part: Any) -> list[str]:
    """All references in a document."""
    if isinstance(part, dict):
        own = [part["$ref"]] if isinstance(part.get("$ref"), str) else []
        return own + [ref for value in part.values() for ref in references(value)]
    if isinstance(part, list):
        return [ref for value in part for ref in references(value)]
    return []


def test_every_reference_leads_somewhere() -> None:
    """No reference of the document is dead."""
    made = document(CONSUMES)
    for reference in references(made):
        target: Any = made
        for step in reference.removeprefix("#/").split("/"):
            target = target[step]
        assert target


def test_every_schema_is_valid_draft_7() -> None:
    """AsyncAPI reads schemas as a superset of draft 7, so that is what they are."""
    for schema in document({})["components"]["schemas"].values():
        jsonschema.Draft7Validator.check_schema(schema)
        assert "prefixItems" not in json.dumps(schema)


def test_a_real_event_satisfies_its_schema() -> None:
    """What is published is what is documented, and what is not is refused."""
    schema = {"$ref": "#/components/schemas/AlertEnded", **document({})}
    body = json.loads(make_message().body.model_dump_json())
    validator = jsonschema.Draft7Validator(schema)
    assert list(validator.iter_errors(body)) == []
    assert list(validator.iter_errors({**body, "raiser": "Canada"}))


def test_the_module_prints_the_document() -> None:
    """`python -m shared.asyncapi` prints JSON that holds every event."""
    done = subprocess.run(
        [sys.executable, "-m", "shared.asyncapi"], cwd=ROOT, capture_output=True, check=True, timeout=60
    )
    assert len(json.loads(done.stdout)["channels"]) == len(REGISTRY)

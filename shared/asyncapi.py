"""The AsyncAPI 3 document of all events, generated from their declarations and from what the services consume.

One channel per event, one `send` operation for its owner, one `receive` operation for each service that handles it.
Written for whoever reads the bus or the feed: every field, who publishes it, and who acts on it.

`python -m shared.asyncapi` prints the document of the events alone; with the services it is in `docs/asyncapi.json`.
"""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic.json_schema import models_json_schema

import shared.contracts as _declares_the_events  # noqa: F401 - fills the registry
from shared.events import EVENT_BYTES_MAX, REGISTRY, Event
from shared.subscriptions import durable_of, stream_of

VERSION = "1.0.0"
"""Of the set of contracts; each event has its own version in its type."""

_HEADERS: dict[str, Any] = {
    "type": "object",
    "description": "CloudEvents 1.0 attributes in binary mode, and W3C trace context.",
    "required": ["ce-specversion", "ce-id", "ce-type", "ce-source", "ce-time", "ce-correlationid"],
    "properties": {
        "ce-specversion": {"type": "string", "const": "1.0"},
        "ce-id": {"type": "string", "format": "uuid", "description": "The same on every copy: bus, feed and retries."},
        "ce-type": {"type": "string", "description": "Wire type: owner, name and version of the event."},
        "ce-source": {"type": "string", "format": "uri-reference"},
        "ce-time": {"type": "string", "format": "date-time"},
        "ce-correlationid": {"type": "string", "format": "uuid", "description": "What began the chain."},
        "ce-causationid": {"type": "string", "format": "uuid", "description": "What came right before."},
        "traceparent": {"type": "string"},
        "content-type": {"type": "string", "const": "application/json"},
    },
}


def document(consumes: Mapping[str, Sequence[type[Event]]]) -> dict[str, Any]:
    """The whole document; `consumes` says which service handles which events. The same input gives the same one."""
    events = list(REGISTRY.values())
    _, definitions = models_json_schema(
        [(event, "validation") for event in events], ref_template="#/components/schemas/{model}"
    )
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Red Phone events",
            "version": VERSION,
            "description": (
                "Facts that the services of Red Phone publish, each declared once. No order is promised, and a message "
                "may come more than once: handle it by its id. Unknown fields are to be ignored. "
                f"A body has at most {EVENT_BYTES_MAX} bytes."
            ),
        },
        "defaultContentType": "application/json",
        "channels": {_name(event): _channel(event) for event in events},
        "operations": {
            **{f"{event.owner}.publishes.{_name(event)}": _operation(event, "send", event.owner) for event in events},
            **{
                f"{service}.handles.{_name(event)}": _operation(event, "receive", service)
                for service, handled in sorted(consumes.items())
                for event in handled
            },
        },
        "components": {
            "messages": {event.__name__: _message(event) for event in events},
            "schemas": {name: as_draft_7(schema) for name, schema in sorted(definitions["$defs"].items())},
        },
    }


def render(document_: Mapping[str, Any]) -> str:
    """The document as text, as it is committed."""
    return json.dumps(document_, indent=2, ensure_ascii=False) + "\n"


def as_draft_7(schema: Any) -> Any:
    """The schema in the dialect that AsyncAPI reads without further notice: fixed-length tuples stand in `items`."""
    if isinstance(schema, list):
        return [as_draft_7(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    converted = {key: as_draft_7(value) for key, value in schema.items()}
    if "prefixItems" in converted:
        converted["items"] = converted.pop("prefixItems")
        converted["additionalItems"] = False
    return converted


def _name(event: type[Event]) -> str:
    return event.type.removeprefix("redphone.")


def _channel(event: type[Event]) -> dict[str, Any]:
    return {
        "address": f"{event.type}.{{key}}",
        "description": f"Kept in the stream {stream_of(event.owner)}.",
        "messages": {event.__name__: {"$ref": f"#/components/messages/{event.__name__}"}},
        "parameters": {"key": {"description": f"`{event.key_field}` of the event, in lower case."}},
    }


def _operation(event: type[Event], action: str, service: str) -> dict[str, Any]:
    if action == "send":
        summary = f"{service} publishes {event.__name__}."
    else:
        summary = f"{service} handles {event.__name__}, by the durable consumer `{durable_of(service, event)}`."
    channel = f"#/channels/{_name(event)}"
    return {
        "action": action,
        "channel": {"$ref": channel},
        "summary": summary,
        "tags": [{"name": service}],
        "messages": [{"$ref": f"{channel}/messages/{event.__name__}"}],
    }


def _message(event: type[Event]) -> dict[str, Any]:
    text = inspect.cleandoc(event.__doc__ or "")
    return {
        "name": event.type,
        "title": event.__name__,
        "summary": text.split("\n\n", 1)[0].replace("\n", " "),
        "description": text,
        "contentType": "application/json",
        "headers": _HEADERS,
        "payload": {"$ref": f"#/components/schemas/{event.__name__}"},
    }


if __name__ == "__main__":
    sys.stdout.write(render(document({})))

"""The OpenAPI document: one for all services of a process, and something that a partner's developer can work from.

The cast: `declare_documentation` takes what a service says of itself (examples, webhooks); `make_document` takes what
the framework knows of the routes and adds the introduction, the order of the tags, an example of every body, every
problem that a call may answer with, and the webhooks.

The promise: an example that stands here satisfies the schema beside it, and a problem that a call answers with is
documented at that call; tests hold both.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel

from shared.openapi_text import INTRODUCTION, TAGS
from shared.problems import MEDIA_TYPE as PROBLEM
from shared.problems import Problem, problem_responses

METHODS = frozenset({"get", "put", "post", "delete", "patch"})
BODY_LIMIT = "x-body-bytes-max"
"""Our word for a route's own body limit; `openapi_extra` of the route sets it, and the gate keeps to it."""

_UNKNOWN_CALLER = ("token_missing", "token_invalid", "token_expired", "credential_revoked")
_NOT_NOW = ("database_unavailable", "database_busy")
_UNREADABLE_BODY = ("malformed", "body_too_large", "unsupported_media_type", "invalid")
_SHARED_REFUSALS = {_UNKNOWN_CALLER: "unknown_caller", _NOT_NOW: "not_now"}
"""Refusals of several codes that many calls have in common, and what they are called."""

_BY_PARAMETER: Mapping[str, tuple[str, ...]] = {
    "Idempotency-Key": ("idempotency_key_malformed", "idempotency_in_flight", "idempotency_key_reused"),
    "If-Match": ("precondition_failed",),
    "cursor": ("cursor_invalid",),
    "after": ("cursor_invalid",),
    "last_event_id": ("cursor_invalid",),
}
"""Problems that come with a parameter, wherever it is taken."""

_STAND_INS: Mapping[str, Any] = {
    "date-time": "2021-08-15T09:30:00Z",
    "date": "2021-08-15",
    "uuid": "017b4925-81c0-7cea-b5d4-ce457c969920",
    "uri": "https://redphone.example/",
}


@dataclass(frozen=True, slots=True)
class Webhook:
    """One kind of message that partners' own systems receive."""

    name: str
    summary: str
    description: str
    body: type[BaseModel]


@dataclass(frozen=True, slots=True)
class Documentation:
    """What a service says of itself. `examples` is a JSON file of bodies, each under the name of its schema, of
    its webhook, of its path or media type, or under operation id and status where one call needs an example of its own.
    """

    examples: Path
    webhooks: tuple[Webhook, ...] = ()


_DECLARED: dict[str, Documentation] = {"shared": Documentation(Path(__file__).with_name("openapi_examples.json"))}


def declare_documentation(service: str, documentation: Documentation) -> None:
    """Adds what a service says of itself to every document that this process makes."""
    _DECLARED[service] = documentation


def make_document(app: FastAPI) -> dict[str, Any]:
    """The document of an application, whole."""
    document = get_openapi(
        title=app.title,
        version=app.version,
        openapi_version="3.1.0",
        summary="The emergency line between governments.",
        description=f"{app.description}\n\n{INTRODUCTION}".strip(),
        routes=app.routes,
        servers=app.servers,
        separate_input_output_schemas=app.separate_input_output_schemas,
    )
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    _add_model(schemas, Problem)
    operations = [operation for _, _, operation in operations_of(document)]
    _refer_to_problems(operations)
    _add_webhooks(document, schemas)
    _name_pages(document)
    _add_examples(document)
    _share_problems(document)
    used = {tag for _, _, operation in operations_of(document) for tag in operation["tags"]}
    document["tags"] = [{"name": name, "description": text} for name, text in TAGS.items() if name in used]
    return document


def operations_of(document: Mapping[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Every operation of a document as (method, path, operation); those of webhooks under their names."""
    for group in ("paths", "webhooks"):
        for path, item in document.get(group, {}).items():
            for method, operation in item.items():
                if method in METHODS:
                    yield method, path, operation


def resolve(document: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """The schema, or whatever else, behind a reference."""
    while "$ref" in schema:
        _, _, group, name = schema["$ref"].split("/")
        schema = document["components"][group][name]
    return schema


def _add_model(schemas: dict[str, Any], model: type[BaseModel]) -> None:
    made = model.model_json_schema(ref_template="#/components/schemas/{model}")
    for name, schema in {**made.pop("$defs", {}), model.__name__: made}.items():
        schemas.setdefault(name, schema)


# --- problems ---------------------------------------------------------------------------------------------------------


def _refer_to_problems(operations: Iterable[dict[str, Any]]) -> None:
    for operation in operations:
        responses = operation["responses"]
        if "application/json" in responses.get("422", {}).get("content", {}):
            # The framework's own form of a refusal; it stands where there is anything to get wrong.
            del responses["422"]
            _add_problems(responses, ("invalid",))
        if operation.get("parameters"):
            _add_problems(responses, ("invalid",))
        if "security" in operation:
            _add_problems(responses, (*_UNKNOWN_CALLER, *_NOT_NOW))
        if "requestBody" in operation:
            _add_problems(responses, _UNREADABLE_BODY)
        for parameter in operation.get("parameters", ()):
            _add_problems(responses, _BY_PARAMETER.get(parameter["name"], ()))
        _add_problems(responses, ("internal",))
        operation["responses"] = dict(sorted(responses.items()))


def _share_problems(document: dict[str, Any]) -> None:
    """Keeps each problem's example, and each refusal that many calls have in common, in one place."""
    examples: dict[str, Any] = {}
    refusals: dict[str, Any] = {}
    for _, _, operation in operations_of(document):
        for status, answer in operation["responses"].items():
            media = answer.get("content", {}).get(PROBLEM)
            if media is None:
                continue
            codes = tuple(media["examples"])
            examples |= media["examples"]
            media["examples"] = {code: {"$ref": f"#/components/examples/{code}"} for code in codes}
            name = codes[0] if len(codes) == 1 else _SHARED_REFUSALS.get(codes)
            if name is not None:
                refusals[name] = answer
                operation["responses"][status] = {"$ref": f"#/components/responses/{name}"}
    document["components"]["examples"] = dict(sorted(examples.items()))
    document["components"]["responses"] = dict(sorted(refusals.items()))


def _add_problems(responses: dict[str, Any], codes: Iterable[str]) -> None:
    """Adds these codes to what is documented already."""
    for status, fresh in problem_responses(*codes).items():
        answer = responses.setdefault(str(status), fresh)
        if answer is fresh:
            continue
        (media,) = fresh["content"].values()
        (known,) = answer["content"].values()
        known["examples"] = {**known["examples"], **media["examples"]}
        titles = [one["summary"] for one in known["examples"].values()]
        answer["description"] = " · ".join(dict.fromkeys(titles))


# --- webhooks ---------------------------------------------------------------------------------------------------------


def _add_webhooks(document: dict[str, Any], schemas: dict[str, Any]) -> None:
    webhooks = {
        webhook.name: {"post": _webhook_operation(webhook)}
        for documentation in _DECLARED.values()
        for webhook in documentation.webhooks
    }
    for documentation in _DECLARED.values():
        for webhook in documentation.webhooks:
            _add_model(schemas, webhook.body)
    if webhooks:
        document["webhooks"] = webhooks


def _webhook_operation(webhook: Webhook) -> dict[str, Any]:
    def header(name: str, description: str, example: str) -> dict[str, Any]:
        return {
            "name": name,
            "in": "header",
            "required": True,
            "description": description,
            "schema": {"type": "string"},
            "example": example,
        }

    return {
        "operationId": f"on_{webhook.name.replace('.', '_')}",
        "tags": ["Webhooks"],
        "summary": webhook.summary,
        "description": webhook.description,
        "parameters": [
            header(
                "webhook-id",
                "The page's id, the same on every attempt. Drop a message whose id you have had.",
                "017b4926-f4d8-7757-bce5-d2c6d9e46a51",
            ),
            header("webhook-timestamp", "When this attempt was made, in seconds since 1970.", "1629019895"),
            header(
                "webhook-signature",
                "One or more signatures, separated by spaces: `v1a,` and base64 of 64 bytes.",
                "v1a,4RbVkTmN0Zb5cKfm6c8mJ0Nn0o2nXk0N3m0lE5bN3Qx0hYl0N6sY8uJm1a2s9S0m0aT1r4lq5cW3b7d9e2f4Aw==",
            ),
        ],
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{webhook.body.__name__}"}}},
        },
        "responses": {
            "2XX": {"description": "You have it. Anything else, or no answer within 5 seconds, is tried again."},
            "4XX": {"description": "Tried again; `Retry-After` up to 60 seconds is kept to."},
        },
    }


# --- examples ---------------------------------------------------------------------------------------------------------


def _name_pages(document: dict[str, Any]) -> None:
    """`PartnerViewPage` in place of the name that a generic model gets."""
    schemas = document["components"]["schemas"]
    renamed = {name: f"{name[5:-1]}Page" for name in schemas if name.startswith("Page_") and name.endswith("_")}

    def rename(part: Any) -> None:
        if isinstance(part, dict):
            reference = part.get("$ref")
            if isinstance(reference, str) and (name := reference.rpartition("/")[2]) in renamed:
                part["$ref"] = f"#/components/schemas/{renamed[name]}"
            for value in part.values():
                rename(value)
        elif isinstance(part, list):
            for value in part:
                rename(value)

    rename(document)
    for old, new in renamed.items():
        schemas[new] = {**schemas.pop(old), "title": new}
    document["components"]["schemas"] = dict(sorted(schemas.items()))


def _add_examples(document: dict[str, Any]) -> None:
    given: dict[str, Any] = {}
    for documentation in _DECLARED.values():
        given |= orjson.loads(documentation.examples.read_bytes())
    schemas = document["components"]["schemas"]
    for name, example in given.items():
        if name in schemas:
            schemas[name].setdefault("examples", [example])
    for _, path, operation in operations_of(document):
        bodies = [("body", operation.get("requestBody", {}))]
        bodies += [(status, answer) for status, answer in operation["responses"].items() if status.startswith("2")]
        for which, body in bodies:
            for media_type, media in body.get("content", {}).items():
                keys = (f"{operation['operationId']} {which}", path, media_type)
                _exemplify(document, media, next((given[key] for key in keys if key in given), None))


def _exemplify(document: dict[str, Any], media: dict[str, Any], given: Any) -> None:
    """Puts the examples of a schema where tools look for them: beside it, each under a name."""
    if "example" in media or "examples" in media:
        return
    schema = resolve(document, media["schema"])
    own = [given] if given is not None else schema.get("examples") or [example_of(document, schema)]
    if len(own) == 1:
        media["example"] = own[0]
    else:
        media["examples"] = {f"example_{number}": {"value": one} for number, one in enumerate(own, start=1)}


def example_of(document: Mapping[str, Any], schema: Mapping[str, Any]) -> Any:
    """A value that the schema allows, made of the examples of its parts."""
    schema = resolve(document, schema)
    if schema.get("examples"):
        return schema["examples"][0]
    for chosen in ("const", "default"):
        if chosen in schema:
            return schema[chosen]
    if schema.get("enum"):
        return schema["enum"][0]
    for group in ("anyOf", "oneOf", "allOf"):
        if group in schema:
            return example_of(document, schema[group][0])
    return _example_of_type(document, schema)


def _example_of_type(document: Mapping[str, Any], schema: Mapping[str, Any]) -> Any:
    kind, least = schema.get("type"), schema.get("minimum", 1)
    if kind == "object":
        return {name: example_of(document, part) for name, part in schema.get("properties", {}).items()}
    if kind == "array":
        return [example_of(document, schema["items"])] if "items" in schema else []
    by_type = {"integer": int(least), "number": float(least), "boolean": False}
    return _STAND_INS.get(schema.get("format", ""), "…") if kind == "string" else by_type.get(str(kind))

"""The OpenAPI document is one that a partner's developer can work from, and what it promises does not break."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import jsonschema
import pytest
from openapi_spec_validator import validate

from shared.openapi import make_document, operations_of, resolve
from shared.openapi_text import INTRODUCTION, TAGS
from shared.problems import PROBLEMS
from tests.support.documented import build_document, rendered
from tests.support.openapi_compatibility import breaks
from tests.support.snapshots import ROOT, UPDATING, check

SNAPSHOT = ROOT / "docs" / "openapi.json"


@cache
def document() -> dict[str, Any]:
    """The document that the code makes now."""
    return build_document()


def operations() -> list[Any]:
    """Every operation, those of webhooks included, with a name to tell it by."""
    return [
        pytest.param(path, operation, id=operation["operationId"]) for _, path, operation in operations_of(document())
    ]


def test_nothing_that_partners_rely_on_breaks() -> None:
    """A call, a field of an answer, or a way to ask that has once been published is not taken away or made stricter.

    Where it must be, the path gets the next version. What nobody has ever used may be deleted from the snapshot.
    """
    assert breaks(json.loads(SNAPSHOT.read_text(encoding="utf-8")), document()) == []


def test_the_committed_document_is_current() -> None:
    """`docs/openapi.json` is what the code gives."""
    if UPDATING and SNAPSHOT.exists():
        assert breaks(json.loads(SNAPSHOT.read_text(encoding="utf-8")), document()) == []
    check(SNAPSHOT, rendered(document()))


def test_the_document_is_valid() -> None:
    """It is OpenAPI 3.1, and says nothing of the framework's own errors."""
    validate(document())
    assert document()["openapi"].startswith("3.1")
    assert "HTTPValidationError" not in json.dumps(document())


def test_operation_ids_are_unique() -> None:
    """Each call has a name of its own, from which clients are generated."""
    names = [operation["operationId"] for _, _, operation in operations_of(document())]
    assert len(names) == len(set(names))
    assert all(re.fullmatch(r"[a-z][a-z_]+", name) for name in names)


def test_tags_come_in_order_and_are_all_explained() -> None:
    """Every call has exactly one tag, and the tags stand in the order in which a developer meets them."""
    assert [tag["name"] for tag in document()["tags"]] == list(TAGS)
    assert all(len(operation["tags"]) == 1 for _, _, operation in operations_of(document()))


@pytest.mark.parametrize(("path", "operation"), operations())
def test_every_operation_can_be_used_without_asking(path: str, operation: dict[str, Any]) -> None:
    """It has a summary, a description, an example of each body, and its refusals as problems."""
    assert operation["summary"], path
    assert len(operation["description"]) > 20, path
    refusals = {status: answer for status, answer in operation["responses"].items() if status[0] in "45"}
    assert refusals, path
    if operation.get("security"):
        assert {"401", "503"} <= refusals.keys()
    for status, refusal in refusals.items():
        answer = resolve(document(), refusal)
        if "content" in answer:
            (media,) = answer["content"].items()
            assert media[0] == "application/problem+json", (path, status)
            assert media[1]["examples"], (path, status)
    for place, body in bodies(operation):
        for media_type, media in body.get("content", {}).items():
            assert "example" in media or media.get("examples"), (path, place, media_type)


@pytest.mark.parametrize(("path", "operation"), operations())
def test_every_example_satisfies_its_schema(path: str, operation: dict[str, Any]) -> None:
    """What a developer copies from the document is accepted, and what they write their parser for is sent."""
    for place, body in bodies(operation):
        for media in body.get("content", {}).values():
            validator = jsonschema.Draft202012Validator({**document(), **media["schema"]})
            given = [media["example"]] if "example" in media else [one["value"] for one in media["examples"].values()]
            for example in given:
                if media["schema"].get("type") != "string":
                    found = [f"{error.json_path}: {error.message}" for error in validator.iter_errors(example)]
                    assert found == [], (path, place)
                else:
                    # Streams and XML: text, which other tests read.
                    assert isinstance(example, str), (path, place)


def bodies(operation: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The request's body and those of good answers."""
    if "requestBody" in operation:
        yield "request", operation["requestBody"]
    for status, answer in operation["responses"].items():
        if status.startswith("2"):
            yield status, answer


def test_every_problem_is_documented_with_its_own_status() -> None:
    """A code that stands at a status has that status, a title, and a remedy."""
    for _, path, operation in operations_of(document()):
        for status, refusal in operation["responses"].items():
            answer = resolve(document(), refusal)
            for code in answer.get("content", {}).get("application/problem+json", {}).get("examples", {}):
                assert str(PROBLEMS[code].status) == status, (path, code)
                assert document()["components"]["examples"][code]["value"]["code"] == code


def raised_codes() -> Iterator[tuple[str, str]]:
    """Every problem code that is written beside an error in the code of the services, with the file."""
    errors = {"Invalid", "NotFound", "Forbidden", "Conflict", "Unavailable", "Unauthenticated", "HttpProblem"}
    for folder in ("shared", "services"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in errors:
                    for keyword in node.keywords:
                        if keyword.arg == "code" and isinstance(keyword.value, ast.Constant):
                            yield str(keyword.value.value), path.name


def test_every_code_that_can_be_answered_has_a_page() -> None:
    """No refusal has a code that `/problems` does not explain."""
    build_document()
    found = dict(raised_codes())
    assert len(found) > 30
    assert {code: file for code, file in found.items() if code not in PROBLEMS} == {}


def test_references_lead_somewhere() -> None:
    """No reference is dead."""
    for reference in re.findall(r'"\$ref": "([^"]+)"', json.dumps(document())):
        target: Any = document()
        for step in reference.removeprefix("#/").split("/"):
            target = target[step.replace("~1", "/")]
        assert resolve(document(), target)


def test_the_introduction_names_what_exists() -> None:
    """Paths and codes in the prose are those of the document."""
    for path in set(re.findall(r"(?:GET|POST) (/[a-z0-9/{}_.-]+)", INTRODUCTION)):
        assert path in document()["paths"], path
    for code in ("token_expired", "credential_revoked"):
        assert code in INTRODUCTION
        assert code in PROBLEMS


def test_the_document_is_the_same_however_often_it_is_made() -> None:
    """Nothing in it depends on chance, on the order of imports, or on an earlier making."""
    assert rendered(build_document()) == rendered(document())
    assert make_document is not None


# --- what counts as breaking ------------------------------------------------------------------------------------------


def changed(**parts: Any) -> dict[str, Any]:
    """A small document, with parts of its one schema replaced."""
    schema = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], **parts}
    operation = {
        "operationId": "make",
        "requestBody": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Asked"}}}},
        "responses": {"200": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Told"}}}}},
    }
    told = {"type": "object", "properties": {"b": {"type": "string"}}, "required": ["b"]}
    return {"paths": {"/v1/x": {"post": operation}}, "components": {"schemas": {"Asked": schema, "Told": told}}}


BASE = changed()


def without_path() -> dict[str, Any]:
    """The call is gone."""
    return {**changed(), "paths": {}}


def with_told(told: dict[str, Any]) -> dict[str, Any]:
    """Another answer."""
    made = changed()
    made["components"]["schemas"]["Told"] = told
    return made


@pytest.mark.parametrize(
    ("later", "sentence"),
    [
        (without_path(), "POST /v1/x is gone"),
        (changed(properties={"a": {"type": "integer"}}), "POST /v1/x request a: was string, is integer"),
        (changed(properties={}), "POST /v1/x request a: is not taken any more"),
        (
            changed(properties={"a": {"type": "string"}, "c": {"type": "string"}}, required=["a", "c"]),
            "POST /v1/x request c: is required now",
        ),
        (with_told({"type": "object", "properties": {}}), "POST /v1/x 200 b: is not told any more"),
        (
            with_told({"type": "object", "properties": {"b": {"type": "string"}}}),
            "POST /v1/x 200 b: may be absent now",
        ),
    ],
)
def test_what_breaks_is_named(later: dict[str, Any], sentence: str) -> None:
    """The place and the change are said in one line."""
    assert breaks(BASE, later) == [sentence]


@pytest.mark.parametrize(
    "later",
    [
        BASE,
        changed(properties={"a": {"type": "string"}, "c": {"type": "string"}}),
        changed(required=[]),
        with_told(
            {"type": "object", "properties": {"b": {"type": "string"}, "c": {"type": "string"}}, "required": ["b"]}
        ),
    ],
)
def test_additions_break_nothing(later: dict[str, Any]) -> None:
    """New optional fields, and fields that need not be sent any more, are for everybody to ignore."""
    assert breaks(BASE, later) == []

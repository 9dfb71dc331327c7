"""Whatever a stranger, a careless program or an attacker sends, the answer is a problem that says what would be right.

Requests are made from the OpenAPI document, so a new call is attacked from the day on which it is documented.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest_asyncio

from shared.contracts import Role
from shared.openapi import BODY_LIMIT, operations_of, resolve
from shared.problems import PROBLEMS
from shared.web import BODY_BYTES_MAX
from tests.support.cluster import Cluster
from tests.support.documented import build_document
from tests.support.world import World, world

DOCUMENT = build_document()
STRANGE = (
    "\0",
    "a\0b",
    "🆘🇨🇦",
    "\u202e\u0642\u0627\u0631\u0628",
    "<script>alert(1)</script>",
    "'; DROP TABLE alerts; --",
    "x" * 70_000,
    "",
    " ",
    "\ud7ff\uffff",
)
WRONG: tuple[Any, ...] = (
    None,
    True,
    -1,
    10**30,
    1.5e308,
    "…",
    [],
    [[]],
    {},
    {"": None},
    "2021-08-15T09:30:00",
    "0000-00-00T00:00:00Z",
)
IDS = (
    "0",
    "null",
    "..%2f..%2fetc",
    "%00",
    "00000000-0000-0000-0000-000000000000",
    "f47ac10b-58cc-4372-a567-0e02b2c3d479",
    "RP-CA-2021-9999999999999",
    "-1",
    "%F0%9F%86%98",
    "A" * 900,
)
QUERIES = ("", "\0", "-1", "99999999999999999999", "2021-08-15T09:30:00", "eyJ", "WyIiXQ", "🆘", "' OR 1=1", "A" * 600)


@dataclass(frozen=True)
class Call:
    """One documented operation."""

    method: str
    path: str
    operation: dict[str, Any]

    @property
    def name(self) -> str:
        return str(self.operation["operationId"])

    @property
    def needs_token(self) -> bool:
        return bool(self.operation.get("security"))

    def address(self, **values: str) -> str:
        """The path with stand-ins where nothing else is given."""
        path = self.path
        for parameter in self.operation.get("parameters", ()):
            if parameter["in"] == "path":
                stand_in = "CA" if parameter["name"] == "code" else "017b4925-81c0-7cea-b5d4-ce457c969920"
                path = path.replace(f"{{{parameter['name']}}}", values.get(parameter["name"], stand_in))
        return path

    def headers(self) -> dict[str, str]:
        """Headers that the call asks for."""
        names = {one["name"] for one in self.operation.get("parameters", ()) if one["in"] == "header"}
        sent = {"Idempotency-Key": "hostile", "If-Match": '"1"'}
        return {name: value for name, value in sent.items() if name in names}

    def examples(self) -> list[Any]:
        """Documented JSON bodies."""
        media = self.operation.get("requestBody", {}).get("content", {}).get("application/json")
        if media is None:
            return []
        return [media["example"]] if "example" in media else [one["value"] for one in media["examples"].values()]


CALLS = [Call(*found) for found in operations_of(DOCUMENT) if found[1].startswith("/")]
STREAMS = frozenset({"follow_stream", "stream_board"})


@pytest_asyncio.fixture
async def made(cluster: Cluster, tmp_path: Path) -> AsyncIterator[World]:
    """All three services, empty."""
    async with world(cluster, tmp_path) as one:
        yield one


def judge(call: Call, answer: httpx.Response) -> str | None:
    """The code of a refusal, after it was found to be a documented problem; None for what was granted."""
    if answer.status_code < 400:
        return None
    assert answer.status_code != 500, (call.name, answer.request.content[:300], answer.text)
    assert answer.headers["content-type"] == "application/problem+json", (call.name, answer.text)
    problem = answer.json()
    # Where one field alone is wrong, `code` may be that mistake's own; `type` names the documented kind.
    code = problem["type"].rpartition("/")[2]
    assert code in PROBLEMS, (call.name, problem)
    assert PROBLEMS[code].status == answer.status_code == problem["status"]
    assert problem["instance"].startswith("urn:uuid:")
    assert problem["detail"]
    for mistake in problem.get("errors", ()):
        assert mistake["field"], (call.name, problem)
        assert mistake["detail"], (call.name, problem)
    if code not in {"address_too_long", "headers_too_large", "method_not_allowed"}:
        given = call.operation["responses"].get(str(answer.status_code))
        assert given is not None, (call.name, answer.status_code, code, answer.text)
        listed = resolve(DOCUMENT, given)["content"]["application/problem+json"]["examples"]
        # Which mistake of the input comes first depends on the input; each stands in `/problems`.
        assert code in listed or answer.status_code == 422, f"{call.name}: {code} is not documented there"
    return str(code)


async def test_a_stranger_learns_that_a_token_is_needed_and_nothing_else(made: World) -> None:
    """Without a token, or with one that is not ours, the body is not even parsed: 401 before any other mistake."""
    for call in CALLS:
        if not call.needs_token:
            continue
        answers = []
        for content in (b"{", b"{}", b"\xff", b"{" * 5000):
            for token in ({}, {"Authorization": "Bearer eyJhbGciOiJub25lIn0.e30."}, {"Authorization": "Basic \x7f"}):
                answer = await made.http.request(
                    call.method, call.address(), content=content, headers={"Content-Type": "application/json", **token}
                )
                assert answer.status_code == 401, (call.name, answer.text)
                assert answer.headers["www-authenticate"].startswith("Bearer")
                judge(call, answer)
                answers.append(answer.json()["code"])
        assert set(answers) == {"token_missing", "token_invalid"}


def mutations(body: Any) -> Iterator[Any]:
    """The body with one value made strange or wrong at a time, at every depth, and with fields that nobody knows."""
    yield from ([], "text", 1, None, {**body, "nonsense": 1}, {})
    for place in places(body):
        for value in (*STRANGE, *WRONG):
            changed = copy.deepcopy(body)
            target = changed
            for step in place[:-1]:
                target = target[step]
            target[place[-1]] = value
            yield changed


def places(part: Any, before: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every value of a body."""
    steps = part.items() if isinstance(part, dict) else enumerate(part) if isinstance(part, list) else ()
    for step, value in steps:
        yield (*before, step)
        yield from places(value, (*before, step))


async def test_no_body_breaks_anything(made: World) -> None:
    """Every documented body, with every value in turn made strange: never a 500, always a named problem."""
    headers = await made.officer("CA", *Role)
    for call in CALLS:
        for example in call.examples():
            for number, body in enumerate(mutations(example)):
                content = orjson.dumps(body) if not _has_great_number(body) else b'{"id": 1e999}'
                sent = {**call.headers(), "Content-Type": "application/json", **(headers if call.needs_token else {})}
                if "Idempotency-Key" in sent:
                    sent["Idempotency-Key"] = f"{call.name}-{number}"
                answer = await made.http.request(call.method, call.address(), content=content, headers=sent)
                judge(call, answer)


def _has_great_number(part: Any) -> bool:
    if isinstance(part, dict):
        return any(map(_has_great_number, part.values()))
    if isinstance(part, list):
        return any(map(_has_great_number, part))
    return isinstance(part, int) and abs(part) >= 2**63


async def test_no_address_breaks_anything(made: World) -> None:
    """Ids, queries and headers of every kind of garbage are refused by name."""
    headers = await made.officer("CA", *Role)
    for call in CALLS:
        if call.name in STREAMS:
            continue
        sent = {**call.headers(), **(headers if call.needs_token else {})}
        json = call.examples()[0] if call.examples() else None
        for parameter in call.operation.get("parameters", ()):
            name, place = parameter["name"], parameter["in"]
            for value in IDS if place == "path" else QUERIES:
                if place == "path":
                    answer = await made.http.request(
                        call.method, call.address(**{name: value}), headers=sent, json=json
                    )
                elif place == "query":
                    answer = await made.http.request(
                        call.method, call.address(), params={name: value}, headers=sent, json=json
                    )
                else:
                    shown = value.encode("utf-8").replace(b"\0", b"\x01")
                    raw = [(k.encode(), v.encode()) for k, v in sent.items() if k != name]
                    answer = await made.http.request(
                        call.method, call.address(), headers=[*raw, (name.encode(), shown)], json=json
                    )
                judge(call, answer)


async def test_no_form_breaks_anything(made: World) -> None:
    """Broken JSON, another content type, and a body beyond the limit are each named."""
    headers = await made.officer("CA", *Role)
    for call in CALLS:
        if "requestBody" not in call.operation:
            continue
        sent = {**call.headers(), **(headers if call.needs_token else {})}
        limit = call.operation.get(BODY_LIMIT, BODY_BYTES_MAX)
        for kind, content, code in (
            ("application/json", b'{"a":', None),
            ("application/json", b"\xff\xfe", None),
            ("application/json", b"[" * 100_000, None),
            ("text/html", b"<html>", "unsupported_media_type"),
            ("application/json", b" " * (limit + 1), "body_too_large"),
        ):
            answer = await made.http.request(
                call.method, call.address(), content=content, headers={**sent, "Content-Type": kind}
            )
            found = judge(call, answer)
            assert found is not None, (call.name, kind, content[:20])
            assert code is None or found == code, (call.name, kind, found)


async def test_somebody_elses_and_a_missing_thing_answer_alike(made: World) -> None:
    """To the byte, but for the id of the request: nobody finds out by asking what others have."""
    canada = await made.officer("CA", Role.DUTY_OFFICER)
    crisis = await made.http.post(
        "/v1/crises", json={"name": "Quiet", "countries": ["AFG"]}, headers={**canada, **made.key()}
    )
    assert crisis.status_code == 201, crisis.text
    for role in Role:
        other = await made.officer("NZ", role, name=f"as-{role.value.replace('_', '-')}")
        foreign = await made.http.get(f"/v1/crises/{crisis.json()['id']}", headers=other)
        missing = await made.http.get(f"/v1/crises/{made.ids.new()}", headers=other)
        alike = [
            {**answer.json(), "instance": "", "headers": {**answer.headers, "x-request-id": ""}}
            for answer in (foreign, missing)
        ]
        assert alike[0] == alike[1]
        assert foreign.status_code == 404


async def test_one_key_in_parallel_makes_one_thing(made: World) -> None:
    """Ten times the same request with the same key at once: one crisis; the others get its answer, or 409 for now."""
    headers = {**await made.officer("CA"), **made.key()}
    body = {"name": "Afghanistan, August 2021", "countries": ["AFG"]}
    answers = await asyncio.gather(*(made.http.post("/v1/crises", json=body, headers=headers) for _ in range(10)))
    assert {answer.status_code for answer in answers} <= {201, 409}
    assert len({answer.json()["id"] for answer in answers if answer.status_code == 201}) == 1
    assert len(await made.rows("alerting", "SELECT id FROM crises")) == 1


async def test_one_id_of_two_partners_belongs_to_the_first(made: World) -> None:
    """The second is told that the id is taken, and nothing of whose it is."""
    chosen = str(made.ids.new())
    body = {"id": chosen, "name": "Quiet", "countries": ["AFG"]}
    first, second = [
        await made.http.post("/v1/crises", json=body, headers=await made.officer(code)) for code in ("CA", "NZ")
    ]
    assert first.status_code == 201
    assert (second.status_code, second.json()["code"]) == (409, "id_taken")
    assert "CA" not in second.text


async def test_of_edits_with_one_etag_one_wins(made: World) -> None:
    """Eight edits at once that have all seen the same version: one is done, seven get 412 or are told to wait."""
    headers = await made.officer("CA", Role.DUTY_OFFICER, Role.RELEASER)
    crisis = await made.http.post(
        "/v1/crises", json={"name": "Quiet", "countries": ["AFG"]}, headers={**headers, **made.key()}
    )
    path, etag = f"/v1/crises/{crisis.json()['id']}", crisis.headers["etag"]
    answers = await asyncio.gather(
        *(made.http.patch(path, json={"state": "activated"}, headers={**headers, "If-Match": etag}) for _ in range(8))
    )
    assert sorted(answer.status_code for answer in answers) == [200] + [412] * 7

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
import pytest_asyncio
from fastapi import APIRouter, FastAPI, Request, Response
from sqlalchemy import func, insert, select

from shared import idempotency, web
from shared.clock import ManualClock
from shared.contracts import Role
from shared.db import Database
from shared.errors import Conflict
from shared.idempotency import Attempt, IdempotencyKey, StoredResponse, idempotency_keys
from shared.ids import Ids
from shared.problems import HttpProblem
from shared.security import Principal, PrincipalKind
from tests.support.cluster import Cluster
from tests.support.common_tables import common_tables

NOW = datetime(2021, 8, 15, 6, 0, tzinfo=UTC)
FIRST = Attempt(client_id="ca-1", route="POST /v1/alerts", key="key-1", request_sha256="a" * 64)
ANSWER = StoredResponse.json(202, {"id": 1}, {"Location": "/v1/alerts/1"})


@pytest_asyncio.fixture
async def database(cluster: Cluster) -> AsyncIterator[Database]:
    """A database with the common tables."""
    async with common_tables(cluster) as database:
        yield database


async def done(database: Database, attempt: Attempt, now: datetime = NOW) -> StoredResponse | None:
    """One whole request: None if its work was done now, otherwise the answer that was kept."""
    async with database.transaction() as tx:
        stored = await idempotency.begin(tx, attempt, now=now)
        if stored is None:
            await idempotency.finish(tx, attempt, ANSWER)
        return stored


async def test_second_request_gets_the_first_answer(database: Database) -> None:
    """The same request again gets the first answer, byte for byte, marked as repeated."""
    assert await done(database, FIRST) is None
    stored = await done(database, FIRST)
    assert stored == replace(ANSWER, replayed=True)
    response = stored.response()
    assert (response.status_code, response.body) == (202, ANSWER.body)
    assert response.headers["idempotency-replayed"] == "true"
    assert response.headers["location"] == "/v1/alerts/1"
    assert "idempotency-replayed" not in ANSWER.response().headers


async def test_key_belongs_to_client_and_route(database: Database) -> None:
    """Another client, another route and another key are other requests."""
    for attempt in (
        FIRST,
        replace(FIRST, client_id="nl-1"),
        replace(FIRST, route="POST /v1/acknowledgements"),
        replace(FIRST, key="key-2"),
    ):
        assert await done(database, attempt) is None


async def test_other_request_with_the_key_is_422(database: Database) -> None:
    """A key that was used for something else is refused, and the first answer stays."""
    await done(database, FIRST)
    with pytest.raises(HttpProblem) as refusal:
        await done(database, replace(FIRST, request_sha256="b" * 64))
    assert refusal.value.code == "idempotency_key_reused"
    assert await done(database, FIRST) is not None


async def test_request_in_flight_is_409_at_once(database: Database) -> None:
    """While the first is at work, the second is refused without waiting; after the commit it gets the answer."""
    async with database.transaction() as tx:
        assert await idempotency.begin(tx, FIRST, now=NOW) is None
        with pytest.raises(HttpProblem) as refusal:
            await asyncio.wait_for(done(database, FIRST), 0.9)
        assert refusal.value.code == "idempotency_in_flight"
        await idempotency.finish(tx, FIRST, ANSWER)
    assert await done(database, FIRST) == replace(ANSWER, replayed=True)


async def test_refused_request_leaves_no_key(database: Database) -> None:
    """A request that failed is done anew when it comes again."""

    async def refused() -> None:
        async with database.transaction() as tx:
            assert await idempotency.begin(tx, FIRST, now=NOW) is None
            raise Conflict("the alert has ended")

    with pytest.raises(Conflict):
        await refused()
    assert await done(database, FIRST) is None


async def test_of_many_at_once_one_does_the_work(database: Database) -> None:
    """Twenty copies of one request at once do its work once; the others are told to wait or get the answer."""

    async def attempt() -> str:
        try:
            return "worked" if await done(database, FIRST) is None else "repeated"
        except HttpProblem as refusal:
            return refusal.code

    outcomes = await asyncio.gather(*(attempt() for _ in range(20)))
    assert outcomes.count("worked") == 1
    assert set(outcomes) <= {"worked", "repeated", "idempotency_in_flight"}


async def test_old_keys_are_forgotten(database: Database) -> None:
    """Keys are kept for two days, longer than the promised 24 hours, and then forgotten."""
    await done(database, FIRST)
    for hours, forgotten in ((24, 0), (idempotency.KEPT_HOURS, 0), (idempotency.KEPT_HOURS + 1, 1)):
        async with database.transaction() as tx:
            assert await idempotency.clean(tx, now=NOW + timedelta(hours=hours)) == forgotten


async def test_many_old_keys_are_forgotten_batch_by_batch(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many keys a long silence has left, one pass takes so many, and a younger key stays."""
    monkeypatch.setattr(idempotency, "CLEANED_AT_ONCE_MAX", 2)
    row = {"client_id": "ca-1", "route": "POST /v1/things", "request_sha256": "0" * 64}
    old = [{**row, "key": f"old-{number}", "created_at": NOW - timedelta(days=9)} for number in range(3)]
    async with database.transaction() as tx:
        await tx.execute(insert(idempotency_keys), [*old, {**row, "key": "young", "created_at": NOW}])
    counts = []
    for _ in range(3):
        async with database.transaction() as tx:
            counts.append(await idempotency.clean(tx, now=NOW))
    assert counts == [2, 1, 0]
    async with database.transaction() as tx:
        assert (await tx.execute(select(idempotency_keys.c.key))).scalars().all() == ["young"]


# --- as a handler uses it ---------------------------------------------------------------------------------------------

CALLER = Principal(
    subject="ca-officer",
    client_id="ca-1",
    partner="CA",
    roles=frozenset({Role.DRAFTER}),
    kind=PrincipalKind.PERSON,
    name="Example Officer",
)


def application(database: Database) -> FastAPI:
    """A service with one creating call, written as every handler is."""
    clock = ManualClock(NOW)
    ids = Ids(clock.now)
    router = APIRouter(tags=["example"])

    @router.post("/v1/things/{name}", status_code=201)
    async def make_thing(name: str, thing: dict[str, Any], request: Request, key: IdempotencyKey) -> Response:
        attempt = await idempotency.attempt(request, CALLER, key)
        async with database.transaction() as tx:
            if (stored := await idempotency.begin(tx, attempt, now=clock.now())) is not None:
                return stored.response()
            answer = StoredResponse.json(201, {"name": name, "id": str(ids.new())})
            await idempotency.finish(tx, attempt, answer)
        return answer.response()

    return web.build_app("Example", [router], service="example", clock=clock, ids=ids)


@pytest_asyncio.fixture
async def client(database: Database) -> AsyncIterator[httpx.AsyncClient]:
    """A client of that service."""
    transport = httpx.ASGITransport(application(database))
    async with httpx.AsyncClient(transport=transport, base_url="http://example") as client:
        yield client


async def test_retry_over_http(client: httpx.AsyncClient) -> None:
    """A retry gets the same id; JSON counts by its content, and path, query and body all belong to the request."""
    key = {"Idempotency-Key": "0191-abc"}
    first = await client.post("/v1/things/a", json={"x": 1, "y": 2}, headers=key)
    retry = await client.post(
        "/v1/things/a", content=b'{ "y": 2, "x": 1 }', headers=key | {"content-type": "application/json"}
    )
    assert (first.status_code, retry.status_code) == (201, 201)
    assert retry.content == first.content
    assert (first.headers.get("idempotency-replayed"), retry.headers["idempotency-replayed"]) == (None, "true")
    for path, body in (
        ("/v1/things/a", {"x": 2}),
        ("/v1/things/b", {"x": 1, "y": 2}),
        ("/v1/things/a?z=1", {"x": 1, "y": 2}),
    ):
        other = await client.post(path, json=body, headers=key)
        assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")


@pytest.mark.parametrize(
    ("key", "code"),
    [
        (None, "idempotency_key_missing"),
        ("", "idempotency_key_malformed"),
        ("a b", "idempotency_key_malformed"),
        ("x" * 201, "idempotency_key_malformed"),
        ("é".encode(), "idempotency_key_malformed"),
    ],
)
async def test_missing_and_malformed_keys_are_400(
    client: httpx.AsyncClient, database: Database, key: str | bytes | None, code: str
) -> None:
    """Without a usable key nothing is done."""
    headers: dict[str, Any] = {} if key is None else {"Idempotency-Key": key}
    answer = await client.post("/v1/things/a", json={}, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (400, code)
    async with database.transaction() as tx:
        assert (await tx.execute(select(func.count()).select_from(idempotency_keys))).scalar_one() == 0


async def test_longest_key_is_fine(client: httpx.AsyncClient) -> None:
    """A key of exactly the greatest length is accepted, and the document names the header."""
    headers = {"Idempotency-Key": "x" * idempotency.KEY_LENGTH_MAX}
    assert (await client.post("/v1/things/a", json={}, headers=headers)).status_code == 201
    document = (await client.get("/openapi.json")).json()
    assert "Idempotency-Key" in json.dumps(document["paths"]["/v1/things/{name}"]["post"]["parameters"])

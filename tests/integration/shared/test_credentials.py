from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
import pytest_asyncio
from fastapi import APIRouter, Depends, FastAPI
from sqlalchemy import insert, select
from structlog.testing import capture_logs

from shared import tokens, web
from shared.clock import ManualClock
from shared.contracts import CredentialKind, CredentialsPublished, PublishedCredential, Role
from shared.db import Database, shared_metadata
from shared.errors import ContractViolation
from shared.ids import Ids
from shared.keys import KeyRing
from shared.security import (
    Principal,
    Unauthenticated,
    administrator,
    authenticate,
    check_current,
    credentials,
    hash_secret,
    issue_token,
    on_credentials_published,
    service,
    still_stands,
    verify_token,
)
from tests.support.cluster import Cluster
from tests.support.common_tables import common_tables

NOW = datetime(2021, 8, 15, 6, 0, tzinfo=UTC)
SECRET = "rps_right"


@dataclass
class Deps:
    """What a service gives to have its callers known."""

    intake: Database
    keyring: KeyRing = field(default_factory=KeyRing.generate)
    clock: ManualClock = field(default_factory=lambda: ManualClock(NOW))
    ids: Ids = field(init=False)

    def __post_init__(self) -> None:
        self.ids = Ids(self.clock.now)


@pytest_asyncio.fixture
async def database(cluster: Cluster) -> AsyncIterator[Database]:
    """A database with the common tables."""
    async with common_tables(cluster) as database:
        yield database


def credential(client_id: str = "ca-1", **changes: Any) -> PublishedCredential:
    """A duty officer's credential of Canada, unless told otherwise."""
    fields: dict[str, Any] = {
        "client_id": client_id,
        "kind": CredentialKind.PERSON,
        "subject": "ca-officer",
        "name": "Example Officer",
        "partner": "CA",
        "roles": (Role.DUTY_OFFICER,),
        "secret_sha256": hash_secret(SECRET),
        "version": 1,
    }
    return PublishedCredential(**(fields | changes))


async def publish(database: Database, version: int, *found: PublishedCredential, partner: str = "CA") -> bool:
    """Hands a published set to the service, as its handler does."""
    async with database.transaction() as tx:
        return await on_credentials_published(
            tx, CredentialsPublished(partner=partner, version=version, credentials=found)
        )


async def kept(database: Database) -> dict[str, int]:
    """The client ids that the service keeps, with their versions."""
    async with database.transaction() as tx:
        return {row.client_id: row.version for row in await tx.execute(select(credentials))}


async def sign_in(database: Database, client_id: str, secret: str) -> Principal:
    """The principal of a client id and secret."""
    async with database.transaction() as tx:
        return await authenticate(tx, client_id, secret)


async def test_tables_are_those_of_the_migrations(database: Database) -> None:
    """Every declared column can be written and read: declarations and migrations agree."""
    async with database.transaction() as tx:
        for name in ("credentials", "credential_versions", "idempotency_keys"):
            assert (await tx.execute(select(shared_metadata.tables[name]))).all() == []


async def test_newer_set_replaces_older(database: Database) -> None:
    """A set replaces the one before, what is absent is gone, and an older or equal version changes nothing."""
    assert await publish(database, 2, credential("ca-1"), credential("ca-2"))
    assert await publish(database, 3, credential("ca-2", version=2))
    assert not await publish(database, 3, credential("ca-3"))
    assert not await publish(database, 2, credential("ca-1"), credential("ca-2"))
    assert await kept(database) == {"ca-2": 2}


async def test_any_order_gives_the_same_end(database: Database) -> None:
    """Two sets that arrive at once leave the newer one, whichever commits first."""
    await asyncio.gather(
        publish(database, 5, credential("ca-1", version=5)), publish(database, 4, credential("ca-1", version=4))
    )
    assert await kept(database) == {"ca-1": 5}


async def test_partners_cannot_touch_each_other(database: Database) -> None:
    """A set that claims another partner's client id, or speaks for another, is refused whole; the others stay."""
    await publish(database, 1, credential("ca-1"))
    await publish(database, 1, credential("nl-1", partner="NL"), partner="NL")
    with pytest.raises(ContractViolation):
        await publish(database, 2, credential("nl-2", partner="NL"), credential("ca-1", partner="NL"), partner="NL")
    with pytest.raises(ContractViolation):
        await publish(database, 2, credential("xx-1", partner="CA"), partner="NL")
    with pytest.raises(ContractViolation):
        await publish(database, 2, credential("zz-1", partner="ZZ"), partner="ZZ")
    with pytest.raises(ContractViolation):
        await publish(database, 2, credential("nl-2", partner="NL"), credential("nl-2", partner="NL"), partner="NL")
    assert await kept(database) == {"ca-1": 1, "nl-1": 1}
    assert await publish(database, 2, partner="NL")
    assert await kept(database) == {"ca-1": 1}


async def test_right_secret_gives_the_principal(database: Database) -> None:
    """Client id and secret give subject, partner, roles and version of the row."""
    await publish(database, 1, credential(roles=(Role.DRAFTER, Role.RELEASER), version=7))
    principal = await sign_in(database, "ca-1", SECRET)
    assert (principal.subject, principal.partner, principal.credential_version) == ("ca-officer", "CA", 7)
    assert principal.roles == frozenset({Role.DRAFTER, Role.RELEASER})


@pytest.mark.parametrize(
    ("client_id", "secret"),
    [
        ("ca-1", "rps_wrong"),
        ("ca-1", ""),
        ("ca-1", hash_secret(SECRET)),
        ("ca-2", SECRET),
        ("revoked", SECRET),
        ("", SECRET),
        ("ca-1\0", SECRET),
        ("x" * 10_000, SECRET),
        ("' OR true --", SECRET),
    ],
)
async def test_wrong_credentials_are_refused_alike(database: Database, client_id: str, secret: str) -> None:
    """A wrong secret, an unknown client and a revoked credential get the same answer."""
    await publish(database, 1, credential(), credential("revoked", revoked_at=NOW))
    with pytest.raises(Unauthenticated) as refusal:
        await sign_in(database, client_id, secret)
    assert (refusal.value.code, refusal.value.detail) == (
        "invalid_client",
        "the client id or its secret is wrong, or was revoked",
    )


@pytest.mark.parametrize(
    "replacement",
    [
        (),
        (credential(revoked_at=NOW),),
        (credential(version=2),),
        (credential("ca-2"),),
    ],
    ids=["absent", "revoked", "new version", "another client"],
)
async def test_revocation_acts_when_it_arrives(
    database: Database, replacement: tuple[PublishedCredential, ...]
) -> None:
    """A token that has minutes to live is refused from the moment that its credential is gone or changed."""
    ring = KeyRing.generate()
    await publish(database, 1, credential())
    principal = await sign_in(database, "ca-1", SECRET)
    claims = verify_token(ring, issue_token(ring, principal, now=NOW, token_id=Ids(lambda: NOW).new()), now=NOW)
    async with database.transaction() as tx:
        assert await check_current(tx, claims) == principal
    await publish(database, 2, *replacement)
    async with database.transaction() as tx:
        assert not await still_stands(tx, principal)
        with pytest.raises(Unauthenticated) as refusal:
            await check_current(tx, claims)
    assert refusal.value.code == "credential_revoked"


async def test_services_and_administrators_need_no_row(database: Database) -> None:
    """Services and the administrator of the machine stand without any credential."""
    async with database.transaction() as tx:
        assert await still_stands(tx, service("alerting"))
        assert await still_stands(tx, administrator("local"))


def application(deps: Deps) -> FastAPI:
    """A service with one call that needs a caller."""
    router = APIRouter(tags=["example"])
    caller = web.authenticated(deps)

    @router.get("/v1/me")
    async def who_am_i(principal: Principal = Depends(caller)) -> str:
        return principal.subject

    routers = [router, web.common_router(deps, checks={})]
    return web.build_app("Example", routers, service="example", clock=deps.clock, ids=deps.ids)


@pytest_asyncio.fixture
async def deps(database: Database) -> Deps:
    """A service that keeps one credential."""
    await publish(database, 1, credential())
    return Deps(intake=database)


@pytest_asyncio.fixture
async def client(deps: Deps) -> AsyncIterator[httpx.AsyncClient]:
    """A client of that service."""
    async with httpx.AsyncClient(transport=httpx.ASGITransport(application(deps)), base_url="http://example") as client:
        yield client


async def test_token_by_json_form_and_basic(client: httpx.AsyncClient) -> None:
    """All three forms of the request give a token that opens the service."""
    named = {"client_id": "ca-1", "client_secret": SECRET}
    for answer in (
        await client.post("/v1/tokens", json=named),
        await client.post("/v1/tokens", data=named | {"grant_type": "client_credentials", "scope": "ignored"}),
        await client.post("/v1/tokens", auth=("ca-1", SECRET)),
        await client.post("/v1/tokens", auth=("ca-1", SECRET), data={"grant_type": "client_credentials"}),
    ):
        assert answer.status_code == 200
        assert answer.headers["cache-control"] == "no-store"
        body = answer.json()
        assert (body["token_type"], body["expires_in"], body["partner"]) == ("Bearer", 900, "CA")
        header = {"authorization": f"Bearer {body['access_token']}"}
        assert (await client.get("/v1/me", headers=header)).json() == "ca-officer"


async def test_revoked_credential_closes_the_door(client: httpx.AsyncClient, database: Database) -> None:
    """After the revocation has arrived, neither the old token nor the secret opens anything."""
    named = {"client_id": "ca-1", "client_secret": SECRET}
    token = (await client.post("/v1/tokens", json=named)).json()["access_token"]
    await publish(database, 2)
    refused = await client.get("/v1/me", headers={"authorization": f"Bearer {token}"})
    assert (refused.status_code, refused.json()["code"]) == (401, "credential_revoked")
    again = await client.post("/v1/tokens", json=named)
    assert (again.status_code, again.json()["code"]) == (401, "invalid_client")
    assert SECRET not in again.text


async def test_wrong_secrets_never_keep_the_right_one_out(client: httpx.AsyncClient) -> None:
    """Wrong secrets are slowed down and reported once, without the secret; the right one is accepted all the same."""
    wrong = {"client_id": "ca-1", "client_secret": "rps_hidden"}
    with capture_logs() as logs:
        answers = [await client.post("/v1/tokens", json=wrong) for _ in range(tokens.FAILURES_MAX + 5)]
    assert [answer.status_code for answer in answers] == [401] * tokens.FAILURES_MAX + [429] * 5
    assert answers[-1].headers["retry-after"] == "60"
    assert [line["client_id"] for line in logs if line["event"] == "credential.refused_often"] == ["ca-1"]
    assert "hidden" not in str(logs)
    assert (await client.post("/v1/tokens", json=wrong | {"client_secret": SECRET})).status_code == 200
    assert (await client.post("/v1/tokens", json=wrong)).status_code == 401


async def test_row_with_a_role_of_a_newer_version_is_no_crash(client: httpx.AsyncClient, database: Database) -> None:
    """A credential that names a role which this version does not know keeps its other roles."""
    async with database.transaction() as tx:
        row = credential("new-1", version=1).model_dump(mode="json") | {"roles": ["duty_officer", "minister"]}
        await tx.execute(insert(credentials).values(**row))
    answer = await client.post("/v1/tokens", json={"client_id": "new-1", "client_secret": SECRET})
    assert (answer.status_code, answer.json().get("roles")) == (200, ["duty_officer"])

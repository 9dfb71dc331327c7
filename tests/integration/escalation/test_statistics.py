"""Statistics on a real database: what is counted once, who sees whom, drills apart, and how long a year takes."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest_asyncio

from services.escalation import answers
from services.escalation.statistics.domain import BUCKETS_SECONDS
from shared.contracts import (
    CoverageGoal,
    CredentialKind,
    CredentialsPublished,
    EndReason,
    Precedence,
    PublishedCredential,
    Role,
    Status,
)
from shared.db import raw
from shared.events import Cause
from shared.security import Principal, issue_token
from tests.support.cluster import Cluster
from tests.support.escalation_rig import Rig, escalation_rig, person

CODES = ("CA", "GB", "US", "XR")
OFFICERS = {code: person(code, Role.DUTY_OFFICER) for code in CODES}
OFFICERS["XR"] = person("XR", Role.SECRETARIAT)
AUDITOR = person("GB", Role.AUDITOR, number=2)


@pytest_asyncio.fixture
async def rig(cluster: Cluster, tmp_path: Path) -> AsyncIterator[Rig]:
    """Three governments and the secretariat with plans and credentials."""
    async with escalation_rig(cluster, tmp_path) as built:
        for code, officer in OFFICERS.items():
            people = [officer, *([AUDITOR] if code == "GB" else [])]
            published = CredentialsPublished(partner=code, version=1, credentials=tuple(map(_published, people)))
            await built.handle(published)
            await built.handle(built.plan(code))
        yield built


def _published(one: Principal) -> PublishedCredential:
    return PublishedCredential(
        client_id=one.client_id,
        kind=CredentialKind.PERSON,
        subject=one.subject,
        name=one.name,
        partner=one.partner,
        roles=tuple(one.roles),
        contact_id=one.contact_id,
        secret_sha256="0" * 64,
    )


async def call(rig: Rig, who: Principal, **params: Any) -> httpx.Response:
    """What somebody is answered."""
    known = replace(who, credential_version=1)
    token = issue_token(rig.keys, known, now=rig.clock.now(), token_id=rig.ids.new())
    transport = httpx.ASGITransport(rig.application)
    async with httpx.AsyncClient(transport=transport, base_url="http://escalation") as http:
        return await http.get("/v1/statistics", params=params, headers={"Authorization": f"Bearer {token}"})


async def seen(rig: Rig, who: str, **params: Any) -> dict[str, Any]:
    """The statistics as somebody sees them, with what began at this very instant."""
    params.setdefault("to", (rig.clock.now() + timedelta(seconds=1)).isoformat())
    answer = await call(rig, OFFICERS[who], **params)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def acknowledge(rig: Rig, partner: str) -> None:
    """A person of the partner acknowledges its newest escalation, and everything that follows happens."""
    row = await rig.escalation(partner)
    cause = Cause(correlation_id=rig.ids.new())
    await answers.acknowledge(rig.deps, OFFICERS[partner], row["id"], contact_id=None, via="api", cause=cause)
    await rig.settle()


async def test_answers_are_counted_by_partner_and_precedence(rig: Rig) -> None:
    """Asked, acknowledged, late, unreached and taken over, with times from release and their distribution."""
    for wait_seconds in (30, 120, 700):
        await rig.handle(rig.released("GB", "US", coverage_goal=CoverageGoal(partners=2, within_seconds=300)))
        await rig.settle()
        await rig.forward(seconds=wait_seconds)
        await acknowledge(rig, "GB")
        if wait_seconds == 30:
            await acknowledge(rig, "US")
        await rig.forward(hours=1)
    unreached = await rig.escalation("US")
    assert unreached["state"] == "unreached"
    cause = Cause(correlation_id=rig.ids.new())
    await answers.take_over(rig.deps, OFFICERS["XR"], unreached["id"], cause=cause)
    await acknowledge(rig, "US")
    await rig.handle(rig.released("GB", precedence=Precedence.ROUTINE, informed=("US",)))
    await rig.settle()
    said = await seen(rig, "XR")
    bounds = said["buckets_seconds"]
    assert bounds == list(BUCKETS_SECONDS)
    gb, gb_routine, us = said["partners"]
    assert [(one["partner"], one["precedence"]) for one in said["partners"]] == [
        ("GB", "FLASH"),
        ("GB", "ROUTINE"),
        ("US", "FLASH"),
    ]
    counts = ("asked", "acknowledged", "late", "unreached", "taken_over")
    assert [gb[name] for name in counts] == [3, 3, 1, 0, 0]
    assert (gb["median_seconds"], gb["p90_seconds"]) == (120, 700)
    assert [gb["distribution"][bounds.index(bound)] for bound in (60, 120, 1200)] == [1, 1, 1]
    assert sum(gb["distribution"]) == 3
    assert [us[name] for name in counts] == [3, 2, 1, 2, 1]
    assert us["p90_seconds"] == 4300
    assert [gb_routine[name] for name in counts] == [1, 0, 0, 0, 0]
    assert (gb_routine["median_seconds"], sum(gb_routine["distribution"])) == (None, 0)
    flash, routine = said["total"]
    assert [flash[name] for name in counts] == [6, 5, 2, 2, 1]
    assert flash["median_seconds"] == 120
    assert routine["asked"] == 1
    assert said["coverage"] == [{"raiser": "CA", "precedence": "FLASH", "met": 1, "missed": 2}]


async def test_everybody_sees_their_own(rig: Rig) -> None:
    """A government itself, and whom its own alerts asked; nobody else's answers; without a role nothing."""
    await rig.handle(rig.released("GB", "US"))
    await rig.handle(rig.released("CA", "US", raiser="GB"))
    await rig.settle()
    await acknowledge(rig, "CA")

    def pairs(said: dict[str, Any]) -> list[tuple[str, int]]:
        return [(one["partner"], one["asked"]) for one in said["partners"]]

    assert pairs(await seen(rig, "XR")) == [("CA", 1), ("GB", 1), ("US", 2)]
    assert pairs(await seen(rig, "CA")) == [("CA", 1), ("GB", 1), ("US", 1)]
    assert pairs(await seen(rig, "GB")) == [("CA", 1), ("GB", 1), ("US", 1)]
    assert pairs(await seen(rig, "US")) == [("US", 2)]
    refused = await call(rig, AUDITOR)
    assert (refused.status_code, refused.json()["code"]) == (403, "role_missing")


async def test_drills_are_counted_apart(rig: Rig) -> None:
    """What was real and what was an exercise are never in one number."""
    await rig.handle(rig.released("GB", status=Status.EXERCISE))
    await rig.settle()
    await acknowledge(rig, "GB")
    assert (await seen(rig, "XR"))["partners"] == []
    (drill,) = (await seen(rig, "XR", status="drills"))["partners"]
    assert (drill["asked"], drill["acknowledged"]) == (1, 1)
    await rig.handle(rig.released("GB"))
    assert [one["acknowledged"] for one in (await seen(rig, "XR"))["partners"]] == [0]


async def test_an_update_is_not_another_obligation(rig: Rig) -> None:
    """A chain counts once, from its first release; where it asks anew after an answer, both answers count."""
    first = rig.released("GB")
    await rig.handle(first)
    await rig.settle()
    await rig.forward(seconds=200)
    second = rig.update_of(first)
    await rig.handle(second)
    await rig.settle()
    (open_,) = (await seen(rig, "XR"))["partners"]
    assert (open_["asked"], open_["acknowledged"]) == (1, 0)
    await rig.forward(seconds=60)
    await acknowledge(rig, "GB")
    third = rig.update_of(second)
    await rig.handle(third)
    await rig.settle()
    (once,) = (await seen(rig, "XR"))["partners"]
    assert (once["asked"], once["acknowledged"], once["median_seconds"]) == (1, 1, 260)
    await rig.forward(seconds=60)
    await rig.handle(rig.update_of(third, asks_anew=True))
    await rig.settle()
    await rig.forward(seconds=10)
    await acknowledge(rig, "GB")
    (anew,) = (await seen(rig, "XR"))["partners"]
    assert (anew["asked"], anew["acknowledged"], anew["median_seconds"], anew["p90_seconds"]) == (2, 2, 10, 260)


async def test_what_ended_first_is_asked_and_not_unreached(rig: Rig) -> None:
    """A recalled alert leaves an obligation without an answer; one that was unreached by then stays so."""
    early, late = rig.released("GB"), rig.released("US")
    await rig.handle(early)
    await rig.handle(late)
    await rig.settle()
    await rig.handle(rig.ended(early))
    await rig.forward(hours=1)
    await rig.handle(rig.ended(late, EndReason.CLOSED))
    await rig.settle()
    gb, us = (await seen(rig, "CA"))["partners"]
    assert (gb["asked"], gb["acknowledged"], gb["unreached"]) == (1, 0, 0)
    assert (us["asked"], us["acknowledged"], us["unreached"]) == (1, 0, 1)


async def test_a_period_leaves_out_what_began_elsewhere(rig: Rig) -> None:
    """Its end is not included; what is too long or empty is refused."""
    await rig.handle(rig.released("GB"))
    began_at = rig.clock.now()
    await rig.forward(days=1)
    day = timedelta(days=1)
    for from_at, to_at, found in (
        (began_at, began_at + day, 1),
        (began_at - day, began_at, 0),
        (began_at + timedelta(seconds=1), began_at + day, 0),
    ):
        said = await seen(rig, "XR", **{"from": from_at.isoformat(), "to": to_at.isoformat()})
        assert len(said["partners"]) == found
    refused = await call(rig, OFFICERS["XR"], **{"from": "2019-01-01T00:00:00Z"})
    assert (refused.status_code, refused.json()["code"]) == (422, "out_of_range")
    assert (await call(rig, OFFICERS["XR"], status="Both")).status_code == 422


async def test_a_year_of_two_hundred_partners_takes_less_than_a_second(rig: Rig) -> None:
    """Ten thousand escalations of fifty alerts, all of them seen by the secretariat."""
    template = rig.released("GB")
    await rig.handle(template)
    for number in range(1, 51):
        alert_id = rig.ids.new()
        async with rig.deps.database.transaction() as tx:
            connection = await raw(tx)
            await connection.execute(
                "INSERT INTO alert_heads SELECT (jsonb_populate_record(h, jsonb_build_object('alert_id', $2::uuid))).*"
                " FROM alert_heads h WHERE h.alert_id = $1",
                template.alert_id,
                alert_id,
            )
            await connection.execute(
                "INSERT INTO escalations SELECT made.* FROM escalations e, generate_series(0, 199) AS p,"
                " jsonb_populate_record(e, jsonb_build_object('id', gen_random_uuid(), 'alert_id', $2::uuid,"
                " 'partner', chr(65 + p / 26) || chr(65 + p % 26), 'state', 'acknowledged',"
                " 'acknowledged_at', e.clock_started_at + p * $3 * interval '1 second')) AS made"
                " WHERE e.alert_id = $1",
                template.alert_id,
                alert_id,
                number,
            )
    begun = time.perf_counter()
    said = await seen(rig, "XR")
    elapsed_seconds = time.perf_counter() - begun
    assert sum(one["asked"] for one in said["total"]) == 10_001
    assert len({one["partner"] for one in said["partners"]}) == 200
    assert elapsed_seconds < 1, f"took {elapsed_seconds:.2f} s"

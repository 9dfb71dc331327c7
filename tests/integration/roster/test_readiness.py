"""Readiness on a real database: proofs after plans and each hour, warnings of holes, digests, and asking to confirm."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
import pytest_asyncio
from sqlalchemy import text

from services.roster import handlers
from services.roster.readiness import proving
from services.roster.readiness.findings import CONFIRMED_FOR
from services.roster.worker import Worker
from shared.contracts import EndpointChecked, NoticeIssued, Role
from shared.errors import Unavailable
from shared.security import Principal, PrincipalKind
from tests.support.cluster import Cluster
from tests.support.roster_rig import Rig, applied, roster_rig

HOUR = timedelta(hours=1)


@pytest_asyncio.fixture
async def rig(cluster: Cluster) -> AsyncIterator[Rig]:
    """The service with the shipped network, a plan and a proof of every partner."""
    async with roster_rig(cluster, after=proved) as made:
        yield made


async def proved(rig: Rig) -> None:
    """The shipped network with a plan and a proof of every partner."""
    await applied(rig)
    await settle(rig)


async def settle(rig: Rig) -> None:
    """Lets plans and proofs be made until nothing is due."""
    await rig.publish_plans()
    while await proving.prove_partners(rig.deps):
        pass


async def person(rig: Rig, role: Role, partner: str = "CA") -> dict[str, str]:
    """The headers of a person of a partner with a role, by a credential that is there."""
    published = await rig.credentials(partner)
    found = next(one for one in published.credentials if role in one.roles)
    return rig.headers(
        Principal(
            found.subject,
            found.client_id,
            partner,
            frozenset(found.roles),
            PrincipalKind(found.kind.value),
            found.name,
            found.contact_id,
            found.version,
        )
    )


async def nobody(rig: Rig, begins_in: timedelta, lasts: timedelta, partner: str = "CA") -> str:
    """An override by which nobody is on call in the partner's first rota; its path."""
    headers = await person(rig, Role.ROSTER_MANAGER, partner)
    rota = (await rig.stored(partner)).rotas[0]
    start_at = rig.clock.now() + begins_in
    body = {"contact_id": None, "start_at": start_at.isoformat(), "end_at": (start_at + lasts).isoformat()}
    answer = await rig.client.post(f"/v1/partners/{partner}/rotas/{rota.id}/overrides", json=body, headers=headers)
    assert answer.status_code == 201, answer.text
    await settle(rig)
    return f"/v1/partners/{partner}/rotas/{rota.id}/overrides/{answer.json()['id']}"


async def remove(rig: Rig, path: str) -> None:
    """Takes an override away again."""
    headers = await person(rig, Role.ROSTER_MANAGER)
    etag = (await rig.client.get("/v1/partners/CA", headers=headers)).headers["etag"]
    answer = await rig.client.delete(path, headers={**headers, "If-Match": etag})
    assert answer.status_code == 200, answer.text
    await settle(rig)


async def notices(rig: Rig, kind: str, partner: str | None = None) -> list[Any]:
    """The notices of a kind that were issued."""
    return [one for one in await rig.events(NoticeIssued, partner) if one.kind == kind]


async def confirm_everything(rig: Rig, at: datetime) -> None:
    """Every contact point was verified and confirmed then."""
    async with rig.database.transaction() as tx:
        await tx.execute(text("UPDATE contact_points SET verified_at = :at, confirmed_at = :at"), {"at": at})


async def managers(rig: Rig, partner: str) -> set[Any]:
    """The contacts who keep the partner's roster."""
    return {one.contact_id for one in (await rig.stored(partner)).credentials if Role.ROSTER_MANAGER in one.roles}


# --- proofs -----------------------------------------------------------------------------------------------------------


async def test_every_partner_is_proven_after_its_plan_and_each_hour(rig: Rig) -> None:
    """One row per partner, of its newest plan; the next proof is due an hour later, or with the next plan."""
    found = await rig.rows("SELECT * FROM readiness ORDER BY partner")
    assert len(found) == 11
    for row in found:
        assert (row.plan_version, row.proved_at, row.alarms) == (1, rig.clock.now(), 0)
        assert row.due_at == rig.clock.now() + HOUR
        assert 0 <= row.score <= 100
    rig.clock.advance(3599)
    assert await proving.prove_partners(rig.deps) == 0
    rig.clock.advance(1)
    assert await proving.prove_partners(rig.deps) == 11
    await nobody(rig, 48 * HOUR, HOUR)
    (row,) = await rig.rows("SELECT * FROM readiness WHERE partner = 'CA'")
    assert (row.plan_version, row.proved_at, row.blocking > 0) == (2, rig.clock.now(), True)


async def test_scores_are_kept_by_day(rig: Rig) -> None:
    """One row per partner and day with the last score of the day and the lowest; the next day has its own."""
    (before,) = await rig.rows("SELECT * FROM readiness_scores WHERE partner = 'CA'")
    path = await nobody(rig, 48 * HOUR, HOUR)
    await remove(rig, path)
    (after,) = await rig.rows("SELECT * FROM readiness_scores WHERE partner = 'CA'")
    assert (after.score, after.lowest < before.score) == (before.score, True)
    rig.clock.advance(24 * 3600)
    await settle(rig)
    assert await rig.count("readiness_scores WHERE partner = 'CA'") == 2


async def test_what_nobody_asks_for_any_more_is_forgotten(rig: Rig) -> None:
    """Scores of more than two years ago, and checks of endpoints that the partner has no more."""
    given = {"gone": UUID(int=1), "now": rig.clock.now(), "day": rig.clock.now().date()}
    score = text(
        "INSERT INTO readiness_scores SELECT partner, CAST(:day AS date) - CAST(:ago AS integer), score, lowest,"
        " alarms, blocking, warnings FROM readiness_scores WHERE partner = 'CA' AND day = :day"
    )
    check = text(
        "INSERT INTO endpoint_checks (endpoint_id, partner, fingerprint, checked_at, answering, since_at)"
        " VALUES (:gone, 'CA', '', :now, true, :now)"
    )
    async with rig.database.transaction() as tx:
        for ago in (100, 731, 733):
            await tx.execute(score, given | {"ago": ago})
        await tx.execute(check, given)
    rig.clock.advance(3600)
    await settle(rig)
    days = await rig.rows("SELECT CAST(:day AS date) - day AS ago FROM readiness_scores WHERE partner = 'CA'", **given)
    assert sorted(row.ago for row in days) == [0, 100, 731]
    assert await rig.count(f"endpoint_checks WHERE endpoint_id = '{given['gone']}'") == 0


async def test_duty_plans_come_first_but_hold_nothing_up_for_long(rig: Rig) -> None:
    """No proof is made while plans are due, unless they have been so for half a minute."""
    rig.clock.advance(24 * 3600)
    assert await proving.prove_partners(rig.deps) == 0
    rig.clock.advance(31)
    assert await proving.prove_partners(rig.deps) == 11


class DyingWorker(Worker):
    """Loses its process at the given partner's proof."""

    async def run(self, seconds_max: float, function: Any, *args: Any) -> Any:  # noqa: ARG002 - it computes at once
        if args[0].partner.code == "AU":
            raise Unavailable("the work was interrupted", code="worker_lost")
        return function(*args)


async def test_one_failing_partner_stops_no_other(rig: Rig) -> None:
    """Its old proof stands and is tried again; once it is two hours old, the operators are told."""
    deps = replace(rig.deps, shifts=DyingWorker())
    rig.clock.advance(3600)
    assert await proving.prove_partners(deps) == 11
    assert await rig.count("readiness WHERE failures = 1 AND partner = 'AU'") == 1
    assert await proving.prove_partners(deps) == 0
    rig.clock.advance(3601)
    await proving.prove_partners(deps)
    assert await proving.readiness_troubles(rig.deps) == [
        "the coming 14 days cannot be proven for more than two hours: AU"
    ]
    rig.clock.advance(300)
    await settle(rig)
    assert await proving.readiness_troubles(rig.deps) == []


async def test_two_replicas_tell_once(rig: Rig) -> None:
    """Two processes that prove the same partner at once warn of its hole once."""
    headers = await person(rig, Role.ROSTER_MANAGER)
    rota = (await rig.stored("CA")).rotas[0]
    start_at = rig.clock.now() + HOUR
    body = {"contact_id": None, "start_at": start_at.isoformat(), "end_at": (start_at + HOUR).isoformat()}
    await rig.client.post(f"/v1/partners/CA/rotas/{rota.id}/overrides", json=body, headers=headers)
    await rig.publish_plans()
    await asyncio.gather(*(proving.prove_partners(rig.deps) for _ in range(3)))
    await settle(rig)
    assert len(await notices(rig, "hole_ahead")) == 1


# --- holes ------------------------------------------------------------------------------------------------------------


async def test_a_hole_within_a_day_is_told_to_the_partner_and_to_the_secretariat(rig: Rig) -> None:
    """At once: roster managers and office of the partner with the rota's name; the secretariat without any name."""
    await nobody(rig, 20 * HOUR, HOUR)
    (own,) = await notices(rig, "hole_ahead")
    (elsewhere,) = await notices(rig, "hole_ahead_elsewhere")
    begins_at = rig.clock.now() + 20 * HOUR
    assert (own.partner, own.urgent, own.to_office) == ("CA", True, True)
    assert set(own.contact_ids) == await managers(rig, "CA")
    assert datetime.fromisoformat(own.facts["begins_at"]) == begins_at
    assert own.facts["rota"] == (await rig.stored("CA")).rotas[0].name
    assert own.expires_at > begins_at
    assert (elsewhere.partner, elsewhere.urgent, elsewhere.to_office) == ("XR", True, True)
    assert set(elsewhere.contact_ids) == await managers(rig, "XR")
    assert set(elsewhere.facts) == {"partner", "rota", "begins_at", "ends_at"}
    assert elsewhere.facts["partner"] == "CA"
    assert await proving.readiness_troubles(rig.deps) == ["nobody is on call at some time within 24 hours: CA"]
    assert await rig.count("record WHERE kind = 'notice.issued'") == 2


async def test_a_hole_is_told_once_and_again_when_it_is_near(rig: Rig) -> None:
    """Not each hour; once more two hours before it begins, to the minute."""
    await nobody(rig, 20 * HOUR, HOUR)
    for _ in range(17):
        rig.clock.advance(3600)
        await settle(rig)
    rig.clock.advance(3599)
    await settle(rig)
    assert len(await notices(rig, "hole_ahead")) == 1
    rig.clock.advance(1)
    await settle(rig)
    assert len(await notices(rig, "hole_ahead")) == 2
    rig.clock.advance(5 * 3600)
    await settle(rig)
    assert len(await notices(rig, "hole_ahead")) == 2
    assert await rig.count("told_holes") == 0


async def test_a_hole_comes_into_the_day_at_its_minute(rig: Rig) -> None:
    """A hole that was known for days is told 24 hours before it begins, not at the next full hour."""
    await nobody(rig, 30 * HOUR + timedelta(minutes=30), HOUR)
    assert await notices(rig, "hole_ahead") == []
    rig.clock.advance(6 * 3600)
    await settle(rig)
    rig.clock.advance(30 * 60 - 1)
    await settle(rig)
    assert await notices(rig, "hole_ahead") == []
    rig.clock.advance(1)
    await settle(rig)
    assert len(await notices(rig, "hole_ahead")) == 1


async def test_a_hole_that_was_mended_is_news_when_it_opens_again(rig: Rig) -> None:
    """Mended, it is forgotten, and the alarm is over."""
    path = await nobody(rig, 20 * HOUR, HOUR)
    await remove(rig, path)
    assert await proving.readiness_troubles(rig.deps) == []
    await nobody(rig, 20 * HOUR, HOUR)
    assert len(await notices(rig, "hole_ahead")) == 2


async def test_the_secretariats_own_hole_is_told_once(rig: Rig) -> None:
    """XR is a partner with a rota like any other; it hears of its own hole as its own."""
    await nobody(rig, 20 * HOUR, HOUR, "XR")
    assert [one.partner for one in await notices(rig, "hole_ahead")] == ["XR"]
    assert await notices(rig, "hole_ahead_elsewhere") == []


async def test_a_warning_survives_a_crash_between_proof_and_commit(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is kept of a proof whose transaction did not commit: the next one tells of the hole."""
    headers = await person(rig, Role.ROSTER_MANAGER)
    rota = (await rig.stored("CA")).rotas[0]
    start_at = rig.clock.now() + HOUR
    body = {"contact_id": None, "start_at": start_at.isoformat(), "end_at": (start_at + HOUR).isoformat()}
    await rig.client.post(f"/v1/partners/CA/rotas/{rota.id}/overrides", json=body, headers=headers)
    await rig.publish_plans()

    async def dies(*_: Any, **__: Any) -> None:
        raise asyncio.CancelledError

    with monkeypatch.context() as patched:
        patched.setattr("shared.outbox.append", dies)
        with pytest.raises(asyncio.CancelledError):
            await proving.prove_partners(rig.deps)
    assert (await rig.count("told_holes"), await notices(rig, "hole_ahead")) == (0, [])
    await settle(rig)
    assert (await rig.count("told_holes"), len(await notices(rig, "hole_ahead"))) == (1, 1)


# --- endpoints --------------------------------------------------------------------------------------------------------


async def checked(rig: Rig, *, answering: bool, seconds: float = 0, **more: Any) -> Any:
    """A heartbeat's news of Canada's endpoint, as it comes from the bus."""
    endpoint = (await rig.stored("CA")).endpoints[0]
    body = EndpointChecked(
        endpoint_id=endpoint.id,
        partner="CA",
        checked_at=rig.clock.now() + timedelta(seconds=seconds),
        answering=answering,
        **more,
    )
    return rig.message(body)


async def codes(rig: Rig, partner: str = "CA") -> list[str]:
    """The codes of the newest proof."""
    (row,) = await rig.rows("SELECT findings FROM readiness WHERE partner = :partner", partner=partner)
    return [one["code"] for one in row.findings]


async def test_what_a_heartbeat_found_is_in_the_next_proof_at_once(rig: Rig) -> None:
    """An endpoint that stopped answering is found at once; one that answers again is not; repeats change nothing."""
    news = await checked(rig, answering=False, reason="HTTP 500")
    await handlers.SUBSCRIPTIONS[EndpointChecked](rig.deps, news)
    await settle(rig)
    assert "endpoint_not_answering" in await codes(rig)
    assert "endpoint_not_answering" not in await codes(rig, "NZ")
    rig.clock.advance(60)
    again = await checked(rig, answering=True, certificate_valid_until=rig.clock.now() + timedelta(days=3))
    for message in (again, again, await checked(rig, answering=False, seconds=-30)):
        await handlers.SUBSCRIPTIONS[EndpointChecked](rig.deps, message)
        await settle(rig)
    found = await codes(rig)
    assert "endpoint_not_answering" not in found
    assert "certificate_ending" in found


async def test_an_outcome_keeps_when_it_began(rig: Rig) -> None:
    """What is said once a day does not begin anew."""
    await handlers.SUBSCRIPTIONS[EndpointChecked](rig.deps, await checked(rig, answering=False))
    began_at = rig.clock.now()
    rig.clock.advance(24 * 3600)
    await handlers.SUBSCRIPTIONS[EndpointChecked](rig.deps, await checked(rig, answering=False))
    (row,) = await rig.rows("SELECT * FROM endpoint_checks")
    assert (row.since_at, row.checked_at) == (began_at, rig.clock.now())


async def test_a_check_of_another_address_says_nothing(rig: Rig) -> None:
    """After its address has changed an endpoint has not been checked yet; news of what is not there is passed over."""
    await handlers.SUBSCRIPTIONS[EndpointChecked](rig.deps, await checked(rig, answering=False))
    endpoint = (await rig.stored("CA")).endpoints[0]
    headers = await person(rig, Role.ROSTER_MANAGER)
    etag = (await rig.client.get("/v1/partners/CA", headers=headers)).headers["etag"]
    answer = await rig.client.put(
        f"/v1/partners/CA/endpoints/{endpoint.id}",
        json={"url": "https://elsewhere.ca.example/hook"},
        headers={**headers, "If-Match": etag},
    )
    assert answer.status_code == 200, answer.text
    await settle(rig)
    assert "endpoint_not_answering" not in await codes(rig)
    foreign = await checked(rig, answering=False)
    gone = replace(foreign, body=foreign.body.model_copy(update={"partner": "NZ"}), id=rig.deps.ids.new())
    await handlers.SUBSCRIPTIONS[EndpointChecked](rig.deps, gone)
    assert await rig.count("endpoint_checks WHERE partner = 'NZ'") == 0


async def test_a_subscription_that_cannot_be_read_is_found(rig: Rig) -> None:
    """While a calendar of a rota fails, readiness says so with its reason; not for one that is read."""
    rota = (await rig.stored("CA")).rotas[0]
    given = {"rota": rota.id, "now": rig.clock.now(), "one": rig.deps.ids.new(), "other": rig.deps.ids.new()}
    columns = "id, partner, rota_id, name, encrypted_rules, encrypted_findings, version, events, shifts, unmapped"
    values = "'CA', :rota, 'Ministry', '', '', 1, 0, 0, 0, :now"
    async with rig.database.transaction() as tx:
        for row, fails in ((":one", ":now, 3, 'http_500'"), (":other", "NULL, 0, NULL")):
            sql = f"({columns}, created_at, failing_since, failures, reason, next_at) VALUES ({row}, {values}, {fails}"
            await tx.execute(text(f"INSERT INTO calendars {sql}, :now)"), given)
    rig.clock.advance(3600)
    await settle(rig)
    (row,) = await rig.rows("SELECT findings FROM readiness WHERE partner = 'CA'")
    (found,) = [one for one in row.findings if one["code"] == "calendar_ending"]
    assert (found["calendar_id"], found["rota_id"], found["reason"]) == (str(given["one"]), str(rota.id), "http_500")


# --- the digest -------------------------------------------------------------------------------------------------------


async def next_monday(rig: Rig) -> None:
    """Lets time pass, hour by hour where it matters, until Canada's next digest is due."""
    (row,) = await rig.rows("SELECT digest_due_at FROM readiness WHERE partner = 'CA'")
    rig.clock.advance((row.digest_due_at - rig.clock.now()).total_seconds())
    await settle(rig)


async def test_one_digest_a_week_of_what_is_new_or_worse(rig: Rig) -> None:
    """Monday at nine in Toronto: first everything, then nothing while nothing changes, then what is new."""
    assert await notices(rig, "readiness_digest") == []
    await next_monday(rig)
    assert rig.clock.now().isoformat() == "2026-10-26T13:00:00+00:00"
    (first,) = await notices(rig, "readiness_digest", "CA")
    assert set(first.contact_ids) == await managers(rig, "CA")
    assert (first.urgent, first.to_office) == (False, False)
    assert int(first.facts["findings"]) == len(first.items) > 0
    assert {item["new"] for item in first.items} == {"new"}
    names = {one.name for one in (await rig.stored("CA")).contacts}
    assert {item["contact"] for item in first.items if "contact" in item} & names
    rig.clock.advance(3600)
    await settle(rig)
    await next_monday(rig)
    assert len(await notices(rig, "readiness_digest", "CA")) == 1
    await nobody(rig, 10 * 24 * HOUR, HOUR)
    assert len(await notices(rig, "readiness_digest", "CA")) == 1
    await next_monday(rig)
    second = (await notices(rig, "readiness_digest", "CA"))[1]
    assert [(item["code"], item["new"]) for item in second.items] == [("uncovered", "new")]


async def test_a_digest_comes_after_an_outage_once(rig: Rig) -> None:
    """Two Mondays missed are one digest, and the next is the coming Monday's."""
    rig.clock.advance(16 * 24 * 3600)
    await settle(rig)
    assert len(await notices(rig, "readiness_digest", "CA")) == 1
    (row,) = await rig.rows("SELECT digest_due_at FROM readiness WHERE partner = 'CA'")
    assert timedelta(0) < row.digest_due_at - rig.clock.now() <= timedelta(days=7)


# --- asking for confirmation ------------------------------------------------------------------------------------------


async def test_contacts_are_asked_to_confirm_before_the_ninety_days_end(rig: Rig) -> None:
    """14 and 3 days before the end and at the end, each once and each only for themselves."""
    began_at = rig.clock.now()
    await confirm_everything(rig, began_at)
    state = await rig.stored("CA")
    for days, asked in ((75, 0), (76, 1), (77, 1), (86, 1), (87, 2), (89, 2), (90, 3), (120, 3)):
        rig.clock.advance((began_at + timedelta(days=days) - rig.clock.now()).total_seconds())
        await settle(rig)
        found = await notices(rig, "points_unconfirmed", "CA")
        assert len(found) == asked * len(state.contacts), days
    found = await notices(rig, "points_unconfirmed", "CA")
    assert {one.contact_ids for one in found} == {(one.id,) for one in state.contacts}
    assert all(one.facts["count"] != "0" and not one.urgent and not one.to_office for one in found)


async def test_who_confirms_is_left_in_peace(rig: Rig) -> None:
    """A confirmation begins another 90 days, at whose end they are asked anew."""
    await confirm_everything(rig, rig.clock.now() - CONFIRMED_FOR + timedelta(days=10))
    await settle(rig)
    rig.clock.advance(3600)
    await settle(rig)
    asked = len(await notices(rig, "points_unconfirmed", "CA"))
    assert asked > 0
    await confirm_everything(rig, rig.clock.now())
    rig.clock.advance(30 * 24 * 3600)
    await settle(rig)
    assert len(await notices(rig, "points_unconfirmed", "CA")) == asked

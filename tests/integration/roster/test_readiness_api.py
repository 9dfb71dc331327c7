"""Who sees what of readiness over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
import pytest_asyncio

from services.roster.readiness.api import HISTORY_DAYS_MAX
from shared.contracts import Role
from tests.integration.roster.test_readiness import HOUR, nobody, person, proved, settle
from tests.support.cluster import Cluster
from tests.support.roster_rig import Rig, applied, roster_rig

PATH = "/v1/partners/CA/readiness"


@pytest_asyncio.fixture
async def rig(cluster: Cluster) -> AsyncIterator[Rig]:
    """The service with the shipped network, a plan and a proof of every partner."""
    async with roster_rig(cluster, after=proved) as made:
        yield made


async def seen(rig: Rig, path: str, headers: dict[str, str], **query: Any) -> Any:
    """What somebody is answered."""
    answer = await rig.client.get(path, headers=headers, params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_ones_own_people_see_everything_with_reasons_and_remedies(rig: Rig) -> None:
    """Score, counts, and each finding with whom it is about and what to do; addresses are masked."""
    await nobody(rig, 20 * HOUR, HOUR)
    body = await seen(rig, PATH, await person(rig, Role.ROSTER_MANAGER))
    assert (body["partner"], body["alarms"], body["score"] < 76) == ("CA", 1, True)
    first = body["findings"][0]
    assert (first["code"], first["severity"]) == ("uncovered", "alarm")
    assert first["rota"] == (await rig.stored("CA")).rotas[0].name
    assert all(one["remedy"] for one in body["findings"])
    about = [one for one in body["findings"] if one["point_id"] is not None]
    assert about
    addresses = {point.address for contact in (await rig.stored("CA")).contacts for point in contact.points}
    for one in about:
        assert one["address"] not in addresses
        assert one["name"] or one["office"]
    assert len(body["findings"]) + body["omitted"] == body["alarms"] + body["blocking"] + body["warnings"]


async def test_the_secretariat_sees_no_name_and_no_point(rig: Rig) -> None:
    """Codes, times, levels, offices and roles; nothing that says who it is or how anybody is reached."""
    await nobody(rig, 20 * HOUR, HOUR)
    headers = await person(rig, Role.SECRETARIAT, "XR")
    answer = await rig.client.get(PATH, headers=headers)
    body = answer.json()
    own = await seen(rig, PATH, await person(rig, Role.ROSTER_MANAGER))
    assert [one["code"] for one in body["findings"]] == [one["code"] for one in own["findings"]]
    assert any(one["title"] for one in body["findings"])
    state = await rig.stored("CA")
    withheld = [contact.name for contact in state.contacts]
    things: list[Any] = [*state.contacts, *state.offices]
    withheld += [str(point.id) for owner in things for point in owner.points]
    withheld += [str(thing.id) for thing in (*things, *state.rotas, *state.endpoints)]
    assert [text for text in withheld if text in answer.text] == []
    for one in body["findings"]:
        assert {one[name] for name in ("name", "address", "channel", "point_id", "endpoint", "contact_id")} == {None}


@pytest.mark.parametrize(
    ("role", "partner", "status"),
    [
        (Role.ROSTER_MANAGER, "NZ", 404),
        (Role.DUTY_OFFICER, "US", 404),
        (Role.DUTY_OFFICER, "CA", 200),
        (Role.SENIOR_CONTACT, "CA", 200),
    ],
)
async def test_to_other_governments_it_is_not_there(rig: Rig, role: Role, partner: str, status: int) -> None:
    """Missing and somebody else's answer alike; whoever may read one's own roster reads its readiness."""
    headers = await person(rig, role, partner)
    assert (await rig.client.get(PATH, headers=headers)).status_code == status
    assert (await rig.client.get("/v1/partners/AA/readiness", headers=headers)).status_code == 404


async def test_the_list_is_the_secretariats(rig: Rig) -> None:
    """Every partner's present score and alarms, by pages; nobody else gets it, and no name stands in it."""
    await nobody(rig, 20 * HOUR, HOUR)
    headers = await person(rig, Role.SECRETARIAT, "XR")
    items: list[Any] = []
    cursor = None
    for _ in range(4):
        page = await seen(rig, "/v1/readiness", headers, limit=3, **({"cursor": cursor} if cursor else {}))
        items += page["items"]
        cursor = page["next_cursor"]
    assert cursor is None
    assert [one["partner"] for one in items] == sorted(one["partner"] for one in items)
    assert len(items) == 11
    (canada,) = [one for one in items if one["partner"] == "CA"]
    assert (canada["alarms"], len(canada["holes"])) == (1, 1)
    assert canada["holes"][0]["rota"] == (await rig.stored("CA")).rotas[0].name
    refused = await rig.client.get("/v1/readiness", headers=await person(rig, Role.ROSTER_MANAGER))
    assert (refused.status_code, refused.json()["code"]) == (403, "role_missing")


async def test_the_history_of_the_score(rig: Rig) -> None:
    """So many days as were asked for, the oldest first, today's among them."""
    for _ in range(4):
        rig.clock.advance(24 * 3600)
        await settle(rig)
    headers = await person(rig, Role.ROSTER_MANAGER)
    today = rig.clock.now().date()
    found = (await seen(rig, PATH, headers, days=3))["history"]
    assert [one["day"] for one in found] == [(today - timedelta(days=back)).isoformat() for back in (2, 1, 0)]
    assert found[-1]["score"] == (await seen(rig, PATH, headers))["score"]
    assert len((await seen(rig, PATH, headers))["history"]) == 5
    assert (await seen(rig, PATH, headers, days=0))["history"] == []
    too_many = await rig.client.get(PATH, headers=headers, params={"days": HISTORY_DAYS_MAX + 1})
    assert too_many.status_code == 422


async def test_before_the_first_proof(cluster: Cluster) -> None:
    """A partner that was never proven has no score, and no finding is made up."""
    async with roster_rig(cluster, after=applied) as rig:
        await rig.publish_plans()
        body = await seen(rig, PATH, await person(rig, Role.ROSTER_MANAGER))
        assert (body["score"], body["proved_at"], body["findings"], body["history"]) == (None, None, [], [])


async def test_a_preview_says_what_readiness_would_find(rig: Rig) -> None:
    """What a change would open is named before it is saved, and nothing is stored."""
    headers = await person(rig, Role.ROSTER_MANAGER)
    rota = (await rig.stored("CA")).rotas[0]
    start_at = rig.clock.now() + 20 * HOUR
    body = {"contact_id": None, "start_at": start_at.isoformat(), "end_at": (start_at + HOUR).isoformat()}
    path = f"/v1/partners/CA/rotas/{rota.id}/overrides"
    answer = await rig.client.post(path, json=body, headers=headers, params={"dry_run": True})
    assert answer.status_code == 200, answer.text
    new = answer.json()["preview"]["findings_new"]
    assert ("uncovered", "alarm", str(rota.id)) in [(one["code"], one["severity"], one["rota_id"]) for one in new]
    await settle(rig)
    assert "uncovered" not in [one["code"] for one in (await seen(rig, PATH, headers))["findings"]]

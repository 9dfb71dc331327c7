"""People keep their own contact points; colleagues see that they are there; escalation says which of them work."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest_asyncio

from services.roster import handlers
from services.roster.domain import Contact, ContactPoint
from shared.contracts import ChannelName, ContactPointFailing, ContactPointVerified, Role
from shared.ids import ContactPointId
from shared.keys import fingerprints
from tests.support.cluster import Cluster
from tests.support.roster_rig import Rig, applied, roster_rig

OWN = "/v1/me/contact-points"


@pytest_asyncio.fixture
async def rig(cluster: Cluster) -> AsyncIterator[Rig]:
    """The service with the shipped network."""
    async with roster_rig(cluster, after=applied) as made:
        yield made


async def somebody(
    rig: Rig, *, role: Role = Role.OBSERVER, number: int | None = 0, kind: str = "person"
) -> tuple[Contact, dict[str, str]]:
    """Canada's first contact, and headers of a new credential, tied to the contact of this number or to none."""
    contacts = (await rig.stored("CA")).contacts
    client_id = f"ca-new-{rig.deps.ids.new()}"
    body: dict[str, Any] = {"client_id": client_id, "kind": kind, "name": "New", "roles": [role]}
    if number is not None:
        body["contact_id"] = str(contacts[number].id)
    path = "/v1/partners/CA/credentials"
    made = await rig.client.post(path, json=body, headers=await etag(rig, rig.administrator()))
    assert made.status_code == 201, made.text
    return contacts[0], await rig.sign_in(client_id, made.json()["secret"])


async def etag(rig: Rig, headers: dict[str, str]) -> dict[str, str]:
    """The headers with the version of what they see of Canada."""
    answer = await rig.client.get("/v1/partners/CA", headers=headers)
    return {**headers, "If-Match": answer.headers["etag"]}


async def point_of(rig: Rig, point_id: Any) -> ContactPoint:
    """A contact point of Canada as it is stored."""
    owners = (await rig.stored("CA")).contacts
    return next(point for owner in owners for point in owner.points if point.id == point_id)


async def verified(rig: Rig, point: ContactPoint) -> ContactPointVerified:
    """Escalation's news that a code came back from where the point leads now."""
    return ContactPointVerified(
        contact_point_id=point.id,
        partner="CA",
        channel=point.channel,
        verified_at=rig.clock.now(),
        fingerprint=fingerprints(rig.keys, point.id, point.address)[0],
    )


def failing(rig: Rig, point: ContactPoint, *, hard: bool) -> ContactPointFailing:
    """Escalation's news that a point fails."""
    return ContactPointFailing(
        contact_point_id=point.id,
        partner="CA",
        channel=point.channel,
        failures=1,
        reason="address_unknown",
        since_at=rig.clock.now(),
        hard=hard,
    )


async def test_a_person_reads_and_replaces_their_own_points_without_any_role(rig: Rig) -> None:
    """Whole addresses for oneself; points that are named by id keep their address, new ones are added, others go."""
    contact, headers = await somebody(rig)
    shown = (await rig.client.get(OWN, headers=headers)).json()
    assert [one["address"] for one in shown["items"]] == [point.address for point in contact.points]
    first = contact.points[0]
    points = [
        {"channel": "voice", "address": "+16135550177", "delay_seconds": 120, "label": "Home"},
        {"id": str(first.id), "channel": first.channel},
    ]
    answer = await rig.client.put(OWN, json={"points": points}, headers=await etag(rig, headers))
    assert answer.status_code == 200, answer.text
    stored = (await rig.stored("CA")).contacts[0].points
    assert [(point.address, point.delay_seconds, point.label) for point in stored] == [
        ("+16135550177", 120, "Home"),
        (first.address, first.delay_seconds, None),
    ]
    await rig.publish_plans()
    planned = next(one for one in (await rig.plan("CA")).contacts if one.id == contact.id)
    assert [point.delay_seconds for point in planned.points] == [120, first.delay_seconds]


async def test_only_chat_services_that_are_allowed_here_are_taken(cluster: Cluster) -> None:
    """A chat room that no page would ever be sent to is refused to the person as it is to a manager."""
    async with roster_rig(cluster, after=applied, chat_schemas="matrixs") as rig:
        _contact, headers = await somebody(rig)
        for address, status in (("discord://1/token", 422), ("matrixs://user:secret@chat.ca.example/room", 200)):
            points = {"points": [{"channel": "chat", "address": address}]}
            answer = await rig.client.put(OWN, json=points, headers=await etag(rig, headers))
            assert answer.status_code == status, answer.text


async def test_nobody_else_keeps_them(rig: Rig) -> None:
    """Who is no contact has no points of their own; somebody's credential never touches another person's."""
    contact, nobody = await somebody(rig, number=None)
    headers = await etag(rig, nobody)
    for method, path in (("GET", OWN), ("PUT", OWN), ("POST", f"{OWN}/{contact.points[0].id}/confirmation")):
        answer = await rig.client.request(method, path, json={"points": []}, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (403, "not_a_contact"), path
    _, other = await somebody(rig, number=1)
    answer = await rig.client.post(f"{OWN}/{contact.points[0].id}/confirmation", headers=other)
    assert answer.status_code == 404
    _, system = await somebody(rig, number=None, kind="system")
    assert (await rig.client.get(OWN, headers=system)).status_code == 403


async def test_colleagues_see_that_points_exist_and_not_where_they_lead(rig: Rig) -> None:
    """The roster manager gets channel, label, delay and a masked address; of offices, and of oneself, the whole."""
    contact, headers = await somebody(rig, role=Role.ROSTER_MANAGER)
    answer = await rig.client.get("/v1/partners/CA/contacts", headers=headers)
    listed = answer.json()["items"]
    assert [one["address"] for one in listed[0]["points"]] == [point.address for point in contact.points]
    others = [point for one in (await rig.stored("CA")).contacts[1:] for point in one.points]
    assert not any(point.address in answer.text for point in others if point.address not in str(contact.points))
    shown = [point for one in listed[1:] for point in one["points"]]
    assert [one["address"] for one in shown] == [point.masked_address for point in others]
    assert {one["delay_seconds"] for one in shown if one["channel"] == "voice"} == {120}
    offices = (await rig.client.get("/v1/partners/CA/offices", headers=headers)).json()["items"]
    assert offices[0]["points"][0]["address"] == (await rig.stored("CA")).offices[0].points[0].address


async def test_a_manager_keeps_an_address_without_knowing_it(rig: Rig) -> None:
    """What was read can be sent back: a masked address, or none, keeps where the point leads; a new point needs one."""
    _, headers = await somebody(rig, role=Role.ROSTER_MANAGER)
    before = (await rig.stored("CA")).contacts[1]
    path = f"/v1/partners/CA/contacts/{before.id}"
    body = (await rig.client.get(path, headers=headers)).json()
    points = [{name: one[name] for name in ("id", "channel", "address", "label")} for one in body["points"]]
    del points[0]["address"]
    sent = {"name": before.name, "title": "Chief", "languages": ["en"], "time_zone": "Asia/Kabul", "points": points}
    answer = await rig.client.put(path, json=sent, headers=await etag(rig, headers))
    assert answer.status_code == 200, answer.text
    after = (await rig.stored("CA")).contacts[1]
    assert (after.points, after.title, after.time_zone) == (before.points, "Chief", "Asia/Kabul")
    for wrong in ({"channel": "sms"}, {"channel": "sms", "address": before.points[0].masked_address}):
        refused = await rig.client.put(path, json={**sent, "points": [wrong]}, headers=await etag(rig, headers))
        assert refused.status_code == 422
        assert refused.json()["errors"][0]["field"] == "points[0].address"


async def test_a_code_that_came_back_verifies_until_the_address_changes(rig: Rig) -> None:
    """Verified and confirmed at that instant, told by the next plan; another address is unverified again."""
    contact, headers = await somebody(rig)
    point = contact.points[0]
    await handlers.on_contact_point_verified(rig.deps, rig.message(await verified(rig, point)))
    found = await point_of(rig, point.id)
    assert (found.verified_at, found.confirmed_at) == (rig.clock.now(), rig.clock.now())
    await rig.publish_plans()
    planned = next(one for one in (await rig.plan("CA")).contacts if one.id == contact.id)
    assert planned.points[0].verified
    points = [{"id": str(point.id), "channel": "sms", "address": "+16135550199"}]
    headers = await etag(rig, headers)
    assert (await rig.client.put(OWN, json={"points": points}, headers=headers)).status_code == 200
    found = await point_of(rig, point.id)
    assert (found.verified_at, found.confirmed_at) == (None, None)
    # A code that was sent to the old address comes back only now.
    await handlers.on_contact_point_verified(rig.deps, rig.message(await verified(rig, point)))
    assert (await point_of(rig, point.id)).verified_at is None


async def test_a_provider_that_knows_nobody_there_takes_the_verification_away(rig: Rig) -> None:
    """A hard failure is shown to owner and manager and clears verified_at; a soft one does not; a new code heals it."""
    contact, headers = await somebody(rig, role=Role.ROSTER_MANAGER)
    point = contact.points[0]
    await handlers.on_contact_point_verified(rig.deps, rig.message(await verified(rig, point)))
    rig.clock.advance(1)
    await handlers.on_contact_point_failing(rig.deps, rig.message(failing(rig, point, hard=False)))
    assert (await point_of(rig, point.id)).verified_at is not None
    rig.clock.advance(1)
    await handlers.on_contact_point_failing(rig.deps, rig.message(failing(rig, point, hard=True)))
    assert (await point_of(rig, point.id)).verified_at is None
    for path in (OWN, f"/v1/partners/CA/contacts/{contact.id}"):
        body = (await rig.client.get(path, headers=headers)).json()
        shown = (body.get("items") or body["points"])[0]
        assert (shown["failing"]["hard"], shown["failing"]["reason"]) == (True, "address_unknown")
    await rig.publish_plans()
    planned = next(one for one in (await rig.plan("CA")).contacts if one.id == contact.id)
    assert not planned.points[0].verified
    await handlers.on_contact_point_verified(rig.deps, rig.message(await verified(rig, point)))
    assert (await rig.client.get(OWN, headers=headers)).json()["items"][0]["failing"] is None


async def test_confirming_says_that_it_is_still_right(rig: Rig) -> None:
    """The owner's word sets confirmed_at and nothing else."""
    contact, headers = await somebody(rig)
    answer = await rig.client.post(f"{OWN}/{contact.points[1].id}/confirmation", headers=headers)
    assert answer.status_code == 200, answer.text
    found = await point_of(rig, contact.points[1].id)
    assert (found.verified_at, found.confirmed_at) == (None, rig.clock.now())


async def test_news_of_points_that_are_gone_changes_nothing(rig: Rig) -> None:
    """A code for a point that nobody has any more, or of a partner that is not there, is passed over."""
    gone = ContactPoint(ContactPointId(rig.deps.ids.new()), ChannelName.SMS, "+16135550100")
    before = await rig.stored("CA")
    await handlers.on_contact_point_verified(rig.deps, rig.message(await verified(rig, gone)))
    foreign = (await verified(rig, gone)).model_copy(update={"partner": "CH"})
    await handlers.on_contact_point_verified(rig.deps, rig.message(foreign))
    await handlers.on_contact_point_failing(rig.deps, rig.message(failing(rig, gone, hard=True)))
    assert await rig.stored("CA") == before

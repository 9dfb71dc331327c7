from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest
import pytest_asyncio

from services.roster.domain import PartnerState
from services.roster.schedule import OVERRIDES_MAX, Rota, Shift, on_call, shifts
from services.roster.swaps.domain import LOOK_AHEAD, OPEN_OFFERS_MAX, URGENT_WITHIN
from services.roster.swaps.expiry import expire_swaps
from shared.contracts import NoticeIssued, Role
from shared.ids import ContactId
from shared.security import Principal, PrincipalKind
from tests.support.cluster import Cluster
from tests.support.roster_rig import Rig, applied, roster_rig

Headers = dict[str, str]


@dataclass
class Desk:
    """Canada's duty officers: their rota, and the headers of each of its people by name."""

    rig: Rig
    state: PartnerState
    rota: Rota
    people: dict[ContactId, Headers]
    manager: Headers

    async def fresh(self) -> Rota:
        """The rota as it is now."""
        state = await self.rig.stored("CA")
        return next(rota for rota in state.rotas if rota.id == self.rota.id)

    def coming(self, contact_id: ContactId, *, number: int = 0) -> Shift:
        """A shift of this contact that is still to begin."""
        now = self.rig.clock.now()
        found = [one for one in shifts(self.rota, now, now + timedelta(days=60)) if one.start_at > now]
        return [one for one in found if one.contact_id == contact_id][number]

    async def offer(self, by: ContactId, to: ContactId | None = None, **more: Any) -> httpx.Response:
        """Offers a whole shift, the first that comes unless another one is given."""
        shift: Shift = more.pop("shift", None) or self.coming(by)
        query = more.pop("query", {})
        headers = more.pop("headers", self.people.get(by, self.manager))
        body = {"start_at": shift.start_at.isoformat(), "end_at": shift.end_at.isoformat(), **more}
        if to is not None:
            body["offered_to"] = str(to)
        path = f"/v1/partners/CA/rotas/{self.rota.id}/swaps"
        return await self._posted(path, body, headers, query)

    async def answer(self, swap: Any, what: str, headers: Headers, **body: Any) -> httpx.Response:
        """Accepts, declines or withdraws."""
        return await self._posted(f"/v1/partners/CA/swaps/{swap['id']}/{what}", body, headers, {})

    async def _posted(self, path: str, body: Any, headers: Headers, query: Any) -> httpx.Response:
        answer = await self.rig.client.post(path, json=body, headers=headers, params=query)
        # Ids order what was written by their instants.
        self.rig.clock.advance(1)
        return answer

    async def read(self, swap: Any, headers: Headers | None = None) -> Any:
        """The swap as it is now."""
        path = f"/v1/partners/CA/swaps/{swap['id']}"
        return (await self.rig.client.get(path, headers=headers or self.manager)).json()

    async def notices(self) -> list[NoticeIssued]:
        """All that was told, in order."""
        found: list[NoticeIssued] = await self.rig.events(NoticeIssued, "CA")
        return found

    async def record(self) -> dict[str, dict[str, Any]]:
        """What the record says last of each kind of thing that happens to swaps and overrides."""
        rows = await self.rig.rows(
            "SELECT kind, data FROM record WHERE kind LIKE 'swap.%' OR kind LIKE 'override.%' ORDER BY recorded_at"
        )
        return {row.kind: row.data for row in rows}


async def holder(rig: Rig, partner: str, contact_id: ContactId, role: Role) -> Headers:
    """The headers of a new credential of this contact."""
    client_id = f"{partner.lower()}-{contact_id}"
    body = {"client_id": client_id, "kind": "person", "contact_id": str(contact_id), "roles": [role.value]}
    made = await rig.client.post(f"/v1/partners/{partner}/credentials", json=body, headers=rig.administrator())
    assert made.status_code == 201, made.text
    return await rig.sign_in(client_id, made.json()["secret"])


async def manager_of(rig: Rig, partner: str) -> Headers:
    """The headers of a partner's roster manager."""
    published = await rig.credentials(partner)
    found = next(one for one in published.credentials if Role.ROSTER_MANAGER in one.roles)
    kind = PrincipalKind(found.kind.value)
    who = (found.subject, found.client_id, partner, frozenset(found.roles), kind, found.name, found.contact_id)
    return rig.headers(Principal(*who, found.version))


@pytest_asyncio.fixture
async def desk(cluster: Cluster) -> AsyncIterator[Desk]:
    """The shipped network; Canada's people have credentials without any role that reads or writes rosters."""
    async with roster_rig(cluster, after=applied) as rig:
        state = await rig.stored("CA")
        rota = next(rota for rota in state.rotas if rota.name == "Duty officers")
        named = [*rota.layers[0].participants, *state.rotas[1].layers[0].participants]
        people = {one: await holder(rig, "CA", one, Role.OBSERVER) for one in named}
        yield Desk(rig, await rig.stored("CA"), rota, people, await manager_of(rig, "CA"))


async def test_an_accepted_swap_is_an_override_of_the_rota(desk: Desk) -> None:
    """The colleague holds the stretch, so does the next plan, both are told, and the record has before and after."""
    ann, bob, _ = desk.rota.layers[0].participants
    shift = desk.coming(ann)
    await desk.rig.publish_plans()
    offered = await desk.offer(ann, bob)
    assert offered.status_code == 201, offered.text
    swap = offered.json()
    assert offered.headers["Location"] == f"/v1/partners/CA/swaps/{swap['id']}"
    assert (swap["state"], swap["rota"], swap["double_duty"]) == ("offered", "Duty officers", [])
    accepted = await desk.answer(swap, "acceptance", desk.people[bob])
    assert (accepted.status_code, accepted.json()["state"]) == (200, "accepted")
    rota = await desk.fresh()
    held = on_call(rota, shift.start_at)
    assert held is not None
    assert (held.contact_id, held.start_at, held.end_at) == (bob, shift.start_at, shift.end_at)
    await desk.rig.publish_plans()
    planned = next(one for one in (await desk.rig.plan("CA")).rotas if one.id == rota.id)
    assert bob in {one.contact_id for one in planned.shifts if one.start_at == shift.start_at}
    assert [(one.kind, set(one.contact_ids)) for one in await desk.notices()] == [
        ("swap_offered", {bob}),
        ("swap_accepted", {ann, bob}),
    ]
    told = (await desk.notices())[1]
    bobs_name = next(one.name for one in desk.state.contacts if one.id == bob)
    assert told.facts == {
        "rota": "Duty officers",
        "accepted_by": bobs_name,
        "start_at": shift.start_at.isoformat().replace("+00:00", "Z"),
        "end_at": shift.end_at.isoformat().replace("+00:00", "Z"),
    }
    recorded = await desk.record()
    assert set(recorded) == {"swap.offered", "override.created", "swap.accepted"}
    assert recorded["override.created"]["after"]["contact_id"] == str(bob)
    said = recorded["swap.accepted"]
    assert (said["before"], said["after"], said["on_behalf"]) == ({"state": "offered"}, {"state": "accepted"}, False)


async def test_a_stretch_is_given_in_return(desk: Desk) -> None:
    """Both stretches change hands at once, in two overrides; the rest of both shifts stays where it was."""
    ann, bob, _ = desk.rota.layers[0].participants
    mine, theirs = desk.coming(ann), desk.coming(bob, number=1)
    part = Shift(ann, mine.start_at + timedelta(hours=2), mine.end_at - timedelta(hours=2), mine.origin)
    back = {"start_at": theirs.start_at.isoformat(), "end_at": theirs.end_at.isoformat()}
    swap = (await desk.offer(ann, bob, shift=part, in_return=back)).json()
    assert (await desk.answer(swap, "acceptance", desk.people[bob])).status_code == 200
    rota = await desk.fresh()

    def holder_at(at: datetime) -> ContactId:
        shift = on_call(rota, at)
        assert shift is not None
        return shift.contact_id

    assert [holder_at(at) for at in (mine.start_at, part.start_at, part.end_at, theirs.start_at)] == [
        ann,
        bob,
        ann,
        ann,
    ]
    assert len(rota.overrides) == 2
    assert "return_start_at" in (await desk.notices())[1].facts


async def test_of_two_who_take_an_open_offer_at_once_one_wins(desk: Desk) -> None:
    """An open offer is told to all others of the rota; the second to accept is told that it is accepted."""
    ann, bob, cat = desk.rota.layers[0].participants
    swap = (await desk.offer(ann)).json()
    assert set((await desk.notices())[0].contact_ids) == {bob, cat}
    answers = await asyncio.gather(
        desk.answer(swap, "acceptance", desk.people[bob]), desk.answer(swap, "acceptance", desk.people[cat])
    )
    assert sorted(answer.status_code for answer in answers) == [200, 409]
    assert {answer.json().get("code") for answer in answers} == {None, "swap_accepted"}
    assert len((await desk.fresh()).overrides) == 1
    winner = next(one for one in answers if one.status_code == 200).json()["accepted_by"]["contact_id"]
    again = await desk.answer(swap, "acceptance", desk.people[ContactId(UUID(winner))])
    assert (again.status_code, len((await desk.fresh()).overrides), len(await desk.notices())) == (200, 1, 2)


async def test_an_offer_to_one_is_nobody_elses(desk: Desk) -> None:
    """A third colleague, who reads no rosters, does not even see it; a role that does sees it and may not accept it."""
    ann, bob, cat = desk.rota.layers[0].participants
    swap = (await desk.offer(ann, bob)).json()
    assert (await desk.answer(swap, "acceptance", desk.people[cat])).status_code == 404
    refused = await desk.answer(swap, "acceptance", desk.manager)
    assert (refused.status_code, refused.json()["code"]) == (403, "not_offered_to_you")
    own = await desk.answer(swap, "acceptance", desk.people[ann])
    assert (own.status_code, own.json()["code"]) == (403, "not_offered_to_you")


async def test_declining_ends_an_offer_to_one_and_leaves_an_open_one(desk: Desk) -> None:
    """After a no the named offer is over and its offerer is told; an open one is over when all have said no."""
    ann, bob, cat = desk.rota.layers[0].participants
    named = (await desk.offer(ann, bob)).json()
    assert (await desk.answer(named, "refusal", desk.people[bob])).json()["state"] == "declined"
    assert (await desk.answer(named, "refusal", desk.people[bob])).status_code == 200
    late = await desk.answer(named, "acceptance", desk.people[bob])
    assert (late.status_code, late.json()["code"]) == (409, "swap_declined")
    (_, declined) = await desk.notices()
    assert (declined.kind, declined.contact_ids) == ("swap_declined", (ann,))
    to_all = (await desk.offer(ann)).json()
    assert (await desk.answer(to_all, "refusal", desk.people[bob])).json()["state"] == "offered"
    shown = await desk.answer(to_all, "refusal", desk.people[cat])
    assert shown.json()["state"] == "declined"
    assert [one["contact_id"] for one in shown.json()["declined_by"]] == [str(bob), str(cat)]


async def test_withdrawing_is_for_the_offerer_and_roster_managers(desk: Desk) -> None:
    """The colleague cannot take it back; whoever offered can, twice is harmless, and the colleague is told once."""
    ann, bob, _ = desk.rota.layers[0].participants
    swap = (await desk.offer(ann, bob)).json()
    assert (await desk.answer(swap, "withdrawal", desk.people[bob])).status_code == 403
    for headers in (desk.people[ann], desk.manager):
        assert (await desk.answer(swap, "withdrawal", headers)).json()["state"] == "withdrawn"
    assert [one.kind for one in await desk.notices()] == ["swap_offered", "swap_withdrawn"]
    late = await desk.answer(swap, "acceptance", desk.people[bob])
    assert (late.status_code, late.json()["code"]) == (409, "swap_withdrawn")


async def test_an_offer_expires_when_its_shift_begins(desk: Desk) -> None:
    """From that instant it is shown as expired and cannot be accepted; the loop writes it down once, with a record."""
    ann, bob, _ = desk.rota.layers[0].participants
    swap = (await desk.offer(ann, bob)).json()
    begins = desk.coming(ann).start_at
    desk.rig.clock.advance((begins - desk.rig.clock.now()).total_seconds() - 1)
    assert await expire_swaps(desk.rig.deps) == 0
    desk.rig.clock.advance(1)
    headers = await holder_again(desk, bob)
    late = await desk.answer(swap, "acceptance", headers)
    assert (late.status_code, late.json()["code"]) == (409, "swap_expired")
    assert (await desk.read(swap, headers))["state"] == "expired"
    listed = await desk.rig.client.get("/v1/partners/CA/swaps", params={"state": "expired"}, headers=headers)
    assert [one["id"] for one in listed.json()["items"]] == [swap["id"]]
    assert [await expire_swaps(desk.rig.deps) for _ in range(2)] == [1, 0]
    assert (await desk.record())["swap.expired"]["after"] == {"state": "expired"}
    assert (await desk.read(swap, headers))["version"] == 2


async def holder_again(desk: Desk, contact_id: ContactId) -> Headers:
    """The headers of a contact's credential after its token has run out."""
    published = await desk.rig.credentials("CA")
    found = next(one for one in published.credentials if one.client_id == f"ca-{contact_id}")
    who = (found.subject, found.client_id, "CA", frozenset(found.roles), PrincipalKind.PERSON, found.name)
    return desk.rig.headers(Principal(*who, found.contact_id, found.version))


async def test_what_is_not_held_cannot_be_given(desk: Desk) -> None:
    """Somebody else's shift cannot be offered, and one that was lost meanwhile cannot be accepted."""
    ann, bob, cat = desk.rota.layers[0].participants
    theirs = desk.coming(bob)
    refused = await desk.offer(ann, cat, shift=theirs)
    assert (refused.status_code, refused.json()["code"]) == (409, "shift_not_held")
    longer = desk.coming(ann)
    refused = await desk.offer(ann, bob, shift=Shift(ann, longer.start_at, theirs.end_at, longer.origin))
    assert refused.json()["code"] == "shift_not_held"
    swap = (await desk.offer(ann, bob)).json()
    override = {
        "contact_id": str(cat),
        "start_at": longer.start_at.isoformat(),
        "end_at": (longer.start_at + timedelta(minutes=1)).isoformat(),
    }
    path = f"/v1/partners/CA/rotas/{desk.rota.id}/overrides"
    assert (await desk.rig.client.post(path, json=override, headers=desk.manager)).status_code == 201
    lost = await desk.answer(swap, "acceptance", desk.people[bob])
    assert (lost.status_code, lost.json()["code"]) == (409, "shift_not_held")
    assert (await desk.read(swap))["state"] == "offered"


async def test_double_duty_takes_a_roster_manager(desk: Desk) -> None:
    """Whoever is on call in another rota meanwhile is refused with its name, and only a roster manager may force it."""
    ann = desk.rota.layers[0].participants[0]
    shift, other = desk.coming(ann), desk.state.rotas[1]
    busy = on_call(other, shift.start_at)
    assert busy is not None
    taker = busy.contact_id
    override = {
        "contact_id": str(taker),
        "start_at": (shift.end_at + timedelta(days=9)).isoformat(),
        "end_at": (shift.end_at + timedelta(days=9, hours=1)).isoformat(),
    }
    path = f"/v1/partners/CA/rotas/{desk.rota.id}/overrides"
    assert (await desk.rig.client.post(path, json=override, headers=desk.manager)).status_code == 201
    swap = (await desk.offer(ann, taker)).json()
    assert swap["double_duty"] == [other.name]
    refused = await desk.answer(swap, "acceptance", desk.people[taker])
    assert (refused.status_code, refused.json()["code"]) == (409, "double_duty")
    assert other.name in refused.json()["detail"]
    assert (await desk.answer(swap, "acceptance", desk.people[taker], force=True)).status_code == 403
    forced = await desk.answer(swap, "acceptance", desk.manager, force=True, on_behalf_of=str(taker))
    assert (forced.status_code, forced.json()["accepted_by"]["contact_id"]) == (200, str(taker))
    said = (await desk.record())["swap.accepted"]
    assert (said["forced"], said["on_behalf"]) == (True, True)


async def test_a_roster_manager_offers_on_behalf(desk: Desk) -> None:
    """The record says that it was on behalf; without the role nobody offers for somebody else."""
    ann, bob, _ = desk.rota.layers[0].participants
    foreign = await desk.offer(ann, bob, headers=desk.people[bob], offered_by=str(ann))
    assert (foreign.status_code, foreign.json()["code"]) == (403, "role_missing")
    made = await desk.offer(ann, bob, headers=desk.manager, offered_by=str(ann))
    assert (made.status_code, made.json()["offered_by"]["contact_id"]) == (201, str(ann))
    assert (await desk.record())["swap.offered"]["on_behalf"] is True


async def test_a_dry_run_stores_nothing_and_tells_nobody(desk: Desk) -> None:
    """It answers what would be offered, or refuses as the offer would be."""
    ann, bob, _ = desk.rota.layers[0].participants
    shown = await desk.offer(ann, bob, query={"dry_run": "true"})
    assert (shown.status_code, shown.json()["state"]) == (200, "offered")
    assert (await desk.rig.count("swaps"), await desk.notices(), await desk.record()) == (0, [], {})
    refused = await desk.offer(ann, bob, shift=desk.coming(bob), query={"dry_run": "true"})
    assert refused.json()["code"] == "shift_not_held"


async def test_the_same_offer_twice(desk: Desk) -> None:
    """With its Idempotency-Key it is one offer; without, the time is offered already."""
    ann, bob, _ = desk.rota.layers[0].participants
    keyed = {**desk.people[ann], "Idempotency-Key": "one"}
    first, second = [await desk.offer(ann, bob, headers=keyed) for _ in range(2)]
    assert (first.status_code, second.status_code, first.content) == (201, 201, second.content)
    third = await desk.offer(ann)
    assert (third.status_code, third.json()["code"]) == (409, "already_offered")
    assert await desk.rig.count("swaps") == 1


async def test_offers_are_limited(desk: Desk) -> None:
    """So many offers of one contact may wait; withdrawing one makes room."""
    ann, bob, _ = desk.rota.layers[0].participants
    shift = desk.coming(ann)

    def piece(number: int) -> Shift:
        start_at = shift.start_at + timedelta(minutes=number)
        return Shift(ann, start_at, start_at + timedelta(minutes=1), shift.origin)

    made = [await desk.offer(ann, bob, shift=piece(number)) for number in range(OPEN_OFFERS_MAX)]
    assert {one.status_code for one in made} == {201}
    refused = await desk.offer(ann, bob, shift=piece(OPEN_OFFERS_MAX))
    assert (refused.status_code, refused.json()["code"]) == (409, "too_many_offers")
    await desk.answer(made[0].json(), "withdrawal", desk.people[ann])
    assert (await desk.offer(ann, bob, shift=piece(OPEN_OFFERS_MAX))).status_code == 201


async def test_wrong_offers_say_what_would_be_right(desk: Desk) -> None:
    """The past, more than a year ahead, oneself, strangers to the rota, and a return without a colleague: 422 each."""
    ann, bob, _ = desk.rota.layers[0].participants
    shift = desk.coming(ann)

    async def fields(to: ContactId | None = bob, **more: Any) -> list[str]:
        refused = await desk.offer(ann, to, **more)
        assert refused.status_code == 422, refused.text
        return [one["field"] for one in refused.json()["errors"]]

    def of(start_at: datetime, end_at: datetime) -> Shift:
        return Shift(ann, start_at, end_at, shift.origin)

    assert await fields(shift=of(desk.rig.clock.now(), shift.end_at)) == ["start_at"]
    assert await fields(shift=of(shift.end_at, shift.start_at)) == ["end_at"]
    too_late = desk.rig.clock.now() + LOOK_AHEAD + timedelta(seconds=1)
    assert await fields(shift=of(shift.start_at, too_late)) == ["end_at"]
    assert await fields(ann) == ["offered_to"]
    assert await fields(desk.state.rotas[1].layers[0].participants[0]) == ["offered_to"]
    back = {"start_at": desk.coming(bob).start_at.isoformat(), "end_at": desk.coming(bob).end_at.isoformat()}
    assert await fields(None, in_return=back) == ["in_return"]


async def test_swaps_of_another_government_are_not_there(desk: Desk) -> None:
    """Listing, reading, offering and answering across governments is the same 404 as for what does not exist."""
    ann, bob, _ = desk.rota.layers[0].participants
    swap = (await desk.offer(ann, bob)).json()
    foreign = await manager_of(desk.rig, "NZ")
    paths = [("GET", "swaps"), ("GET", f"swaps/{swap['id']}"), ("POST", f"swaps/{swap['id']}/acceptance")]
    for method, path in [*paths, ("POST", f"swaps/{swap['id']}/withdrawal")]:
        answer = await desk.rig.client.request(method, f"/v1/partners/CA/{path}", headers=foreign)
        assert answer.status_code == 404, path
    assert (await desk.offer(ann, bob, headers=foreign)).status_code == 404


async def test_each_sees_what_concerns_them(desk: Desk) -> None:
    """Without a reading role a contact lists their own swaps and those open to them; roster managers list all."""
    ann, bob, cat = desk.rota.layers[0].participants
    senior = desk.state.rotas[1].layers[0].participants[0]
    named = (await desk.offer(ann, bob)).json()
    to_all = (await desk.offer(bob)).json()

    async def listed(headers: Headers, **query: Any) -> list[str]:
        answer = await desk.rig.client.get("/v1/partners/CA/swaps", headers=headers, params=query)
        return [one["id"] for one in answer.json()["items"]]

    assert await listed(desk.manager) == [to_all["id"], named["id"]]
    assert await listed(desk.people[ann]) == [to_all["id"], named["id"]]
    assert await listed(desk.people[cat]) == [to_all["id"]]
    assert await listed(desk.people[senior]) == []
    assert await listed(desk.manager, state="accepted") == []
    first = await desk.rig.client.get("/v1/partners/CA/swaps", headers=desk.manager, params={"limit": 1})
    assert await listed(desk.manager, cursor=first.json()["next_cursor"]) == [named["id"]]


async def test_a_system_swaps_for_nobody(desk: Desk) -> None:
    """Whoever is no contact cannot offer for themselves, and says for whom if it may."""
    published = await desk.rig.credentials("CA")
    found = next(one for one in published.credentials if one.kind.value == "system")
    who = (found.subject, found.client_id, "CA", frozenset(found.roles), PrincipalKind.SYSTEM, found.name, None)
    headers = desk.rig.headers(Principal(*who, found.version))
    ann, bob, _ = desk.rota.layers[0].participants
    refused = await desk.offer(ann, bob, headers=headers)
    assert (refused.status_code, refused.json()["code"]) == (403, "not_a_contact")


@pytest.mark.parametrize("hours", [1, -1])
async def test_what_begins_soon_is_urgent(desk: Desk, hours: int) -> None:
    """A notice of a swap that begins within twelve hours goes at once; any other waits for the morning."""
    ann, bob, _ = desk.rota.layers[0].participants
    shift = desk.coming(ann)
    wanted_at = shift.start_at - URGENT_WITHIN + timedelta(hours=hours)
    desk.rig.clock.advance((wanted_at - desk.rig.clock.now()).total_seconds())
    headers = await holder_again(desk, ann)
    assert (await desk.offer(ann, bob, shift=shift, headers=headers)).status_code == 201
    (told,) = await desk.notices()
    assert (told.urgent, told.expires_at) == (hours > 0, shift.start_at)


async def test_a_full_rota_takes_no_swap(desk: Desk) -> None:
    """The limit of overrides holds for swaps, too: refused, and the offer stays open."""
    ann, bob, _ = desk.rota.layers[0].participants
    swap = (await desk.offer(ann, bob)).json()
    rows = ", ".join(
        f"(gen_random_uuid(), 'CA', {place}, '{desk.rota.id}', '{bob}', '2027-06-01', '2027-06-02')"
        for place in range(OVERRIDES_MAX)
    )
    async with desk.rig.database.transaction() as tx:
        columns = "id, partner, place, rota_id, contact_id, start_at, end_at"
        await tx.exec_driver_sql(f"INSERT INTO overrides ({columns}) VALUES {rows}")  # noqa: S608 - our own names
        await tx.exec_driver_sql("UPDATE partners SET version = version + 1 WHERE code = 'CA'")
    refused = await desk.answer(swap, "acceptance", desk.people[bob])
    assert (refused.status_code, refused.json()["code"]) == (409, "too_many_overrides")
    assert (await desk.read(swap))["state"] == "offered"

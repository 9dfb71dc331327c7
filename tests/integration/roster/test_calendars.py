"""Calendars from import to the duty plan, how they fare when their server does not, and rotas as calendars."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest
import pytest_asyncio
from icalendar import Calendar

from services.roster.calendars import handlers, linking
from services.roster.calendars.handlers import patience_after
from services.roster.domain import PartnerState
from services.roster.schedule import IMPORTED_MAX, Rota, on_call, shifts
from shared.contracts import NoticeIssued, Role
from shared.ids import ContactId
from shared.security import Principal, PrincipalKind
from tests.support import receiver as behaviours
from tests.support.cluster import Cluster
from tests.support.receiver import Receiver, status
from tests.support.roster_rig import Rig, applied, roster_rig

Headers = dict[str, str]


@dataclass
class Desk:
    """Canada's duty officers, whose ministry keeps a calendar."""

    rig: Rig
    state: PartnerState
    rota: Rota
    manager: Headers

    @property
    def path(self) -> str:
        """Where the rota's calendars are."""
        return f"/v1/partners/CA/rotas/{self.rota.id}/calendars"

    async def fresh(self) -> Rota:
        """The rota as it is now."""
        state = await self.rig.stored("CA")
        return next(rota for rota in state.rotas if rota.id == self.rota.id)

    async def add(self, *, headers: Headers | None = None, query: Any = None, **body: Any) -> httpx.Response:
        """Imports a file, or subscribes."""
        return await self.rig.client.post(
            self.path, json={"name": "Ministry", **body}, headers=headers or self.manager, params=query or {}
        )

    async def get(self, calendar_id: str) -> Any:
        """A calendar as it is shown."""
        found = await self.rig.client.get(f"{self.path}/{calendar_id}", headers=self.manager)
        assert found.status_code == 200, found.text
        return found.json()

    async def pass_time(self, time: timedelta) -> None:
        """Lets time pass, and what is due be refreshed."""
        self.rig.clock.advance(time.total_seconds())
        self.manager = await headers_of(self.rig, Role.ROSTER_MANAGER)
        while await self.rig.service.loops["calendars"].run_once():
            pass

    async def kinds(self) -> list[str]:
        """What the record says of calendars, in order."""
        rows = await self.rig.rows("SELECT kind FROM record WHERE kind LIKE 'calendar%' ORDER BY recorded_at, id")
        return [row.kind for row in rows]


async def headers_of(rig: Rig, role: Role, partner: str = "CA") -> Headers:
    """The headers of whoever of a partner has this role in the shipped network."""
    published = await rig.credentials(partner)
    found = next(one for one in published.credentials if role in one.roles)
    kind = PrincipalKind(found.kind.value)
    who = (found.subject, found.client_id, partner, frozenset(found.roles), kind, found.name, found.contact_id)
    return rig.headers(Principal(*who, found.version))


async def person(rig: Rig, contact_id: ContactId, role: Role = Role.OBSERVER) -> Headers:
    """The headers of a new credential of this contact."""
    client_id = f"ca-{contact_id}"
    body = {"client_id": client_id, "kind": "person", "contact_id": str(contact_id), "roles": [role.value]}
    made = await rig.client.post("/v1/partners/CA/credentials", json=body, headers=rig.administrator())
    assert made.status_code == 201, made.text
    return await rig.sign_in(client_id, made.json()["secret"])


@pytest_asyncio.fixture
async def desk(cluster: Cluster) -> AsyncIterator[Desk]:
    """The shipped network in an installation that may fetch from loopback."""
    async with roster_rig(cluster, after=applied, development=True, public_url="https://redphone.example") as rig:
        state = await rig.stored("CA")
        rota = next(rota for rota in state.rotas if rota.name == "Duty officers")
        yield Desk(rig, state, rota, await headers_of(rig, Role.ROSTER_MANAGER))


def name_of(desk: Desk, contact_id: ContactId) -> str:
    """A contact's name."""
    return next(contact.name for contact in desk.state.contacts if contact.id == contact_id)


def event(summary: str, start: datetime, hours: int = 12, *more: str, uid: str | None = None) -> str:
    """An event of a ministry's calendar."""
    times = [f"DTSTART:{start:%Y%m%dT%H%M%SZ}", f"DURATION:PT{hours}H"]
    return "\r\n".join(["BEGIN:VEVENT", f"UID:{uid or summary}", f"SUMMARY:{summary}", *times, *more, "END:VEVENT"])


def calendar(*events: str) -> str:
    """A calendar of these events."""
    return "\r\n".join(["BEGIN:VCALENDAR", "VERSION:2.0", *events, "END:VCALENDAR", ""])


def events_of(raw: bytes) -> list[Any]:
    """The events that a calendar program finds."""
    return list(Calendar.from_ical(raw).walk("VEVENT"))


# --- a file -----------------------------------------------------------------------------------------------------------


async def test_a_file_becomes_shifts_that_are_paged(desk: Desk) -> None:
    """Who the ministry's calendar names holds the rota, the next plan says so, and the record counts it once."""
    ann, bob, *_ = desk.rota.layers[0].participants
    start = desk.rig.clock.now() + timedelta(days=2)
    text = calendar(
        event(f"Duty – {name_of(desk, bob)}", start),
        event("Night: B. N.", start + timedelta(hours=12), uid="night"),
        event("Somebody else", start + timedelta(days=2)),
        "BEGIN:VEVENT\r\nUID:x\r\nDTSTART;TZID=Nowhere:20261101T080000\r\nDURATION:PT1H\r\nEND:VEVENT",
    )
    made = await desk.add(text=text, mapping=[{"match": "b. n.", "contact_id": str(ann)}])
    assert made.status_code == 201, made.text
    shown = made.json()
    assert made.headers["Location"] == f"{desk.path}/{shown['id']}"
    assert made.headers["ETag"] == '"1"'
    assert (shown["source"], shown["url"]) == ("file", None)
    assert (shown["events"], shown["shifts"], shown["unmapped_count"]) == (3, 2, 1)
    assert [(one["summary"], one["reason"]) for one in shown["unmapped"]] == [("Somebody else", "unknown_person")]
    assert [fault["code"] for fault in shown["faults"]] == ["unknown_time_zone"]
    rota = await desk.fresh()
    held = on_call(rota, start)
    assert held is not None
    assert (held.contact_id, held.start_at) == (bob, start.replace(microsecond=0))
    night = on_call(rota, start + timedelta(hours=13))
    assert night is not None
    assert night.contact_id == ann
    await desk.rig.publish_plans()
    planned = next(one for one in (await desk.rig.plan("CA")).rotas if one.id == rota.id)
    assert (bob, held.start_at) in {(one.contact_id, one.start_at) for one in planned.shifts}
    assert sorted(await desk.kinds()) == ["calendar.added", "calendar.imported"]
    assert await desk.get(shown["id"]) == shown
    listed = await desk.rig.client.get(desk.path, headers=desk.manager)
    assert listed.json() == {"items": [shown]}


async def test_a_preview_stores_nothing(desk: Desk) -> None:
    """With dry_run the shifts and what they change are shown, and everything stays as it was."""
    bob = desk.rota.layers[0].participants[1]
    start = desk.rig.clock.now() + timedelta(days=1)
    before = await desk.rig.dump()
    seen = await desk.add(text=calendar(event(name_of(desk, bob), start, 24 * 5)), query={"dry_run": "true"})
    assert seen.status_code == 200, seen.text
    shown = seen.json()
    assert [one["contact_id"] for one in shown["brings"]] == [str(bob)]
    assert {one["after"] for one in shown["preview"]["changes"]} == {str(bob)}
    assert str(bob) not in {one["before"] for one in shown["preview"]["changes"]}
    assert "ETag" not in seen.headers
    assert await desk.rig.dump() == before


async def test_the_same_key_imports_once(desk: Desk) -> None:
    """A retry with the same Idempotency-Key gets the first answer and no second calendar."""
    text = calendar(event(name_of(desk, desk.rota.layers[0].participants[0]), desk.rig.clock.now()))
    headers = {**desk.manager, "Idempotency-Key": "once"}
    first, second = await desk.add(text=text, headers=headers), await desk.add(text=text, headers=headers)
    assert (first.status_code, first.json()) == (second.status_code, second.json())
    assert await desk.rig.count("calendars") == 1


async def test_the_mapping_is_corrected(desk: Desk) -> None:
    """A new mapping maps again what was last read; an edit that has not seen the newest version is refused."""
    ann = desk.rota.layers[0].participants[0]
    start = desk.rig.clock.now() + timedelta(days=1)
    made = (await desk.add(text=calendar(event("A. E.", start)))).json()
    assert made["shifts"] == 0
    path = f"{desk.path}/{made['id']}"
    body = {"mapping": [{"match": "A. E.", "contact_id": str(ann)}]}
    unseen = await desk.rig.client.put(path, json=body, headers=desk.manager)
    assert unseen.json()["code"] == "precondition_required"
    seen = {**desk.manager, "If-Match": '"1"'}
    tried = await desk.rig.client.put(path, json=body, headers=seen, params={"dry_run": "true"})
    assert (tried.status_code, tried.json()["shifts"]) == (200, 1)
    assert (await desk.get(made["id"]))["shifts"] == 0
    edited = await desk.rig.client.put(path, json=body, headers=seen)
    assert (edited.status_code, edited.json()["shifts"], edited.headers["ETag"]) == (200, 1, '"2"')
    assert edited.json()["mapping"] == body["mapping"]
    again = await desk.rig.client.put(path, json={"name": "Other"}, headers=seen)
    assert again.json()["code"] == "precondition_failed"
    held = on_call(await desk.fresh(), start + timedelta(minutes=1))
    assert held is not None
    assert held.contact_id == ann


async def test_a_newer_file_takes_the_place_of_the_old_one(desk: Desk) -> None:
    """What the newer file does not name goes, what it still names stays the same shift."""
    ann, bob, *_ = desk.rota.layers[0].participants
    start = desk.rig.clock.now() + timedelta(days=1)
    both = [event(name_of(desk, ann), start), event(name_of(desk, bob), start + timedelta(days=1))]
    made = (await desk.add(text=calendar(*both))).json()
    before = {shift.contact_id: shift.id for shift in (await desk.fresh()).imported}
    seen = {**desk.manager, "If-Match": '"1"'}
    path = f"{desk.path}/{made['id']}"
    assert (await desk.rig.client.put(path, json={"text": calendar(both[1])}, headers=seen)).status_code == 200
    assert {shift.contact_id: shift.id for shift in (await desk.fresh()).imported} == {bob: before[bob]}


async def test_a_newer_file_is_never_lost_to_a_refresh(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is replaced while the old one is being read again stays: what was read is not the newest any more."""
    ann, bob, *_ = desk.rota.layers[0].participants
    start = desk.rig.clock.now() + timedelta(days=1)
    made = (await desk.add(text=calendar(event(name_of(desk, ann), start)))).json()
    path = f"{desk.path}/{made['id']}"
    read, newer = handlers.read, calendar(event(name_of(desk, bob), start))

    async def overtaken(*given: Any) -> Any:
        monkeypatch.setattr(handlers, "read", read)
        seen = {**desk.manager, "If-Match": "*"}
        assert (await desk.rig.client.put(path, json={"text": newer}, headers=seen)).status_code == 200
        return await read(*given)

    monkeypatch.setattr(handlers, "read", overtaken)
    assert (await desk.rig.client.post(f"{path}/refresh", headers=desk.manager)).status_code == 200
    assert [shift.contact_id for shift in (await desk.fresh()).imported] == [bob]
    assert (await desk.rig.client.post(f"{path}/refresh", headers=desk.manager)).status_code == 200
    assert [shift.contact_id for shift in (await desk.fresh()).imported] == [bob]


async def test_one_that_cannot_be_opened_is_put_off_and_shown(desk: Desk) -> None:
    """It is tried hourly and not at once again, says that it fails, keeps its shifts, and a good file ends that."""
    ann = desk.rota.layers[0].participants[0]
    text = calendar(event(name_of(desk, ann), desk.rig.clock.now() + timedelta(days=30)))
    made = (await desk.add(text=text)).json()
    path = f"{desk.path}/{made['id']}"
    async with desk.rig.database.transaction() as tx:
        await tx.exec_driver_sql("UPDATE calendars SET encrypted_content = 'nobody can open this'")
    await desk.pass_time(timedelta(hours=2))
    shown = await desk.get(made["id"])
    assert shown["reason"] == "internal"
    assert len((await desk.fresh()).imported) == 1
    assert await desk.rig.service.loops["calendars"].run_once() == 0
    await desk.pass_time(timedelta(hours=1))
    assert await desk.rig.count("calendars WHERE failures = 2") == 1
    async with desk.rig.database.transaction() as tx:
        await tx.exec_driver_sql("UPDATE calendars SET encrypted_content = NULL")
    mended = await desk.rig.client.put(path, json={"text": text}, headers={**desk.manager, "If-Match": "*"})
    assert (mended.status_code, mended.json()["failing_since"], mended.json()["reason"]) == (200, None, None)
    assert [kind for kind in await desk.kinds() if kind in ("calendar.failing", "calendar.recovered")] == [
        "calendar.failing",
        "calendar.recovered",
    ]


async def test_removing_takes_the_shifts_away(desk: Desk) -> None:
    """Without its calendar the rota is what it was; with dry_run it is only shown."""
    bob = desk.rota.layers[0].participants[1]
    now = desk.rig.clock.now()
    made = (await desk.add(text=calendar(event(name_of(desk, bob), now, 24 * 9)))).json()
    path = f"{desk.path}/{made['id']}"
    seen = {**desk.manager, "If-Match": '"1"'}
    tried = await desk.rig.client.delete(path, headers=seen, params={"dry_run": "true"})
    assert {one["before"] for one in tried.json()["preview"]["changes"]} == {str(bob)}
    assert len((await desk.fresh()).imported) == 1
    assert (await desk.rig.client.delete(path, headers=seen)).status_code == 200
    assert await desk.fresh() == desk.rota
    assert (await desk.rig.client.get(path, headers=desk.manager)).status_code == 404
    assert "calendar.removed" in await desk.kinds()


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"text": "<html>Sign in</html>"}, "not_a_calendar"),
    ({"text": ""}, "calendar_empty"),
    ({}, "invalid"),
    ({"text": "x", "url": "https://calendar.example/x.ics"}, "invalid"),
    ({"url": "ftp://calendar.example/x.ics"}, "invalid"),
    ({"url": "https://user:secret@calendar.example/x.ics"}, "invalid"),
    ({"text": "x", "mapping": [{"match": "A", "contact_id": str(UUID(int=1))}]}, "invalid"),
    ({"text": "x", "unknown": 1}, "invalid"),
    ({"text": "x", "name": "\u0007"}, "invalid"),
    ({"text": "x", "name": "yrtsinim\u202e"}, "invalid"),
    ({"text": "x", "name": "x" * 101}, "invalid"),
    ({"text": "x", "mapping": [{"match": " ", "contact_id": str(UUID(int=1))}]}, "invalid"),
    ({"text": "x", "mapping": [{"match": "A", "contact_id": str(UUID(int=1))}] * 201}, "invalid"),
]


async def test_what_is_refused(desk: Desk) -> None:
    """What is no calendar, no address and no mapping is refused with its reason, and nothing of it is repeated."""
    for body, code in REFUSED:
        refused = await desk.add(**body)
        assert (refused.status_code, refused.json()["code"]) == (422, code), body
        assert "secret" not in refused.text
    assert await desk.rig.count("calendars") == 0


async def test_too_many_calendars(desk: Desk) -> None:
    """A rota has a limited number of calendars, and of their shifts."""
    for _ in range(handlers.ROTA_CALENDARS_MAX):
        assert (await desk.add(text=calendar())).status_code == 201
    refused = await desk.add(text=calendar())
    assert (refused.status_code, refused.json()["code"]) == (409, "too_many_calendars")
    found = (await desk.rig.client.get(desk.path, headers=desk.manager)).json()["items"][0]
    name, now = name_of(desk, desk.rota.layers[0].participants[0]), desk.rig.clock.now()
    many = [event(name, now + timedelta(hours=n), 1, uid=str(n)) for n in range(IMPORTED_MAX + 1)]
    seen = {**desk.manager, "If-Match": '"1"'}
    path = f"{desk.path}/{found['id']}"
    full = await desk.rig.client.put(path, json={"text": calendar(*many)}, headers=seen)
    assert (full.status_code, full.json()["code"]) == (422, "invalid")
    assert (await desk.rig.client.put(path, json={"text": calendar(*many[1:])}, headers=seen)).status_code == 200
    assert len((await desk.fresh()).imported) == IMPORTED_MAX


async def test_whose_calendars_they_are(desk: Desk) -> None:
    """Only roster managers write; whoever reads the roster reads them; to other governments they are not there."""
    made = (await desk.add(text=calendar())).json()
    path = f"{desk.path}/{made['id']}"
    officer, other = (
        await headers_of(desk.rig, Role.DUTY_OFFICER),
        await headers_of(desk.rig, Role.ROSTER_MANAGER, "IT"),
    )
    assert (await desk.rig.client.get(path, headers=officer)).status_code == 200
    assert (await desk.add(text=calendar(), headers=officer)).json()["code"] == "role_missing"
    assert (await desk.rig.client.post(f"{path}/refresh", headers=officer)).json()["code"] == "role_missing"
    for found in (
        await desk.rig.client.get(desk.path, headers=other),
        await desk.rig.client.get(path, headers=other),
        await desk.add(text=calendar(), headers=other),
        await desk.rig.client.put(path, json={"name": "x"}, headers={**other, "If-Match": "*"}),
        await desk.rig.client.delete(path, headers={**other, "If-Match": "*"}),
        await desk.rig.client.post(f"{path}/refresh", headers=other),
        await desk.rig.client.get(f"{desk.path}/{UUID(int=5)}", headers=desk.manager),
        await desk.rig.client.delete(f"{desk.path}/{UUID(int=5)}", headers={**desk.manager, "If-Match": "*"}),
    ):
        assert (found.status_code, found.json()["code"]) == (404, "not_found")


async def test_what_recurs_is_always_known_ahead(desk: Desk) -> None:
    """A file is read again every day, so that what recurs reaches as far ahead as ever, and last month stays."""
    name, now = name_of(desk, desk.rota.layers[0].participants[0]), desk.rig.clock.now()
    made = (await desk.add(text=calendar(event(name, now, 1, "RRULE:FREQ=WEEKLY")))).json()
    last = (await desk.fresh()).imported[-1]
    for _ in range(4):
        await desk.pass_time(timedelta(days=7, minutes=1))
    imported = (await desk.fresh()).imported
    assert imported[0].start_at == now.replace(microsecond=0)
    assert imported[-1].start_at > last.start_at + timedelta(days=20)
    assert (await desk.get(made["id"]))["version"] == 1


async def test_new_contacts_are_found_in_what_is_there(desk: Desk) -> None:
    """Whoever becomes a contact holds what the calendar says of them within the hour, without a new file."""
    start = desk.rig.clock.now() + timedelta(days=1)
    made = (await desk.add(text=calendar(event("Nova Nouvelle", start)))).json()
    assert made["shifts"] == 0
    body = {"name": "Nova Nouvelle"}
    added = await desk.rig.client.post("/v1/partners/CA/contacts", json=body, headers=desk.manager)
    assert added.status_code == 201, added.text
    await desk.pass_time(timedelta(minutes=75))
    assert [str(shift.contact_id) for shift in (await desk.fresh()).imported] == [added.json()["id"]]


async def test_a_contact_leaves(desk: Desk) -> None:
    """Whom a calendar counts on cannot be removed; whom it only names in the past can, and the past goes with them."""
    body = {"name": "Nova Nouvelle"}
    nova = (await desk.rig.client.post("/v1/partners/CA/contacts", json=body, headers=desk.manager)).json()["id"]
    await desk.add(text=calendar(event("Nova Nouvelle", desk.rig.clock.now() + timedelta(hours=1), 2)))
    path = f"/v1/partners/CA/contacts/{nova}"
    refused = await desk.rig.client.delete(path, headers={**desk.manager, "If-Match": "*"})
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid")
    desk.rig.clock.advance(4 * 3600)
    desk.manager = await headers_of(desk.rig, Role.ROSTER_MANAGER)
    removed = await desk.rig.client.delete(path, headers={**desk.manager, "If-Match": "*"})
    assert removed.status_code == 200, removed.text
    assert (await desk.fresh()).imported == ()


# --- a subscription ---------------------------------------------------------------------------------------------------


async def test_a_subscription_follows_the_ministry(desk: Desk) -> None:
    """What the ministry changes is on duty within the hour; what has not changed is not fetched again."""
    ann, bob, *_ = desk.rota.layers[0].participants
    start = desk.rig.clock.now() + timedelta(days=1)
    first, second = (calendar(event(name_of(desk, one), start, uid="one")).encode() for one in (ann, bob))
    async with Receiver(status(200, headers=[("ETag", '"a"')], body=first)) as server:
        made = await desk.add(url=server.url)
        assert made.status_code == 201, made.text
        shown = made.json()
        assert (shown["source"], shown["url"]) == ("subscription", f"http://127.0.0.1:{server.port}/…")
        server.behaviour = status(304)
        await desk.pass_time(timedelta(minutes=75))
        assert server.requests[-1].headers["if-none-match"] == '"a"'
        assert len(server.requests) == 2
        server.behaviour = status(200, headers=[("ETag", '"b"')], body=second)
        await desk.pass_time(timedelta(minutes=75))
        held = on_call(await desk.fresh(), start + timedelta(minutes=1))
        assert held is not None
        assert held.contact_id == bob
        assert (await desk.get(shown["id"]))["failing_since"] is None
        dump = await desk.rig.dump()
    assert "/hook" not in dump, "the address of a subscription lies in the database in clear"
    assert name_of(desk, bob).encode() not in b"".join(
        str(row).encode() for row in await desk.rig.rows("SELECT * FROM calendars")
    )


async def test_a_subscription_that_fails_keeps_its_shifts(desk: Desk) -> None:
    """The last shifts stay, the trouble is shown, its server is asked ever more rarely, and one notice goes out."""
    bob = desk.rota.layers[0].participants[1]
    start = desk.rig.clock.now() + timedelta(days=3)
    text = calendar(event(name_of(desk, bob), start)).encode()
    async with Receiver(status(200, body=text)) as server:
        made = (await desk.add(url=server.url)).json()
        server.behaviour = status(404)
        await desk.pass_time(timedelta(minutes=75))
        failing = await desk.get(made["id"])
        assert (failing["reason"], failing["detail"]) == ("http_status", "HTTP 404")
        assert failing["failing_since"] is not None
        asked = len(server.requests)
        for _ in range(22):
            await desk.pass_time(timedelta(hours=1))
        assert len(server.requests) - asked <= 10
        assert await desk.rig.events(NoticeIssued, "CA") == []
        for _ in range(12):
            await desk.pass_time(timedelta(hours=1))
        (notice,) = [one for one in await desk.rig.events(NoticeIssued, "CA") if one.kind == "calendar_trouble"]
        assert (notice.facts["reason"], notice.facts["rota"]) == ("http_status", "Duty officers")
        assert notice.contact_ids or notice.to_office
        assert [shift.contact_id for shift in (await desk.fresh()).imported] == [bob]
        server.behaviour = status(200, body=text)
        again = await desk.rig.client.post(f"{desk.path}/{made['id']}/refresh", headers=desk.manager)
        assert (again.json()["failing_since"], again.json()["reason"]) == (None, None)
    kinds = await desk.kinds()
    assert kinds.count("calendar.failing") == 1
    assert kinds.count("calendar.recovered") == 1


EMPTIED = [
    (b"<!doctype html><html>Sign in</html>", "not_a_calendar"),
    (calendar().encode(), "calendar_emptied"),
    (calendar(event("Nobody that we know", datetime(2026, 10, 25, tzinfo=UTC))).encode(), "calendar_emptied"),
    (b"BEGIN:VCALENDAR\r\nBEGIN:VEVENT\r\nDTSTART", "truncated"),
    (b"", "calendar_empty"),
]


async def test_a_subscription_that_is_suddenly_empty(desk: Desk) -> None:
    """A server that gives a web page, half a calendar or none of our people changes nobody's duty."""
    bob = desk.rota.layers[0].participants[1]
    start = desk.rig.clock.now() + timedelta(days=3)
    async with Receiver(status(200, body=calendar(event(name_of(desk, bob), start)).encode())) as server:
        made = (await desk.add(url=server.url)).json()
        for body, reason in EMPTIED:
            server.behaviour = status(200, body=body)
            refreshed = await desk.rig.client.post(f"{desk.path}/{made['id']}/refresh", headers=desk.manager)
            assert refreshed.json()["reason"] == reason
            assert [shift.contact_id for shift in (await desk.fresh()).imported] == [bob]


async def test_what_cannot_be_fetched_is_not_subscribed_to(desk: Desk) -> None:
    """An address that does not answer is refused at once, with why and without repeating it."""
    async with Receiver(behaviours.disconnect) as server:
        refused = await desk.add(url=f"{server.url}?secret=1")
        assert (refused.status_code, refused.json()["code"]) == (422, "calendar_not_fetched")
        assert "secret" not in refused.text


async def test_production_subscribes_to_the_public_internet_alone(cluster: Cluster) -> None:
    """Without the development switch neither http nor an address inside is accepted."""
    async with roster_rig(cluster, after=applied) as rig:
        state = await rig.stored("CA")
        desk = Desk(rig, state, state.rotas[0], await headers_of(rig, Role.ROSTER_MANAGER))
        for url in ("http://calendar.example/x.ics", "https://127.0.0.1/x.ics", "webcal://169.254.169.254/x.ics"):
            refused = await desk.add(url=url)
            assert (refused.status_code, refused.json()["code"]) == (422, "invalid")


async def test_a_calendar_whose_rota_is_gone(desk: Desk) -> None:
    """It is forgotten, and nothing is fetched for it any more."""
    bodies = {"name": "Spare", "time_zone": "America/Toronto", "layers": []}
    made = await desk.rig.client.post("/v1/partners/CA/rotas", json=bodies, headers=desk.manager)
    assert made.status_code == 201, made.text
    path = f"/v1/partners/CA/rotas/{made.json()['id']}"
    async with Receiver(status(200, body=calendar().encode())) as server:
        body = {"name": "Ministry", "url": server.url}
        assert (await desk.rig.client.post(f"{path}/calendars", json=body, headers=desk.manager)).status_code == 201
        assert (await desk.rig.client.delete(path, headers={**desk.manager, "If-Match": "*"})).status_code == 200
        await desk.pass_time(timedelta(hours=2))
        assert len(server.requests) == 1
    assert await desk.rig.count("calendars") == 0


async def test_no_two_processes_read_the_same_calendar(desk: Desk) -> None:
    """What one pass has taken is nobody else's until its time is over."""
    async with Receiver(status(200, body=calendar().encode())) as server:
        await desk.add(url=server.url)
        desk.rig.clock.advance(7200)
        server.behaviour = behaviours.hang
        taken = await desk.rig.rows(
            "SELECT count(*) AS n FROM calendars WHERE next_at <= :now", now=desk.rig.clock.now()
        )
        assert taken[0].n == 1
        running = asyncio.ensure_future(desk.rig.service.loops["calendars"].run_once())
        await server.wait_for(lambda one: len(one.requests) == 2)
        assert await desk.rig.service.loops["calendars"].run_once() == 0
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


def test_patience() -> None:
    """A calendar that fails is asked again soon, then ever more rarely, and at least every six hours."""
    minutes = [patience_after(failures).total_seconds() / 60 for failures in (1, 2, 3, 8, 1000)]
    assert minutes == [5, 10, 20, 360, 360]


# --- rotas as calendars -----------------------------------------------------------------------------------------------


async def test_shifts_as_a_file(desk: Desk) -> None:
    """The file holds the shifts that paging computes, without a number or an address of anybody."""
    now = desk.rig.clock.now()
    query = {"from": now.isoformat(), "to": (now + timedelta(days=14)).isoformat(), "rota": str(desk.rota.id)}
    found = await desk.rig.client.get("/v1/partners/CA/shifts.ics", params=query, headers=desk.manager)
    assert found.status_code == 200, found.text
    assert found.headers["Content-Type"] == "text/calendar; charset=utf-8"
    assert found.headers["Content-Disposition"].startswith("attachment")
    events = [(one["DTSTART"].dt, one["DTEND"].dt) for one in events_of(found.content)]
    assert events == [(one.start_at, one.end_at) for one in shifts(desk.rota, now, now + timedelta(days=14))]
    points = [point.address for contact in desk.state.contacts for point in contact.points]
    assert not any(address in found.text for address in points)
    one = {**query, "contact": str(desk.rota.layers[0].participants[0])}
    own = await desk.rig.client.get("/v1/partners/CA/shifts.ics", params=one, headers=desk.manager)
    assert 0 < own.text.count("BEGIN:VEVENT") < found.text.count("BEGIN:VEVENT")
    for wrong, code in (
        ({"rota": str(UUID(int=1))}, 404),
        ({"contact": str(UUID(int=1))}, 404),
        ({"to": query["from"]}, 422),
    ):
        refused = await desk.rig.client.get(
            "/v1/partners/CA/shifts.ics", params={**query, **wrong}, headers=desk.manager
        )
        assert refused.status_code == code
    other = await headers_of(desk.rig, Role.ROSTER_MANAGER, "IT")
    assert (await desk.rig.client.get("/v1/partners/CA/shifts.ics", params=query, headers=other)).status_code == 404


async def test_what_is_exported_can_be_imported(desk: Desk) -> None:
    """A rota's file, imported into the same rota, changes nothing of who answers."""
    now = desk.rig.clock.now()
    window = (now, now + timedelta(days=60))
    query = {"from": now.isoformat(), "to": window[1].isoformat(), "rota": str(desk.rota.id)}
    exported = await desk.rig.client.get("/v1/partners/CA/shifts.ics", params=query, headers=desk.manager)
    made = await desk.add(text=exported.text)
    assert made.status_code == 201, made.text
    assert made.json()["unmapped_count"] == 0
    told = [(one.contact_id, one.start_at, one.end_at) for one in shifts(desk.rota, *window)]
    assert [(one.contact_id, one.start_at, one.end_at) for one in shifts(await desk.fresh(), *window)] == told


async def test_a_private_address(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever has it reads one's own shifts without signing in, until it is revoked; then it is as if it never was."""
    ann = desk.rota.layers[0].participants[0]
    own = await person(desk.rig, ann)
    made = await desk.rig.client.post("/v1/partners/CA/calendar-links", json={}, headers=own)
    assert made.status_code == 201, made.text
    url = made.json()["url"]
    assert url.startswith("https://redphone.example/v1/calendars/")
    path = url.removeprefix("https://redphone.example")
    read = await desk.rig.client.get(path)
    assert read.status_code == 200, read.text
    assert read.headers["Content-Type"] == "text/calendar; charset=utf-8"
    assert "(vous" in read.text or "(you" in read.text
    assert name_of(desk, ann) not in read.text
    same = await desk.rig.client.get(path, headers={"If-None-Match": read.headers["ETag"]})
    assert (same.status_code, same.content) == (304, b"")
    token = path.rsplit("/", 1)[1].removesuffix(".ics")
    assert token not in await desk.rig.dump()
    logged = capsys.readouterr()
    assert "/v1/calendars/{token}.ics" in logged.out
    assert token not in logged.out + logged.err
    assert (await desk.rig.client.head(path)).status_code == 200
    listed = (await desk.rig.client.get("/v1/calendar-links", headers=own)).json()["items"]
    assert [(one["id"], "url" in one) for one in listed] == [(made.json()["id"], False)]
    assert listed[0]["used_at"] is not None
    revoke = f"/v1/calendar-links/{made.json()['id']}"
    assert (await desk.rig.client.delete(revoke, headers=own)).status_code == 200
    assert (await desk.rig.client.delete(revoke, headers=own)).status_code == 200
    gone, never = await desk.rig.client.get(path), await desk.rig.client.get("/v1/calendars/never-was.ics")
    assert gone.status_code == never.status_code == 404
    assert {**gone.json(), "instance": ""} == {**never.json(), "instance": ""}
    assert (await desk.rig.client.get("/v1/calendar-links", headers=own)).json()["items"] == []
    assert (await desk.kinds()).count("calendar_link.revoked") == 1


async def test_a_change_of_the_roster_is_a_new_calendar(desk: Desk) -> None:
    """Whoever subscribes to a rota sees a swap when they ask again, as a newer version of the same event."""
    body = {"rota_id": str(desk.rota.id)}
    made = await desk.rig.client.post("/v1/partners/CA/calendar-links", json=body, headers=desk.manager)
    path = made.json()["url"].removeprefix("https://redphone.example")
    first = await desk.rig.client.get(path)
    shift = shifts(desk.rota, desk.rig.clock.now() + timedelta(days=2), desk.rig.clock.now() + timedelta(days=30))[1]
    stands_in = next(one for one in desk.rota.layers[0].participants if one != shift.contact_id)
    override = {
        "contact_id": str(stands_in),
        "start_at": shift.start_at.isoformat(),
        "end_at": shift.end_at.isoformat(),
    }
    overrides = f"/v1/partners/CA/rotas/{desk.rota.id}/overrides"
    assert (await desk.rig.client.post(overrides, json=override, headers=desk.manager)).status_code == 201
    second = await desk.rig.client.get(path, headers={"If-None-Match": first.headers["ETag"]})
    assert second.status_code == 200
    found = [
        next(one for one in events_of(answer.content) if one["DTSTART"].dt == shift.start_at)
        for answer in (first, second)
    ]
    assert found[0]["UID"] == found[1]["UID"]
    assert found[0]["SEQUENCE"] < found[1]["SEQUENCE"]
    assert name_of(desk, stands_in) in str(found[1]["SUMMARY"])


async def test_who_makes_private_addresses(desk: Desk) -> None:
    """One's own for oneself; for rotas and for others roster managers alone; for other governments nobody."""
    ann, bob, *_ = desk.rota.layers[0].participants
    own, other = await person(desk.rig, ann), await headers_of(desk.rig, Role.ROSTER_MANAGER, "IT")
    path = "/v1/partners/CA/calendar-links"

    async def tried(headers: Headers, **body: str) -> int:
        return (await desk.rig.client.post(path, json=body, headers=headers)).status_code

    assert await tried(own, contact_id=str(ann)) == 201
    assert await tried(own, contact_id=str(bob)) == 403
    assert await tried(own, rota_id=str(desk.rota.id)) == 403
    assert await tried(desk.manager, contact_id=str(bob), rota_id=str(desk.rota.id)) == 201
    assert await tried(desk.manager, contact_id=str(UUID(int=1))) == 404
    assert await tried(desk.manager, rota_id=str(UUID(int=1))) == 404
    assert await tried(other) == 404
    assert len((await desk.rig.client.get("/v1/calendar-links", headers=own)).json()["items"]) == 1
    listed = (await desk.rig.client.get("/v1/calendar-links", headers=desk.manager)).json()["items"]
    assert len(listed) == 2
    theirs = next(one["id"] for one in listed if one["contact_id"] == str(bob))
    for headers in (own, other):
        assert (await desk.rig.client.delete(f"/v1/calendar-links/{theirs}", headers=headers)).status_code == 404
    assert (await desk.rig.client.delete(f"/v1/calendar-links/{theirs}", headers=desk.manager)).status_code == 200


async def test_too_many_private_addresses(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A government has a limited number of them open."""
    monkeypatch.setattr(linking, "LINKS_MAX", 2)
    body = {"rota_id": str(desk.rota.id)}
    path = "/v1/partners/CA/calendar-links"
    answers = [await desk.rig.client.post(path, json=body, headers=desk.manager) for _ in range(3)]
    assert [one.status_code for one in answers] == [201, 201, 409]
    assert answers[-1].json()["code"] == "too_many_calendar_links"


async def test_private_addresses_end_with_what_they_show(desk: Desk) -> None:
    """The address of a rota that is gone, or of a partner that takes no part any more, answers as if it never was."""
    bodies = {"name": "Spare", "time_zone": "America/Toronto", "layers": []}
    rota = (await desk.rig.client.post("/v1/partners/CA/rotas", json=bodies, headers=desk.manager)).json()["id"]
    paths = []
    for body in ({"rota_id": rota}, {"rota_id": str(desk.rota.id)}):
        made = await desk.rig.client.post("/v1/partners/CA/calendar-links", json=body, headers=desk.manager)
        paths.append(made.json()["url"].removeprefix("https://redphone.example"))
    assert [(await desk.rig.client.get(path)).status_code for path in paths] == [200, 200]
    gone = await desk.rig.client.delete(f"/v1/partners/CA/rotas/{rota}", headers={**desk.manager, "If-Match": "*"})
    assert gone.status_code == 200, gone.text
    assert [(await desk.rig.client.get(path)).status_code for path in paths] == [404, 200]
    ended = await desk.rig.client.patch(
        "/v1/partners/CA", json={"active": False}, headers={**desk.rig.administrator(), "If-Match": "*"}
    )
    assert ended.status_code == 200, ended.text
    assert [(await desk.rig.client.get(path)).status_code for path in paths] == [404, 404]

"""Rich rotas over HTTP: what is sent comes back and is paged, several editors do not overwrite each other, previews."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from typing import Any

import httpx
import pytest
import pytest_asyncio

from services.roster.schedule import OVERRIDES_MAX, REPLACEMENTS_MAX, rules
from shared.contracts import Role
from tests.integration.roster.test_api import get, manager, signed_in
from tests.support.cluster import Cluster
from tests.support.roster_rig import NOW, Rig, applied, roster_rig


@pytest_asyncio.fixture
async def rig(cluster: Cluster) -> AsyncIterator[Rig]:
    """The service with the shipped network."""
    async with roster_rig(cluster, after=applied) as made:
        yield made


def at(hours: float) -> str:
    """An instant so many hours after the present."""
    return (NOW + timedelta(hours=hours)).isoformat()


async def send(
    rig: Rig, method: str, path: str, body: Any = None, *, partner: str = "CA", **query: Any
) -> httpx.Response:
    """A write by the partner's roster manager, who has seen the newest version."""
    headers = await manager(rig, partner)
    etag = (await get(rig, f"/v1/partners/{partner}", headers)).headers["ETag"]
    return await rig.client.request(
        method, f"/v1/partners/{partner}/{path}", json=body, headers={**headers, "If-Match": etag}, params=query
    )


async def people(rig: Rig, partner: str = "CA") -> list[str]:
    """The ids of the partner's contacts."""
    return [str(contact.id) for contact in (await rig.stored(partner)).contacts]


async def rich_rota(rig: Rig) -> dict[str, Any]:
    """A rota with everything that a request can say."""
    first, second, third = (await people(rig))[:3]
    return {
        "name": "Watch",
        "time_zone": "America/Toronto",
        "layers": [
            {
                "name": "holidays",
                "rotation": "rule",
                "rule": "FREQ=WEEKLY;BYDAY=MO,FR",
                "participants": [third],
                "deputies": [first],
                "starts_on": "2026-10-05",
                "hand_over_time": "08:00",
                "on_holidays": "only",
            },
            {
                "name": "nights",
                "rotation": "hourly",
                "every": 12,
                "participants": [first, second],
                "deputies": [second, third],
                "starts_on": "2026-10-01",
                "hand_over_time": "08:00",
                "ends_on": "2027-10-01",
                "time_zone": "America/Halifax",
                "restrictions": [
                    {"weekdays": ["mo", "su"], "from_time": "20:00", "until_time": "06:00"},
                    {"from_time": "12:00", "until_time": "13:00"},
                ],
            },
            {
                "name": "always",
                "rotation": "weekly",
                "participants": [second],
                "starts_on": "2026-10-05",
                "hand_over_time": "08:00",
            },
        ],
        "holiday_calendar": "CA-QC",
        "extra_holidays": [{"on": "2026-10-22", "name": "Founding day"}],
        "signs_hand_over": True,
        "notice_hours": [48, 2],
    }


def said(shown: Any, sent: Any) -> Any:
    """Of what is shown, the part that was sent."""
    if isinstance(sent, dict):
        return {name: said(shown[name], part) for name, part in sent.items()}
    if isinstance(sent, list):
        return [said(one, part) for one, part in zip(shown, sent, strict=True)]
    return shown


async def test_a_rich_rota_comes_back_and_is_paged(rig: Rig) -> None:
    """All fields of a rota are shown as they were sent, and its shifts are published with deputies."""
    body = await rich_rota(rig)
    made = await send(rig, "POST", "rotas", body)
    assert made.status_code == 201, made.text
    shown = (await get(rig, made.headers["Location"], await manager(rig))).json()
    assert said(shown, body) == body
    await rig.publish_plans()
    planned = next(rota for rota in (await rig.plan("CA")).rotas if str(rota.id) == made.json()["id"])
    assert planned.signs_hand_over
    assert {str(shift.deputy_id) for shift in planned.shifts} >= set((await people(rig))[:1])


async def test_the_record_tells_before_and_after(rig: Rig) -> None:
    """A changed rota is in the record with what it was and what it is; so are overrides and replacements."""
    body = await rich_rota(rig)
    rota_id = (await send(rig, "POST", "rotas", body)).json()["id"]
    await send(rig, "PUT", f"rotas/{rota_id}", {**body, "notice_hours": [1]})
    window = {"start_at": at(1), "end_at": at(5)}
    await send(rig, "POST", f"rotas/{rota_id}/replacements", {"name": "Move", **window, "layers": body["layers"]})
    rows = await rig.rows("SELECT kind, data FROM record ORDER BY recorded_at, id")
    changed = next(row.data for row in rows if row.kind == "rota.changed" and "notice_hours" in row.data["fields"])
    assert (changed["before"]["notice_hours"], changed["after"]["notice_hours"]) == ([48, 2], [1])
    assert "replacement.created" in {row.kind for row in rows}


async def test_holidays_are_the_partners_own_unless_it_says_otherwise(rig: Rig) -> None:
    """Left out, the calendar is that of the partner's country; null is none; a calendar that is unknown is refused."""
    layer = (await rich_rota(rig))["layers"][2]
    plain = {"name": "A", "layers": [layer]}
    answers = [
        await send(rig, "POST", "rotas", body)
        for body in (plain, {**plain, "holiday_calendar": None}, {**plain, "holiday_calendar": "QQ"})
    ]
    assert [answer.status_code for answer in answers] == [201, 201, 422]
    rotas = {str(rota.id): rota for rota in (await rig.stored("CA")).rotas}
    assert [rotas[answer.json()["id"]].holiday_calendar for answer in answers[:2]] == ["CA", None]


@pytest.mark.parametrize(
    ("layer", "field"),
    [
        ({"rotation": "rule"}, "layers[2].rule"),
        ({"rotation": "rule", "rule": "FREQ=NEVER"}, "layers[2].rule"),
        ({"rule": "FREQ=DAILY"}, "layers[2].rule"),
        ({"every": 53}, "layers[2].every"),
        ({"time_zone": "Mars/Olympus"}, "layers[2].time_zone"),
        ({"restrictions": [{"weekdays": ["xx"], "from_time": "08:00", "until_time": "09:00"}]}, "layers[2]"),
        ({"restrictions": [{"from_time": "25:00", "until_time": "09:00"}]}, "layers[2].restrictions[0].from_time"),
        ({"restrictions": [{"from_time": "08:00", "until_time": "09:00"}] * 15}, "layers[2].restrictions"),
        ({"on_holidays": "sometimes"}, "layers[2].on_holidays"),
        ({"deputies": ["0191a8c0-0000-7000-8000-000000000009"]}, "rotas["),
    ],
)
async def test_what_is_wrong_with_a_layer_is_named(rig: Rig, layer: dict[str, Any], field: str) -> None:
    """A refusal names the field, and nothing is stored."""
    body = await rich_rota(rig)
    body["layers"][2].update(layer)
    answer = await send(rig, "POST", "rotas", body)
    assert answer.status_code == 422
    assert any(error["field"].startswith(field) for error in answer.json()["errors"]), answer.json()["errors"]
    assert len((await rig.stored("CA")).rotas) == len((await rig.stored("NZ")).rotas)


async def test_replacements_are_added_listed_and_removed(rig: Rig) -> None:
    """A replacement hides the layers for its time, is safe to send twice, and is gone when it is removed."""
    rota = (await rig.stored("CA")).rotas[0]
    path, own_id = f"rotas/{rota.id}/replacements", str(rig.deps.ids.new())
    stand_in = (await people(rig))[-1]
    layer = {**(await rich_rota(rig))["layers"][2], "participants": [stand_in]}
    copied = {**layer, "id": str(rota.layers[0].id)}
    body = {"id": own_id, "name": "Summer", "start_at": at(-1), "end_at": at(72), "layers": [copied]}
    answers = [await send(rig, "POST", path, body) for _ in "ab"]
    assert [answer.status_code for answer in answers] == [201, 201]
    taken = await send(rig, "POST", path, {**body, "name": "Winter"})
    assert (taken.status_code, taken.json()["code"]) == (409, "id_taken")
    [shown] = (await get(rig, f"/v1/partners/CA/{path}", await manager(rig))).json()["items"]
    assert (shown["id"], shown["name"], said(shown["layers"], [layer])) == (own_id, "Summer", [layer])
    assert shown["layers"][0]["id"] != copied["id"]
    headers = await manager(rig)
    during = (await get(rig, "/v1/partners/CA/on-call", headers)).json()["levels"][0]["targets"][0]
    assert (during["contact_id"], during["origin"]) == (stand_in, "replacement")
    assert (await send(rig, "DELETE", f"{path}/{own_id}")).status_code == 200
    assert (await send(rig, "DELETE", f"{path}/{own_id}")).status_code == 404
    after = (await get(rig, "/v1/partners/CA/on-call", headers)).json()["levels"][0]["targets"][0]
    assert after["origin"] == "layer"


async def test_a_replacement_asks_only_for_holidays_that_the_rota_knows(rig: Rig) -> None:
    """Layers that hang on holidays are refused in a rota that has none: they would cover always, or never."""
    body = await rich_rota(rig)
    bare = {"name": "B", "layers": body["layers"][2:], "holiday_calendar": None}
    rota_id = (await send(rig, "POST", "rotas", bare)).json()["id"]
    replacement = {"name": "Summer", "start_at": at(0), "end_at": at(9), "layers": body["layers"][:1]}
    answer = await send(rig, "POST", f"rotas/{rota_id}/replacements", replacement)
    assert answer.status_code == 422
    assert [error["field"] for error in answer.json()["errors"]] == ["replacements[0].layers[0].on_holidays"]


async def test_what_is_over_makes_room(rig: Rig) -> None:
    """With as many overrides as a rota can have, the one that ended first goes for a new one; coming ones never do."""
    rota = (await rig.stored("CA")).rotas[0]
    path, headers = f"rotas/{rota.id}/overrides", await manager(rig)
    contact_id = (await people(rig))[0]
    window = {"contact_id": contact_id, "start_at": at(-48), "end_at": at(-47)}
    for number in range(OVERRIDES_MAX):
        body = window if number == 3 else {**window, "start_at": at(number), "end_at": at(number + 1)}
        made = await rig.client.post(f"/v1/partners/CA/{path}", json=body, headers=headers)
        assert made.status_code == 201
    body = {**window, "start_at": at(500), "end_at": at(501)}
    assert (await send(rig, "POST", path, body)).status_code == 201
    kept = (await rig.stored("CA")).rotas[0].overrides
    assert len(kept) == OVERRIDES_MAX
    assert min(override.end_at for override in kept) > NOW
    full = await send(rig, "POST", path, body)
    assert (full.status_code, full.json()["errors"][0]["field"]) == (422, "rotas[0].overrides")
    assert REPLACEMENTS_MAX < OVERRIDES_MAX


async def test_edits_by_two_people_do_not_overwrite_each_other(rig: Rig) -> None:
    """Of writes that have seen the same version, of whatever kind, one is done and the others are refused (412)."""
    rota = (await rig.stored("CA")).rotas[0]
    headers = await manager(rig)
    etag = (await get(rig, "/v1/partners/CA", headers)).headers["ETag"]
    seen = {**headers, "If-Match": etag}
    contact_id = (await people(rig))[0]
    layer = (await rich_rota(rig))["layers"][2]
    window = {"start_at": at(1), "end_at": at(2)}
    base = f"/v1/partners/CA/rotas/{rota.id}"
    answers = await asyncio.gather(
        rig.client.put(base, json={"name": "Mine", "layers": [layer]}, headers=seen),
        rig.client.post(f"{base}/overrides", json={"contact_id": contact_id, **window}, headers=seen),
        rig.client.post(f"{base}/replacements", json={"name": "S", **window, "layers": [layer]}, headers=seen),
    )
    codes = sorted(answer.status_code for answer in answers)
    assert codes[1:] == [412, 412]
    assert codes[0] in (200, 201)
    version = (await get(rig, base, headers)).headers["ETag"]
    assert version != etag
    blind = await rig.client.put(base, json={"name": "Mine", "layers": [layer]}, headers=headers)
    assert blind.status_code == 428
    late = await rig.client.delete(f"{base}/replacements/{rota.id}", headers=seen)
    assert late.status_code == 412


async def test_a_level_can_page_the_deputy(rig: Rig) -> None:
    """A rota and its deputy are two targets; of a contact there is no deputy."""
    body = await rich_rota(rig)
    rota_id = (await send(rig, "POST", "rotas", body)).json()["id"]
    holder = {"kind": "rota", "id": rota_id, "deputy": False}
    levels = [{"targets": [holder, {**holder, "deputy": True}]}]
    assert (await send(rig, "PUT", "policy", {"levels": levels})).status_code == 200
    shown = (await get(rig, "/v1/partners/CA/policy", await manager(rig))).json()
    assert said(shown["levels"], levels) == levels
    await rig.publish_plans()
    assert [target.deputy for target in (await rig.plan("CA")).levels[0].targets] == [False, True]
    twice = await send(rig, "PUT", "policy", {"levels": [{"targets": [holder, holder]}]})
    person = {"kind": "contact", "id": (await people(rig))[0], "deputy": True}
    wrong = await send(rig, "PUT", "policy", {"levels": [{"targets": [person]}]})
    assert (twice.status_code, wrong.status_code) == (422, 422)
    assert "only rotas have deputies" in wrong.text


async def test_others_see_that_there_is_a_deputy_and_not_who(rig: Rig) -> None:
    """The partner sees holder, deputy and what says so; another one office, role, and whether there is a deputy."""
    first, second = (await people(rig))[:2]
    layer = {**(await rich_rota(rig))["layers"][2], "participants": [first], "deputies": [second]}
    rota_id = (await send(rig, "POST", "rotas", {"name": "W", "layers": [layer]})).json()["id"]
    target = {"kind": "rota", "id": rota_id}
    policy = {"levels": [{"targets": [target]}, {"targets": [{**target, "deputy": True}]}]}
    assert (await send(rig, "PUT", "policy", policy)).status_code == 200
    own, foreign = [
        [level["targets"][0] for level in (await get(rig, "/v1/partners/CA/on-call", headers)).json()["levels"]]
        for headers in (await manager(rig), await manager(rig, "NZ"))
    ]
    state = await rig.stored("CA")
    names = {str(contact.id): contact.name for contact in state.contacts}
    assert (own[0]["contact_id"], own[0]["deputy_id"], own[0]["deputy_name"]) == (first, second, names[second])
    assert (own[0]["origin"], own[1]["contact_id"], own[1]["deputy"]) == ("layer", second, True)
    assert [one["has_deputy"] for one in foreign] == [True, True]
    assert [one["deputy"] for one in foreign] == [False, True]
    assert foreign[0]["title"] == next(contact.title for contact in state.contacts if str(contact.id) == first)
    for secret in (*names.values(), *names, rota_id):
        assert secret not in str(foreign)
    assert {one["origin"] for one in foreign} == {None}


async def test_shifts_tell_deputies_origins_and_holidays(rig: Rig) -> None:
    """Each shift names its deputy and the layer or override that says so; holidays of the window stand beside them."""
    body = await rich_rota(rig)
    rota_id = (await send(rig, "POST", "rotas", body)).json()["id"]
    override = {"contact_id": (await people(rig))[3], "start_at": at(2), "end_at": at(4)}
    assert (await send(rig, "POST", f"rotas/{rota_id}/overrides", override)).status_code == 201
    window = {"from": at(0), "to": at(24 * 70)}
    answer = (await get(rig, "/v1/partners/CA/shifts", await manager(rig), **window)).json()
    shown = next(rota for rota in answer["rotas"] if rota["id"] == rota_id)
    origins = {(shift["origin"], shift["origin_name"]) for shift in shown["shifts"]}
    assert origins >= {("override", None), ("layer", "nights"), ("layer", "always"), ("layer", "holidays")}
    holidays = {day["on"]: day["name"] for day in shown["holidays"]}
    assert holidays["2026-10-22"] == "Founding day"
    assert "Christmas" in holidays["2026-12-25"]
    assert shown["time_zone"] == "America/Toronto"
    assert any(shift["deputy_name"] for shift in shown["shifts"])


async def test_holidays_are_listed_by_calendar(rig: Rig) -> None:
    """Each calendar that a rota uses is there once, with the rota's own days beside it; not for other partners."""
    body = await rich_rota(rig)
    await send(rig, "POST", "rotas", body)
    window = {"from": "2026-10-01", "to": "2026-12-31"}
    answer = await get(rig, "/v1/partners/CA/holidays", await manager(rig), **window)
    shown = answer.json()
    calendars = {one["calendar"]: {day["on"] for day in one["days"]} for one in shown["calendars"]}
    assert set(calendars) == {"CA", "CA-QC"}
    assert all("2026-12-25" in days for days in calendars.values())
    assert [(one["rota"], one["days"]) for one in shown["extra"]] == [
        ("Watch", [{"on": "2026-10-22", "name": "Founding day"}])
    ]
    assert (await get(rig, "/v1/partners/CA/holidays", await manager(rig, "NZ"), **window)).status_code == 404
    for wrong in ({"from": "2026-10-02", "to": "2026-10-01"}, {"from": "2026-01-01", "to": "2027-01-03"}):
        assert (await get(rig, "/v1/partners/CA/holidays", await manager(rig), **wrong)).status_code == 422


async def test_fairness_counts_what_everybody_carries(rig: Rig) -> None:
    """Hours as holder and as deputy of everybody whom the rota names; not for other partners, nor without end."""
    first, second, third = (await people(rig))[:3]
    layer = {**(await rich_rota(rig))["layers"][2], "participants": [first], "deputies": [second]}
    rota_id = (await send(rig, "POST", "rotas", {"name": "W", "layers": [layer]})).json()["id"]
    override = {"contact_id": third, "start_at": at(-300), "end_at": at(-299)}
    assert (await send(rig, "POST", f"rotas/{rota_id}/overrides", override)).status_code == 201
    path = f"/v1/partners/CA/rotas/{rota_id}/fairness"
    window = {"from": at(0), "to": at(168)}
    answer = await get(rig, path, await manager(rig), **window)
    assert answer.status_code == 200, answer.text
    shown = answer.json()["people"]
    assert [one["contact_id"] for one in shown] == [first, second, third]
    loads = [(one["as_holder"]["hours"], one["as_deputy"]["hours"]) for one in shown]
    assert loads == [(168, 0), (0, 168), (0, 0)]
    assert (shown[0]["as_holder"]["nights"], shown[0]["as_holder"]["weekend_days"]) == (7, 2)
    assert (await get(rig, path, await manager(rig, "NZ"), **window)).status_code == 404
    other = path.replace(rota_id, first)
    assert (await get(rig, other, await manager(rig), **window)).status_code == 404
    assert (await get(rig, path, await manager(rig), **{**window, "to": at(367 * 24)})).status_code == 422


# --- what would it do -------------------------------------------------------------------------------------------------


async def test_a_preview_stores_nothing_and_says_what_would_change(rig: Rig) -> None:
    """An override that leaves nobody on call is previewed with the hole that it opens; the roster is as it was."""
    state = await rig.stored("CA")
    rota = state.rotas[0]
    tables = ("record", "outbox", "idempotency_keys")
    before = [await rig.count(table) for table in tables]
    headers = {**await manager(rig), "Idempotency-Key": "try"}
    nobody = {"contact_id": None, "start_at": at(24), "end_at": at(30)}
    path = f"/v1/partners/CA/rotas/{rota.id}/overrides"
    answer = await rig.client.post(path, json=nobody, headers=headers, params={"dry_run": True})
    assert answer.status_code == 200, answer.text
    preview = answer.json()["preview"]
    assert [(hole["rota_id"], hole["start_at"], hole["end_at"]) for hole in preview["holes_opened"]] == [
        (str(rota.id), "2026-10-21T09:30:00Z", "2026-10-21T15:30:00Z")
    ]
    assert preview["holes_closed"] == []
    assert {one["after"] for one in preview["changes"]} == {None}
    assert {one["before"] for one in preview["changes"]} <= {str(one) for one in rota.layers[0].participants}
    assert await rig.stored("CA") == state
    assert [await rig.count(table) for table in tables] == before
    assert answer.headers["ETag"] == (await get(rig, "/v1/partners/CA", headers)).headers["ETag"]
    done = await rig.client.post(path, json=nobody, headers=headers)
    assert done.status_code == 201
    again = await send(rig, "DELETE", f"rotas/{rota.id}/overrides/{done.json()['id']}", dry_run=True)
    closed = again.json()["preview"]
    assert [hole["start_at"] for hole in closed["holes_closed"]] == ["2026-10-21T09:30:00Z"]


async def test_every_write_can_be_previewed(rig: Rig) -> None:
    """Rota, replacement, policy and contact, added, replaced or removed: 200, a preview, and nothing is stored."""
    state = await rig.stored("CA")
    rota, body = state.rotas[0], await rich_rota(rig)
    contact = {"name": "New", "points": []}
    replacement = {"name": "S", "start_at": at(0), "end_at": at(50), "layers": body["layers"][2:]}
    levels = {"levels": [{"targets": [{"kind": "rota", "id": str(rota.id)}]}]}
    asked: list[tuple[str, str, Any]] = [
        ("POST", "rotas", body),
        ("PUT", f"rotas/{rota.id}", body),
        ("POST", f"rotas/{rota.id}/replacements", replacement),
        ("PUT", "policy", levels),
        ("POST", "contacts", contact),
        ("PUT", f"contacts/{state.contacts[0].id}", contact),
    ]
    for method, path, sent in asked:
        answer = await send(rig, method, path, sent, dry_run=True)
        assert (answer.status_code, answer.json()["preview"]["omitted"]) == (200, 0), (method, path, answer.text)
        assert bool(answer.json()["preview"]["changes"]) is path.startswith("rotas"), path
    assert await rig.stored("CA") == state


async def test_a_preview_is_refused_for_the_same_reasons(rig: Rig) -> None:
    """Role, If-Match, rules, references and taken ids are checked as for the write; of others nothing is there."""
    state = await rig.stored("CA")
    contact_path = f"/v1/partners/CA/contacts/{state.rotas[0].layers[0].participants[0]}"
    dry = {"dry_run": True}
    headers = await manager(rig)
    etag = (await get(rig, "/v1/partners/CA", headers)).headers["ETag"]
    assert (await rig.client.delete(contact_path, headers=headers, params=dry)).status_code == 428
    stale = {**headers, "If-Match": '"0"'}
    assert (await rig.client.delete(contact_path, headers=stale, params=dry)).status_code == 412
    named = await rig.client.delete(contact_path, headers={**headers, "If-Match": etag}, params=dry)
    assert (named.status_code, named.json()["errors"][0]["field"]) == (422, "rotas[0]")
    officer = await signed_in(rig, "CA", Role.DUTY_OFFICER)
    body = await rich_rota(rig)
    refused = [
        (await rig.client.post("/v1/partners/CA/rotas", headers=who, json=body, params=dry)).status_code
        for who in (officer, await manager(rig, "NZ"))
    ]
    assert refused == [403, 404]
    own_id = str(rig.deps.ids.new())
    assert (await send(rig, "POST", "rotas", {**body, "id": own_id})).status_code == 201
    taken = await send(rig, "POST", "contacts", {"id": own_id, "name": "A", "points": []}, partner="NZ", dry_run=True)
    assert (taken.status_code, taken.json()["code"]) == (409, "id_taken")


async def test_rules_are_read_beside_the_loop_and_only_those_of_the_body(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What takes a while holds up no other request, and what lies over a rota already is not read again."""
    read: list[tuple[str, bool]] = []

    def turn_faults(rule: str, _first: Any) -> Iterator[str]:
        read.append((rule, threading.current_thread() is threading.main_thread()))
        return iter(())

    monkeypatch.setattr(rules, "_turn_faults", turn_faults)
    body = await rich_rota(rig)
    rule = body["layers"][0]["rule"]
    rules.rule_faults.cache_clear()
    rota_id = (await send(rig, "POST", "rotas", body)).json()["id"]
    assert read == [(rule, False)]
    other = "FREQ=WEEKLY;BYDAY=TU,TH"
    layers = [{**body["layers"][0], "rule": other}]
    summer = {"name": "Summer", "start_at": at(24), "end_at": at(48), "layers": layers}
    answer = await send(rig, "POST", f"rotas/{rota_id}/replacements", summer)
    assert answer.status_code == 201, answer.text
    assert read[1:] == [(other, False)]
    rules.rule_faults.cache_clear()
    assert (await send(rig, "PUT", f"rotas/{rota_id}", body)).status_code == 200
    assert read[2:] == [(rule, False)]
    without = {**body, "holiday_calendar": None, "extra_holidays": [], "layers": [{**body["layers"][1]}]}
    refused = await send(rig, "PUT", f"rotas/{rota_id}", without)
    assert [error["field"] for error in refused.json()["errors"]] == ["replacements[0].layers[0].on_holidays"]
    rules.rule_faults.cache_clear()

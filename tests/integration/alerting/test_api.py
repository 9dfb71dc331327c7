"""The HTTP face, as partners' programs meet it: what is accepted, what is refused, and what nobody may see."""

from __future__ import annotations

import asyncio
import importlib
import itertools
import json
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from typing import Any, cast
from uuid import UUID

import httpx
import pytest
from openapi_spec_validator import validate

from services.alerting import handlers, reading, store, stream
from services.alerting.cap import MEDIA_TYPE as CAP
from services.alerting.content import HEADLINE_CHARACTERS_MAX
from services.alerting.stream import place_of
from services.alerting.visibility import Viewer
from shared.contracts import (
    DEFAULT_DEADLINES,
    Actor,
    ChannelName,
    DeadlinesChanged,
    PartnerAcknowledged,
    PartnerUnreached,
    PlannedOffice,
    PlannedPoint,
    Precedence,
    Status,
    Tlp,
)
from shared.errors import Invalid
from shared.paging import encode_cursor
from shared.security import Principal
from shared.streams import StreamEvent
from tests.support.alerting_rig import KABUL, ROLES, Rig, person

LEAST: dict[str, Any] = {
    "headline": "Kabul: evacuation of people at risk before the airport closes",
    "countries": ["AF"],
    "to": ["US", "GB", "DE"],
    "precedence": "FLASH",
}
OFFICER, SECOND = person("CA"), person("CA", "second")
_keys = itertools.count(1)


def key() -> dict[str, str]:
    """A header that makes a creating request safe."""
    return {"Idempotency-Key": f"key-{next(_keys)}"}


async def post(rig: Rig, who: Principal, path: str, body: Any, **headers: str) -> httpx.Response:
    """One creating request of somebody."""
    async with rig.client(who) as client:
        return await client.post(path, json=body, headers={**key(), **headers})


async def get(rig: Rig, who: Principal, path: str, **headers: str) -> httpx.Response:
    """One reading request of somebody."""
    async with rig.client(who) as client:
        return await client.get(path, headers=headers)


async def drafted(rig: Rig, **changes: Any) -> dict[str, Any]:
    """A draft of Canada's."""
    response = await post(rig, OFFICER, "/v1/alerts", {**LEAST, **changes})
    assert response.status_code == 201, response.text
    return dict(response.json())


async def released(rig: Rig, **changes: Any) -> dict[str, Any]:
    """A released alert of Canada's."""
    draft = await drafted(rig, **changes)
    response = await post(rig, SECOND, f"/v1/alerts/{draft['id']}/release", {"precedence": draft["precedence"]})
    assert response.status_code == 202, response.text
    return dict(response.json())


def problem(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The problem of a refusal; fails if it is another."""
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert (response.status_code, body["code"]) == (status, code), body
    return dict(body)


# --- the way of an alert ----------------------------------------------------------------------------------------------


async def test_draft_then_release(rig: Rig) -> None:
    """The least body drafts with the network's defaults; a second person releases it by repeating the precedence."""
    draft = await drafted(rig)
    assert (draft["state"], draft["status"], draft["tlp"]) == ("draft", "Actual", "TLP:AMBER")
    assert draft["reference"] == "RP-CA-2021-0001"
    assert draft["info"][0]["areas"] == [
        {
            "description": "Afghanistan",
            "geometry": None,
            "circles": [],
            "geocodes": [{"name": "iso3166-1-alpha-3", "value": "AFG"}],
        }
    ]
    response = await post(rig, SECOND, f"/v1/alerts/{draft['id']}/release", {"precedence": "FLASH"})
    assert response.status_code == 202
    assert response.json()["state"] == "released"
    assert response.json()["expires_at"] == "2021-08-16T10:00:00Z"
    assert response.json()["drafted_by"]["name"] == "Officer 1 of CA"
    assert response.headers["location"] == f"/v1/alerts/{draft['id']}"


async def test_alone_in_one_step(rig: Rig) -> None:
    """`self_release_reason` releases at once: 202, and marked for review."""
    response = await post(rig, OFFICER, "/v1/alerts", {**LEAST, "self_release_reason": "Nobody else reachable"})
    assert response.status_code == 202
    assert (response.json()["state"], response.json()["needs_review"]) == ("released", True)


@pytest.mark.parametrize("status", ["Exercise", "Test"])
async def test_drills_are_alerts_of_another_status(rig: Rig, status: str) -> None:
    """An exercise says so first in its headline, wherever it is shown."""
    alert = await released(rig, status=status, note="Line test of August")
    shown = alert["info"][0]["headline"]
    assert shown.startswith("EXERCISE") is (status == "Exercise")


async def test_spoken_reference_stands_for_the_id(rig: Rig) -> None:
    """What people say on a line opens the alert; a reference of nothing is a missing alert."""
    alert = await released(rig)
    by_reference = await get(rig, OFFICER, f"/v1/alerts/{alert['reference']}")
    assert by_reference.json()["id"] == alert["id"]
    for missing in ("RP-CA-2021-9999", "nothing", str(UUID(int=1)), "RP-CA-2021-0001%00"):
        problem(await get(rig, OFFICER, f"/v1/alerts/{missing}"), 404, "not_found")


async def test_edit_of_a_draft_needs_the_version_that_was_read(rig: Rig) -> None:
    """Without If-Match 428, with an old one 412, with the right one 200 and a new ETag."""
    draft = await drafted(rig)
    path = f"/v1/alerts/{draft['id']}"
    etag = (await get(rig, OFFICER, path)).headers["etag"]
    async with rig.client(OFFICER) as client:
        problem(await client.patch(path, json={"note": "x"}), 428, "precondition_required")
        problem(await client.patch(path, json={"note": "x"}, headers={"If-Match": '"7"'}), 412, "precondition_failed")
        edited = await client.patch(path, json={"instruction": "Say how many seats."}, headers={"If-Match": etag})
        assert edited.status_code == 200
        assert edited.json()["info"][0]["instruction"] == "Say how many seats."
        assert edited.json()["info"][0]["headline"] == LEAST["headline"]
        assert edited.headers["etag"] != etag
        problem(await client.patch(path, json={"note": "x"}, headers={"If-Match": etag}), 412, "precondition_failed")
    await post(rig, SECOND, f"{path}/release", {"precedence": "FLASH"})
    async with rig.client(OFFICER) as client:
        problem(await client.patch(path, json={"note": "x"}, headers={"If-Match": "*"}), 409, "not_a_draft")


async def test_update_recipients_and_ends_over_http(rig: Rig) -> None:
    """Correct, add, close: each is answered 202 once stored, and the first message shows what replaced it."""
    first = await released(rig)
    added = await post(rig, SECOND, f"/v1/alerts/{first['id']}/recipients", {"to": ["ES"]})
    assert [r["partner"] for r in added.json()["recipients"]] == ["US", "GB", "DE", "ES"]
    update = await post(
        rig, OFFICER, f"/v1/alerts/{first['id']}/updates", {"asks_anew": True, "description": "Civil side closed."}
    )
    assert update.status_code == 201
    assert update.json()["corrects"] == first["id"]
    assert set(update.json()["to"]) == {"US", "GB", "DE", "ES"}
    await post(rig, SECOND, f"/v1/alerts/{update.json()['id']}/release", {"precedence": "FLASH"})
    shown = (await get(rig, OFFICER, f"/v1/alerts/{first['id']}")).json()
    assert (shown["state"], shown["superseded_by"]) == ("superseded", update.json()["id"])
    problem(await post(rig, SECOND, f"/v1/alerts/{first['id']}/close", {}), 409, "alert_superseded")
    async with rig.client(SECOND) as client:
        closed = await client.post(f"/v1/alerts/{update.json()['reference']}/close")
    assert (closed.status_code, closed.json()["state"]) == (202, "closed")


async def test_update_must_say_whether_it_asks_anew(rig: Rig) -> None:
    """`asks_anew` is required and is true or false, nothing like it."""
    first = await released(rig)
    for body in ({}, {"asks_anew": "yes"}, {"asks_anew": 1}, {"asks_anew": None}):
        refused = problem(await post(rig, OFFICER, f"/v1/alerts/{first['id']}/updates", body), 422, "invalid")
        assert refused["errors"][0]["field"] == "asks_anew"


async def test_second_person_is_asked_for_with_the_way_out(rig: Rig) -> None:
    """The refusal tells an officer who is alone what to do."""
    both = await drafted(rig)
    drafter = person("CA")
    refused = await post(rig, drafter, f"/v1/alerts/{both['id']}/release", {"precedence": "FLASH"})
    problem(refused, 403, "role_missing")
    alone = await post(
        rig,
        drafter,
        f"/v1/alerts/{both['id']}/release",
        {"precedence": "FLASH", "self_release_reason": "Nobody else reachable"},
    )
    assert alone.status_code == 202
    other = await drafted(rig)
    wrong = {"precedence": "ROUTINE", "self_release_reason": "Nobody else reachable"}
    problem(await post(rig, drafter, f"/v1/alerts/{other['id']}/release", wrong), 409, "precedence_not_confirmed")


# --- idempotency ------------------------------------------------------------------------------------------------------


async def test_repeated_request_gets_the_first_answer(rig: Rig) -> None:
    """One key, one alert, the same bytes again; the same key for something else is refused."""
    header = key()
    async with rig.client(OFFICER) as client:
        first = await client.post("/v1/alerts", json=LEAST, headers=header)
        again = await client.post("/v1/alerts", json=LEAST, headers=header)
        other = await client.post("/v1/alerts", json={**LEAST, "to": ["US"]}, headers=header)
    assert again.content == first.content
    assert again.status_code == 201
    assert again.headers["idempotency-replayed"] == "true"
    problem(other, 422, "idempotency_key_reused")
    assert await rig.count("alerts") == 1


@pytest.mark.parametrize("path", ["/v1/alerts", "/v1/crises"])
async def test_creating_without_key_or_id_is_refused(rig: Rig, path: str) -> None:
    """A request that a retry would do twice is not taken; an id of one's own is as good as a key."""
    body = LEAST if path == "/v1/alerts" else {"name": "Afghanistan", "countries": ["AFG"]}
    own = str(rig.deps.ids.new())
    async with rig.client(OFFICER) as client:
        problem(await client.post(path, json=body), 400, "idempotency_key_missing")
        answers = [await client.post(path, json={**body, "id": own}) for _ in "ab"]
    assert [answer.status_code for answer in answers] == [201, 201]
    assert answers[0].json() == answers[1].json()
    assert answers[0].json()["id"] == own


async def test_second_person_releases_the_words_they_have_read(rig: Rig) -> None:
    """With `If-Match` a draft that was changed since is not released, however its precedence; read again, it is."""
    draft = await drafted(rig)
    path = f"/v1/alerts/{draft['id']}"
    read = (await get(rig, SECOND, path)).headers["etag"]
    await edited(rig, draft, headline="Something else entirely", to=["US", "ES"])
    refused = await post(rig, SECOND, f"{path}/release", {"precedence": "FLASH"}, **{"If-Match": read})
    assert '"2"' in problem(refused, 412, "precondition_failed")["detail"]
    assert await rig.state_of(UUID(draft["id"])) == "draft"
    assert await rig.events("alert_released") == []
    again = (await get(rig, SECOND, path)).headers["etag"]
    answer = await post(rig, SECOND, f"{path}/release", {"precedence": "FLASH"}, **{"If-Match": again})
    assert (answer.status_code, answer.json()["info"][0]["headline"]) == (202, "Something else entirely")


@pytest.mark.parametrize("act", ["cancel", "close"])
async def test_an_end_can_name_the_version_that_was_read(rig: Rig, act: str) -> None:
    """With `If-Match` an alert is ended as it was read, or not at all; without, as it is."""
    first, second = await released(rig), await released(rig)
    path, body = f"/v1/alerts/{first['id']}", {"note": "It is over"}
    read = (await get(rig, SECOND, path)).headers["etag"]
    assert (await post(rig, SECOND, f"{path}/recipients", {"to": ["ES"]})).status_code == 202
    refused = await post(rig, SECOND, f"{path}/{act}", body, **{"If-Match": read})
    problem(refused, 412, "precondition_failed")
    again = (await get(rig, SECOND, path)).headers["etag"]
    assert (await post(rig, SECOND, f"{path}/{act}", body, **{"If-Match": again})).status_code == 202
    assert (await post(rig, SECOND, f"/v1/alerts/{second['id']}/{act}", body)).status_code == 202


async def test_wrong_country_is_taken_back(rig: Rig) -> None:
    """An edit and an Update name the countries anew: those before are gone; who leaves them out keeps them."""
    draft = await edited(rig, await drafted(rig, countries=["AF"]), countries=["PAK"])
    assert draft["countries"] == ["PAK"]
    assert (await edited(rig, draft, severity="Extreme"))["countries"] == ["PAK"]
    await release(rig, draft)
    update = await post(rig, OFFICER, f"/v1/alerts/{draft['id']}/updates", {"asks_anew": False, "countries": ["IR"]})
    assert update.json()["countries"] == ["IRN"]


async def test_more_partners_are_added_after_the_network_has_shortened_its_table(rig: Rig) -> None:
    """What was right at the release stays right: whom it is addressed to is checked, and nothing that cannot change."""
    alert = await released(rig, precedence="ROUTINE", acknowledge_within_seconds=80_000)
    table = dict(DEFAULT_DEADLINES)
    table[Precedence.ROUTINE] = table[Precedence.ROUTINE].model_copy(update={"acknowledge_within_seconds": 3_600})
    async with rig.deps.database.transaction() as tx:
        await store.save_deadlines(tx, DeadlinesChanged(version=99, deadlines=table))
    path = f"/v1/alerts/{alert['id']}/recipients"
    added = await post(rig, SECOND, path, {"to": ["ES"]})
    assert added.status_code == 202, added.text
    assert "ES" in added.json()["to"]
    problem(await post(rig, SECOND, path, {"to": ["FR"]}), 422, "unknown_partner")


async def test_repeated_release_gets_the_first_answer(rig: Rig) -> None:
    """A releaser whose answer was lost repeats the call and sees 202 again, not a conflict."""
    draft = await drafted(rig)
    header = key()
    async with rig.client(SECOND) as client:
        answers = [
            await client.post(f"/v1/alerts/{draft['id']}/release", json={"precedence": "FLASH"}, headers=header)
            for _ in "ab"
        ]
    assert [answer.status_code for answer in answers] == [202, 202]
    assert len(await rig.events("alert_released")) == 1


# --- hostile and mistaken input ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"tlp": "TLP:WHITE"}, "tlp"),
        ({"tlp": "tlp:amber"}, "tlp"),
        ({"tlp": "TLP:EX:CHR"}, "tlp"),
        ({"tlp": "AMBER"}, "tlp"),
        ({"precedence": "flash"}, "precedence"),
        ({"precedence": 1}, "precedence"),
        ({"precedence": None}, "precedence"),
        ({"status": "System"}, "status"),
        ({"to": "US"}, "to"),
        ({"to": []}, "to"),
        ({"to": ["us"]}, "to[0]"),
        ({"to": ["US", 7]}, "to[1]"),
        ({"to": ["FR"]}, "to[0]"),
        ({"to": ["CA"]}, "to[0]"),
        ({"to": ["US", "US"]}, "to[1]"),
        ({"for_information": ["US"]}, "for_information[0]"),
        ({"headline": None}, "headline"),
        ({"headline": ["x"]}, "headline"),
        ({"headline": "Kabul\x00"}, "info[0].headline"),
        ({"headline": "x" * (HEADLINE_CHARACTERS_MAX + 1)}, "info[0].headline"),
        ({"headline": "Kabul\ud800"}, "body"),
        ({"countries": ["XX"]}, "countries[0]"),
        ({"countries": []}, "countries"),
        ({"severity": "Huge"}, "severity"),
        ({"expires": "2021-08-15T12:00:00Z"}, "expires"),
        ({"expires": "2021-09-15T12:00:00"}, "expires"),
        ({"expires": 1629000000}, "expires"),
        ({"acknowledge_within_seconds": 5}, "acknowledge_within_seconds"),
        ({"acknowledge_within_seconds": 1200}, "acknowledge_within_seconds"),
        ({"acknowledge_within_seconds": "300"}, "acknowledge_within_seconds"),
        ({"coverage_goal": {"partners": 0, "within_seconds": 900}}, "coverage_goal.partners"),
        ({"coverage_goal": {"partners": 99, "within_seconds": 900}}, "coverage_goal.partners"),
        ({"coverage_goal": {"partners": 1, "within_seconds": 59}}, "coverage_goal.within_seconds"),
        ({"coverage_goal": {"partners": 1, "within_seconds": 1801}}, "coverage_goal.within_seconds"),
        ({"coverage_goal": {"partners": "1", "within_seconds": 900}}, "coverage_goal.partners"),
        ({"coverage_goal": {"partners": 1, "within_seconds": 900, "loudly": True}}, "coverage_goal.loudly"),
        ({"answers_visible": "true"}, "answers_visible"),
        ({"passport_numbers": ["X123"]}, "passport_numbers"),
        ({"contact": "A. Person"}, "contact"),
        ({"id": "nonsense"}, "id"),
        ({"id": "00000000-0000-4000-8000-000000000000"}, "id"),
        ({"crisis_id": "00000000-0000-7000-8000-000000000000"}, "crisis_id"),
        ({"self_release_reason": ""}, "self_release_reason"),
        ({"info": [{"headline": "Kabul", "event": "x", "contact": "A. Person"}], "headline": None}, "info[0].contact"),
        ({"info": [{"headline": "Kabul"}]}, "info"),
        ({"areas": [{"description": "x", "geometry": {"type": "Point", "coordinates": [1, 2]}}]}, "areas[0].geometry"),
        (
            {
                "areas": [
                    {"description": "x", "geometry": {"type": "Polygon", "coordinates": [[[0, 0], [1, 1], [0, 0]]]}}
                ]
            },
            "info[0].areas[0].polygons",
        ),
        ({"description": "word " * 201}, "info[0]"),
    ],
)
async def test_wrong_field_is_named_and_nothing_is_stored(rig: Rig, changes: dict[str, Any], field: str) -> None:
    """Each mistake is refused with its field, and neither an alert nor a key remains."""
    body = {name: value for name, value in {**LEAST, **changes}.items() if value is not None or name == "precedence"}
    content = json.dumps(body).encode()
    async with rig.client(OFFICER) as client:
        response = await client.post(
            "/v1/alerts", content=content, headers={**key(), "Content-Type": "application/json"}
        )
    assert response.status_code in (400, 422), response.text
    refused = response.json()
    if field == "body":
        assert refused["code"] == "malformed"
    else:
        assert field in {error["field"] for error in refused["errors"]}, refused
    assert "X123" not in response.text
    for table in ("alerts", "crises", "outbox", "record", "timeline", "idempotency_keys", "reference_counters"):
        assert await rig.count(table) == 0, table


@pytest.mark.parametrize(
    ("content", "media_type", "status", "code"),
    [
        (b"{", "application/json", 400, "malformed"),
        (b"", "application/json", 400, "malformed"),
        (b"\xff\xfe", "application/json", 400, "malformed"),
        (b"[" * 100_000, "application/json", 400, "malformed"),
        (b"[]", "application/json", 422, "invalid"),
        (b"null", "application/json", 422, "invalid"),
        (b'"FLASH"', "application/json", 422, "invalid"),
        (b"{}", "text/plain", 415, "unsupported_media_type"),
        (b"{}", "", 415, "unsupported_media_type"),
        (b"<alert/>", "application/xml", 415, "unsupported_media_type"),
        (b'{"headline": "' + b"x" * 2_000_000 + b'"}', "application/json", 413, "body_too_large"),
        (b" " * 300_000 + b"<alert/>", CAP, 413, "body_too_large"),
        (b"<alert/>", CAP, 422, "cap_invalid"),
        (b'<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><a>&x;</a>', CAP, 422, "cap_unsafe"),
    ],
)
async def test_unreadable_body_is_refused(rig: Rig, content: bytes, media_type: str, status: int, code: str) -> None:
    """What cannot be read, is too large or of another kind gets its own problem, never a 500."""
    async with rig.client(OFFICER) as client:
        response = await client.post("/v1/alerts", content=content, headers={**key(), "Content-Type": media_type})
    problem(response, status, code)


async def test_every_act_refuses_unknown_fields(rig: Rig) -> None:
    """A misspelt field is an error, not something silently left out."""
    alert = await released(rig)
    for act in ("release", "updates", "recipients", "cancel", "close"):
        refused = await post(rig, SECOND, f"/v1/alerts/{alert['id']}/{act}", {"nonsense": 1})
        assert "nonsense" in {e["field"] for e in problem(refused, 422, "invalid")["errors"]}


async def test_without_token_nothing_is_told(rig: Rig) -> None:
    """Every route asks who is there before anything else."""
    document = rig.app().openapi()
    async with rig.client() as client:
        for path, operations in document["paths"].items():
            for method in operations:
                address = path.replace("{alert}", "RP-CA-2021-0001").replace("{crisis_id}", str(UUID(int=1)))
                problem(await client.request(method, address, json={}), 401, "token_missing")


# --- who sees what ----------------------------------------------------------------------------------------------------

NOTHING, EXISTENCE, TEXT, OWN = "nothing", "existence", "text", "own"
READING = ("officer", "second", "drafter", "senior", "system")


def expected(partner: str, what: str, tlp: str, *, is_draft: bool, addressed: tuple[str, ...]) -> str:
    """What somebody may see of an alert of Canada's, told anew from the rules in words."""
    reads = what in READING
    if partner == "CA" and reads:
        return OWN
    if is_draft:
        return NOTHING
    if partner in addressed and (reads or (what == "secretariat" and partner == "XR")):
        return TEXT
    if tlp in ("TLP:GREEN", "TLP:CLEAR") and (reads or what == "observer" or (what, partner) == ("secretariat", "XR")):
        return TEXT
    if (what, partner) == ("secretariat", "XR"):
        return EXISTENCE if tlp in ("TLP:RED", "TLP:AMBER+STRICT") else TEXT
    return NOTHING


@pytest.mark.parametrize("tlp", list(Tlp))
@pytest.mark.parametrize("partner", ["CA", "US", "ES", "XR"])
async def test_visibility(rig: Rig, partner: str, tlp: str) -> None:
    """For every role, draft or released, addressed or not: alert, list, timeline and CAP show that and no more."""
    draft = await drafted(rig, tlp=tlp)
    alert = await released(rig, tlp=tlp, description="Secret matter", note="Secret note")
    watched = await released(rig, tlp=tlp, to=["US", "XR"], description="Secret matter", note="Secret note")
    missing = problem(await get(rig, OFFICER, f"/v1/alerts/{UUID(int=1)}"), 404, "not_found")
    for what in (*ROLES, "system"):
        who = person(partner, what)
        listing = await get(rig, who, "/v1/alerts")
        listed = {item["id"]: item for item in listing.json().get("items", [])}
        for shown, is_draft in ((draft, True), (alert, False), (watched, False)):
            wanted = expected(partner, what, tlp, is_draft=is_draft, addressed=tuple(shown["to"]))
            path = f"/v1/alerts/{shown['id']}"
            answers = [
                await get(rig, who, path),
                await get(rig, who, f"/v1/alerts/{shown['reference']}"),
                await get(rig, who, f"{path}/timeline"),
                await get(rig, who, path, Accept=CAP),
            ]
            if wanted == NOTHING:
                assert shown["id"] not in listed, (what, wanted)
                for answer in answers:
                    refused = problem(answer, 404, "not_found")
                    assert {**refused, "instance": ""} == {**missing, "instance": ""}
                continue
            body = answers[0].json()
            assert listed[shown["id"]] == body == answers[1].json()
            assert body["withheld"] is (wanted == EXISTENCE), (what, wanted)
            assert (body["info"] is None) is (wanted == EXISTENCE)
            assert (body["drafted_at"] is not None) is (wanted == OWN)
            assert ("Officer 1 of CA" in answers[0].text) is (wanted == OWN)
            if wanted == EXISTENCE:
                problem(answers[3], 403, "text_withheld")
                assert all("Secret" not in answer.text for answer in answers)
            else:
                assert answers[3].status_code == 200
                assert is_draft or "Secret matter" in answers[3].text
            if wanted in (EXISTENCE, TEXT):
                assert "ca-officer-1" not in "".join(answer.text for answer in answers)
                assert "1 of CA" not in answers[2].text
        if not listed and what in ("keeper", "auditor", "administrator"):
            problem(listing, 403, "role_missing")


@pytest.mark.parametrize("what", ["keeper", "auditor", "administrator"])
async def test_whoever_runs_or_audits_reads_no_alert(rig: Rig, what: str) -> None:
    """These roles get neither list nor stream, not even at TLP:CLEAR, not even of their own partner."""
    alert = await released(rig, tlp="TLP:CLEAR")
    who = person("CA", what)
    for path in ("/v1/alerts", "/v1/stream", "/v1/crises"):
        problem(await get(rig, who, path), 403, "role_missing")
    problem(await get(rig, who, f"/v1/alerts/{alert['id']}"), 404, "not_found")


async def test_revoked_credential_is_refused_at_once(rig: Rig) -> None:
    """A token outlives its credential by nothing."""
    await rig.rows("UPDATE credentials SET revoked_at = :now WHERE client_id = 'ca-officer-1' RETURNING 1", now=KABUL)
    problem(await get(rig, OFFICER, "/v1/alerts"), 401, "credential_revoked")


def acknowledged(alert: dict[str, Any], *, visible_to: tuple[str, ...] = ()) -> PartnerAcknowledged:
    """An answer of the United States."""
    return PartnerAcknowledged(
        alert_id=UUID(alert["id"]),
        escalation_id=UUID(int=9),
        partner="US",
        raiser="CA",
        acknowledged_at=KABUL,
        acknowledged_by=Actor(subject="us-senior-1", partner="US", name="Senior 1 of US"),
        answers_visible_to=visible_to,
        seconds_from_release=42.0,
    )


@pytest.mark.parametrize("visible", [False, True])
async def test_answers_are_seen_by_other_recipients_only_if_the_alert_says_so(rig: Rig, visible: bool) -> None:
    """Raiser and answering partner learn the name; other recipients at most that there was an answer."""
    alert = await released(rig, answers_visible=visible)
    event = acknowledged(alert, visible_to=("GB", "DE") if visible else ())
    await handlers.on_answer(rig.deps, rig.message(event))

    async def answers(who: Principal) -> list[dict[str, Any]]:
        page = (await get(rig, who, f"/v1/alerts/{alert['id']}/timeline")).json()["items"]
        return [item["data"] for item in page if item["type"] == "partner_acknowledged"]

    for entitled in (OFFICER, person("US", "senior")):
        assert (await answers(entitled))[0]["acknowledged_by"]["name"] == "Senior 1 of US"
    seen = await answers(person("GB", "senior"))
    assert [data["acknowledged_by"] for data in seen] == ([{"partner": "US"}] if visible else [])
    (watched,) = await answers(person("XR", "secretariat"))
    assert watched["acknowledged_by"] == {"partner": "US"}


async def test_timeline_shows_numbers_of_the_unreached_but_no_contact_points(rig: Rig) -> None:
    """Raiser and secretariat get switchboard and embassies; sealed addresses stay inside."""
    alert = await released(rig)
    point = PlannedPoint(id=UUID(int=3), channel=ChannelName.SMS, sealed_address="sealed-secret")
    event = PartnerUnreached(
        alert_id=UUID(alert["id"]),
        escalation_id=UUID(int=9),
        partner="US",
        raiser="CA",
        root_alert_id=UUID(alert["id"]),
        reference=alert["reference"],
        unreached_at=KABUL,
        levels_tried=3,
        attempts=12,
        precedence=Precedence.FLASH,
        status=Status.ACTUAL,
        tlp=Tlp.AMBER,
        expires_at=KABUL,
        released_by=Actor(subject="ca-second-1", partner="CA", name="Second 1 of CA"),
        office=PlannedOffice(id=UUID(int=4), name="Operations Center", switchboard="+1 202 555 0100", points=(point,)),
    )
    await handlers.on_answer(rig.deps, rig.message(event))
    page = await get(rig, person("XR", "secretariat"), f"/v1/alerts/{alert['id']}/timeline")
    assert "+1 202 555 0100" in page.text
    assert "sealed-secret" not in page.text
    assert "Second 1 of CA" not in page.text


async def test_timeline_pages_without_gap(rig: Rig) -> None:
    """Pages of one give every row once, in order."""
    alert = await released(rig)
    await post(rig, SECOND, f"/v1/alerts/{alert['id']}/recipients", {"to": ["ES"]})
    rig.clock.advance(1)
    await post(rig, SECOND, f"/v1/alerts/{alert['id']}/cancel", {"note": "Wrong list"})
    path = f"/v1/alerts/{alert['id']}/timeline"
    whole = (await get(rig, OFFICER, path)).json()["items"]
    one_by_one, cursor = [], ""
    while True:
        page = (await get(rig, OFFICER, f"{path}?limit=1{cursor}")).json()
        one_by_one += page["items"]
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert one_by_one == whole
    assert [item["type"] for item in whole][-1] == "alert_ended"
    assert sorted(item["type"] for item in whole) == [
        "alert_drafted",
        "alert_ended",
        "alert_released",
        "alert_released",
    ]


async def test_list_pages_and_filters(rig: Rig) -> None:
    """Pages follow each other; filters narrow; nonsense is refused with its field."""
    alerts = [await drafted(rig) for _ in range(5)]
    first = (await get(rig, OFFICER, "/v1/alerts?limit=3")).json()
    rest = (await get(rig, OFFICER, f"/v1/alerts?limit=3&cursor={first['next_cursor']}")).json()
    assert {item["id"] for item in first["items"] + rest["items"]} == {alert["id"] for alert in alerts}
    assert rest["next_cursor"] is None
    assert (await get(rig, OFFICER, "/v1/alerts?state=released")).json()["items"] == []
    assert len((await get(rig, OFFICER, "/v1/alerts?state=draft&precedence=FLASH&raiser=CA")).json()["items"]) == 5
    for wrong in ("cursor=abc", "cursor=WzFd", "state=unknown", "limit=0", "limit=201", "raiser=ca", "crisis_id=1"):
        assert (await get(rig, OFFICER, f"/v1/alerts?{wrong}")).status_code == 422


# --- CAP --------------------------------------------------------------------------------------------------------------


async def test_cap_out_and_in_say_the_same(rig: Rig) -> None:
    """An alert of ours as CAP drafts an equal one elsewhere: texts, areas, audience, handling."""
    area = {
        "description": "Kabul airport",
        "geometry": {
            "type": "Polygon",
            "coordinates": [[[69.19, 34.55], [69.24, 34.55], [69.24, 34.58], [69.19, 34.55]]],
        },
        "geocodes": [{"name": "iso3166-1-alpha-3", "value": "AFG"}],
    }
    alert = await released(
        rig,
        areas=[area],
        for_information=["BR"],
        tlp="TLP:GREEN",
        severity="Extreme",
        acknowledge_within_seconds=300,
        coverage_goal={"partners": 1, "within_seconds": 900},
    )
    document = await get(rig, OFFICER, f"/v1/alerts/{alert['id']}", Accept=CAP)
    assert document.status_code == 200
    assert document.headers["content-type"].startswith(CAP)
    assert b"RP-CA-2021-0001" in document.content
    async with rig.client(OFFICER) as client:
        again = await client.post("/v1/alerts", content=document.content, headers={**key(), "Content-Type": CAP})
    assert again.status_code == 201, again.text
    for name in ("status", "precedence", "tlp", "to", "for_information", "countries", "crisis_id"):
        assert again.json()[name] == alert[name], name
    assert again.json()["acknowledge_within_seconds"] == 300
    assert again.json()["coverage_goal"] == alert["coverage_goal"] == {"partners": 1, "within_seconds": 900}
    ours, theirs = alert["info"][0], again.json()["info"][0]
    assert {**theirs, "expires": None} == {**ours, "expires": None}
    assert again.json()["state"] == "draft"


async def test_a_coverage_goal_is_published_and_kept_by_an_update(rig: Rig) -> None:
    """The release carries the goal to escalation; an Update keeps it, or replaces it where it says another."""
    alert = await released(rig, coverage_goal={"partners": 1, "within_seconds": 900})
    path = f"/v1/alerts/{alert['id']}/updates"
    kept = await post(rig, OFFICER, path, {"asks_anew": False, "note": "Corrected"})
    assert kept.json()["coverage_goal"] == {"partners": 1, "within_seconds": 900}
    changed = {"asks_anew": False, "coverage_goal": {"partners": 1, "within_seconds": 600}}
    assert (await post(rig, OFFICER, path, changed)).json()["coverage_goal"]["within_seconds"] == 600
    (row,) = await rig.rows("SELECT body FROM outbox WHERE type LIKE '%alert_released%'")
    assert json.loads(row.body)["coverage_goal"] == {"partners": 1, "within_seconds": 900}


async def test_cap_of_an_update_names_what_it_corrects(rig: Rig) -> None:
    """References hold the chain; an Update is not drafted from CAP, which cannot say whether it asks anew."""
    first = await released(rig)
    update = await post(rig, OFFICER, f"/v1/alerts/{first['id']}/updates", {"asks_anew": False, "note": "Corrected"})
    await post(rig, SECOND, f"/v1/alerts/{update.json()['id']}/release", {"precedence": "FLASH"})
    document = await get(rig, person("US", "senior"), f"/v1/alerts/{update.json()['id']}", Accept=CAP)
    assert b"<msgType>Update</msgType>" in document.content
    assert b"redphone:CA,RP-CA-2021-0001,2021-08-15T09:30:00-00:00" in document.content
    async with rig.client(OFFICER) as client:
        refused = await client.post("/v1/alerts", content=document.content, headers={**key(), "Content-Type": CAP})
    problem(refused, 422, "cap_not_draftable")


async def test_cap_of_a_draft_update_is_read_by_the_second_person(rig: Rig) -> None:
    """A draft that corrects names the whole chain already, and says that it is a draft."""
    first = await released(rig)
    path = f"/v1/alerts/{first['id']}/updates"
    second = (await post(rig, OFFICER, path, {"asks_anew": False, "note": "Corrected"})).json()
    await release(rig, second)
    third = await post(rig, OFFICER, f"/v1/alerts/{second['id']}/updates", {"asks_anew": False, "headline": "Anew"})
    document = await get(rig, SECOND, f"/v1/alerts/{third.json()['id']}", Accept=CAP)
    assert document.status_code == 200, document.text
    assert "<status>Draft</status>" in document.text
    references = document.text.partition("<references>")[2].partition("</references>")[0].split()
    assert [reference.split(",")[1] for reference in references] == ["RP-CA-2021-0001", "RP-CA-2021-0002"]


async def test_cap_that_only_drafts_needs_a_drafter(rig: Rig) -> None:
    """Roles count for CAP as for JSON, and a system's credential drafts nothing."""
    alert = await released(rig, tlp="TLP:CLEAR", to=["US"])
    document = (await get(rig, OFFICER, f"/v1/alerts/{alert['id']}", Accept=CAP)).content
    for what, code in (("senior", "role_missing"), ("system", "person_needed")):
        async with rig.client(person("CA", what)) as client:
            refused = await client.post("/v1/alerts", content=document, headers={**key(), "Content-Type": CAP})
        problem(refused, 403, code)


@pytest.mark.parametrize(
    ("accept", "status", "media_type"),
    [
        ("application/json", 200, "application/json"),
        ("*/*", 200, "application/json"),
        ("text/html, */*;q=0.1", 200, "application/json"),
        (CAP, 200, CAP),
        (f"{CAP};q=0.9, application/json;q=0.5", 200, CAP),
        (f"{CAP};q=0.1, application/json", 200, "application/json"),
        ("text/html", 406, "application/problem+json"),
        ("image/png;q=nonsense", 406, "application/problem+json"),
    ],
)
async def test_form_follows_accept(rig: Rig, accept: str, status: int, media_type: str) -> None:
    """JSON unless CAP is asked for; neither is 406."""
    alert = await released(rig)
    answer = await get(rig, OFFICER, f"/v1/alerts/{alert['id']}", Accept=accept)
    assert (answer.status_code, answer.headers["content-type"].partition(";")[0]) == (status, media_type)


# --- crises -----------------------------------------------------------------------------------------------------------


async def test_crisis_is_opened_listed_and_moved_on(rig: Rig) -> None:
    """Its owner moves it with the version read; others see it once an alert of it addresses them."""
    opened = await post(rig, OFFICER, "/v1/crises", {"name": "Afghanistan", "countries": ["AF"]})
    assert opened.status_code == 201
    path = f"/v1/crises/{opened.json()['id']}"
    problem(await get(rig, person("US"), path), 404, "not_found")
    await released(rig, crisis_id=opened.json()["id"])
    seen = await get(rig, person("US"), path)
    assert seen.json()["countries"] == ["AFG"]
    async with rig.client(person("US", "second")) as client:
        problem(await client.patch(path, json={"state": "closed"}, headers={"If-Match": "*"}), 403, "not_yours")
    async with rig.client(SECOND) as client:
        problem(await client.patch(path, json={"state": "activated"}), 428, "precondition_required")
        moved = await client.patch(path, json={"state": "activated"}, headers={"If-Match": seen.headers["etag"]})
        assert moved.json()["state"] == "activated"
        back = await client.patch(path, json={"state": "watch"}, headers={"If-Match": moved.headers["etag"]})
    problem(back, 409, "crisis_goes_forward")
    assert [c["id"] for c in (await get(rig, person("US"), "/v1/crises")).json()["items"]] == [opened.json()["id"]]
    assert (await get(rig, person("ES"), "/v1/crises")).json()["items"] == []


@pytest.mark.parametrize("tlp", list(Tlp))
async def test_crisis_of_a_draft_is_its_owners_alone(rig: Rig, tlp: str) -> None:
    """Neither community nor secretariat learn from a crisis what a draft will say; afterwards, what handling allows."""
    draft = await drafted(rig, tlp=tlp)
    others = [person("US"), person("ES"), person("ES", "observer"), person("XR", "secretariat")]

    async def seen_by(who: Principal) -> list[dict[str, Any]]:
        return list((await get(rig, who, "/v1/crises")).json()["items"])

    for who in others:
        assert await seen_by(who) == [], who
    assert len(await seen_by(OFFICER)) == 1
    await post(rig, SECOND, f"/v1/alerts/{draft['id']}/release", {"precedence": "FLASH"})
    community = tlp in ("TLP:GREEN", "TLP:CLEAR")
    kept = tlp in ("TLP:RED", "TLP:AMBER+STRICT")
    assert [len(await seen_by(who)) for who in others] == [1, community, community, not kept]
    assert (await seen_by(OFFICER))[0]["name"].startswith("Crisis of RP-CA" if kept else "Kabul")


async def test_crisis_follows_the_edits_of_its_draft(rig: Rig) -> None:
    """A draft that becomes TLP:RED takes its words out of the crisis that it has opened, but not out of another's."""
    opened = (await post(rig, OFFICER, "/v1/crises", {"name": "Afghanistan", "countries": ["AFG"]})).json()
    for draft in (await drafted(rig), await drafted(rig, crisis_id=opened["id"])):
        async with rig.client(OFFICER) as client:
            path = f"/v1/alerts/{draft['id']}"
            edited = await client.patch(path, json={"tlp": "TLP:RED"}, headers={"If-Match": '"1"'})
            assert edited.status_code == 200, edited.text
    crises = {c["id"]: c for c in (await get(rig, OFFICER, "/v1/crises")).json()["items"]}
    assert (crises[opened["id"]]["name"], crises[opened["id"]]["tlp"]) == ("Afghanistan", "TLP:AMBER")
    (own,) = [crisis for crisis in crises.values() if crisis["id"] != opened["id"]]
    assert (own["name"], own["tlp"]) == ("Crisis of RP-CA-2021-0001", "TLP:RED")


ALL_READERS = [person("US"), person("DE"), person("BR"), person("ES", "observer"), person("XR", "secretariat")]


async def edited(rig: Rig, draft: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """The draft after an edit of its author."""
    async with rig.client(OFFICER) as client:
        answer = await client.patch(f"/v1/alerts/{draft['id']}", json=changes, headers={"If-Match": "*"})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def release(rig: Rig, draft: dict[str, Any]) -> None:
    """The second person's release."""
    answer = await post(rig, SECOND, f"/v1/alerts/{draft['id']}/release", {"precedence": draft["precedence"]})
    assert answer.status_code == 202, answer.text


async def crises_seen(rig: Rig, who: Principal) -> str:
    """Everything that somebody is told of crises: the list, and each one by itself."""
    listed = await get(rig, who, "/v1/crises")
    single = [await get(rig, who, f"/v1/crises/{crisis['id']}") for crisis in listed.json()["items"]]
    assert [one.json() for one in single] == listed.json()["items"]
    return listed.text


async def test_crisis_never_tells_of_a_draft_that_others_joined(rig: Rig) -> None:
    """A second alert makes the crisis known, and not what the first will say: neither now nor once that is TLP:RED."""
    first = await drafted(rig, to=["US"], headline="Words of the first", countries=["PK"])
    second = await drafted(
        rig, to=["DE"], headline="Words of the second", tlp="TLP:GREEN", crisis_id=first["crisis_id"]
    )
    await release(rig, second)
    for tlp, is_released in (("TLP:AMBER", False), ("TLP:RED", False), ("TLP:RED", True)):
        await edited(rig, first, tlp=tlp) if not is_released else await release(rig, first)
        for who in ALL_READERS[1:]:
            seen = await crises_seen(rig, who)
            assert "Crisis of RP-CA-2021-0001" in seen, who
            for hidden in ("Words", "PAK", "RED"):
                assert hidden not in seen, (who, tlp, is_released)
    (mine,) = (await get(rig, OFFICER, "/v1/crises")).json()["items"]
    assert (mine["name"], mine["countries"], mine["tlp"]) == ("Crisis of RP-CA-2021-0001", ["PAK"], "TLP:RED")
    assert "PAK" in await crises_seen(rig, person("US"))


async def test_crisis_never_takes_the_words_of_a_draft_that_joined(rig: Rig) -> None:
    """Only the alert that opened a crisis leads it: the edits of another draft change nothing, also after a release."""
    first = await drafted(rig, to=["US"], headline="Words of the first", tlp="TLP:RED")
    second = await drafted(
        rig, to=["DE"], headline="Words of the second", tlp="TLP:GREEN", crisis_id=first["crisis_id"]
    )
    await edited(rig, second, severity="Extreme")
    await release(rig, first)
    for who in ALL_READERS[1:]:
        assert (await get(rig, who, "/v1/crises")).json()["items"] == [], who
    for who in (OFFICER, person("US")):
        seen = await crises_seen(rig, who)
        assert "Crisis of RP-CA-2021-0001" in seen
        assert "Words" not in seen


async def test_crisis_is_named_for_whoever_may_read_its_alert(rig: Rig) -> None:
    """At TLP:AMBER those addressed and the secretariat read the headline; a partner of another alert does not."""
    first = await drafted(rig, to=["US"], headline="Words of the first")
    await release(rig, await drafted(rig, to=["DE"], crisis_id=first["crisis_id"]))
    raised = await get(rig, OFFICER, f"/v1/crises/{first['crisis_id']}")
    await release(rig, await edited(rig, first, headline="Words as released"))
    named = {who.partner: "Words as released" in await crises_seen(rig, who) for who in (OFFICER, *ALL_READERS)}
    assert named == {"CA": True, "US": True, "DE": False, "BR": False, "ES": False, "XR": True}
    for who in ALL_READERS:
        assert "Words of the first" not in await crises_seen(rig, who)
    # Whoever read another name moves the crisis only after having read it again, and moving keeps counting.
    path, versions = f"/v1/crises/{first['crisis_id']}", []
    async with rig.client(SECOND) as client:
        refused = await client.patch(path, json={"state": "activated"}, headers={"If-Match": raised.headers["etag"]})
        problem(refused, 412, "precondition_failed")
        for state in ("information_sharing", "activated"):
            tag = (await client.get(path)).headers["etag"]
            moved = await client.patch(path, json={"state": state}, headers={"If-Match": tag})
            assert moved.headers["etag"] == (await client.get(path)).headers["etag"] != tag
            versions.append(moved.json()["version"])
    assert versions == [4, 5]


async def test_migration_takes_words_out_of_crises_that_are_there(rig: Rig) -> None:
    """A crisis that still holds its alert's words is led by that alert afterwards; one with a name of its own stays."""
    opened = (await post(rig, OFFICER, "/v1/crises", {"name": "Afghanistan", "countries": ["AFG"]})).json()
    own, joined = await drafted(rig, tlp="TLP:RED"), await drafted(rig, crisis_id=opened["id"])
    await drafted(rig, crisis_id=own["crisis_id"])
    await rig.rows(
        "UPDATE crises SET led_by = NULL, name = 'Words', tlp = 'TLP:GREEN' WHERE id = :id RETURNING 1",
        id=own["crisis_id"],
    )
    leaders = importlib.import_module("services.alerting.migrations.versions.0004_leading_alerts").LEADERS
    await rig.rows(leaders.strip().removesuffix(";") + " RETURNING 1")
    rows = {str(row.id): row for row in await rig.rows("SELECT id, name, tlp, countries, led_by FROM crises")}
    kept = rows[own["crisis_id"]]
    assert (kept.name, kept.tlp, kept.countries) == ("Crisis of RP-CA-2021-0001", "TLP:AMBER", [])
    assert str(kept.led_by) == own["id"]
    assert (rows[joined["crisis_id"]].name, rows[joined["crisis_id"]].led_by) == ("Afghanistan", None)


async def test_zero_characters_are_refused_wherever_they_stand(rig: Rig) -> None:
    """What the database cannot store is the caller's mistake: refused as such, without an alarm."""
    problem(await get(rig, OFFICER, "/v1/alerts?reference=a%00b"), 422, "control_characters")


async def test_shape_of_an_unknown_kind_is_not_repeated(rig: Rig) -> None:
    """A geometry that is no polygon is refused with what would be right, and without what was sent."""
    area = {"description": "Kabul", "geometry": {"type": "hidden-value", "coordinates": []}}
    answer = await post(rig, OFFICER, "/v1/alerts", {**LEAST, "areas": [area]})
    (error,) = answer.json()["errors"]
    assert (answer.status_code, error["field"]) == (422, "areas[0].geometry")
    assert "'Polygon', 'MultiPolygon'" in error["detail"]
    assert "hidden-value" not in answer.text


# --- stream -----------------------------------------------------------------------------------------------------------


async def following(rig: Rig, who: Principal, after: str | None = None) -> AsyncGenerator[StreamEvent]:
    """What somebody's stream would send."""
    async with rig.deps.database.transaction() as tx:
        begin = await reading.head(tx) if after is None else place_of(after)
    return stream.follow(rig.deps.database, rig.news, Viewer(who.partner, who.roles), begin)


async def test_stream_sends_what_happens_and_resumes(rig: Rig) -> None:
    """Each listener gets what they may see, in order, with an id to resume from; others get nothing of it."""
    async with (
        aclosing(await following(rig, OFFICER)) as raiser,
        aclosing(await following(rig, person("US", "senior"))) as addressed,
        aclosing(await following(rig, person("XR", "secretariat"))) as watching,
    ):
        alert = await released(rig, tlp="TLP:RED", description="Secret matter")
        await handlers.on_answer(rig.deps, rig.message(acknowledged(alert)))
        await rig.news.run_once()
        own = [await anext(raiser) for _ in range(3)]
        assert {event.event for event in own} == {"alert_drafted", "alert_released", "partner_acknowledged"}
        theirs = [await anext(addressed) for _ in range(2)]
        assert {event.event for event in theirs} == {"alert_released", "partner_acknowledged"}
        assert any("Secret matter" in event.data for event in theirs)
        watched = [await anext(watching) for _ in range(2)]
        assert all("Secret" not in event.data for event in watched)
    async with aclosing(await following(rig, OFFICER, own[0].id)) as resumed:
        assert [(await anext(resumed)).id for _ in range(2)] == [own[1].id, own[2].id]


async def test_stream_wakes_its_listeners(rig: Rig) -> None:
    """Who waits is woken as soon as something new has been numbered, and by nothing else."""
    waiting = rig.news.changed()
    await rig.news.run_once()
    first = rig.news.changed()
    await rig.news.run_once()
    assert rig.news.changed() is first, "nothing new, nobody woken"
    await released(rig)
    await rig.news.run_once()
    assert waiting.is_set()
    assert first.is_set()


async def test_stream_over_http_begins_at_once(rig: Rig) -> None:
    """The route answers with an event stream and sends what comes after the id that was given."""
    await released(rig)
    await rig.news.run_once()
    async with aclosing(await following(rig, OFFICER, after=encode_cursor(0, 0))) as source:
        first = await anext(source)
    token = rig.client(OFFICER).headers["authorization"]
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        if len(sent) < 4:
            await rig.deps.streams.closing.wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)
        if b"alert_released" in message.get("body", b""):
            rig.deps.streams.close()

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": "/v1/stream",
        "raw_path": b"/v1/stream",
        "query_string": b"",
        "root_path": "",
        "client": ("127.0.0.1", 1),
        "server": ("redphone.test", 80),
        "headers": [(b"authorization", token.encode()), (b"last-event-id", encode_cursor(0, 0).encode())],
    }
    await rig.app()(scope, receive, send)
    assert sent[0]["status"] == 200
    streamed = b"".join(message.get("body", b"") for message in sent)
    assert f"id: {first.id}".encode() in streamed
    assert b"event: alert_released" in streamed


async def test_stream_finds_what_is_one_of_many(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A listener who may see few of many rows looks through them piece by piece, and gets what is theirs."""
    monkeypatch.setattr(reading, "LOOKED_AT_MAX", 3)
    for _ in range(4):
        await released(rig, to=["GB"])
    await released(rig, to=["US"])
    await rig.news.run_once()
    async with aclosing(await following(rig, person("US"), after=encode_cursor(0, 0))) as listener:
        async with asyncio.timeout(3):
            event = await anext(listener)
    assert event.event == "alert_released"


async def test_many_listeners_leave_connections_to_others(rig: Rig) -> None:
    """However many listeners wake at once, only a few of them look at the same time."""
    await released(rig)
    await rig.news.run_once()
    looking, most = 0, 0

    class Counting:
        @asynccontextmanager
        async def transaction(self) -> AsyncGenerator[Any]:
            nonlocal looking, most
            looking += 1
            most = max(most, looking)
            async with rig.deps.database.transaction() as tx:
                yield tx
            looking -= 1

    viewer = Viewer(OFFICER.partner, OFFICER.roles)
    listeners = [stream.follow(cast("Any", Counting()), rig.news, viewer, reading.Head(0, 0)) for _ in range(30)]
    assert len(await asyncio.gather(*(anext(listener) for listener in listeners))) == 30
    await asyncio.gather(*(listener.aclose() for listener in listeners))
    assert most <= stream.LOOKS_AT_ONCE_MAX


@pytest.mark.parametrize("wrong", ["abc", "W10", "WzEsMl0=extra", "WyJ4IiwyXQ", encode_cursor(0, -1)])
async def test_stream_refuses_a_place_that_it_never_gave(rig: Rig, wrong: str) -> None:
    """A made-up Last-Event-ID is refused before anything is sent."""
    problem(await get(rig, OFFICER, "/v1/stream", **{"Last-Event-ID": wrong}), 422, "cursor_invalid")
    with pytest.raises(Invalid):
        place_of(wrong)


# --- documentation ----------------------------------------------------------------------------------------------------


async def test_documentation_is_valid_and_complete(rig: Rig) -> None:
    """A partner's developer can work from it: summaries, descriptions, examples, problems, no dead reference."""
    document = rig.app().openapi()
    validate(document)
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            assert operation["summary"], (method, path)
            assert operation["description"], (method, path)
            assert "401" in operation["responses"], (method, path)
    forms = document["paths"]["/v1/alerts"]["post"]["requestBody"]["content"]
    assert set(forms) == {"application/json", CAP}
    assert forms["application/json"]["schema"]["examples"]
    text = json.dumps(document)
    for name in {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}:
        assert name in document["components"]["schemas"], name

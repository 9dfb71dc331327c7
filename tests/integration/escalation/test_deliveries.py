"""Messages to systems: the log, the body that was sent, test messages, and sending again."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import orjson
import pytest
import pytest_asyncio

from services.escalation.channels import AttemptState, Reason, SendResult
from services.escalation.deliveries import handlers as deliveries
from services.escalation.deliveries.api import ATTEMPTS_LISTED_MAX
from services.escalation.deliveries.handlers import PINGS_MAX, REPLAY_RANGE_MAX, REPLAYED_PAGES_MAX
from services.escalation.messages import instant
from shared.contracts import (
    ChannelName,
    PlannedEndpoint,
    Role,
    Tlp,
)
from shared.events import Cause
from shared.ids import derived
from shared.keys import point_context
from shared.security import Principal, issue_token
from shared.web import build_app
from tests.support.cluster import Cluster
from tests.support.escalation_rig import REFUSED, Rig, escalation_rig, person, publish_credentials, system

DUTY = person("GB", Role.DUTY_OFFICER)
KEEPER = person("GB", Role.ROSTER_MANAGER, number=2)
AUDITOR = person("GB", Role.AUDITOR, number=3)
MACHINE = system("GB")
STRANGER = person("US", Role.DUTY_OFFICER)
PEOPLE = (DUTY, KEEPER, AUDITOR, MACHINE, STRANGER)

ENDPOINT = derived("point", "gb-system")


@dataclass
class Desk:
    """Escalation over HTTP, for everybody."""

    rig: Rig
    http: httpx.AsyncClient

    async def call(self, who: Principal, method: str, path: str, **options: Any) -> httpx.Response:
        """One call as somebody, with a token of this instant."""
        rig, known = self.rig, replace(who, credential_version=1)
        token = issue_token(rig.keys, known, now=rig.clock.now(), token_id=rig.ids.new())
        return await self.http.request(method, path, headers={"Authorization": f"Bearer {token}"}, **options)

    async def log(self, who: Principal = DUTY, **params: Any) -> list[dict[str, Any]]:
        """What the delivery log shows."""
        answer = await self.call(who, "GET", "/v1/deliveries", params=params)
        assert answer.status_code == 200, answer.text
        items: list[dict[str, Any]] = answer.json()["items"]
        return items

    async def post(self, path: str, body: Any = None, who: Principal = DUTY, status: int = 202) -> dict[str, Any]:
        """One POST with the expected status."""
        answer = await self.call(who, "POST", path, json=body)
        assert answer.status_code == status, answer.text
        said: dict[str, Any] = answer.json()
        return said

    def to_system(self) -> list[Any]:
        """What has left for GB's endpoint, in order."""
        return [page for page in self.rig.outlet.sent if page.contact_point_id == ENDPOINT]


@pytest_asyncio.fixture
async def desk(cluster: Cluster, tmp_path: Path) -> AsyncIterator[Desk]:
    """An alert to GB and US was released and its pages are out."""
    async with escalation_rig(cluster, tmp_path) as rig:
        app = build_app("Escalation", rig.service.routers, service="escalation", clock=rig.clock, ids=rig.ids)
        await publish_credentials(rig, PEOPLE)
        for code in ("GB", "US"):
            await rig.handle(rig.plan(code))
        await rig.handle(rig.released("GB", "US"))
        await rig.settle()
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://escalation") as http:
            yield Desk(rig, http)


def moved_plan(rig: Rig, url: str | None) -> Any:
    """GB's next plan, with its endpoint at another address, or without it."""
    sealed = rig.keys.seal(url or "", context=point_context(ENDPOINT))
    endpoints = () if url is None else (PlannedEndpoint(id=ENDPOINT, sealed_url=sealed, description="crisis room"),)
    return rig.plan("GB", version=2, endpoints=endpoints)


# --- the log ----------------------------------------------------------------------------------------------------------


async def test_the_log_shows_each_message_with_its_attempts(desk: Desk) -> None:
    """Type, times, state, reason and status of every attempt; no address, and nothing of pages to people."""
    [entry] = await desk.log()
    [sent] = desk.to_system()
    assert entry["page_id"] == str(sent.page_id)
    assert (entry["endpoint_id"], entry["told"]) == (str(ENDPOINT), "endpoint crisis room")
    assert (entry["message_type"], entry["state"], entry["attempts_made"]) == ("alert.released", "done", 1)
    assert entry["delivered_at"] is not None
    assert entry["next_attempt_at"] is None
    [attempt] = entry["attempts"]
    assert (attempt["state"], attempt["reason"], attempt["status_code"]) == ("delivered", "accepted", 204)
    assert "https://" not in orjson.dumps(await desk.log()).decode()


async def test_the_log_says_when_a_failed_message_is_tried_next(desk: Desk) -> None:
    """A message that failed is due, with the instant of its next attempt; the newest attempts are shown."""
    desk.rig.outlet.answers["gb-system"] = REFUSED
    await desk.rig.handle(desk.rig.released("GB"))
    await desk.rig.settle()
    [failed] = await desk.log(state="due")
    assert failed["next_attempt_at"] == instant(desk.rig.clock.now() + timedelta(seconds=1)).replace(".000", "")
    assert failed["attempts"][0]["reason"] == "http_status"
    await desk.rig.forward(minutes=25)
    failed = next(one for one in await desk.log(delivered=False) if one["page_id"] == failed["page_id"])
    assert failed["attempts_made"] > ATTEMPTS_LISTED_MAX
    assert [one["number"] for one in failed["attempts"]][-1] == failed["attempts_made"]
    assert len(failed["attempts"]) == ATTEMPTS_LISTED_MAX


async def test_the_log_is_filtered_and_paged(desk: Desk) -> None:
    """By endpoint, state and time; a cursor leads through all of it once, newest first."""
    began_at = desk.rig.clock.now()
    for _ in range(4):
        await desk.rig.forward(seconds=10)
        await desk.rig.handle(desk.rig.released("GB"))
        await desk.rig.settle()
    everything = await desk.log()
    assert len(everything) == 5
    walked: list[Any] = []
    cursor: str | None = None
    while True:
        params = {"limit": 2} | ({"cursor": cursor} if cursor else {})
        page = (await desk.call(DUTY, "GET", "/v1/deliveries", params=params)).json()
        walked += page["items"]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert walked == everything
    assert [one["created_at"] for one in walked] == sorted((one["created_at"] for one in walked), reverse=True)
    later = instant(began_at + timedelta(seconds=20))
    since: Any = {"from": later}
    assert len(await desk.log(**since)) == 3
    assert len(await desk.log(to=later)) == 2
    assert await desk.log(contact_point_id=str(derived("point", "us-system"))) == []
    assert await desk.log(state="ended") == []


async def test_each_government_sees_its_own(desk: Desk) -> None:
    """Another government's messages are in no list, and asking for one by its id is answered as if there were none."""
    [own] = await desk.log()
    [other] = await desk.log(STRANGER)
    assert own["page_id"] != other["page_id"]
    for method, path in (("GET", ""), ("POST", "/replay")):
        for page_id in (other["page_id"], str(desk.rig.ids.new())):
            answer = await desk.call(DUTY, method, f"/v1/deliveries/{page_id}{path}")
            assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    for path in ("ping", "replay"):
        body = {"from": "2021-08-15T00:00:00Z", "to": "2021-08-16T00:00:00Z"} if path == "replay" else None
        await desk.post(f"/v1/endpoints/{derived('point', 'us-system')}/{path}", body, status=404)


async def test_a_persons_page_is_not_in_it(desk: Desk) -> None:
    """Pages to people are found by their escalation, and not here, even by their id."""
    person_page = next(page for page in desk.rig.outlet.sent if "gb-1" in page.target)
    answer = await desk.call(DUTY, "GET", f"/v1/deliveries/{person_page.page_id}")
    assert answer.status_code == 404


async def test_who_may_look(desk: Desk) -> None:
    """Those who look after systems, those who answer, and the systems; nobody else of the same government."""
    for who in (DUTY, KEEPER, MACHINE):
        assert len(await desk.log(who)) == 1
    for method, path in (
        ("GET", "/v1/deliveries"),
        ("GET", f"/v1/deliveries/{desk.to_system()[0].page_id}"),
        ("POST", f"/v1/deliveries/{desk.to_system()[0].page_id}/replay"),
        ("POST", f"/v1/endpoints/{ENDPOINT}/ping"),
    ):
        answer = await desk.call(AUDITOR, method, path)
        assert (answer.status_code, answer.json()["code"]) == (403, "role_missing")


async def test_the_body_is_what_was_sent(desk: Desk) -> None:
    """Whoever sees alerts reads the exact text that was signed; a roster manager sees that something was sent."""
    [sent] = desk.to_system()
    shown = (await desk.call(DUTY, "GET", f"/v1/deliveries/{sent.page_id}")).json()
    assert shown["body"].encode() == sent.body
    assert shown["alert_id"] is not None
    kept = (await desk.call(KEEPER, "GET", f"/v1/deliveries/{sent.page_id}")).json()
    assert (kept["body"], kept["alert_id"], kept["escalation_id"]) == (None, None, None)


async def test_the_body_holds_what_handling_allows(desk: Desk) -> None:
    """Of an alert at TLP:RED the log shows the link that was sent, and no more."""
    await desk.rig.handle(desk.rig.released("GB", tlp=Tlp.RED))
    await desk.rig.settle()
    shown = (await desk.call(DUTY, "GET", f"/v1/deliveries/{desk.to_system()[-1].page_id}")).json()
    assert orjson.loads(shown["body"])["data"]["alert"].keys() == {"id", "precedence", "link", "text"}


# --- test messages ----------------------------------------------------------------------------------------------------


async def test_a_ping_is_sent_once_and_shows_in_the_log(desk: Desk) -> None:
    """A test message goes to that endpoint alone; what became of it is in the log; nobody is paged for it."""
    before = len(desk.rig.outlet.sent)
    desk.rig.clock.advance(1)
    page_id = (await desk.post(f"/v1/endpoints/{ENDPOINT}/ping", who=KEEPER))["page_id"]
    await desk.rig.settle()
    [sent] = desk.rig.outlet.sent[before:]
    assert (str(sent.page_id), sent.message_type, sent.contact_point_id) == (page_id, "test.ping", ENDPOINT)
    assert orjson.loads(sent.body)["data"] == {"partner": "GB"}
    entry = (await desk.log(KEEPER))[0]
    assert (entry["page_id"], entry["attempts"][0]["state"]) == (page_id, "delivered")
    shown = (await desk.call(KEEPER, "GET", f"/v1/deliveries/{page_id}")).json()
    assert shown["body"].encode() == sent.body, "a test message holds no alert: whoever may send it may read it"


async def test_a_failed_ping_is_not_repeated(desk: Desk) -> None:
    """A test asks how things are now: one attempt, with its reason."""
    desk.rig.outlet.answers["gb-system"] = REFUSED
    page_id = (await desk.post(f"/v1/endpoints/{ENDPOINT}/ping", who=MACHINE))["page_id"]
    await desk.rig.forward(minutes=5)
    shown = (await desk.call(MACHINE, "GET", f"/v1/deliveries/{page_id}")).json()
    assert (shown["state"], shown["attempts_made"], shown["delivered_at"]) == ("done", 1, None)
    assert (shown["attempts"][0]["reason"], shown["attempts"][0]["status_code"]) == ("http_status", 500)


async def test_pings_have_a_limit(desk: Desk) -> None:
    """So many a minute, then a refusal; a minute later again."""
    for _ in range(PINGS_MAX):
        await desk.post(f"/v1/endpoints/{ENDPOINT}/ping")
    refused = await desk.post(f"/v1/endpoints/{ENDPOINT}/ping", status=409)
    assert refused["code"] == "too_many_pings"
    await desk.rig.forward(seconds=61)
    await desk.post(f"/v1/endpoints/{ENDPOINT}/ping")


# --- again ------------------------------------------------------------------------------------------------------------


async def test_a_replay_has_the_same_id_and_body(desk: Desk) -> None:
    """Sent again under its `webhook-id`, byte for byte, as its next attempt; the alert's state is untouched."""
    [first] = desk.to_system()
    answer = await desk.post(f"/v1/deliveries/{first.page_id}/replay", who=MACHINE)
    assert answer == {"page_ids": [str(first.page_id)], "on_their_way": 0, "continue_from": None}
    await desk.rig.settle()
    _, again = desk.to_system()
    assert (again.page_id, again.body, again.attempt) == (first.page_id, first.body, 2)
    [entry] = await desk.log()
    assert [one["state"] for one in entry["attempts"]] == ["delivered", "delivered"]


async def test_every_type_is_replayed_byte_for_byte(desk: Desk) -> None:
    """Also what carries more than its alert: answers, takeovers with office and script, alarms, ends."""
    rig = desk.rig
    await rig.handle(rig.plan("CA"))
    await rig.handle(rig.plan("XR"))
    alert = rig.released("GB")
    await rig.handle(alert)
    await rig.forward(minutes=45)
    await rig.handle(rig.ended(alert))
    await rig.settle()
    sent = {page.page_id: page for page in rig.outlet.sent if page.target.endswith("-system")}
    assert {"alert.released", "level.raised", "partner.unreached", "alert.ended"} <= {
        page.message_type for page in sent.values()
    }
    for page in sent.values():
        partner = page.target.removeprefix("https://")[:2].upper()
        who = replace(DUTY, partner=partner)
        read = await deliveries.read_delivery(rig.deps, who, page.page_id, 10)
        assert read.body == page.body, page.message_type


async def test_a_replay_goes_where_the_endpoint_is_now(desk: Desk) -> None:
    """An endpoint that has moved gets it at its new address, never at the one it was first sent to."""
    [first] = desk.to_system()
    await desk.rig.handle(moved_plan(desk.rig, "https://gb-new-system"))
    await desk.post(f"/v1/deliveries/{first.page_id}/replay")
    await desk.rig.settle()
    assert desk.to_system()[-1].target == "https://gb-new-system"


async def test_nothing_is_replayed_to_an_endpoint_that_is_gone(desk: Desk) -> None:
    """A message to an endpoint that was taken away stays in the log and is not sent again."""
    [first] = desk.to_system()
    await desk.rig.handle(moved_plan(desk.rig, None))
    refused = await desk.post(f"/v1/deliveries/{first.page_id}/replay", status=404)
    assert refused["code"] == "not_found"
    await desk.rig.settle()
    assert len(desk.to_system()) == 1
    assert len(await desk.log()) == 1


async def test_what_is_on_its_way_is_left_alone(desk: Desk) -> None:
    """A message that is being tried keeps its next instant, however often it is asked for."""
    desk.rig.outlet.answers["gb-system"] = REFUSED
    await desk.rig.handle(desk.rig.released("GB"))
    await desk.rig.settle()
    [due] = await desk.log(state="due")
    for _ in range(2):
        answer = await desk.post(f"/v1/deliveries/{due['page_id']}/replay")
        assert (answer["page_ids"], answer["on_their_way"]) == ([], 1)
    assert await desk.log(state="due") == [due]


@pytest.mark.logs_error("duty_plan.lacking")
async def test_a_replay_that_fails_is_tried_for_an_hour(desk: Desk) -> None:
    """A message whose endpoint stays away is given up when it has been tried for so long."""
    [first] = desk.to_system()
    desk.rig.outlet.answers["gb-system"] = REFUSED
    await desk.post(f"/v1/deliveries/{first.page_id}/replay")
    await desk.rig.forward(minutes=58)
    path = f"/v1/deliveries/{first.page_id}"
    assert (await desk.call(DUTY, "GET", path)).json()["state"] == "due"
    await desk.rig.forward(minutes=3)
    shown = (await desk.call(DUTY, "GET", path)).json()
    assert (shown["state"], shown["attempts"][-1]["state"]) == ("done", "failed")
    assert shown["delivered_at"] is not None, "it had been delivered before"


async def test_a_range_is_replayed_in_order(desk: Desk) -> None:
    """Everything from one instant up to another, oldest first, and no test message; the rest is told."""
    began_at = desk.rig.clock.now()
    for _ in range(3):
        await desk.rig.forward(seconds=10)
        await desk.rig.handle(desk.rig.released("GB"))
        await desk.rig.settle()
    await desk.post(f"/v1/endpoints/{ENDPOINT}/ping")
    await desk.rig.settle()
    sent = [page.page_id for page in desk.to_system()]
    desk.rig.outlet.sent.clear()
    until = {"from": instant(began_at), "to": instant(began_at + timedelta(seconds=30))}
    answer = await desk.post(f"/v1/endpoints/{ENDPOINT}/replay", until)
    await desk.rig.settle()
    assert [page.page_id for page in desk.to_system()] == sent[:3]
    assert {UUID(page_id) for page_id in answer["page_ids"]} == set(sent[:3])
    assert answer["continue_from"] is None
    whole = {"from": instant(began_at), "to": instant(began_at + timedelta(days=1))}
    assert len((await desk.post(f"/v1/endpoints/{ENDPOINT}/replay", whole))["page_ids"]) == 4


async def test_a_range_has_a_limit(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """So many at a time, with the instant where the rest begins; following it leads through all of them."""
    assert REPLAYED_PAGES_MAX == 500, "the document says so"
    monkeypatch.setattr(deliveries, "REPLAYED_PAGES_MAX", 2)
    began_at = desk.rig.clock.now()
    for _ in range(4):
        await desk.rig.forward(seconds=10)
        await desk.rig.handle(desk.rig.released("GB"))
        await desk.rig.settle()
    begin: str | None = instant(began_at)
    found: list[str] = []
    while begin is not None:
        body = {"from": begin, "to": instant(began_at + timedelta(days=1))}
        answer = await desk.post(f"/v1/endpoints/{ENDPOINT}/replay", body)
        found += answer["page_ids"]
        begin = answer["continue_from"]
    assert found == [str(page.page_id) for page in desk.to_system()]


async def test_unusable_ranges(desk: Desk) -> None:
    """A range that ends before it begins, or is longer than the limit, is refused with the field."""
    now = desk.rig.clock.now()
    for end in (now, now - timedelta(days=1), now + REPLAY_RANGE_MAX + timedelta(seconds=1)):
        body = {"from": instant(now), "to": instant(end)}
        refused = await desk.post(f"/v1/endpoints/{ENDPOINT}/replay", body, status=422)
        assert refused["code"] == "out_of_range"


async def test_alerts_go_before_replays(desk: Desk) -> None:
    """A new alert leaves before what is replayed at the same moment."""
    await desk.post(f"/v1/deliveries/{desk.to_system()[0].page_id}/replay")
    desk.rig.outlet.sent.clear()
    await desk.rig.handle(desk.rig.released("GB"))
    await desk.rig.settle()
    assert [page.attempt for page in desk.to_system()] == [1, 2]


async def test_the_record_names_who_asked(desk: Desk) -> None:
    """A test message and a replay are in the record, with the person behind them."""
    await deliveries.ping_endpoint(desk.rig.deps, DUTY, ENDPOINT, cause=Cause(desk.rig.ids.new(), subject="gb-1"))
    await desk.post(f"/v1/deliveries/{desk.to_system()[0].page_id}/replay")
    rows = await desk.rig.rows("SELECT kind FROM record WHERE kind IN ('endpoint.pinged', 'page.replayed')")
    assert sorted(row["kind"] for row in rows) == ["endpoint.pinged", "page.replayed"]


# --- messages to people -----------------------------------------------------------------------------------------------


async def test_roster_managers_see_how_their_people_were_reached(cluster: Cluster, tmp_path: Path) -> None:
    """Channel, office or role, provider, outcome, reason and cost; no address, no name, no text, nobody else's."""
    failed = SendResult(AttemptState.FAILED, Reason.NOT_DELIVERED, "SMTP 550", 550, None, 0.2, provider="mailer")
    async with escalation_rig(cluster, tmp_path, people=("sms", "email")) as rig:
        rig.outlets["email"].answers[""] = failed
        first, second = rig.plan("GB").contacts
        points = (rig.point("+447700900001", ChannelName.SMS), rig.point("PLANTED@example.org", ChannelName.EMAIL))
        contacts = (first.model_copy(update={"points": points}), second)
        await publish_credentials(rig, PEOPLE)
        for code in ("GB", "US"):
            plan = rig.plan(code)
            await rig.handle(plan.model_copy(update={"contacts": contacts}) if code == "GB" else plan)
        await rig.handle(rig.released("GB", "US"))
        await rig.settle()
        transport = httpx.ASGITransport(rig.application)
        async with httpx.AsyncClient(transport=transport, base_url="http://escalation") as http:
            desk = Desk(rig, http)
            people = await desk.log(KEEPER, kind="people")
            assert {one["channel"] for one in people} >= {"sms", "email"}
            assert ENDPOINT not in {UUID(one["endpoint_id"]) for one in people}
            by_mail = next(one for one in people if one["channel"] == "email")
            assert (by_mail["told"], by_mail["contact_id"]) == ("Senior contact 1", str(first.id))
            (attempt, *_) = by_mail["attempts"]
            assert (attempt["provider"], attempt["state"], attempt["reason"]) == ("mailer", "failed", "not_delivered")
            assert attempt["detail"] == "SMTP 550"
            assert by_mail["alert_id"] is None
            text = (await desk.call(KEEPER, "GET", "/v1/deliveries?kind=people")).text
            for hidden in ("PLANTED", "+4477", "Kabul", first.name):
                assert hidden not in text
            narrowed = await desk.log(KEEPER, kind="people", contact_point_id=str(points[0].id))
            assert [one["channel"] for one in narrowed] == ["sms"]
            assert [one["endpoint_id"] for one in await desk.log(DUTY)] == [str(ENDPOINT)]
            for other in (DUTY, MACHINE, AUDITOR, STRANGER):
                refused = await desk.call(other, "GET", "/v1/deliveries?kind=people")
                assert (refused.status_code, refused.json()["code"]) == (403, "role_missing")
            page_id = by_mail["page_id"]
            assert (await desk.call(KEEPER, "GET", f"/v1/deliveries/{page_id}")).status_code == 404
            assert (await desk.call(KEEPER, "POST", f"/v1/deliveries/{page_id}/replay", json={})).status_code == 404

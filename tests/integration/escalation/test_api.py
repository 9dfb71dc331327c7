"""Escalation over HTTP: what callers send, what they get, and what the document promises them."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from openapi_spec_validator import validate

from shared.contracts import Role
from shared.ids import derived
from shared.security import Principal
from tests.support.escalation_rig import Rig, calling, person, publish_credentials, system

PEOPLE = (
    person("GB"),
    person("GB", Role.DRAFTER, number=2),
    system("GB"),
    person("US"),
    person("CA", Role.RELEASER, Role.DUTY_OFFICER),
    person("XR", Role.SECRETARIAT),
    person("ES"),
)


async def released(rig: Rig, *to: str, **changes: Any) -> str:
    """An alert of Canada to these partners, paged; returns the first one's escalation id."""
    await publish_credentials(rig, PEOPLE)
    for code in to:
        await rig.handle(rig.plan(code))
    await rig.handle(rig.released(*to, **changes))
    await rig.settle()
    return str((await rig.escalation(to[0]))["id"])


def code_of(answer: httpx.Response) -> tuple[int, str]:
    """Status and code of a problem, checked for its shape."""
    assert answer.headers["content-type"].startswith("application/problem+json"), answer.text
    body = answer.json()
    assert {"type", "title", "status", "detail", "code", "instance"} <= body.keys()
    return answer.status_code, body["code"]


async def test_a_person_acknowledges_with_an_empty_request(rig: Rig) -> None:
    """No body and no key are needed; sent again it answers the same."""
    escalation_id = await released(rig, "GB")
    async with calling(rig, person("GB")) as client:
        first = await client.post(f"/v1/escalations/{escalation_id}/acknowledgement")
        rig.clock.advance(5)
        again = await client.post(f"/v1/escalations/{escalation_id}/acknowledgement", json={})
    assert (first.status_code, again.status_code) == (200, 200)
    assert first.json()["state"] == "acknowledged"
    assert first.json()["acknowledgement"] == again.json()["acknowledgement"]
    assert first.json()["acknowledgement"]["at"] == "2021-08-15T09:30:00Z"
    assert len(await rig.events("partner_acknowledged")) == 1


async def test_acknowledging_by_alert(rig: Rig) -> None:
    """By the alert's id or with `all`; an unknown alert is missing."""
    await released(rig, "GB")
    alert_id = str((await rig.escalation("GB"))["alert_id"])
    async with calling(rig, system("GB")) as client:
        body = {"alert_ids": [alert_id], "contact_id": str(derived("contact", "gb-1"))}
        done = await client.post("/v1/acknowledgements", json=body)
        missing = await client.post("/v1/acknowledgements", json={**body, "alert_ids": [str(rig.ids.new())]})
        everything = await client.post("/v1/acknowledgements", json={**body, "alert_ids": "all"})
    (escalation,) = done.json()["escalations"]
    assert escalation["acknowledgement"]["by"] == "Example Person 1 of GB"
    assert escalation["acknowledgement"]["asserted_by_system"] == "gb-system"
    assert code_of(missing) == (404, "not_found")
    assert everything.json() == {"escalations": []}


@pytest.mark.parametrize(
    ("principal", "path", "body", "expected"),
    [
        (None, "acknowledgement", {}, (401, "token_missing")),
        (person("ES"), "acknowledgement", {}, (404, "not_found")),
        (person("CA"), "acknowledgement", {}, (403, "not_your_escalation")),
        (person("GB", number=2), "acknowledgement", {}, (403, "role_missing")),
        (system("GB"), "acknowledgement", {}, (422, "required")),
        (person("GB"), "acknowledgement", {"by": "me"}, (422, "invalid")),
        (person("GB"), "acknowledgement", {"via": "carrier pigeon"}, (422, "invalid")),
        (person("GB"), "position", {}, (422, "invalid")),
        (person("GB"), "position", {"stance": "accepted"}, (422, "invalid")),
        (person("GB"), "position", {"stance": "considering"}, (422, "required")),
        (person("GB"), "position", {"stance": "noted", "note": "n" * 2001}, (422, "invalid")),
        (person("GB"), "position", {"stance": "considering", "answer_by": "tomorrow"}, (422, "invalid")),
        (person("CA"), "takeover", None, (409, "not_unreached")),
        (person("CA"), "raise-level", None, (403, "role_missing")),
    ],
)
async def test_each_refusal_is_a_problem_and_changes_nothing(
    rig: Rig, principal: Principal | None, path: str, body: Any, expected: tuple[int, str]
) -> None:
    """A stable code, what is wrong, and nothing half applied."""
    escalation_id = await released(rig, "GB")
    before = await rig.escalation("GB")
    async with calling(rig, principal) as client:
        answer = await client.post(f"/v1/escalations/{escalation_id}/{path}", json=body)
    assert code_of(answer) == expected
    assert await rig.escalation("GB") == before


async def test_the_same_problem_for_someone_elses_and_for_none(rig: Rig) -> None:
    """Nothing in the answer tells whether there is such an escalation."""
    escalation_id = await released(rig, "GB")
    said = []
    async with calling(rig, person("ES")) as client:
        for target in (escalation_id, str(rig.ids.new())):
            answer = await client.get(f"/v1/escalations/{target}")
            said.append({key: value for key, value in answer.json().items() if key != "instance"})
    assert said[0] == said[1]


async def test_an_escalation_shows_every_page_and_attempt(rig: Rig) -> None:
    """Own government: contact ids and all. Raiser: office and role, never whom. Another addressed partner: nothing."""
    escalation_id = await released(rig, "GB", "US", answers_visible=True)
    shown = {}
    for principal in (person("GB"), person("CA"), person("US")):
        async with calling(rig, principal) as client:
            shown[principal.partner] = (await client.get(f"/v1/escalations/{escalation_id}")).json()
    contacts = {page["told"]: page["contact_id"] for page in shown["GB"]["pages"]}
    assert contacts == {"endpoint crisis room": None, "Senior contact 1": str(derived("contact", "gb-1"))}
    assert {page["contact_id"] for page in shown["CA"]["pages"]} == {None}
    assert shown["CA"]["pages"][0]["attempts"][0]["reason"] == "accepted"
    assert (shown["US"]["pages"], shown["US"]["level"], shown["US"]["state"]) == ([], None, "notified")


async def test_a_list_is_paged_by_cursor_without_gap_or_repeat(rig: Rig) -> None:
    """Newest first; every row once, whatever the size of a page; a made-up cursor is refused."""
    await released(rig, "GB", "US")
    for _ in range(3):
        await rig.handle(rig.released("GB", "US"))
    seen: list[str] = []
    async with calling(rig, person("XR", Role.SECRETARIAT)) as client:
        cursor: str | None = None
        for _ in range(10):
            query = {"limit": "3"} | ({"cursor": cursor} if cursor else {})
            page = (await client.get("/v1/escalations", params=query)).json()
            seen += [item["id"] for item in page["items"]]
            cursor = page["next_cursor"]
            if cursor is None:
                break
        assert len(seen) == len(set(seen)) == 8
        assert code_of(await client.get("/v1/escalations", params={"cursor": "abc"})) == (422, "cursor_invalid")
        filtered = await client.get("/v1/escalations", params={"partner": "US", "state": "notified"})
    assert {item["partner"] for item in filtered.json()["items"]} == {"US"}


async def test_the_secretariat_raises_and_people_take_over(rig: Rig) -> None:
    """The two acts without a body answer with the escalation as it stands afterwards."""
    for code in ("CA", "XR"):
        await rig.handle(rig.plan(code))
    escalation_id = await released(rig, "GB")
    async with calling(rig, person("XR", Role.SECRETARIAT)) as client:
        raised = await client.post(f"/v1/escalations/{escalation_id}/raise-level")
        assert raised.json()["level"] == 2
    await rig.forward(minutes=30)
    async with calling(rig, person("CA")) as client:
        taken = await client.post(f"/v1/escalations/{escalation_id}/takeover")
    assert (taken.status_code, taken.json()["state"]) == (200, "unreached")
    assert taken.json()["takeover"] == {
        "at": "2021-08-15T10:00:00Z", "by": "Example Person 1 of CA", "partner": "CA",
    }  # fmt: skip


async def test_the_board_over_http(rig: Rig) -> None:
    """The board answers with its instant; a stream that cannot resume is refused before it begins."""
    await released(rig, "GB")
    async with calling(rig, person("CA")) as client:
        board = (await client.get("/v1/board")).json()
        refused = await client.get("/v1/board/stream", headers={"Last-Event-ID": "never-sent"})
    assert board["as_of"] == "2021-08-15T09:30:00Z"
    assert [cell["partner"] for cell in board["escalations"]] == ["GB"]
    assert code_of(refused)[1] == "cursor_invalid"


async def test_the_document_is_valid_and_says_what_a_developer_needs(rig: Rig) -> None:
    """Every route has a summary, a description and its problems; requests have examples; the document validates."""
    document = rig.application.openapi()
    validate(document)
    operations = {
        (path, method): operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        if path.startswith(("/v1/escalations", "/v1/acknowledgements", "/v1/board"))
    }
    assert len(operations) == 14
    for place, operation in operations.items():
        assert operation["summary"], place
        assert len(operation["description"]) > 40, place
        assert "401" in operation["responses"], place
    for path in ("acknowledgement", "position"):
        operation = operations[f"/v1/escalations/{{escalation_id}}/{path}", "post"]
        assert "Idempotency-Key" in operation["description"], path
    for name in ("AcknowledgementRequest", "AcknowledgementsRequest", "PositionRequest"):
        assert document["components"]["schemas"][name]["examples"], name

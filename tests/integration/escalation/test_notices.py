"""Notices of roster: whom they page, over which points, when, how often, and what they never do."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import pytest_asyncio
from structlog.testing import capture_logs

from services.escalation import answers, notices
from services.escalation.channels import AttemptState, Reason, SendResult
from services.escalation.notices.issuing import CALM_PRIORITY, ITEMS_KEPT_MAX, TRIED_FOR_MAX, URGENT_PRIORITY
from shared.clock import ManualClock
from shared.contracts import (
    Actor,
    ChannelName,
    CredentialKind,
    CredentialsPublished,
    DutyPlanPublished,
    EndReason,
    NoticeIssued,
    PlannedContact,
    Precedence,
    PublishedCredential,
    ReleaseAsked,
    Role,
    Status,
    Tlp,
)
from shared.events import Cause
from shared.security import hash_secret
from tests.support.cluster import Cluster
from tests.support.escalation_rig import Rig, escalation_rig, message, person

NOON = datetime(2021, 8, 15, 11, 0, 20, tzinfo=UTC)
"""In London it is noon, and some seconds."""
NIGHT = datetime(2021, 8, 15, 22, 30, 20, tzinfo=UTC)
"""In London it is half past eleven at night."""
MORNING = datetime(2021, 8, 16, 6, 0, tzinfo=UTC)
UNAVAILABLE = SendResult(AttemptState.FAILED, Reason.PROVIDER_UNAVAILABLE, None, None, None, 0.01)


@pytest_asyncio.fixture
async def rig(cluster: Cluster, tmp_path: Path) -> AsyncIterator[Rig]:
    """Escalation at noon that writes mails and SMS."""
    async with escalation_rig(cluster, tmp_path, people=("sms", "email"), clock=ManualClock(NOON)) as built:
        await built.handle(planned(built))
        yield built


def planned(rig: Rig, **changes: Any) -> DutyPlanPublished:
    """A plan of GB: the first has mail and telephone, the second a telephone, the third nothing."""
    plan = rig.plan("GB", levels=3)
    first, second, third = plan.contacts
    people = (
        with_points(rig, first, sms="+447700900001", email="one@example.org"),
        with_points(rig, second, sms="+447700900002"),
        third.model_copy(update={"points": ()}),
    )
    return plan.model_copy(update={"contacts": people, **changes})


def with_points(rig: Rig, contact: PlannedContact, **addresses: str) -> PlannedContact:
    """The person with these contact points, who reads English in London."""
    points = tuple(rig.point(address, ChannelName(channel)) for channel, address in addresses.items())
    return contact.model_copy(update={"points": points, "languages": ("en",), "time_zone": "Europe/London"})


def notice(rig: Rig, *people: int, **changes: Any) -> NoticeIssued:
    """A notice that a shift lies ahead of these people of GB."""
    now = rig.clock.now()
    fields: dict[str, Any] = {
        "notice_id": rig.ids.new(),
        "partner": "GB",
        "kind": "shift_ahead",
        "contact_ids": tuple(rig.contact("GB", number).id for number in people),
        "facts": {"rota": "Duty officers", "start_at": "2021-08-17T06:00:00Z", "end_at": "2021-08-18T06:00:00Z"},
        "issued_at": now,
        "expires_at": now + timedelta(days=1),
    }
    return NoticeIssued(**{**fields, **changes})


def taken(rig: Rig) -> list[tuple[str, str]]:
    """What has left since the last call, as channel and address, in order."""
    left = [(name, page) for name, outlet in rig.outlets.items() for page in outlet.sent]
    for outlet in rig.outlets.values():
        outlet.sent.clear()
    return [(name, page.target.removeprefix("https://")) for name, page in sorted(left, key=lambda one: one[1].sent_at)]


async def test_a_calm_notice_goes_by_mail_where_there_is_mail(rig: Rig) -> None:
    """One message to each person: the mail of who has one, the first point of who has none, nothing to who has none.

    It leaves with the full minute, belongs to no alert, and asks nothing.
    """
    await rig.handle(notice(rig, 1, 2, 3))
    await rig.settle()
    assert taken(rig) == []
    await rig.forward(seconds=40)
    (mail,) = rig.outlets["email"].sent
    assert mail.message is not None
    assert (mail.message.subject, mail.message.link, mail.message.code) == (
        "Duty ahead: Duty officers, Tuesday 17 August, 07:00 (06:00 UTC)",
        None,
        None,
    )
    assert sorted(taken(rig)) == [("email", "one@example.org"), ("sms", "+447700900002")]
    rows = await rig.rows("SELECT alert_id, escalation_id, asks, state, priority FROM pages")
    assert {tuple(row.values()) for row in rows} == {(None, None, False, "done", CALM_PRIORITY)}
    (entry,) = await rig.rows("SELECT partner, data::text AS data FROM record WHERE kind = 'notice.paged'")
    assert (entry["partner"], "shift_ahead" in entry["data"], "Duty" in entry["data"]) == ("GB", True, False)
    await rig.forward(days=2)
    assert taken(rig) == []


async def test_an_urgent_notice_goes_to_every_point_at_once(rig: Rig) -> None:
    """At night, too, and to the office if it is meant."""
    rig.clock.advance((NIGHT - NOON).total_seconds())
    await rig.handle(notice(rig, 1, 2, kind="hole_ahead", urgent=True, to_office=True))
    await rig.settle()
    assert sorted(taken(rig)) == [
        ("email", "one@example.org"),
        ("sms", "+447700900001"),
        ("sms", "+447700900002"),
        ("webhook", "gb-office"),
    ]
    assert {row["priority"] for row in await rig.rows("SELECT priority FROM pages")} == {URGENT_PRIORITY}


async def test_a_calm_notice_rings_nobody_at_night(rig: Rig) -> None:
    """A telephone waits for seven in the morning by its owner's clock; a mail makes no noise and leaves."""
    rig.clock.advance((NIGHT - NOON).total_seconds())
    await rig.handle(notice(rig, 1, 2))
    await rig.forward(minutes=1)
    assert taken(rig) == [("email", "one@example.org")]
    await rig.forward(seconds=(MORNING - rig.clock.now()).total_seconds() - 1)
    assert taken(rig) == []
    await rig.forward(seconds=1)
    assert taken(rig) == [("sms", "+447700900002")]


async def test_what_would_be_over_by_the_morning_does_not_wait_for_it(rig: Rig) -> None:
    """Late at night is better than never."""
    rig.clock.advance((NIGHT - NOON).total_seconds())
    await rig.handle(notice(rig, 2, expires_at=MORNING - timedelta(hours=1)))
    await rig.forward(minutes=1)
    assert taken(rig) == [("sms", "+447700900002")]


async def test_notices_of_one_minute_leave_as_one_message(rig: Rig) -> None:
    """Three swaps in a minute are one SMS; an urgent notice among them goes by itself, at once."""
    for _ in range(2):
        await rig.handle(notice(rig, 2))
    await rig.handle(notice(rig, 2, kind="calendar_trouble", facts={"rota": "R", "calendar": "C", "reason": "x"}))
    await rig.handle(notice(rig, 2, kind="something_new", urgent=True))
    await rig.settle()
    (urgent,) = rig.outlets["sms"].sent
    assert urgent.message is not None
    assert urgent.message.subject == "News about your roster"
    taken(rig)
    await rig.forward(seconds=40)
    (gathered,) = rig.outlets["sms"].sent
    assert gathered.message is not None
    assert gathered.message.subject == "3 notices"


async def test_a_notice_is_tried_until_it_expires(rig: Rig) -> None:
    """A provider that is away costs nobody the notice; after its end nobody is written to about it."""
    rig.outlets["sms"].answers[""] = UNAVAILABLE
    await rig.handle(notice(rig, 2, expires_at=rig.clock.now() + timedelta(minutes=10)))
    await rig.forward(minutes=30)
    sent = rig.outlets["sms"].sent
    assert len(sent) > 5
    assert sent[-1].sent_at < NOON + timedelta(minutes=10)
    assert [row["state"] for row in await rig.rows("SELECT state FROM pages")] == ["done"]


async def test_tries_again_at_night_wait_for_the_morning(rig: Rig) -> None:
    """A calm notice that fails in the evening does not ring at night either; an urgent one does."""
    evening = datetime(2021, 8, 15, 20, 59, tzinfo=UTC)
    rig.clock.advance((evening - NOON).total_seconds())
    rig.outlets["sms"].answers[""] = UNAVAILABLE
    await rig.handle(notice(rig, 2, expires_at=evening + timedelta(days=2)))
    await rig.forward(seconds=(MORNING - rig.clock.now()).total_seconds() - 1)
    assert 0 < len(taken(rig)) < 8
    await rig.forward(minutes=1)
    assert taken(rig)


async def test_a_notice_that_is_told_again_pages_nobody_again(rig: Rig) -> None:
    """The same message twice, and the same notice in another message."""
    issued = notice(rig, 1, 2)
    await rig.handle(issued)
    await rig.handle(issued)
    rows = await rig.rows("SELECT id FROM pages")
    assert len(rows) == 2
    async with rig.deps.database.transaction() as tx:
        again = await notices.issue(
            tx,
            rig.deps,
            partner="GB",
            kind=issued.kind,
            contact_ids=issued.contact_ids,
            facts=issued.facts,
            urgent=True,
            expires_at=issued.expires_at,
            now=rig.clock.now(),
            notice_id=issued.notice_id,
        )
    assert again == 0
    assert len(await rig.rows("SELECT id FROM pages")) == 2


async def test_who_is_no_longer_in_the_plan_is_passed_over(rig: Rig) -> None:
    """A notice to somebody who has left reaches the others."""
    issued = notice(rig, 2)
    await rig.handle(issued.model_copy(update={"contact_ids": (rig.ids.new(), *issued.contact_ids)}))
    await rig.forward(minutes=1)
    assert taken(rig) == [("sms", "+447700900002")]


@pytest.mark.parametrize("partner", ["FR", "GB"])
async def test_without_a_plan_or_after_its_end_a_notice_is_a_line_in_the_log(rig: Rig, partner: str) -> None:
    """Nothing is written, nothing fails, and the operators can see why."""
    expires_at = rig.clock.now() + timedelta(days=1 if partner == "FR" else -1)
    with capture_logs() as logs:
        await rig.handle(notice(rig, 1, partner=partner, urgent=True, expires_at=expires_at, to_office=True))
    reasons = [line["reason"] for line in logs if line["event"] == "notice.not_sent"]
    assert reasons == ["no_duty_plan" if partner == "FR" else "expired"]
    assert await rig.rows("SELECT id FROM pages") == []


async def test_a_notice_of_a_partner_that_another_node_serves_is_left_to_it(cluster: Cluster, tmp_path: Path) -> None:
    """A government's own node pages its people itself."""
    async with escalation_rig(cluster, tmp_path, people=("sms",), partners=frozenset({"CA"})) as rig:
        await rig.handle(planned(rig))
        await rig.handle(notice(rig, 2, urgent=True))
        assert await rig.rows("SELECT id FROM pages") == []


async def test_an_alert_goes_before_notices_and_is_not_held_back_by_them(rig: Rig) -> None:
    """Waiting pages are taken in the order of priority; and a notice a moment ago delays no alert."""
    await rig.handle(notice(rig, 1, urgent=True))
    await rig.settle()
    taken(rig)
    await rig.handle(rig.released("GB", precedence=Precedence.IMMEDIATE))
    await rig.settle()
    assert ("sms", "+447700900001") in taken(rig)


async def test_the_roster_managers_are_known_by_their_credentials(rig: Rig) -> None:
    """Whoever may edit the roster is told; where nobody of them can be reached, the office is."""

    async def issue() -> int:
        async with rig.deps.database.transaction() as tx:
            return await notices.issue(
                tx,
                rig.deps,
                partner="GB",
                kind="heartbeat_failed",
                to_roster_managers=True,
                facts={"what": "endpoint", "since_at": "2021-08-15T10:00:00Z", "reason": "timeout"},
                urgent=True,
                expires_at=rig.clock.now() + timedelta(days=1),
                now=rig.clock.now(),
            )

    assert await issue() == 1
    await rig.settle()
    assert taken(rig) == [("webhook", "gb-office")]
    await rig.handle(credentials(manager=rig.contact("GB", 2).id, officer=rig.contact("GB", 1).id))
    assert await issue() == 1
    await rig.settle()
    assert taken(rig) == [("sms", "+447700900002")]


@pytest.mark.parametrize(
    ("status", "reason", "pages"),
    [
        (Status.EXERCISE, EndReason.EXPIRED, 1),
        (Status.EXERCISE, EndReason.CANCELLED, 0),
        (Status.ACTUAL, EndReason.EXPIRED, 0),
    ],
)
async def test_a_drill_that_nobody_acknowledged_is_told_to_the_roster_managers(
    rig: Rig, status: Status, reason: EndReason, pages: int
) -> None:
    """Once, where it ran out; not where it was stopped, and of an Actual alert others are told."""
    await rig.handle(credentials(manager=rig.contact("GB", 2).id, officer=rig.contact("GB", 1).id))
    drill = rig.released("GB", status=status)
    await rig.handle(drill)
    for _ in range(2):
        await rig.handle(rig.ended(drill, reason))
    found = await rig.rows("SELECT contact_id FROM pages WHERE data->>'kind' = 'drill_unanswered'")
    assert [row["contact_id"] for row in found] == [rig.contact("GB", 2).id] * pages


async def test_a_drill_that_somebody_acknowledged_is_told_to_nobody(rig: Rig) -> None:
    """However it ends."""
    await rig.handle(credentials(manager=rig.contact("GB", 2).id, officer=rig.contact("GB", 1).id))
    drill = rig.released("GB", status=Status.EXERCISE)
    await rig.handle(drill)
    (row,) = await rig.rows("SELECT id FROM escalations WHERE partner = 'GB'")
    caused = Cause(correlation_id=rig.ids.new())
    await answers.acknowledge(rig.deps, person("GB"), row["id"], contact_id=None, via="api", cause=caused)
    await rig.handle(rig.ended(drill, EndReason.EXPIRED))
    assert not await rig.rows("SELECT contact_id FROM pages WHERE data->>'kind' = 'drill_unanswered'")


def credentials(*, manager: UUID, officer: UUID) -> CredentialsPublished:
    """A roster manager, a revoked one, a system and an officer of GB."""

    def one(name: str, role: Role, contact_id: UUID, **changes: Any) -> PublishedCredential:
        fields: dict[str, Any] = {
            "client_id": name,
            "kind": CredentialKind.PERSON,
            "subject": name,
            "name": name,
            "partner": "GB",
            "roles": (role,),
            "contact_id": contact_id,
            "secret_sha256": hash_secret(name),
            "revoked_at": None,
            "version": 1,
        }
        return PublishedCredential(**{**fields, **changes})

    listed = (
        one("keeper", Role.ROSTER_MANAGER, manager),
        one("former", Role.ROSTER_MANAGER, officer, revoked_at=NOON),
        one("system", Role.ROSTER_MANAGER, officer, kind=CredentialKind.SYSTEM),
        one("officer", Role.DUTY_OFFICER, officer),
    )
    return CredentialsPublished(partner="GB", version=1, credentials=listed)


async def test_limits_of_what_is_kept_and_of_how_long_it_is_tried(rig: Rig) -> None:
    """A digest without end is cut, and nobody is written to for months; expired notices are forgotten."""
    items = tuple({"code": "uncovered", "rota": str(number)} for number in range(ITEMS_KEPT_MAX + 1))
    expires_at = rig.clock.now() + timedelta(days=400)
    await rig.handle(notice(rig, 1, items=items, expires_at=expires_at))
    (row,) = await rig.rows("SELECT jsonb_array_length(data -> 'items') AS items, give_up_at FROM pages")
    assert (row["items"], row["give_up_at"]) == (ITEMS_KEPT_MAX, rig.clock.now() + TRIED_FOR_MAX)
    assert await notices.forget_notices(rig.deps) == 0
    rig.clock.advance(TRIED_FOR_MAX.total_seconds() + 1)
    assert await notices.forget_notices(rig.deps) == 1


async def test_a_hand_over_that_is_due_says_how_much_is_open(rig: Rig) -> None:
    """Roster knows of no escalation, so that is added here."""
    await rig.handle(rig.plan("FR"))
    await rig.handle(rig.released("GB"))
    await rig.handle(rig.released("FR", informed=("GB",), reference="RP-CA-2021-0002"))
    await rig.settle()
    taken(rig)
    facts = {"rota": "Watch", "start_at": "2021-08-15T11:15:00Z", "outgoing": "Ann", "incoming": "Ben"}
    await rig.handle(notice(rig, 1, kind="hand_over_due", facts=facts, urgent=True))
    await rig.settle()
    told = [page.message.text for page in rig.outlets["email"].sent if page.message is not None]
    assert any("Ann hands Watch over to Ben" in text and "Open escalations: 1." in text for text in told)


async def test_a_message_of_a_notice_is_documented_for_systems(rig: Rig) -> None:
    """A contact that is reached by a webhook gets the facts as data."""
    plan = planned(rig, plan_version=2)
    await rig.handle(plan.model_copy(update={"contacts": (rig.contact("GB", 1), *plan.contacts[1:])}))
    await rig.handle(notice(rig, 1), twice=False)
    await rig.forward(minutes=1)
    (sent,) = rig.outlets["webhook"].sent
    assert sent.message_type == "notice.issued"
    data = rig.outlet.data()
    assert (data["kind"], data["facts"]["rota"], data["urgent"]) == ("shift_ahead", "Duty officers", False)
    assert message(notice(rig, 1), rig.ids, rig.clock.now()).body.visible_to() == frozenset({"GB"})


# --- drafts that wait for a second person -----------------------------------------------------------------------------


def asked(rig: Rig, **changes: Any) -> ReleaseAsked:
    """A draft of GB, by its first person."""
    author = rig.contact("GB", 1)
    fields: dict[str, Any] = {
        "alert_id": rig.ids.new(),
        "reference": "RP-GB-2021-0007",
        "raiser": "GB",
        "status": Status.ACTUAL,
        "precedence": Precedence.FLASH,
        "tlp": Tlp.RED,
        "drafted_by": Actor(subject="gb-1", partner="GB", name="PLANTEDauthor", contact_id=author.id),
        "drafted_at": rig.clock.now(),
    }
    return ReleaseAsked(**{**fields, **changes})


def may(rig: Rig, number: int, *roles: Role, **changes: Any) -> PublishedCredential:
    """The credential of a person of GB."""
    contact = rig.contact("GB", number)
    fields: dict[str, Any] = {
        "client_id": f"gb-{number}",
        "kind": CredentialKind.PERSON,
        "subject": f"gb-{number}",
        "name": contact.name,
        "partner": "GB",
        "contact_id": contact.id,
        "roles": roles,
        "secret_sha256": hash_secret("x"),
    }
    return PublishedCredential(**{**fields, **changes})


async def test_a_second_person_is_told_at_once_that_a_draft_waits(rig: Rig) -> None:
    """Whoever may release it and has not written it: with who, how urgent, and a link to the draft; no word of it."""
    rig.clock.advance((NIGHT - NOON).total_seconds())
    people = (may(rig, 1, Role.DUTY_OFFICER), may(rig, 2, Role.RELEASER), may(rig, 3, Role.SENIOR_CONTACT))
    await rig.handle(CredentialsPublished(partner="GB", version=1, credentials=people))
    draft = asked(rig)
    await rig.handle(draft)
    await rig.settle()
    assert taken_messages(rig) == [("sms", "+447700900002", "Release asked: FLASH, RP-GB-2021-0007")]
    await rig.handle(draft.model_copy(update={"precedence": Precedence.IMMEDIATE}))
    await rig.settle()
    assert taken_messages(rig) == []


async def test_a_draft_that_can_wait_rings_nobody_at_night(rig: Rig) -> None:
    """Its second person is told in the morning."""
    rig.clock.advance((NIGHT - NOON).total_seconds())
    await rig.handle(CredentialsPublished(partner="GB", version=1, credentials=(may(rig, 2, Role.RELEASER),)))
    await rig.handle(asked(rig, precedence=Precedence.PRIORITY))
    await rig.forward(seconds=(MORNING - rig.clock.now()).total_seconds() - 1)
    assert taken(rig) == []
    await rig.forward(seconds=1)
    assert taken(rig) == [("sms", "+447700900002")]


async def test_a_draft_that_nobody_else_can_release_is_told_to_the_office(rig: Rig) -> None:
    """Its author is the only officer, or the others cannot be reached."""
    await rig.handle(CredentialsPublished(partner="GB", version=1, credentials=(may(rig, 1, Role.DUTY_OFFICER),)))
    await rig.handle(asked(rig))
    await rig.settle()
    assert taken(rig) == [("webhook", "gb-office")]


async def test_of_a_draft_that_was_released_meanwhile_nobody_is_told(rig: Rig) -> None:
    """Its release may overtake the question."""
    await rig.handle(CredentialsPublished(partner="GB", version=1, credentials=(may(rig, 2, Role.RELEASER),)))
    await rig.handle(rig.plan("US"))
    draft = asked(rig)
    await rig.handle(rig.released("US", alert_id=draft.alert_id, raiser="GB"))
    await rig.settle()
    taken(rig)
    await rig.handle(draft)
    await rig.settle()
    assert await rig.rows("SELECT FROM pages WHERE message_type = 'notice.issued'") == []


async def test_a_draft_of_an_exercise_is_told_as_one(cluster: Cluster, tmp_path: Path) -> None:
    """The word comes first in every form, and the link leads to the draft's page."""
    people = ("sms", "email")
    public_url = "https://redphone.example"
    async with escalation_rig(cluster, tmp_path, people=people, clock=ManualClock(NOON), public_url=public_url) as rig:
        await rig.handle(planned(rig))
        credentials = (may(rig, 1, Role.RELEASER),)
        await rig.handle(CredentialsPublished(partner="GB", version=1, credentials=credentials))
        draft = asked(rig, status=Status.EXERCISE, drafted_by=Actor(subject="gb-9", partner="GB", name="PLANTEDauthor"))
        await rig.handle(draft)
        await rig.settle()
        link = f"{public_url}/alerts/{draft.alert_id}"
        for name in people:
            (sent,) = rig.outlets[name].sent
            assert sent.message is not None
            assert sent.message.subject.startswith("EXERCISE Release asked")
            assert sent.message.short.startswith("EXERCISE")
            assert "PLANTEDauthor" not in sent.message.subject + sent.message.short
            assert (sent.message.link, sent.message.code) == (link, None)
            assert link in sent.message.short
            assert link in sent.message.text
            assert f'href="{link}"' in sent.message.html


def taken_messages(rig: Rig) -> list[tuple[str, str, str]]:
    """What has left to people since the last call: channel, address and subject."""
    left = [
        (name, page.target, page.message.subject)
        for name, outlet in rig.outlets.items()
        for page in outlet.sent
        if page.message is not None
    ]
    taken(rig)
    return sorted(left)

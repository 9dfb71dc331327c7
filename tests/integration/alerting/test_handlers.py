"""Commands and messages on a real database: each does its work once, and races have one winner."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.alerting import handlers
from services.alerting.confirming import say_again
from services.alerting.content import Proposal
from services.alerting.crises import handlers as crises
from services.alerting.crises.domain import CrisisState
from services.alerting.expiry import BATCH, expire_alerts
from shared import contracts
from shared.contracts import (
    AlertEnded,
    AlertReleased,
    EscalationKind,
    EscalationsStarted,
    EscalationState,
    PartnerChanged,
    Precedence,
    ReleaseAsked,
    Role,
    Standing,
    StartedEscalation,
    Tlp,
)
from shared.errors import Conflict, Forbidden, Invalid, NotFound, Rejected
from shared.events import REGISTRY
from shared.problems import HttpProblem
from shared.together import Gathering
from tests.support.alerting_rig import KABUL, Rig, body_of, id_of, person, proposal

OFFICER, SECOND = person("CA"), person("CA", "second")


async def draft(rig: Rig, **changes: Any) -> UUID:
    """A draft by the officer of Canada."""
    return id_of(await handlers.draft_alert(rig.deps, rig.call(OFFICER), proposal(**changes)))


async def release(rig: Rig, alert_id: UUID, precedence: Precedence = Precedence.FLASH) -> Any:
    """Its release by the second person."""
    return await handlers.release_alert(rig.deps, rig.call(SECOND), alert_id, precedence=precedence)


async def released(rig: Rig, **changes: Any) -> UUID:
    """A released alert."""
    alert_id = await draft(rig, **changes)
    await release(rig, alert_id)
    return alert_id


async def update(rig: Rig, alert_id: UUID, **changes: Any) -> UUID:
    """A draft that corrects it."""
    answer = await handlers.draft_update(rig.deps, rig.call(OFFICER), alert_id, Proposal(**changes), asks_anew=False)
    return id_of(answer)


def told(rig: Rig) -> list[Any]:
    """What was published, but for the questions whether somebody releases a draft."""
    return [message for message in rig.bus.published if not isinstance(message.body, ReleaseAsked)]


# --- drafts -----------------------------------------------------------------------------------------------------------


async def test_a_draft_asks_for_its_second_person_in_the_same_transaction(rig: Rig) -> None:
    """Once for each draft, an Update's too, with no word of its text, for the raiser alone; not if released alone."""
    alert_id = await draft(rig)
    (asked,) = [message.body for message in rig.bus.published]
    assert isinstance(asked, ReleaseAsked)
    assert (asked.alert_id, asked.raiser, asked.reference) == (alert_id, "CA", "RP-CA-2021-0001")
    assert (asked.precedence, asked.tlp, asked.drafted_by.subject) == (Precedence.FLASH, Tlp.AMBER, OFFICER.subject)
    assert asked.visible_to() == {"CA"}
    assert "headline" not in asked.model_dump_json()
    await release(rig, alert_id)
    update_id = await update(rig, alert_id)
    assert {(one["alert_id"], one["corrects"]) for one in await rig.events("release_asked")} == {
        (str(alert_id), None),
        (str(update_id), str(alert_id)),
    }
    await handlers.draft_alert(rig.deps, rig.call(OFFICER), proposal(), self_release_reason="Alone at night")
    assert len(await rig.events("release_asked")) == 2


# --- release ----------------------------------------------------------------------------------------------------------


async def test_release_commits_alert_event_record_and_timeline_and_publishes(rig: Rig) -> None:
    """After 202 the alert, its event, its record and its timeline row exist, and the event has been published."""
    alert_id = await draft(rig)
    assert told(rig) == []
    answer = await release(rig, alert_id)
    assert answer.status == 202
    assert body_of(answer)["state"] == "released"
    assert await rig.state_of(alert_id) == "released"
    (event,) = await rig.events("alert_released")
    assert event["alert_id"] == str(alert_id)
    assert event["reference"] == "RP-CA-2021-0001"
    assert [message.body.alert_id for message in told(rig)] == [alert_id]
    assert await rig.records() == ["alert.drafted", "alert.released", "crisis.opened"]
    assert [row.type for row in await rig.rows("SELECT type FROM timeline ORDER BY type")] == [
        "alert_drafted",
        AlertReleased.type,
    ]


async def test_released_alert_survives_a_bus_that_confirms_nothing(rig: Rig) -> None:
    """With the broker gone a release is answered all the same, and the relay publishes it later."""
    rig.bus.confirms = False
    await released(rig)
    assert rig.bus.published == []
    rig.bus.confirms = True
    rig.clock.advance(2)
    assert await rig.deps.relay.run_once() == 2
    assert [type(message.body) for message in rig.bus.published] == [ReleaseAsked, AlertReleased]


async def test_self_release_is_one_step_and_marked_for_review(rig: Rig) -> None:
    """An officer who is alone raises and releases at once; alert and record say that it needs review."""
    answer = await handlers.draft_alert(
        rig.deps, rig.call(OFFICER), proposal(), self_release_reason="Nobody else reachable at 03:00"
    )
    assert answer.status == 202
    assert body_of(answer)["needs_review"] is True
    (row,) = await rig.rows("SELECT data FROM record WHERE kind = 'alert.released'")
    assert row.data["needs_review"] is True
    assert row.data["self_release_reason"] == "Nobody else reachable at 03:00"
    assert len(rig.bus.published) == 1


async def test_references_count_per_raiser_and_year(rig: Rig) -> None:
    """Each partner counts its own alerts anew each year; a refused draft leaves no gap."""
    with pytest.raises(Invalid):
        await draft(rig, to=("FR",))
    references = [
        body_of(await handlers.draft_alert(rig.deps, rig.call(OFFICER), proposal()))["reference"] for _ in "ab"
    ]
    other = await handlers.draft_alert(rig.deps, rig.call(person("US")), proposal(to=("CA",)))
    rig.clock.advance(200 * 86_400)
    next_year = await handlers.draft_alert(rig.deps, rig.call(OFFICER), proposal())
    assert references == ["RP-CA-2021-0001", "RP-CA-2021-0002"]
    assert body_of(other)["reference"] == "RP-US-2021-0001"
    assert body_of(next_year)["reference"] == "RP-CA-2022-0001"


async def test_references_stay_unique_when_many_draft_at_once(rig: Rig) -> None:
    """Twenty drafts at the same moment have twenty references without a gap."""
    answers = await asyncio.gather(*(handlers.draft_alert(rig.deps, rig.call(OFFICER), proposal()) for _ in range(20)))
    references = {body_of(answer)["reference"] for answer in answers}
    assert references == {f"RP-CA-2021-{number:04d}" for number in range(1, 21)}


async def test_request_that_was_done_before_takes_no_reference(rig: Rig) -> None:
    """Retries, by key and by id, leave no gap: the next new alert has the next number."""
    own = rig.deps.ids.new()
    for _ in "abc":
        await handlers.draft_alert(rig.deps, rig.call(OFFICER, key="k"), proposal())
        await handlers.draft_alert(rig.deps, rig.call(OFFICER), proposal(), alert_id=own)
    for refused in (rig.call(OFFICER, key="k", sha256="1" * 64), rig.call(OFFICER, sha256="1" * 64)):
        with pytest.raises((HttpProblem, Conflict)):
            await handlers.draft_alert(rig.deps, refused, proposal(), alert_id=own)
    third = await handlers.draft_alert(rig.deps, rig.call(OFFICER, key="l"), proposal())
    assert body_of(third)["reference"] == "RP-CA-2021-0003"


async def test_same_key_gives_the_same_answer_and_one_alert(rig: Rig) -> None:
    """A repeated request does nothing and is answered byte for byte alike; another request under the key is refused."""
    first = await handlers.draft_alert(rig.deps, rig.call(OFFICER, key="k"), proposal(), self_release_reason="alone")
    again = await handlers.draft_alert(rig.deps, rig.call(OFFICER, key="k"), proposal(), self_release_reason="alone")
    assert (again.body, again.status, again.replayed) == (first.body, 202, True)
    assert await rig.count("alerts") == 1
    assert len(rig.bus.published) == 1
    with pytest.raises(HttpProblem) as refused:
        await handlers.draft_alert(rig.deps, rig.call(OFFICER, key="k", sha256="1" * 64), proposal())
    assert refused.value.code == "idempotency_key_reused"


async def test_same_key_at_the_same_moment_makes_one_alert(rig: Rig) -> None:
    """Two copies of one request that arrive together store one alert."""
    outcomes = await asyncio.gather(
        *(handlers.draft_alert(rig.deps, rig.call(OFFICER, key="k"), proposal()) for _ in range(4)),
        return_exceptions=True,
    )
    assert await rig.count("alerts") == 1
    for outcome in outcomes:
        assert not isinstance(outcome, BaseException) or getattr(outcome, "code", "") == "idempotency_in_flight"


async def test_own_id_again_gives_the_same_alert(rig: Rig) -> None:
    """An id of the caller's own makes a retry safe without a key; another request under that id is a conflict."""
    own = rig.deps.ids.new()
    for _ in "ab":
        answer = await handlers.draft_alert(rig.deps, rig.call(OFFICER), proposal(), alert_id=own)
        assert id_of(answer) == own
    assert await rig.count("alerts") == 1
    for other in (rig.call(OFFICER, sha256="1" * 64), rig.call(person("US"))):
        with pytest.raises(Conflict) as refused:
            await handlers.draft_alert(rig.deps, other, proposal(to=("GB",)), alert_id=own)
        assert refused.value.code == "id_taken"
    with pytest.raises(Invalid) as version:
        await handlers.draft_alert(rig.deps, rig.call(OFFICER), proposal(), alert_id=UUID(int=5))
    assert version.value.code == "not_uuid7"


async def test_own_id_under_another_key_is_answered_every_time(rig: Rig) -> None:
    """Whoever sends an id again under a new key gets the first one's answer, and so does a retry of that."""
    own, crisis = rig.deps.ids.new(), rig.deps.ids.new()
    for key in ("first", "second", "second"):
        answer = await handlers.draft_alert(rig.deps, rig.call(OFFICER, key=key), proposal(), alert_id=own)
        assert id_of(answer) == own
        opened = await crises.open_crisis(
            rig.deps,
            rig.call(OFFICER, key=f"crisis {key}"),
            name="Kabul",
            countries=["AFG"],
            tlp=Tlp.AMBER,
            state=CrisisState.WATCH,
            crisis_id=crisis,
        )
        assert id_of(opened) == crisis
    alert_id = await released(rig)
    update = rig.deps.ids.new()
    for key in ("one", "two", "two"):
        answer = await handlers.draft_update(
            rig.deps, rig.call(OFFICER, key=key), alert_id, Proposal(), asks_anew=False, update_id=update
        )
        assert id_of(answer) == update
    assert await rig.rows("SELECT key FROM idempotency_keys WHERE status IS NULL") == []


async def test_own_id_at_the_same_moment_makes_one_alert(rig: Rig) -> None:
    """Of several requests with one id, one is stored, and the others are told so."""
    own = rig.deps.ids.new()
    outcomes = await asyncio.gather(
        *(handlers.draft_alert(rig.deps, rig.call(OFFICER), proposal(), alert_id=own) for _ in range(4)),
        return_exceptions=True,
    )
    assert await rig.count("alerts") == 1
    assert all(not isinstance(o, BaseException) or isinstance(o, Conflict) for o in outcomes), outcomes


async def test_refused_release_leaves_everything_as_it_was(rig: Rig) -> None:
    """A release that names the wrong precedence stores nothing and frees its key."""
    alert_id = await draft(rig)
    with pytest.raises(Conflict):
        await handlers.release_alert(rig.deps, rig.call(SECOND, key="k"), alert_id, precedence=Precedence.ROUTINE)
    assert await rig.state_of(alert_id) == "draft"
    assert await rig.count("idempotency_keys") == 0
    assert await rig.events("alert_released") == []
    await handlers.release_alert(rig.deps, rig.call(SECOND, key="k"), alert_id, precedence=Precedence.FLASH)
    assert await rig.state_of(alert_id) == "released"


@pytest.mark.parametrize(
    ("partner", "what", "error"),
    [
        ("US", "second", NotFound),
        ("XR", "secretariat", NotFound),
        ("CA", "keeper", NotFound),
        ("CA", "senior", Forbidden),
        ("CA", "officer", Forbidden),
    ],
)
async def test_who_cannot_release_a_draft(rig: Rig, partner: str, what: str, error: type[Rejected]) -> None:
    """Whoever may not know of the draft is told that there is none; its own people without the role are refused."""
    alert_id = await draft(rig)
    with pytest.raises(error):
        await handlers.release_alert(rig.deps, rig.call(person(partner, what)), alert_id, precedence=Precedence.FLASH)


async def test_addressed_partner_cannot_change_what_it_received(rig: Rig) -> None:
    """Those who see an alert of somebody else are refused; those who do not, find none."""
    alert_id = await released(rig)
    with pytest.raises(Forbidden) as refused:
        await handlers.cancel_alert(rig.deps, rig.call(person("US", "second")), alert_id, note="no")
    assert refused.value.code == "not_yours"
    with pytest.raises(NotFound):
        await handlers.cancel_alert(rig.deps, rig.call(person("ES", "second")), alert_id, note="no")


# --- edits, updates, recipients, ends ---------------------------------------------------------------------------------


async def test_edit_checks_the_version_under_the_lock(rig: Rig) -> None:
    """Of two edits that saw the same version one wins, and the other is refused."""
    alert_id = await draft(rig)

    def seen(version: int) -> None:
        if version != 1:
            raise Conflict("changed meanwhile")

    outcomes = await asyncio.gather(
        *(
            handlers.edit_alert(rig.deps, rig.call(OFFICER), alert_id, Proposal(note=str(n)), check_version=seen)
            for n in range(2)
        ),
        return_exceptions=True,
    )
    assert sum(isinstance(outcome, Conflict) for outcome in outcomes) == 1
    assert (await rig.rows("SELECT version FROM alerts"))[0].version == 2


async def test_update_supersedes_and_publishes_only_itself(rig: Rig) -> None:
    """Releasing a correction ends its predecessor without an ending message, and both are recorded."""
    first = await released(rig)
    rig.clock.advance(540)
    second = await update(rig, first, description="The civil side of the airport is closed.")
    await release(rig, second)
    assert await rig.state_of(first) == "superseded"
    assert await rig.events("alert_ended") == []
    event = (await rig.events("alert_released"))[-1]
    assert event["corrects"] == str(first)
    assert {r["addressed_at"] for r in event["recipients"]} == {"2021-08-15T09:30:00Z"}
    assert "alert.superseded" in await rig.records()


async def test_two_updates_of_one_alert_have_one_winner(rig: Rig) -> None:
    """Two corrections released at the same moment: one supersedes, the other is refused and stays a draft."""
    first = await released(rig)
    one, two = await update(rig, first, note="one"), await update(rig, first, note="two")
    outcomes = await asyncio.gather(release(rig, one), release(rig, two), return_exceptions=True)
    (refused,) = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    assert isinstance(refused, Conflict)
    assert refused.code == "alert_superseded"
    assert sorted([await rig.state_of(one), await rig.state_of(two)]) == ["draft", "released"]
    assert len(await rig.events("alert_released")) == 2


async def test_self_released_updates_race_to_one_winner(rig: Rig) -> None:
    """The same holds when each correction is drafted and released in one step."""
    first = await released(rig)

    async def correct(note: str) -> Any:
        return await handlers.draft_update(
            rig.deps,
            rig.call(OFFICER),
            first,
            Proposal(note=note),
            asks_anew=True,
            self_release_reason="Nobody else reachable",
        )

    outcomes = await asyncio.gather(correct("one"), correct("two"), return_exceptions=True)
    assert sum(isinstance(outcome, Conflict) for outcome in outcomes) == 1
    assert await rig.count("alerts") == 2


async def test_release_of_update_and_recall_race_to_one_winner(rig: Rig) -> None:
    """Either the correction supersedes or the recall ends the alert, never both."""
    first = await released(rig)
    second = await update(rig, first)
    await asyncio.gather(
        release(rig, second),
        handlers.cancel_alert(rig.deps, rig.call(SECOND), first, note="Wrong list"),
        return_exceptions=True,
    )
    states = (await rig.state_of(first), await rig.state_of(second))
    assert states in {("superseded", "released"), ("cancelled", "draft")}
    assert len(await rig.events("alert_ended")) == (states[0] == "cancelled")


async def test_release_races_with_itself_to_one_event(rig: Rig) -> None:
    """Two releasers press at once: one release, one conflict, one event."""
    alert_id = await draft(rig)
    outcomes = await asyncio.gather(release(rig, alert_id), release(rig, alert_id), return_exceptions=True)
    assert sum(isinstance(outcome, Conflict) for outcome in outcomes) == 1
    assert len(await rig.events("alert_released")) == 1


async def test_draft_of_an_update_is_not_released_after_the_end(rig: Rig) -> None:
    """A correction that waited while its alert was recalled is refused."""
    first = await released(rig)
    second = await update(rig, first)
    await handlers.cancel_alert(rig.deps, rig.call(SECOND), first, note="Wrong list")
    with pytest.raises(Conflict) as refused:
        await release(rig, second)
    assert refused.value.code == "alert_cancelled"


async def test_added_recipient_is_published_with_everybody(rig: Rig) -> None:
    """The alert is published again with all recipients; adding the same again publishes nothing."""
    first = await released(rig)
    rig.clock.advance(60)
    for _ in "ab":
        answer = await handlers.add_recipients(rig.deps, rig.call(SECOND), first, to=["ES"], for_information=["IT"])
        assert answer.status == 202
    events = await rig.events("alert_released")
    assert [len(event["recipients"]) for event in events] == [3, 5]
    assert {r["partner"]: r["addressed_at"] for r in events[1]["recipients"]} == {
        "US": "2021-08-15T09:30:00Z",
        "GB": "2021-08-15T09:30:00Z",
        "DE": "2021-08-15T09:30:00Z",
        "ES": "2021-08-15T09:31:00Z",
        "IT": "2021-08-15T09:31:00Z",
    }
    assert (await rig.records()).count("alert.recipients_added") == 1


@pytest.mark.parametrize("how", ["cancel", "close"])
async def test_end_is_published_to_everybody_and_recorded(rig: Rig, how: str) -> None:
    """Recall and stand-down publish one ending message with all recipients."""
    alert_id = await released(rig, for_information=("BR",))
    act: Callable[..., Any] = handlers.cancel_alert if how == "cancel" else handlers.close_alert
    await act(rig.deps, rig.call(SECOND), alert_id, note="The last flight left on 30 August")
    (event,) = await rig.events("alert_ended")
    assert {r["partner"] for r in event["recipients"]} == {"US", "GB", "DE", "BR"}
    assert isinstance(rig.bus.published[-1].body, AlertEnded)
    kind = "alert.cancelled" if how == "cancel" else "alert.closed"
    assert kind in await rig.records()
    with pytest.raises(Conflict):
        await act(rig.deps, rig.call(SECOND), alert_id, note="again")


# --- expiry -----------------------------------------------------------------------------------------------------------


async def test_expiry_ends_what_is_due_once(rig: Rig) -> None:
    """At `expires_at` the alert ends, with one event and one record row, however often the loop looks."""
    alert_id = await released(rig)
    await draft(rig)
    rig.clock.advance(timedelta(hours=24, minutes=30).total_seconds() - 1)
    assert await expire_alerts(rig.deps) == 0
    rig.clock.advance(1)
    assert await expire_alerts(rig.deps) == 1
    assert await expire_alerts(rig.deps) == 0
    assert await rig.state_of(alert_id) == "expired"
    (event,) = await rig.events("alert_ended")
    assert event["reason"] == "expired"
    assert (await rig.records()).count("alert.expired") == 1


async def test_replicas_share_expiry(rig: Rig) -> None:
    """Two replicas that look at once end every alert exactly once."""
    for _ in range(BATCH + 5):
        await handlers.draft_alert(rig.deps, rig.call(OFFICER), proposal(), self_release_reason="alone")
    rig.clock.advance(timedelta(days=2).total_seconds())
    done = 0
    while (step := sum(await asyncio.gather(expire_alerts(rig.deps), expire_alerts(rig.deps)))) > 0:
        done += step
    assert done == BATCH + 5
    assert len(await rig.events("alert_ended")) == BATCH + 5


# --- confirming -------------------------------------------------------------------------------------------------------


def started(alert_id: UUID, *partners: str, kind: EscalationKind = EscalationKind.ANSWER) -> EscalationsStarted:
    """What escalation reports once it has opened."""
    return EscalationsStarted(
        alert_id=alert_id,
        raiser="CA",
        started_at=KABUL,
        escalations=tuple(
            StartedEscalation(
                escalation_id=UUID(int=number + 1), partner=code, kind=kind, state=EscalationState.PENDING, level=1
            )
            for number, code in enumerate(partners)
        ),
    )


@pytest.mark.logs_error("alert.unconfirmed")
async def test_unconfirmed_alert_is_said_again_with_an_alarm(rig: Rig) -> None:
    """Half a minute without all escalations: an operator is told, and the alert is published as a new message."""
    alert_id = await released(rig)
    await handlers.on_escalations_started(rig.deps, rig.message(started(alert_id, "US", "GB")))
    rig.clock.advance(29)
    assert await say_again(rig.deps) == []
    rig.clock.advance(2)
    assert len(await say_again(rig.deps)) == 1
    ids = [message.id for message in told(rig)]
    assert len(ids) == len(set(ids)) == 2
    assert told(rig)[0].body == told(rig)[1].body
    rig.clock.advance(10)
    assert len(await say_again(rig.deps)) == 1, "the alarm stands"
    assert len(told(rig)) == 2, "and the alert is not said again within half a minute"
    await handlers.on_escalations_started(rig.deps, rig.message(started(alert_id, "DE")))
    assert await say_again(rig.deps) == []


@pytest.mark.logs_error("alert.unconfirmed")
async def test_alert_that_stays_unconfirmed_is_said_again_ever_more_rarely(rig: Rig) -> None:
    """While escalation is away the waits double up to ten minutes: an outage of days fills neither table nor broker."""
    await released(rig)
    said_at: list[float] = []
    for _ in range(360):
        rig.clock.advance(10)
        before = len(rig.bus.published)
        await say_again(rig.deps)
        if len(rig.bus.published) > before:
            said_at.append(rig.clock.monotonic())
    waits = [later - earlier for earlier, later in itertools.pairwise(said_at)]
    assert waits == [30, 60, 120, 240, 480, 600, 600, 600, 600]


async def test_confirmed_alert_is_left_alone(rig: Rig) -> None:
    """Nothing is said again once every escalation is open, nor when the alert has ended first."""
    one, two = await released(rig), await released(rig)
    await handlers.on_escalations_started(rig.deps, rig.message(started(one, "US", "GB", "DE")))
    await handlers.close_alert(rig.deps, rig.call(SECOND), two)
    rig.clock.advance(3600)
    assert await say_again(rig.deps) == []


@pytest.mark.logs_error("alert.unconfirmed")
async def test_takeover_escalations_confirm_nothing(rig: Rig) -> None:
    """A takeover at a partner is not the escalation that this partner is owed."""
    alert_id = await released(rig)
    takeover = started(alert_id, "US", "GB", "DE", kind=EscalationKind.TAKEOVER)
    await handlers.on_escalations_started(rig.deps, rig.message(takeover))
    rig.clock.advance(31)
    assert len(await say_again(rig.deps)) == 1


# --- messages ---------------------------------------------------------------------------------------------------------


def partner(version: int, *, active: bool = True, code: str = "FR") -> PartnerChanged:
    """What roster says of a partner."""
    return PartnerChanged(
        partner=code, version=version, name="France", standing=Standing.MEMBER, time_zone="Europe/Paris", active=active
    )


async def test_partner_is_known_from_its_newest_version(rig: Rig) -> None:
    """An older version that arrives late changes nothing, so any order ends alike."""
    for version, active in [(2, True), (1, False), (3, False), (2, True)]:
        await handlers.on_partner_changed(rig.deps, rig.message(partner(version, active=active)))
    (row,) = await rig.rows("SELECT active, version FROM partners WHERE code = 'FR'")
    assert (row.active, row.version) == (False, 3)
    with pytest.raises(Invalid) as refused:
        await draft(rig, to=("FR",))
    assert refused.value.code == "inactive_partner"


def table(version: int, *, unreached_hours: int) -> contracts.DeadlinesChanged:
    """What roster says of the network's deadlines: FLASH takes so long, the rest is as everywhere."""
    flash = contracts.DEFAULT_DEADLINES[contracts.Precedence.FLASH]
    longer = flash.model_copy(update={"unreached_after_seconds": unreached_hours * 3600})
    return contracts.DeadlinesChanged(
        version=version, deadlines={**contracts.DEFAULT_DEADLINES, contracts.Precedence.FLASH: longer}
    )


async def test_alert_outlives_the_networks_own_deadlines(rig: Rig) -> None:
    """The least expiry follows the network's newest table, whatever order its versions arrive in."""
    for version, hours in [(2, 10), (1, 5)]:
        await handlers.on_deadlines_changed(rig.deps, rig.message(table(version, unreached_hours=hours)))
    with pytest.raises(Invalid) as refused:
        await draft(rig, precedence=contracts.Precedence.FLASH, expires_at=rig.clock.now() + timedelta(hours=33))
    assert refused.value.code == "expires_too_early"
    await draft(rig, precedence=contracts.Precedence.FLASH, expires_at=rig.clock.now() + timedelta(hours=34))


def sample(event: type[Any], alert_id: UUID) -> Any:
    """Some event of a kind, about an alert."""
    times = {
        name: KABUL
        for name, field in event.model_fields.items()
        if name.endswith("_at") and field.is_required() and name != "next_due_at"
    }
    actor = contracts.Actor(subject="us-senior", partner="US", name="S. Contact")
    reasons: dict[type[Any], Any] = {
        contracts.LevelRaised: contracts.LevelReason.RELEASED,
        contracts.EscalationsEnded: contracts.EndReason.CLOSED,
    }
    known: dict[str, Any] = {
        "alert_id": alert_id,
        "root_alert_id": alert_id,
        "escalation_id": UUID(int=9),
        "contact_point_id": UUID(int=8),
        "partner": "US",
        "raiser": "CA",
        "reference": "RP-CA-2021-0001",
        "channel": contracts.ChannelName.WEBHOOK,
        "told": ("duty office",) if event is contracts.LevelRaised else "duty office",
        "level": 1,
        "reason": reasons.get(event, "timed out"),
        "next_due_at": None,
        "acknowledged_by": actor,
        "taken_by": actor,
        "taken_over_by": actor,
        "released_by": actor.model_copy(update={"partner": "CA", "subject": "ca-second-1"}),
        "asked_by": actor,
        "answered_by": actor.model_copy(update={"partner": "CA", "subject": "ca-second-1"}),
        "given_by": actor,
        "confirmed_by": actor.model_copy(update={"partner": "CA", "subject": "ca-second-1"}),
        "question_id": UUID(int=7),
        "page_id": UUID(int=6),
        "asked": 3 if event in (contracts.CoverageGoalMet, contracts.CoverageGoalMissed) else ("US", "GB"),
        "correct": False,
        "wrong_tries": 5,
        "replaced": True,
        "via": "link",
        "goal": contracts.CoverageGoal(partners=2, within_seconds=900),
        "acknowledged": 1,
        "missing": ("US", "GB"),
        "stance": contracts.PositionStance.COMMITTED,
        "levels_tried": 3,
        "attempts": 12,
        "failures": 3,
        "precedence": Precedence.FLASH,
        "status": contracts.Status.ACTUAL,
        "tlp": Tlp.AMBER,
        "escalations": (),
    }
    return event(**{**times, **{name: value for name, value in known.items() if name in event.model_fields}})


REPORTS = [event for event in handlers.SUBSCRIPTIONS if event.owner == "escalation"]


@pytest.mark.parametrize("event", REPORTS, ids=lambda event: event.event_name)
async def test_report_is_on_the_timeline_once(rig: Rig, event: type[Any]) -> None:
    """Whatever escalation reports of an alert is kept once, for those whom the event itself names."""
    alert_id = await released(rig)
    message = rig.message(sample(event, alert_id))
    for _ in "ab":
        await handlers.SUBSCRIPTIONS[event](rig.deps, message)
    (row,) = await rig.rows("SELECT * FROM timeline WHERE type = :type", type=event.type)
    assert set(row.visible_to) == message.body.visible_to()
    assert REGISTRY[row.type].model_validate_json(row.body) == message.body


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
async def test_reports_together_are_as_reports_one_by_one(rig: Rig, data: st.DataObject) -> None:
    """Whatever the reports, their order, and how often each comes: a batch leaves the rows that each alone does."""
    reports = [event for event in REPORTS if event is not EscalationsStarted]
    kinds = data.draw(st.lists(st.sampled_from(reports), min_size=1, max_size=8))
    messages = [rig.message(sample(kind, rig.deps.ids.new())) for kind in kinds]
    come = data.draw(st.lists(st.sampled_from(messages), min_size=1, max_size=12))
    earlier = data.draw(st.lists(st.sampled_from(messages), max_size=2))
    left = []
    for together in (True, False):
        for table in ("inbox", "timeline"):
            await rig.delete_all(table)
        for message in earlier:
            await handlers.on_answer(rig.deps, message)
        if together:
            await handlers.on_answers(rig.deps, come)
        else:
            for message in come:
                await handlers.on_answer(rig.deps, message)
        left.append([await rig.whole("inbox"), await rig.whole("timeline")])
    assert left[0] == left[1]
    assert len(left[0][1]) == len({message.id for message in [*come, *earlier]})


async def test_report_that_cannot_be_stored_leaves_the_others_on_the_timeline(rig: Rig) -> None:
    """Beside a report that no database takes, all that came with it are kept, also when they came twice."""
    gathering = Gathering(rig.deps, handlers.on_answer)
    reports = [rig.message(sample(contracts.PartnerNotified, rig.deps.ids.new())) for _ in range(5)]
    poison = rig.message(reports[0].body.model_copy(update={"partner": "U\x00"}))
    come = [*reports[:3], poison, *reports]
    ended = await asyncio.gather(*(gathering.handle(message) for message in come), return_exceptions=True)
    assert [type(one) for one in ended] == [Invalid if message is poison else type(None) for message in come]
    kept = await rig.rows("SELECT id FROM timeline ORDER BY id")
    assert [row.id for row in kept] == sorted(message.id for message in reports)
    assert await rig.count("inbox") == len(reports)


async def test_reports_of_a_batch_that_was_never_acknowledged_change_nothing(rig: Rig) -> None:
    """After a crash between the commit and the broker's ack everything comes again, and more with it."""
    reports = [rig.message(sample(contracts.PartnerNotified, rig.deps.ids.new())) for _ in range(4)]
    await handlers.on_answers(rig.deps, reports[:3])
    before = await rig.whole("timeline")
    rig.clock.advance(10)
    await handlers.on_answers(rig.deps, reports)
    assert len(before) == 3
    assert [row for row in await rig.whole("timeline") if row.id != reports[3].id] == before
    assert await rig.count("inbox") == await rig.count("timeline") == 4


async def test_batch_that_fails_leaves_nothing(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Inbox rows and timeline rows commit together: what failed is new when it comes again."""

    async def fail(*_: Any) -> None:
        raise RuntimeError("bug")

    reports = [rig.message(sample(contracts.PartnerNotified, rig.deps.ids.new())) for _ in range(3)]
    with monkeypatch.context() as broken:
        broken.setattr("services.alerting.store.add_entries", fail)
        with pytest.raises(RuntimeError, match="bug"):
            await handlers.on_answers(rig.deps, reports)
    assert await rig.count("inbox") == 0
    await handlers.on_answers(rig.deps, reports)
    assert await rig.count("timeline") == 3


async def test_two_processes_with_the_same_reports_keep_each_once(rig: Rig) -> None:
    """Bus and feed, or two processes, bring the same batches at the same time and in different orders."""
    reports = [rig.message(sample(contracts.PartnerNotified, rig.deps.ids.new())) for _ in range(40)]
    batches = [reports, reports[::-1], reports[20:] + reports[:20]]
    await asyncio.gather(*(handlers.on_answers(rig.deps, batch) for batch in batches))
    assert await rig.count("inbox") == await rig.count("timeline") == 40


async def test_report_without_an_alert_is_not_kept(rig: Rig) -> None:
    """A failing contact point that no alert is about has no place on a timeline."""
    event = sample(contracts.ContactPointFailing, UUID(int=1)).model_copy(update={"alert_id": None})
    await handlers.on_answer(rig.deps, rig.message(event))
    assert await rig.count("timeline") == 0
    assert await rig.count("inbox") == 1


@pytest.mark.parametrize("event", list(handlers.SUBSCRIPTIONS), ids=lambda event: event.event_name)
async def test_every_message_is_handled_once(rig: Rig, event: type[Any]) -> None:
    """The second copy of a message, by whichever road, changes nothing at all."""
    credentials = contracts.CredentialsPublished(
        partner="CA",
        version=7,
        credentials=(
            contracts.PublishedCredential(
                client_id="ca-new",
                kind=contracts.CredentialKind.PERSON,
                subject="ca-new",
                name="N. Person",
                partner="CA",
                roles=(Role.DRAFTER,),
                secret_sha256="0" * 64,
            ),
        ),
    )
    bodies: dict[type[Any], Any] = {PartnerChanged: partner(4), contracts.CredentialsPublished: credentials}
    bodies[contracts.DeadlinesChanged] = table(1, unreached_hours=10)
    message = rig.message(bodies.get(event) or sample(event, UUID(int=77)))
    await handlers.SUBSCRIPTIONS[event](rig.deps, message)
    tables = ("inbox", "timeline", "partners", "deadlines", "credentials", "outbox", "record")
    before = [await rig.whole(table) for table in tables]
    rig.clock.advance(5)
    await handlers.SUBSCRIPTIONS[event](rig.deps, message)
    assert [await rig.whole(table) for table in tables] == before
    assert len(before[0]) == 1


# --- crises -----------------------------------------------------------------------------------------------------------


async def test_alert_joins_a_crisis_or_opens_one(rig: Rig) -> None:
    """Several alerts share a crisis by its id; an alert without one opens its own; a closed one takes none."""
    opened = await crises.open_crisis(
        rig.deps, rig.call(OFFICER), name="Afghanistan", countries=["AFG"], tlp=Tlp.AMBER, state=CrisisState.WATCH
    )
    joined = await handlers.draft_alert(rig.deps, rig.call(OFFICER), proposal(), crisis_id=id_of(opened))
    own = await handlers.draft_alert(rig.deps, rig.call(OFFICER), proposal())
    assert body_of(joined)["crisis_id"] == str(id_of(opened))
    assert body_of(own)["crisis_id"] != str(id_of(opened))
    assert await rig.count("crises") == 2
    await crises.move_crisis(
        rig.deps, rig.call(SECOND), id_of(opened), CrisisState.CLOSED, check_version=lambda _: None
    )
    with pytest.raises(Conflict):
        await handlers.draft_alert(rig.deps, rig.call(OFFICER), proposal(), crisis_id=id_of(opened))
    assert "crisis.moved" in await rig.records()


async def test_crisis_opened_twice_at_the_same_moment_is_the_first_ones(rig: Rig) -> None:
    """Of several partners that open a crisis under one id at once, one has it, and the others change nothing of it."""
    own = rig.deps.ids.new()
    states = dict(zip(("CA", "US", "GB", "DE"), CrisisState, strict=False))
    outcomes = await asyncio.gather(
        *(
            crises.open_crisis(
                rig.deps,
                rig.call(person(partner), sha256=partner * 32),
                name=partner,
                countries=["AFG"],
                tlp=Tlp.AMBER,
                state=state,
                crisis_id=own,
            )
            for partner, state in states.items()
        ),
        return_exceptions=True,
    )
    refused = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    assert [getattr(one, "code", one) for one in refused] == ["id_taken"] * 3
    (kept,) = await rig.rows("SELECT owner, name, state, version FROM crises")
    assert (kept.name, kept.state, kept.version) == (kept.owner, states[kept.owner].value, 1)


async def test_crisis_of_others_cannot_be_joined_unseen(rig: Rig) -> None:
    """A crisis that the caller may not know of is as one that does not exist."""
    opened = await crises.open_crisis(
        rig.deps, rig.call(OFFICER), name="Afghanistan", countries=["AFG"], tlp=Tlp.AMBER, state=CrisisState.WATCH
    )
    with pytest.raises(Invalid) as unseen:
        await handlers.draft_alert(rig.deps, rig.call(person("US")), proposal(to=("GB",)), crisis_id=id_of(opened))
    with pytest.raises(Invalid) as missing:
        await handlers.draft_alert(rig.deps, rig.call(person("US")), proposal(to=("GB",)), crisis_id=rig.deps.ids.new())
    assert (unseen.value.code, unseen.value.detail) == (missing.value.code, missing.value.detail)

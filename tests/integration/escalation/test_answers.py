"""Who may see, answer, take over and raise what; and that an answer and its stop are one."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from services.escalation import answers, reading, store
from services.escalation.answers import PositionRequest
from services.escalation.domain import Acknowledge, decide
from services.escalation.saving import save_outcomes
from services.escalation.views import EscalationView, escalation_view
from shared.contracts import CredentialKind, PositionStance, Role, Tlp
from shared.errors import Conflict, Forbidden, Invalid, NotFound
from shared.events import Cause
from shared.ids import derived
from shared.security import Principal, administrator, service
from tests.support.escalation_rig import Rig, person, system


def cause(rig: Rig, principal: Principal | None = None) -> Cause:
    """The cause of a request."""
    return Cause(correlation_id=rig.ids.new(), subject=principal.subject if principal is not None else None)


async def released(rig: Rig, *to: str, plans: tuple[str, ...] = (), **changes: Any) -> UUID:
    """An alert of Canada to these partners, paged; returns the first one's escalation."""
    for code in dict.fromkeys((*to, *plans)):
        await rig.handle(rig.plan(code))
    await rig.handle(rig.released(*to, **changes))
    await rig.settle()
    rig.outlet.take()
    return UUID(str((await rig.escalation(to[0]))["id"]))


async def acknowledge(rig: Rig, principal: Principal, escalation_id: UUID, contact_id: UUID | None = None) -> Any:
    """Acknowledges as this caller."""
    return await answers.acknowledge(
        rig.deps, principal, escalation_id, contact_id=contact_id, via="api", cause=cause(rig, principal)
    )


async def position(rig: Rig, principal: Principal, escalation_id: UUID, stance: PositionStance, **changes: Any) -> Any:
    """Takes a position as this caller."""
    return await answers.take_position(
        rig.deps, principal, escalation_id, PositionRequest(stance, **changes), cause=cause(rig, principal)
    )


async def seen(rig: Rig, principal: Principal, escalation_id: UUID) -> EscalationView | None:
    """What the caller sees of an escalation, and that listing, reading and asking agree about it."""
    async with rig.deps.intake.transaction() as tx:
        row = await reading.find_one(tx, principal, escalation_id)
        listed = escalation_id in {cell["id"] for cell in await reading.find_cells(tx, principal, reading.Wanted())}
        allowed = await reading.may_see(tx, principal, escalation_id)
    assert allowed == listed == (row is not None), "one rule"
    return None if row is None else escalation_view(row, principal)


# --- who sees what ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("answers_visible", [False, True])
@pytest.mark.parametrize(
    ("principal", "sees"),
    [
        (person("GB"), "all"),
        (person("GB", Role.DRAFTER), "all"),
        (person("GB", Role.ROSTER_MANAGER), "nothing"),
        (person("GB", Role.AUDITOR), "nothing"),
        (person("GB", Role.OBSERVER), "nothing"),
        (system("GB"), "all"),
        (person("CA", Role.RELEASER), "all"),
        (person("XR", Role.SECRETARIAT), "all"),
        (person("US"), "the answer if visible"),
        (person("US", Role.SECRETARIAT), "the answer if visible"),
        (person("ES"), "nothing"),
        (administrator("root"), "nothing"),
        (service("alerting"), "all"),
    ],
)
async def test_who_sees_an_escalation(rig: Rig, principal: Principal, sees: str, answers_visible: bool) -> None:
    """Partner, raiser and secretariat see it in full; another addressed one its answer alone, if the alert says so."""
    escalation_id = await released(rig, "GB", "US", answers_visible=answers_visible)
    await acknowledge(rig, person("GB"), escalation_id)
    view = await seen(rig, principal, escalation_id)
    if sees == "nothing" or (sees != "all" and not answers_visible):
        assert view is None
        return
    assert view is not None
    assert view.state == "acknowledged"
    assert (view.level, view.last_attempt is None, view.next_due_at is None) == (
        (1, False, False) if sees == "all" else (None, True, True)
    )
    assert view.acknowledgement is not None
    names = principal.partner in ("GB", "CA")
    assert view.acknowledgement.by == ("Example Person 1 of GB" if names else None)


@pytest.mark.parametrize(
    ("tlp", "principal", "headline"),
    [
        (Tlp.AMBER, person("XR", Role.SECRETARIAT), True),
        (Tlp.AMBER_STRICT, person("XR", Role.SECRETARIAT), False),
        (Tlp.RED, person("XR", Role.SECRETARIAT), False),
        (Tlp.RED, person("GB"), True),
        (Tlp.RED, person("CA", Role.RELEASER), True),
    ],
)
async def test_a_headline_is_withheld_as_its_label_says(
    rig: Rig, tlp: Tlp, principal: Principal, headline: bool
) -> None:
    """The secretariat sees that an alert at TLP:RED exists and what became of it, not what it says."""
    escalation_id = await released(rig, "GB", tlp=tlp)
    view = await seen(rig, principal, escalation_id)
    assert view is not None
    assert (view.alert.headline is not None) is headline


async def test_the_words_of_an_answer_are_for_partner_and_raiser(rig: Rig) -> None:
    """The secretariat sees which position was taken, and neither name nor words."""
    escalation_id = await released(rig, "GB")
    await position(rig, person("GB"), escalation_id, PositionStance.COMMITTED, offer="200 places", note="by air")
    for principal, words in (
        (person("GB"), True),
        (person("CA", Role.RELEASER), True),
        (person("XR", Role.SECRETARIAT), False),
    ):
        view = await seen(rig, principal, escalation_id)
        assert view is not None
        assert view.position is not None
        assert view.position.stance is PositionStance.COMMITTED
        shown = (view.position.offer, view.position.note, view.position.by)
        assert shown == (("200 places", "by air", "Example Person 1 of GB") if words else (None, None, None))


async def test_a_takeover_is_seen_by_takers_alone(rig: Rig) -> None:
    """Another addressed partner learns nothing of it, also where answers are visible."""
    await released(rig, "GB", "US", plans=("CA", "XR"), answers_visible=True)
    await rig.forward(minutes=30)
    takeover = UUID(str((await rig.escalation("XR", "takeover"))["id"]))
    assert await seen(rig, person("US"), takeover) is None
    assert await seen(rig, person("CA"), takeover) is not None


# --- who may answer ---------------------------------------------------------------------------------------------------


async def test_someone_elses_is_as_missing(rig: Rig) -> None:
    """Who may not know of an escalation gets the same answer as for one that does not exist."""
    escalation_id = await released(rig, "GB", plans=("ES",))
    said = []
    for target in (escalation_id, rig.ids.new()):
        for act in (
            acknowledge(rig, person("ES"), target),
            position(rig, person("ES"), target, PositionStance.NOTED),
            answers.take_over(rig.deps, person("ES", Role.DUTY_OFFICER), target, cause=cause(rig)),
            answers.raise_level(rig.deps, person("ES", Role.SECRETARIAT), target, cause=cause(rig)),
        ):
            with pytest.raises(NotFound) as caught:
                await act
            said.append((caught.value.code, caught.value.detail))
    assert len(set(said)) == 1
    with pytest.raises(NotFound):
        await answers.acknowledge_alerts(
            rig.deps, person("ES"), [(await rig.escalation("GB"))["alert_id"]], contact_id=None, via="api",
            cause=cause(rig),
        )  # fmt: skip


@pytest.mark.parametrize("principal", [person("CA", Role.DUTY_OFFICER), person("XR", Role.SECRETARIAT)])
async def test_nobody_answers_for_another_government(rig: Rig, principal: Principal) -> None:
    """Raiser and secretariat see it, and are told that it is not theirs to answer."""
    escalation_id = await released(rig, "GB")
    with pytest.raises(Forbidden) as caught:
        await acknowledge(rig, principal, escalation_id)
    assert caught.value.code == "not_your_escalation"


@pytest.mark.parametrize("role", [Role.DRAFTER, Role.RELEASER])
async def test_answering_needs_the_role(rig: Rig, role: Role) -> None:
    """Who drafts or releases sees the escalation and may not answer for the government."""
    escalation_id = await released(rig, "GB")
    with pytest.raises(Forbidden) as caught:
        await acknowledge(rig, person("GB", role), escalation_id)
    assert caught.value.code == "role_missing"
    assert (await rig.escalation("GB"))["acknowledged_at"] is None


async def test_a_system_names_a_contact_of_its_own_plan(rig: Rig) -> None:
    """It must name one, whom its partner's plan holds; and the record says that it asserted so, without a name."""
    escalation_id = await released(rig, "GB", plans=("US",))
    with pytest.raises(Invalid) as caught:
        await acknowledge(rig, system("GB"), escalation_id)
    assert caught.value.code == "required"
    with pytest.raises(Invalid) as caught:
        await acknowledge(rig, system("GB"), escalation_id, derived("contact", "us-1"))
    assert caught.value.code == "unknown_contact"
    done = await acknowledge(rig, system("GB"), escalation_id, derived("contact", "gb-2"))
    assert (done.acknowledged_by.subject, done.asserted_by_system) == ("gb-2", "gb-system")
    assert done.acknowledged_by.kind is CredentialKind.PERSON
    (row,) = await rig.rows("SELECT * FROM record WHERE kind = 'escalation.partner_acknowledged'")
    assert row["subject"] == "gb-system"
    assert row["data"]["asserted_by_system"] == "gb-system"
    assert row["data"]["acknowledged_by_contact_id"] == str(derived("contact", "gb-2"))


async def test_a_person_answers_for_themselves_alone(rig: Rig) -> None:
    """A person cannot say that somebody else has it."""
    escalation_id = await released(rig, "GB")
    with pytest.raises(Invalid) as caught:
        await acknowledge(rig, person("GB"), escalation_id, derived("contact", "gb-2"))
    assert [error.field for error in caught.value.errors] == ["contact_id"]
    assert (await acknowledge(rig, person("GB"), escalation_id, derived("contact", "gb-1"))).acknowledged_by is not None


async def test_only_the_secretariats_own_people_raise_a_level(rig: Rig) -> None:
    """The role counts at the secretariat alone; nobody else raises a level, and not for an answered partner."""
    escalation_id = await released(rig, "GB")
    for principal in (person("GB", Role.SECRETARIAT), person("CA", Role.RELEASER), person("XR", Role.DUTY_OFFICER)):
        with pytest.raises(Forbidden):
            await answers.raise_level(rig.deps, principal, escalation_id, cause=cause(rig))
    await answers.raise_level(rig.deps, person("XR", Role.SECRETARIAT), escalation_id, cause=cause(rig))
    await rig.settle()
    assert ("alert.released", "gb-2") in rig.outlet.take()
    await acknowledge(rig, person("GB"), escalation_id)
    with pytest.raises(Conflict):
        await answers.raise_level(rig.deps, person("XR", Role.SECRETARIAT), escalation_id, cause=cause(rig))


@pytest.mark.parametrize(
    ("principal", "code"),
    [
        (person("CA", Role.DRAFTER), "forbidden"),
        (person("GB", Role.DUTY_OFFICER), "forbidden"),
        (replace(system("CA"), roles=frozenset({Role.DUTY_OFFICER})), "person_required"),
    ],
)
async def test_who_may_not_take_over(rig: Rig, principal: Principal, code: str) -> None:
    """Only a person, and only an officer of the raiser or the secretariat."""
    escalation_id = await released(rig, "GB", plans=("CA", "XR"))
    await rig.forward(minutes=30)
    with pytest.raises(Forbidden) as caught:
        await answers.take_over(rig.deps, principal, escalation_id, cause=cause(rig))
    assert caught.value.code == code


async def test_two_people_take_over_at_once_without_a_deadlock(rig: Rig) -> None:
    """Each names another escalation of the same family: both succeed, and each is announced once."""
    escalation_id = await released(rig, "GB", plans=("CA", "XR"))
    await rig.forward(minutes=30)
    takeovers = [UUID(str((await rig.escalation(code, "takeover"))["id"])) for code in ("CA", "XR")]
    await asyncio.gather(
        answers.take_over(rig.deps, person("CA", Role.DUTY_OFFICER), takeovers[0], cause=cause(rig)),
        answers.take_over(rig.deps, person("XR", Role.SECRETARIAT), takeovers[1], cause=cause(rig)),
        answers.take_over(rig.deps, person("XR", Role.DUTY_OFFICER, number=2), escalation_id, cause=cause(rig)),
    )
    announced = await rig.events("partner_taken_over")
    assert len(announced) == 3
    assert {event["kind"] for event in announced} == {"answer"}


async def test_a_senior_contact_who_was_paged_stops_a_takeover_by_acknowledging(rig: Rig) -> None:
    """Whoever is woken for a takeover has it by acknowledging it; both takeovers rest."""
    await released(rig, "GB", plans=("CA", "XR"))
    await rig.forward(minutes=30)
    takeover = await rig.escalation("CA", "takeover")
    await acknowledge(rig, person("CA", Role.SENIOR_CONTACT), takeover["id"])
    assert (await rig.escalation("XR", "takeover"))["state"] == "acknowledged"
    assert (await rig.escalation("GB"))["taken_over_by"]["subject"] == "ca-1"


# --- once -------------------------------------------------------------------------------------------------------------


async def test_two_acknowledgements_at_once_are_one(rig: Rig) -> None:
    """Both are answered, the first one stands, and there is one event."""
    escalation_id = await released(rig, "GB")
    both = await asyncio.gather(
        acknowledge(rig, person("GB"), escalation_id), acknowledge(rig, person("GB", number=2), escalation_id)
    )
    assert both[0].acknowledged_by == both[1].acknowledged_by
    assert len(await rig.events("partner_acknowledged")) == 1


async def test_a_repeated_position_is_one(rig: Rig) -> None:
    """The same request again creates no second event; a changed one does."""
    escalation_id = await released(rig, "GB")
    for _ in range(3):
        await position(rig, person("GB"), escalation_id, PositionStance.COMMITTED, offer="200 places")
    assert len(await rig.events("position_taken")) == 1
    await position(rig, person("GB"), escalation_id, PositionStance.COMMITTED, offer="300 places")
    assert len(await rig.events("position_taken")) == 2


async def test_several_alerts_are_acknowledged_all_or_none(rig: Rig) -> None:
    """One that needs no answer refuses the whole request; `all` means those that owe one."""
    await released(rig, "GB")
    await released(rig, "GB")
    informing = rig.released("US", informed=("GB",))
    await rig.handle(rig.plan("US"))
    await rig.handle(informing)
    owing = [
        row["alert_id"]
        for row in await rig.rows("SELECT alert_id FROM escalations WHERE kind = 'answer' AND partner = 'GB'")
    ]
    with pytest.raises(Conflict):
        await answers.acknowledge_alerts(
            rig.deps, person("GB"), [*owing, informing.alert_id], contact_id=None, via="api", cause=cause(rig)
        )
    assert await rig.events("partner_acknowledged") == []
    done = await answers.acknowledge_alerts(rig.deps, person("GB"), None, contact_id=None, via="api", cause=cause(rig))
    assert {escalation.alert.alert_id for escalation in done} == set(owing)
    assert (
        await answers.acknowledge_alerts(rig.deps, person("GB"), None, contact_id=None, via="api", cause=cause(rig))
        == []
    )


# --- I3: the row lock decides -----------------------------------------------------------------------------------------


async def test_an_acknowledgement_that_holds_the_row_keeps_the_timer_from_raising(rig: Rig) -> None:
    """The deadline has come, an acknowledgement has the row: the timer passes it by, and then finds it answered."""
    escalation_id = await released(rig, "GB")
    rig.clock.advance(600)
    timers = rig.service.loops["timers"]
    async with rig.deps.intake.transaction() as tx:
        held = await store.load_one(tx, escalation_id)
        assert held is not None
        assert await timers.run_once() == 0
        decided = decide(held, Acknowledge(by=person("GB").actor()), rig.clock.now())
        await save_outcomes(tx, [decided], ids=rig.ids, cause=cause(rig), now=rig.clock.now())
    assert await timers.run_once() == 0
    await rig.settle()
    assert (await rig.escalation("GB"))["level"] == 1
    assert rig.outlet.take() == []


@pytest.mark.parametrize("attempt", range(5))
async def test_an_answered_partner_is_never_escalated(rig: Rig, attempt: int) -> None:
    """Acknowledgement and timer run at the same moment: whichever comes second sees the first, and no page follows an
    acknowledgement.
    """
    escalation_id = await released(rig, "GB")
    rig.clock.advance(600)
    runs = [acknowledge(rig, person("GB"), escalation_id), rig.service.loops["timers"].run_once()]
    await asyncio.gather(*(runs if attempt % 2 else reversed(runs)))
    await rig.settle()
    rig.outlet.take()
    await rig.forward(minutes=60)
    assert [target for _type, target in rig.outlet.take() if target != "ca-system"] == []
    row = await rig.escalation("GB")
    assert row["state"] == "acknowledged"
    raised = await rig.events("level_raised")
    assert len(raised) == (row["level"] - 1)


async def test_the_record_covers_each_act_and_names_nobody(rig: Rig) -> None:
    """Every act has a row of its own; in none of them is a name, a number, an address or a word that somebody wrote."""
    escalation_id = await released(rig, "GB", plans=("CA", "XR"))
    await rig.forward(minutes=30)
    await answers.take_over(rig.deps, person("CA", Role.DUTY_OFFICER), escalation_id, cause=cause(rig))
    await position(rig, person("GB"), escalation_id, PositionStance.COMMITTED, note="secret-note", offer="secret-offer")
    await rig.settle()
    rows = await rig.rows("SELECT kind, data::text AS data FROM record")
    kinds = {row["kind"].removeprefix("escalation.") for row in rows}
    assert {
        "escalations_started", "partner_notified", "level_raised", "partner_unreached", "partner_taken_over",
        "changed_along", "partner_acknowledged", "position_taken", "escalations_ended", "page.attempted",
    } <= kinds  # fmt: skip
    for row in rows:
        for word in ("Example Person", "secret-", "+999", "https://", "Kabul"):
            assert word not in row["data"], row["kind"]

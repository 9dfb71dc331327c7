"""I7: whatever comes, in whatever order and however often, ends in the same state."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from services.escalation import answers
from shared.contracts import (
    Actor,
    EndReason,
    PartnerAcknowledged,
    PartnerUnreached,
    PositionStance,
    Precedence,
    Recipient,
    Role,
    Status,
    Tlp,
)
from shared.events import Cause, Event
from tests.support.cluster import Cluster
from tests.support.escalation_rig import Rig, escalation_rig, person

ANSWER = (
    "partner, kind, subject_partner, state, e.end_reason, e.ended_at, acknowledged_at, acknowledged_by ->> 'subject'"
)
OWED = ("acknowledge_by_at", "unreached_at", "position_by_at", "due_at", "due_reason", "clock_started_at", "level")
"""What has ended owes nothing: how far it had come is its history, and that differs."""

FINAL = ", ".join((ANSWER, *(f"CASE WHEN state <> 'ended' THEN {column} END" for column in OWED)))


def cause(rig: Rig) -> Cause:
    """The cause of a request."""
    return Cause(correlation_id=rig.ids.new())


async def final_state(rig: Rig) -> list[tuple[Any, ...]]:
    """What every order must end in: who owes what until when, and what alerts are known to be."""
    escalations = await rig.rows(
        f"SELECT h.facts ->> 'reference' AS reference, {FINAL} FROM escalations e JOIN alert_heads h USING (alert_id)"  # noqa: S608
        " ORDER BY h.facts ->> 'reference', partner, subject_partner"
    )
    heads = await rig.rows(
        "SELECT facts, superseded_by IS NULL AS newest, end_reason FROM alert_heads ORDER BY facts ->> 'reference'"
    )
    plans = await rig.rows("SELECT partner, plan_version FROM duty_plans ORDER BY partner")
    return [tuple(row.values()) for row in (*escalations, *heads, *plans)]


async def play(rig: Rig, events: list[Event]) -> list[tuple[Any, ...]]:
    """Handles the events in this order, each twice, lets everything settle, and says what it came to."""
    for event in events:
        await rig.handle(event)
    await rig.settle()
    return await final_state(rig)


def world(rig: Rig) -> dict[str, Event]:
    """Two plans of a partner, an alert, its Update, a recipient that is added to that, and its end."""
    alert = rig.released("GB", "US", reference="RP-1", answers_visible=True)
    update = rig.update_of(alert, reference="RP-2", precedence=Precedence.IMMEDIATE)
    added = Recipient(partner="ES", addressed_at=rig.clock.now())
    return {
        "plan_1": rig.plan("GB", version=1),
        "plan_2": rig.plan("GB", version=2),
        "plan_us": rig.plan("US"),
        "released": alert,
        "updated": update,
        "grown": update.model_copy(update={"recipients": (*update.recipients, added)}),
        "ended": rig.ended(update),
    }


@pytest.mark.logs_error("duty_plan.lacking")
@pytest.mark.parametrize("with_end", [False, True])
@pytest.mark.parametrize("place", [53, 211, 401, 577, 719])
async def test_any_order_of_messages_ends_in_the_same_state(
    cluster: Cluster, tmp_path: Path, place: int, with_end: bool
) -> None:
    """Plans, release, Update, more recipients, the end: any permutation, everything twice."""
    names = ["plan_1", "plan_2", "released", "updated", "grown", *(["ended"] if with_end else []), "plan_us"]
    orders = list(itertools.permutations(names))
    shuffled = orders[place * len(orders) // 720 % len(orders)]
    results = []
    for order in (names, shuffled):
        async with escalation_rig(cluster, tmp_path) as rig:
            events = world(rig)
            results.append(await play(rig, [events[name] for name in order]))
    assert results[0] == results[1], shuffled


@pytest.mark.logs_error("duty_plan.lacking")
@pytest.mark.parametrize("order", list(itertools.permutations(["released", "updated", "again"])))
async def test_a_chain_of_updates_in_any_order_ends_in_the_same_state(
    cluster: Cluster, tmp_path: Path, order: tuple[str, ...]
) -> None:
    """An Update of an Update may come first of all: the newest has the earliest deadlines, and only it is open."""
    results = []
    for names in (("released", "updated", "again"), order):
        async with escalation_rig(cluster, tmp_path) as rig:
            await rig.handle(rig.plan("GB"))
            start = rig.clock.now()
            alert = rig.released("GB", reference="RP-1")
            updated = rig.update_of(alert, reference="RP-2", released_at=start + timedelta(minutes=2))
            again = rig.update_of(updated, reference="RP-3", released_at=start + timedelta(minutes=4))
            rig.clock.advance(300)
            events = {"released": alert, "updated": updated, "again": again}
            results.append(await play(rig, [events[name] for name in names]))
    assert results[0] == results[1]
    states = [row[4] for row in results[0][:3]]
    assert states == ["ended", "ended", "notified"]


Act = Callable[[Rig, dict[str, Any]], Awaitable[None]]


async def release(rig: Rig, alerts: dict[str, Any]) -> None:
    """The original arrives."""
    await rig.handle(alerts["released"])


async def correct(rig: Rig, alerts: dict[str, Any]) -> None:
    """The Update arrives."""
    await rig.handle(alerts["updated"])


async def acknowledge_original(rig: Rig, alerts: dict[str, Any]) -> None:
    """The first message is acknowledged, by whoever has it in hand."""
    await answers.acknowledge_alerts(
        rig.deps, person("GB"), [alerts["released"].alert_id], contact_id=None, via="api", cause=cause(rig)
    )


@pytest.mark.parametrize("asks_anew", [False, True])
@pytest.mark.parametrize(
    "acts",
    [
        (release, acknowledge_original, correct),
        (release, correct, acknowledge_original),
        (correct, release, acknowledge_original),
    ],
)
async def test_an_acknowledgement_counts_for_the_update_whenever_it_comes(
    rig: Rig, acts: tuple[Act, ...], asks_anew: bool
) -> None:
    """Whoever acknowledged the original has acknowledged an Update, in any order, unless that asks anew."""
    await rig.handle(rig.plan("GB"))
    alert = rig.released("GB")
    alerts = {"released": alert, "updated": rig.update_of(alert, asks_anew=asks_anew)}
    for act in acts:
        await act(rig, alerts)
    await rig.settle()
    rows = {row["alert_id"]: row for row in await rig.rows("SELECT * FROM escalations")}
    assert rows[alert.alert_id]["acknowledged_at"] is not None
    assert rows[alert.alert_id]["state"] == "ended"
    assert rows[alerts["updated"].alert_id]["state"] == ("notified" if asks_anew else "acknowledged")


async def test_the_end_before_the_beginning_opens_nothing_and_pages_nobody(rig: Rig) -> None:
    """An end is kept until its alert comes; that opens ended escalations, and no telephone rings."""
    await rig.handle(rig.plan("GB"))
    alert = rig.released("GB")
    await rig.handle(rig.ended(alert))
    await rig.handle(alert)
    await rig.settle()
    assert rig.outlet.take() == []
    row = await rig.escalation("GB")
    assert (row["state"], row["end_reason"], row["due_at"]) == ("ended", "cancelled", None)
    (started,) = await rig.events("escalations_started")
    assert started["escalations"][0]["state"] == "ended"


@pytest.mark.logs_error("alert.arrived_expired")
async def test_an_alert_that_arrives_expired_pages_nobody_and_says_so(rig: Rig) -> None:
    """It opens as expired; the raiser, who believes that people were paged, is told that nobody was."""
    for code in ("GB", "CA"):
        await rig.handle(rig.plan(code))
    alert = rig.released("GB")
    rig.clock.advance(3 * 86400)
    await rig.handle(alert)
    await rig.settle()
    assert {target for _type, target in rig.outlet.take()} == {"ca-1", "ca-system"}
    assert (await rig.escalation("GB"))["end_reason"] == "expired"


async def test_an_older_publication_takes_nobodys_sight_away(rig: Rig) -> None:
    """Recipients were added; the publication before that comes last, and all go on seeing the answers."""
    alert = rig.released("GB", "US", answers_visible=True)
    await rig.handle(rig.plan("GB"))
    await rig.handle(rig.plan("US"))
    await rig.handle(alert)
    await rig.handle(alert.model_copy(update={"recipients": alert.recipients[:1]}))
    (head,) = await rig.rows("SELECT facts FROM alert_heads")
    assert head["facts"]["answers_visible_to"] == ["GB", "US"]


async def test_a_plan_that_comes_after_the_release_pages_at_once(rig: Rig) -> None:
    """Nobody waits for the acknowledge-by time because roster was slower than alerting."""
    await rig.handle(rig.plan("CA"))
    rig.clock.advance(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("services.escalation.telling.log.error", lambda *_, **__: None)
        await rig.handle(rig.released("GB"))
    await rig.settle()
    rig.outlet.take()
    await rig.handle(rig.plan("GB"))
    await rig.settle()
    assert sorted(rig.outlet.take()) == [("alert.released", "gb-1"), ("alert.released", "gb-system")]
    assert (await rig.escalation("GB"))["gaps"] == []


# --- unreached, answered, and taken over, from other nodes too --------------------------------------------------------


def unreached(rig: Rig, alert: Any, partner: str = "GB") -> PartnerUnreached:
    """Another node says that its partner is unreached, now."""
    return PartnerUnreached(
        alert_id=alert.alert_id,
        escalation_id=rig.ids.new(),
        partner=partner,
        raiser="CA",
        root_alert_id=alert.alert_id,
        reference=alert.reference,
        unreached_at=rig.clock.now(),
        levels_tried=2,
        attempts=5,
        precedence=Precedence.FLASH,
        status=Status.ACTUAL,
        tlp=Tlp.AMBER,
        expires_at=alert.expires_at,
        released_by=alert.released_by,
    )


def answered(rig: Rig, alert: Any, partner: str = "GB") -> PartnerAcknowledged:
    """Another node says that its partner has acknowledged, now."""
    return PartnerAcknowledged(
        alert_id=alert.alert_id,
        escalation_id=rig.ids.new(),
        partner=partner,
        raiser="CA",
        acknowledged_at=rig.clock.now(),
        acknowledged_by=Actor(subject="gb-1", partner=partner),
    )


@pytest.mark.parametrize("released_first", [True, False])
async def test_unreached_and_answered_in_any_order(cluster: Cluster, tmp_path: Path, released_first: bool) -> None:
    """A partner of another node: its answer may overtake its own unreached; then nobody is asked to take it over."""
    open_ones = []
    for answer_first in (False, True):
        async with escalation_rig(cluster, tmp_path, partners=["CA", "XR"]) as rig:
            for code in ("CA", "XR"):
                await rig.handle(rig.plan(code))
            alert = rig.released("GB")
            events: list[Event] = [unreached(rig, alert)]
            rig.clock.advance(60)
            events.append(answered(rig, alert))
            if answer_first:
                events.reverse()
            events.insert(0 if released_first else 2, alert)
            for event in events:
                await rig.handle(event)
                await rig.settle()
            open_ones.append(await rig.rows("SELECT id FROM escalations WHERE state <> 'ended'"))
    assert open_ones == [[], []]


async def test_a_takeover_opens_before_its_alert_is_known_here(cluster: Cluster, tmp_path: Path) -> None:
    """Another node's unreached may come before the release: people are paged with what it says, and timers go on."""
    async with escalation_rig(cluster, tmp_path, partners=["CA", "XR"]) as rig:
        for code in ("CA", "XR"):
            await rig.handle(rig.plan(code))
        alert = rig.released("GB")
        await rig.handle(unreached(rig, alert))
        await rig.settle()
        assert ("partner.unreached", "ca-1") in rig.outlet.take()
        await rig.forward(minutes=5)
        assert ("partner.unreached", "ca-2") in rig.outlet.take()
        await rig.handle(alert)
        (head,) = await rig.rows("SELECT facts, content FROM alert_heads")
        assert head["content"] is not None


async def test_unreached_after_the_end_takes_nobody_over(rig: Rig) -> None:
    """The alert ended while the news was on its way: nobody is woken for it."""
    for code in ("GB", "CA", "XR"):
        await rig.handle(rig.plan(code))
    alert = rig.released("GB")
    await rig.handle(alert)
    await rig.settle()
    rig.outlet.take()
    late = unreached(rig, alert)
    await rig.handle(rig.ended(alert, EndReason.CLOSED))
    await rig.handle(late)
    await rig.settle()
    assert {kind for kind, _target in rig.outlet.take()} == {"alert.ended"}
    assert await rig.rows("SELECT 1 FROM escalations WHERE kind = 'takeover'") == []


async def test_a_partner_that_is_unreached_again_is_taken_over_again(rig: Rig) -> None:
    """Acknowledged, then "wrong person", then silence: the takeovers that had ended begin again."""
    for code in ("GB", "CA", "XR"):
        await rig.handle(rig.plan(code))
    await rig.handle(rig.released("GB"))
    await rig.forward(minutes=30)
    row = await rig.escalation("GB")
    await answers.acknowledge(rig.deps, person("GB"), row["id"], contact_id=None, via="api", cause=cause(rig))
    await rig.settle()
    assert (await rig.escalation("CA", "takeover"))["state"] == "ended"
    wrong = answers.PositionRequest(stance=PositionStance.WRONG_PERSON)
    await answers.take_position(rig.deps, person("GB", Role.SENIOR_CONTACT), row["id"], wrong, cause=cause(rig))
    await rig.settle()
    rig.outlet.take()
    await rig.forward(minutes=10)
    assert (await rig.escalation("GB"))["state"] == "unreached"
    assert ("partner.unreached", "xr-1") in rig.outlet.take()
    assert (await rig.escalation("CA", "takeover"))["state"] == "notified"


async def test_a_correction_does_not_ring_who_has_just_taken_over(rig: Rig) -> None:
    """Takers are not told that the alert ended, nor rung again before their half hour: then they are asked again."""
    for code in ("GB", "CA", "XR"):
        await rig.handle(rig.plan(code))
    alert = rig.released("GB")
    await rig.handle(alert)
    await rig.forward(minutes=30)
    row = await rig.escalation("GB")
    await answers.take_over(rig.deps, person("CA", Role.DUTY_OFFICER), row["id"], cause=cause(rig))
    await rig.forward(minutes=1)
    rig.outlet.take()
    await rig.handle(rig.update_of(alert))
    await rig.settle()
    taken = {target for _type, target in rig.outlet.take() if not target.startswith("gb-")}
    assert taken == {"ca-system", "xr-system"}
    assert (await rig.escalation("CA", "takeover"))["state"] == "acknowledged"
    await rig.forward(minutes=29)
    assert {("partner.unreached", "ca-1"), ("partner.unreached", "xr-1")} <= set(rig.outlet.take())

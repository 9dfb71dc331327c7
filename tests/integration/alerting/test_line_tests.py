"""Line tests on a real database: switched, begun once, stopped by what is real, settled by what is reported."""

from __future__ import annotations

import asyncio
from datetime import date, datetime, timedelta
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
import pytest_asyncio

from services.alerting import handlers as alert_handlers
from services.alerting.expiry import expire_alerts
from services.alerting.line_tests import handlers, store
from services.alerting.line_tests.loop import COMPUTED_AT_ONCE, PURPOSE, LineTests
from services.alerting.line_tests.plan import STARTS_WITHIN, Planned, planned
from shared import holiday_calendars
from shared.contracts import (
    Actor,
    EscalationKind,
    EscalationsStarted,
    EscalationState,
    LevelRaised,
    LevelReason,
    PartnerAcknowledged,
    PartnerChanged,
    Precedence,
    Standing,
    StartedEscalation,
    Status,
)
from shared.errors import Conflict, Forbidden, Invalid
from tests.support.alerting_rig import PARTNERS, Rig, body_of, id_of, person, proposal

SASHA = person("XR", "secretariat")
LONDON = ZoneInfo("Europe/London")


@pytest_asyncio.fixture
async def loop(rig: Rig) -> LineTests:
    """The loop, where every partner is known with its zone, by the clock of London."""
    for code in PARTNERS:
        await changed(rig, code)
    return LineTests(rig.deps)


async def changed(rig: Rig, code: str, **changes: Any) -> None:
    """Roster has published a partner."""
    fields: dict[str, Any] = {
        "partner": code,
        "version": 2,
        "name": code,
        "standing": Standing.SECRETARIAT if code == "XR" else Standing.MEMBER,
        "time_zone": "Europe/London",
        "languages": ("en", "de"),
    }
    await alert_handlers.on_partner_changed(rig.deps, rig.message(PartnerChanged(**{**fields, **changes})))


async def switch_on(rig: Rig, *partners: str) -> Any:
    """The secretariat switches the plan on, for these partners or for all."""
    return await handlers.switch_plan(
        rig.deps, rig.call(SASHA), enabled=True, partners=partners or None, check_version=lambda _: None
    )


def test_of_month(rig: Rig, code: str, month: date) -> Planned:
    """What is drawn for a partner."""
    secret = rig.deps.keys.derived(PURPOSE)[0]
    return planned(code, month, secret, LONDON, frozenset(holiday_calendars.names(code, month.year)))


test_of_month.__test__ = False  # type: ignore[attr-defined]


MONTHS = [date(2021, 9, 1), *(date(year, month, 1) for year in range(2021, 2027) for month in (11, 12))]
"""Months in which London's clocks do not change."""


def to_the_test(rig: Rig, code: str) -> Planned:
    """Moves the clock to a test of the partner that can be put off by some days."""
    drawn = next(test for month in MONTHS if (test := test_of_month(rig, code, month)).at.day in range(2, 26))
    rig.clock.advance((drawn.at - rig.clock.now()).total_seconds())
    return drawn


async def start(rig: Rig, code: str = "GB", *, key: str = "k1") -> dict[str, Any]:
    """A test by hand."""
    return body_of(await handlers.start_line_test(rig.deps, rig.call(SASHA, key=key), code))


async def tests(rig: Rig) -> list[Any]:
    """Every test, in order."""
    return await rig.whole("line_tests")


tests.__test__ = False  # type: ignore[attr-defined]


async def reported(rig: Rig, test: dict[str, Any], *, level: int = 1) -> None:
    """Escalation has opened the test's escalation, and raised it to a level."""
    escalation_id, now = rig.deps.ids.new(), rig.clock.now()
    started = StartedEscalation(
        escalation_id=escalation_id,
        partner=test["partner"],
        kind=EscalationKind.ANSWER,
        state=EscalationState.PENDING,
        level=1,
        due_at=now,
    )
    alert_id = UUID(test["alert_id"])
    event = EscalationsStarted(alert_id=alert_id, raiser="XR", started_at=now, escalations=(started,))
    await alert_handlers.on_escalations_started(rig.deps, rig.message(event))
    if level > 1:
        raised = LevelRaised(
            **about(rig, test), level=level, reason=LevelReason.DEADLINE_PASSED, raised_at=now, next_due_at=now
        )
        await alert_handlers.on_answers(rig.deps, [rig.message(raised)])


def about(rig: Rig, test: dict[str, Any]) -> dict[str, Any]:
    """Which escalation it is."""
    return {
        "alert_id": UUID(test["alert_id"]),
        "escalation_id": rig.deps.ids.new(),
        "partner": test["partner"],
        "raiser": "XR",
        "kind": EscalationKind.ANSWER,
    }


async def acknowledged(rig: Rig, test: dict[str, Any], at: datetime | None = None) -> None:
    """Escalation reports an acknowledgement."""
    by = Actor(subject="gb-1", partner=test["partner"])
    event = PartnerAcknowledged(**about(rig, test), acknowledged_at=at or rig.clock.now(), acknowledged_by=by)
    await alert_handlers.on_answers(rig.deps, [rig.message(event)])


async def actual(rig: Rig, *to: str, **changes: Any) -> UUID:
    """Canada's officer, alone, releases an Actual alert."""
    answer = await alert_handlers.draft_alert(
        rig.deps,
        rig.call(person("CA")),
        proposal(to=to, **changes),
        self_release_reason="Nobody else reachable at 03:00",
    )
    return id_of(answer)


# --- the plan ---------------------------------------------------------------------------------------------------------


async def test_the_plan_is_off_at_first_and_off_means_off(rig: Rig, loop: LineTests) -> None:
    """Nobody is tested before the secretariat says so, nor after it has switched the plan off again."""
    to_the_test(rig, "GB")
    assert await loop.run_once() == 0
    await switch_on(rig)
    await handlers.switch_plan(rig.deps, rig.call(SASHA), enabled=False, partners=None, check_version=lambda _: None)
    assert await loop.run_once() == 0
    assert await tests(rig) == []


async def test_switching_is_recorded_with_before_and_after(rig: Rig, loop: LineTests) -> None:
    """Auditors see who switched what, and when."""
    answer = await switch_on(rig, "GB", "US")
    assert body_of(answer)["version"] == 2
    assert answer.headers["ETag"] == '"2"'
    (row,) = await rig.rows("SELECT data, subject FROM record WHERE kind = 'line_test_plan.changed'")
    assert row.data == {
        "before": {"enabled": False, "partners": None},
        "after": {"enabled": True, "partners": ["GB", "US"]},
    }
    assert row.subject == SASHA.subject


async def test_nobody_else_switches_or_sees_the_plan(rig: Rig, loop: LineTests) -> None:
    """Not a partner's secretariat role, and not the secretariat's officers."""
    for someone in (person("GB", "secretariat"), person("XR", "officer"), person("XR", "administrator")):
        with pytest.raises(Forbidden):
            await handlers.show_plan(rig.deps, rig.call(someone))


async def test_the_plan_tells_no_time_ahead(rig: Rig, loop: LineTests) -> None:
    """Who has had this month's test and who has not; no instant that lies ahead."""
    await switch_on(rig, "GB", "US")
    drawn = to_the_test(rig, "GB")
    month = drawn.at.astimezone(LONDON).date().replace(day=1)
    ahead = test_of_month(rig, "US", month).at
    await loop.run_once()
    shown = await handlers.show_plan(rig.deps, rig.call(SASHA))
    months = {row["partner"]: (row["month"], row["this_month"]) for row in body_of(shown)["months"]}
    assert months["GB"] == (f"{month:%Y-%m}", "done")
    assert months["US"] == (f"{month:%Y-%m}", "done" if await rig.count("line_tests") == 2 else "still_to_come")
    if ahead > drawn.at:
        assert str(ahead.timestamp()) not in shown.body.decode()
        assert f"{ahead:%Y-%m-%dT%H:%M}" not in shown.body.decode()
    assert {key for row in body_of(shown)["months"] for key in row} == {"partner", "month", "this_month"}


async def test_a_partner_whose_zone_is_not_known_is_shown_and_not_tested(rig: Rig) -> None:
    """Night is a matter of the zone: nothing is guessed."""
    await switch_on(rig, "GB")
    shown = body_of(await handlers.show_plan(rig.deps, rig.call(SASHA)))
    assert [row["this_month"] for row in shown["months"]] == ["zone_unknown"]
    rig.clock.advance(40 * 86400)
    assert await LineTests(rig.deps).run_once() == 0


# --- beginning --------------------------------------------------------------------------------------------------------


async def test_a_planned_test_begins_at_its_minute(rig: Rig, loop: LineTests) -> None:
    """Not a second before; alert, event, record, timeline, crisis and the test's row are there together."""
    await switch_on(rig, "GB")
    drawn = to_the_test(rig, "GB")
    rig.clock.advance(-1)
    assert await loop.run_once() == 0
    rig.clock.advance(1)
    assert await loop.run_once() == 1
    (test,) = await tests(rig)
    assert (test.partner, test.kind, test.planned_at, test.started_at) == ("GB", drawn.kind, drawn.at, drawn.at)
    assert test.started_by["subject"] == SASHA.subject
    (event,) = await rig.events("alert_released")
    assert (event["raiser"], event["status"], event["precedence"]) == ("XR", "Exercise", "IMMEDIATE")
    assert [recipient["partner"] for recipient in event["recipients"]] == ["GB"]
    assert [block["language"] for block in event["info"]] == ["en", "de"]
    assert [message.body.alert_id for message in rig.bus.published] == [test.alert_id]
    assert await rig.records() == [
        "line_test_plan.changed",
        "alert.drafted",
        "alert.released",
        "crisis.opened",
        "line_test.begun",
    ]
    (crisis,) = await rig.whole("crises")
    assert (crisis.name, crisis.owner) == (f"Line tests {drawn.at.year}", "XR")


async def test_a_month_holds_one_test(rig: Rig, loop: LineTests) -> None:
    """However often the loop looks, also at the same hour of the days that follow and after a restart."""
    await switch_on(rig, "GB")
    to_the_test(rig, "GB")
    await loop.run_once()
    for _ in range(3):
        rig.clock.advance(86400)
        await expire_alerts(rig.deps)
        assert await rig.count("line_tests") == 1
        await loop.run_once()
        await LineTests(rig.deps).run_once()
    assert await rig.count("line_tests") == 1


async def test_replicas_begin_one_test(rig: Rig, loop: LineTests) -> None:
    """Several replicas that look at the same instant begin one, in one crisis, with numbers without a gap."""
    await switch_on(rig, "GB")
    to_the_test(rig, "GB")
    replicas = [loop, *(LineTests(rig.deps) for _ in range(3))]
    counts = await asyncio.gather(*(replica.run_once() for replica in replicas))
    assert sum(counts) == 1
    assert [row.reference for row in await tests(rig)] == [f"RP-XR-{rig.clock.now().year}-0001"]
    assert await rig.count("alerts") == 1
    assert await rig.count("crises") == 1


class Died(Exception):
    """The process ends here."""


async def test_a_crash_between_release_and_row_leaves_neither(
    rig: Rig, loop: LineTests, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are one transaction: what dies in between has raised nothing, and the next pass begins the test."""
    await switch_on(rig, "GB")
    to_the_test(rig, "GB")

    async def dies(*_arguments: object) -> None:
        raise Died

    with monkeypatch.context() as patch:
        patch.setattr(store, "add_test", dies)
        with pytest.raises(Died):
            await loop.run_once()
    assert await rig.count("alerts") == await rig.count("outbox") == await rig.count("crises") == 0
    assert rig.bus.published == []
    assert await loop.run_once() == 1
    assert await rig.count("line_tests") == await rig.count("alerts") == 1


async def test_what_passed_while_nothing_ran_is_put_off_by_a_day(rig: Rig, loop: LineTests) -> None:
    """A restart a quarter of an hour late tests at the same time of the next day, not whenever it happens to start."""
    await switch_on(rig, "GB")
    to_the_test(rig, "GB")
    rig.clock.advance(STARTS_WITHIN.total_seconds())
    assert await loop.run_once() == 0
    rig.clock.advance(86400 - STARTS_WITHIN.total_seconds())
    assert await loop.run_once() == 1


async def test_an_open_actual_alert_puts_a_test_off(rig: Rig, loop: LineTests) -> None:
    """None begins while an Actual alert addresses the partner; of another partner's alert it takes no notice."""
    await switch_on(rig, "GB")
    to_the_test(rig, "GB")
    rig.clock.advance(-60)
    await actual(rig, "US")
    alert_id = await actual(rig, "GB")
    rig.clock.advance(60)
    assert await loop.run_once() == 0
    await alert_handlers.close_alert(rig.deps, rig.call(person("CA", "second")), alert_id)
    assert await loop.run_once() == 1


async def test_another_drill_puts_a_test_off(rig: Rig, loop: LineTests) -> None:
    """Not within twelve hours of another drill that addresses the partner."""
    await switch_on(rig, "GB")
    to_the_test(rig, "GB")
    rig.clock.advance(-11 * 3600)
    drill = await actual(rig, "GB", status=Status.EXERCISE, note="RED BELL", precedence=Precedence.ROUTINE)
    await alert_handlers.close_alert(rig.deps, rig.call(person("CA", "second")), drill)
    rig.clock.advance(11 * 3600)
    assert await loop.run_once() == 0
    rig.clock.advance(86400)
    assert await loop.run_once() == 1


async def test_a_test_by_hand_puts_the_planned_one_off(rig: Rig, loop: LineTests) -> None:
    """Nobody is woken twice within fourteen days by the plan; later in the month it is made up for."""
    await switch_on(rig, "GB")
    drawn = to_the_test(rig, "GB")
    rig.clock.advance(-86400)
    await start(rig)
    rig.clock.advance(3600)
    await expire_alerts(rig.deps)
    await loop.run_once()
    begun_at = None
    rig.clock.advance((drawn.at - rig.clock.now()).total_seconds())
    month = drawn.at.astimezone(LONDON).month
    while begun_at is None and rig.clock.now().astimezone(LONDON).month == month:
        await loop.run_once()
        begun_at = next((row.started_at for row in await tests(rig) if row.month is not None), None)
        rig.clock.advance(86400)
    fits = (drawn.at + timedelta(days=13)).astimezone(LONDON).month == month
    assert (begun_at == drawn.at + timedelta(days=13)) if fits else (begun_at is None)


async def test_months_are_drawn_a_few_at_a_time(rig: Rig, loop: LineTests, monkeypatch: pytest.MonkeyPatch) -> None:
    """One pass keeps nothing else waiting: with many partners the drawing is spread over passes."""
    drawn: list[str] = []
    real = LineTests._draw

    def counting(self: LineTests, code: str, zone: ZoneInfo, month: date) -> Planned:
        drawn.append(code)
        return real(self, code, zone, month)

    monkeypatch.setattr(LineTests, "_draw", counting)
    for number in range(COMPUTED_AT_ONCE):
        await changed(rig, f"Z{chr(ord('A') + number)}")
    await switch_on(rig)
    await loop.run_once()
    assert len(drawn) == COMPUTED_AT_ONCE
    await loop.run_once()
    await loop.run_once()
    everybody = {*PARTNERS, *(f"Z{chr(ord('A') + number)}" for number in range(COMPUTED_AT_ONCE))} - {"XR"}
    assert sorted(drawn) == sorted(everybody)


@pytest.mark.logs_error("line_test.not_drawn")
async def test_a_draw_that_fails_stops_nobody_elses_test(
    rig: Rig, loop: LineTests, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fault in one partner's year is logged for people, once; the others are tested at their minute."""
    real = LineTests._draw

    def failing(self: LineTests, code: str, zone: ZoneInfo, month: date) -> Planned:
        if code != "GB":
            raise AssertionError("no draw keeps the rules")
        return real(self, code, zone, month)

    monkeypatch.setattr(LineTests, "_draw", failing)
    await switch_on(rig)
    to_the_test(rig, "GB")
    for _ in range(3):
        await loop.run_once()
    assert [test.partner for test in await tests(rig)] == ["GB"]


async def test_nothing_begins_before_the_feeds_are_read(rig: Rig, loop: LineTests) -> None:
    """After a start an Actual alert's end, or who takes part, may lie unread."""
    await switch_on(rig, "GB")
    to_the_test(rig, "GB")
    rig.deps.first_pull.clear()
    assert await loop.run_once() == 0
    rig.deps.first_pull.set()
    assert await loop.run_once() == 1


# --- by hand ----------------------------------------------------------------------------------------------------------


async def test_one_now(rig: Rig, loop: LineTests) -> None:
    """The secretariat tests a partner at once, plan or no plan; the same request again begins no second."""
    first = await start(rig)
    assert (first["partner"], first["planned_at"], first["outcome"]) == ("GB", None, None)
    assert await start(rig) == first
    assert await rig.count("alerts") == 1
    with pytest.raises(Conflict) as refused:
        await start(rig, key="k2")
    assert refused.value.code == "line_test_running"
    assert (await start(rig, "US", key="k3"))["reference"] == "RP-XR-2021-0002"
    assert await rig.count("crises") == 1


async def test_two_at_once_are_one(rig: Rig, loop: LineTests) -> None:
    """Two people who ask at the same moment begin one test."""
    answers = await asyncio.gather(*(start(rig, key=f"k{n}") for n in range(4)), return_exceptions=True)
    assert sorted(isinstance(answer, Conflict) for answer in answers) == [False, True, True, True]
    assert await rig.count("line_tests") == await rig.count("alerts") == 1


@pytest.mark.parametrize("code", ["FR", "XR"])
async def test_nobody_is_tested_who_does_not_take_part(rig: Rig, loop: LineTests, code: str) -> None:
    """Unknown partners, and the secretariat, which raises the tests."""
    with pytest.raises(Invalid):
        await start(rig, code)


async def test_no_test_by_hand_while_an_actual_alert_is_open(rig: Rig, loop: LineTests) -> None:
    """An Actual alert outranks whoever asks."""
    await actual(rig, "GB")
    with pytest.raises(Conflict) as refused:
        await start(rig)
    assert refused.value.code == "actual_alert_open"


# --- what comes of it -------------------------------------------------------------------------------------------------


async def test_an_actual_alert_stops_a_running_test(rig: Rig, loop: LineTests) -> None:
    """Released, it wakes the loop; the test is recalled with the reason, and is recorded as stopped, not failed."""
    test = await start(rig)
    other = await start(rig, "US", key="k2")
    await reported(rig, test)
    assert not rig.deps.loops["line_tests"]._woken.is_set()
    rig.clock.advance(60)
    await actual(rig, "GB")
    assert rig.deps.loops["line_tests"]._woken.is_set()
    assert await loop.run_once() == 1
    (ended,) = await rig.events("alert_ended")
    assert (ended["alert_id"], ended["reason"], ended["note"]) == (test["alert_id"], "cancelled", "an actual alert")
    rows = {row.partner: (row.outcome, row.stop_reason) for row in await tests(rig)}
    assert rows == {"GB": ("stopped", "actual_alert"), "US": (None, None)}
    assert await rig.state_of(UUID(other["alert_id"])) == "released"
    assert rig.bus.published[-1].body.alert_id == UUID(test["alert_id"])
    assert await handlers.unanswered_alarms(rig.deps) == []


async def test_a_drill_stops_no_test(rig: Rig, loop: LineTests) -> None:
    """Only what is real outranks a drill."""
    await start(rig)
    await actual(rig, "GB", status=Status.EXERCISE, note="RED BELL")
    assert not rig.deps.loops["line_tests"]._woken.is_set()
    assert await loop.run_once() == 0


async def test_an_answer_is_noted_and_closes_the_test(rig: Rig, loop: LineTests) -> None:
    """Seconds and level are kept; a minute later the test is over, and everybody who was paged is told."""
    test = await start(rig)
    await reported(rig, test, level=2)
    rig.clock.advance(250)
    await acknowledged(rig, test)
    await loop.run_once()
    (row,) = await tests(rig)
    assert (row.level, row.outcome, row.acknowledged_at - row.started_at) == (2, None, timedelta(seconds=250))
    rig.clock.advance(60)
    await loop.run_once()
    (row,) = await tests(rig)
    assert (row.outcome, row.ended_at) == ("answered", rig.clock.now())
    assert await rig.state_of(row.alert_id) == "closed"
    (settled,) = await rig.rows("SELECT data, alert_id FROM record WHERE kind = 'line_test.settled'")
    assert (settled.data["outcome"], settled.data["seconds"]) == ("answered", 250.0)


async def test_no_answer_is_an_alarm_for_a_day_or_until_the_next_answer(rig: Rig, loop: LineTests) -> None:
    """It stands as one sentence of the reconciler; an answered test clears it."""
    test = await start(rig)
    await reported(rig, test)
    rig.clock.advance(1801)
    await expire_alerts(rig.deps)
    await loop.run_once()
    (row,) = await tests(rig)
    assert (row.outcome, row.acknowledged_at) == ("unanswered", None)
    alarm = await handlers.unanswered_alarms(rig.deps)
    assert alarm == ["GB has not answered the line test RP-XR-2021-0001; see the report of line tests"]
    again = await start(rig, key="k2")
    await reported(rig, again)
    await acknowledged(rig, again)
    rig.clock.advance(61)
    await loop.run_once()
    assert await handlers.unanswered_alarms(rig.deps) == []


async def test_an_alarm_ends_after_a_day(rig: Rig, loop: LineTests) -> None:
    """The report keeps what the alarm has told."""
    test = await start(rig)
    await reported(rig, test)
    rig.clock.advance(1801)
    await expire_alerts(rig.deps)
    await loop.run_once()
    rig.clock.advance(86400 + 1)
    assert await handlers.unanswered_alarms(rig.deps) == []


async def test_an_answer_that_is_heard_of_late_still_counts(rig: Rig, loop: LineTests) -> None:
    """Given in time and reported after the end, it turns unanswered into answered; one given too late does not."""
    begun = {code: await start(rig, code, key=code) for code in ("GB", "US")}
    for test in begun.values():
        await reported(rig, test)
    in_time = rig.clock.now() + timedelta(minutes=29)
    rig.clock.advance(1801)
    await expire_alerts(rig.deps)
    await loop.run_once()
    assert {row.outcome for row in await tests(rig)} == {"unanswered"}
    rig.clock.advance(3600)
    await acknowledged(rig, begun["GB"], in_time)
    await acknowledged(rig, begun["US"])
    await loop.run_once()
    assert {row.partner: row.outcome for row in await tests(rig)} == {"GB": "answered", "US": "unanswered"}
    assert await loop.run_once() == 0


async def test_a_test_goes_on_when_the_plan_is_switched_off(rig: Rig, loop: LineTests) -> None:
    """Whoever was woken gets their minute to answer, and their result."""
    await switch_on(rig, "GB")
    to_the_test(rig, "GB")
    await loop.run_once()
    await handlers.switch_plan(rig.deps, rig.call(SASHA), enabled=False, partners=None, check_version=lambda _: None)
    (row,) = await tests(rig)
    test = {"alert_id": str(row.alert_id), "partner": "GB"}
    await reported(rig, test)
    await acknowledged(rig, test)
    rig.clock.advance(61)
    await loop.run_once()
    assert [row.outcome for row in await tests(rig)] == ["answered"]


# --- over HTTP --------------------------------------------------------------------------------------------------------


async def test_the_switch_needs_the_version_that_was_read(rig: Rig, loop: LineTests) -> None:
    """Two people who switch at once do not overwrite each other."""
    async with rig.client(SASHA) as client:
        shown = await client.get("/v1/line-test-plan")
        assert (shown.status_code, shown.json()["enabled"], shown.headers["ETag"]) == (200, False, '"1"')
        body = {"enabled": True, "partners": ["GB"]}
        assert (await client.put("/v1/line-test-plan", json=body)).status_code == 428
        done = await client.put("/v1/line-test-plan", json=body, headers={"If-Match": '"1"'})
        assert (done.status_code, done.json()["partners"]) == (200, ["GB"])
        again = await client.put("/v1/line-test-plan", json=body, headers={"If-Match": '"1"'})
        assert again.status_code == 412
        unknown = await client.put(
            "/v1/line-test-plan", json={"enabled": True, "partners": ["FR"]}, headers={"If-Match": '"2"'}
        )
        assert unknown.status_code == 422


async def finished(rig: Rig, loop: LineTests, code: str, seconds: int | None) -> None:
    """A test that was answered after so many seconds, or not at all."""
    test = await start(rig, code, key=str(rig.deps.ids.new()))
    await reported(rig, test)
    if seconds is not None:
        rig.clock.advance(seconds)
        await acknowledged(rig, test)
        rig.clock.advance(61)
    else:
        rig.clock.advance(1801)
        await expire_alerts(rig.deps)
    await loop.run_once()


async def test_the_report_counts_by_partner_and_kind(rig: Rig, loop: LineTests) -> None:
    """Numbers, median, and within which time nine of ten answer; stopped ones and real alerts are in no time."""
    for seconds in (60, 120, 180, 240, None):
        await finished(rig, loop, "GB", seconds)
    await finished(rig, loop, "US", 600)
    await start(rig, key="stopped")
    await actual(rig, "GB")
    await loop.run_once()
    async with rig.client(SASHA) as client:
        items = (await client.get("/v1/line-tests/report")).json()["items"]
        some = (await client.get("/v1/line-tests/report", params={"partner": "US"})).json()["items"]
        none = (await client.get("/v1/line-tests/report", params={"to": "2021-01-01T00:00:00Z"})).json()["items"]
    by_partner = {item["partner"]: item for item in items}
    british = by_partner["GB"]
    assert [british[name] for name in ("tests", "answered", "unanswered", "stopped")] == [6, 4, 1, 1]
    assert (british["median_seconds"], british["p90_seconds"]) == (150.0, 222.0)
    assert british["kind"] == "weekend"
    assert some == [by_partner["US"]]
    assert none == []


async def test_partners_see_their_own_tests_and_nobody_elses(rig: Rig, loop: LineTests) -> None:
    """Another partner's are as if they were missing; the secretariat sees all, page by page."""
    for code in ("GB", "US", "GB"):
        await finished(rig, loop, code, 60)
    async with rig.client(person("GB", "keeper")) as client:
        own = (await client.get("/v1/line-tests")).json()["items"]
        assert [test["partner"] for test in own] == ["GB", "GB"]
        assert (await client.get("/v1/line-tests", params={"partner": "US"})).status_code == 404
        assert (await client.get("/v1/line-tests/report", params={"partner": "US"})).status_code == 404
        assert [item["partner"] for item in (await client.get("/v1/line-tests/report")).json()["items"]] == ["GB"]
        assert (await client.get("/v1/line-test-plan")).status_code == 403
        refused = await client.post("/v1/line-tests", json={"partner": "US"}, headers={"Idempotency-Key": "k"})
        assert refused.status_code == 403
    async with rig.client(person("GB", "administrator")) as client:
        assert (await client.get("/v1/line-tests")).status_code == 403
    async with rig.client(SASHA) as client:
        seen: list[str] = []
        cursor: dict[str, str] = {}
        while True:
            page = (await client.get("/v1/line-tests", params={"limit": 2, **cursor})).json()
            seen += [test["partner"] for test in page["items"]]
            if page["next_cursor"] is None:
                break
            cursor = {"cursor": page["next_cursor"]}
        assert seen == ["GB", "US", "GB"]
        later = {"from": own[0]["started_at"]}
        assert len((await client.get("/v1/line-tests", params=later)).json()["items"]) == 1


async def test_one_now_over_http_needs_a_key(rig: Rig, loop: LineTests) -> None:
    """A retry after a lost answer wakes nobody a second time."""
    async with rig.client(SASHA) as client:
        assert (await client.post("/v1/line-tests", json={"partner": "GB"})).status_code == 400
        key = {"Idempotency-Key": "k1"}
        first = await client.post("/v1/line-tests", json={"partner": "GB"}, headers=key)
        again = await client.post("/v1/line-tests", json={"partner": "GB"}, headers=key)
    assert (first.status_code, again.status_code) == (202, 202)
    assert first.json() == again.json()
    assert again.headers["Idempotency-Replayed"] == "true"

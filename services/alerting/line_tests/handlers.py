"""What HTTP asks about line tests, and what the loop does: begin, follow, end.

A test is begun as any alert is: alert, event, record, timeline and the test's own row are one transaction, under the
lock of the plan's row, so that several replicas begin one. It is followed by what escalation reports to its timeline.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any
from zoneinfo import ZoneInfo

from services.alerting import journal
from services.alerting import store as alert_store
from services.alerting.calls import Call, begin, kept
from services.alerting.countries import alpha_3
from services.alerting.crises.domain import COUNTRIES_MAX, Crisis
from services.alerting.domain import Alert, Ending, reference_of
from services.alerting.line_tests import domain, store, views
from services.alerting.line_tests.domain import Heard, LineTest, Obstacle, Partner, Plan
from services.alerting.line_tests.plan import Kind, Planned, kind_of
from shared import holiday_calendars, outbox, record
from shared.contracts import SECRETARIAT, Actor
from shared.db import Transaction
from shared.events import Cause, Event, Message
from shared.idempotency import StoredResponse
from shared.ids import AlertId, CrisisId
from shared.log import get_logger
from shared.process import Deps
from shared.web import etag_of

log = get_logger(__name__)

FOLLOWED_AT_ONCE = 2 * domain.PARTNERS_MAX
"""A partner has one running test at most, so no running test is ever left out."""

ALARMS_MAX = 50


@dataclass(frozen=True, slots=True)
class Due:
    """A planned test whose time has come."""

    partner: Partner
    planned: Planned
    month: date


# --- what HTTP asks ---------------------------------------------------------------------------------------------------


async def show_plan(deps: Deps, call: Call) -> StoredResponse:
    """The plan as the secretariat may see it: never a time that lies ahead."""
    domain.must_be_secretariat(call.by)
    async with deps.intake.transaction() as tx:
        return await _plan_answer(tx, await store.find_plan(tx), deps.clock.now())


async def switch_plan(
    deps: Deps,
    call: Call,
    *,
    enabled: bool,
    partners: Sequence[str] | None,
    check_version: Callable[[int], None],
) -> StoredResponse:
    """Switches the plan on or off, for all partners or some."""
    now = deps.clock.now()
    domain.must_be_secretariat(call.by)
    async with deps.intake.transaction() as tx:
        before = await store.load_plan(tx)
        check_version(before.version)
        known = (await alert_store.known_network(tx)).partners
        plan = domain.switch(before, enabled=enabled, partners=partners, by=call.by, known=known, now=now)
        await store.save_plan(tx, plan)
        changed = record.Entry(
            kind="line_test_plan.changed",
            partner=SECRETARIAT,
            data={"before": _switch_of(before), "after": _switch_of(plan)},
        )
        await record.append(tx, [changed], cause=call.cause, ids=deps.ids, now=now)
        answer = await _plan_answer(tx, plan, now)
    deps.wake("line_tests")
    return answer


async def start_line_test(deps: Deps, call: Call, partner: str) -> StoredResponse:
    """Begins a test of a partner now, by hand (202)."""
    now = deps.clock.now()
    domain.must_be_secretariat(call.by)
    # A country's calendar is a module that is loaded once: never on the event loop, nor under the plan's lock.
    for year in (now.year - 1, now.year, now.year + 1):
        await asyncio.to_thread(holiday_calendars.names, partner, year)
    async with deps.intake.transaction() as tx:
        if (stored := await begin(tx, call, now)) is not None:
            return stored
        await store.load_plan(tx)
        known = await store.find_partner(tx, partner)
        around = await store.find_surroundings(tx, partner, now)
        found = domain.obstacle(known, around, now, by_plan=False)
        if known is None or found is Obstacle.NOT_ACTIVE or partner == SECRETARIAT:
            raise domain.not_tested(partner)
        if found is not None:
            raise domain.refuse(found)
        test, messages = await _begin(deps, tx, known, call.principal.actor(), cause=call.cause, now=now)
        answer = StoredResponse.json(202, views.line_test_view(test))
        await kept(tx, call, answer)
    await _published(deps, messages)
    return answer


# --- what the loop does -----------------------------------------------------------------------------------------------


async def begin_planned(deps: Deps, due: Due) -> LineTest | None:
    """Begins a planned test unless something stands in its way; then the next day is another try. None: not begun."""
    now = deps.clock.now()
    cause = Cause(correlation_id=deps.ids.new(), partner=SECRETARIAT)
    async with deps.database.transaction() as tx:
        plan = await store.load_plan(tx)
        partner = await store.find_partner(tx, due.partner.code)
        if plan.switched_by is None or not plan.includes(due.partner.code):
            return None
        if (due.partner.code, due.month) in await store.find_done(tx, [due.month]):
            return None
        around = await store.find_surroundings(tx, due.partner.code, now)
        if partner is None or domain.obstacle(partner, around, now, by_plan=True) is not None:
            return None
        test, messages = await _begin(deps, tx, partner, plan.switched_by, cause=cause, now=now, due=due)
    await _published(deps, messages)
    log.info("line_test.begun", partner=test.partner, kind=test.kind, alert_id=str(test.alert_id))
    return test


async def follow(deps: Deps) -> int:
    """Looks after the tests that run: an Actual alert stops one, an answer closes it. Returns how many changed.

    All of them are looked at without a lock; those that something has happened to are then locked, and decided on.
    """
    now = deps.clock.now()
    cause = Cause(correlation_id=deps.ids.new(), partner=SECRETARIAT)
    messages: list[Message[Event]] = []
    changed: list[tuple[LineTest, LineTest]] = []
    async with deps.database.transaction() as tx:
        tests = await store.find_followed(tx, now, FOLLOWED_AT_ONCE)
        if not tests:
            return 0
        ids = [test.alert_id for test in tests]
        heard, alerts = await store.find_heard(tx, ids), await store.find_alerts(tx, ids)
        actual = await store.find_with_actual(tx, {test.partner for test in tests if test.outcome is None}, now)

        def decide(test: LineTest, alert: Alert) -> tuple[LineTest, Ending | None]:
            said = heard.get(test.alert_id, Heard())
            return domain.followed(test, alert, said, has_actual=test.partner in actual, now=now)

        for seen in tests:
            if decide(seen, alerts[seen.alert_id]) == (seen, None):
                continue
            before, alert = await store.load_test(tx, seen.id), await alert_store.load_alert(tx, seen.alert_id)
            if before is None or alert is None:
                continue
            test, ending = decide(before, alert)
            if (test, ending) == (before, None):
                continue
            await store.save_test(tx, test)
            messages += await _end(deps, tx, ending, cause=cause, now=now)
            changed.append((before, test))
        settled = [test for before, test in changed if test.outcome is not before.outcome]
        await record.append(tx, map(_settled_record, settled), cause=cause, ids=deps.ids, now=now)
    await _published(deps, messages)
    for test in settled:
        log.info("line_test.settled", partner=test.partner, outcome=test.outcome, alert_id=str(test.alert_id))
    return len(changed)


async def _end(
    deps: Deps, tx: Transaction, ending: Ending | None, *, cause: Cause, now: datetime
) -> list[Message[Event]]:
    """Writes the end of a test's alert, if there is one; the events are to be published after the commit."""
    if ending is None:
        return []
    messages = outbox.wrap([ending.event], cause=cause, ids=deps.ids, now=now)
    await alert_store.write(
        tx,
        changed=[ending.alert],
        entries=[journal.entry_of(message, ending.alert) for message in messages],
        messages=messages,
        records=journal.record_rows(deps, [journal.ended_record(ending.alert)], cause, now),
    )
    return messages


async def unanswered_alarms(deps: Deps) -> list[str]:
    """The reconciler's question: a sentence for each test of the last day that nobody has answered."""
    async with deps.database.transaction() as tx:
        found = await store.find_unanswered(tx, deps.clock.now() - domain.ALARMED_FOR, ALARMS_MAX)
    return [domain.alarm(test) for test in found]


# --- the lines that both share ----------------------------------------------------------------------------------------


async def _begin(
    deps: Deps,
    tx: Transaction,
    partner: Partner,
    person: Actor,
    *,
    cause: Cause,
    now: datetime,
    due: Due | None = None,
) -> tuple[LineTest, list[Message[Event]]]:
    """Writes alert, event, record, timeline and test; the plan's row is locked."""
    by = domain.authority(person)
    number, network = await alert_store.next_number(tx, SECRETARIAT, now.year)
    crisis_id = await store.find_crisis(tx, domain.crisis_name(now.year))
    opened: list[Crisis] = []
    if crisis_id is None:
        codes = {code for name in network.partners if (code := alpha_3(name)) is not None}
        countries = sorted(codes or {domain.SEAT})[:COUNTRIES_MAX]
        opened = [domain.crisis_of_year(CrisisId(deps.ids.new()), countries, person, now)]
        crisis_id = opened[0].id
    released = domain.release(
        partner,
        alert_id=AlertId(deps.ids.new()),
        crisis_id=crisis_id,
        reference=reference_of(SECRETARIAT, now.year, number),
        by=by,
        network=network,
        now=now,
    )
    alert = released.alert
    test = LineTest(
        id=deps.ids.new(),
        alert_id=alert.id,
        reference=alert.reference,
        partner=partner.code,
        kind=kind_at(partner, now),
        month=None if due is None else due.month,
        planned_at=None if due is None else due.planned.at,
        started_at=now,
        started_by=person,
        answer_by_at=now + domain.answer_within(network),
    )
    messages = outbox.wrap([released.event], cause=cause, ids=deps.ids, now=now)
    records = [
        *map(journal.crisis_opened, opened),
        journal.about(alert, "alert.drafted", **journal.facts(alert)),
        journal.released_record(alert),
        journal.about(
            alert, "line_test.begun", tested=partner.code, test_kind=test.kind.value, by_plan=due is not None
        ),
    ]
    await alert_store.write(
        tx,
        new=[(alert, None)],
        opened=opened,
        entries=[journal.drafted_entry(deps, alert, now), *(journal.entry_of(message, alert) for message in messages)],
        messages=messages,
        records=journal.record_rows(deps, records, cause, now),
    )
    await store.add_test(tx, test)
    return test, messages


def zone_of(partner: Partner) -> ZoneInfo | None:
    """The partner's zone; None if it is not known, or unknown to the zone database."""
    try:
        return None if partner.time_zone is None else ZoneInfo(partner.time_zone)
    except (ValueError, OSError, LookupError):
        return None


def kind_at(partner: Partner, now: datetime) -> Kind:
    """What an instant is to the partner; by UTC where its zone is not known."""
    zone = zone_of(partner) or ZoneInfo("UTC")
    return kind_of(now, zone, holiday_calendars.names(partner.code, now.astimezone(zone).year))


def month_of(now: datetime, zone: ZoneInfo) -> date:
    """The first day of the month that it is there."""
    return now.astimezone(zone).date().replace(day=1)


async def _plan_answer(tx: Transaction, plan: Plan, now: datetime) -> StoredResponse:
    months: dict[str, date | None] = {}
    for partner in await store.find_partners(tx):
        if partner.active and plan.includes(partner.code):
            zone = zone_of(partner)
            months[partner.code] = None if zone is None else month_of(now, zone)
    done = await store.find_done(tx, {month for month in months.values() if month is not None})
    return StoredResponse.json(200, views.plan_view(plan, months, done), {"ETag": etag_of(plan.version)})


def _switch_of(plan: Plan) -> dict[str, Any]:
    return {"enabled": plan.enabled, "partners": None if plan.partners is None else list(plan.partners)}


def _settled_record(test: LineTest) -> record.Entry:
    return record.Entry(
        kind="line_test.settled",
        partner=SECRETARIAT,
        alert_id=test.alert_id,
        object_id=test.id,
        data={
            "reference": test.reference,
            "tested": test.partner,
            "outcome": test.outcome,
            "stop_reason": test.stop_reason,
            "seconds": test.seconds,
            "level": test.level,
        },
    )


async def _published(deps: Deps, messages: list[Message[Event]]) -> None:
    """After the commit: the stream is woken, and the events go out at once; the relay finds what that misses."""
    if messages:
        deps.wake("timeline")
        await deps.relay.publish(messages)

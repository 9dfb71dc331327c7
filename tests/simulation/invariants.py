"""What must hold after every step, and what must hold once the faults are over: one function for each promise.

A `Moment` is one step as seen from outside: the rows before and after it, the events and record rows that it wrote,
what left the house, and the `Ledger` of what callers were told. Nothing here asks the services how they meant it. A
promise that is broken raises `Violated` with the number of its invariant.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any
from uuid import UUID

import orjson

Row = Mapping[str, Any]

ANSWERED = frozenset({"acknowledged", "considering", "committed", "declined", "noted"})
UNANSWERED = frozenset({"pending", "notified"})
AFTER_THE_ANSWER = frozenset({"position_reminder", "position_missed", "wrong_person"})
"""Reasons for which people of a partner that has answered may still be told something."""

BY_THE_CLOCK = frozenset({"deadline_passed", "takeover_repeated", "position_reminder", "position_missed"})
STOPPED_SECONDS_MAX = 0.1
"""A page that had left its row before the acknowledgement may still start within this."""

INTERVAL_SECONDS_DEFAULT = 3600


class Violated(AssertionError):
    """A promise was broken."""

    def __init__(self, invariant: str, detail: str) -> None:
        super().__init__(f"{invariant}: {detail}")
        self.invariant = invariant


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The rows of both services, by id: what an operator would see."""

    escalations: Mapping[UUID, Row] = field(default_factory=dict)
    pages: Mapping[UUID, Row] = field(default_factory=dict)
    alerts: Mapping[UUID, Row] = field(default_factory=dict)
    dead_letters: int = 0
    opening: int = 0
    """Alerts whose first pages have left, or may have, and are no rows yet."""

    def own(self, alert_id: UUID, partner: str) -> Row | None:
        """The partner's own escalation of an alert."""
        return next(
            (
                row
                for row in self.escalations.values()
                if row["alert_id"] == alert_id and row["partner"] == partner and row["subject_partner"] == ""
            ),
            None,
        )


@dataclass(frozen=True, slots=True)
class Happened:
    """An event that a service wrote to its outbox."""

    name: str
    body: Mapping[str, Any]

    def is_about(self, escalation_id: UUID) -> bool:
        """Whether the event is about this escalation, alone or among others."""
        listed = [self.body, *self.body.get("escalations", ())]
        return any(part.get("escalation_id") == str(escalation_id) for part in listed)


@dataclass(frozen=True, slots=True)
class Sent:
    """One page as it left the house."""

    page_id: UUID
    attempt: int
    message_type: str
    target: str
    body: bytes


@dataclass
class Ledger:
    """What callers were told, and what the outside world has seen: the other side of every promise."""

    alert_of_key: dict[str, UUID] = field(default_factory=dict)
    keys: set[str] = field(default_factory=set)
    acknowledged: dict[UUID, str] = field(default_factory=dict)
    """Escalations whose acknowledgement was answered, and by whom; a wrong-person answer takes it out again."""
    stopped: dict[UUID, tuple[datetime, frozenset[UUID]]] = field(default_factory=dict)
    """Escalations that were stopped: when it was first seen, and the pages that there were."""
    sent: dict[UUID, Sent] = field(default_factory=dict)


@dataclass(frozen=True)
class Moment:
    """One step. `single`: at most one decision for each escalation was taken in it."""

    step: str
    at: datetime
    before: Snapshot
    after: Snapshot
    events: Sequence[Happened]
    record: Sequence[Row]
    sent: Sequence[Sent]
    ledger: Ledger
    first_attempts: Mapping[UUID, datetime]
    single: bool = True

    @cached_property
    def raised(self) -> Sequence[tuple[Row, Row | None, Mapping[str, Any]]]:
        """Every level that was raised: the row after, the row before, and the event."""
        ids = [(UUID(event.body["escalation_id"]), event) for event in self.events if event.name == "level_raised"]
        return [(self.after.escalations[id_], self.before.escalations.get(id_), event.body) for id_, event in ids]

    @cached_property
    def changed(self) -> Sequence[tuple[Row | None, Row]]:
        """Every escalation that is new or different: the row before and after."""
        pairs = [(self.before.escalations.get(id_), row) for id_, row in self.after.escalations.items()]
        return [(old, row) for old, row in pairs if old != row]


def name_of(row: Row) -> str:
    """An escalation as a person would call it."""
    return f"{row['kind']} {str(row['id'])[-6:]} of {row['partner']} ({row['state']})"


# --- after every step -------------------------------------------------------------------------------------------------


def one_escalation_per_addressed_partner(moment: Moment) -> None:
    """I1: never two escalations for one alert and partner, and none for a partner that was not addressed."""
    places = Counter((r["alert_id"], r["partner"], r["subject_partner"]) for r in moment.after.escalations.values())
    for place, count in places.items():
        if count > 1:
            raise Violated("I1", f"{count} escalations for {place}")
    for old, row in moment.changed:
        alert = moment.after.alerts.get(row["alert_id"])
        if alert is None or alert["state"] == "draft":
            raise Violated("I1", f"{name_of(row)} belongs to no released alert")
        if old is None and row["kind"] != "takeover" and row["partner"] not in alert["addressed"]:
            raise Violated("I1", f"{name_of(row)} was not addressed")


def open_means_due(moment: Moment) -> None:
    """I2: an open escalation has a due time, and one that ended has none."""
    for _old, row in moment.changed:
        if (row["state"] == "ended") is not (row["due_at"] is None):
            raise Violated("I2", f"{name_of(row)} is due at {row['due_at']}")


def states_follow_their_order(moment: Moment) -> None:
    """I2: what has ended stays ended, a final answer changes only into another, and unreached is not taken back."""
    for old, row in moment.changed:
        if old is None or old["state"] == row["state"]:
            continue
        before, after = old["state"], row["state"]
        if before == "ended":
            raise Violated("I2", f"{name_of(row)} had ended")
        if before in {"committed", "declined", "noted"} and after not in ANSWERED | {"ended"}:
            raise Violated("I2", f"{name_of(row)} had answered {before}")
        if after == "pending" or (before == "unreached" and after not in ANSWERED | {"ended"}):
            raise Violated("I2", f"{name_of(row)} was {before}")


def the_answer_stops_the_clock(moment: Moment) -> None:
    """I3: no deadline from before an acknowledgement raises a level, and the next one is an interval away."""
    for row, old, event in moment.raised:
        if old is None:
            continue
        if old["state"] == "ended":
            raise Violated("I3", f"a level of {name_of(row)} was raised after its end")
        if old["state"] not in ANSWERED:
            continue
        if old["kind"] == "takeover":
            if old["due_at"] > moment.at:
                raise Violated("I3", f"{name_of(row)} was asked again before {old['due_at']}")
        elif event["reason"] not in AFTER_THE_ANSWER and row["position_stance"] != "wrong_person":
            raise Violated("I3", f"a level of {name_of(row)} was raised for {event['reason']} after the answer")
        elif event["reason"].startswith("position") and old["due_reason"] != "position":
            raise Violated("I3", f"{name_of(row)} was asked for a position by the deadline {old['due_reason']}")


def the_answer_brings_a_new_deadline(moment: Moment) -> None:
    """I3: no deadline from before an acknowledgement lives on, and the next one is an interval away at least."""
    for old, row in moment.changed:
        if old is not None and old["acknowledged_at"] is None and row["state"] == "acknowledged":
            least = moment.at + timedelta(seconds=_interval(row))
            acknowledged = [e for e in moment.events if e.name == "partner_acknowledged" and e.is_about(row["id"])]
            if any(event.body["via"] == "carried_over" for event in acknowledged):
                continue  # an answer that was given long ago comes with its own time for a position
            if row["kind"] != "takeover" and row["due_at"] < min(least, row["expires_at"]):
                raise Violated("I3", f"{name_of(row)} kept the deadline {row['due_at']}")


def nothing_asks_after_the_answer(moment: Moment) -> None:
    """I3: no page that asks starts more than 100 ms after the answer, and none but the ending after the end."""
    for sent in moment.sent:
        page = moment.before.pages.get(sent.page_id)
        if page is None or page["escalation_id"] not in moment.ledger.stopped:
            continue
        at, known = moment.ledger.stopped[page["escalation_id"]]
        row = moment.before.escalations[page["escalation_id"]]
        wanted = page["message_type"] == "alert.ended" if row["state"] == "ended" else not page["asks"]
        if not wanted and page["id"] in known and (moment.at - at).total_seconds() > STOPPED_SECONDS_MAX:
            raise Violated("I3", f"{page['message_type']} to {sent.target} left after {name_of(row)} had stopped")


def nothing_fires_early(moment: Moment) -> None:
    """I4: no level, no `unreached`, no expiry and no page before its time."""
    for row, old, event in moment.raised:
        if old is not None and event["reason"] in BY_THE_CLOCK and (old["due_at"] is None or old["due_at"] > moment.at):
            raise Violated("I4", f"{event['reason']} of {name_of(row)} came before {old['due_at']}")
    for old, row in moment.changed:
        if old is None:
            continue
        if row["state"] == "unreached" and old["state"] != "unreached" and moment.at < row["unreached_at"]:
            raise Violated("I4", f"{name_of(row)} came before {row['unreached_at']}")
        if row["end_reason"] == "expired" and old["state"] != "ended" and moment.at < row["expires_at"]:
            raise Violated("I4", f"{name_of(row)} expired before {row['expires_at']}")
    for sent in moment.sent:
        page = moment.before.pages.get(sent.page_id)
        if page is not None and page["due_at"] > moment.at:
            raise Violated("I4", f"{page['message_type']} to {sent.target} left before {page['due_at']}")


def one_key_one_alert(moment: Moment) -> None:
    """I5: no request makes two alerts, and whatever was answered exists."""
    if len(moment.after.alerts) > len(moment.ledger.keys):
        raise Violated("I5", f"{len(moment.after.alerts)} alerts came of {len(moment.ledger.keys)} keys")
    for key, alert_id in moment.ledger.alert_of_key.items():
        if alert_id not in moment.after.alerts:
            raise Violated("I1", f"the alert that {key} was answered with does not exist")


def repeated_sends_are_one_message(moment: Moment) -> None:
    """I5: a page that is sent again is the same message, byte for byte, to the same target, under the same id."""
    for sent in moment.sent:
        first = moment.ledger.sent.get(sent.page_id)
        if first is not None and (first.body, first.target) != (sent.body, sent.target):
            raise Violated("I5", f"attempt {sent.attempt} at {sent.target} differs from attempt {first.attempt}")


def acknowledgements_stay(moment: Moment) -> None:
    """I6: an acknowledgement that was answered stands, and stands as that of whoever was first."""
    for escalation_id in moment.ledger.acknowledged:
        row = moment.after.escalations.get(escalation_id)
        if row is None or row["acknowledged_at"] is None:
            raise Violated("I6", f"the acknowledgement of {escalation_id if row is None else name_of(row)} is gone")
        if row["state"] not in ANSWERED | {"ended"}:
            raise Violated("I6", f"{name_of(row)} was acknowledged")


def levels_come_in_order(moment: Moment) -> None:
    """No level is passed over without a page or a gap that says why, and none is taken back."""
    for old, row in moment.changed:
        if row["kind"] != "answer" or row["state"] in {"ended", *ANSWERED}:
            continue
        if old is None and not moment.single:
            continue  # it may carry on what another one, just as new, has paged
        corrected = _corrected(moment, row) if old is None else None
        carried = corrected is not None and corrected["state"] in UNANSWERED | {"unreached"}
        was = corrected if carried else old
        known = was is not None and was["levels"] == row["levels"]
        before = was["level"] if was is not None and known else 0
        if row["level"] < before:
            raise Violated("levels", f"{name_of(row)} went from level {before} to {row['level']}")
        told = {event["level"] for raised, _old, event in moment.raised if raised["id"] == row["id"]}
        told |= {page["level"] for page in moment.after.pages.values() if page["escalation_id"] == row["id"]}
        skipped = [level for level in range(before + 1, row["level"]) if level not in told]
        if skipped and not row["gaps"] and not row["stopped"]:
            raise Violated("levels", f"{name_of(row)} skipped {skipped} without a gap")


def corrections_buy_no_time(moment: Moment) -> None:
    """An Update never moves the next step of somebody who has not answered, nor `unreached`, to a later time."""
    for old, row in moment.changed if moment.single else ():
        corrected = _corrected(moment, row) if old is None else None
        if corrected is None or corrected["kind"] != "answer" or row["state"] == "ended":
            continue
        asked = corrected["state"] in UNANSWERED and corrected["due_reason"] != "expiry"
        if asked and row["due_at"] > corrected["due_at"]:
            raise Violated("update", f"{name_of(row)} is due {row['due_at']}, was due {corrected['due_at']}")
        if corrected["state"] in UNANSWERED and not row["unreached_at"] <= corrected["unreached_at"]:
            raise Violated("update", f"{name_of(row)} puts off unreached to {row['unreached_at']}")
        if corrected["state"] == "unreached" and row["state"] != "unreached":
            raise Violated("update", f"{name_of(row)} was unreached before the correction")


def unreached_only_after_an_interval(moment: Moment) -> None:
    """Nobody becomes unreached sooner than one interval after the first page was tried."""
    for old, row in moment.changed:
        if row["state"] != "unreached" or old is None or old["state"] == "unreached":
            continue
        first_at = moment.first_attempts.get(row["id"])
        if first_at is not None and moment.at < first_at + timedelta(seconds=_interval(row)):
            raise Violated("unreached", f"{name_of(row)} was first paged at {first_at}")


def every_page_traces_to_a_decision(moment: Moment) -> None:
    """Every page was written together with what says why, and once for each contact point: an event, or for somebody
    who joined while it ran, a row in the record.
    """
    fresh = [page for page_id, page in moment.after.pages.items() if page_id not in moment.before.pages]
    joined = {entry["object_id"] for entry in moment.record if entry["kind"] == "contact.added"}
    for page in fresh:
        owner = page["escalation_id"]
        if owner is not None and owner not in joined and not any(event.is_about(owner) for event in moment.events):
            raise Violated("pages", f"{page['message_type']} to {page['told']} follows from nothing")
        if owner is None and page["message_type"] not in {"answer.received", "level.raised", "alert.ended"}:
            raise Violated("pages", f"{page['message_type']} to {page['told']} belongs to no escalation")
    if moment.single:
        owned = (p for p in fresh if p["escalation_id"] is not None)
        places = Counter((p["escalation_id"], p["contact_point_id"], p["message_type"]) for p in owned)
        for place, count in places.items():
            if count > 1:
                raise Violated("pages", f"one decision made {count} pages for {place}")
    for page_id in moment.before.pages:
        if page_id not in moment.after.pages:
            raise Violated("pages", f"the page {page_id} is gone")
    for sent in moment.sent:
        is_promised = bool(moment.after.opening) and sent.message_type == "alert.released"
        if sent.page_id not in moment.after.pages and not is_promised:
            raise Violated("pages", f"{sent.message_type} to {sent.target} left without a page")


def stopped_means_no_page_waits(moment: Moment) -> None:
    """I3: in the rows, too, nobody is both stopped and paged: what asked before the answer is no longer due."""
    for escalation_id, (_at, known) in moment.ledger.stopped.items():
        row = moment.after.escalations[escalation_id]
        for page_id in known:
            page = moment.after.pages[page_id]
            if page["state"] in {"due", "leased"} and (page["asks"] or row["state"] == "ended"):
                raise Violated("I3", f"{name_of(row)} has stopped and {page['message_type']} is {page['state']}")


def who_stopped_is_not_rung(moment: Moment) -> None:
    """Whoever stopped their own pages gets no further page that asks, and none of theirs is still to be sent."""
    for page_id, page in moment.after.pages.items():
        row = moment.after.escalations.get(page["escalation_id"]) if page["asks"] else None
        if row is None or page["contact_id"] not in (row["stopped"] or ()):
            continue
        is_fresh = page_id not in moment.before.pages and page["state"] != "ended"
        if is_fresh or page["state"] in {"due", "leased"}:
            raise Violated("stopped", f"{page['message_type']} of {name_of(row)} to {page['told']} is {page['state']}")


def each_point_in_its_turn(moment: Moment) -> None:
    """No page to a person starts before its point's turn, unless one before has failed; and none waits for ever."""
    for page_id, page in moment.after.pages.items():
        before = moment.before.pages.get(page_id)
        if before is None or page["channel"] == "webhook" or page["due_at"] >= before["due_at"]:
            continue
        beside = [
            other
            for other in moment.after.pages.values()
            if (other["escalation_id"], other["contact_id"]) == (page["escalation_id"], page["contact_id"])
        ]
        if before["attempts"] == 0 and not any(other["attempts"] for other in beside if other is not page):
            raise Violated("turns", f"{page['message_type']} to {page['told']} was moved to {page['due_at']}")


def the_record_covers_every_change(moment: Moment) -> None:
    """I9: every event and every change of state, level, answer or takeover has its row in the record."""
    kinds = Counter(row["kind"].partition(".")[2] for row in moment.record if row["kind"].startswith("escalation."))
    for name, count in Counter(event.name for event in moment.events).items():
        if kinds[name] != count:
            raise Violated("I9", f"{count} {name} and {kinds[name]} rows in the record")
    for old, row in moment.changed:
        watched = ("state", "level", "acknowledged_at", "taken_over_at", "end_reason", "position_stance")
        if old is not None and all(old[name] == row[name] for name in watched):
            continue
        if not any(entry["object_id"] == row["id"] or str(row["id"]) in entry["data"] for entry in moment.record):
            raise Violated("I9", f"nothing in the record tells of {name_of(row)}")


def no_message_is_given_up(moment: Moment) -> None:
    """I11: nothing that our own services said ends as a dead letter."""
    if moment.after.dead_letters:
        raise Violated("I11", f"{moment.after.dead_letters} dead letters")


SAFETY: tuple[Callable[[Moment], None], ...] = (
    one_escalation_per_addressed_partner,
    open_means_due,
    states_follow_their_order,
    the_answer_stops_the_clock,
    the_answer_brings_a_new_deadline,
    nothing_asks_after_the_answer,
    stopped_means_no_page_waits,
    nothing_fires_early,
    one_key_one_alert,
    repeated_sends_are_one_message,
    acknowledgements_stay,
    levels_come_in_order,
    corrections_buy_no_time,
    unreached_only_after_an_interval,
    every_page_traces_to_a_decision,
    who_stopped_is_not_rung,
    each_point_in_its_turn,
    the_record_covers_every_change,
    no_message_is_given_up,
)


def note(moment: Moment) -> None:
    """Keeps in the ledger what the next moments are held to."""
    ledger = moment.ledger
    for sent in moment.sent:
        ledger.sent.setdefault(sent.page_id, sent)
    for old, row in moment.changed:
        if row["state"] not in ANSWERED | {"ended"}:
            ledger.stopped.pop(row["id"], None)
        elif old is None or (_answers(old) != _answers(row) and not _is_taken_back(old, row)):
            known = (page["id"] for page in moment.before.pages.values() if page["escalation_id"] == row["id"])
            ledger.stopped[row["id"]] = (moment.at, frozenset(known))


# --- once the faults are over -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Quiet:
    """Everything as it is when the faults are over and the deadlines have passed, but no alert has expired by that."""

    at: datetime
    snapshot: Snapshot
    ledger: Ledger
    told: Mapping[UUID, int]
    """Attempts that an outlet accepted, for each escalation."""
    reported: frozenset[UUID]
    """Ids of the messages on alerting's timelines."""
    published: Mapping[UUID, str]
    """Escalation's events that alerting shows: id and name."""
    unpublished: int


def every_alert_has_its_escalations(quiet: Quiet) -> None:
    """I1: every alert that was answered exists and has exactly one escalation per addressed partner."""
    for alert in quiet.snapshot.alerts.values():
        if alert["state"] == "draft":
            continue
        for recipient in orjson.loads(alert["recipients"]):
            row = quiet.snapshot.own(alert["id"], recipient["partner"])
            if row is None:
                raise Violated("I1", f"{recipient['partner']} has no escalation of {alert['reference']}")
            if alert["state"] != "released" and row["state"] != "ended":
                raise Violated("I2", f"{name_of(row)} is open and {alert['reference']} is {alert['state']}")
            if alert["state"] == "released" and row["state"] == "ended" and quiet.at < row["expires_at"]:
                raise Violated("I2", f"{name_of(row)} ended with {row['end_reason']}; {alert['reference']} did not")
        if alert["unconfirmed"]:
            raise Violated("I1", f"{alert['reference']} still waits to hear from {alert['unconfirmed']}")


def what_left_is_stored(quiet: Quiet) -> None:
    """Every page that has left is a row, also one that left before it was."""
    for sent in quiet.ledger.sent.values():
        if sent.page_id not in quiet.snapshot.pages:
            raise Violated("stored", f"{sent.message_type} to {sent.target} has left and is no row")


def nobody_waits_for_ever(quiet: Quiet) -> None:
    """I2: every escalation is answered, unreached, informed or ended; none is overdue."""
    for row in quiet.snapshot.escalations.values():
        if row["kind"] == "answer" and row["state"] in UNANSWERED:
            raise Violated("I2", f"{name_of(row)} waits until {row['due_at']}")
        if row["due_at"] is not None and row["due_at"] <= quiet.at:
            raise Violated("I2", f"{name_of(row)} has been due since {row['due_at']}")


def unreached_means_that_people_were_paged(quiet: Quiet) -> None:
    """I2: raiser and secretariat were asked to take every unreached partner over, and rung if anything can ring."""
    rows = quiet.snapshot.escalations.values()
    for row in rows:
        if row["state"] != "unreached":
            continue
        takers = {row["raiser"], "XR"} - {row["partner"]}
        takeovers = [
            other
            for other in rows
            if other["subject_partner"] == row["partner"] and other["alert_id"] == row["alert_id"]
        ]
        if {other["partner"] for other in takeovers} != takers or any(o["state"] == "ended" for o in takeovers):
            raise Violated("I2", f"{name_of(row)} is unreached and not all of {sorted(takers)} are asked")
        for other in takeovers:
            taken = other["taken_over_at"] is not None  # by a human who was quicker than the first page
            if not quiet.told.get(other["id"]) and not other["gaps"] and not other["stopped"] and not taken:
                raise Violated("I2", f"{name_of(other)} has rung nobody")
        if not quiet.told.get(row["id"]) and not row["gaps"] and not row["stopped"]:
            raise Violated("I2", f"{name_of(row)} was never paged")


def takeovers_end_with_the_answer(quiet: Quiet) -> None:
    """Nobody is asked to take a partner over that has answered."""
    for row in quiet.snapshot.escalations.values():
        own = quiet.snapshot.own(row["alert_id"], row["subject_partner"]) if row["kind"] == "takeover" else None
        if own is not None and own["state"] != "unreached" and row["state"] != "ended":
            raise Violated("takeover", f"{name_of(row)} is open and {name_of(own)} is not unreached")


def one_open_escalation_in_a_chain(quiet: Quiet) -> None:
    """I1: of an alert and its Updates, each partner owes at most one answer."""
    places = Counter(
        (quiet.snapshot.alerts[row["alert_id"]]["root_id"], row["partner"], row["subject_partner"])
        for row in quiet.snapshot.escalations.values()
        if row["state"] != "ended"
    )
    for place, count in places.items():
        if count > 1:
            raise Violated("I1", f"{count} open escalations for {place}")


def every_acknowledgement_has_stopped_its_escalation(quiet: Quiet) -> None:
    """I6: whoever was told "acknowledged" is not asked again, by the Updates either, unless one asks anew."""
    for escalation_id in quiet.ledger.acknowledged:
        row = quiet.snapshot.escalations[escalation_id]
        if row["state"] not in ANSWERED | {"ended"}:
            raise Violated("I6", f"{name_of(row)} was acknowledged")
        alert = quiet.snapshot.alerts[row["alert_id"]]
        while alert["superseded_by"] is not None:
            alert = quiet.snapshot.alerts[alert["superseded_by"]]
            if alert["asks_anew"]:
                break
        else:
            last = quiet.snapshot.own(alert["id"], row["partner"])
            if last is not None and last["acknowledged_at"] is None and last["state"] != "ended":
                raise Violated("I6", f"{name_of(row)} was acknowledged, its Update's {name_of(last)} does not know")


def both_services_agree(quiet: Quiet) -> None:
    """The alert's timeline shows everything that escalation did."""
    missing = sorted(name for id_, name in quiet.published.items() if id_ not in quiet.reported)
    if missing:
        raise Violated("agree", f"alerting does not show {missing}")


def the_outbox_is_empty(quiet: Quiet) -> None:
    """Everything that was committed has been published."""
    if quiet.unpublished:
        raise Violated("outbox", f"{quiet.unpublished} events wait for the broker")


LIVENESS: tuple[Callable[[Quiet], None], ...] = (
    every_alert_has_its_escalations,
    what_left_is_stored,
    nobody_waits_for_ever,
    unreached_means_that_people_were_paged,
    takeovers_end_with_the_answer,
    one_open_escalation_in_a_chain,
    every_acknowledgement_has_stopped_its_escalation,
    both_services_agree,
    the_outbox_is_empty,
)


def everything_has_ended(snapshot: Snapshot) -> None:
    """I2: when the last alert has expired, every escalation has ended and no page is left over."""
    for row in snapshot.escalations.values():
        if row["state"] != "ended":
            raise Violated("I2", f"{name_of(row)} outlives its alert")
    for page in snapshot.pages.values():
        if page["state"] in {"due", "leased"}:
            raise Violated("I2", f"{page['message_type']} to {page['told']} is still {page['state']}")
    for alert in snapshot.alerts.values():
        if alert["state"] == "released":
            raise Violated("I2", f"{alert['reference']} has not expired")


def _answers(row: Row) -> tuple[object, ...]:
    """What stops pages when it changes. "Wrong person" is no answer: it pages the next one."""
    position_at = None if row["position_stance"] == "wrong_person" else row["position_at"]
    return row["state"], position_at, row["taken_over_at"]


def _is_taken_back(old: Row, row: Row) -> bool:
    """Whether somebody has taken back what they considered, so that a colleague's acknowledgement is what stands."""
    return bool(old["state"] == "considering" and row["state"] == "acknowledged")


def _interval(row: Row) -> int:
    return int(row["next_level_every_seconds"] or INTERVAL_SECONDS_DEFAULT)


def _corrected(moment: Moment, row: Row) -> Row | None:
    """The partner's escalation of the message that this one's alert corrects, as it was before the step."""
    alert = moment.after.alerts.get(row["alert_id"])
    if alert is None or alert["corrects"] is None or row["kind"] == "takeover":
        return None
    return moment.before.own(alert["corrects"], row["partner"])

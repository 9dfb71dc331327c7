"""What a board shows of escalation's answer."""

from __future__ import annotations

from typing import Any

import pytest

from services.console.board_view import ENDED, NEEDS, WAITING, Rows, attempt_text, cell_of, order_of, row_of
from services.console.words import Reader

HEADING: dict[str, Any] = {
    "id": "a1",
    "reference": "RP-CA-2026-0001",
    "raiser": "CA",
    "precedence": "FLASH",
    "status": "Actual",
    "tlp": "TLP:AMBER",
    "headline": "Kabul",
    "released_at": "2026-11-22T12:00:00Z",
    "expires_at": "2026-11-23T12:00:00Z",
    "ended_at": None,
}


def escalation(partner: str = "US", **changes: Any) -> dict[str, Any]:
    """One escalation as the API shows it."""
    alert = {**HEADING, **changes.pop("alert", {})}
    return {
        "id": f"e-{alert['id']}-{partner}",
        "alert": alert,
        "partner": partner,
        "kind": "answer",
        "subject_partner": None,
        "state": "notified",
        "level": 1,
        "levels": 3,
        "next_due": "next_level",
        "next_due_at": "2026-11-22T12:10:00Z",
        "takeover": None,
        "gaps": [],
        "one_provider": False,
        "last_attempt": None,
        "acknowledgement": None,
        "changed_at": "2026-11-22T12:00:01Z",
        **changes,
    }


def test_whoever_is_unreached_needs_a_human_until_somebody_takes_over() -> None:
    """An unreached partner is loud; taken over, it is not."""
    assert cell_of(escalation(state="unreached")).needs_human
    taken = cell_of(escalation(state="unreached", takeover={"at": "2026-11-22T12:40:00Z", "by": None, "partner": "XR"}))
    assert not taken.needs_human
    assert taken.look.word == "Taken over"


TAKEN_OVER = {"at": "2026-11-22T12:40:00Z", "by": None, "partner": "XR"}


@pytest.mark.parametrize("state", ["pending", "notified"])
def test_a_takeover_that_is_asked_again_needs_a_human_again(state: str) -> None:
    """After half an hour people are paged again, and it still says who had taken over: it is loud, in both cells."""
    asked = escalation("XR", id="t", kind="takeover", subject_partner="US", state=state, takeover=TAKEN_OVER)
    unreached = escalation("US", id="u", state="unreached", takeover=TAKEN_OVER)
    takeover, own = row_of("a1", [asked, unreached, escalation("GB", state="acknowledged")], None).cells[:2]
    assert {(one.id, one.look.word, one.look.tone, one.rank) for one in (takeover, own)} == {
        ("t", "Take over", "alarm", NEEDS),
        ("u", "Unreached", "alarm", NEEDS),
    }


def test_a_takeover_that_somebody_took_is_calm() -> None:
    """Until it is asked again neither its cell nor the partner's own needs anybody."""
    taken = escalation("XR", id="t", kind="takeover", subject_partner="US", state="acknowledged", takeover=TAKEN_OVER)
    unreached = escalation("US", id="u", state="unreached", takeover=TAKEN_OVER)
    cells = row_of("a1", [taken, unreached], None).cells
    assert [(one.look.word, one.needs_human) for one in cells] == [("Taken over", False)] * 2


def test_a_partner_that_answers_after_all_is_shown_with_its_answer() -> None:
    """That somebody had taken it over hides no answer."""
    assert cell_of(escalation(state="committed", takeover=TAKEN_OVER)).look.word == "Committed"


@pytest.mark.parametrize("gap", ["no_duty_plan", "duty_plan_expired", "duty_plan_unreadable", "all_levels_empty"])
def test_a_partner_of_whom_nobody_knows_whether_a_phone_rings_needs_a_human(gap: str) -> None:
    """A gap that silences a whole government is loud; an empty level alone is not."""
    assert cell_of(escalation(gaps=[gap])).rank == NEEDS
    assert cell_of(escalation(gaps=["empty_level"])).rank == WAITING


def test_an_alert_that_is_over_keeps_its_tally() -> None:
    """Whoever had answered when it ended still counts; whoever had not does not."""
    acknowledged = {"at": "2026-11-22T12:05:00Z", "by": None, "late": False}
    over = {"ended_at": "2026-11-22T13:00:00Z"}
    row = row_of(
        "a1",
        [
            escalation("US", state="ended", acknowledgement=acknowledged, alert=over),
            escalation("GB", state="ended", alert=over),
        ],
        None,
    )
    assert (row.answered, len(row.owing)) == (1, 2)


def test_an_answered_gap_is_not_loud() -> None:
    """Whoever has answered needs nobody, whatever was missing on the way."""
    assert not cell_of(escalation(state="acknowledged", gaps=["no_duty_plan"])).needs_human


def test_a_takeover_is_shown_for_the_partner_that_cannot_be_reached() -> None:
    """The cell of a takeover names whom it is about, and asks for a human."""
    cell = cell_of(escalation("XR", kind="takeover", subject_partner="DE", state="notified"))
    assert (cell.subject, cell.look.word, cell.rank) == ("DE", "Take over", NEEDS)


def test_cells_come_in_the_order_in_which_they_need_somebody() -> None:
    """Unreached first, then by what happens next, answered last."""
    row = row_of(
        "a1",
        [
            escalation("AU", state="acknowledged"),
            escalation("BR", next_due_at="2026-11-22T12:20:00Z"),
            escalation("DE", state="unreached"),
            escalation("ES"),
        ],
        None,
    )
    assert [cell.partner for cell in row.cells] == ["DE", "ES", "BR", "AU"]


def test_alerts_come_in_the_order_of_need_then_precedence_then_age() -> None:
    """A drill never stands before what is real, nor what is over before what runs."""
    rows = Rows()
    rows.replace(
        {
            "escalations": [
                escalation(alert={"id": "routine", "precedence": "ROUTINE"}, state="unreached"),
                escalation(alert={"id": "flash"}),
                escalation(alert={"id": "newer", "released_at": "2026-11-22T12:30:00Z"}),
                escalation(alert={"id": "drill", "status": "Exercise"}, state="unreached"),
                escalation(alert={"id": "over", "ended_at": "2026-11-22T12:50:00Z"}, state="ended"),
            ]
        }
    )
    assert [row.id for row in rows.alerts()] == ["routine", "newer", "flash", "drill", "over"]
    assert order_of(rows.alerts()[0]) < order_of(rows.alerts()[1])


def test_a_missed_goal_needs_a_human_while_the_alert_runs() -> None:
    """A goal that was missed stands out; after the end of the alert it does not."""
    goal = {"alert_id": "a1", "partners": 8, "acknowledged": 3, "state": "missed", "due_at": "2026-11-22T12:15:00Z"}
    assert row_of("a1", [escalation()], goal).rank == NEEDS
    over = escalation(state="ended", alert={"ended_at": "2026-11-22T13:00:00Z"})
    assert row_of("a1", [over], goal).rank == ENDED


def test_rows_tell_which_alerts_a_change_concerns() -> None:
    """Cells and goals that change name their alerts, and only those."""
    rows = Rows()
    rows.replace({"escalations": [escalation(), escalation(alert={"id": "a2"})], "coverage": []})
    assert list(rows.update([escalation(state="acknowledged")])) == ["a1"]
    goal = {"alert_id": "a2", "state": "open"}
    assert rows.goals([goal]) == {"a2"}
    assert rows.goals([goal]) == set()
    assert rows.goals([]) == {"a2"}


def test_the_last_attempt_says_over_what_to_whom_and_why_it_failed() -> None:
    """A failure is named by its reason, in the reader's words."""
    attempt = {
        "at": "2026-11-22T12:00:02Z",
        "state": "failed",
        "reason": "timeout",
        "detail": None,
        "channel": "sms",
        "told": "Duty officer",
    }
    cell = cell_of(escalation(last_attempt=attempt))
    assert cell.attempt_failed
    assert attempt_text(cell, Reader()) == "SMS · Duty officer · no answer in time"
    assert attempt_text(cell_of(escalation()), Reader()) is None


def test_what_others_may_not_see_is_no_trouble() -> None:
    """A cell that shows its answer alone has neither level nor next step."""
    cell = cell_of(escalation(level=None, levels=None, next_due=None, next_due_at=None))
    assert (cell.level, cell.next_word, cell.next_at) == (None, None, None)

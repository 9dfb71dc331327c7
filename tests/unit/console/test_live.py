"""The pieces of a board: what is replaced when something changes, and that nothing is replaced when nothing does."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest

from services.console.board_view import Rows
from services.console.live import QUEUE_MAX, Rendering, Viewer, told
from services.console.sessions import Session
from services.console.words import Reader, as_instant
from tests.unit.console.test_board_view import TAKEN_OVER, escalation


def replaced(html: str) -> list[tuple[str, str]]:
    """Targets and manners of all partials."""
    return re.findall(r'<hx-partial hx-target="([^"]+)" hx-swap="([^"]+)">', html)


@pytest.fixture
def rows() -> Rows:
    """One alert with two cells."""
    made = Rows()
    made.replace({"escalations": [escalation(id="e1"), escalation(id="e2", partner="GB")], "coverage": []})
    return made


def rendering(rows: Rows) -> Rendering:
    """The board in English, as a page has it."""
    made = Rendering(Reader(), None)
    made.take(rows.alerts())
    made.needs(rows.alerts())
    return made


def test_a_changed_cell_replaces_that_cell_and_the_tally(rows: Rows) -> None:
    """Neighbours stay as they are."""
    shown = rendering(rows)
    changed = rows.update([escalation(id="e2", partner="GB", state="acknowledged")])
    assert replaced(shown.changes(rows.alerts(), changed, ())) == [
        ("#head-a1", "outerMorph"),
        ("#cell-e2", "outerMorph"),
    ]


def test_a_takeover_that_is_asked_again_replaces_the_partners_own_cell_as_well() -> None:
    """The own cell itself has not changed: how it looks hangs on the takeover."""
    rows = Rows()
    takeover: dict[str, Any] = {
        "id": "t",
        "partner": "XR",
        "kind": "takeover",
        "subject_partner": "US",
        "takeover": TAKEN_OVER,
    }
    own = escalation(id="e1", state="unreached", takeover=TAKEN_OVER)
    rows.replace({"escalations": [own, escalation(**takeover, state="acknowledged")], "coverage": []})
    shown = rendering(rows)
    for state, classes in (("notified", "cell is-alarm needs-human"), ("acknowledged", "cell is-good is-settled")):
        html = shown.changes(rows.alerts(), rows.update([escalation(**takeover, state=state)]), ())
        assert {("#cell-t", "outerMorph"), ("#cell-e1", "outerMorph")} <= set(replaced(html))
        assert html.count(f'class="{classes}"') == 2


def test_what_is_not_shown_replaces_nothing(rows: Rows) -> None:
    """A row that was written again with the same content is no news."""
    shown = rendering(rows)
    assert shown.changes(rows.alerts(), rows.update([escalation(id="e1")]), ()) == ""


def test_a_new_alert_and_a_new_cell_are_added(rows: Rows) -> None:
    """Also on a board that was empty: the first alert is as good as any."""
    for before in (Rows(), rows):
        shown = rendering(before)
        changed = before.update([escalation(id="e9", alert={"id": "a9"})])
        assert replaced(shown.changes(before.alerts(), changed, ())) == [("#alerts", "beforeend")]
    shown = rendering(rows)
    changed = rows.update([escalation(id="e3", partner="ES")])
    assert replaced(shown.changes(rows.alerts(), changed, ())) == [
        ("#head-a1", "outerMorph"),
        ("#cells-a1", "beforeend"),
    ]


def test_what_needs_a_human_is_said_once(rows: Rows) -> None:
    """The list is replaced when it is another one, and not again."""
    shown = rendering(rows)
    changed = rows.update([escalation(id="e1", state="unreached")])
    assert ("#needs", "innerMorph") in replaced(shown.changes(rows.alerts(), changed, ()))
    again = rows.update([escalation(id="e2", partner="GB", level=2)])
    assert ("#needs", "innerMorph") not in replaced(shown.changes(rows.alerts(), again, ()))


def test_an_alert_that_ended_is_taken_away_after_its_time(rows: Rows) -> None:
    """It stays for as long as escalation would show it, and then goes from page and memory."""
    shown = rendering(rows)
    ended = "2026-11-22T13:00:00Z"
    rows.update([escalation(id="e1", state="ended", alert={"ended_at": ended})])
    assert rows.forget(as_instant(ended)) == set()
    gone = rows.forget(as_instant(ended) + timedelta(seconds=1))
    assert gone == {"a1"}
    assert replaced(shown.changes(rows.alerts(), {}, gone)) == [("#alert-a1", "delete")]
    assert rows.is_empty


def test_the_last_heading_counts(rows: Rows) -> None:
    """An alert has ended as soon as one of its cells says so, whatever the others said before."""
    rows.update([escalation(id="e2", partner="GB", state="ended", alert={"ended_at": "2026-11-22T13:00:00Z"})])
    assert not rows.alert("a1").is_running


def test_a_viewer_that_does_not_read_is_sent_away() -> None:
    """Its queue is emptied and ended; it comes back and gets the whole."""
    session: Any = Session
    viewer = Viewer(Reader(), session)
    for number in range(QUEUE_MAX + 1):
        viewer.tell(told(str(number)))
    assert viewer.queue.qsize() == 1
    assert viewer.queue.get_nowait() is None

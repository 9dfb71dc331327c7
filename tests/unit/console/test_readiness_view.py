"""What readiness, previews and one's own contact points say in the reader's words."""

from __future__ import annotations

from typing import Any

import pytest

from services.console.apis import FieldFault
from services.console.pages.people import OwnPoint, faults_of, rearranged, typed_points
from services.console.pages.roster import swap_acts
from services.console.readiness_view import FINDINGS, grouped, mended_at, preview_of, tone_of, worst_first
from services.console.words import Reader
from services.roster.readiness.findings import FindingCode

READER = Reader()
SAID = ("level", "rota", "other_rota", "office", "title", "reason", "name", "channel", "address", "endpoint")
IDS = ("rota_id", "other_rota_id", "contact_id", "office_id", "point_id", "endpoint_id", "calendar_id")
NOTHING: dict[str, Any] = dict.fromkeys(("ends_at", *SAID, *IDS))


def finding(code: str, severity: str = "warning", **changes: Any) -> dict[str, Any]:
    """One finding as the API shows it."""
    made = {**NOTHING, "code": code, "severity": severity, "begins_at": "2026-11-22T12:00:00Z", "remedy": "Mend it."}
    return {**made, **changes}


def test_every_finding_of_roster_has_words() -> None:
    """A kind of finding that roster knows and the console does not would be shown by its code."""
    assert set(FINDINGS) == {code.value for code in FindingCode}


def test_findings_are_gathered_by_kind_the_worst_first() -> None:
    """One group for each kind and severity, in the order of need; a code from the future is shown with its remedy."""
    groups = grouped(
        [
            finding("unverified_point", name="Ann", channel="sms", address="+1613•••0101"),
            finding("uncovered", "alarm", rota="Duty officers"),
            finding("unverified_point", name="Bea", channel="sms", address="+1613•••0102"),
            finding("one_day_more", "blocking", reason="dns_failed"),
        ],
        READER,
    )
    assert [(group.what, len(group.found), group.tone) for group in groups] == [
        ("Nobody is on duty", 1, "alarm"),
        ("one_day_more", 1, "waiting"),
        ("Contact point not verified", 2, "calm"),
    ]
    assert groups[2].found[0].about == "Ann · SMS · +1613•••0101"
    assert (groups[1].remedy, groups[1].found[0].reason) == ("Mend it.", "name not found")


@pytest.mark.parametrize(
    ("one", "where"),
    [
        (
            finding("uncovered", rota_id="r1", ends_at="2026-11-23T12:00:00Z"),
            "/roster/rotas/r1/stretch?start_at=2026-11-22T12%3A00%3A00Z&end_at=2026-11-23T12%3A00%3A00Z",
        ),
        (finding("rota_ending", rota_id="r1"), "/roster/rotas/r1"),
        (finding("unverified_point", contact_id="c1"), "/roster/people#contact-c1"),
        (finding("unverified_point", contact_id="me"), "/roster/me"),
        (finding("failing_point", office_id="o1"), "/roster/people#office-o1"),
        (finding("endpoint_not_answering", endpoint_id="e1"), "/deliveries?endpoint=e1"),
        (finding("no_level"), None),
    ],
)
def test_a_finding_leads_to_where_it_is_mended(one: dict[str, Any], where: str | None) -> None:
    """A hole leads to the form that fills it, one's own point to one's own page."""
    assert mended_at(one, "me") == where


def test_only_a_hole_is_loud() -> None:
    """Alarms are; what is not proven waits; the rest is quiet."""
    assert tone_of({"alarms": 1, "blocking": 0, "score": 90}) == "alarm"
    assert tone_of({"alarms": 0, "blocking": 2, "score": 90}) == "waiting"
    assert tone_of({"alarms": 0, "blocking": 0, "score": None}) == "waiting"
    assert tone_of({"alarms": 0, "blocking": 0, "score": 30}) == "good"


def test_partners_that_need_somebody_come_first() -> None:
    """Holes ahead, then whoever was never proven, then by score, then by code."""
    scores = [("CA", 0, 90), ("US", 0, 40), ("GB", 1, 80), ("DE", 0, None), ("AU", 0, 40)]
    partners = [{"partner": code, "alarms": holes, "blocking": 0, "score": score} for code, holes, score in scores]
    assert [one["partner"] for one in worst_first(partners)] == ["GB", "DE", "AU", "US", "CA"]


def test_a_preview_names_people_and_tells_a_hole_once() -> None:
    """Ids become names, nobody stays nobody, and a hole is not repeated as a finding."""
    hole = {"rota_id": "r1", "rota": "Duty", "start_at": "2026-11-22T12:00:00Z", "end_at": "2026-11-23T12:00:00Z"}
    change = {**hole, "before": "ann", "after": None, "deputy_before": None, "deputy_after": "gone"}
    found = {
        "to_at": "2026-12-06T12:00:00Z",
        "changes": [change],
        "omitted": 0,
        "holes_opened": [hole],
        "holes_closed": [],
        "findings_new": [finding("uncovered", "alarm", rota_id="r1"), finding("no_deputy", rota_id="r1")],
        "findings_resolved": [],
    }
    preview = preview_of(found, READER, names={"ann": "Ann"}, rotas={"r1": "Duty"})
    turn = preview.turns[0]
    assert (turn.before, turn.after, turn.deputy_before, turn.deputy_after) == ("Ann", None, None, "–")
    assert [group.code for group in preview.new] == ["no_deputy"]
    assert preview.new[0].found[0].about == "Duty"
    assert not preview.is_empty
    empty = {**found, "changes": [], "holes_opened": [], "findings_new": []}
    assert preview_of(empty, READER, names={}, rotas={}).is_empty


def swap(offered_to: str | None = None, declined: tuple[str, ...] = ()) -> dict[str, Any]:
    """An open offer of Ann's."""
    return {
        "rota_id": "r1",
        "offered_by": {"contact_id": "ann"},
        "offered_to": {"contact_id": offered_to} if offered_to else None,
        "declined_by": [{"contact_id": one} for one in declined],
    }


def test_an_offer_shows_what_its_reader_may_do() -> None:
    """Withdraw one's own; answer what is offered to oneself or open to one's rota; a manager answers for the named."""
    rotas = [{"id": "r1", "layers": [{"participants": ["ann", "bea"], "deputies": []}], "replacements": []}]
    assert swap_acts(swap("bea"), "ann", rotas, is_manager=False) == ["withdraw"]
    assert swap_acts(swap("bea"), "bea", rotas, is_manager=False) == ["accept", "decline"]
    assert swap_acts(swap("bea"), "cem", rotas, is_manager=False) == []
    assert swap_acts(swap("bea"), "cem", rotas, is_manager=True) == ["accept", "decline", "withdraw"]
    assert swap_acts(swap(), "bea", rotas, is_manager=False) == ["accept", "decline"]
    assert swap_acts(swap(declined=("bea",)), "bea", rotas, is_manager=False) == []
    assert swap_acts(swap(), "cem", rotas, is_manager=True) == ["withdraw"]


def test_rows_of_points_are_moved_added_and_removed() -> None:
    """The small buttons change the order and number of rows; one that asks for nothing possible changes nothing."""
    points = [OwnPoint(address=one) for one in "abc"]
    assert [one.address for one in rearranged(points, "up:2")] == ["a", "c", "b"]
    assert [one.address for one in rearranged(points, "down:0")] == ["b", "a", "c"]
    assert [one.address for one in rearranged(points, "remove:1")] == ["a", "c"]
    assert [one.address for one in rearranged(points, "add")] == ["a", "b", "c", ""]
    for act in ("up:0", "down:2", "remove:9", "up:x", "fly"):
        assert rearranged(points, act) == points
    assert len(rearranged([OwnPoint()] * 6, "add")) == 6


def test_a_form_of_points_is_read_by_its_rows() -> None:
    """Rows stand in the order of their numbers; what is empty is left out of what the API is sent."""
    form = {"address-10": " +1 ", "channel-10": "sms", "id-2": "p1", "channel-2": "voice", "delay-2": "120", "x-1": "y"}
    points = typed_points(form, [{"id": "p1", "channel": "voice"}])
    assert [one.body() for one in points] == [
        {"channel": "voice", "address": "", "id": "p1", "delay_seconds": 120},
        {"channel": "sms", "address": "+1", "delay_seconds": 0},
    ]
    assert points[0].known["channel"] == "voice"


def test_what_is_wrong_with_a_point_stands_beside_it() -> None:
    """Faults are sorted by the place of their point; the others are said of all."""
    wrong, many = FieldFault("points[1].address", "must begin with +", ""), FieldFault("points", "at most 6", "")
    by_place, rest = faults_of((wrong, many))
    assert by_place == {1: [FieldFault("address", "must begin with +", "")]}
    assert rest == [many]

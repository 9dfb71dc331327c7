"""What notices about the roster say: every kind in every language and form, with its facts, and never a name where a
locked screen shows it.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.escalation.people.notice_texts import FINDINGS, ITEMS_SHOWN_MAX, KINDS, MESSAGE_TYPE
from services.escalation.people.plain_text import fits_sms
from services.escalation.people.texts import LANGUAGES, PageFacts, say
from tests.unit.escalation.test_texts import forms

NOW = datetime(2026, 8, 15, 1, 50, tzinfo=UTC)

FACTS: dict[str, dict[str, str]] = {
    "swap_offered": {"offered_by": "PLANTEDone"},
    "swap_accepted": {"accepted_by": "PLANTEDone"},
    "swap_declined": {"declined_by": "PLANTEDone"},
    "swap_withdrawn": {"offered_by": "PLANTEDone"},
    "shift_ahead": {},
    "shift_changed": {},
    "hand_over_due": {"outgoing": "PLANTEDone", "incoming": "PLANTEDtwo"},
    "hand_over_signed": {"signed_by": "PLANTEDone"},
    "readiness_digest": {"score": "73", "findings": "41"},
    "hole_ahead": {},
    "hole_ahead_elsewhere": {"partner": "NZ"},
    "points_unconfirmed": {"expires_at": "2026-08-17T15:00:00Z", "count": "37"},
    "calendar_trouble": {"calendar": "PLANTEDcalendar"},
    "drill_unanswered": {"reference": "RP-XR-2026-0042", "since_at": "2026-08-17T15:00:00Z"},
    "heartbeat_failed": {"what": "endpoint", "since_at": "2026-08-17T15:00:00Z"},
    "heartbeat_recovered": {"what": "PLANTEDwhat", "since_at": "2026-08-17T15:00:00Z"},
    "release_asked": {"reference": "PLANTEDreference", "precedence": "FLASH", "drafted_by": "PLANTEDone"},
}
COMMON = {
    "rota": "PLANTEDrota",
    "start_at": "2026-08-17T15:00:00Z",
    "end_at": "2026-08-18T16:00:00Z",
    "begins_at": "2026-08-17T15:00:00Z",
    "ends_at": "2026-08-18T16:00:00Z",
}
DAYS = {
    "en": "Monday",
    "fr": "lundi",
    "es": "lunes",
    "it": "lunedì",
    "pt": "segunda-feira",
    "de": "Montag",
    "ar": "الاثنين",
}
"""17 August 2026."""


def facts_of(kind: str) -> dict[str, str]:
    """All facts of a kind."""
    given = {**COMMON, **FACTS[kind]}
    return {name: given[name] for name in KINDS[kind]}


def page(kind: str, language: str = "en", /, *items: dict[str, str], **facts: str) -> PageFacts:
    """A notice to a person in Paris; `facts` beside those that its kind needs."""
    known = facts_of(kind) if kind in KINDS else {}
    data: dict[str, Any] = {"kind": kind, "urgent": False, "facts": {**known, **facts}, "items": list(items)}
    return PageFacts(
        message_type=MESSAGE_TYPE,
        as_of_at=NOW,
        languages=(language,),
        time_zone="Europe/Paris",
        partner_names={"NZ": "New Zealand"},
        data=data,
    )


@pytest.mark.parametrize(("kind", "language"), [*product(KINDS, LANGUAGES)])
def test_every_kind_is_told_in_every_language_with_its_facts(kind: str, language: str) -> None:
    """No form is empty or left with a brace, the text has every fact, times are local and with their weekday."""
    message = say(page(kind, language), link=None, code=None)
    said = forms(message)
    assert message.language == language
    for name, text in said.items():
        assert text.strip(), name
        assert not re.search(r"[{}]|\bNone\b", text), (name, text)
    for name, value in facts_of(kind).items():
        if name.endswith("_at"):
            day, hour = ("17", "17:00 (15:00 UTC)") if value.startswith("2026-08-17") else ("18", "18:00 (16:00 UTC)")
            assert day in said["text"], name
            assert hour in said["text"], name
            assert hour in said["html"], name
        elif value.startswith("PLANTED") or value.isdecimal():
            assert value in said["text"], name
            assert value in said["html"], name
    if any(value.startswith("2026-08-17") for value in facts_of(kind).values()):
        assert DAYS[language] in said["text"]
        assert DAYS[language] in said["spoken"]
    assert "\n" not in message.subject
    assert fits_sms(message.short)


@pytest.mark.parametrize(("kind", "language"), [*product(KINDS, LANGUAGES)])
def test_subject_and_sms_name_nobody(kind: str, language: str) -> None:
    """What a locked screen shows says which rota and when, and no person."""
    message = say(page(kind, language, deputy="PLANTEDdeputy"), link=None, code=None)
    for shown in (message.subject, message.short):
        assert not re.search("PLANTED(one|two|deputy)", shown)
    for name in ("rota", "reference"):
        if name in KINDS[kind]:
            # A drill is named by its own reference, everything else by what was planted.
            assert f"PLANTED{name}" in message.short or "RP-XR-2026-0042" in message.short


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_two_kinds_have_the_same_subject(language: str) -> None:
    """None is taken for another."""
    subjects = {say(page(kind, language), link=None, code=None).subject for kind in [*KINDS, "unknown"]}
    assert len(subjects) == len(KINDS) + 1


@pytest.mark.parametrize("language", LANGUAGES)
def test_an_unknown_kind_is_told_in_general_words_without_its_facts(language: str) -> None:
    """A newer roster may tell what this version has no words for: the reader logs in, and nothing is given away."""
    message = say(page("something_new", language, rota="PLANTEDrota", by="PLANTEDone"), link=None, code=None)
    said = forms(message)
    assert message.language == language
    assert all("PLANTED" not in text for text in said.values())
    assert "Red Phone" in said["text"]


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, needed in KINDS.items() for name in needed])
def test_a_notice_that_lacks_a_fact_is_told_in_general_words(kind: str, name: str) -> None:
    """Half a sentence would mislead."""
    whole = page(kind)
    for value in (None, "", "  "):
        facts = {key: said for key, said in whole.data["facts"].items() if key != name}
        if value is not None:
            facts[name] = value
        said = forms(say(PageFacts(MESSAGE_TYPE, NOW, data={**whole.data, "facts": facts}), link=None, code=None))
        assert said["subject"] == "News about your roster"
        assert "PLANTED" not in said["text"]


@pytest.mark.parametrize(("language", "code"), [*product(LANGUAGES, FINDINGS)])
def test_every_finding_is_listed_in_words_with_where_and_when(language: str, code: str) -> None:
    """A digest's text has a line for each finding; its code is nowhere."""
    item = {
        "code": code,
        "rota": "PLANTEDrota",
        "contact": "PLANTEDcontact",
        "endpoint": "PLANTEDendpoint",
        "begins_at": COMMON["begins_at"],
        "ends_at": COMMON["ends_at"],
        "new": "worse",
    }
    said = forms(say(page("readiness_digest", language, item), link=None, code=None))
    for form in ("text", "html"):
        for part in ("PLANTEDrota", "PLANTEDcontact", "PLANTEDendpoint", "17:00", "18:00"):
            assert part in said[form]
        assert code not in said[form]
    assert "PLANTEDcontact" not in said["subject"] + said["short"]


def test_an_unknown_finding_is_shown_as_it_is() -> None:
    """A newer check is better named by its code than left out."""
    said = forms(say(page("readiness_digest", "en", {"code": "moon_is_full", "rota": "R"}), link=None, code=None))
    assert "- moon is full: R" in said["text"]


def test_a_digest_without_end_is_cut_and_says_so() -> None:
    """The reader learns how many more there are."""
    items = [{"code": "uncovered", "rota": f"Rota {number}"} for number in range(ITEMS_SHOWN_MAX + 3)]
    said = forms(say(page("readiness_digest", "en", *items), link=None, code=None))
    assert f"Rota {ITEMS_SHOWN_MAX - 1}" in said["text"]
    assert f"Rota {ITEMS_SHOWN_MAX}" not in said["text"]
    assert "And 3 more" in said["text"]


def test_what_is_optional_is_said_where_it_is_known() -> None:
    """The shift in return, the deputy, and whether the reader is the deputy."""
    swap = page("swap_offered", return_start_at="2026-08-20T15:00:00Z", return_end_at="2026-08-21T15:00:00Z")
    said = forms(say(swap, link=None, code=None))
    assert "In return: Thursday 20 August, 17:00 (15:00 UTC) to Friday 21 August" in said["text"]
    assert "In return" in said["spoken"]
    assert "Deputy: Example" in forms(say(page("shift_ahead", deputy="Example"), link=None, code=None))["text"]
    deputy = forms(say(page("shift_ahead", as_deputy="true", deputy="Example"), link=None, code=None))
    assert "You are the deputy." in deputy["text"]
    assert "Deputy: Example" not in deputy["text"]
    assert "In return" not in forms(say(page("swap_offered"), link=None, code=None))["text"]


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize(
    ("kind", "facts", "shown"),
    [
        ("hand_over_due", {"open": "37"}, "37"),
        ("hole_ahead", {"ends_at": COMMON["ends_at"]}, "18:00 (16:00 UTC)"),
        ("hole_ahead_elsewhere", {"ends_at": COMMON["ends_at"]}, "18:00 (16:00 UTC)"),
        ("calendar_trouble", {"reason": "PLANTEDreason"}, "PLANTEDreason"),
        ("heartbeat_failed", {"reason": "HTTP 503"}, "HTTP 503"),
        (
            "swap_accepted",
            {"return_start_at": COMMON["begins_at"], "return_end_at": "2026-08-25T03:30:00Z"},
            "05:30 (03:",
        ),
        ("shift_ahead", {"deputy": "PLANTEDdeputy"}, "PLANTEDdeputy"),
        ("shift_changed", {"count": "37"}, "37"),
    ],
)
def test_every_sentence_that_may_be_left_out_is_there_in_every_language(
    language: str, kind: str, facts: dict[str, str], shown: str
) -> None:
    """In text and mail, and in neither without its facts."""
    bare = {name: value for name, value in page(kind, language).data["facts"].items() if name not in facts}
    data = {"kind": kind, "facts": bare}
    without = PageFacts(**{**vars_of(page(kind, language)), "data": data})
    for known, there in ((page(kind, language, **facts), True), (without, False)):
        said = forms(say(known, link=None, code=None))
        assert ["{" in text for text in said.values()] == [False] * len(said)
        assert (shown in said["text"], shown in said["html"]) == (there, there)


def test_reasons_are_told_in_words() -> None:
    """A code that is known is put into the reader's words, another is shown as it is."""
    assert (
        "Reason: its name was not found."
        in say(page("calendar_trouble", reason="dns_failed"), link=None, code=None).text
    )
    assert (
        "Grund: Name nicht gefunden."
        in say(page("calendar_trouble", "de", reason="dns_failed"), link=None, code=None).text
    )
    assert "Reason: moon is full." in say(page("calendar_trouble", reason="moon_is_full"), link=None, code=None).text


@pytest.mark.parametrize(
    ("facts", "named"),
    [
        ({"what": "endpoint", "endpoint": "Crisis room", "provider": "P"}, "Crisis room"),
        ({"what": "loop_back", "provider": "Example Telecom"}, "Example Telecom"),
        ({"what": "loop_back"}, "the way over a provider"),
        ({"what": "lighthouse"}, "lighthouse"),
    ],
)
def test_a_heartbeat_names_what_was_checked(facts: dict[str, str], named: str) -> None:
    """The endpoint, else the provider, else what kind of thing it is."""
    message = say(page("heartbeat_failed", **facts, reason="timeout"), link=None, code=None)
    assert message.subject == f"Check failed: {named}"
    assert "Reason: it did not answer in time." in message.text


@pytest.mark.parametrize("language", LANGUAGES)
def test_several_notices_are_one_message_with_all_that_each_says(language: str) -> None:
    """Each keeps its sentences; a call says them one after the other."""
    first, second = page("swap_offered", language), page("calendar_trouble", language)
    message = say(PageFacts(**{**vars_of(first), "others": (second,)}), link=None, code=None)
    said = forms(message)
    assert message.language == language
    for form in ("text", "html", "spoken"):
        assert "PLANTEDone" in said[form], form
        assert "PLANTEDcalendar" in said[form], form
    assert "2" in message.subject
    assert "PLANTED" not in message.subject
    assert fits_sms(message.short)


def vars_of(facts: PageFacts) -> dict[str, Any]:
    """The fields of a page."""
    return {name: getattr(facts, name) for name in PageFacts.__slots__}


def test_an_urgent_notice_is_marked_so() -> None:
    """Mail programs and telephones put it first; any other is not marked."""
    calm = page("hole_ahead")
    urgent = PageFacts(**{**vars_of(calm), "data": {**calm.data, "urgent": True}})
    assert say(urgent, link=None, code=None).is_urgent
    assert not say(calm, link=None, code=None).is_urgent


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=60),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)


@given(
    kind=st.sampled_from([*KINDS, "other", ""]) | _JSON,
    facts=st.dictionaries(st.sampled_from(sorted({n for needed in KINDS.values() for n in needed})), _JSON) | _JSON,
    items=st.lists(st.dictionaries(st.sampled_from(["code", "rota", "begins_at", "new"]), _JSON), max_size=3) | _JSON,
    language=st.sampled_from(LANGUAGES),
)
def test_whatever_a_notice_holds_there_is_a_message(kind: Any, facts: Any, items: Any, language: str) -> None:
    """Silence is worse than an odd sentence."""
    data = {"kind": kind, "facts": facts, "items": items}
    message = say(PageFacts(MESSAGE_TYPE, NOW, languages=(language,), data=data), link=None, code=None)
    assert message.text.strip()
    assert "\n" not in message.subject
    assert fits_sms(message.short)

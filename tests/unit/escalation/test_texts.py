"""What people are told: every language, every message, every form; nothing that a label withholds; what they reply."""

from __future__ import annotations

import re
import string
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import services.escalation.people.wording as module
from services.escalation.channels import PersonMessage
from services.escalation.channels.providers.calls import SPOKEN_CHARACTERS_MAX as SPOKEN_AT_ONCE_MAX
from services.escalation.messages import content_of
from services.escalation.people import reply_words
from services.escalation.people.plain_text import fits_sms, sms_units
from services.escalation.people.reply_words import REST_CHARACTERS_MAX
from services.escalation.people.texts import (
    LANGUAGES,
    PEOPLE_IN_MENU_MAX,
    Act,
    AlertText,
    Catalogue,
    PageFacts,
    ParsedReply,
    ReplyText,
    catalogue,
    choose_language,
    country_name,
    facts_of,
    page_texts,
    parse_reply,
    partner_name,
    reply_text,
    reply_word,
    say,
    voice_people,
)
from shared.contracts import AlertReleased, Area, Info, MsgType, Precedence, Status, Tlp
from shared.ids import derived
from tests.support.escalation_cases import OFFICER, T0, facts

NOW = datetime(2026, 8, 15, 1, 50, tzinfo=UTC)
LINK = "https://redphone.example.org/a/" + "Tok3n_-" * 6
CODE = "4821"
BIDI = re.compile("[\u200f\u2066-\u2069]")

ANSWER: dict[str, Any] = {
    "partner": "GB",
    "at": "2026-08-15T01:45:00.000Z",
    "by": "PLANTEDname",
    "late": False,
    "answer_by": "2026-08-15T09:00:00.000Z",
    "note": "PLANTEDnote",
    "offer": "PLANTEDoffer",
    "estimated_arrival": None,
}
BRIEF: dict[str, Any] = {
    "unreached_partner": "GB",
    "unreached_at": "2026-08-15T01:40:00.000Z",
    "levels_tried": 3,
    "attempts": 17,
    "office": {
        "name": "PLANTEDoffice",
        "switchboard": "+999000100",
        "embassies": [{"partner": "FR", "number": "+999000200"}],
    },
    "call_script": "PLANTEDscript",
}
TYPES: list[tuple[str, dict[str, Any]]] = [
    ("alert.released", {}),
    ("alert.updated", {}),
    ("code.replaced", {}),
    *[
        ("alert.ended", {"reason": reason, "ended_at": "2026-08-15T01:45:00.000Z"})
        for reason in ("cancelled", "closed", "expired", "superseded")
    ],
    ("alert.ended", {"reason": "expired", "never_paged": ["GB", "FR"]}),
    ("level.raised", {}),
    ("level.raised", {"partner_without_duty": "GB", "gaps": ["no_duty_plan"]}),
    ("partner.unreached", BRIEF),
    *[
        ("answer.received", {"answer": {**ANSWER, "state": state}})
        for state in ("acknowledged", "considering", "committed", "declined", "noted", "wrong_person")
    ],
    ("question.asked", {"partner": "GB", "by": "PLANTEDname", "question": "PLANTEDquestion"}),
    ("question.answered", {"question": "PLANTEDquestion", "answer": "PLANTEDanswer"}),
    ("read_back.requested", {}),
    ("read_back.given", {"partner": "GB", "by": "PLANTEDname", "read_back": "PLANTEDreadback"}),
    ("coverage.missed", {"wanted": 8, "addressed": 10, "answered": 5, "within_seconds": 900}),
    ("contact_point.failing", {"channel": "sms", "partner": "GB"}),
    ("test.ping", {}),
    ("something.new", {"answer": "PLANTEDanswer"}),
]
ALERT_TYPES = ("alert.released", "alert.updated", "code.replaced")


def page(**changes: Any) -> PageFacts:
    """A page at level 2 to a person in Paris, ten minutes before the answer is owed."""
    fields: dict[str, Any] = {
        "message_type": "alert.released",
        "as_of_at": NOW,
        "languages": ("en",),
        "time_zone": "Europe/Paris",
        "asks": True,
        "level": 2,
        "thread": "chain",
        "precedence": Precedence.FLASH,
        "tlp": Tlp.AMBER,
        "raiser": "CA",
        "raiser_name": "Canada",
        "reference": "RP-CA-2026-0042",
        "infos": (AlertText("en", "PLANTEDheadline", "PLANTEDdescription", "PLANTEDinstruction"),),
        "countries": ("AFG",),
        "released_at": NOW - timedelta(minutes=3),
        "answer_by_at": NOW + timedelta(minutes=10),
        "partner_names": {"GB": "United Kingdom", "FR": "France"},
    }
    return PageFacts(**{**fields, **changes})


def told(facts: PageFacts, **changes: Any) -> PersonMessage:
    """The message with a link and a code."""
    return say(facts, **{"link": LINK, "code": CODE, **changes})


def forms(message: PersonMessage) -> dict[str, str]:
    """Every form that a channel takes, with the marks taken out that only turn the order of signs."""
    voice = message.voice
    spoken = f"{voice.alert} {voice.menu} {voice.acknowledged} {voice.wrong_person} {voice.goodbye}"
    said = {"subject": message.subject, "text": message.text, "html": visible(message.html), "short": message.short}
    return {name: BIDI.sub("", text) for name, text in {**said, "spoken": spoken}.items()}


class _Visible(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []
        self.links: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.links += [value or "" for name, value in attrs if name in ("href", "src", "background", "action")]

    def handle_data(self, data: str) -> None:
        self.said.append(data)


def parsed_html(html: str) -> _Visible:
    """The mail as a reader's program takes it apart."""
    parser = _Visible()
    parser.feed(html)
    parser.close()
    return parser


def visible(html: str) -> str:
    """The text of a mail."""
    return " ".join(" ".join(parsed_html(html).said).split())


def tables() -> dict[str, dict[str, Any]]:
    """The files as they are."""
    folder = Path(module.__file__).parent / "texts"
    return {language: tomllib.loads((folder / f"{language}.toml").read_text("utf-8")) for language in LANGUAGES}


def without(language: str, *path: str) -> Catalogue:
    """The catalogue with one text of one language taken out."""
    changed = tables()
    table = changed[language]
    for key in path[:-1]:
        table = table[key]
    del table[path[-1]]
    return Catalogue(changed)


def placeholders(text: str) -> list[str]:
    """What a text asks to be filled in with."""
    return sorted({name for _, name, _, _ in string.Formatter().parse(text) if name})


# --- the files --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_language_has_every_text_with_the_same_placeholders(language: str) -> None:
    """No language lacks a text, has one more, leaves one empty, or fills in something else than English does."""
    english, other = catalogue(), catalogue()
    assert other.keys(language) == english.keys("en")
    for key in english.keys("en"):
        if key.startswith("words.") or key in ("about.months", "about.weekdays"):
            assert all(other.items(language, key))
        else:
            assert other.find(language, key).strip()
            assert placeholders(other.find(language, key)) == placeholders(english.find("en", key)), key


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_month_and_weekday_has_a_name(language: str) -> None:
    """Twelve different months, seven different days."""
    assert len(set(catalogue().items(language, "about.months"))) == 12
    assert len(set(catalogue().items(language, "about.weekdays"))) == 7


@pytest.mark.parametrize(("language", "kind"), [*product(LANGUAGES, ReplyText)])
def test_every_reply_fits_one_sms_of_three_segments(language: str, kind: ReplyText) -> None:
    """Whatever is sent back fits, with a name of any length and a reference in it, and no brace is left."""
    said = reply_text(
        kind, [language], what="RP-CA-2026-0042", by="Dr Example Person " * 50, count=12, raiser="CA", code=CODE
    )
    assert fits_sms(said), said
    assert "Red Phone" in said
    assert not re.search(r"[{}]", said)


def test_a_reply_names_who_answered_and_who_was_asked() -> None:
    """The name that was recorded is shown to whoever wrote it; a partner is named in the reader's language."""
    assert reply_text(ReplyText.ACKNOWLEDGED, ["en"], what="RP-1", by="Anna Example").endswith("By: Anna Example")
    assert "Kanada" in reply_text(ReplyText.QUESTION_SENT, ["de"], raiser="CA")


def test_a_reply_may_leave_the_reference_out() -> None:
    """Where the label withholds it, the alert is spoken of without its reference."""
    assert reply_text(ReplyText.ACKNOWLEDGED, ["en"]) == "Red Phone: recorded. the alert is acknowledged."
    assert "RP-1" in reply_text(ReplyText.ACKNOWLEDGED, ["en"], what="RP-1")


@pytest.mark.parametrize("language", LANGUAGES)
def test_spoken_texts_have_no_signs_that_a_voice_stumbles_over(language: str) -> None:
    """What is read aloud has letters, digits and pauses, and nothing like brackets, slashes or link marks."""
    known = catalogue()
    spoken = [
        key
        for key in known.keys("en")
        if key.startswith(("voice.", "script.", "todo.")) or re.fullmatch(r"(message|several)\.(\w+\.)?what\w*", key)
    ]
    for key in spoken:
        text = re.sub(r"\{\w+\}", "", known.find(language, key))
        assert not re.search(r"[()\[\]/\\<>&#*_+=|~^–—\"]", text), key


# --- languages --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("languages", "chosen"),
    [
        (["fr"], "fr"),
        (["fr-CA", "en"], "fr"),
        (["pt_BR"], "pt"),
        (["pl", "de-AT"], "de"),
        (["AR-eg"], "ar"),
        (["pl"], "en"),
        ([], "en"),
        ([""], "en"),
    ],
)
def test_the_first_language_that_there_are_texts_in_is_chosen(languages: list[str], chosen: str) -> None:
    """A region falls back to its language, and a reader of none of them gets English."""
    assert choose_language(languages) == chosen


def test_a_text_that_a_language_lacks_turns_the_message_to_english_and_it_says_so() -> None:
    """One missing text, and the whole message is English, with a line that names the reader's language."""
    message = told(page(languages=("fr",)), texts=without("fr", "message", "alert_released", "what"))
    assert message.language == "en"
    assert "(This message is not available in Français.)" in message.text
    assert "This message is not available in Français" in message.voice.alert
    assert "has raised FLASH alert" in message.text
    assert "disponible" not in message.text


def test_a_missing_text_that_this_message_does_not_need_changes_nothing() -> None:
    """What is missing elsewhere does not turn this message to English."""
    message = told(page(languages=("fr",)), texts=without("fr", "message", "question_asked", "what"))
    assert message == told(page(languages=("fr",)))


def test_a_text_with_a_placeholder_that_nobody_fills_turns_the_message_to_english() -> None:
    """A slip in one language's file costs that language, not the page."""
    changed = tables()
    changed["de"]["message"]["alert_released"]["what"] = "Alarm {unbekannt}"
    assert told(page(languages=("de",)), texts=Catalogue(changed)).language == "en"


def test_a_reader_of_a_language_without_texts_is_told_so_in_english() -> None:
    """The line names the language; who also reads English is not told."""
    assert "(This message is not available in Polish.)" in told(page(languages=("pl",))).text
    assert "not available" not in told(page(languages=("pl", "en"))).text
    assert "not available" not in told(page(languages=("pl", "fr"))).text


def test_the_alert_is_quoted_in_the_readers_language_if_it_has_it() -> None:
    """Of two info blocks the reader's is taken, and nothing is said about languages."""
    infos = (AlertText("en", "Airport closed"), AlertText("fr-CA", "Aéroport fermé", is_translation=True))
    text = told(page(languages=("fr",), infos=infos)).text
    assert "Aéroport fermé" in text
    assert "Airport closed" not in text
    assert "rédigée en" not in text
    assert "L’original fait foi" in text, "a translation is marked as one"


def test_an_alert_in_another_language_is_quoted_and_marked() -> None:
    """English, and if there is none the first, with a line that says which language it is."""
    english = told(page(languages=("de",))).text
    assert "(Die Alarmmeldung selbst ist verfasst auf: Englisch.)" in english
    spanish = told(page(languages=("de",), infos=(AlertText("es", "Aeropuerto cerrado"),))).text
    assert "Aeropuerto cerrado" in spanish
    assert "verfasst auf: Spanisch" in spanish
    assert "Original" not in spanish, "an original is not called a translation"


def test_a_second_language_of_the_reader_comes_before_english() -> None:
    """A reader of German and Spanish gets an alert's Spanish words in a German message."""
    infos = (AlertText("en", "Airport closed"), AlertText("es", "Aeropuerto cerrado"))
    message = told(page(languages=("de", "es"), infos=infos))
    assert message.language == "de"
    assert "Aeropuerto cerrado" in message.text


# --- every message ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_message_is_said_in_the_readers_language_in_every_form(language: str) -> None:
    """No type falls back, none leaves a brace or an empty form behind, and every short form fits."""
    for kind, data in TYPES:
        for asks, position_due in ((True, False), (False, False), (True, True)):
            message = told(
                page(languages=(language,), message_type=kind, data=data, asks=asks, position_due=position_due)
            )
            assert message.language == language, kind
            for name, text in forms(message).items():
                assert text.strip(), (kind, name)
                assert not re.search(r"[{}]|\bNone\b", text), (kind, name)
            assert "\n" not in message.subject
            assert fits_sms(message.short), kind
            assert LINK in message.short
            assert CODE in message.short
            assert LINK in message.text


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_message_type_has_texts_of_its_own(language: str) -> None:
    """No two kinds of message begin alike, so that none is taken for another."""
    said = [told(page(languages=(language,), message_type=kind, data=data)).subject for kind, data in TYPES]
    assert len(set(said)) == len(TYPES)


def test_an_alarm_about_an_empty_duty_plan_is_not_taken_for_a_reminder() -> None:
    """Both are told as a raised level; only one asks for a position."""
    alarm = {"partner_without_duty": "GB", "gaps": ["no_duty_plan"]}
    assert "Nobody on duty" in told(page(message_type="level.raised", position_due=True, data=alarm)).subject
    reminder = told(page(message_type="level.raised", position_due=True))
    assert "Please give your government's position by 04:00" in reminder.short


def test_messages_about_no_alert_say_what_they_are_about() -> None:
    """A code to verify a contact point, and a test: without an alert there is no label, and no drill."""
    verify = PageFacts(
        message_type="contact_point.verification",
        as_of_at=NOW,
        data={"code": "739104", "valid_until": "2026-08-15T02:50:00Z"},
    )
    message = say(verify, link=None, code=None)
    assert "739104" in message.subject
    assert "739104" in message.short
    assert "7 3 9 1 0 4" in message.voice.alert
    assert "02:50 UTC" in message.text
    assert message.voice.menu == "To hear this again, press 2."
    assert "no emergency" in say(PageFacts(message_type="test.ping", as_of_at=NOW), link=None, code=None).text


def test_the_time_is_the_readers_own_with_utc_beside_it() -> None:
    """Local time first; the day is named where it is not today's; a reader in UTC sees one time."""
    assert "by 04:00 (02:00 UTC)." in told(page()).text
    tomorrow = page(answer_by_at=NOW + timedelta(hours=26))
    assert "by 16 August 05:50 (03:50 UTC)." in told(tomorrow).text
    west = page(time_zone="America/Toronto", answer_by_at=NOW + timedelta(minutes=10))
    assert "by 22:00 (15 August 02:00 UTC)." in told(west).text
    assert "by 02:00 UTC." in told(page(time_zone="UTC")).text
    assert "by 02:00 UTC." in told(page(time_zone="Nowhere/../../etc")).text


def test_a_time_that_has_passed_is_not_given_as_a_deadline() -> None:
    """At a later level the reader is asked to acknowledge at once."""
    late = told(page(answer_by_at=NOW - timedelta(minutes=1)))
    assert "Please acknowledge at once." in late.text
    assert "Please acknowledge at once." in late.voice.alert
    assert "Please acknowledge at once." in told(page(answer_by_at=None)).short


def test_the_reference_is_spelled_sign_by_sign() -> None:
    """A voice reads letters and digits one by one."""
    assert "R P, C A, 2 0 2 6, 0 0 4 2" in told(page()).voice.alert
    assert "RP-CA" not in told(page()).voice.alert


def test_a_takeover_carries_numbers_and_what_to_say_in_text_and_voice() -> None:
    """Switchboard, embassy and call script; in another language than English both scripts."""
    unreached = page(message_type="partner.unreached", data=BRIEF, languages=("fr",))
    message = told(unreached)
    assert "prendre l’affaire en charge" in message.voice.menu
    assert "prendre l’affaire en charge" in message.text
    assert "prise en charge" in message.voice.acknowledged
    for part in (
        "+999000100",
        "+999000200",
        "PLANTEDoffice",
        "Royaume-Uni",
        "Ici le Red Phone.",
        "This is the Red Phone.",
    ):
        assert part in message.text, part
    assert "+999000100" in message.short
    assert "plus 9 9 9 0 0 0 1 0 0" in message.voice.alert
    assert "Veuillez réveiller votre agent de permanence" in message.voice.alert
    nothing = told(replace(unreached, languages=("en",), data={"unreached_partner": "GB", "office": None}))
    assert "No telephone numbers" in nothing.text


def test_a_page_to_an_office_asks_for_the_name_of_who_acknowledges() -> None:
    """Text asks for a name after the code; a call offers the people on duty."""
    office = page(is_office=True, people=("Anna <Example>", "Ben Example"))
    message = told(office)
    assert "YES 4821 NAME" in message.text
    assert "your name" in message.short
    assert "If you are Anna Example, press 1." in message.voice.menu
    assert "If you are Ben Example, press 2." in message.voice.menu
    assert message.voice.repeat_key == "9"
    nobody = told(replace(office, people=())).voice
    assert not nobody.can_acknowledge, "the record needs a name, and a key press has none"
    assert "press 1" not in nobody.menu
    many = voice_people([f"Person {n}" for n in range(20)], ["en"])
    assert f"press {PEOPLE_IN_MENU_MAX}." in many
    assert "Person 8" not in many


def test_partners_and_countries_are_named_in_the_readers_language() -> None:
    """English keeps the name that the partner gave; elsewhere the country's own name there is used."""
    assert partner_name("GB", "UK of GB", "en") == "UK of GB"
    assert partner_name("GB", "UK of GB", "de") == "Vereinigtes Königreich"
    assert partner_name("EU", "EC", "es") == "Comisión Europea"
    assert partner_name("ZZ", "Given", "fr") == "Given"
    assert partner_name("ZZ", "", "fr") == "ZZ"
    assert country_name("AFG", "pt") == "Afeganistão"
    assert country_name("XXX", "pt") == "XXX"


# --- drills -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("language", "label"), [*product(LANGUAGES, Tlp)])
def test_exercise_leads_every_form_of_every_message_of_a_drill(language: str, label: Tlp) -> None:
    """Subject, text, mail, SMS and call begin with it, untranslated, under every label; an Actual alert has none."""
    for kind, data in TYPES:
        drill = page(languages=(language,), message_type=kind, data=data, tlp=label, status=Status.EXERCISE)
        for name, text in forms(told(drill)).items():
            assert text.startswith("EXERCISE"), (kind, name)
        actual = forms(told(replace(drill, status=Status.ACTUAL)))
        assert not any("EXERCISE" in text for text in actual.values())


def test_the_word_is_said_once_where_the_headline_begins_with_it_too() -> None:
    """A headline that says EXERCISE itself is not doubled."""
    infos = (AlertText("en", "EXERCISE: airport closed"),)
    assert told(page(status=Status.EXERCISE, infos=infos)).subject == "EXERCISE FLASH from Canada: airport closed"


def test_a_test_message_is_led_by_its_own_word() -> None:
    """CAP's status Test is not an exercise, and no emergency either."""
    message = told(page(status=Status.TEST))
    assert message.subject.startswith("TEST FLASH")
    assert "This is a test." in message.text


# --- labels -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("language", "label"), [*product(LANGUAGES, (Tlp.RED, Tlp.AMBER_STRICT))])
def test_a_strict_label_lets_precedence_sender_link_and_code_through_and_nothing_else(
    language: str, label: Tlp
) -> None:
    """Whatever the message is about, in every form: no planted word, no reference, no time, no country, no number."""
    leaks: tuple[str, ...] = (
        "PLANTED",
        "RP-CA",
        "R P",
        "2026",
        "0042",
        "AFG",
        "999",
        "9 9 9",
        ":00",
        "4 00",
        "France",
        "TLP",
        "GB",
    )
    leaks += tuple(country_name(code, language) for code in ("AFG", "GB", "FRA"))
    seen = set()
    for kind, data in TYPES:
        for office in (False, True):
            strict = page(languages=(language,), message_type=kind, data=data, tlp=label, is_office=office)
            message = told(strict)
            said = forms(message)
            for name, text in said.items():
                found = [leak for leak in leaks if leak in text.replace(LINK, "")]
                assert not found, (kind, name, found)
                assert "FLASH" in text
                assert country_name("CA", language) in text
            assert CODE in said["text"]
            assert LINK in said["text"]
            assert not message.voice.can_acknowledge, "who may not hear the alert cannot have understood it"
            assert "1" not in message.voice.menu
            if not office:
                seen.add(tuple(said.values()))
    assert len(seen) == 1, "not even what kind of message it is can be told"


@pytest.mark.parametrize("label", [Tlp.AMBER, Tlp.GREEN, Tlp.CLEAR])
def test_other_labels_let_the_alerts_own_words_through(label: Tlp) -> None:
    """Text and mail say everything, and name the label."""
    for name in ("text", "html"):
        said = forms(told(page(tlp=label)))[name]
        for part in ("PLANTEDheadline", "PLANTEDdescription", "PLANTEDinstruction", "Afghanistan", label.value):
            assert part in said


def test_an_alert_whose_words_are_not_known_says_as_little_as_a_strict_one() -> None:
    """Before its release has come, or without any text of it, an alert asks to log in."""
    assert told(page(infos=())).subject == "FLASH from Canada: log in"
    assert "RP-CA" not in told(page(infos=())).text
    takeover = told(page(infos=(), message_type="partner.unreached", data=BRIEF))
    assert "+999000100" in takeover.text, "numbers to call do not hang on the alert's words"


# --- several at once --------------------------------------------------------------------------------------------------


def several(count: int, **changes: Any) -> PageFacts:
    """One page that carries `count` alerts."""
    items = [page(reference=f"RP-CA-2026-{number:04}", **changes) for number in range(1, count + 1)]
    return replace(items[0], others=tuple(items[1:]))


@pytest.mark.parametrize(("language", "count"), [*product(LANGUAGES, (2, 5, 12, 40))])
def test_several_alerts_are_all_listed(language: str, count: int) -> None:
    """Text and mail list every reference; an SMS lists as long as they fit, and then says how many there are."""
    message = told(several(count, languages=(language,)))
    references = [f"RP-CA-2026-{number:04}" for number in range(1, count + 1)]
    for name in ("text", "html"):
        assert all(reference in forms(message)[name] for reference in references)
    short = BIDI.sub("", message.short)
    assert fits_sms(message.short)
    assert LINK in short
    assert CODE in short
    assert str(count) in short
    listed = [reference in short for reference in references]
    assert all(listed) or not any(listed), "a list that leaves some out would hide them"
    assert str(count) in message.voice.alert


def unreached(count: int, **changes: Any) -> PageFacts:
    """One page that carries the takeovers of `count` partners, each with numbers of its own."""
    items = [
        page(
            message_type="partner.unreached",
            data={
                **BRIEF,
                "unreached_partner": code,
                "office": {
                    "name": f"Office {code}",
                    "switchboard": f"+99900{number}",
                    "embassies": [{"partner": "FR", "number": f"+99950{number}"}],
                },
            },
            partner_names={"FR": "France"},
            **changes,
        )
        for number, code in enumerate(("GB", "IT", "ES", "NZ", "AU", "US", "DE", "BR")[:count], start=1)
    ]
    return replace(items[0], others=tuple(items[1:]))


@pytest.mark.parametrize(("language", "count"), [*product(LANGUAGES, (2, 3, 8))])
def test_several_unreached_partners_keep_their_numbers_and_scripts(language: str, count: int) -> None:
    """Text and mail have switchboard, embassy and script of each; a call says every number and the script, and still
    fits into what a provider speaks at once; the code takes all of them over.
    """
    message = told(unreached(count, languages=(language,)))
    said, code = forms(message), reply_word(Act.YES, language)
    for number in range(1, count + 1):
        for name in ("text", "html"):
            assert f"+99900{number}" in said[name]
            assert f"+99950{number}" in said[name]
        assert f"9 9 9 0 0 {number}" in message.voice.alert
        assert f"9 9 9 5 0 {number}" in message.voice.alert
    for name in ("text", "html"):
        assert said[name].count("This is the Red Phone.") == count, "the script, in English as well"
    assert code in said["text"]
    single = told(unreached(1, languages=(language,)))
    assert (message.voice.menu, message.voice.acknowledged) == (single.voice.menu, single.voice.acknowledged)
    assert len(message.voice.alert) + len(message.voice.menu) < SPOKEN_AT_ONCE_MAX
    assert fits_sms(message.short)
    assert LINK in message.short


def test_an_sms_of_two_unreached_partners_has_both_switchboards() -> None:
    """Whoever reads the short form alone can dial."""
    short = told(unreached(2)).short
    assert "+999001" in short
    assert "+999002" in short
    assert "United Kingdom" in short
    assert told(unreached(2)).subject == "UNREACHED: 2 partners have not answered FLASH"


def test_a_strict_label_withholds_the_numbers_of_one_of_several() -> None:
    """One takeover at RED beside another: its partner and numbers are in no form."""
    items = unreached(2)
    strict = replace(items.others[0], tlp=Tlp.RED)
    for text in forms(told(replace(items, others=(strict,)))).values():
        assert "+999002" not in text
        assert "9 9 9 0 0 2" not in text
        assert "Italy" not in text


def test_an_sms_lists_references_alone_before_it_lists_none() -> None:
    """With five alerts there is no room for headlines, but there is for references."""
    short = told(several(5, infos=(AlertText("en", "A headline of quite some length " * 3),))).short
    assert "RP-CA-2026-0005" in short
    assert "quite some length" not in short


def test_one_of_several_keeps_its_own_label_and_its_own_drill() -> None:
    """A strict one in a list shows precedence and sender only; EXERCISE leads only those that are drills."""
    strict = page(
        tlp=Tlp.RED, reference="RP-SECRET", infos=(AlertText("en", "SECRET"),), raiser="FR", raiser_name="France"
    )
    drill = page(status=Status.EXERCISE, reference="RP-DRILL")
    message = told(replace(page(), others=(strict, drill)))
    for text in forms(message).values():
        assert "SECRET" not in text
        assert not text.startswith("EXERCISE")
    assert "FLASH from France: log in" in message.text
    assert "EXERCISE FLASH from Canada, RP-DRILL" in message.text
    assert not message.voice.can_acknowledge
    all_drills = told(replace(drill, others=(drill,)))
    assert all(text.startswith("EXERCISE") for text in forms(all_drills).values())


def test_the_earliest_time_of_several_is_the_one_that_is_asked_for() -> None:
    """A later one first in line does not hide that another is due sooner."""
    first = page(answer_by_at=NOW + timedelta(hours=2))
    assert "Please acknowledge by 04:00" in told(replace(first, others=(page(),))).text


# --- SMS --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "units", "units_max"),
    [("abc", 3, 459), ("a€[", 5, 459), ("à", 1, 459), ("ê", 1, 201), ("\U0001f6a8", 2, 201), ("نعم", 3, 201)],
)
def test_units_are_counted_as_the_network_counts_them(text: str, units: int, units_max: int) -> None:
    """Septets, two for the extension; UTF-16 units if one sign is in neither alphabet."""
    assert sms_units(text) == (units, units_max)


@given(headline=st.text(max_size=400), language=st.sampled_from(LANGUAGES), name=st.text(max_size=120))
@example(headline="é" * 300, language="es", name="ê" * 100)
@example(headline="\U0001f6a8" * 200, language="en", name="")
@example(headline="مطار " * 60, language="ar", name="")
def test_whatever_the_headline_the_short_form_fits_and_keeps_what_matters(
    headline: str, language: str, name: str
) -> None:
    """The headline is cut; link, code and time never are."""
    message = told(page(languages=(language,), infos=(AlertText("en", headline),), raiser="ZZ", raiser_name=name))
    assert fits_sms(message.short)
    assert message.short.endswith("\n" + LINK)
    assert CODE in message.short
    assert "04:00" in message.short
    assert "\n" not in message.subject


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_link_that_leaves_no_room_stays_whole_behind_the_word_of_a_drill(language: str) -> None:
    """A fourth segment is better than a link that does not open, or a drill that does not say so."""
    link = "https://redphone.example.org/" + "a" * 420
    short = told(page(languages=(language,), status=Status.EXERCISE), link=link).short
    assert short.startswith("EXERCISE FLASH\n")
    assert short.endswith("\n" + link)
    assert CODE in short


def test_a_subject_is_bounded() -> None:
    """A headline of any length makes a subject that programs can show; the text has it whole."""
    infos = (AlertText("en", "word " * 200),)
    message = told(page(infos=infos))
    assert len(message.subject) <= 200
    assert ("word " * 200).strip() in message.text


def test_accents_are_kept_where_there_is_room_and_given_up_before_words_are() -> None:
    """Spanish with accents is counted in long units: a long headline loses the accents, not its end."""
    brief = told(page(languages=("es",), infos=(AlertText("es", "Situación crítica"),)), link="https://r.example/a/x")
    assert "Situación crítica" in brief.short
    headline = "Situación crítica en la estación de autobuses " * 3 + "fin"
    longer = told(page(languages=("es",), infos=(AlertText("es", headline),)))
    assert "Situacion critica" in longer.short
    assert "fin" in longer.short


# --- HTML and right to left -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_mail_has_one_link_no_remote_content_and_nothing_that_runs(language: str) -> None:
    """One button; whatever the alert says is text; the direction is the language's."""
    nasty = AlertText("en", "<script>alert(1)</script>", '<img src=x onerror=y> & "q"', "</table>")
    message = told(page(languages=(language,), infos=(nasty,)))
    shown = parsed_html(message.html)
    assert shown.links == [LINK]
    assert shown.tags <= {"html", "head", "meta", "title", "body", "table", "tr", "td", "br", "a"}
    assert "<img src=x onerror=y>" in visible(message.html)
    assert ('dir="rtl"' in message.html) == (language == "ar")


def test_latin_fragments_in_arabic_are_isolated_and_link_and_code_are_bare() -> None:
    """References and times do not turn the line round; what people copy carries no invisible signs."""
    message = told(page(languages=("ar",)))
    assert "\u2066RP-CA-2026-0042\u2069" in message.text
    assert "\u206604:00 (02:00 UTC)\u2069" in message.text
    assert f"\n{LINK}\n" in message.text
    assert f"نعم {CODE}\n" in message.text
    for text in (message.subject, message.text, message.short, message.html):
        assert text.count("\u2066") + text.count("\u2068") == text.count("\u2069")
    assert not BIDI.search(message.voice.alert)


def test_signs_in_an_alert_that_reorder_text_or_start_lines_are_taken_out() -> None:
    """A headline cannot start a header of a mail, nor show its end first."""
    infos = (AlertText("en", "Airport\r\nBcc: x@example.org\u202e closed\x00"),)
    assert told(page(infos=infos)).subject == "FLASH from Canada: Airport Bcc: x@example.org closed"


# --- facts of a page --------------------------------------------------------------------------------------------------


def released(**changes: Any) -> dict[str, Any]:
    """The content of an alert as escalation keeps it."""
    info = Info(
        event="Displacement",
        headline="Airport closed",
        description="Since dawn.",
        areas=(Area(description="Kabul", geocodes=(("iso3166-1-alpha-3", "AFG"), ("other", "X"))),),
    )
    fields: dict[str, Any] = {
        **{name: getattr(facts(), name) for name in ("alert_id", "root_alert_id", "reference", "raiser", "status")},
        **{name: getattr(facts(), name) for name in ("precedence", "tlp", "released_at", "expires_at", "released_by")},
        "crisis_id": derived("crisis"),
        "msg_type": MsgType.ALERT,
        "recipients": (),
        "drafted_by": OFFICER,
        "info": (info,),
    }
    return content_of(AlertReleased(**{**fields, **changes}))


ROW = {
    "message_type": "alert.released",
    "asks": True,
    "level": 1,
    "contact_id": derived("contact", "1"),
    "data": None,
    "alert_id": facts().alert_id,
}


def test_the_facts_of_a_page_come_from_its_row_and_its_alert() -> None:
    """Texts, countries, names and zone are put together; a page to nobody in particular is an office's."""
    known = facts_of(
        ROW,
        facts(),
        released(),
        languages=("fr",),
        time_zone="Europe/Paris",
        now=T0,
        partner_names={"CA": "Canada"},
        answer_by_at=T0 + timedelta(minutes=10),
    )
    assert known.infos == (AlertText("en", "Airport closed", "Since dawn."),)
    assert known.countries == ("AFG",)
    assert known.raiser_name == "Canada"
    assert not known.is_office
    assert known.thread == str(facts().root_alert_id)
    assert "Airport closed" in told(known).text
    assert facts_of({**ROW, "contact_id": None}, facts(), None, languages=(), time_zone=None, now=T0).is_office


def test_a_page_about_an_alert_that_is_not_known_yet_says_nothing_of_it() -> None:
    """Without its label nobody knows what may be said: the data stays out too."""
    row = {**ROW, "message_type": "question.asked", "data": {"partner": "GB", "question": "SECRET"}}
    known = facts_of(row, None, None, languages=("en",), time_zone=None, now=T0)
    message = told(known)
    assert all("SECRET" not in text for text in forms(message).values())
    assert "News in Red Phone" in message.subject


@given(
    data=st.dictionaries(
        st.sampled_from(
            ["answer", "office", "reason", "partner", "question", "ended_at", "within_seconds", "never_paged"]
        ),
        st.recursive(
            st.one_of(st.none(), st.text(max_size=20), st.integers()),
            lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["embassies", "number", "state"]), inner),
            max_leaves=4,
        ),
    ),
    kind=st.sampled_from([kind for kind, _ in TYPES]),
    zone=st.text(max_size=20),
)
def test_no_data_of_a_page_keeps_its_message_from_being_written(data: dict[str, Any], kind: str, zone: str) -> None:
    """Whatever a row holds, there is a message: silence is worse than an odd sentence."""
    assert told(page(message_type=kind, data=data, time_zone=zone)).text


# --- the page behind a link -------------------------------------------------------------------------------------------


def test_the_pages_texts_come_whole_in_the_readers_language_with_its_direction() -> None:
    """Every key is there; a text that is missing is in English."""
    arabic = page_texts(["ar-EG"])
    assert arabic["direction"] == "rtl"
    assert arabic["language"] == "ar"
    english = page_texts(["xx"])
    assert english["opening"] == "Opening this page has changed nothing."
    assert arabic.keys() == english.keys()
    assert page_texts(["fr"], texts=without("fr", "page", "opening"))["opening"] == english["opening"]


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_banner_of_the_page_begins_with_exercise(language: str) -> None:
    """Untranslated first, then in the reader's words."""
    assert page_texts([language])["banner"].startswith("EXERCISE. ")


# --- replies ----------------------------------------------------------------------------------------------------------


def words() -> Iterator[tuple[str, Act, str]]:
    """Every word of every language."""
    for language, act in product(LANGUAGES, Act):
        for word in catalogue().items(language, f"words.{act.value}"):
            yield language, act, word


@pytest.mark.parametrize(("language", "act", "word"), list(words()))
def test_every_word_of_every_language_parses_in_any_writing(language: str, act: Act, word: str) -> None:
    """Any case, with a code before or after it, glued to it, or with punctuation around."""
    for said in (word, word.upper(), word.lower(), word.title(), f"  {word}!"):
        assert parse_reply(f"{said} 4821") == ParsedReply(act, "4821")
        assert parse_reply(f"4821 {said}") == ParsedReply(act, "4821")
        assert parse_reply(f"{said}: 4821.") == ParsedReply(act, "4821")
        assert parse_reply(said) == ParsedReply(act, None)
    assert parse_reply(f"{word}4821") == ParsedReply(act, "4821")
    assert reply_word(act, language) == catalogue().items(language, f"words.{act.value}")[0].upper()


def test_no_word_means_two_things() -> None:
    """What one language says for yes does not stop pages in another."""
    meanings: dict[tuple[str, ...], set[Act]] = {}
    for _, act, word in words():
        key = tuple(reply_words._plain_word(part) for part in reply_words._TOKEN.findall(word))
        meanings.setdefault(key, set()).add(act)
    assert [key for key, acts in meanings.items() if len(acts) > 1] == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("YES 4821", ParsedReply(Act.YES, "4821")),
        ("yes4821", ParsedReply(Act.YES, "4821")),
        ("4821", ParsedReply(Act.YES, "4821")),
        ("Yes 4821 Anna Example", ParsedReply(Act.YES, "4821", "Anna Example")),
        ("SI 4821 José Ñandú.", ParsedReply(Act.YES, "4821", "José Ñandú")),
        ("recu 4821", ParsedReply(Act.YES, "4821")),
        ("نعم ٤٨٢١", ParsedReply(Act.YES, "4821")),
        ("۴۸۲۱ نعم", ParsedReply(Act.YES, "4821")),
        ("\u200fنَعَم ٤٨٢١", ParsedReply(Act.YES, "4821")),
        ("ايقاف 4821", ParsedReply(Act.STOP, "4821")),
        ("Yes 48 21", ParsedReply(Act.YES, "4821")),
        ("Yes 4-8-2-1 Ben", ParsedReply(Act.YES, "4821", "Ben")),
        ("YES ALL 4821", ParsedReply(Act.ALL, "4821")),
        ("wrong person 4821", ParsedReply(Act.WRONG, "4821")),
        ("pas moi 4821", ParsedReply(Act.WRONG, "4821")),
        ("?", ParsedReply(Act.HELP, None)),
        ("STOP", ParsedReply(Act.STOP, None)),
        ("\uff39\uff25\uff33 \uff14\uff18\uff12\uff11", ParsedReply(Act.YES, "4821")),
        ("ASK 4821 How many people?\nAnd where?", ParsedReply(Act.ASK, "4821", "How many people? And where?")),
        ("question 4821: where?\n\nOn Sunday Red Phone wrote:\n> ASK old", ParsedReply(Act.ASK, "4821", "where?")),
        ("Frage 4821 Wo?\nVon: Red Phone\nGesendet: heute", ParsedReply(Act.ASK, "4821", "Wo?")),
        ("Good morning,\n\nYES 4821\n\nAnna\n\nOn 15 Aug Red Phone wrote:\n> NO", ParsedReply(Act.YES, "4821")),
        ("> YES 4821", None),
        ("On 15 August Red Phone wrote:\n> reply with: YES 4821", None),
        ("", None),
        ("  \n\n ", None),
        ("no", None),
        ("4821 whatever this is", None),
        ("yesterday 4821", None),
        ("-- \nYES 4821", None),
        ("hello\nthere\nmy\nYES 4821", None),
    ],
)
def test_a_reply_says_what_its_writer_meant(text: str, expected: ParsedReply | None) -> None:
    """Words, codes, names and questions are found; quotations and signatures are not read; what is unclear is None."""
    assert parse_reply(text) == expected


@given(st.text())
@example("\ud800 YES 4821")
@example("٤" * 5000)
@example("²³ yes")
@example("yes " + "9" * 100)
def test_reading_a_reply_never_fails(text: str) -> None:
    """Any text is a reply or None, with a code of ASCII digits and a rest of bounded length."""
    parsed = parse_reply(text)
    if parsed is not None:
        assert parsed.code is None or (parsed.code.isascii() and parsed.code.isdecimal() and len(parsed.code) >= 4)
        assert len(parsed.rest) <= REST_CHARACTERS_MAX


@given(st.sampled_from(list(words())), st.from_regex(r"[0-9]{4}", fullmatch=True), st.text(max_size=50))
def test_a_word_and_its_code_are_found_whatever_quotation_follows(
    word: tuple[str, Act, str], code: str, quoted: str
) -> None:
    """The act and the code do not depend on what was quoted below."""
    parsed = parse_reply(f"{word[2]} {code}\n\n> " + quoted.replace("\n", "\n> "))
    assert parsed is not None
    assert (parsed.act, parsed.code) == (word[1], code)


def test_every_reply_that_messages_ask_for_is_understood() -> None:
    """What an SMS tells its reader to write parses, in every language."""
    for language in LANGUAGES:
        word = reply_word(Act.YES, language)
        assert f"{word} {CODE}" in told(page(languages=(language,))).short
        assert parse_reply(f"{word} {CODE}") == ParsedReply(Act.YES, CODE)

"""What an alert may say: defaults, limits, and every mistake named at once."""

from __future__ import annotations

import unicodedata
from datetime import UTC, datetime
from typing import Any

import pytest

from services.alerting import content as said
from services.alerting.content import Content, Network, Proposal, check_text
from shared.contracts import Area, Category, Certainty, Info, Precedence, Severity, Status, Tlp, Urgency
from shared.errors import FieldError, Invalid

PARTNERS = {"US": True, "GB": True, "DE": True, "CA": True, "BR": False}
NETWORK = Network(PARTNERS)
AFGHANISTAN = Area(description="Afghanistan", geocodes=(("iso3166-1-alpha-3", "AFG"),))


def block(**changes: Any) -> Info:
    """An English block about Kabul."""
    fields: dict[str, Any] = {"event": "Displacement crisis", "headline": "Kabul", "areas": (AFGHANISTAN,)}
    return Info(**{**fields, **changes})


def content(**changes: Any) -> Content:
    """The least content."""
    fields: dict[str, Any] = {"precedence": Precedence.FLASH, "info": (block(),), "to": ("US", "GB")}
    return Content(**{**fields, **changes})


def codes_of(wrong: Content) -> set[str]:
    """The codes of every mistake in it; fails if there is none."""
    with pytest.raises(Invalid) as refused:
        said.check(wrong, raiser="CA", network=NETWORK)
    return {error.code for error in refused.value.errors}


def test_least_proposal_gets_the_defaults() -> None:
    """Headline, countries, to and precedence are enough; the rest is what the network has agreed on."""
    made = said.compose(Proposal(headline="Kabul", countries=("af",), to=("US",), precedence=Precedence.FLASH))
    assert (made.status, made.tlp, made.expires_at, made.answers_visible) == (Status.ACTUAL, Tlp.AMBER, None, False)
    info = made.info[0]
    assert (info.event, info.categories, info.language) == ("Displacement crisis", (Category.OTHER,), "en")
    assert (info.severity, info.urgency, info.certainty) == (Severity.UNKNOWN, Urgency.UNKNOWN, Certainty.UNKNOWN)
    assert info.areas == (AFGHANISTAN,)
    assert made.countries == ("AFG",)
    said.check(made, raiser="CA", network=NETWORK)


@pytest.mark.parametrize("missing", ["headline", "to", "precedence"])
def test_missing_field_is_named(missing: str) -> None:
    """What is required is asked for by its name."""
    fields: dict[str, Any] = {"headline": "Kabul", "countries": ("AFG",), "to": ("US",), "precedence": Precedence.FLASH}
    del fields[missing]
    with pytest.raises(Invalid) as refused:
        said.compose(Proposal(**fields))
    assert [error.field for error in refused.value.errors] == [missing]


def test_info_and_short_fields_exclude_each_other() -> None:
    """Two headlines would contradict each other."""
    with pytest.raises(Invalid) as refused:
        said.compose(Proposal(headline="Kabul", info=(block(),), to=("US",), precedence=Precedence.FLASH))
    assert refused.value.code == "either_or"


def test_latest_block_decides_the_expiry() -> None:
    """An alert stands until its last language block ends."""
    late = datetime(2021, 9, 1, tzinfo=UTC)
    early = datetime(2021, 8, 30, tzinfo=UTC)
    blocks = (block(expires=early), block(language="fr", expires=late))
    made = said.compose(Proposal(info=blocks, to=("US",), precedence=Precedence.FLASH))
    assert made.expires_at == late
    assert {info.expires for info in made.info} == {None}


def changed(*areas: Area, **asked: Any) -> Content:
    """What a proposal makes of content in two languages that has these areas."""
    blocks = (block(areas=areas), block(language="fr", areas=areas))
    return said.compose(Proposal(**asked), base=content(info=blocks))


def test_countries_that_are_given_replace_those_before() -> None:
    """A wrong country is taken back by naming the right ones, in every language; one that stays keeps its area."""
    greater_kabul = Area(description="Greater Kabul", geocodes=(("iso3166-1-alpha-3", "AFG"),))
    made = changed(AFGHANISTAN, countries=("PAK",))
    assert made.countries == ("PAK",)
    assert [[area.description for area in info.areas] for info in made.info] == [["Pakistan"], ["Pakistan"]]
    kept = changed(greater_kabul, countries=("PAK", "AF"))
    assert [area.description for area in kept.info[0].areas] == ["Greater Kabul", "Pakistan"]
    assert changed(AFGHANISTAN, severity=None, note="x").countries == ("AFG",)


def test_no_countries_at_all_are_refused() -> None:
    """Who takes every country back is told that one is needed."""
    assert codes_of(changed(AFGHANISTAN, countries=())) == {"country_missing"}


@pytest.mark.parametrize(
    "area",
    [
        Area(
            description="Kabul airport",
            polygons=(((69.19, 34.55), (69.24, 34.55), (69.24, 34.58), (69.19, 34.55)),),
            geocodes=(("iso3166-1-alpha-3", "AFG"),),
        ),
        Area(description="Kabul", circles=((69.2, 34.5, 5.0),), geocodes=(("iso3166-1-alpha-3", "AFG"),)),
        Area(description="Kabul", geocodes=(("iso3166-1-alpha-3", "AFG"), ("un-locode", "AFKBL"))),
        Area(description="Border", geocodes=(("iso3166-1-alpha-3", "AFG"), ("iso3166-1-alpha-3", "PAK"))),
    ],
)
def test_country_of_an_area_that_says_more_is_not_dropped_silently(area: Area) -> None:
    """What is drawn in a country, or names more than it, cannot lose the country alone: the areas are to be given."""
    with pytest.raises(Invalid) as refused:
        changed(area, countries=("PAK",))
    (error,) = refused.value.errors
    assert (error.field, error.code) == ("countries", "country_of_area")
    assert "AFG" in error.detail
    assert changed(area, countries=("AFG", "PAK")).info[0].areas[0] == area


def test_countries_beside_areas_that_are_given_add_to_them() -> None:
    """Areas of the same request are meant: countries only name further ones."""
    made = said.compose(Proposal(countries=("PAK",), areas=(AFGHANISTAN,)), base=content())
    assert made.countries == ("AFG", "PAK")


@pytest.mark.parametrize("code", ["XX", "ZZZ", "", "Afghanistan", "A\x00"])
def test_unknown_country_is_refused(code: str) -> None:
    """Countries are ISO 3166-1 codes."""
    with pytest.raises(Invalid) as refused:
        said.compose(Proposal(headline="Kabul", countries=(code,), to=("US",), precedence=Precedence.FLASH))
    assert refused.value.errors[0].field == "countries[0]"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"to": ()}, "empty_audience"),
        ({"to": ("CA",)}, "raiser_addressed"),
        ({"to": ("US", "US")}, "duplicate"),
        ({"to": ("US",), "for_information": ("US",)}, "duplicate"),
        ({"to": ("FR",)}, "unknown_partner"),
        ({"to": ("BR",)}, "inactive_partner"),
        ({"status": Status.SYSTEM}, "status_not_allowed"),
        ({"status": Status.DRAFT}, "status_not_allowed"),
        ({"status": Status.EXERCISE}, "missing"),
        ({"note": "x" * 2001}, "too_long"),
        ({"note": "bell\x07"}, "control_characters"),
        ({"acknowledge_within_seconds": 601}, "out_of_range"),
        ({"acknowledge_within_seconds": 59}, "out_of_range"),
        ({"info": ()}, "too_many"),
        ({"info": (block(language="fr"),)}, "english_missing"),
        ({"info": (block(), block(language="EN"))}, "duplicate"),
        ({"info": (block(), block(language="fr", severity=Severity.EXTREME))}, "not_equal"),
        ({"info": (block(), block(language="fr", urgency=Urgency.IMMEDIATE))}, "not_equal"),
        ({"info": (block(), block(language="fr", certainty=Certainty.LIKELY))}, "not_equal"),
        ({"info": (block(language="english!"),)}, "invalid_language"),
        ({"info": (block(headline=" "),)}, "missing"),
        ({"info": (block(headline="two\nlines"),)}, "control_characters"),
        ({"info": (block(headline="x" * 161),)}, "too_long"),
        ({"info": (block(event=""),)}, "missing"),
        ({"info": (block(description="nul\x00"),)}, "control_characters"),
        ({"info": (block(areas=()),)}, "country_missing"),
        (
            {"info": (block(areas=(Area(description="x", geocodes=(("iso3166-1-alpha-3", "ZZZ"),)),)),)},
            "unknown_country",
        ),
        ({"info": (block(categories=()),)}, "invalid"),
        ({"info": (block(parameters=(("rdn:precedence", "FLASH"),)),)}, "reserved_parameter"),
        ({"info": (block(web="javascript:alert(1)"),)}, "invalid_web"),
        ({"info": (block(areas=(AFGHANISTAN, Area(description=""))),)}, "missing"),
        (
            {"info": (block(areas=(AFGHANISTAN, Area(description="x", polygons=(((0, 0), (1, 1), (0, 0)),)))),)},
            "open_polygon",
        ),
        ({"info": (block(areas=(AFGHANISTAN, Area(description="x", circles=((200, 0, 1),)))),)}, "out_of_range"),
        (
            {"info": (block(areas=(AFGHANISTAN, Area(description="x", circles=((0, float("nan"), 1),)))),)},
            "out_of_range",
        ),
        ({"info": (block(areas=(AFGHANISTAN, Area(description="x", circles=((0, 0, -1),)))),)}, "out_of_range"),
        ({"info": (block(areas=(AFGHANISTAN,) * 51),)}, "too_many"),
        ({"info": (block(parameters=(("a", "b"),) * 31),)}, "too_many"),
    ],
)
def test_mistake_is_named(changes: dict[str, Any], code: str) -> None:
    """Each broken rule is reported under its own code."""
    assert code in codes_of(content(**changes))


def test_every_mistake_is_reported_at_once() -> None:
    """Nobody corrects an alert one refusal at a time at three in the morning."""
    assert {"raiser_addressed", "unknown_partner", "missing", "control_characters"} <= codes_of(
        content(to=("CA", "FR"), status=Status.EXERCISE, info=(block(headline="\x07"),))
    )


@pytest.mark.parametrize("precedence", list(Precedence))
def test_word_limit_holds_at_flash_and_immediate(precedence: Precedence) -> None:
    """200 words per language pass, 201 do not, and only the two urgent precedences count."""
    exactly = block(headline="one two", description="word " * 190, instruction="word " * 8)
    over = block(headline="one two", description="word " * 190, instruction="word " * 9)
    said.check(content(precedence=precedence, info=(exactly,)), raiser="CA", network=NETWORK)
    if precedence in (Precedence.FLASH, Precedence.IMMEDIATE):
        assert codes_of(content(precedence=precedence, info=(over,))) == {"too_many_words"}
    else:
        said.check(content(precedence=precedence, info=(over,)), raiser="CA", network=NETWORK)


def test_text_without_spaces_does_not_slip_under_the_word_limit() -> None:
    """A wall of letters counts by its length."""
    assert codes_of(content(info=(block(description="x" * 2_500),))) == {"too_many_words"}


def test_texts_together_stay_below_what_a_webhook_carries() -> None:
    """Many long languages at ROUTINE are refused before they make a body of 20 kB."""
    blocks = tuple(block(language=name, description="word " * 1_500) for name in ("en", "fr", "es"))
    assert codes_of(content(precedence=Precedence.ROUTINE, info=blocks)) == {"too_long"}


@pytest.mark.parametrize("letter", ["ß", "喀", "\U0001f681"])
def test_texts_are_measured_in_bytes(letter: str) -> None:
    """What takes two, three or four bytes in UTF-8 counts as so many: the limit is kept to the letter."""

    def long(letters: int) -> Info:
        half = letters // 2
        return block(description=letter * (letters - half), instruction=letter * half)

    rest = len(long(0).model_dump_json().encode())
    fits = (said.INFO_BYTES_MAX - rest) // len(letter.encode())
    said.check(content(precedence=Precedence.ROUTINE, info=(long(fits),)), raiser="CA", network=NETWORK)
    with pytest.raises(Invalid, match=f"at most {said.INFO_BYTES_MAX} bytes") as refused:
        said.check(content(precedence=Precedence.ROUTINE, info=(long(fits + 1),)), raiser="CA", network=NETWORK)
    assert [error.field for error in refused.value.errors] == ["info"]


def test_more_recipients_than_the_limit_are_refused() -> None:
    """The audience is bounded."""
    assert "too_many" in codes_of(content(to=("US",) * 1_001))


@pytest.mark.parametrize(
    ("status", "headline", "shown"),
    [
        (Status.EXERCISE, "Kabul", "EXERCISE Kabul"),
        (Status.EXERCISE, "Exercise: Kabul", "Exercise: Kabul"),
        (Status.ACTUAL, "Kabul", "Kabul"),
    ],
)
def test_exercise_is_said_first(status: Status, headline: str, shown: str) -> None:
    """A drill can never be taken for the real thing."""
    assert said.shown_headline(status, headline) == shown


@pytest.mark.parametrize(("one_line", "allowed"), [(True, ""), (False, "\n\r\t")])
def test_control_characters_are_those_of_unicode(one_line: bool, allowed: str) -> None:
    """Of all characters exactly the controls and the lone halves are refused, but for lines and columns in a text."""
    refused = []
    for code in range(0x110000):
        errors: list[FieldError] = []
        check_text(chr(code), "note", 1, errors, one_line=one_line)
        refused += [code for _ in errors]
    controls = [code for code in range(0x110000) if unicodedata.category(chr(code)) in ("Cc", "Cs")]
    assert refused == [code for code in controls if chr(code) not in allowed]

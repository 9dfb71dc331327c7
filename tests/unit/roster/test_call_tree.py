from __future__ import annotations

import io
import re
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from uuid import UUID, uuid5

import pytest
from pypdf import PdfReader

from services.roster.call_tree import document, page, printing
from services.roster.call_tree.document import AHEAD, CallTree, OwnPart, PartnerSheet
from services.roster.domain import (
    Contact,
    ContactPoint,
    DutyOffice,
    EscalationPolicy,
    Level,
    Partner,
    PartnerState,
    Target,
    TargetKind,
)
from services.roster.schedule import Frequency, Layer, LayerId, Rota, Rotation
from shared.contracts import ChannelName, Standing
from shared.ids import ContactId, ContactPointId, OfficeId, PartnerCode, RotaId

NOW = datetime(2026, 11, 22, 12, 30, tzinfo=UTC)
_IDS = UUID("00000000-0000-5000-8000-000000000000")


def id_of(name: str) -> UUID:
    """An id by a name."""
    return uuid5(_IDS, name)


def contact(name: str, title: str, *numbers: str) -> Contact:
    """A person with telephones, of which the first takes messages as well, and an address that is none."""
    points = [
        ContactPoint(ContactPointId(id_of(f"{name}{place}{channel}")), channel, number)
        for place, number in enumerate(numbers)
        for channel in (ChannelName.SMS, ChannelName.VOICE)
    ]
    mail = ContactPoint(ContactPointId(id_of(f"{name}@")), ChannelName.EMAIL, "private@ca.example")
    return Contact(ContactId(id_of(name)), name, title, points=(*points, mail))


ANN = contact("Ann Example", "Duty officer", "+16135550101", "+16135550111")
BOB = contact("Bob Example", "Duty officer", "+16135550102")
CAT = contact("Cat Example", "Head of unit", "+16135550103")

OFFICE = DutyOffice(
    OfficeId(id_of("office")),
    "Watch Centre",
    "+16135550180",
    (("EG", "+16135550191"), ("AF", "+16135550190")),
    (ContactPoint(ContactPointId(id_of("desk")), ChannelName.VOICE, "+16135550181", "Duty desk"),),
)

ROTA = Rota(
    RotaId(id_of("rota")),
    "Duty officers",
    "America/Toronto",
    layers=(
        Layer(
            LayerId(id_of("layer")),
            "Daily",
            Rotation(Frequency.DAILY),
            (ANN.id, BOB.id),
            date(2026, 1, 5),
            time(8),
            deputies=(CAT.id,),
        ),
    ),
)

LEVELS = (
    Level((Target(TargetKind.ROTA, ROTA.id),)),
    Level((Target(TargetKind.ROTA, ROTA.id, deputy=True), Target(TargetKind.CONTACT, CAT.id))),
    Level((Target(TargetKind.OFFICE, OFFICE.id),)),
)


def state(name: str = "Canada", code: str = "CA", **changes: Any) -> PartnerState:
    """A partner with an office, three people, a rota and three levels."""
    partner = Partner(PartnerCode(code), name, Standing.MEMBER, "America/Toronto", ("en", "fr"))
    whole = PartnerState(partner, (OFFICE,), (ANN, BOB, CAT), (ROTA,), EscalationPolicy(LEVELS))
    return replace(whole, **changes)


def tree(*sheets: str, own: str | None = None) -> str:
    """A call tree of these parts, as JSON."""
    made = CallTree(
        made_at=NOW,
        valid_until=NOW + AHEAD,
        edition="CA" if own is not None else None,
        partners=[PartnerSheet.model_validate_json(sheet) for sheet in sheets],
        own=None if own is None else OwnPart.model_validate_json(own),
    )
    return made.model_dump_json()


def text_of(pdf: bytes) -> list[str]:
    """The text of each page."""
    return [one.extract_text() for one in PdfReader(io.BytesIO(pdf)).pages]


# --- what stands in it ------------------------------------------------------------------------------------------------


def test_the_sheet_of_a_partner_holds_no_person() -> None:
    """Others read offices, switchboard, embassies and roles: no name, no private number, no office's desk, no mail."""
    sheet, _ = document.parts_of(state(), NOW)
    assert not re.search("Ann|Bob|Cat |55501[01]|5550181|private|Duty desk", sheet)
    read = PartnerSheet.model_validate_json(sheet)
    assert [one.country_name for one in read.offices[0].embassies] == ["Afghanistan", "Egypt"]
    asked = [[(one.kind.value, one.deputy, one.titles) for one in level.ask_for] for level in read.levels]
    assert asked == [
        [("rota", False, ["Duty officer"])],
        [("rota", True, ["Head of unit"]), ("contact", False, ["Head of unit"])],
        [("office", False, [])],
    ]


def test_ones_own_people_have_names_and_numbers_in_the_order_of_their_turns() -> None:
    """Whoever is on duty first stands first; each number once; only telephones; the office's own numbers, too."""
    _, own = document.parts_of(state(), NOW)
    read = OwnPart.model_validate_json(own)
    first = read.levels[0].targets[0]
    (on_duty,) = [one for one in read.rotas[0].shifts if one.start_at <= NOW < one.end_at]
    assert first.people[0].name == on_duty.name
    assert {one.name: [each.number for each in one.numbers] for one in first.people} == {
        "Ann Example": ["+16135550101", "+16135550111"],
        "Bob Example": ["+16135550102"],
    }
    assert [one.name for one in read.levels[1].targets[0].people] == ["Cat Example"]
    office = read.levels[2].targets[0]
    assert [(one.number, one.label) for one in office.numbers] == [
        ("+16135550180", None),
        ("+16135550181", "Duty desk"),
    ]
    assert "private" not in own


def test_shifts_are_in_local_time_and_reach_a_fortnight() -> None:
    """From now until the horizon, in the rota's zone, with deputies; what reaches further says so."""
    _, own = document.parts_of(state(), NOW)
    (rota,) = OwnPart.model_validate_json(own).rotas
    assert (rota.shifts[0].start_at, rota.shifts[-1].end_at) == (NOW, NOW + AHEAD)
    assert (rota.shifts[0].from_local, rota.shifts[0].until_local) == ("now", "Sun 22 Nov 08:00")
    assert (rota.shifts[1].from_local, rota.shifts[-1].until_local) == ("Sun 22 Nov 08:00", "later")
    assert {one.deputy for one in rota.shifts} == {"Cat Example"}
    assert rota.gaps == []


def test_a_hole_is_told() -> None:
    """A rota that ends within the fortnight lists the time without anybody; one that is over has no titles."""
    ending = replace(ROTA, layers=(replace(ROTA.layers[0], ends_on=date(2026, 11, 30)),))
    _, own = document.parts_of(state(rotas=(ending,)), NOW)
    assert OwnPart.model_validate_json(own).rotas[0].gaps == ["Mon 30 Nov 08:00 – Sun 6 Dec 07:30"]
    over = replace(ROTA, layers=(replace(ROTA.layers[0], ends_on=date(2026, 2, 1)),))
    sheet, _ = document.parts_of(state(rotas=(over,)), NOW)
    assert PartnerSheet.model_validate_json(sheet).levels[0].ask_for[0].titles == []


# --- on paper ---------------------------------------------------------------------------------------------------------


def test_each_printed_page_is_marked_numbered_and_dated() -> None:
    """Handling label above and below, page of pages, when it was made and until when it is valid."""
    sheet, own = document.parts_of(state(), NOW)
    pages = text_of(printing.render(tree(sheet, own=own)))
    assert len(pages) == 3
    for number, text in enumerate(pages, start=1):
        assert text.count("TLP:AMBER") == 2
        assert f"{number} / {len(pages)}" in text
        assert "Made at 2026-11-22 12:30 UTC, valid until 2026-12-06 12:30 UTC" in text
    assert "How to use it" in pages[0]
    assert "Who answered" in pages[0]


def test_the_printed_tree_says_what_the_document_says() -> None:
    """Names and numbers of one's own on their pages, the others' switchboards and embassies on theirs."""
    sheet, own = document.parts_of(state(), NOW)
    pages = text_of(printing.render(tree(sheet, own=own)))
    for wanted in ("Ann Example", "+16135550101", "+16135550111", "Sun 22 Nov 08:00", "America/Toronto"):
        assert wanted in pages[1]
    for wanted in ("Watch Centre", "+16135550180", "Afghanistan", "+16135550190", "Head of unit"):
        assert wanted in pages[2]
    assert "Ann Example" not in pages[0] + pages[2]


def test_an_edition_without_people_prints() -> None:
    """The secretariat's edition has no pages of its own people."""
    sheet, _ = document.parts_of(state(), NOW)
    assert not any("Your own people" in text for text in text_of(printing.render(tree(sheet))))


@pytest.mark.parametrize(
    "name",
    ['#panic("x")', "$1$ *bold* _it_ `raw`", "= Heading @label <label>", "\\u{41} // /* ", '#read("/etc/passwd")'],
)
def test_what_partners_wrote_is_never_markup(name: str) -> None:
    """Whatever a name looks like to the typesetter, it stands on the page as it was written."""
    sheet, own = document.parts_of(state(name, contacts=(replace(ANN, name=name), BOB, CAT)), NOW)
    squeezed = [re.sub(r"\s", "", text) for text in text_of(printing.render(tree(sheet, own=own)))]
    wanted = re.sub(r"\s", "", name)
    assert all(wanted in text for text in squeezed)


@pytest.mark.parametrize(
    ("name", "printed"),
    [
        ("Łukasz Żółć-Müller", "Łukasz Żółć-Müller"),
        ("Иван Петров", "Иван Петров"),
        ("Αθηνά Παπαδοπούλου", "Αθηνά Παπαδοπούλου"),
        ("山田太郎", "Shan Tian Tai Lang"),
        ("김철수", "Gim Cheol Su"),
        ("አበበ", "'abebe"),
        ("Հայկ", "Hayk"),
        ("Nguye\u0302\u0303n", "Nguyễn"),
        ("O’Brien – “Desk” №4", "O’Brien – “Desk” №4"),
    ],
)
def test_no_name_vanishes(name: str, printed: str) -> None:
    """What the fonts have is printed as it is; letters of other scripts in their Latin form."""
    assert printing.printable(name) == printed
    sheet, own = document.parts_of(state(contacts=(replace(ANN, name=name), BOB, CAT)), NOW)
    assert printed in text_of(printing.render(tree(sheet, own=own)))[1]


@pytest.mark.parametrize("name", ["محمد علي", "דוד לוי", "สมชาย", "मोहन", "გიორგი"])
def test_scripts_that_the_fonts_have_keep_their_letters(name: str) -> None:
    """Arabic, Hebrew, Thai, Devanagari and Georgian are printed with glyphs of the fonts that come along."""
    assert printing.printable(name) == name
    sheet, own = document.parts_of(state(contacts=(replace(ANN, name=name), BOB, CAT)), NOW)
    fonts = fonts_of(printing.render(tree(sheet, own=own)))
    assert {font.partition("+")[2] for font in fonts} == {"FiraGO-Regular", "FiraGO-Bold"}


def fonts_of(pdf: bytes) -> set[str]:
    """The names of the fonts that the document embeds."""
    found: set[str] = set()
    for one in PdfReader(io.BytesIO(pdf)).pages:
        resources: Any = one["/Resources"]
        fonts: Any = resources["/Font"]
        found |= {str(fonts[name].get_object()["/BaseFont"]).lstrip("/") for name in fonts}
    return found


def test_two_hundred_governments_print() -> None:
    """The index leads to each of them, and the whole stays small enough to keep one for each government."""
    sheets = [
        document.parts_of(state(f"Government {number:03}", f"{chr(65 + number // 26)}{chr(65 + number % 26)}"), NOW)[0]
        for number in range(200)
    ]
    _, own = document.parts_of(state(), NOW)
    pdf = printing.render(tree(*sheets, own=own))
    pages = text_of(pdf)
    assert len(pdf) < 400_000
    for number in (0, 99, 199):
        row = re.search(rf"Government {number:03}\s+Watch Centre\s+\+16135550180\s+(\d+)", " ".join(pages[:9]))
        assert row is not None
        assert f"Government {number:03}" in pages[int(row[1]) - 1]


# --- as a page --------------------------------------------------------------------------------------------------------


def test_the_page_escapes_what_partners_wrote() -> None:
    """A name that looks like HTML is text; there is no script, and the policy names the only style there is."""
    name = '<script>alert("x")</script>'
    sheet, own = document.parts_of(state(name), NOW)
    html = page.page_of(tree(sheet, own=own), now=NOW)
    assert "<script" not in html
    assert "&lt;script&gt;" in html
    policy = page.HEADERS["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy


def test_the_page_has_both_forms_of_a_name() -> None:
    """Letters that a screen may lack stand beside their Latin form; a name that every screen shows stands alone."""
    people = (replace(ANN, name="山田太郎"), replace(BOB, name="Zoë Exemple"), CAT)
    sheet, own = document.parts_of(state(contacts=people), NOW)
    html = page.page_of(tree(sheet, own=own), now=NOW)
    assert "<strong>山田太郎 (Shan Tian Tai Lang)</strong>" in html
    assert "<strong>Zoë Exemple</strong>" in html


@pytest.mark.parametrize(
    ("age", "shown", "is_old"),
    [
        (timedelta(minutes=3), "3 min ago", False),
        (timedelta(hours=24, minutes=59), "24 h 59 min ago", False),
        (timedelta(hours=25, minutes=1), "25 h 01 min ago", True),
        (timedelta(days=3), "3 days ago", True),
    ],
)
def test_the_page_says_how_old_it_is(age: timedelta, shown: str, is_old: bool) -> None:
    """It is renewed daily: an older one says that it could not be."""
    sheet, own = document.parts_of(state(), NOW)
    html = page.page_of(tree(sheet, own=own), now=NOW + age)
    assert shown in html
    assert ("older than a day" in html) is is_old

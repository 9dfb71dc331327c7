"""Holidays: the partners' calendars against published lists, and what fills the gaps."""

from __future__ import annotations

import csv
from collections import defaultdict
from datetime import date
from pathlib import Path

import pytest

from shared import holiday_calendars

REPOSITORY = Path(__file__).resolve().parents[3]
REFERENCE = REPOSITORY.parent / "shared" / "data" / "countries" / "public-holidays-2025-2028.csv"
PARTNERS = ("US", "AU", "CA", "ES", "IT", "NZ", "GB", "DE", "BR", "EU")


def days(calendar: str, year: int) -> list[str]:
    """The holidays of a year as month and day."""
    return [f"{on:%m-%d}" for on in holiday_calendars.names(calendar, year)]


@pytest.mark.parametrize(
    ("year", "expected"),
    [
        (
            2014,
            (
                "01-01 01-02 04-17 04-18 04-21 05-01 05-09 05-29 05-30 06-09 07-21 08-15 "
                "12-24 12-25 12-26 12-29 12-30 12-31"
            ),
        ),
        (
            2017,
            (
                "01-02 04-13 04-14 04-17 05-01 05-09 05-25 05-26 06-05 07-21 08-15 11-01 11-02 "
                "12-25 12-26 12-27 12-28 12-29"
            ),
        ),
        (
            2020,
            "01-01 01-02 04-09 04-10 04-13 05-01 05-21 05-22 06-01 07-21 11-02 12-24 12-25 12-28 12-29 12-30 12-31",
        ),
        (
            2025,
            (
                "01-01 01-02 04-17 04-18 04-21 05-01 05-09 05-29 05-30 06-09 07-21 08-15 "
                "12-24 12-25 12-26 12-29 12-30 12-31"
            ),
        ),
    ],
)
def test_the_institutions_of_the_european_union_close_as_published(year: int, expected: str) -> None:
    """The rule gives exactly the days that the Commission listed: weekends are neither listed nor made up for."""
    assert days("EU", year) == expected.split()


def test_the_days_of_the_institutions_have_names() -> None:
    """Fixed days, days by Easter and stretches are named."""
    found = holiday_calendars.names("EU", 2026)
    assert found[date(2026, 4, 2)] == "Maundy Thursday"
    assert found[date(2026, 5, 15)] == "Day following Ascension Day"
    assert found[date(2026, 12, 30)] == "End-of-year days"


def test_the_federal_days_of_canada_are_there() -> None:
    """Canada's government closes on more days than those that all provinces keep, and regions stay what they are."""
    found = set(holiday_calendars.names("CA", 2026).values())
    assert {"Victoria Day", "National Day for Truth and Reconciliation", "Remembrance Day", "Canada Day"} <= found
    assert "Remembrance Day" not in holiday_calendars.names("CA-QC", 2026).values()
    assert date(2026, 6, 24) in holiday_calendars.names("CA-QC", 2026)


def test_carnival_and_corpus_christi_are_free_in_brazil() -> None:
    """What the federal administration of Brazil grants by ordinance is there beside the national holidays."""
    found = holiday_calendars.names("BR", 2026)
    assert found[date(2026, 2, 16)] == found[date(2026, 2, 17)] == "Carnival"
    assert found[date(2026, 6, 4)] == "Corpus Christi"
    assert date(2026, 9, 7) in found


@pytest.mark.parametrize("calendar", PARTNERS)
def test_every_partner_has_a_calendar_for_decades(calendar: str) -> None:
    """Each of the ten partners has at least five holidays in every year that duty is planned for, all of that year."""
    assert holiday_calendars.is_calendar(calendar)
    for year in range(2024, 2060):
        found = holiday_calendars.names(calendar, year)
        assert len(found) >= 5
        assert {on.year for on in found} == {year}
        assert all(found.values())
        assert list(found) == sorted(found)


@pytest.mark.parametrize("name", ["", "-", "QQ", "ca", "CA-", "CA-QQ", "EU-LU", "USA", "../x", "CA-QC-X", "CA QC"])
def test_an_unknown_calendar_is_known_to_be_unknown(name: str) -> None:
    """A name that is no calendar is refused and has no holidays, never an error."""
    assert not holiday_calendars.is_calendar(name)
    assert holiday_calendars.names(name, 2026) == {}


@pytest.mark.parametrize("name", ["CA", "CA-QC", "EU", "AU-ACT", "GB-ENG", "DE-BE", "ES-MD"])
def test_countries_regions_and_the_union_are_calendars(name: str) -> None:
    """Countries, regions and `EU` are known and have holidays."""
    assert holiday_calendars.is_calendar(name)
    assert holiday_calendars.names(name, 2026)


@pytest.mark.reference
@pytest.mark.skipif(not REFERENCE.exists(), reason="the reference data lies beside the repository and is not here")
def test_the_public_holidays_of_four_years_are_those_of_the_reference() -> None:
    """Each day of the reference is there; what is there beyond it are the days of the file, in Canada and Brazil."""
    expected: dict[tuple[str, int], set[date]] = defaultdict(set)
    with REFERENCE.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            on = date.fromisoformat(row["date"])
            expected[row["iso2"], on.year].add(on)
    assert len(expected) == 40
    for (country, year), listed in expected.items():
        found = set(holiday_calendars.names(country, year))
        assert listed <= found
        assert listed == found or country in ("CA", "BR")

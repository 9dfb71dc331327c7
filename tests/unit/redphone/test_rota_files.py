"""What of a rota's file, of its times and of its days the command understands before it asks anybody."""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from zoneinfo import ZoneInfo

import pytest

from redphone import rota_files
from redphone.exits import Exit, Failed
from redphone.rota import instant_of
from services.roster.schedule import hand_over_at


@pytest.mark.parametrize(
    ("text", "name"),
    [("layers = 5", "a.toml"), ("layers = true", "a.toml"), ('{"layers": 0}', "a.json"), ('{"layers": "x"}', "a.json")],
)
def test_layers_that_are_no_list_are_refused(text: str, name: str) -> None:
    """A sentence names the file and says how layers are written."""
    with pytest.raises(Failed) as refused:
        rota_files.read(text, name, ())
    assert refused.value.exit_code is Exit.USAGE
    assert name in str(refused.value)
    assert "[[layers]]" in str(refused.value)


def test_a_file_without_layers_is_for_the_api_to_check() -> None:
    """It says all that is wrong at once."""
    assert rota_files.read('name = "Duty"', "a.toml", ()) == {"name": "Duty"}


@pytest.mark.parametrize(
    ("zone", "on", "at"),
    [
        ("America/Toronto", date(2027, 3, 14), time(2, 30)),
        ("America/Toronto", date(2027, 3, 14), time(2)),
        ("America/Toronto", date(2027, 3, 14), time(1, 59)),
        ("America/Toronto", date(2027, 3, 14), time(3)),
        ("America/Toronto", date(2026, 11, 1), time(1, 30)),
        ("America/Toronto", date(2026, 7, 1), time(8)),
        ("Australia/Lord_Howe", date(2026, 10, 4), time(2, 15)),
        ("Pacific/Apia", date(2011, 12, 30), time(12)),
    ],
)
def test_a_local_time_means_what_it_means_in_the_rota(zone: str, on: date, at: time) -> None:
    """A time that the clocks jump over is the jump, one that is there twice the first, as at a hand-over."""
    said = instant_of(datetime.combine(on, at).isoformat(), ZoneInfo(zone))
    assert datetime.fromisoformat(said).astimezone(UTC) == hand_over_at(on, at, ZoneInfo(zone))


def test_an_instant_stays_what_it_is() -> None:
    """An offset says all; what is no time is refused with how to write one."""
    assert instant_of("2027-03-14T02:30:00+01:00", ZoneInfo("America/Toronto")) == "2027-03-14T02:30:00+01:00"
    for wrong in ("tomorrow", "9999-12-31T23:00"):
        with pytest.raises(Failed) as refused:
            instant_of(wrong, ZoneInfo("America/Toronto"))
        assert refused.value.exit_code is Exit.USAGE

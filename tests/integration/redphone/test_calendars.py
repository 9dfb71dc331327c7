"""`redphone rota import` and its like against roster itself, over a socket, with a real database behind it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from redphone.exits import Exit
from services.roster.domain import PartnerState
from services.roster.schedule import Rota
from tests.integration.redphone.test_rota import Run, rig, run
from tests.support.roster_rig import Rig

__all__ = ["rig", "run"]

ROTA = "Duty officers"


def said(result: Result) -> list[Any]:
    """The JSON lines of a command; the service beside it writes its log to the same place."""
    return [json.loads(line) for line in result.stdout.splitlines() if line.startswith("{")]


def rota_of(state: PartnerState) -> Rota:
    """The rota that is worked on."""
    return next(rota for rota in state.rotas if rota.name == ROTA)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A ministry's calendar: one shift for each of two people, one of them by initials, and a stranger's."""
    start = datetime(2026, 10, 22, 8, tzinfo=UTC)
    events = []
    for number, summary in enumerate(("Piquet – A. E.", "Piquet – Unknown Person")):
        begin = start + timedelta(days=number)
        times = f"DTSTART:{begin:%Y%m%dT%H%M%SZ}\r\nDURATION:PT12H"
        events.append(f"BEGIN:VEVENT\r\nUID:{number}\r\nSUMMARY:{summary}\r\n{times}\r\nEND:VEVENT")
    text = "\r\n".join(["BEGIN:VCALENDAR", *events, "END:VCALENDAR", ""])
    path = tmp_path / "ministry.ics"
    path.write_bytes(text.encode("cp1252"))
    return path


async def test_importing_and_mapping(rig: Rig, run: Run, file: Path) -> None:
    """The preview stores nothing; the import brings shifts; what is unmapped is told and can be mapped afterwards."""
    state = await rig.stored("CA")
    ann = state.contacts[0]
    seen = await run("rota", "import", ROTA, str(file), "--map", f"A. E.={ann.name}", "--dry-run")
    assert seen.exit_code == 0, seen.output
    assert "would bring 1 shifts" in seen.stdout
    assert "Not mapped: Piquet – Unknown Person" in seen.stdout
    assert "This would change in the next 14 days" in seen.stdout
    assert await rig.count("calendars") == 0
    made = await run("rota", "import", ROTA, str(file), "--map", f"A. E.={ann.id}", "--json")
    assert made.exit_code == 0, made.output
    assert (said(made)[-1]["name"], said(made)[-1]["shifts"]) == ("ministry", 1)
    assert [one.contact_id for one in rota_of(await rig.stored("CA")).imported] == [ann.id]
    mapped = await run("rota", "calendar", "map", ROTA, "1", "--map", f"Unknown Person={ann.name}")
    assert mapped.exit_code == 0, mapped.output
    assert "2 shifts; 0 events are nobody's" in mapped.stdout
    shown = await run("rota", "calendar", "show", ROTA, "ministry")
    assert f"A. E. = {ann.name}" in shown.stdout
    listed = await run("rota", "calendars")
    assert "ministry" in listed.stdout
    assert "up to date" in listed.stdout
    assert (await run("rota", "calendar", "refresh", ROTA, "1")).exit_code == 0
    removed = await run("rota", "calendar", "remove", ROTA, "1")
    assert removed.exit_code == 0, removed.output
    assert rota_of(await rig.stored("CA")).imported == ()


async def test_what_is_wrong_is_said(rig: Rig, run: Run, file: Path, tmp_path: Path) -> None:
    """Files that are not there, mappings that map nothing, names that fit nobody and addresses that are refused."""
    page = tmp_path / "page.ics"
    page.write_text("<html>Sign in</html>")
    for arguments, code in (
        (("rota", "import", ROTA, "nowhere.ics"), Exit.USAGE),
        (("rota", "import", ROTA, str(file), "--map", "nothing"), Exit.USAGE),
        (("rota", "import", ROTA, str(file), "--map", "A. E.=Nobody At All"), Exit.REFUSED),
        (("rota", "import", ROTA, str(page)), Exit.REFUSED),
        (("rota", "subscribe", ROTA, "http://127.0.0.1/x.ics"), Exit.REFUSED),
        (("rota", "calendar", "show", ROTA, "7"), Exit.REFUSED),
    ):
        result = await run(*arguments)
        assert result.exit_code == code, (arguments, result.output)


async def test_exporting(rig: Rig, run: Run) -> None:
    """A rota is written as a calendar and nothing else; a private address is made, listed and revoked."""
    written = await run("rota", "export", ROTA, "--days", "30")
    assert written.exit_code == 0, written.output
    assert "BEGIN:VCALENDAR" in written.stdout
    made = await run("rota", "calendar-link", "make", ROTA, "--json")
    assert made.exit_code == 0, made.output
    link = said(made)[-1]
    assert "/v1/calendars/" in link["url"]
    listed = await run("rota", "calendar-link", "list")
    assert link["id"] in listed.stdout
    assert link["url"] not in listed.stdout
    assert (await run("rota", "calendar-link", "revoke", link["id"])).exit_code == 0
    assert said(await run("rota", "calendar-link", "list", "--json")) == []

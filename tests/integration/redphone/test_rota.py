"""`redphone rota` and `redphone on-call` against roster itself, over a socket, with a real database behind it."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import uvicorn
from typer.testing import CliRunner, Result

from redphone import rota
from redphone.cli import app
from redphone.commands import Session
from redphone.counterparts.server import QuietServer
from redphone.exits import Exit
from services.roster.domain import PartnerState
from shared.contracts import Role
from tests.integration.roster.test_api import signed_in
from tests.support.cluster import Cluster
from tests.support.roster_rig import Rig, applied, roster_rig

Run = Callable[..., Coroutine[Any, Any, Result]]
SUMMER = """
name = "Summer"

[[layers]]
rotation = "weekly"
participants = ["{0}", "{1}"]
deputies = ["{1}"]
starts_on = 2026-10-05
hand_over_time = 08:00:00
"""


@pytest_asyncio.fixture
async def rig(cluster: Cluster) -> AsyncIterator[Rig]:
    """The service with the shipped network."""
    async with roster_rig(cluster, after=applied) as made:
        yield made


@pytest_asyncio.fixture
async def run(rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Run]:
    """Runs a command as Canada's roster manager, or with another token, beside the server."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        monkeypatch.setenv("REDPHONE_URL", f"http://127.0.0.1:{listening.getsockname()[1]}")
        monkeypatch.setenv("COLUMNS", "160")
        monkeypatch.delenv("REDPHONE_CLIENT_ID", raising=False)
        monkeypatch.chdir(tmp_path)
        own = (await signed_in(rig, "CA", Role.ROSTER_MANAGER))["Authorization"].removeprefix("Bearer ")

        async def invoke(*arguments: str, token: str = own) -> Result:
            monkeypatch.setenv("REDPHONE_TOKEN", token)
            return await asyncio.to_thread(CliRunner().invoke, app, list(arguments))

        server = QuietServer(uvicorn.Config(rig.application, log_config=None, lifespan="off", access_log=False))
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        try:
            yield invoke
        finally:
            server.end()
            await serving


def said(result: Result) -> list[Any]:
    """The JSON lines of a command; the service beside it writes its log to the same place."""
    return [json.loads(line) for line in result.output.splitlines() if line.startswith("{")]


async def names(rig: Rig) -> list[str]:
    """The names of Canada's people."""
    return [contact.name for contact in (await rig.stored("CA")).contacts]


async def test_weeks_are_drawn_with_everybody_and_every_hole(rig: Rig, run: Run) -> None:
    """Days by the rota's clock, a letter for each person in the legend, a hole marked, a holiday named."""
    state = await rig.stored("CA")
    first = state.rotas[0]
    added = await run(
        "rota", "override", "add", first.name, "nobody", "--from", "2026-10-22T10:00", "--to", "2026-10-22T12:00"
    )
    assert added.exit_code == 0, added.output
    shown = await run("rota", "show", "1", "--weeks", "4", "--from", "2026-10-20")
    assert shown.exit_code == 0, shown.output
    lines = shown.output.splitlines()
    day = next(line for line in lines if "Thu 22 Oct" in line)
    assert day.count("!") == 4
    assert sum(1 for line in lines if line[1:4] in ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")) == 28
    assert any("nobody Thu 22 Oct 10:00–12:00" in line for line in lines)
    assert any("clocks change" in line for line in lines if "Sun  1 Nov" in line)
    assert any("Remembrance Day" in line for line in lines if "Wed 11 Nov" in line) or first.holiday_calendar != "CA"
    holders = {contact.name for contact in state.contacts if contact.id in first.layers[0].participants}
    assert any(name in shown.output for name in holders)
    as_json = await run("rota", "show", "1", "--from", "2026-10-20", "--json")
    assert said(as_json)[0]["gaps"] == [{"start_at": "2026-10-22T14:00:00Z", "end_at": "2026-10-22T16:00:00Z"}]


async def test_a_dry_run_shows_what_would_change_and_writes_nothing(rig: Rig, run: Run, tmp_path: Path) -> None:
    """A replacement from a file, people by name: the table shows who would hold it; without --dry-run it is kept."""
    before = await rig.stored("CA")
    people = await names(rig)
    holder = people[-1]
    (tmp_path / "summer.toml").write_text(SUMMER.format(holder, people[0]), encoding="utf-8")
    command = [
        "rota", "replace", "add", "1", "summer.toml", "--from", "2026-10-21T08:00", "--to", "2026-10-23T08:00",
    ]  # fmt: skip
    tried = await run(*command, "--dry-run")
    assert tried.exit_code == 0, tried.output
    assert "This would change in the next 14 days" in tried.output
    assert people[0] in tried.output
    assert await rig.stored("CA") == before
    done = await run(*command)
    assert "The replacement Summer is added." in done.output
    [kept] = (await rig.stored("CA")).rotas[0].replacements
    assert (kept.name, kept.layers[0].name) == ("Summer", "layer 1")
    listed = await run("rota", "replace", "list", "1")
    assert "2026-10-21 08:00" in listed.output
    assert (await run("rota", "replace", "remove", "1", "summer")).exit_code == 0
    assert await rig.stored("CA") == before


async def test_a_rota_is_set_from_a_file(rig: Rig, run: Run, tmp_path: Path) -> None:
    """A file with a new name adds a rota, the same name replaces it, and JSON says the same as TOML."""
    people = await names(rig)
    text = SUMMER.format(people[0], people[1]) + 'restrictions = [{ from_time = "08:00", until_time = 18:00:00 }]\n'
    text = 'holiday_calendar = "CA-QC"\nextra_holidays = { 2026-10-21 = "Founding day" }\n' + text
    (tmp_path / "rota.toml").write_text(text, encoding="utf-8")
    assert "is added" in (await run("rota", "set", "rota.toml")).output

    def made(state: PartnerState) -> Any:
        return next(rota for rota in state.rotas if rota.name == "Summer")

    first = made(await rig.stored("CA"))
    assert (first.holiday_calendar, first.extra_holidays[0].name) == ("CA-QC", "Founding day")
    assert first.layers[0].restrictions[0].until_time.hour == 18
    body = {
        "name": "Summer",
        "holiday_calendar": "CA-QC",
        "extra_holidays": [{"on": "2026-10-21", "name": "Founding day"}],
        "layers": [
            {
                "id": str(first.layers[0].id), "name": "layer 1", "rotation": "weekly", "starts_on": "2026-10-05",
                "participants": [people[0], str(first.layers[0].participants[1])], "deputies": [people[1]],
                "hand_over_time": "08:00", "restrictions": [{"from_time": "08:00", "until_time": "18:00"}],
            }
        ],
    }  # fmt: skip
    (tmp_path / "rota.json").write_text(json.dumps(body), encoding="utf-8")
    again = await run("rota", "set", "rota.json", "--json")
    assert again.exit_code == 0, again.output
    assert made(await rig.stored("CA")) == first
    assert said(again)[0]["preview"]["changes"] == []
    unknown = await run("rota", "set", "rota.json", "--rota", "Winter")
    assert (unknown.exit_code, "redphone rota list" in unknown.output) == (Exit.REFUSED, True)


async def test_people_who_are_unknown_are_refused(rig: Rig, run: Run, tmp_path: Path) -> None:
    """A name that fits nobody or several people is refused with the names there are; so is a file that is none."""
    people = await names(rig)
    (tmp_path / "x.toml").write_text(SUMMER.format("Nobody Known", people[0]), encoding="utf-8")
    unknown = await run("rota", "set", "x.toml")
    assert (unknown.exit_code, people[0] in unknown.output) == (Exit.REFUSED, True)
    several = await run("rota", "override", "add", "1", "exemple", "--from", "2026-10-21", "--to", "2026-10-22")
    assert (several.exit_code, "several" in several.output) == (Exit.REFUSED, True)
    (tmp_path / "y.json").write_text("[", encoding="utf-8")
    assert (await run("rota", "set", "y.json")).exit_code == Exit.USAGE
    assert (await run("rota", "set", "missing.json")).exit_code == Exit.USAGE
    assert (await run("rota", "show", "--from", "yesterday")).exit_code == Exit.USAGE


async def test_overrides_are_listed_by_the_clock_of_the_rota(rig: Rig, run: Run) -> None:
    """What was added stands in the list with its deputy, and goes by its number."""
    first, second = (await names(rig))[:2]
    times = ["--from", "2026-10-24T08:00", "--to", "2026-10-24T20:00+00:00"]
    added = await run("rota", "override", "add", "1", first, *times, "--deputy", second)
    assert added.exit_code == 0, added.output
    listed = (await run("rota", "override", "list", "1")).output
    assert all(part in listed for part in (first, second, "2026-10-24 08:00", "2026-10-24 16:00"))
    assert (await run("rota", "override", "remove", "1", "1")).exit_code == 0
    assert "There are none." in (await run("rota", "override", "list", "1")).output


async def test_on_call_shows_deputies_at_an_instant(rig: Rig, run: Run) -> None:
    """Their own government reads the deputy's name; another one that there is a deputy."""
    first, second = (await names(rig))[:2]
    times = ["--from", "2026-10-24T08:00", "--to", "2026-10-24T20:00"]
    assert (await run("rota", "override", "add", "1", first, *times, "--deputy", second)).exit_code == 0
    own = await run("on-call", "CA", "--at", "2026-10-24T16:00:00Z")
    assert f"deputy {second}" in own.output
    foreign = (await signed_in(rig, "NZ", Role.ROSTER_MANAGER))["Authorization"].removeprefix("Bearer ")
    other = await run("on-call", "CA", "--at", "2026-10-24T16:00:00Z", token=foreign)
    assert "with a deputy" in other.output
    assert second not in other.output


async def test_fairness_lists_everybody(rig: Rig, run: Run) -> None:
    """Each rota's people with hours, nights, weekends and holidays of the days that were asked for."""
    shown = await run("rota", "fairness", "1", "--from", "2026-10-01", "--to", "2026-10-28")
    assert shown.exit_code == 0, shown.output
    state = await rig.stored("CA")
    for contact_id in state.rotas[0].layers[0].participants:
        assert next(contact.name for contact in state.contacts if contact.id == contact_id) in shown.output
    [view] = said(await run("rota", "fairness", "1", "--from", "2026-10-01", "--to", "2026-10-28", "--json"))
    assert sum(person["as_holder"]["hours"] for person in view["people"]) == 28 * 24


@pytest.mark.parametrize("days", [("--from", "2026-10-28", "--to", "2026-10-01"), ("--from", "2126-10-28")])
async def test_fairness_of_days_that_end_before_they_begin(run: Run, days: tuple[str, ...]) -> None:
    """Nothing is counted, and a sentence says why, instead of one day's numbers."""
    refused = await run("rota", "fairness", "1", *days)
    assert refused.exit_code == Exit.USAGE
    assert "Hours" not in refused.stdout
    assert "lies before the first one" in refused.stderr


async def test_rotas_are_listed(rig: Rig, run: Run) -> None:
    """Name, zone and layers of each; as JSON one object a line."""
    shown = await run("rota", "list")
    assert all(rota.name in shown.output for rota in (await rig.stored("CA")).rotas)
    listed = said(await run("rota", "list", "--json"))
    assert [one["name"] for one in listed] == [rota.name for rota in (await rig.stored("CA")).rotas]


async def test_what_somebody_else_has_changed_is_not_overwritten(
    rig: Rig, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An edit that has seen an older version ends with 1 and says why, as a dry run does; nothing is written."""
    before = await rig.stored("CA")
    newest = rota.roster_of

    async def earlier(session: Session) -> rota.Roster:
        return replace(await newest(session), etag='"0"')

    monkeypatch.setattr(rota, "roster_of", earlier)
    command = ["rota", "override", "add", "1", "nobody", "--from", "2026-10-24T08:00", "--to", "2026-10-24T20:00"]
    for arguments in (command, [*command, "--dry-run"]):
        refused = await run(*arguments)
        assert (refused.exit_code, "precondition_failed" in refused.output) == (Exit.REFUSED, True)
    assert await rig.stored("CA") == before

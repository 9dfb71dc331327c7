"""`redphone rota import` and what belongs to it: calendars that are imported into rotas, and rotas as calendars.

Its commands stand beside those of `redphone rota`. What is imported is shown before it is stored: with `--dry-run`
nothing else happens.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from redphone.client import segment
from redphone.commands import Session, calls
from redphone.exits import Exit, Failed
from redphone.output import instant, plain
from redphone.rota import DryRunOption, Roster, RotaArgument, roster_of, show_preview

EXPORT_DAYS = 90
EXPORT_DAYS_MAX = 366
FETCH_SECONDS = 30.0
"""A subscription is fetched and read before it is answered."""

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
calendar_app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Calendars that are imported into a rota: map, refresh, remove."
)
link_app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Private addresses under which calendar programs read shifts."
)
app.add_typer(calendar_app, name="calendar")
app.add_typer(link_app, name="calendar-link")

MapOption = Annotated[
    list[str] | None,
    typer.Option("--map", metavar="TEXT=CONTACT", help="What a part of a summary, or an address, means; repeatable."),
]
NameOption = Annotated[str | None, typer.Option("--name", help="What you call the calendar.", metavar="TEXT")]
CalendarArgument = Annotated[
    str, typer.Argument(metavar="CALENDAR", help="Its number in redphone rota calendars, its name, or its id.")
]


# --- importing --------------------------------------------------------------------------------------------------------


@app.command("import")
@calls
async def import_file(
    session: Session,
    rota: RotaArgument,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="An iCalendar file (.ics).")],
    *,
    mapping: MapOption = None,
    name: NameOption = None,
    dry_run: DryRunOption = False,
) -> None:
    """Takes shifts over from a file of your ministry's calendar, and shows what could not be read or mapped.

    For example:

        redphone rota import duty duty.ics --map "Ann E.=Ann Example" --dry-run --as ca-roster-manager
    """
    roster = await roster_of(session)
    body = {"name": name or file.stem[:100], "text": _text_of(file), "mapping": _rules(roster, mapping)}
    await _add(session, roster, rota, body, dry_run=dry_run)


@app.command()
@calls
async def subscribe(
    session: Session,
    rota: RotaArgument,
    address: Annotated[str, typer.Argument(metavar="URL", help="https, or webcal as calendar programs show it.")],
    *,
    mapping: MapOption = None,
    name: NameOption = None,
    dry_run: DryRunOption = False,
) -> None:
    """Takes shifts over from an address of your ministry's calendar, which is fetched every hour from then on.

    For example:

        redphone rota subscribe duty https://calendar.ministry.example/duty.ics --dry-run --as ca-roster-manager
    """
    roster = await roster_of(session)
    body = {"name": name or "Subscription", "url": address, "mapping": _rules(roster, mapping)}
    await _add(session, roster, rota, body, dry_run=dry_run)


@app.command()
@calls
async def calendars(session: Session) -> None:
    """Lists the calendars that are imported into your rotas, and how each fares.

    For example:

        redphone rota calendars --as ca-roster-manager
    """
    roster = await roster_of(session)
    now = session.clock.now()
    listed = [(rota, one) for rota in roster.rotas for one in await _calendars_of(session, roster, rota)]
    rows = []
    for rota, one in listed:
        number = [other["id"] for owner, other in listed if owner["id"] == rota["id"]].index(one["id"]) + 1
        rows.append(
            (
                plain(rota["name"]),
                str(number),
                plain(one["name"]),
                plain(one["url"] or "file"),
                str(one["shifts"]),
                str(one["unmapped_count"]),
                instant(one["fetched_at"] or one["read_at"], now=now),
                _state(one, instant(one["failing_since"], now=now)),
            )
        )
    columns = ["Rota", "", "Calendar", "From", "Shifts", "Unmapped", "Last read", "State"]
    session.output.table(columns, rows, items=[one for _, one in listed], empty="No calendar is imported.")


@calendar_app.command("show")
@calls
async def show_calendar(session: Session, rota: RotaArgument, calendar: CalendarArgument) -> None:
    """Shows one calendar with its mapping, and all that could not be read or mapped.

    For example:

        redphone rota calendar show duty 1 --as ca-roster-manager
    """
    roster = await roster_of(session)
    _, found = await _calendar(session, roster, rota, calendar)
    if session.output.as_json:
        session.output.json(found)
    else:
        _show(session, roster, found)


@calendar_app.command("map")
@calls
async def map_calendar(
    session: Session,
    rota: RotaArgument,
    calendar: CalendarArgument,
    *,
    mapping: MapOption = None,
    clear: Annotated[bool, typer.Option("--clear", help="Forget the mapping that there is first.")] = False,
    dry_run: DryRunOption = False,
) -> None:
    """Adds to what texts in a calendar mean, and maps again what was last read.

    For example:

        redphone rota calendar map duty 1 --map "Ann E.=Ann Example" --as ca-roster-manager
    """
    roster = await roster_of(session)
    path, found = await _calendar(session, roster, rota, calendar)
    added = _rules(roster, mapping)
    new = {rule["match"].casefold() for rule in added}
    kept = [] if clear else [rule for rule in found["mapping"] if rule["match"].casefold() not in new]
    query = "?dry_run=true" if dry_run else ""
    done = await session.client.put(f"{path}{query}", {"mapping": [*kept, *added]}, etag=_etag(found))
    _done(session, roster, done, "is mapped again", dry_run=dry_run)


@calendar_app.command("refresh")
@calls
async def refresh_calendar(session: Session, rota: RotaArgument, calendar: CalendarArgument) -> None:
    """Fetches a subscription now, or reads a file again.

    For example:

        redphone rota calendar refresh duty 1 --as ca-roster-manager
    """
    roster = await roster_of(session)
    path, _ = await _calendar(session, roster, rota, calendar)
    done = await session.client.post(f"{path}/refresh", timeout_seconds=FETCH_SECONDS)
    if done["failing_since"] is not None:
        raise Failed(
            f"The calendar {done['name']} could not be read; its last shifts stay.",
            details=[f"{done['reason']}: {done['detail']}"],
            exit_code=Exit.REFUSED,
            code=str(done["reason"]),
        )
    _done(session, roster, done, "is up to date", dry_run=False)


@calendar_app.command("remove")
@calls
async def remove_calendar(
    session: Session, rota: RotaArgument, calendar: CalendarArgument, *, dry_run: DryRunOption = False
) -> None:
    """Removes a calendar with every shift that it brought.

    For example:

        redphone rota calendar remove duty 1 --as ca-roster-manager
    """
    roster = await roster_of(session)
    path, found = await _calendar(session, roster, rota, calendar)
    query = "?dry_run=true" if dry_run else ""
    done = await session.client.delete(f"{path}{query}", etag=_etag(found))
    if dry_run and not session.output.as_json:
        show_preview(session, roster, done["preview"], dry_run=True)
    else:
        session.output.say(f"The calendar {plain(found['name'])} is removed, with its shifts.", **done)


# --- exporting --------------------------------------------------------------------------------------------------------


@app.command()
@calls
async def export(
    session: Session,
    rota: Annotated[
        str | None, typer.Argument(metavar="[ROTA]", help="One rota; by default all.", show_default=False)
    ] = None,
    *,
    me: Annotated[bool, typer.Option("--me", help="Only your own shifts.")] = False,
    days: Annotated[int, typer.Option("--days", min=1, max=EXPORT_DAYS_MAX, help="How far ahead.")] = EXPORT_DAYS,
) -> None:
    """Writes shifts as an iCalendar file to standard output.

    For example:

        redphone rota export --me > shifts.ics
    """
    code = await session.client.own_partner()
    now = session.clock.now().replace(minute=0, second=0, microsecond=0)
    query = {"from": now.isoformat(), "to": (now + timedelta(days=days)).isoformat()}
    if rota is not None:
        query["rota"] = str((await roster_of(session)).rota(rota)["id"])
    if me:
        query["contact"] = str((await session.client.get("/v1/me/contact-points"))["contact_id"])
    answer = await session.client.get_raw(f"/v1/partners/{segment(code)}/shifts.ics", accept="text/calendar", **query)
    if session.output.as_json:
        session.output.json({"calendar": answer.text})
        return
    sys.stdout.write(answer.text)
    sys.stdout.flush()


@link_app.command("make")
@calls
async def make_link(
    session: Session,
    rota: Annotated[
        str | None,
        typer.Argument(metavar="[ROTA]", help="A whole rota, for roster managers.", show_default=False),
    ] = None,
    *,
    contact: Annotated[
        str | None, typer.Option("--contact", help="Somebody's shifts, for roster managers.", metavar="CONTACT")
    ] = None,
) -> None:
    """Makes a private address of your own shifts, to subscribe to in a calendar program. It is shown this once.

    Whoever knows the address reads those shifts; revoke it when it has gone astray.

    For example:

        redphone rota calendar-link make --as ca-duty-officer
    """
    body: dict[str, str] = {}
    if rota is not None or contact is not None:
        roster = await roster_of(session)
        code = roster.code
        if rota is not None:
            body["rota_id"] = str(roster.rota(rota)["id"])
        if contact is not None:
            body["contact_id"] = _contact_id(roster, contact)
    else:
        code = await session.client.own_partner()
    made = await session.client.post(f"/v1/partners/{segment(code)}/calendar-links", body)
    session.output.say(f"Subscribe to this address; it is not shown again:\n{made['url']}", **made)


@link_app.command("list")
@calls
async def list_links(session: Session) -> None:
    """Lists your private addresses; for roster managers all of your government's.

    For example:

        redphone rota calendar-link list --as ca-duty-officer
    """
    now = session.clock.now()
    links = (await session.client.get("/v1/calendar-links"))["items"]
    rows = [
        (
            str(one["id"]),
            "a rota" if one["rota_id"] else "",
            "one person's shifts" if one["contact_id"] else "",
            plain(one["made_by"]),
            instant(one["made_at"], now=now),
            instant(one["used_at"], now=now),
        )
        for one in links
    ]
    columns = ["Id", "Shows", "", "Made by", "Made", "Last read"]
    session.output.table(columns, rows, items=links, empty="There are no private addresses.")


@link_app.command("revoke")
@calls
async def revoke_link(
    session: Session, link: Annotated[str, typer.Argument(metavar="ID", help="Its id in the list.")]
) -> None:
    """Ends a private address for ever.

    For example:

        redphone rota calendar-link revoke 01941f29-7c00-7000-8000-0000000000aa --as ca-duty-officer
    """
    done = await session.client.delete(f"/v1/calendar-links/{segment(link)}", etag="*")
    session.output.say("The private address is revoked.", **done)


# --- parts ------------------------------------------------------------------------------------------------------------


async def _add(session: Session, roster: Roster, rota: str, body: Mapping[str, Any], *, dry_run: bool) -> None:
    path = f"{roster.rota_path(roster.rota(rota))}/calendars"
    if dry_run:
        done = await session.client.post(f"{path}?dry_run=true", body, timeout_seconds=FETCH_SECONDS)
    else:
        key = session.client.new_key()
        done = await session.client.post(path, body, key=key, timeout_seconds=FETCH_SECONDS)
    _done(session, roster, done, "is imported", dry_run=dry_run)


def _done(session: Session, roster: Roster, calendar: Mapping[str, Any], what: str, *, dry_run: bool) -> None:
    name, shifts, lost = plain(calendar["name"]), calendar["shifts"], calendar["unmapped_count"]
    if dry_run:
        session.output.say(f"The calendar {name} would bring {shifts} shifts; {lost} events are nobody's.", **calendar)
    else:
        session.output.say(f"The calendar {name} {what}: {shifts} shifts; {lost} events are nobody's.", **calendar)
    if session.output.as_json:
        return
    _show_findings(session, calendar)
    if calendar.get("preview") is not None:
        show_preview(session, roster, calendar["preview"], dry_run=True)


def _show(session: Session, roster: Roster, calendar: Mapping[str, Any]) -> None:
    state = _state(calendar, instant(calendar["failing_since"], now=session.clock.now()))
    session.output.show(Text.assemble(plain(calendar["name"]), ": ", state))
    for rule in calendar["mapping"]:
        session.output.show(Text(f"{plain(rule['match'])} = {plain(roster.name_of(rule['contact_id']))}"))
    _show_findings(session, calendar)


def _show_findings(session: Session, calendar: Mapping[str, Any]) -> None:
    for one in calendar["unmapped"]:
        why = _REASONS.get(one["reason"], one["reason"])
        said = plain(one["summary"] or ", ".join(one["people"]) or "an event without a text")
        line = f"Not mapped: {said} (line {one['line']}, {one['count']} times): {why}."
        session.output.show(Text(line, style="yellow"))
    for text in calendar["stray_mapping"]:
        session.output.show(Text(f"Mapped to somebody who is gone: {plain(text)}", style="yellow"))
    for fault in calendar["faults"]:
        session.output.show(Text(f"Line {fault['line']}: {plain(fault['detail'])}", style="yellow"))
    if calendar["faults_omitted"]:
        session.output.show(Text(f"and {calendar['faults_omitted']} more such lines", style="dim"))
    for code, sentence in _NOTES.items():
        if count := calendar["notes"].get(code):
            session.output.show(Text(f"{count} {sentence}", style="dim"))


_REASONS = {
    "unknown_person": "names nobody that we know",
    "ambiguous": "names two people, or begins together with somebody else's",
}
"""Why an event is nobody's."""
_NOTES = {
    "floating": "events name no time zone; they are read in the rota's",
    "all_day": "events last whole days; they begin at midnight by the rota's clock",
    "free": "events are marked as free time, and used all the same",
    "cancelled": "events are cancelled",
    "duplicate": "events stand there twice",
}


def _state(calendar: Mapping[str, Any], since: str) -> Text:
    if calendar["failing_since"] is None:
        return Text("up to date", style="green")
    return Text(f"fails since {since}: {plain(calendar['detail'] or calendar['reason'])}", style="red")


async def _calendars_of(session: Session, roster: Roster, rota: Mapping[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await session.client.get(f"{roster.rota_path(rota)}/calendars"))["items"]
    return found


async def _calendar(session: Session, roster: Roster, rota: str, wanted: str) -> tuple[str, dict[str, Any]]:
    """The path and the view of a calendar by its number, name or id."""
    owner = roster.rota(rota)
    found = await _calendars_of(session, roster, owner)
    fitting = [
        one
        for number, one in enumerate(found, start=1)
        if wanted in (str(number), one["id"]) or wanted.casefold() == str(one["name"]).casefold()
    ]
    if len(fitting) != 1:
        raise Failed(
            f"{'No' if not fitting else 'More than one'} calendar of this rota is {plain(wanted)}.",
            details=["redphone rota calendars shows them with their numbers."],
            exit_code=Exit.REFUSED,
            code="not_found",
        )
    return f"{roster.rota_path(owner)}/calendars/{segment(str(fitting[0]['id']))}", fitting[0]


def _etag(calendar: Mapping[str, Any]) -> str:
    return f'"{calendar["version"]}"'


def _rules(roster: Roster, given: Sequence[str] | None) -> list[dict[str, str]]:
    rules = []
    for one in given or ():
        text, equals, contact = one.rpartition("=")
        if not equals or not text.strip() or not contact.strip():
            raise Failed(f"{plain(one)} maps nothing; write TEXT=CONTACT.", exit_code=Exit.USAGE)
        rules.append({"match": text.strip(), "contact_id": _contact_id(roster, contact.strip())})
    return rules


def _contact_id(roster: Roster, wanted: str) -> str:
    """The id of a contact: given itself, or by the name, or by a part of it that only one has."""
    known = {str(one["id"]): str(one["name"]).casefold() for one in roster.contacts}
    if wanted in known:
        return wanted
    whole = [one for one, name in known.items() if name == wanted.casefold()]
    fitting = whole or [one for one, name in known.items() if wanted.casefold() in name]
    if len(fitting) == 1:
        return fitting[0]
    raise Failed(
        f"{'Nobody' if not fitting else 'More than one person'} of yours is called {plain(wanted)}.",
        details=[", ".join(sorted(str(one["name"]) for one in roster.contacts))],
        exit_code=Exit.REFUSED,
        code="not_found",
    )


def _text_of(file: Path) -> str:
    """The text of a calendar file, whatever program wrote it."""
    try:
        raw = file.read_bytes()
    except OSError as error:
        raise Failed(f"{file} cannot be read: {error.strerror}.", exit_code=Exit.USAGE) from None
    encodings = ("utf-16",) if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else ("utf-8-sig", "cp1252")
    for encoding in encodings:
        try:
            return raw.decode(encoding)
        except UnicodeDecodeError:
            continue
    raise Failed(f"{file} is no text, and so no calendar.", exit_code=Exit.USAGE)

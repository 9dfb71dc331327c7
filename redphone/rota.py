"""`redphone rota`: your government's rotas as charts of weeks, edits with a preview, and what they ask of whom.

Every edit names the version that it has seen, so that two people never overwrite each other; with `--dry-run` it only
says what it would do to the coming 14 days.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Annotated, Any
from zoneinfo import ZoneInfo

import typer
from rich.text import Text

from redphone import rota_chart, rota_files
from redphone.client import segment
from redphone.commands import Session, calls
from redphone.exits import Exit, Failed
from redphone.output import clean, plain

WEEKS_MAX = 26
FAIRNESS_DAYS = 84
"""Looked back over unless something else is asked for: twelve weeks."""
NOBODY = "nobody"
_MINUTE = timedelta(minutes=1)

app = typer.Typer(
    name="rota",
    help="Your rotas: who is on duty when, changes with a preview, and what they ask of whom.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
override_app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Somebody else, or nobody, for a time: lies over everything."
)
replace_app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Other layers for a time: a summer, a conference, a move."
)
app.add_typer(override_app, name="override")
app.add_typer(replace_app, name="replace")

RotaArgument = Annotated[
    str, typer.Argument(metavar="ROTA", help="Its number in redphone rota list, its name, or its id.")
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Only show what it would change in the next 14 days.")]
FromOption = Annotated[
    str, typer.Option("--from", metavar="TIME", help="2026-12-24T08:00 by the rota's clock, or with Z or an offset.")
]
ToOption = Annotated[str, typer.Option("--to", metavar="TIME", help="When it ends, likewise.")]


@dataclass(frozen=True)
class Roster:
    """The caller's own partner: what it owns, and the version of it that was seen."""

    code: str
    rotas: Sequence[Mapping[str, Any]]
    contacts: Sequence[Mapping[str, Any]]
    etag: str

    @property
    def path(self) -> str:
        """Where all of it is."""
        return f"/v1/partners/{segment(self.code)}"

    def name_of(self, contact_id: str | None) -> str:
        """A person's name, or that there is nobody."""
        if contact_id is None:
            return NOBODY
        return next((str(one["name"]) for one in self.contacts if one["id"] == contact_id), contact_id)

    def rota(self, wanted: str) -> Mapping[str, Any]:
        """The rota of a number in the list, a name or an id."""
        return _one(wanted, self.rotas, "rota", "redphone rota list")

    def rota_path(self, rota: Mapping[str, Any]) -> str:
        """Where one rota is."""
        return f"{self.path}/rotas/{segment(str(rota['id']))}"


async def roster_of(session: Session) -> Roster:
    """The caller's own rotas and people. The ETag is that of the rotas, read first: a later change is noticed."""
    code = await session.client.own_partner()
    answer = await session.client.get_raw(f"/v1/partners/{segment(code)}/rotas")
    contacts = await session.client.get(f"/v1/partners/{segment(code)}/contacts")
    return Roster(code, answer.json()["items"], contacts["items"], answer.headers["ETag"])


# --- looking ----------------------------------------------------------------------------------------------------------


@app.command("list")
@calls
async def list_rotas(session: Session) -> None:
    """Lists your rotas with their layers, and what lies over them.

    For example:

        redphone rota list --as ca-duty-officer
    """
    roster = await roster_of(session)
    rows = [
        (
            str(number),
            plain(rota["name"]),
            str(rota["time_zone"]),
            "\n".join(_layer_text(layer) for layer in rota["layers"]) or "–",
            str(len(rota["overrides"])),
            str(len(rota.get("replacements", ()))),
            str(rota.get("imported", 0)),
            str(rota.get("holiday_calendar") or "–"),
            "signed" if rota.get("signs_hand_over") else "–",
        )
        for number, rota in enumerate(roster.rotas, start=1)
    ]
    columns = ["", "Rota", "Zone", "Layers", "Overrides", "Replaced", "Imported", "Holidays", "Hand-over"]
    session.output.table(columns, rows, items=roster.rotas, empty="You have no rotas.")


@app.command()
@calls
async def show(
    session: Session,
    rota: Annotated[
        str | None, typer.Argument(metavar="[ROTA]", help="One rota; by default all.", show_default=False)
    ] = None,
    *,
    weeks: Annotated[int, typer.Option("--weeks", min=1, max=WEEKS_MAX, help="How many weeks.")] = 2,
    from_on: Annotated[
        str | None, typer.Option("--from", metavar="DATE", help="A day of the first week; by default today.")
    ] = None,
) -> None:
    """Draws the weeks: a line a day, 24 hours by the rota's clock, a letter for each person, ! where nobody is on duty.

    Behind a day stand its deputies (+B), and holidays by name.

    For example:

        redphone rota show duty --weeks 4 --as ca-duty-officer
    """
    roster = await roster_of(session)
    chosen = [roster.rota(rota)] if rota is not None else list(roster.rotas)
    now = session.clock.now()
    for place, one in enumerate(chosen):
        zone = ZoneInfo(str(one["time_zone"]))
        today = now.astimezone(zone).date()
        day = _date(from_on) if from_on is not None else today
        monday, days = day - timedelta(days=day.weekday()), 7 * weeks
        shown = await _shifts(session, roster, one, rota_chart.window(zone, monday, days))
        if session.output.as_json:
            session.output.json(shown)
            continue
        if place:
            session.output.show(Text(""))
        for line in _fitting(shown, monday, days, today=today, width=session.output.console.width):
            session.output.console.print(line, no_wrap=True, crop=False, soft_wrap=True)


@app.command()
@calls
async def fairness(
    session: Session,
    rota: Annotated[
        str | None, typer.Argument(metavar="[ROTA]", help="One rota; by default all.", show_default=False)
    ] = None,
    *,
    from_on: Annotated[
        str | None, typer.Option("--from", metavar="DATE", help="The first day; by default twelve weeks ago.")
    ] = None,
    to_on: Annotated[str | None, typer.Option("--to", metavar="DATE", help="The last day; by default today.")] = None,
) -> None:
    """Counts hours, nights, weekend days and holidays of each person, as holder and as deputy.

    For example:

        redphone rota fairness duty --from 2026-01-01 --to 2026-12-31 --as ca-roster-manager
    """
    roster = await roster_of(session)
    chosen = [roster.rota(rota)] if rota is not None else list(roster.rotas)
    found = []
    for one in chosen:
        zone = ZoneInfo(str(one["time_zone"]))
        last = _date(to_on) if to_on is not None else session.clock.now().astimezone(zone).date()
        first = _date(from_on) if from_on is not None else last - timedelta(days=FAIRNESS_DAYS - 1)
        if last < first:
            what = (
                f"The last day, {last}, lies before the first one, {first}; give --from and --to the other way round."
            )
            raise Failed(what, exit_code=Exit.USAGE)
        from_at, to_at = rota_chart.window(zone, first, (last - first).days + 1)
        path = f"{roster.rota_path(one)}/fairness"
        asked = {"from": from_at.isoformat(), "to": to_at.isoformat()}
        found.append(await session.client.get(path, **asked))
    rows = [
        (
            plain(view["rota"]) if place == 0 else "",
            plain(person["name"]),
            *_load(person["as_holder"]),
            *_load(person["as_deputy"]),
        )
        for view in found
        for place, person in enumerate(view["people"])
    ]
    columns = ["Rota", "Person", "Hours", "Nights", "Weekend", "Holidays", "As deputy", "Nights", "Weekend", "Holidays"]
    session.output.table(columns, rows, items=found, empty="You have no rotas.")


# --- a rota from a file -----------------------------------------------------------------------------------------------


@app.command("set")
@calls
async def set_rota(
    session: Session,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A rota as .json or .toml.", show_default=False)],
    *,
    rota: Annotated[
        str | None,
        typer.Option("--rota", metavar="ROTA", help="Which one it takes the place of; by default that of its name."),
    ] = None,
    dry_run: DryRunOption = False,
) -> None:
    """Puts a rota from a file in the place of the one that has its name, or adds it; shows what that changes.

    JSON is what the API takes; TOML is what stands under a rota of a network file. People are given by name or id.
    Overrides, replacements and what came from calendars stay.

    For example:

        redphone rota set duty.toml --dry-run --as ca-roster-manager
    """
    roster = await roster_of(session)
    body = rota_files.read(_text_of(file), file.name, roster.contacts)
    same = [one for one in roster.rotas if str(one["name"]).casefold() == str(body.get("name", "")).casefold()]
    old = roster.rota(rota) if rota is not None else same[0] if len(same) == 1 else None
    if rota is None and len(same) > 1:
        raise Failed("Several of your rotas have this name; say which: --rota.", exit_code=Exit.USAGE)
    body.pop("id", None)
    await _write(
        session,
        roster,
        Edit("PUT", roster.rota_path(old), body) if old is not None else Edit("POST", f"{roster.path}/rotas", body),
        f"The rota {body.get('name', '')} is {'replaced' if old is not None else 'added'}.",
        dry_run=dry_run,
    )


# --- overrides --------------------------------------------------------------------------------------------------------


@override_app.command("list")
@calls
async def list_overrides(session: Session, rota: RotaArgument) -> None:
    """Lists the overrides of a rota; of two that overlap the last one holds.

    For example:

        redphone rota override list duty --as ca-duty-officer
    """
    roster = await roster_of(session)
    one = roster.rota(rota)
    zone = ZoneInfo(str(one["time_zone"]))
    rows = [
        (
            str(number),
            _local(override["start_at"], zone),
            _local(override["end_at"], zone),
            _who(roster, override["contact_id"]),
            plain(roster.name_of(override["deputy_id"])) if override.get("deputy_id") else "as beneath",
        )
        for number, override in enumerate(one["overrides"], start=1)
    ]
    session.output.table(
        ["", f"From ({zone.key})", "To", "On duty", "Deputy"], rows, items=one["overrides"], empty="There are none."
    )


@override_app.command("add")
@calls
async def add_override(
    session: Session,
    rota: RotaArgument,
    who: Annotated[str, typer.Argument(metavar="WHO", help="A contact by name or id, or nobody.", show_default=False)],
    *,
    from_time: FromOption,
    to_time: ToOption,
    deputy: Annotated[
        str | None, typer.Option("--deputy", metavar="WHO", help="Their deputy; by default that of what lies beneath.")
    ] = None,
    dry_run: DryRunOption = False,
) -> None:
    """Puts somebody else on duty for a time, or nobody.

    For example:

        redphone rota override add duty Ann --from 2026-12-24T08:00 --to 2026-12-25T08:00 --as ca-roster-manager
    """
    roster = await roster_of(session)
    one = roster.rota(rota)
    zone = ZoneInfo(str(one["time_zone"]))
    body: dict[str, Any] = {
        "id": session.client.new_key(),
        "contact_id": None if who.casefold() == NOBODY else rota_files.contact_id(who, roster.contacts),
        "start_at": instant_of(from_time, zone),
        "end_at": instant_of(to_time, zone),
        "deputy_id": rota_files.contact_id(deputy, roster.contacts) if deputy is not None else None,
    }
    edit = Edit("POST", f"{roster.rota_path(one)}/overrides", body)
    await _write(session, roster, edit, "The override is added.", dry_run=dry_run)


@override_app.command("remove")
@calls
async def remove_override(
    session: Session,
    rota: RotaArgument,
    override: Annotated[str, typer.Argument(metavar="OVERRIDE", help="Its number in the list, or its id.")],
    *,
    dry_run: DryRunOption = False,
) -> None:
    """Takes an override away, so that what lies beneath shows again.

    For example:

        redphone rota override remove duty 1 --as ca-roster-manager
    """
    roster = await roster_of(session)
    one = roster.rota(rota)
    found = _one(override, one["overrides"], "override", "redphone rota override list")
    edit = Edit("DELETE", f"{roster.rota_path(one)}/overrides/{segment(str(found['id']))}")
    await _write(session, roster, edit, "The override is removed.", dry_run=dry_run)


# --- replacements -----------------------------------------------------------------------------------------------------


@replace_app.command("list")
@calls
async def list_replacements(session: Session, rota: RotaArgument) -> None:
    """Lists the replacements of a rota; of two that overlap the last one holds.

    For example:

        redphone rota replace list duty --as ca-duty-officer
    """
    roster = await roster_of(session)
    one = roster.rota(rota)
    zone = ZoneInfo(str(one["time_zone"]))
    rows = [
        (
            str(number),
            plain(replacement["name"]),
            _local(replacement["start_at"], zone),
            _local(replacement["end_at"], zone),
            "\n".join(_layer_text(layer) for layer in replacement["layers"]),
        )
        for number, replacement in enumerate(one["replacements"], start=1)
    ]
    session.output.table(
        ["", "Replacement", f"From ({zone.key})", "To", "Layers"],
        rows,
        items=one["replacements"],
        empty="There are none.",
    )


@replace_app.command("add")
@calls
async def add_replacement(
    session: Session,
    rota: RotaArgument,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A name and layers, as .json or .toml.", show_default=False)
    ],
    *,
    from_time: FromOption,
    to_time: ToOption,
    dry_run: DryRunOption = False,
) -> None:
    """Puts the layers of a file in the place of all of a rota's for a time. What they leave open, nobody covers.

    For example:

        redphone rota replace add duty summer.toml --from 2026-07-01T08:00 --to 2026-09-01T08:00 --as ca-roster-manager
    """
    roster = await roster_of(session)
    one = roster.rota(rota)
    zone = ZoneInfo(str(one["time_zone"]))
    body = rota_files.read(_text_of(file), file.name, roster.contacts)
    body = {"name": file.stem, "id": session.client.new_key(), **body}
    body |= {"start_at": instant_of(from_time, zone), "end_at": instant_of(to_time, zone)}
    edit = Edit("POST", f"{roster.rota_path(one)}/replacements", body)
    await _write(session, roster, edit, f"The replacement {body['name']} is added.", dry_run=dry_run)


@replace_app.command("remove")
@calls
async def remove_replacement(
    session: Session,
    rota: RotaArgument,
    replacement: Annotated[
        str, typer.Argument(metavar="REPLACEMENT", help="Its number in the list, its name, its id.")
    ],
    *,
    dry_run: DryRunOption = False,
) -> None:
    """Takes a replacement away, so that the rota's own layers show again.

    For example:

        redphone rota replace remove duty summer --as ca-roster-manager
    """
    roster = await roster_of(session)
    one = roster.rota(rota)
    found = _one(replacement, one["replacements"], "replacement", "redphone rota replace list")
    edit = Edit("DELETE", f"{roster.rota_path(one)}/replacements/{segment(str(found['id']))}")
    await _write(session, roster, edit, "The replacement is removed.", dry_run=dry_run)


# --- writing and previewing -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Edit:
    """One write: how, where, and what."""

    method: str
    path: str
    body: Mapping[str, Any] | None = None


async def _write(session: Session, roster: Roster, edit: Edit, done: str, *, dry_run: bool) -> None:
    """Shows what the edit changes, and makes it unless it is a dry run; both have seen the same version."""
    asked = await _sent(session, roster, Edit(edit.method, f"{edit.path}?dry_run=true", edit.body))
    preview = asked["preview"]
    if not dry_run:
        written = await _sent(session, roster, edit)
        session.output.say(done, **written | {"preview": preview})
    elif session.output.as_json:
        session.output.json(preview)
    if not session.output.as_json:
        show_preview(session, roster, preview, dry_run=dry_run)


async def _sent(session: Session, roster: Roster, edit: Edit) -> dict[str, Any]:
    client = session.client
    if edit.method == "PUT":
        answer = await client.put(edit.path, edit.body, etag=roster.etag)
    elif edit.method == "DELETE":
        answer = await client.delete(edit.path, etag=roster.etag)
    else:
        answer = await client.post(edit.path, edit.body, headers={"If-Match": roster.etag})
    return dict(answer)


def show_preview(session: Session, roster: Roster, preview: Mapping[str, Any], *, dry_run: bool) -> None:
    """Who would be on duty when in whose place, and where nobody would be."""
    zones = {rota["id"]: ZoneInfo(str(rota["time_zone"])) for rota in roster.rotas}
    would = "This would change" if dry_run else "This changes"
    if not preview["changes"]:
        session.output.show(Text(f"{would} nothing in the next 14 days."))
    else:
        session.output.show(Text(f"{would} in the next 14 days:"))
        rows = [
            _change_row(roster, change, zones.get(change["rota_id"], ZoneInfo("UTC"))) for change in preview["changes"]
        ]
        columns = ["Rota", "When", "On duty before", "after", "Deputy before", "after"]
        session.output.table(columns, rows, items=preview["changes"], empty="")
    if preview["omitted"]:
        session.output.show(Text(f"and {preview['omitted']} more changes", style="dim"))
    for holes, verb, style in (
        (preview["holes_opened"], "Nobody would be on duty" if dry_run else "Nobody is on duty", "bold red"),
        (preview["holes_closed"], "No hole any more", "green"),
    ):
        for hole in holes:
            when = _span(hole, zones.get(hole["rota_id"], ZoneInfo("UTC")))
            session.output.show(Text(f"{verb}: {plain(hole['rota'])}, {when}", style=style))
    for key, verb, style in (
        ("findings_new", "Readiness would find" if dry_run else "Readiness will find", "yellow"),
        ("findings_resolved", "No longer found by readiness", "green"),
    ):
        for finding in preview.get(key) or ():
            session.output.show(Text(f"{verb}: {_finding(roster, finding)}", style=style))


def _finding(roster: Roster, finding: Mapping[str, Any]) -> str:
    """What readiness says, about which rota and whom, and what to do about it."""
    rota = next((str(one["name"]) for one in roster.rotas if one["id"] == finding.get("rota_id")), "")
    person = roster.name_of(finding["contact_id"]) if finding.get("contact_id") else ""
    about = ", ".join(part for part in (rota, person) if part)
    words = str(finding["code"]).replace("_", " ") + (f" ({about})" if about else "")
    return plain(f"{words}. {finding['remedy']}")


def _change_row(roster: Roster, change: Mapping[str, Any], zone: ZoneInfo) -> tuple[str | Text, ...]:
    before, after = change["deputy_before"], change["deputy_after"]
    return (
        plain(change["rota"]),
        _span(change, zone),
        _who(roster, change["before"]),
        _who(roster, change["after"]),
        plain(roster.name_of(before)) if before else "–",
        plain(roster.name_of(after)) if after else "–",
    )


# --- words ------------------------------------------------------------------------------------------------------------


def _fitting(shown: Mapping[str, Any], monday: date, days: int, *, today: date, width: int) -> Sequence[Text]:
    """The lines of a chart, of one cell an hour where more do not fit."""
    fine, coarse = (
        list(rota_chart.drawn(rota_chart.chart(shown, monday, days, cells_per_hour=cells), today=today))
        for cells in (rota_chart.CELLS_PER_HOUR, 1)
    )
    return fine if max(line.cell_len for line in fine) <= width else coarse


async def _shifts(
    session: Session, roster: Roster, rota: Mapping[str, Any], window: tuple[datetime, datetime]
) -> Mapping[str, Any]:
    asked = {"from": window[0].isoformat(), "to": window[1].isoformat()}
    answer = await session.client.get(f"{roster.path}/shifts", **asked)
    found: Mapping[str, Any] = _one(str(rota["id"]), answer["rotas"], "rota", "redphone rota list")
    return found


def _one(wanted: str, things: Iterable[Mapping[str, Any]], noun: str, listing: str) -> Mapping[str, Any]:
    """The thing of a number in its list, of a name, or of an id."""
    listed = list(things)
    for number, thing in enumerate(listed, start=1):
        if wanted in (str(number), str(thing["id"])):
            return thing
    named = [thing for thing in listed if str(thing.get("name", "")).casefold() == wanted.casefold() and wanted]
    partly = [thing for thing in listed if wanted and wanted.casefold() in str(thing.get("name", "")).casefold()]
    for found in (named, partly):
        if len(found) == 1:
            return found[0]
    raise Failed(
        f"There is no {noun} {wanted}, or several have that name.",
        details=[f"{listing} shows them with their numbers."],
        exit_code=Exit.REFUSED,
        code="not_found",
    )


def _layer_text(layer: Mapping[str, Any]) -> str:
    every, unit = layer["every"], {"hourly": "hours", "daily": "days", "weekly": "weeks"}.get(layer["rotation"])
    turns = layer.get("rule") or (f"every {every} {unit}" if every > 1 else layer["rotation"])
    people = f"{len(layer['participants'])} people"
    deputies = f", {len(layer['deputies'])} deputies" if layer.get("deputies") else ""
    return plain(f"{layer['name']}: {turns}, {people}{deputies}")


def _load(load: Mapping[str, Any]) -> tuple[str, str, str, str]:
    return f"{load['hours']:.0f}", str(load["nights"]), str(load["weekend_days"]), str(load["holidays"])


def _who(roster: Roster, contact_id: str | None) -> Text:
    return Text(NOBODY, style="bold red") if contact_id is None else clean(roster.name_of(contact_id))


def _span(stretch: Mapping[str, Any], zone: ZoneInfo) -> str:
    start, end = (datetime.fromisoformat(stretch[key]).astimezone(zone) for key in ("start_at", "end_at"))
    return rota_chart.span_text(start, end)


def _local(at: str, zone: ZoneInfo) -> str:
    return f"{datetime.fromisoformat(at).astimezone(zone):%Y-%m-%d %H:%M}"


def instant_of(text: str, zone: ZoneInfo) -> str:
    """A local time of the rota, or any instant with its offset, as the API takes it.

    A time that the clocks jump over means, as at every hand-over of the rota, the first instant after it: the jump.
    """
    try:
        at = datetime.fromisoformat(text)
        return (at if at.tzinfo is not None else _by_the_clock(at, zone)).isoformat()
    except (ValueError, OverflowError):
        what = f"{text} is no time; write 2026-12-24T08:00, or with Z or an offset."
        raise Failed(what, exit_code=Exit.USAGE) from None


def _by_the_clock(at: datetime, zone: ZoneInfo) -> datetime:
    local = at.replace(tzinfo=zone)
    if local.astimezone(UTC).astimezone(zone).replace(tzinfo=None) == at:
        return local
    # Applying the offset after the jump, as fold=1 does, gives an instant before it. Clocks jump at whole minutes.
    before = local.replace(fold=1, second=0, microsecond=0).astimezone(UTC)
    coming = ((before + minutes * _MINUTE).astimezone(zone) for minutes in count())
    return next(one for one in coming if one.replace(tzinfo=None) >= at)


def _date(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise Failed(f"{text} is no date; write 2026-12-24.", exit_code=Exit.USAGE) from None


def _text_of(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise Failed(f"{file} cannot be read: {reason}.", exit_code=Exit.USAGE) from None

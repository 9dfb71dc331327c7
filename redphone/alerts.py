"""`redphone alert …`: raise, release, correct, recall, stand down, show and list; `watch` is in `redphone/watch.py`.

The promise: whatever is sent has its id and key before it is sent, so that typing a command again after a lost answer
repeats it and does nothing twice.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from rich.text import Text

from redphone import files, watch
from redphone.client import segment
from redphone.commands import Session, calls
from redphone.exits import Exit, Failed
from redphone.output import clean, instant, span, state, summary_grid
from shared.contracts import Precedence, Tlp

app = typer.Typer(no_args_is_help=True, help="Raise an alert, correct it, recall it, stand it down, watch who answers.")

CAP_MEDIA_TYPE = "application/cap+xml"
SECRETARIAT_STANDING = "secretariat"
HEADLINE_CHARACTERS_SHOWN = 60

AlertArgument = Annotated[
    str, typer.Argument(metavar="ALERT", help="Its reference (RP-CA-2026-0042) or its id.", show_default=False)
]
ReasonOption = Annotated[
    str | None,
    typer.Option(
        "--self-release-reason",
        help="Only if you are alone: why nobody else can release. Reviewed later.",
        metavar="WHY",
    ),
]
Countries = Annotated[
    str | None, typer.Option("--countries", help="ISO 3166-1 codes, separated by commas: AFG,PAK.", metavar="CODES")
]
To = Annotated[
    str | None,
    typer.Option("--to", help="Partners that must acknowledge: US,GB, or all but your own.", metavar="PARTNERS|all"),
]
ForInformation = Annotated[
    str | None, typer.Option("--for-information", help="Partners that are told only: BR,DE.", metavar="PARTNERS")
]
PrecedenceOption = Annotated[
    Precedence | None, typer.Option("--precedence", help="How fast; it decides every deadline.", case_sensitive=False)
]
DescriptionOption = Annotated[str | None, typer.Option("--description", help="What has happened.", metavar="TEXT")]
InstructionOption = Annotated[str | None, typer.Option("--instruction", help="What you ask for.", metavar="TEXT")]
SeverityOption = Annotated[
    str | None, typer.Option("--severity", help="Extreme, Severe, Moderate, Minor.", metavar="CAP")
]
UrgencyOption = Annotated[
    str | None, typer.Option("--urgency", help="Immediate, Expected, Future, Past.", metavar="CAP")
]
CertaintyOption = Annotated[
    str | None, typer.Option("--certainty", help="Observed, Likely, Possible, Unlikely.", metavar="CAP")
]
TlpOption = Annotated[
    str | None,
    typer.Option("--tlp", help="Who may read: RED, AMBER+STRICT, AMBER, GREEN, CLEAR [AMBER].", metavar="TLP"),
]
ExpiresOption = Annotated[
    str | None, typer.Option("--expires", help="When it ends by itself: 2026-08-20T12:00:00Z.", metavar="INSTANT")
]
AcknowledgeWithin = Annotated[
    int | None,
    typer.Option("--acknowledge-within", help="Shortens the time to acknowledge, in seconds.", metavar="SECONDS"),
]
GoalOption = Annotated[
    str | None,
    typer.Option(
        "--goal",
        help="How many partners are to have acknowledged, and by when: 8/15m. Missed, it escalates.",
        metavar="N/TIME",
    ),
]
AnswersVisible = Annotated[
    bool, typer.Option("--answers-visible", help="The addressed partners see each other's answers.")
]
BodyOption = Annotated[
    Path | None,
    typer.Option(
        "--body", help="A JSON file with further fields, as the API has them (info, areas, …).", metavar="FILE"
    ),
]


# --- raising ----------------------------------------------------------------------------------------------------------


@app.command("raise")
@calls
async def raise_alert(
    session: Session,
    headline: Annotated[
        str | None, typer.Argument(help="One line that says what has happened.", show_default=False)
    ] = None,
    *,
    countries: Countries = None,
    to: To = None,
    precedence: PrecedenceOption = None,
    for_information: ForInformation = None,
    description: DescriptionOption = None,
    instruction: InstructionOption = None,
    severity: SeverityOption = None,
    urgency: UrgencyOption = None,
    certainty: CertaintyOption = None,
    tlp: TlpOption = None,
    expires: ExpiresOption = None,
    acknowledge_within: AcknowledgeWithin = None,
    goal: GoalOption = None,
    answers_visible: AnswersVisible = False,
    crisis: Annotated[
        str | None, typer.Option("--crisis", help="Id of the crisis it belongs to.", metavar="ID")
    ] = None,
    exercise: Annotated[
        str | None, typer.Option("--exercise", help="An exercise, not real: which one it is.", metavar="NOTE")
    ] = None,
    body: BodyOption = None,
    cap: Annotated[
        Path | None,
        typer.Option("--cap", help="A CAP 1.2 message to draft from, in place of all else.", metavar="FILE"),
    ] = None,
    self_release_reason: ReasonOption = None,
) -> None:
    """Drafts an alert; a second person then releases it. With --self-release-reason it is released at once.

    If the answer is lost on the way, type the same command again: the id is kept, so nothing happens twice.

    For example:

        redphone alert raise "Kabul: evacuation flights needed before 31 August" --countries AFG --to all
        --precedence FLASH --as ca-duty-officer
    """
    if cap is not None:
        given = (headline, countries, to, precedence, body, self_release_reason)
        if any(value is not None for value in given):
            raise Failed("--cap says everything itself: leave the other options out.", exit_code=Exit.USAGE)
        await _raise_from_cap(session, cap)
        return
    said = _read_body(body) | _said(
        headline=headline,
        description=description,
        instruction=instruction,
        severity=_word(severity),
        urgency=_word(urgency),
        certainty=_word(certainty),
        tlp=_tlp(tlp),
        expires=expires,
        acknowledge_within_seconds=acknowledge_within,
        coverage_goal=_goal(goal),
        answers_visible=answers_visible or None,
        crisis_id=crisis,
        precedence=precedence,
        countries=_codes(countries),
        for_information=_codes(for_information),
        self_release_reason=self_release_reason,
        **({"status": "Exercise", "note": exercise} if exercise is not None else {}),
    )
    if to is not None:
        said["to"] = await _partners(session, to, besides=said.get("for_information", ()))
    missing = [option for name, option in _LEAST.items() if name not in said]
    if missing:
        raise Failed(
            f"An alert needs a headline, countries, partners and a precedence; missing: {', '.join(missing)}.",
            details=['redphone alert raise "HEADLINE" --countries AFG --to all --precedence FLASH'],
            exit_code=Exit.USAGE,
        )
    alert = await send_stored(session, "/v1/alerts", said, with_id=True)
    _tell_drafted(session, alert)


_LEAST = {
    "headline": "HEADLINE",
    "countries": "--countries",
    "to": "--to",
    "precedence": "--precedence",
}


async def _raise_from_cap(session: Session, path: Path) -> None:
    text = files.read_text(path)
    alert = await send_stored(session, "/v1/alerts", {"cap": text}, with_id=False, cap=text)
    _tell_drafted(session, alert)


def _tell_drafted(session: Session, alert: Mapping[str, Any]) -> None:
    reference = str(alert["reference"])
    if alert["state"] == "draft":
        following = f"redphone alert release {reference} --precedence {alert['precedence']} --as ANOTHER_PERSON"
    else:
        following = f"redphone alert watch {reference}"
    _tell(session, alert, following)


def _tell(
    session: Session,
    alert: Mapping[str, Any],
    following: str | None = None,
    *,
    further: Sequence[tuple[str, str | Text]] = (),
) -> None:
    """What became of an alert, and what to do next; `further` are more names and values."""
    if session.output.as_json:
        session.output.json(alert)
        return
    to, told = alert["to"], alert["for_information"]
    said = Text.assemble(
        (str(alert["reference"]), "bold"), " ", state(str(alert["precedence"])), " is ", state(str(alert["state"])), "."
    )
    if alert["msg_type"] != "Alert":
        said.append(f" It is an {alert['msg_type']}.")
    session.output.show(said)
    grid = summary_grid()
    grid.add_row("Headline", clean(headline_of(alert)))
    grid.add_row("To", ", ".join(to))
    if told:
        grid.add_row("Told", ", ".join(told))
    if (goal := alert.get("coverage_goal")) is not None:
        grid.add_row("Goal", f"{goal['partners']} of {len(to)} within {span(goal['within_seconds'])}")
    grid.add_row("Id", str(alert["id"]))
    for name, value in further:
        grid.add_row(name, clean(value))
    if following is not None:
        grid.add_row("Next", following)
    session.output.show(grid)


# --- release, update, more recipients, cancel, close ------------------------------------------------------------------


@app.command("release")
@calls
async def release_alert(
    session: Session,
    alert: AlertArgument,
    precedence: PrecedenceOption = None,
    self_release_reason: ReasonOption = None,
) -> None:
    """Releases a draft as its second person, who confirms the precedence. Every partner is paged at once.

    For example:

        redphone alert release RP-CA-2026-0042 --precedence FLASH --as ca-releaser
    """
    confirmed, etag = (precedence, None) if precedence else await _confirm_precedence(session, alert)
    body = _said(precedence=confirmed, self_release_reason=self_release_reason)
    released = await send_stored(session, f"{_path(alert)}/release", body, with_id=False, etag=etag)
    _tell(session, released, f"redphone alert watch {released['reference']}")


async def _confirm_precedence(session: Session, alert: str) -> tuple[str, str | None]:
    """Asks the releaser, who has read the draft, to repeat its precedence; also gives the version that was shown."""
    if not (session.output.is_live and sys.stdin.isatty()):
        raise Failed("Confirm the draft's precedence: --precedence FLASH, for example.", exit_code=Exit.USAGE)
    answer = await session.client.get_raw(_path(alert))
    _show(session, answer.json())
    typed: str = typer.prompt("Type its precedence to release it", default="", show_default=False)
    return typed.strip().upper(), answer.headers.get("etag")


@app.command("update")
@calls
async def update_alert(
    session: Session,
    alert: AlertArgument,
    *,
    asks_anew: Annotated[
        bool | None,
        typer.Option("--asks-anew/--asks-nobody-anew", help="Whether those who have answered are asked again."),
    ] = None,
    headline: Annotated[str | None, typer.Option("--headline", metavar="TEXT")] = None,
    countries: Countries = None,
    to: To = None,
    for_information: ForInformation = None,
    precedence: PrecedenceOption = None,
    description: DescriptionOption = None,
    instruction: InstructionOption = None,
    severity: SeverityOption = None,
    tlp: TlpOption = None,
    expires: ExpiresOption = None,
    goal: GoalOption = None,
    body: BodyOption = None,
    self_release_reason: ReasonOption = None,
) -> None:
    """Drafts a correction of a released alert; what you leave out stays. Released, it replaces the alert.

    For example:

        redphone alert update RP-CA-2026-0042 --asks-nobody-anew --description "The civil side is closed."
    """
    if asks_anew is None:
        raise Failed(
            "Say whether those who have answered are asked again: --asks-anew or --asks-nobody-anew.",
            exit_code=Exit.USAGE,
        )
    said = _read_body(body) | _said(
        asks_anew=asks_anew,
        headline=headline,
        countries=_codes(countries),
        for_information=_codes(for_information),
        precedence=precedence,
        description=description,
        instruction=instruction,
        severity=_word(severity),
        tlp=_tlp(tlp),
        expires=expires,
        coverage_goal=_goal(goal),
        self_release_reason=self_release_reason,
    )
    if to is not None:
        said["to"] = await _partners(session, to, besides=said.get("for_information", ()))
    _tell_drafted(session, await send_stored(session, f"{_path(alert)}/updates", said, with_id=True))


@app.command("recipients")
@calls
async def add_recipients(
    session: Session,
    alert: AlertArgument,
    to: To = None,
    for_information: ForInformation = None,
    self_release_reason: ReasonOption = None,
) -> None:
    """Addresses a released alert to more partners; their clocks start now.

    For example:

        redphone alert recipients RP-CA-2026-0042 --to ES,IT --as ca-releaser
    """
    body = _said(to=_codes(to), for_information=_codes(for_information), self_release_reason=self_release_reason)
    _tell(session, await send_stored(session, f"{_path(alert)}/recipients", body, with_id=False))


@app.command("cancel")
@calls
async def cancel_alert(
    session: Session,
    alert: AlertArgument,
    note: Annotated[str, typer.Option("--note", help="Why; everyone whom it reached is told.", metavar="TEXT")],
    self_release_reason: ReasonOption = None,
) -> None:
    """Recalls an alert that should not have been sent: every escalation ends, everyone who was paged is told.

    For example:

        redphone alert cancel RP-CA-2026-0042 --note "Sent to the wrong partners." --as ca-releaser
    """
    body = _said(note=note, self_release_reason=self_release_reason)
    _tell(session, await send_stored(session, f"{_path(alert)}/cancel", body, with_id=False))


@app.command("close")
@calls
async def close_alert(
    session: Session,
    alert: AlertArgument,
    note: Annotated[str | None, typer.Option("--note", help="What ended it.", metavar="TEXT")] = None,
    self_release_reason: ReasonOption = None,
) -> None:
    """Stands an alert down: its matter is over, no answer is owed any more, everyone who was paged is told.

    For example:

        redphone alert close RP-CA-2026-0042 --note "The last flight left." --as ca-releaser
    """
    body = _said(note=note, self_release_reason=self_release_reason)
    _tell(session, await send_stored(session, f"{_path(alert)}/close", body, with_id=False))


# --- reading ----------------------------------------------------------------------------------------------------------


@app.command("show")
@calls
async def show_alert(
    session: Session,
    alert: AlertArgument,
    cap: Annotated[bool, typer.Option("--cap", help="As CAP 1.2 XML.")] = False,
    timeline: Annotated[bool, typer.Option("--timeline", help="Also everything that happened to it.")] = False,
) -> None:
    """Shows one alert, as far as you may read it.

    For example:

        redphone alert show RP-CA-2026-0042 --timeline
    """
    output = session.output
    if cap:
        answer = await session.client.get_raw(_path(alert), accept=CAP_MEDIA_TYPE)
        sys.stdout.write(answer.text)
        return
    found = await session.client.get(_path(alert))
    entries = await session.client.items(f"{_path(alert)}/timeline") if timeline else []
    if output.as_json:
        output.json(found if not timeline else {**found, "timeline": entries})
        return
    _show(session, found)
    if timeline:
        now = session.clock.now()
        rows = [(instant(entry["at"], now=now), entry["type"].replace("_", " "), about(entry)) for entry in entries]
        output.show(Text())
        output.table(["When", "What", ""], rows, items=entries, empty="Nothing has happened to it yet.")


def _show(session: Session, alert: Mapping[str, Any]) -> None:
    now = session.clock.now()
    handling = str(alert["tlp"]) + ("; the text is withheld from you" if alert["withheld"] else "")
    further: list[tuple[str, str | Text]] = [("Raised by", str(alert["raiser"])), ("Handling", handling)]
    if alert["status"] != "Actual":
        further.append(("Status", Text(str(alert["status"]).upper(), style="bold magenta")))
    for name, word in (("released_at", "Released"), ("expires_at", "Expires"), ("ended_at", "Ended")):
        if alert.get(name):
            further.append((word, instant(alert[name], now=now)))
    if alert.get("superseded_by"):
        further.append(("Replaced by", str(alert["superseded_by"])))
    for block in alert.get("info") or ():
        words = [block[part] for part in ("description", "instruction") if block.get(part)]
        if words:
            further.append((str(block["language"]), "\n".join(words)))
    _tell(session, alert, further=further)


@app.command("list")
@calls
async def list_alerts(
    session: Session,
    wanted_state: Annotated[
        str | None, typer.Option("--state", help="draft, released, superseded, cancelled, expired, closed.")
    ] = None,
    raiser: Annotated[
        str | None, typer.Option("--raiser", help="The partner that raised them.", metavar="CODE")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000, help="At most so many.")] = 20,
) -> None:
    """Lists the alerts that you may see, the newest first.

    For example:

        redphone alert list --state released
    """
    found = await session.client.items("/v1/alerts", items_max=limit, state=wanted_state, raiser=raiser)
    now = session.clock.now()
    rows = [
        (
            str(alert["reference"]),
            state(str(alert["precedence"])),
            state(str(alert["state"])),
            instant(alert.get("released_at") or alert.get("drafted_at"), now=now),
            _shortened(headline_of(alert)),
        )
        for alert in found
    ]
    columns = ["Reference", "Precedence", "State", "Since", "Headline"]
    session.output.table(columns, rows, items=found, empty="There are no alerts that you may see.")


app.command("watch")(watch.watch_alert)


# --- helpers ----------------------------------------------------------------------------------------------------------


async def send_stored(
    session: Session,
    path: str,
    body: Mapping[str, Any],
    *,
    with_id: bool,
    cap: str | None = None,
    etag: str | None = None,
) -> dict[str, Any]:
    """Sends a request that is stored before it leaves; the same command repeats it if it got no answer.

    `etag` names the version that the person has read: if there is another by now, the request is refused.
    """
    client = session.client
    target = [session.connection.url, session.connection.client_id or "", path]
    stored = files.store_request(
        os.environ, target, body, key=client.new_key(), with_id=with_id, now=session.clock.now()
    )
    if stored.repeated:
        session.output.warn("this very request got no answer before; it is repeated, and nothing happens twice.")
    try:
        if cap is None:
            read = {} if etag is None else {"If-Match": etag}
            answer = await client.post(path, stored.body, key=stored.key, headers=read)
        else:
            headers = {"Content-Type": CAP_MEDIA_TYPE}
            answer = await client.post(path, cap.encode(), key=stored.key, headers=headers)
    except Failed as failed:
        if failed.exit_code is Exit.UNREACHABLE:
            raise Failed(
                failed.what,
                details=[
                    *failed.details,
                    "Whether it was stored is not known; the same command again is safe.",
                ],
                exit_code=failed.exit_code,
                code=failed.code,
            ) from None
        stored.answered()
        raise
    stored.answered()
    return dict(answer)


async def _partners(session: Session, text: str, *, besides: object) -> list[str]:
    """The partners that `--to` means; `all` is every active one but one's own, the secretariat and those told only."""
    if text.strip().lower() != "all":
        return _codes(text) or []
    own = await session.client.own_partner()
    told = set(besides) if isinstance(besides, list) else set()
    return [
        str(partner["code"])
        for partner in await session.client.items("/v1/partners")
        if partner["code"] != own
        and partner["code"] not in told
        and partner.get("standing") != SECRETARIAT_STANDING
        and partner.get("active", True)
    ]


def headline_of(alert: Mapping[str, Any]) -> str:
    """The first headline, or a word on why there is none."""
    blocks = alert.get("info") or ()
    return str(blocks[0]["headline"]) if blocks else "(withheld from you)"


def about(entry: Mapping[str, Any]) -> str:
    """What a timeline row tells, in one line: partner, level, reason, who."""
    data = entry.get("data") or {}
    parts = [str(data[name]) for name in ("partner", "level", "reason", "stance") if data.get(name) not in (None, "")]
    for name, value in data.items():
        if name.endswith("_by") and isinstance(value, dict):
            parts.append(f"by {value.get('name') or value.get('partner')}")
    return " · ".join(dict.fromkeys(part.replace("_", " ") for part in parts))


def _path(alert: str) -> str:
    return f"/v1/alerts/{segment(alert)}"


def _said(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _codes(text: str | None) -> list[str] | None:
    return None if text is None else [code.upper() for code in text.replace(",", " ").split()]


_GOAL = re.compile(r"([1-9][0-9]{0,3})/([1-9][0-9]{0,5})(s|m|min|h)")
_SECONDS_OF = {"s": 1, "m": 60, "min": 60, "h": 3600}


def _goal(text: str | None) -> dict[str, int] | None:
    if text is None:
        return None
    found = _GOAL.fullmatch(text.replace(" ", "").lower())
    if found is None:
        raise Failed("--goal says how many and by when: 8/15m, 3/90s or 20/2h.", exit_code=Exit.USAGE)
    return {"partners": int(found[1]), "within_seconds": int(found[2]) * _SECONDS_OF[found[3]]}


def _word(text: str | None) -> str | None:
    return None if text is None else text[:1].upper() + text[1:].lower()


def _tlp(text: str | None) -> str | None:
    if text is None:
        return None
    label = text.upper() if text.upper().startswith("TLP:") else f"TLP:{text.upper()}"
    if label not in {tlp.value for tlp in Tlp}:
        names = ", ".join(tlp.value.removeprefix("TLP:") for tlp in Tlp)
        raise Failed(f"--tlp must be one of {names}.", exit_code=Exit.USAGE)
    return label


def _read_body(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        read = orjson.loads(files.read_text(path))
    except orjson.JSONDecodeError as error:
        raise Failed(f"{path} is not JSON (at character {error.pos}).", exit_code=Exit.USAGE) from None
    if not isinstance(read, dict):
        raise Failed(f"{path} must hold one JSON object.", exit_code=Exit.USAGE)
    return read


def _shortened(text: str) -> str:
    return text if len(text) <= HEADLINE_CHARACTERS_SHOWN else text[: HEADLINE_CHARACTERS_SHOWN - 1] + "…"

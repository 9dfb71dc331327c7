"""Answering: `redphone acknowledge`, `position`, `add-contact`, `stop-pages`, `board`, `token`."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

import typer

from redphone import watch
from redphone.client import segment
from redphone.commands import Session, calls
from redphone.exits import Exit, Failed
from redphone.output import instant, plain, state
from shared.contracts import PositionStance

AlertArgument = Annotated[
    str, typer.Argument(metavar="ALERT|all", help="Reference, id of alert or escalation, or all.", show_default=False)
]
ContactOption = Annotated[
    str | None, typer.Option("--contact", help="For systems: id of the contact who answers.", metavar="ID")
]


# --- acknowledge and position -----------------------------------------------------------------------------------------


@calls
async def acknowledge(session: Session, alert: AlertArgument, contact: ContactOption = None) -> None:
    """Says "received and understood" for your government. It stops your government's escalation and no other's.

    For example:

        redphone acknowledge RP-CA-2026-0042 --as us-duty-officer
    """
    body: dict[str, Any] = {"via": "command_line"} | ({"contact_id": contact} if contact else {})
    client = session.client
    if alert.lower() == "all":
        escalations = (await client.post("/v1/acknowledgements", {**body, "alert_ids": "all"}))["escalations"]
    elif (escalation_id := await _named_escalation(session, alert)) is not None:
        escalations = [await client.post(f"/v1/escalations/{escalation_id}/acknowledgement", body)]
    else:
        alert_id = await alert_id_of(session, alert)
        escalations = (await client.post("/v1/acknowledgements", {**body, "alert_ids": [alert_id]}))["escalations"]
    _tell(session, escalations, empty="Your government owes no acknowledgement.")


@calls
async def position(
    session: Session,
    alert: Annotated[
        str, typer.Argument(metavar="ALERT", help="Reference, or id of alert or escalation.", show_default=False)
    ],
    stance: Annotated[PositionStance, typer.Argument(help='What you answer; "declined" needs no reason.')],
    *,
    answer_by: Annotated[
        str | None, typer.Option("--answer-by", help="With considering: 2021-08-16T05:00:00Z.", metavar="INSTANT")
    ] = None,
    note: Annotated[
        str | None, typer.Option("--note", help="No personal data of displaced people, ever.", metavar="TEXT")
    ] = None,
    offer: Annotated[str | None, typer.Option("--offer", help="What you offer.", metavar="TEXT")] = None,
    estimated_arrival: Annotated[
        str | None, typer.Option("--estimated-arrival", help="When it would be there.", metavar="INSTANT")
    ] = None,
    contact: ContactOption = None,
) -> None:
    """Answers for your government. Whoever answers has acknowledged; the answer may change until the alert ends.

    For example:

        redphone position RP-CA-2026-0042 committed --offer "200 places, two flights from Islamabad"
    """
    if stance is PositionStance.CONSIDERING and answer_by is None:
        raise Failed(
            "Considering needs --answer-by: until when, for example 2021-08-16T05:00:00Z.", exit_code=Exit.USAGE
        )
    escalation_id = await escalation_of(session, alert)
    said = {
        "stance": stance.value,
        "answer_by": answer_by,
        "note": note,
        "offer": offer,
        "estimated_arrival": estimated_arrival,
        "contact_id": contact,
    }
    body = {name: value for name, value in said.items() if value is not None}
    _tell(session, [await session.client.post(f"/v1/escalations/{escalation_id}/position", body)], empty="")


@calls
async def add_contact(
    session: Session,
    alert: Annotated[
        str, typer.Argument(metavar="ALERT", help="Reference, or id of alert or escalation.", show_default=False)
    ],
    contact: Annotated[
        str, typer.Argument(metavar="CONTACT", help="Id of a contact of your duty plan.", show_default=False)
    ],
) -> None:
    """Pages one more person of your government at once. Levels and deadlines stay as they are.

    For example:

        redphone add-contact RP-CA-2026-0042 01a201d9-0894-76cc-818c-a0f06597d362 --as us-duty-officer
    """
    if _as_id(contact) is None:
        raise Failed("A contact is named by its id, as your roster has it.", exit_code=Exit.USAGE)
    escalation_id = await escalation_of(session, alert)
    added = await session.client.post(f"/v1/escalations/{escalation_id}/contacts", {"contact_id": contact})
    _tell(session, [added], empty="")


@calls
async def stop_pages(
    session: Session,
    alert: Annotated[
        str, typer.Argument(metavar="ALERT", help="Reference, or id of alert or escalation.", show_default=False)
    ],
) -> None:
    """Ends your own pages about an alert. It is no answer: others of your government go on being asked.

    For example:

        redphone stop-pages RP-CA-2026-0042 --as us-senior-contact
    """
    escalation_id = await escalation_of(session, alert)
    _tell(session, [await session.client.post(f"/v1/escalations/{escalation_id}/pages/stop")], empty="")


async def alert_id_of(session: Session, alert: str) -> str:
    """The id of an alert; a reference is looked up on the board, which escalation serves alone, then at alerting."""
    if _as_id(alert) is not None:
        return alert
    reference = alert.strip().upper()
    board = await session.client.get("/v1/board")
    for cell in board["escalations"]:
        if cell["alert"]["reference"] == reference:
            return str(cell["alert"]["id"])
    return str((await session.client.get(f"/v1/alerts/{segment(reference)}"))["id"])


async def escalation_of(session: Session, alert: str) -> str:
    """The caller's own escalation, by its id, or by id or reference of its alert."""
    return await _named_escalation(session, alert) or await _own_escalation(session, alert)


async def _named_escalation(session: Session, text: str) -> str | None:
    """The id, if it is that of an escalation which the caller may see."""
    if _as_id(text) is None:
        return None
    try:
        return str((await session.client.get(f"/v1/escalations/{text}"))["id"])
    except Failed as failed:
        if failed.code != "not_found":
            raise
        return None


async def _own_escalation(session: Session, alert: str) -> str:
    partner = await session.client.own_partner()
    alert_id = await alert_id_of(session, alert)
    found = await session.client.items("/v1/escalations", alert_id=alert_id, partner=partner)
    own = [escalation for escalation in found if escalation["kind"] != "takeover"] or found
    if not own:
        raise Failed(f"{partner} is not asked about {alert}.", exit_code=Exit.REFUSED, code="not_found")
    return str(own[0]["id"])


def _tell(session: Session, escalations: list[dict[str, Any]], *, empty: str) -> None:
    now = session.clock.now()
    rows = [
        (
            str(cell["alert"]["reference"]),
            str(cell["partner"]),
            state(str(cell["state"])),
            instant((cell["acknowledgement"] or {}).get("at"), now=now),
            plain(str((cell["acknowledgement"] or {}).get("by") or "")),
        )
        for cell in escalations
    ]
    columns = ["Alert", "Partner", "State", "Acknowledged", "By"]
    session.output.table(columns, rows, items=escalations, empty=empty)


# --- board, on-call, token --------------------------------------------------------------------------------------------


@calls
async def board(
    session: Session, live: Annotated[bool, typer.Option("--watch", help="Stay and show it live.")] = False
) -> None:
    """Shows every open alert × partner: state, level, what comes next, last attempt.

    For example:

        redphone board --watch --as xr-duty-officer
    """
    if live:
        await watch.watch_board(session)
        return
    view = watch.View(session.clock, lambda _: True)
    said = await session.client.get("/v1/board")
    cells = view.take(watch.ServerEvent("board", said, None))
    if session.output.as_json:
        for cell in cells:
            session.output.json(cell)
        return
    session.output.show(watch.picture(view))


@calls
async def token(session: Session) -> None:
    """Gets a token and prints it, for curl and scripts. It is valid for 15 minutes: keep it out of logs.

    For example:

        curl -H "Authorization: Bearer $(redphone token --as ca-duty-officer)" http://127.0.0.1:8000/v1/alerts
    """
    said = await session.client.sign_in()
    if session.output.as_json:
        session.output.json(said)
    else:
        session.output.console.print(said["access_token"], soft_wrap=True)


def _as_id(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None

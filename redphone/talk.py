"""Talking with the raiser: `redphone ask`, `questions`, `answer-question`, `read-back`, `confirm-read-back`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from redphone.answers import ContactOption, alert_id_of, escalation_of
from redphone.client import segment
from redphone.commands import Session, calls
from redphone.exits import Exit, Failed
from redphone.output import instant, plain

AlertArgument = Annotated[
    str, typer.Argument(metavar="ALERT", help="Reference, or id of alert or escalation.", show_default=False)
]
TextArgument = Annotated[
    str, typer.Argument(metavar="TEXT", help="In your own words; no personal data, ever.", show_default=False)
]


@calls
async def ask(session: Session, alert: AlertArgument, text: TextArgument, *, contact: ContactOption = None) -> None:
    """Asks the raiser what your government needs to know. The answer goes to all who were asked.

    A question stops nothing: acknowledge as well. For example:

        redphone ask RP-CA-2026-0042 "Are unaccompanied minors among them?"
    """
    escalation_id = await escalation_of(session, alert)
    body = {"text": text} | ({"contact_id": contact} if contact else {})
    _tell(session, [await session.client.post(f"/v1/escalations/{escalation_id}/questions", body)])


@calls
async def questions(session: Session, alert: AlertArgument) -> None:
    """Lists the questions about an alert, with their answers.

    For example:

        redphone questions RP-CA-2026-0042 --as ca-duty-officer
    """
    alert_id = await alert_id_of(session, alert)
    _tell(session, (await session.client.get("/v1/questions", alert_id=alert_id))["questions"])


@calls
async def answer_question(
    session: Session,
    question: Annotated[str, typer.Argument(metavar="QUESTION", help="The question's id.", show_default=False)],
    text: TextArgument,
) -> None:
    """Answers a question for the raising government. Everybody who was asked by the alert is told.

    For example:

        redphone answer-question 01a201d9-0894-76cc-818c-a0f06597d362 "Yes, eleven"
    """
    _tell(session, [await session.client.post(f"/v1/questions/{segment(question)}/answer", {"text": text})])


@calls
async def read_back(
    session: Session,
    alert: AlertArgument,
    *,
    country: Annotated[str, typer.Option("--country", help="Where it is.", metavar="TEXT", show_default=False)],
    request: Annotated[str, typer.Option("--request", help="What is asked.", metavar="TEXT", show_default=False)],
    time: Annotated[str, typer.Option("--time", help="By when.", metavar="TEXT", show_default=False)],
    contact: ContactOption = None,
) -> None:
    """Repeats country, request and time, where the network asks for that. The raiser confirms or rejects it.

    For example:

        redphone read-back RP-CA-2026-0042 --country Afghanistan --request "200 places" --time "by 31 August"
    """
    escalation_id = await escalation_of(session, alert)
    body = {"country": country, "request": request, "time": time} | ({"contact_id": contact} if contact else {})
    _tell_read_back(session, await session.client.post(f"/v1/escalations/{escalation_id}/read-back", body))


@calls
async def confirm_read_back(
    session: Session,
    alert: AlertArgument,
    partner: Annotated[str, typer.Argument(metavar="PARTNER", help="Whose read-back it is.", show_default=False)],
    *,
    wrong: Annotated[bool, typer.Option("--wrong", help="It is not right: the person is asked again.")] = False,
    note: Annotated[str | None, typer.Option("--note", help="What is wrong with it.", metavar="TEXT")] = None,
) -> None:
    """Says for the raising government that a partner's read-back is right, or with --wrong that it is not.

    For example:

        redphone confirm-read-back RP-CA-2026-0042 US --wrong --note "It is 400 places"
    """
    alert_id = await alert_id_of(session, alert)
    code = partner.strip().upper()
    found = await session.client.items("/v1/escalations", alert_id=alert_id, partner=code)
    own = [escalation for escalation in found if escalation["kind"] != "takeover"]
    if not own:
        raise Failed(f"{code} is not asked about {alert}.", exit_code=Exit.REFUSED, code="not_found")
    body: dict[str, Any] = {"correct": not wrong} | ({"note": note} if note else {})
    path = f"/v1/escalations/{own[0]['id']}/read-back/confirmation"
    _tell_read_back(session, await session.client.post(path, body))


def _tell(session: Session, questions: list[dict[str, Any]]) -> None:
    now = session.clock.now()
    rows = [
        (
            plain(str(question["id"])),
            plain(question["partner"] or ""),
            plain(question["question"] or "(withheld)"),
            instant(question["answered_at"], now=now),
            plain(question["answer"] or ""),
        )
        for question in questions
    ]
    columns = ["Question", "Partner", "Asked", "Answered", "Answer"]
    session.output.table(columns, rows, items=questions, empty="Nobody has asked anything.")


def _tell_read_back(session: Session, escalation: dict[str, Any]) -> None:
    said = escalation["read_back"] or {}
    row = (
        plain(str(escalation["alert"]["reference"])),
        plain(str(escalation["partner"])),
        plain(str(said.get("state") or "")),
        plain("; ".join(str(said[name]) for name in ("country", "request", "time") if said.get(name))),
        plain(str(said.get("note") or "")),
    )
    columns = ["Alert", "Partner", "Read-back", "Said", "Note"]
    session.output.table(columns, [row], items=[escalation], empty="")

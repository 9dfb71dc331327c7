"""`redphone pages`: every page of an alert's escalations, each try at sending it, who carried it and what it cost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Annotated, Any

import typer
from rich.text import Text

from redphone.answers import alert_id_of
from redphone.client import segment
from redphone.commands import Session, calls
from redphone.output import clean, grid_of, instant, plain, state

COLUMNS = ["Level", "To", "By", "Page", "Tried", "What came of it", "Sent in", "Arrived", "Carried by", "Cost"]

AlertArgument = Annotated[str, typer.Argument(metavar="ALERT", help="Reference or id of an alert.", show_default=False)]


@calls
async def pages(
    session: Session,
    alert: AlertArgument,
    partner: Annotated[str | None, typer.Option("--partner", help="One partner only.", metavar="CODE")] = None,
) -> None:
    """Shows every page that was sent for an alert, as far as you may see it: each try, with state, reason, provider,
    the provider's id, how long it took, and what it cost where the provider tells.

    For example:

        redphone pages RP-CA-2026-0042 --partner GB --as ca-duty-officer
    """
    alert_id, code = await alert_id_of(session, alert), None if partner is None else partner.upper()
    listed = await session.client.items("/v1/escalations", alert_id=alert_id, partner=code)
    found = [await session.client.get(f"/v1/escalations/{segment(str(one['id']))}") for one in listed]
    output = session.output
    if output.as_json:
        for escalation in found:
            output.json(escalation)
        return
    if not found:
        output.say("Nobody whom you may see was asked about it.")
    now = session.clock.now()
    for escalation in found:
        output.show(_heading(escalation))
        grid = grid_of(COLUMNS)
        for page in escalation["pages"]:
            for row in _rows(page, now):
                grid.add_row(*(clean(cell) for cell in row))
        output.show(grid if grid.row_count else Text("No page was sent, or none that you may see."))
        output.show(Text())


def _heading(escalation: Mapping[str, Any]) -> Text:
    subject = f" for {escalation['subject_partner']}" if escalation["subject_partner"] else ""
    kind = f" ({escalation['kind']}{subject})" if escalation["kind"] != "answer" else ""
    heading = Text(f"{plain(escalation['alert']['reference'])} · {plain(escalation['partner'])}{kind} · ", style="bold")
    return heading + state(escalation["state"])


def _rows(page: Mapping[str, Any], now: datetime) -> Iterator[tuple[str | Text, ...]]:
    """One row for each try, and one for the try that is still to come."""
    head = (str(page["level"] or ""), plain(page["told"]), page["channel"], page["message_type"])
    for attempt in page["attempts"]:
        words = [attempt["state"] or "under way", attempt["reason"] or "", attempt["detail"] or ""]
        yield (
            *head,
            instant(attempt["started_at"], now=now),
            plain(" · ".join(word for word in words if word)),
            _seconds(attempt["elapsed_seconds"]),
            _seconds(attempt["latency_seconds"]),
            plain(" ".join(filter(None, (attempt["provider"], attempt["provider_id"])))),
            plain(f"{attempt['cost']['amount']} {attempt['cost']['currency']}") if attempt["cost"] else "",
        )
    if page["next_attempt_at"]:
        yield (*head, instant(page["next_attempt_at"], now=now), "due", "", "", "", "")
    elif not page["attempts"]:
        yield (*head, "–", page["state"], "", "", "", "")


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.2f} s"

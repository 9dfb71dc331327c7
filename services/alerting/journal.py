"""What is written down beside a change: timeline rows, which people see, and record rows, which auditors do.

Neither the record nor a row that is only the raiser's holds any text of an alert.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson

from services.alerting.crises.domain import Crisis
from services.alerting.domain import Alert
from services.alerting.store import Entry
from services.alerting.visibility import COMMUNITY
from shared import record
from shared.contracts import SECRETARIAT, AlertEnded, AlertReleased
from shared.events import EVERYONE, Cause, Event, Message, wire_body
from shared.process import Deps

# --- timeline rows ----------------------------------------------------------------------------------------------------


def entry_of(message: Message[Event], alert: Alert) -> Entry:
    """The row for what was said; the secretariat learns that it was, and at GREEN and CLEAR everybody does."""
    body = message.body
    assert isinstance(body, (AlertReleased, AlertEnded))
    everybody = {EVERYONE} if alert.content.tlp in COMMUNITY else set()
    return Entry(
        id=message.id,
        alert_id=alert.id,
        occurred_at=message.occurred_at,
        type=body.type,
        body=wire_body(message).decode(),
        visible_to=tuple(sorted(body.visible_to() | {SECRETARIAT} | everybody)),
    )


def told_entry(message: Message[Any], alert_id: UUID) -> Entry:
    """The row for what escalation reports."""
    return Entry(
        id=message.id,
        alert_id=alert_id,
        occurred_at=message.occurred_at,
        type=message.body.type,
        body=message.body.model_dump_json(),
        visible_to=tuple(sorted(message.body.visible_to())),
    )


def local_entry(deps: Deps, alert: Alert, type_: str, data: Mapping[str, Any], now: datetime) -> Entry:
    """A row that only the raiser sees."""
    return Entry(
        id=deps.ids.new(),
        alert_id=alert.id,
        occurred_at=now,
        type=type_,
        body=orjson.dumps({"reference": alert.reference, **data}, default=str).decode(),
        visible_to=(alert.raiser,),
    )


def drafted_entry(deps: Deps, alert: Alert, now: datetime) -> Entry:
    """The row that tells the raiser's own people of a new draft."""
    data = {"by": alert.drafted_by.name, "precedence": alert.content.precedence, "corrects": alert.corrects}
    return local_entry(deps, alert, "alert_drafted", data, now)


def superseded_entry(deps: Deps, before: Alert, alert: Alert, now: datetime) -> Entry:
    """The row that tells the raiser's own people what replaced an alert."""
    data = {"superseded_by": alert.id, "by_reference": alert.reference}
    return local_entry(deps, before, "alert_superseded", data, now)


# --- record rows ------------------------------------------------------------------------------------------------------


def record_rows(deps: Deps, entries: Iterable[record.Entry], cause: Cause, now: datetime) -> list[dict[str, Any]]:
    """The record's rows for these entries."""
    listed = list(entries)
    ids = deps.ids.many(len(listed))
    return [
        record.row_of(entry, cause=cause, row_id=row_id, now=now) for entry, row_id in zip(listed, ids, strict=True)
    ]


def about(alert: Alert, kind: str, **data: Any) -> record.Entry:
    """A record entry about an alert; values that are None are left out."""
    return record.Entry(
        kind=kind,
        partner=alert.raiser,
        alert_id=alert.id,
        object_id=alert.id,
        data={"reference": alert.reference, **{name: value for name, value in data.items() if value is not None}},
    )


def facts(alert: Alert) -> dict[str, Any]:
    """What the record says of every alert: its handling and audience, none of its text."""
    content = alert.content
    return {
        "version": alert.version,
        "msg_type": alert.msg_type.value,
        "status": content.status.value,
        "precedence": content.precedence.value,
        "tlp": content.tlp.value,
        "to": list(content.to),
        "for_information": list(content.for_information),
        "crisis_id": str(alert.crisis_id),
        "corrects": alert.corrects and str(alert.corrects),
    }


def released_record(alert: Alert) -> record.Entry:
    """The record of a release."""
    return about(
        alert,
        "alert.released",
        **facts(alert),
        asks_anew=alert.asks_anew,
        expires_at=str(alert.expires_at),
        drafted_by=alert.drafted_by.subject,
        needs_review=alert.needs_review,
        self_release_reason=alert.self_release_reason,
    )


def superseded_record(alert: Alert) -> record.Entry:
    """The record of an alert that its correction has replaced."""
    return about(alert, "alert.superseded", superseded_by=str(alert.superseded_by))


def ended_record(alert: Alert, reason: str | None = None) -> record.Entry:
    """The record of an end, by hand or by time."""
    return about(
        alert,
        f"alert.{alert.state}",
        addressed=sorted(alert.addressed),
        needs_review=alert.needs_review,
        self_release_reason=reason,
    )


def said_again_record(alert: Alert) -> record.Entry:
    """The record of a release that was published once more."""
    return about(alert, "alert.said_again", missing=sorted(alert.unconfirmed))


def crisis_opened(crisis: Crisis) -> record.Entry:
    """The record of a new crisis."""
    return record.Entry(
        kind="crisis.opened",
        partner=crisis.owner,
        object_id=crisis.id,
        data={
            "countries": list(crisis.countries),
            "state": crisis.state.value,
            "tlp": crisis.tlp.value,
            **({} if crisis.led_by is None else {"led_by": str(crisis.led_by)}),
        },
    )

"""Listing hand-overs and signing them. Only the two people whom it concerns sign, each for themselves.

A signature keeps which escalations were open when it was given: what one person knew of, and the other took over.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from services.escalation import notices, reading, store
from services.escalation.deps import EscalationDeps
from services.escalation.directory import Directory
from services.escalation.hand_overs import store as hand_over_store
from services.escalation.hand_overs.domain import (
    NOTE_CHARACTERS_MAX,
    Change,
    HandOverState,
    Side,
    check_open,
    is_open,
    listed,
    signed_changes,
    state_of,
)
from services.escalation.messages import instant
from services.escalation.store import Row
from shared import outbox, record
from shared.contracts import HandOverSigned, PlannedContact, Role
from shared.db import Transaction
from shared.errors import Forbidden, Invalid, NotFound
from shared.events import Cause, Event, Message
from shared.ids import derived
from shared.keys import CannotOpen
from shared.log import get_logger
from shared.security import Principal

log = get_logger(__name__)

SIGNING_ROLES = (Role.DUTY_OFFICER, Role.SENIOR_CONTACT)
SEEING_ROLES = (*SIGNING_ROLES, Role.ROSTER_MANAGER)

OPEN_LISTED_MAX = 200
"""More open escalations of one partner are not listed: in two hundred alerts at once nobody reads the rest."""


@dataclass(frozen=True, slots=True)
class Signature:
    """One of the two, and whether they have signed. `note` and `open_escalations` are None where there are none to
    see.
    """

    contact_id: UUID
    contact: PlannedContact | None
    signed_at: datetime | None
    note: str | None
    open_escalations: Sequence[Mapping[str, Any]] | None


@dataclass(frozen=True, slots=True)
class HandOver:
    """A hand-over as people of its partner see it."""

    change: Change
    state: HandOverState
    outgoing: Signature
    incoming: Signature
    own_side: Side | None
    """Which of the two the caller is."""


@dataclass(frozen=True, slots=True)
class Listing:
    """Hand-overs of one partner in order of time, and its escalations that are open now."""

    hand_overs: Sequence[HandOver]
    open_escalations: Sequence[Mapping[str, Any]]


async def list_hand_overs(
    deps: EscalationDeps, principal: Principal, partner: str | None, state: HandOverState | None
) -> Listing:
    """The hand-overs of the caller's partner; another partner's answer like those of a partner that is not there."""
    now = deps.clock.now()
    if partner is not None and partner != principal.partner:
        raise NotFound("there is no such partner, or its hand-overs are not yours to see")
    principal.require(*SEEING_ROLES)
    async with deps.intake.transaction() as tx:
        directory = await deps.directories.find_one(tx, principal.partner)
        changes = listed(directory.plan, now) if directory.plan is not None else []
        rows = await hand_over_store.find(tx, principal.partner, [change.id for change in changes])
        open_now = await _find_open(tx, principal)
    found = [_shown(deps, principal, directory, change, rows.get(change.id)) for change in changes]
    return Listing([one for one in found if state is None or one.state is state], open_now)


async def sign_hand_over(
    deps: EscalationDeps, principal: Principal, hand_over_id: UUID, note: str | None, *, cause: Cause
) -> HandOver:
    """Signs for the caller. A second time changes nothing, and neither does another note then.

    Raises `NotFound` for a hand-over that the newest duty plan does not hold, `Forbidden` for anybody but the two,
    `Conflict` where it is too early or too late, and `Unavailable` while an alert is being opened.
    """
    now = deps.clock.now()
    note = _checked(note)
    messages: list[Message[Event]] = []
    async with deps.intake.transaction() as tx:
        directory = await deps.directories.find_one(tx, principal.partner)
        change, side = _own_change(directory, principal, hand_over_id)
        row = await hand_over_store.load(tx, principal.partner, change)
        if row[f"{side}_signed_at"] is None:
            check_open(change, now)
            # Whoever goes on with an opening after a crash must come to the same people as before it.
            await store.refuse_while_opening(tx, now)
            open_now = await _find_open(tx, principal)
            row = await hand_over_store.save_signature(
                tx,
                change.id,
                side,
                signed_at=now,
                open_escalations=open_now,
                note=None if note is None else deps.keys.encrypt(note, context=_note_context(change.id, side)),
            )
            entry = _entry(principal, change, side, open_now, has_note=note is not None)
            await record.append(tx, [entry], cause=cause, ids=deps.ids, now=now)
            messages = await outbox.append(tx, [_event(principal, row)], cause=cause, ids=deps.ids, now=now)
            await _tell_other(deps, tx, principal, change, side, cause=cause, now=now)
    await deps.relay.publish(messages)
    if messages:
        deps.wake("delivery")
    return _shown(deps, principal, directory, change, row)


def _checked(note: str | None) -> str | None:
    said = None if note is None else note.replace("\r\n", "\n").strip()
    if said and len(said) > NOTE_CHARACTERS_MAX:
        raise Invalid(f"at most {NOTE_CHARACTERS_MAX} characters", code="too_long", field="note")
    if said and any(unicodedata.category(sign) in ("Cc", "Cs") and sign not in "\n\t" for sign in said):
        raise Invalid("holds a control character; use plain text", field="note")
    return said or None


def _own_change(directory: Directory, principal: Principal, hand_over_id: UUID) -> tuple[Change, Side]:
    """The hand-over and the caller's side of it."""
    changes = signed_changes(directory.plan) if directory.plan is not None else []
    change = next((change for change in changes if change.id == hand_over_id), None)
    if change is None:
        raise NotFound("there is no such hand-over, or it is not yours to see")
    principal.require(*SIGNING_ROLES)
    if not principal.is_person:
        raise Forbidden("only a person can sign", code="person_required")
    side = change.side_of(principal.contact_id)
    if side is None:
        raise Forbidden("only whoever hands over and whoever takes over can sign", code="not_your_hand_over")
    return change, side


async def _find_open(tx: Transaction, principal: Principal) -> list[dict[str, Any]]:
    """The partner's escalations in which something is still owed, as far as the caller may see escalations at all."""
    wanted = reading.Wanted(partner=principal.partner, open_alerts_only=True, limit=OPEN_LISTED_MAX)
    return [
        {
            "escalation_id": str(row["id"]),
            "alert_id": str(row["alert_id"]),
            "reference": row["alert"].reference,
            "precedence": row["alert"].precedence.value,
            "kind": row["kind"],
            "state": row["state"],
            "level": row["level"],
        }
        for row in await reading.find_cells(tx, principal, wanted)
        if is_open(row["kind"], row["state"])
    ]


def _event(principal: Principal, row: Row) -> HandOverSigned:
    return HandOverSigned(
        partner=principal.partner,
        rota_id=row["rota_id"],
        start_at=row["start_at"],
        outgoing_id=row["outgoing_id"],
        incoming_id=row["incoming_id"],
        outgoing_signed_at=row["outgoing_signed_at"],
        incoming_signed_at=row["incoming_signed_at"],
    )


def _entry(
    principal: Principal, change: Change, side: Side, open_now: Sequence[Mapping[str, Any]], *, has_note: bool
) -> record.Entry:
    """Who signed what, and what was open then; the note's words stay out."""
    return record.Entry(
        kind="hand_over.signed",
        partner=principal.partner,
        object_id=change.id,
        data={
            "rota_id": str(change.rota_id),
            "start_at": instant(change.start_at),
            "side": side.value,
            "contact_id": str(principal.contact_id),
            "escalation_ids": [one["escalation_id"] for one in open_now],
            "note": has_note,
        },
    )


async def _tell_other(
    deps: EscalationDeps,
    tx: Transaction,
    principal: Principal,
    change: Change,
    side: Side,
    *,
    cause: Cause,
    now: datetime,
) -> None:
    await notices.issue(
        tx,
        deps,
        partner=principal.partner,
        kind="hand_over_signed",
        contact_ids=(change.other(side),),
        facts={"rota": change.rota, "start_at": instant(change.start_at), "signed_by": principal.name},
        urgent=False,
        expires_at=change.until_at,
        now=now,
        notice_id=derived("hand-over signed", str(change.id), side.value),
        cause=cause,
    )


def _note_context(hand_over_id: UUID, side: Side) -> bytes:
    return b"hand-over note" + hand_over_id.bytes + side.value.encode()


def _shown(
    deps: EscalationDeps, principal: Principal, directory: Directory, change: Change, row: Row | None
) -> HandOver:
    def signature(side: Side, contact_id: UUID) -> Signature:
        sees_open = row is not None and reading.sees_escalations(principal)
        return Signature(
            contact_id=contact_id,
            contact=directory.contact(contact_id),
            signed_at=row[f"{side}_signed_at"] if row is not None else None,
            note=_note(deps, principal, change, side, row),
            open_escalations=row[f"{side}_open"] if row is not None and sees_open else None,
        )

    signed_at = (None, None) if row is None else (row["outgoing_signed_at"], row["incoming_signed_at"])
    return HandOver(
        change=change,
        state=state_of(*signed_at),
        outgoing=signature(Side.OUTGOING, change.outgoing_id),
        incoming=signature(Side.INCOMING, change.incoming_id),
        own_side=change.side_of(principal.contact_id) if principal.is_person else None,
    )


def _note(deps: EscalationDeps, principal: Principal, change: Change, side: Side, row: Row | None) -> str | None:
    """What one of the two wrote for the other; nobody else reads it."""
    if row is None or row[f"{side}_note"] is None or change.side_of(principal.contact_id) is None:
        return None
    try:
        return deps.keys.decrypt(row[f"{side}_note"], context=_note_context(change.id, side))
    except CannotOpen:
        log.error("hand_over.note_unreadable", hand_over_id=str(change.id), partner=principal.partner)
        return None

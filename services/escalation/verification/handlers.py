"""Whether a contact point reaches whom it should: a code goes over that very point, and its owner returns it.

The cast: `start_verification` sends the code, or asks a system by a test message and takes its 2xx for an answer;
`return_code` takes what the owner read. Roster hears of it by `ContactPointVerified`.

The promises: a code lies nowhere, it is derived from its page; it holds for half an hour, for the address that it was
sent to, and for five tries. Nobody can have somebody else's telephone ring again and again: one code a minute, and no
more than twenty a day. A person verifies their own points, and a roster manager those of offices and systems.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

from services.escalation import store
from services.escalation.answering import links
from services.escalation.channels import AttemptState
from services.escalation.deps import EscalationDeps
from services.escalation.directory import Directory, Target
from services.escalation.messages import instant
from services.escalation.verification import store as verification_store
from services.escalation.verification.store import Verification
from shared import outbox, record
from shared.contracts import ChannelName, ContactPointVerified, Precedence, Role
from shared.db import Transaction
from shared.errors import Conflict, Forbidden, Invalid, NotFound, Rejected
from shared.events import Cause, Event, Message
from shared.keys import CannotOpen, fingerprints, point_context
from shared.security import Principal

PING_TYPE = "test.ping"

CODE_VALID = timedelta(minutes=30)
WRONG_TRIES_MAX = 5
"""One in two hundred thousand guesses of them all."""
ASKED_AGAIN_AFTER = timedelta(minutes=1)
ASKED_PER_DAY_MAX = 20
DAY = timedelta(days=1)

PRIORITY = 20 + Precedence.FLASH.rank
"""Behind every alert and drill; and like FLASH it is not held back to gather with others: somebody waits for it."""


class Stage(StrEnum):
    """How far a verification is."""

    CODE_SENT = "code_sent"
    VERIFIED = "verified"


@dataclass(frozen=True, slots=True)
class Verifying:
    """A verification as its owner sees it."""

    contact_point_id: UUID
    channel: ChannelName
    stage: Stage
    code_valid_until: datetime | None = None
    tries_left: int | None = None
    verified_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class _Point:
    """One contact point or endpoint of the caller's partner, and the address that it leads to now, by its names."""

    target: Target
    fingerprints: tuple[str, ...]

    @property
    def is_system(self) -> bool:
        return self.target.channel is ChannelName.WEBHOOK


async def start_verification(
    deps: EscalationDeps, principal: Principal, contact_point_id: UUID, *, cause: Cause
) -> Verifying:
    """Sends a code to a contact point, or a test message to a system. A new code ends the one before.

    Raises `Conflict` within a minute of the last code, after twenty in a day, and if a system does not answer 2xx.
    """
    now, page_id = deps.clock.now(), deps.ids.new()
    async with deps.intake.transaction() as tx:
        point = await _own_point(deps, tx, principal, contact_point_id)
        asked = _asked_anew(await verification_store.load(tx, contact_point_id), point, principal, page_id, now)
        if not await verification_store.save(tx, asked):
            raise _just_sent()
        row = _page_row(point.target, asked, now)
        if not point.is_system:
            await store.insert_pages(tx, [row])
        entry = _entry("contact_point.verification_asked", asked, point)
        await record.append(tx, [entry], cause=cause, ids=deps.ids, now=now)
    if point.is_system:
        return await _ask_system(deps, point, asked, row, cause=cause)
    deps.wake("delivery")
    return _shown(asked, point)


async def return_code(
    deps: EscalationDeps, principal: Principal, contact_point_id: UUID, code: str, *, cause: Cause
) -> Verifying:
    """Takes the code that was sent to a contact point. The right one a second time changes nothing.

    Raises `Invalid` for a wrong one, which counts, and `Conflict` if there is none that could be returned.
    """
    now = deps.clock.now()
    refused: Rejected | None = None
    messages: list[Message[Event]] = []
    async with deps.intake.transaction() as tx:
        point = await _own_point(deps, tx, principal, contact_point_id)
        asked = await verification_store.load(tx, contact_point_id)
        if asked is None or point.is_system:
            raise Conflict("no code was sent to this contact point", code="verification_not_asked")
        _require_open(asked, point, now)
        if links.is_verification_code(deps.keys, asked.page_id, code):
            if asked.verified_at is None:
                messages = await _verified(deps, tx, asked, point, cause=cause, now=now)
        else:
            left = WRONG_TRIES_MAX - asked.wrong_tries - 1
            await verification_store.save_wrong_try(tx, contact_point_id)
            entry = _entry("contact_point.code_refused", asked, point, tries_left=left)
            await record.append(tx, [entry], cause=cause, ids=deps.ids, now=now)
            detail = f"this is not the code; {left} {'try is' if left == 1 else 'tries are'} left"
            refused = Invalid(detail, code="verification_code_wrong", field="code")
    if refused is not None:
        # After the commit: a wrong try counts.
        raise refused
    await deps.relay.publish(messages)
    return Verifying(contact_point_id, point.target.channel, Stage.VERIFIED, verified_at=asked.verified_at or now)


async def _own_point(deps: EscalationDeps, tx: Transaction, principal: Principal, contact_point_id: UUID) -> _Point:
    """The point, if it is the caller's to verify; what is not there and what is another government's answer alike."""
    directory = await deps.directories.find_one(tx, principal.partner)
    owner = _owner_of(directory, contact_point_id)
    if owner is None:
        raise NotFound("there is no such contact point, or it is not yours to see")
    if owner.contact_id is not None:
        if not principal.is_person or principal.contact_id != owner.contact_id:
            raise Forbidden("only the person whom it belongs to verifies it", code="not_your_contact_point")
    else:
        principal.require(Role.ROSTER_MANAGER)
    target = next((one for one in directory.every_target() if one.contact_point_id == contact_point_id), None)
    if target is None:
        raise Conflict("this installation sends nothing over this channel", code="contact_point_unusable")
    try:
        address = deps.keys.unseal(target.sealed_address, context=point_context(contact_point_id))
    except CannotOpen:
        raise Conflict("its address cannot be opened; enter it again", code="contact_point_unusable") from None
    return _Point(target, fingerprints(deps.keys, contact_point_id, address))


@dataclass(frozen=True, slots=True)
class _Owner:
    contact_id: UUID | None


def _owner_of(directory: Directory, contact_point_id: UUID) -> _Owner | None:
    for contact in directory.plan.contacts if directory.plan is not None else ():
        if any(point.id == contact_point_id for point in contact.points):
            return _Owner(contact.id)
    office = directory.known_office()
    points = [point.id for point in office.points] if office is not None else []
    endpoints = directory.plan.endpoints if directory.plan is not None else directory.endpoints
    return _Owner(None) if contact_point_id in (*points, *(endpoint.id for endpoint in endpoints)) else None


def _asked_anew(
    before: Verification | None, point: _Point, principal: Principal, page_id: UUID, now: datetime
) -> Verification:
    first_asked_at, asked = now, 1
    if before is not None:
        if now < before.asked_at + ASKED_AGAIN_AFTER:
            raise _just_sent()
        if now < before.first_asked_at + DAY:
            first_asked_at, asked = before.first_asked_at, before.asked + 1
    if asked > ASKED_PER_DAY_MAX:
        raise Conflict(f"{ASKED_PER_DAY_MAX} codes in a day are enough; try tomorrow", code="verification_limit")
    return Verification(
        contact_point_id=point.target.contact_point_id,
        partner=principal.partner,
        page_id=page_id,
        fingerprint=point.fingerprints[0],
        wrong_tries=0,
        asked_at=now,
        first_asked_at=first_asked_at,
        asked=asked,
    )


def _just_sent() -> Conflict:
    return Conflict("one was sent less than a minute ago; wait for it", code="verification_just_sent")


def _require_open(asked: Verification, point: _Point, now: datetime) -> None:
    if asked.fingerprint not in point.fingerprints:
        raise Conflict("it was sent to an address that has changed since", code="verification_expired")
    if now > asked.asked_at + CODE_VALID:
        raise Conflict("the code is older than half an hour; ask for another", code="verification_expired")
    if asked.wrong_tries >= WRONG_TRIES_MAX:
        raise Conflict("too many wrong codes; ask for another", code="verification_locked")


async def _ask_system(
    deps: EscalationDeps, point: _Point, asked: Verification, row: dict[str, Any], *, cause: Cause
) -> Verifying:
    """One attempt with no transaction open; only an answer of 2xx verifies."""
    result = await deps.senders.try_once(row)
    if result.state is not AttemptState.DELIVERED:
        said = result.detail or result.reason.value
        raise Conflict(f"the system did not take a test message: {said}", code="endpoint_did_not_answer")
    now = deps.clock.now()
    async with deps.intake.transaction() as tx:
        messages = await _verified(deps, tx, asked, point, cause=cause, now=now)
    await deps.relay.publish(messages)
    return Verifying(asked.contact_point_id, point.target.channel, Stage.VERIFIED, verified_at=now)


async def _verified(
    deps: EscalationDeps, tx: Transaction, asked: Verification, point: _Point, *, cause: Cause, now: datetime
) -> list[Message[Event]]:
    await verification_store.save_verified(tx, asked.contact_point_id, now)
    event = ContactPointVerified(
        contact_point_id=asked.contact_point_id,
        partner=asked.partner,
        channel=point.target.channel,
        verified_at=now,
        fingerprint=asked.fingerprint,
    )
    await record.append(tx, [_entry("contact_point.verified", asked, point)], cause=cause, ids=deps.ids, now=now)
    return await outbox.append(tx, [event], cause=cause, ids=deps.ids, now=now)


def _entry(kind: str, asked: Verification, point: _Point, **data: Any) -> record.Entry:
    said = {"channel": point.target.channel.value, "page_id": str(asked.page_id), **data}
    return record.Entry(kind=kind, partner=asked.partner, object_id=asked.contact_point_id, data=said)


def _page_row(target: Target, asked: Verification, now: datetime) -> dict[str, Any]:
    """A page of no alert and no escalation. It says until when the code holds; the code comes to it when it is sent."""
    is_system = target.channel is ChannelName.WEBHOOK
    row: dict[str, Any] = {
        "id": asked.page_id,
        "escalation_id": None,
        "alert_id": None,
        "partner": asked.partner,
        "contact_point_id": target.contact_point_id,
        "contact_id": target.contact_id,
        "channel": target.channel,
        "sealed_address": target.sealed_address,
        "told": target.told,
        "message_type": PING_TYPE if is_system else links.VERIFICATION_TYPE,
        "level": 0,
        "asks": False,
        "data": None if is_system else {"valid_until": instant(now + CODE_VALID)},
        "priority": PRIORITY,
        "state": "due",
        "due_at": now,
        "attempts": 1 if is_system else 0,
        "give_up_at": now + CODE_VALID,
        "created_at": now,
    }
    if target.languages is not None:
        row.update(languages=list(target.languages), time_zone=target.time_zone)
    return row


def _shown(asked: Verification, point: _Point) -> Verifying:
    return Verifying(
        contact_point_id=asked.contact_point_id,
        channel=point.target.channel,
        stage=Stage.CODE_SENT,
        code_valid_until=asked.asked_at + CODE_VALID,
        tries_left=WRONG_TRIES_MAX,
    )

"""What is said: the life of an alert. Pure: no I/O, no clock, no logging.

The cast: an `Alert` is drafted by one person and released by another (or by its author alone, with a reason that is
reviewed). From then on what it says never changes; it can be superseded by an Update, cancelled, closed, or expire. A
`Caller` is whoever asks. Every function takes the state, who asks and the present instant, and returns the new state
with the event to publish, or raises `Rejected`.

The promise: whoever was addressed once is reached by every later message of the chain, on a clock that never starts
again.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from services.alerting import content as said
from services.alerting.content import Content, Network, Proposal
from shared.contracts import (
    RECIPIENTS,
    Actor,
    AlertEnded,
    AlertReleased,
    CredentialKind,
    EndReason,
    EscalationKind,
    MsgType,
    Precedence,
    Recipient,
    ReleaseAsked,
    Role,
)
from shared.errors import Conflict, FieldError, Forbidden, Invalid
from shared.ids import AlertId, CrisisId

REASON_CHARACTERS_MAX = 500


class AlertState(StrEnum):
    """`draft → released → superseded | cancelled | expired | closed`; nothing leads back."""

    DRAFT = "draft"
    RELEASED = "released"
    SUPERSEDED = "superseded"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, with the roles of the credential that was used."""

    actor: Actor
    roles: frozenset[Role]

    @property
    def partner(self) -> str:
        """The partner that the caller acts for."""
        return self.actor.partner

    def has(self, *roles: Role) -> bool:
        """Whether the caller holds at least one of the roles."""
        return not self.roles.isdisjoint(roles)


@dataclass(frozen=True, slots=True)
class Alert:
    """One message about a crisis. Released, it never changes what it says; `recipients` may only grow.

    `authors` wrote any part of it: none of them can be its second person. `needs_review`: somebody acted alone.
    `unconfirmed` are the addressed partners whose escalation has not been reported as opened yet.
    """

    id: AlertId
    root_id: AlertId
    reference: str
    crisis_id: CrisisId
    raiser: str
    msg_type: MsgType
    content: Content
    drafted_at: datetime
    drafted_by: Actor
    authors: tuple[Actor, ...]
    corrects: AlertId | None = None
    asks_anew: bool = False
    state: AlertState = AlertState.DRAFT
    version: int = 1
    recipients: tuple[Recipient, ...] = ()
    released_at: datetime | None = None
    released_by: Actor | None = None
    expires_at: datetime | None = None
    self_release_reason: str | None = None
    needs_review: bool = False
    ended_at: datetime | None = None
    ended_by: Actor | None = None
    end_note: str | None = None
    superseded_by: AlertId | None = None
    unconfirmed: frozenset[str] = frozenset()

    @property
    def addressed(self) -> frozenset[str]:
        """The partners that the released alert has been addressed to so far."""
        return frozenset(recipient.partner for recipient in self.recipients)


@dataclass(frozen=True, slots=True)
class Release:
    """A release decided: the alert, the predecessor that it supersedes, and the event that reaches everyone."""

    alert: Alert
    event: AlertReleased
    superseded: Alert | None = None


@dataclass(frozen=True, slots=True)
class Ending:
    """An end decided: the alert and the event that ends every escalation of it."""

    alert: Alert
    event: AlertEnded


"""Known partner codes, and whether each is active."""


# --- drafting ---------------------------------------------------------------------------------------------------------


def draft(
    proposal: Proposal,
    *,
    alert_id: AlertId,
    crisis_id: CrisisId,
    reference: str,
    by: Caller,
    network: Network,
    now: datetime,
    alone: bool = False,
    lasts: timedelta | None = None,
) -> Alert:
    """A new draft of the caller's partner. `alone`: it is released at once by the same officer, who needs that role.

    `lasts` is for a line test, which ends with the time to answer and so before anybody could be unreached.
    """
    may_draft(by, alone=alone)
    content = said.compose(proposal)
    said.check(content, raiser=by.partner, network=network)
    said.expiry_at_release(content, network=network, released_at=now, lasts=lasts)
    return Alert(
        id=alert_id,
        root_id=alert_id,
        reference=reference,
        crisis_id=crisis_id,
        raiser=by.partner,
        msg_type=MsgType.ALERT,
        content=content,
        drafted_at=now,
        drafted_by=by.actor,
        authors=(by.actor,),
    )


def edit(
    alert: Alert, proposal: Proposal, *, by: Caller, network: Network, now: datetime, predecessor: Alert | None = None
) -> Alert:
    """The draft with other words. Whoever edits becomes an author, and so can no longer be the second person."""
    (may_draft if predecessor is None else may_update)(by)
    _must_be_draft(alert, "edited")
    content = said.compose(proposal, base=alert.content)
    if predecessor is not None:
        _names_everyone(proposal, predecessor)
        content = _reaching_everyone(content, predecessor)
        _keeps_its_chain(content, predecessor)
    trusted = frozenset() if predecessor is None else predecessor.addressed
    said.check(content, raiser=alert.raiser, network=network, trusted=trusted)
    said.expiry_at_release(content, network=network, released_at=now)
    authors = alert.authors if any(_same_person(a, by.actor) for a in alert.authors) else (*alert.authors, by.actor)
    return replace(alert, content=content, authors=authors, version=alert.version + 1)


def draft_update(
    predecessor: Alert,
    proposal: Proposal,
    *,
    alert_id: AlertId,
    reference: str,
    asks_anew: bool,
    by: Caller,
    network: Network,
    now: datetime,
) -> Alert:
    """A draft that corrects a released alert; whatever it leaves unsaid stays as it was, the audience too.

    It reaches at least everyone whom the first reached, and nobody who owed an answer is let off by a correction.
    """
    may_update(by)
    _must_be_released(predecessor, "corrected", now)
    base = predecessor.content.model_copy(update={"expires_at": None})
    content = said.compose(proposal, base=base)
    _names_everyone(proposal, predecessor)
    content = _reaching_everyone(content, predecessor)
    _keeps_its_chain(content, predecessor)
    said.check(content, raiser=predecessor.raiser, network=network, trusted=predecessor.addressed)
    said.expiry_at_release(content, network=network, released_at=now)
    return Alert(
        id=alert_id,
        root_id=predecessor.root_id,
        corrects=predecessor.id,
        asks_anew=asks_anew,
        reference=reference,
        crisis_id=predecessor.crisis_id,
        raiser=predecessor.raiser,
        msg_type=MsgType.UPDATE,
        content=content,
        drafted_at=now,
        drafted_by=by.actor,
        authors=(by.actor,),
    )


# --- releasing --------------------------------------------------------------------------------------------------------


def release(
    alert: Alert,
    *,
    precedence: Precedence,
    by: Caller,
    network: Network,
    now: datetime,
    predecessor: Alert | None = None,
) -> Release:
    """The second person's release; they confirm the precedence by repeating it."""
    must_be_person(by)
    if not by.has(Role.RELEASER):
        raise Forbidden("releasing needs the role releaser", code="role_missing")
    _must_be_draft(alert, "released")
    if any(_same_person(author, by.actor) for author in alert.authors):
        detail = (
            "an alert is released by another person than those who wrote it; if nobody else can be reached, release it "
            "yourself with self_release_reason, which is reviewed"
        )
        raise Forbidden(detail, code="second_person_needed")
    confirm_precedence(alert, precedence)
    return _released(alert, by=by, network=network, predecessor=predecessor, reason=None, now=now)


def confirm_precedence(alert: Alert, precedence: Precedence) -> None:
    """Raises `Conflict` unless the releaser repeats the draft's precedence: it decides how fast people are woken."""
    if precedence is not alert.content.precedence:
        detail = f"the draft says {alert.content.precedence}, the release says {precedence}; read the draft again"
        raise Conflict(detail, code="precedence_not_confirmed", field="precedence")


def release_asked(alert: Alert) -> ReleaseAsked:
    """What the second person is told of a new draft: that it waits, and nothing of what it says."""
    return ReleaseAsked(
        alert_id=alert.id,
        reference=alert.reference,
        raiser=alert.raiser,
        status=alert.content.status,
        precedence=alert.content.precedence,
        tlp=alert.content.tlp,
        corrects=alert.corrects,
        drafted_by=alert.drafted_by,
        drafted_at=alert.drafted_at,
    )


def self_release(
    alert: Alert,
    *,
    reason: str,
    by: Caller,
    network: Network,
    now: datetime,
    predecessor: Alert | None = None,
    lasts: timedelta | None = None,
) -> Release:
    """The release by an officer who is alone, with a reason. It counts at once and is reviewed afterwards.

    `lasts` as for `draft`.
    """
    may_draft(by, alone=True)
    _check_reason(reason, "self_release_reason")
    _must_be_draft(alert, "released")
    return _released(alert, by=by, network=network, predecessor=predecessor, reason=reason, now=now, lasts=lasts)


def add_recipients(
    alert: Alert,
    *,
    to: Iterable[str],
    for_information: Iterable[str],
    by: Caller,
    network: Network,
    reason: str | None,
    now: datetime,
) -> Release | None:
    """The alert addressed to more partners, whose clocks start now. None when all of them were addressed before."""
    alone = _may_act_alone(by, reason)
    _must_be_released(alert, "addressed to more partners", now)
    kinds = {recipient.partner: recipient.kind for recipient in alert.recipients}
    asked: list[tuple[str, str, EscalationKind]] = [
        *((f"to[{n}]", code, EscalationKind.ANSWER) for n, code in enumerate(to)),
        *((f"for_information[{n}]", code, EscalationKind.INFORMATION) for n, code in enumerate(for_information)),
    ]
    if not asked:
        raise Invalid("name at least one partner, in to or in for_information", code="empty_audience", field="to")
    for field, code, kind in asked:
        if kinds.get(code, kind) is not kind:
            detail = f"{code} is addressed by this alert already, in the other way; change that by an Update"
            raise Conflict(detail, code="already_addressed", field=field)
    fresh = [(code, kind) for _, code, kind in asked if code not in kinds]
    if not fresh:
        return None
    _has_time_for(alert, fresh, network, now)
    content = alert.content.model_copy(
        update={
            "to": (*alert.content.to, *(c for c, kind in fresh if kind is EscalationKind.ANSWER)),
            "for_information": (
                *alert.content.for_information,
                *(c for c, kind in fresh if kind is EscalationKind.INFORMATION),
            ),
        }
    )
    # What was said was right at the release and cannot be changed: the network may have shortened its deadlines since.
    said.check_audience(content, raiser=alert.raiser, network=network, trusted=alert.addressed)
    grown = replace(
        alert,
        content=content,
        recipients=(*alert.recipients, *_addressed((code, kind, now) for code, kind in fresh)),
        needs_review=alert.needs_review or alone,
        unconfirmed=alert.unconfirmed | {code for code, _ in fresh},
        version=alert.version + 1,
    )
    return Release(alert=grown, event=released_event(grown))


def released_event(alert: Alert) -> AlertReleased:
    """The event of a released alert, with everybody whom it addresses by now."""
    assert alert.released_at is not None
    assert alert.released_by is not None
    assert alert.expires_at is not None
    content = alert.content
    return AlertReleased(
        alert_id=alert.id,
        root_alert_id=alert.root_id,
        corrects=alert.corrects,
        asks_anew=alert.asks_anew,
        reference=alert.reference,
        crisis_id=alert.crisis_id,
        raiser=alert.raiser,
        status=content.status,
        msg_type=alert.msg_type,
        precedence=content.precedence,
        tlp=content.tlp,
        released_at=alert.released_at,
        expires_at=alert.expires_at,
        acknowledge_within_seconds=content.acknowledge_within_seconds,
        coverage_goal=content.coverage_goal,
        recipients=alert.recipients,
        answers_visible=content.answers_visible,
        released_by=alert.released_by,
        drafted_by=alert.drafted_by,
        info=content.info,
        note=content.note,
    )


# --- ending -----------------------------------------------------------------------------------------------------------


def cancel(alert: Alert, *, note: str, by: Caller, reason: str | None, now: datetime) -> Ending:
    """The recall: the alert should not have been sent, and everyone whom it reached is told why."""
    if not note.strip():
        raise Invalid("a recall needs a note that says why", code="missing", field="note")
    return _ended_by_hand(alert, EndReason.CANCELLED, note=note, by=by, reason=reason, now=now)


def close(alert: Alert, *, note: str | None, by: Caller, reason: str | None, now: datetime) -> Ending:
    """The stand-down: the matter is over, and no answer is owed any more."""
    return _ended_by_hand(alert, EndReason.CLOSED, note=note, by=by, reason=reason, now=now)


def expire(alert: Alert, *, now: datetime) -> Ending | None:
    """The end that comes by itself; None while the alert still has time, or has ended otherwise."""
    if not _has_run_out(alert, now):
        return None
    ended = replace(alert, state=AlertState.EXPIRED, ended_at=now, unconfirmed=frozenset(), version=alert.version + 1)
    return Ending(ended, _ended_event(ended, EndReason.EXPIRED))


# --- references -------------------------------------------------------------------------------------------------------


def reference_of(raiser: str, year: int, number: int) -> str:
    """The reference that people speak on a line: counted per raiser and year, as `RP-CA-2026-0042`."""
    return f"RP-{raiser}-{year}-{number:04d}"


# --- rules ------------------------------------------------------------------------------------------------------------


def may_draft(by: Caller, *, alone: bool = False) -> None:
    """Raises `Forbidden` unless the caller may draft (`alone`: draft and release in one act)."""
    must_be_person(by)
    wanted = (Role.DUTY_OFFICER, Role.RELEASER) if alone else (Role.DRAFTER, Role.DUTY_OFFICER)
    if not by.has(*wanted):
        act = "releasing alone" if alone else "drafting"
        raise Forbidden(f"{act} needs the role {' or '.join(wanted)}", code="role_missing")


def may_update(by: Caller) -> None:
    """Raises `Forbidden` unless the caller may draft a correction; releasing it is decided like every release."""
    must_be_person(by)
    if not by.has(Role.RELEASER, Role.DUTY_OFFICER, Role.DRAFTER):
        raise Forbidden("drafting an Update needs the role releaser, duty_officer or drafter", code="role_missing")


def _may_act_alone(by: Caller, reason: str | None) -> bool:
    """Raises `Forbidden` unless a releaser acts, or a duty officer who gives a reason; True means: to be reviewed."""
    must_be_person(by)
    if reason is not None:
        _check_reason(reason, "self_release_reason")
    if by.has(Role.RELEASER):
        return False
    if by.has(Role.DUTY_OFFICER):
        if reason is None:
            detail = "a duty officer does this alone only with self_release_reason, which is reviewed"
            raise Forbidden(detail, code="reason_needed")
        return True
    raise Forbidden("this needs the role releaser, or duty_officer with self_release_reason", code="role_missing")


def must_be_person(by: Caller) -> None:
    """Raises `Forbidden` for a system."""
    if by.actor.kind is not CredentialKind.PERSON:
        raise Forbidden("only a person may do this, and this credential belongs to a system", code="person_needed")


def _same_person(one: Actor, other: Actor) -> bool:
    """Whether two actors are one human: one subject, or two credentials of one contact."""
    if one.subject == other.subject:
        return True
    return one.contact_id is not None and one.contact_id == other.contact_id


def _must_be_draft(alert: Alert, act: str) -> None:
    if alert.state is not AlertState.DRAFT:
        detail = f"{alert.reference} is {alert.state}; only a draft can be {act}"
        raise Conflict(detail, code="not_a_draft")


def _must_be_released(alert: Alert, act: str, now: datetime) -> None:
    """Raises `Conflict` unless the alert is in force: from `expires_at` on it is expired, noted as such or not."""
    state = AlertState.EXPIRED if _has_run_out(alert, now) else alert.state
    if state is AlertState.RELEASED:
        return
    hint = {
        AlertState.DRAFT: "it has not been released yet",
        AlertState.SUPERSEDED: "an Update has replaced it; act on the newest message of the chain",
        AlertState.EXPIRED: "it has expired; raise a new alert",
    }.get(state, "it has ended")
    raise Conflict(f"{alert.reference} cannot be {act}: {hint}", code=f"alert_{state}")


def _has_run_out(alert: Alert, now: datetime) -> bool:
    return alert.state is AlertState.RELEASED and alert.expires_at is not None and alert.expires_at <= now


def _check_reason(reason: str, field: str) -> None:
    errors: list[FieldError] = []
    if not reason.strip():
        errors.append(FieldError(field, f"{field} must say why nobody else could release", "missing"))
    said.check_text(reason, field, REASON_CHARACTERS_MAX, errors)
    if errors:
        raise said.invalid(errors)


def _names_everyone(proposal: Proposal, predecessor: Alert) -> None:
    """An audience that is given must hold everybody whom the earlier message addressed, none with a lesser duty."""
    if proposal.to is None and proposal.for_information is None:
        return
    owing = {r.partner for r in predecessor.recipients if r.kind is EscalationKind.ANSWER}
    told = predecessor.addressed - owing
    to = set(proposal.to if proposal.to is not None else predecessor.content.to)
    informed = set(
        proposal.for_information if proposal.for_information is not None else predecessor.content.for_information
    )
    errors = []
    if missing := sorted(owing - to):
        detail = f"{', '.join(missing)} owe an answer to {predecessor.reference} and must stay in to"
        errors.append(FieldError("to", detail, "audience_too_small"))
    if missing := sorted(told - to - informed):
        detail = f"{', '.join(missing)} received {predecessor.reference} and must receive its correction"
        errors.append(FieldError("for_information", detail, "audience_too_small"))
    if errors:
        raise said.invalid(errors)


def _reaching_everyone(content: Content, predecessor: Alert) -> Content:
    """The content addressed to everybody whom the predecessor has reached by now: some may have been added since."""
    owing = [r.partner for r in predecessor.recipients if r.kind is EscalationKind.ANSWER]
    told = [r.partner for r in predecessor.recipients if r.kind is EscalationKind.INFORMATION]
    to = tuple(dict.fromkeys((*content.to, *owing))) if not set(owing) <= set(content.to) else content.to
    informed = (*content.for_information, *(code for code in told if code not in content.for_information))
    return content.model_copy(update={"to": to, "for_information": tuple(code for code in informed if code not in to)})


def _keeps_its_chain(content: Content, predecessor: Alert) -> None:
    if content.status is not predecessor.content.status:
        detail = f"status never changes along a chain; {predecessor.reference} is {predecessor.content.status}"
        raise Invalid(detail, code="status_changed", field="status")


def _has_time_for(alert: Alert, fresh: Iterable[tuple[str, EscalationKind]], network: Network, now: datetime) -> None:
    """Raises `Conflict` if the alert would end before somebody added now could be found unreached and taken over."""
    unreached_after = timedelta(seconds=network.deadlines[alert.content.precedence].unreached_after_seconds)
    late = [code for code, kind in fresh if kind is EscalationKind.ANSWER]
    if late and alert.expires_at is not None and alert.expires_at < now + unreached_after:
        detail = (
            f"{alert.reference} ends before the deadlines of {', '.join(late)} could; "
            "send an Update with a later expires that addresses them"
        )
        raise Conflict(detail, code="alert_ends_too_soon", field="to")


def _addressed(wanted: Iterable[tuple[str, EscalationKind, datetime]]) -> tuple[Recipient, ...]:
    return RECIPIENTS.validate_python(
        [{"partner": code, "kind": kind, "addressed_at": at} for code, kind, at in wanted]
    )


def _recipients(content: Content, predecessor: Alert | None, now: datetime) -> tuple[Recipient, ...]:
    """Who is addressed since when: a correction keeps the clock of everybody who owed or received the same before."""
    before: dict[tuple[str, EscalationKind], datetime] = {}
    if predecessor is not None:
        before = {(r.partner, r.kind): r.addressed_at for r in predecessor.recipients}
    answer, information = EscalationKind.ANSWER, EscalationKind.INFORMATION
    wanted = [*((code, answer) for code in content.to), *((code, information) for code in content.for_information)]
    return _addressed((code, kind, before.get((code, kind), now)) for code, kind in wanted)


def _released(
    alert: Alert,
    *,
    by: Caller,
    network: Network,
    predecessor: Alert | None,
    reason: str | None,
    now: datetime,
    lasts: timedelta | None = None,
) -> Release:
    content, superseded, not_before = alert.content, None, None
    if alert.corrects is not None:
        assert predecessor is not None
        _must_be_released(predecessor, "corrected", now)
        content = _reaching_everyone(content, predecessor)
        not_before = predecessor.expires_at
        superseded = replace(
            predecessor,
            state=AlertState.SUPERSEDED,
            superseded_by=alert.id,
            ended_at=now,
            ended_by=by.actor,
            unconfirmed=frozenset(),
            version=predecessor.version + 1,
        )
    trusted = frozenset() if predecessor is None else predecessor.addressed
    said.check(content, raiser=alert.raiser, network=network, trusted=trusted)
    expires_at = said.expiry_at_release(content, network=network, released_at=now, not_before=not_before, lasts=lasts)
    blocks = tuple(block.model_copy(update={"expires": expires_at}) for block in content.info)
    recipients = _recipients(content, predecessor, now)
    released = replace(
        alert,
        state=AlertState.RELEASED,
        content=content.model_copy(update={"info": blocks, "expires_at": expires_at}),
        recipients=recipients,
        unconfirmed=frozenset(recipient.partner for recipient in recipients),
        released_at=now,
        released_by=by.actor,
        expires_at=expires_at,
        self_release_reason=reason,
        needs_review=reason is not None,
        version=alert.version + 1,
    )
    return Release(alert=released, event=released_event(released), superseded=superseded)


def _ended_by_hand(
    alert: Alert, reason_of_end: EndReason, *, note: str | None, by: Caller, reason: str | None, now: datetime
) -> Ending:
    alone = _may_act_alone(by, reason)
    errors: list[FieldError] = []
    said.check_text(note or "", "note", said.NOTE_CHARACTERS_MAX, errors)
    if errors:
        raise said.invalid(errors)
    _must_be_released(alert, "cancelled" if reason_of_end is EndReason.CANCELLED else "closed", now)
    ended = replace(
        alert,
        state=AlertState(reason_of_end.value),
        ended_at=now,
        ended_by=by.actor,
        end_note=note,
        unconfirmed=frozenset(),
        needs_review=alert.needs_review or alone,
        version=alert.version + 1,
    )
    return Ending(ended, _ended_event(ended, reason_of_end))


def _ended_event(alert: Alert, reason: EndReason) -> AlertEnded:
    assert alert.ended_at is not None
    return AlertEnded.model_validate(
        {
            "alert_id": alert.id,
            "root_alert_id": alert.root_id,
            "reference": alert.reference,
            "raiser": alert.raiser,
            "reason": reason,
            "ended_at": alert.ended_at,
            "note": alert.end_note,
            "recipients": alert.recipients,
        }
    )

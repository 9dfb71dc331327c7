"""Answers that come back on the channel that asked: by link, SMS, mail, or a key on the telephone.

The cast: `answer_code` (whoever holds a page's code acts for the contact that was paged), `take_position_by_code` (the
substantive answer, likewise), `answer_key` (a key press in a call that we placed), and `answer_text` (an SMS or a mail
from an address that we had written to).

The promises: the code of a message answers every page that left in it. Five wrong tries lock a page's code, however
many come at once; that is recorded and told, and the same contact point is sent another message with a code of its own.
A reply that a provider hands over twice is one reply. Whatever is not understood changes nothing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

from services.escalation import store
from services.escalation.answering import links
from services.escalation.answering import store as reply_store
from services.escalation.answers import (
    Answering,
    Decided,
    PositionRequest,
    decide_acknowledged,
    decide_position,
    find_corrected_by,
    save_decided,
)
from services.escalation.deps import EscalationDeps
from services.escalation.directory import Directory
from services.escalation.model import UNANSWERED, Escalation, about
from services.escalation.people.texts import (
    PEOPLE_IN_MENU_MAX,
    Act,
    Key,
    OfficeKey,
    ParsedReply,
    ReplyText,
    parse_reply,
    reply_text,
)
from services.escalation.saving import announce
from services.escalation.store import Row
from services.escalation.talk import questions, read_backs
from shared import record
from shared.contracts import (
    Actor,
    AnswerCodeLocked,
    ChannelName,
    EscalationKind,
    EscalationState,
    PlannedContact,
    PositionStance,
)
from shared.db import Transaction
from shared.errors import Conflict, Rejected
from shared.events import Cause, Event, Message
from shared.ids import derived
from shared.log import get_logger

log = get_logger(__name__)

QUESTION_CHARACTERS_MAX = questions.QUESTION_CHARACTERS_MAX
READ_BACK_CHARACTERS_MAX = read_backs.READ_BACK_CHARACTERS_MAX

WRONG_TRIES_MAX = 5
"""So many wrong codes lock a page: one in two thousand guesses of them all."""

REPLACEMENTS_MAX = 3
"""After so many locked messages to one contact point for one escalation no other follows: whoever guesses on could
otherwise go on for ever, and ring a person each time."""

CODE_VALID = timedelta(days=7)
REPLIED_TO_WITHIN = timedelta(days=30)
"""Whoever answers later than this is a stranger to us, and strangers are not answered."""

FORGOTTEN_AT_ONCE = 1000

CANDIDATES_MAX = 20
"""So many messages to one address may be meant by one reply."""

NAME_CHARACTERS_MAX = 100
NAME_CHARACTERS_MIN = 2


class Result(StrEnum):
    """What an answer came to. Only the first group changed anything."""

    ACKNOWLEDGED = "acknowledged"
    TAKEN_OVER = "taken_over"
    POSITION_TAKEN = "position_taken"
    PASSED_ON = "passed_on"
    STOPPED = "stopped"
    ASKED = "asked"
    READ_BACK_GIVEN = "read_back_given"

    ALREADY_ANSWERED = "already_answered"
    NAME_NEEDED = "name_needed"
    CODE_NEEDED = "code_needed"
    WRONG_CODE = "wrong_code"
    LOCKED = "locked"
    ENDED = "ended"
    SUPERSEDED = "superseded"
    """The alert was corrected by an Update that asks anew: its own message is to be answered."""
    EXPIRED = "expired"
    LOG_IN = "log_in"
    """Handling allows no answer without a code, which a call does not have."""
    NOT_LISTED = "not_listed"
    """The contact is no longer in the partner's duty plan."""
    WHICH_NEEDED = "which_needed"
    """The message carried several alerts, and a position is about one of them."""
    NOTHING_ASKED = "nothing_asked"
    REFUSED = "refused"
    NOT_UNDERSTOOD = "not_understood"
    HELP = "help"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Answered:
    """What an answer came to, and for which escalations, as they stand now."""

    result: Result
    escalations: tuple[Escalation, ...] = ()
    by: Actor | None = None
    tries_left: int | None = None
    """After a wrong code."""
    refusal: Rejected | None = None
    choices: tuple[PlannedContact, ...] = ()
    """By telephone, where a name is needed: whoever may be speaking."""


@dataclass(frozen=True, slots=True)
class _Turn:
    """One answer that is being given: to which page, by which way, for whom, and why it is written."""

    page: Row
    via: str
    by_name: str | None
    cause: Cause
    now: datetime
    contact_id: UUID | None = None


Do = Callable[[Transaction, _Turn, Answering], Awaitable[tuple[Answered, list[Message[Event]]]]]


# --- by code ----------------------------------------------------------------------------------------------------------


async def answer_code(
    deps: EscalationDeps,
    page_id: UUID,
    code: str,
    act: Act,
    *,
    via: str,
    by_name: str | None = None,
    text: str = "",
    escalation_id: UUID | None = None,
    cause: Cause,
) -> Answered:
    """Acts for whoever was paged, if the code is the page's. `by_name` says who speaks where an office was paged.

    `text` is a question's words, and `escalation_id` the alert that it is about, where the message carried several.
    `cause` needs no subject: it becomes the person's.
    """
    do = _doing(deps, act, text, escalation_id)
    return await _by_code(deps, page_id, code, do, via=via, by_name=by_name, cause=cause)


async def take_position_by_code(
    deps: EscalationDeps,
    page_id: UUID,
    code: str,
    position: PositionRequest,
    *,
    escalation_id: UUID | None = None,
    via: str,
    by_name: str | None = None,
    cause: Cause,
) -> Answered:
    """Takes a position for whoever was paged. `escalation_id` chooses among several that left in one message."""

    async def do(tx: Transaction, turn: _Turn, answering: Answering) -> tuple[Answered, list[Message[Event]]]:
        return await _position(deps, tx, turn, answering, position, escalation_id)

    return await _by_code(deps, page_id, code, do, via=via, by_name=by_name, cause=cause)


async def read_back_by_code(
    deps: EscalationDeps,
    page_id: UUID,
    code: str,
    said: read_backs.ReadBack,
    *,
    escalation_id: UUID | None = None,
    via: str,
    by_name: str | None = None,
    cause: Cause,
) -> Answered:
    """Repeats country, request and time for whoever was paged."""

    async def do(tx: Transaction, turn: _Turn, answering: Answering) -> tuple[Answered, list[Message[Event]]]:
        named = await _one_of(tx, turn.page, escalation_id)
        if isinstance(named, Answered):
            return named, []
        giving = questions.Asking(answering.actor, answering.via, answering.page_id)
        messages = await read_backs.give(deps, tx, named.id, giving, said, cause=turn.cause, now=turn.now)
        return Answered(Result.READ_BACK_GIVEN, escalations=(named,)), messages

    return await _by_code(deps, page_id, code, do, via=via, by_name=by_name, cause=cause)


async def _by_code(
    deps: EscalationDeps, page_id: UUID, code: str, do: Do, *, via: str, by_name: str | None, cause: Cause
) -> Answered:
    now = deps.clock.now()
    messages: list[Message[Event]] = []
    try:
        async with deps.intake.transaction() as tx:
            page = await reply_store.find_page(tx, page_id, now)
            if page is None:
                return Answered(Result.UNKNOWN)
            turn = _Turn(page, via, by_name, cause, now)
            answered = await _check_code(deps, tx, turn, code)
            if answered is None:
                answered, messages = await _act(deps, tx, turn, do)
            elif answered.result is Result.LOCKED and answered.tries_left == 0:
                messages = await _lock(deps, tx, [turn])
    except Rejected as refusal:
        return Answered(Result.REFUSED, refusal=refusal)
    await _publish(deps, messages)
    return answered


async def _publish(deps: EscalationDeps, messages: list[Message[Event]]) -> None:
    await deps.relay.publish(messages)
    deps.wake("delivery", "timers")


async def _check_code(deps: EscalationDeps, tx: Transaction, turn: _Turn, code: str) -> Answered | None:
    """None if the code is right. A wrong one is counted under the lock of the page's row; no code is no try.

    The try that locks the page has `tries_left` 0, and later ones have None.
    """
    page_id, digits = turn.page["id"], digits_of(code)
    tries = (await reply_store.load_tries(tx, [page_id]))[page_id]
    if tries["locked_at"] is not None:
        return Answered(Result.LOCKED)
    if not _is_valid(turn.page, turn.now):
        return Answered(Result.EXPIRED)
    if len(digits) != links.CODE_DIGITS:
        return Answered(Result.CODE_NEEDED)
    if links.is_code(deps.keys, page_id, digits):
        return None
    return await _count_wrong(deps, tx, turn, tries["wrong_tries"])


async def _count_wrong(deps: EscalationDeps, tx: Transaction, turn: _Turn, before: int) -> Answered:
    page, wrong_tries = turn.page, before + 1
    locked = wrong_tries >= WRONG_TRIES_MAX
    await reply_store.save_tries(tx, page["id"], wrong_tries, turn.now if locked else None)
    tried = record.Entry(
        kind="answer_code.refused",
        partner=page["partner"],
        alert_id=page["alert_id"],
        object_id=page["id"],
        data={"page_id": str(page["id"]), "wrong_tries": wrong_tries, "via": turn.via},
    )
    await record.append(tx, [tried], cause=turn.cause, ids=deps.ids, now=turn.now)
    return Answered(Result.LOCKED if locked else Result.WRONG_CODE, tries_left=WRONG_TRIES_MAX - wrong_tries)


async def _lock(deps: EscalationDeps, tx: Transaction, turns: Sequence[_Turn]) -> list[Message[Event]]:
    """Tells of locked codes, and sends what their messages carried under others, as far as it is still asked.

    All escalations are locked first, and in one order: whoever answers meanwhile is not sent another message.
    """
    carried = [(turn, await reply_store.find_message(tx, turn.page["id"])) for turn in turns]
    named = {row["escalation_id"] for _, rows in carried for row in rows} - {None}
    asked = {e.id: e for e in await store.load_many(tx, sorted(named)) if _is_open(e)}
    messages: list[Message[Event]] = []
    for turn, rows in carried:
        messages += await _lock_one(deps, tx, turn, rows, asked)
    return messages


async def _lock_one(
    deps: EscalationDeps, tx: Transaction, turn: _Turn, carried: Sequence[Row], asked: Mapping[UUID, Escalation]
) -> list[Message[Event]]:
    page = turn.page
    if page["escalation_id"] is None:
        return []
    locked = await reply_store.count_locked(tx, page["escalation_id"], page["contact_point_id"])
    again = [
        row["id"]
        for row in carried
        if row["asks"]
        and (escalation := asked.get(row["escalation_id"])) is not None
        and not escalation.has_stopped(row["contact_id"], row["contact_point_id"])
    ]
    replaced = bool(again) and locked <= REPLACEMENTS_MAX
    if replaced:
        await reply_store.replace_pages(tx, dict(zip(again, deps.ids.many(len(again)), strict=True)), turn.now)
    log.warning("answer_code.locked", page_id=str(page["id"]), partner=page["partner"], replaced=replaced)
    concerned = await store.find_escalation(tx, page["escalation_id"])
    assert concerned is not None, "escalations are never deleted"
    event = AnswerCodeLocked(
        **about(concerned),
        page_id=page["id"],
        locked_at=turn.now,
        wrong_tries=WRONG_TRIES_MAX,
        via=turn.via,
        told=page["told"],
        replaced=replaced,
    )
    return await announce(tx, [event], ids=deps.ids, cause=turn.cause, now=turn.now)


def digits_of(code: str) -> str:
    """The digits of a code as people write it, in any script; whatever else is in it counts as a letter."""
    return "".join(str(int(letter)) if letter.isdecimal() else letter for letter in code if not letter.isspace())


# --- by telephone -----------------------------------------------------------------------------------------------------


async def answer_key(
    deps: EscalationDeps,
    page_id: UUID,
    key: str,
    *,
    contact_id: UUID | None = None,
    via: str = ChannelName.VOICE,
    cause: Cause,
) -> Answered:
    """A key pressed in a call that we placed for this page: the call itself stands for the code, except where the
    handling label lets nothing but precedence, sender and link leave the house.

    To an office the keys 1 to 8 are its people, as `people_on_duty` orders them, and whoever presses one acknowledges
    by it; `contact_id` names that person where the caller knows from the menu that was read out.
    """
    now = deps.clock.now()
    messages: list[Message[Event]] = []
    try:
        async with deps.intake.transaction() as tx:
            page = await reply_store.find_page(tx, page_id, now)
            if page is None:
                return Answered(Result.UNKNOWN)
            if not _is_valid(page, now):
                return Answered(Result.EXPIRED)
            if any(e.alert.tlp.link_only for e in (await _carried(tx, page)).values()):
                return Answered(Result.LOG_IN)
            pressed = await _pressed(deps, tx, page, key, contact_id, now)
            if isinstance(pressed, Answered):
                return pressed
            act, contact_id = pressed
            turn = _Turn(page, via, None, cause, now, contact_id)
            answered, messages = await _act(deps, tx, turn, _doing(deps, act))
    except Rejected as refusal:
        return Answered(Result.REFUSED, refusal=refusal)
    await _publish(deps, messages)
    return answered


async def _pressed(  # noqa: PLR0917 - its caller is above
    deps: EscalationDeps, tx: Transaction, page: Row, key: str, contact_id: UUID | None, now: datetime
) -> tuple[Act, UUID | None] | Answered:
    """What a key means, and at an office whose it is."""
    if page["contact_id"] is not None or contact_id is not None:
        acts = {Key.ACKNOWLEDGE.value: Act.YES, Key.WRONG_PERSON.value: Act.WRONG}
        return (acts[key], contact_id) if key in acts else Answered(Result.NOT_UNDERSTOOD)
    people = people_on_duty(await deps.directories.find_one(tx, page["partner"]), now)
    if key == OfficeKey.NOBODY:
        return Answered(Result.NAME_NEEDED, choices=people)
    keys = {str(number): person.id for number, person in enumerate(people, start=1)}
    return (Act.YES, keys[key]) if key in keys else Answered(Result.NOT_UNDERSTOOD)


def people_on_duty(directory: Directory, now: datetime) -> tuple[PlannedContact, ...]:
    """Whoever may be speaking at a partner's office: those on duty, then the rest of its plan; as many as have keys."""
    if directory.plan is None:
        return ()
    contacts = sorted(
        directory.plan.contacts, key=lambda contact: (not directory.is_on_duty(contact.id, now), contact.name)
    )
    return tuple(contacts[:PEOPLE_IN_MENU_MAX])


# --- what is done -----------------------------------------------------------------------------------------------------


def _doing(deps: EscalationDeps, act: Act, text: str = "", escalation_id: UUID | None = None) -> Do:
    async def do(tx: Transaction, turn: _Turn, answering: Answering) -> tuple[Answered, list[Message[Event]]]:
        if act in (Act.YES, Act.ALL):
            return await _acknowledge(deps, tx, turn, answering, everything=act is Act.ALL)
        if act is Act.WRONG:
            wrong = PositionRequest(stance=PositionStance.WRONG_PERSON)
            return await _pass_on(deps, tx, turn, answering, wrong)
        if act is Act.STOP:
            return await _stop(deps, tx, turn, answering)
        if act is Act.ASK:
            return await _ask(deps, tx, turn, answering, text, escalation_id)
        return Answered(Result.HELP), []

    return do


async def _act(deps: EscalationDeps, tx: Transaction, turn: _Turn, do: Do) -> tuple[Answered, list[Message[Event]]]:
    """Does it in the name of whoever was paged."""
    page = turn.page
    if page["escalation_id"] is None:
        return Answered(Result.NOTHING_ASKED), []
    directory = await deps.directories.find_one(tx, page["partner"])
    actor = _actor(turn, directory)
    if isinstance(actor, Answered):
        return actor, []
    cause = replace(turn.cause, subject=actor.subject, partner=actor.partner)
    answering = Answering(actor, via=turn.via, page_id=page["id"])
    answered, messages = await do(tx, replace(turn, cause=cause), answering)
    return replace(answered, by=actor), messages


def _actor(turn: _Turn, directory: Directory) -> Actor | Answered:
    """Who answers: the contact that was paged, or for an office the person who gives their name."""
    partner, contact_id = turn.page["partner"], turn.page["contact_id"] or turn.contact_id
    if contact_id is None:
        name = clean_name(turn.by_name)
        if name is None:
            return Answered(Result.NAME_NEEDED, choices=people_on_duty(directory, turn.now))
        # The subject keeps apart who said different names, and names nobody where names do not belong.
        return Actor(subject=f"office:{derived('person', partner, name.casefold())}", partner=partner, name=name)
    contact = directory.contact(contact_id)
    if contact is not None:
        subject = contact.subjects[0] if contact.subjects else f"contact:{contact.id}"
        return Actor(subject=subject, partner=partner, name=contact.name, contact_id=contact.id)
    if directory.plan is not None and directory.readable:
        return Answered(Result.NOT_LISTED)
    # Nobody can be looked up: the person whom we paged has the code all the same.
    return Actor(subject=f"contact:{contact_id}", partner=partner, contact_id=contact_id)


def clean_name(name: str | None) -> str | None:
    """A person's name as they gave it, if it can be one."""
    cleaned = " ".join((name or "").split())
    if not NAME_CHARACTERS_MIN <= len(cleaned) <= NAME_CHARACTERS_MAX or not cleaned.isprintable():
        return None
    return cleaned if any(letter.isalpha() for letter in cleaned) else None


async def _acknowledge(
    deps: EscalationDeps, tx: Transaction, turn: _Turn, answering: Answering, *, everything: bool
) -> tuple[Answered, list[Message[Event]]]:
    named = await _carried(tx, turn.page)
    if everything:
        named |= {e.id: e for e in await _find_open_of(tx, turn.page["partner"])}
    asked = [e for e in named.values() if e.kind is not EscalationKind.INFORMATION]
    if not asked:
        return Answered(Result.NOTHING_ASKED), []
    decided: dict[UUID, Decided] = {}
    # What is asked now, once each: a message and the Update that has corrected it are one question.
    meant: dict[UUID, None] = {}
    over: list[Escalation] = []
    for named_before in sorted(asked, key=lambda e: e.id):  # locked in one order
        is_takeover = named_before.kind is EscalationKind.TAKEOVER
        escalation = await _current(tx, named_before) if is_takeover else named_before
        if is_takeover and escalation.state is EscalationState.ENDED:
            over.append(escalation)
            continue
        found = await decide_acknowledged(tx, escalation, answering, turn.now)
        if found[0][0].state is EscalationState.ENDED and len(found) == 1:
            over.append(escalation)
            continue
        meant[found[0 if is_takeover else -1][0].id] = None
        for before, outcome in found:
            decided.setdefault(before.id, (before, outcome))
    messages = await save_decided(deps, tx, list(decided.values()), cause=turn.cause, now=turn.now)
    escalations = tuple(decided[one][1].escalation for one in meant)
    if not decided:
        return Answered(await _over(tx, over), escalations=tuple(over)), []
    if all(decided[one][1].escalation is decided[one][0] for one in meant):
        return Answered(Result.ALREADY_ANSWERED, escalations=escalations), messages
    only_takeovers = all(e.kind is EscalationKind.TAKEOVER for e in escalations)
    return Answered(Result.TAKEN_OVER if only_takeovers else Result.ACKNOWLEDGED, escalations=escalations), messages


async def _over(tx: Transaction, over: Sequence[Escalation]) -> Result:
    """Why nothing is left to acknowledge: the alerts have ended, or an Update has asked anew."""
    heads = await store.find_heads(tx, [e.alert.alert_id for e in over])
    return Result.SUPERSEDED if any(head.superseded_by is not None for head in heads.values()) else Result.ENDED


async def _pass_on(
    deps: EscalationDeps, tx: Transaction, turn: _Turn, answering: Answering, wrong: PositionRequest
) -> tuple[Answered, list[Message[Event]]]:
    """Whoever is the wrong person is so for everything that the message carried and that is still open."""
    carried = [await _current(tx, e) for e in (await _carried(tx, turn.page)).values()]
    current = [e for e in carried if e.kind is not EscalationKind.INFORMATION]
    if not current:
        return Answered(Result.NOTHING_ASKED, escalations=tuple(carried)), []
    ids = sorted({e.id for e in current if e.state is not EscalationState.ENDED})
    if not ids:
        return Answered(await _over(tx, current), escalations=tuple(current)), []
    decided: list[Decided] = []
    answered: Conflict | None = None
    for one in ids:
        try:
            decided.append(await decide_position(deps, tx, one, answering, wrong, turn.now))
        except Conflict as refusal:
            answered = refusal
    if not decided and answered is not None:
        raise answered
    messages = await save_decided(deps, tx, decided, cause=turn.cause, now=turn.now)
    return Answered(Result.PASSED_ON, escalations=tuple(outcome.escalation for _, outcome in decided)), messages


async def _position(  # noqa: PLR0917 - its caller is above
    deps: EscalationDeps,
    tx: Transaction,
    turn: _Turn,
    answering: Answering,
    position: PositionRequest,
    escalation_id: UUID | None,
) -> tuple[Answered, list[Message[Event]]]:
    if position.stance is PositionStance.WRONG_PERSON:
        return await _pass_on(deps, tx, turn, answering, position)
    current = await _one_of(tx, turn.page, escalation_id)
    if isinstance(current, Answered):
        return current, []
    if current.state is EscalationState.ENDED:
        return Answered(await _over(tx, [current]), escalations=(current,)), []
    decided = await decide_position(deps, tx, current.id, answering, position, turn.now)
    messages = await save_decided(deps, tx, [decided], cause=turn.cause, now=turn.now)
    return Answered(Result.POSITION_TAKEN, escalations=(decided[1].escalation,)), messages


async def _ask(  # noqa: PLR0917 - its caller is above
    deps: EscalationDeps,
    tx: Transaction,
    turn: _Turn,
    answering: Answering,
    text: str,
    escalation_id: UUID | None,
) -> tuple[Answered, list[Message[Event]]]:
    if not text.strip():
        return Answered(Result.NOT_UNDERSTOOD), []
    current = await _one_of(tx, turn.page, escalation_id)
    if isinstance(current, Answered):
        return current, []
    asking = questions.Asking(answering.actor, answering.via, answering.page_id)
    _id, messages = await questions.ask(deps, tx, current.id, asking, text, cause=turn.cause, now=turn.now)
    return Answered(Result.ASKED, escalations=(current,)), messages


async def _one_of(tx: Transaction, page: Row, escalation_id: UUID | None) -> Escalation | Answered:
    """The one escalation of the message that is meant, as it is asked now: the only one, or the one that is named."""
    carried = [e for e in (await _carried(tx, page)).values() if e.kind is EscalationKind.ANSWER]
    current = {e.id: await _current(tx, e) for e in carried}
    named = list({now.id: now for old, now in current.items() if escalation_id in (None, old, now.id)}.values())
    if len(named) != 1:
        return Answered(Result.WHICH_NEEDED if named else Result.NOTHING_ASKED, escalations=tuple(current.values()))
    return named[0]


async def _stop(
    deps: EscalationDeps, tx: Transaction, turn: _Turn, answering: Answering
) -> tuple[Answered, list[Message[Event]]]:
    """Ends what still asks this person; asking others goes on, and so do the deadlines."""
    named = await _carried(tx, turn.page)
    # Those of an Update that has corrected the message since are what is asked now.
    carried = {e.id: e for e in [await _current(tx, e) for e in named.values()]}
    of_both = sorted({*named, *carried})
    await store.save_stopped(tx, of_both, turn.page["contact_id"] or turn.page["contact_point_id"])
    ended = await reply_store.end_pages_of(tx, of_both, turn.page["contact_id"], turn.page["contact_point_id"])
    stopped = [
        record.Entry(
            kind="pages.stopped",
            partner=e.partner,
            alert_id=e.alert.alert_id,
            object_id=e.id,
            data={"page_id": str(turn.page["id"]), "via": answering.via, "pages": ended},
        )
        for e in carried.values()
    ]
    await record.append(tx, stopped, cause=turn.cause, ids=deps.ids, now=turn.now)
    return Answered(Result.STOPPED, escalations=tuple(carried.values())), []


async def _carried(tx: Transaction, page: Row) -> dict[UUID, Escalation]:
    """The escalations of all pages that left in one message, not locked."""
    rows = await reply_store.find_message(tx, page["id"])
    return {e.id: e for e in await _find(tx, [row["escalation_id"] for row in rows])}


async def _find(tx: Transaction, escalation_ids: Sequence[UUID | None]) -> list[Escalation]:
    found = [await store.find_escalation(tx, one) for one in dict.fromkeys(escalation_ids) if one is not None]
    return [escalation for escalation in found if escalation is not None]


async def _find_open_of(tx: Transaction, partner: str) -> list[Escalation]:
    alert_ids = await store.find_open_alerts_of(tx, partner)
    return await _find(tx, [await store.find_escalation_id(tx, alert_id, partner) for alert_id in alert_ids])


async def _current(tx: Transaction, escalation: Escalation) -> Escalation:
    """The escalation that is asked now: that of the newest Update, if one has corrected this without asking anew."""
    if escalation.state is not EscalationState.ENDED:
        return escalation
    return await find_corrected_by(tx, escalation) or escalation


def _is_open(escalation: Escalation) -> bool:
    return escalation.state in UNANSWERED or escalation.state is EscalationState.UNREACHED


# --- by text ----------------------------------------------------------------------------------------------------------


async def answer_text(
    deps: EscalationDeps,
    *,
    channel: str,
    address: str,
    text: str,
    provider: str,
    provider_message_id: str,
    page_id: UUID | None = None,
    cause: Cause,
) -> str:
    """An SMS or a mail reply, like "YES 4821", from an address that may be one of our contact points.

    Returns what to say back, in the person's language; nothing for an address that we have not written to lately. The
    same message handed over again changes nothing and gets the same words. Where several messages to the address have
    the code, the newest is meant; a code that none of them has is a wrong try at each. `page_id` says which message is
    answered, wherever the answer came from, for channels whose replies prove it.
    """
    now, parsed = deps.clock.now(), parse_reply(text)
    code = parsed.code if parsed is not None and parsed.code is not None else ""
    messages: list[Message[Event]] = []
    async with deps.intake.transaction() as tx:
        if not await reply_store.accept_reply(tx, provider, provider_message_id, now):
            kept = await reply_store.find_answer(tx, provider, provider_message_id)
            return _render(_Said.of(kept), code) if kept is not None else ""
        keys = links.reply_keys(deps.keys, channel, address)
        if page_id is None:
            pages = await reply_store.find_replied_to(tx, keys, now - REPLIED_TO_WITHIN, CANDIDATES_MAX)
        else:
            pages = await _named(tx, page_id, now)
        if not any(links.code_of(deps.keys, page["id"]) == code for page in pages):
            await store.refuse_while_opening(tx, now)
        if not pages:
            return ""
        answered, messages = await _answer_text(deps, tx, pages, parsed, via=channel, cause=cause, now=now)
        languages = await languages_of(deps, tx, pages[0])
        said = _said(answered, languages)
        await reply_store.save_answer(tx, provider, provider_message_id, said.to_json())
    await _publish(deps, messages)
    return _render(said, code)


async def _named(tx: Transaction, page_id: UUID, now: datetime) -> list[Row]:
    """The page, as long as it may be replied to."""
    page = await reply_store.find_page(tx, page_id, now)
    if page is None or page["escalation_id"] is None or page["created_at"] <= now - REPLIED_TO_WITHIN:
        return []
    return [page]


async def forget_replies(deps: EscalationDeps) -> int:
    """Forgets replies that no provider hands over again; returns how many."""
    async with deps.database.transaction() as tx:
        return await reply_store.forget_replies(tx, deps.clock.now() - REPLIED_TO_WITHIN, FORGOTTEN_AT_ONCE)


async def _answer_text(
    deps: EscalationDeps,
    tx: Transaction,
    pages: Sequence[Row],
    parsed: ParsedReply | None,
    *,
    via: str,
    cause: Cause,
    now: datetime,
) -> tuple[Answered, list[Message[Event]]]:
    if parsed is None or parsed.act is Act.HELP:
        return Answered(Result.NOT_UNDERSTOOD if parsed is None else Result.HELP), []
    if parsed.code is None or len(parsed.code) != links.CODE_DIGITS:
        return Answered(Result.CODE_NEEDED), []
    tries = await reply_store.load_tries(tx, [page["id"] for page in pages])
    open_to_tries = [page for page in pages if tries[page["id"]]["locked_at"] is None and _is_valid(page, now)]
    meant = next((page for page in pages if links.is_code(deps.keys, page["id"], parsed.code)), None)
    if meant is None:
        return await _wrong_for_all(deps, tx, open_to_tries, tries, via=via, cause=cause, now=now)
    if meant not in open_to_tries:
        return Answered(Result.LOCKED if tries[meant["id"]]["locked_at"] is not None else Result.EXPIRED), []
    turn = _Turn(meant, via, parsed.rest, cause, now)
    try:
        async with tx.begin_nested():
            return await _act(deps, tx, turn, _doing(deps, parsed.act, parsed.rest))
    except Rejected as refusal:
        return Answered(Result.REFUSED, refusal=refusal), []


async def _wrong_for_all(
    deps: EscalationDeps,
    tx: Transaction,
    pages: Sequence[Row],
    tries: Mapping[UUID, Row],
    *,
    via: str,
    cause: Cause,
    now: datetime,
) -> tuple[Answered, list[Message[Event]]]:
    """A code that none of the address's messages has: nobody knows which was meant, so it is a try at each."""
    answered, locked = Answered(Result.LOCKED), []
    for page in pages:
        turn = _Turn(page, via, None, cause, now)
        answered = await _count_wrong(deps, tx, turn, tries[page["id"]]["wrong_tries"])
        if answered.result is Result.LOCKED:
            locked.append(turn)
    return answered, await _lock(deps, tx, locked)


def _is_valid(page: Row, now: datetime) -> bool:
    return bool(now <= page["created_at"] + CODE_VALID)


@dataclass(frozen=True, slots=True)
class _Said:
    """What is said back, as it is kept beside the reply: which text with which values, never a code."""

    kind: ReplyText
    languages: tuple[str, ...]
    values: dict[str, Any]

    @classmethod
    def of(cls, kept: dict[str, Any]) -> _Said:
        return cls(ReplyText(kept["kind"]), tuple(kept["languages"]), kept["values"])

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind.value, "languages": list(self.languages), "values": self.values}


_TEXT_OF = {
    Result.ACKNOWLEDGED: ReplyText.ACKNOWLEDGED,
    Result.TAKEN_OVER: ReplyText.TAKEN_OVER,
    Result.PASSED_ON: ReplyText.WRONG_PERSON,
    Result.STOPPED: ReplyText.STOPPED,
    Result.ASKED: ReplyText.QUESTION_SENT,
    Result.ALREADY_ANSWERED: ReplyText.ALREADY_ANSWERED,
    Result.NAME_NEEDED: ReplyText.NAME_NEEDED,
    Result.CODE_NEEDED: ReplyText.NOT_UNDERSTOOD,
    Result.NOT_UNDERSTOOD: ReplyText.NOT_UNDERSTOOD,
    Result.WRONG_CODE: ReplyText.UNKNOWN_CODE,
    Result.LOCKED: ReplyText.LOCKED,
    Result.ENDED: ReplyText.ENDED,
    Result.SUPERSEDED: ReplyText.SUPERSEDED,
    Result.NOTHING_ASKED: ReplyText.NOTHING_ASKED,
    Result.EXPIRED: ReplyText.EXPIRED,
    Result.HELP: ReplyText.HELP,
}


def _said(answered: Answered, languages: tuple[str, ...]) -> _Said:
    kind = _TEXT_OF.get(answered.result, ReplyText.FAILED)
    if answered.refusal is not None and answered.refusal.code == "already_answered":
        kind = ReplyText.ALREADY_ANSWERED
    count = len(answered.escalations)
    if kind is ReplyText.ACKNOWLEDGED and count > 1:
        kind = ReplyText.ALL_ACKNOWLEDGED
    values: dict[str, Any] = {}
    if answered.escalations:
        alert = answered.escalations[0].alert
        values = {"count": count, "raiser": alert.raiser}
        if count == 1 and not alert.tlp.link_only:
            values["what"] = alert.reference
    if answered.by is not None and answered.by.name is not None:
        values["by"] = answered.by.name
    return _Said(kind, languages, values)


def _render(said: _Said, code: str) -> str:
    return reply_text(said.kind, said.languages, **said.values, code=code)


async def languages_of(deps: EscalationDeps, tx: Transaction, page: Row) -> tuple[str, ...]:
    """In which languages to speak to whoever was paged, the best first."""
    if page["languages"]:
        return tuple(page["languages"])
    directory = await deps.directories.find_one(tx, page["partner"])
    contact = None if page["contact_id"] is None else directory.contact(page["contact_id"])
    return () if contact is None else contact.languages

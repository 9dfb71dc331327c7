"""What HTTP asks of roster and what the bus tells it; SUBSCRIPTIONS at the end.

The cast: `apply_network` writes a network file; `change_partner` is every write of a partner's own people, with what to
change as a function of its state, and `preview_change` is the same without writing; `edit_partner`, the credential
handlers and `set_deadlines` are what administrators decide, in whole or in part.

Every handler shows the same lines: transaction → key or inbox → load with lock → decide → save, record, events →
commit, and only then publish and answer. Whatever changes of a partner is announced in the same transaction: its own
data as `PartnerChanged`, credentials as `CredentialsPublished`, and a new duty plan is asked for, which `plans`
publishes within moments of the commit.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Any
from uuid import UUID

from services.roster import domain, publication, seeding, store
from services.roster.calendars.fetching import CalendarFetcher
from services.roster.changes import NOUNS, Changed, changes, entries
from services.roster.domain import Contact, ContactPoint, Credential, DutyOffice, Partner, PartnerState
from services.roster.hand_overs.handlers import on_hand_over_signed
from services.roster.merging import merged
from services.roster.network import Item, Kind, PrecedenceDeadlines, deadlines_id
from services.roster.readiness.handlers import known_facts, on_endpoint_checked
from services.roster.readiness.what_if import previewed
from services.roster.seeding import CurrentNetwork, NetworkPlan
from services.roster.store import Health, StoredPartner
from services.roster.what_if import Preview
from services.roster.worker import Worker, compute, read
from shared import idempotency, inbox, outbox, record, security
from shared.contracts import (
    DEFAULT_DEADLINES,
    ContactPointFailing,
    ContactPointRecovered,
    ContactPointVerified,
    Deadlines,
    DeadlinesChanged,
    EndpointChecked,
    HandOverSigned,
    Precedence,
    Role,
)
from shared.db import Transaction
from shared.egress import policy_of
from shared.errors import Conflict, FieldError, Forbidden, NotFound
from shared.events import Cause, Event, Message
from shared.idempotency import Attempt, StoredResponse
from shared.ids import PartnerCode
from shared.keys import KeyRing, fingerprints, point_context
from shared.log import get_logger
from shared.process import Deps
from shared.security import INSTALLATION, Principal, hash_secret, new_secret

log = get_logger(__name__)

NOT_FITTING = "This does not fit together with the rest of your roster."

READING_ROLES = (Role.ROSTER_MANAGER, Role.DUTY_OFFICER, Role.SENIOR_CONTACT, Role.DRAFTER, Role.RELEASER)
"""Who reads names and contact points of their own government: those who may need to call somebody."""


@dataclass(frozen=True, kw_only=True)
class RosterDeps(Deps):
    """What roster's handlers need beside what every service has: a process for files, some for shifts, and what
    fetches calendars.
    """

    files: Worker
    shifts: Worker
    calendars: CalendarFetcher


ContactChange = Callable[[Contact], Contact]


@dataclass(frozen=True, slots=True)
class Call:
    """One request: who asks, why, what they have seen, and under which key (None: without one).

    `check_version` is given the version that is there, and raises if the caller saw another. With `dry_run` everything
    is checked and nothing is written.
    """

    principal: Principal
    cause: Cause
    check_version: Callable[[int], None] = lambda _: None
    attempt: Attempt | None = None
    dry_run: bool = False


# --- the network file -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class NewSecret:
    """A client secret, for the only time that anybody sees it."""

    partner: str
    credential: Credential
    secret: str


@dataclass(frozen=True, slots=True)
class Applied:
    """What applying a network file did, or would do."""

    plan: NetworkPlan
    secrets: tuple[NewSecret, ...]
    dry_run: bool


async def apply_network(
    deps: RosterDeps, principal: Principal, text: str, filename: str, *, dry_run: bool, cause: Cause
) -> Applied:
    """Writes what a network file says and nobody has edited since, all of it or nothing.

    An administrator writes for every partner; a roster manager, with its partner's own credential, for its partner.
    Raises `NetworkFileError` with every mistake. A secret is made for each new credential for which the file gives no
    hash.
    """
    if not principal.has(Role.ADMINISTRATOR) and principal.partner == INSTALLATION:
        raise Forbidden("this needs the role administrator", code="role_missing")
    principal.require(Role.ADMINISTRATOR, Role.ROSTER_MANAGER)
    settings = deps.settings
    network_file = await read(
        deps.files, text, filename, policy=policy_of(settings), chat_schemas=settings.chat_schemas
    )
    now = deps.clock.now()
    codes = {item.partner for item in network_file.items if item.partner is not None}
    if not principal.has(Role.ADMINISTRATOR):
        # Nobody reads, locks or waits for another government's roster by naming it in a file.
        codes &= {PartnerCode(principal.partner)}
    async with deps.intake.transaction() as tx:
        await store.lock_network(tx)
        stored = await store.load_partners(tx, deps.keys, codes)
        kept = await store.find_deadlines(tx)
        seeded = await store.find_seeded(tx, {item.id for item in network_file.items})
        client_ids = {item.value.client_id for item in network_file.items if isinstance(item.value, Credential)}
        client_partners = await store.find_client_partners(tx, client_ids)

        def decide() -> tuple[NetworkPlan, dict[PartnerCode, PartnerState], tuple[NewSecret, ...]]:
            current = CurrentNetwork.of((one.state for one in stored.values()), kept.table, seeded)
            plan = seeding.plan(
                network_file,
                # Client ids are one namespace of all partners, so these are all that the file names.
                replace(current, client_partners=client_partners),
                acting_partner=None if principal.partner == INSTALLATION else principal.partner,
                is_administrator=principal.has(Role.ADMINISTRATOR),
            )
            states, secrets = _with_secrets(_merge(plan, stored, now))
            _require_whole(states)
            return plan, states, secrets

        # In a thread, because a file of the greatest size takes longer to compare than the event loop may stand still.
        plan, states, secrets = await asyncio.to_thread(decide)
        messages: list[Message[Event]] = []
        if not dry_run:
            for code, after in states.items():
                before = stored[code].state if code in stored else None
                _, written = await _save(tx, deps, before, after, cause=cause, now=now)
                messages += written
            messages += await _write_deadlines(tx, deps, _deadlines_of(plan), kept, cause=cause, now=now)
            written_hashes = {change.item.id: change.content_hash for change in (*plan.creates, *plan.updates)}
            await store.save_seeded(tx, written_hashes)
    if not dry_run:
        await deps.relay.publish(messages)
        deps.wake("plans")
        log.info(
            "network.applied",
            created=len(plan.creates),
            updated=len(plan.updates),
            unchanged=len(plan.unchanged),
            left_alone=len(plan.left_alone),
        )
    return Applied(plan, () if dry_run else secrets, dry_run)


def _merge(
    plan: NetworkPlan, stored: Mapping[PartnerCode, StoredPartner], now: datetime
) -> dict[PartnerCode, PartnerState]:
    """Every partner that the plan writes, as it will be."""
    items: dict[PartnerCode, list[Item]] = {}
    for change in (*plan.creates, *plan.updates):
        if change.item.partner is not None:
            items.setdefault(change.item.partner, []).append(change.item)
    order = list(Kind)
    return {
        code: merged(
            stored[code].state if code in stored else None,
            sorted(found, key=lambda item: order.index(item.kind)),
            now=now,
        )
        for code, found in sorted(items.items())
    }


def _with_secrets(
    states: Mapping[PartnerCode, PartnerState],
) -> tuple[dict[PartnerCode, PartnerState], tuple[NewSecret, ...]]:
    """The states with the hash of a new secret in every credential that has none, and those secrets."""
    made: list[NewSecret] = []
    complete: dict[PartnerCode, PartnerState] = {}
    for code, state in states.items():
        credentials = []
        for credential in state.credentials:
            if credential.secret_sha256:
                credentials.append(credential)
                continue
            secret = new_secret()
            credentials.append(replace(credential, secret_sha256=hash_secret(secret)))
            made.append(NewSecret(code, credentials[-1], secret))
        complete[code] = replace(state, credentials=tuple(credentials))
    return complete, tuple(made)


def _require_whole(states: Mapping[PartnerCode, PartnerState]) -> None:
    """What a file and what is stored are together must fit together, too."""
    faults = [
        FieldError(f"partners.{code}.{fault.field}", fault.detail, fault.code)
        for code, state in states.items()
        for fault in _faults_of_whole(state)
    ]
    domain.require(faults, "The file and what is stored do not fit together; nothing was applied.")


def _faults_of_whole(state: PartnerState) -> Iterable[FieldError]:
    yield from domain.reference_faults(state)
    if not state.offices:
        yield FieldError("offices", "is empty; every partner needs a duty office")
    owned: tuple[tuple[str, Sequence[DutyOffice | Contact]], ...] = (
        ("offices", state.offices),
        ("contacts", state.contacts),
    )
    for noun, owners in owned:
        for number, owner in enumerate(owners):
            if len(owner.points) > domain.POINTS_MAX:
                detail = f"holds {len(owner.points)}; at most {domain.POINTS_MAX} are possible"
                yield FieldError(f"{noun}[{number}].points", detail)


def _deadlines_of(plan: NetworkPlan) -> dict[Precedence, Deadlines]:
    return {
        change.item.value.precedence: change.item.value.deadlines
        for change in (*plan.creates, *plan.updates)
        if isinstance(change.item.value, PrecedenceDeadlines)
    }


# --- one partner ------------------------------------------------------------------------------------------------------


async def own_partner(deps: RosterDeps, principal: Principal, code: str, *roles: Role) -> StoredPartner:
    """The caller's own partner, for reading; `NotFound` for any other, whether it is there or not."""
    async with deps.intake.transaction() as tx:
        stored = await store.find_partner(tx, deps.keys, code) if principal.partner == code else None
    return _own(stored, principal, *(roles or READING_ROLES))


async def change_partner(
    deps: RosterDeps,
    call: Call,
    code: str,
    change: Callable[[PartnerState], PartnerState],
    *,
    answer: Callable[[int], StoredResponse],
    role: Role | None = Role.ROSTER_MANAGER,
) -> StoredResponse:
    """Replaces the state of the caller's own partner by what `change` makes of it, and answers with `answer(version)`.

    `change` raises if it refuses; whatever it makes must fit together. A change of nothing writes nothing. Without a
    `role` it is for `change` to say what the caller may touch.
    """
    now = deps.clock.now()
    async with deps.intake.transaction() as tx:
        if call.attempt is not None and (done := await idempotency.begin(tx, call.attempt, now=now)) is not None:
            return done
        found = await store.load_partner(tx, deps.keys, code) if call.principal.partner == code else None
        stored = _own(found, call.principal, *([role] if role is not None else []))
        call.check_version(stored.version)
        version, messages = await save_changed(tx, deps, stored, change(stored.state), cause=call.cause, now=now)
        response = answer(version)
        if call.attempt is not None:
            await idempotency.finish(tx, call.attempt, response)
    await deps.relay.publish(messages)
    deps.wake("plans")
    return response


async def preview_change(
    deps: RosterDeps,
    call: Call,
    code: str,
    change: Callable[[PartnerState], PartnerState],
    *,
    role: Role | None = Role.ROSTER_MANAGER,
) -> tuple[int, Preview]:
    """What `change_partner` would do to the coming days, and the present version; refused for the same reasons.

    Nothing is written, no row is locked, and an Idempotency-Key is not used up.
    """
    now = deps.clock.now()
    async with deps.intake.transaction() as tx:
        found = await store.find_partner(tx, deps.keys, code) if call.principal.partner == code else None
        stored = _own(found, call.principal, *([role] if role is not None else []))
        call.check_version(stored.version)
        after = change(stored.state)
        if after != stored.state:
            domain.require(_faults_of_whole(after), NOT_FITTING)
            await _refuse_taken(tx, changes(stored.state, after))
        facts = await known_facts(tx, deps, code)
    return stored.version, await compute(deps.shifts, previewed, stored.state, after, facts, now)


# --- one's own contact points -----------------------------------------------------------------------------------------


async def own_contact(deps: RosterDeps, principal: Principal) -> tuple[StoredPartner, Contact, dict[UUID, Health]]:
    """The contact that the caller is, and which of its points fail; `Forbidden` for whoever is no contact."""
    code = principal.partner
    _require_contact(principal)
    async with deps.intake.transaction() as tx:
        stored = await store.find_partner(tx, deps.keys, code)
        failing = await store.find_failing(tx, code)
    if stored is None:
        raise missing()
    return stored, _contact_of(stored.state, principal), failing


async def change_own_points(
    deps: RosterDeps,
    call: Call,
    change: ContactChange,
    *,
    answer: Callable[[int], StoredResponse],
) -> StoredResponse:
    """Replaces the caller's own contact by what `change` makes of it; nobody's role is needed for that."""
    _require_contact(call.principal)

    def change_one(state: PartnerState) -> PartnerState:
        own = _contact_of(state, call.principal)
        changed = change(own)
        return replace(state, contacts=tuple(changed if one.id == own.id else one for one in state.contacts))

    return await change_partner(deps, call, call.principal.partner, change_one, answer=answer, role=None)


def _require_contact(principal: Principal) -> None:
    if not principal.is_person or principal.contact_id is None:
        raise Forbidden("your credential belongs to no contact of your government", code="not_a_contact")


def _contact_of(state: PartnerState, principal: Principal) -> Contact:
    own = next((contact for contact in state.contacts if contact.id == principal.contact_id), None)
    if own is None:
        raise missing("contact")
    return own


def with_point(state: PartnerState, point_id: UUID, change: Callable[[ContactPoint], ContactPoint]) -> PartnerState:
    """The state with one contact point changed, whoever's it is."""

    def changed(owner: Any) -> Any:
        if all(point.id != point_id for point in owner.points):
            return owner
        return replace(owner, points=tuple(change(point) if point.id == point_id else point for point in owner.points))

    return replace(state, offices=tuple(map(changed, state.offices)), contacts=tuple(map(changed, state.contacts)))


# --- a partner's own row ----------------------------------------------------------------------------------------------


async def edit_partner(
    deps: RosterDeps,
    call: Call,
    code: str,
    change: Callable[[Partner], Partner],
    *,
    is_own: bool,
    is_administrative: bool,
) -> None:
    """Edits a partner's own row: what describes it is its roster manager's, standing and activity an administrator's.

    `is_own` and `is_administrative` tell which of the two the change touches. That a partner is there is no secret.
    """
    now, principal = deps.clock.now(), call.principal
    async with deps.intake.transaction() as tx:
        stored = await store.load_partner(tx, deps.keys, code)
        if stored is None:
            raise missing()
        if is_administrative and not principal.has(Role.ADMINISTRATOR):
            raise Forbidden("standing and activity are an administrator's to decide", code="not_an_administrator")
        if is_own and principal.partner != code:
            raise Forbidden("what describes a partner is its own to say", code="not_your_partner")
        if is_own:
            principal.require(Role.ROSTER_MANAGER)
        call.check_version(stored.version)
        after = replace(stored.state, partner=change(stored.state.partner))
        _, messages = await save_changed(tx, deps, stored, after, cause=call.cause, now=now)
    await deps.relay.publish(messages)
    deps.wake("plans")


async def save_changed(
    tx: Transaction, deps: RosterDeps, stored: StoredPartner, after: PartnerState, *, cause: Cause, now: datetime
) -> tuple[int, list[Message[Event]]]:
    """Writes what a change has made of a partner whose row is locked; the version and what to publish after commit.

    The one way of every change, with whatever else is written in the same transaction: the whole is checked, the
    record has before and after, and a new duty plan is asked for. The caller wakes `plans` after the commit.
    """
    if after == stored.state:
        return stored.version, []
    domain.require(_faults_of_whole(after), NOT_FITTING)
    version, messages = await _save(tx, deps, stored.state, after, cause=cause, now=now)
    # Nothing is written if no more than the order of imported shifts differs, which has no meaning.
    return version or stored.version, messages


async def _save(
    tx: Transaction,
    deps: RosterDeps,
    before: PartnerState | None,
    after: PartnerState,
    *,
    cause: Cause,
    now: datetime,
) -> tuple[int, list[Message[Event]]]:
    """Writes the difference, its record, and what others must know, in the caller's transaction."""
    changed = changes(before, after)
    if not changed:
        return 0, []
    await _refuse_taken(tx, changed)
    code = after.partner.code
    version = await store.save_partner(tx, deps.keys, after.partner, changed, now=now)
    told = [
        record.Entry(kind=kind, partner=code, object_id=object_id, data=data)
        for object_id, kind, data in entries(changed)
    ]
    await record.append(tx, told, cause=cause, ids=deps.ids, now=now)
    events: list[Event] = []
    if before is None or _public(before) != _public(after):
        events.append(publication.partner_changed(after, version=version, seal=partial(_seal, deps.keys)))
    if before is None or before.credentials != after.credentials:
        published = publication.credentials_published(after, version=version)
        await security.on_credentials_published(tx, published)
        events.append(published)
    return version, await outbox.append(tx, events, cause=cause, ids=deps.ids, now=now)


async def _refuse_taken(tx: Transaction, changed: Sequence[Changed]) -> None:
    """An id names one thing, whoever's it is: what is created may not take the place of what another partner has."""
    created = {
        one.id for one in changed if one.before is None and NOUNS[one.type] not in ("partner", "policy", "credential")
    }
    if created and await store.find_taken_ids(tx, created):
        raise Conflict("the id is taken; make a new UUID of version 7, or leave id out", code="id_taken")


def _public(state: PartnerState) -> tuple[Any, ...]:
    """What `PartnerChanged` tells."""
    return (state.partner, state.offices[:1], state.endpoints)


def _seal(keys: KeyRing, point_id: UUID, address: str) -> str:
    return keys.seal(address, context=point_context(point_id))


def _own(stored: StoredPartner | None, principal: Principal, *roles: Role) -> StoredPartner:
    if stored is None or principal.partner != stored.state.partner.code:
        raise missing()
    if roles:
        principal.require(*roles)
    return stored


def missing(what: str = "partner") -> NotFound:
    """The one answer for what is missing and for what is somebody else's."""
    return NotFound(f"there is no such {what}, or it is not yours to see")


# --- credentials ------------------------------------------------------------------------------------------------------


async def find_credentials(deps: RosterDeps, principal: Principal, code: str) -> StoredPartner:
    """A partner's credentials, for administrators and for its own roster managers."""
    async with deps.intake.transaction() as tx:
        stored = _manageable(await store.find_partner(tx, deps.keys, code), principal)
    principal.require(Role.ADMINISTRATOR, Role.ROSTER_MANAGER)
    return stored


async def issue_credential(deps: RosterDeps, call: Call, code: str, credential: Credential) -> tuple[int, NewSecret]:
    """Makes a credential with a secret that is told once. An administrator decides who may speak for a partner."""
    secret = new_secret()

    def issue(state: PartnerState) -> tuple[PartnerState, Credential]:
        call.principal.require(Role.ADMINISTRATOR)
        contact = next((one for one in state.contacts if one.id == credential.contact_id), None)
        name = credential.name or (contact.name if contact is not None else "")
        made = replace(credential, name=name, secret_sha256=hash_secret(secret))
        domain.require(domain.credential_faults(made, state.partner.code), "This credential cannot be issued.")
        return replace(state, credentials=(*state.credentials, made)), made

    version, made = await _change_credentials(deps, call, code, issue, new=credential.client_id)
    return version, NewSecret(code, made, secret)


async def rotate_secret(deps: RosterDeps, call: Call, code: str, client_id: str) -> tuple[int, NewSecret]:
    """Replaces a credential's secret; the old one, and every token that it bought, ends when the news arrives.

    Only its holder or an administrator: whoever learns a new secret can act as its holder.
    """
    secret = new_secret()

    def rotate(state: PartnerState) -> tuple[PartnerState, Credential]:
        old = _credential_of(state, client_id)
        if not call.principal.has(Role.ADMINISTRATOR) and call.principal.client_id != client_id:
            raise Forbidden("only its holder or an administrator can change a secret", code="not_the_holder")
        if old.revoked_at is not None:
            raise Conflict("the credential is revoked; have a new one issued", code="credential_is_revoked")
        new = replace(old, secret_sha256=hash_secret(secret), version=old.version + 1)
        return _with_credential(state, new), new

    version, made = await _change_credentials(deps, call, code, rotate)
    return version, NewSecret(code, made, secret)


async def revoke_credential(deps: RosterDeps, call: Call, code: str, client_id: str) -> tuple[int, Credential]:
    """Ends a credential for ever: an administrator, the partner's roster manager or the holder. Twice is harmless."""
    now = deps.clock.now()

    def revoke(state: PartnerState) -> tuple[PartnerState, Credential]:
        old = _credential_of(state, client_id)
        if call.principal.client_id != client_id:
            call.principal.require(Role.ADMINISTRATOR, Role.ROSTER_MANAGER)
        if old.revoked_at is not None:
            return state, old
        new = replace(old, revoked_at=now, version=old.version + 1)
        return _with_credential(state, new), new

    return await _change_credentials(deps, call, code, revoke)


async def _change_credentials(
    deps: RosterDeps,
    call: Call,
    code: str,
    change: Callable[[PartnerState], tuple[PartnerState, Credential]],
    *,
    new: str | None = None,
) -> tuple[int, Credential]:
    now = deps.clock.now()
    async with deps.intake.transaction() as tx:
        if new is not None:
            # Client ids are one namespace of all partners, which no single partner's row guards.
            await store.lock_network(tx)
        stored = _manageable(await store.load_partner(tx, deps.keys, code), call.principal)
        call.check_version(stored.version)
        if new is not None and await store.find_client_partners(tx, [new]):
            raise Conflict("this client id is taken; choose another one", code="client_id_taken")
        after, credential = change(stored.state)
        version, messages = await save_changed(tx, deps, stored, after, cause=call.cause, now=now)
    await deps.relay.publish(messages)
    deps.wake("plans")
    return version, credential


def _manageable(stored: StoredPartner | None, principal: Principal) -> StoredPartner:
    if stored is None or not (principal.has(Role.ADMINISTRATOR) or principal.partner == stored.state.partner.code):
        raise missing()
    return stored


def _credential_of(state: PartnerState, client_id: str) -> Credential:
    found = next((one for one in state.credentials if one.client_id == client_id), None)
    if found is None:
        raise missing("credential")
    return found


def _with_credential(state: PartnerState, new: Credential) -> PartnerState:
    credentials = tuple(new if one.client_id == new.client_id else one for one in state.credentials)
    return replace(state, credentials=credentials)


# --- the network's deadlines ------------------------------------------------------------------------------------------


async def find_deadlines(deps: RosterDeps) -> store.StoredDeadlines:
    """The network's table; a precedence that nobody has written has its default."""
    async with deps.intake.transaction() as tx:
        kept = await store.find_deadlines(tx)
    return replace(kept, table={**DEFAULT_DEADLINES, **kept.table})


async def set_deadlines(deps: RosterDeps, call: Call, table: Mapping[Precedence, Deadlines]) -> store.StoredDeadlines:
    """Writes the network's table, which every duty plan then carries. Alerts that are out keep the old one."""
    call.principal.require(Role.ADMINISTRATOR)
    faults = [
        FieldError(f"{precedence}.{fault.field}", fault.detail, fault.code)
        for precedence, given in table.items()
        for fault in domain.deadlines_faults(given)
    ]
    domain.require(faults, "These deadlines cannot be kept.")
    now = deps.clock.now()
    async with deps.intake.transaction() as tx:
        await store.lock_network(tx)
        kept = await store.find_deadlines(tx)
        call.check_version(kept.version)
        messages = await _write_deadlines(tx, deps, table, kept, cause=call.cause, now=now)
        kept = await store.find_deadlines(tx)
    await deps.relay.publish(messages)
    deps.wake("plans")
    return replace(kept, table={**DEFAULT_DEADLINES, **kept.table})


async def _write_deadlines(
    tx: Transaction,
    deps: RosterDeps,
    table: Mapping[Precedence, Deadlines],
    kept: store.StoredDeadlines,
    *,
    cause: Cause,
    now: datetime,
) -> list[Message[Event]]:
    changed = {precedence: given for precedence, given in table.items() if kept.table.get(precedence) != given}
    if not changed:
        return []
    await store.save_deadlines(tx, changed, version=kept.version + 1, now=now)
    entries = []
    for precedence, given in changed.items():
        before = kept.table.get(precedence)
        data: dict[str, Any] = {"precedence": precedence.value, "after": given.model_dump()}
        data["before"] = before.model_dump() if before is not None else None
        entries.append(record.Entry(kind="deadlines.changed", object_id=deadlines_id(precedence), data=data))
    await record.append(tx, entries, cause=cause, ids=deps.ids, now=now)
    event = DeadlinesChanged(version=kept.version + 1, deadlines={**DEFAULT_DEADLINES, **kept.table, **changed})
    return await outbox.append(tx, [event], cause=cause, ids=deps.ids, now=now)


# --- what the bus tells -----------------------------------------------------------------------------------------------


async def on_contact_point_failing(deps: RosterDeps, message: Message[ContactPointFailing]) -> None:
    """Marks the contact point or endpoint, for its owner to see; if nobody can be reached there, it is unverified."""
    body = message.body
    health = Health(body.failures, body.reason, body.since_at, body.hard)
    await _on_health(deps, message, ContactPointFailing, health, failing=True)


async def on_contact_point_recovered(deps: RosterDeps, message: Message[ContactPointRecovered]) -> None:
    """Takes the mark away. It stays away if the news of the failure comes only now."""
    body = message.body
    health = Health(0, None, body.recovered_at)
    await _on_health(deps, message, ContactPointRecovered, health, failing=False)


async def _on_health(
    deps: RosterDeps,
    message: Message[ContactPointFailing] | Message[ContactPointRecovered],
    event: type[Event],
    health: Health,
    *,
    failing: bool,
) -> None:
    now = deps.clock.now()
    messages: list[Message[Event]] = []
    async with deps.database.transaction() as tx:
        if not await inbox.accept(tx, consumer=deps.consumer(event), message_id=message.id, now=now):
            return
        body = message.body
        # The partner's row first, as everybody takes it who writes for a partner.
        stored = await store.load_partner(tx, deps.keys, body.partner) if health.hard else None
        saved = await store.save_health(
            tx, body.contact_point_id, body.partner, health, failing=failing, said_at=message.occurred_at
        )
        if saved:
            entry = record.Entry(
                kind="contact_point.failing" if failing else "contact_point.recovered",
                partner=body.partner,
                object_id=body.contact_point_id,
                data={"channel": body.channel.value, "failures": health.failures, "hard": health.hard},
            )
            await record.append(tx, [entry], cause=Cause.of(message), ids=deps.ids, now=now)
        if saved and stored is not None:
            after = with_point(stored.state, body.contact_point_id, lambda point: replace(point, verified_at=None))
            _, messages = await save_changed(tx, deps, stored, after, cause=Cause.of(message), now=now)
    await deps.relay.publish(messages)
    if messages:
        deps.wake("plans")


async def on_contact_point_verified(deps: RosterDeps, message: Message[ContactPointVerified]) -> None:
    """Keeps that the point was seen to work, which the next duty plan tells; not if it leads elsewhere by now."""
    now, body = deps.clock.now(), message.body

    def verified(point: ContactPoint) -> ContactPoint:
        if body.fingerprint not in fingerprints(deps.keys, point.id, point.address):
            return point
        return replace(point, verified_at=body.verified_at, confirmed_at=body.verified_at)

    async with deps.database.transaction() as tx:
        if not await inbox.accept(tx, consumer=deps.consumer(ContactPointVerified), message_id=message.id, now=now):
            return
        stored = await store.load_partner(tx, deps.keys, body.partner)
        if stored is None:
            return
        after = with_point(stored.state, body.contact_point_id, verified)
        _, messages = await save_changed(tx, deps, stored, after, cause=Cause.of(message), now=now)
        if after != stored.state:
            await store.forget_hard_failure(tx, body.contact_point_id)
    await deps.relay.publish(messages)
    deps.wake("plans")


SUBSCRIPTIONS: dict[type[Event], Callable[[Any, Message[Any]], Awaitable[None]]] = {
    ContactPointFailing: on_contact_point_failing,
    ContactPointRecovered: on_contact_point_recovered,
    ContactPointVerified: on_contact_point_verified,
    EndpointChecked: on_endpoint_checked,
    HandOverSigned: on_hand_over_signed,
}

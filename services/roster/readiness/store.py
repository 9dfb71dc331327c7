"""The rows of readiness. `load_*` locks, `find_*` does not.

    readiness           one row per partner: its newest proof, when the next is due, and what the last digest said
    readiness_scores    one row per partner and day (UTC): the score at its end, and the lowest of it
    endpoint_checks     what the heartbeat last said of each endpoint, for the address that it then had
    told_holes          holes that people were warned of, while they last
    told_chases         who was asked to confirm their contact points, for which end and at which stage

A proof locks its partner's row here and nothing else: it never waits for an edit, nor an edit for it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import (
    Boolean,
    Column,
    Date,
    DateTime,
    Index,
    Integer,
    PrimaryKeyConstraint,
    Table,
    Text,
    Uuid,
    any_,
    bindparam,
    case,
    delete,
    func,
    or_,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, insert

from services.roster import store
from services.roster.calendars.store import calendars
from services.roster.readiness.findings import (
    EndpointCheck,
    Facts,
    FailingCalendar,
    Finding,
    Grade,
    Proof,
    Trouble,
)
from services.roster.readiness.telling import Chase, HoleToTell, ToldHole, managers_of
from services.roster.store import metadata, partners
from shared.contracts import EndpointChecked
from shared.db import Transaction
from shared.ids import PartnerCode
from shared.keys import KeyRing, fingerprints, point_context
from shared.vocabulary import ChannelName

PLANS_FIRST_WITHIN = timedelta(seconds=30)
"""Duty plans that have been due for so long hold nothing else up any more."""


def _at(name: str, *, nullable: bool = False) -> Column[datetime]:
    return Column(name, DateTime(timezone=True), nullable=nullable)


endpoint_checks = Table(
    "endpoint_checks",
    metadata,
    Column("endpoint_id", Uuid, primary_key=True),
    Column("partner", Text, nullable=False),
    Column("fingerprint", Text, nullable=False),
    _at("checked_at"),
    Column("answering", Boolean, nullable=False),
    _at("since_at"),
    Column("reason", Text),
    _at("certificate_valid_until", nullable=True),
    Index("ix_endpoint_checks_partner", "partner"),
)

readiness = Table(
    "readiness",
    metadata,
    Column("partner", Text, primary_key=True),
    _at("due_at"),
    Column("failures", Integer, nullable=False),
    Column("plan_version", Integer, nullable=False),
    _at("proved_at", nullable=True),
    _at("from_at", nullable=True),
    _at("to_at", nullable=True),
    Column("score", Integer),
    Column("alarms", Integer, nullable=False),
    Column("blocking", Integer, nullable=False),
    Column("warnings", Integer, nullable=False),
    Column("findings", JSONB, nullable=False),
    _at("digest_due_at", nullable=True),
    Column("digest_findings", JSONB, nullable=False),
    _at("digest_until_at", nullable=True),
    Index("ix_readiness_due_at", "due_at"),
)

readiness_scores = Table(
    "readiness_scores",
    metadata,
    Column("partner", Text, nullable=False),
    Column("day", Date, nullable=False),
    Column("score", Integer, nullable=False),
    Column("lowest", Integer, nullable=False),
    Column("alarms", Integer, nullable=False),
    Column("blocking", Integer, nullable=False),
    Column("warnings", Integer, nullable=False),
    PrimaryKeyConstraint("partner", "day"),
)

told_holes = Table(
    "told_holes",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("partner", Text, nullable=False),
    Column("rota_id", Uuid, nullable=False),
    _at("begins_at"),
    _at("ends_at"),
    _at("told_at"),
    Index("ix_told_holes_partner", "partner"),
)

told_chases = Table(
    "told_chases",
    metadata,
    Column("contact_id", Uuid, nullable=False),
    _at("expires_at"),
    Column("days_before", Integer, nullable=False),
    Column("partner", Text, nullable=False),
    _at("told_at"),
    PrimaryKeyConstraint("contact_id", "expires_at", "days_before"),
    Index("ix_told_chases_partner", "partner"),
)


# --- what others have said --------------------------------------------------------------------------------------------


async def find_facts(tx: Transaction, keys: KeyRing, code: str, carriers: Mapping[ChannelName, str]) -> Facts:
    """What is known of a partner's points, endpoints and calendars.

    A check of an address that an endpoint no longer has says nothing about it.
    """
    failing = await store.find_failing(tx, code)
    table, owned = endpoint_checks.c, store.endpoints.c
    wanted = select(endpoint_checks, owned.encrypted_url).join(store.endpoints, owned.id == table.endpoint_id)
    checks = {}
    for row in await tx.execute(wanted.where(table.partner == code, owned.partner == code)):
        url = keys.decrypt(row.encrypted_url, context=point_context(row.endpoint_id))
        if row.fingerprint in fingerprints(keys, row.endpoint_id, url):
            checks[row.endpoint_id] = EndpointCheck(
                checked_at=row.checked_at,
                answering=row.answering,
                since_at=row.since_at,
                reason=row.reason,
                certificate_valid_until=row.certificate_valid_until,
            )
    wanted_calendars = select(calendars).where(calendars.c.partner == code, calendars.c.failing_since.is_not(None))
    unread = [
        FailingCalendar(row.id, row.rota_id, row.failing_since, row.reason)
        for row in await tx.execute(wanted_calendars.order_by(calendars.c.id))
    ]
    return Facts(
        carriers=carriers,
        failing={point_id: Trouble(health.since_at, health.reason) for point_id, health in failing.items()},
        checks=checks,
        calendars=tuple(unread),
    )


async def find_fingerprint(tx: Transaction, keys: KeyRing, code: str, endpoint_id: UUID) -> str | None:
    """Names the address that an endpoint of this partner has now; None if there is no such endpoint."""
    table = store.endpoints.c
    wanted = select(table.encrypted_url).where(table.id == endpoint_id, table.partner == code)
    encrypted = (await tx.execute(wanted)).scalar_one_or_none()
    if encrypted is None:
        return None
    return fingerprints(keys, endpoint_id, keys.decrypt(encrypted, context=point_context(endpoint_id)))[0]


async def save_check(tx: Transaction, checked: EndpointChecked, fingerprint: str) -> bool:
    """Keeps what a heartbeat found; False if something newer is known. `since_at` is when the outcome began."""
    table = endpoint_checks.c
    values = {
        "partner": checked.partner,
        "fingerprint": fingerprint,
        "checked_at": checked.checked_at,
        "answering": checked.answering,
        "since_at": checked.checked_at,
        "reason": checked.reason,
        "certificate_valid_until": checked.certificate_valid_until,
    }
    said = insert(endpoint_checks).values(endpoint_id=checked.endpoint_id, **values)
    went_on = (table.answering == said.excluded.answering) & (table.fingerprint == said.excluded.fingerprint)
    since_at = case((went_on, table.since_at), else_=said.excluded.since_at)
    written = await tx.execute(
        said.on_conflict_do_update(
            index_elements=["endpoint_id"],
            set_={**values, "since_at": since_at},
            where=table.checked_at < checked.checked_at,
        ).returning(table.endpoint_id)
    )
    return written.first() is not None


async def ask(tx: Transaction, code: str, *, now: datetime) -> None:
    """Asks for a new proof of this partner at once."""
    await tx.execute(update(readiness).where(readiness.c.partner == code).values(due_at=now))


# --- proofs -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StoredReadiness:
    """The newest proof of a partner, and what the last digest said. Before the first proof `proved_at` is None."""

    partner: PartnerCode
    due_at: datetime
    failures: int
    plan_version: int
    proved_at: datetime | None
    from_at: datetime | None
    to_at: datetime | None
    score: int | None
    alarms: int
    blocking: int
    warnings: int
    findings: tuple[Finding, ...]
    digest_due_at: datetime | None
    digest_findings: tuple[Finding, ...]
    digest_until_at: datetime | None


async def plans_are_coming(tx: Transaction, now: datetime) -> bool:
    """Whether duty plans are being published just now: what is made from them can wait for that, but not for long."""
    coming = partners.c.plan_due_at.between(now - PLANS_FIRST_WITHIN, now)
    return (await tx.execute(select(partners.c.code).where(coming).limit(1))).first() is not None


async def find_due(tx: Transaction, *, now: datetime, limit: int) -> list[PartnerCode]:
    """Active partners whose proof is due, or older than their duty plan; those never proven first."""
    table, owner = readiness.c, partners.c
    wanted = (
        select(owner.code)
        .outerjoin(readiness, table.partner == owner.code)
        .where(
            owner.active,
            owner.plan_version > 0,
            or_(table.partner.is_(None), table.due_at <= now, _overtaken(now)),
        )
        .order_by(func.coalesce(table.due_at, owner.changed_at), owner.code)
        .limit(limit)
    )
    return [PartnerCode(code) for code in (await tx.execute(wanted)).scalars()]


def _overtaken(now: datetime) -> Any:
    """A plan was published since; unless the last proof has failed, which is tried again when it is due."""
    table = readiness.c
    return (table.plan_version < partners.c.plan_version) & ((table.failures == 0) | (table.due_at <= now))


async def load_readiness(tx: Transaction, code: str, *, now: datetime) -> StoredReadiness | None:
    """The partner's row, locked, made if there is none; None if somebody else holds it: whoever that is proves it."""
    first = {
        "partner": code,
        "due_at": now,
        "failures": 0,
        "plan_version": 0,
        "alarms": 0,
        "blocking": 0,
        "warnings": 0,
        "findings": [],
        "digest_findings": [],
    }
    await tx.execute(insert(readiness).values(first).on_conflict_do_nothing())
    wanted = select(readiness).where(readiness.c.partner == code).with_for_update(skip_locked=True)
    row = (await tx.execute(wanted)).first()
    return None if row is None else _stored(row)


async def find_readiness(tx: Transaction, code: str) -> StoredReadiness | None:
    """The newest proof of a partner; None before anybody has tried."""
    row = (await tx.execute(select(readiness).where(readiness.c.partner == code))).first()
    return None if row is None else _stored(row)


@dataclass(frozen=True, slots=True)
class Summary:
    """A partner with the office that answers, its newest proof if there is one, and the names of its rotas."""

    partner: PartnerCode
    office: str | None
    readiness: StoredReadiness | None
    rotas: Mapping[UUID, str]


async def find_summaries(tx: Transaction, *, after: str | None, limit: int) -> list[Summary]:
    """Active partners in the order of their codes."""
    offices, owner = store.offices, partners.c
    first_office = (
        select(offices.c.name)
        .where(offices.c.partner == owner.code)
        .order_by(offices.c.place, offices.c.id)
        .limit(1)
        .scalar_subquery()
    )
    wanted = select(owner.code, first_office.label("office")).where(owner.active).order_by(owner.code).limit(limit)
    if after is not None:
        wanted = wanted.where(owner.code > after)
    found = (await tx.execute(wanted)).all()
    codes = bindparam(None, [row.code for row in found], type_=ARRAY(Text), unique=True)
    rows = await tx.execute(select(readiness).where(readiness.c.partner == any_(codes)))
    proven = {row.partner: _stored(row) for row in rows}
    named = select(store.rotas.c.id, store.rotas.c.name).where(store.rotas.c.partner == any_(codes))
    rotas = {row.id: row.name for row in await tx.execute(named)}
    return [Summary(PartnerCode(row.code), row.office, proven.get(row.code), rotas) for row in found]


def _stored(row: Any) -> StoredReadiness:
    values = {name: getattr(row, name) for name in StoredReadiness.__slots__}
    for name in ("findings", "digest_findings"):
        values[name] = tuple(Finding.of_json(kept) for kept in values[name])
    return StoredReadiness(**values)


async def save_proof(
    tx: Transaction, code: str, proof: Proof, *, score: int, plan_version: int, proved_at: datetime, due_at: datetime
) -> None:
    """Keeps a proof as the newest and its score as today's."""
    counted = {
        "alarms": proof.counts.get(Grade.ALARM, 0),
        "blocking": proof.counts.get(Grade.BLOCKING, 0),
        "warnings": proof.counts.get(Grade.WARNING, 0),
    }
    await tx.execute(
        update(readiness)
        .where(readiness.c.partner == code)
        .values(
            due_at=due_at,
            failures=0,
            plan_version=plan_version,
            proved_at=proved_at,
            from_at=proof.from_at,
            to_at=proof.to_at,
            score=score,
            findings=[finding.to_json() for finding in proof.findings],
            **counted,
        )
    )
    today = insert(readiness_scores).values(
        partner=code, day=proof.from_at.date(), score=score, lowest=score, **counted
    )
    lowest = func.least(readiness_scores.c.lowest, today.excluded.lowest)
    await tx.execute(
        today.on_conflict_do_update(
            index_elements=["partner", "day"], set_={"score": score, "lowest": lowest, **counted}
        )
    )


async def save_failure(tx: Transaction, code: str, *, due_at: datetime) -> None:
    """A proof could not be made; the old one stands, and it is tried again at `due_at`."""
    if await load_readiness(tx, code, now=due_at) is not None:
        table = readiness.c
        failed = update(readiness).where(table.partner == code)
        await tx.execute(failed.values(failures=table.failures + 1, due_at=due_at))


@dataclass(frozen=True, slots=True)
class DayScore:
    """The score of one day (UTC): the last of it and the lowest."""

    day: date
    score: int
    lowest: int
    alarms: int
    blocking: int
    warnings: int


async def find_scores(tx: Transaction, code: str, *, since: date) -> list[DayScore]:
    """A partner's scores by day, the oldest first."""
    table = readiness_scores.c
    wanted = select(readiness_scores).where(table.partner == code, table.day >= since).order_by(table.day)
    names = DayScore.__slots__
    return [DayScore(**{name: getattr(row, name) for name in names}) for row in await tx.execute(wanted)]


async def find_troubles(tx: Transaction, *, proven_before: datetime) -> tuple[list[str], list[str]]:
    """Codes of active partners where nobody is on call within a day, and of those whose proof has failed since then."""
    table, owner = readiness.c, partners.c
    known = select(owner.code).join(readiness, table.partner == owner.code).where(owner.active).order_by(owner.code)
    holes = await tx.execute(known.where(table.alarms > 0))
    stale = func.coalesce(table.proved_at, owner.changed_at) < proven_before
    late = await tx.execute(known.where(table.failures > 0, stale))
    return list(holes.scalars()), list(late.scalars())


# --- what was told ----------------------------------------------------------------------------------------------------


async def find_managers(tx: Transaction, code: str) -> tuple[UUID, ...] | None:
    """The contacts who keep a partner's roster; None if there is no such partner."""
    if (await tx.execute(select(partners.c.code).where(partners.c.code == code))).first() is None:
        return None
    issued = store.issued_credentials
    rows = (await tx.execute(select(issued).where(issued.c.partner == code))).all()
    return managers_of(rows)


async def find_told_holes(tx: Transaction, code: str) -> list[ToldHole]:
    """The holes that a partner's people were told of."""
    wanted = select(told_holes).where(told_holes.c.partner == code).order_by(told_holes.c.begins_at)
    return [ToldHole(row.id, row.rota_id, row.begins_at, row.ends_at, row.told_at) for row in await tx.execute(wanted)]


async def save_told(tx: Transaction, code: str, hole: HoleToTell, ids: Sequence[UUID], *, now: datetime) -> None:
    """Remembers a hole that is told now, under its own id or the first of these, and those that are told with it."""
    first = hole.known.id if hole.known is not None else ids[0]
    rows = [
        {
            "id": row_id,
            "partner": code,
            "rota_id": finding.rota_id,
            "begins_at": finding.begins_at,
            "ends_at": finding.ends_at,
            "told_at": now,
        }
        for row_id, finding in zip((first, *ids[1:]), (hole.finding, *hole.others), strict=True)
    ]
    told = insert(told_holes)
    replaced = {name: told.excluded[name] for name in ("begins_at", "ends_at", "told_at")}
    await tx.execute(told.on_conflict_do_update(index_elements=["id"], set_=replaced), rows)


async def forget_holes(tx: Transaction, ids: Collection[UUID]) -> None:
    """These holes are no more."""
    if ids:
        wanted = bindparam(None, sorted(ids), type_=ARRAY(Uuid), unique=True)
        await tx.execute(delete(told_holes).where(told_holes.c.id == any_(wanted)))


async def save_digest(
    tx: Transaction, code: str, findings: Iterable[Finding], *, until_at: datetime | None, due_at: datetime
) -> None:
    """What a digest said, or would have: what is not among it is news for the next one, at `due_at`."""
    kept = [finding.to_json() for finding in findings]
    await tx.execute(
        update(readiness)
        .where(readiness.c.partner == code)
        .values(digest_findings=kept, digest_until_at=until_at, digest_due_at=due_at)
    )


async def save_first_digest(tx: Transaction, code: str, *, due_at: datetime) -> None:
    """The partner's first digest is due then; it will say everything."""
    await tx.execute(update(readiness).where(readiness.c.partner == code).values(digest_due_at=due_at))


async def save_chases(tx: Transaction, code: str, asked: Sequence[Chase], *, now: datetime) -> list[Chase]:
    """Remembers who is asked to confirm; those who were not asked at this stage before."""
    fresh = []
    for chase in asked:
        row = {"contact_id": chase.contact_id, "expires_at": chase.expires_at, "days_before": chase.days_before}
        told = insert(told_chases).values(**row, partner=code, told_at=now).on_conflict_do_nothing()
        if (await tx.execute(told.returning(told_chases.c.contact_id))).first() is not None:
            fresh.append(chase)
    return fresh


async def forget_old(tx: Transaction, code: str, *, before: date) -> None:
    """Forgets a partner's scores of days before that one, and checks of endpoints that it has no more."""
    scores, checks = readiness_scores.c, endpoint_checks.c
    await tx.execute(delete(readiness_scores).where(scores.partner == code, scores.day < before))
    owned = select(store.endpoints.c.id).where(store.endpoints.c.partner == code)
    gone = delete(endpoint_checks).where(checks.partner == code, checks.endpoint_id.not_in(owned))
    await tx.execute(gone)


async def forget_chases(tx: Transaction, code: str, *, expired_before: datetime) -> None:
    """What ended so long ago is asked for no more."""
    table = told_chases.c
    await tx.execute(delete(told_chases).where(table.partner == code, table.expires_at < expired_before))

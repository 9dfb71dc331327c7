"""The rows of calendars. `load_*` locks, `find_*` does not.

    calendars           one row for each file or subscription of a rota: its source, what it last said, how it fares
    calendar_links      private addresses under which a rota, or one contact's shifts, can be subscribed to

What names people or opens something is encrypted, each bound to its row: the address of a subscription, the rules, the
text as it was last read, and what could not be read of it. Of a private address only a hash is kept. Whoever writes
holds the partner's row first, as for everything that a partner owns; only `claim_due` does without.
"""

from __future__ import annotations

import base64
import zlib
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import Column, DateTime, Index, Integer, Table, Text, Uuid, delete, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert

from services.roster.calendars.mapping import Rule, Unmapped
from services.roster.calendars.model import BYTES_MAX, Fault
from services.roster.schedule import CalendarId
from services.roster.store import metadata, partners
from shared.db import Transaction
from shared.ids import ContactId, PartnerCode, RotaId
from shared.keys import KeyRing


def _at(name: str, *, nullable: bool = True) -> Column[datetime]:
    return Column(name, DateTime(timezone=True), nullable=nullable)


calendars = Table(
    "calendars",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("partner", Text, nullable=False),
    Column("rota_id", Uuid, nullable=False),
    Column("name", Text, nullable=False),
    Column("encrypted_url", Text),
    Column("encrypted_rules", Text, nullable=False),
    Column("encrypted_content", Text),
    Column("encrypted_findings", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("etag", Text),
    Column("last_modified", Text),
    Column("content_sha256", Text),
    Column("events", Integer, nullable=False),
    Column("shifts", Integer, nullable=False),
    Column("unmapped", Integer, nullable=False),
    _at("created_at", nullable=False),
    _at("fetched_at"),
    _at("read_at"),
    _at("failing_since"),
    Column("failures", Integer, nullable=False),
    Column("reason", Text),
    Column("detail", Text),
    _at("told_at"),
    _at("next_at", nullable=False),
    Index("ix_calendars_partner", "partner"),
    Index("ix_calendars_next_at", "next_at"),
)

calendar_links = Table(
    "calendar_links",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("partner", Text, nullable=False),
    Column("rota_id", Uuid),
    Column("contact_id", Uuid),
    Column("token_sha256", Text, nullable=False, unique=True),
    Column("made_by", Text, nullable=False),
    _at("made_at", nullable=False),
    _at("used_at"),
    _at("revoked_at"),
    Index("ix_calendar_links_partner", "partner"),
)


# --- calendars --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Findings:
    """What was found when the calendar was last read: for people, and therefore with what stands in it.

    `basis` stands for what it was mapped by: as long as that is the same, the same text gives the same shifts.
    """

    title: str | None = None
    unmapped: tuple[Unmapped, ...] = ()
    faults: tuple[Fault, ...] = ()
    faults_omitted: int = 0
    notes: tuple[tuple[str, int], ...] = ()
    stray_rules: tuple[str, ...] = ()
    basis: str = ""


@dataclass(frozen=True, slots=True)
class StoredCalendar:
    """A calendar of a rota: a subscription if it has a `url`, else a file.

    `reason` and `detail` say why it fails since `failing_since`; `told_at` is when its managers were told of that.
    `content` is the text as it was last read, and there only where it was asked for.
    """

    id: CalendarId
    partner: PartnerCode
    rota_id: RotaId
    name: str
    url: str | None
    rules: tuple[Rule, ...]
    created_at: datetime
    next_at: datetime
    findings: Findings = Findings()
    content: bytes | None = None
    version: int = 1
    etag: str | None = None
    last_modified: str | None = None
    content_sha256: str | None = None
    events: int = 0
    shifts: int = 0
    unmapped: int = 0
    fetched_at: datetime | None = None
    read_at: datetime | None = None
    failing_since: datetime | None = None
    failures: int = 0
    reason: str | None = None
    detail: str | None = None
    told_at: datetime | None = None


_PLAIN = (
    *("id", "partner", "rota_id", "name", "version", "etag", "last_modified", "content_sha256", "events", "shifts"),
    *(
        "unmapped",
        "created_at",
        "fetched_at",
        "read_at",
        "failing_since",
        "failures",
        "reason",
        "detail",
        "told_at",
        "next_at",
    ),
)
"""Columns that hold what the object holds."""


async def find_calendars(
    tx: Transaction, keys: KeyRing, partner: str, rota_id: UUID | None = None
) -> list[StoredCalendar]:
    """The calendars of a partner, or of one of its rotas, in the order of their making; without content."""
    table = calendars.c
    wanted = select(*(column for column in table if column.name != "encrypted_content")).where(table.partner == partner)
    if rota_id is not None:
        wanted = wanted.where(table.rota_id == rota_id)
    found = await tx.execute(wanted.order_by(table.created_at, table.id))
    return [_calendar(keys, row, None) for row in found]


async def find_calendar(tx: Transaction, keys: KeyRing, calendar_id: UUID) -> StoredCalendar | None:
    """One calendar with its content, whoever's it is."""
    row = (await tx.execute(select(calendars).where(calendars.c.id == calendar_id))).first()
    return None if row is None else _calendar(keys, row, row.encrypted_content)


async def load_calendar(tx: Transaction, keys: KeyRing, partner: str, calendar_id: UUID) -> StoredCalendar | None:
    """One calendar of a partner, its row locked; without content."""
    table = calendars.c
    wanted = select(calendars).where(table.id == calendar_id, table.partner == partner).with_for_update()
    row = (await tx.execute(wanted)).first()
    return None if row is None else _calendar(keys, row, None)


async def claim_due(tx: Transaction, *, now: datetime, until: datetime, limit: int) -> list[CalendarId]:
    """Calendars that are to be read now, the longest waiting first. Until `until` they are nobody else's to read, and
    again everybody's after it: whoever dies over one gives it back so.
    """
    table = calendars.c
    due = select(table.id).where(table.next_at <= now).order_by(table.next_at, table.id).limit(limit)
    claimed = update(calendars).where(table.id.in_(due.with_for_update(skip_locked=True))).values(next_at=until)
    return [CalendarId(found) for found in (await tx.execute(claimed.returning(table.id))).scalars()]


async def save_calendar(tx: Transaction, keys: KeyRing, calendar: StoredCalendar) -> None:
    """Writes a calendar, new or not. Without `content` the stored one stays."""
    values: dict[str, Any] = {name: getattr(calendar, name) for name in _PLAIN}
    values["encrypted_url"] = (
        None if calendar.url is None else keys.encrypt(calendar.url, context=_context(calendar.id, "url"))
    )
    rules = [[rule.match, str(rule.contact_id)] for rule in calendar.rules]
    values["encrypted_rules"] = _encrypted(keys, calendar.id, "rules", rules)
    values["encrypted_findings"] = _encrypted(keys, calendar.id, "findings", _plain_findings(calendar.findings))
    if calendar.content is not None:
        packed = base64.b64encode(zlib.compress(calendar.content)).decode("ascii")
        values["encrypted_content"] = keys.encrypt(packed, context=_context(calendar.id, "content"))
    statement = insert(calendars).values(values)
    replaced = {name: statement.excluded[name] for name in values if name != "id"}
    await tx.execute(statement.on_conflict_do_update(index_elements=["id"], set_=replaced))


async def save_trouble(
    tx: Transaction, calendar_id: UUID, *, reason: str, now: datetime, until: datetime
) -> PartnerCode | None:
    """A calendar failed for a reason of ours and is left alone until then; nothing encrypted of it is opened.

    Returns whose it is if it fails since now.
    """
    table = calendars.c
    failing = update(calendars).where(table.id == calendar_id)
    failing = failing.values(
        failing_since=func.coalesce(table.failing_since, now),
        failures=table.failures + 1,
        reason=reason,
        detail="it could not be read for a reason of ours",
        next_at=until,
    )
    row = (await tx.execute(failing.returning(table.partner, table.failures))).first()
    return PartnerCode(row.partner) if row is not None and row.failures == 1 else None


async def remove_calendar(tx: Transaction, calendar_id: UUID) -> None:
    """Takes the calendar away; its shifts are the rota's to take away."""
    await tx.execute(delete(calendars).where(calendars.c.id == calendar_id))


def _context(calendar_id: UUID, part: str) -> bytes:
    return f"calendar:{calendar_id}:{part}".encode()


def _encrypted(keys: KeyRing, calendar_id: UUID, part: str, value: Any) -> str:
    return keys.encrypt(orjson.dumps(value).decode(), context=_context(calendar_id, part))


def _calendar(keys: KeyRing, row: Any, content: str | None) -> StoredCalendar:
    def decrypted(text: str, part: str) -> str:
        return keys.decrypt(text, context=_context(row.id, part))

    rules = orjson.loads(decrypted(row.encrypted_rules, "rules"))
    found = StoredCalendar(
        id=CalendarId(row.id),
        partner=PartnerCode(row.partner),
        rota_id=RotaId(row.rota_id),
        name=row.name,
        url=None if row.encrypted_url is None else decrypted(row.encrypted_url, "url"),
        rules=tuple(Rule(match, ContactId(UUID(contact_id))) for match, contact_id in rules),
        created_at=row.created_at,
        next_at=row.next_at,
        findings=_findings(orjson.loads(decrypted(row.encrypted_findings, "findings"))),
        content=None if content is None else _unpacked(decrypted(content, "content")),
    )
    known = {"id", "partner", "rota_id", "name", "created_at", "next_at"}
    return replace(found, **{name: getattr(row, name) for name in _PLAIN if name not in known})


def _unpacked(text: str) -> bytes:
    return zlib.decompressobj().decompress(base64.b64decode(text), BYTES_MAX)


def _plain_findings(findings: Findings) -> dict[str, Any]:
    return {
        "title": findings.title,
        "unmapped": [[one.summary, one.reason, one.count, one.line, list(one.people)] for one in findings.unmapped],
        "faults": [[one.line, one.code, one.detail] for one in findings.faults],
        "faults_omitted": findings.faults_omitted,
        "notes": [list(note) for note in findings.notes],
        "stray_rules": list(findings.stray_rules),
        "basis": findings.basis,
    }


def _findings(kept: dict[str, Any]) -> Findings:
    return Findings(
        title=kept["title"],
        unmapped=tuple(
            Unmapped(summary, reason, count, line, tuple(people))
            for summary, reason, count, line, people in kept["unmapped"]
        ),
        faults=tuple(Fault(*told) for told in kept["faults"]),
        faults_omitted=kept["faults_omitted"],
        notes=tuple((code, count) for code, count in kept["notes"]),
        stray_rules=tuple(kept["stray_rules"]),
        basis=kept["basis"],
    )


# --- private addresses ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StoredLink:
    """A private address: of a rota, or of one contact's shifts."""

    id: UUID
    partner: PartnerCode
    rota_id: RotaId | None
    contact_id: ContactId | None
    made_by: str
    made_at: datetime
    used_at: datetime | None = None
    revoked_at: datetime | None = None


async def find_links(tx: Transaction, partner: str, contact_id: UUID | None = None) -> list[StoredLink]:
    """The private addresses of a partner, or one contact's own, that are not revoked, in the order of their making."""
    table = calendar_links.c
    wanted = select(calendar_links).where(table.partner == partner, table.revoked_at.is_(None))
    if contact_id is not None:
        wanted = wanted.where(table.contact_id == contact_id)
    return [_link(row) for row in await tx.execute(wanted.order_by(table.made_at, table.id))]


async def find_link(tx: Transaction, token_sha256: str) -> StoredLink | None:
    """The private address of this hash, unless it is revoked."""
    table = calendar_links.c
    wanted = select(calendar_links).where(table.token_sha256 == token_sha256, table.revoked_at.is_(None))
    row = (await tx.execute(wanted)).first()
    return None if row is None else _link(row)


async def load_link(tx: Transaction, partner: str, link_id: UUID) -> StoredLink | None:
    """One private address of a partner, revoked or not, its row locked."""
    table = calendar_links.c
    wanted = select(calendar_links).where(table.id == link_id, table.partner == partner).with_for_update()
    row = (await tx.execute(wanted)).first()
    return None if row is None else _link(row)


async def add_link(tx: Transaction, link: StoredLink, token_sha256: str) -> None:
    """Keeps a new private address by the hash of its token."""
    values = {name: getattr(link, name) for name in StoredLink.__slots__}
    await tx.execute(insert(calendar_links).values(**values, token_sha256=token_sha256))


async def revoke_link(tx: Transaction, link_id: UUID, *, now: datetime) -> None:
    """Ends a private address for ever."""
    await tx.execute(update(calendar_links).where(calendar_links.c.id == link_id).values(revoked_at=now))


async def mark_used(tx: Transaction, link_id: UUID, *, now: datetime, before: datetime) -> None:
    """Notes that the address was read, if that was not noted since `before`."""
    table = calendar_links.c
    unnoted = or_(table.used_at.is_(None), table.used_at < before)
    await tx.execute(update(calendar_links).where(table.id == link_id, unnoted).values(used_at=now))


async def find_version(tx: Transaction, partner: str) -> tuple[int, datetime] | None:
    """Which version a partner's roster has, and since when."""
    wanted = select(partners.c.version, partners.c.changed_at).where(partners.c.code == partner)
    row = (await tx.execute(wanted)).first()
    return None if row is None else (int(row.version), row.changed_at)


async def count_links(tx: Transaction, partner: str) -> int:
    """How many private addresses of a partner are open."""
    table = calendar_links.c
    wanted = select(func.count()).where(table.partner == partner, table.revoked_at.is_(None))
    return int((await tx.execute(wanted)).scalar_one())


def _link(row: Any) -> StoredLink:
    return StoredLink(**{name: getattr(row, name) for name in StoredLink.__slots__})

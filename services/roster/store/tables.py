"""What the rows of roster look like."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Boolean, Column, DateTime, Index, Integer, Table, Text, Uuid, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from shared.db import service_metadata

metadata = service_metadata()


def _at(name: str, *, nullable: bool = True) -> Column[datetime]:
    return Column(name, DateTime(timezone=True), nullable=nullable)


def _owned(name: str, *columns: Any, key: str = "id") -> Table:
    """A table of things that a partner owns, in its order."""
    return Table(
        name,
        metadata,
        Column(key, Text if key == "client_id" else Uuid, primary_key=True),
        Column("partner", Text, nullable=False),
        *columns,
        Column("place", Integer, nullable=False),
        Index(f"ix_{name}_partner", "partner"),
    )


partners = Table(
    "partners",
    metadata,
    Column("code", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("standing", Text, nullable=False),
    Column("time_zone", Text, nullable=False),
    Column("languages", ARRAY(Text), nullable=False),
    Column("iso3", Text),
    Column("m49", Text),
    Column("active", Boolean, nullable=False),
    Column("version", Integer, nullable=False),
    _at("changed_at", nullable=False),
    Column("plan_asked", Integer, nullable=False),
    _at("plan_due_at", nullable=False),
    Column("plan_version", Integer, nullable=False),
    _at("plan_computed_at"),
    _at("plan_valid_until"),
    Column("plan_failures", Integer, nullable=False),
    Index("ix_partners_plan_due_at", "plan_due_at"),
)

offices = _owned(
    "offices",
    Column("name", Text, nullable=False),
    Column("switchboard", Text),
    Column("embassies", JSONB, nullable=False),
)

contacts = _owned(
    "contacts",
    Column("name", Text, nullable=False),
    Column("title", Text, nullable=False),
    Column("languages", ARRAY(Text), nullable=False),
    Column("time_zone", Text),
)

contact_points = _owned(
    "contact_points",
    Column("owner_id", Uuid, nullable=False),
    Column("channel", Text, nullable=False),
    Column("encrypted_address", Text, nullable=False),
    Column("label", Text),
    _at("verified_at"),
    _at("confirmed_at"),
    Column("delay_seconds", Integer, nullable=False, server_default=text("0")),
    Column("sealed_address", Text),
    Column("sealing_key", Text),
)

rotas = _owned(
    "rotas",
    Column("name", Text, nullable=False),
    Column("time_zone", Text, nullable=False),
    Column("layers", JSONB, nullable=False),
    Column("holiday_calendar", Text),
    Column("extra_holidays", JSONB, nullable=False, server_default=text("'[]'")),
    Column("signs_hand_over", Boolean, nullable=False, server_default=text("false")),
    Column("notice_hours", ARRAY(Integer), nullable=False, server_default=text("'{24}'")),
)

overrides = _owned(
    "overrides",
    Column("rota_id", Uuid, nullable=False),
    Column("contact_id", Uuid),
    _at("start_at", nullable=False),
    _at("end_at", nullable=False),
    Column("deputy_id", Uuid),
)

replacements = _owned(
    "replacements",
    Column("rota_id", Uuid, nullable=False),
    Column("name", Text, nullable=False),
    _at("start_at", nullable=False),
    _at("end_at", nullable=False),
    Column("layers", JSONB, nullable=False),
)

imported_shifts = _owned(
    "imported_shifts",
    Column("rota_id", Uuid, nullable=False),
    Column("calendar_id", Uuid, nullable=False),
    Column("contact_id", Uuid, nullable=False),
    _at("start_at", nullable=False),
    _at("end_at", nullable=False),
)

policies = Table(
    "policies",
    metadata,
    Column("partner", Text, primary_key=True),
    Column("levels", JSONB, nullable=False),
)

endpoints = _owned(
    "endpoints",
    Column("encrypted_url", Text, nullable=False),
    Column("description", Text, nullable=False),
    _at("created_at"),
    Column("sealed_url", Text),
    Column("sealing_key", Text),
)

issued_credentials = _owned(
    "issued_credentials",
    Column("kind", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("roles", ARRAY(Text), nullable=False),
    Column("contact_id", Uuid),
    Column("secret_sha256", Text, nullable=False),
    _at("revoked_at"),
    Column("version", Integer, nullable=False),
    key="client_id",
)

deadlines = Table(
    "deadlines",
    metadata,
    Column("precedence", Text, primary_key=True),
    Column("acknowledge_within_seconds", Integer, nullable=False),
    Column("next_level_every_seconds", Integer),
    Column("unreached_after_seconds", Integer, nullable=False),
    Column("position_within_seconds", Integer, nullable=False),
    Column("read_back", Boolean, nullable=False, server_default=text("false")),
    Column("version", Integer, nullable=False),
)

seeded_hashes = Table(
    "seeded_hashes",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("content_hash", Text, nullable=False),
)

point_health = Table(
    "point_health",
    metadata,
    Column("contact_point_id", Uuid, primary_key=True),
    Column("partner", Text, nullable=False),
    Column("failing", Boolean, nullable=False),
    Column("failures", Integer, nullable=False),
    Column("reason", Text),
    _at("since_at", nullable=False),
    _at("said_at", nullable=False),
    Column("hard", Boolean, nullable=False, server_default=text("false")),
    Index("ix_point_health_partner", "partner"),
)

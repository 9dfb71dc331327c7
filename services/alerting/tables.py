"""The tables of alerting. Migrations are the truth of the schema; a test compares the two.

No table refers to another by a foreign key: locking the parents would be the dearest part of a release.
"""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Date,
    DateTime,
    Index,
    Integer,
    SmallInteger,
    Table,
    Text,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from shared.db import service_metadata

metadata = service_metadata()

crises = Table(
    "crises",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("countries", ARRAY(Text), nullable=False),
    Column("tlp", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("opened_at", DateTime(timezone=True), nullable=False),
    Column("opened_by", JSONB, nullable=False),
    Column("changed_at", DateTime(timezone=True), nullable=False),
    Column("version", Integer, nullable=False),
    Column("request_sha256", Text),
    Column("led_by", Uuid),
)
"""`led_by`: the alert that opened it and says what it is called, if an alert did."""

alerts = Table(
    "alerts",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("root_id", Uuid, nullable=False),
    Column("corrects", Uuid),
    Column("asks_anew", Boolean, nullable=False),
    Column("reference", Text, nullable=False),
    Column("crisis_id", Uuid, nullable=False),
    Column("raiser", Text, nullable=False),
    Column("msg_type", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("status", Text, nullable=False),
    Column("precedence", Text, nullable=False),
    Column("tlp", Text, nullable=False),
    Column("content", JSONB, nullable=False),
    Column("recipients", JSONB, nullable=False),
    Column("addressed", ARRAY(Text), nullable=False),
    Column("drafted_at", DateTime(timezone=True), nullable=False),
    Column("drafted_by", JSONB, nullable=False),
    Column("authors", JSONB, nullable=False),
    Column("released_at", DateTime(timezone=True)),
    Column("released_by", JSONB),
    Column("expires_at", DateTime(timezone=True)),
    Column("self_release_reason", Text),
    Column("needs_review", Boolean, nullable=False),
    Column("ended_at", DateTime(timezone=True)),
    Column("ended_by", JSONB),
    Column("end_note", Text),
    Column("superseded_by", Uuid),
    Column("request_sha256", Text),
    Column("unconfirmed", ARRAY(Text), nullable=False),
    Column("said_again_at", DateTime(timezone=True)),
    Column("times_said_again", Integer, nullable=False),
    Index("uq_alerts_reference", "reference", unique=True),
    Index("ix_alerts_crisis_id", "crisis_id"),
    Index("ix_alerts_raiser_id", "raiser", "id"),
    Index("ix_alerts_expiring", "expires_at", postgresql_where=text("state = 'released'")),
    Index(
        "ix_alerts_drills",
        "released_at",
        postgresql_where=text("status = 'Exercise' AND released_at IS NOT NULL"),
    ),
    Index("ix_alerts_unconfirmed", "released_at", postgresql_where=text("state = 'released' AND unconfirmed <> '{}'")),
)
"""`unconfirmed`: addressed partners whose escalation has not been reported as opened yet."""

timeline = Table(
    "timeline",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("alert_id", Uuid, nullable=False),
    Column("occurred_at", DateTime(timezone=True), nullable=False),
    Column("type", Text, nullable=False),
    Column("body", Text, nullable=False),
    Column("visible_to", ARRAY(Text), nullable=False),
    Column("position", BigInteger),
    Index("ix_timeline_alert_id_occurred_at_id", "alert_id", "occurred_at", "id"),
    Index("ix_timeline_unnumbered", "id", postgresql_where=text("position IS NULL")),
    Index("uq_timeline_position", "position", unique=True),
)
"""What happened, as events; the sequencer gives committed rows their position, which the stream resumes from."""

partners = Table(
    "partners",
    metadata,
    Column("code", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("standing", Text, nullable=False),
    Column("active", Boolean, nullable=False),
    Column("version", Integer, nullable=False),
    Column("time_zone", Text),
    Column("languages", ARRAY(Text), nullable=False, server_default=text("'{en}'")),
)
"""`time_zone` is null for a partner that was last heard of before it was kept."""

deadlines = Table(
    "deadlines",
    metadata,
    Column("precedence", Text, primary_key=True),
    Column("body", JSONB, nullable=False),
    Column("version", Integer, nullable=False),
)
"""The network's table, where it has one of its own."""

reference_counters = Table(
    "reference_counters",
    metadata,
    Column("raiser", Text, primary_key=True),
    Column("year", Integer, primary_key=True, autoincrement=False),
    Column("last_number", Integer, nullable=False),
)


line_test_plan = Table(
    "line_test_plan",
    metadata,
    Column("id", SmallInteger, primary_key=True, autoincrement=False),
    Column("enabled", Boolean, nullable=False),
    Column("partners", ARRAY(Text)),
    Column("switched_by", JSONB),
    Column("switched_at", DateTime(timezone=True)),
    Column("version", Integer, nullable=False),
)
"""One row, with id 1. It is locked while a test begins, so that several replicas begin one."""

line_tests = Table(
    "line_tests",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("alert_id", Uuid, nullable=False),
    Column("reference", Text, nullable=False),
    Column("partner", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("month", Date),
    Column("planned_at", DateTime(timezone=True)),
    Column("started_at", DateTime(timezone=True), nullable=False),
    Column("started_by", JSONB, nullable=False),
    Column("answer_by_at", DateTime(timezone=True), nullable=False),
    Column("level", Integer, nullable=False),
    Column("acknowledged_at", DateTime(timezone=True)),
    Column("outcome", Text),
    Column("stop_reason", Text),
    Column("ended_at", DateTime(timezone=True)),
    Index("uq_line_tests_running", "partner", unique=True, postgresql_where=text("outcome IS NULL")),
    Index("uq_line_tests_partner_month", "partner", "month", unique=True),
    Index("ix_line_tests_partner_id", "partner", "id"),
    Index("ix_line_tests_ended_at", "ended_at", postgresql_where=text("outcome IN ('unanswered', 'stopped')")),
)
"""Tests that have begun. `month` is null for one that was asked for by hand."""


def plain(driver_id: UUID) -> UUID:
    """The standard library's UUID instead of the driver's own subclass, which serialisers refuse."""
    return UUID(int=driver_id.int)

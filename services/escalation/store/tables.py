"""What the rows of escalation look like, as table objects; the migrations make them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import (
    Boolean,
    Column,
    DateTime,
    Float,
    Index,
    Integer,
    LargeBinary,
    Numeric,
    SmallInteger,
    Table,
    Text,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from shared.db import service_metadata

metadata = service_metadata()


Row = Mapping[str, Any]
"""A row as the driver gives it: columns by name."""


def _at(name: str, *, nullable: bool = True) -> Column[datetime]:
    return Column(name, DateTime(timezone=True), nullable=nullable)


alert_heads = Table(
    "alert_heads",
    metadata,
    Column("alert_id", Uuid, primary_key=True),
    Column("root_alert_id", Uuid),
    Column("corrects", Uuid),
    Column("superseded_by", Uuid),
    Column("facts", JSONB),
    Column("content", JSONB),
    Column("answered", JSONB),
    _at("ended_at"),
    Column("end_reason", Text),
    _at("received_at", nullable=False),
    Column("opening_id", Uuid),
    _at("opening_at"),
    Index("ix_alert_heads_root_alert_id", "root_alert_id"),
    Index("ix_alert_heads_opening", "opening_at", postgresql_where=text("opening_id IS NOT NULL")),
    Index(
        "ix_alert_heads_drills",
        "alert_id",
        postgresql_where=text("facts ->> 'status' <> 'Actual' AND ended_at IS NULL"),
    ),
)


escalations = Table(
    "escalations",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("alert_id", Uuid, nullable=False),
    Column("partner", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("subject_partner", Text, nullable=False),
    Column("raiser", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("levels", JSONB, nullable=False),
    Column("level", SmallInteger, nullable=False),
    _at("opened_at", nullable=False),
    _at("clock_started_at", nullable=False),
    _at("expires_at", nullable=False),
    _at("acknowledge_by_at"),
    Column("next_level_every_seconds", Integer),
    _at("unreached_at"),
    _at("position_by_at"),
    _at("due_at"),
    Column("due_reason", Text),
    Column("paged", Boolean, nullable=False),
    _at("first_attempt_at"),
    Column("unreached_postponed", Boolean, nullable=False),
    Column("position_reminders", SmallInteger, nullable=False),
    _at("notified_at"),
    _at("acknowledged_at"),
    Column("acknowledged_by", JSONB),
    Column("asserted_by_system", Text),
    Column("acknowledged_via", Text),
    Column("late", Boolean, nullable=False),
    Column("position", JSONB),
    Column("taken_over_by", JSONB),
    _at("taken_over_at"),
    _at("ended_at"),
    Column("end_reason", Text),
    Column("gaps", ARRAY(Text), nullable=False),
    Column("one_provider", Boolean, nullable=False, server_default=text("false")),
    Column("added", ARRAY(Uuid)),
    Column("stopped", ARRAY(Uuid)),
    Column("brief", JSONB),
    _at("changed_at", nullable=False),
    Index("uq_escalations_alert_id_partner_subject_partner", "alert_id", "partner", "subject_partner", unique=True),
    Index("ix_escalations_due_at", "due_at", postgresql_where=text("due_at IS NOT NULL")),
    Index("ix_escalations_partner_opened_at", "partner", "opened_at"),
    Index("ix_escalations_changed_at", "changed_at"),
)


pages = Table(
    "pages",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("escalation_id", Uuid),
    Column("alert_id", Uuid),
    Column("partner", Text, nullable=False),
    Column("contact_point_id", Uuid, nullable=False),
    Column("contact_id", Uuid),
    Column("channel", Text, nullable=False),
    Column("sealed_address", Text, nullable=False),
    Column("told", Text, nullable=False),
    Column("message_type", Text, nullable=False),
    Column("level", SmallInteger, nullable=False),
    Column("asks", Boolean, nullable=False),
    Column("data", JSONB),
    Column("priority", SmallInteger, nullable=False),
    Column("state", Text, nullable=False),
    _at("due_at", nullable=False),
    _at("leased_until"),
    Column("attempts", Integer, nullable=False),
    _at("first_attempt_at"),
    _at("delivered_at"),
    _at("give_up_at", nullable=False),
    _at("created_at", nullable=False),
    Column("languages", ARRAY(Text)),
    Column("time_zone", Text),
    _at("answer_by_at"),
    Column("reply_key", LargeBinary),
    Column("sent_with", Uuid),
    Index("ix_pages_due", "due_at", postgresql_where=text("state = 'due'")),
    Index("ix_pages_leased", "leased_until", postgresql_where=text("state = 'leased'")),
    Index("ix_pages_escalation_id", "escalation_id"),
    Index("ix_pages_alert_id", "alert_id"),
    Index("ix_pages_reply_key", "reply_key", "created_at", postgresql_where=text("reply_key IS NOT NULL")),
    Index("ix_pages_sent_with", "sent_with", postgresql_where=text("sent_with IS NOT NULL")),
    Index("ix_pages_beside", "partner", "created_at", postgresql_where=text("escalation_id IS NULL")),
)


attempts = Table(
    "attempts",
    metadata,
    Column("page_id", Uuid, primary_key=True),
    Column("number", Integer, primary_key=True),
    _at("started_at", nullable=False),
    _at("finished_at"),
    Column("state", Text),
    Column("reason", Text),
    Column("detail", Text),
    Column("status_code", SmallInteger),
    Column("elapsed_seconds", Float),
    Column("provider_id", Text),
    Column("provider", Text),
    _at("delivered_at"),
    Column("cost_amount", Numeric),
    Column("cost_currency", Text),
    Index("ix_attempts_started_at", "started_at"),
    Index("ix_attempts_provider_id", "provider", "provider_id", postgresql_where=text("provider_id IS NOT NULL")),
)


early_receipts = Table(
    "early_receipts",
    metadata,
    Column("provider", Text, primary_key=True),
    Column("provider_id", Text, primary_key=True),
    Column("state", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("detail", Text),
    Column("cost_amount", Numeric),
    Column("cost_currency", Text),
    _at("received_at", nullable=False),
)


duty_plans = Table(
    "duty_plans",
    metadata,
    Column("partner", Text, primary_key=True),
    Column("plan_version", Integer, nullable=False),
    Column("body", Text, nullable=False),
    Column("previous_body", Text),
    _at("received_at", nullable=False),
)


partners = Table(
    "partners",
    metadata,
    Column("partner", Text, primary_key=True),
    Column("version", Integer, nullable=False),
    Column("body", Text, nullable=False),
    _at("received_at", nullable=False),
)


point_health = Table(
    "point_health",
    metadata,
    Column("contact_point_id", Uuid, primary_key=True),
    Column("partner", Text, nullable=False),
    Column("channel", Text, nullable=False),
    Column("failures", Integer, nullable=False),
    Column("last_reason", Text),
    _at("since_at", nullable=False),
    Column("told", Boolean, nullable=False),
    Column("hard", Boolean, nullable=False, server_default=text("false")),
)


verifications = Table(
    "verifications",
    metadata,
    Column("contact_point_id", Uuid, primary_key=True),
    Column("partner", Text, nullable=False),
    Column("page_id", Uuid, nullable=False),
    Column("fingerprint", Text, nullable=False),
    Column("wrong_tries", SmallInteger, nullable=False),
    _at("asked_at", nullable=False),
    _at("first_asked_at", nullable=False),
    Column("asked", SmallInteger, nullable=False),
    _at("verified_at"),
)


notices = Table(
    "notices",
    metadata,
    Column("notice_id", Uuid, primary_key=True),
    Column("partner", Text, nullable=False),
    Column("kind", Text, nullable=False),
    _at("issued_at", nullable=False),
    _at("expires_at", nullable=False),
)


hand_overs = Table(
    "hand_overs",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("partner", Text, nullable=False),
    Column("rota_id", Uuid, nullable=False),
    _at("start_at", nullable=False),
    Column("outgoing_id", Uuid, nullable=False),
    Column("incoming_id", Uuid, nullable=False),
    _at("outgoing_signed_at"),
    Column("outgoing_open", JSONB),
    Column("outgoing_note", Text),
    _at("incoming_signed_at"),
    Column("incoming_open", JSONB),
    Column("incoming_note", Text),
    Index("ix_hand_overs_partner_start_at", "partner", "start_at"),
)


hand_over_versions = Table(
    "hand_over_versions",
    metadata,
    Column("partner", Text, primary_key=True),
    Column("version", Integer, nullable=False),
)

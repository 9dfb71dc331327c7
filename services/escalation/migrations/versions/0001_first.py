"""The first tables of escalation, on top of those that every service has."""

from collections.abc import Sequence

from shared.migrate import create_common_tables, execute_script

revision: str = "escalation_0001"
down_revision: str | None = None
branch_labels: str | Sequence[str] | None = ("escalation",)
depends_on: str | Sequence[str] | None = None

TABLES = """
CREATE TABLE alert_heads (
    alert_id uuid CONSTRAINT pk_alert_heads PRIMARY KEY,
    root_alert_id uuid,
    corrects uuid,
    superseded_by uuid,
    facts jsonb,
    content jsonb,
    answered jsonb,
    ended_at timestamptz,
    end_reason text,
    received_at timestamptz NOT NULL
);
CREATE INDEX ix_alert_heads_root_alert_id ON alert_heads (root_alert_id);

CREATE TABLE escalations (
    id uuid CONSTRAINT pk_escalations PRIMARY KEY,
    alert_id uuid NOT NULL,
    partner text NOT NULL,
    kind text NOT NULL,
    subject_partner text NOT NULL,
    raiser text NOT NULL,
    state text NOT NULL,
    levels jsonb NOT NULL,
    level smallint NOT NULL,
    opened_at timestamptz NOT NULL,
    clock_started_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    acknowledge_by_at timestamptz,
    next_level_every_seconds integer,
    unreached_at timestamptz,
    position_by_at timestamptz,
    due_at timestamptz,
    due_reason text,
    paged boolean NOT NULL,
    first_attempt_at timestamptz,
    unreached_postponed boolean NOT NULL,
    position_reminders smallint NOT NULL,
    notified_at timestamptz,
    acknowledged_at timestamptz,
    acknowledged_by jsonb,
    asserted_by_system text,
    acknowledged_via text,
    late boolean NOT NULL,
    position jsonb,
    taken_over_by jsonb,
    taken_over_at timestamptz,
    ended_at timestamptz,
    end_reason text,
    gaps text[] NOT NULL,
    brief jsonb,
    changed_at timestamptz NOT NULL
);
CREATE UNIQUE INDEX uq_escalations_alert_id_partner_subject_partner
    ON escalations (alert_id, partner, subject_partner);
CREATE INDEX ix_escalations_due_at ON escalations (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX ix_escalations_partner_opened_at ON escalations (partner, opened_at);

CREATE TABLE pages (
    id uuid CONSTRAINT pk_pages PRIMARY KEY,
    escalation_id uuid,
    alert_id uuid,
    partner text NOT NULL,
    contact_point_id uuid NOT NULL,
    contact_id uuid,
    channel text NOT NULL,
    sealed_address text NOT NULL,
    told text NOT NULL,
    message_type text NOT NULL,
    level smallint NOT NULL,
    asks boolean NOT NULL,
    data jsonb,
    priority smallint NOT NULL,
    state text NOT NULL,
    due_at timestamptz NOT NULL,
    leased_until timestamptz,
    attempts integer NOT NULL,
    first_attempt_at timestamptz,
    delivered_at timestamptz,
    give_up_at timestamptz NOT NULL,
    created_at timestamptz NOT NULL
);
CREATE INDEX ix_pages_due ON pages (due_at) WHERE state = 'due';
CREATE INDEX ix_pages_leased ON pages (leased_until) WHERE state = 'leased';
CREATE INDEX ix_pages_escalation_id ON pages (escalation_id);
CREATE INDEX ix_pages_alert_id ON pages (alert_id);

CREATE TABLE attempts (
    page_id uuid,
    number integer,
    started_at timestamptz NOT NULL,
    finished_at timestamptz,
    state text,
    reason text,
    detail text,
    status_code smallint,
    elapsed_seconds double precision,
    provider_id text,
    CONSTRAINT pk_attempts PRIMARY KEY (page_id, number)
);

CREATE TABLE duty_plans (
    partner text CONSTRAINT pk_duty_plans PRIMARY KEY,
    plan_version integer NOT NULL,
    body text NOT NULL,
    previous_body text,
    received_at timestamptz NOT NULL
);

CREATE TABLE partners (
    partner text CONSTRAINT pk_partners PRIMARY KEY,
    version integer NOT NULL,
    body text NOT NULL,
    received_at timestamptz NOT NULL
);

CREATE TABLE point_health (
    contact_point_id uuid CONSTRAINT pk_point_health PRIMARY KEY,
    partner text NOT NULL,
    channel text NOT NULL,
    failures integer NOT NULL,
    last_reason text,
    since_at timestamptz NOT NULL,
    told boolean NOT NULL
);
"""


def upgrade() -> None:
    """Creates the tables."""
    create_common_tables()
    execute_script(TABLES)


def downgrade() -> None:
    """Nothing is taken back: later changes are later migrations."""

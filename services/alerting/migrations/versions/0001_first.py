"""The first tables of alerting, on top of those that every service has."""

from collections.abc import Sequence

from alembic import op

from shared.migrate import create_common_tables

revision: str = "alerting_0001"
down_revision: str | None = None
branch_labels: str | Sequence[str] | None = ("alerting",)
depends_on: str | Sequence[str] | None = None

TABLES = """
CREATE TABLE crises (
    id uuid CONSTRAINT pk_crises PRIMARY KEY,
    owner text NOT NULL,
    name text NOT NULL,
    countries text[] NOT NULL,
    tlp text NOT NULL,
    state text NOT NULL,
    opened_at timestamptz NOT NULL,
    opened_by jsonb NOT NULL,
    changed_at timestamptz NOT NULL,
    version integer NOT NULL,
    request_sha256 text
);

CREATE TABLE alerts (
    id uuid CONSTRAINT pk_alerts PRIMARY KEY,
    root_id uuid NOT NULL,
    corrects uuid,
    asks_anew boolean NOT NULL,
    reference text NOT NULL,
    crisis_id uuid NOT NULL,
    raiser text NOT NULL,
    msg_type text NOT NULL,
    state text NOT NULL,
    version integer NOT NULL,
    status text NOT NULL,
    precedence text NOT NULL,
    tlp text NOT NULL,
    content jsonb NOT NULL,
    recipients jsonb NOT NULL,
    addressed text[] NOT NULL,
    drafted_at timestamptz NOT NULL,
    drafted_by jsonb NOT NULL,
    authors jsonb NOT NULL,
    released_at timestamptz,
    released_by jsonb,
    expires_at timestamptz,
    self_release_reason text,
    needs_review boolean NOT NULL,
    ended_at timestamptz,
    ended_by jsonb,
    end_note text,
    superseded_by uuid,
    request_sha256 text,
    unconfirmed text[] NOT NULL,
    said_again_at timestamptz,
    times_said_again integer NOT NULL
);
CREATE UNIQUE INDEX uq_alerts_reference ON alerts (reference);
CREATE INDEX ix_alerts_crisis_id ON alerts (crisis_id);
CREATE INDEX ix_alerts_raiser_id ON alerts (raiser, id);
CREATE INDEX ix_alerts_expiring ON alerts (expires_at) WHERE state = 'released';
CREATE INDEX ix_alerts_unconfirmed ON alerts (released_at) WHERE state = 'released' AND unconfirmed <> '{}';

CREATE TABLE timeline (
    id uuid CONSTRAINT pk_timeline PRIMARY KEY,
    alert_id uuid NOT NULL,
    occurred_at timestamptz NOT NULL,
    type text NOT NULL,
    body text NOT NULL,
    visible_to text[] NOT NULL,
    position bigint
);
CREATE INDEX ix_timeline_alert_id_occurred_at_id ON timeline (alert_id, occurred_at, id);
CREATE INDEX ix_timeline_unnumbered ON timeline (id) WHERE position IS NULL;
CREATE UNIQUE INDEX uq_timeline_position ON timeline (position);

CREATE TABLE partners (
    code text CONSTRAINT pk_partners PRIMARY KEY,
    name text NOT NULL,
    standing text NOT NULL,
    active boolean NOT NULL,
    version integer NOT NULL
);

CREATE TABLE reference_counters (
    raiser text,
    year integer,
    last_number integer NOT NULL,
    CONSTRAINT pk_reference_counters PRIMARY KEY (raiser, year)
);
"""


def upgrade() -> None:
    """Creates the tables."""
    create_common_tables()
    for statement in TABLES.split(";"):
        if statement.strip():
            op.execute(statement)


def downgrade() -> None:
    """Nothing is taken back: later changes are later migrations."""

"""What readiness was found, said and scored, and notices before shifts."""

from collections.abc import Sequence

from shared.migrate import execute_script

revision: str = "roster_0005"
down_revision: str | None = "roster_0004"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

TABLES = """
CREATE TABLE endpoint_checks (
    endpoint_id uuid CONSTRAINT pk_endpoint_checks PRIMARY KEY,
    partner text NOT NULL,
    fingerprint text NOT NULL,
    checked_at timestamptz NOT NULL,
    answering boolean NOT NULL,
    since_at timestamptz NOT NULL,
    reason text,
    certificate_valid_until timestamptz
);
CREATE INDEX ix_endpoint_checks_partner ON endpoint_checks (partner);
CREATE TABLE readiness (
    partner text CONSTRAINT pk_readiness PRIMARY KEY,
    due_at timestamptz NOT NULL,
    failures integer NOT NULL,
    plan_version integer NOT NULL,
    proved_at timestamptz,
    from_at timestamptz,
    to_at timestamptz,
    score integer,
    alarms integer NOT NULL,
    blocking integer NOT NULL,
    warnings integer NOT NULL,
    findings jsonb NOT NULL,
    digest_due_at timestamptz,
    digest_findings jsonb NOT NULL,
    digest_until_at timestamptz
);
CREATE INDEX ix_readiness_due_at ON readiness (due_at);
CREATE TABLE readiness_scores (
    partner text NOT NULL,
    day date NOT NULL,
    score integer NOT NULL,
    lowest integer NOT NULL,
    alarms integer NOT NULL,
    blocking integer NOT NULL,
    warnings integer NOT NULL,
    CONSTRAINT pk_readiness_scores PRIMARY KEY (partner, day)
);
CREATE TABLE told_holes (
    id uuid CONSTRAINT pk_told_holes PRIMARY KEY,
    partner text NOT NULL,
    rota_id uuid NOT NULL,
    begins_at timestamptz NOT NULL,
    ends_at timestamptz NOT NULL,
    told_at timestamptz NOT NULL
);
CREATE INDEX ix_told_holes_partner ON told_holes (partner);
CREATE TABLE told_chases (
    contact_id uuid NOT NULL,
    expires_at timestamptz NOT NULL,
    days_before integer NOT NULL,
    partner text NOT NULL,
    told_at timestamptz NOT NULL,
    CONSTRAINT pk_told_chases PRIMARY KEY (contact_id, expires_at, days_before)
);
CREATE INDEX ix_told_chases_partner ON told_chases (partner);
CREATE TABLE shift_notice_plans (
    partner text CONSTRAINT pk_shift_notice_plans PRIMARY KEY,
    plan_version integer NOT NULL,
    again_at timestamptz
);
CREATE TABLE shift_notices (
    id uuid CONSTRAINT pk_shift_notices PRIMARY KEY,
    partner text NOT NULL,
    kind text NOT NULL,
    rota_id uuid NOT NULL,
    contact_id uuid NOT NULL,
    other_id uuid,
    start_at timestamptz NOT NULL,
    end_at timestamptz NOT NULL,
    hours integer NOT NULL,
    due_at timestamptz NOT NULL,
    issued_at timestamptz
);
CREATE UNIQUE INDEX uq_shift_notices_once ON shift_notices (kind, rota_id, contact_id, start_at, hours);
CREATE INDEX ix_shift_notices_partner ON shift_notices (partner);
CREATE INDEX ix_shift_notices_due_at ON shift_notices (due_at) WHERE issued_at IS NULL;
"""


def upgrade() -> None:
    """Creates the tables."""
    execute_script(TABLES)


def downgrade() -> None:
    """Nothing is taken back: later changes are later migrations."""

"""Heartbeats of endpoints and providers."""

from collections.abc import Sequence

from shared.migrate import execute_script

revision: str = "escalation_0010"
down_revision: str | None = "escalation_0009"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

TABLES = """
CREATE TABLE heartbeats (
    id uuid CONSTRAINT pk_heartbeats PRIMARY KEY,
    kind text NOT NULL,
    partner text NOT NULL,
    channel text NOT NULL,
    provider text,
    told text NOT NULL,
    sealed_address text,
    next_at timestamptz NOT NULL,
    leased_until timestamptz,
    beat_id uuid,
    beat_at timestamptz,
    is_out boolean NOT NULL,
    provider_id text,
    ended_at timestamptz,
    answering boolean,
    reason text,
    answer_seconds double precision,
    answered_at timestamptz,
    failures integer NOT NULL,
    failing_since_at timestamptz,
    told_at timestamptz,
    published_at timestamptz,
    certificate_valid_until timestamptz,
    certificate_checked_at timestamptz,
    requested_at timestamptz
);
CREATE INDEX ix_heartbeats_next_at ON heartbeats (next_at);
CREATE INDEX ix_heartbeats_partner ON heartbeats (partner, id);
"""


def upgrade() -> None:
    """Creates the table."""
    execute_script(TABLES)


def downgrade() -> None:
    """Nothing is taken back: later changes are later migrations."""

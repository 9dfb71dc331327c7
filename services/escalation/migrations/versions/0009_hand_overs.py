"""Signed hand-overs."""

from collections.abc import Sequence

from shared.migrate import execute_script

revision: str = "escalation_0009"
down_revision: str | None = "escalation_0008"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

# A version for each partner, counted up when both have signed: by it every process learns that it has to look again.
TABLES = """
CREATE TABLE hand_overs (
    id uuid CONSTRAINT pk_hand_overs PRIMARY KEY,
    partner text NOT NULL,
    rota_id uuid NOT NULL,
    start_at timestamptz NOT NULL,
    outgoing_id uuid NOT NULL,
    incoming_id uuid NOT NULL,
    outgoing_signed_at timestamptz,
    outgoing_open jsonb,
    outgoing_note text,
    incoming_signed_at timestamptz,
    incoming_open jsonb,
    incoming_note text
);
CREATE INDEX ix_hand_overs_partner_start_at ON hand_overs (partner, start_at);

CREATE TABLE hand_over_versions (
    partner text CONSTRAINT pk_hand_over_versions PRIMARY KEY,
    version integer NOT NULL
);
"""


def upgrade() -> None:
    """Creates the tables."""
    execute_script(TABLES)


def downgrade() -> None:
    """Nothing is taken back: later changes are later migrations."""

"""Swaps of shifts."""

from collections.abc import Sequence

from shared.migrate import execute_script

revision: str = "roster_0006"
down_revision: str | None = "roster_0005"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

TABLES = """
CREATE TABLE swaps (
    id uuid NOT NULL CONSTRAINT pk_swaps PRIMARY KEY,
    partner text NOT NULL,
    rota_id uuid NOT NULL,
    offered_by uuid NOT NULL,
    offered_to uuid,
    start_at timestamptz NOT NULL,
    end_at timestamptz NOT NULL,
    return_start_at timestamptz,
    return_end_at timestamptz,
    offered_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    state text NOT NULL,
    declined_by uuid[] NOT NULL,
    accepted_by uuid,
    ended_at timestamptz,
    version integer NOT NULL
);
CREATE INDEX ix_swaps_partner ON swaps (partner, id);
CREATE INDEX ix_swaps_expires_at ON swaps (expires_at) WHERE state = 'offered';
"""


def upgrade() -> None:
    """Adds what is new."""
    execute_script(TABLES)


def downgrade() -> None:
    """Nothing is taken back: later changes are later migrations."""

"""Who has signed a hand-over, as escalation says."""

from collections.abc import Sequence

from shared.migrate import execute_script

revision: str = "roster_0008"
down_revision: str | None = "roster_0007"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

TABLES = """
CREATE TABLE hand_overs (
    rota_id uuid NOT NULL,
    start_at timestamptz NOT NULL,
    outgoing_id uuid NOT NULL,
    incoming_id uuid NOT NULL,
    partner text NOT NULL,
    outgoing_signed_at timestamptz,
    incoming_signed_at timestamptz,
    CONSTRAINT pk_hand_overs PRIMARY KEY (rota_id, start_at, outgoing_id, incoming_id)
);
"""


def upgrade() -> None:
    """Creates the table."""
    execute_script(TABLES)


def downgrade() -> None:
    """Nothing is taken back: later changes are later migrations."""

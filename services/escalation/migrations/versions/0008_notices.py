"""Notices about the roster."""

from collections.abc import Sequence

from shared.migrate import execute_script

revision: str = "escalation_0008"
down_revision: str | None = "escalation_0007"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

TABLES = """
CREATE TABLE notices (
    notice_id uuid CONSTRAINT pk_notices PRIMARY KEY,
    partner text NOT NULL,
    kind text NOT NULL,
    issued_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL
);
"""


def upgrade() -> None:
    """Creates the table."""
    execute_script(TABLES)


def downgrade() -> None:
    """Nothing is taken back: later changes are later migrations."""

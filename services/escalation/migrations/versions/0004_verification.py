"""Codes that were sent to contact points, and which of them their owners returned."""

from collections.abc import Sequence

from shared.migrate import execute_script

revision: str = "escalation_0004"
down_revision: str | None = "escalation_0003"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

TABLES = """
ALTER TABLE point_health ADD COLUMN hard boolean NOT NULL DEFAULT false;

CREATE TABLE verifications (
    contact_point_id uuid CONSTRAINT pk_verifications PRIMARY KEY,
    partner text NOT NULL,
    page_id uuid NOT NULL,
    fingerprint text NOT NULL,
    wrong_tries smallint NOT NULL,
    asked_at timestamptz NOT NULL,
    first_asked_at timestamptz NOT NULL,
    asked smallint NOT NULL,
    verified_at timestamptz
);
"""


def upgrade() -> None:
    """Creates the tables."""
    execute_script(TABLES)


def downgrade() -> None:
    """Nothing is taken back: later changes are later migrations."""

"""Delays and zones of contacts, addresses where nobody is reached, and whether the network wants alerts read back."""

from collections.abc import Sequence

from shared.migrate import execute_script

revision: str = "roster_0002"
down_revision: str | None = "roster_0001"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

TABLES = """
ALTER TABLE contact_points ADD COLUMN delay_seconds integer NOT NULL DEFAULT 0;
ALTER TABLE contacts ADD COLUMN time_zone text;
ALTER TABLE deadlines ADD COLUMN read_back boolean NOT NULL DEFAULT false;
ALTER TABLE point_health ADD COLUMN hard boolean NOT NULL DEFAULT false;
"""


def upgrade() -> None:
    """Adds the columns."""
    execute_script(TABLES)


def downgrade() -> None:
    """Nothing is taken back: later changes are later migrations."""

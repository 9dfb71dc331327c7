"""The sealed form of each address beside the encrypted one, so that a duty plan need not seal a hundred anew."""

from collections.abc import Sequence

from shared.migrate import execute_script

revision: str = "roster_0009"
down_revision: str | None = "roster_0008"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

COLUMNS = """
ALTER TABLE contact_points ADD COLUMN sealed_address text, ADD COLUMN sealing_key text;
ALTER TABLE endpoints ADD COLUMN sealed_url text, ADD COLUMN sealing_key text;
"""


def upgrade() -> None:
    """Adds the columns. What is there is sealed before its next duty plan."""
    execute_script(COLUMNS)


def downgrade() -> None:
    """Nothing is taken back: later changes are later migrations."""

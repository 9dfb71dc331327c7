"""Which alerts are just being opened: their first pages leave before escalations and pages are rows."""

from collections.abc import Sequence

from shared.migrate import execute_script

revision: str = "escalation_0013"
down_revision: str | None = "escalation_0012"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

TABLES = """
ALTER TABLE alert_heads ADD COLUMN opening_id uuid, ADD COLUMN opening_at timestamptz;
CREATE INDEX ix_alert_heads_opening ON alert_heads (opening_at) WHERE opening_id IS NOT NULL;
"""


def upgrade() -> None:
    """Adds the columns."""
    execute_script(TABLES)


def downgrade() -> None:
    """Nothing is taken back: later changes are later migrations."""

"""Which alerts are drills that still run: their deadlines come after those of Actual alerts."""

from collections.abc import Sequence

from shared.migrate import execute_script

revision: str = "escalation_0011"
down_revision: str | None = "escalation_0010"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

TABLES = """
CREATE INDEX ix_alert_heads_drills ON alert_heads (alert_id)
    WHERE facts ->> 'status' <> 'Actual' AND ended_at IS NULL;
"""


def upgrade() -> None:
    """Adds the index."""
    execute_script(TABLES)


def downgrade() -> None:
    """Nothing is taken back: later changes are later migrations."""

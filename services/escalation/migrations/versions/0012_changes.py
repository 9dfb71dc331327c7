"""What has changed since an instant, for boards that are open: found by index, among however many escalations."""

from collections.abc import Sequence

from shared.migrate import execute_script

revision: str = "escalation_0012"
down_revision: str | None = "escalation_0011"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

TABLES = """
CREATE INDEX ix_escalations_changed_at ON escalations (changed_at);
CREATE INDEX ix_attempts_started_at ON attempts (started_at);
"""


def upgrade() -> None:
    """Adds the indexes."""
    execute_script(TABLES)


def downgrade() -> None:
    """Nothing is taken back: later changes are later migrations."""

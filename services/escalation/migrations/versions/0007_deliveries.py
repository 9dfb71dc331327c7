"""What the delivery log is read by."""

from collections.abc import Sequence

from shared.migrate import execute_script

revision: str = "escalation_0007"
down_revision: str | None = "escalation_0006"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

# Pages of an escalation are found by it. An index over all pages would be paid for by every page of a release.
TABLES = """
CREATE INDEX ix_pages_beside ON pages (partner, created_at) WHERE escalation_id IS NULL;
"""


def upgrade() -> None:
    """Creates the index."""
    execute_script(TABLES)


def downgrade() -> None:
    """Nothing is taken back: later changes are later migrations."""

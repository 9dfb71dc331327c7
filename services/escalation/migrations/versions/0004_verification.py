"""Codes that were sent to contact points, and which of them their owners returned."""

from collections.abc import Sequence

from shared.migrate import execute_script

revision: str = "escalation_0004"
down_revision: str | None = "escalation_0003"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

TABLES = """
"""


def upgrade() -> None:
    """Creates the tables."""
    execute_script(TABLES)


def downgrade() -> None:
    """Nothing is taken back: later changes are later migrations."""

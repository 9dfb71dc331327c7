"""Heartbeats of endpoints and providers."""

from collections.abc import Sequence

from shared.migrate import execute_script

revision: str = "escalation_0010"
down_revision: str | None = "escalation_0009"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

TABLES = """
"""


def upgrade() -> None:
    """Adds what is new."""
    execute_script(TABLES)


def downgrade() -> None:
    """Nothing is taken back: later changes are later migrations."""

"""The network's deadlines, as roster publishes them."""

from collections.abc import Sequence

from shared.migrate import execute_script

revision: str = "alerting_0002"
down_revision: str | None = "alerting_0001"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

TABLES = """
CREATE TABLE deadlines (
    precedence text CONSTRAINT pk_deadlines PRIMARY KEY,
    body jsonb NOT NULL,
    version integer NOT NULL
);
"""


def upgrade() -> None:
    """Creates the table."""
    execute_script(TABLES)


def downgrade() -> None:
    """Nothing is taken back: later changes are later migrations."""

"""Coverage goals of alerts."""

from collections.abc import Sequence

from shared.migrate import execute_script

revision: str = "escalation_0005"
down_revision: str | None = "escalation_0004"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

TABLES = """
CREATE TABLE coverage_goals (
    alert_id uuid CONSTRAINT pk_coverage_goals PRIMARY KEY,
    raiser text NOT NULL,
    partners smallint NOT NULL,
    within_seconds integer NOT NULL,
    asked text[] NOT NULL,
    due_at timestamptz NOT NULL,
    state text NOT NULL,
    decided_at timestamptz
);
CREATE INDEX ix_coverage_goals_due_at ON coverage_goals (due_at) WHERE state = 'open';
CREATE INDEX ix_coverage_goals_decided_at ON coverage_goals (decided_at);
"""


def upgrade() -> None:
    """Creates the tables."""
    execute_script(TABLES)


def downgrade() -> None:
    """Nothing is taken back: later changes are later migrations."""

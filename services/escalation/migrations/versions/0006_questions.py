"""Questions back to the raiser, and read-backs."""

from collections.abc import Sequence

from shared.migrate import execute_script

revision: str = "escalation_0006"
down_revision: str | None = "escalation_0005"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

TABLES = """
CREATE TABLE questions (
    id uuid CONSTRAINT pk_questions PRIMARY KEY,
    alert_id uuid NOT NULL,
    escalation_id uuid NOT NULL,
    partner text NOT NULL,
    raiser text NOT NULL,
    question text NOT NULL,
    asked_at timestamptz NOT NULL,
    asked_by jsonb NOT NULL,
    answer text,
    answered_at timestamptz,
    answered_by jsonb
);
CREATE INDEX ix_questions_alert_id ON questions (alert_id, asked_at);

CREATE TABLE read_backs (
    escalation_id uuid CONSTRAINT pk_read_backs PRIMARY KEY,
    alert_id uuid NOT NULL,
    required_at timestamptz NOT NULL,
    country text,
    request text,
    time text,
    given_at timestamptz,
    given_by jsonb,
    correct boolean,
    note text,
    confirmed_at timestamptz,
    confirmed_by jsonb,
    rejections smallint NOT NULL
);
"""


def upgrade() -> None:
    """Creates the tables."""
    execute_script(TABLES)


def downgrade() -> None:
    """Nothing is taken back: later changes are later migrations."""

"""Codes that were tried, and messages that came in from providers."""

from collections.abc import Sequence

from shared.migrate import execute_script

revision: str = "escalation_0003"
down_revision: str | None = "escalation_0002"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

TABLES = """
CREATE TABLE answer_codes (
    page_id uuid CONSTRAINT pk_answer_codes PRIMARY KEY,
    wrong_tries smallint NOT NULL,
    locked_at timestamptz
);

CREATE TABLE provider_messages (
    provider text,
    message_id text,
    received_at timestamptz NOT NULL,
    answer jsonb,
    CONSTRAINT pk_provider_messages PRIMARY KEY (provider, message_id)
);
"""


def upgrade() -> None:
    """Creates the tables."""
    execute_script(TABLES)


def downgrade() -> None:
    """Nothing is taken back: later changes are later migrations."""

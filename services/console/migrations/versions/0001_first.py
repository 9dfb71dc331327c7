"""The first tables of the console: sessions, on top of those that every service has."""

from collections.abc import Sequence

from shared.migrate import create_common_tables, execute_script

revision: str = "console_0001"
down_revision: str | None = None
branch_labels: str | Sequence[str] | None = ("console",)
depends_on: str | Sequence[str] | None = None

TABLES = """
CREATE TABLE sessions (
    cookie_sha256 bytea CONSTRAINT pk_sessions PRIMARY KEY,
    id uuid NOT NULL,
    client_id text NOT NULL,
    claims jsonb NOT NULL,
    created_at timestamptz NOT NULL,
    seen_at timestamptz NOT NULL
);
CREATE INDEX ix_sessions_seen_at ON sessions (seen_at);
"""


def upgrade() -> None:
    """Creates the tables."""
    create_common_tables()
    execute_script(TABLES)


def downgrade() -> None:
    """Nothing is taken back: later changes are later migrations."""

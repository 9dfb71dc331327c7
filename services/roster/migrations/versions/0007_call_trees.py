"""Call trees that are kept ready."""

from collections.abc import Sequence

from shared.migrate import execute_script

revision: str = "roster_0007"
down_revision: str | None = "roster_0006"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

TABLES = """
CREATE TABLE call_tree_sheets (
    partner text NOT NULL CONSTRAINT pk_call_tree_sheets PRIMARY KEY,
    partner_version integer NOT NULL,
    made_at timestamptz,
    again_at timestamptz,
    document text
);
CREATE TABLE call_trees (
    edition text NOT NULL CONSTRAINT pk_call_trees PRIMARY KEY,
    made_at timestamptz,
    due_at timestamptz NOT NULL,
    failures integer NOT NULL,
    inputs text NOT NULL,
    encrypted_document text,
    encrypted_pdf text
);
"""


def upgrade() -> None:
    """Adds what is new."""
    execute_script(TABLES)


def downgrade() -> None:
    """Nothing is taken back: later changes are later migrations."""

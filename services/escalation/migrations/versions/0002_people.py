"""What pages to people need beside pages to systems: languages, replies, providers' receipts, coalescing.

The columns of pages may be empty: of a page to a system they are.
"""

from collections.abc import Sequence

from shared.migrate import execute_script

revision: str = "escalation_0002"
down_revision: str | None = "escalation_0001"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

TABLES = """
ALTER TABLE pages
    ADD COLUMN languages text[],
    ADD COLUMN time_zone text,
    ADD COLUMN answer_by_at timestamptz,
    ADD COLUMN reply_key bytea,
    ADD COLUMN sent_with uuid;
CREATE INDEX ix_pages_reply_key ON pages (reply_key, created_at) WHERE reply_key IS NOT NULL;
CREATE INDEX ix_pages_sent_with ON pages (sent_with) WHERE sent_with IS NOT NULL;

ALTER TABLE escalations
    ADD COLUMN one_provider boolean NOT NULL DEFAULT false,
    ADD COLUMN added uuid[],
    ADD COLUMN stopped uuid[];

ALTER TABLE attempts
    ADD COLUMN provider text,
    ADD COLUMN delivered_at timestamptz,
    ADD COLUMN cost_amount numeric,
    ADD COLUMN cost_currency text;
CREATE INDEX ix_attempts_provider_id ON attempts (provider, provider_id) WHERE provider_id IS NOT NULL;

CREATE TABLE early_receipts (
    provider text,
    provider_id text,
    state text NOT NULL,
    reason text NOT NULL,
    detail text,
    cost_amount numeric,
    cost_currency text,
    received_at timestamptz NOT NULL,
    CONSTRAINT pk_early_receipts PRIMARY KEY (provider, provider_id)
);
"""


def upgrade() -> None:
    """Creates the tables."""
    execute_script(TABLES)


def downgrade() -> None:
    """Nothing is taken back: later changes are later migrations."""

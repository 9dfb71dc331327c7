"""Calendars that are imported from, and private addresses that are exported to."""

from collections.abc import Sequence

from shared.migrate import execute_script

revision: str = "roster_0004"
down_revision: str | None = "roster_0003"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

TABLES = """
CREATE TABLE calendars (
    id uuid CONSTRAINT pk_calendars PRIMARY KEY,
    partner text NOT NULL,
    rota_id uuid NOT NULL,
    name text NOT NULL,
    encrypted_url text,
    encrypted_rules text NOT NULL,
    encrypted_content text,
    encrypted_findings text NOT NULL,
    version integer NOT NULL,
    etag text,
    last_modified text,
    content_sha256 text,
    events integer NOT NULL,
    shifts integer NOT NULL,
    unmapped integer NOT NULL,
    created_at timestamptz NOT NULL,
    fetched_at timestamptz,
    read_at timestamptz,
    failing_since timestamptz,
    failures integer NOT NULL,
    reason text,
    detail text,
    told_at timestamptz,
    next_at timestamptz NOT NULL
);
CREATE INDEX ix_calendars_partner ON calendars (partner);
CREATE INDEX ix_calendars_next_at ON calendars (next_at);

CREATE TABLE calendar_links (
    id uuid CONSTRAINT pk_calendar_links PRIMARY KEY,
    partner text NOT NULL,
    rota_id uuid,
    contact_id uuid,
    token_sha256 text NOT NULL CONSTRAINT uq_calendar_links_token_sha256 UNIQUE,
    made_by text NOT NULL,
    made_at timestamptz NOT NULL,
    used_at timestamptz,
    revoked_at timestamptz
);
CREATE INDEX ix_calendar_links_partner ON calendar_links (partner);
"""


def upgrade() -> None:
    """Adds what is new."""
    execute_script(TABLES)


def downgrade() -> None:
    """Nothing is taken back: later changes are later migrations."""

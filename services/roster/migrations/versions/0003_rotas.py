"""Richer rotas: deputies, holidays, replacements, signed hand-overs, shifts from calendars."""

from collections.abc import Sequence

from shared.migrate import execute_script

revision: str = "roster_0003"
down_revision: str | None = "roster_0002"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

TABLES = """
ALTER TABLE rotas ADD COLUMN holiday_calendar text;
ALTER TABLE rotas ADD COLUMN extra_holidays jsonb NOT NULL DEFAULT '[]';
ALTER TABLE rotas ADD COLUMN signs_hand_over boolean NOT NULL DEFAULT false;
ALTER TABLE rotas ADD COLUMN notice_hours integer[] NOT NULL DEFAULT '{24}';

ALTER TABLE overrides ADD COLUMN deputy_id uuid;

CREATE TABLE replacements (
    id uuid CONSTRAINT pk_replacements PRIMARY KEY,
    partner text NOT NULL,
    rota_id uuid NOT NULL,
    place integer NOT NULL,
    name text NOT NULL,
    start_at timestamptz NOT NULL,
    end_at timestamptz NOT NULL,
    layers jsonb NOT NULL
);
CREATE INDEX ix_replacements_partner ON replacements (partner);

CREATE TABLE imported_shifts (
    id uuid CONSTRAINT pk_imported_shifts PRIMARY KEY,
    partner text NOT NULL,
    rota_id uuid NOT NULL,
    place integer NOT NULL,
    calendar_id uuid NOT NULL,
    contact_id uuid NOT NULL,
    start_at timestamptz NOT NULL,
    end_at timestamptz NOT NULL
);
CREATE INDEX ix_imported_shifts_partner ON imported_shifts (partner);
"""


def upgrade() -> None:
    """Adds what is new."""
    execute_script(TABLES)


def downgrade() -> None:
    """Nothing is taken back: later changes are later migrations."""

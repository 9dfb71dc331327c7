"""Line tests: their plan and what came of them."""

from collections.abc import Sequence

from shared.migrate import execute_script

revision: str = "alerting_0003"
down_revision: str | None = "alerting_0002"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

TABLES = """
ALTER TABLE partners ADD COLUMN time_zone text, ADD COLUMN languages text[] NOT NULL DEFAULT '{en}';

CREATE TABLE line_test_plan (
    id smallint CONSTRAINT pk_line_test_plan PRIMARY KEY,
    enabled boolean NOT NULL,
    partners text[],
    switched_by jsonb,
    switched_at timestamptz,
    version integer NOT NULL
);
INSERT INTO line_test_plan (id, enabled, version) VALUES (1, false, 1);

CREATE TABLE line_tests (
    id uuid CONSTRAINT pk_line_tests PRIMARY KEY,
    alert_id uuid NOT NULL,
    reference text NOT NULL,
    partner text NOT NULL,
    kind text NOT NULL,
    month date,
    planned_at timestamptz,
    started_at timestamptz NOT NULL,
    started_by jsonb NOT NULL,
    answer_by_at timestamptz NOT NULL,
    level integer NOT NULL,
    acknowledged_at timestamptz,
    outcome text,
    stop_reason text,
    ended_at timestamptz
);
CREATE UNIQUE INDEX uq_line_tests_running ON line_tests (partner) WHERE outcome IS NULL;
CREATE UNIQUE INDEX uq_line_tests_partner_month ON line_tests (partner, month);
CREATE INDEX ix_line_tests_partner_id ON line_tests (partner, id);
CREATE INDEX ix_line_tests_ended_at ON line_tests (ended_at) WHERE outcome IN ('unanswered', 'stopped');

CREATE INDEX ix_alerts_drills ON alerts (released_at) WHERE status = 'Exercise' AND released_at IS NOT NULL;
"""


def upgrade() -> None:
    """Adds what is new."""
    execute_script(TABLES)


def downgrade() -> None:
    """Nothing is taken back: later changes are later migrations."""

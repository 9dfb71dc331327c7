"""Crises that an alert has opened are called what that alert says, for those who may read it."""

from collections.abc import Sequence

from shared.migrate import execute_script

revision: str = "alerting_0004"
down_revision: str | None = "alerting_0003"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

COLUMN = """
ALTER TABLE crises ADD COLUMN led_by uuid;
"""

# An alert and the crisis that it opens are written with one instant. The crisis of a year's line tests is led by none:
# it has a name of its own, and a later alert that joined it is younger.
LEADERS = """
UPDATE crises
SET led_by = opening.id, name = 'Crisis of ' || opening.reference, countries = '{}', tlp = 'TLP:AMBER'
FROM (
    SELECT DISTINCT ON (crisis_id) id, crisis_id, reference, raiser, drafted_at FROM alerts
    WHERE corrects IS NULL AND NOT EXISTS (SELECT FROM line_tests WHERE line_tests.alert_id = alerts.id)
    ORDER BY crisis_id, drafted_at, id
) AS opening
WHERE crises.request_sha256 IS NULL AND crises.led_by IS NULL AND opening.crisis_id = crises.id
AND opening.raiser = crises.owner AND opening.drafted_at = crises.opened_at;
"""


def upgrade() -> None:
    """Adds the column, and takes what alerts say out of the rows that are there."""
    execute_script(COLUMN)
    execute_script(LEADERS)


def downgrade() -> None:
    """Nothing is taken back: later changes are later migrations."""

"""Whether a shift goes on beyond what a notice could see, so that one that was made longer can be told from it."""

from collections.abc import Sequence

from shared.migrate import execute_script

revision: str = "roster_0010"
down_revision: str | None = "roster_0009"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

COLUMN = """
ALTER TABLE shift_notices ADD COLUMN goes_on boolean NOT NULL DEFAULT true;
"""


def upgrade() -> None:
    """Adds the column. Of what is there it is not known: its end is corrected with the next duty plan and not told."""
    execute_script(COLUMN)


def downgrade() -> None:
    """Nothing is taken back: later changes are later migrations."""

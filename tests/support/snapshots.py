"""Committed snapshots of what others rely on.

To accept a change, run the contract tests with `REDPHONE_UPDATE_SNAPSHOTS=1` and commit the files that differ. This
writes the documents, and the schemas of events that changed by optional additions only. A change that breaks a
published event is refused even so: declare the event anew with the next version, beside the old one. An event that
nobody has ever published may have its snapshot deleted and written again.
"""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).parents[2]
SCHEMAS = ROOT / "tests" / "contract" / "snapshots"
UPDATING = os.environ.get("REDPHONE_UPDATE_SNAPSHOTS") == "1"
HOW_TO_UPDATE = "if this is meant, run `REDPHONE_UPDATE_SNAPSHOTS=1 pytest tests/contract` and commit the result"


def check(path: Path, current: str) -> None:
    """Compares with the committed file, or writes it when updating."""
    if UPDATING:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(current, encoding="utf-8")
    assert path.exists(), f"{path.relative_to(ROOT)} is missing; {HOW_TO_UPDATE}"
    assert path.read_text(encoding="utf-8") == current, f"{path.relative_to(ROOT)} has changed; {HOW_TO_UPDATE}"

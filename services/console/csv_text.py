"""Tables as CSV that spreadsheets open as they are, and run nothing of. Pure.

The promise: RFC 4180 (commas, CRLF, quotes doubled), UTF-8 with a byte order mark, without which spreadsheets guess.
Whatever somebody wrote stays text: a cell that a spreadsheet would take for a formula begins with an apostrophe.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence

from starlette.responses import Response

from services.console.web import HEADERS

BYTE_ORDER_MARK = "\ufeff"
FORMULA_MARKS = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""What begins a formula in one spreadsheet or another, in full width too; spaces before it are passed over there."""

Cell = str | int | float | None


def csv_of(head: Sequence[str], rows: Iterable[Sequence[Cell]]) -> str:
    """The table; None is an empty cell."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(head)
    writer.writerows([_safe(cell) for cell in row] for row in rows)
    return BYTE_ORDER_MARK + text.getvalue()


def csv_response(name: str, head: Sequence[str], rows: Iterable[Sequence[Cell]]) -> Response:
    """The table as a file of this name, which holds no more than letters, digits, dots and hyphens."""
    headers = {**HEADERS, "Content-Disposition": f'attachment; filename="{name}"', "X-Content-Type-Options": "nosniff"}
    return Response(csv_of(head, rows), media_type="text/csv; charset=utf-8", headers=headers)


def _safe(cell: Cell) -> Cell:
    if not isinstance(cell, str):
        return cell
    text = cell.replace("\x00", "")
    return f"'{text}" if text.lstrip(" ").startswith(FORMULA_MARKS) else text

"""What is new: escalations with their pages, events and record, each as few statements as possible.

Batches are one statement, not 200: as one JSON array into `jsonb_populate_recordset`, and new escalations and pages,
of which most columns are the same for every partner, as one record of what they share with typed arrays of the rest.
That takes PostgreSQL half the time (`docs/decisions/0010-a-second-process-sends.md`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields
from datetime import datetime
from operator import itemgetter
from typing import Any
from uuid import UUID

from sqlalchemy import Table
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.dialects.postgresql import dialect as postgresql_dialect

from services.escalation.model import Escalation
from services.escalation.store.rows import dump, escalation_row, levels_text
from services.escalation.store.tables import escalations, pages
from shared.db import Transaction, raw


def _filled(row: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of a new row that hold anything: half of an escalation's are empty when it opens."""
    return {name: value for name, value in row.items() if value is not None}


class _Alike:
    """Inserts rows of one table that share all columns but some: what they share travels once.

    `own` are the columns that each row has for itself, `shared` the keys of a row by which two are told to be alike.
    """

    def __init__(self, table: Table, own: Sequence[str], shared: Iterable[str]) -> None:
        dialect = postgresql_dialect()  # type: ignore[no-untyped-call]
        kinds = {column.name: column.type.compile(dialect=dialect) for column in table.columns}
        arrays = ", ".join(f"${place}::{_sent_as(kinds[name])}[]" for place, name in enumerate(own, start=2))
        values = ", ".join(f"o.{name}::{kinds[name]}" if name in own else f"s.{name}" for name in kinds)
        self.shared: Callable[[Mapping[str, Any]], tuple[Any, ...]] = itemgetter(*shared)
        self.columns = ", ".join(kinds)
        self.rows = (
            f"SELECT {values} FROM jsonb_populate_record(NULL::{table.name}, $1) s,"  # noqa: S608 - our own names
            f" unnest({arrays}) AS o({', '.join(own)})"
        )

    def groups(self, rows: Iterable[Mapping[str, Any]]) -> list[list[int]] | None:
        """The places of rows that are alike; None if there are more than `ALIKE_MAX` kinds of them."""
        found: list[tuple[tuple[Any, ...], list[int]]] = []
        for place, row in enumerate(rows):
            shared = self.shared(row)
            for known, places in found:
                if known == shared:  # mostly the very same objects, which costs next to nothing
                    places.append(place)
                    break
            else:
                if len(found) == ALIKE_MAX:
                    return None
                found.append((shared, [place]))
        return [places for _, places in found]


ALIKE_MAX = 4
"""So many kinds of rows are a statement each; of more, every row travels with all its columns."""


def _sent_as(kind: str) -> str:
    """The type of an array's elements: there is no array of arrays, and JSON comes as text."""
    return "text" if kind == "JSONB" or kind.endswith("[]") else kind


_OPENED = _Alike(
    escalations,
    ("id", "partner", "levels", "level", "due_at"),
    (field.name for field in fields(Escalation) if field.name not in {"id", "partner", "levels", "level", "due_at"}),
)


_INSERT_OPENED = f"INSERT INTO escalations ({_OPENED.columns}) {{rows}} ON CONFLICT DO NOTHING RETURNING id"


_INSERT_OPENED_ALIKE = _INSERT_OPENED.format(rows=_OPENED.rows)


_INSERT_OPENED_OTHERS = _INSERT_OPENED.format(
    rows=f"SELECT {_OPENED.columns} FROM jsonb_populate_recordset(NULL::escalations, $1)"  # noqa: S608 - as above
)


async def insert_opened(
    tx: Transaction, opened: Sequence[Escalation], page_rows: Sequence[Mapping[str, Any]], now: datetime
) -> set[UUID]:
    """Inserts opened escalations with their pages, and the first attempt of pages under a lease.

    Returns the ids of escalations that were new, which are those whose pages were inserted: one per alert, partner and
    subject ever exists.
    """
    if not opened:
        return set()
    connection = await raw(tx)
    groups = _OPENED.groups(map(vars, opened))
    if groups is None:
        everything = dump([_filled(escalation_row(escalation, now)) for escalation in opened])
        found = await connection.fetch(_INSERT_OPENED_OTHERS, everything)
    else:
        found = []
        for places in groups:
            alike = [opened[place] for place in places]
            found += await connection.fetch(
                _INSERT_OPENED_ALIKE,
                dump(_filled(escalation_row(alike[0], now))),
                [escalation.id for escalation in alike],
                [escalation.partner for escalation in alike],
                [levels_text(escalation.levels) for escalation in alike],
                [escalation.level for escalation in alike],
                [escalation.due_at for escalation in alike],
            )
    fresh = {row["id"] for row in found}
    await insert_pages(tx, [row for row in page_rows if row["escalation_id"] in fresh])
    return fresh


async def insert_events(
    tx: Transaction, record_rows: Sequence[Mapping[str, Any]], outbox_rows: Sequence[Mapping[str, Any]]
) -> None:
    """Writes rows of record and outbox in one statement."""
    connection = await raw(tx)
    # `record` alone would mean PostgreSQL's own type of that name.
    await connection.execute(
        "WITH recorded AS (INSERT INTO record SELECT * FROM jsonb_populate_recordset(NULL::public.record, $1))"
        " INSERT INTO outbox SELECT * FROM jsonb_populate_recordset(NULL::outbox, $2)",
        dump(record_rows),
        dump(outbox_rows),
    )


_PAGE_OWN = (
    *("id", "escalation_id", "partner", "contact_point_id", "contact_id", "channel", "sealed_address", "told", "level"),
)


_PAGES = _Alike(pages, _PAGE_OWN, (column.name for column in pages.columns if column.name not in _PAGE_OWN))


_NO_PAGE: dict[str, Any] = {
    str(column.name): [] if isinstance(column.type, ARRAY) else None for column in pages.columns
}


_INSERT_PAGES = f"""
WITH fresh AS (INSERT INTO pages ({_PAGES.columns}) {{rows}} RETURNING id, state, attempts, created_at)
INSERT INTO attempts (page_id, number, started_at) SELECT id, attempts, created_at FROM fresh WHERE state = 'leased'
"""  # noqa: S608 - our own column names


_INSERT_PAGES_ALIKE = _INSERT_PAGES.format(rows=_PAGES.rows)


_INSERT_PAGES_OTHERS = _INSERT_PAGES.format(
    rows=f"SELECT {_PAGES.columns} FROM jsonb_populate_recordset(NULL::pages, $1)"  # noqa: S608 - as above
)


async def insert_pages(tx: Transaction, rows: Sequence[Mapping[str, Any]]) -> None:
    """Inserts pages, and the first attempt of those that are inserted under a lease."""
    if not rows:
        return
    connection = await raw(tx)
    whole = [{**_NO_PAGE, **row} for row in rows]
    groups = _PAGES.groups(whole)
    if groups is None:
        await connection.execute(_INSERT_PAGES_OTHERS, dump([_filled(row) for row in whole]))
        return
    for places in groups:
        alike = [whole[place] for place in places]
        shared = dump(_filled(alike[0]))
        await connection.execute(_INSERT_PAGES_ALIKE, shared, *([row[name] for row in alike] for name in _PAGE_OWN))

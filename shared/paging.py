"""Lists by pages: opaque cursors over a key, never offsets: nothing is skipped or shown twice while rows arrive.

A cursor is base64url of JSON: the sort key of the last row that was given out. It is not signed, because it grants
nothing; it is checked like any other input, and every query filters by what the caller may see.
"""

from __future__ import annotations

import base64
import binascii
from datetime import UTC, datetime
from typing import Annotated, Any, Generic, TypeVar

import orjson
from fastapi import Query
from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from shared.errors import Invalid

T = TypeVar("T")

PAGE_SIZE_DEFAULT = 50
PAGE_SIZE_MAX = 200
CURSOR_LENGTH_MAX = 500

PageSize = Annotated[int, Query(ge=1, le=PAGE_SIZE_MAX, alias="limit", description="How many at most.")]
"""A parameter of this type is the caller's page size; give it the default `PAGE_SIZE_DEFAULT`."""

CursorText = Annotated[
    str | None, Query(alias="cursor", max_length=CURSOR_LENGTH_MAX, description="`next_cursor` of the page before.")
]


class Page(BaseModel, Generic[T]):
    """One page of a list."""

    items: list[T]
    next_cursor: str | None = Field(
        default=None, description="Send it as `cursor` for the next page; absent at the end."
    )


def encode_cursor(*key: Any) -> str:
    """The cursor after a row with this sort key (ids, instants, numbers, texts)."""
    return base64.urlsafe_b64encode(orjson.dumps(key, option=orjson.OPT_UTC_Z)).rstrip(b"=").decode("ascii")


def decode_cursor(text: str, *types: Any) -> tuple[Any, ...]:
    """The sort key of a cursor, each part of the type given; raises `Invalid` for anything that we did not make."""
    try:
        raw = orjson.loads(base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True))
        if not isinstance(raw, list) or len(raw) != len(types) or len(text) > CURSOR_LENGTH_MAX:
            raise ValueError("not a key of this list")
        key = [TypeAdapter(kind).validate_python(part) for kind, part in zip(types, raw, strict=True)]
        return tuple(map(_comparable, key))
    except (binascii.Error, ValueError, OverflowError, ValidationError):
        raise Invalid(
            "the cursor cannot be read; use next_cursor as it came", code="cursor_invalid", field="cursor"
        ) from None


def _comparable(part: Any) -> Any:
    """The part as the database can compare it; raises `ValueError` or `OverflowError` for one that no row can have."""
    if isinstance(part, str) and "\0" in part:
        raise ValueError("no text holds this character")
    if isinstance(part, int) and not 0 <= part < 1 << 63:
        raise ValueError("no count is so large or negative")
    if isinstance(part, datetime):
        if part.tzinfo is None:
            raise ValueError("an instant without an offset")
        return part.astimezone(UTC)
    return part

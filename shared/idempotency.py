"""Idempotency keys: a creating request that is sent again gets the first answer and does nothing more.

A handler calls `begin` first and `finish` last, inside its own transaction, so the key, the effect and the stored
answer commit together. A request that was refused leaves no key behind. After a lost answer, or a commit whose end is
unknown, the caller sends the same request with the same key: that is the only safe thing to do, and it is always safe.

    attempt = await idempotency.attempt(request, principal, key)
    async with deps.intake.transaction() as tx:
        if (stored := await idempotency.begin(tx, attempt, now=now)) is not None:
            return stored.response()
        …
        answer = StoredResponse.json(202, body)
        await idempotency.finish(tx, attempt, answer)
    return answer.response()
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Annotated, Any

import orjson
from fastapi import Depends, Header, Request, Response
from pydantic import BaseModel
from sqlalchemy import (
    Column,
    DateTime,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    delete,
    select,
    tuple_,
    update,
)
from sqlalchemy.dialects.postgresql import JSONB

from shared.db import Transaction, raw, shared_metadata
from shared.problems import HttpProblem
from shared.security import Principal

KEY_LENGTH_MAX = 200
KEPT_HOURS = 48
"""How long answers are kept; callers are promised 24 hours."""

CLEANED_AT_ONCE_MAX = 1000

_KEY = re.compile(r"[\x21-\x7e]{1,200}")

idempotency_keys = Table(
    "idempotency_keys",
    shared_metadata,
    Column("client_id", Text, primary_key=True),
    Column("route", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("request_sha256", Text, nullable=False),
    Column("status", Integer),
    Column("headers", JSONB),
    Column("body", LargeBinary),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Index("ix_idempotency_keys_created_at", "created_at"),
)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One request as its key sees it: whose it is, on which route, and the hash of what it asks."""

    client_id: str
    route: str
    key: str
    request_sha256: str


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """An answer that can be given again, byte for byte."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    replayed: bool = False

    @classmethod
    def json(
        cls, status: int, body: BaseModel | Mapping[str, Any], headers: Mapping[str, str] | None = None
    ) -> StoredResponse:
        """The answer with a JSON body."""
        encoded = (
            body.model_dump_json().encode()
            if isinstance(body, BaseModel)
            else orjson.dumps(body, option=orjson.OPT_UTC_Z)
        )
        return cls(status, encoded, {"Content-Type": "application/json", **(headers or {})})

    def response(self) -> Response:
        """What goes to the caller; a repeated answer says so in `Idempotency-Replayed`."""
        sent = dict(self.headers)
        if self.replayed:
            sent["Idempotency-Replayed"] = "true"
        return Response(self.body, status_code=self.status, headers=sent)


_DESCRIPTION = (
    "Any text of your own that is new for each new request, best a UUID. Send the same one with every retry: the "
    "request is done once, and every retry gets the first answer. Kept for at least 24 hours."
)


def _checked(key: str) -> str:
    if not _KEY.fullmatch(key):
        raise HttpProblem(
            f"the Idempotency-Key must have 1 to {KEY_LENGTH_MAX} visible ASCII characters",
            code="idempotency_key_malformed",
        )
    return key


async def _optional(
    key: Annotated[str | None, Header(alias="Idempotency-Key", description=_DESCRIPTION)] = None,
) -> str | None:
    return None if key is None else _checked(key)


async def _required(
    key: Annotated[str | None, Header(alias="Idempotency-Key", description=_DESCRIPTION)] = None,
) -> str:
    if key is None:
        raise HttpProblem("this call needs the header Idempotency-Key", code="idempotency_key_missing")
    return _checked(key)


IdempotencyKey = Annotated[str, Depends(_required)]
"""A parameter of this type makes the header required: 400 without it."""

OptionalIdempotencyKey = Annotated[str | None, Depends(_optional)]


async def attempt(request: Request, principal: Principal, key: str) -> Attempt:
    """The request as its key sees it. JSON is compared by content, anything else byte for byte."""
    body = await request.body()
    try:
        canonical = orjson.dumps(orjson.loads(body), option=orjson.OPT_SORT_KEYS)
    except orjson.JSONDecodeError:
        canonical = body
    route = request.scope.get("route")
    digest = hashlib.sha256()
    for part in (request.method, request.url.path, request.url.query):
        digest.update(part.encode() + b"\0")
    digest.update(canonical)
    return Attempt(
        client_id=principal.client_id,
        route=f"{request.method} {getattr(route, 'path', request.url.path)}",
        key=key,
        request_sha256=digest.hexdigest(),
    )


HOLD = (
    "INSERT INTO idempotency_keys (client_id, route, key, request_sha256, created_at) SELECT $1, $2, $3, $4, $5"
    " WHERE pg_try_advisory_xact_lock(hashtextextended($6, 0)) ON CONFLICT DO NOTHING RETURNING true"
)
"""Takes the key for a new request and returns a row, or returns none; the lock ends with the transaction, and nobody
waits for it. `begin` says just this; a statement that asks for more may hold it (`hold_arguments`, `first_answer`)."""


def hold_arguments(attempt: Attempt | None, now: datetime) -> tuple[Any, ...]:
    """The first six arguments of a statement that holds `HOLD`; without a key it takes none."""
    if attempt is None:
        return (None, None, None, None, now, None)
    lock = f"{attempt.client_id}\n{attempt.route}\n{attempt.key}"
    return (attempt.client_id, attempt.route, attempt.key, attempt.request_sha256, now, lock)


async def begin(tx: Transaction, attempt: Attempt, *, now: datetime) -> StoredResponse | None:
    """None for a new request, which now holds its key; the first answer for one that was done before.

    Raises `HttpProblem` as `first_answer` does.
    """
    connection = await raw(tx)
    if await connection.fetchval(HOLD, *hold_arguments(attempt, now)):
        return None
    return await first_answer(tx, attempt)


async def first_answer(tx: Transaction, attempt: Attempt) -> StoredResponse:
    """The answer that a key which could not be taken has had.

    Raises `HttpProblem`: 409 while the first request with the key is still at work, 422 if it asked something else.
    """
    row = (await tx.execute(select(idempotency_keys).where(*_is(attempt)))).first()
    if row is None or row.status is None:
        raise HttpProblem("the first request with this key is still at work", code="idempotency_in_flight")
    if row.request_sha256 != attempt.request_sha256:
        raise HttpProblem("this Idempotency-Key was used for another request", code="idempotency_key_reused")
    return StoredResponse(status=row.status, body=row.body, headers=row.headers, replayed=True)


async def finish(tx: Transaction, attempt: Attempt, answer: StoredResponse) -> None:
    """Keeps the answer with the key, in the transaction that does the work."""
    await tx.execute(
        update(idempotency_keys)
        .where(*_is(attempt))
        .values(status=answer.status, headers=dict(answer.headers), body=answer.body)
    )


async def clean(tx: Transaction, *, now: datetime) -> int:
    """Forgets a batch of keys older than `KEPT_HOURS`, the oldest first; returns how many."""
    table = idempotency_keys.c
    key = (table.client_id, table.route, table.key)
    old = select(*key).where(table.created_at < now - timedelta(hours=KEPT_HOURS)).order_by(table.created_at)
    gone = delete(idempotency_keys).where(tuple_(*key).in_(old.limit(CLEANED_AT_ONCE_MAX)))
    return int((await tx.execute(gone)).rowcount)


def _is(attempt: Attempt) -> tuple[Any, ...]:
    table = idempotency_keys.c
    return (table.client_id == attempt.client_id, table.route == attempt.route, table.key == attempt.key)

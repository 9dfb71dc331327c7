"""Who is signed in: a cookie that means nothing by itself, and a row that says who it is.

The cast: `sign_in` exchanges first credentials for a session, at escalation's token call; `Sessions` finds the session
of a request and ends it. The seam for OpenID Connect is `begin`: whatever proves who somebody is ends there.

The promise: the browser holds a random cookie and never a token or a secret, and the database holds neither: the
cookie's hash, and what the token said of its holder. Every call to an API is made with a token of a few minutes, minted
for it, and the API checks the credential's row each time, so a revoked credential ends the session at its next step. A
session ends after `IDLE_MAX` without use and after `AGE_MAX` in any case; an open board is use.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from services.console import store
from services.console.asking import AskedOnce
from shared import record
from shared.contracts import Role
from shared.events import Cause
from shared.process import Deps
from shared.security import Principal, PrincipalKind, issue_token, verify_token

IDLE_MAX = timedelta(hours=12)
"""One long shift."""
AGE_MAX = timedelta(days=7)
"""A wall board in a watch room is signed in anew once a week."""
SEEN_EVERY = timedelta(minutes=1)
"""How exactly use is noted; every request would be a write."""
TOKEN_REMAINS = timedelta(minutes=2)
"""A minted token is used again until so little of it is left."""
TOKEN_LIFETIME = timedelta(minutes=10)
COOKIE = "redphone_session"
SECURE_COOKIE = "__Host-redphone_session"
"""Under https: a browser takes a cookie of this name only if it is bound to this very host, and to https."""


@dataclass(frozen=True, slots=True)
class Session:
    """Somebody who is signed in. `csrf` proves that a form comes from a page of this session."""

    id: UUID
    principal: Principal
    csrf: str
    created_at: datetime


class Sessions:
    """The sessions of this installation, as one process sees them."""

    def __init__(self, deps: Deps) -> None:
        self._deps = deps
        self._tokens: dict[UUID, tuple[str, datetime]] = {}
        self._finding = AskedOnce[Any]()
        self._secure = (deps.settings.public_url or "").startswith("https://")

    @property
    def cookie_name(self) -> str:
        """What the cookie is called here."""
        return SECURE_COOKIE if self._secure else COOKIE

    @property
    def cookie_options(self) -> dict[str, Any]:
        """How the cookie is set: unreadable for scripts, not sent along by other sites' forms."""
        return {"httponly": True, "secure": self._secure, "samesite": "lax", "path": "/"}

    async def begin(self, token: str, cause: Cause) -> str:
        """A session for whoever this token speaks of; returns the cookie's value, for the only time."""
        now = self._deps.clock.now()
        principal = verify_token(self._deps.keys, token, now=now).principal()
        value, session_id = secrets.token_urlsafe(32), self._deps.ids.new()
        claims = {
            "subject": principal.subject,
            "partner": principal.partner,
            "roles": sorted(principal.roles),
            "kind": principal.kind.value,
            "name": principal.name,
            "contact_id": str(principal.contact_id) if principal.contact_id is not None else None,
            "credential_version": principal.credential_version,
        }
        async with self._deps.intake.transaction() as tx:
            await store.insert_session(
                tx, _hash(value), session_id=session_id, client_id=principal.client_id, claims=claims, now=now
            )
            entry = record.Entry(kind="session.began", partner=principal.partner, object_id=session_id, data={})
            signed_in = Cause(cause.correlation_id, subject=principal.subject, partner=principal.partner)
            await record.append(tx, [entry], cause=signed_in, ids=self._deps.ids, now=now)
        return value

    async def find(self, value: str | None) -> Session | None:
        """The session of a cookie, if it has not ended; using it keeps it alive."""
        if not value or len(value) > 100:
            return None
        digest = _hash(value)
        row = await self._finding.ask(digest, lambda: self._find(digest))
        if row is None:
            return None
        said = row.claims
        principal = Principal(
            subject=said["subject"],
            client_id=row.client_id,
            partner=said["partner"],
            roles=frozenset(Role(role) for role in said["roles"]),
            kind=PrincipalKind(said["kind"]),
            name=said["name"],
            contact_id=UUID(said["contact_id"]) if said["contact_id"] else None,
            credential_version=said["credential_version"],
        )
        csrf = hmac.new(value.encode(), b"redphone csrf", hashlib.sha256).hexdigest()
        return Session(row.id, principal, csrf, row.created_at)

    async def _find(self, digest: bytes) -> Any | None:
        now = self._deps.clock.now()
        async with self._deps.intake.statement() as tx:
            row = await store.find_session(tx, digest)
            if row is None or row.seen_at + IDLE_MAX < now or row.created_at + AGE_MAX < now:
                return None
            if row.seen_at + SEEN_EVERY < now:
                await store.save_seen(tx, digest, now)
        return row

    async def end(self, value: str | None, cause: Cause) -> None:
        """Ends the session of a cookie. Twice is harmless."""
        if not value or len(value) > 100:
            return
        async with self._deps.intake.transaction() as tx:
            session_id = await store.delete_session(tx, _hash(value))
            if session_id is not None:
                entry = record.Entry(kind="session.ended", object_id=session_id, data={})
                await record.append(tx, [entry], cause=cause, ids=self._deps.ids, now=self._deps.clock.now())
                self._tokens.pop(session_id, None)

    def token(self, session: Session) -> str:
        """A token for calls on behalf of the session's person."""
        now = self._deps.clock.now()
        token, until = self._tokens.get(session.id, ("", now))
        if until - now < TOKEN_REMAINS:
            token = issue_token(
                self._deps.keys,
                session.principal,
                now=now,
                token_id=self._deps.ids.new(),
                lifetime_seconds=int(TOKEN_LIFETIME.total_seconds()),
            )
            self._tokens = {key: kept for key, kept in self._tokens.items() if kept[1] > now}
            self._tokens[session.id] = (token, now + TOKEN_LIFETIME)
        return token

    async def clean(self) -> int:
        """Removes sessions that have ended by their age."""
        now = self._deps.clock.now()
        async with self._deps.database.transaction() as tx:
            return await store.delete_old(tx, seen_before=now - IDLE_MAX, created_before=now - AGE_MAX)


def _hash(value: str) -> bytes:
    return hashlib.sha256(value.encode()).digest()

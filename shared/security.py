"""Identity: who is calling, on whose behalf, in which roles; decided by each service alone, also while roster is down.

The cast: roster publishes a partner's credentials, and every service keeps them in its own database. A client id and
its secret buy a short-lived signed token at any service (`authenticate`, `issue_token`). A request carries the token,
which becomes a `Principal` when its signature holds (`verify_token`) and its credential row still stands
(`check_current`).

The promise: a revocation acts as soon as it has arrived, not when tokens run out. Nothing here trusts a name in the
token that the signature does not cover.

Services, and the administrator of the machine that holds the key file, have no credential: they mint their own tokens.
Those belong to `INSTALLATION`, which is no partner, so nothing that is shown to partners is shown to them by accident.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections import OrderedDict
from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import lru_cache
from typing import Any, Literal, Protocol
from uuid import UUID

import orjson
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import OKPKey
from joserfc.jws import JWSRegistry
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Column, DateTime, Index, Integer, Table, Text, Uuid, delete, select
from sqlalchemy.dialects.postgresql import ARRAY, insert

from shared.clock import Clock
from shared.contracts import Actor, CredentialKind, CredentialsPublished, Role
from shared.db import Transaction, raw, shared_metadata
from shared.errors import ContractViolation, Forbidden, RedPhoneError
from shared.ids import Ids
from shared.keys import CannotOpen, KeyRing, KeysUnusable, key_id, seal, unseal
from shared.webhooks import SigningKey

__all__ = [
    "INSTALLATION",
    "CannotOpen",
    "Claims",
    "IdentityDeps",
    "KeyRing",
    "KeysUnusable",
    "Principal",
    "PrincipalKind",
    "TokenVerifier",
    "Transactions",
    "Unauthenticated",
    "administrator",
    "authenticate",
    "check_current",
    "credential_versions",
    "credentials",
    "hash_secret",
    "issue_token",
    "new_secret",
    "on_credentials_published",
    "seal",
    "service",
    "still_stands",
    "unseal",
    "verify_token",
]

INSTALLATION = "ZZ"
"""Stands where a partner's code is expected, for services and administrators. ISO 3166-1 leaves it to users, and no
partner may have it."""

ISSUER = "redphone"
TOKEN_SECONDS = 900
TOKEN_SECONDS_MAX = 3600
TOKEN_LENGTH_MAX = 4096
TOKENS_REMEMBERED_MAX = 1000
CLOCK_SKEW_SECONDS = 30
SECRET_PREFIX = "rps_"  # noqa: S105 - the mark by which scanners recognise a leaked secret, not a secret
CLIENT_ID_LENGTH_MAX = 200
SECRET_LENGTH_MAX = 200

# The name that RFC 9864 gives to EdDSA on this curve; the older "EdDSA" leaves the curve open.
_ALGORITHM = "Ed25519"
_TOKEN_TYPE = "at+jwt"  # noqa: S105 - the media type of RFC 9068
_NO_SUCH_SECRET = "0" * 64


class Unauthenticated(RedPhoneError):
    """The caller has not proved who they are. The codes tell whether a new token would help.

    token_missing · token_invalid · token_expired · credential_revoked · invalid_client
    """

    code = "token_invalid"


class PrincipalKind(StrEnum):
    """What stands behind a token: a credential's person or system, one of our services, or the administrator."""

    PERSON = "person"
    SYSTEM = "system"
    SERVICE = "service"
    ADMINISTRATOR = "administrator"


@dataclass(frozen=True, slots=True)
class Principal:
    """Who calls: one person or one system of one partner (or of the installation itself), with its roles."""

    subject: str
    client_id: str
    partner: str
    roles: frozenset[Role]
    kind: PrincipalKind
    name: str
    contact_id: UUID | None = None
    credential_version: int = 0

    @property
    def is_service(self) -> bool:
        """Whether another service of this installation calls. An administrator is none: it may not read alerts."""
        return self.kind is PrincipalKind.SERVICE

    @property
    def is_person(self) -> bool:
        """Whether a person calls. Only persons draft and release."""
        return self.kind is PrincipalKind.PERSON

    def has(self, *roles: Role) -> bool:
        """Whether the caller holds at least one of the roles."""
        return not self.roles.isdisjoint(roles)

    def require(self, *roles: Role) -> None:
        """Raises `Forbidden` unless the caller holds at least one of the roles.

        Only for objects that the caller may know of; what belongs to somebody else is answered as missing instead.
        """
        if not self.has(*roles):
            wanted = " or ".join(role.value for role in roles)
            raise Forbidden(f"this needs the role {wanted}", code="role_missing")

    def actor(self) -> Actor:
        """The caller as events and the record name them."""
        return Actor(
            subject=self.subject,
            partner=self.partner,
            name=self.name,
            contact_id=self.contact_id,
            kind=CredentialKind.PERSON if self.is_person else CredentialKind.SYSTEM,
        )


def service(name: str) -> Principal:
    """One of our own services, for what services say to each other. It has no roles and no credential."""
    return Principal(
        subject=f"service:{name}",
        client_id=f"service:{name}",
        partner=INSTALLATION,
        roles=frozenset(),
        kind=PrincipalKind.SERVICE,
        name=name,
    )


def administrator(name: str) -> Principal:
    """Whoever holds the key file of this installation: may bring in the first network file, and read no alert."""
    return Principal(
        subject=f"administrator:{name}",
        client_id=f"administrator:{name}",
        partner=INSTALLATION,
        roles=frozenset({Role.ADMINISTRATOR}),
        kind=PrincipalKind.ADMINISTRATOR,
        name=name,
    )


class Transactions(Protocol):
    """The part of a database that identity needs."""

    def transaction(self) -> AbstractAsyncContextManager[Transaction]:
        """A transaction that commits when its block ends."""

    def statement(self) -> AbstractAsyncContextManager[Transaction]:
        """A connection for one statement, which is a transaction by itself."""


class IdentityDeps(Protocol):
    """What a service gives to have its callers known: the fields of its own `Deps`."""

    @property
    def keyring(self) -> KeyRing:
        """The installation's keys."""

    @property
    def clock(self) -> Clock:
        """The process clock."""

    @property
    def ids(self) -> Ids:
        """Makes ids."""

    @property
    def intake(self) -> Transactions:
        """Connections that background work never takes."""


def _known_roles(names: Iterable[str]) -> frozenset[Role]:
    """The roles that this version knows. One that a newer version has written gives nothing here and breaks nothing."""
    known = {role.value for role in Role}
    return frozenset(Role(name) for name in names if name in known)


# --- tokens -----------------------------------------------------------------------------------------------------------


class Claims(BaseModel):
    """What a verified token says. Strict: a claim of the wrong type is a forged or foreign token."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    iss: Literal["redphone"]
    sub: str = Field(min_length=1)
    client_id: str = Field(min_length=1)
    partner: str = Field(pattern=r"^[A-Z]{2}$")
    roles: tuple[str, ...]
    kind: str
    name: str
    contact_id: str | None = None
    credential_version: int
    iat: int
    exp: int
    jti: str

    def principal(self) -> Principal:
        """The caller as the token describes them; raises `ValueError` for a kind that we do not know."""
        return Principal(
            subject=self.sub,
            client_id=self.client_id,
            partner=self.partner,
            roles=_known_roles(self.roles),
            kind=PrincipalKind(self.kind),
            name=self.name,
            contact_id=UUID(self.contact_id) if self.contact_id else None,
            credential_version=self.credential_version,
        )


@lru_cache(maxsize=16)
def _signing_key(key: SigningKey) -> OKPKey:
    return OKPKey(Ed25519PrivateKey.from_private_bytes(key.seed), None)


@lru_cache(maxsize=16)
def _verifying_key(key: SigningKey) -> OKPKey:
    return OKPKey(Ed25519PublicKey.from_public_bytes(key.verifying_key.raw), None)


def issue_token(
    keyring: KeyRing, principal: Principal, *, now: datetime, token_id: UUID, lifetime_seconds: int = TOKEN_SECONDS
) -> str:
    """A signed token for the principal, valid for `lifetime_seconds` from `now` at every service."""
    if not 1 <= lifetime_seconds <= TOKEN_SECONDS_MAX:
        raise ValueError(f"a token lives between 1 and {TOKEN_SECONDS_MAX} seconds")
    key = keyring.token_keys[0]
    issued = int(now.timestamp())
    claims: dict[str, Any] = {
        "iss": ISSUER,
        "sub": principal.subject,
        "client_id": principal.client_id,
        "partner": principal.partner,
        "roles": sorted(principal.roles),
        "kind": principal.kind.value,
        "name": principal.name,
        "credential_version": principal.credential_version,
        "iat": issued,
        "exp": issued + lifetime_seconds,
        "jti": str(token_id),
    }
    if principal.contact_id is not None:
        claims["contact_id"] = str(principal.contact_id)
    header = {"alg": _ALGORITHM, "kid": key_id(key.verifying_key.raw), "typ": _TOKEN_TYPE}
    return jwt.encode(header, claims, _signing_key(key), algorithms=[_ALGORITHM])


def verify_token(keyring: KeyRing, token: str, *, now: datetime) -> Claims:
    """The claims of a token that one of our keys signed and that is valid at `now`; raises `Unauthenticated`.

    The algorithm is ours to choose, never the token's: `none`, HMAC with a public key, and keys that a token brings
    along are all refused. Clocks may differ by `CLOCK_SKEW_SECONDS`.
    """
    claims = _signed_claims(keyring, token)
    _check_times(claims, now)
    return claims


class TokenVerifier:
    """Verifies tokens for one process. A token comes with every request for a quarter of an hour, and its signature
    holds as long as its text is the same; its times, and outside of this its credential, are looked at every time.

    Tokens are remembered by their hash, those that were used last, `TOKENS_REMEMBERED_MAX` at most; what is refused is
    not remembered.
    """

    def __init__(self, keyring: KeyRing) -> None:
        self._keyring = keyring
        self._known: OrderedDict[bytes, Claims] = OrderedDict()

    @property
    def remembered(self) -> int:
        """How many tokens are remembered."""
        return len(self._known)

    def verify(self, token: str, *, now: datetime) -> Claims:
        """As `verify_token`."""
        digest = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
        claims = self._known.pop(digest, None) or _signed_claims(self._keyring, token)
        _check_times(claims, now)
        self._known[digest] = claims
        if len(self._known) > TOKENS_REMEMBERED_MAX:
            self._known.popitem(last=False)
        return claims


def _signed_claims(keyring: KeyRing, token: str) -> Claims:
    """The claims of a token that one of our keys signed, at whatever time."""
    if len(token) > TOKEN_LENGTH_MAX:
        raise Unauthenticated(f"a token has at most {TOKEN_LENGTH_MAX} characters")
    keys = {key_id(key.verifying_key.raw): key for key in keyring.token_keys}

    def find(signed: Any) -> OKPKey:
        key = keys.get(signed.headers().get("kid"))
        if key is None:
            raise Unauthenticated("the token was signed by a key that this installation does not have")
        return _verifying_key(key)

    try:
        decoded = jwt.decode(token, find, registry=JWSRegistry(algorithms=[_ALGORITHM]))
        claims = Claims.model_validate_json(orjson.dumps(decoded.claims))
        claims.principal()
    except (JoseError, ValueError, TypeError, RecursionError):
        raise Unauthenticated("the token cannot be read, or its signature does not hold") from None
    if decoded.header.get("typ") != _TOKEN_TYPE:
        raise Unauthenticated("this is not an access token")
    return claims


def _check_times(claims: Claims, now: datetime) -> None:
    present = now.timestamp()
    if claims.exp + CLOCK_SKEW_SECONDS <= present:
        raise Unauthenticated("the token has expired; get a new one at POST /v1/tokens", code="token_expired")
    if claims.iat - CLOCK_SKEW_SECONDS > present or claims.exp - claims.iat > TOKEN_SECONDS_MAX:
        raise Unauthenticated("the token's times are not possible: check this machine's clock")


# --- credentials, as every service keeps them -------------------------------------------------------------------------

credentials = Table(
    "credentials",
    shared_metadata,
    Column("client_id", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("partner", Text, nullable=False),
    Column("roles", ARRAY(Text), nullable=False),
    Column("contact_id", Uuid),
    Column("secret_sha256", Text, nullable=False),
    Column("revoked_at", DateTime(timezone=True)),
    Column("version", Integer, nullable=False),
    Index("ix_credentials_partner", "partner"),
)

credential_versions = Table(
    "credential_versions",
    shared_metadata,
    Column("partner", Text, primary_key=True),
    Column("version", Integer, nullable=False),
)
"""The version of each partner's set that is kept; an older one that arrives late changes nothing."""


def new_secret() -> str:
    """A client secret of 256 random bits. It is shown once; only `hash_secret` of it is kept."""
    return SECRET_PREFIX + secrets.token_urlsafe(32)


def hash_secret(secret: str) -> str:
    """SHA-256 in hexadecimal. A slow hash would protect guessable secrets; these have 256 random bits."""
    return hashlib.sha256(secret.encode()).hexdigest()


async def on_credentials_published(tx: Transaction, published: CredentialsPublished) -> bool:
    """Replaces the partner's credentials by the published ones; False, and nothing done, if the version is not newer.

    A credential that is absent is revoked. A client id that another partner holds stays with that partner, and the
    event that claims it can never be handled.
    """
    if published.partner == INSTALLATION or any(c.partner != published.partner for c in published.credentials):
        raise ContractViolation("credentials are published by their own partner", code="foreign_credentials")
    newer = insert(credential_versions).values(partner=published.partner, version=published.version)
    taken = await tx.execute(
        newer.on_conflict_do_update(
            index_elements=["partner"],
            set_={"version": newer.excluded.version},
            where=credential_versions.c.version < newer.excluded.version,
        ).returning(credential_versions.c.version)
    )
    if taken.first() is None:
        return False
    await tx.execute(delete(credentials).where(credentials.c.partner == published.partner))
    if published.credentials:
        rows = [
            {
                **credential.model_dump(include={"client_id", "subject", "name", "partner", "contact_id"}),
                **credential.model_dump(include={"secret_sha256", "revoked_at", "version"}),
                "kind": credential.kind.value,
                "roles": [role.value for role in credential.roles],
            }
            for credential in published.credentials
        ]
        kept = await tx.execute(
            insert(credentials).values(rows).on_conflict_do_nothing().returning(credentials.c.client_id)
        )
        if len(kept.all()) != len(rows):
            raise ContractViolation("a client id belongs to another partner, or is named twice", code="client_id_taken")
    return True


async def authenticate(tx: Transaction, client_id: str, secret: str) -> Principal:
    """The principal of a client id and its secret; raises `Unauthenticated` in the same way whatever was wrong."""
    known = len(client_id) <= CLIENT_ID_LENGTH_MAX and "\0" not in client_id
    row = (await tx.execute(select(credentials).where(credentials.c.client_id == client_id))).first() if known else None
    expected = row.secret_sha256 if row is not None else _NO_SUCH_SECRET
    right = hmac.compare_digest(hash_secret(secret[:SECRET_LENGTH_MAX]), expected)
    if row is None or not right or row.revoked_at is not None:
        raise Unauthenticated("the client id or its secret is wrong, or was revoked", code="invalid_client")
    return _principal_of(row)


async def check_current(tx: Transaction, claims: Claims) -> Principal:
    """The caller, if their credential still stands as the token knew it; raises `Unauthenticated`.

    Roster counts a credential's version up with every change of it, roles included, so an equal version says all.
    """
    caller = claims.principal()
    if not await still_stands(tx, caller):
        raise Unauthenticated(
            "the credential was revoked or has changed; get a new token at POST /v1/tokens", code="credential_revoked"
        )
    return caller


async def still_stands(tx: Transaction, caller: Principal) -> bool:
    """Whether the caller's credential is present, not revoked, and of the same version. True for our own services."""
    if caller.kind in (PrincipalKind.SERVICE, PrincipalKind.ADMINISTRATOR):
        return caller.partner == INSTALLATION
    connection = await raw(tx)  # asked for every request, so without anything in between
    stands = await connection.fetchval(
        "SELECT true FROM credentials WHERE client_id = $1 AND partner = $2 AND version = $3 AND revoked_at IS NULL",
        caller.client_id,
        caller.partner,
        caller.credential_version,
    )
    return stands is True


def _principal_of(row: Any) -> Principal:
    return Principal(
        subject=row.subject,
        client_id=row.client_id,
        partner=row.partner,
        roles=_known_roles(row.roles),
        kind=PrincipalKind(row.kind),
        name=row.name,
        contact_id=row.contact_id,
        credential_version=row.version,
    )

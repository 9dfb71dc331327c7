"""Who answers: partners with their offices, people and policies, and the rules that they obey.

The cast: a `Partner` owns everything else here and nobody else edits it. A `DutyOffice` is an office that answers, a
`Contact` a named person, a `ContactPoint` one way to reach either of them; a `Rota` (see `schedule`) says who is on
call when. The `EscalationPolicy` lists the levels. An `Endpoint` is a system of the partner that takes signed
webhooks. A `Credential` belongs to one person or one system. `PartnerState` is all of this for one partner, and
`duty_plan` turns it into what escalation works from.

The promise: nothing here reads a clock, a file or a database. The functions named `…_faults` return everything that
is wrong with an object at once, each fault with its field and with what would be right; `require` raises them as
`Invalid`. Objects that came from the database are not checked again, so a rule that became stricter never silences a
stored partner.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import lru_cache
from typing import Protocol
from uuid import UUID

import pycountry

from services.roster import checks, schedule
from services.roster.checks import count_faults, shown, text_faults
from services.roster.schedule import Rota
from shared.contracts import (
    SECRETARIAT,
    ChannelName,
    CredentialKind,
    Deadlines,
    Role,
    Standing,
)
from shared.errors import FieldError, Invalid
from shared.ids import ContactId, ContactPointId, EndpointId, OfficeId, PartnerCode

NAME_CHARACTERS_MAX = checks.NAME_CHARACTERS_MAX
DESCRIPTION_CHARACTERS_MAX = 300
ADDRESS_CHARACTERS_MAX = 254
PUSH_ADDRESS_CHARACTERS_MAX = 2_000
"""A browser's subscription: a URL and two keys."""
CHAT_ADDRESS_CHARACTERS_MAX = 1_000
DELAY_SECONDS_MAX = 30 * 60
"""How long a contact point may wait behind its level: one FLASH, from release to unreached."""
URL_CHARACTERS_MAX = 500
CLIENT_ID_CHARACTERS_MAX = 80
OFFICES_MAX = 10
CONTACTS_MAX = 100
POINTS_MAX = 6
"""Contact points of one contact or one office."""
EMBASSIES_MAX = 250
ROTAS_MAX = 10
ENDPOINTS_MAX = 10
CREDENTIALS_MAX = 200
LANGUAGES_MAX = 10
LEVELS_MAX = 10
TARGETS_MAX = 20
WAIT_SECONDS_MAX = 24 * 3600
DEADLINE_SECONDS_MAX = 30 * 24 * 3600

PERSONS_ONLY = frozenset({Role.DRAFTER, Role.RELEASER, Role.DUTY_OFFICER})
"""Only persons draft and release, and a duty officer is a drafter, too."""
SECRETARIAT_ONLY = frozenset({Role.SECRETARIAT, Role.ADMINISTRATOR})
"""Roles whose reach goes beyond one partner: a partner cannot give them to its own people."""

_CHARACTERS_MAX = {
    ChannelName.PUSH: PUSH_ADDRESS_CHARACTERS_MAX,
    ChannelName.CHAT: CHAT_ADDRESS_CHARACTERS_MAX,
}

_E164 = re.compile(r"\+[1-9][0-9]{6,14}")
_EMAIL = re.compile(
    r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9-]+)+"
)
_LANGUAGE = re.compile(r"[a-z]{2,3}(?:-[A-Za-z0-9]{2,8}){0,3}")
_CLIENT_ID = re.compile(r"[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Partner:
    """A government or institution of the network; `iso3` and `m49` are `None` where there is none, as for the EU."""

    code: PartnerCode
    name: str
    standing: Standing
    time_zone: str
    languages: tuple[str, ...] = ("en",)
    iso3: str | None = None
    m49: str | None = None
    active: bool = True


@dataclass(frozen=True, slots=True)
class ContactPoint:
    """One way to reach a contact or office: seen to work at `verified_at`, last said to be right at `confirmed_at`.

    It is paged `delay_seconds` after its level.
    """

    id: ContactPointId
    channel: ChannelName
    address: str
    label: str | None = None
    verified_at: datetime | None = None
    confirmed_at: datetime | None = None
    delay_seconds: int = 0

    @property
    def masked_address(self) -> str:
        """As much of the address as tells one's own ways apart: `+1613•••0101`, `a•••@ca.example`."""
        return masked(self.channel, self.address)


@dataclass(frozen=True, slots=True)
class DutyOffice:
    """A standing office; `embassies` are pairs of the country an embassy is in and its telephone number."""

    id: OfficeId
    name: str
    switchboard: str | None = None
    embassies: tuple[tuple[str, str], ...] = ()
    points: tuple[ContactPoint, ...] = ()


@dataclass(frozen=True, slots=True)
class Contact:
    """A named person of a partner; without a `time_zone` of their own they live in the partner's."""

    id: ContactId
    name: str
    title: str = ""
    languages: tuple[str, ...] = ("en",)
    points: tuple[ContactPoint, ...] = ()
    time_zone: str | None = None


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One of the partner's own systems, reached by signed webhook."""

    id: EndpointId
    url: str
    description: str = ""
    created_at: datetime | None = None


class TargetKind(StrEnum):
    """What a level can page."""

    ROTA = "rota"
    CONTACT = "contact"
    OFFICE = "office"


@dataclass(frozen=True, slots=True)
class Target:
    """Whom a level pages: whoever is on call in a rota, one contact, or an office.

    With `deputy` it is the deputy of whoever is on call in a rota; the same rota without it is another target.
    """

    kind: TargetKind
    id: UUID
    deputy: bool = False


@dataclass(frozen=True, slots=True)
class Level:
    """One step of a policy; `wait_seconds` can only shorten the network's wait after it, `None` leaves it as it is."""

    targets: tuple[Target, ...]
    wait_seconds: int | None = None


@dataclass(frozen=True, slots=True)
class EscalationPolicy:
    """The partner's levels, in the order in which they are paged."""

    levels: tuple[Level, ...] = ()


@dataclass(frozen=True, slots=True)
class Credential:
    """What one person or one system proves itself with. `version` counts its changes, the revocation included."""

    client_id: str
    kind: CredentialKind
    name: str
    roles: tuple[Role, ...]
    contact_id: ContactId | None = None
    secret_sha256: str = ""
    revoked_at: datetime | None = None
    version: int = 1

    @property
    def subject(self) -> str:
        """Who stands behind the credential.

        All credentials of one contact have one subject, so that nobody can draft with one and release with another.
        """
        if self.contact_id is not None and self.kind is CredentialKind.PERSON:
            return f"contact:{self.contact_id}"
        return f"{self.kind}:{self.client_id}"


@dataclass(frozen=True, slots=True)
class PartnerState:
    """All that roster keeps of one partner. The first office is the one that a duty plan names."""

    partner: Partner
    offices: tuple[DutyOffice, ...] = ()
    contacts: tuple[Contact, ...] = ()
    rotas: tuple[Rota, ...] = ()
    policy: EscalationPolicy = EscalationPolicy()
    endpoints: tuple[Endpoint, ...] = ()
    credentials: tuple[Credential, ...] = ()


# --- what is allowed --------------------------------------------------------------------------------------------------


class UrlRule(Protocol):
    """`addresses.url_fault` of this deployment."""

    def __call__(self, address: str, channel: ChannelName = ChannelName.WEBHOOK) -> str | None:
        """Why an address of this channel is refused here, or `None`."""


def require(faults: Iterable[FieldError], detail: str) -> None:
    """Raises `Invalid` with all the faults if there are any; `detail` says what was refused."""
    found = tuple(faults)
    if found:
        raise Invalid(detail, errors=found)


def partner_faults(partner: Partner) -> Iterator[FieldError]:
    """What is wrong with a partner's own data."""
    if not is_partner_code(partner.code):
        yield FieldError(
            "code", "is no partner code; use ISO 3166-1 alpha-2 in capitals, EU, or XR for the secretariat"
        )
    yield from text_faults("name", partner.name, NAME_CHARACTERS_MAX)
    if (partner.standing is Standing.SECRETARIAT) != (partner.code == SECRETARIAT):
        yield FieldError("standing", "must be secretariat for XR and for nobody else; use member or participating")
    if not schedule.is_zone(partner.time_zone):
        yield FieldError("time_zone", "is not a known time zone; use an IANA name such as Europe/Madrid")
    yield from _language_faults(partner.languages)
    country = _countries().get(partner.code)
    for field, given, right in (
        ("iso3", partner.iso3, country and country[0]),
        ("m49", partner.m49, country and country[1]),
    ):
        if given is not None and given != right:
            remedy = f"it is {right}" if right else "leave it out, there is none"
            yield FieldError(field, f"is not the code of {partner.code}; {remedy}")


def office_faults(office: DutyOffice) -> Iterator[FieldError]:
    """What is wrong with a duty office, its contact points left aside."""
    yield from text_faults("name", office.name, NAME_CHARACTERS_MAX)
    if office.switchboard is not None and not _E164.fullmatch(office.switchboard):
        yield FieldError("switchboard", "is no telephone number; use E.164 such as +12025550123")
    if len(office.embassies) > EMBASSIES_MAX:
        yield FieldError("embassies", f"holds {len(office.embassies)} embassies; at most {EMBASSIES_MAX} are possible")
    for country, number in office.embassies[: EMBASSIES_MAX + 1]:
        if country not in _countries():
            yield FieldError("embassies", f"names {shown(country)}, which is no country; use ISO 3166-1 alpha-2")
        elif not _E164.fullmatch(number):
            yield FieldError(f"embassies.{country}", "is no telephone number; use E.164 such as +12025550123")
    yield from _point_count_faults(office.points)


def contact_faults(contact: Contact) -> Iterator[FieldError]:
    """What is wrong with a contact, the contact points left aside."""
    yield from text_faults("name", contact.name, NAME_CHARACTERS_MAX)
    yield from text_faults("title", contact.title, NAME_CHARACTERS_MAX, required=False)
    yield from _language_faults(contact.languages)
    if contact.time_zone is not None and not schedule.is_zone(contact.time_zone):
        yield FieldError("time_zone", "is not a known time zone; use an IANA name such as Europe/Madrid")
    yield from _point_count_faults(contact.points)


def point_faults(point: ContactPoint, *, url_fault: UrlRule) -> Iterator[FieldError]:
    """What is wrong with a contact point."""
    if point.label is not None:
        yield from text_faults("label", point.label, NAME_CHARACTERS_MAX)
    if not 0 <= point.delay_seconds <= DELAY_SECONDS_MAX:
        yield FieldError("delay_seconds", f"must be 0 to {DELAY_SECONDS_MAX}")
    address = point.address
    text = list(text_faults("address", address, _CHARACTERS_MAX.get(point.channel, ADDRESS_CHARACTERS_MAX)))
    if text:
        yield from text
    elif point.channel in (ChannelName.SMS, ChannelName.VOICE):
        if not _E164.fullmatch(address):
            yield FieldError("address", "is no telephone number; use E.164 such as +12025550123")
    elif point.channel is ChannelName.EMAIL:
        if not _EMAIL.fullmatch(address):
            yield FieldError("address", "is no e-mail address; use one such as duty@ministry.example")
    elif wrong := url_fault(address, point.channel):
        yield FieldError("address", wrong)


def endpoint_faults(endpoint: Endpoint, *, url_fault: UrlRule) -> Iterator[FieldError]:
    """What is wrong with an endpoint."""
    yield from text_faults("description", endpoint.description, DESCRIPTION_CHARACTERS_MAX, required=False)
    text = list(text_faults("url", endpoint.url, URL_CHARACTERS_MAX))
    if text:
        yield from text
    elif wrong := url_fault(endpoint.url):
        yield FieldError("url", wrong)


rota_faults, override_faults, contacts_of = schedule.rota_faults, schedule.override_faults, schedule.contacts_of
"""What is wrong with a rota and with an override, and whom a rota names, stands where rotas are computed."""


def policy_faults(policy: EscalationPolicy) -> Iterator[FieldError]:
    """What is wrong with a policy; that its targets exist is `reference_faults`' to say."""
    if not 1 <= len(policy.levels) <= LEVELS_MAX:
        yield FieldError("levels", f"holds {len(policy.levels)} levels; 1 to {LEVELS_MAX} are possible")
    for index, level in enumerate(policy.levels[:LEVELS_MAX]):
        field = f"levels[{index}]"
        if not 1 <= len(level.targets) <= TARGETS_MAX:
            yield FieldError(f"{field}.targets", f"holds {len(level.targets)} targets; 1 to {TARGETS_MAX} are possible")
        if len(set(level.targets)) < len(level.targets):
            yield FieldError(f"{field}.targets", "names the same target twice; name each once")
        if any(target.deputy and target.kind is not TargetKind.ROTA for target in level.targets):
            yield FieldError(f"{field}.targets", "asks for a deputy of what is no rota; only rotas have deputies")
        if level.wait_seconds is not None and not 1 <= level.wait_seconds <= WAIT_SECONDS_MAX:
            yield FieldError(f"{field}.wait_seconds", f"must be 1 to {WAIT_SECONDS_MAX}, or left out")


def credential_faults(credential: Credential, partner: PartnerCode) -> Iterator[FieldError]:
    """What is wrong with a credential of `partner`; the secret is looked at only if there is one already."""
    length = len(credential.client_id)
    if not _CLIENT_ID.fullmatch(credential.client_id) or length > CLIENT_ID_CHARACTERS_MAX:
        yield FieldError(
            "client_id", f"must be at most {CLIENT_ID_CHARACTERS_MAX} of a-z, 0-9, dot, hyphen and underscore"
        )
    yield from text_faults("name", credential.name, NAME_CHARACTERS_MAX)
    if credential.secret_sha256 and not _SHA256.fullmatch(credential.secret_sha256):
        yield FieldError("secret_sha256", "is no SHA-256; use 64 hexadecimal digits in lower case")
    if not credential.roles:
        yield FieldError("roles", f"is empty; name at least one of {', '.join(Role)}")
    if len(set(credential.roles)) < len(credential.roles):
        yield FieldError("roles", "names the same role twice; name each once")
    for role in credential.roles:
        if role in PERSONS_ONLY and credential.kind is CredentialKind.SYSTEM:
            yield FieldError("roles", f"gives a system the role {role}; only a person may hold it")
        if role in SECRETARIAT_ONLY and partner != SECRETARIAT:
            yield FieldError("roles", f"gives {partner} the role {role}; only the secretariat ({SECRETARIAT}) has it")
    if credential.kind is CredentialKind.SYSTEM and credential.contact_id is not None:
        yield FieldError("contact", "ties a system to a person; leave it out, or use the kind person")


def deadlines_faults(deadlines: Deadlines) -> Iterator[FieldError]:
    """What is wrong with the deadlines of one precedence."""
    unreached = deadlines.unreached_after_seconds
    for field in ("acknowledge_within_seconds", "unreached_after_seconds", "position_within_seconds"):
        if not 1 <= getattr(deadlines, field) <= DEADLINE_SECONDS_MAX:
            yield FieldError(field, f"must be 1 to {DEADLINE_SECONDS_MAX}")
    every = deadlines.next_level_every_seconds
    if every is not None and not 1 <= every <= unreached:
        yield FieldError("next_level_every_seconds", f"must be 1 to unreached_after_seconds ({unreached}), or left out")
    if deadlines.acknowledge_within_seconds >= unreached:
        yield FieldError("acknowledge_within_seconds", f"must be less than unreached_after_seconds ({unreached})")


def reference_faults(state: PartnerState) -> Iterator[FieldError]:
    """What does not fit together within one partner: too many of a kind, and names of what does not exist."""
    counted: tuple[tuple[str, Sequence[object], int], ...] = (
        ("offices", state.offices, OFFICES_MAX),
        ("contacts", state.contacts, CONTACTS_MAX),
        ("rotas", state.rotas, ROTAS_MAX),
        ("endpoints", state.endpoints, ENDPOINTS_MAX),
        ("credentials", state.credentials, CREDENTIALS_MAX),
    )
    for field, things, limit in counted:
        yield from count_faults(field, things, limit)
    contacts = {contact.id for contact in state.contacts}
    known: dict[TargetKind, set[UUID]] = {
        TargetKind.ROTA: {rota.id for rota in state.rotas},
        TargetKind.CONTACT: set(contacts),
        TargetKind.OFFICE: {office.id for office in state.offices},
    }
    for number, rota in enumerate(state.rotas):
        laid_over: tuple[tuple[str, Sequence[object], int], ...] = (
            ("overrides", rota.overrides, schedule.OVERRIDES_MAX),
            ("replacements", rota.replacements, schedule.REPLACEMENTS_MAX),
            ("imported", rota.imported, schedule.IMPORTED_MAX),
        )
        for field, things, limit in laid_over:
            yield from count_faults(f"rotas[{number}].{field}", things, limit)
        for contact_id in sorted(contacts_of(rota) - contacts):
            yield FieldError(
                f"rotas[{number}]", f"names contact {contact_id}; there is none of that id at this partner"
            )
    for number, level in enumerate(state.policy.levels):
        for target in level.targets:
            if target.id not in known[target.kind]:
                detail = f"names {target.kind} {target.id}; there is none of that id at this partner"
                yield FieldError(f"levels[{number}].targets", detail)
    named: set[UUID | None] = {None, *contacts}
    for number, credential in enumerate(state.credentials):
        # A revoked one is kept for ever, and must not keep whoever has left.
        if credential.revoked_at is None and credential.contact_id not in named:
            detail = f"names contact {credential.contact_id}; there is none of that id at this partner"
            yield FieldError(f"credentials[{number}].contact", detail)


@lru_cache(maxsize=512)
def own_holiday_calendar(code: PartnerCode) -> str | None:
    """The holidays of a partner whose rota says nothing of them: those of its country or the EU, if any."""
    return code if schedule.is_holiday_calendar(code) else None


MASK = "•••"
_PUSH_HOST = re.compile(r'"endpoint"\s*:\s*"https://([a-z0-9.-]{1,253})[:/]')
_NUMBER_SHOWN_WHOLE = 12
"""From so many characters on, a number shows more of itself: more stays hidden than anybody would try out."""


def masked(channel: ChannelName, address: str) -> str:
    """An address for those who need to know that it is there, and not where it leads.

    Of a number country and last digits stay, of an e-mail address its domain, of a URL its host; of a chat address,
    where everything after the scheme may be a token, the scheme alone.
    """
    if channel in (ChannelName.SMS, ChannelName.VOICE):
        front, back = (5, 4) if len(address) >= _NUMBER_SHOWN_WHOLE else (3, 2)
        return f"{address[:front]}{MASK}{address[-back:]}"
    if channel is ChannelName.EMAIL:
        name, _, domain = address.rpartition("@")
        return f"{name[:1]}{MASK}@{domain}"
    if channel is ChannelName.PUSH:
        # A subscription: its keys are secret, and so is all of its URL behind the push service's name.
        found = _PUSH_HOST.search(address)
        return f"https://{found.group(1)}/{MASK}" if found else MASK
    scheme, mark, rest = address.partition("://")
    if not mark:
        return MASK
    if channel is ChannelName.CHAT:
        return f"{scheme}://{MASK}"
    return f"{scheme}://{rest.partition('/')[0].rpartition('@')[2]}/{MASK}"


def is_partner_code(code: str) -> bool:
    """Whether the code is that of a country, of the European Union or of the secretariat."""
    return code in _countries() or code == SECRETARIAT


@lru_cache(maxsize=1)
def _countries() -> Mapping[str, tuple[str | None, str | None]]:
    """Alpha-2 → (alpha-3, M49) of every country, and of the EU: ISO 3166-1 reserves its code without the other two."""
    known: dict[str, tuple[str | None, str | None]] = {
        country.alpha_2: (country.alpha_3, country.numeric) for country in pycountry.countries
    }
    return {**known, "EU": (None, None)}


def _language_faults(languages: Sequence[str]) -> Iterator[FieldError]:
    if not 1 <= len(languages) <= LANGUAGES_MAX:
        yield FieldError("languages", f"must name 1 to {LANGUAGES_MAX} languages")
    for language in languages[: LANGUAGES_MAX + 1]:
        if not _LANGUAGE.fullmatch(language):
            yield FieldError("languages", f"names {shown(language)}; use BCP 47 tags such as en, fr-CA or zh-Hans")


def _point_count_faults(points: Sequence[ContactPoint]) -> Iterator[FieldError]:
    yield from count_faults("points", points, POINTS_MAX)

"""The network file: a TOML text about partners, people, rotas, policies, endpoints, credentials and deadlines.

The cast: `parse` turns the text into a `NetworkFile`, a flat list of `Item`s in an order in which they can be
written, or raises `NetworkFileError` with every mistake at once, each with file, line and key. What applying it would
do is for `seeding` to say.

The promise: pure, and nothing is taken from a file that has a mistake anywhere. Everything in the file has a stable
key, and ids are derived from keys, so a second application meets the rows of the first. A secret is never in the
file, at most the hash of one.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from uuid import UUID

from services.roster import domain, schedule
from services.roster.addresses import PUBLIC, url_fault
from services.roster.domain import (
    Contact,
    ContactPoint,
    Credential,
    DutyOffice,
    Endpoint,
    EscalationPolicy,
    Level,
    Partner,
    PartnerState,
    Target,
    TargetKind,
    UrlRule,
)
from services.roster.schedule import (
    Frequency,
    Holiday,
    Layer,
    LayerId,
    OnHolidays,
    Restriction,
    Rota,
    Rotation,
)
from services.roster.toml_file import MISTAKES_MAX, Lines, Mistakes, Table, TooManyMistakes, dotted, unknown
from services.roster.weekdays import Weekday
from shared.chat_urls import SCHEMAS_DEFAULT
from shared.contracts import ChannelName, CredentialKind, Deadlines, Precedence, Role, Standing
from shared.egress import EgressPolicy
from shared.errors import FieldError, Invalid
from shared.ids import ContactId, ContactPointId, EndpointId, OfficeId, PartnerCode, RotaId, derived

FORMAT = 1
FILE_CHARACTERS_MAX = 4_000_000
PARTNERS_MAX = 300
PROBLEMS_MAX = 100
"""More mistakes than this are counted, not listed."""

NO_CALENDAR = "none"
"""What a rota says of its holidays if it has none; left out, they are those of the partner's own country."""
DEPUTY = "/deputy"
"""Follows the key of a rota in a target that is the deputy of whoever is on call."""

_SYNTAX_LINE = re.compile(r" \(at line (\d+), column \d+\)$")


class Kind(StrEnum):
    """What an item is, in the order in which items are written: nothing refers to a later kind."""

    DEADLINES = "deadlines"
    PARTNER = "partner"
    OFFICE = "office"
    CONTACT = "contact"
    CONTACT_POINT = "contact_point"
    ROTA = "rota"
    POLICY = "policy"
    ENDPOINT = "endpoint"
    CREDENTIAL = "credential"


@dataclass(frozen=True, slots=True)
class PrecedenceDeadlines:
    """The network's deadlines for one precedence."""

    precedence: Precedence
    deadlines: Deadlines


Value = (
    PrecedenceDeadlines
    | Partner
    | DutyOffice
    | Contact
    | ContactPoint
    | Rota
    | EscalationPolicy
    | Endpoint
    | Credential
)


@dataclass(frozen=True, slots=True)
class Item:
    """One thing that the file names.

    `key` is its path in the file. `owner_id` is the contact or office that a contact point belongs to. `references`
    are the ids that must exist before it can be written, each with the key by which the file names it.
    """

    kind: Kind
    partner: PartnerCode | None
    key: str
    id: UUID
    value: Value
    owner_id: UUID | None = None
    references: tuple[tuple[UUID, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake in a network file. `message` says what is wrong and what would be right."""

    file: str
    line: int
    key: str
    message: str

    def __str__(self) -> str:
        return (
            f"{self.file}, line {self.line}: {self.key} {self.message}"
            if self.key
            else (f"{self.file}, line {self.line}: {self.message}")
        )


class NetworkFileError(Invalid):
    """The file is refused as a whole; `problems` are in the order of their lines."""

    code = "invalid_network_file"

    def __init__(self, problems: Sequence[Problem], omitted: int = 0) -> None:
        self.problems = tuple(problems)
        self.omitted = omitted
        count = len(problems) + omitted
        at_least = "at least " if count >= MISTAKES_MAX else ""
        listed = f", the first {len(problems)} of which are listed" if omitted else ""
        super().__init__(
            f"The network file has {at_least}{count} mistake{'' if count == 1 else 's'}{listed}; nothing was applied.",
            errors=[FieldError(problem.key or problem.file, str(problem), self.code) for problem in problems],
        )


@dataclass(frozen=True, slots=True)
class NetworkFile:
    """What a file says, checked. Items stand in an order in which they can be written."""

    name: str
    items: tuple[Item, ...]

    def states(self) -> tuple[PartnerState, ...]:
        """Each partner of the file as if nothing but the file had ever been written."""
        return tuple(
            _state(item.value, [other for other in self.items if other.partner == item.partner])
            for item in self.items
            if isinstance(item.value, Partner)
        )

    def deadlines(self) -> dict[Precedence, Deadlines]:
        """The deadlines that the file gives, by precedence."""
        return {
            item.value.precedence: item.value.deadlines
            for item in self.items
            if isinstance(item.value, PrecedenceDeadlines)
        }


# --- ids --------------------------------------------------------------------------------------------------------------


def partner_id(code: str) -> UUID:
    """The id under which a partner's own row is seeded."""
    return derived("partner", code)


def deadlines_id(precedence: Precedence) -> UUID:
    """The id under which the deadlines of a precedence are seeded."""
    return derived("deadlines", precedence)


def policy_id(code: str) -> UUID:
    """The id under which a partner's policy is seeded."""
    return derived(code, "policy")


def credential_id(client_id: str) -> UUID:
    """The id under which a credential is seeded."""
    return derived("credential", client_id)


# --- reading the file -------------------------------------------------------------------------------------------------


def parse(
    text: str, filename: str, *, policy: EgressPolicy = PUBLIC, chat_schemas: Set[str] = SCHEMAS_DEFAULT
) -> NetworkFile:
    """The checked content of a network file; raises `NetworkFileError` with every mistake if there is any.

    `policy` is what the deployment allows to be reached, `chat_schemas` which services chat addresses may name.
    """
    if len(text) > FILE_CHARACTERS_MAX:
        message = f"holds {len(text)} characters; at most {FILE_CHARACTERS_MAX} are possible, split it by partner"
        raise NetworkFileError([Problem(filename, 1, "", message)])
    try:
        data = tomllib.loads(text)
    except RecursionError:
        raise NetworkFileError([Problem(filename, 1, "", "is nested too deeply; see network/rdn.toml")]) from None
    except ValueError as error:
        raise NetworkFileError([_syntax_problem(text, filename, str(error))]) from None
    reader = _Reader(partial(url_fault, policy, chat_schemas=chat_schemas))
    items: list[Item] = []
    with suppress(TooManyMistakes):
        items = reader.network(Table(data, (), reader.mistakes))
    if reader.mistakes.found:
        lines = Lines(text)
        problems = sorted(
            {Problem(filename, lines.line_of(path), dotted(path), message) for path, message in reader.mistakes.found},
            key=lambda problem: (problem.line, problem.key, problem.message),
        )
        raise NetworkFileError(problems[:PROBLEMS_MAX], max(0, len(problems) - PROBLEMS_MAX))
    return NetworkFile(filename, tuple(sorted(items, key=lambda item: list(Kind).index(item.kind))))


def _syntax_problem(text: str, filename: str, message: str) -> Problem:
    if "digits" in message and "conversion" in message:
        return Problem(filename, 1, "", "holds a number of too many digits; shorten it")
    found = _SYNTAX_LINE.search(message)
    line = int(found.group(1)) if found else text.count("\n") + 1 if "end of document" in message else 1
    return Problem(filename, line, "", f"is no valid TOML: {ascii(_SYNTAX_LINE.sub('', message)[:200])[1:-1]}")


class _Reader:
    """Reads the tables of a network file into items, collecting all mistakes on the way."""

    def __init__(self, url_rule: UrlRule) -> None:
        self.mistakes = Mistakes()
        self._url_rule = url_rule
        self._client_ids: dict[str, str] = {}

    def network(self, top: Table) -> list[Item]:
        """Everything that the file says."""
        items: list[Item] = []
        if top.integer("format", FORMAT) != FORMAT:
            top.note(f"is a format that this version cannot read; use {FORMAT}", "format")
        deadlines = top.table("deadlines")
        if deadlines is not None:
            for precedence in Precedence:
                table = deadlines.table(precedence)
                if table is not None:
                    items += self._deadlines(precedence, table)
            deadlines.close()
        for code, table in top.named_tables("partners", PARTNERS_MAX):
            items += self._partner(PartnerCode(code), table)
        top.close()
        return items

    def _deadlines(self, precedence: Precedence, table: Table) -> Iterator[Item]:
        # Unchecked, because the rules of the domain say all at once what is wrong, and of which key.
        deadlines = Deadlines.model_construct(
            acknowledge_within_seconds=table.integer("acknowledge_within_seconds"),
            next_level_every_seconds=table.optional_integer("next_level_every_seconds"),
            unreached_after_seconds=table.integer("unreached_after_seconds", instead=domain.DEADLINE_SECONDS_MAX),
            position_within_seconds=table.integer("position_within_seconds"),
            read_back=table.flag("read_back"),
        )
        table.close()
        table.note_all(domain.deadlines_faults(deadlines))
        yield _deadlines_item(precedence, deadlines)

    def _partner(self, code: PartnerCode, table: Table) -> Iterator[Item]:
        partner = Partner(
            code=code,
            name=table.text("name"),
            standing=table.choice("standing", Standing, instead=Standing.MEMBER),
            time_zone=table.text("time_zone"),
            languages=table.texts("languages", domain.LANGUAGES_MAX, ("en",)),
            iso3=table.optional_text("iso3"),
            m49=table.optional_text("m49"),
        )
        offices = dict(table.named_tables("offices", domain.OFFICES_MAX))
        contacts = dict(table.named_tables("contacts", domain.CONTACTS_MAX))
        rotas = dict(table.named_tables("rotas", domain.ROTAS_MAX))
        levels = list(table.listed_tables("levels", domain.LEVELS_MAX))
        endpoints = dict(table.named_tables("endpoints", domain.ENDPOINTS_MAX))
        credentials = dict(table.named_tables("credentials", domain.CREDENTIALS_MAX))
        table.close()
        if not offices and not self.mistakes.is_noted((*table.path, "offices")):
            table.note(f"is not there; every partner needs a duty office, [partners.{code}.offices.main]", "offices")
        table.note_all(domain.partner_faults(partner), names_itself="code")
        yield Item(Kind.PARTNER, code, dotted(table.path), partner_id(code), partner)
        for key, office in offices.items():
            yield from self._office(code, key, office)
        for key, contact in contacts.items():
            yield from self._contact(code, key, contact)
        for key, rota in rotas.items():
            yield from self._rota(code, key, rota, partner.time_zone, contacts)
        yield from self._policy(code, table, levels, {"rota": rotas, "contact": contacts, "office": offices})
        for key, endpoint in endpoints.items():
            yield from self._endpoint(code, key, endpoint)
        for key, credential in credentials.items():
            yield from self._credential(code, key, credential, contacts)

    def _office(self, code: PartnerCode, key: str, table: Table) -> Iterator[Item]:
        office_id = _id_of(code, Kind.OFFICE, key)
        embassies = table.table("embassies")
        office = DutyOffice(
            id=OfficeId(office_id),
            name=table.text("name"),
            switchboard=table.optional_text("switchboard"),
            embassies=tuple((country, embassies.text(country)) for country in embassies.data) if embassies else (),
        )
        points = list(self._points(code, table, office_id))
        table.close()
        table.note_all(domain.office_faults(office))
        yield Item(Kind.OFFICE, code, dotted(table.path), office_id, office, references=_needs_partner(code))
        yield from points

    def _contact(self, code: PartnerCode, key: str, table: Table) -> Iterator[Item]:
        contact_id = _id_of(code, Kind.CONTACT, key)
        contact = Contact(
            id=ContactId(contact_id),
            name=table.text("name"),
            title=table.text("title", ""),
            languages=table.texts("languages", domain.LANGUAGES_MAX, ("en",)),
            time_zone=table.optional_text("time_zone"),
        )
        points = list(self._points(code, table, contact_id))
        table.close()
        table.note_all(domain.contact_faults(contact))
        yield Item(Kind.CONTACT, code, dotted(table.path), contact_id, contact, references=_needs_partner(code))
        yield from points

    def _points(self, code: PartnerCode, owner: Table, owner_id: UUID) -> Iterator[Item]:
        for key, table in owner.named_tables("points", domain.POINTS_MAX):
            point_id = derived(str(owner_id), Kind.CONTACT_POINT, key)
            point = ContactPoint(
                id=ContactPointId(point_id),
                channel=table.choice("channel", ChannelName, instead=ChannelName.CHAT),
                address=table.text("address"),
                label=table.optional_text("label"),
                delay_seconds=table.integer("delay_seconds", 0),
            )
            table.close()
            # Which addresses are right is another matter for each channel.
            if not self.mistakes.is_noted((*table.path, "channel")):
                table.note_all(domain.point_faults(point, url_fault=self._url_rule))
            references = ((owner_id, dotted(owner.path)),)
            yield Item(Kind.CONTACT_POINT, code, dotted(table.path), point_id, point, owner_id, references)

    def _rota(
        self, code: PartnerCode, key: str, table: Table, time_zone: str, contacts: Mapping[str, Table]
    ) -> Iterator[Item]:
        people = _People(code, contacts, dict(_needs_partner(code)))
        layers: list[Layer] = []
        for layer in table.listed_tables("layers", schedule.LAYERS_MAX):
            name = layer.text("name", f"layer {len(layers) + 1}")
            layers.append(_layer(layer, LayerId(derived(code, "layer", key, name)), name, people))
            layer.close()
        own = domain.own_holiday_calendar(code)
        calendar = table.text("holiday_calendar", own or NO_CALENDAR)
        rota = Rota(
            id=RotaId(_id_of(code, Kind.ROTA, key)),
            name=table.text("name"),
            time_zone=table.text("time_zone", time_zone),
            layers=tuple(layers),
            holiday_calendar=None if calendar == NO_CALENDAR else calendar,
            extra_holidays=tuple(
                Holiday(on, name) for on, name in table.dated_texts("extra_holidays", schedule.EXTRA_HOLIDAYS_MAX)
            ),
            signs_hand_over=table.flag("signs_hand_over"),
            notice_hours=table.integers("notice_hours", schedule.NOTICES_MAX, (24,)),
        )
        table.close()
        inherits_mistake = "time_zone" not in table.data and not schedule.is_zone(time_zone)
        table.note_all(domain.rota_faults(replace(rota, time_zone="UTC") if inherits_mistake else rota))
        yield Item(Kind.ROTA, code, dotted(table.path), rota.id, rota, references=tuple(people.references.items()))

    def _policy(
        self, code: PartnerCode, partner: Table, tables: Sequence[Table], known: Mapping[str, Mapping[str, Table]]
    ) -> Iterator[Item]:
        references = dict(_needs_partner(code))
        levels = []
        for table in tables:
            targets = []
            for index, text in enumerate(table.texts("targets", domain.TARGETS_MAX)):
                kind, _, key = text.partition(":")
                deputy = kind == TargetKind.ROTA and key.endswith(DEPUTY)
                key = key.removesuffix(DEPUTY) if deputy else key
                if kind not in known:
                    right = "use rota:<key>, rota:<key>/deputy, contact:<key> or office:<key>"
                    table.note(f"is {text[:80]!a}; {right}", "targets", index)
                    kind = TargetKind.CONTACT
                elif key not in known[kind]:
                    table.note(unknown(key, known[kind], f"name a {kind} of this partner"), "targets", index)
                target = Target(TargetKind(kind), _id_of(code, Kind(kind), key), deputy=deputy)
                targets.append(target)
                references[target.id] = f"partners.{code}.{kind}s.{key}"
            levels.append(Level(tuple(targets), table.optional_integer("wait_seconds")))
            table.close()
        policy = EscalationPolicy(tuple(levels))
        partner.note_all(domain.policy_faults(policy))
        key = f"{dotted(partner.path)}.levels"
        yield Item(Kind.POLICY, code, key, policy_id(code), policy, references=tuple(references.items()))

    def _endpoint(self, code: PartnerCode, key: str, table: Table) -> Iterator[Item]:
        endpoint = Endpoint(
            id=EndpointId(_id_of(code, Kind.ENDPOINT, key)),
            url=table.text("url"),
            description=table.text("description", ""),
        )
        table.close()
        table.note_all(domain.endpoint_faults(endpoint, url_fault=self._url_rule))
        yield Item(Kind.ENDPOINT, code, dotted(table.path), endpoint.id, endpoint, references=_needs_partner(code))

    def _credential(
        self, code: PartnerCode, client_id: str, table: Table, contacts: Mapping[str, Table]
    ) -> Iterator[Item]:
        references = dict(_needs_partner(code))
        kind = table.choice("kind", CredentialKind, instead=CredentialKind.PERSON)
        contact, contact_id, name = table.optional_text("contact"), None, ""
        if contact is not None:
            contact_id = ContactId(_id_of(code, Kind.CONTACT, contact))
            references[contact_id] = f"partners.{code}.contacts.{contact}"
            if contact in contacts:
                name = str(contacts[contact].data.get("name", ""))
            else:
                table.note(unknown(contact, contacts, "name a contact of this partner"), "contact")
        roles = []
        for index, role in enumerate(table.texts("roles", len(Role))):
            roles.append(Role(role) if role in list(Role) else Role.OBSERVER)
            if role not in list(Role):
                table.note(unknown(role, Role, f"use some of {', '.join(Role)}"), "roles", index)
        credential = Credential(
            client_id=client_id,
            kind=kind,
            name=table.text("name", name or None),
            roles=tuple(sorted(roles)),
            contact_id=contact_id,
            secret_sha256=table.text("secret_sha256", ""),
        )
        table.close()
        table.note_all(domain.credential_faults(credential, code), names_itself="client_id")
        first = self._client_ids.setdefault(client_id, dotted(table.path))
        if first != dotted(table.path):
            table.note(f"is a client id that {first} has already; choose another one")
        item_id = credential_id(client_id)
        yield Item(Kind.CREDENTIAL, code, dotted(table.path), item_id, credential, references=tuple(references.items()))


@dataclass(frozen=True, slots=True)
class _People:
    """The contacts that a rota may name, and what it has referred to so far."""

    code: PartnerCode
    contacts: Mapping[str, Table]
    references: dict[UUID, str]

    def named(self, layer: Table, key: str, default: Sequence[str] | None = None) -> tuple[ContactId, ...]:
        """The contacts that a list of a layer names."""
        found = []
        for index, contact in enumerate(layer.texts(key, schedule.PARTICIPANTS_MAX, default)):
            if contact not in self.contacts:
                layer.note(unknown(contact, self.contacts, "name a contact of this partner"), key, index)
            contact_id = ContactId(_id_of(self.code, Kind.CONTACT, contact))
            found.append(contact_id)
            self.references[contact_id] = f"partners.{self.code}.contacts.{contact}"
        return tuple(found)


def _layer(table: Table, layer_id: LayerId, name: str, people: _People) -> Layer:
    return Layer(
        id=layer_id,
        name=name,
        rotation=_rotation(table),
        participants=people.named(table, "participants"),
        starts_on=table.local_date("starts_on"),
        hand_over_time=table.local_time("hand_over_time"),
        ends_on=table.optional_date("ends_on"),
        deputies=people.named(table, "deputies", ()),
        time_zone=table.optional_text("time_zone"),
        restrictions=tuple(map(_restriction, table.listed_tables("restrictions", schedule.RESTRICTIONS_MAX))),
        on_holidays=table.choice("on_holidays", OnHolidays, instead=OnHolidays.ANY, default=OnHolidays.ANY),
    )


def _rotation(table: Table) -> Rotation:
    frequency = table.choice("rotation", Frequency, instead=Frequency.DAILY)
    rotation = Rotation(frequency, table.integer("every", 1), table.optional_text("rule"))
    # What is right for the others depends on the frequency; if that is wrong, nothing is said of them.
    return Rotation(frequency) if table.data.get("rotation") != frequency else rotation


def _restriction(table: Table) -> Restriction:
    days = []
    for index, day in enumerate(table.texts("weekdays", len(Weekday), ())):
        if day in list(Weekday):
            days.append(Weekday(day).iso)
        else:
            table.note(unknown(day, Weekday, f"use some of {', '.join(Weekday)}"), "weekdays", index)
    restriction = Restriction(table.local_time("from_time"), table.local_time("until_time"), tuple(days))
    table.close()
    return restriction


def _deadlines_item(precedence: Precedence, deadlines: Deadlines) -> Item:
    value = PrecedenceDeadlines(precedence, deadlines)
    return Item(Kind.DEADLINES, None, f"deadlines.{precedence}", deadlines_id(precedence), value)


def _id_of(code: str, kind: Kind, key: str) -> UUID:
    return derived(code, kind, key)


def _needs_partner(code: PartnerCode) -> tuple[tuple[UUID, str], ...]:
    return ((partner_id(code), f"partners.{code}"),)


def _state(partner: Partner, items: Sequence[Item]) -> PartnerState:
    """One partner put together from its items."""
    points: dict[UUID, list[ContactPoint]] = {}
    for item in items:
        if isinstance(item.value, ContactPoint) and item.owner_id is not None:
            points.setdefault(item.owner_id, []).append(item.value)
    values = [
        replace(item.value, points=tuple(points.get(item.id, ())))
        if isinstance(item.value, (DutyOffice, Contact))
        else item.value
        for item in items
    ]
    return PartnerState(
        partner=partner,
        offices=tuple(value for value in values if isinstance(value, DutyOffice)),
        contacts=tuple(value for value in values if isinstance(value, Contact)),
        rotas=tuple(value for value in values if isinstance(value, Rota)),
        policy=next((value for value in values if isinstance(value, EscalationPolicy)), EscalationPolicy()),
        endpoints=tuple(value for value in values if isinstance(value, Endpoint)),
        credentials=tuple(value for value in values if isinstance(value, Credential)),
    )

"""A partner as one JSON text: all that it owns, said by the database in one statement, and read wherever it is needed.

The cast: a `Reading` is a statement for one purpose (everything; everything but addresses; what duty plans are made
of; who answers). Its first parameter are the codes of partners; each row that it finds has a `document`, of which
`state_of` makes a `PartnerState`, in this process or in one that computes.

The promise: one statement sees one instant, so what it says of a partner fits together whoever edits it meanwhile. What
is not read is empty in the state, and never guessed.
"""

from __future__ import annotations

from collections import defaultdict, namedtuple
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time
from typing import Any
from uuid import UUID

import orjson

from services.roster.changes import in_order
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
)
from services.roster.schedule import (
    CalendarId,
    Frequency,
    Holiday,
    ImportedShift,
    ImportedShiftId,
    Layer,
    LayerId,
    OnHolidays,
    Override,
    OverrideId,
    Replacement,
    ReplacementId,
    Restriction,
    Rota,
    Rotation,
)
from shared.contracts import ChannelName, CredentialKind, Role, Standing
from shared.ids import ContactId, ContactPointId, EndpointId, OfficeId, PartnerCode, RotaId

Opened = Callable[[UUID, str], str]
"""Makes an address of what is kept of the contact point or endpoint of this id."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One statement. `is_windowed`: its second and third parameter bound overrides, replacements and imported shifts in
    time; `is_sealed`: its fourth names the sealing key whose sealed forms stand in the place of addresses.
    """

    statement: str
    is_windowed: bool
    is_sealed: bool


# --- what is read -----------------------------------------------------------------------------------------------------

_UUIDS = frozenset({"id", "owner_id", "rota_id", "contact_id", "deputy_id", "calendar_id"})
_INSTANTS = frozenset({"verified_at", "confirmed_at", "start_at", "end_at", "created_at", "revoked_at"})

_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "partners": ("code", "name", "standing", "time_zone", "languages", "iso3", "m49", "active"),
    "offices": ("id", "name", "switchboard", "embassies"),
    "contacts": ("id", "name", "title", "languages", "time_zone"),
    "contact_points": (
        "id",
        "owner_id",
        "channel",
        "address",
        "label",
        "verified_at",
        "confirmed_at",
        "delay_seconds",
    ),
    "rotas": (
        "id",
        "name",
        "time_zone",
        "layers",
        "holiday_calendar",
        "extra_holidays",
        "signs_hand_over",
        "notice_hours",
    ),
    "overrides": ("id", "rota_id", "contact_id", "start_at", "end_at", "deputy_id"),
    "replacements": ("id", "rota_id", "name", "start_at", "end_at", "layers"),
    "imported_shifts": ("id", "rota_id", "calendar_id", "contact_id", "start_at", "end_at"),
    "policies": ("levels",),
    "endpoints": ("id", "address", "description", "created_at"),
    "issued_credentials": (
        "client_id",
        "kind",
        "name",
        "roles",
        "contact_id",
        "secret_sha256",
        "revoked_at",
        "version",
    ),
}

_OF_ROTAS = ("overrides", "replacements", "imported_shifts")
_ANSWERING = ("offices", "contacts", "rotas", *_OF_ROTAS, "policies")
_ALL = tuple(name for name in _COLUMNS if name != "partners")

_ADDRESSES = {
    "encrypted": {"contact_points": "t.encrypted_address", "endpoints": "t.encrypted_url"},
    "sealed": {
        "contact_points": "CASE WHEN t.sealing_key = $4 THEN t.sealed_address END",
        "endpoints": "CASE WHEN t.sealing_key = $4 THEN t.sealed_url END",
    },
    "none": {"contact_points": "''", "endpoints": "''"},
}


def _reading(parts: Sequence[str], *, addresses: str, windowed: bool = False) -> Reading:
    def listed(table: str) -> str:
        names = (_ADDRESSES[addresses][table] if name == "address" else f"t.{name}" for name in _COLUMNS[table])
        key = {"policies": "t.partner", "issued_credentials": "t.place, t.client_id"}.get(table, "t.place, t.id")
        within = " AND t.end_at > $2 AND t.start_at < $3" if windowed and table in _OF_ROTAS else ""
        return (
            f"'{table}', (SELECT json_agg(json_build_array({', '.join(names)}) ORDER BY {key})"  # noqa: S608 - our own names
            f" FROM {table} t WHERE t.partner = p.code{within})"
        )

    own = ", ".join(f"p.{name}" for name in _COLUMNS["partners"])
    documents = ", ".join([f"'partners', json_build_array({own})", *map(listed, parts)])
    statement = (
        "SELECT p.code, p.version, p.plan_asked, p.plan_due_at, p.plan_version,"  # noqa: S608 - our own names
        f" json_build_object({documents})::text AS document FROM partners p WHERE p.code = ANY($1) ORDER BY p.code"
    )
    return Reading(statement, windowed, addresses == "sealed")


WHOLE = _reading(_ALL, addresses="encrypted")
WITHOUT_ADDRESSES = _reading(_ALL, addresses="none")
FOR_PLANS = _reading(_ALL, addresses="sealed", windowed=True)
ANSWERING = _reading(_ANSWERING, addresses="none", windowed=True)
"""Who answers: neither contact points nor endpoints nor credentials."""


# --- the state that it says -------------------------------------------------------------------------------------------


def unopened(_id: UUID, kept: str) -> str:
    """The address as it is kept: sealed, or empty where addresses are not read."""
    return kept


def state_of(document: str, opened: Opened) -> PartnerState:
    """The partner of a document; raises what `opened` raises."""
    said = orjson.loads(document)
    rows = {table: _rows(table, said.get(table) or ()) for table in _COLUMNS if table != "partners"}
    points: dict[UUID, list[ContactPoint]] = defaultdict(list)
    for row in rows["contact_points"]:
        points[row.owner_id].append(_point(row, opened))
    of_rotas = {table: _by_rota(rows[table]) for table in _OF_ROTAS}
    return PartnerState(
        partner=partner_of(_rows("partners", [said["partners"]])[0]),
        offices=tuple(_office(row, points.get(row.id, ())) for row in rows["offices"]),
        contacts=tuple(_contact(row, points.get(row.id, ())) for row in rows["contacts"]),
        rotas=tuple(_rota(row, of_rotas) for row in rows["rotas"]),
        policy=_policy(rows["policies"][0].levels if rows["policies"] else ()),
        endpoints=tuple(_endpoint(row, opened) for row in rows["endpoints"]),
        credentials=tuple(map(_credential, rows["issued_credentials"])),
    )


_ROWS: Mapping[str, Any] = {table: namedtuple(table, names) for table, names in _COLUMNS.items()}
_UUIDS_OF = {
    table: tuple(place for place, name in enumerate(names) if name in _UUIDS) for table, names in _COLUMNS.items()
}
_INSTANTS_OF = {
    table: tuple(place for place, name in enumerate(names) if name in _INSTANTS) for table, names in _COLUMNS.items()
}


def _rows(table: str, kept: Iterable[list[Any]]) -> list[Any]:
    """Rows with ids and instants as what they are."""
    make, uuids, instants = _ROWS[table]._make, _UUIDS_OF[table], _INSTANTS_OF[table]
    found = []
    for values in kept:
        for place in uuids:
            if values[place] is not None:
                values[place] = UUID(values[place])
        for place in instants:
            if values[place] is not None:
                values[place] = datetime.fromisoformat(values[place])
        found.append(make(values))
    return found


def _by_rota(rows: Iterable[Any]) -> dict[UUID, list[Any]]:
    found: dict[UUID, list[Any]] = defaultdict(list)
    for row in rows:
        found[row.rota_id].append(row)
    return found


def partner_of(row: Any) -> Partner:
    """The partner's own data from a row of them."""
    return Partner(
        code=PartnerCode(row.code),
        name=row.name,
        standing=Standing(row.standing),
        time_zone=row.time_zone,
        languages=tuple(row.languages),
        iso3=row.iso3,
        m49=row.m49,
        active=row.active,
    )


def _point(row: Any, opened: Opened) -> ContactPoint:
    return ContactPoint(
        id=ContactPointId(row.id),
        channel=ChannelName(row.channel),
        address=opened(row.id, row.address),
        label=row.label,
        verified_at=row.verified_at,
        confirmed_at=row.confirmed_at,
        delay_seconds=row.delay_seconds,
    )


def _office(row: Any, points: Iterable[ContactPoint]) -> DutyOffice:
    return DutyOffice(
        id=OfficeId(row.id),
        name=row.name,
        switchboard=row.switchboard,
        embassies=tuple((country, number) for country, number in row.embassies),
        points=tuple(points),
    )


def _contact(row: Any, points: Iterable[ContactPoint]) -> Contact:
    return Contact(ContactId(row.id), row.name, row.title, tuple(row.languages), tuple(points), row.time_zone)


def _rota(row: Any, parts: Mapping[str, Mapping[UUID, Sequence[Any]]]) -> Rota:
    return Rota(
        id=RotaId(row.id),
        name=row.name,
        time_zone=row.time_zone,
        layers=tuple(map(_layer, row.layers)),
        overrides=tuple(map(_override, parts["overrides"].get(row.id, ()))),
        replacements=tuple(map(_replacement, parts["replacements"].get(row.id, ()))),
        imported=in_order(map(_imported_shift, parts["imported_shifts"].get(row.id, ()))),
        holiday_calendar=row.holiday_calendar,
        extra_holidays=tuple(Holiday(date.fromisoformat(kept["on"]), kept["name"]) for kept in row.extra_holidays),
        signs_hand_over=row.signs_hand_over,
        notice_hours=tuple(row.notice_hours),
    )


def _layer(kept: Mapping[str, Any]) -> Layer:
    """A layer from its JSON; what was written before a field was thought of has that field's default."""
    return Layer(
        id=LayerId(UUID(kept["id"])),
        name=kept["name"],
        rotation=Rotation(
            Frequency(kept["rotation"]["frequency"]), kept["rotation"]["every"], kept["rotation"].get("rule")
        ),
        participants=tuple(ContactId(UUID(participant)) for participant in kept["participants"]),
        starts_on=date.fromisoformat(kept["starts_on"]),
        hand_over_time=time.fromisoformat(kept["hand_over_time"]),
        ends_on=date.fromisoformat(kept["ends_on"]) if kept["ends_on"] is not None else None,
        deputies=tuple(ContactId(UUID(deputy)) for deputy in kept.get("deputies", ())),
        time_zone=kept.get("time_zone"),
        restrictions=tuple(map(_restriction, kept.get("restrictions", ()))),
        on_holidays=OnHolidays(kept.get("on_holidays", OnHolidays.ANY)),
    )


def _restriction(kept: Mapping[str, Any]) -> Restriction:
    return Restriction(
        from_time=time.fromisoformat(kept["from_time"]),
        until_time=time.fromisoformat(kept["until_time"]),
        weekdays=tuple(kept["weekdays"]),
    )


def _override(row: Any) -> Override:
    return Override(
        id=OverrideId(row.id),
        contact_id=ContactId(row.contact_id) if row.contact_id is not None else None,
        start_at=row.start_at,
        end_at=row.end_at,
        deputy_id=ContactId(row.deputy_id) if row.deputy_id is not None else None,
    )


def _replacement(row: Any) -> Replacement:
    return Replacement(
        id=ReplacementId(row.id),
        name=row.name,
        start_at=row.start_at,
        end_at=row.end_at,
        layers=tuple(map(_layer, row.layers)),
    )


def _imported_shift(row: Any) -> ImportedShift:
    return ImportedShift(
        id=ImportedShiftId(row.id),
        calendar_id=CalendarId(row.calendar_id),
        contact_id=ContactId(row.contact_id),
        start_at=row.start_at,
        end_at=row.end_at,
    )


def _policy(levels: Iterable[Mapping[str, Any]]) -> EscalationPolicy:
    return EscalationPolicy(
        tuple(
            Level(
                tuple(
                    Target(TargetKind(target["kind"]), UUID(target["id"]), deputy=target.get("deputy", False))
                    for target in level["targets"]
                ),
                level["wait_seconds"],
            )
            for level in levels
        )
    )


def _endpoint(row: Any, opened: Opened) -> Endpoint:
    return Endpoint(
        id=EndpointId(row.id),
        url=opened(row.id, row.address),
        description=row.description,
        created_at=row.created_at,
    )


def _credential(row: Any) -> Credential:
    return Credential(
        client_id=row.client_id,
        kind=CredentialKind(row.kind),
        name=row.name,
        roles=tuple(Role(role) for role in row.roles),
        contact_id=ContactId(row.contact_id) if row.contact_id is not None else None,
        secret_sha256=row.secret_sha256,
        revoked_at=row.revoked_at,
        version=row.version,
    )

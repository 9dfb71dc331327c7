"""Between CAP messages and our own alerts: a message becomes the material of a draft, an alert becomes a message.

CAP only ever drafts: a second person releases. XML signatures are not looked at: who sent a message is known from the
credential that it came with.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import pycountry

from services.alerting.cap.message import (
    CapArea,
    CapInfo,
    CapMessage,
    Findings,
    Reference,
    Scope,
    read_instant,
    write_instant,
)
from services.alerting.cap.profile import (
    ACKNOWLEDGE_BY_PARAMETER,
    COUNTRY_GEOCODE,
    COVERAGE_GOAL_PARAMETER,
    FOR_INFORMATION_PARAMETER,
    PARAMETER_PREFIX,
    PRECEDENCE_PARAMETER,
    PROFILE,
    TLP_PARAMETER,
    TRANSLATION_PARAMETER,
    Country,
    check_profile,
    countries_of,
    country,
    expires_at_of,
    is_english,
    own_parameters,
    read_coverage_goal,
)
from shared.contracts import Area, CoverageGoal, Info, MsgType, Precedence, Status, Tlp

_UNPRINTABLE = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True, slots=True)
class CapDraft:
    """What a draft takes from a message. `left_out` names the elements that have no place in an alert of ours."""

    identifier: str
    sender: str
    sent_at: datetime
    status: Status
    msg_type: MsgType
    headline: str
    info: tuple[Info, ...]
    countries: tuple[Country, ...]
    to: tuple[str, ...]
    for_information: tuple[str, ...]
    precedence: Precedence
    tlp: Tlp
    acknowledge_within_seconds: int | None
    coverage_goal: CoverageGoal | None
    expires_at: datetime
    note: str | None
    references: tuple[Reference, ...]
    incidents: tuple[str, ...]
    left_out: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CapSource:
    """An alert of ours, as far as CAP can say it. `countries` are ISO 3166-1 codes of two or three letters.

    `sender` names the raiser's sending system: unique in the world, without spaces, such as a domain name.
    """

    identifier: str
    sender: str
    sent_at: datetime
    status: Status
    msg_type: MsgType
    to: tuple[str, ...]
    precedence: Precedence
    tlp: Tlp
    expires_at: datetime
    info: tuple[Info, ...]
    countries: tuple[str, ...] = ()
    for_information: tuple[str, ...] = ()
    acknowledge_by_at: datetime | None = None
    coverage_goal: CoverageGoal | None = None
    note: str | None = None
    references: tuple[Reference, ...] = ()
    incidents: tuple[str, ...] = ()
    source: str | None = None


def to_draft(message: CapMessage) -> CapDraft:
    """What a draft takes from `message`. Raises `Invalid` with code `cap_profile` and all mistakes.

    Ack and Error are refused: an answer is given by a named human, never by a message.
    """
    findings = Findings(check_profile(message))
    if message.msg_type in (MsgType.ACK, MsgType.ERROR):
        detail = f"{message.msg_type} drafts no alert; people acknowledge with POST /v1/acknowledgements."
        findings.add("alert/msgType", detail, "not_draftable")
    findings.raise_if_any("The message leaves our CAP profile", "cap_profile")
    english = next(info for info in message.info if is_english(info))
    ours = own_parameters(english)
    acknowledge_by_at = read_instant(ours.get(ACKNOWLEDGE_BY_PARAMETER, ""))
    return CapDraft(
        identifier=message.identifier,
        sender=message.sender,
        sent_at=message.sent.astimezone(UTC),
        status=message.status,
        msg_type=message.msg_type,
        headline=english.headline or english.event,
        info=tuple(_own_info(info) for info in message.info),
        countries=countries_of(message.info),
        to=message.addresses,
        for_information=tuple(ours.get(FOR_INFORMATION_PARAMETER, "").split()),
        precedence=Precedence(ours[PRECEDENCE_PARAMETER]),
        tlp=Tlp(ours.get(TLP_PARAMETER, Tlp.AMBER)),
        acknowledge_within_seconds=_seconds(message.sent, acknowledge_by_at),
        coverage_goal=read_coverage_goal(ours.get(COVERAGE_GOAL_PARAMETER, "")),
        expires_at=expires_at_of(message) or message.sent,
        note=message.note,
        references=message.references,
        incidents=message.incidents,
        left_out=tuple(_left_out(message)),
    )


def _seconds(start: datetime, end: datetime | None) -> int | None:
    return None if end is None else int((end - start).total_seconds())


def _own_info(info: CapInfo) -> Info:
    values = {name: getattr(info, name) for name in Info.model_fields}
    values["headline"] = info.headline or info.event
    values["is_translation"] = own_parameters(info).get(TRANSLATION_PARAMETER) == "true"
    values["parameters"] = tuple(pair for pair in info.parameters if not pair[0].startswith(PARAMETER_PREFIX))
    values["areas"] = tuple(
        Area(description=a.description, polygons=a.polygons, circles=a.circles, geocodes=a.geocodes) for a in info.areas
    )
    return Info(**values)


def _left_out(message: CapMessage) -> Iterable[str]:
    if message.source is not None:
        yield "alert/source"
    if message.restriction is not None:
        yield "alert/restriction"
    if len(message.codes) > 1:
        yield "alert/code"
    if message.signatures:
        yield "alert/Signature"
    for number, info in enumerate(message.info, start=1):
        path = f"alert/info[{number}]"
        extra = {
            "audience": info.audience,
            "eventCode": info.event_codes,
            "effective": info.effective,
            "resource": info.resources,
        }
        yield from (f"{path}/{name}" for name, value in extra.items() if value)
        for place, area in enumerate(info.areas, start=1):
            if area.altitude_feet is not None:
                yield f"{path}/area[{place}]/altitude"


def from_source(source: CapSource) -> CapMessage:
    """`source` as a message in our profile. Raises `Invalid` with code `cap_profile` if it cannot be said there.

    Times lose their fractions of a second and coordinates what is finer than a centimetre; characters that XML cannot
    hold become U+FFFD. Countries that no area names become areas of their own.
    """
    goal = source.coverage_goal
    shared = {
        PRECEDENCE_PARAMETER: str(source.precedence),
        TLP_PARAMETER: str(source.tlp),
        ACKNOWLEDGE_BY_PARAMETER: source.acknowledge_by_at and write_instant(_whole(source.acknowledge_by_at)),
        FOR_INFORMATION_PARAMETER: " ".join(source.for_information),
        COVERAGE_GOAL_PARAMETER: goal and f"{goal.partners}/{goal.within_seconds}",
    }
    parameters = tuple((name, value) for name, value in shared.items() if value)
    message = CapMessage(
        identifier=source.identifier,
        sender=source.sender,
        sent=_whole(source.sent_at),
        status=source.status,
        msg_type=source.msg_type,
        scope=Scope.PRIVATE,
        source=_clean(source.source) or None,
        addresses=source.to,
        codes=(PROFILE,),
        note=_clean(source.note) or None,
        references=tuple(replace(r, sent=r.sent.replace(microsecond=0)) for r in source.references),
        incidents=tuple(" ".join(_clean(incident).split()) for incident in source.incidents),
        info=tuple(_cap_info(info, source, parameters) for info in source.info),
    )
    Findings(check_profile(message)).raise_if_any("The alert cannot be said in our CAP profile", "cap_profile")
    return message


def _cap_info(info: Info, source: CapSource, shared: tuple[tuple[str, str], ...]) -> CapInfo:
    own = ((TRANSLATION_PARAMETER, "true"),) if info.is_translation else ()
    theirs = tuple(pair for pair in info.parameters if not pair[0].startswith(PARAMETER_PREFIX))
    named = {value for area in info.areas for name, value in area.geocodes if name == COUNTRY_GEOCODE}
    areas = [_cap_area(area) for area in info.areas]
    for code in source.countries:
        found = country(code)
        alpha_3 = code if found is None else found.alpha_3
        if alpha_3 not in named:
            areas.append(CapArea(description=_country_name(alpha_3), geocodes=((COUNTRY_GEOCODE, alpha_3),)))
    return CapInfo(
        language=info.language,
        categories=info.categories,
        event=_clean(info.event),
        response_types=info.response_types,
        urgency=info.urgency,
        severity=info.severity,
        certainty=info.certainty,
        onset=None if info.onset is None else _whole(info.onset),
        expires=_whole(source.expires_at),
        sender_name=_clean(info.sender_name) or None,
        headline=_clean(info.headline),
        description=_clean(info.description),
        instruction=_clean(info.instruction),
        web=info.web,
        contact=_clean(info.contact) or None,
        parameters=(*shared, *own, *((_clean(name), _clean(value)) for name, value in theirs)),
        areas=tuple(areas),
    )


def _cap_area(area: Area) -> CapArea:
    return CapArea(
        description=_clean(area.description),
        polygons=tuple(tuple((round(x, 7), round(y, 7)) for x, y in ring) for ring in area.polygons),
        circles=tuple((round(x, 7), round(y, 7), round(radius, 7)) for x, y, radius in area.circles),
        geocodes=tuple((_clean(name), _clean(value)) for name, value in area.geocodes),
    )


def _country_name(alpha_3: str) -> str:
    found = pycountry.countries.get(alpha_3=alpha_3)
    return alpha_3 if found is None else str(found.name)


def _clean(text: str | None) -> str:
    return _UNPRINTABLE.sub("\ufffd", text or "").strip()


def _whole(instant: datetime) -> datetime:
    return instant.astimezone(UTC).replace(microsecond=0)

"""What an alert says: composing it from what somebody asked for, its defaults, and every limit on it. Pure.

The cast: a `Proposal` is what a person or a CAP message asks for, with holes; `compose` fills the holes from an earlier
`Content` (an edit, an Update) or from the defaults; `check` names every mistake at once. Precedence (speed), severity
(of the crisis) and TLP (who may read) are independent and never derived from one another.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from services.alerting import countries as iso
from shared.contracts import (
    DEFAULT_DEADLINES,
    Area,
    Category,
    Certainty,
    Code,
    CoverageGoal,
    Deadlines,
    Info,
    Precedence,
    ResponseType,
    Severity,
    Status,
    Tlp,
    Urgency,
)
from shared.errors import FieldError, Invalid
from shared.events import Value

COUNTRY_GEOCODE = "iso3166-1-alpha-3"
"""The name of the geocode that every language block carries at least once."""

URGENT_WORDS_MAX = 200
"""Words of headline, description and instruction together, per language, at FLASH and IMMEDIATE."""

CHARACTERS_PER_WORD = 12
"""Text counts as at least one word per this many characters, so that leaving out spaces does not lift the limit."""

HEADLINE_CHARACTERS_MAX = 160
"""CAP 1.2 advises it, because some displays hold no more."""

DESCRIPTION_CHARACTERS_MAX = 8_000
INSTRUCTION_CHARACTERS_MAX = 4_000
NOTE_CHARACTERS_MAX = 2_000
EVENT_CHARACTERS_MAX = 100
AREA_DESCRIPTION_CHARACTERS_MAX = 500
PARAMETER_CHARACTERS_MAX = 500
LANGUAGES_MAX = 12
AREAS_MAX = 50
GEOCODES_MAX = 100
PARAMETERS_MAX = 30
POSITIONS_MAX = 1_000
"""Corners of all polygons together, and circles."""

INFO_BYTES_MAX = 16_000
"""All language blocks together as JSON in UTF-8: what is sent to partners stays below 20 kB."""

RECIPIENTS_MAX = 1_000
EXPIRES_AFTER_UNREACHED = timedelta(hours=24)
"""An alert lives at least this long beyond the moment at which its last partner would be unreached."""

EXPIRES_WITHIN_MAX = timedelta(days=180)
ACKNOWLEDGE_WITHIN_SECONDS_MIN = 60
COVERAGE_WITHIN_SECONDS_MIN = 60

DEFAULT_EVENT = "Displacement crisis"
RESERVED_PARAMETERS = "rdn:"
"""Parameters with this prefix are written by our CAP profile from the alert's own fields."""

_URGENT = frozenset({Precedence.FLASH, Precedence.IMMEDIATE})
_CONTROLS_IN_LINE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
"""Unicode's categories Cc and Cs: control characters, and halves of a pair that stand alone."""

_CONTROLS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
"""The same where text may have lines and columns."""

_LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]{2,8}){0,3}", re.ASCII)
_EXERCISE = "EXERCISE"


@dataclass(frozen=True, slots=True)
class Network:
    """What a message is checked against: the known partner codes with whether they are active, and the deadlines."""

    partners: Mapping[str, bool]
    deadlines: Mapping[Precedence, Deadlines] = dataclasses.field(default_factory=lambda: DEFAULT_DEADLINES)


class Content(Value):
    """Everything that an alert says and to whom; never changed once released. `expires_at` None: decided at release."""

    status: Status = Status.ACTUAL
    precedence: Precedence
    tlp: Tlp = Tlp.AMBER
    info: tuple[Info, ...]
    to: tuple[Code, ...]
    for_information: tuple[Code, ...] = ()
    expires_at: datetime | None = None
    acknowledge_within_seconds: int | None = None
    coverage_goal: CoverageGoal | None = None
    answers_visible: bool = False
    note: str | None = None

    @property
    def audience(self) -> frozenset[str]:
        """Everybody who is addressed."""
        return frozenset(self.to) | frozenset(self.for_information)

    @property
    def countries(self) -> tuple[str, ...]:
        """The alpha-3 codes of all areas, in order of appearance."""
        return tuple(dict.fromkeys(code for info in self.info for code in _countries_in(info.areas)))


@dataclass(frozen=True, slots=True)
class Proposal:
    """What somebody asks an alert to say; None is "not said". Either `info`, or short fields for one English block."""

    precedence: Precedence | None = None
    to: tuple[str, ...] | None = None
    for_information: tuple[str, ...] | None = None
    countries: tuple[str, ...] | None = None
    info: tuple[Info, ...] | None = None
    headline: str | None = None
    description: str | None = None
    instruction: str | None = None
    event: str | None = None
    categories: tuple[Category, ...] | None = None
    response_types: tuple[ResponseType, ...] | None = None
    urgency: Urgency | None = None
    severity: Severity | None = None
    certainty: Certainty | None = None
    onset: datetime | None = None
    areas: tuple[Area, ...] | None = None
    status: Status | None = None
    tlp: Tlp | None = None
    expires_at: datetime | None = None
    acknowledge_within_seconds: int | None = None
    coverage_goal: CoverageGoal | None = None
    answers_visible: bool | None = None
    note: str | None = None

    def short_fields(self) -> dict[str, object]:
        """The short fields that were said."""
        return {name: value for name in _SHORT if (value := getattr(self, name)) is not None}


_SHORT = (
    "headline",
    "description",
    "instruction",
    "event",
    "categories",
    "response_types",
    "urgency",
    "severity",
    "certainty",
    "onset",
    "areas",
)


def compose(proposal: Proposal, *, base: Content | None = None) -> Content:
    """The content that a proposal asks for; what it leaves open comes from `base`, else from the defaults.

    Countries that are said replace those of `base`; beside areas that are said, they add to them.
    Raises `Invalid` for what is missing or contradicts itself. Limits are `check`'s business.
    """
    errors: list[FieldError] = []
    if base is None:
        errors += [
            FieldError(name, f"{name} is required", "missing")
            for name in ("precedence", "to")
            if getattr(proposal, name) is None
        ]
    info = _compose_info(proposal, base, errors)
    alpha_3 = alpha_3_codes(proposal.countries or (), errors)
    areas_are_given = base is None or proposal.info is not None or proposal.areas is not None
    if proposal.countries is not None and not areas_are_given and not errors:
        info = _without_other_countries(info, frozenset(alpha_3), errors)
    if errors:
        raise invalid(errors)
    said = {
        name: value
        for name in (
            "precedence",
            "to",
            "for_information",
            "status",
            "tlp",
            "acknowledge_within_seconds",
            "coverage_goal",
            "answers_visible",
            "note",
        )
        if (value := getattr(proposal, name)) is not None
    }
    kept = {} if base is None else {name: getattr(base, name) for name in Content.model_fields}
    expires = [proposal.expires_at, *(block.expires for block in proposal.info or ())]
    latest = max((instant for instant in expires if instant is not None), default=None)
    if latest is not None:
        said["expires_at"] = latest
    blocks = tuple(_with_countries(block, alpha_3).model_copy(update={"expires": None}) for block in info)
    return Content.model_validate({**kept, **said, "info": blocks})


def check(content: Content, *, raiser: str, network: Network, trusted: frozenset[str] = frozenset()) -> None:
    """Raises one `Invalid` that names every broken rule.

    `trusted` were addressed by an earlier message of the chain: a correction reaches them, active or not.
    """
    errors: list[FieldError] = []
    _check_head(content, network, errors)
    _check_audience(content, raiser, network.partners, trusted, errors)
    _check_blocks(content, errors)
    for number, block in enumerate(content.info):
        _check_block(block, f"info[{number}]", content, errors)
    if errors:
        raise invalid(errors)


def check_audience(content: Content, *, raiser: str, network: Network, trusted: frozenset[str]) -> None:
    """Raises one `Invalid` for whom the content addresses, whatever it says; `trusted` as for `check`."""
    errors: list[FieldError] = []
    _check_audience(content, raiser, network.partners, trusted, errors)
    if errors:
        raise invalid(errors)


def expiry_at_release(
    content: Content,
    *,
    network: Network,
    released_at: datetime,
    not_before: datetime | None = None,
    lasts: timedelta | None = None,
) -> datetime:
    """When the alert expires: as asked, or as early as is allowed. Raises `Invalid` for an instant that is too early.

    `not_before` is when the message that this one corrects would have expired: never shortened silently. `lasts` is how
    long a line test is open: it outlives no deadline, because nobody takes a partner over that has missed a test.
    """
    if lasts is not None:
        return released_at + lasts
    earliest = earliest_expiry(content.precedence, released_at, network.deadlines)
    if content.expires_at is None:
        return max(earliest, not_before or earliest)
    if content.expires_at < earliest:
        detail = (
            f"a {content.precedence} alert must not expire before {_written(earliest)}: that is "
            f"{_hours(EXPIRES_AFTER_UNREACHED)} h after its last partner would be unreached"
        )
        raise Invalid(detail, code="expires_too_early", field="expires")
    if content.expires_at > released_at + EXPIRES_WITHIN_MAX:
        detail = f"an alert expires within {EXPIRES_WITHIN_MAX.days} days; renew it by an Update"
        raise Invalid(detail, code="expires_too_late", field="expires")
    return content.expires_at


def earliest_expiry(
    precedence: Precedence, released_at: datetime, deadlines: Mapping[Precedence, Deadlines] = DEFAULT_DEADLINES
) -> datetime:
    """The least `expires` of an alert: the network's unreached time and a day more."""
    unreached = timedelta(seconds=deadlines[precedence].unreached_after_seconds)
    return released_at + unreached + EXPIRES_AFTER_UNREACHED


def shown_headline(status: Status, headline: str) -> str:
    """The headline as it is shown anywhere: an exercise says so first."""
    if status is Status.EXERCISE and not headline.upper().startswith(_EXERCISE):
        return f"{_EXERCISE} {headline}"
    return headline


def check_text(text: str, field: str, characters_max: int, errors: list[FieldError], *, one_line: bool = False) -> None:
    """Adds a mistake for text that is too long, or holds characters that no display or database takes."""
    if len(text) > characters_max:
        detail = f"{field} has {len(text)} characters; at most {characters_max} are allowed"
        errors.append(FieldError(field, detail, "too_long"))
    if (_CONTROLS_IN_LINE if one_line else _CONTROLS).search(text):
        errors.append(FieldError(field, f"{field} holds control characters; write plain text", "control_characters"))


def word_count(*texts: str) -> int:
    """Words as the urgent limit counts them: runs between spaces, and long runs by their length."""
    return sum(max(len(text.split()), math.ceil(len(text) / CHARACTERS_PER_WORD)) for text in texts)


# --- composing --------------------------------------------------------------------------------------------------------


def _compose_info(proposal: Proposal, base: Content | None, errors: list[FieldError]) -> tuple[Info, ...]:
    short = proposal.short_fields()
    if proposal.info is not None:
        if short:
            detail = f"give either info or the short fields, not both ({', '.join(short)})"
            errors.append(FieldError("info", detail, "either_or"))
        return proposal.info
    if base is None:
        if "headline" not in short:
            errors.append(
                FieldError("headline", "headline is required (or info, with one block per language)", "missing")
            )
            return ()
        return (Info.model_validate({"event": DEFAULT_EVENT, **short}),)
    if not short:
        return base.info
    if len(base.info) > 1:
        detail = "this alert speaks several languages: give info with every block, so that they keep saying the same"
        errors.append(FieldError("info", detail, "every_language"))
        return base.info
    return (base.info[0].model_copy(update=short),)


def alpha_3_codes(codes: Iterable[str], errors: list[FieldError]) -> list[str]:
    """The alpha-3 codes of what people wrote, each once; adds a mistake for every unknown one."""
    found = []
    for number, code in enumerate(codes):
        known = iso.alpha_3(code)
        if known is None:
            detail = "countries holds ISO 3166-1 codes, alpha-3 or alpha-2, for example AFG"
            errors.append(FieldError(f"countries[{number}]", detail, "unknown_country"))
        elif known not in found:
            found.append(known)
    return found


def _without_other_countries(
    blocks: tuple[Info, ...], wanted: frozenset[str], errors: list[FieldError]
) -> tuple[Info, ...]:
    """The blocks without the areas that are nothing but a country which is not wanted any more.

    Adds a mistake where such a country belongs to an area that says more: only people know what the area becomes.
    """
    stuck = {
        code
        for block in blocks
        for area in block.areas
        if not _is_in_none_but(area, wanted) and not _is_nothing_but_countries(area, wanted)
        for code in _countries_in((area,))
        if code not in wanted
    }
    if stuck:
        detail = (
            f"{', '.join(sorted(stuck))} is the country of an area that has shapes, other geocodes or further "
            "countries: give the areas too, as they are to be"
        )
        errors.append(FieldError("countries", detail, "country_of_area"))
    return tuple(
        block.model_copy(update={"areas": tuple(area for area in block.areas if _is_in_none_but(area, wanted))})
        for block in blocks
    )


def _is_in_none_but(area: Area, wanted: frozenset[str]) -> bool:
    return wanted.issuperset(_countries_in((area,)))


def _is_nothing_but_countries(area: Area, wanted: frozenset[str]) -> bool:
    """Whether the area consists of countries alone, none of which is wanted."""
    if area.polygons or area.circles:
        return False
    return all(name == COUNTRY_GEOCODE and code not in wanted for name, code in area.geocodes)


def _with_countries(block: Info, alpha_3: list[str]) -> Info:
    """The block with an area for every country that its areas do not name yet."""
    present = set(_countries_in(block.areas))
    added = tuple(
        Area(description=iso.name_of(code), geocodes=((COUNTRY_GEOCODE, code),))
        for code in alpha_3
        if code not in present
    )
    return block.model_copy(update={"areas": block.areas + added}) if added else block


def _countries_in(areas: Iterable[Area]) -> list[str]:
    return [value for area in areas for name, value in area.geocodes if name == COUNTRY_GEOCODE]


# --- checking ---------------------------------------------------------------------------------------------------------


def _check_head(content: Content, network: Network, errors: list[FieldError]) -> None:
    if content.status not in (Status.ACTUAL, Status.EXERCISE, Status.TEST):
        errors.append(FieldError("status", "status is Actual, Exercise or Test", "status_not_allowed"))
    if content.note is not None:
        check_text(content.note, "note", NOTE_CHARACTERS_MAX, errors)
    if content.status is Status.EXERCISE and not (content.note or "").strip():
        errors.append(FieldError("note", "an Exercise needs a note that says which exercise it is", "missing"))
    within, table = content.acknowledge_within_seconds, network.deadlines[content.precedence]
    if within is not None and not ACKNOWLEDGE_WITHIN_SECONDS_MIN <= within <= table.acknowledge_within_seconds:
        detail = (
            f"acknowledge_within_seconds is between {ACKNOWLEDGE_WITHIN_SECONDS_MIN} and "
            f"{table.acknowledge_within_seconds} at {content.precedence}: an alert may only shorten the table"
        )
        errors.append(FieldError("acknowledge_within_seconds", detail, "out_of_range"))
    if content.coverage_goal is not None:
        _check_coverage_goal(content.coverage_goal, content, table, errors)


def _check_coverage_goal(goal: CoverageGoal, content: Content, deadlines: Deadlines, errors: list[FieldError]) -> None:
    if not 1 <= goal.partners <= len(content.to):
        detail = f"the goal counts partners in to: 1 to {len(content.to)} of them can acknowledge"
        errors.append(FieldError("coverage_goal.partners", detail, "out_of_range"))
    # Later than that nobody is left to be asked: every partner has answered, or people call its office.
    latest = deadlines.unreached_after_seconds
    if not COVERAGE_WITHIN_SECONDS_MIN <= goal.within_seconds <= latest:
        detail = (
            f"the goal is due between {COVERAGE_WITHIN_SECONDS_MIN} and {latest} seconds after release at "
            f"{content.precedence}: afterwards silent partners are unreached"
        )
        errors.append(FieldError("coverage_goal.within_seconds", detail, "out_of_range"))


def _check_audience(
    content: Content, raiser: str, partners: Mapping[str, bool], trusted: frozenset[str], errors: list[FieldError]
) -> None:
    if not content.to:
        errors.append(FieldError("to", "at least one partner must be addressed in to", "empty_audience"))
    if len(content.to) + len(content.for_information) > RECIPIENTS_MAX:
        errors.append(FieldError("to", f"at most {RECIPIENTS_MAX} partners can be addressed", "too_many"))
        return
    addressed = frozenset(content.to)
    for field, codes in (("to", content.to), ("for_information", content.for_information)):
        named: set[str] = set()
        for number, code in enumerate(codes):
            where = f"{field}[{number}]"
            if code == raiser:
                detail = f"{code} raises this alert and cannot be addressed by it"
                errors.append(FieldError(where, detail, "raiser_addressed"))
            elif code in named:
                errors.append(FieldError(where, f"{code} is named twice", "duplicate"))
            elif field == "for_information" and code in addressed:
                detail = f"{code} is in to already; a partner is addressed once"
                errors.append(FieldError(where, detail, "duplicate"))
            elif code not in partners and code not in trusted:
                detail = (
                    f"{code} is no partner of this network; known are {', '.join(sorted(partners)[:30]) or 'none yet'}"
                )
                errors.append(FieldError(where, detail, "unknown_partner"))
            elif not partners.get(code, False) and code not in trusted:
                errors.append(FieldError(where, f"{code} is not active and cannot be addressed", "inactive_partner"))
            named.add(code)


def _check_blocks(content: Content, errors: list[FieldError]) -> None:
    """The rules that hold between languages."""
    blocks = content.info
    if not 1 <= len(blocks) <= LANGUAGES_MAX:
        errors.append(FieldError("info", f"info holds 1 to {LANGUAGES_MAX} language blocks", "too_many"))
        return
    languages = [block.language.lower() for block in blocks]
    if not any(language.split("-")[0] == "en" for language in languages):
        errors.append(FieldError("info", "at least one block must be in English", "english_missing"))
    if len(set(languages)) != len(languages):
        errors.append(FieldError("info", "each language has one block", "duplicate"))
    errors += [
        FieldError(f"info[1].{name}", f"{name} must be equal in every language", "not_equal")
        for name in ("urgency", "severity", "certainty")
        if len({getattr(block, name) for block in blocks}) > 1
    ]
    size_bytes = sum(len(block.model_dump_json().encode()) for block in blocks)
    if size_bytes > INFO_BYTES_MAX:
        detail = (
            f"the texts and areas together have {size_bytes} bytes in UTF-8, where letters of many scripts take two to "
            f"four; at most {INFO_BYTES_MAX} bytes are allowed: shorten them or send a link"
        )
        errors.append(FieldError("info", detail, "too_long"))


def _check_block(block: Info, field: str, content: Content, errors: list[FieldError]) -> None:
    if not _LANGUAGE.fullmatch(block.language):
        detail = "language is a BCP 47 tag, for example en or pt-BR"
        errors.append(FieldError(f"{field}.language", detail, "invalid_language"))
    if not block.headline.strip():
        errors.append(FieldError(f"{field}.headline", "headline must not be empty", "missing"))
    if not block.event.strip():
        errors.append(FieldError(f"{field}.event", "event must not be empty", "missing"))
    check_text(block.headline, f"{field}.headline", HEADLINE_CHARACTERS_MAX, errors, one_line=True)
    check_text(block.event, f"{field}.event", EVENT_CHARACTERS_MAX, errors, one_line=True)
    check_text(block.description, f"{field}.description", DESCRIPTION_CHARACTERS_MAX, errors)
    check_text(block.instruction, f"{field}.instruction", INSTRUCTION_CHARACTERS_MAX, errors)
    words = word_count(block.headline, block.description, block.instruction)
    if content.precedence in _URGENT and words > URGENT_WORDS_MAX:
        detail = (
            f"headline, description and instruction have {words} words in {block.language}; "
            f"at {content.precedence} at most {URGENT_WORDS_MAX} are read in time"
        )
        errors.append(FieldError(field, detail, "too_many_words"))
    if not block.categories or len(set(block.categories)) != len(block.categories):
        errors.append(FieldError(f"{field}.categories", "categories holds at least one value, each once", "invalid"))
    if len(set(block.response_types)) != len(block.response_types):
        errors.append(FieldError(f"{field}.response_types", "response_types holds each value once", "duplicate"))
    _check_parameters(block, field, errors)
    _check_areas(block, field, errors)


def _check_parameters(block: Info, field: str, errors: list[FieldError]) -> None:
    if len(block.parameters) > PARAMETERS_MAX:
        errors.append(FieldError(f"{field}.parameters", f"at most {PARAMETERS_MAX} parameters are kept", "too_many"))
    for number, (name, value) in enumerate(block.parameters):
        where = f"{field}.parameters[{number}]"
        if name.lower().startswith(RESERVED_PARAMETERS) or not name.strip():
            detail = f"a parameter needs a name that does not begin with {RESERVED_PARAMETERS}"
            errors.append(FieldError(where, detail, "reserved_parameter"))
        check_text(name, where, PARAMETER_CHARACTERS_MAX, errors, one_line=True)
        check_text(value, where, PARAMETER_CHARACTERS_MAX, errors)
    for name in ("sender_name", "web", "contact"):
        check_text(getattr(block, name) or "", f"{field}.{name}", PARAMETER_CHARACTERS_MAX, errors, one_line=True)
    if block.web is not None and not block.web.startswith("https://"):
        errors.append(FieldError(f"{field}.web", "web is an https:// address", "invalid_web"))


def _check_areas(block: Info, field: str, errors: list[FieldError]) -> None:
    codes = _countries_in(block.areas)
    if not codes:
        detail = f"at least one country is required, in countries or as an area's geocode {COUNTRY_GEOCODE}"
        errors.append(FieldError("countries" if field == "info[0]" else f"{field}.areas", detail, "country_missing"))
    errors.extend(
        FieldError(f"{field}.areas", f"{code[:10]!r} is no ISO 3166-1 alpha-3 code", "unknown_country")
        for code in codes
        if code not in iso.ALPHA_3
    )
    positions = sum(len(area.circles) + sum(map(len, area.polygons)) for area in block.areas)
    if len(block.areas) > AREAS_MAX or positions > POSITIONS_MAX:
        detail = (
            f"at most {AREAS_MAX} areas with {POSITIONS_MAX} positions together are kept; use geocodes for large areas"
        )
        errors.append(FieldError(f"{field}.areas", detail, "too_many"))
        return
    for number, area in enumerate(block.areas):
        _check_area(area, f"{field}.areas[{number}]", errors)


def _check_area(area: Area, where: str, errors: list[FieldError]) -> None:
    if not area.description.strip():
        errors.append(FieldError(f"{where}.description", "an area needs a description", "missing"))
    check_text(area.description, f"{where}.description", AREA_DESCRIPTION_CHARACTERS_MAX, errors)
    if len(area.geocodes) > GEOCODES_MAX:
        errors.append(FieldError(f"{where}.geocodes", f"at most {GEOCODES_MAX} geocodes are kept", "too_many"))
    for name, value in area.geocodes:
        check_text(name, f"{where}.geocodes", PARAMETER_CHARACTERS_MAX, errors, one_line=True)
        check_text(value, f"{where}.geocodes", PARAMETER_CHARACTERS_MAX, errors, one_line=True)
    for ring in area.polygons:
        if len(ring) < 4 or ring[0] != ring[-1]:
            detail = "a polygon has at least four positions, of which the last repeats the first"
            errors.append(FieldError(f"{where}.polygons", detail, "open_polygon"))
        errors.extend(_position_errors(ring, f"{where}.polygons"))
    errors.extend(_position_errors([circle[:2] for circle in area.circles], f"{where}.circles"))
    if any(not 0 <= radius_km <= 20_038 for _, _, radius_km in area.circles):
        detail = "a circle's radius is in kilometres, from 0 to half the way around the earth"
        errors.append(FieldError(f"{where}.circles", detail, "out_of_range"))


def _position_errors(positions: Iterable[tuple[float, float]], where: str) -> list[FieldError]:
    if all(-180 <= longitude <= 180 and -90 <= latitude <= 90 for longitude, latitude in positions):
        return []
    detail = "a position is [longitude, latitude] in degrees, as in GeoJSON"
    return [FieldError(where, detail, "out_of_range")]


def invalid(errors: list[FieldError]) -> Invalid:
    """One error for all mistakes; its code is the mistake's own if there is only one."""
    detail = errors[0].detail if len(errors) == 1 else f"{len(errors)} fields are wrong"
    return Invalid(detail, code=errors[0].code if len(errors) == 1 else "invalid", errors=errors)


def _written(instant: datetime) -> str:
    return instant.strftime("%Y-%m-%dT%H:%M:%SZ")


def _hours(span: timedelta) -> int:
    return int(span.total_seconds() // 3600)

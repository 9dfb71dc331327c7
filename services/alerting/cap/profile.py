"""Our CAP profile: what this network asks of a message beyond the standard. It restricts CAP and never extends it.

It asks for: one `code` with `PROFILE`; scope Private, with the codes of the partners that must acknowledge as
`addresses`; an English info block; `expires` in every block; urgency, severity and certainty that do not depend on
the language; a country, as a geocode named `COUNTRY_GEOCODE`; `references` in every message but an Alert, and none in
an Alert, which by definition is the first of its chain; a `note` in Exercise and Cancel; and the parameters named
`rdn:…` below, alike in every block.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import urlsplit

import pycountry

from services.alerting.cap.message import (
    CapInfo,
    CapMessage,
    Findings,
    Scope,
    explain_instant,
    prose_mistakes,
    quoted,
    read_instant,
)
from shared.contracts import CoverageGoal, Info, MsgType, Precedence, Status, Tlp
from shared.errors import FieldError

PROFILE = "urn:redphone:cap:profile:1.0"
COUNTRY_GEOCODE = "iso3166-1-alpha-3"

PARAMETER_PREFIX = "rdn:"
PRECEDENCE_PARAMETER = "rdn:precedence"
TLP_PARAMETER = "rdn:tlp"
ACKNOWLEDGE_BY_PARAMETER = "rdn:ack_by"
FOR_INFORMATION_PARAMETER = "rdn:for_information"
COVERAGE_GOAL_PARAMETER = "rdn:coverage_goal"
"""How many of <addresses> are to acknowledge within how many seconds of <sent>: `8/900`."""
TRANSLATION_PARAMETER = "rdn:is_translation"
"""`true` in a block whose text was translated from another block; the one parameter that belongs to a single block."""

SHARED_PARAMETERS = (
    PRECEDENCE_PARAMETER,
    TLP_PARAMETER,
    ACKNOWLEDGE_BY_PARAMETER,
    FOR_INFORMATION_PARAMETER,
    COVERAGE_GOAL_PARAMETER,
)

_COVERAGE_GOAL = re.compile(r"([1-9][0-9]{0,3})/([1-9][0-9]{0,7})", re.ASCII)
_PARTNER = re.compile(r"[A-Z]{2}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Country:
    """A country by both of its ISO 3166-1 codes."""

    alpha_2: str
    alpha_3: str


def country(code: str) -> Country | None:
    """The country of an ISO 3166-1 code of two or three capital letters, or None."""
    if not code.isascii() or not code.isupper() or len(code) not in (2, 3):
        return None
    found = pycountry.countries.get(alpha_2=code) if len(code) == 2 else pycountry.countries.get(alpha_3=code)
    return None if found is None else Country(found.alpha_2, found.alpha_3)


def check_profile(message: CapMessage) -> list[FieldError]:
    """Where a message leaves our profile; empty if nowhere. The rules are those in this module's docstring."""
    findings = Findings(prose_mistakes(message))
    _check_envelope(message, findings)
    for number, info in enumerate(message.info, start=1):
        path = f"alert/info[{number}]"
        if info.expires is None:
            findings.add(f"{path}/expires", "Our profile needs <expires> in every info block.", "missing")
        elif info.expires <= message.sent:
            findings.add(f"{path}/expires", "<expires> must be later than <sent>.", "wrong_time")
        if info.web is not None and urlsplit(info.web).scheme.lower() not in ("http", "https"):
            findings.add(f"{path}/web", "Only http and https addresses are shown to people.", "wrong_uri")
        _check_geocodes(info, path, findings)
        _check_parameters(message, number, findings)
    _check_languages(message, findings)
    if message.info and not countries_of(message.info):
        detail = f"Name a country: <geocode> with valueName {COUNTRY_GEOCODE} and a value such as AFG."
        findings.add("alert/info[1]/area[1]/geocode", detail, "missing")
    return findings.errors


def _check_envelope(message: CapMessage, findings: Findings) -> None:
    if message.codes.count(PROFILE) != 1:
        findings.add("alert/code", f"Exactly one <code> must be {PROFILE}.", "wrong_profile")
    if message.scope is not Scope.PRIVATE:
        findings.add("alert/scope", "Our profile knows only Private, with <addresses>.", "not_in_list")
    _check_partners(message.addresses, "alert/addresses", findings)
    if message.msg_type is MsgType.ALERT and message.references:
        detail = "An Alert is the first of its chain; what corrects an earlier message is an Update."
        findings.add("alert/references", detail, "unexpected_references")
    if message.note is None and (message.status is Status.EXERCISE or message.msg_type is MsgType.CANCEL):
        what = "Exercise" if message.status is Status.EXERCISE else "Cancel"
        findings.add("alert/note", f"{what} needs a <note>: which exercise, or why it is recalled.", "missing")


def _check_partners(codes: Sequence[str], path: str, findings: Findings) -> None:
    wrong = [code for code in codes if not _PARTNER.fullmatch(code)]
    if wrong:
        detail = f"{quoted(wrong[0])} is no partner code: two capital letters such as CA, separated by spaces."
        findings.add(path, detail, "wrong_partner")
    if len(set(codes)) < len(codes):
        findings.add(path, "Name each partner once.", "repeated")


def _check_geocodes(info: CapInfo, path: str, findings: Findings) -> None:
    for number, area in enumerate(info.areas, start=1):
        for place, (name, value) in enumerate(area.geocodes, start=1):
            if name == COUNTRY_GEOCODE and (len(value) != 3 or country(value) is None):
                detail = f"{quoted(value)} is no ISO 3166-1 country code of three capital letters, such as AFG."
                findings.add(f"{path}/area[{number}]/geocode[{place}]/value", detail, "wrong_country")


def _check_languages(message: CapMessage, findings: Findings) -> None:
    if not any(is_english(info) for info in message.info):
        findings.add("alert/info", "At least one info block must be in English: <language> en, or none.", "missing")
    for number, info in enumerate(message.info[1:], start=2):
        for name in ("urgency", "severity", "certainty"):
            if getattr(info, name) is not getattr(message.info[0], name):
                detail = f"<{name}> must be the same in every language; info[1] says {getattr(message.info[0], name)}."
                findings.add(f"alert/info[{number}]/{name}", detail, "differs")


def is_english(info: Info) -> bool:
    """Whether the block is in English of any region."""
    return info.language.lower().split("-")[0] == "en"


def _check_parameters(message: CapMessage, number: int, findings: Findings) -> None:
    """The `rdn:` parameters of one block: known, once each, valid, and those of the alert alike in every block."""
    info = message.info[number - 1]
    first = own_parameters(message.info[0])
    ours = own_parameters(info)
    times = Counter(name for name, _ in info.parameters)
    for place, (name, value) in enumerate(info.parameters, start=1):
        path = f"alert/info[{number}]/parameter[{place}]"
        if not name.startswith(PARAMETER_PREFIX):
            continue
        if name not in (*SHARED_PARAMETERS, TRANSLATION_PARAMETER):
            known = ", ".join((*SHARED_PARAMETERS, TRANSLATION_PARAMETER))
            findings.add(f"{path}/valueName", f"{quoted(name)} is unknown; there are {known}.", "not_in_list")
        elif times[name] > 1:
            findings.add(path, f"{name} may stand once in an info block.", "repeated")
        else:
            _check_parameter(message, name, value, f"{path}/value", findings)
    if PRECEDENCE_PARAMETER not in ours:
        detail = f"<parameter> {PRECEDENCE_PARAMETER} is missing: {', '.join(Precedence)}."
        findings.add(f"alert/info[{number}]/parameter", detail, "missing")
    for name in SHARED_PARAMETERS:
        if ours.get(name) != first.get(name):
            detail = f"{name} must be the same in every info block as in info[1]."
            findings.add(f"alert/info[{number}]/parameter", detail, "differs")


def _check_parameter(message: CapMessage, name: str, value: str, path: str, findings: Findings) -> None:
    if name == PRECEDENCE_PARAMETER and value not in list(Precedence):
        findings.add(path, f"{quoted(value)} is not one of {', '.join(Precedence)}.", "not_in_list")
    elif name == TLP_PARAMETER and value not in list(Tlp):
        findings.add(path, f"{quoted(value)} is not one of {', '.join(Tlp)}.", "not_in_list")
    elif name == TRANSLATION_PARAMETER and value not in ("true", "false"):
        findings.add(path, "Write true or false.", "not_in_list")
    elif name == ACKNOWLEDGE_BY_PARAMETER:
        acknowledge_by_at = read_instant(value)
        if acknowledge_by_at is None:
            findings.add(path, explain_instant(value), "wrong_time")
        elif not message.sent < acknowledge_by_at <= (expires_at_of(message) or acknowledge_by_at):
            findings.add(
                path, "The time to acknowledge by must lie after <sent>, and not after <expires>.", "wrong_time"
            )
    elif name == COVERAGE_GOAL_PARAMETER and read_coverage_goal(value) is None:
        findings.add(path, "Write how many partners within how many seconds, such as 8/900.", "wrong_goal")
    elif name == FOR_INFORMATION_PARAMETER:
        codes = value.split()
        _check_partners(codes, path, findings)
        twice = sorted(set(codes) & set(message.addresses))
        if twice:
            detail = f"{', '.join(twice)} cannot both answer (<addresses>) and be told for information."
            findings.add(path, detail, "repeated")


def read_coverage_goal(text: str) -> CoverageGoal | None:
    """The goal that a parameter's text says, or None if it says none."""
    found = _COVERAGE_GOAL.fullmatch(text)
    return None if found is None else CoverageGoal(partners=int(found[1]), within_seconds=int(found[2]))


def own_parameters(info: Info) -> dict[str, str]:
    """The block's parameters that are ours, by name."""
    return {name: value for name, value in info.parameters if name.startswith(PARAMETER_PREFIX)}


def countries_of(info: Iterable[Info]) -> tuple[Country, ...]:
    """Every country that any block names, once, in the order of first mention."""
    values = (
        value
        for block in info
        for area in block.areas
        for name, value in area.geocodes
        if name == COUNTRY_GEOCODE and len(value) == 3
    )
    return tuple(dict.fromkeys(found for found in map(country, values) if found is not None))


def expires_at_of(message: CapMessage) -> datetime | None:
    """The latest of the blocks: an alert must not end in one language while it stands in another."""
    return max((info.expires for info in message.info if info.expires is not None), default=None)

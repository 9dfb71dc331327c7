"""What readiness and previews say, in the reader's words: findings gathered by what they are, the worst first.

The promise: pure. What is found is roster's to say; here are the words for it, and the page on which it is mended.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from services.console.board_view import CHANNELS, REASONS
from services.console.words import Reader, _

Json = Mapping[str, Any]

SEVERITIES = ("alarm", "blocking", "warning")
TONES: Mapping[str, str] = {"alarm": "alarm", "blocking": "waiting", "warning": "calm"}

FINDINGS: Mapping[str, tuple[str, str]] = {
    "uncovered": (
        _("Nobody is on duty"),
        _("Put somebody on duty for this time: an override is the quickest, a further layer lasts."),
    ),
    "double_duty": (
        _("Two duties at the same time"),
        _("Give one of the two to somebody else for this time, by a swap or an override."),
    ),
    "too_few_points": (_("Too few ways to be reached"), _("Add a contact point on another channel.")),
    "one_provider": (
        _("All ways go through one provider"),
        _("Add a contact point that another provider carries, e-mail beside telephone for example."),
    ),
    "unverified_point": (
        _("Contact point not verified"),
        _("Its owner has a code sent there and enters it."),
    ),
    "unconfirmed_point": (
        _("Contact point not confirmed"),
        _("Its owner says that it is still right, every 90 days."),
    ),
    "failing_point": (
        _("Contact point fails"),
        _("Nothing arrives there: correct the address or remove it, then verify it again."),
    ),
    "endpoint_not_answering": (
        _("System does not answer"),
        _("Have it answer 2xx within 5 s; a test message tries it."),
    ),
    "endpoint_unchecked": (
        _("System not checked"),
        _("No heartbeat has told of it for too long: ask the operators why."),
    ),
    "certificate_ending": (_("Certificate ends"), _("Renew the system's TLS certificate before it ends.")),
    "no_deputy": (_("No deputy"), _("Name deputies in the layer, or one in an override: no shift without a deputy.")),
    "rota_ending": (_("Rota ends"), _("Take the end of its last layer away, or add the layer that follows it.")),
    "calendar_ending": (
        _("Calendar ends"),
        _("Import the calendar that follows, or see why its subscription cannot be read."),
    ),
    "no_level": (_("No levels"), _("Write an escalation policy: without a level nobody but the duty office is paged.")),
    "nobody_reachable": (
        _("Nobody at this level can be reached"),
        _("Let the level name somebody who has a contact point, or give those it names one."),
    ),
}
"""What each finding of roster means, and what to do about it."""


@dataclass(frozen=True, slots=True)
class Found:
    """One finding: what it is about in words, when, and where it is mended."""

    about: str
    begins_at: str
    ends_at: str | None
    href: str | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class Group:
    """All findings of one kind and severity."""

    code: str
    severity: str
    what: str
    remedy: str
    found: tuple[Found, ...]

    @property
    def tone(self) -> str:
        """How loud it is shown."""
        return TONES.get(self.severity, "calm")


def grouped(findings: Iterable[Json], reader: Reader, *, own_contact: str | None = None) -> list[Group]:
    """Findings by severity and kind, the worst first; in each, as roster has put them."""
    kinds: dict[tuple[str, str], list[Json]] = {}
    for one in findings:
        kinds.setdefault((one["severity"], one["code"]), []).append(one)
    groups = []
    for (severity, code), ones in kinds.items():
        what, remedy = FINDINGS.get(code, (code, ones[0]["remedy"]))
        found = tuple(
            Found(
                about(one, reader), one["begins_at"], one["ends_at"], mended_at(one, own_contact), _reason(one, reader)
            )
            for one in ones
        )
        groups.append(Group(code, severity, reader.say(what), reader.say(remedy), found))
    return sorted(groups, key=lambda group: _rank(group.severity))


def _rank(severity: str) -> int:
    return SEVERITIES.index(severity) if severity in SEVERITIES else len(SEVERITIES)


def _reason(one: Json, reader: Reader) -> str | None:
    reason = one["reason"]
    return reader.say(REASONS[reason]) if reason in REASONS else reason


def about(one: Json, reader: Reader) -> str:
    """What a finding is about: level, rotas, person or office, and address."""
    channel = str(one["channel"]) if one["channel"] else ""
    parts = [
        reader.say(_("Level %(level)s"), level=one["level"]) if one["level"] is not None else None,
        one["rota"],
        one["other_rota"],
        one["name"] or one["office"] or one["title"],
        reader.say(CHANNELS.get(channel, channel)) if channel else None,
        one["address"],
        one["endpoint"],
    ]
    return " · ".join(str(part) for part in parts if part)


def mended_at(one: Json, own_contact: str | None = None) -> str | None:
    """The page on which a finding is mended; None where there is none."""
    if one["code"] in ("uncovered", "double_duty", "no_deputy") and one["rota_id"] and one["ends_at"]:
        return f"/roster/rotas/{one['rota_id']}/stretch?" + urlencode(
            {"start_at": one["begins_at"], "end_at": one["ends_at"]}
        )
    if one["rota_id"]:
        return f"/roster/rotas/{one['rota_id']}"
    if one["contact_id"]:
        return "/roster/me" if one["contact_id"] == own_contact else f"/roster/people#contact-{one['contact_id']}"
    if one["office_id"]:
        return f"/roster/people#office-{one['office_id']}"
    return f"/deliveries?endpoint={one['endpoint_id']}" if one["endpoint_id"] else None


def tone_of(readiness: Json) -> str:
    """How loud a score is shown: loud only where nobody is on duty."""
    if readiness["alarms"]:
        return "alarm"
    if readiness["score"] is None or readiness["blocking"]:
        return "waiting"
    return "good"


def worst_first(partners: Iterable[Json]) -> list[Json]:
    """Partners by how much they need somebody: holes ahead, then what is not proven, then the lowest score."""
    return sorted(
        partners,
        key=lambda one: (-one["alarms"], one["score"] is not None, one["score"] or 0, -one["blocking"], one["partner"]),
    )


# --- what a change would do -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Turn:
    """In [start_at, end_at) somebody else has a rota, or is the deputy; None is nobody."""

    rota: str
    start_at: str
    end_at: str
    before: str | None
    after: str | None
    deputy_before: str | None
    deputy_after: str | None


@dataclass(frozen=True, slots=True)
class Preview:
    """What a change would do to the coming 14 days."""

    until_at: str
    turns: tuple[Turn, ...]
    omitted: int
    opened: Sequence[Json]
    closed: Sequence[Json]
    new: tuple[Group, ...]
    resolved: tuple[Group, ...]

    @property
    def is_empty(self) -> bool:
        """Whether nothing changes."""
        return not (self.turns or self.opened or self.closed or self.new or self.resolved)


def preview_of(found: Json, reader: Reader, *, names: Mapping[str, str], rotas: Mapping[str, str]) -> Preview:
    """Roster's preview in words; `names` are the people and `rotas` the rotas by their ids."""

    def named(one: Json) -> Json:
        return {
            **one,
            "rota": one["rota"] or rotas.get(one["rota_id"] or ""),
            "other_rota": one["other_rota"] or rotas.get(one["other_rota_id"] or ""),
            "name": one["name"] or names.get(one["contact_id"] or ""),
        }

    def name(contact_id: str | None) -> str | None:
        return None if contact_id is None else names.get(contact_id, "–")

    return Preview(
        until_at=found["to_at"],
        turns=tuple(
            Turn(
                one["rota"],
                one["start_at"],
                one["end_at"],
                name(one["before"]),
                name(one["after"]),
                name(one["deputy_before"]),
                name(one["deputy_after"]),
            )
            for one in found["changes"]
        ),
        omitted=found["omitted"],
        opened=found["holes_opened"],
        closed=found["holes_closed"],
        # A hole stands among the holes already.
        new=tuple(grouped((named(one) for one in found["findings_new"] if one["code"] != "uncovered"), reader)),
        resolved=tuple(
            grouped((named(one) for one in found["findings_resolved"] if one["code"] != "uncovered"), reader)
        ),
    )

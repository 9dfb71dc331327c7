"""What notices say: which kinds there are, what each must know, and how its facts are put into words.

The cast: `KINDS` names for each kind the facts without which it cannot be told; `text_key` picks the texts of a page;
`shown` tells how one fact is shown. The texts are in `texts/*.toml`; `texts` sets them.

The promises: there is always a message. A kind that nobody knows, or one that lacks a fact, is told in general words
without any of its facts. Names of people stand in the text and in what is spoken, never in a subject or an SMS, which a
locked screen shows.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

from shared.contracts import Status

MESSAGE_TYPE: Final = "notice.issued"

KINDS: Final[Mapping[str, tuple[str, ...]]] = {
    "swap_offered": ("rota", "offered_by", "start_at", "end_at"),
    "swap_accepted": ("rota", "accepted_by", "start_at", "end_at"),
    "swap_declined": ("rota", "declined_by", "start_at", "end_at"),
    "swap_withdrawn": ("rota", "offered_by", "start_at", "end_at"),
    "shift_ahead": ("rota", "start_at", "end_at"),
    "shift_changed": ("rota", "start_at", "end_at"),
    "hand_over_due": ("rota", "start_at", "outgoing", "incoming"),
    "hand_over_signed": ("rota", "start_at", "signed_by"),
    "readiness_digest": ("score", "findings"),
    "hole_ahead": ("rota", "begins_at"),
    "hole_ahead_elsewhere": ("partner", "rota", "begins_at"),
    "points_unconfirmed": ("expires_at", "count"),
    "calendar_trouble": ("rota", "calendar"),
    "drill_unanswered": ("reference", "since_at"),
    "heartbeat_failed": ("what", "since_at"),
    "heartbeat_recovered": ("what", "since_at"),
    "release_asked": ("reference", "precedence", "drafted_by"),
}
"""Every kind that there are texts for, and the facts that those texts need."""

ASKING: Final = frozenset(
    {
        "swap_offered",
        "hand_over_due",
        "readiness_digest",
        "hole_ahead",
        "hole_ahead_elsewhere",
        "points_unconfirmed",
        "calendar_trouble",
        "release_asked",
    }
)
"""Kinds after which the reader has something to do: keys of `[todo]`."""

FINDINGS: Final = (
    "uncovered",
    "double_duty",
    "too_few_points",
    "one_provider",
    "unverified_point",
    "unconfirmed_point",
    "failing_point",
    "endpoint_not_answering",
    "endpoint_unchecked",
    "certificate_ending",
    "no_deputy",
    "rota_ending",
    "calendar_ending",
    "no_level",
    "nobody_reachable",
)
"""Codes of what readiness finds; another code is shown as it is."""

SENTENCES: Final[Mapping[str, Mapping[str, tuple[str, ...]]]] = {
    "swap_offered": {"return": ("return_start_at", "return_end_at")},
    "swap_accepted": {"return": ("return_start_at", "return_end_at")},
    "shift_ahead": {"deputy": ("deputy",)},
    "shift_changed": {"more": ("count",)},
    "hand_over_due": {"open": ("open",)},
    "hole_ahead": {"until": ("ends_at",)},
    "hole_ahead_elsewhere": {"until": ("ends_at",)},
    "calendar_trouble": {"reason": ("reason",)},
    "heartbeat_failed": {"reason": ("reason",)},
}
"""Sentences of `[notice]` that a kind adds where it has the facts for them."""

NAMES: Final = ("provider", "endpoint")
"""Of what a heartbeat was about, where it has one."""
INSTANTS: Final = frozenset(
    {"start_at", "end_at", "return_start_at", "return_end_at", "begins_at", "ends_at", "expires_at", "since_at"}
)
PARTNERS: Final = frozenset({"partner"})
CODES: Final = frozenset({"reason", "what"})
"""Facts that are codes: `[reason]` and `[what]` put the known ones into words."""

FACT_CHARACTERS_MAX: Final = 80
"""Of a name in a notice."""

ITEMS_SHOWN_MAX: Final = 60
"""Of a digest, in its text; a call and an SMS say how many there are."""


class FactKind(StrEnum):
    """How a fact is put into words."""

    INSTANT = "instant"
    PARTNER = "partner"
    CODE = "code"
    WORDS = "words"


def fact_names() -> frozenset[str]:
    """Every fact that a text may ask for."""
    needed = {name for names in KINDS.values() for name in names}
    more = {name for sentences in SENTENCES.values() for names in sentences.values() for name in names}
    return frozenset(needed | more)


def kind_of(name: str) -> FactKind:
    """How the fact of this name is shown."""
    if name in INSTANTS:
        return FactKind.INSTANT
    if name in PARTNERS:
        return FactKind.PARTNER
    return FactKind.CODE if name in CODES else FactKind.WORDS


def text_key(data: Mapping[str, Any]) -> str:
    """Which texts a notice is told in: its kind's, or general ones where something is missing."""
    kind, facts = data.get("kind"), facts_of_notice(data)
    known = isinstance(kind, str) and kind in KINDS and all(_is_there(name, facts) for name in KINDS[kind])
    return f"notice_{kind}" if known else "notice_other"


def todo_key(data: Mapping[str, Any]) -> str | None:
    """Which text says what the reader may do; None where there is nothing to do."""
    key = text_key(data)
    return key if key.removeprefix("notice_") in ASKING else None


def facts_of_notice(data: Mapping[str, Any]) -> Mapping[str, str]:
    """The facts of a notice, whatever its row holds."""
    facts = data.get("facts")
    pairs = facts.items() if isinstance(facts, Mapping) else ()
    return {name: value for name, value in pairs if isinstance(name, str) and isinstance(value, str)}


def items_of_notice(data: Mapping[str, Any]) -> list[Mapping[str, str]]:
    """The items of a digest, whatever its row holds."""
    items = data.get("items")
    return [facts_of_notice({"facts": item}) for item in items] if isinstance(items, list | tuple) else []


def status_of_notice(data: Mapping[str, Any]) -> Status:
    """Whether a notice is about a drill: what is told of one says so before all else."""
    said = facts_of_notice(data).get("status")
    return Status(said) if said in tuple(Status) else Status.ACTUAL


def alert_of_notice(data: Mapping[str, Any]) -> UUID | None:
    """The alert that the reader of a notice is to look at, if there is one."""
    try:
        return UUID(facts_of_notice(data).get("alert_id", ""))
    except ValueError:
        return None


def named(facts: Mapping[str, str]) -> str:
    """What a heartbeat was about, by its own name where it has one."""
    return facts.get("endpoint") or facts.get("provider") or ""


def parsed(value: str) -> datetime | None:
    """An instant, or None where the text is none."""
    try:
        at = datetime.fromisoformat(value)
        at = at if at.tzinfo is not None else at.replace(tzinfo=UTC)
        at.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return at


def sentences_of(data: Mapping[str, Any]) -> list[str]:
    """Which sentences of `[notice]` follow the first one."""
    facts, key = facts_of_notice(data), text_key(data)
    kind = key.removeprefix("notice_")
    if kind == "shift_ahead" and facts.get("as_deputy") == "true":
        return ["as_deputy"]
    return [name for name, needed in SENTENCES.get(kind, {}).items() if all(_is_there(each, facts) for each in needed)]


def _is_there(name: str, facts: Mapping[str, str]) -> bool:
    value = facts.get(name, "").strip()
    return parsed(value) is not None if name in INSTANTS else bool(value)

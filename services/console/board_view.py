"""What a board shows of escalation's answer: each partner's cell, each alert's heading, and what needs a human now.

The promise: pure. A cell says its state by a tone, an icon and a word; nothing is told by colour alone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from typing import Any

from services.console.words import Reader, _, as_instant

Json = Mapping[str, Any]

NEEDS, WAITING, CONSIDERING, ANSWERED, INFORMED, ENDED = range(6)
"""The order of cells: what needs a human now comes first."""

_UNACKNOWLEDGED = frozenset({"pending", "notified", "unreached"})
_ALARMING_GAPS = frozenset({"no_duty_plan", "duty_plan_expired", "duty_plan_unreadable", "all_levels_empty"})


@dataclass(frozen=True, slots=True)
class Look:
    """How a state is shown: `tone` chooses the colour, `icon` the sign, `word` the text."""

    tone: str
    icon: str
    word: str


_LOOKS: Mapping[str, Look] = {
    "pending": Look("waiting", "clock", _("Being reached")),
    "notified": Look("waiting", "bell", _("Told, no answer yet")),
    "acknowledged": Look("good", "check", _("Acknowledged")),
    "considering": Look("good", "thinking", _("Considering")),
    "committed": Look("good", "hand", _("Committed")),
    "declined": Look("calm", "minus", _("Declined")),
    "noted": Look("calm", "check", _("Noted")),
    "unreached": Look("alarm", "cross", _("Unreached")),
    "ended": Look("calm", "stop", _("Ended")),
}
_TAKEN_OVER = Look("good", "hand", _("Taken over"))
_TAKEOVER = Look("alarm", "phone", _("Take over"))
_INFORMED = Look("calm", "check", _("Informed"))

NEXT: Mapping[str, str] = {
    "next_level": _("Next level"),
    "unreached": _("Unreached"),
    "position": _("Position due"),
    "ask_again": _("Asked again"),
    "expiry": _("Expires"),
}


@dataclass(frozen=True, slots=True)
class Cell:
    """One partner's obligation, as the board shows it. Instants are texts as the API writes them."""

    id: str
    alert_id: str
    partner: str
    subject: str | None
    kind: str
    state: str
    look: Look
    rank: int
    level: int | None
    levels: int | None
    next_word: str | None
    next_at: str | None
    attempt: Json | None
    attempt_failed: bool
    gaps: tuple[str, ...]
    one_provider: bool
    answer_at: str | None
    answer_by: str | None
    late: bool
    changed_at: str

    @property
    def needs_human(self) -> bool:
        """Whether somebody has to act now."""
        return self.rank == NEEDS

    @property
    def owes(self) -> bool:
        """Whether its government has still to acknowledge."""
        return self.kind == "answer" and self.state in _UNACKNOWLEDGED

    @property
    def is_open(self) -> bool:
        """Whether an answer is still waited for."""
        return self.rank in (NEEDS, WAITING)


@dataclass(frozen=True)
class AlertRow:
    """One alert with its cells, in the order in which they need somebody."""

    id: str
    heading: Json
    cells: tuple[Cell, ...]
    coverage: Json | None = None

    @cached_property
    def rank(self) -> int:
        """The most urgent of its cells; a missed goal needs somebody as well."""
        missed = self.coverage is not None and self.coverage["state"] == "missed" and self.is_running
        return NEEDS if missed else min((cell.rank for cell in self.cells), default=ENDED)

    @property
    def is_running(self) -> bool:
        """Whether the alert is not over."""
        return self.heading["ended_at"] is None

    @property
    def is_drill(self) -> bool:
        """Whether it is an exercise."""
        return bool(self.heading["status"] != "Actual")

    @cached_property
    def answered(self) -> int:
        """How many of those who owe an answer have given one, or had when the alert ended."""
        return sum(
            1
            for cell in self.owing
            if cell.rank in (ANSWERED, CONSIDERING) or (cell.rank == ENDED and cell.answer_at is not None)
        )

    @cached_property
    def owing(self) -> tuple[Cell, ...]:
        """The cells of partners that owe an answer."""
        return tuple(cell for cell in self.cells if cell.kind == "answer")

    @cached_property
    def owed(self) -> tuple[str, ...]:
        """The partners that have still to acknowledge."""
        return tuple(cell.partner for cell in self.cells if cell.owes) if self.is_running else ()


@dataclass
class Rows:
    """Escalation's cells and goals, by alert."""

    _cells: dict[str, dict[str, Cell]] = field(default_factory=dict)
    _headings: dict[str, Json] = field(default_factory=dict)
    _coverage: dict[str, Json] = field(default_factory=dict)
    _rows: dict[str, AlertRow] = field(default_factory=dict)
    """Those that have not changed since they were asked for."""

    @property
    def is_empty(self) -> bool:
        """Whether there is no alert at all."""
        return not self._cells

    def replace(self, board: Json) -> None:
        """Takes the whole board."""
        self._cells, self._headings, self._rows = {}, {}, {}
        self.update(board["escalations"])
        self.goals(board.get("coverage", []))

    def update(self, cells: Iterable[Json]) -> dict[str, list[Cell]]:
        """Takes what changed; returns it by alert. What was said last of an alert is its heading."""
        changed: dict[str, set[str]] = defaultdict(set)
        for one in cells:
            cell = cell_of(one)
            self._headings[cell.alert_id] = one["alert"]
            self._cells.setdefault(cell.alert_id, {})[cell.id] = cell
            self._rows.pop(cell.alert_id, None)
            changed[cell.alert_id].add(cell.id)
            if cell.kind == "takeover":
                # How the partner's own cell looks depends on it.
                own = (known.id for known in self._cells[cell.alert_id].values() if known.partner == cell.subject)
                changed[cell.alert_id].update(own)
        return {key: [cell for cell in self.alert(key).cells if cell.id in ids] for key, ids in changed.items()}

    def goals(self, coverage: Iterable[Json]) -> set[str]:
        """Takes all coverage goals; returns the alerts whose goal is another one."""
        new = {one["alert_id"]: one for one in coverage}
        changed = {key for key in {*new, *self._coverage} if new.get(key) != self._coverage.get(key)}
        self._coverage = new
        for alert_id in changed:
            self._rows.pop(alert_id, None)
        return changed & self._cells.keys()

    def forget(self, ended_before: datetime) -> set[str]:
        """Lets go of alerts that ended before this instant; returns them."""
        gone = {
            alert_id
            for alert_id, heading in self._headings.items()
            if heading["ended_at"] is not None and as_instant(heading["ended_at"]) < ended_before
        }
        for alert_id in gone:
            del self._headings[alert_id], self._cells[alert_id]
            self._rows.pop(alert_id, None)
        return gone

    def alert(self, alert_id: str) -> AlertRow:
        """One alert that is there."""
        if alert_id not in self._rows:
            cells = tuple(_beside_each_other(self._cells[alert_id].values()))
            heading, coverage = self._headings[alert_id], self._coverage.get(alert_id)
            self._rows[alert_id] = AlertRow(alert_id, heading, cells, coverage)
        return self._rows[alert_id]

    def alerts(self) -> list[AlertRow]:
        """The alerts, the most urgent first."""
        return sorted(map(self.alert, self._cells), key=order_of)


def order_of(row: AlertRow) -> str:
    """A text to sort by: what needs a human first, exercises behind what is real, precedence, and the newest first."""
    precedence = ("FLASH", "IMMEDIATE", "PRIORITY", "ROUTINE").index(row.heading["precedence"])
    age = int(_FAR - as_instant(row.heading["released_at"]).timestamp() * 1000)
    return f"{int(not row.is_running)}{int(row.is_drill)}{int(row.rank != NEEDS)}{precedence}-{age:014d}"


_FAR = 10_000_000_000_000
"""Milliseconds of the year 2286: what is subtracted from it sorts the newest first."""


def order_of_cell(cell: Cell) -> str:
    """A text to sort by: what needs a human first, then what happens next."""
    return f"{cell.rank}{cell.next_at or '~'}{cell.partner}{cell.subject or ''}{cell.id}"


def owes_acknowledgement(one: Json) -> bool:
    """Whether a government has still to acknowledge; late is possible as long as the alert runs."""
    return bool(one["kind"] == "answer" and one["state"] in _UNACKNOWLEDGED)


def row_of(alert_id: str, escalations: Iterable[Json], coverage: Json | None) -> AlertRow:
    """One alert's row."""
    found = list(escalations)
    return AlertRow(alert_id, found[0]["alert"], tuple(_beside_each_other(map(cell_of, found))), coverage)


def _beside_each_other(cells: Iterable[Cell]) -> list[Cell]:
    """One alert's cells, what needs a human first. An unreached partner that somebody has taken over is loud again as
    soon as whoever is to take it over is asked again: its own cell does not say so.
    """
    found = list(cells)
    asked = {cell.subject for cell in found if cell.kind == "takeover" and cell.needs_human}
    shown = (
        replace(cell, look=_LOOKS[cell.state], rank=NEEDS)
        if cell.look == _TAKEN_OVER and cell.kind == "answer" and cell.partner in asked
        else cell
        for cell in found
    )
    return sorted(shown, key=order_of_cell)


def cell_of(one: Json) -> Cell:
    """One cell."""
    attempt = one["last_attempt"]
    answer = one["acknowledgement"] or {}
    look, rank = _look(one)
    return Cell(
        id=one["id"],
        alert_id=one["alert"]["id"],
        partner=one["partner"],
        subject=one["subject_partner"],
        kind=one["kind"],
        state=one["state"],
        look=look,
        rank=rank,
        level=one["level"],
        levels=one["levels"],
        next_word=NEXT.get(one["next_due"]) if one["next_due"] is not None else None,
        next_at=one["next_due_at"] if rank in (NEEDS, WAITING, CONSIDERING, ANSWERED) else None,
        attempt=attempt,
        attempt_failed=attempt is not None and attempt["state"] in ("failed", "expired"),
        gaps=tuple(one["gaps"]),
        one_provider=one["one_provider"],
        answer_at=answer.get("at"),
        answer_by=answer.get("by"),
        late=bool(answer.get("late")),
        changed_at=one["changed_at"],
    )


def _look(one: Json) -> tuple[Look, int]:
    state, kind = one["state"], one["kind"]
    waits = state in ("pending", "notified")
    alarmed = state == "unreached" or (waits and (kind == "takeover" or bool(_ALARMING_GAPS & set(one["gaps"]))))
    look = _LOOKS[state]
    if state == "ended":
        rank = ENDED
    elif kind == "information":
        look, rank = (_INFORMED if state == "notified" else look), INFORMED
    elif one["takeover"] is not None and state == ("acknowledged" if kind == "takeover" else "unreached"):
        # Asked again, or answered after all, it still says who had taken it over.
        look, rank = _TAKEN_OVER, CONSIDERING
    elif alarmed:
        look, rank = (_TAKEOVER if kind == "takeover" else look), NEEDS
    elif waits:
        rank = WAITING
    else:
        rank = CONSIDERING if state == "considering" else ANSWERED
    return look, rank


GAPS: Mapping[str, str] = {
    "no_duty_plan": _("no duty plan"),
    "duty_plan_expired": _("the duty plan has expired"),
    "duty_plan_unreadable": _("the duty plan cannot be read"),
    "all_levels_empty": _("nobody is on duty at any level"),
    "empty_level": _("nobody is on duty at this level"),
    "no_reachable_point": _("nobody on duty can be reached"),
}

REASONS: Mapping[str, str] = {
    "http_status": _("refused"),
    "redirect_refused": _("sent elsewhere"),
    "response_too_large": _("answer too long"),
    "response_malformed": _("answer unreadable"),
    "timeout": _("no answer in time"),
    "connect_failed": _("no connection"),
    "tls_failed": _("no secure connection"),
    "disconnected": _("connection broke"),
    "dns_failed": _("name not found"),
    "address_refused": _("address not allowed"),
    "target_refused": _("address not usable"),
    "endpoint_busy": _("still busy"),
    "channel_unavailable": _("channel not set up"),
    "address_unknown": _("number or address unknown"),
    "provider_refused": _("provider refused"),
    "provider_busy": _("provider busy"),
    "provider_unavailable": _("provider down"),
    "not_delivered": _("not delivered"),
    "not_answered": _("not answered"),
    "internal": _("fault of ours"),
}
"""Why an attempt failed, as escalation counts it."""

CHANNELS: Mapping[str, str] = {
    "webhook": _("Webhook"),
    "email": _("E-mail"),
    "sms": _("SMS"),
    "voice": _("Call"),
    "push": _("Push"),
    "chat": _("Chat"),
}


def attempt_text(cell: Cell, reader: Reader) -> str | None:
    """The last attempt in a few words: over what, to whom, and why it failed."""
    attempt = cell.attempt
    if attempt is None:
        return None
    channel = str(attempt["channel"])
    parts = [reader.say(CHANNELS.get(channel, channel)), str(attempt["told"])]
    if cell.attempt_failed:
        reason = str(attempt["reason"] or "")
        parts.append(reader.say(REASONS[reason]) if reason in REASONS else str(attempt["detail"] or reason))
    return " · ".join(part for part in parts if part)

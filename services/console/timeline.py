"""What happened to an alert, in sentences.

The promise: pure. An event that this version knows no sentence for is named by its type: nothing of a timeline is left
out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from services.console.board_view import CHANNELS
from services.console.words import Reader, _, n_

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Happened:
    """One line of a timeline."""

    at: str
    tone: str
    icon: str
    partner: str | None
    text: str
    note: str | None = None


def happened(entry: Json, reader: Reader) -> Happened:
    """The line of one entry."""
    data, kind = entry["data"], entry["type"]
    tone, icon, say = _SAID.get(kind, ("calm", "clock", lambda _data, _reader: kind.replace("_", " ").capitalize()))
    note = data.get("note") or data.get("question") or data.get("answer")
    return Happened(
        at=entry["at"],
        tone=tone,
        icon=icon,
        partner=data.get("subject_partner") or data.get("partner"),
        text=say(data, reader),
        note=note if isinstance(note, str) else None,
    )


def _who(data: Json, name: str) -> str:
    actor = data.get(name) or {}
    return str(actor.get("name") or actor.get("partner") or "")


def _released(data: Json, reader: Reader) -> str:
    if data.get("corrects"):
        return reader.say(_("Update released by %(who)s at %(precedence)s"), who=_who(data, "released_by"), **_p(data))
    return reader.say(_("Released by %(who)s at %(precedence)s"), who=_who(data, "released_by"), **_p(data))


def _p(data: Json) -> dict[str, str]:
    return {"precedence": str(data.get("precedence", ""))}


def _started(data: Json, reader: Reader) -> str:
    number = len(data.get("escalations", ()))
    return reader.say_number(*n_("%(num)s partner is being reached", "%(num)s partners are being reached"), number)


def _notified(data: Json, reader: Reader) -> str:
    channel = str(data.get("channel", ""))
    said = reader.say(CHANNELS.get(channel, channel))
    return reader.say(_("%(told)s was told by %(channel)s"), told=data.get("told", ""), channel=said)


def _raised(data: Json, reader: Reader) -> str:
    told = ", ".join(data.get("told", ()))
    level = reader.say(_("Level %(level)s is paged"), level=data.get("level"))
    return f"{level}: {told}" if told else level


def _acknowledged(data: Json, reader: Reader) -> str:
    said = reader.say(_("Acknowledged by %(who)s"), who=_who(data, "acknowledged_by"))
    after = reader.say(_("after %(time)s"), time=reader.span(float(data.get("seconds_from_release", 0))))
    return f"{said} · {after}" + (f" · {reader.say(_('late'))}" if data.get("late") else "")


STANCES: Mapping[str, str] = {
    "considering": _("Considering"),
    "committed": _("We can"),
    "declined": _("We cannot"),
    "noted": _("Noted"),
    "wrong_person": _("Wrong person"),
}


def _position(data: Json, reader: Reader) -> str:
    said = reader.say(STANCES.get(str(data["stance"]), str(data["stance"])))
    if data.get("answer_by_at"):
        said += " · " + reader.say(_("answer by %(time)s"), time=reader.at(data["answer_by_at"]))
    return f"{said} · {data['offer']}" if data.get("offer") else said


def _plain(text: str) -> Callable[[Json, Reader], str]:
    return lambda _data, reader: reader.say(text)


def _by(text: str, name: str) -> Callable[[Json, Reader], str]:
    return lambda data, reader: reader.say(text, who=_who(data, name))


def _named(text: str) -> Callable[[Json, Reader], str]:
    return lambda data, reader: reader.say(text, who=data.get("by") or "")


def _goal(text: str) -> Callable[[Json, Reader], str]:
    def say(data: Json, reader: Reader) -> str:
        return reader.say(text, have=data.get("acknowledged"), want=(data.get("goal") or {}).get("partners"))

    return say


def _ended(data: Json, reader: Reader) -> str:
    reasons = {
        "cancelled": _("Recalled"),
        "closed": _("Stood down"),
        "expired": _("Expired"),
        "superseded": _("Replaced by an update"),
        "acknowledged": _("Answered"),
    }
    return reader.say(reasons.get(str(data.get("reason")), _("Ended")))


_SAID: Mapping[str, tuple[str, str, Callable[[Json, Reader], str]]] = {
    "alert_drafted": ("calm", "clock", _named(_("Drafted by %(who)s"))),
    "alert_edited": ("calm", "clock", _named(_("Draft changed by %(who)s"))),
    "alert_superseded": ("calm", "clock", _plain(_("Replaced by an update"))),
    "alert_released": ("calm", "bell", _released),
    "alert_ended": ("calm", "stop", _ended),
    "escalations_started": ("calm", "clock", _started),
    "escalations_ended": ("calm", "stop", _ended),
    "partner_notified": ("calm", "bell", _notified),
    "level_raised": ("waiting", "alarm", _raised),
    "partner_acknowledged": ("good", "check", _acknowledged),
    "position_taken": ("good", "thinking", _position),
    "partner_unreached": ("alarm", "cross", _plain(_("Unreached: all levels are spent"))),
    "partner_taken_over": ("good", "hand", _by(_("Taken over by %(who)s"), "taken_over_by")),
    "coverage_goal_met": ("good", "target", _goal(_("Goal met: %(have)s of %(want)s"))),
    "coverage_goal_missed": ("alarm", "target", _goal(_("Goal missed: %(have)s of %(want)s"))),
    "answer_code_locked": ("waiting", "alarm", _plain(_("Too many wrong codes: the link was locked"))),
    "question_asked": ("waiting", "thinking", _by(_("Question from %(who)s"), "asked_by")),
    "question_answered": ("calm", "thinking", _by(_("Question answered by %(who)s"), "answered_by")),
    "read_back_given": ("calm", "check", _by(_("Read back by %(who)s"), "given_by")),
    "read_back_confirmed": ("calm", "check", _by(_("Read-back checked by %(who)s"), "confirmed_by")),
    "contact_point_failing": ("waiting", "alarm", _plain(_("A contact point or endpoint fails"))),
    "contact_point_recovered": ("calm", "check", _plain(_("A contact point or endpoint works again"))),
}

"""What a demonstration showed: how each partner ended, every attempt counted, and each promise checked.

Pure: `Facts` is everything that was seen, `report_of` judges it, and the result is a document for programs. Whether the
demonstration passed is one word in it: every check holds or it does not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, ClassVar

from redphone.demo_channels import Heard
from redphone.demo_receivers import Receipt, place_name
from redphone.demo_scenario import HOLE_AT, STATUS, Pace, Part, Scenario, Telephones, Via
from redphone.output import parse_instant
from shared.contracts import SECRETARIAT, ChannelName
from shared.web import render_instant

AFTER_ANSWER_GRACE = timedelta(seconds=1)
"""What was on its way when somebody acknowledged may still arrive; what is sent afterwards is a fault."""

EARLY_GRACE = timedelta(milliseconds=50)
"""Receiver and sender read one clock, and timestamps are cut to milliseconds."""

PAGING_TYPES = ("alert.released", "level.raised")
"""What first reaches somebody; whoever got one of these must hear of corrections and of the end."""

NEXT_CHANNEL_WITHIN = timedelta(seconds=6)
"""A call that would be due after two minutes follows a lost message in milliseconds; a busy machine gets some more."""

PEOPLES = (ChannelName.SMS, ChannelName.VOICE, ChannelName.EMAIL)
CHANNEL_NAMES = {"webhook": "webhook", "sms": "SMS", "voice": "call", "email": "mail", "push": "push", "chat": "chat"}
VIA_NAMES = {"api": "API", "sms": "SMS", "voice": "call", "email": "mail", "link": "link"}
"""From where somebody answered, for people."""

LAST_LEVEL = 3
"""Of every partner's policy in the network file; it is paged again and again, and its rotas are read each time."""

WHYS_MAX = 10
"""How many examples a failed check gives."""


@dataclass(frozen=True)
class HoleSeen:
    """A hole in one partner's rota before the crisis: what readiness said of holes before and after it was filled."""

    NOTICES: ClassVar = ("hole_ahead", "hole_ahead_elsewhere")
    """How its own people and the secretariat are told."""

    partner: str
    begins_at: datetime
    ends_at: datetime
    found: tuple[Mapping[str, Any], ...]
    left: tuple[Mapping[str, Any], ...]


@dataclass
class ShiftChange:
    """A shift that ends while its partner is being paged; `signed_at` is when both had signed the hand-over."""

    partner: str
    outgoing: str
    incoming: str
    change_at: datetime
    signed_at: datetime | None = None

    def pages(self, receipts: Sequence[Receipt]) -> list[Receipt]:
        """The pages that the two officers got, those that repeat a level after a correction too."""
        places = (self.outgoing, self.incoming)
        return [
            one
            for one in receipts
            if one.partner == self.partner
            and one.place in places
            and one.type in (*PAGING_TYPES, "alert.updated")
            and one.refused is None
        ]


@dataclass(frozen=True)
class Facts:
    """Everything that was seen. `cells` are the escalations just before the stand-down, `ended` those after it.

    `details` are escalations with every page and attempt, those of the corrected alert too. `alerts` are the messages
    in the order of their release. `heard` is what came to telephones and mailboxes, `languages` what their owners
    speak, by partner and place. `rotas` are names, by which notices about them are known.
    """

    scenario: Scenario
    pace: Pace
    names: Mapping[str, str]
    receipts: Sequence[Receipt]
    heard: Sequence[Heard]
    languages: Mapping[tuple[str, str], Sequence[str]]
    strays: int
    cells: Sequence[Mapping[str, Any]]
    ended: Sequence[Mapping[str, Any]]
    details: Sequence[Mapping[str, Any]]
    alerts: Sequence[Mapping[str, Any]]
    timeline: Sequence[Mapping[str, Any]]
    unreached_at: Mapping[str, datetime]
    acknowledged_at: Mapping[str, datetime]
    rotas: frozenset[str]
    hole: HoleSeen | None
    change: ShiftChange | None
    seconds: float


@dataclass(frozen=True)
class Check:
    """One promise: whether it held, and if not, where it broke."""

    promise: str
    broken: tuple[str, ...] = ()

    @property
    def holds(self) -> bool:
        """Whether nothing broke it."""
        return not self.broken


def report_of(facts: Facts) -> dict[str, Any]:
    """The report as a document for programs. `passed` is true only if every partner ended as the scenario says."""
    checks = list(_checks(facts))
    partners = [_partner(facts, part) for part in facts.scenario.parts]
    times = [p["acknowledged_after_seconds"] for p in partners if p["acknowledged_after_seconds"] is not None]
    return {
        "crisis": facts.scenario.name,
        "title": facts.scenario.timeline.title,
        "raiser": facts.scenario.raiser,
        "passed": all(check.holds for check in checks),
        "seconds": round(facts.seconds, 1),
        "deadlines": facts.pace.deadlines(),
        "acknowledged": len(times),
        "addressed": len(partners),
        "unreached": sorted(facts.unreached_at),
        "first_page_after_seconds": _first_page_seconds(facts),
        "signatures": {
            "checked": len(facts.receipts),
            "refused": sum(receipt.refused is not None for receipt in facts.receipts),
        },
        "duplicates": sum(receipt.repeated for receipt in facts.receipts),
        "messages": {channel.value: sum(one.channel is channel for one in facts.heard) for channel in PEOPLES},
        "hole": _hole(facts.hole),
        "shift_change": _shift_change(facts.change),
        "partners": partners,
        "checks": [
            {"promise": check.promise, "holds": check.holds, "broken": list(check.broken[:WHYS_MAX])}
            for check in checks
        ],
        "alerts": [
            {
                "id": alert["id"],
                "reference": alert["reference"],
                "msg_type": alert["msg_type"],
                "state": alert["state"],
                "headline": alert["info"][0]["headline"],
                "released_at": alert["released_at"],
            }
            for alert in facts.alerts
        ],
        "timeline": [
            {"at": entry["at"], "type": entry["type"], "partner": entry["data"].get("partner")}
            for entry in facts.timeline
        ],
    }


def _hole(hole: HoleSeen | None) -> dict[str, Any] | None:
    if hole is None:
        return None
    return {
        "partner": hole.partner,
        "found": [{name: one[name] for name in ("rota", "begins_at", "ends_at", "severity")} for one in hole.found],
        "left": len(hole.left),
    }


def _shift_change(change: ShiftChange | None) -> dict[str, Any] | None:
    if change is None:
        return None
    signed_after = None if change.signed_at is None else _seconds_between(change.change_at, change.signed_at)
    return {
        "partner": change.partner,
        "at": render_instant(change.change_at),
        "signed_after_seconds": signed_after,
    }


# --- one partner ------------------------------------------------------------------------------------------------------


def _partner(facts: Facts, part: Part) -> dict[str, Any]:
    cell = _cell_of(facts.cells, part.partner) or {}
    answer, position, takeover = cell.get("acknowledgement"), cell.get("position"), cell.get("takeover")
    start = _released_at(facts)
    unreached_at = facts.unreached_at.get(part.partner)
    return {
        "partner": part.partner,
        "name": facts.names.get(part.partner, part.partner),
        "plays": part.plays,
        "state": cell.get("state"),
        "level": cell.get("level"),
        "levels": cell.get("levels"),
        "acknowledged_after_seconds": _seconds_between(start, parse_instant(answer["at"])) if answer else None,
        "acknowledged_by": answer["by"] if answer else None,
        "acknowledged_via": answer["via"] if answer else None,
        "late": bool(answer and answer["late"]),
        "position": position["stance"] if position else None,
        "offer": position["offer"] if position else None,
        "unreached_after_seconds": _seconds_between(start, unreached_at),
        "taken_over_by": takeover["partner"] if takeover else None,
        "attempts": attempts_of(facts.details, part.partner),
        "received": len([receipt for receipt in facts.receipts if receipt.partner == part.partner]),
        "duplicates": sum(receipt.repeated for receipt in facts.receipts if receipt.partner == part.partner),
        "as_expected": not list(_wrong_end(facts, part)),
    }


def attempts_of(details: Sequence[Mapping[str, Any]], partner: str) -> dict[str, Any]:
    """How many attempts were accepted, by which channels, and why the others were not:
    `{"accepted": 5, "by_channel": {"webhook": 4, "sms": 1}, "failed": {"HTTP 500": 2}}`.
    """
    by_channel, failed = Counter[str](), Counter[str]()
    for detail in details:
        if detail["partner"] != partner or detail["kind"] == "takeover":
            continue
        for channel, attempt in ((page["channel"], one) for page in detail["pages"] for one in page["attempts"]):
            if attempt["state"] in ("sent", "delivered"):
                by_channel[channel] += 1
            elif attempt["state"] is not None:
                failed[reason_in_words(attempt)] += 1
    accepted = sum(by_channel.values())
    return {"accepted": accepted, "by_channel": dict(by_channel.most_common()), "failed": dict(failed.most_common())}


def reason_in_words(attempt: Mapping[str, Any]) -> str:
    """Why an attempt failed, as short as it can be said."""
    if attempt["reason"] == "http_status" and attempt["detail"]:
        return str(attempt["detail"])
    return str(attempt["reason"] or "unknown").replace("_", " ")


def _cell_of(cells: Sequence[Mapping[str, Any]], partner: str) -> Mapping[str, Any] | None:
    return next((cell for cell in cells if cell["partner"] == partner and cell["kind"] == "answer"), None)


def _released_at(facts: Facts) -> datetime | None:
    return parse_instant(facts.alerts[0]["released_at"]) if facts.alerts else None


def _seconds_between(start: datetime | None, end: datetime | None) -> float | None:
    return None if start is None or end is None else round((end - start).total_seconds(), 2)


def _first_page_seconds(facts: Facts) -> float | None:
    """From the release to the last partner's first page: when everybody had been told for the first time."""
    first: dict[str, datetime] = {}
    for receipt in facts.receipts:
        if receipt.type == "alert.released":
            first.setdefault(receipt.partner, receipt.at)
    told = [first[partner] for partner in facts.scenario.addressed if partner in first]
    return _seconds_between(_released_at(facts), max(told)) if told else None


# --- promises ---------------------------------------------------------------------------------------------------------


def _checks(facts: Facts) -> Iterator[Check]:
    yield Check("every partner ends as the scenario says", tuple(_wrong_ends(facts)))
    count = len(facts.receipts)
    yield Check(f"all {count} messages carry a good signature", tuple(_unbelieved(facts)))
    yield Check("nobody is paged for whom it was not", tuple(_misdirected(facts)))
    yield Check("no page after an acknowledgement", tuple(_pages_after_answers(facts)))
    yield Check("no level is raised before its time", tuple(_early_levels(facts)))
    yield Check("raiser and secretariat are asked for each unreached partner", tuple(_unasked(facts)))
    yield Check("the raiser's system is told of every answer", tuple(_untold(facts)))
    yield Check(
        "the correction reaches everybody who was paged", tuple(_missed_by(facts, "alert.updated", before=True))
    )
    yield Check("the stand-down reaches everybody who was paged", tuple(_missed_by(facts, "alert.ended", before=False)))
    yield Check("every escalation ends with the alert", tuple(_still_open(facts)))
    yield Check("every message says EXERCISE first", tuple(_unlabelled(facts)))
    yield Check("everybody acknowledges from where the scenario says", tuple(_answered_elsewhere(facts)))
    yield Check("messages and calls speak their reader's language", tuple(_foreign(facts)))
    yield Check("where a message is lost, the next channel starts at once", tuple(_kept_waiting(facts)))
    yield Check("a hole in a rota is found and told beforehand, and gone once filled", tuple(_overlooked(facts)))
    yield Check("a shift that ends in the midst is honoured at the next page", tuple(_wrong_shift(facts)))
    yield Check("both are paged until both have signed, then the new one alone", tuple(_wrongly_signed(facts)))


def _wrong_ends(facts: Facts) -> Iterator[str]:
    for part in facts.scenario.parts:
        for wrong in _wrong_end(facts, part):
            yield f"{facts.names.get(part.partner, part.partner)}: {wrong}"


def _wrong_end(facts: Facts, part: Part) -> Iterator[str]:
    """Where the partner stands otherwise than the scenario says."""
    cell = _cell_of(facts.cells, part.partner)
    if cell is None:
        yield "it has no escalation"
        return
    end, answer, takeover = part.end, cell["acknowledgement"], cell["takeover"]
    found = {
        "state": (cell["state"], end.state),
        "level": (cell["level"], end.level),
        "late": (bool(answer and answer["late"]), end.late),
        "unreached": (part.partner in facts.unreached_at, end.was_unreached),
        "taken over by": (takeover["partner"] if takeover else None, end.taken_over_by),
    }
    for name, (is_now, should_be) in found.items():
        if is_now != should_be:
            yield f"{name} is {_word(is_now)}, not {_word(should_be)}"


def _word(value: object) -> str:
    if value is None:
        return "nobody"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def _unbelieved(facts: Facts) -> Iterator[str]:
    for receipt in facts.receipts:
        if receipt.refused is not None:
            yield f"{_whom(receipt)}: {receipt.refused}"
    if facts.strays:
        yield f"{facts.strays} requests were no messages"
    if not facts.receipts:
        yield "there was none"


def _misdirected(facts: Facts) -> Iterator[str]:
    """Only addressed partners are asked; raiser and secretariat hear of answers and of unreached partners."""
    asked = ("alert.released", "alert.updated", "level.raised", "alert.ended")
    allowed: dict[str, tuple[str, ...]] = dict.fromkeys(facts.scenario.addressed, asked)
    allowed[facts.scenario.raiser] = ("partner.unreached", "answer.received", "alert.ended")
    allowed[SECRETARIAT] = ("partner.unreached", "answer.received", "alert.ended")
    for partner in (HOLE_AT, facts.scenario.relieved, SECRETARIAT):
        allowed[partner] = (*allowed[partner], "notice.issued")
    for receipt in facts.receipts:
        if receipt.type not in allowed.get(receipt.partner, ()):
            yield f"{_whom(receipt)} got {receipt.type}"
        elif receipt.asks_partner != receipt.partner:
            yield f"{_whom(receipt)} got a page of {receipt.asks_partner}"


def _pages_after_answers(facts: Facts) -> Iterator[str]:
    """What asks somebody again who has answered. A system is told of each level beside; that asks nobody."""
    for receipt in facts.receipts:
        answered_at = facts.acknowledged_at.get(receipt.partner)
        is_notice = receipt.at_system and receipt.type == "level.raised"
        if answered_at is None or is_notice or receipt.type not in PAGING_TYPES:
            continue
        if receipt.at > answered_at + AFTER_ANSWER_GRACE:
            seconds = (receipt.at - answered_at).total_seconds()
            yield f"{_whom(receipt)} got {receipt.type} {seconds:.1f} s after it had acknowledged"
    for heard in facts.heard:
        answered_at = facts.acknowledged_at.get(heard.partner)
        if answered_at is not None and heard.asks and heard.at > answered_at + AFTER_ANSWER_GRACE:
            seconds = (heard.at - answered_at).total_seconds()
            yield f"{_reader(heard)} was asked {seconds:.1f} s after it had acknowledged"


def _early_levels(facts: Facts) -> Iterator[str]:
    start = _released_at(facts)
    if start is None:
        yield "nothing was released"
        return
    pace = facts.pace
    for receipt in facts.receipts:
        part = facts.scenario.part_of(receipt.partner)
        if part is None or part.wrong_person_first or receipt.type != "level.raised" or receipt.level < 2:
            continue
        steps = pace.acknowledge_within_seconds + (receipt.level - 2) * pace.next_level_every_seconds
        due_at = start + timedelta(seconds=steps)
        if receipt.at < due_at - EARLY_GRACE:
            seconds = (due_at - receipt.at).total_seconds()
            yield f"{_whom(receipt)} was paged at level {receipt.level} {seconds:.2f} s early"


def _unasked(facts: Facts) -> Iterator[str]:
    for part in facts.scenario.parts:
        if not part.end.was_unreached:
            continue
        for taker in (facts.scenario.raiser, SECRETARIAT):
            asked = any(
                receipt.partner == taker
                and receipt.type == "partner.unreached"
                and receipt.data.get("unreached_partner") == part.partner
                for receipt in facts.receipts
            )
            if not asked:
                yield f"{taker} was not asked about {part.partner}"


def _untold(facts: Facts) -> Iterator[str]:
    told = {
        (receipt.data["answer"]["partner"], receipt.data["answer"]["state"])
        for receipt in facts.receipts
        if receipt.type == "answer.received" and receipt.partner == facts.scenario.raiser and "answer" in receipt.data
    }
    for part in facts.scenario.parts:
        if part.end.state == "unreached":
            continue
        states = ["acknowledged"] + ([part.stance.value] if part.stance is not None else [])
        for state in states:
            if (part.partner, state) not in told:
                yield f"{part.partner} {state}"


def _missed_by(facts: Facts, message_type: str, *, before: bool) -> Iterator[str]:
    """Places that were paged and never got this message. `before`: only pages from before its first copy count.

    Of an officer who has handed over by then, and signed, the correction is no business any more.
    """
    got = {(r.partner, r.place): r.at for r in reversed(facts.receipts) if r.type == message_type}
    if not got:
        yield "nobody got it"
        return
    first_at = min(got.values())
    paged = {(r.partner, r.place) for r in facts.receipts if r.type in PAGING_TYPES and (not before or r.at < first_at)}
    change = facts.change
    if before and change is not None and change.signed_at is not None and change.signed_at < first_at:
        paged.discard((change.partner, change.outgoing))
    for partner, place in sorted(paged - got.keys()):
        yield f"{partner} {place_name(place)}"


def _still_open(facts: Facts) -> Iterator[str]:
    for cell in facts.ended:
        if cell["state"] != "ended":
            yield f"{cell['partner']} is {cell['state']}"
    if not facts.ended:
        yield "there was none"


def _unlabelled(facts: Facts) -> Iterator[str]:
    label = STATUS.upper()
    for receipt in facts.receipts:
        if receipt.headline and (not receipt.headline.startswith(f"{label} ") or receipt.headline.count(label) != 1):
            yield f"{_whom(receipt)} read: {receipt.headline[:40]}"

    for heard in facts.heard:
        if any(rota in heard.said for rota in facts.rotas):
            continue  # A notice about a roster is part of no alert.
        if heard.said and (not heard.said.startswith(label) or heard.said.splitlines()[0].count(label) != 1):
            yield f"{_reader(heard)}: {heard.said[:40]}"


def _answered_elsewhere(facts: Facts) -> Iterator[str]:
    for part in facts.scenario.parts:
        answer = (_cell_of(facts.cells, part.partner) or {}).get("acknowledgement")
        if answer is not None and answer["via"] != part.via.value:
            yield f"{part.partner} acknowledged by {answer['via']}, not {part.via.value}"


def _foreign(facts: Facts) -> Iterator[str]:
    """Calls in another language than the first of whoever is called; calls that nobody took say nothing."""
    for heard in facts.heard:
        spoken = facts.languages.get((heard.partner, heard.place), ())
        if heard.language and spoken and not heard.language.startswith(spoken[0]):
            yield f"{_reader(heard)} heard {heard.language}"
    for part in facts.scenario.parts:
        if part.via is Via.VOICE and not any(one.partner == part.partner and one.language for one in facts.heard):
            yield f"{part.partner} was told nothing by telephone"


def _kept_waiting(facts: Facts) -> Iterator[str]:
    for part in facts.scenario.parts:
        if part.telephones is not Telephones.TEXTS_LOST:
            continue
        own = [one for one in facts.heard if (one.partner, one.place) == (part.partner, part.answers_at)]
        text = next((one for one in own if one.channel is ChannelName.SMS), None)
        call = next((one for one in own if one.channel is ChannelName.VOICE), None)
        if text is None or call is None:
            yield f"{part.partner} got no {'message' if text is None else 'call'}"
        elif call.at > text.at + NEXT_CHANNEL_WITHIN:
            yield f"{part.partner} was called only {(call.at - text.at).total_seconds():.1f} s after the lost message"


def _overlooked(facts: Facts) -> Iterator[str]:
    hole = facts.hole
    if hole is None:
        yield "there was none"
        return
    span = (hole.begins_at, hole.ends_at)
    if span not in [(parse_instant(one["begins_at"]), parse_instant(one["ends_at"])) for one in hole.found]:
        yield f"{hole.partner}: readiness did not find it"
    released_at = _released_at(facts)
    for partner, kind in zip((hole.partner, SECRETARIAT), HoleSeen.NOTICES, strict=True):
        told = [one.at for one in facts.receipts if one.partner == partner and one.notice_kind == kind]
        if not told or released_at is None or min(told) > released_at:
            yield f"{partner} was not told before the alert"
    if hole.left:
        yield f"{hole.partner}: it was filled, and readiness still found one"


def _wrong_shift(facts: Facts) -> Iterator[str]:
    change, released_at = facts.change, _released_at(facts)
    if change is None or released_at is None or not change.change_at > released_at:
        yield "no shift ended after the release"
        return
    pages = change.pages(facts.receipts)
    early = {one.place for one in pages if one.at < change.change_at}
    if early != {change.outgoing}:
        yield f"{change.partner}: before the change {_places(early)} was paged, not {place_name(change.outgoing)}"
    if not any(one.place == change.incoming for one in pages if one.level == LAST_LEVEL):
        yield f"{change.partner}: {place_name(change.incoming)} was never paged"


def _wrongly_signed(facts: Facts) -> Iterator[str]:
    change = facts.change
    if change is None or change.signed_at is None:
        yield "no hand-over was signed"
        return
    pages = [one for one in change.pages(facts.receipts) if one.level == LAST_LEVEL]
    before = {one.place for one in pages if one.at <= change.signed_at}
    if before != {change.outgoing, change.incoming}:
        yield f"{change.partner}: {_places(before)} was paged before both had signed"
    after = {one.place for one in pages if one.at > change.signed_at + AFTER_ANSWER_GRACE}
    # Where signing took a slow machine until nobody is asked any more, there is no further page to go to anybody.
    again_at = change.signed_at + AFTER_ANSWER_GRACE + timedelta(seconds=facts.pace.next_level_every_seconds)
    is_asked_again = facts.unreached_at.get(change.partner, again_at) >= again_at
    if not after <= {change.incoming} or (is_asked_again and not after):
        yield f"{change.partner}: {_places(after)} was paged after both had signed"


def _places(places: set[str]) -> str:
    return " and ".join(sorted(map(place_name, places))) or "nobody"


def _reader(heard: Heard) -> str:
    return f"{heard.partner} {place_name(heard.place)} by {CHANNEL_NAMES[heard.channel]}"


def _whom(receipt: Receipt) -> str:
    return f"{receipt.partner} {place_name(receipt.place)}"

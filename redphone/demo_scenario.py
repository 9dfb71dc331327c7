"""What a demonstration plays: who raises which alert, how each partner behaves, and how each must end.

The cast: a `Timeline` holds the facts of a real crisis, each with its source; a `Part` is one partner's behaviour and
expected end; a `Scenario` is one crisis with its parts; a `Pace` says how many seconds stand for the minutes of a real
deadline. Pure: nothing here waits, sends or reads anything but the files of this package.

The facts are real. What partners answer is invented, and so is every person.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from importlib import resources
from typing import Any

import orjson

STATUS = "Exercise"
PRECEDENCE = "FLASH"
NOTE = "Demonstration on one machine: real facts, invented people and answers, deadlines of seconds."
PARAMETER_CHARACTERS_MAX = 500


class Machine(StrEnum):
    """How a partner's own system treats what it is sent."""

    ANSWERS = "answers"
    SLOW = "slow"
    FAILS_FIRST = "fails_first"
    HANGS = "hangs"
    DOWN = "down"


class Wakes(StrEnum):
    """What makes the partner's officer answer."""

    MACHINE = "machine"
    LEVEL_1 = "level_1"
    LEVEL_2 = "level_2"
    LEVEL_3 = "level_3"
    UNREACHED = "unreached"
    NEVER = "never"


class Via(StrEnum):
    """From where the partner's people acknowledge; the names are the API's own."""

    API = "api"
    SMS = "sms"
    VOICE = "voice"
    EMAIL = "email"
    LINK = "link"


class Telephones(StrEnum):
    """How a partner's telephones are: they work, short messages get lost, or nobody is reached at all."""

    WORK = "work"
    TEXTS_LOST = "texts_lost"
    DEAD = "dead"


class Stance(StrEnum):
    """The partner's substantive answer; the names are the API's own."""

    COMMITTED = "committed"
    CONSIDERING = "considering"
    DECLINED = "declined"
    NOTED = "noted"


LEVEL_OF = {Wakes.MACHINE: 1, Wakes.LEVEL_1: 1, Wakes.LEVEL_2: 2, Wakes.LEVEL_3: 3, Wakes.UNREACHED: 3, Wakes.NEVER: 3}
"""The level at which a partner's escalation stands when it is answered, or when all levels are spent."""

DUTY, SENIOR, OFFICE = "duty-1", "senior-1", "office"
"""Who of a partner is on duty, and its office, by their keys in the network file."""

HOLE_AT = "ES"
"""The partner whose rota has a hole before the crisis; it is addressed in each of them."""


@dataclass(frozen=True)
class Pace:
    """Seconds in place of minutes, as the network file's deadlines say them."""

    acknowledge_within_seconds: int
    next_level_every_seconds: int
    unreached_after_seconds: int
    position_within_seconds: int = 600
    """Long enough that nobody is reminded of a position while the demonstration lasts."""

    @property
    def slow_seconds(self) -> float:
        """How long a slow system takes: well below what the sender waits, and felt."""
        return self.acknowledge_within_seconds / 3

    @property
    def shift_left_seconds(self) -> float:
        """How much is left at the release of the shift that ends in the midst: it ends before level 2 is paged."""
        return self.acknowledge_within_seconds - 1.0

    @property
    def shift_ends_after_seconds(self) -> int:
        """How long before its end that shift is planned: enough for everybody to know before the release."""
        return self.acknowledge_within_seconds + 5

    def deadlines(self) -> dict[str, int]:
        """One table of the network file's `deadlines`."""
        return {
            "acknowledge_within_seconds": self.acknowledge_within_seconds,
            "next_level_every_seconds": self.next_level_every_seconds,
            "unreached_after_seconds": self.unreached_after_seconds,
            "position_within_seconds": self.position_within_seconds,
        }


NORMAL = Pace(acknowledge_within_seconds=8, next_level_every_seconds=4, unreached_after_seconds=22)
QUICK = Pace(acknowledge_within_seconds=5, next_level_every_seconds=3, unreached_after_seconds=14)


@dataclass(frozen=True)
class End:
    """How a partner must stand when the alert is stood down.

    `was_unreached` stays true for a partner that acknowledged afterwards; `taken_over_by` is a partner code.
    """

    state: str
    level: int
    late: bool = False
    was_unreached: bool = False
    taken_over_by: str | None = None


@dataclass(frozen=True)
class Part:
    """What one partner does. `after` counts from what wakes it, in intervals between two levels."""

    partner: str
    machine: Machine
    wakes: Wakes
    end: End
    after: float = 0.2
    stance: Stance | None = None
    offer: str | None = None
    wrong_person_first: bool = False
    """The duty officer says "wrong person" at level 1, which pages the next level at once."""
    via: Via = Via.API
    telephones: Telephones = Telephones.WORK

    @property
    def answers_in_time(self) -> bool:
        """Whether a human of this partner acknowledges before all levels are spent."""
        return self.wakes not in (Wakes.UNREACHED, Wakes.NEVER)

    @property
    def answers_at(self) -> str:
        """Whose telephone or mailbox the answer comes from."""
        if self.wakes in (Wakes.MACHINE, Wakes.LEVEL_1):
            return DUTY
        return OFFICE if self.wakes is Wakes.LEVEL_3 else SENIOR

    @property
    def plays(self) -> str:
        """The part in a few words."""
        machine = {
            Machine.ANSWERS: "system works",
            Machine.SLOW: "system is slow",
            Machine.FAILS_FIRST: "system fails twice",
            Machine.HANGS: "system hangs",
            Machine.DOWN: "system is down",
        }[self.machine]
        people = {
            Wakes.MACHINE: "officer sees it there",
            Wakes.LEVEL_1: "duty officer answers",
            Wakes.LEVEL_2: "senior contact answers",
            Wakes.LEVEL_3: "only the office answers",
            Wakes.UNREACHED: "people answer far too late",
            Wakes.NEVER: "nobody answers",
        }[self.wakes]
        if self.wrong_person_first:
            people = "wrong person, then the next"
        by = {
            Via.API: "",
            Via.SMS: " by SMS",
            Via.VOICE: " by telephone key",
            Via.EMAIL: " by mail",
            Via.LINK: " by the link",
        }[self.via]
        lost = {
            Telephones.WORK: "",
            Telephones.TEXTS_LOST: "; its SMS get lost",
            Telephones.DEAD: "; its telephones are dead",
        }[self.telephones]
        return f"{machine}, {people}{by}{lost}"


@dataclass(frozen=True)
class Happening:
    """One event of a timeline."""

    at: str
    text: str
    figures: Mapping[str, int]
    source: str

    @property
    def day(self) -> str:
        """The day as people write it, or the month where no more is known."""
        if len(self.at) < len("2021-08-15"):
            year, month = self.at.split("-")
            return date(int(year), int(month), 1).strftime("%b %Y")
        day = date.fromisoformat(self.at[: len("2021-08-15")])
        return f"{day.day} {day:%b}"


@dataclass(frozen=True)
class Timeline:
    """The facts of one crisis."""

    id: str
    title: str
    country: str
    category: str
    geocodes: tuple[tuple[str, str], ...]
    happenings: tuple[Happening, ...]

    @classmethod
    def load(cls, name: str) -> Timeline:
        """The timeline of this name that the package holds."""
        return cls.of(orjson.loads((resources.files("redphone") / "timelines" / f"{name}.json").read_bytes()))

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Timeline:
        """The timeline of a file's content; `KeyError` if something is missing."""
        return cls(
            id=document["id"],
            title=document["title"],
            country=document["country_iso3"],
            category=document["category_hint"],
            geocodes=tuple((code["valueName"], code["value"]) for code in document["geocodes"]),
            happenings=tuple(
                Happening(event["at"], event["text"], dict(event["figures"]), event["source"])
                for event in document["events"]
            ),
        )


@dataclass(frozen=True)
class Text:
    """One message: a headline, the happenings that it tells, by their place in the timeline, and what is asked."""

    headline: str
    tells: tuple[int, ...]
    instruction: str


@dataclass(frozen=True)
class Scenario:
    """One crisis, played by ten partners and the secretariat."""

    name: str
    timeline: Timeline
    place: str
    raiser: str
    alert: Text
    update: Text
    closing: int
    """Place of the happening that ends the alert."""
    parts: tuple[Part, ...]

    def part_of(self, partner: str) -> Part | None:
        """The part of an addressed partner; None for the raiser and the secretariat."""
        return next((part for part in self.parts if part.partner == partner), None)

    @property
    def relieved(self) -> str:
        """The partner whose duty officer's shift ends in the midst: the one that is paged for longest."""
        return next(part.partner for part in self.parts if part.wakes is Wakes.UNREACHED)

    @property
    def addressed(self) -> tuple[str, ...]:
        """The partners that must acknowledge."""
        return tuple(part.partner for part in self.parts)

    @property
    def closing_note(self) -> str:
        """What the stand-down says."""
        return self._told(self.closing)

    def _told(self, place: int) -> str:
        happening = self.timeline.happenings[place]
        return f"{happening.day}: {happening.text}"

    def description(self, text: Text) -> str:
        """The facts of a message as sentences, each with its day."""
        return " ".join(self._told(place) for place in text.tells)

    def info(self, text: Text) -> dict[str, Any]:
        """The message as a CAP info block: figures and sources are parameters, so that machines find them too."""
        told = [self.timeline.happenings[place] for place in text.tells]
        figures = [
            {"name": f"figure:{name}", "value": f"{value} as of {happening.at[:10]}"}
            for happening in told
            for name, value in happening.figures.items()
        ]
        sources = [
            {"name": "source", "value": source[:PARAMETER_CHARACTERS_MAX]}
            for source in dict.fromkeys(happening.source for happening in told)
        ]
        return {
            "language": "en",
            "event": self.timeline.title,
            "categories": [self.timeline.category],
            "response_types": ["Evacuate" if self.timeline.category == "Security" else "Assess"],
            "urgency": "Immediate",
            "severity": "Extreme",
            "certainty": "Observed",
            "headline": text.headline,
            "description": self.description(text),
            "instruction": text.instruction,
            "web": told[0].source,
            "parameters": [*figures, *sources],
            "areas": [
                {
                    "description": self.place,
                    "geocodes": [{"name": name, "value": value} for name, value in self.timeline.geocodes],
                }
            ],
        }

    def draft(self) -> dict[str, Any]:
        """The body that drafts the alert."""
        return {
            "precedence": PRECEDENCE,
            "status": STATUS,
            "note": NOTE,
            "to": list(self.addressed),
            "info": [self.info(self.alert)],
        }

    def correction(self) -> dict[str, Any]:
        """The body that drafts the Update: later figures, nobody is asked anew."""
        return {"asks_anew": False, "info": [self.info(self.update)]}


# --- the four crises --------------------------------------------------------------------------------------------------


def _answers(
    partner: str,
    stance: Stance,
    offer: str | None = None,
    *,
    machine: Machine = Machine.ANSWERS,
    wakes: Wakes = Wakes.LEVEL_1,
    after: float = 0.2,
    via: Via = Via.API,
    telephones: Telephones = Telephones.WORK,
) -> Part:
    """Somebody acknowledges before all levels are spent, and takes a position. From level 2 on that is late."""
    level = LEVEL_OF[wakes]
    end = End(stance.value, level, late=level > 1)
    return Part(partner, machine, wakes, end, after=after, stance=stance, offer=offer, via=via, telephones=telephones)


def _wrong_person(partner: str, stance: Stance, offer: str | None = None) -> Part:
    """The duty officer says "wrong person", and the senior contact, paged at once, answers in the new time."""
    end = End(stance.value, level=2)
    return Part(
        partner, Machine.ANSWERS, Wakes.LEVEL_2, end, after=0.2, stance=stance, offer=offer, wrong_person_first=True
    )


def _too_late(partner: str, *, machine: Machine = Machine.ANSWERS, via: Via = Via.API) -> Part:
    """Unreached first, and then somebody acknowledges all the same."""
    end = End("acknowledged", level=3, late=True, was_unreached=True)
    return Part(partner, machine, Wakes.UNREACHED, end, after=1.2, via=via)


def _silent(
    partner: str,
    taken_over_by: str,
    *,
    machine: Machine = Machine.ANSWERS,
    telephones: Telephones = Telephones.WORK,
) -> Part:
    """Nobody answers; a human of the raiser or of the secretariat takes the partner over."""
    end = End("unreached", level=3, was_unreached=True, taken_over_by=taken_over_by)
    return Part(partner, machine, Wakes.NEVER, end, telephones=telephones)


def _afghanistan() -> Scenario:
    return Scenario(
        name="afghanistan",
        timeline=Timeline.load("afghanistan-2021-08"),
        place="Kabul and Hamid Karzai airport, Afghanistan",
        raiser="CA",
        alert=Text(
            "Kabul has fallen: people at risk need a way out while the airport works",
            (0, 1, 2),
            "Say how many seats, visas and places you can offer within 72 hours. Counts only: no names, no lists.",
        ),
        update=Text(
            "Kabul airport: gates closed after a bombing; corrected number of evacuated",
            (3, 4, 5),
            "Send nobody to the gates. Those who have answered need not answer again.",
        ),
        closing=8,
        parts=(
            _answers("GB", Stance.COMMITTED, "seats on two flights", via=Via.SMS),
            _answers("US", Stance.COMMITTED, "seats on four flights", via=Via.VOICE, telephones=Telephones.TEXTS_LOST),
            _answers("DE", Stance.COMMITTED, "one flight, transit", machine=Machine.FAILS_FIRST, wakes=Wakes.MACHINE),
            _answers("EU", Stance.CONSIDERING, machine=Machine.SLOW, wakes=Wakes.MACHINE),
            _answers("AU", Stance.COMMITTED, "300 visas", machine=Machine.HANGS, wakes=Wakes.LEVEL_2, via=Via.EMAIL),
            _answers("ES", Stance.DECLINED, wakes=Wakes.LEVEL_2, via=Via.VOICE),
            _answers("IT", Stance.NOTED, wakes=Wakes.LEVEL_3, via=Via.LINK),
            _too_late("NZ", via=Via.LINK),
            _silent("BR", taken_over_by="XR", machine=Machine.DOWN, telephones=Telephones.DEAD),
        ),
    )


def _derna() -> Scenario:
    return Scenario(
        name="derna",
        timeline=Timeline.load("libya-derna-2023-09"),
        place="Derna and north-eastern Libya",
        raiser="IT",
        alert=Text(
            "Derna: two dams have burst, tens of thousands displaced, Libya asks for help",
            (0, 2, 6),
            "Say what you can send within 48 hours and whether you can take injured people.",
        ),
        update=Text(
            "Derna: figures revised down; the earlier death toll no longer holds",
            (7,),
            "Use these figures and drop the earlier ones. Those who have answered need not answer again.",
        ),
        closing=9,
        parts=(
            _answers("EU", Stance.COMMITTED, "shelter items and generators"),
            _answers("DE", Stance.COMMITTED, "tents and water tanks", after=0.4),
            _answers("ES", Stance.COMMITTED, "a rescue team", machine=Machine.FAILS_FIRST, wakes=Wakes.MACHINE),
            _answers("GB", Stance.NOTED, machine=Machine.SLOW, wakes=Wakes.MACHINE),
            _wrong_person("US", Stance.COMMITTED, "a field hospital"),
            _answers("CA", Stance.CONSIDERING, machine=Machine.HANGS, wakes=Wakes.LEVEL_2),
            _answers("BR", Stance.DECLINED, wakes=Wakes.LEVEL_3),
            _too_late("AU", machine=Machine.DOWN),
            _silent("NZ", taken_over_by="IT"),
        ),
    )


def _gaza() -> Scenario:
    return Scenario(
        name="gaza",
        timeline=Timeline.load("gaza-2023-10"),
        place="Gaza Strip and the Rafah crossing",
        raiser="AU",
        alert=Text(
            "Gaza: more than a million people told to move within a day; no crossing is open",
            (0, 1, 2, 3),
            "Say what you can do to open a way out, and whom you can receive. Counts only: no names, no lists.",
        ),
        update=Text(
            "Rafah has opened; a list with names was published: share no personal data",
            (4, 5),
            "Send counts and opaque case tokens only. Those who have answered need not answer again.",
        ),
        closing=6,
        parts=(
            _answers("US", Stance.COMMITTED, "a team at the crossing"),
            _answers("GB", Stance.COMMITTED, "reception for 100 people", after=0.4),
            _answers("CA", Stance.CONSIDERING, machine=Machine.FAILS_FIRST, wakes=Wakes.MACHINE),
            _answers("ES", Stance.COMMITTED, "medical places", machine=Machine.HANGS),
            _answers("DE", Stance.NOTED, machine=Machine.SLOW, wakes=Wakes.LEVEL_2),
            _answers("EU", Stance.COMMITTED, "humanitarian flights", wakes=Wakes.LEVEL_2, after=0.4),
            _answers("IT", Stance.COMMITTED, "a hospital ship", wakes=Wakes.LEVEL_3),
            _too_late("BR"),
            _silent("NZ", taken_over_by="XR", machine=Machine.DOWN),
        ),
    )


def _sudan() -> Scenario:
    return Scenario(
        name="sudan",
        timeline=Timeline.load("sudan-2023-04"),
        place="Khartoum and Port Sudan, Sudan",
        raiser="GB",
        alert=Text(
            "Khartoum: fighting, telephones and internet gone; evacuation by air, road and sea",
            (0, 1, 2, 3),
            "Say which seats and ships you can share within 72 hours. Do not count on contacts in Sudan.",
        ),
        update=Text(
            "Sudan: borders are filling; new figures of those who crossed",
            (4, 6, 7),
            "Help with visa fees at the border. Those who have answered need not answer again.",
        ),
        closing=5,
        parts=(
            _answers("DE", Stance.COMMITTED, "seats on flights to Jordan"),
            _answers("ES", Stance.COMMITTED, "seats on a flight to Djibouti", after=0.4),
            _answers("EU", Stance.COMMITTED, "transit in Chad", machine=Machine.FAILS_FIRST, wakes=Wakes.MACHINE),
            _answers("IT", Stance.CONSIDERING, machine=Machine.SLOW, wakes=Wakes.MACHINE),
            _wrong_person("NZ", Stance.DECLINED),
            _answers("CA", Stance.COMMITTED, "two aircraft", machine=Machine.HANGS, wakes=Wakes.LEVEL_2),
            _answers("AU", Stance.NOTED, wakes=Wakes.LEVEL_3),
            _too_late("US"),
            _silent("BR", taken_over_by="GB", machine=Machine.DOWN),
        ),
    )


_CRISES = {"afghanistan": _afghanistan, "derna": _derna, "gaza": _gaza, "sudan": _sudan}
CRISES: Sequence[str] = tuple(_CRISES)


def scenario(name: str) -> Scenario:
    """The scenario of this name; `KeyError` if there is none."""
    return _CRISES[name]()

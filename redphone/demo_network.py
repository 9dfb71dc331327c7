"""The network of a demonstration: the one that this package ships, with other deadlines and other addresses.

Everything that is different from production is written in a network file, in the way in which an administrator would
write it: the deadlines of each precedence, where webhooks go, and who is on duty. Nothing in the services knows of it.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, time
from importlib import resources
from typing import Any

import orjson

from redphone.demo_scenario import DUTY, OFFICE, PRECEDENCE, SENIOR, Pace, Part, Telephones, Via, Wakes

SYSTEM = "system"
ON_DUTY = {"duty": DUTY, "senior": SENIOR}
"""By rota the one contact who is on duty: those who have a credential, so that whoever is paged can answer."""

RELIEF, RELIEF_OFFICER = "duty-2", "relief-officer"
"""Who comes when a shift ends in the midst, and what follows the partner's code in that person's credential."""


@dataclass(frozen=True)
class Reached:
    """A person or an office, and where they are reached."""

    partner: str
    place: str
    name: str
    languages: tuple[str, ...]
    sms: str | None
    voice: str | None
    email: str | None


@dataclass(frozen=True)
class Network:
    """A network file's text, the partners' names by code, everybody whom it reaches, and the names of rotas."""

    text: str
    names: Mapping[str, str]
    reached: tuple[Reached, ...]
    rotas: frozenset[str]

    def person(self, partner: str, place: str) -> Reached:
        """Who is reached at a place; the senior contact speaks for the office."""
        key = SENIOR if place == OFFICE else place
        return next(one for one in self.reached if (one.partner, one.place) == (partner, key))


def demonstration_network(receivers_url: str, pace: Pace, parts: Sequence[Part] = ()) -> Network:
    """The shipped network with the deadlines of `pace` and every webhook at `receivers_url`/partner/place.

    Whoever answers by telephone is called at once, not after two minutes, unless their part is to show what happens
    before those have passed. Nobody is told of shifts that begin tomorrow, and whoever relieves an officer can sign.
    """
    relieved = {part.partner for part in parts if part.wakes is Wakes.UNREACHED}
    called = {(part.partner, part.answers_at) for part in parts if _is_called_at_once(part)}
    document = tomllib.loads((resources.files("redphone") / "rdn.toml").read_text("utf-8"))
    document["deadlines"][PRECEDENCE] = pace.deadlines()
    for code, partner in document["partners"].items():
        for key, endpoint in partner.get("endpoints", {}).items():
            endpoint["url"] = f"{receivers_url}/{code}/{SYSTEM}" + ("" if key == "main" else f"-{key}")
        for office in partner.get("offices", {}).values():
            _redirect(office, f"{receivers_url}/{code}/{OFFICE}")
        for key, contact in partner.get("contacts", {}).items():
            _redirect(contact, f"{receivers_url}/{code}/{key}")
            if (code, key) in called:
                contact["points"]["voice"].pop("delay_seconds", None)
        if code in relieved:
            officer = {"kind": "person", "contact": RELIEF, "roles": ["duty_officer"]}
            partner["credentials"][f"{code.lower()}-{RELIEF_OFFICER}"] = officer
        for key, rota in partner.get("rotas", {}).items():
            rota["notice_hours"] = []
            if key == "duty" and code in relieved:
                rota["signs_hand_over"] = True
            for layer in rota["layers"] if key in ON_DUTY else ():
                layer["participants"] = [ON_DUTY[key]]
    names = {code: partner["name"] for code, partner in document["partners"].items()}
    rotas = frozenset(rota["name"] for partner in document["partners"].values() for rota in partner["rotas"].values())
    return Network(written(document), names, tuple(_reached(document)), rotas)


def _is_called_at_once(part: Part) -> bool:
    return part.via is Via.VOICE and part.telephones is Telephones.WORK


def _reached(document: Mapping[str, Any]) -> Iterator[Reached]:
    for code, partner in document["partners"].items():
        owners = {OFFICE: partner["offices"]["main"], **partner.get("contacts", {})}
        for place, owner in owners.items():
            by_channel = {point["channel"]: point["address"] for point in owner.get("points", {}).values()}
            yield Reached(
                partner=code,
                place=place,
                name=owner["name"],
                languages=tuple(owner.get("languages", partner.get("languages", ["en"]))),
                sms=by_channel.get("sms"),
                voice=by_channel.get("voice"),
                email=by_channel.get("email"),
            )


def _redirect(owner: dict[str, Any], url: str) -> None:
    for point in owner.get("points", {}).values():
        if point["channel"] == "webhook":
            point["address"] = url


def written(document: Mapping[str, Any]) -> str:
    """The document as TOML: what `tomllib` reads from it is the document again."""
    return "\n".join(_table(document, ())) + "\n"


def _table(table: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[str]:
    for key, value in table.items():
        if not _is_table(value):
            yield f"{_key(key)} = {_value(value)}"
    for key, value in table.items():
        inner = (*path, _key(key))
        if isinstance(value, Mapping):
            yield f"\n[{'.'.join(inner)}]"
            yield from _table(value, inner)
        elif _is_table(value):
            for element in value:
                yield f"\n[[{'.'.join(inner)}]]"
                yield from _table(element, inner)


def _is_table(value: object) -> bool:
    return isinstance(value, Mapping) or (
        isinstance(value, list) and bool(value) and all(isinstance(element, Mapping) for element in value)
    )


def _key(key: str) -> str:
    bare = key.isascii() and all(letter.isalnum() or letter in "-_" for letter in key) and key != ""
    return key if bare else _value(key)


def _value(value: object) -> str:
    if isinstance(value, str):
        # A JSON string is a TOML string, but for one control character that TOML wants escaped.
        return orjson.dumps(value).decode().replace("\x7f", "\\u007f")
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, list):
        return f"[{', '.join(_value(element) for element in value)}]"
    raise TypeError(f"{type(value).__name__} has no form in TOML here")

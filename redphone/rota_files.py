"""A rota or a replacement in a file: JSON as the API takes it, or TOML as it stands under a rota of a network file.

The promise: pure. In both forms a person is given by id or by name, and a name that fits nobody or several is refused
with what would be right; everything else is for the API to check, which says all that is wrong at once.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from datetime import date, datetime, time
from typing import Any
from uuid import UUID

import orjson

from redphone.exits import Exit, Failed

NO_CALENDAR = "none"


def read(text: str, file_name: str, contacts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The body that a file says, with ids of people in the place of names; `Failed` if it cannot be read."""
    try:
        said = tomllib.loads(text) if file_name.endswith(".toml") else orjson.loads(text)
    except (tomllib.TOMLDecodeError, orjson.JSONDecodeError) as error:
        raise Failed(f"{file_name} cannot be read: {error}", exit_code=Exit.USAGE) from None
    if not isinstance(said, dict):
        raise Failed(f"{file_name} is no object; see redphone rota set --help.", exit_code=Exit.USAGE)
    body: dict[str, Any] = _plain(said)
    holidays = body.get("extra_holidays")
    if isinstance(holidays, dict):
        body["extra_holidays"] = [{"on": on, "name": name} for on, name in sorted(holidays.items())]
    if body.get("holiday_calendar") == NO_CALENDAR:
        body["holiday_calendar"] = None
    layers = body.get("layers", [])
    if not isinstance(layers, list):
        what = f"{file_name} holds something else than a list as layers; write each layer under [[layers]]."
        raise Failed(what, exit_code=Exit.USAGE)
    for number, layer in enumerate(layers):
        if not isinstance(layer, dict):
            continue
        layer.setdefault("name", f"layer {number + 1}")
        for key in ("participants", "deputies"):
            if isinstance(layer.get(key), list):
                layer[key] = [contact_id(str(person), contacts) for person in layer[key]]
    return body


def contact_id(person: str, contacts: Sequence[Mapping[str, Any]]) -> str:
    """The id of a contact that is given by id or by name; part of a name is enough if it fits one alone."""
    try:
        return str(UUID(person))
    except ValueError:
        wanted = person.strip().casefold()
    exact = [one for one in contacts if str(one["name"]).casefold() == wanted]
    found = exact or [one for one in contacts if wanted and wanted in str(one["name"]).casefold()]
    if len(found) == 1:
        return str(found[0]["id"])
    names = ", ".join(str(one["name"]) for one in (found or contacts)[:10])
    what = f"{person} is the name of several of your contacts." if found else f"You have no contact {person}."
    raise Failed(what, details=[f"Name one of: {names}."], exit_code=Exit.REFUSED, code="not_found")


def _plain(value: Any) -> Any:
    """Dates and times of TOML as the API writes them."""
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_plain(part) for part in value]
    if isinstance(value, time):
        # Whole minutes are all that a rota knows; anything finer is left for the API to refuse.
        return value.isoformat(timespec="auto" if value.second or value.microsecond else "minutes")
    return value.isoformat() if isinstance(value, (date, datetime)) else value

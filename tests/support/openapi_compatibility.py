"""What a newer OpenAPI document takes away from those who work with an older one, one sentence for each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from shared.openapi import operations_of, resolve

Document = Mapping[str, Any]


def breaks(old: Document, new: Document) -> list[str]:
    """Calls that are gone, fields that are no longer taken or told, what is required or typed otherwise now."""
    present = {(method, path): operation for method, path, operation in operations_of(new)}
    found: list[str] = []
    for method, path, before in operations_of(old):
        place = f"{method.upper()} {path}"
        after = present.get((method, path))
        if after is None:
            found.append(f"{place} is gone")
            continue
        if before["operationId"] != after["operationId"]:
            found.append(f"{place} was called {before['operationId']}, is called {after['operationId']}")
        # What a webhook's request says is told by us, so it is judged as an answer.
        is_webhook = path in old.get("webhooks", {})
        found += _parameters(place, before, after)
        for which, then, now in _bodies(before, after):
            if now is None:
                found.append(f"{place} {which} is gone")
            else:
                taken = which == "request" and not is_webhook
                found += _schema(f"{place} {which}", (old, then), (new, now), taken=taken, seen=frozenset())
    return found


def _bodies(before: Any, after: Any) -> Iterator[tuple[str, Any, Any]]:
    then, now = before.get("requestBody", {}), after.get("requestBody", {})
    pairs = [("request", then, now)]
    pairs += [
        (status, answer, after["responses"].get(status, {}))
        for status, answer in before["responses"].items()
        if status.startswith("2")
    ]
    for which, old, new in pairs:
        for media_type, media in old.get("content", {}).items():
            fresh = new.get("content", {}).get(media_type)
            yield which, media["schema"], None if fresh is None else fresh["schema"]


def _parameters(place: str, before: Any, after: Any) -> list[str]:
    old = {one["name"]: one for one in before.get("parameters", ())}
    new = {one["name"]: one for one in after.get("parameters", ())}
    found = [f"{place} {name}: is not taken any more" for name in old.keys() - new.keys()]
    found += [
        f"{place} {name}: is required now"
        for name, one in new.items()
        if one.get("required") and not old.get(name, {}).get("required")
    ]
    return sorted(found)


def _schema(
    place: str, old: tuple[Document, Any], new: tuple[Document, Any], *, taken: bool, seen: frozenset[str]
) -> list[str]:
    name = old[1].get("$ref", "")
    if name and name in seen:
        return []
    seen |= {name}
    then, now = resolve(*old), resolve(*new)
    was, is_now = _type(then), _type(now)
    if was != is_now:
        return [f"{place}: was {was}, is {is_now}"]
    found: list[str] = []
    lost = set(then.get("enum", ())) - set(now.get("enum", ()))
    if lost and taken:
        found.append(f"{place}: no longer takes {', '.join(sorted(map(str, lost)))}")
    before, after = then.get("properties", {}), now.get("properties", {})
    for field, part in before.items():
        if field not in after:
            found.append(f"{place} {field}: is not {'taken' if taken else 'told'} any more")
        else:
            found += _schema(f"{place} {field}", (old[0], part), (new[0], after[field]), taken=taken, seen=seen)
    if taken:
        required = set(now.get("required", ())) - set(then.get("required", ()))
        found += [f"{place} {field}: is required now" for field in sorted(required)]
    else:
        optional = (set(then.get("required", ())) - set(now.get("required", ()))) & after.keys()
        found += [f"{place} {field}: may be absent now" for field in sorted(optional)]
    if "items" in then and "items" in now:
        found += _schema(f"{place}[]", (old[0], then["items"]), (new[0], now["items"]), taken=taken, seen=seen)
    return found


def _type(schema: Any) -> str:
    if "anyOf" in schema:
        return " or ".join(sorted(_type(part) for part in schema["anyOf"]))
    reference = schema.get("$ref", "").rpartition("/")[2]
    return str(schema.get("type") or reference or schema.get("const") or "anything")

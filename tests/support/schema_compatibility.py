"""Whether a published JSON Schema may become another one: only optional additions are allowed.

Old and new services run side by side during a deploy, and messages lie in streams and feeds: so the new reader must
accept old messages and the old reader new ones. Hence everything that restricts or widens what was there is a breach, a
new value of an enumeration too; words for people (titles, descriptions, examples) may change.
"""

from __future__ import annotations

from typing import Any

ANNOTATIONS = {"title", "description", "examples", "$defs"}
ALTERNATIVES = {"anyOf", "oneOf", "allOf", "prefixItems"}
Seen = frozenset[tuple[str, str]]


def breaches(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """What in `new` breaks the promise of `old`, as sentences with the path; empty if nothing does."""
    comparison = _Comparison(old, new)
    comparison.compare(old, new, "$", frozenset())
    return comparison.found


class _Comparison:
    """Two whole schemas, in which references are looked up, and what has been found so far."""

    def __init__(self, old_root: dict[str, Any], new_root: dict[str, Any]) -> None:
        self._roots = (old_root, new_root)
        self.found: list[str] = []

    def compare(self, old: Any, new: Any, path: str, seen: Seen) -> None:
        """Compares two parts. `seen` holds the pairs of references on the way here, so that recursion ends."""
        refs = (_ref(old), _ref(new))
        if any(refs):
            if refs in seen:
                return
            seen = seen | {refs}
            old, new = _resolve(old, self._roots[0]), _resolve(new, self._roots[1])
        if not isinstance(old, dict) or not isinstance(new, dict):
            if old != new:
                self.found.append(f"{path}: {old!r} became {new!r}")
            return
        self._compare_properties(old, new, path, seen)
        for key in sorted((old.keys() | new.keys()) - ANNOTATIONS - {"properties", "required"}):
            before, after = old.get(key), new.get(key)
            if isinstance(before, dict) and isinstance(after, dict):
                self.compare(before, after, f"{path}.{key}", seen)
            elif key in ALTERNATIVES and before is not None and after is not None:
                self._compare_lists(before, after, f"{path}.{key}", seen)
            elif before != after:
                self.found.append(f"{path}: {key} was {before!r} and is {after!r}")

    def _compare_properties(self, old: dict[str, Any], new: dict[str, Any], path: str, seen: Seen) -> None:
        before, after = old.get("properties", {}), new.get("properties", {})
        was_required, is_required = set(old.get("required", ())), set(new.get("required", ()))
        self.found += [f"{path}: the field {name} is gone" for name in sorted(before.keys() - after.keys())]
        self.found += [f"{path}: the new field {name} is required" for name in sorted(is_required - before.keys())]
        for name in sorted(before.keys() & after.keys()):
            if (name in was_required) != (name in is_required):
                self.found.append(f"{path}: the field {name} {'was' if name in was_required else 'is now'} required")
            self.compare(before[name], after[name], f"{path}.{name}", seen)

    def _compare_lists(self, old: list[Any], new: list[Any], path: str, seen: Seen) -> None:
        if len(old) != len(new):
            self.found.append(f"{path}: had {len(old)} alternatives and has {len(new)}")
            return
        for number, (before, after) in enumerate(zip(old, new, strict=True)):
            self.compare(before, after, f"{path}[{number}]", seen)


def _ref(schema: Any) -> str:
    return str(schema.get("$ref", "")) if isinstance(schema, dict) else ""


def _resolve(schema: Any, root: Any) -> Any:
    """The schema that a reference means, with what stands beside the reference (a default, for example)."""
    while ref := _ref(schema):
        target: Any = root
        for part in ref.removeprefix("#/").split("/"):
            target = target[part]
        schema = {**target, **{key: value for key, value in schema.items() if key != "$ref"}}
    return schema

"""TOML tables read with all their mistakes, and the line on which each key stands.

The cast: a `Table` hands out typed values and notes under its path whatever is wrong; `Lines` finds the line of a path
afterwards, for a text that can be read but means nothing sensible.

The promise: reading never stops at the first mistake. `Lines` follows a text that `tomllib` has accepted and does not
check it again; whatever it cannot follow only makes a message less exact, for the nearest enclosing key is given then.
"""

from __future__ import annotations

import re
import tomllib
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import date, time
from difflib import get_close_matches
from enum import StrEnum
from typing import Any, TypeVar

from shared.errors import FieldError

Path = tuple[str | int, ...]
"""Keys from the top; a number is a place in an array, counted from 0."""

KEY = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_-]{0,58}[A-Za-z0-9])?")
"""What can be the lasting name of a thing."""

E = TypeVar("E", bound=StrEnum)

_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_STRING = re.compile(
    r'"""(?:[^\\]|\\.)*?"{3,5}(?!")' r"|'''.*?'{3,5}(?!')" r'|"(?:[^"\\\n]|\\.)*"' r"|'[^'\n]*'", re.DOTALL
)
_SCALAR = re.compile(r"[^,\]}#\n]+")


class Lines:
    """Answers on which line a key stands."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._position = 0
        self._line_ends = [found.start() for found in re.finditer("\n", text)]
        self._lines: dict[Path, int] = {}
        self._lengths: dict[Path, int] = {}
        with suppress(_Lost, RecursionError, tomllib.TOMLDecodeError):
            self._document()

    def line_of(self, path: Path) -> int:
        """The line, counted from 1, of the key or of the nearest key around it; 1 for the text as a whole."""
        for length in range(len(path), 0, -1):
            if path[:length] in self._lines:
                return self._lines[path[:length]]
        return 1

    def _document(self) -> None:
        table: Path = ()
        self._blank()
        while self._position < len(self._text):
            if self._take("[["):
                path = self._resolved(self._key())
                self._expect("]]")
                index = self._lengths.get(path, 0)
                self._lengths[path] = index + 1
                table = (*path, index)
                self._note(table)
            elif self._take("["):
                table = self._resolved(self._key())
                self._lines[table] = self._line()
                self._expect("]")
            else:
                self._assignment(table)
            self._blank()

    def _resolved(self, keys: list[str]) -> Path:
        """The path that a table header means: inside an array of tables it speaks of the last one."""
        path: Path = ()
        for place, key in enumerate(keys, start=1):
            path = (*path, key)
            self._note(path)
            if place < len(keys) and path in self._lengths:
                path = (*path, self._lengths[path] - 1)
        return path

    def _assignment(self, table: Path) -> None:
        path = table
        for key in self._key():
            path = (*path, key)
            self._note(path)
        self._expect("=")
        self._blank()
        self._value(path)

    def _value(self, path: Path) -> None:
        if self._take("["):
            index = 0
            self._blank()
            while not self._take("]"):
                self._note((*path, index))
                self._value((*path, index))
                index += 1
                self._separator()
        elif self._take("{"):
            self._blank()
            while not self._take("}"):
                self._assignment(path)
                self._separator()
        else:
            self._match(_STRING if self._text[self._position : self._position + 1] in ("'", '"') else _SCALAR)

    def _separator(self) -> None:
        self._blank()
        self._take(",")
        self._blank()

    def _key(self) -> list[str]:
        keys = []
        while True:
            self._blank()
            if self._text[self._position : self._position + 1] in ("'", '"'):
                keys.append(str(tomllib.loads(f"key = {self._match(_STRING)}")["key"]))
            else:
                keys.append(self._match(_BARE_KEY))
            self._blank()
            if not self._take("."):
                return keys

    def _note(self, path: Path) -> None:
        self._lines.setdefault(path, self._line())

    def _line(self) -> int:
        return bisect_right(self._line_ends, self._position - 1) + 1

    def _blank(self) -> None:
        self._match(_BLANK)

    def _take(self, mark: str) -> bool:
        found = self._text.startswith(mark, self._position)
        self._position += len(mark) if found else 0
        return found

    def _expect(self, mark: str) -> None:
        if not self._take(mark):
            raise _Lost

    def _match(self, pattern: re.Pattern[str]) -> str:
        found = pattern.match(self._text, self._position)
        if found is None:
            raise _Lost
        self._position = found.end()
        return found.group()


class _Lost(Exception):
    """The text goes on in a way that this module does not know."""


MISTAKES_MAX = 2000
"""Reading ends at so many: what follows is no network file, and whoever wrote it learns enough."""


class TooManyMistakes(Exception):
    """`MISTAKES_MAX` mistakes have been found."""


class Mistakes:
    """What was found wrong in one file, in the order of finding, up to `MISTAKES_MAX`."""

    def __init__(self) -> None:
        self.found: list[tuple[Path, str]] = []
        self._noted: set[Path] = set()

    def note(self, path: Path, message: str) -> None:
        """Notes a mistake at a path; raises `TooManyMistakes` when it is the last one that counts."""
        self.found.append((path, message))
        self._noted.add(path)
        if len(self.found) == MISTAKES_MAX:
            raise TooManyMistakes

    def is_noted(self, path: Path) -> bool:
        """Whether something was noted at this key or at a key around it."""
        return any(path[:length] in self._noted for length in range(1, len(path) + 1))


class Table:
    """One table of the file: hands out typed values and notes what is wrong with them under their path.

    A value that is missing or of another type is noted, and a harmless one is handed out in its place, so that reading
    goes on; what a rule says about that one is then ignored.
    """

    def __init__(self, data: Mapping[str, Any], path: Path, mistakes: Mistakes) -> None:
        self.data, self.path, self._mistakes = data, path, mistakes
        self._known: list[str] = []

    def note(self, message: str, *keys: str | int) -> None:
        """Notes a mistake at a key of this table."""
        self._mistakes.note((*self.path, *keys), message)

    def note_all(self, faults: Iterable[FieldError], *, names_itself: str = "") -> None:
        """Notes what a rule of the domain found, except at keys where a mistake is noted already.

        A fault's field is a key of this table; the field `names_itself` is the table's own key.
        """
        for fault in faults:
            field = "" if fault.field == names_itself else fault.field
            keys = [int(part) if part.isdigit() else part for part in re.split(r"[.\[\]]+", field) if part]
            if not self._mistakes.is_noted((*self.path, *keys)):
                self.note(fault.detail, *keys)

    def text(self, key: str, default: str | None = None) -> str:
        """A string; required if there is no default."""
        value = self._get(key, default)
        return value if isinstance(value, str) else self._wrong(key, value, "a text in quotes", "")

    def optional_text(self, key: str) -> str | None:
        """A string, or `None` if there is none."""
        return self.text(key) if self._has(key) else None

    def integer(self, key: str, default: int | None = None, *, instead: int = 1) -> int:
        """A whole number; required if there is no default."""
        value = self._get(key, default)
        return value if type(value) is int else self._wrong(key, value, "a whole number such as 600", instead)

    def optional_integer(self, key: str) -> int | None:
        """A whole number, or `None` if there is none."""
        return self.integer(key) if self._has(key) else None

    def flag(self, key: str) -> bool:
        """True or false; false if there is none."""
        value = self._get(key, False)
        return value if isinstance(value, bool) else self._wrong(key, value, "true or false", False)

    def texts(self, key: str, limit: int, default: Sequence[str] | None = None) -> tuple[str, ...]:
        """A list of at most `limit` strings; required if there is no default."""
        value = self._get(key, default)
        if isinstance(value, (list, tuple)) and all(isinstance(part, str) for part in value):
            if len(value) <= limit:
                return tuple(value)
            self.note(f"holds {len(value)}; at most {limit} are possible", key)
        else:
            self._wrong(key, value, 'a list of texts such as ["en", "fr"]', None)
        return ()

    def integers(self, key: str, limit: int, default: Sequence[int]) -> tuple[int, ...]:
        """A list of at most `limit` whole numbers."""
        value = self._get(key, default)
        if isinstance(value, (list, tuple)) and all(type(part) is int for part in value):
            if len(value) <= limit:
                return tuple(value)
            self.note(f"holds {len(value)}; at most {limit} are possible", key)
        else:
            self._wrong(key, value, "a list of whole numbers such as [48, 2]", None)
        return tuple(default)

    def choice(self, key: str, options: type[E], *, instead: E, default: E | None = None) -> E:
        """One of the named values; required if there is no default."""
        value = self._get(key, default)
        if isinstance(value, str) and value in list(options):
            return options(value)
        if isinstance(value, str):
            self.note(unknown(value, options, f"use one of {', '.join(options)}"), key)
        else:
            self._wrong(key, value, f"one of {', '.join(options)}", None)
        return instead

    def local_date(self, key: str) -> date:
        """A date without time and offset, as a TOML date or in quotes."""
        value = self._get(key, None)
        if isinstance(value, str):
            value = _iso(date.fromisoformat, value)
        return value if type(value) is date else self._wrong(key, value, "a date such as 2026-01-05", date.min)

    def optional_date(self, key: str) -> date | None:
        """A date, or `None` if there is none."""
        return self.local_date(key) if self._has(key) else None

    def local_time(self, key: str) -> time:
        """A time of day, as a TOML time or in quotes."""
        value = self._get(key, None)
        if isinstance(value, str):
            value = _iso(time.fromisoformat, value)
        return value if type(value) is time else self._wrong(key, value, 'a local time such as "08:00"', time())

    def dated_texts(self, key: str, limit: int) -> tuple[tuple[date, str], ...]:
        """The texts of a table whose keys are dates, in order; none if there is no such table."""
        group = self.table(key)
        if group is None:
            return ()
        if len(group.data) > limit:
            self.note(f"holds {len(group.data)}; at most {limit} are possible", key)
            return ()
        found = []
        for name in group.data:
            on, text = _iso(date.fromisoformat, name), group.text(name)
            if type(on) is date:
                found.append((on, text))
            else:
                group.note("is no date; use one such as 2026-01-05 as the key", name)
        return tuple(sorted(found))

    def table(self, key: str) -> Table | None:
        """A table of its own, or `None` if there is none."""
        if not self._has(key):
            return None
        value = self.data[key]
        if isinstance(value, dict):
            return Table(value, (*self.path, key), self._mistakes)
        self._wrong(key, value, "a table", None)
        return None

    def named_tables(self, key: str, limit: int) -> Iterator[tuple[str, Table]]:
        """The tables that lie under a key, each with its own key, which must be fit to be a lasting name."""
        group = self.table(key)
        if group is None:
            return
        if len(group.data) > limit:
            self.note(f"holds {len(group.data)}; at most {limit} are possible", key)
            return
        for name in group.data:
            if not KEY.fullmatch(name):
                group.note("is no usable key; use up to 60 letters, digits, hyphens and underscores", name)
            elif (table := group.table(name)) is not None:
                yield name, table

    def listed_tables(self, key: str, limit: int) -> Iterator[Table]:
        """The tables of an array, in order."""
        value = self._get(key, ())
        if not isinstance(value, (list, tuple)) or not all(isinstance(part, dict) for part in value):
            self._wrong(key, value, f"an array of tables, [[{dotted((*self.path, key))}]]", None)
        elif len(value) > limit:
            self.note(f"holds {len(value)}; at most {limit} are possible", key)
        else:
            for index, part in enumerate(value):
                yield Table(part, (*self.path, key, index), self._mistakes)

    def close(self) -> None:
        """Notes every key that nobody asked for."""
        for key in self.data:
            if key not in self._known:
                self.note(unknown(None, self._known, f"known here are {', '.join(self._known)}", key), key)

    def _has(self, key: str) -> bool:
        self._known.append(key)
        return key in self.data

    def _get(self, key: str, default: Any) -> Any:
        return self.data[key] if self._has(key) else default

    def _wrong(self, key: str, value: object, right: str, instead: Any) -> Any:
        self.note(f"is not there; give {right}" if value is None else f"is of another type; give {right}", key)
        return instead


def unknown(given: str | None, known: Iterable[str], right: str, key: str | None = None) -> str:
    """A message about a word that means nothing, with the word that was probably meant."""
    close = get_close_matches((given if given is not None else key or "")[:80], list(known), n=1)
    what = "is no key that is known here" if given is None else f"names {given[:80]!a}, which is not known"
    return f"{what}; did you mean {close[0]}?" if close else f"{what}; {right}"


def _iso(read: Callable[[str], object], text: str) -> object:
    """The date or time that a text says, or the text itself if it says none."""
    try:
        return read(text)
    except ValueError:
        return text


def dotted(path: Path) -> str:
    """A path as it is written in messages: `partners.CA.levels[0].targets`."""
    shown = ""
    for part in path:
        if isinstance(part, int):
            shown += f"[{part}]"
        else:
            shown += ("." if shown else "") + (part if KEY.fullmatch(part) else ascii(part[:80]))
    return shown

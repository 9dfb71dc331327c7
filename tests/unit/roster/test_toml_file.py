"""The line of each key in a TOML text."""

from __future__ import annotations

import tomllib
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from services.roster.toml_file import Lines, Path

TEXT = '''# first line
title = "a [not.a.table]"  # comment with = and "quotes"

[partners.CA]
text = """
[fake.table]
key = 1
"""
literal = \'\'\'
fake = """\'\'\'
"quoted key".inner = 1
list = [  # a comment ]
    "one",
    { a = 1, b = [2, 3] },
]

[[partners.CA.levels]]
targets = ["x"]

[[partners.CA.levels]]
targets = ["y"]
[partners.CA.levels.more]
deep = 1979-05-27 07:32:00

[ partners . "E.U" ]
last = 1
'''


def test_every_kind_of_key_has_its_line() -> None:
    """Tables, arrays of tables, dotted and quoted keys, lists and inline tables are found, strings never mistaken."""
    lines = Lines(TEXT)
    expected: dict[Path, int] = {
        ("title",): 2,
        ("partners", "CA"): 4,
        ("partners", "CA", "text"): 5,
        ("partners", "CA", "literal"): 9,
        ("partners", "CA", "quoted key", "inner"): 11,
        ("partners", "CA", "list"): 12,
        ("partners", "CA", "list", 0): 13,
        ("partners", "CA", "list", 1, "b", 1): 14,
        ("partners", "CA", "levels", 0, "targets"): 18,
        ("partners", "CA", "levels", 1): 20,
        ("partners", "CA", "levels", 1, "targets", 0): 21,
        ("partners", "CA", "levels", 1, "more", "deep"): 23,
        ("partners", "E.U", "last"): 26,
    }
    assert {path: lines.line_of(path) for path in expected} == expected


def test_the_nearest_key_around_is_named() -> None:
    """A key that is not in the text has the line of the table it is missing from; the text itself begins on line 1."""
    lines = Lines(TEXT)
    assert lines.line_of(("partners", "CA", "missing", "deeper")) == 4
    assert lines.line_of(("nowhere",)) == 1
    assert lines.line_of(()) == 1


def paths_of(data: Any, path: Path = ()) -> list[Path]:
    """Every path in the data."""
    pairs = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    return [one for key, value in pairs for one in ((*path, key), *paths_of(value, (*path, key)))]


def test_every_path_that_tomllib_finds_has_a_line() -> None:
    """Each path of the parsed text is known to the lines, none is only guessed from its surroundings."""
    lines = Lines(TEXT)
    unknown = [path for path in paths_of(tomllib.loads(TEXT)) if path not in lines._lines]
    assert unknown == []


@given(st.text(alphabet="[]{}=.,\"'#\n\\ ab1", max_size=60))
def test_no_text_breaks_the_lines(text: str) -> None:
    """Whatever the text, valid or not, following it ends, and a line within the text is given."""
    assert Lines(text).line_of(("a", "b", 0)) in range(1, text.count("\n") + 2)

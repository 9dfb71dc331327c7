"""The translations: every text in every language, nothing lost on the way, and nothing but text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from babel.messages.catalog import Catalog, Message
from babel.messages.extract import extract_from_dir
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po

from services import console
from services.console.words import LANGUAGES, Reader, plural

FOLDER = Path(console.__file__).parent
TRANSLATED = [language for language in LANGUAGES if language != "en"]
PLACEHOLDER = re.compile(r"%\((\w+)\)s|%(?!\()")
EXTRACTED = {"_": None, "n_": (1, 2), "ngettext": (1, 2)}


@cache
def texts() -> frozenset[str | tuple[str, ...]]:
    """Every text that stands in a template or in the code."""
    methods = [("**.py", "python"), ("templates/**.html", "jinja2"), ("templates/**.js", "jinja2")]
    options = {name: {"trim_blocks": "true", "lstrip_blocks": "true"} for name, kind in methods if kind == "jinja2"}
    found = extract_from_dir(FOLDER, methods, options, keywords=EXTRACTED)
    return frozenset(text for _file, _line, text, _comments, _context in found)


@cache
def catalogue(language: str) -> Catalog:
    """The translations of a language."""
    with (FOLDER / "locale" / f"{language}.po").open("rb") as file:
        return read_po(file, locale=language)


def forms(message: Message) -> tuple[str, ...]:
    """All forms of a translation: one, or as many as the language has for numbers."""
    return tuple(message.string) if isinstance(message.string, (tuple, list)) else (str(message.string or ""),)


def messages(language: str) -> Iterator[Message]:
    """Every message but the head of the file."""
    return (message for message in catalogue(language) if message.id)


@pytest.mark.parametrize("language", TRANSLATED)
def test_every_text_is_translated(language: str) -> None:
    """No text of a template or of the code is missing, and no form of it is empty."""
    known = {message.id for message in messages(language) if all(forms(message))}
    missing = sorted(str(text) for text in texts() - known)
    assert missing == [], "run make messages, then translate what is empty"


@pytest.mark.parametrize("language", TRANSLATED)
def test_nothing_is_kept_that_nobody_says_any_more(language: str) -> None:
    """A translation without a text would look like one that is shown."""
    assert sorted(str(message.id) for message in messages(language) if message.id not in texts()) == []


@pytest.mark.parametrize("language", TRANSLATED)
def test_placeholders_are_kept(language: str) -> None:
    """What is filled in stands in the translation as well; of a form for one or two the number may be a word."""
    for message in messages(language):
        ids = message.id if isinstance(message.id, (tuple, list)) else (message.id,)
        wanted = set(PLACEHOLDER.findall(ids[-1]))
        for form in forms(message):
            found = set(PLACEHOLDER.findall(form))
            assert found <= wanted, (message.id, form)
            assert wanted - found <= ({"num"} if len(forms(message)) > 1 else set()), (message.id, form)


@pytest.mark.parametrize("language", TRANSLATED)
def test_a_translation_is_text_and_no_markup(language: str) -> None:
    """No tag and no entity; no control sign but the marks of direction."""
    for message in messages(language):
        for form in forms(message):
            assert not re.search(r"[<>]|&\w+;", form), form
            assert not re.search(r"[\x00-\x1f\x7f\u202a-\u202e]", form), form


@pytest.mark.parametrize("language", TRANSLATED)
def test_the_file_is_one_that_other_tools_read(language: str, tmp_path: Path) -> None:
    """It compiles as gettext's own tools do it, and none of it is marked as a guess."""
    with (tmp_path / "compiled.mo").open("wb") as file:
        write_mo(file, catalogue(language))
    assert [message.id for message in messages(language) if message.fuzzy] == []
    assert [(message.id, error) for message, errors in catalogue(language).check() for error in errors] == []


def test_arabic_has_a_form_for_each_of_its_six_kinds_of_number() -> None:
    """None, one, two, few, many, others."""
    say = plural("ar")
    said = [say("%(num)s word", "%(num)s words", number) for number in (0, 1, 2, 3, 11, 100)]
    assert said == ["لا كلمات", "كلمة واحدة", "كلمتان", "%(num)s كلمات", "%(num)s كلمة", "%(num)s كلمة"]
    assert Reader("ar").say_number("%(num)s word", "%(num)s words", 7) == "7 كلمات"

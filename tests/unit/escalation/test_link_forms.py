"""What people and programs send to the link page, read: nothing that is sent makes it fail."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from services.escalation.answering.link_page import _Form, _instant, _position_of, _untils, _uuid
from services.escalation.answering.replies import NAME_CHARACTERS_MAX, clean_name, digits_of
from services.escalation.people.texts import PageFacts
from shared.contracts import PositionStance


@given(st.text(max_size=200))
def test_a_name_is_clean_or_none(text: str) -> None:
    """A name has letters, fits on one line, holds no control character, and is not longer than allowed."""
    name = clean_name(text)
    if name is not None:
        assert name == " ".join(name.split())
        assert name.isprintable()
        assert len(name) <= NAME_CHARACTERS_MAX
        assert any(letter.isalpha() for letter in name)


@given(st.text(max_size=40))
def test_digits_are_digits_whatever_the_script(text: str) -> None:
    """A code is read in any script; what is no digit stays, so that no other text becomes a code by being read."""
    read = digits_of(text)
    assert not any(letter.isspace() for letter in read)
    assert len(read) == len([letter for letter in text if not letter.isspace()])
    if len(read) == 4 and read.isascii() and read.isdigit():
        assert all(letter.isdecimal() for letter in text if not letter.isspace())


@given(st.text(max_size=60))
def test_times_and_ids_are_read_or_refused(text: str) -> None:
    """Whatever stands where a time or an id is expected is one, in UTC, or none."""
    at = _instant(text)
    assert at is None or at.tzinfo is UTC
    _uuid(text)


FIELDS = st.dictionaries(st.sampled_from(["stance", "until", "note"]), st.text(max_size=40), max_size=3)


@given(FIELDS, st.sampled_from([*PositionStance, "?"]))
def test_a_position_is_whole_or_none(fields: dict[str, str], stance: str) -> None:
    """A form gives a position only with a stance that there is, and "considering" only with a time."""
    position = _position_of(_Form({**fields, "stance": stance}))
    if position is None:
        assert stance in {"?", PositionStance.CONSIDERING}
        return
    assert position.stance == stance
    assert (position.answer_by_at is not None) == (stance == PositionStance.CONSIDERING)


def test_hours_that_are_offered_are_ahead() -> None:
    """Every time until which a government can be considering is ahead, and they are in order."""
    facts = PageFacts("alert.released", datetime(2021, 8, 15, 9, 59, 59, tzinfo=UTC))
    offered = [datetime.fromisoformat(at) for at, _label in _untils(facts, facts.as_of_at)]
    assert offered == sorted(offered)
    assert min(offered) > facts.as_of_at

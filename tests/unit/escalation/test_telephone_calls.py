"""A telephone call as a conversation, without a telephone."""

from __future__ import annotations

from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from services.escalation.channels import VoiceScript
from services.escalation.channels.providers import fit
from services.escalation.channels.providers.calls import (
    ROUNDS_MAX,
    TURNS_MAX,
    CallState,
    KeyAnswer,
    Step,
    after_key,
    after_silence,
    begin,
)

PAGE = UUID("01990000-0000-7000-8000-000000000001")
SCRIPT = VoiceScript("fr-FR", "alerte", "menu", "accusé", "mauvaise personne", "pas compris", "au revoir")


def test_a_round_says_the_alert_and_the_menu_and_listens() -> None:
    """Whoever answers hears what it is about, then which key does what, and has time to press one."""
    step = begin(SCRIPT, CallState(PAGE))
    assert (step.says, step.language, step.state.is_closing) == (("alerte", "menu"), "fr-FR", False)


def test_three_rounds_without_a_key_end_the_call() -> None:
    """Nobody who presses nothing is read to for ever."""
    steps = [begin(SCRIPT, CallState(PAGE))]
    while not steps[-1].state.is_closing:
        steps.append(after_silence(SCRIPT, steps[-1].state))
    assert [step.says for step in steps] == [("alerte", "menu")] * ROUNDS_MAX + [("au revoir",)]


def test_an_answer_is_confirmed_and_ends_the_call() -> None:
    """Each answer is said back in words of its own before the goodbye."""
    said = {answer: after_key(SCRIPT, CallState(PAGE), answer).says for answer in KeyAnswer}
    assert said[KeyAnswer.ACKNOWLEDGED] == ("accusé", "au revoir")
    assert said[KeyAnswer.WRONG_PERSON] == ("mauvaise personne", "au revoir")
    assert said[KeyAnswer.OVER] == ("au revoir",)
    closing = {answer: after_key(SCRIPT, CallState(PAGE), answer).state.is_closing for answer in KeyAnswer}
    assert {answer for answer, closes in closing.items() if not closes} == {KeyAnswer.REPEAT, KeyAnswer.NOT_UNDERSTOOD}


def test_a_key_without_meaning_is_told_and_the_menu_said_again() -> None:
    """Somebody who slipped gets another chance, and silence is counted from there."""
    step = after_key(SCRIPT, CallState(PAGE, round=3, turn=3), KeyAnswer.NOT_UNDERSTOOD)
    assert step.says == ("pas compris", "menu")
    assert step.state == CallState(PAGE, round=1, turn=4)


@given(st.lists(st.sampled_from([KeyAnswer.REPEAT, KeyAnswer.NOT_UNDERSTOOD, None]), min_size=TURNS_MAX))
def test_no_call_is_longer_than_its_limit(presses: list[KeyAnswer | None]) -> None:
    """Whatever is pressed, the call ends within the limit, and its state fits what travels with it."""
    step: Step = begin(SCRIPT, CallState(PAGE))
    turns = 0
    for pressed in presses:
        if step.state.is_closing:
            break
        turns += 1
        assert CallState.decode(step.state.encode()) == step.state
        following = after_silence if pressed is None else (lambda s, state, a=pressed: after_key(s, state, a))
        step = following(SCRIPT, step.state)
    assert step.state.is_closing
    assert turns <= TURNS_MAX


@given(st.text(max_size=80))
def test_only_states_of_ours_are_read(text: str) -> None:
    """A state that we did not write is none."""
    state = CallState.decode(text)
    assert state is None or state.encode() == text


def test_a_state_beyond_the_limits_is_none() -> None:
    """Nobody makes a call longer by its state."""
    assert CallState.decode(f"{PAGE}.1.{TURNS_MAX + 1}") is None
    assert CallState.decode(f"{PAGE}.{ROUNDS_MAX + 1}.4") is None
    assert CallState.decode(f"{PAGE}.1.1.end") == CallState(PAGE, is_closing=True)


@given(st.text(min_size=1, max_size=400), st.integers(min_value=30, max_value=300))
def test_what_is_too_long_loses_its_middle(text: str, characters_max: int) -> None:
    """Beginning and end stay: they hold who asks, and link and code."""
    fitted = fit(text, characters_max)
    assert len(fitted) <= characters_max
    if len(text) <= characters_max:
        assert fitted == text
    else:
        assert text.startswith(fitted.partition(" … ")[0])
        assert text.endswith(fitted.rpartition(" … ")[2])

"""One telephone call as a conversation, purely: what is said, and what is listened for.

The cast: a `CallState` travels with the call (in the address that the provider asks, or as the state that it gives
back), so that nothing of a call is stored; `begin`, `after_silence` and `after_key` give the next `Step`.

The promise: only a key that was pressed answers anything, so an answering machine acknowledges nothing. A round says
the alert and the menu and listens; after `ROUNDS_MAX` rounds in a row without a key the call says goodbye, and after
`TURNS_MAX` rounds in any case.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from enum import StrEnum
from uuid import UUID

from services.escalation.channels import VoiceScript

ROUNDS_MAX = 3
TURNS_MAX = 12
"""No call is longer than so many rounds, whatever keys are pressed."""

LISTEN_SECONDS = 8
"""How long a round waits for a key after its last word."""

RING_SECONDS = 30
"""How long a call rings. Most networks' voice mail answers at 20 to 30 s; the next contact point waits for this."""

SPOKEN_CHARACTERS_MAX = 2_900
"""Below the 3,000 that Telnyx speaks in one command and the 4,096 of Twilio."""

_STATE = re.compile(r"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\.([1-9])\.([1-9][0-9]?)(\.end)?")


class KeyAnswer(StrEnum):
    """What pressing a key came to."""

    ACKNOWLEDGED = "acknowledged"
    WRONG_PERSON = "wrong_person"
    REPEAT = "repeat"
    NOT_UNDERSTOOD = "not_understood"
    OVER = "over"
    """Nothing is asked any more, or not of whoever speaks: the call ends."""


@dataclass(frozen=True, slots=True)
class CallState:
    """Where a call stands: the page it reads, and how many rounds there were."""

    page_id: UUID
    round: int = 1
    """Rounds since a key was last pressed, this one included."""
    turn: int = 1
    """All rounds, this one included."""
    is_closing: bool = False
    """The last words are being spoken."""

    def encode(self) -> str:
        """The state as a short text without special characters."""
        return f"{self.page_id}.{self.round}.{self.turn}{'.end' if self.is_closing else ''}"

    @classmethod
    def decode(cls, text: str) -> CallState | None:
        """The state of such a text; None for anything else."""
        found = _STATE.fullmatch(text)
        if found is None or int(found[3]) > TURNS_MAX or int(found[2]) > ROUNDS_MAX:
            return None
        return cls(UUID(found[1]), int(found[2]), int(found[3]), found[4] is not None)


@dataclass(frozen=True, slots=True)
class Step:
    """What a call does next: says this, and then listens for a key, or hangs up."""

    language: str
    says: tuple[str, ...]
    state: CallState
    """Closing if the call is to be hung up after the last word."""


def begin(script: VoiceScript, state: CallState) -> Step:
    """A round: the alert, the menu, and a time to press a key."""
    return Step(script.language, (script.alert, script.menu), state)


def after_silence(script: VoiceScript, state: CallState) -> Step:
    """No key was pressed: once more, or goodbye."""
    if state.round >= ROUNDS_MAX or state.turn >= TURNS_MAX:
        return _close(script, state, script.goodbye)
    return begin(script, replace(state, round=state.round + 1, turn=state.turn + 1))


def after_key(script: VoiceScript, state: CallState, answer: KeyAnswer) -> Step:
    """A key was pressed, and `answer` is what it came to."""
    match answer:
        case KeyAnswer.ACKNOWLEDGED:
            return _close(script, state, script.acknowledged, script.goodbye)
        case KeyAnswer.WRONG_PERSON:
            return _close(script, state, script.wrong_person, script.goodbye)
        case KeyAnswer.OVER:
            return _close(script, state, script.goodbye)
    if state.turn >= TURNS_MAX:
        return _close(script, state, script.goodbye)
    following = replace(state, round=1, turn=state.turn + 1)
    if answer is KeyAnswer.REPEAT:
        return begin(script, following)
    return Step(script.language, (script.not_understood, script.menu), following)


def _close(script: VoiceScript, state: CallState, *says: str) -> Step:
    return Step(script.language, says, replace(state, is_closing=True))

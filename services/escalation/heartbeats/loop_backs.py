"""Loop-backs: a message to an address of our own at each provider, and what comes back of it.

The cast: `token_of` (what stands in the message), `send` (through one provider, and no other in its place), and
`note_text`, `note_told`, `note_call`, `note_refused`: what comes back, by whichever way it does.

The promise: a token is an HMAC of the beat's id, so nothing secret lies in a row and nobody can send one back that we
have not sent out. A text that is a heartbeat is never taken for somebody's answer, and never answered: two machines
that answer each other do not stop.
"""

from __future__ import annotations

import base64
import hmac
import re
from collections.abc import Mapping
from dataclasses import replace
from html import escape
from uuid import UUID

from services.escalation import receipts
from services.escalation.channels import (
    AttemptState,
    Channel,
    Outgoing,
    PersonMessage,
    ProviderStatus,
    SendResult,
    VoiceScript,
)
from services.escalation.channels.providers import Provider
from services.escalation.channels.providers.failover import ATTEMPT_SECONDS
from services.escalation.deps import EscalationDeps
from services.escalation.heartbeats import store
from services.escalation.heartbeats.domain import Heartbeat, failed, passed
from services.escalation.heartbeats.paths import LoopBack
from services.escalation.heartbeats.saving import count, save_after
from shared.contracts import ChannelName
from shared.keys import KeyRing

MESSAGE_TYPE = "test.heartbeat"
TOKEN_BYTES = 10
"""80 bits: sixteen letters, and out of reach of guessing within the hour that a token counts."""

_PURPOSE = "redphone heartbeat token 1"
_TEXT = re.compile(r"\bheartbeat ([a-z2-7]{16})\b", re.IGNORECASE)


def text_of(keys: KeyRing, beat_id: UUID) -> str:
    """What a loop-back says."""
    return f"heartbeat {token_of(keys, beat_id)}"


def token_of(keys: KeyRing, beat_id: UUID) -> str:
    """The token of a beat."""
    return _token(keys.derived(_PURPOSE)[0], beat_id)


def _token(key: bytes, beat_id: UUID) -> str:
    made = hmac.digest(key, beat_id.bytes, "sha256")[:TOKEN_BYTES]
    return base64.b32encode(made).decode("ascii").lower()


def _is_token(keys: KeyRing, beat_id: UUID, token: str) -> bool:
    found = [hmac.compare_digest(_token(key, beat_id).encode(), token.encode()) for key in keys.derived(_PURPOSE)]
    return any(found)


# --- out --------------------------------------------------------------------------------------------------------------


async def send(
    deps: EscalationDeps,
    loop_back: LoopBack,
    beat: Heartbeat,
    *,
    channels: Mapping[str, Channel],
    providers: Mapping[str, Provider],
) -> SendResult:
    """Hands a beat to one provider. Never raises."""
    assert beat.beat_id is not None, "what is sent was begun"
    text = text_of(deps.keys, beat.beat_id)
    if loop_back.channel in (ChannelName.SMS, ChannelName.VOICE):
        return await _ring(deps, providers[loop_back.provider], loop_back, beat.beat_id, text)
    page = Outgoing(
        page_id=beat.beat_id,
        attempt=1,
        message_type=MESSAGE_TYPE,
        contact_point_id=loop_back.id,
        target=loop_back.address,
        body=b"",
        sent_at=deps.clock.now(),
        message=_message(text),
    )
    return await channels[loop_back.channel].send(page)


async def _ring(deps: EscalationDeps, provider: Provider, loop_back: LoopBack, beat_id: UUID, text: str) -> SendResult:
    began = deps.clock.monotonic()
    if loop_back.channel is ChannelName.SMS:
        answer = await provider.send_sms(
            loop_back.address, text, page_id=beat_id, seconds=ATTEMPT_SECONDS, is_urgent=False
        )
    else:
        answer = await provider.start_call(loop_back.address, page_id=beat_id, seconds=ATTEMPT_SECONDS, is_urgent=False)
    return SendResult(
        state=AttemptState.SENT if answer.is_taken else AttemptState.FAILED,
        reason=answer.reason,
        detail=answer.detail,
        status_code=answer.status_code,
        retry_after_seconds=None,
        elapsed_seconds=deps.clock.monotonic() - began,
        provider=provider.name,
        provider_id=answer.provider_id,
    )


def _message(text: str) -> PersonMessage:
    """The beat as a message. Nobody reads it, so it needs no language of anybody's."""
    script = VoiceScript("en-GB", text, "", "", "", "", "", can_acknowledge=False)
    return PersonMessage(
        language="en",
        subject=text,
        text=text,
        html=f"<p>{escape(text)}</p>",
        short=text,
        voice=script,
        link=None,
        code=None,
        thread="heartbeat",
        is_urgent=False,
    )


# --- back -------------------------------------------------------------------------------------------------------------


async def note_text(deps: EscalationDeps, text: str) -> bool:
    """Whether a text that came in is a heartbeat, and not somebody's answer; if it is awaited, it has come back."""
    found = _TEXT.search(text)
    if found is None:
        return False
    token = found[1].lower()
    async with deps.intake.transaction() as tx:
        awaited = await store.find_awaited(tx)
    for beat in awaited:
        if beat.beat_id is not None and _is_token(deps.keys, beat.beat_id, token):
            await _came_back(deps, beat.beat_id)
            return True
    # One that is late, or forged, is nobody's answer either.
    return _TEXT.fullmatch(text.strip()) is not None


async def note_call(deps: EscalationDeps, beat_id: UUID) -> bool:
    """Whether the call that was just answered is a heartbeat; if it is awaited, it has come through."""
    return await _came_back(deps, beat_id)


async def note_refused(deps: EscalationDeps, beat_id: UUID, *, reason: str) -> bool:
    """Whether a mail that did not arrive is a heartbeat that is awaited; it has failed then."""
    return await _failed(deps, beat_id, reason)


async def note_told(deps: EscalationDeps, status: ProviderStatus) -> bool:
    """Whether what a provider says is about a heartbeat that is awaited. Delivered means that it has come through."""
    async with deps.intake.transaction() as tx:
        beat_id = await store.find_beat_of(tx, status.provider, status.provider_id)
    if beat_id is None:
        return False
    if status.state is AttemptState.DELIVERED:
        return await _came_back(deps, beat_id)
    if status.state is AttemptState.FAILED:
        return await _failed(deps, beat_id, status.detail or status.reason.value)
    return True


async def note_early(deps: EscalationDeps, provider: str, provider_id: str) -> None:
    """Notes what a provider has said of a heartbeat before it was written down that it has it."""
    async with deps.intake.transaction() as tx:
        early = await receipts.take_early(tx, provider, provider_id)
    if early is not None:
        # A call that was taken has come through, whoever took it: from a loop-back nobody expects a key.
        is_taken = early.detail == receipts.NO_KEY
        await note_told(deps, replace(early, state=AttemptState.DELIVERED) if is_taken else early)


async def _came_back(deps: EscalationDeps, beat_id: UUID) -> bool:
    now = deps.clock.now()
    async with deps.intake.transaction() as tx:
        beat = await store.load_beat(tx, beat_id)
        if beat is None:
            return False
        seconds = None if beat.beat_at is None else (now - beat.beat_at).total_seconds()
        messages = await save_after(deps, tx, beat, passed(beat, now, answer_seconds=seconds, certificate=None))
    count(beat, "answered")
    deps.relay.publish_soon(messages)
    return True


async def _failed(deps: EscalationDeps, beat_id: UUID, reason: str) -> bool:
    now = deps.clock.now()
    async with deps.intake.transaction() as tx:
        beat = await store.load_beat(tx, beat_id)
        if beat is None:
            return False
        messages = await save_after(deps, tx, beat, failed(beat, now, reason=reason))
    count(beat, "failed")
    deps.relay.publish_soon(messages)
    return True

"""What telephone providers tell us: receipts, replies by SMS, and what a call is to say next.

The cast: `router`, with the routes `/v1/providers/…` of each configured provider, and behind them what all of them do.
Receipts go to `receipts`, replies and keys to `replies`; what a call says is the page's message as it is now.

The promise: nothing is read before its signature was checked over the raw body and the public address; what is forged
gets a 403, is counted, and recorded at most once a minute for each provider, without a word of it. What comes twice
changes nothing. What cannot be read, or names what is not ours, gets a quiet 200: repeating it would not help.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta

from fastapi import APIRouter, Request
from fastapi.responses import Response
from prometheus_client import Counter

from services.escalation import receipts
from services.escalation.answering import replies
from services.escalation.answering import store as reply_store
from services.escalation.answering.replies import Result
from services.escalation.channels import AttemptState, ProviderStatus, Reason, VoiceScript
from services.escalation.channels.providers import (
    CALLBACK_BYTES_MAX,
    Answer,
    CallAnswered,
    Callback,
    CallbackRequest,
    CallEnded,
    KeyPressed,
    Provider,
    SpeechEnded,
    StatusTold,
    TextReceived,
    twilio,
)
from services.escalation.channels.providers import calls as conversation
from services.escalation.channels.providers.calls import KeyAnswer, Step
from services.escalation.channels.providers.failover import UNAVAILABLE
from services.escalation.channels.providers.telnyx import COMMAND_SECONDS, Telnyx
from services.escalation.channels.providers.twilio import Twilio
from services.escalation.deps import EscalationDeps
from services.escalation.heartbeats import loop_backs
from services.escalation.people.persons import message_of
from shared import record
from shared.contracts import ChannelName
from shared.db import raw
from shared.errors import Unavailable
from shared.events import Cause
from shared.log import get_logger
from shared.openapi import BODY_LIMIT
from shared.problems import CORRELATION_ID, HttpProblem, ProblemType, declare_problems
from shared.record import Entry
from shared.web import new_router

log = get_logger(__name__)

declare_problems(
    {
        "callback_forged": ProblemType(
            403, "Not from the provider", "Check the provider's token or public key, and REDPHONE_PUBLIC_URL."
        ),
        "provider_unavailable": ProblemType(503, "The provider did not take a command", "Send the event again."),
    }
)

CALLBACKS = Counter(
    "redphone_provider_callbacks_total",
    "Callbacks of telephone providers: forged, ignored, or read.",
    ("provider", "outcome"),
)

REFUSALS_RECORDED_SECONDS = 60
"""One forged callback in this time is recorded for each provider; the metric counts all."""

_XML = "application/xml"
_TWILIO_KINDS = ("status", "sms", "voice", "keys")

_KEY_ANSWERS: Mapping[Result, KeyAnswer] = {
    Result.ACKNOWLEDGED: KeyAnswer.ACKNOWLEDGED,
    Result.TAKEN_OVER: KeyAnswer.ACKNOWLEDGED,
    Result.ALREADY_ANSWERED: KeyAnswer.ACKNOWLEDGED,
    Result.PASSED_ON: KeyAnswer.WRONG_PERSON,
    Result.NOT_UNDERSTOOD: KeyAnswer.NOT_UNDERSTOOD,
}
"""What a call says after a key. Whatever is not here ends it: nothing is left to ask of whoever speaks."""


def router(deps: EscalationDeps, providers: Mapping[str, Provider]) -> APIRouter:
    """The routes of the providers that are configured. They are the providers' own and stand in no document of ours."""
    routes = new_router()
    desk = _Desk(deps)
    limited = {BODY_LIMIT: CALLBACK_BYTES_MAX}
    for provider in providers.values():
        if isinstance(provider, Twilio):
            ring = _ask_twilio(desk, provider)
            for kind in _TWILIO_KINDS:
                path = f"{twilio.PATH}/{kind}"
                routes.add_api_route(path, ring, methods=["POST"], include_in_schema=False, openapi_extra=limited)
        elif isinstance(provider, Telnyx):
            routes.add_api_route(
                "/v1/providers/telnyx/events",
                _ask_telnyx(desk, provider),
                methods=["POST"],
                include_in_schema=False,
                openapi_extra=limited,
            )
    return routes


def _ask_twilio(desk: _Desk, provider: Twilio) -> Callable[[Request], Awaitable[Response]]:
    async def twilio_callback(request: Request) -> Response:
        callback = await desk.receive(request, provider)
        cause = desk.cause(request, provider)
        document = twilio.NOTHING
        match callback:
            case StatusTold() | CallEnded():
                if not await desk.is_known(provider, f"done:{callback.event_id}"):
                    await desk.note(provider, callback)
                    await desk.finish(provider, callback.event_id)
            case TextReceived():
                document = twilio.reply_document(await desk.answer_text(provider, callback, cause))
            case CallAnswered() | KeyPressed():
                step = await desk.next_step(provider, callback, cause)
                document = twilio.HANG_UP if step is None else provider.document(step)
            case None if request.url.path.endswith(("/voice", "/keys")):
                document = twilio.HANG_UP
        return Response(document, media_type=_XML)

    return twilio_callback


def _ask_telnyx(desk: _Desk, provider: Telnyx) -> Callable[[Request], Awaitable[Response]]:
    async def telnyx_callback(request: Request) -> Response:
        callback = await desk.receive(request, provider)
        cause = desk.cause(request, provider)
        answer: Answer | None = None
        if callback is None:
            return Response(status_code=200)
        event_id = callback.message_id if isinstance(callback, TextReceived) else callback.event_id
        if await desk.is_known(provider, f"done:{event_id}"):
            return Response(status_code=200)
        match callback:
            case StatusTold() | CallEnded():
                await desk.note(provider, callback)
            case TextReceived():
                if text := await desk.answer_text(provider, callback, cause):
                    answer = await provider.send_sms(callback.sender, text, page_id=None, seconds=COMMAND_SECONDS)
            case CallAnswered() | KeyPressed():
                step = await desk.next_step(provider, callback, cause)
                answer = await provider.continue_call(callback.call_id, step, command_id=event_id)
            case SpeechEnded():
                answer = await provider.continue_call(callback.call_id, None, command_id=event_id)
        if answer is not None and answer.reason in UNAVAILABLE:
            raise HttpProblem("the provider did not take our answer to its event", code="provider_unavailable")
        await desk.finish(provider, event_id)
        return Response(status_code=200)

    return telnyx_callback


class _Desk:
    """What all routes do."""

    def __init__(self, deps: EscalationDeps) -> None:
        self._deps = deps
        self._refusal_recorded_at: dict[str, datetime] = {}

    async def receive(self, request: Request, provider: Provider) -> Callback | None:
        """What a request tells, once it is proved to be the provider's."""
        path, query = request.scope.get("raw_path") or b"", request.scope["query_string"]
        # The address that the provider has used: what stands before us may have given the request another one.
        address = path.decode("latin-1") + (f"?{query.decode('latin-1')}" if query else "")
        public_url = (self._deps.settings.public_url or "").rstrip("/")
        arrived = CallbackRequest(public_url + address, dict(request.headers), await request.body())
        if not provider.verify(arrived, now=self._deps.clock.now()):
            await self._refuse(request, provider)
        callback = provider.parse(arrived)
        CALLBACKS.labels(provider.name, "ignored" if callback is None else "read").inc()
        return callback

    @staticmethod
    def cause(request: Request, provider: Provider) -> Cause:
        """Why something is written: a provider's callback. Whose answer it carries is found out further in."""
        return Cause(correlation_id=request.scope[CORRELATION_ID], subject=f"provider:{provider.name}")

    async def note(self, provider: Provider, callback: StatusTold | CallEnded) -> None:
        """A message or call has come to its end. Of a loop-back it may be told before it is known who has it."""
        heard = callback.status if isinstance(callback, StatusTold) else _heard(provider, callback)
        if not await loop_backs.note_told(self._deps, heard) and not await self._note(provider, callback):
            await loop_backs.note_told(self._deps, heard)

    async def _note(self, provider: Provider, callback: StatusTold | CallEnded) -> bool:
        """Whether it was a page's."""
        if isinstance(callback, StatusTold):
            return await receipts.note_status(self._deps, callback.status, now=self._deps.clock.now())
        pressed = await self.is_known(provider, f"pressed:{callback.call_id}")
        if callback.reason is not None:
            state, reason, detail = AttemptState.FAILED, callback.reason, callback.detail
        elif pressed:
            state, reason, detail = AttemptState.DELIVERED, Reason.ACCEPTED, None
        else:
            # A machine may have taken the call, or somebody who did not listen: nobody has the alert for sure.
            state, reason, detail = AttemptState.FAILED, Reason.NOT_ANSWERED, receipts.NO_KEY
        told = ProviderStatus(provider.name, callback.call_id, state, reason, detail, callback.cost)
        return await receipts.note_status(self._deps, told, now=self._deps.clock.now())

    async def answer_text(self, provider: Provider, received: TextReceived, cause: Cause) -> str:
        """Does what an SMS says; returns what to say back. To a loop-back of our own that is nothing."""
        if await loop_backs.note_text(self._deps, received.text):
            return ""
        return await replies.answer_text(
            self._deps,
            channel=ChannelName.SMS,
            address=received.sender,
            text=received.text,
            provider=provider.name,
            provider_message_id=received.message_id,
            cause=cause,
        )

    async def next_step(self, provider: Provider, callback: CallAnswered | KeyPressed, cause: Cause) -> Step | None:
        """What a call does next; None: it hangs up, as on a loop-back, which has come through when it is answered."""
        if await loop_backs.note_call(self._deps, callback.state.page_id):
            return None
        message = await message_of(self._deps, callback.state.page_id)
        if message is None or (isinstance(callback, CallAnswered) and callback.is_machine):
            return None
        script = message.voice
        if isinstance(callback, CallAnswered):
            return conversation.begin(script, callback.state)
        if callback.key is None:
            return conversation.after_silence(script, callback.state)
        answer = await self._key_answer(provider, callback, script, cause)
        return conversation.after_key(script, callback.state, answer)

    async def _key_answer(
        self, provider: Provider, pressed: KeyPressed, script: VoiceScript, cause: Cause
    ) -> KeyAnswer:
        """What the key comes to. A copy of the same key press gets the same answer and does nothing."""
        event_id, key = f"key:{pressed.event_id}", pressed.key or ""
        async with self._deps.intake.transaction() as tx:
            kept = await reply_store.find_answer(tx, provider.name, event_id)
        if kept is not None:
            return KeyAnswer(kept["key"])
        if key == script.repeat_key:
            answer = KeyAnswer.REPEAT
        elif not script.can_acknowledge:
            answer = KeyAnswer.NOT_UNDERSTOOD
        else:
            answered = await replies.answer_key(self._deps, pressed.state.page_id, key, cause=cause)
            answer = _KEY_ANSWERS.get(answered.result, KeyAnswer.OVER)
        now = self._deps.clock.now()
        async with self._deps.intake.transaction() as tx:
            await reply_store.accept_reply(tx, provider.name, event_id, now)
            await reply_store.save_answer(tx, provider.name, event_id, {"key": answer.value})
            is_first = await reply_store.accept_reply(tx, provider.name, f"pressed:{pressed.call_id}", now)
        if is_first:
            # Somebody is there and listens, which is all that `delivered` says.
            there = ProviderStatus(provider.name, pressed.call_id, AttemptState.DELIVERED, Reason.ACCEPTED)
            await receipts.note_status(self._deps, there, now=now)
        return answer

    async def is_known(self, provider: Provider, name: str) -> bool:
        """Whether this was remembered: `done:` and an event, or `pressed:` and a call."""
        async with self._deps.intake.transaction() as tx:
            found = await (await raw(tx)).fetchval(
                "SELECT true FROM provider_messages WHERE provider = $1 AND message_id = $2", provider.name, name
            )
        return bool(found)

    async def finish(self, provider: Provider, event_id: str) -> None:
        """Remembers that this event is handled."""
        async with self._deps.intake.transaction() as tx:
            await reply_store.accept_reply(tx, provider.name, f"done:{event_id}", self._deps.clock.now())

    async def _refuse(self, request: Request, provider: Provider) -> None:
        CALLBACKS.labels(provider.name, "forged").inc()
        now = self._deps.clock.now()
        last = self._refusal_recorded_at.get(provider.name)
        if last is None or now - last >= timedelta(seconds=REFUSALS_RECORDED_SECONDS):
            self._refusal_recorded_at[provider.name] = now
            log.warning("provider.callback_forged", provider=provider.name)
            entry = Entry(kind="provider_callback.refused", data={"provider": provider.name})
            try:
                async with self._deps.intake.transaction() as tx:
                    cause = self.cause(request, provider)
                    await record.append(tx, [entry], cause=cause, ids=self._deps.ids, now=now)
            except Unavailable:
                log.warning("provider.refusal_unrecorded", provider=provider.name)
        raise HttpProblem("the signature is not the provider's over this address and body", code="callback_forged")


def _heard(provider: Provider, ended: CallEnded) -> ProviderStatus:
    """What the end of a call says of the way to its number: it is enough that something has answered."""
    if ended.reason is None:
        return ProviderStatus(provider.name, ended.call_id, AttemptState.DELIVERED, Reason.ACCEPTED)
    return ProviderStatus(provider.name, ended.call_id, AttemptState.FAILED, ended.reason, ended.detail)

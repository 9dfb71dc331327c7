"""The page behind a link: who asks what by when, and four digits that acknowledge. For an old telephone, at night.

Served by escalation itself from its own database, so that it works while everything else is down: no login, no script,
no cookie, nothing from elsewhere, one answer of less than 15 kB.

The promise: looking changes nothing. GET, HEAD, what fetches ahead, and a POST without the code of the message leave
everything as it was; a wrong code is counted and nothing more. What the handling label withholds is not on the page,
before the code and after it. The token is in no log line: those name the route, and a page that is not there looks like
one whose token was altered.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs
from uuid import UUID

import jinja2
from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse, Response

from services.escalation.answering import links, replies
from services.escalation.answering.looking import Looked, look
from services.escalation.answering.replies import NAME_CHARACTERS_MAX, Answered, Result
from services.escalation.answers import PositionRequest
from services.escalation.deps import EscalationDeps
from services.escalation.model import NOTE_CHARACTERS_MAX, Escalation
from services.escalation.people.texts import (
    LANGUAGES,
    Act,
    PageFacts,
    catalogue,
    instant_text,
    page_texts,
    paragraphs_of,
    partner_name,
)
from services.escalation.talk.read_backs import ReadBack
from shared.contracts import PositionStance
from shared.errors import Unavailable
from shared.events import Cause
from shared.problems import CORRELATION_ID

FORM_BYTES_MAX = 24_000
"""Room for the longest note in any script, percent-encoded or not quite: more is not a form of ours."""

FORM_FIELDS_MAX = 20
CONSIDERING_HOURS = (1, 2, 4, 8, 12, 24, 48)
"""Until when a government may be considering, by a choice that an old telephone shows as well."""

FORM_TYPE = "application/x-www-form-urlencoded"

_FOLDER = Path(__file__).with_name("pages")
_STYLE = (_FOLDER / "page.css").read_text("utf-8")
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(_FOLDER),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    auto_reload=False,
)

HEADERS = {
    "Content-Security-Policy": (
        f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; form-action 'self'; base-uri 'none';"
        " frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "X-Robots-Tag": "noindex, nofollow, noarchive",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}

_STATUS = {
    Result.UNKNOWN: 404,
    Result.CODE_NEEDED: 422,
    Result.WRONG_CODE: 403,
    Result.LOCKED: 403,
    Result.NAME_NEEDED: 422,
    Result.WHICH_NEEDED: 422,
    Result.EXPIRED: 410,
    Result.ENDED: 410,
    Result.SUPERSEDED: 410,
    Result.NOT_LISTED: 403,
    Result.REFUSED: 409,
    Result.NOTHING_ASKED: 409,
}

_CODE_UNPROVEN = frozenset({Result.CODE_NEEDED, Result.WRONG_CODE, Result.LOCKED, Result.EXPIRED, Result.UNKNOWN})
"""Results after which the page knows no more of its reader than before."""

_SAID = {
    Result.TAKEN_OVER: "taken_over",
    Result.POSITION_TAKEN: "position_recorded",
    Result.PASSED_ON: "wrong_person_recorded",
    Result.STOPPED: "stop_recorded",
    Result.ASKED: "question_recorded",
    Result.READ_BACK_GIVEN: "read_back_recorded",
}

_TROUBLE = {
    Result.CODE_NEEDED: "error_code_needed",
    Result.WRONG_CODE: "error_wrong_code",
    Result.NAME_NEEDED: "error_name",
    Result.WHICH_NEEDED: "error_which",
    Result.ENDED: "error_ended",
    Result.SUPERSEDED: "error_superseded",
    Result.EXPIRED: "error_expired",
    Result.NOT_LISTED: "error_not_listed",
    Result.NOTHING_ASKED: "error_nothing_asked",
    Result.NOT_UNDERSTOOD: "error_text",
}


@dataclass(frozen=True, slots=True)
class _Form:
    """What was posted, each field once."""

    fields: Mapping[str, str]

    def text(self, name: str, characters_max: int) -> str:
        """A field, trimmed; what is longer than allowed counts as given too long and is cut where it cannot pass."""
        return self.fields.get(name, "").strip()[: characters_max + 1]

    @property
    def code(self) -> str:
        """The digits as typed; more than a code has is no code."""
        return replies.digits_of(self.text("code", 16))

    @property
    def name(self) -> str:
        """The name that an office's person gave."""
        return self.text("name", NAME_CHARACTERS_MAX)


def add_routes(routes: APIRouter, deps: EscalationDeps) -> None:
    """The link page."""

    async def show(token: str, request: Request) -> Response:
        try:
            return await shown(token, request)
        except Unavailable:
            return _busy(_language(request))

    async def answer(token: str, request: Request) -> Response:
        try:
            return await answered_by(token, request)
        except Unavailable:
            return _busy(_language(request))

    async def shown(token: str, request: Request) -> Response:
        page_id = links.page_of(deps.keys, token)
        looked = None if page_id is None else await look(deps, page_id)
        language = _language(request)
        if looked is None:
            return _unknown(deps, language)
        return _answer(deps, looked, language, deps.clock.now())

    async def answered_by(token: str, request: Request) -> Response:
        page_id = links.page_of(deps.keys, token)
        language = _language(request)
        form = await _form_of(request)
        answered = Answered(Result.UNKNOWN)
        if page_id is not None:
            cause = Cause(correlation_id=request.scope[CORRELATION_ID])
            answered = await _act(deps, page_id, form, cause)
        looked = None if page_id is None or answered.result is Result.UNKNOWN else await look(deps, page_id)
        if looked is None:
            return _unknown(deps, language)
        return _answer(deps, looked, language, deps.clock.now(), form, answered)

    path = f"{links.PATH}{{token}}"
    routes.add_api_route(path, show, methods=["GET", "HEAD"], include_in_schema=False)
    routes.add_api_route(path, answer, methods=["POST"], include_in_schema=False)


async def _form_of(request: Request) -> _Form:
    """The posted form; whatever is no form of ours is an empty one, which does nothing."""
    content_type = request.headers.get("content-type", "").split(";")[0].strip().lower()
    body = await request.body()
    if content_type != FORM_TYPE or len(body) > FORM_BYTES_MAX:
        return _Form({})
    try:
        parsed = parse_qs(body.decode("utf-8"), keep_blank_values=True, errors="strict", max_num_fields=FORM_FIELDS_MAX)
    except ValueError:
        return _Form({})
    return _Form({name: values[0] for name, values in parsed.items()})


async def _act(deps: EscalationDeps, page_id: UUID, form: _Form, cause: Cause) -> Answered:
    act, code, name = form.fields.get("act", ""), form.code, form.name
    acts = {
        "acknowledge": Act.YES,
        "acknowledge_all": Act.ALL,
        "wrong_person": Act.WRONG,
        "stop": Act.STOP,
        "ask": Act.ASK,
        "show": Act.HELP,
    }
    common: dict[str, Any] = {"via": "link", "by_name": name, "cause": cause}
    escalation_id = _uuid(form.fields.get("escalation", ""))
    if act == "position":
        position = _position_of(form)
        if position is None:
            # The code is looked at all the same, so that a wrong one is counted whatever else was sent.
            answered = await replies.answer_code(deps, page_id, code, Act.HELP, **common)
            return Answered(Result.NOT_UNDERSTOOD) if answered.result is Result.HELP else answered
        return await replies.take_position_by_code(deps, page_id, code, position, escalation_id=escalation_id, **common)
    if act == "read_back":
        limit = replies.READ_BACK_CHARACTERS_MAX
        said = ReadBack(*(form.text(field, limit) for field in ("country", "request", "time")))
        return await replies.read_back_by_code(deps, page_id, code, said, escalation_id=escalation_id, **common)
    return await replies.answer_code(
        deps,
        page_id,
        code,
        acts.get(act, Act.HELP),
        text=form.text("question", replies.QUESTION_CHARACTERS_MAX),
        escalation_id=escalation_id,
        **common,
    )


def _position_of(form: _Form) -> PositionRequest | None:
    try:
        stance = PositionStance(form.fields.get("stance", ""))
    except ValueError:
        return None
    until = None
    if stance is PositionStance.CONSIDERING:
        until = _instant(form.fields.get("until", ""))
        if until is None:
            return None
    return PositionRequest(stance=stance, answer_by_at=until, note=form.text("note", NOTE_CHARACTERS_MAX) or None)


def _instant(text: str) -> datetime | None:
    try:
        at = datetime.fromisoformat(text[:40])
        return at.astimezone(UTC) if at.tzinfo is not None else None
    except (ValueError, OverflowError):
        return None


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


def _language(request: Request) -> str | None:
    """The language that the reader chose on the page, if it is one of ours."""
    wanted = request.query_params.get("lang", "")
    return wanted if wanted in LANGUAGES else None


@cache
def _language_names() -> tuple[tuple[str, str], ...]:
    return tuple((code, catalogue().find(code, "about.name")) for code in LANGUAGES)


def _unknown(deps: EscalationDeps, language: str | None) -> Response:
    return _notice("error_unknown", 404, language, deps.settings.public_url)


def _busy(language: str | None) -> Response:
    """Our database does not answer: the person reads that nothing was recorded, and tries again."""
    return _notice("error_busy", 503, language, None)


def _notice(key: str, status: int, language: str | None, log_in: str | None) -> Response:
    texts = page_texts((language,) if language else ())
    html = _TEMPLATES.get_template("notice.html").render(
        t=texts, style=_STYLE, languages=_language_names(), text=texts[key], log_in=log_in
    )
    return HTMLResponse(html, status_code=status, headers=HEADERS)


def _answer(  # noqa: PLR0917 - its callers are above
    deps: EscalationDeps,
    looked: Looked,
    language: str | None,
    now: datetime,
    form: _Form | None = None,
    answered: Answered | None = None,
) -> Response:
    """The page as it stands, with what has just come of a form."""
    languages = (language,) if language else looked.languages
    texts = page_texts(languages)
    facts = looked.facts(languages, now)
    known = answered is not None and answered.result not in _CODE_UNPROVEN | {Result.NAME_NEEDED, Result.NOT_LISTED}
    usable = not looked.is_locked and not looked.is_expired and not looked.is_over
    waits = usable and looked.asks_acknowledgement
    paragraphs = paragraphs_of(facts)
    if looked.is_expired:
        # An old link lies in a mailbox or a history for good: whoever finds it there is told no more than this.
        paragraphs = tuple(one for one in paragraphs if one[0] == "banner")
    elif looked.has_answered:
        # Nothing is asked any more, and it was not "for your information": what was answered stands above.
        paragraphs = tuple(one for one in paragraphs if one[0] != "todo")
    trouble, said = _words(texts, looked, facts, answered)
    raiser = "" if not looked.escalations else looked.escalations[0].alert.raiser
    html = _TEMPLATES.get_template("answer.html").render(
        t=texts,
        style=_STYLE,
        languages=_language_names(),
        paragraphs=paragraphs,
        withheld=facts.link_only and bool(looked.escalations) and not looked.is_expired,
        log_in=deps.settings.public_url if facts.link_only or known or looked.is_expired else None,
        trouble=trouble,
        said=said,
        asks_code=usable and not known,
        asks_name=looked.is_office,
        name_characters_max=NAME_CHARACTERS_MAX,
        note_characters_max=NOTE_CHARACTERS_MAX,
        question_characters_max=replies.QUESTION_CHARACTERS_MAX,
        read_back_characters_max=replies.READ_BACK_CHARACTERS_MAX,
        code=form.code if form is not None and _keeps_code(answered) else "",
        name=form.name if form is not None else "",
        waits=waits,
        known=known and usable,
        over=looked.is_over,
        open_count=looked.open_count if known and usable else 0,
        answerable=_named(looked.answerable) if known and usable else [],
        chosen=form.fields.get("escalation", "") if form is not None else "",
        untils=_untils(facts, now),
        read_back=_named(looked.owes_read_back) if known and usable else [],
        raiser=partner_name(raiser, facts.raiser_name, texts["language"]) if raiser else "",
    )
    status = 200 if answered is None else _STATUS.get(answered.result, 200)
    return HTMLResponse(html, status_code=status, headers=HEADERS)


def _keeps_code(answered: Answered | None) -> bool:
    """Whether the person's digits go into the page again: only right ones do."""
    return answered is not None and answered.result not in _CODE_UNPROVEN


def _named(escalations: Sequence[Escalation]) -> list[tuple[str, str]]:
    """Alerts to choose among, as far as each may be named."""
    return [
        (str(e.id), f"{e.alert.precedence} {e.alert.raiser}" if e.alert.tlp.link_only else e.alert.reference)
        for e in escalations
    ]


def _untils(facts: PageFacts, now: datetime) -> list[tuple[str, str]]:
    hour = now.replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)
    instants = [hour + timedelta(hours=hours) for hours in CONSIDERING_HOURS]
    return [(at.isoformat(), instant_text(at, facts)) for at in instants]


def _words(
    texts: Mapping[str, str], looked: Looked, facts: PageFacts, answered: Answered | None
) -> tuple[str | None, str | None]:
    """What is said above the page: what went wrong, and what was done."""
    if looked.is_locked:
        return texts["error_locked"], None
    if answered is None:
        return _standing(texts, looked, facts)
    result = answered.result
    if result in (Result.ACKNOWLEDGED, Result.ALREADY_ANSWERED):
        return None, _answered_before(texts, answered.escalations, facts)
    if result in _SAID:
        raiser = partner_name(facts.raiser, facts.raiser_name, texts["language"])
        return None, texts[_SAID[result]].format(raiser=raiser)
    if result is Result.REFUSED:
        return _refused(texts, answered), None
    key = _TROUBLE.get(result)
    return (None if key is None else texts[key].format(left=answered.tries_left)), None


def _standing(texts: Mapping[str, str], looked: Looked, facts: PageFacts) -> tuple[str | None, str | None]:
    """What is said to whoever only looks."""
    if looked.is_expired:
        return texts["error_expired"], None
    if looked.is_over:
        return texts["error_ended"], None
    return None, None if looked.asks_acknowledgement else _answered_before(texts, looked.escalations, facts)


def _answered_before(texts: Mapping[str, str], escalations: Sequence[Escalation], facts: PageFacts) -> str:
    """That somebody has it, and since when."""
    at = next((e.acknowledged_at for e in escalations if e.acknowledged_at is not None), None)
    if at is None:
        return texts["error_answered"]
    time = instant_text(at, facts)
    # Left to right within a line that may run the other way.
    shown = f"\u2066{time}\u2069" if texts["direction"] == "rtl" else time
    return texts["acknowledged"].format(time=shown)


def _refused(texts: Mapping[str, str], answered: Answered) -> str:
    assert answered.refusal is not None
    by_code = {
        "already_answered": "error_answered",
        "escalation_ended": "error_ended",
        "out_of_range": "error_time",
        "required": "error_text",
        "too_long": "error_too_long",
    }
    return texts[by_code.get(answered.refusal.code, "error_busy")]

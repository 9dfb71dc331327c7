"""The three HTTP APIs, called as the person who is signed in.

The promise: a page learns one of four things, and says it: the answer, that the thing is not there (or not the
reader's, which looks the same), that the API has refused and why, or that this API is down. Nothing is retried here:
the reader sees at once what is the matter, and a repeated POST carries the key of its form.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Literal, cast

import httpx
import orjson

from services.console.sessions import Session, Sessions
from shared.errors import RedPhoneError
from shared.settings import Settings

Api = Literal["alerting", "roster", "escalation"]
APIS: tuple[Api, ...] = ("alerting", "roster", "escalation")

CALL_SECONDS_MAX = 5.0
CONNECT_SECONDS_MAX = 2.0
STREAM_SILENCE_SECONDS_MAX = 6.0
"""Escalation says the board's age every two seconds: a stream that is silent for three times as long is cut."""

HERE = "http://redphone.invalid"
"""Stands for an API in this very process."""


class Down(RedPhoneError):
    """An API does not answer, or says that it cannot work now. `api` says which, `reason` its problem's code if any."""

    code = "api_down"

    def __init__(self, api: Api, reason: str = "") -> None:
        super().__init__(f"{api} does not answer")
        self.api = api
        self.reason = reason


class SignedOut(RedPhoneError):
    """The credential behind the session was revoked or has changed: sign in again."""

    code = "signed_out"


class Missing(RedPhoneError):
    """There is no such thing, or it is not this reader's to see."""

    code = "not_found"


@dataclass(frozen=True, slots=True)
class FieldFault:
    """What is wrong with one field, in the API's words."""

    field: str
    detail: str
    code: str


class Refused(RedPhoneError):
    """The API has said no: its problem, in a form that a page can show beside the fields."""

    code = "refused"

    def __init__(self, status: int, problem: Mapping[str, Any]) -> None:
        super().__init__(str(problem.get("detail") or problem.get("title") or status))
        self.status = status
        self.code = str(problem.get("code") or "refused")
        self.title = str(problem.get("title") or "")
        self.faults = tuple(
            FieldFault(str(one.get("field", "")), str(one.get("detail", "")), str(one.get("code", "")))
            for one in problem.get("errors") or ()
        )

    @property
    def by_field(self) -> dict[str, str]:
        """What is wrong with each field of the form, without places inside of it."""
        return {fault.field.partition("[")[0].partition(".")[0]: fault.detail for fault in self.faults}


@dataclass(frozen=True, slots=True)
class Answer:
    """What an API answered: its JSON (None without a body), the version that it speaks of, and what it is called."""

    body: Any
    etag: str | None
    status: int
    content: bytes
    content_type: str


class Apis:
    """Calls to the APIs of this installation."""

    def __init__(self, settings: Settings, sessions: Sessions) -> None:
        self._sessions = sessions
        self._clients: dict[Api, httpx.AsyncClient] = {}
        for api in APIS:
            named = settings.api_url_of(api)
            if named is not None:
                self._clients[api] = _client(named)

    def call_here(self, transport: httpx.AsyncBaseTransport, names: Sequence[str]) -> None:
        """Calls those of these services in this process of which the deployment has named no address."""
        for api in APIS:
            if api in names and api not in self._clients:
                self._clients[api] = _client(HERE, transport)

    async def close(self) -> None:
        """Ends the connections."""
        for client in self._clients.values():
            await client.aclose()

    async def sign_in(self, client_id: str, secret: str) -> str:
        """A token for first credentials; raises `Refused` as `POST /v1/tokens` does.

        At escalation, which works while everything else is down.
        """
        body = {"client_id": client_id, "client_secret": secret}
        answer = await self._send("escalation", "POST", "/v1/tokens", None, json=body)
        return cast("str", answer.body["access_token"])

    async def get(self, session: Session, api: Api, path: str, **params: Any) -> Any:
        """The JSON of a GET; parameters that are None are left out."""
        return (await self.call(session, api, "GET", path, params=params)).body

    async def items(self, session: Session, api: Api, path: str, *, limit: int = 1000, **params: Any) -> list[Any]:
        """All items of a paged list, at most `limit`."""
        found: list[Any] = []
        cursor: str | None = None
        while len(found) < limit:
            page = await self.get(session, api, path, **{**params, "cursor": cursor})
            found += page["items"]
            cursor = page.get("next_cursor")
            if cursor is None:
                break
        return found[:limit]

    async def call(
        self,
        session: Session,
        api: Api,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        json: Any = None,
        content: bytes | None = None,
        content_type: str | None = None,
        key: str | None = None,
        etag: str | None = None,
        accept: str = "application/json",
    ) -> Answer:
        """One call as the session's person. `key` is the Idempotency-Key, `etag` what an edit has seen.

        Raises `Down`, `Missing`, `Refused` and `SignedOut`.
        """
        headers = {"Accept": accept}
        if key is not None:
            headers["Idempotency-Key"] = key
        if etag is not None:
            headers["If-Match"] = etag
        if content_type is not None:
            headers["Content-Type"] = content_type
        return await self._send(api, method, path, session, params=params, json=json, content=content, headers=headers)

    @asynccontextmanager
    async def stream(
        self, session: Session, api: Api, path: str, last_event_id: str | None
    ) -> AsyncIterator[AsyncIterator[ServerEvent]]:
        """Server-sent events of an API; raises `Down` when the stream is cut or falls silent."""
        headers = {"Authorization": f"Bearer {self._sessions.token(session)}", "Accept": "text/event-stream"}
        if last_event_id is not None:
            headers["Last-Event-ID"] = last_event_id
        timeout = httpx.Timeout(CALL_SECONDS_MAX, connect=CONNECT_SECONDS_MAX, read=STREAM_SILENCE_SECONDS_MAX)
        try:
            async with self._of(api).stream("GET", path, headers=headers, timeout=timeout) as response:
                if response.status_code != 200:
                    await response.aread()
                    raise _trouble(api, response)
                yield events_of(response.aiter_lines())
        except (httpx.HTTPError, OSError):
            raise Down(api) from None

    def _of(self, api: Api) -> httpx.AsyncClient:
        client = self._clients.get(api)
        if client is None:
            raise Down(api)
        return client

    async def _send(
        self,
        api: Api,
        method: str,
        path: str,
        session: Session | None,
        *,
        params: Mapping[str, Any] | None = None,
        json: Any = None,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        sent = dict(headers or {})
        if session is not None:
            sent["Authorization"] = f"Bearer {self._sessions.token(session)}"
        if json is not None:
            content = orjson.dumps(json)
            sent["Content-Type"] = "application/json"
        asked = {name: value for name, value in (params or {}).items() if value is not None}
        try:
            response = await self._of(api).request(method, path, params=asked, content=content, headers=sent)
        except (httpx.HTTPError, OSError):
            raise Down(api) from None
        if response.is_success:
            kind = response.headers.get("content-type", "")
            body = orjson.loads(response.content) if response.content and "json" in kind else None
            return Answer(body, response.headers.get("etag"), response.status_code, response.content, kind)
        raise _trouble(api, response, signed_in=session is not None)


@dataclass(frozen=True, slots=True)
class ServerEvent:
    """One server-sent event."""

    event: str
    data: str
    id: str | None


async def events_of(lines: AsyncIterator[str]) -> AsyncIterator[ServerEvent]:
    """The events in the lines of a stream; comments are passed over."""
    event, event_id = "message", None
    data: list[str] = []
    async for line in lines:
        if not line:
            if data:
                yield ServerEvent(event, "\n".join(data), event_id)
            event, data = "message", []
            continue
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "event":
            event = value
        elif name == "data":
            data.append(value)
        elif name == "id":
            event_id = value


def _client(base_url: str, transport: httpx.AsyncBaseTransport | None = None) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        base_url=base_url,
        transport=transport,
        timeout=httpx.Timeout(CALL_SECONDS_MAX, connect=CONNECT_SECONDS_MAX),
        trust_env=False,
        follow_redirects=False,
    )


def _trouble(api: Api, response: httpx.Response, *, signed_in: bool = True) -> RedPhoneError:
    try:
        problem = orjson.loads(response.content)
    except orjson.JSONDecodeError:
        problem = {}
    problem = problem if isinstance(problem, dict) else {}
    if response.status_code == 401 and signed_in:
        return SignedOut("sign in again")
    if response.status_code == 404 and problem.get("code", "not_found") == "not_found":
        return Missing("there is no such thing, or it is not yours to see")
    if response.status_code >= 500:
        return Down(api, str(problem.get("code", "")))
    return Refused(response.status_code, problem)

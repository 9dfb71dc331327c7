"""Calls to Red Phone's API: who calls, how long to wait, and what a refusal means in words.

The cast: a `Connection` is what the command line and the environment say (where, as whom); a `Client` makes the calls
and turns every expected trouble into `Failed`. The promise: no secret in any message; a request that creates something
carries an Idempotency-Key and is repeated after trouble on the way, with the same key.
"""

from __future__ import annotations

import base64
import ipaddress
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote, urlsplit

import httpx
import orjson

from redphone import files
from redphone.exits import Exit, Failed
from shared.clock import Clock
from shared.ids import Ids
from shared.keys import KEY_FILE_NAME, KeyRing, KeysUnusable

URL_DEFAULT = "http://127.0.0.1:8000"
TIMEOUT_SECONDS = 15.0
PROBE_SECONDS = 5.0
TRIES_MAX = 4
FIRST_PAUSE_SECONDS = 0.3
PAUSE_SECONDS_MAX = 2.0
PAGE_SIZE = 100
ITEMS_MAX = 1000
STREAM_SILENCE_SECONDS_MAX = 30.0
"""The server pings every 15 seconds; a stream that is silent for longer is dead, whatever the connection says."""

_NOT_NOW = frozenset({429, 500, 502, 503, 504})
_REPEATED = frozenset({502, 503, 504})


@dataclass(frozen=True)
class Connection:
    """Where to call and as whom. `token` and `secret` come from the environment only, never from the command line."""

    url: str = URL_DEFAULT
    client_id: str | None = None
    secret: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    data_dir: Path = Path(".redphone")

    @classmethod
    def of(
        cls, environment: Mapping[str, str], *, url: str | None = None, client_id: str | None = None, data_dir: Path
    ) -> Connection:
        """What the options say, else the environment; `Failed` if the address is none."""
        chosen = (url or environment.get("REDPHONE_URL") or URL_DEFAULT).rstrip("/")
        parts = urlsplit(chosen)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username:
            raise Failed(
                "The address must be http:// or https:// with a host, for example https://redphone.example.",
                exit_code=Exit.USAGE,
            )
        own = environment.get("REDPHONE_CLIENT_ID") or None
        secret = environment.get("REDPHONE_CLIENT_SECRET") or None
        return cls(
            url=chosen,
            client_id=client_id or own,
            secret=secret if client_id in (None, own) else None,
            token=(environment.get("REDPHONE_TOKEN") or None) if client_id is None else None,
            data_dir=data_dir,
        )

    @property
    def is_local(self) -> bool:
        """Whether the address is this machine's own."""
        host = urlsplit(self.url).hostname or ""
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return host == "localhost"

    def credential(self) -> tuple[str, str]:
        """Client id and secret; `Failed` says how to give them."""
        path = self.data_dir / files.CREDENTIALS_NAME
        if self.client_id is None:
            known = list(files.load_credentials(path))
            raise Failed(
                "Say whose credential to use: --as CLIENT_ID, or REDPHONE_CLIENT_ID with REDPHONE_CLIENT_SECRET.",
                details=[f"{path} holds, for example: {', '.join(known[:4])}."] if known else [],
                exit_code=Exit.NOT_AUTHORISED,
            )
        if self.secret is not None:
            return self.client_id, self.secret
        saved = files.load_credentials(path).get(self.client_id)
        if saved is None:
            raise Failed(
                f"There is no secret for {self.client_id}.",
                details=[f"Looked in REDPHONE_CLIENT_SECRET and in {path} (another directory: --data-dir)."],
                exit_code=Exit.NOT_AUTHORISED,
            )
        return self.client_id, saved.client_secret

    def administrator_token(self, *, clock: Clock, ids: Ids) -> str | None:
        """A token of the machine's administrator, minted from the key file; None where there is no key file."""
        # Loaded here alone, because it brings the whole of identity along.
        from shared.security import administrator, issue_token  # noqa: PLC0415

        path = self.data_dir / KEY_FILE_NAME
        if not path.exists() or not self.is_local:
            return None
        try:
            keys = KeyRing.load(path)
        except KeysUnusable as error:
            raise Failed(error.detail, exit_code=Exit.NOT_AUTHORISED) from None
        return issue_token(keys, administrator("command line"), now=clock.now(), token_id=ids.new())


class Client:
    """One command's calls. Use as an asynchronous context manager."""

    def __init__(
        self, connection: Connection, *, clock: Clock, ids: Ids, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self.connection = connection
        self._clock = clock
        self._ids = ids
        self._token = connection.token
        self._http = httpx.AsyncClient(
            base_url=connection.url,
            timeout=TIMEOUT_SECONDS,
            transport=transport,
            headers={"User-Agent": "redphone-command"},
            trust_env=not connection.is_local,
        )

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    # --- who calls

    async def sign_in(self) -> dict[str, Any]:
        """Gets a token with client id and secret; what the server says of it, the token included."""
        client_id, secret = self.connection.credential()
        body = {"grant_type": "client_credentials", "client_id": client_id, "client_secret": secret}
        answer = await self._answer("POST", "/v1/tokens", json=body, signed=False)
        said: dict[str, Any] = answer.json()
        self._token = said["access_token"]
        return said

    async def own_partner(self) -> str:
        """The partner of whoever calls, as the token says."""
        token = await self._bearer()
        try:
            payload = token.split(".")[1]
            claims = orjson.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
            return str(claims["partner"])
        except (ValueError, KeyError, IndexError, TypeError):
            raise Failed("REDPHONE_TOKEN is not a token of Red Phone.", exit_code=Exit.NOT_AUTHORISED) from None

    def be_administrator(self) -> bool:
        """Signs in as the administrator of this machine if nobody is named; False where there is no key file."""
        if self._token is not None or self.connection.client_id is not None:
            return False
        self._token = self.connection.administrator_token(clock=self._clock, ids=self._ids)
        return self._token is not None

    # --- calls

    async def get(self, path: str, **query: Any) -> Any:
        """What the address answers, as JSON."""
        return (await self.get_raw(path, **query)).json()

    async def get_public(self, path: str) -> Any:
        """The same for what anybody may read: nobody signs in for it."""
        return (await self._answer("GET", path, signed=False)).json()

    async def probe(self, path: str) -> httpx.Response:
        """Whatever the address answers, a refusal too; `Failed` if nobody does."""
        try:
            return await self._http.get(path, timeout=PROBE_SECONDS)
        except (httpx.TransportError, httpx.InvalidURL) as error:
            raise self._nobody(error) from None

    async def get_raw(self, path: str, *, accept: str = "application/json", **query: Any) -> httpx.Response:
        """The answer itself."""
        params = {name: value for name, value in query.items() if value is not None}
        return await self._answer("GET", path, params=params, headers={"Accept": accept})

    async def items(self, path: str, *, items_max: int = ITEMS_MAX, **query: Any) -> list[dict[str, Any]]:
        """All items of a paged list, at most `items_max`."""
        found: list[dict[str, Any]] = []
        cursor: str | None = None
        while len(found) < items_max:
            page = await self.get(path, limit=min(PAGE_SIZE, items_max - len(found)), cursor=cursor, **query)
            found += page["items"]
            cursor = page.get("next_cursor")
            if cursor is None:
                break
        return found

    async def post(
        self,
        path: str,
        body: object = None,
        *,
        key: str | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> Any:
        """Sends JSON, or bytes with their Content-Type in `headers`; with a key it is repeated after trouble."""
        sent = dict(headers or {}) | ({"Idempotency-Key": key} if key is not None else {})
        content: dict[str, Any] = {"content": body} if isinstance(body, bytes) else {"json": body}
        content["timeout"] = timeout_seconds
        answer = await self._answer("POST", path, headers=sent, repeatable=key is not None, **content)
        return answer.json()

    async def put(self, path: str, body: object, *, etag: str) -> Any:
        """Replaces what is there, if it is still what `etag` names."""
        return (await self._answer("PUT", path, json=body, headers={"If-Match": etag})).json()

    async def delete(self, path: str, *, etag: str) -> Any:
        """Removes what is there, if it is still what `etag` names."""
        return (await self._answer("DELETE", path, headers={"If-Match": etag})).json()

    def new_key(self) -> str:
        """A new id, for an Idempotency-Key or for something new."""
        return str(self._ids.new())

    @asynccontextmanager
    async def stream(self, path: str, *, last_event_id: str | None = None) -> AsyncIterator[httpx.Response]:
        """An open event stream; `Failed` if it is refused or there is nobody."""
        headers = {"Accept": "text/event-stream", "Authorization": f"Bearer {await self._bearer()}"}
        if last_event_id is not None:
            headers["Last-Event-ID"] = last_event_id
        timeout = httpx.Timeout(TIMEOUT_SECONDS, read=STREAM_SILENCE_SECONDS_MAX)
        try:
            async with self._http.stream("GET", path, headers=headers, timeout=timeout) as answer:
                if answer.status_code == 401:
                    self._token = None
                if not answer.is_success:
                    await answer.aread()
                    raise await self._refusal(answer)
                yield answer
        except (httpx.TransportError, httpx.InvalidURL) as error:
            raise self._nobody(error) from None

    async def _bearer(self) -> str:
        if self._token is None:
            await self.sign_in()
        assert self._token is not None, "signing in gives a token or fails"
        return self._token

    async def _answer(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        signed: bool = True,
        repeatable: bool | None = None,
        **content: Any,
    ) -> httpx.Response:
        tries = TRIES_MAX if (repeatable if repeatable is not None else method == "GET") else 1
        renewed = False
        failed: Failed | None = None
        for attempt in range(tries):
            if attempt:
                await self._clock.sleep(min(PAUSE_SECONDS_MAX, FIRST_PAUSE_SECONDS * 3 ** (attempt - 1)))
            sent = dict(headers or {}) | ({"Authorization": f"Bearer {await self._bearer()}"} if signed else {})
            try:
                answer = await self._http.request(method, path, headers=sent, **content)
                if answer.status_code == 401 and signed and not renewed and self.connection.token is None:
                    renewed, self._token = True, None
                    sent["Authorization"] = f"Bearer {await self._bearer()}"
                    answer = await self._http.request(method, path, headers=sent, **content)
            except (httpx.TransportError, httpx.InvalidURL) as error:
                failed = self._nobody(error)
                # Nobody listens: trying again within a second would only make people wait.
                if isinstance(error, httpx.ConnectError):
                    break
                continue
            if answer.is_success:
                return answer
            failed = await self._refusal(answer)
            if answer.status_code not in _REPEATED:
                break
        assert failed is not None, "every pass ends in an answer or a failure"
        raise failed

    # --- what went wrong, in words

    def _nobody(self, error: Exception) -> Failed:
        slow = isinstance(error, httpx.TimeoutException)
        what = f"No answer from {self.connection.url}" + (" in time." if slow else ".")
        hint = "Is it running? Start it with: redphone up. Another address: --url or REDPHONE_URL."
        return Failed(what, details=[hint], exit_code=Exit.UNREACHABLE)

    async def _refusal(self, answer: httpx.Response) -> Failed:
        status = answer.status_code
        exit_code = (
            Exit.NOT_AUTHORISED if status in (401, 403) else Exit.UNREACHABLE if status in _NOT_NOW else Exit.REFUSED
        )
        try:
            problem = answer.json()
            code, detail = str(problem["code"]), str(problem["detail"])
        except (ValueError, KeyError, TypeError):
            what = f"{self.connection.url} answered {status}, not in Red Phone's way."
            return Failed(what, details=["Is this address Red Phone's?"], exit_code=exit_code)
        details = [
            f"{wrong.get('field', '?')}: {wrong.get('detail', '')}"
            for wrong in problem.get("errors", [])
            if not (wrong.get("detail") == detail and len(problem["errors"]) == 1 and not wrong.get("field"))
        ]
        if status >= 500 and "instance" in problem:
            detail += f" ({problem['instance']})"
        title = str(problem.get("title", "Refused"))
        remedy = await self._remedy(str(problem.get("type", "")))
        shown = [detail] if detail and detail != title and not _repeats(detail, problem) else []
        return Failed(
            f"{title} ({code}).",
            details=[*shown, *details, *([f"What to do: {remedy}"] if remedy else [])],
            exit_code=exit_code,
            code=code,
        )

    async def _remedy(self, address: str) -> str:
        """What the page of this problem says to do; nothing if it cannot be had at once."""
        if not address.startswith("/problems/"):
            return ""
        try:
            page = await self._http.get(f"/problems/{quote(address.removeprefix('/problems/'))}", timeout=2)
            return str(page.json()["what_to_do"]) if page.is_success else ""
        except (httpx.HTTPError, ValueError, KeyError, TypeError):
            return ""


def segment(text: str) -> str:
    """A text as one part of an address, whatever it holds."""
    return quote(text, safe="")


def _repeats(detail: str, problem: Mapping[str, Any]) -> bool:
    """Whether the detail only lists what `errors` says field by field."""
    errors = problem.get("errors", [])
    return bool(errors) and (detail.startswith("the input is wrong in:") or errors[0].get("detail") == detail)

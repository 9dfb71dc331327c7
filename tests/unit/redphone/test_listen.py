"""The local receiver of `redphone webhook listen`: what it believes, what it answers, what it shows."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from redphone.client import Client, Connection
from redphone.commands import Session
from redphone.listen import Answer, Behaviour, Receiver
from redphone.output import Output
from shared.clock import ManualClock
from shared.ids import Ids
from shared.webhooks import BODY_BYTES_MAX, SigningKey, envelope, headers

NOW = datetime(2021, 8, 15, 6, 0, tzinfo=UTC)
KEY = SigningKey.generate()
ALERT_ID = "01900000-0000-7000-8000-000000000001"
BODY = envelope(
    "alert.released",
    NOW,
    {"partner": "US", "level": 1, "alert": {"id": ALERT_ID, "reference": "RP-CA-2021-0001", "precedence": "FLASH"}},
)

Post = Callable[..., Any]


@pytest.fixture
def calls() -> list[httpx.Request]:
    """What the receiver asked of Red Phone."""
    return []


@pytest.fixture
def receiver(calls: list[httpx.Request]) -> Callable[..., Receiver]:
    """Makes a receiver that prints JSON lines and whose calls go nowhere."""

    def answer(request: httpx.Request) -> httpx.Response:
        calls.append(request)
        return httpx.Response(200, json={"access_token": "t", "escalations": []})

    def make(answer_with: Answer = Answer.OK, *, acknowledges: bool = False) -> Receiver:
        clock = ManualClock(NOW)
        ids = Ids(clock.now)
        connection = Connection(client_id="us-duty", secret="s")
        client = Client(connection, clock=clock, ids=ids, transport=httpx.MockTransport(answer))
        session = Session(Output(as_json=True), client, clock, ids)
        return Receiver(session, [KEY.verifying_key], Behaviour(answer_with, 503, 5.0, acknowledges=acknowledges))

    return make


async def post(app: Receiver, body: bytes = BODY, *, key: SigningKey = KEY, method: str = "POST") -> httpx.Response:
    """Sends a signed webhook to the receiver."""
    signed = headers([key], "page-1", NOW, body)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://here") as http:
        return await http.request(method, "/hook", content=body, headers=signed)


async def test_a_signed_message_is_taken_and_shown(
    receiver: Callable[..., Receiver], capsys: pytest.CaptureFixture[str]
) -> None:
    """A genuine message is answered 204 and printed; when it comes again, that is said."""
    app = receiver()
    assert (await post(app)).status_code == 204
    assert (await post(app)).status_code == 204
    first, again = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert (first["event"], first["webhook_id"], first["times"]) == ("received", "page-1", 1)
    assert first["message"]["data"]["alert"]["reference"] == "RP-CA-2021-0001"
    assert again["times"] == 2


async def test_a_forged_message_is_refused(
    receiver: Callable[..., Receiver], capsys: pytest.CaptureFixture[str], calls: list[httpx.Request]
) -> None:
    """What no known key signed is answered 401, shown as refused, and never acted upon."""
    assert (await post(receiver(acknowledges=True), key=SigningKey.generate())).status_code == 401
    assert json.loads(capsys.readouterr().out)["event"] == "refused"
    assert calls == []


async def test_limits_of_the_receiver(receiver: Callable[..., Receiver]) -> None:
    """Anything but POST, and bodies above the format's limit, are refused unread."""
    assert (await post(receiver(), method="GET")).status_code == 405
    assert (await post(receiver(), b"x" * (BODY_BYTES_MAX + 1))).status_code == 413
    assert (await post(receiver(), b"[]")).status_code == 400


async def test_it_fails_on_demand(receiver: Callable[..., Receiver]) -> None:
    """`--answer fail` answers with the chosen status, after the message was shown."""
    assert (await post(receiver(Answer.FAIL))).status_code == 503


async def test_it_answers_late_on_demand(receiver: Callable[..., Receiver]) -> None:
    """`--answer delay` waits on the clock and then takes the message."""
    assert (await post(receiver(Answer.DELAY))).status_code == 204


async def test_it_acknowledges_once(receiver: Callable[..., Receiver], calls: list[httpx.Request]) -> None:
    """With --acknowledge a message is acknowledged by alert, and a repeated one not again."""
    app = receiver(acknowledges=True)
    await post(app)
    await post(app)
    await app.settle()
    asked = [json.loads(request.content) for request in calls if request.url.path == "/v1/acknowledgements"]
    assert asked == [{"alert_ids": [ALERT_ID], "via": "command_line"}]

"""The programs of the integration guide, taken from its pages and run: against what Red Phone really signs."""

from __future__ import annotations

import base64
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import ModuleType
from typing import Any

import httpx
import pytest
from cryptography.exceptions import InvalidSignature

from shared import key_changes, webhooks
from shared.clock import SystemClock
from shared.feed import FeedEntry, signed_bytes
from shared.ids import derived
from shared.key_changes import KeyKind, names_of
from shared.keys import KeyRing, key_id
from shared.webhooks import SigningKey, VerifyingKey
from tests.support.snapshots import ROOT

GUIDE = (ROOT / "docs" / "integration.md").read_text(encoding="utf-8")
START_SECONDS_MAX = 30
LANGUAGES = ("python", "javascript", "go")
GO = {"GO111MODULE": "off", "CGO_ENABLED": "0"}
TOOLS = {"python": sys.executable, "javascript": "node", "go": "go"}


def snippet(language: str, number: int = 0) -> str:
    """A program of the guide, as it stands there."""
    found = re.findall(rf"^```{language}\n(.*?)^```$", GUIDE, flags=re.DOTALL | re.MULTILINE)
    return str(found[number])


@dataclass
class Receiver:
    """A program of the guide that runs."""

    url: str
    process: subprocess.Popen[str]

    def take(self, headers: dict[str, str], body: bytes) -> int:
        """Sends it a message; the status of its answer."""
        return httpx.post(self.url, content=body, headers=headers, trust_env=False).status_code

    def printed(self) -> list[str]:
        """Ends it and returns what it said: a line for each message that it acted on."""
        self.process.terminate()
        said, _ = self.process.communicate(timeout=10)
        return said.splitlines()


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """The command of each language that is installed, ready to run."""
    folder = tmp_path_factory.mktemp("programs")
    commands = {}
    for language in LANGUAGES:
        tool = shutil.which(TOOLS[language])
        if tool is None:
            continue
        ending = {"python": "py", "javascript": "cjs", "go": "go"}[language]
        file = folder / f"receiver.{ending}"
        file.write_text(snippet(language), encoding="utf-8")
        if language == "go":
            built = folder / "receiver"
            subprocess.run(
                [tool, "build", "-o", str(built), str(file)],
                check=True,
                # Modules are off: the program uses nobody else's code, and nothing is fetched.
                env={**({} if "HOME" in os.environ else {"GOCACHE": str(folder)}), **os.environ, **GO},
                timeout=240,
            )
            commands[language] = [str(built)]
        else:
            commands[language] = [tool, str(file)]
    return commands


@contextmanager
def running(programs: dict[str, list[str]], language: str, *keys: VerifyingKey) -> Iterator[Receiver]:
    """A receiver of the partner US that trusts these keys."""
    if language not in programs:
        pytest.skip(f"{TOOLS[language]} is not installed here, so the guide's {language} program is not run")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {
        **os.environ,
        "PARTNER": "US",
        "WEBHOOK_KEYS": " ".join(key.to_text() for key in keys),
    }
    process = subprocess.Popen(
        [*programs[language], str(port)], env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        _await_listening(port, process)
        yield Receiver(f"http://127.0.0.1:{port}/", process)
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def _await_listening(port: int, process: subprocess.Popen[str]) -> None:
    clock = SystemClock()
    deadline = clock.monotonic() + START_SECONDS_MAX
    while clock.monotonic() < deadline:
        assert process.poll() is None, "the program ended"
        with socket.socket() as probe:
            probe.settimeout(0.1)
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        # A refused connection comes at once: wait for the program, or for a moment.
        try:
            process.wait(0.05)
        except subprocess.TimeoutExpired:
            continue
    raise AssertionError("the program does not listen")


def message(
    ring: KeyRing, at: datetime, *, partner: str = "US", page_id: str = "page-1"
) -> tuple[dict[str, str], bytes]:
    """A message as Red Phone signs and sends it."""
    body = webhooks.envelope("alert.released", at, {"partner": partner, "alert": {"text": "FLASH from CA: Kabul – é"}})
    return webhooks.headers(ring.webhook_keys, page_id, at, body), body


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("language", LANGUAGES)
def test_receivers_believe_what_is_genuine_and_nothing_else(programs: dict[str, list[str]], language: str) -> None:
    """A signed message is taken once; changed, old, early, unsigned, strange and misdirected ones are refused."""
    ring, now = KeyRing.generate(), SystemClock().now()
    key = ring.webhook_keys[0].verifying_key
    with running(programs, language, key) as receiver:
        headers, body = message(ring, now)
        assert receiver.take(headers, body) == 204
        assert receiver.take(headers, body) == 204, "the same message again is taken, and dropped"
        stranger = KeyRing.generate()
        assert receiver.take(headers, body + b" ") == 401
        assert receiver.take({**headers, "webhook-id": "page-2"}, body) == 401
        assert receiver.take({**headers, "webhook-timestamp": str(int(now.timestamp()) + 1)}, body) == 401
        assert receiver.take({**headers, "webhook-signature": "v1a,AAAA v1a, v1,x ,"}, body) == 401
        assert receiver.take({}, body) == 401
        assert receiver.take(*message(stranger, now)) == 401
        for away in (timedelta(seconds=-310), timedelta(seconds=310)):
            assert receiver.take(*message(ring, now + away)) == 401
        assert receiver.take(*message(ring, now, partner="GB", page_id="page-3")) == 403
        large = b'{"type": "' + b"x" * webhooks.BODY_BYTES_MAX + b'"}'
        assert receiver.take(webhooks.headers(ring.webhook_keys, "page-4", now, large), large) in {401, 413}
        newer = {**headers, "webhook-id": "page-5"}
        newer["webhook-signature"] = (
            "v9,newer " + webhooks.headers(ring.webhook_keys, "page-5", now, body)["webhook-signature"]
        )
        assert receiver.take(newer, body) == 204, "a signature of a newer version stands beside ours"
        assert receiver.printed() == ["alert.released page-1", "alert.released page-5"]


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("language", LANGUAGES)
def test_receivers_live_through_a_change_of_keys(programs: dict[str, list[str]], language: str) -> None:
    """At each step of a change a receiver that knows one of the two keys, whichever, believes what is sent."""
    now, before = SystemClock().now(), KeyRing.generate()
    added = key_changes.add(before, KeyKind.WEBHOOK)
    old, new = (key.verifying_key for key in added.webhook_keys)
    promoted = key_changes.promote(added, KeyKind.WEBHOOK, names_of(added, KeyKind.WEBHOOK)[1].id)
    dropped = key_changes.drop(promoted, KeyKind.WEBHOOK, names_of(promoted, KeyKind.WEBHOOK)[1].id)
    with running(programs, language, old) as receiver:
        taken = [receiver.take(*message(ring, now)) for ring in (before, added, promoted, dropped)]
        assert taken == [204, 204, 204, 401]
    with running(programs, language, new) as receiver:
        taken = [receiver.take(*message(ring, now)) for ring in (before, added, promoted, dropped)]
        assert taken == [401, 204, 204, 204]
    with running(programs, language, old, new) as receiver:
        assert {receiver.take(*message(ring, now)) for ring in (before, added, promoted, dropped)} == {204}


def test_the_feed_is_verified_as_the_guide_says() -> None:
    """An entry as the feed signs it is believed, and a changed one, or one for another audience, is not."""
    module = ModuleType("guide")
    exec(compile(snippet("python", 1), "docs/integration.md", "exec"), module.__dict__)  # noqa: S102 - our own page
    ring = KeyRing.generate()
    entry = _entry(ring.feed_keys[0])
    published = ring.public_keys()["feed_keys"]
    module.verify_entry(entry, "escalation", "US", published)
    for changed, audience in (({**entry, "data": '{"a":2}'}, "US"), (entry, "GB")):
        with pytest.raises(InvalidSignature):
            module.verify_entry(changed, "escalation", audience, published)
    with pytest.raises(StopIteration):
        module.verify_entry({**entry, "key_id": "0" * 16}, "escalation", "US", published)


def _entry(key: SigningKey) -> dict[str, Any]:
    some = derived("entry")
    unsigned = FeedEntry(
        cursor="ar1.x.y",
        id=some,
        type="redphone.escalation.partner_acknowledged.v1",
        time="2021-08-15T06:00:00.000000Z",
        correlation_id=some,
        causation_id=None,
        data='{"a":1,"name":"é"}',
        signature="",
        key_id=key_id(key.verifying_key.raw),
    )
    signature = key.signature(signed_bytes(unsigned, source="escalation", audience="US"))
    return unsigned.model_dump(mode="json") | {"signature": base64.b64encode(signature).decode()}

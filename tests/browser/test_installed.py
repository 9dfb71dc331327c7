"""The console as an application of a telephone: push messages, and honesty while nothing can be reached."""

from __future__ import annotations

import json
from typing import Any

import pytest
from playwright.async_api import CDPSession, Page, expect

from tests.browser.conftest import PHONE, Visits
from tests.support.system import System
from tests.support.waiting import eventually

READY = "async () => { await navigator.serviceWorker.ready; }"
SHOWN = """async () => {
  const found = await (await navigator.serviceWorker.ready).getNotifications();
  return found.map((one) => [one.title, one.body, one.data.link]);
}"""


async def worker_of(page: Page) -> tuple[CDPSession, str]:
    """The browser's own line to the worker of a page, and the name by which it knows the worker."""
    line = await page.context.new_cdp_session(page)
    registrations: list[str] = []

    def note(event: dict[str, Any]) -> None:
        registrations.extend(one["registrationId"] for one in event["registrations"])

    line.on("ServiceWorker.workerRegistrationUpdated", note)
    await page.evaluate(READY)
    await line.send("ServiceWorker.enable")
    await eventually(lambda: bool(registrations))
    return line, registrations[-1]


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        (
            json.dumps({"title": "FLASH RP-CA-2026-0001", "body": "Kabul", "tag": "a", "link": "/acknowledge"}),
            ["FLASH RP-CA-2026-0001", "Kabul", "/acknowledge"],
        ),
        ("no JSON", ["Red Phone", "There is a message. Open Red Phone to read it.", "/"]),
    ],
)
async def test_a_push_message_is_shown(system: System, visit: Visits, sent: str, shown: list[str]) -> None:
    """What came is shown with the way to its page, and what cannot be read still says that something came."""
    page = await visit("gb-senior-contact", size=PHONE)
    await page.context.grant_permissions(["notifications"], origin=system.url)
    line, registration = await worker_of(page)
    await line.send(
        "ServiceWorker.deliverPushMessage", {"origin": system.url, "registrationId": registration, "data": sent}
    )

    async def is_shown() -> bool:
        return shown in await page.evaluate(SHOWN)

    await eventually(is_shown)


async def test_without_a_network_the_page_says_so_and_shows_nothing_old(system: System, visit: Visits) -> None:
    """No stored board stands in for the present one; when the network is back, so is the board."""
    visit.allow("ERR_INTERNET_DISCONNECTED|htmx:|Failed to fetch")
    alert = await system.raise_alert("GB")
    page = await visit("gb-senior-contact", size=PHONE)
    await expect(page.locator(f"#alert-{alert['id']}")).to_be_visible()
    await page.evaluate(READY)
    await page.context.set_offline(True)
    await page.goto("/")
    await expect(page.locator("main")).to_contain_text("This device reaches Red Phone no more")
    await expect(page.locator(".alert")).to_have_count(0)
    await page.context.set_offline(False)
    await page.goto("/")
    await expect(page.locator(f"#alert-{alert['id']}")).to_be_visible()

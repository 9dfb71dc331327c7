"""A running system and a real browser: what every test of a page may ask for.

    system      the whole of Red Phone with its eleven partners; one for all tests of this session
    visit       opens a page as somebody, on a phone, a desk or a wall; a fault in a page's script fails the test
    sign_in     what `visit` does first: the form, by hand

Tests wait on what a page shows (`expect`, `wait_for`) and never for a time.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Page, ViewportSize, async_playwright, expect

from tests.support.system import System

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
HERE = Path(__file__).parent
WANTED = {"REDPHONE_TEST_ALL", "REDPHONE_UPDATE_SCREENSHOTS"}
"""What says in the environment that a browser is to be started, which takes minutes in all."""

PHONE, DESK, WALL = (390, 844), (1280, 800), (1920, 1080)
SECONDS_MAX = 300
WAIT_MILLISECONDS = 30_000
expect.set_options(timeout=WAIT_MILLISECONDS)

_NOT_FAULTS = (
    # A page that the test asks for and that is refused is no fault of a script.
    re.compile(r"Failed to load resource: the server responded with a status of 4\d\d"),
)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: Sequence[pytest.Item]) -> None:
    """Every test in this folder needs a browser, and shares one event loop with it."""
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.browser)
            # The first one starts everything.
            item.add_marker(pytest.mark.timeout(SECONDS_MAX))
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def chromium() -> AsyncIterator[Browser]:
    """The browser."""
    if not WANTED & os.environ.keys():
        pytest.skip("make test-all runs the tests in a browser")
    if CHROMIUM is None:
        pytest.skip("chromium is not installed: make test-all installs it on Debian")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        await browser.close()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def whole_system(chromium: Browser, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[System]:
    """The system, started when the first test asks for it."""
    async with System(tmp_path_factory.mktemp("system")) as system:
        yield system


@pytest_asyncio.fixture(loop_scope="session")
async def system(whole_system: System) -> AsyncIterator[System]:
    """The system without an open alert."""
    yield whole_system
    if whole_system.process is None:
        await whole_system.start()
    await whole_system.close_all()


async def sign_in(page: Page, system: System, client_id: str) -> None:
    """Signs in by the form; the page is then the one that was asked for before, or the board."""
    if not await page.locator("[name=client_secret]").count():
        await page.goto(f"{system.url}/sign-in")
    await page.locator("[name=client_id]").fill(client_id)
    await page.locator("[name=client_secret]").fill(system.credentials[client_id])
    async with page.expect_navigation():
        await page.locator("main form button.primary").click()


@dataclass
class Visits:
    """The pages of one test, each in a browser of its own. `allow` names faults that a test brings about itself."""

    chromium: Browser
    system: System
    contexts: list[BrowserContext] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    allowed: list[re.Pattern[str]] = field(default_factory=lambda: list(_NOT_FAULTS))

    def allow(self, pattern: str) -> None:
        """Messages like this are no fault in this test."""
        self.allowed.append(re.compile(pattern))

    async def __call__(
        self,
        client_id: str | None = None,
        path: str = "/",
        *,
        size: tuple[int, int] = DESK,
        theme: str = "light",
        language: str = "en",
        zone: str = "Europe/London",
        **options: Any,
    ) -> Page:
        """A page, open as this person sees it; None is a stranger."""
        context = await self.chromium.new_context(
            viewport=ViewportSize(width=size[0], height=size[1]),
            color_scheme="dark" if theme == "dark" else "light",
            locale=language,
            timezone_id=zone,
            base_url=self.system.url,
            **options,
        )
        self.contexts.append(context)
        context.set_default_timeout(WAIT_MILLISECONDS)
        page = await context.new_page()
        page.on("console", self._on_console)
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        if client_id is not None:
            await sign_in(page, self.system, client_id)
        if client_id is None or page.url != f"{self.system.url}{path}":
            await page.goto(path)
        return page

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type == "error" and not any(pattern.search(message.text) for pattern in self.allowed):
            self.faults.append(f"{message.text} ({message.location.get('url', '')})")


Visit = Callable[..., Awaitable[Page]]


@pytest_asyncio.fixture(loop_scope="session")
async def visit(chromium: Browser, system: System) -> AsyncIterator[Visits]:
    """Opens pages; at the end none of them may have had a fault."""
    visits = Visits(chromium, system)
    yield visits
    for context in visits.contexts:
        await context.close()
    assert visits.faults == []

"""The console in a process of its own, as `redphone serve console` runs it, while an API is down."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, expect

from tests.support.receiver import Receiver
from tests.support.stack import SERVICES, Stack

pytestmark = pytest.mark.slow


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def running(chromium: Browser, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """Every service a process of its own, the console among them; nobody answers within a minute."""
    async with (
        Receiver() as receiver,
        Stack(
            tmp_path_factory.mktemp("stack"),
            receiver,
            services=(*SERVICES, "console"),
            acknowledge_seconds=60,
            interval_seconds=30,
            unreached_seconds=120,
        ) as stack,
    ):
        yield stack


@pytest_asyncio.fixture(loop_scope="session")
async def stack(running: Stack) -> Stack:
    """The same, whole again after whatever the test before did to it."""
    await running.make_whole()
    await running.close_all()
    return running


@pytest_asyncio.fixture(loop_scope="session")
async def board(chromium: Browser, stack: Stack) -> AsyncIterator[Page]:
    """Canada's board."""
    context = await chromium.new_context(base_url=stack.url("console"))
    context.set_default_timeout(15_000)
    page = await context.new_page()
    await page.goto("/")
    await page.locator("[name=client_id]").fill("ca-officer")
    await page.locator("[name=client_secret]").fill(stack.secrets["ca-officer"])
    await page.locator("main form button.primary").click()
    await expect(page.locator("#age-text")).to_have_text("Live")
    yield page
    await context.close()


async def test_while_escalation_is_down_the_board_says_so_and_shows_what_it_knows(stack: Stack, board: Page) -> None:
    """Which API, how old the data is, and every cell, on a board that was open and on a new one; then live again."""
    alert = await stack.raise_alert("US", "GB", key="first")
    cells = board.locator(f"#alert-{alert['id']} .cell")
    await expect(cells).to_have_count(2)
    await stack.kill("escalation")
    opened = await board.context.new_page()
    for page in (board, opened):
        await page.goto("/") if page is opened else None
        await expect(page.locator("#stale")).to_contain_text("escalation does not answer", timeout=12_000)
        await expect(page.locator(f"#alert-{alert['id']} .cell")).to_have_count(2)
        await expect(page.locator("#age-text")).to_have_text(re.compile(r"\d+ s ago"))
    await opened.goto(f"/alerts/{alert['id']}")
    await expect(opened.locator("main")).to_contain_text("escalation does not answer")
    await expect(opened.locator("h1")).to_contain_text("Kabul")
    await stack.start("escalation")
    await stack.acknowledge(alert, by="us-officer")
    await expect(board.locator("#stale")).to_be_hidden(timeout=30_000)
    await expect(cells.filter(has_text="US")).to_have_class(re.compile("is-good"))


async def test_other_apis_take_nothing_from_the_board(stack: Stack, board: Page) -> None:
    """Without alerting and roster the board goes on, and their pages say who is missing."""
    alert = await stack.raise_alert("US", key="second")
    await expect(board.locator(f"#alert-{alert['id']}")).to_be_visible()
    await stack.kill("alerting")
    await stack.kill("roster")
    await stack.acknowledge(alert, by="us-officer")
    await expect(board.locator(f"#alert-{alert['id']} .cell.is-good")).to_have_count(1)
    other = await board.context.new_page()
    await other.goto("/alerts")
    await expect(other.locator("main")).to_contain_text("alerting does not answer")
    await other.goto("/raise")
    await expect(other.locator("main")).to_contain_text("roster does not answer")


async def test_a_console_that_is_killed_comes_back_with_its_sessions(stack: Stack, board: Page) -> None:
    """Sessions are rows: after kill -9 nobody signs in again, and open boards find their way back by themselves."""
    await stack.kill("console")
    await expect(board.locator("#stale")).to_be_visible(timeout=12_000)
    alert = await stack.raise_alert("US", key="third")
    await stack.start("console")
    await expect(board.locator(f"#alert-{alert['id']} .cell")).to_have_count(1, timeout=30_000)
    await expect(board.locator("#stale")).to_be_hidden()

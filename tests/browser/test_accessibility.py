"""Every page for everybody: axe finds nothing, and no page needs a wide screen, a mouse or colours of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Page, expect

from tests.browser.conftest import PHONE, Visits
from tests.support.system import System

RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
ZOOMED = (320, 256)
"""A screen of 1280 × 1024 at 400 % (WCAG 2.2, 1.4.10)."""
TARGET_PIXELS_MIN = 24
"""WCAG 2.2, 2.5.8; a link within a sentence may be smaller."""

PAGES: Mapping[str | None, Sequence[str]] = {
    None: ("/sign-in", "/offline", "{link}?lang={language}"),
    "gb-senior-contact": ("/", "/acknowledge", "/alerts", "/alerts/{alert}", "/alerts/nothing"),
    "ca-duty-officer": ("/raise", "/alerts/{alert}", "/alerts/{alert}/update", "/alerts/{alert}/report"),
    "ca-roster-manager": ("/roster/partners/CA", "/roster/people", "/roster/rotas/{rota}", "/deliveries"),
    "gb-roster-manager": ("/deliveries/{delivery}",),
    "us-senior-contact": ("/roster/me",),
    "xr-secretariat": ("/", "/?wall=1", "/statistics", "/roster", "/deliveries/people"),
}


async def faults(page: Page) -> list[str]:
    """What axe finds, each with where it is."""
    found = await Axe().run(page, options={"runOnly": RULES})
    violations: Sequence[dict[str, Any]] = found.response["violations"]
    return [
        f"{urlsplit(page.url).path}: {one['id']}: {node['target']} {node['html'][:120]}"
        for one in violations
        for node in one["nodes"]
    ]


async def things(system: System) -> dict[str, str]:
    """An alert, its message behind a link, a rota and a delivery to look at, and an alert that is over."""
    await system.raise_alert("GB")
    await system.close_all()
    alert = await system.raise_alert("GB", "US")
    rotas = await system.call("ca-roster-manager", "GET", "/v1/partners/CA/rotas")
    asked = await system.asked(alert, "avery@us.example", "blake@us.example", "casey@us.example")
    [delivery, *_] = (await system.call("gb-roster-manager", "GET", "/v1/deliveries"))["items"]
    link = asked.link.removeprefix(system.url)
    return {"alert": alert["id"], "link": link, "rota": rotas["items"][0]["id"], "delivery": delivery["page_id"]}


async def show(page: Page, path: str) -> None:
    """Opens a page. What moves has come to rest when axe looks."""
    await page.goto(path)
    await expect(page.locator("main")).to_be_visible()


@pytest.mark.parametrize(("language", "theme"), [("en", "light"), ("en", "dark"), ("ar", "light")])
async def test_axe_finds_nothing(system: System, visit: Visits, language: str, theme: str) -> None:
    """No page has a fault of WCAG 2.2 AA that a machine can see, in both themes and right to left."""
    known = await things(system)
    found: list[str] = []
    for client_id, paths in PAGES.items():
        page = await visit(client_id, theme=theme, language=language)
        for path in paths:
            await show(page, path.format(**known, language=language))
            assert await page.locator("html").get_attribute("dir") == ("rtl" if language == "ar" else "ltr")
            found += await faults(page)
    assert found == []


@pytest.mark.parametrize("language", ["de", "ar"])
async def test_no_page_needs_a_wide_screen(system: System, visit: Visits, language: str) -> None:
    """At 400 % nothing but tables scrolls sideways, whatever the length of the words."""
    known = await things(system)
    wide: list[str] = []
    for client_id, paths in PAGES.items():
        page = await visit(client_id, language=language, size=ZOOMED)
        for path in paths:
            await show(page, path.format(**known, language=language))
            surplus = await page.evaluate("document.documentElement.scrollWidth - innerWidth")
            if surplus > 0:
                wide.append(f"{path}: {surplus} pixels too wide")
    assert wide == []


async def test_whatever_is_pressed_is_large_enough(system: System, visit: Visits) -> None:
    """On a telephone every control that stands by itself is at least 24 pixels wide and high."""
    known = await things(system)
    small: list[str] = []
    for client_id, paths in PAGES.items():
        page = await visit(client_id, size=PHONE)
        for path in paths:
            await show(page, path.format(**known, language="en"))
            small += await page.evaluate(
                """(least) => [...document.querySelectorAll("button, summary, select, input, .button, nav a")]
                .filter((one) => one.checkVisibility() && one.type !== "hidden" && !one.closest(".visually-hidden"))
                .filter((one) => { const box = (one.closest("label") || one).getBoundingClientRect();
                                   return box.width < least || box.height < least; })
                .map((one) => location.pathname + ": " + one.outerHTML.slice(0, 120))""",
                TARGET_PIXELS_MIN,
            )
    assert small == []


async def test_the_focus_goes_where_the_eye_goes(system: System, visit: Visits) -> None:
    """By keyboard: past the header at will, then every control in the order of the page, each with a visible ring."""
    await system.raise_alert("GB")
    page = await visit("gb-senior-contact", "/acknowledge")
    await page.keyboard.press("Tab")
    await expect(page.locator(".skip")).to_be_focused()
    await page.keyboard.press("Enter")
    await page.keyboard.press("Tab")
    tops: list[float] = []
    for _step in range(2):
        focused = await page.evaluate(
            """() => { const one = document.activeElement;
                       return [one.closest("main") !== null, one.getBoundingClientRect().top,
                               getComputedStyle(one).outlineStyle]; }"""
        )
        assert focused[0], "the link past the header leads into the page"
        assert focused[2] != "none"
        tops.append(focused[1])
        await page.keyboard.press("Tab")
    assert tops == sorted(tops)


async def test_a_countdown_is_shown_and_not_said(system: System, visit: Visits) -> None:
    """What changes every second stands in no region that a screen reader reads aloud."""
    alert = await system.raise_alert("GB")
    for path in ("/", "/acknowledge", f"/alerts/{alert['id']}"):
        page = await visit("gb-senior-contact", path)
        await expect(page.locator("time[data-countdown]").first).to_be_attached()
        live = "[aria-live] time[data-countdown], [role=status] time[data-countdown], [role=alert] time[data-countdown]"
        assert await page.locator(live).count() == 0


async def test_colours_that_the_device_forces_leave_nothing_out(system: System, visit: Visits) -> None:
    """With forced colours the cell that is loud still has an edge, and nothing moves for who wants no movement."""
    await system.raise_alert("GB")
    page = await visit("xr-secretariat", forced_colors="active", reduced_motion="reduce")
    cell = page.locator(".cell").first
    await expect(cell).to_be_visible()
    assert await cell.evaluate("(one) => parseFloat(getComputedStyle(one).borderInlineStartWidth)") >= 1
    moving = "() => document.getAnimations().filter((one) => one.playState === 'running').length"
    assert await page.evaluate(moving) == 0

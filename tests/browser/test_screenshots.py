"""The pictures of every page in docs/screenshots: made anew with REDPHONE_UPDATE_SCREENSHOTS=1, else looked after."""

from __future__ import annotations

import os
from typing import Any

import pytest
from playwright.async_api import expect

from tests.browser.conftest import DESK, PHONE, WALL, Visits
from tests.support.stack import ROOT
from tests.support.system import System
from tests.support.waiting import eventually

FOLDER = ROOT / "docs" / "screenshots"
BYTES_MAX = 200_000
UPDATE = os.environ.get("REDPHONE_UPDATE_SCREENSHOTS") == "1"
SIZES = {"phone": PHONE, "desk": DESK}
THEMES = ("light", "dark")

PAGES = {
    "sign-in": (None, "/sign-in"),
    "offline": (None, "/offline"),
    "board": ("xr-secretariat", "/"),
    "alerts": ("ca-duty-officer", "/alerts"),
    "alert": ("ca-duty-officer", "/alerts/{alert}"),
    "update": ("ca-duty-officer", "/alerts/{alert}/update"),
    "report": ("ca-duty-officer", "/alerts/{alert}/report"),
    "raise": ("ca-duty-officer", "/raise"),
    "acknowledge-all": ("es-duty-officer", "/acknowledge"),
    "roster": ("gb-roster-manager", "/roster"),
    "roster-network": ("xr-secretariat", "/roster"),
    "roster-partner": ("gb-roster-manager", "/roster/partners/GB"),
    "rota": ("gb-roster-manager", "/roster/rotas/{rota}"),
    "people": ("gb-roster-manager", "/roster/people"),
    "me": ("gb-duty-officer", "/roster/me"),
    "deliveries": ("xr-secretariat", "/deliveries"),
    "delivery": ("xr-secretariat", "/deliveries/{delivery}"),
    "deliveries-people": ("gb-roster-manager", "/deliveries/people"),
    "statistics": ("xr-secretariat", "/statistics"),
}
"""Every page by its name: as whom it is seen, and where."""


def expected() -> set[str]:
    """The names of all pictures."""
    names = [*PAGES, "acknowledge", "board-arabic"]
    return {"board-wall.png", *(f"{name}-{size}-{theme}.png" for name in names for size in SIZES for theme in THEMES)}


@pytest.mark.skipif(UPDATE, reason="the pictures are being made")
async def test_every_page_has_its_pictures() -> None:
    """Each page on phone and desk, in both themes, and the wall; small enough to be looked at over a bad line."""
    assert {path.name for path in FOLDER.glob("*.png")} == expected()
    assert [path.name for path in FOLDER.glob("*.png") if path.stat().st_size > BYTES_MAX] == []


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(not UPDATE, reason="REDPHONE_UPDATE_SCREENSHOTS=1 makes the pictures")
async def test_pictures_are_made(system: System, visit: Visits) -> None:
    """A board in the middle of a crisis, and every page around it."""
    FOLDER.mkdir(exist_ok=True)
    for old in FOLDER.glob("*.png"):
        old.unlink()
    alert = await in_the_middle_of_a_crisis(system)
    asked = await system.asked(alert, *mailboxes(system))
    [(rota,), *_] = await system.rows("roster", "SELECT id FROM rotas WHERE partner = 'GB' ORDER BY place")
    [delivery, *_] = (await system.call("xr-secretariat", "GET", "/v1/deliveries"))["items"]
    things = {"alert": alert["id"], "rota": rota, "delivery": delivery["page_id"]}
    pages = {
        **PAGES,
        "acknowledge": (None, asked.link.removeprefix(system.url)),
        "board-arabic": ("xr-secretariat", "/"),
    }
    for theme in THEMES:
        for size, viewport in SIZES.items():
            for name, (client_id, path) in pages.items():
                language = "ar" if name == "board-arabic" else "en"
                page = await visit(client_id, path.format(**things), size=viewport, theme=theme, language=language)
                if client_id is not None:
                    await expect(page.locator("main")).to_be_visible()
                await page.screenshot(path=FOLDER / f"{name}-{size}-{theme}.png", animations="disabled")
                await page.context.close()
    wall = await visit("xr-secretariat", "/?wall=1", size=WALL)
    await wall.screenshot(path=FOLDER / "board-wall.png", animations="disabled")
    too_large = [path.name for path in FOLDER.glob("*.png") if path.stat().st_size > BYTES_MAX]
    assert too_large == []
    assert {path.name for path in FOLDER.glob("*.png")} == expected()


def mailboxes(system: System) -> list[str]:
    """Everybody's who was written to."""
    return sorted({mail.to for mail in system.mail.mails})


async def in_the_middle_of_a_crisis(system: System) -> Any:
    """Some have answered, one can help, one cannot yet say, one is unreached; an exercise runs beside it."""
    flash = await system.raise_alert(
        *("US", "AU", "ES", "IT", "NZ", "GB", "EU"),
        headline="Kabul: seats needed on evacuation flights before the airport closes",
        description="The government has fallen. Some 300 people at risk wait at the northern gate with their papers.",
        instruction="Say how many seats you can offer in the next 72 hours, and who speaks for you on the ground.",
        coverage_goal={"partners": 5, "within_seconds": 900},
    )
    quick = await system.raise_alert(
        "NZ", precedence="IMMEDIATE", headline="Derna: boats overdue with 60 people", countries=["LBY"]
    )
    await system.raise_alert(
        "ES", "IT", precedence="ROUTINE", status="Exercise", note="Spring exercise", headline="Exercise: call-out"
    )
    for code in ("us", "au", "it", "gb"):
        body = {"alert_ids": [flash["id"]]}
        await system.call(f"{code}-duty-officer", "POST", "/v1/acknowledgements", body)
    path = f"/v1/escalations?alert_id={flash['id']}&kind=answer"
    items = {one["partner"]: one["id"] for one in (await system.call("ca-duty-officer", "GET", path))["items"]}
    said = {"stance": "committed", "offer": "40 seats from Doha on Thursday"}
    await system.call("us-duty-officer", "POST", f"/v1/escalations/{items['US']}/position", said)
    await system.call("au-duty-officer", "POST", f"/v1/escalations/{items['AU']}/position", {"stance": "declined"})

    async def is_unreached() -> bool:
        found = await system.rows(
            "escalation", "SELECT 1 FROM escalations WHERE alert_id = $1::uuid AND state = 'unreached'", quick["id"]
        )
        return bool(found)

    await eventually(is_unreached, within_seconds=60)
    return flash

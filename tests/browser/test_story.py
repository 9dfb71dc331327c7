"""The console as people use it, in a real browser on a real system: from the first line typed to the report."""

from __future__ import annotations

import re
from typing import Any

import pytest
from playwright.async_api import Page, expect

from tests.browser.conftest import DESK, PHONE, Visits, sign_in
from tests.support.system import System
from tests.support.waiting import eventually

KEYS_PER_SECOND = 3.0
"""How fast somebody who is not in practice types."""
HOSTILE = "<script>document.title='taken'</script>\"'><img src=x onerror=\"document.title='taken'\"> {{7*7}}"


async def fill_in(page: Page, headline: str, *, precedence: str, to: tuple[str, ...]) -> None:
    """Fills in the form of an alert."""
    await page.locator("[name=headline]").fill(headline)
    await page.locator("[name=countries]").fill("AFG")
    await page.locator("[name=instruction]").fill("Say how many seats you can offer by 18:00.")
    await page.locator(f"[name=precedence][value={precedence}]").check()
    for code in to:
        await page.locator(f"[name=to][value={code}]").check()


async def alert_of(system: System, page: Page) -> Any:
    """The alert whose page this is."""
    found = re.search(r"/alerts/([0-9a-f-]{36})", page.url)
    assert found, page.url
    return await system.call("ca-duty-officer", "GET", f"/v1/alerts/{found.group(1)}")


async def state_of(system: System, alert: Any, partner: str) -> str:
    """How a partner's answer stands."""
    path = f"/v1/escalations?alert_id={alert['id']}&kind=answer"
    items = (await system.call("ca-duty-officer", "GET", path))["items"]
    return str(next(one["state"] for one in items if one["partner"] == partner))


@pytest.mark.slow
async def test_an_alert_from_the_first_line_to_the_report(system: System, visit: Visits) -> None:
    """Drafted after a preview, released by a second person, on the secretariat's board at once, acknowledged from a
    telephone with link and code, a level higher elsewhere, unreached, taken over, and reported.
    """
    wall = await visit("xr-secretariat")

    desk = await visit("ca-duty-officer", "/raise")
    await fill_in(desk, "Kabul: evacuation before the airport closes", precedence="IMMEDIATE", to=("US", "GB"))
    await desk.locator("[name=act][value=preview]").click()
    preview = desk.locator("#preview")
    await expect(preview.locator("tbody tr")).to_have_count(2)
    await expect(preview).to_contain_text("Duty officer")
    await expect(desk.locator("[name=headline]")).to_have_value("Kabul: evacuation before the airport closes")
    await desk.locator("[name=act][value=draft]").click()
    await desk.wait_for_url(re.compile(r"/alerts/.*said=drafted"))
    alert = await alert_of(system, desk)
    assert alert["state"] == "draft"
    await expect(wall.locator(f"#alert-{alert['id']}")).to_have_count(0)

    second = await visit("ca-releaser", f"/alerts/{alert['id']}")
    await second.locator("[name=precedence]").select_option("IMMEDIATE")
    await second.get_by_role("button", name="Release now").click()
    await second.wait_for_url(re.compile(r"said=release"))

    cells = wall.locator(f"#alert-{alert['id']} .cell")
    await expect(cells).to_have_count(2)
    await expect(wall.locator("#empty")).to_be_hidden()

    asked = await system.asked(alert, "avery@us.example", "blake@us.example", "casey@us.example")
    phone = await visit(path=asked.link.removeprefix(system.url), size=PHONE)
    await phone.locator("[name=code]").fill(asked.code)
    await phone.locator("[name=act][value=acknowledge]").click()
    await expect(phone.locator("[name=act][value=position]")).to_be_visible()
    american = cells.filter(has_text="US")
    await expect(american).to_have_class(re.compile("is-good"))

    british = cells.filter(has_text="GB")
    await expect(british.first).to_contain_text(re.compile(r"Level [23] of"))
    await expect(cells.filter(has_text="Unreached")).to_have_class(re.compile("needs-human"))
    await expect(wall.locator("#needs")).to_contain_text("GB Take over")

    await wall.locator("#needs a").first.click()
    await wall.locator("tr", has_text="→ XR").get_by_role("button", name="Take over").click()
    await wall.wait_for_url(re.compile(r"said=takeover"))
    await expect(wall.locator(".answers")).to_contain_text("Taken over")

    await wall.goto(f"/alerts/{alert['id']}/report")
    for said in ("Kabul: evacuation", alert["reference"], "US", "GB"):
        await expect(wall.locator("main")).to_contain_text(said)


async def test_raising_by_keyboard_alone_takes_less_than_a_minute(system: System, visit: Visits) -> None:
    """From the empty form to a released alert without a pointer, in so few keys that a minute is enough."""
    page = await visit("ca-duty-officer", "/raise")
    pressed = 0

    async def press(*keys: str) -> None:
        nonlocal pressed
        for key in keys:
            await page.keyboard.press(key)
            pressed += 1

    async def type_text(text: str) -> None:
        nonlocal pressed
        await page.keyboard.type(text)
        pressed += len(text)

    async def tab_to(selector: str) -> None:
        for _ in range(40):
            if await page.evaluate("(s) => document.activeElement?.matches(s) ?? false", selector):
                return
            await press("Tab")
        pytest.fail(f"{selector} cannot be reached by Tab")

    await expect(page.locator("[name=headline]")).to_be_focused()
    await type_text("Kabul: airport closes")
    await tab_to("[name=countries]")
    await type_text("AFG")
    await tab_to("[name=instruction]")
    await type_text("Seats by 18:00?")
    await tab_to("[name=precedence]")
    await press("Space")
    await tab_to("[name=to]")
    await press("Space")
    await tab_to(".send summary")
    await press("Enter")
    await tab_to("[name=self_release_reason]")
    await type_text("alone")
    await tab_to("[name=act][value=release]")
    await press("Enter")
    await page.wait_for_url(re.compile(r"said=release"))
    assert (await alert_of(system, page))["state"] == "released"
    assert pressed / KEYS_PER_SECOND < 60, f"{pressed} keys"


async def test_a_double_click_is_one_alert(system: System, visit: Visits) -> None:
    """Two clicks, and even two posts of the same form, make one draft."""
    page = await visit("ca-duty-officer", "/raise")
    before = len(await system.rows("alerting", "SELECT id FROM alerts"))
    await fill_in(page, "Twice", precedence="FLASH", to=("US",))
    form = await page.evaluate("() => new URLSearchParams(new FormData(document.getElementById('raise'))).toString()")
    await page.locator("[name=act][value=draft]").dblclick()
    await page.wait_for_url(re.compile(r"said=drafted"))
    headers = {"content-type": "application/x-www-form-urlencoded", "origin": system.url}
    again = await page.request.post("/raise", data=f"{form}&act=draft", headers=headers)
    assert again.ok
    assert len(await system.rows("alerting", "SELECT id FROM alerts")) == before + 1


async def test_a_session_that_ends_in_the_middle_of_a_form_loses_nothing(system: System, visit: Visits) -> None:
    """Sent after the session has ended, the form asks for signing in, and then goes on with all that was typed."""
    page = await visit("ca-duty-officer", "/raise")
    await fill_in(page, "Typed before the end", precedence="FLASH", to=("US", "NZ"))
    await page.context.clear_cookies(name="redphone_session")
    await page.locator("[name=act][value=draft]").click()
    await expect(page.locator("main")).to_contain_text("What you had typed is kept")
    await sign_in(page, system, "ca-duty-officer")
    await page.locator("main form button.primary").click()
    await page.wait_for_url(re.compile(r"said=drafted"))
    alert = await alert_of(system, page)
    assert (alert["info"][0]["headline"], sorted(alert["to"])) == ("Typed before the end", ["NZ", "US"])


async def test_a_draft_outlives_a_closed_page(visit: Visits) -> None:
    """What is typed is kept in this browser until it was sent."""
    page = await visit("ca-duty-officer", "/raise")
    await fill_in(page, "Half a sentence", precedence="PRIORITY", to=("ES",))
    again = await page.context.new_page()
    await page.close()
    await again.goto("/raise")
    await expect(again.locator("[name=headline]")).to_have_value("Half a sentence")
    await expect(again.locator("[name=to][value=ES]")).to_be_checked()
    await expect(again.locator("[name=precedence][value=PRIORITY]")).to_be_checked()


async def test_what_somebody_typed_is_not_offered_to_the_next_one(system: System, visit: Visits) -> None:
    """A session that ends by itself keeps the text for the same person; another who signs in, and signing out, end it,
    and so does its age.
    """
    page = await visit("ca-duty-officer", "/raise")
    headline, kept = (
        page.locator("[name=headline]"),
        "Object.keys(localStorage).filter((key) => key.startsWith('draft:'))",
    )

    async def come_back_as(client_id: str) -> None:
        await page.context.clear_cookies(name="redphone_session")
        await page.goto("/raise")
        await sign_in(page, system, client_id)
        await page.goto("/raise")

    await fill_in(page, "Mine alone", precedence="PRIORITY", to=("ES",))
    await come_back_as("ca-duty-officer")
    await expect(headline).to_have_value("Mine alone")
    await come_back_as("ca-releaser")
    await expect(headline).to_have_value("")
    assert await page.evaluate(kept) == []

    await headline.fill("Mine again")
    assert len(await page.evaluate(kept)) == 1
    await page.locator("details.menu summary").click()
    await page.get_by_role("button", name="Sign out").click()
    await page.wait_for_url(re.compile("/sign-in"))
    await expect(page.locator("[name=client_secret]")).to_be_visible()
    assert await page.evaluate(kept) == []

    await come_back_as("ca-duty-officer")
    await headline.fill("Old")
    await page.evaluate(
        "() => { for (const key of Object.keys(localStorage)) if (key.startsWith('draft:')) {"
        " const kept = JSON.parse(localStorage[key]); kept.at -= 12 * 3600 * 1000;"
        " localStorage[key] = JSON.stringify(kept); } }"
    )
    await page.goto("/raise")
    await expect(headline).to_have_value("")
    assert await page.evaluate(kept) == []


async def test_hostile_text_stays_text(system: System, visit: Visits) -> None:
    """Whatever a field holds, it is shown as it was typed, on the live board, too."""
    board = await visit("us-duty-officer")
    title = await board.title()
    alert = await system.raise_alert("US", headline=HOSTILE[:160], instruction=HOSTILE, description=HOSTILE)
    await expect(board.locator(f"#alert-{alert['id']} h2")).to_have_text(HOSTILE[:160])
    assert await board.title() == title
    await board.goto(f"/alerts/{alert['id']}")
    await expect(board.locator("h1")).to_have_text(HOSTILE[:160])
    assert await board.locator("main script, main img").count() == 0


async def test_a_form_of_another_site_is_refused(system: System, visit: Visits) -> None:
    """A page elsewhere that posts to the console changes nothing: the browser says where the form comes from."""
    alert = await system.raise_alert("US")
    page = await visit("us-duty-officer", size=DESK)
    path = f"/v1/escalations?alert_id={alert['id']}&kind=answer"
    escalation = (await system.call("us-duty-officer", "GET", path))["items"][0]
    target = f"{system.url}/escalations/{escalation['id']}/acknowledgement"
    evil = f'<form method="post" action="{target}"><button>x</button></form>'
    await page.context.route("http://evil.example/", lambda route: route.fulfill(body=evil, content_type="text/html"))
    await page.goto("http://evil.example/")
    await page.locator("button").click()
    await page.wait_for_url(re.compile(r"/acknowledgement"))
    await eventually(lambda: "/acknowledgement" in page.url)
    assert await state_of(system, alert, "US") in ("pending", "notified")

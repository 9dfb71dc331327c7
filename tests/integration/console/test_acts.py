"""What people do on pages, as a browser without script does it: update, import, send once more."""

from __future__ import annotations

import html
import re

import pytest

from services.console.pages.raising import Typed
from tests.integration.console.conftest import Browser
from tests.integration.console.test_pages import raised
from tests.support.world import World

ENTITIES = '<?xml version="1.0"?><!DOCTYPE alert [<!ENTITY x SYSTEM "file:///etc/passwd">]><alert>&x;</alert>'
BOMB = (
    '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY a "lol"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>'
    "<alert><identifier>&b;</identifier></alert>"
)
HOSTILE = "<script>alert(1)</script>"


async def test_an_update_says_what_was_changed_and_nothing_else(made: World, browser: Browser) -> None:
    """The form holds what is said now; a second person releases it; everyone whom the alert reached is asked anew."""
    alert = await raised(made, browser, headline="Kabul: seats needed")
    await browser.sign_in("ca-duty")
    page = await browser.get(f"/alerts/{alert['id']}")
    assert f'href="/alerts/{alert["id"]}/update"' in page.text
    form = await browser.get(f"/alerts/{alert['id']}/update")
    assert 'value="Kabul: seats needed"' in form.text
    typed = {"headline": "Kabul: 120 seats needed", "countries": "Afghanistan", "precedence": "FLASH", "asks_anew": "1"}
    drafted = await browser.post(f"/alerts/{alert['id']}/update", {**typed, "act": "draft"})
    assert drafted.status_code == 303, drafted.text
    update = drafted.headers["location"].partition("?")[0]
    assert f'data-draft-done="update-{alert["id"]}"' in (await browser.get(f"{update}?said=drafted")).text
    await browser.sign_in("ca-releaser")
    await browser.get(update)
    released = await browser.post(f"{update}/release", {"precedence": "FLASH"})
    assert released.status_code == 303, released.text
    await made.settle()
    headers = await browser.network.sign_in(made, "ca-duty")
    shown = (await made.http.get(f"/v1{update}", headers=headers)).json()
    assert (shown["corrects"], shown["asks_anew"], shown["to"]) == (alert["id"], True, ["US", "GB"])
    assert shown["info"][0]["headline"] == "Kabul: 120 seats needed"
    assert shown["countries"] == ["AFG"]
    before = await browser.get(f"/alerts/{alert['id']}")
    assert "An update has replaced this message." in before.text
    assert f'href="/alerts/{alert["id"]}/update"' not in before.text


async def test_an_update_that_is_refused_comes_back_into_the_form(made: World, browser: Browser) -> None:
    """The fault is told, nothing typed is lost, and nobody else's alert can be updated."""
    alert = await raised(made, browser)
    await browser.sign_in("ca-duty")
    await browser.get(f"/alerts/{alert['id']}/update")
    typed = {"headline": "Kabul", "description": f"Now {HOSTILE}", "countries": "NOWHERE", "precedence": "FLASH"}
    refused = await browser.post(f"/alerts/{alert['id']}/update", {**typed, "act": "draft"})
    assert (refused.status_code, 'id="fault-countries"' in refused.text) == (422, True)
    assert html.escape(typed["description"]) in refused.text
    assert HOSTILE not in refused.text
    await browser.sign_in("us-duty")
    assert (await browser.get(f"/alerts/{alert['id']}/update")).status_code == 404
    await browser.get(f"/alerts/{alert['id']}")
    assert (await browser.post(f"/alerts/{alert['id']}/update", {**typed, "act": "draft"})).status_code == 404


@pytest.mark.parametrize(
    ("typed", "language", "codes"),
    [
        ("AFG", "en", ["AFG"]),
        ("afg irn", "en", ["AFG", "IRN"]),
        ("Sri Lanka, Afghanistan", "en", ["LKA", "AFG"]),
        ("Deutschland", "de", ["DEU"]),
        ("Atlantis", "en", ["ATLANTIS"]),
        (" , ", "en", []),
    ],
)
def test_countries_are_named_as_people_name_them(typed: str, language: str, codes: list[str]) -> None:
    """By code or by name in the reader's language; what is no country is for the API to refuse."""
    assert Typed({"countries": typed}).country_codes(language) == codes


@pytest.mark.parametrize("content", [ENTITIES, BOMB, "<alert>" + "<a>" * 5000, f"{HOSTILE} is no XML", "x" * 150_001])
async def test_a_hostile_cap_message_is_refused_and_shown_as_text(browser: Browser, content: str) -> None:
    """The API's reason stands on the page, the text comes back for mending, and nothing of it is ever markup."""
    await browser.sign_in("ca-duty")
    await browser.get("/raise")
    refused = await browser.post("/raise/cap", {"cap": content})
    assert refused.status_code in {400, 413, 422}
    assert "Not sent." in refused.text
    assert "root:" not in refused.text
    assert HOSTILE not in refused.text
    assert content[:60] in html.unescape(refused.text)


async def test_a_delivery_is_shown_and_sent_once_more(made: World, browser: Browser) -> None:
    """Each message with its attempts; a replay goes out under the same id, and a test message on request."""
    await raised(made, browser)
    await browser.sign_in("us-keeper")
    page = await browser.get("/deliveries")
    found = re.search(r'href="(/deliveries/[0-9a-f-]{36})"', page.text)
    assert found, page.text
    assert "alert.released" in page.text
    one = await browser.get(found[1])
    assert "alert.released" in one.text
    before = [sent for sent in made.outlets["webhook"].sent if sent.target == "https://endpoint-us.example/hook"]
    again = await browser.post(f"{found[1]}/replay")
    assert again.status_code == 303, again.text
    await made.settle()
    after = [sent for sent in made.outlets["webhook"].sent if sent.target == "https://endpoint-us.example/hook"]
    assert len(after) == len(before) + 1
    await browser.sign_in("gb-keeper")
    assert (await browser.get(found[1])).status_code == 404


async def test_the_map_shows_the_alerts_own_shapes_and_names_its_geocodes(made: World, browser: Browser) -> None:
    """The country's outline, a polygon and a circle on it; a code that no outline has stands beneath, as text."""
    square = [[69.0, 34.4], [69.4, 34.4], [69.4, 34.7], [69.0, 34.7], [69.0, 34.4]]
    area = {
        "description": "Kabul airport",
        "geometry": {"type": "Polygon", "coordinates": [square]},
        "circles": [{"center": [69.21, 34.56], "radius_km": 5}],
        "geocodes": [{"name": "iso3166-1-alpha-3", "value": "AFG"}, {"name": "UN/LOCODE", "value": HOSTILE}],
    }
    info = [{"language": "en", "headline": "Kabul", "areas": [area]}]
    body = {"info": info, "to": ["US"], "precedence": "FLASH", "self_release_reason": "alone"}
    headers = {**await browser.network.sign_in(made, "ca-duty"), **made.key()}
    answer = await made.http.post("/v1/alerts", json=body, headers=headers)
    assert answer.status_code == 202, answer.text
    await browser.sign_in("ca-duty")
    page = await browser.get(f"/alerts/{answer.json()['id']}")
    for drawn in ('<path class="named" d="M', '<path class="shape" d="M', '<circle class="shape"', "Kabul airport"):
        assert drawn in page.text
    assert f"UN/LOCODE {html.escape(HOSTILE)}" in page.text
    assert HOSTILE not in page.text

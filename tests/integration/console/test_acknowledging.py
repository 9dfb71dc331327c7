"""Acknowledge and install: the page for a telephone, without script; and what a browser gets to install the console."""

from __future__ import annotations

import re

from services.console.pages.installing import ICONS
from services.console.words import LANGUAGES
from tests.integration.console.conftest import Browser
from tests.integration.console.test_pages import HOSTILE, raised
from tests.support.world import World


async def test_what_a_government_is_asked_stands_on_one_page(made: World, browser: Browser) -> None:
    """Each alert with its button, one button for all, and on the board the way there; nothing is owed to strangers."""
    await raised(made, browser, headline=HOSTILE)
    await raised(made, browser, headline="Derna")
    await browser.sign_in("us-duty")
    page = (await browser.get("/acknowledge")).text
    assert page.count('/acknowledgement"') == 2
    assert "Acknowledge all 2 alerts for my government" in page
    assert "<script>alert" not in page
    await made.services["escalation"].loops["board"].run_once()
    assert 'href="/acknowledge">2 alerts ask US to acknowledge' in (await browser.get("/")).text


async def test_acknowledging_leads_to_the_position(made: World, browser: Browser) -> None:
    """One button acknowledges; the alert stays on the page until the government has said what it will do."""
    await raised(made, browser)
    await browser.sign_in("us-duty")
    page = (await browser.get("/acknowledge")).text
    found = re.search(r'action="(/escalations/[^"]+)/acknowledgement"', page)
    assert found is not None
    done = await browser.post(f"{found[1]}/acknowledgement", {"after": "/acknowledge"})
    assert (done.status_code, done.headers["location"]) == (303, "/acknowledge?said=acknowledgement")
    page = (await browser.get("/acknowledge?said=acknowledgement")).text
    assert "Acknowledged for your government." in page
    assert "/acknowledgement" not in page.replace("said=acknowledgement", "")
    assert f'{found[1]}/position"' in page
    position = {"stance": "committed", "offer": "Two aircraft", "hours": "1", "after": "/acknowledge"}
    assert (await browser.post(f"{found[1]}/position", position)).headers["location"] == "/acknowledge?said=position"
    assert "Nothing waits for your government." in (await browser.get("/acknowledge")).text


async def test_one_button_acknowledges_all(made: World, browser: Browser) -> None:
    """Everything that is asked of the government, and nothing of another."""
    await raised(made, browser)
    await raised(made, browser)
    await browser.sign_in("us-duty")
    await browser.get("/acknowledge")
    done = await browser.post("/acknowledge-all")
    assert (done.status_code, done.headers["location"]) == (303, "/acknowledge?said=all")
    page = (await browser.get("/acknowledge")).text
    assert '/acknowledgement"' not in page
    await browser.sign_in("gb-duty")
    assert (await browser.get("/acknowledge")).text.count('/acknowledgement"') == 2


async def test_a_form_sends_nobody_elsewhere(made: World, browser: Browser) -> None:
    """After an act the reader is led to a page of ours, whatever the form says."""
    await raised(made, browser)
    await browser.sign_in("us-duty")
    page = (await browser.get("/acknowledge")).text
    found = re.search(r'action="(/escalations/[^"]+)/acknowledgement"', page)
    assert found is not None
    done = await browser.post(f"{found[1]}/acknowledgement", {"after": "https://evil.example/"})
    assert done.headers["location"].startswith("/?said=")


async def test_the_console_can_be_installed(browser: Browser) -> None:
    """Without signing in: a manifest in the reader's language, its icons, and a worker for the whole site."""
    answer = await browser.get("/manifest.webmanifest", **{"accept-language": "ar"})
    manifest = answer.json()
    assert answer.headers["content-type"] == "application/manifest+json"
    assert (manifest["lang"], manifest["dir"], manifest["display"]) == ("ar", "rtl", "standalone")
    assert {icon["purpose"] for icon in manifest["icons"]} == {"any", "maskable"}
    assert len(manifest["icons"]) == len(ICONS)
    for icon in manifest["icons"]:
        image = await browser.get(icon["src"])
        width = int.from_bytes(image.content[16:20], "big")
        assert (image.headers["content-type"], icon["sizes"]) == ("image/png", f"{width}x{width}")
    worker = await browser.get("/service-worker.js")
    assert worker.headers["content-type"].startswith("text/javascript")
    assert worker.headers["cache-control"] == "no-cache"


async def test_the_worker_keeps_no_page_but_the_offline_one(browser: Browser) -> None:
    """What is put into its store is the offline page and what that is drawn with, each of which is there."""
    script = (await browser.get("/service-worker.js")).text
    files = re.search(r"const FILES = (\[.*?\]);", script)
    assert files is not None
    kept = re.findall(r'"(/[^"]+)"', files[1])
    assert kept
    assert all(path.startswith("/static/") for path in kept)
    assert script.count("store.put(") == 1
    for path in kept:
        assert (await browser.get(path)).status_code == 200
    for language in LANGUAGES:
        page = (await browser.get("/offline?theme=dark", **{"accept-language": language})).text
        assert f'<html lang="{language}"' in page
        assert 'data-theme="dark"' in page
        assert "<script" not in page
        assert 'name="csrf"' not in page

"""The board as it changes: cut and recovered, hidden, large on a wall, with an API down."""

from __future__ import annotations

import re

from playwright.async_api import expect

from tests.browser.conftest import WALL, Visits
from tests.support.system import System

SHOWS_ALL = """(id) => [...document.querySelectorAll(`#alert-${id} .cell`)].every((cell) => {
  const box = cell.getBoundingClientRect(); return box.height > 0 && box.top >= 0 && box.bottom <= innerHeight; })"""


async def test_a_cut_stream_says_stale_and_recovers_what_was_missed(system: System, visit: Visits) -> None:
    """After kill -9 the board says within seconds how old it is; restarted, it has what changed meanwhile."""
    visit.allow("Failed to load resource|ERR_|htmx:")
    board = await visit("xr-secretariat")
    alert = await system.raise_alert("US", "GB")
    cells = board.locator(f"#alert-{alert['id']} .cell")
    await expect(cells).to_have_count(2)
    await system.kill()
    await expect(board.locator("#stale")).to_be_visible(timeout=9_000)
    await expect(board.locator("#stale-since")).not_to_be_empty()
    await expect(board.locator("#age-text")).to_have_text(re.compile(r"\d+ s ago"))
    assert (await board.title()).startswith("STALE")
    await expect(cells).to_have_count(2)
    await system.start()
    other = await system.raise_alert("ES", headline="Derna: the dams have broken")
    await system.call("us-duty-officer", "POST", "/v1/acknowledgements", {"alert_ids": [alert["id"]]})
    await expect(board.locator("#stale")).to_be_hidden(timeout=30_000)
    await expect(board.locator(f"#alert-{other['id']} .cell")).to_have_count(1)
    await expect(cells.filter(has_text="US")).to_have_class(re.compile("is-good"))
    assert not (await board.title()).startswith("STALE")


async def test_a_frozen_server_is_noticed_although_the_connection_stands(system: System, visit: Visits) -> None:
    """A connection over which nothing comes any more is as good as cut."""
    visit.allow("Failed to load resource|ERR_|htmx:")
    board = await visit("xr-secretariat")
    await expect(board.locator("#age-text")).to_have_text("Live")
    system.freeze()
    try:
        await expect(board.locator("#stale")).to_be_visible(timeout=9_000)
    finally:
        system.thaw()
    await expect(board.locator("#stale")).to_be_hidden(timeout=30_000)
    alert = await system.raise_alert("US")
    await expect(board.locator(f"#alert-{alert['id']}")).to_be_visible()


async def test_a_hidden_board_keeps_its_stream(system: System, visit: Visits) -> None:
    """In a tab that is not in front the board goes on, so that whoever comes back sees what is."""
    board = await visit("xr-secretariat")
    await expect(board.locator("#age-text")).to_have_text("Live")
    await board.evaluate(
        """() => { Object.defineProperty(document, 'hidden', { get: () => true });
                   Object.defineProperty(document, 'visibilityState', { get: () => 'hidden' });
                   document.dispatchEvent(new Event('visibilitychange')); }"""
    )
    alert = await system.raise_alert("US")
    await expect(board.locator(f"#alert-{alert['id']} .cell")).to_have_count(1)


async def test_a_change_leaves_focus_and_neighbours_alone(system: System, visit: Visits) -> None:
    """Whoever stands on a cell with the keyboard stays there while it changes, and nothing else is replaced."""
    board = await visit("xr-secretariat")
    alert = await system.raise_alert("US", "GB")
    row = board.locator(f"#alert-{alert['id']}")
    american = row.locator(".cell").filter(has_text="US")
    await expect(american).to_be_visible()
    # The neighbour has answered, so nothing of its own can change it meanwhile.
    british = row.locator(".cell").filter(has_text="GB")
    await system.call("gb-duty-officer", "POST", "/v1/acknowledgements", {"alert_ids": [alert["id"]]})
    await expect(british).to_have_class(re.compile("is-good"))
    await expect(row.locator(".tally")).to_contain_text("1/2")
    await american.locator(".cell-name").focus()
    await british.evaluate("(cell) => { cell.dataset.mine = 'kept'; }")
    await system.call("us-duty-officer", "POST", "/v1/acknowledgements", {"alert_ids": [alert["id"]]})
    await expect(american).to_have_class(re.compile("is-good"))
    assert await board.evaluate("() => document.activeElement.textContent") == "US"
    await expect(row.locator("[data-mine=kept]")).to_have_count(1)
    await expect(row.locator(".tally")).to_contain_text("2/2")


async def test_somebody_signed_out_is_asked_to_sign_in_again(system: System, visit: Visits) -> None:
    """A board whose session has ended does not stand still for ever: it says who it needs."""
    visit.allow("401|htmx:")
    board = await visit("xr-secretariat")
    await expect(board.locator("#age-text")).to_have_text("Live")
    elsewhere = await board.context.new_page()
    await elsewhere.goto("/alerts")
    await elsewhere.locator(".menu summary").click()
    async with elsewhere.expect_navigation():
        await elsewhere.get_by_role("button", name="Sign out").click()
    await board.wait_for_url(re.compile("/sign-in"), timeout=40_000)


async def test_the_wall_shows_ten_partners_without_scrolling(system: System, visit: Visits) -> None:
    """Dark, every cell of ten partners on one screen, names large enough for a room."""
    known = [one["code"] for one in (await system.call("ca-duty-officer", "GET", "/v1/partners"))["items"]]
    to = [code for code in known if code not in ("CA", "XR")]
    assert len(to) == 9
    wall = await visit("xr-secretariat", "/?wall=1", size=WALL)
    alert = await system.raise_alert(*to)
    await expect(wall.locator(f"#alert-{alert['id']} .cell")).to_have_count(len(to))
    assert await wall.evaluate(SHOWS_ALL, alert["id"])
    assert await wall.evaluate("() => document.documentElement.scrollHeight <= innerHeight")
    ground = await wall.evaluate("() => getComputedStyle(document.body).backgroundColor")
    assert sum(map(int, re.findall(r"\d+", ground)[:3])) < 120
    size = await wall.locator(".cell-name").first.evaluate("(name) => parseFloat(getComputedStyle(name).fontSize)")
    assert size >= 30


async def test_the_wall_pages_through_two_hundred(system: System, visit: Visits) -> None:
    """What does not fit takes turns, and whoever needs a human stays on every page; nobody has to scroll."""
    wall = await visit("xr-secretariat", "/?wall=1", size=WALL)
    alert = await system.raise_alert("US", "GB")
    await expect(wall.locator(f"#alert-{alert['id']} .cell")).to_have_count(2)
    await wall.evaluate(
        """(id) => { const cells = document.getElementById(`cells-${id}`), one = cells.firstElementChild;
          for (let number = 0; number < 198; number++) {
            const copy = one.cloneNode(true); copy.id = 'copy-' + number; copy.dataset.order = '5' + number;
            copy.classList.toggle('needs-human', number < 3); cells.append(copy); }
          fill(); }""",
        alert["id"],
    )
    seen: set[str] = set()
    for _ in range(30):
        assert await wall.evaluate("() => document.documentElement.scrollHeight <= innerHeight")
        shown = await wall.evaluate(
            "() => [...document.querySelectorAll('.cell:not([data-off-page])')].map((cell) => cell.id)"
        )
        assert {"copy-0", "copy-1", "copy-2"} <= set(shown)
        seen |= set(shown)
        if len(seen) == 200:
            break
        await wall.evaluate("() => turnPage()")
    assert len(seen) == 200

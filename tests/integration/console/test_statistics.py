"""Statistics, the after-action draft and the delivery log of people, as a browser without script gets them."""

from __future__ import annotations

import csv
import io
from typing import Any

import pytest

from tests.integration.console.conftest import Browser
from tests.integration.console.test_pages import HOSTILE, down_for, raised
from tests.support.world import World


async def acknowledged(made: World, browser: Browser, who: str) -> None:
    """Somebody acknowledges all that their government is asked."""
    headers = {**await browser.network.sign_in(made, who), **made.key()}
    answer = await made.http.post("/v1/acknowledgements", json={"alert_ids": "all"}, headers=headers)
    assert answer.status_code == 200, answer.text
    await made.settle()


def table(text: str) -> list[dict[str, str]]:
    """A download, by its head."""
    assert text.startswith("\ufeff")
    return list(csv.DictReader(io.StringIO(text.removeprefix("\ufeff"), newline="")))


async def test_statistics_by_partner_and_precedence(
    made: World, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The raiser sees whom it asked with times and bars, its readiness and paths; others their own; a table, too."""
    await raised(made, browser)
    await made.fast_forward(130)
    await acknowledged(made, browser, "us-duty")
    await browser.sign_in("ca-duty")
    page = await browser.get("/statistics")
    assert page.status_code == 200
    for shown in ("0:02:10", "up to 5 min: 1", "There was no drill in this period.", "Heartbeats", "Readiness over"):
        assert shown in page.text, shown
    assert page.text.count('<svg class="bars"') == 2
    assert "style=" not in page.text
    download = await browser.get("/statistics.csv?days=7")
    assert download.headers["content-type"] == "text/csv; charset=utf-8"
    assert "red-phone-statistics-2021-08-09-2021-08-15.csv" in download.headers["content-disposition"]
    rows = table(download.text)
    assert [(row["partner"], row["asked"], row["acknowledged"]) for row in rows] == [("GB", "1", "0"), ("US", "1", "1")]
    assert (rows[1]["median_seconds"], rows[1]["acknowledged_within_300_seconds"]) == ("130.0", "1")
    early = (await browser.get("/statistics?from=2021-01-01&to=2021-01-31")).text
    assert "Nobody was asked in this period." in early
    assert "That is no day" in (await browser.get("/statistics?from=yesterday")).text
    assert "366 days" in (await browser.get("/statistics?from=2019-01-01")).text
    monkeypatch.setattr("shared.in_process.InProcess.handle_async_request", down_for("/v1/partners/CA/readiness"))
    partly = await browser.get("/statistics")
    assert "roster does not answer" in partly.text
    assert "0:02:10" in partly.text
    monkeypatch.undo()
    await browser.sign_in("gb-duty")
    others = (await browser.get("/statistics")).text
    assert "0:02:10" not in others
    await browser.sign_in("xr-secretariat")
    everybody = (await browser.get("/statistics")).text
    for code in ("CA", "US", "GB"):
        assert f'<th scope="row">{code}</th>' in everybody
    assert (await browser.get("/statistics.csv")).text.count("\r\n") == 3


async def test_the_report_is_drafted_from_the_record(made: World, browser: Browser) -> None:
    """Times, attempts, who was unreached and taken over, questions; the same as a table, in which nothing is run."""
    alert = await raised(made, browser, headline=HOSTILE)
    headers = {**await browser.network.sign_in(made, "us-duty"), **made.key()}
    await acknowledged(made, browser, "us-duty")
    (own,) = (await made.http.get("/v1/escalations", headers=headers)).json()["items"]
    asked = {"text": "=How many?"}
    answer = await made.http.post(f"/v1/escalations/{own['id']}/questions", json=asked, headers=headers)
    assert answer.status_code < 300, answer.text
    await made.fast_forward(3600)
    await browser.sign_in("ca-duty")
    path = f"/alerts/{alert['id']}/report"
    report = (await browser.get(path)).text
    for shown in ("Times to acknowledge", "Attempts, and what failed", "Unreached, and who took over", "=How many?"):
        assert shown in report, shown
    assert "taken over by nobody" in report
    assert "NameDutyUS" in report
    assert "<script>alert" not in report
    rows: list[dict[str, Any]] = [*table((await browser.get(f"{path}.csv")).text)]
    by_partner = {row["partner"]: row for row in rows}
    assert (by_partner["US"]["unreached"], by_partner["GB"]["unreached"]) == ("0", "1")
    assert int(by_partner["GB"]["attempts"]) > int(by_partner["US"]["attempts"]) > 0
    assert by_partner["US"]["acknowledged_by"] == "NameDutyUS"
    await browser.sign_in("gb-duty")
    assert (await browser.get(f"/alerts/{made.ids.new()}/report.csv")).status_code == 404
    partly = (await browser.get(path)).text
    assert "NameDutyUS" not in partly


async def test_roster_managers_see_how_their_people_were_reached(made: World, browser: Browser) -> None:
    """Over which channel, to whom by role; no address, no name, no text; others are told that it is not theirs."""
    await raised(made, browser)
    await browser.sign_in("us-keeper")
    systems = (await browser.get("/deliveries")).text
    assert 'href="/deliveries/people"' in systems
    people = await browser.get("/deliveries/people")
    assert people.status_code == 200
    assert "Duty role" in people.text
    for hidden in ("duty-us.example", "NameDutyUS", "Kabul"):
        assert hidden not in people.text
    assert "Nothing was sent" in (await browser.get(f"/deliveries/people?point={made.ids.new()}")).text
    await browser.sign_in("us-duty")
    assert (await browser.get("/deliveries/people")).status_code == 403
    assert 'href="/deliveries/people"' not in (await browser.get("/deliveries")).text

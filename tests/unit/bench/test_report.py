"""The arithmetic of the benchmarks."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from rich.console import Console

from bench import network, report
from shared.contracts import DutyPlanPublished
from shared.keys import KeyRing


@pytest.mark.parametrize(
    ("values", "percent", "expected"),
    [
        ([5.0], 50, 5.0),
        ([5.0], 99, 5.0),
        ([1.0, 2.0, 3.0, 4.0], 50, 2.0),
        ([4.0, 1.0, 3.0, 2.0], 75, 3.0),
        ([float(n) for n in range(1, 101)], 99, 99.0),
        ([float(n) for n in range(1, 102)], 99, 100.0),
    ],
)
def test_a_percentile_is_a_value_that_was_measured(values: list[float], percent: float, expected: float) -> None:
    """The nearest rank: the smallest value that so many percent do not exceed, in whatever order they came."""
    assert report.percentile(values, percent) == expected


def test_there_is_no_percentile_of_nothing() -> None:
    """A benchmark that measured nothing fails instead of printing a figure."""
    with pytest.raises(ValueError, match="no values"):
        report.percentile([], 50)


def test_a_ratio_compares_medians() -> None:
    """One slow round on either side does not decide."""
    assert report.ratio([10.0, 20.0, 900.0], [5.0, 40.0, 10.0]) == 2.0


def test_several_runs_become_one_result_of_the_same_shape() -> None:
    """Each figure is the median of the runs that have it; words come from the first run; nothing stays nothing."""
    runs = [
        {"last_ms": {"median": 30.0, "max": 90.0}, "endpoints": 200, "sink": "nginx", "ratio": 1.5, "never": None},
        {"last_ms": {"median": 50.0, "max": 70.0}, "endpoints": 200, "sink": "nginx", "ratio": None, "never": None},
        {"last_ms": {"median": 40.0, "max": 80.0}, "endpoints": 200, "sink": "nginx", "ratio": 2.5, "never": None},
    ]
    assert report.median_of_runs(runs) == {
        "last_ms": {"median": 40.0, "max": 80.0},
        "endpoints": 200,
        "sink": "nginx",
        "ratio": 2.0,
        "never": None,
    }


def test_a_table_shows_every_figure_and_says_what_was_not_measured() -> None:
    """What is missing is named, not left out."""
    shown = report.table("Fan-out", [("last ms", {"median": 41.5, "max": 90.0}), ("alertmanager last ms", None)])
    console = Console(width=100)
    with console.capture() as captured:
        console.print(shown)
    for text in ("Fan-out", "median 41.5", "max 90", "not measured"):
        assert text in captured.get()


@pytest.mark.parametrize("count", [1, 10, 674, 675, 1000])
def test_there_are_as_many_endpoints_as_asked_for(count: int) -> None:
    """One alert means one webhook per endpoint, and every partner's code is its own, the raiser's and the secretariat's
    not among them.
    """
    urls = [f"http://127.0.0.1:{port}/page" for port in range(20_000, 20_000 + count)]
    partners = network.partners(urls, urls)
    assert sorted(url for partner in partners for url in partner.urls) == sorted(urls)
    assert len({partner.code for partner in partners}) == len(partners) == min(count, 674)
    assert not {"CA", "XR"} & {partner.code for partner in partners}


def test_the_plans_page_one_officer_by_the_endpoint() -> None:
    """The officer on the rota of level 1 holds the endpoint, and the office of level 2 has another one."""
    keys, now = KeyRing.generate(), datetime(2021, 8, 15, 9, 30, tzinfo=UTC)
    [partner] = network.partners(["http://127.0.0.1:20000/page"], ["http://127.0.0.1:20000/office"])
    published = network.events([partner], keys, "secret", now)
    [plan] = [event for event in published if isinstance(event, DutyPlanPublished)]
    [officer] = plan.contacts
    assert [target.kind for level in plan.levels for target in level.targets] == ["rota", "office"]
    assert all(shift.contact_id == officer.id for shift in plan.rotas[0].shifts)
    assert any(shift.start_at <= now < shift.end_at for shift in plan.rotas[0].shifts)
    assert len(officer.points) == 1
    assert plan.office is not None
    assert plan.office.points[0].id != officer.points[0].id

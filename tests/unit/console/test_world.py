"""The map of an alert's area."""

from __future__ import annotations

import re

from services.console.world import HEIGHT, WIDTH, area_map

KABUL = {"geometry": None, "circles": [{"center": [69.2, 34.5], "radius_km": 30}]}
SQUARE = {
    "geometry": {
        "type": "Polygon",
        "coordinates": [[[32.0, 15.0], [33.0, 15.0], [33.0, 16.0], [32.0, 16.0], [32.0, 15.0]]],
    }
}


def inside(x: float, y: float) -> bool:
    """Whether a point is in the view."""
    return 0 <= x <= WIDTH and 0 <= y <= HEIGHT


def test_a_country_alone_fills_the_map() -> None:
    """Without shapes of its own, an alert shows its country among the neighbours."""
    shown = area_map(["AFG"], [])
    assert shown is not None
    points = [(float(x), float(y)) for x, y in re.findall(r"([\d.-]+) ([\d.-]+)", shown.named)]
    assert len(points) > 20
    assert all(inside(x, y) for x, y in points)
    assert shown.land
    assert not shown.shapes


def test_a_circle_lies_where_it_should() -> None:
    """The place of a circle is in the middle of its own map, and its size is never invisible."""
    shown = area_map(["AFG"], [KABUL])
    assert shown is not None
    [(x, y, radius)] = shown.circles
    assert abs(x - WIDTH / 2) < 1
    assert abs(y - HEIGHT / 2) < 1
    assert radius >= 4


def test_a_shape_is_drawn_within_the_map() -> None:
    """All corners of a polygon are in the view, north up."""
    shown = area_map(["SDN"], [SQUARE])
    assert shown is not None
    points = [(float(x), float(y)) for x, y in re.findall(r"([\d.-]+) ([\d.-]+)", shown.shapes)]
    assert len(points) == 5
    assert all(inside(x, y) for x, y in points)
    assert points[2][1] < points[0][1]


def test_an_overseas_territory_does_not_shrink_the_country() -> None:
    """France is shown where most of it lies, not as a dot in an ocean."""
    shown = area_map(["FRA"], [])
    assert shown is not None
    xs = [float(x) for x, _ in re.findall(r"([\d.-]+) ([\d.-]+)", shown.named)]
    assert max(xs) - min(xs) > WIDTH / 3


def test_no_place_gives_no_map() -> None:
    """Unknown codes and areas without a shape are no trouble."""
    assert area_map([], []) is None
    assert area_map(["XXX"], [{"geometry": None, "circles": []}]) is None


def test_a_huge_shape_stays_small_on_the_wire() -> None:
    """A shape of very many points is thinned out."""
    ring = [[30 + i / 100_000, 10 + (i % 100) / 1000] for i in range(60_000)]
    shown = area_map([], [{"geometry": {"type": "Polygon", "coordinates": [ring]}}])
    assert shown is not None
    assert len(shown.shapes) < 150_000

"""A map of an alert's area: the outlines of Natural Earth around it, and its own shapes upon them.

`world.json` holds the outlines of each country (by ISO 3166-1 alpha-3; a few by name) as flat lists of longitude and
latitude, rounded to a tenth of a degree, made from `countries-110m.json` of the npm package `world-atlas` 2.0.2 (its
SHA-256: 2516c915867c7baf18ddec727aec46c315541a07cfb3d79a6559b05d5e94eee8;
Natural Earth, public domain; boundaries imply no
opinion on status). The map is drawn around the area alone, so that a page carries a few kilobytes of it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import orjson

WIDTH, HEIGHT = 640, 400
MARGIN = 0.35
"""Of the area's own size, on each side."""
SPAN_DEGREES_MIN = 6.0
KILOMETRES_PER_DEGREE = 111.2
POINTS_MAX = 5_000
"""Points of the alert's own shapes; more are left out, evenly."""

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class AreaMap:
    """Paths in a view of `WIDTH` × `HEIGHT`: land, the countries that the alert names, its shapes, and its circles."""

    land: str
    named: str
    shapes: str
    circles: tuple[tuple[float, float, float], ...]


def area_map(countries: Iterable[str], areas: Sequence[Mapping[str, Any]]) -> AreaMap | None:
    """The map for an alert's countries (alpha-3) and areas (GeoJSON, as the API gives them); None without any place."""
    world = _world()
    named = [code for code in countries if code in world]
    rings = [ring for area in areas for ring in _rings(area.get("geometry"))]
    circles = [
        (float(one["center"][0]), float(one["center"][1]), float(one["radius_km"]) / KILOMETRES_PER_DEGREE)
        for area in areas
        for one in area.get("circles", ())
    ]
    own = [point for ring in rings for point in ring] + [(x, y) for x, y, _ in circles]
    framed = own or [point for code in named for ring in _main_rings(world[code]) for point in ring]
    if not framed:
        return None
    frame = _Frame.around(framed)
    inside = [code for code, found in world.items() if any(frame.touches(ring) for ring in found)]
    return AreaMap(
        land=frame.path(ring for code in inside if code not in named for ring in world[code]),
        named=frame.path(ring for code in named for ring in world[code]),
        shapes=frame.path(rings),
        circles=tuple((*frame.at((x, y)), max(4.0, radius * frame.scale)) for x, y, radius in circles),
    )


@dataclass(frozen=True, slots=True)
class _Frame:
    """What part of the world is shown; a degree of longitude is as much narrower as it is at the middle latitude."""

    west: float
    north: float
    scale: float
    narrow: float

    @classmethod
    def around(cls, points: Sequence[Point]) -> _Frame:
        west, east = min(x for x, _ in points), max(x for x, _ in points)
        south, north = min(y for _, y in points), max(y for _, y in points)
        narrow = max(0.2, math.cos(math.radians((south + north) / 2)))
        wide = max((east - west) * (1 + 2 * MARGIN) * narrow, SPAN_DEGREES_MIN)
        high = max((north - south) * (1 + 2 * MARGIN), SPAN_DEGREES_MIN * HEIGHT / WIDTH)
        scale = min(WIDTH / wide, HEIGHT / high)
        middle_x, middle_y = (west + east) / 2, (south + north) / 2
        return cls(middle_x - WIDTH / scale / narrow / 2, middle_y + HEIGHT / scale / 2, scale, narrow)

    def at(self, point: Point) -> Point:
        x, y = (point[0] - self.west) * self.narrow, self.north - point[1]
        return round(x * self.scale, 1), round(y * self.scale, 1)

    def touches(self, ring: Sequence[Point]) -> bool:
        east, south = self.west + WIDTH / self.scale / self.narrow, self.north - HEIGHT / self.scale
        xs, ys = [x for x, _ in ring], [y for _, y in ring]
        return min(xs) < east and max(xs) > self.west and min(ys) < self.north and max(ys) > south

    def path(self, rings: Iterable[Sequence[Point]]) -> str:
        parts = []
        for ring in rings:
            if not self.touches(ring):
                continue
            step = max(1, len(ring) // POINTS_MAX)
            parts.append("M" + "L".join(f"{x:g} {y:g}" for x, y in map(self.at, ring[::step])) + "Z")
        return "".join(parts)


def _rings(geometry: Mapping[str, Any] | None) -> Iterator[list[Point]]:
    if geometry is None:
        return
    polygons = [geometry["coordinates"]] if geometry["type"] == "Polygon" else geometry["coordinates"]
    for polygon in polygons:
        for ring in polygon:
            yield [(float(x), float(y)) for x, y, *_ in ring]


def _main_rings(rings: Sequence[Sequence[Point]]) -> list[Sequence[Point]]:
    """The largest outline and those near its size: overseas territories would put a country into a corner."""

    def size(ring: Sequence[Point]) -> float:
        xs, ys = [x for x, _ in ring], [y for _, y in ring]
        return (max(xs) - min(xs)) * (max(ys) - min(ys))

    largest = max(map(size, rings))
    return [ring for ring in rings if size(ring) >= largest / 4]


@cache
def _world() -> Mapping[str, list[list[Point]]]:
    found = orjson.loads(Path(__file__).with_name("world.json").read_bytes())
    return {code: [list(zip(ring[::2], ring[1::2], strict=True)) for ring in rings] for code, rings in found.items()}

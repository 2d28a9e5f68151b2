"""A strict validator of GeoJSON with polygons, by RFC 7946: what the standard recommends is demanded as well."""

import itertools
import json
import math
from typing import Any


class NotGeoJSONError(AssertionError):
    """What is wrong, and where in the document."""


def validate(text: str) -> dict[str, Any]:
    """Parse a FeatureCollection of polygons and multipolygons, and check all of it; returns it.

    Raises:
        NotGeoJSONError: the text breaks a rule.
    """
    collection = json.loads(text, parse_constant=_refuse_constant)
    _members(collection, "", "FeatureCollection", {"features"}, {"coordinates", "geometries", "geometry", "properties"})
    _expect(isinstance(collection["features"], list), "features", "an array")
    for number, feature in enumerate(collection["features"]):
        where = f"features[{number}]"
        _members(feature, where, "Feature", {"geometry", "properties"}, {"coordinates", "geometries", "features"})
        _expect(isinstance(feature["properties"], dict | None), where, "an object as properties")
        _expect(isinstance(feature.get("id", ""), str | int | float), where, "as id a text or a number")
        _geometry(feature["geometry"], f"{where}.geometry")
    return collection


def _refuse_constant(name: str) -> None:
    raise NotGeoJSONError(f"expected JSON, found {name}")


def _expect(right: bool, where: str, what: str) -> None:
    if not right:
        raise NotGeoJSONError(f"{where or 'the document'}: expected {what}")


def _members(found: Any, where: str, kind: str, needed: set[str], forbidden: set[str]) -> None:
    _expect(isinstance(found, dict), where, "an object")
    _expect(found.get("type") == kind, where, f"the type {kind}")
    _expect(needed <= found.keys(), where, f"the members {sorted(needed)}")
    _expect(not forbidden & found.keys(), where, f"none of the members {sorted(forbidden)}")
    _expect("crs" not in found, where, "no member crs, which RFC 7946 has removed")


def _geometry(geometry: Any, where: str) -> None:
    _expect(isinstance(geometry, dict), where, "an object")
    kind = geometry.get("type")
    _expect(kind in ("Polygon", "MultiPolygon"), where, "a Polygon or a MultiPolygon")
    _members(geometry, where, kind, {"coordinates"}, {"geometry", "properties", "features"})
    coordinates = geometry["coordinates"]
    polygons = coordinates if kind == "MultiPolygon" else [coordinates]
    _expect(isinstance(polygons, list) and bool(polygons), where, "a polygon at least")
    for polygon_number, rings in enumerate(polygons):
        here = f"{where}.polygon[{polygon_number}]"
        _expect(isinstance(rings, list) and bool(rings), here, "a ring at least")
        for number, ring in enumerate(rings):
            _ring(ring, f"{here}.ring[{number}]", is_outer=number == 0)


def _ring(ring: Any, where: str, *, is_outer: bool) -> None:
    _expect(isinstance(ring, list) and len(ring) >= 4, where, "four positions or more")
    for position in ring:
        _expect(isinstance(position, list) and len(position) in (2, 3), where, f"positions, found {position}")
        for value in position:
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            _expect(is_number and math.isfinite(value), where, f"finite numbers, found {value!r}")
        lon, lat = position[:2]
        _expect(-180 <= lon <= 180 and -90 <= lat <= 90, where, f"longitude and latitude in degrees, found {position}")
    _expect(ring[0] == ring[-1], where, "a closed ring, its first position also at the end")
    # Relative to the first corner: the products of whole coordinates would swallow a small area.
    x0, y0 = ring[0][:2]
    corners = [(position[0] - x0, position[1] - y0) for position in ring]
    area = sum(x1 * y2 - x2 * y1 for (x1, y1), (x2, y2) in itertools.pairwise(corners)) / 2
    _expect(area != 0, where, "a ring that has an area")
    if is_outer:
        _expect(area > 0, where, "an outer ring that runs counter-clockwise, found clockwise")
    else:
        _expect(area < 0, where, "a hole that runs clockwise, found counter-clockwise")

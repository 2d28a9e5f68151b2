"""Make taxi_zones.geojson from the TLC's shapefile (the one published until 2026, with its wrong LocationIDs).

To make it again, run `python -m include.tlc_simulator.simplify taxi_zones.zip include/tlc_simulator/taxi_zones.geojson`
"""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from include.nyc_taxi.files import replacing
from include.tlc_simulator.city import FEET

if TYPE_CHECKING:
    import geopandas

TOLERANCE = 50
"""In feet: a corner is removed if the triangle with its neighbours is smaller than the square of this length."""


def simplified(zones: "geopandas.GeoDataFrame") -> "geopandas.GeoDataFrame":
    """The zones with a fifth of their corners, rounded to whole feet, and with identical borders between neighbours.

    In the TLC's file the borders of most neighbours differ by a fraction of an inch. They are matched first, because
    otherwise the simplified zones would overlap and leave gaps.

    Args:
        zones: the zones in feet (EPSG:2263), as the TLC publishes them.

    Raises:
        ValueError: the result is not a valid coverage.
    """
    import numpy
    import shapely

    matched = shapely.coverage_clean(zones.geometry.to_numpy())
    shapes = shapely.transform(shapely.coverage_simplify(matched, TOLERANCE), numpy.round)
    if not (shapely.is_valid(shapes).all() and shapely.coverage_is_valid(shapes)):
        raise ValueError(f"simplified by {TOLERANCE} feet, some zones overlap or are invalid: try another tolerance")
    return zones.set_geometry(shapes, crs=zones.crs)


def write_geojson(zones: "geopandas.GeoDataFrame", path: Path) -> None:
    """Write zones with whole-foot coordinates as GeoJSON, with one zone per line."""
    lines = []
    for feature in zones.iterfeatures(drop_id=True):
        feature["geometry"]["coordinates"] = _whole(feature["geometry"]["coordinates"])
        lines.append(json.dumps(feature, separators=(",", ":")))
    # GeoJSON is in degrees by default, but programs based on GDAL respect this member.
    crs = {"type": "name", "properties": {"name": f"urn:ogc:def:crs:{FEET.replace(':', '::')}"}}
    features = ",\n".join(lines)
    with replacing(path) as temporary:
        temporary.write_text(
            f'{{"type": "FeatureCollection", "crs": {json.dumps(crs)}, "features": [\n{features}\n]}}\n'
        )


def _whole(coordinates: Any) -> Any:
    """Nested lists or tuples of floats as nested lists of integers."""
    return [_whole(part) for part in coordinates] if isinstance(coordinates, (tuple, list)) else int(coordinates)


if __name__ == "__main__":
    import geopandas

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("shapefile", type=Path, help="the TLC's taxi_zones.zip")
    parser.add_argument("geojson", type=Path, help="the file to write")
    options = parser.parse_args()
    write_geojson(simplified(geopandas.read_file(options.shapefile)), options.geojson)

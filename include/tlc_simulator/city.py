"""The city: the TLC's 265 taxi zones, and the real shapes of the 263 zones that have one.

`taxi_zone_lookup.csv` is the TLC's own file. `taxi_zones.geojson` contains the TLC's shapes in feet, reduced to a fifth
of their corners by `simplify.py`, with the columns of the shapefile that the TLC published until 2026. Both are public
data of the City of New York.
"""

import csv
import functools
import json
import math
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from include.nyc_taxi.files import replacing

if TYPE_CHECKING:
    import geopandas

FEET = "EPSG:2263"  # New York Long Island in US survey feet, the projection of the TLC's shapefile
DEGREES = "EPSG:4326"

ZONES_LAYOUTS = ("2026", "2023")
"""The layouts of the TLC's zone files: since February 2026, and before."""

LOOKUP_FILE = Path(__file__).with_name("taxi_zone_lookup.csv")
SHAPES_FILE = Path(__file__).with_name("taxi_zones.geojson")

MILES_PER_DEGREE = (52.4, 69.0)
"""The lengths of a degree of longitude and of latitude in New York. Multiplied by these, degrees are almost plane
coordinates within the city."""

_WITHOUT_SHAPE = {264: (-73.985, 40.755), 265: (-73.860, 40.960)}
"""The longitude and latitude assumed for trips in the zones "Unknown" and "Outside of NYC"."""
_SQUARES_A_ZONE = 12


@dataclass(frozen=True)
class Zone:
    """A row of the TLC's zone lookup."""

    id: int
    borough: str
    name: str
    service_zone: str


def _read_zones() -> dict[int, Zone]:
    with LOOKUP_FILE.open(newline="", encoding="utf-8") as file:
        _, *rows = csv.reader(file)
    return {int(zone_id): Zone(int(zone_id), *texts) for zone_id, *texts in rows}


ZONES: dict[int, Zone] = _read_zones()
"""The 265 zones by ID, in order of ID."""


@dataclass(frozen=True)
class Square:
    """A square that lies entirely within a zone.

    Attributes:
        lon, lat: its centre, in degrees.
        miles: the length of its sides, which run from west to east and from south to north.
    """

    zone_id: int
    lon: float
    lat: float
    miles: float


@functools.cache
def centres() -> dict[int, tuple[float, float]]:
    """The longitude and latitude in degrees of the centres of the 265 zones, in order of ID."""
    import shapely

    middles = shapely.get_coordinates(shapely.centroid(_shapes_in_miles())) / MILES_PER_DEGREE
    # Rounded to about 4 inches, so that all versions of the libraries give the same result.
    points = [(round(float(lon), 6), round(float(lat), 6)) for lon, lat in middles]
    return dict(enumerate(points, start=1)) | _WITHOUT_SHAPE


@functools.cache
def squares() -> tuple[Square, ...]:
    """Squares all over each zone, in order of zone ID. Those of a zone have the same size and are equally likely."""
    import numpy
    import shapely

    shapes = _shapes_in_miles()
    shapely.prepare(shapes)
    found = []
    for zone_id, shape in enumerate(shapes, start=1):
        west, south, east, north = shape.bounds
        side = math.sqrt(shape.area / _SQUARES_A_ZONE) / 0.8
        corners: Any = ()
        while len(corners) < _SQUARES_A_ZONE:
            side *= 0.8
            x, y = numpy.meshgrid(numpy.arange(west, east, side), numpy.arange(south, north, side))
            fits = shapely.contains_properly(shape, shapely.box(x, y, x + side, y + side))
            corners = numpy.column_stack([x[fits], y[fits]])
        for lon, lat in (corners + side / 2) / MILES_PER_DEGREE:
            # Slightly smaller than the largest that fits, because plane and trip coordinates are not exact.
            found.append(Square(zone_id, round(float(lon), 6), round(float(lat), 6), round(0.95 * side, 6)))
    found += [Square(zone_id, *place, 0.3) for zone_id, place in _WITHOUT_SHAPE.items()]
    return tuple(found)


@functools.cache
def _shapes_in_miles() -> Any:
    """An array of the 263 shapes in miles (degrees times `MILES_PER_DEGREE`), in order of zone ID."""
    import numpy
    import pyproj
    import shapely

    def to_miles(feet: Any) -> Any:
        return numpy.column_stack(transformer.transform(*feet.T)) * MILES_PER_DEGREE

    transformer = pyproj.Transformer.from_crs(FEET, DEGREES, always_xy=True)
    features = json.loads(SHAPES_FILE.read_text(encoding="utf-8"))["features"]
    shapes = shapely.from_geojson([json.dumps(feature["geometry"]) for feature in features])
    return shapely.transform(shapes, to_miles)


def write_lookup(path: Path) -> None:
    """Write the zone lookup as the TLC serves it: 265 rows, quoted texts, and lines that end with CR LF."""
    with replacing(path) as temporary:
        temporary.write_bytes(LOOKUP_FILE.read_bytes())


def write_shapes(path: Path, layout: str = ZONES_LAYOUTS[0]) -> None:
    """Write the zones of `zone_shapes` as a zipped shapefile like the TLC's. The bytes are the same every time.

    Args:
        layout: in "2026" the archive contains the shapefile in a folder, in "2023" at the top level.

    Raises:
        ValueError: there is no such layout.
    """
    shapes = zone_shapes(layout)
    with replacing(path) as temporary, tempfile.TemporaryDirectory() as folder:
        # A shapefile contains a date. The fixed date of the real file keeps the bytes, and thus the ETag, the same.
        shapes.to_file(Path(folder, "taxi_zones.shp"), engine="pyogrio", DBF_DATE_LAST_UPDATE="2015-09-21")
        top = "" if layout == "2023" else "taxi_zones/"
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
            for part in sorted(Path(folder).iterdir()):
                entry = zipfile.ZipInfo(top + part.name, date_time=(2015, 9, 21, 14, 3, 0))
                archive.writestr(entry, part.read_bytes(), zipfile.ZIP_DEFLATED)


def zone_shapes(layout: str = ZONES_LAYOUTS[0]) -> "geopandas.GeoDataFrame":
    """The zones with shapes, with the columns of the TLC's shapefile and, in the layout "2023", its wrong IDs.

    Returns:
        263 rows in order of the correct zone ID, which is `OBJECTID`. `LocationID` is the same, except in three rows of
        the layout "2023": 57 has 56, and 104 and 105 have 103. `Shape_Leng` and `Shape_Area` are the TLC's, in degrees.
        The geometry is in feet (EPSG:2263).

    Raises:
        ValueError: there is no such layout.
    """
    import geopandas

    if layout not in ZONES_LAYOUTS:
        raise ValueError(f"no layout {layout!r} of the zones: expected one of {', '.join(ZONES_LAYOUTS)}")
    shapes = geopandas.read_file(SHAPES_FILE)
    return shapes if layout == "2023" else shapes.assign(LocationID=shapes["OBJECTID"])

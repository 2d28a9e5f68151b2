"""The TLC's taxi zones: the lookup of names and boroughs, joined with the zones' shapes."""

import csv
import zipfile
from pathlib import Path

import duckdb

from include.nyc_taxi import settings, tlc, warehouse
from include.nyc_taxi.download import Download, Site, download
from include.nyc_taxi.errors import DownloadError, ZonesError
from include.nyc_taxi.late import pandas_kept_out
from include.nyc_taxi.rows import insert

LOOKUP_HEADER = ["LocationID", "Borough", "Zone", "service_zone"]
WGS84 = "EPSG:4326"
WITHOUT_SHAPE = {264, 265}
"""The zones "Unknown" and "Outside of NYC"."""
COORDINATE_STEP = 1e-7
"""Coordinates are rounded to this many degrees, about a centimetre."""

Zone = tuple[int, str, str, str, str | None]
"""zone_id, zone, borough, service_zone, geometry (WKT, WGS84)."""


def lookup_path() -> Path:
    """Where the zone lookup is kept, as the TLC published it."""
    return settings.raw_dir() / Path(tlc.ZONE_LOOKUP_PATH).name


def shapes_path() -> Path:
    """Where the zones' shapefile is kept, as the TLC published it."""
    return settings.raw_dir() / Path(tlc.ZONE_SHAPES_PATH).name


def download_zones(site: Site) -> tuple[Download, Download]:
    """Bring lookup and shapefile to their places in raw/; see `download` for what that does and raises."""
    return (
        download(site, tlc.ZONE_LOOKUP_PATH, lookup_path(), verify_lookup),
        download(site, tlc.ZONE_SHAPES_PATH, shapes_path(), verify_shapes),
    )


def verify_lookup(path: Path) -> None:
    """Raises DownloadError when `path` is not a zone lookup (an error page, say)."""
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        header = file.readline().strip()
    if [name.strip('"') for name in header.split(",")] != LOOKUP_HEADER:
        raise DownloadError(f"{path.name}: expected the columns {', '.join(LOOKUP_HEADER)}, found {header[:80]!r}")


def verify_shapes(path: Path) -> None:
    """Raises DownloadError when `path` is not a whole ZIP archive with a shapefile in it."""
    if not zipfile.is_zipfile(path):
        with path.open("rb") as file:
            raise DownloadError(f"{path.name}: expected a ZIP archive, found a file beginning {file.read(60)!r}")
    with zipfile.ZipFile(path) as archive:
        broken = archive.testzip()
        if broken or not any(name.endswith(".shp") for name in archive.namelist()):
            raise DownloadError(f"{path.name}: expected a shapefile, found {archive.namelist()}, broken: {broken}")


def read_zones(lookup: Path, shapes: Path) -> list[Zone]:
    """Join lookup and shapes into one row a zone, ids 1 to 265 in order.

    In the shapefile three rows carry a wrong `LocationID` (57 says 56; 104 and 105 say 103). Its `OBJECTID` is every
    row's true zone id, so the join is by that, and the names of both files must then agree in every row.
    "N/A" is a name like any other. The zones "Unknown" (264) and "Outside of NYC" (265) have no shape.

    Raises:
        ZonesError: ids are missing or twice there, or a zone's name differs between the two files.
    """
    import geopandas  # heavy: not for those who only need the checks above
    import shapely

    with lookup.open(newline="", encoding="utf-8") as file:
        named = {int(row["LocationID"]): row for row in csv.DictReader(file)}
    if sorted(named) != list(range(1, tlc.ZONES + 1)):
        raise ZonesError(f"{lookup.name}: expected zone ids 1 to {tlc.ZONES}, found {len(named)} ids")

    frame = geopandas.read_file(shapes).to_crs(WGS84)
    frame["geometry"] = shapely.set_precision(frame.geometry.array, COORDINATE_STEP)
    ids = frame["OBJECTID"].astype(int)
    if sorted(ids) != sorted(set(named) - WITHOUT_SHAPE):
        raise ZonesError(f"{shapes.name}: expected one row for each zone in OBJECTID, found {sorted(ids)}")
    for zone_id, name in zip(ids, frame["zone"], strict=True):
        if named[zone_id]["Zone"] != name:
            raise ZonesError(
                f"{shapes.name}: zone {zone_id} is {name!r}, but {named[zone_id]['Zone']!r} in {lookup.name}; "
                "the shapefile's OBJECTID no longer is the zone id"
            )
    wkt = dict(zip(ids, frame.geometry.to_wkt(rounding_precision=7), strict=True))
    return [
        (zone_id, row["Zone"], row["Borough"], row["service_zone"], wkt.get(zone_id))
        for zone_id, row in sorted(named.items())
    ]


@pandas_kept_out()
def load_zones(con: duckdb.DuckDBPyConnection, zones: list[Zone]) -> int:
    """Replace all of the table `zones`, in one transaction; returns its number of rows."""

    def replace() -> int:
        warehouse.ensure_tables(con)
        con.execute("DELETE FROM zones")
        insert(con, "zones", zones)
        return count_zones(con)

    return warehouse.write(con, replace)


@pandas_kept_out()
def count_zones(con: duckdb.DuckDBPyConnection) -> int:
    """Number of zones loaded: 0 in a new warehouse, else 265."""
    warehouse.ensure_tables(con)
    (count,) = con.execute("SELECT count(*) FROM zones").fetchone() or (0,)
    return int(count)

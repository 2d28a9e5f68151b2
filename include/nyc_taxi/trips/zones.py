"""The TLC's taxi zones: the lookup of names and boroughs, joined with the zones' shapes."""

from __future__ import annotations

import contextlib
import csv
import io
import logging
import math
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from include.nyc_taxi import catalogue, settings, warehouse
from include.nyc_taxi.errors import DownloadError, ZonesError
from include.nyc_taxi.rows import insert
from include.nyc_taxi.source.download import Download, Site, download, forget_edition

if TYPE_CHECKING:
    import duckdb
    import geopandas

log = logging.getLogger(__name__)

LOOKUP_HEADER = ["LocationID", "Borough", "Zone", "service_zone"]
WGS84 = "EPSG:4326"
WITHOUT_SHAPE = {264, 265}
"""The zones "Unknown" and "Outside of NYC"."""
COORDINATE_STEP = 1e-7
"""Coordinates are rounded to this many degrees, about a centimetre."""
SHAPEFILE_PARTS = (".shp", ".shx", ".dbf", ".prj", ".cpg")
"""The files of a shapefile that are read; the first three make one."""
FILE_HAS_CHANGED = (
    "the TLC seems to have changed the file, and include/nyc_taxi/trips/zones.py must learn to read it. "
    "The table zones stays as it was"
)

Zone = tuple[int, str, str, str, str | None]
"""zone_id, zone, borough, service_zone, geometry (WKT, WGS84)."""


def lookup_path() -> Path:
    """Where the zone lookup is kept, as the TLC published it."""
    return settings.raw_dir() / Path(catalogue.ZONE_LOOKUP_PATH).name


def shapes_path() -> Path:
    """Where the zones' shapefile is kept, as the TLC published it."""
    return settings.raw_dir() / Path(catalogue.ZONE_SHAPES_PATH).name


def download_zones(site: Site) -> tuple[Download, Download]:
    """Bring lookup and shapefile to their places in raw/.

    Raises:
        DownloadError: as `download`.
        ZonesError: the TLC has published something that cannot be used. What was in raw/ before is still there.
    """
    try:
        return (
            download(site, catalogue.ZONE_LOOKUP_PATH, lookup_path(), verify_lookup),
            download(site, catalogue.ZONE_SHAPES_PATH, shapes_path(), verify_shapes),
        )
    except ZonesError as error:
        raise ZonesError(f"{error}; {FILE_HAS_CHANGED}") from error


def verify_lookup(path: Path) -> None:
    """Check that `path` is a zone lookup, by its first line.

    Raises:
        DownloadError: it is something else (an error page, say).
        ZonesError: it is a lookup that lacks a column.
    """
    with path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
        line = file.readline().strip()
    missing = set(LOOKUP_HEADER) - {name.strip('"') for name in line.split(",")}
    if missing:
        kind = DownloadError if missing == set(LOOKUP_HEADER) else ZonesError
        raise kind(f"{path.name}: expected the columns {', '.join(LOOKUP_HEADER)}, found {line[:80]!r}")


def verify_shapes(path: Path) -> None:
    """Check that `path` is a whole ZIP archive with one shapefile in it.

    Raises:
        DownloadError: it is no ZIP archive (but an error page, say), or a damaged one.
        ZonesError: it has no shapefile, or several, or is encrypted.
    """
    if not zipfile.is_zipfile(path):
        with path.open("rb") as file:
            raise DownloadError(f"{path.name}: expected a ZIP archive, found a file beginning {file.read(60)!r}")
    try:
        with zipfile.ZipFile(path) as archive:
            names, broken = archive.namelist(), archive.testzip()
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise DownloadError(f"{path.name}: expected a whole ZIP archive, found a damaged one: {error}") from error
    except RuntimeError as error:  # encrypted, or compressed in a way that Python does not know
        raise ZonesError(f"{path.name}: expected a readable ZIP archive, found: {error}") from error
    if broken:
        raise DownloadError(f"{path.name}: expected a whole ZIP archive, found {names}, broken: {broken}")
    shapefile_parts(path.name, names)


def shapefile_parts(archive_name: str, names: Iterable[str]) -> dict[str, str]:
    """Find the one shapefile in a ZIP archive, in whatever folder it is; returns its files by suffix in small letters.

    Files that macOS adds (`__MACOSX/…`, `._…`) are no part of it.

    Args:
        names: what the archive holds.

    Raises:
        ZonesError: there is no shapefile, or several, or a part of it is missing.
    """
    paths = {PurePosixPath(name.replace("\\", "/")): name for name in names if not name.endswith("/")}
    paths = {path: name for path, name in paths.items() if "__MACOSX" not in path.parts and path.name[:2] != "._"}
    found = [path for path in paths if path.suffix.lower() == ".shp"]
    if len(found) != 1:
        raise ZonesError(f"{archive_name}: expected one shapefile, found {len(found)} in {list(paths.values())}")
    parts = {
        path.suffix.lower(): name
        for path, name in paths.items()
        if path.suffix.lower() in SHAPEFILE_PARTS and _whole(path) == _whole(found[0])
    }
    missing = [suffix for suffix in SHAPEFILE_PARTS[:3] if suffix not in parts]
    if missing:
        raise ZonesError(f"{archive_name}: expected {found[0]} with {', '.join(missing)} beside it, found {parts}")
    return parts


def _whole(path: PurePosixPath) -> str:
    """What the files of one shapefile have in common: all but the suffix, in small letters."""
    return str(path.with_suffix("")).casefold()


def read_zones(lookup: Path, shapes: Path) -> list[Zone]:
    """Join lookup and shapes into one row a zone, ids 1 to 265 in order.

    The id of a shape is in whichever column of the shapefile gives every zone the name that it has in the lookup: until
    January 2026 that was `OBJECTID`, for three rows had a wrong `LocationID` (57 said 56; 104 and 105 said 103). Since
    February 2026 it is `LocationID`, which comes first where several columns would do. The log says which it is.
    "N/A" is a name like any other. The zones "Unknown" (264) and "Outside of NYC" (265) have no shape.

    Raises:
        ZonesError: a file cannot be read, or is not what it should be. The next download fetches it anew.
    """
    with _to_be_fetched_anew(lookup):
        named = _read_lookup(lookup)
    with _to_be_fetched_anew(shapes):
        frame = _read_shapes(shapes)
        names = _column(shapes.name, frame, "zone")
        expected = {zone_id: row["Zone"] for zone_id, row in named.items() if zone_id not in WITHOUT_SHAPE}
    with _to_be_fetched_anew(lookup, shapes):  # either may be the one that is wrong
        column, ids = _ids(shapes.name, frame, frame[names], expected, lookup.name)
    log.info("%s: the column %s has the zones' ids, by the names in %s", shapes.name, column, lookup.name)
    with _to_be_fetched_anew(shapes):
        wkt = _wkt(shapes.name, frame, ids)
    return [
        (zone_id, row["Zone"], row["Borough"], row["service_zone"], wkt.get(zone_id))
        for zone_id, row in sorted(named.items())
    ]


@contextlib.contextmanager
def _to_be_fetched_anew(*paths: Path) -> Iterator[None]:
    """Make whatever the block raises a ZonesError that says what to do, and forget which editions the files are.

    Files that cannot be used must not stay for the reason that the site says "not modified". What the machine lacks
    (memory, disk) is not the files' fault and passes as it is.
    """
    try:
        yield
    except (MemoryError, OSError) as error:
        if not isinstance(error, FileNotFoundError):
            raise
        raise ZonesError(f"{paths[0]}: expected the TLC's file, found none; run `download` of taxi_zones") from error
    except Exception as error:
        for path in paths:
            forget_edition(path)
        found = str(error) if isinstance(error, ZonesError) else f"{paths[0].name}: cannot be read: {error!r}"
        raise ZonesError(
            f"{found}. Clear the task that downloads it, which now fetches it anew. If that does not help: "
            f"{FILE_HAS_CHANGED}"
        ) from error


def _read_lookup(path: Path) -> dict[int, dict[str, str]]:
    """The rows of the lookup by zone id."""
    # Read whole: an error of the disk is not one of the content.
    reader = csv.DictReader(io.StringIO(path.read_bytes().decode("utf-8-sig"), newline=""), strict=True)
    missing = [name for name in LOOKUP_HEADER if name not in (reader.fieldnames or ())]
    if missing:
        raise ZonesError(f"{path.name}: expected the columns {', '.join(LOOKUP_HEADER)}, found {reader.fieldnames}")
    named: dict[int, dict[str, str]] = {}
    twice = []
    for row in reader:
        if None in row or None in row.values():
            raise ZonesError(
                f"{path.name}, line {reader.line_num}: expected {len(reader.fieldnames or ())} values, found {row}"
            )
        zone_id = _whole_number(row["LocationID"])
        if zone_id is None:
            raise ZonesError(
                f"{path.name}, line {reader.line_num}: expected a whole number as LocationID, "
                f"found {row['LocationID']!r}"
            )
        if zone_id in named:
            twice.append(zone_id)
        named[zone_id] = row
    if twice or sorted(named) != list(range(1, catalogue.ZONES + 1)):
        odd = {"missing or unknown": sorted(set(named) ^ set(range(1, catalogue.ZONES + 1))), "more than once": twice}
        raise ZonesError(
            f"{path.name}: expected zone ids 1 to {catalogue.ZONES}, found {len(named)} ids; "
            + ", ".join(f"{what}: {_some(numbers)}" for what, numbers in odd.items() if numbers)
        )
    return named


def _read_shapes(path: Path) -> geopandas.GeoDataFrame:
    """The shapefile in a ZIP archive, as it is: all columns, in its own projection."""
    import geopandas  # heavy: not for those who only need the checks above

    content, flat = io.BytesIO(path.read_bytes()), io.BytesIO()
    with zipfile.ZipFile(content) as archive, zipfile.ZipFile(flat, "w") as repacked:
        # GDAL finds neither a shapefile in a folder of the archive nor parts with suffixes in capitals.
        for suffix, name in shapefile_parts(path.name, archive.namelist()).items():
            repacked.writestr(f"zones{suffix}", archive.read(name))
    flat.seek(0)
    try:
        return geopandas.read_file(flat)
    except OSError as error:  # nothing is read from the disk here
        raise ZonesError(f"{path.name}: expected a shapefile, but it cannot be read: {error}") from error


def _column(file_name: str, frame: geopandas.GeoDataFrame, wanted: str) -> str:
    """A column's name as the file spells it."""
    for name in frame.columns:
        if name.casefold() == wanted.casefold():
            return str(name)
    raise ZonesError(f"{file_name}: expected a column {wanted!r}, found {', '.join(frame.columns)}")


def _ids(
    file_name: str, frame: geopandas.GeoDataFrame, names: Iterable[str], expected: Mapping[int, str], lookup_name: str
) -> tuple[str, list[int]]:
    """Find the column that has the zones' ids: each of `expected` once, with its name; returns its name and values."""
    wrong = []
    columns = [name for name in frame.columns if name != frame.geometry.name]
    for column in sorted(columns, key=lambda name: name.casefold() != "locationid"):
        ids = [_whole_number(value) for value in frame[column]]
        if None in ids or not ids:
            continue
        found = [zone_id for zone_id in ids if zone_id is not None]
        fault = _fault(found, list(names), expected, lookup_name)
        if fault is None:
            return column, found
        wrong.append(f"{column}: {fault}")
    raise ZonesError(
        f"{file_name}: expected a column with the ids of the {len(expected)} zones that have a shape, each once and "
        f"with its name in {lookup_name}, found none. "
        + ("; ".join(wrong) or f"No column has whole numbers: {', '.join(columns)}")
    )


def _fault(ids: list[int], names: list[str], expected: Mapping[int, str], lookup_name: str) -> str | None:
    """Why a column cannot hold the zones' ids; None where it can."""
    times = Counter(ids)
    faults = {
        "missing": sorted(expected.keys() - times.keys()),
        "unknown": sorted(times.keys() - expected.keys()),
        "more than once": sorted(zone_id for zone_id, count in times.items() if count > 1),
    }
    if any(faults.values()):
        return ", ".join(f"{what} {_some(numbers)}" for what, numbers in faults.items() if numbers)
    for zone_id, name in zip(ids, names, strict=True):
        if name != expected[zone_id]:
            return f"zone {zone_id} is {name!r}, but {expected[zone_id]!r} in {lookup_name}"
    return None


def _some(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers[:5])) + (f" and {len(numbers) - 5} more" if len(numbers) > 5 else "")


def _whole_number(value: Any) -> int | None:
    """A text or a number as a whole number; None where it is none."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return int(number) if math.isfinite(number) and number.is_integer() else None


def _wkt(file_name: str, frame: geopandas.GeoDataFrame, ids: list[int]) -> dict[int, str]:
    """The shapes by zone id, in degrees."""
    import shapely

    if frame.crs is None:
        raise ZonesError(f"{file_name}: expected a shapefile that says its projection (.prj), found none")
    in_degrees = frame.geometry.to_crs(WGS84)
    for zone_id, shape in zip(ids, in_degrees, strict=True):
        kind = "none" if shape is None else "an empty one" if shape.is_empty else shape.geom_type
        if kind not in ("Polygon", "MultiPolygon"):
            raise ZonesError(f"{file_name}: expected a polygon as the shape of zone {zone_id}, found {kind}")
        west, south, east, north = shape.bounds
        if not (-180 <= west <= east <= 180 and -90 <= south <= north <= 90):
            raise ZonesError(
                f"{file_name}: expected the shape of zone {zone_id} to be on the earth, found the bounds "
                f"{shape.bounds} in degrees; is it in another projection than {frame.crs.to_string()[:60]}?"
            )
    rounded = shapely.set_precision(in_degrees.array, COORDINATE_STEP)
    return dict(zip(ids, shapely.to_wkt(rounded, rounding_precision=7), strict=True))


def load_zones(con: duckdb.DuckDBPyConnection, zones: list[Zone]) -> int:
    """Replace all of the table `zones`, in one transaction; returns its number of rows."""

    def replace() -> int:
        warehouse.ensure_tables(con)
        con.execute("DELETE FROM zones")
        insert(con, "zones", "zone_id, zone, borough, service_zone, geometry", zones)
        return count_zones(con)

    return warehouse.write(con, replace)


def count_zones(con: duckdb.DuckDBPyConnection) -> int:
    """Number of zones loaded: 0 in a new warehouse, else 265."""
    (count,) = con.execute(f"SELECT count(*) FROM {warehouse.readable(con, 'zones')}").fetchone() or (0,)
    return int(count)

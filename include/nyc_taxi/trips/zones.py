"""Download, read and load the TLC's taxi zones: the lookup of names and boroughs, joined with the zones' shapes."""

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
"""The IDs of the zones "Unknown" and "Outside of NYC"."""
COORDINATE_STEP = 1e-7
"""Coordinates are rounded to this many degrees, about a centimetre."""
SHAPEFILE_PARTS = (".shp", ".shx", ".dbf", ".prj", ".cpg")
"""The files of a shapefile that are read; the first three are required."""
FILE_HAS_CHANGED = (
    "the TLC seems to have changed the file, so include/nyc_taxi/trips/zones.py must be adapted to it. "
    "The table zones is unchanged"
)

Zone = tuple[int, str, str, str, str | None]
"""zone_id, zone, borough, service_zone, geometry (WKT, WGS84)."""


def lookup_path() -> Path:
    """The path of the zone lookup as the TLC published it."""
    return settings.raw_dir() / Path(catalogue.ZONE_LOOKUP_PATH).name


def shapes_path() -> Path:
    """The path of the zones' shapefile as the TLC published it."""
    return settings.raw_dir() / Path(catalogue.ZONE_SHAPES_PATH).name


def download_zones(site: Site) -> tuple[Download, Download]:
    """Download the lookup and the shapefile to raw/.

    Raises:
        DownloadError: as for `download`.
        ZonesError: the TLC has published an unusable file. The previous file is still in raw/.
    """
    try:
        return (
            download(site, catalogue.ZONE_LOOKUP_PATH, lookup_path(), verify_lookup),
            download(site, catalogue.ZONE_SHAPES_PATH, shapes_path(), verify_shapes),
        )
    except ZonesError as error:
        raise ZonesError(f"{error}; {FILE_HAS_CHANGED}") from error


def verify_lookup(path: Path) -> None:
    """Check by its first line that the file at `path` is a zone lookup.

    Raises:
        DownloadError: the file is something else (an error page, for example).
        ZonesError: the lookup lacks a column.
    """
    with path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
        line = file.readline().strip()
    missing = set(LOOKUP_HEADER) - {name.strip('"') for name in line.split(",")}
    if missing:
        kind = DownloadError if missing == set(LOOKUP_HEADER) else ZonesError
        raise kind(f"{path.name}: expected the columns {', '.join(LOOKUP_HEADER)}, found {line[:80]!r}")


def verify_shapes(path: Path) -> None:
    """Check that the file at `path` is an undamaged ZIP archive with one shapefile.

    Raises:
        DownloadError: the file is not a ZIP archive (but an error page, for example), or is damaged.
        ZonesError: the archive has no shapefile or several, or cannot be decompressed (because it is encrypted, for
            example).
    """
    if not zipfile.is_zipfile(path):
        with path.open("rb") as file:
            raise DownloadError(f"{path.name}: expected a ZIP archive, found a file that begins with {file.read(60)!r}")
    try:
        with zipfile.ZipFile(path) as archive:
            names, broken = archive.namelist(), archive.testzip()
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise DownloadError(f"{path.name}: expected a ZIP archive, found a damaged one: {error}") from error
    except RuntimeError as error:  # the archive is encrypted, or Python does not support its compression
        raise ZonesError(f"{path.name}: expected a readable ZIP archive, found: {error}") from error
    if broken:
        raise DownloadError(f"{path.name}: expected a ZIP archive, found one whose {broken} is damaged, in {names}")
    shapefile_parts(path.name, names)


def shapefile_parts(archive_name: str, names: Iterable[str]) -> dict[str, str]:
    """Find the only shapefile in a ZIP archive, in any folder; return its files by suffix in lower case.

    Files that macOS adds (`__MACOSX/…`, `._…`) are ignored.

    Args:
        names: the names of the archive's members.

    Raises:
        ZonesError: the archive has no shapefile or several, or the shapefile is incomplete.
    """
    paths = {PurePosixPath(name.replace("\\", "/")): name for name in names if not name.endswith("/")}
    paths = {path: name for path, name in paths.items() if "__MACOSX" not in path.parts and path.name[:2] != "._"}
    found = [path for path in paths if path.suffix.lower() == ".shp"]
    if len(found) != 1:
        raise ZonesError(f"{archive_name}: expected one shapefile, found {len(found)} in {list(paths.values())}")
    parts = {
        path.suffix.lower(): name
        for path, name in paths.items()
        if path.suffix.lower() in SHAPEFILE_PARTS and _stem(path) == _stem(found[0])
    }
    missing = [suffix for suffix in SHAPEFILE_PARTS[:3] if suffix not in parts]
    if missing:
        raise ZonesError(f"{archive_name}: expected {found[0]} with {', '.join(missing)} beside it, found {parts}")
    return parts


def _stem(path: PurePosixPath) -> str:
    """The path without its suffix, in lower case, which all files of a shapefile have in common."""
    return str(path.with_suffix("")).casefold()


def read_zones(lookup: Path, shapes: Path) -> list[Zone]:
    """Join lookup and shapes into one row per zone, ordered by ID from 1 to 265.

    The IDs of the shapes are in the column of the shapefile that gives every zone its name from the lookup. Until
    January 2026 that was `OBJECTID`, because three rows had a wrong `LocationID` (57 had 56; 104 and 105 had 103).
    Since February 2026 it is `LocationID`, which is preferred if several columns fit. The log names the column.
    "N/A" is treated like any other name. The zones "Unknown" (264) and "Outside of NYC" (265) have no shape.

    Raises:
        ZonesError: a file cannot be read, or is invalid. The next download fetches it again.
    """
    with _refetching(lookup):
        zones = _read_lookup(lookup)
    with _refetching(shapes):
        frame = _read_shapes(shapes)
        names = _column(shapes.name, frame, "zone")
        expected = {zone_id: row["Zone"] for zone_id, row in zones.items() if zone_id not in WITHOUT_SHAPE}
    with _refetching(lookup, shapes):  # either file may be wrong
        column, ids = _ids(shapes.name, frame, frame[names], expected, lookup.name)
    log.info("%s: the column %s has the zones' ids, according to the names in %s", shapes.name, column, lookup.name)
    with _refetching(shapes):
        wkt = _wkt(shapes.name, frame, ids)
    return [
        (zone_id, row["Zone"], row["Borough"], row["service_zone"], wkt.get(zone_id))
        for zone_id, row in sorted(zones.items())
    ]


@contextlib.contextmanager
def _refetching(*paths: Path) -> Iterator[None]:
    """Turn errors in the block into a ZonesError that says what to do, and forget the files' editions.

    Without its edition, an unusable file is downloaded again even if it has not changed on the site. Errors of the
    machine (memory, disk) are not the files' fault, and are raised unchanged.
    """
    try:
        yield
    except (MemoryError, OSError) as error:
        if not isinstance(error, FileNotFoundError):
            raise
        raise ZonesError(
            f"{paths[0]}: expected the TLC's file, found none; run the task `download` of taxi_zones"
        ) from error
    except Exception as error:
        for path in paths:
            forget_edition(path)
        found = str(error) if isinstance(error, ZonesError) else f"{paths[0].name}: cannot be read: {error!r}"
        raise ZonesError(
            f"{found}. Clear the task that downloads it, which now downloads it again. If that does not help, "
            f"{FILE_HAS_CHANGED}"
        ) from error


def _read_lookup(path: Path) -> dict[int, dict[str, str]]:
    """The rows of the lookup by zone ID."""
    # Read the whole file first, so that disk errors are distinct from errors in the content.
    reader = csv.DictReader(io.StringIO(path.read_bytes().decode("utf-8-sig"), newline=""), strict=True)
    missing = [name for name in LOOKUP_HEADER if name not in (reader.fieldnames or ())]
    if missing:
        raise ZonesError(f"{path.name}: expected the columns {', '.join(LOOKUP_HEADER)}, found {reader.fieldnames}")
    zones: dict[int, dict[str, str]] = {}
    duplicates = []
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
        if zone_id in zones:
            duplicates.append(zone_id)
        zones[zone_id] = row
    wanted = range(1, catalogue.ZONES + 1)
    if duplicates or sorted(zones) != list(wanted):
        faults = {"missing or unknown": sorted(zones.keys() ^ set(wanted)), "more than once": duplicates}
        raise ZonesError(
            f"{path.name}: expected zone ids 1 to {catalogue.ZONES}, found {len(zones)} ids; "
            + ", ".join(f"{fault}: {_some(numbers)}" for fault, numbers in faults.items() if numbers)
        )
    return zones


def _read_shapes(path: Path) -> geopandas.GeoDataFrame:
    """The shapefile in a ZIP archive with all its columns, in its own projection."""
    import geopandas  # slow to import, and the checks above do not need it

    content, flat = io.BytesIO(path.read_bytes()), io.BytesIO()
    with zipfile.ZipFile(content) as archive, zipfile.ZipFile(flat, "w") as repacked:
        # Repack the shapefile, because GDAL does not find it in a folder, or with suffixes in upper case.
        for suffix, name in shapefile_parts(path.name, archive.namelist()).items():
            repacked.writestr(f"zones{suffix}", archive.read(name))
    flat.seek(0)
    try:
        return geopandas.read_file(flat)
    except OSError as error:  # not a disk error, because the archive is in memory
        raise ZonesError(f"{path.name}: expected a shapefile, found one that cannot be read: {error}") from error


def _column(file_name: str, frame: geopandas.GeoDataFrame, wanted: str) -> str:
    """The name of a column in the file's spelling."""
    for name in frame.columns:
        if name.casefold() == wanted.casefold():
            return str(name)
    raise ZonesError(f"{file_name}: expected a column {wanted!r}, found {', '.join(frame.columns)}")


def _ids(
    file_name: str, frame: geopandas.GeoDataFrame, names: Iterable[str], expected: Mapping[int, str], lookup_name: str
) -> tuple[str, list[int]]:
    """Find the column with each ID of `expected` once, beside its zone's name; return the column's name and values."""
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
    """The reason why a column does not contain the zones' IDs; None if it does."""
    times = Counter(ids)
    faults = {
        "missing": sorted(expected.keys() - times.keys()),
        "unknown": sorted(times.keys() - expected.keys()),
        "more than once": sorted(zone_id for zone_id, count in times.items() if count > 1),
    }
    if any(faults.values()):
        return ", ".join(f"{fault} {_some(numbers)}" for fault, numbers in faults.items() if numbers)
    for zone_id, name in zip(ids, names, strict=True):
        if name != expected[zone_id]:
            return f"zone {zone_id} is {name!r}, but {expected[zone_id]!r} in {lookup_name}"
    return None


def _some(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers[:5])) + (f" and {len(numbers) - 5} more" if len(numbers) > 5 else "")


def _whole_number(value: Any) -> int | None:
    """A string or number as an integer; None if it is not one."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return int(number) if math.isfinite(number) and number.is_integer() else None


def _wkt(file_name: str, frame: geopandas.GeoDataFrame, ids: list[int]) -> dict[int, str]:
    """The shapes by zone ID, as WKT in degrees."""
    import shapely

    if frame.crs is None:
        raise ZonesError(f"{file_name}: expected a shapefile with a projection (.prj), found none")
    in_degrees = frame.geometry.to_crs(WGS84)
    for zone_id, shape in zip(ids, in_degrees, strict=True):
        kind = "none" if shape is None else "an empty shape" if shape.is_empty else shape.geom_type
        if kind not in ("Polygon", "MultiPolygon"):
            raise ZonesError(f"{file_name}: expected a polygon as the shape of zone {zone_id}, found {kind}")
        west, south, east, north = shape.bounds
        if not (-180 <= west <= east <= 180 and -90 <= south <= north <= 90):
            raise ZonesError(
                f"{file_name}: expected the shape of zone {zone_id} to be on the earth, found the bounds "
                f"{shape.bounds} in degrees; does it have another projection than {frame.crs.to_string()[:60]}?"
            )
    rounded = shapely.set_precision(in_degrees.array, COORDINATE_STEP)
    return dict(zip(ids, shapely.to_wkt(rounded, rounding_precision=7), strict=True))


def load_zones(con: duckdb.DuckDBPyConnection, zones: list[Zone]) -> int:
    """Replace all rows of the table `zones` in one transaction; return their number."""

    def replace() -> int:
        warehouse.ensure_tables(con)
        con.execute("DELETE FROM zones")
        insert(con, "zones", "zone_id, zone, borough, service_zone, geometry", zones)
        return count_zones(con)

    return warehouse.write(con, replace)


def count_zones(con: duckdb.DuckDBPyConnection) -> int:
    """The number of loaded zones: 0 in a new warehouse, else 265."""
    (count,) = con.execute(f"SELECT count(*) FROM {warehouse.readable(con, 'zones')}").fetchone() or (0,)
    return int(count)

"""Trips by zone: the table `trips_by_zone`, and the GeoJSON files of Manhattan made from it."""

import json
from dataclasses import asdict, dataclass
from datetime import date, datetime
from pathlib import Path

import duckdb

from include.nyc_taxi import catalogue, warehouse
from include.nyc_taxi.errors import MissingDataError
from include.nyc_taxi.files import locked, replacing
from include.nyc_taxi.months import Month
from include.nyc_taxi.reports import provenance


@dataclass(frozen=True)
class Aggregate:
    """The result of an aggregation.

    Attributes:
        zones: the number of pickup zones with a trip in the month.
        trips: the number of trips in the month that have a pickup zone.
        manhattan_trips: the number of those trips that began in Manhattan.
        month_file, overall_file: the GeoJSON files of the month, and of all months counted so far.
    """

    zones: int
    trips: int
    manhattan_trips: int
    month_file: Path
    overall_file: Path


def month_stats_path(outputs: Path, month: Month) -> Path:
    """The path of a month's GeoJSON file; `outputs` is the fleet's outputs folder."""
    return outputs / f"manhattan_stats_{month}.geojson"


def month_map_path(outputs: Path, month: Month) -> Path:
    """The path of a month's map; `outputs` is the fleet's outputs folder."""
    return outputs / f"manhattan_map_{month}.png"


def month_density_map_path(outputs: Path, month: Month) -> Path:
    """The path of a month's map of trips per km²; `outputs` is the fleet's outputs folder."""
    return outputs / f"manhattan_map_density_{month}.png"


def made_since(outputs: Path, month: Month, moment: datetime) -> bool:
    """Whether a month's GeoJSON file and map, which a run makes last, exist and are newer than `moment`."""
    made = (month_stats_path(outputs, month), month_map_path(outputs, month))
    return all(path.exists() and path.stat().st_mtime > moment.timestamp() for path in made)


def overall_stats_path(outputs: Path) -> Path:
    """The path of the GeoJSON file of all months; `outputs` is the fleet's outputs folder."""
    return outputs / "manhattan_stats.geojson"


def aggregate_month(con: duckdb.DuckDBPyConnection, fleet_name: str, month: Month, outputs: Path) -> Aggregate:
    """Count a month's trips in `trips_by_zone`, and write the GeoJSON files of the month and of all months so far.

    It reads only the month's rows and `trips_by_zone`, so its cost does not grow with the number of loaded months. The
    table is written in one transaction, and the files afterwards from the committed table. One run at a time writes
    them, so that the last of several runs includes the months of the others.

    Raises:
        FleetError: there is no such fleet.
        MissingDataError: the month or the zones are not loaded.
    """
    fleet, start = catalogue.fleet(fleet_name), month.first_day

    def count() -> tuple[int, int]:
        warehouse.ensure_tables(con)
        con.execute("DELETE FROM trips_by_zone WHERE fleet = ? AND partition_month = ?", [fleet_name, start])
        query = warehouse.sql("replace_trips_by_zone").format(table=fleet.table, zones=catalogue.ZONES)
        con.execute(query, {"fleet": fleet_name, "month": start})
        zones, trips = con.execute(
            "SELECT count(*), coalesce(sum(num_trips), 0)::BIGINT FROM trips_by_zone "
            "WHERE fleet = ? AND partition_month = ?",
            [fleet_name, start],
        ).fetchone() or (0, 0)
        # A loaded month may have no trip with a zone: in 2015 the for-hire bases reported hardly any zones.
        if not zones and not con.execute(f"FROM {fleet.table} WHERE partition_month = ? LIMIT 1", [start]).fetchone():
            raise MissingDataError(
                f"{fleet_name} {month} has no trips in the warehouse: clear the task `load` of this run first"
            )
        return zones, trips

    zones, trips = warehouse.write(con, count)
    month_file, overall_file = month_stats_path(outputs, month), overall_stats_path(outputs)
    with locked(outputs / ".manhattan_stats.lock"), warehouse.reading(con):
        found = con.execute("SELECT DISTINCT partition_month FROM trips_by_zone WHERE fleet = ?", [fleet_name])
        months = sorted({start, *(counted for (counted,) in found.fetchall())})
        manhattan_trips = _write_geojson(con, fleet_name, [start], month_file)
        _write_geojson(con, fleet_name, months, overall_file)
    return Aggregate(zones, trips, manhattan_trips, month_file, overall_file)


def _write_geojson(con: duckdb.DuckDBPyConnection, fleet_name: str, months: list[date], path: Path) -> int:
    """Write one feature per zone of Manhattan with its trips in all `months`, and return the sum of these trips.

    The file is GeoJSON according to RFC 7946: degrees, outer rings counter-clockwise, holes clockwise. A map is drawn
    from the file alone, so the collection also has the members `fleet`, `first_month`, `last_month` and `months` (their
    number), `simulated` (null if unknown) and `source`.

    Args:
        months: the first days of the months, in order.

    Raises:
        MissingDataError: the zones are not loaded.
    """
    import shapely  # imported here because many callers need only the paths above

    from include.nyc_taxi.reports.geography import areas_km2, on_the_ground

    rows = con.execute(
        warehouse.sql("manhattan_stats"), {"fleet": fleet_name, "first": months[0], "last": months[-1]}
    ).fetchall()
    if not rows:
        raise MissingDataError("the warehouse has no zones of Manhattan: run the DAG taxi_zones, then clear this task")
    # Outer rings are clockwise in a shapefile, and therefore in the table, but counter-clockwise in GeoJSON.
    polygons = shapely.orient_polygons(shapely.from_wkt([row[-1] for row in rows]))
    areas = areas_km2(on_the_ground(polygons))
    shapes = shapely.to_geojson(polygons)
    features = [
        {
            "type": "Feature",
            "properties": {
                "zone_id": zone_id,
                "zone": zone,
                "borough": borough,
                "num_trips": num_trips,
                "area_km2": round(area, 4),
                "trips_per_km2": round(num_trips / area, 2),
            },
            "geometry": json.loads(shape),
        }
        for (zone_id, zone, borough, num_trips, _), area, shape in zip(rows, areas, shapes, strict=True)
    ]
    collection = {
        "type": "FeatureCollection",
        "fleet": fleet_name,
        "first_month": Month.of(months[0]),
        "last_month": Month.of(months[-1]),
        "months": len(months),
        **asdict(provenance.of_months(con, fleet_name, months)),
        "features": features,
    }
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(collection, allow_nan=False), encoding="utf-8")
    return sum(feature["properties"]["num_trips"] for feature in features)

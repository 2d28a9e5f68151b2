"""To add a fleet, only the catalogue must change. (For its DAGs see tests/dags/test_structure.py.)"""

import json
from datetime import date

import duckdb
import PIL.Image
import pytest
import requests

from include.nyc_taxi import catalogue, settings, warehouse
from include.nyc_taxi.months import Month
from include.nyc_taxi.reports import adhoc, by_week, maps
from include.nyc_taxi.reports.adhoc_report import count_trips
from include.nyc_taxi.reports.by_zone import aggregate_month
from include.nyc_taxi.trips import zones
from include.nyc_taxi.trips.load import load_month
from include.tlc_simulator import city
from include.tlc_simulator.server import TlcSimulator

HOVERCRAFTS = catalogue.Fleet(
    name="hover",
    title="Hovercrafts",
    layouts=(
        catalogue.Layout(
            "2019-02",
            None,
            (
                ("hvfhs_license_num", "VARCHAR"),
                ("pickup_datetime", "TIMESTAMP"),
                ("dropoff_datetime", "TIMESTAMP"),
                ("PULocationID", "BIGINT"),
                ("DOLocationID", "BIGINT"),
                ("trip_miles", "DOUBLE"),
                ("tips", "DOUBLE"),
            ),
        ),
    ),
    columns=(
        catalogue.Column("operator", "VARCHAR", "hvfhs_license_num"),
        catalogue.Column("pickup_datetime", "TIMESTAMP", "pickup_datetime"),
        catalogue.Column("dropoff_datetime", "TIMESTAMP", "dropoff_datetime"),
        catalogue.Column("pickup_zone_id", "SMALLINT", "PULocationID"),
        catalogue.Column("dropoff_zone_id", "SMALLINT", "DOLocationID"),
        catalogue.Column("trip_distance", "DOUBLE", "trip_miles"),
        catalogue.Column("tips", "DOUBLE", "tips"),
    ),
)
MONDAY = date(2023, 2, 6)


@pytest.fixture
def site(made_files, monkeypatch):
    """The simulated TLC, which also publishes the files of the new fleet."""
    monkeypatch.setitem(catalogue.FLEETS, "hover", HOVERCRAFTS)
    with TlcSimulator(made_files, rows=2000) as simulator:
        yield simulator


def test_a_warehouse_from_before_it_gets_its_table_and_the_view_shows_it(con, monkeypatch):
    assert con.execute("SELECT count(*) FROM duckdb_tables() WHERE table_name = 'hover_trips'").fetchone() == (0,)
    monkeypatch.setitem(catalogue.FLEETS, "hover", HOVERCRAFTS)
    warehouse.ensure_tables(con)
    described = con.execute("SELECT column_name, column_type FROM (DESCRIBE hover_trips)").fetchall()
    assert described == [(column.name, column.type) for column in HOVERCRAFTS.columns] + [("partition_month", "DATE")]
    con.execute("INSERT INTO hover_trips (operator, trip_distance) VALUES ('A', 2.5)")
    for view in ("trips", "trips_clean"):
        shown = con.execute(f"SELECT fleet, trip_distance, total_amount FROM {view}").fetchall()
        assert shown == [("hover", 2.5, None)], view


def test_the_simulator_publishes_its_months_and_they_become_weeks_maps_and_reports(con, site, tmp_path):
    assert "hover" in settings.fleets()
    city.write_lookup(tmp_path / "lookup.csv")
    city.write_shapes(tmp_path / "shapes.zip")
    zones.load_zones(con, zones.read_zones(tmp_path / "lookup.csv", tmp_path / "shapes.zip"))
    outputs = settings.outputs_dir("hover")
    path = tmp_path / catalogue.file_name("hover", "2023-02")
    path.write_bytes(fetch(site, catalogue.file_path("hover", "2023-02")))

    loaded = load_month(con, "hover", Month("2023-02"), path, "run 1")
    counted = aggregate_month(con, "hover", Month("2023-02"), outputs)
    week = by_week.aggregate_week(con, "hover", MONDAY, outputs).week
    with warehouse.transaction(con):
        asked = {"fleet": "hover", "borough": "Queens", "start_date": "2023-02-01", "end_date": "2023-02-28"}
        report = count_trips(con, adhoc.parse(asked, "report"), settings.outputs_dir("requests"))

    assert loaded.rows_loaded == counted.trips == 2000
    theirs = duckdb.execute(
        "SELECT count(*), sum(trip_miles) FROM read_parquet(?) "
        "WHERE pickup_datetime >= '2023-02-06' AND pickup_datetime < '2023-02-13'",
        [str(path)],
    ).fetchone()
    assert (week.num_trips, week.trip_distance) == (theirs[0], pytest.approx(theirs[1]))
    assert (week.total_amount, week.passenger_count) == (None, None)
    assert report.trips > 0
    for picture in (maps.draw_maps("2023-02", outputs).month_file, by_week.draw_chart("hover", outputs)):
        with PIL.Image.open(picture) as image:
            assert image.format == "PNG"
    assert json.loads(counted.month_file.read_text())["fleet"] == "hover"


def fetch(site: TlcSimulator, path: str) -> bytes:
    answer = requests.get(site.url + path, timeout=60)
    answer.raise_for_status()
    return answer.content

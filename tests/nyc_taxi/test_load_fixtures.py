"""Loading a few hundred rows of the TLC's real files, which every checkout has (tests/fixtures/make.py)."""

import duckdb
import pytest

from include.nyc_taxi import catalogue
from include.nyc_taxi.months import Month
from include.nyc_taxi.trips.load import load_month
from include.nyc_taxi.trips.zones import load_zones, read_zones
from include.tlc_simulator import city
from tests.conftest import ROOT
from tests.nyc_taxi import as_published

FIXTURES = sorted((ROOT / "tests" / "fixtures").glob("*.parquet"))


def fleet_and_month(path):
    """Of a file's name."""
    fleet, _, month = path.stem.split("_")
    return fleet, month


def rows(path):
    return duckdb.execute("SELECT count(*) FROM read_parquet(?)", [str(path)]).fetchone()[0]


@pytest.fixture(scope="module")
def simulated_zones(tmp_path_factory):
    """Zones about where the TLC's are."""
    folder = tmp_path_factory.mktemp("zones")
    city.write_lookup(folder / "lookup.csv")
    city.write_shapes(folder / "shapes.zip")
    return read_zones(folder / "lookup.csv", folder / "shapes.zip")


def test_every_fleet_and_both_layouts_with_coordinates_are_among_them():
    assert {fleet_and_month(path)[0] for path in FIXTURES} == set(catalogue.FLEETS)
    assert {("yellow", "2009-01"), ("yellow", "2010-01"), ("yellow", "2010-02")} <= set(map(fleet_and_month, FIXTURES))
    assert all(path.stat().st_size < 100_000 for path in FIXTURES)


@pytest.mark.parametrize("path", FIXTURES, ids=lambda path: path.stem)
def test_real_rows_load_with_every_row_and_every_value(con, simulated_zones, path):
    load_zones(con, simulated_zones)
    fleet, month = fleet_and_month(path)
    done = load_month(con, fleet, Month(month), path, "run 1")
    assert done.rows_loaded == done.rows_in_file == rows(path) > 50
    assert done.unknown_columns == ()
    assert as_published.differences(con, fleet, month, path) == 0


@pytest.mark.parametrize(("month", "outside"), [("2023-01", 4), ("2023-02", 26)])
def test_real_pickups_outside_the_month_are_counted(con, month, outside):
    path = ROOT / "tests" / "fixtures" / f"green_tripdata_{month}.parquet"
    assert load_month(con, "green", Month(month), path, "run 1").quality["pickup_outside_month"] == outside


def test_a_real_month_that_is_loaded_again_replaces_itself_only(con, contents):
    paths = {month: ROOT / "tests" / "fixtures" / f"green_tripdata_{month}.parquet" for month in ("2023-01", "2023-02")}
    for month, path in paths.items():
        load_month(con, "green", Month(month), path, "run 1")
    before = contents()["green_trips"]
    load_month(con, "green", Month("2023-01"), paths["2023-01"], "run 2")
    assert contents()["green_trips"] == before

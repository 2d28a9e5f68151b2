"""The catalogue of the TLC's files."""

import csv
import itertools

import pytest

from include.nyc_taxi import catalogue
from include.nyc_taxi.errors import FleetError, LayoutError, MonthError
from include.nyc_taxi.months import Month

FLEETS = sorted(catalogue.FLEETS)


@pytest.mark.parametrize("fleet", FLEETS)
def test_every_file_that_the_tlc_published_has_the_columns_of_its_months_layout(real_data, fleet):
    with (real_data / "reference" / "tlc_files.csv").open(newline="") as file:
        published = {
            row["month"]: tuple(row["column_names"].split(",")) for row in csv.DictReader(file) if row["fleet"] == fleet
        }
    assert len(published) > 60
    assert {month: catalogue.fleet(fleet).layout(month).names for month in published} == published
    assert catalogue.fleet(fleet).first_month == min(published)


def test_the_files_here_have_the_types_of_their_months_layout(real_data, con):
    paths = [*(real_data / "tlc" / "trip-data").glob("*.parquet")]
    # Other samples were written by another tool, and have its types.
    samples = ["yellow_tripdata_2009-01", "yellow_tripdata_2010-01", "yellow_tripdata_2010-02"]
    samples += ["fhv_tripdata_2020-04", "fhvhv_tripdata_2020-04"]
    paths += [real_data / "tlc-samples" / "trip-data" / f"{name}.parquet" for name in samples]
    assert len(paths) == 10
    for path in paths:
        fleet, month = path.stem.split("_tripdata_")
        described = con.execute(
            "SELECT column_name, column_type FROM (DESCRIBE SELECT * FROM read_parquet(?))", [str(path)]
        )
        assert tuple(described.fetchall()) == catalogue.fleet(fleet).layout(month).columns, path.name


@pytest.mark.parametrize("fleet", ["yellow", "green", "fhvhv"])
def test_files_have_the_congestion_fee_from_january_2025_on(fleet):
    assert "cbd_congestion_fee" not in catalogue.fleet(fleet).layout("2024-12").names
    for month in ("2025-01", "2025-02", "2031-07"):
        assert ("cbd_congestion_fee", "DOUBLE") in catalogue.fleet(fleet).layout(month).columns[-2:], month


@pytest.mark.parametrize("fleet", ["yellow", "green"])
def test_taxis_files_have_the_source_of_the_request_from_june_2026_on(fleet):
    assert "request_source" not in catalogue.fleet(fleet).layout("2026-05").names
    for month in ("2026-06", "2031-07"):
        assert catalogue.fleet(fleet).layout(month).columns[-1] == ("request_source", "VARCHAR"), month


@pytest.mark.parametrize("fleet", FLEETS)
def test_every_column_of_every_layout_has_a_place_in_our_table(fleet):
    for layout in catalogue.fleet(fleet).layouts:
        match = catalogue.match_columns(fleet, layout.names, "made up")
        assert match.unknown == ()
        used = [name for _, origin in match.columns if origin is not None for name in catalogue.published_names(origin)]
        assert sorted(used) == sorted(set(layout.names) - {"__index_level_0__"})


@pytest.mark.parametrize("fleet", FLEETS)
def test_our_columns_have_distinct_names_in_snake_case_and_the_common_types(fleet):
    columns = {column.name: column.type for column in catalogue.fleet(fleet).columns}
    assert len(columns) == len(catalogue.fleet(fleet).columns)
    assert all(name == name.lower() for name in columns)
    assert {name: columns[name] for name, _ in catalogue.COMMON_COLUMNS if name in columns}.items() <= dict(
        catalogue.COMMON_COLUMNS
    ).items()
    # Weeks, maps and reports need these columns of every fleet.
    assert {"pickup_datetime", "dropoff_datetime", "pickup_zone_id", "dropoff_zone_id"} <= columns.keys()


def test_the_layout_changes_with_the_file_of_february_2023():
    assert "airport_fee" in catalogue.fleet("yellow").layout("2023-01").names
    assert "Airport_fee" in catalogue.fleet("yellow").layout("2023-02").names


def test_two_months_of_2010_have_the_stray_index_column_and_their_neighbours_have_not():
    has_index = [
        "__index_level_0__" in catalogue.fleet("yellow").layout(f"2010-{month:02}").names for month in range(1, 13)
    ]
    assert has_index == [False, True, True, *[False] * 9]


def test_a_month_before_the_fleets_first_is_refused_with_the_first_month():
    with pytest.raises(MonthError, match="no green file for 2013-12: this fleet's first month is 2014-01"):
        catalogue.file_name("green", "2013-12")


def test_an_unknown_fleet_is_refused_with_the_fleets_there_are():
    with pytest.raises(FleetError, match=r"'purple'.*expected one of yellow, green"):
        catalogue.fleet("purple")
    with pytest.raises(FleetError):
        catalogue.file_path("purple", "2023-01")


def test_a_months_file_is_where_the_tlc_puts_it():
    assert catalogue.file_path("yellow", "2023-01") == "/trip-data/yellow_tripdata_2023-01.parquet"


@pytest.mark.parametrize("month", ["2023-1", "../../etc/passwd", "2023-01.parquet?"])
def test_a_path_is_made_from_a_well_formed_month_only(month):
    with pytest.raises(MonthError):
        catalogue.file_path("yellow", month)


def test_missing_required_columns_are_named():
    names = [
        name for name in catalogue.fleet("green").layout("2023-02").names if name not in ("PULocationID", "fare_amount")
    ]
    with pytest.raises(LayoutError, match=r"x\.parquet: required columns are missing: PULocationID, fare_amount;"):
        catalogue.match_columns("green", names, "x.parquet")


def test_a_file_of_another_fleet_lacks_required_columns():
    with pytest.raises(LayoutError, match="lpep_pickup_datetime"):
        catalogue.match_columns("green", catalogue.fleet("yellow").layout("2023-02").names, "yellow.parquet")


def test_a_column_that_not_every_month_has_may_be_missing():
    match = catalogue.match_columns("green", catalogue.fleet("green").layout("2024-12").names, "x.parquet")
    assert {column.name: name for column, name in match.columns}["cbd_congestion_fee"] is None


@pytest.mark.parametrize("fleet", FLEETS)
def test_only_columns_that_some_month_lacks_are_not_required(fleet):
    optional = set(catalogue.fleet(fleet).columns) - set(catalogue.fleet(fleet).required)
    expected = {
        "yellow": {"cbd_congestion_fee", "request_source"},
        "green": {"cbd_congestion_fee", "request_source"},
        "fhv": set(),
        "fhvhv": {"cbd_congestion_fee"},
    }
    assert {column.name for column in optional} == expected[fleet]


def test_an_unknown_column_is_reported_and_the_others_match():
    names = [*catalogue.fleet("green").layout("2023-02").names, "driver_mood"]
    match = catalogue.match_columns("green", names, "x.parquet")
    assert match.unknown == ("driver_mood",)
    assert dict(match.columns) == dict(catalogue.match_columns("green", names[:-1], "x.parquet").columns)


@pytest.mark.parametrize("spelling", ["airport_fee", "Airport_fee", "AIRPORT_FEE"])
def test_the_airport_fee_is_found_in_any_spelling_and_keeps_the_files_own(spelling):
    names = [spelling if name == "Airport_fee" else name for name in catalogue.fleet("yellow").layout("2023-02").names]
    match = catalogue.match_columns("yellow", names, "x.parquet")
    assert {column.name: name for column, name in match.columns}["airport_fee"] == spelling
    assert match.unknown == ()


class TestTheYellowFilesOf2009And2010:
    def test_have_coordinates_in_place_of_zone_ids(self):
        match = catalogue.match_columns("yellow", catalogue.fleet("yellow").layout("2009-07").names, "x.parquet")
        origins = {column.name: origin for column, origin in match.columns}
        assert origins["pickup_zone_id"] == catalogue.Coordinates("Start_Lon", "Start_Lat")
        assert origins["dropoff_zone_id"] == catalogue.Coordinates("End_Lon", "End_Lat")
        assert catalogue.published_names(origins["pickup_zone_id"]) == ("Start_Lon", "Start_Lat")

    def test_have_texts_in_place_of_the_ids_of_vendors_and_payments(self):
        match = catalogue.match_columns("yellow", catalogue.fleet("yellow").layout("2010-07").names, "x.parquet")
        origins = {column.name: origin for column, origin in match.columns}
        assert {"CMT", "VTS", "DDS"} <= origins["vendor_id"].codes.keys()
        assert {text: origins["payment_type"].codes[text] for text in ("CRE", "CAS", "NOC", "DIS", "NA")} == {
            "CRE": 1,
            "CAS": 2,
            "NOC": 3,
            "DIS": 4,
            "NA": 5,
        }

    def test_are_told_by_their_columns_in_any_spelling_with_the_files_own_kept(self):
        names = [name.upper() for name in catalogue.fleet("yellow").layout("2009-07").names]
        match = catalogue.match_columns("yellow", names, "x.parquet")
        assert match.unknown == ()
        origins = {column.name: origin for column, origin in match.columns}
        assert origins["pickup_zone_id"] == catalogue.Coordinates("START_LON", "START_LAT")
        assert origins["vendor_id"].published_as == "VENDOR_NAME"
        assert origins["total_amount"] == "TOTAL_AMT"

    @pytest.mark.parametrize(("month", "absent"), [("2009-07", "Start_Lat"), ("2010-07", "payment_type")])
    def test_are_no_others_with_a_column_missing(self, month, absent):
        names = [name for name in catalogue.fleet("yellow").layout(month).names if name != absent]
        with pytest.raises(LayoutError, match=r"x\.parquet: required columns are missing: VendorID"):
            catalogue.match_columns("yellow", names, "x.parquet")

    def test_leave_a_new_column_out_but_not_unsaid(self):
        names = [*catalogue.fleet("yellow").layout("2010-02").names, "driver_mood"]
        assert catalogue.match_columns("yellow", names, "x.parquet").unknown == ("driver_mood",)


@pytest.mark.parametrize("fleet", FLEETS)
def test_only_the_oldest_yellow_layouts_are_without_zones(fleet):
    without = [layout.first_month for layout in catalogue.fleet(fleet).layouts if not layout.has_zones]
    assert without == (["2009-01", "2010-01", "2010-02"] if fleet == "yellow" else [])


def test_spans_of_layouts_leave_no_gap():
    for fleet in catalogue.FLEETS.values():
        spans = [x for x in fleet.layouts if "__index_level_0__" not in x.names]
        for before, after in itertools.pairwise(spans):
            assert Month(before.last_month).end == Month(after.first_month).first_day
        assert spans[-1].last_month is None


def test_every_column_of_the_warehouse_has_a_meaning_and_no_meaning_is_left_over(con):
    found = con.execute("SELECT table_name, column_name FROM duckdb_columns() WHERE NOT internal").fetchall()
    names = {name for _, name in found} | {f"{table}.{name}" for table, name in found}
    assert {name for _, name in found} - catalogue.MEANINGS.keys() == set()
    assert catalogue.MEANINGS.keys() - names == set()

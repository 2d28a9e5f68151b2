"""Trips by zone, as a table and as GeoJSON."""

import json

import geopandas
import pytest

from include.nyc_taxi.errors import MissingDataError
from include.nyc_taxi.months import Month
from include.nyc_taxi.reports.by_zone import aggregate_month, month_stats_path, overall_stats_path
from include.nyc_taxi.trips.load import load_month
from include.tlc_simulator.trips import write_month

MANHATTAN_WITH_SHAPE = [4, 12]


@pytest.fixture
def load(con, write_trips):
    """Load a month with one trip for each given pickup zone (None: a trip without a zone)."""

    def load_pickups(fleet, month, *pickups):
        zones = f"[{', '.join('NULL' if zone is None else str(zone) for zone in pickups)}][1 + i]"
        path = write_trips(fleet, month, rows=len(pickups), columns={"PULocationID": f"CAST({zones} AS INTEGER)"})
        load_month(con, fleet, Month(month), path, "run 1")

    return load_pickups


@pytest.fixture
def aggregate(con, tmp_path):
    """Aggregate a month in a transaction, as the task does."""

    def aggregate_into(fleet, month):
        return aggregate_month(con, fleet, Month(month), tmp_path / "outputs" / fleet)

    return aggregate_into


def trips(path):
    """The trips in a GeoJSON file, by zone ID."""
    return {f["properties"]["zone_id"]: f["properties"]["num_trips"] for f in json.loads(path.read_text())["features"]}


def by_zone(con):
    columns = "fleet, strftime(partition_month, '%Y-%m'), zone_id, num_trips"
    return con.execute(f"SELECT {columns} FROM trips_by_zone ORDER BY ALL").fetchall()


def test_trips_are_counted_by_pickup_zone_and_those_without_one_are_left_out(con, zones, load, aggregate):
    load("green", "2023-02", 4, 4, 7, None, 264)
    done = aggregate("green", "2023-02")
    assert by_zone(con) == [("green", "2023-02", 4, 2), ("green", "2023-02", 7, 1), ("green", "2023-02", 264, 1)]
    assert (done.zones, done.trips, done.manhattan_trips) == (3, 4, 2)


def test_trips_with_an_id_that_is_no_zone_are_counted_in_none(con, zones, load, aggregate):
    load("green", "2023-02", *[4] * 16, 0, -1, 266)
    done = aggregate("green", "2023-02")
    assert by_zone(con) == [("green", "2023-02", 4, 16)]
    assert (done.zones, done.trips) == (1, 16)


def test_there_is_one_feature_for_every_manhattan_zone_with_a_shape_and_0_where_no_trip_began(zones, load, aggregate):
    load("green", "2023-02", 4, 4, 7)
    done = aggregate("green", "2023-02")
    assert trips(done.month_file) == {4: 2, 12: 0}
    assert trips(done.overall_file) == {4: 2, 12: 0}


def test_a_feature_has_exactly_the_designs_properties(zones, load, aggregate):
    load("green", "2023-02", 4)
    features = json.loads(aggregate("green", "2023-02").month_file.read_text())["features"]
    names = ["zone_id", "zone", "borough", "num_trips", "area_km2", "trips_per_km2"]
    assert [list(feature["properties"]) for feature in features] == [names] * 2
    assert list(features[0]["properties"].values())[:4] == [4, "Zone 4", "Manhattan", 1]


def test_a_features_area_is_that_on_the_ground_and_its_density_the_trips_in_a_square_kilometre(zones, load, aggregate):
    load("green", "2023-02", 4, 4, 4)
    features = json.loads(aggregate("green", "2023-02").month_file.read_text())["features"]
    # Half of 0.001 degrees of longitude (84.42 m at 40.705 north) by 0.01 of latitude (1,110.5 m).
    assert [feature["properties"]["area_km2"] for feature in features] == pytest.approx([0.04688] * 2, rel=0.005)
    assert [feature["properties"]["trips_per_km2"] for feature in features] == pytest.approx(
        [3 / 0.04688, 0], rel=0.005
    )


class TestWhereTheTripsComeFrom:
    @pytest.fixture
    def said(self, con, zones, load, aggregate):
        """Load months, each from a URL and simulated or not, and return the provenance in the overall file."""

        def say(**months):
            for name, (url, simulated) in months.items():
                month = name.replace("_", "-").removeprefix("m")
                load("green", month, 4)
                con.execute(
                    "UPDATE loads SET source_url = ?, simulated = ? WHERE partition_month = ?",
                    [url, simulated, f"{month}-01"],
                )
                done = aggregate("green", month)
            return [
                [json.loads(path.read_text())[name] for name in ("simulated", "source")]
                for path in (done.month_file, done.overall_file)
            ]

        return say

    def test_is_in_the_file_without_login_and_password(self, said):
        found = said(m2023_02=("https://me:secret@tlc.test:8443/trip-data/x.parquet?token=secret", False))
        assert found == [[False, "NYC Taxi & Limousine Commission (TLC), from tlc.test"]] * 2

    def test_is_simulated_if_any_of_the_months_is(self, said):
        month, overall = said(m2023_01=("http://127.0.0.1:1/", True), m2023_02=("https://tlc.test/", False))
        assert month[0] is False
        assert overall[0] is True
        assert "127.0.0.1" in overall[1]
        assert "tlc.test" in overall[1]

    def test_is_not_known_where_an_older_version_has_loaded_a_month(self, said):
        assert said(m2023_01=("https://tlc.test/", None), m2023_02=("https://tlc.test/", False))[1][0] is None

    def test_a_simulated_file_is_one_whatever_site_it_is_from(self, con, zones, tmp_path, aggregate):
        write_month(tmp_path / "green_tripdata_2023-02.parquet", "green", "2023-02", rows=50)
        load_month(con, "green", Month("2023-02"), tmp_path / "green_tripdata_2023-02.parquet", "run 1")
        assert json.loads(aggregate("green", "2023-02").month_file.read_text())["simulated"] is True


def test_files_have_the_designs_names_and_say_what_they_cover(zones, load, aggregate, tmp_path):
    for month in ("2023-03", "2023-01"):
        load("green", month, 4)
        done = aggregate("green", month)
    outputs = tmp_path / "outputs" / "green"
    assert done.month_file == month_stats_path(outputs, "2023-01") == outputs / "manhattan_stats_2023-01.geojson"
    assert done.overall_file == overall_stats_path(outputs) == outputs / "manhattan_stats.geojson"
    month, overall = (json.loads(path.read_text()) for path in (done.month_file, done.overall_file))
    covered = ("fleet", "first_month", "last_month", "months")
    assert [month[name] for name in covered] == ["green", "2023-01", "2023-01", 1]
    assert [overall[name] for name in covered] == ["green", "2023-01", "2023-03", 2]


def test_the_overall_file_is_the_sum_of_all_months_of_the_fleet_and_of_no_other(zones, load, aggregate):
    load("yellow", "2023-01", *[4] * 9)
    aggregate("yellow", "2023-01")
    months = {"2023-03": (4, 12), "2023-01": (4, 4, 7), "2023-02": (12,)}
    for month, pickups in months.items():
        load("green", month, *pickups)
    done = [aggregate("green", month) for month in months]
    assert [trips(one.month_file) for one in done] == [{4: 1, 12: 1}, {4: 2, 12: 0}, {4: 0, 12: 1}]
    assert trips(done[-1].overall_file) == {4: 3, 12: 2}


def test_aggregating_again_gives_the_same_table_and_the_same_files(con, zones, load, aggregate):
    load("green", "2023-02", 4, 4, 7)
    first = aggregate("green", "2023-02")
    before = by_zone(con), first.month_file.read_bytes(), first.overall_file.read_bytes()
    again = aggregate("green", "2023-02")
    assert again == first
    assert (by_zone(con), again.month_file.read_bytes(), again.overall_file.read_bytes()) == before


def test_a_month_loaded_anew_replaces_its_own_counts_only(con, zones, load, aggregate):
    for month in ("2023-01", "2023-02"):
        load("green", month, 4, 7)
        aggregate("green", month)
    load("green", "2023-02", 12, 12)
    done = aggregate("green", "2023-02")
    assert by_zone(con) == [("green", "2023-01", 4, 1), ("green", "2023-01", 7, 1), ("green", "2023-02", 12, 2)]
    assert trips(done.overall_file) == {4: 1, 12: 2}


def test_a_month_that_is_not_loaded_is_an_error_and_changes_nothing(con, zones, load, aggregate, tmp_path):
    load("green", "2023-02", 4)
    aggregate("green", "2023-02")
    before = by_zone(con)
    with pytest.raises(MissingDataError, match="green 2023-03 has no trips in the warehouse: clear the task `load`"):
        aggregate("green", "2023-03")
    assert by_zone(con) == before
    assert sorted(path.name for path in (tmp_path / "outputs" / "green").glob("[!.]*")) == [
        "manhattan_stats.geojson",
        "manhattan_stats_2023-02.geojson",
    ]


def test_a_month_that_was_removed_keeps_its_last_counts_until_it_is_loaded_again(con, zones, load, aggregate):
    load("green", "2023-02", 4)
    aggregate("green", "2023-02")
    con.execute("DELETE FROM green_trips")
    with pytest.raises(MissingDataError):
        aggregate("green", "2023-02")
    assert by_zone(con) == [("green", "2023-02", 4, 1)]


def test_geopandas_reads_the_file_in_degrees(zones, load, aggregate):
    load("green", "2023-02", 4, 4)
    frame = geopandas.read_file(aggregate("green", "2023-02").month_file)
    assert frame.crs.to_epsg() == 4326
    assert frame["zone_id"].tolist() == MANHATTAN_WITH_SHAPE
    assert frame.geometry.is_valid.all()
    assert frame.total_bounds.tolist() == pytest.approx([-73.996, 40.7, -73.987, 40.71])


def test_the_areas_of_the_real_zones_are_those_of_the_tlcs_shapefile(con, real_data, real_zones, load, aggregate):
    con.executemany("INSERT INTO zones VALUES (?, ?, ?, ?, ?)", real_zones)
    load("green", "2023-02", 43)
    found = {
        feature["properties"]["zone_id"]: feature["properties"]["area_km2"]
        for feature in json.loads(aggregate("green", "2023-02").month_file.read_text())["features"]
    }
    published = geopandas.read_file(real_data / "tlc" / "misc" / "taxi_zones.zip").set_index("OBJECTID")
    km2 = published.to_crs("ESRI:102008").geometry.area / 1e6  # an equal-area projection of North America
    assert len(found) == 69
    assert found == pytest.approx({zone_id: km2[zone_id] for zone_id in found}, rel=0.001, abs=0.0001)
    assert found[43] == pytest.approx(3.559, rel=0.001)  # Central Park and the streets around it
    assert sum(found.values()) == pytest.approx(58.9, rel=0.001)


class TestRealMonths:
    @pytest.fixture
    def real_load(self, real_data, con, real_zones):
        """Load a real green month with the real zones."""
        con.executemany("INSERT INTO zones VALUES (?, ?, ?, ?, ?)", real_zones)

        def load_real(month):
            path = real_data / "tlc" / "trip-data" / f"green_tripdata_{month}.parquet"
            load_month(con, "green", Month(month), path, "run 1")
            return path

        return load_real

    def test_the_sum_over_zones_is_the_number_of_rows_with_a_zone(self, con, real_load, aggregate):
        months = ("2023-01", "2023-02", "2023-03")
        with_zone = {}
        for month in months:
            path = real_load(month)
            (with_zone[month],) = con.execute(f"SELECT count(PULocationID) FROM '{path}'").fetchone()
            assert aggregate("green", month).trips == with_zone[month]
        summed = con.execute("SELECT strftime(partition_month, '%Y-%m'), sum(num_trips) FROM trips_by_zone GROUP BY 1")
        assert dict(summed.fetchall()) == with_zone

    def test_features_are_exactly_the_lookups_manhattan_zones_with_the_files_own_counts(
        self, con, real_data, real_load, aggregate
    ):
        path = real_load("2023-02")
        done = aggregate("green", "2023-02")
        lookup = real_data / "tlc" / "misc" / "taxi_zone_lookup.csv"
        expected = con.execute(
            f"SELECT LocationID, count(PULocationID) FROM read_csv('{lookup}') LEFT JOIN '{path}' ON LocationID = "
            "PULocationID WHERE Borough = 'Manhattan' GROUP BY ALL"
        ).fetchall()
        assert len(expected) == 69
        assert trips(done.month_file) == dict(expected)
        assert 0 in trips(done.month_file).values()
        assert done.manhattan_trips == sum(count for _, count in expected) > 20_000

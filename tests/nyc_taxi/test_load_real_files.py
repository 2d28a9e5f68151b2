"""Loading the TLC's real files."""

import csv
import json

import pytest

from include.nyc_taxi import catalogue
from include.nyc_taxi.months import Month
from include.nyc_taxi.trips.load import load_month
from include.nyc_taxi.trips.zones import load_zones
from tests.conftest import ROOT
from tests.nyc_taxi import as_published

ROWS = {"2021-01": 76_518, "2022-01": 62_495, "2023-01": 68_211, "2023-02": 64_809, "2023-03": 72_044}
YELLOW_SAMPLES = {
    **dict.fromkeys(("2018-12", "2019-01", "2019-02", "2019-03", "2020-02", "2020-03"), 10_000),
    "2020-04": 1_000,
}
# Besides those: whole layouts, few rows.
OTHER_SAMPLES = {
    ("yellow", "2009-01"): 98,
    ("yellow", "2010-01"): 98,
    ("yellow", "2010-02"): 98,
    ("green", "2020-04"): 1_000,
    ("fhv", "2020-04"): 1_000,
    ("fhvhv", "2020-04"): 1_000,
}
SAMPLES = {("yellow", month): rows for month, rows in YELLOW_SAMPLES.items()} | OTHER_SAMPLES


def load(con, fleet, month, path):
    """Load a file in a transaction, as the task does."""
    return load_month(con, fleet, Month(month), path, "run 1")


@pytest.mark.parametrize("month", ROWS)
def test_a_green_month_loads_with_every_row_and_every_value(real_data, con, month):
    path = real_data / "tlc" / "trip-data" / f"green_tripdata_{month}.parquet"
    done = load(con, "green", month, path)
    assert done.rows_loaded == done.rows_in_file == ROWS[month]
    with (real_data / "reference" / "tlc_files.csv").open(newline="") as file:
        (reference,) = [row for row in csv.DictReader(file) if (row["fleet"], row["month"]) == ("green", month)]
    assert (done.rows_loaded, done.bytes) == (int(reference["rows"]), int(reference["bytes"]))
    assert as_published.differences(con, "green", month, path) == 0


@pytest.mark.parametrize(("fleet", "month"), SAMPLES)
def test_a_sample_of_any_fleet_and_layout_loads_with_every_row_and_every_value(
    real_data, real_zones, con, fleet, month
):
    load_zones(con, real_zones)
    path = real_data / "tlc-samples" / "trip-data" / f"{fleet}_tripdata_{month}.parquet"
    done = load(con, fleet, month, path)
    assert done.rows_loaded == done.rows_in_file == SAMPLES[fleet, month]
    assert done.unknown_columns == ()
    assert as_published.differences(con, fleet, month, path) == 0
    described = con.execute("SELECT column_name, column_type FROM (DESCRIBE FROM query_table(?))", [f"{fleet}_trips"])
    assert dict(described.fetchall()) == as_published.types(fleet)


def test_the_samples_are_all_that_there_are(real_data):
    names = {path.name for path in (real_data / "tlc-samples" / "trip-data").iterdir()}
    assert names == {f"{fleet}_tripdata_{month}.parquet" for fleet, month in SAMPLES}


@pytest.mark.parametrize(
    ("month", "lost"),
    [("2009-01", {"pickup": (0, 0), "dropoff": (0, 0)}), ("2010-01", {"pickup": (2, 1), "dropoff": (2, 0)})],
)
def test_places_out_of_the_city_and_at_zero_are_counted(real_data, real_zones, con, month, lost):
    load_zones(con, real_zones)
    counts = load(
        con, "yellow", month, real_data / "tlc-samples" / "trip-data" / f"yellow_tripdata_{month}.parquet"
    ).quality
    assert {end: (counts[f"zero_{end}_zone_id"], counts[f"outside_{end}_zone_id"]) for end in lost} == lost


@pytest.mark.parametrize(
    ("month", "odd"),
    [
        ("2023-01", {"pickup_outside_month": 4, "over_1000_miles": 34, "negative_fare_amount": 176}),
        ("2023-02", {"pickup_outside_month": 26, "over_1000_miles": 37, "negative_fare_amount": 183}),
        ("2023-03", {"pickup_outside_month": 9, "over_1000_miles": 53, "negative_fare_amount": 196}),
    ],
)
def test_odd_rows_are_counted_as_the_data_set_describes_them(real_data, con, month, odd):
    path = real_data / "tlc" / "trip-data" / f"green_tripdata_{month}.parquet"
    load(con, "green", month, path)
    (recorded,) = con.execute("SELECT quality FROM loads").fetchone()
    counts = json.loads(recorded)
    assert {name: counts[name] for name in odd} == odd
    (without_passengers,) = con.execute(f"SELECT count(*) FROM '{path}' WHERE passenger_count IS NULL").fetchone()
    assert counts["null_passenger_count"] == without_passengers > 0


def test_all_months_together_stay_themselves_when_one_is_loaded_again(real_data, con, contents):
    paths = {month: real_data / "tlc" / "trip-data" / f"green_tripdata_{month}.parquet" for month in ROWS}
    for month, path in paths.items():
        load(con, "green", month, path)
    before = contents()["green_trips"]
    load(con, "green", "2023-02", paths["2023-02"])
    assert contents()["green_trips"] == before
    by_month = con.execute("SELECT strftime(partition_month, '%Y-%m'), count(*) FROM green_trips GROUP BY 1").fetchall()
    assert dict(by_month) == ROWS
    described = [(name, kind) for name, kind, *_ in con.execute("DESCRIBE green_trips").fetchall()]
    added = [("partition_month", "DATE"), ("is_reversed", "BOOLEAN")]
    assert described == [(c.name, c.type) for c in catalogue.fleet("green").columns] + added


CLEAN = {  # rows in pairs of a charge and its reversal, rows in trips_clean
    "2021-01": (256, 76_024),
    "2022-01": (406, 61_801),
    "2023-01": (348, 67_617),
    "2023-02": (374, 64_206),
    "2023-03": (394, 71_363),
}


@pytest.mark.parametrize("month", CLEAN)
def test_reversals_are_found_in_pairs_and_leave_both_rows_out_of_the_clean_trips(real_data, con, month):
    path = real_data / "tlc" / "trip-data" / f"green_tripdata_{month}.parquet"
    load(con, "green", month, path)
    # Worked out once more from the file alone: in these months no amount is charged twice for one trip.
    (pairs,) = con.execute(
        """
        SELECT sum(least(refunds, charges))
        FROM (
            SELECT count_if(total_amount < 0) AS refunds, count_if(total_amount > 0) AS charges FROM read_parquet(?)
            GROUP BY
                VendorID, lpep_pickup_datetime, lpep_dropoff_datetime, PULocationID, DOLocationID, abs(total_amount)
        )
        """,
        [str(path)],
    ).fetchone()
    (marked, total) = con.execute("SELECT count(*), sum(total_amount) FROM green_trips WHERE is_reversed").fetchone()
    assert marked == 2 * pairs == CLEAN[month][0]
    assert total == pytest.approx(0, abs=1e-6)
    assert con.execute("SELECT count(*) FROM trips_clean").fetchone() == (CLEAN[month][1],)
    assert con.execute("SELECT min(total_amount) >= 0 FROM trips_clean").fetchone() == (True,)


def test_the_page_on_quality_has_the_real_months_as_they_are(real_data, con):
    page = (ROOT / "docs" / "reference" / "quality.md").read_text()
    for month in ROWS:
        counts = load(con, "green", month, real_data / "tlc" / "trip-data" / f"green_tripdata_{month}.parquet").quality
        (clean,) = con.execute("SELECT count(*) FROM trips_clean WHERE partition_month = ?", [f"{month}-01"]).fetchone()
        cells = (
            f"{ROWS[month]:,}",
            f"{clean:,}",
            f"{counts['reversed']}",
            f"{counts['no_duration_fare_amount']} / {counts['no_duration_no_trip_fare_amount']}",
            f"{counts['faster_than_100_mph']}",
            f"{counts['over_1000_miles']}",
            f"{counts['flex_fare']}",
        )
        assert f"| {month} | {' | '.join(cells)} |" in page

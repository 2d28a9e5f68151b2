"""Loading the TLC's real files."""

import csv
import json

import pytest

from include.nyc_taxi import tlc, warehouse
from include.nyc_taxi.errors import UnsupportedLayoutError
from include.nyc_taxi.load import load_month

ROWS = {"2021-01": 76_518, "2022-01": 62_495, "2023-01": 68_211, "2023-02": 64_809, "2023-03": 72_044}
YELLOW_SAMPLES = {
    **dict.fromkeys(("2018-12", "2019-01", "2019-02", "2019-03", "2020-02", "2020-03"), 10_000),
    "2020-04": 1_000,
}
# Written out here once more: the catalogue's own mapping must not be what it is checked against.
GREEN_AS_PUBLISHED = """
    vendor_id AS VendorID, pickup_datetime AS lpep_pickup_datetime, dropoff_datetime AS lpep_dropoff_datetime,
    store_and_fwd_flag, rate_code_id AS RatecodeID, pickup_zone_id AS PULocationID, dropoff_zone_id AS DOLocationID,
    passenger_count, trip_distance, fare_amount, extra, mta_tax, tip_amount, tolls_amount, ehail_fee,
    improvement_surcharge, total_amount, payment_type, trip_type, congestion_surcharge
"""
YELLOW_AS_PUBLISHED = """
    vendor_id AS VendorID, pickup_datetime AS tpep_pickup_datetime, dropoff_datetime AS tpep_dropoff_datetime,
    passenger_count, trip_distance, rate_code_id AS RatecodeID, store_and_fwd_flag, pickup_zone_id AS PULocationID,
    dropoff_zone_id AS DOLocationID, payment_type, fare_amount, extra, mta_tax, tip_amount, tolls_amount,
    improvement_surcharge, total_amount, congestion_surcharge, airport_fee
"""


def load(con, fleet, month, path):
    """Load a file in a transaction, as the task does."""
    with warehouse.transaction(con):
        return load_month(con, fleet, month, path, "run 1")


def differences(con, as_published, table, path):
    """Number of rows that only one of the two has, the table read as the TLC would have published it."""
    ours, theirs = f"SELECT {as_published} FROM {table}", f"SELECT * FROM '{path}'"
    one_way, other_way = (f"SELECT count(*) FROM ({a} EXCEPT ALL {b})" for a, b in ((ours, theirs), (theirs, ours)))
    return con.execute(f"SELECT ({one_way}) + ({other_way})").fetchone()[0]


@pytest.mark.parametrize("month", ROWS)
def test_a_green_month_loads_with_every_row_and_every_value(real_data, con, month):
    path = real_data / "tlc" / "trip-data" / f"green_tripdata_{month}.parquet"
    done = load(con, "green", month, path)
    assert done.rows_loaded == done.rows_in_file == ROWS[month]
    with (real_data / "reference" / "tlc_files.csv").open(newline="") as file:
        (reference,) = [row for row in csv.DictReader(file) if (row["fleet"], row["month"]) == ("green", month)]
    assert (done.rows_loaded, done.bytes) == (int(reference["rows"]), int(reference["bytes"]))
    assert differences(con, GREEN_AS_PUBLISHED, "green_trips", path) == 0


@pytest.mark.parametrize("month", YELLOW_SAMPLES)
def test_a_yellow_sample_loads_with_every_row_and_every_value(real_data, con, month):
    path = real_data / "tlc-samples" / "trip-data" / f"yellow_tripdata_{month}.parquet"
    done = load(con, "yellow", month, path)
    assert done.rows_loaded == done.rows_in_file == YELLOW_SAMPLES[month]
    assert differences(con, YELLOW_AS_PUBLISHED, "yellow_trips", path) == 0


def test_the_green_sample_of_the_pandemic_loads(real_data, con):
    path = real_data / "tlc-samples" / "trip-data" / "green_tripdata_2020-04.parquet"
    assert load(con, "green", "2020-04", path).rows_loaded == 1_000


@pytest.mark.parametrize("month", ["2009-01", "2010-01", "2010-02"])
def test_a_yellow_month_with_coordinates_is_refused_and_nothing_is_recorded(real_data, con, contents, month):
    before = contents()
    with pytest.raises(UnsupportedLayoutError, match="begin with 2011-01"):
        load(con, "yellow", month, real_data / "tlc-samples" / "trip-data" / f"yellow_tripdata_{month}.parquet")
    assert contents() == before


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
    assert described == [(c.name, c.type) for c in tlc.fleet("green").columns] + [("partition_month", "DATE")]

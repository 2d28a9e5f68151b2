"""Counts of odd rows."""

from datetime import date

import pytest

from include.nyc_taxi import quality, tlc

START, END = date(2023, 2, 1), date(2023, 3, 1)
GOOD = {
    "vendor_id": 1,
    "pickup_zone_id": 7,
    "dropoff_zone_id": 8,
    "rate_code_id": 1,
    "payment_type": 1,
    "pickup_datetime": "2023-02-01 00:00:00",
    "dropoff_datetime": "2023-02-01 00:10:00",
    "trip_distance": 1.5,
    "passenger_count": 1,
    "fare_amount": 9,
    "tip_amount": 0,
    "tolls_amount": 0,
    "total_amount": 9,
    "partition_month": "2023-02-01",
}


@pytest.fixture
def profile(con):
    """Insert one green trip, good but for the values given, and profile February 2023."""

    def profile_of(**odd):
        trip = GOOD | odd
        con.execute(
            f"INSERT INTO green_trips ({', '.join(trip)}) VALUES ({', '.join('?' * len(trip))})", list(trip.values())
        )
        return quality.profile(con, tlc.fleet("green"), START, END)

    return profile_of


def found(profile):
    """The counts that are not 0."""
    return {name: count for name, count in profile.counts.items() if count}


def test_a_good_trip_counts_as_nothing(profile):
    good = profile()
    assert found(good) == {}
    assert good.unknown_zones == 0


@pytest.mark.parametrize(
    ("odd", "counts"),
    [
        ({"pickup_datetime": "2023-01-31 23:59:59"}, {"pickup_outside_month"}),
        (
            {"pickup_datetime": "2023-03-01 00:00:00", "dropoff_datetime": "2023-03-01 00:00:01"},
            {"pickup_outside_month"},
        ),
        ({"pickup_datetime": "2023-02-28 23:59:59", "dropoff_datetime": "2023-03-01 00:10:00"}, set()),
        ({"dropoff_datetime": "2023-01-31 23:59:59"}, {"dropoff_before_pickup"}),
        ({"dropoff_datetime": "2023-02-01 00:00:00"}, set()),
        ({"dropoff_datetime": "2023-02-02 00:00:00"}, set()),
        ({"dropoff_datetime": "2023-02-02 00:00:01"}, {"longer_than_a_day"}),
        ({"trip_distance": 1000}, set()),
        ({"trip_distance": 1000.01}, {"over_1000_miles"}),
        ({"trip_distance": -0.1}, {"negative_trip_distance"}),
        ({"fare_amount": -3, "total_amount": -3}, {"negative_fare_amount", "negative_total_amount"}),
        ({"passenger_count": 0}, {"no_passenger"}),
        ({"passenger_count": None}, {"null_passenger_count"}),
        ({"pickup_datetime": None, "pickup_zone_id": None}, {"null_pickup_datetime", "null_pickup_zone_id"}),
    ],
)
def test_an_odd_trip_is_counted_under_its_names_and_no_other(profile, odd, counts):
    assert found(profile(**odd)) == dict.fromkeys(counts, 1)


@pytest.mark.parametrize("name", [name for name, _ in tlc.COMMON_COLUMNS])
def test_a_null_is_counted_for_every_common_column(profile, name):
    assert found(profile(**{name: None})) == {f"null_{name}": 1}


@pytest.mark.parametrize("zone", [0, -1, 266, 32767])
@pytest.mark.parametrize("column", ["pickup_zone_id", "dropoff_zone_id"])
def test_a_zone_that_the_tlc_does_not_have_is_unknown(profile, column, zone):
    assert profile(**{column: zone}).unknown_zones == 1


@pytest.mark.parametrize("zone", [1, 265, None])
def test_the_first_and_the_last_zone_and_null_are_not_unknown(profile, zone):
    assert profile(pickup_zone_id=zone, dropoff_zone_id=zone).unknown_zones == 0


def test_a_trip_with_one_null_and_one_unknown_zone_is_unknown(profile):
    assert profile(pickup_zone_id=None, dropoff_zone_id=266).unknown_zones == 1
    assert profile(pickup_zone_id=266, dropoff_zone_id=None).unknown_zones == 2


def test_only_the_months_rows_are_counted(profile):
    profile(partition_month="2023-01-01", passenger_count=0, pickup_zone_id=266)
    other = profile()
    assert found(other) == {}
    assert other.unknown_zones == 0


def test_counts_add_up_over_rows(profile):
    profile(passenger_count=0)
    assert found(profile(passenger_count=0, trip_distance=-1)) == {"no_passenger": 2, "negative_trip_distance": 1}


@pytest.mark.parametrize("fleet", sorted(tlc.FLEETS))
def test_a_month_without_rows_has_every_count_and_all_are_0(con, fleet):
    empty = quality.profile(con, tlc.fleet(fleet), START, END)
    assert empty.counts == dict.fromkeys((count.name for count in quality.COUNTS), 0)

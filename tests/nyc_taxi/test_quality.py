"""The audit of a month: counts, rules and their record."""

import json
from datetime import date

import pytest

from include.nyc_taxi import quality, tlc
from include.nyc_taxi.load import load_month

GOOD = {
    "vendor_id": 1,
    "pickup_zone_id": 7,
    "dropoff_zone_id": 8,
    "rate_code_id": 1,
    "payment_type": 1,
    "pickup_datetime": "2023-02-01 00:00:00",
    "dropoff_datetime": "2023-02-01 00:10:00",
    "store_and_fwd_flag": "N",
    "trip_distance": 1.5,
    "passenger_count": 1,
    "fare_amount": 9,
    "extra": 0,
    "mta_tax": 0.5,
    "tip_amount": 0,
    "tolls_amount": 0,
    "ehail_fee": 0,
    "improvement_surcharge": 1,
    "total_amount": 10.5,
    "trip_type": 1,
    "congestion_surcharge": 0,
    "cbd_congestion_fee": 0,
    "partition_month": "2023-02-01",
}


def rows_of(fleet: str) -> str:
    """SQL to read what is in the fleet's table of February 2023."""
    return f"(FROM {tlc.fleet(fleet).table} WHERE partition_month = DATE '2023-02-01')"


@pytest.fixture
def audited(con):
    """Insert one green trip, good but for the values given, and audit February 2023."""

    def audit_of(**odd):
        trip = GOOD | odd
        con.execute(
            f"INSERT INTO green_trips ({', '.join(trip)}) VALUES ({', '.join('?' * len(trip))})", list(trip.values())
        )
        (rows,) = con.execute("SELECT count(*) FROM green_trips WHERE partition_month = '2023-02-01'").fetchone()
        return quality.audit(con, tlc.fleet("green"), "2023-02", rows_of("green"), rows)

    return audit_of


@pytest.fixture
def loaded(con, write_trips):
    """Load a month of made-up green trips, and return its checks by rule."""

    def load(month, rows=100, **columns):
        done = load_month(con, "green", month, write_trips("green", month, rows=rows, columns=columns), "run 1")
        return {check.rule: check for check in done.checks}

    return load


def found(audit):
    """The counts that are not 0."""
    return {name: count for name, count in audit.counts.items() if count}


def broken(audit):
    """The rules that are broken."""
    return {check.rule for check in audit.checks if not check.passed}


def test_a_good_trip_counts_as_nothing_and_breaks_no_rule(audited):
    good = audited()
    assert found(good) == {}
    assert broken(good) == set()


@pytest.mark.parametrize(
    ("odd", "counts"),
    [
        ({"pickup_datetime": "2023-01-31 23:59:59"}, {"pickup_outside_month"}),
        (
            {"pickup_datetime": "2023-03-01 00:00:00", "dropoff_datetime": "2023-03-01 00:10:00"},
            {"pickup_outside_month"},
        ),
        ({"pickup_datetime": "2023-02-28 23:59:59", "dropoff_datetime": "2023-03-01 00:10:00"}, set()),
        (
            {"pickup_datetime": "2022-12-31 23:59:59", "dropoff_datetime": "2023-01-01 00:10:00"},
            {"pickup_outside_month", "pickup_far_from_month"},
        ),
        (
            {"pickup_datetime": "2023-04-01 00:00:00", "dropoff_datetime": "2023-04-01 00:10:00"},
            {"pickup_outside_month", "pickup_far_from_month"},
        ),
        (
            {"pickup_datetime": "2023-03-31 23:59:59", "dropoff_datetime": "2023-04-01 00:10:00"},
            {"pickup_outside_month"},
        ),
        ({"dropoff_datetime": "2023-01-31 23:59:59"}, {"dropoff_before_pickup"}),
        ({"dropoff_datetime": "2023-02-01 00:00:00", "trip_distance": 0}, set()),
        ({"dropoff_datetime": "2023-02-01 00:00:00"}, {"faster_than_100_mph"}),
        ({"dropoff_datetime": "2023-02-01 00:10:00", "trip_distance": 16.6}, set()),
        ({"dropoff_datetime": "2023-02-01 00:10:00", "trip_distance": 16.7}, {"faster_than_100_mph"}),
        ({"dropoff_datetime": "2023-02-02 00:00:00"}, set()),
        ({"dropoff_datetime": "2023-02-02 00:00:01"}, {"longer_than_a_day"}),
        ({"dropoff_datetime": "2023-02-01 23:00:00", "trip_distance": 1000}, set()),
        ({"dropoff_datetime": "2023-02-01 23:00:00", "trip_distance": 1000.01}, {"over_1000_miles"}),
        ({"trip_distance": -0.1}, {"negative_trip_distance"}),
        ({"fare_amount": -3, "total_amount": -3}, {"negative_fare_amount", "negative_total_amount"}),
        ({"fare_amount": 1000}, set()),
        ({"fare_amount": 1000.01}, {"over_1000_dollars_fare_amount"}),
        ({"passenger_count": 0}, {"no_passenger"}),
        ({"passenger_count": 9}, set()),
        ({"passenger_count": 10}, {"over_9_passengers"}),
        ({"passenger_count": -1}, {"over_9_passengers"}),
        ({"passenger_count": None}, {"null_passenger_count"}),
        ({"pickup_datetime": None, "pickup_zone_id": None}, {"null_pickup_datetime", "null_pickup_zone_id"}),
        *(({side: zone}, {"unknown_zone"}) for side in ("pickup_zone_id", "dropoff_zone_id") for zone in (0, -1, 266)),
        ({"pickup_zone_id": 1, "dropoff_zone_id": 265}, set()),
        ({"pickup_zone_id": None, "dropoff_zone_id": 266}, {"null_pickup_zone_id", "unknown_zone"}),
    ],
)
def test_an_odd_trip_is_counted_under_its_names_and_no_other(audited, odd, counts):
    audit = audited(**odd)
    assert found(audit) == dict.fromkeys(counts, 1)
    # One trip is all trips: every rule that it breaks is over its limit.
    assert broken(audit) == {name for name in counts if not name.startswith("null_")}


@pytest.mark.parametrize("name", tlc.fleet("green").column_names)
def test_a_null_is_counted_for_every_column(audited, name):
    assert found(audited(**{name: None})) == {f"null_{name}": 1}


def test_only_the_months_rows_are_counted(audited):
    audited(partition_month="2023-01-01", passenger_count=0, pickup_zone_id=266)
    assert found(audited()) == {}


def test_counts_add_up_over_rows_and_a_rules_value_is_their_share(audited):
    audited(passenger_count=0)
    audited(vendor_id=2)
    audit = audited(passenger_count=0, trip_distance=-1)
    assert found(audit) == {"no_passenger": 2, "negative_trip_distance": 1}
    values = {check.rule: check.value for check in audit.checks}
    assert values["no_passenger"] == pytest.approx(2 / 3)
    assert values["negative_trip_distance"] == pytest.approx(1 / 3)


def test_rows_that_are_alike_in_all_columns_are_duplicates(audited):
    for _ in range(3):
        audited()
    audit = audited(trip_distance=1.6)
    assert audit.counts["exact_duplicates"] == 2
    assert broken(audit) == {"every_trip_doubled", "exact_duplicates"}


def test_nulls_in_the_same_columns_make_rows_alike_too(audited):
    audited(passenger_count=None)
    assert audited(passenger_count=None).counts["exact_duplicates"] == 1


def test_in_a_long_month_duplicates_are_estimated_and_the_share_is_right(con, monkeypatch):
    monkeypatch.setattr(quality, "DUPLICATES_LOOKED_FOR_IN", 2000)
    con.execute(
        "INSERT INTO green_trips (partition_month, pickup_datetime, dropoff_datetime) "
        "SELECT '2023-02-01', TIMESTAMP '2023-02-01' + i // 2 * INTERVAL 1 SECOND, '2023-02-28' "
        "FROM range(20_000) AS r(i)"
    )
    audit = quality.audit(con, tlc.fleet("green"), "2023-02", rows_of("green"), 20_000)
    assert audit.counts["exact_duplicates"] == pytest.approx(10_000, rel=0.15)
    assert "every_trip_doubled" in broken(audit)


def test_rows_that_are_not_those_of_the_footer_are_an_error(con, audited):
    audited()
    audit = quality.audit(con, tlc.fleet("green"), "2023-02", rows_of("green"), 2)
    assert [(check.rule, check.detail) for check in audit.errors] == [
        ("rows_equal_footer", "2 rows (footer), inserted 1")
    ]


@pytest.mark.parametrize("fleet", sorted(tlc.FLEETS))
def test_a_rule_applies_where_the_fleet_has_its_columns(con, fleet):
    names = tlc.fleet(fleet).column_names
    audit = quality.audit(con, tlc.fleet(fleet), "2023-02", rows_of(fleet), 0)
    applied = {check.rule for check in audit.checks}
    for rule in quality.TRIP_RULES:
        assert (rule.name in applied) == all(column in names for column in rule.columns)
    assert applied >= {rule.name for rule in quality.MONTH_RULES}
    assert {f"null_{name}" for name in names} <= set(audit.counts)


def test_every_rule_has_a_name_of_its_own_and_a_reason():
    rules = [*quality.TRIP_RULES, *quality.MONTH_RULES]
    assert len({rule.name for rule in rules}) == len(rules)
    assert all(rule.reason.endswith(".") and rule.limit >= 0 for rule in rules)


class TestDrift:
    """A month is compared with those of the same fleet before it."""

    def test_a_first_month_has_nothing_to_be_compared_with(self, loaded):
        checks = loaded("2023-01")
        for rule in ("nulls_as_before", "rows_as_in_12_months", "rows_as_a_year_before"):
            assert checks[rule].value is None
            assert checks[rule].passed

    def test_a_column_that_has_run_dry_is_named(self, loaded):
        loaded("2022-12")
        loaded("2023-01", trip_type="CASE WHEN i < 10 THEN NULL ELSE 1.0 END")
        check = loaded("2023-02", trip_type="CASE WHEN i < 40 THEN NULL ELSE 1 END")["nulls_as_before"]
        assert not check.passed
        assert check.value == pytest.approx(0.3)
        assert check.detail == "trip_type is null in 40.0 % of the trips, in the months before in 10.0 % at most"

    def test_a_column_that_is_filled_better_than_before_is_none(self, loaded):
        loaded("2023-01", trip_type="NULL::DOUBLE")
        assert loaded("2023-02")["nulls_as_before"].value == 0

    @pytest.mark.parametrize(("rows", "passed"), [(200, True), (201, False), (50, True), (49, False)])
    def test_rows_are_compared_with_the_median_of_twelve_months(self, loaded, rows, passed):
        for month, number in (("2022-11", 100), ("2022-12", 3), ("2023-01", 1000)):
            loaded(month, rows=number)
        check = loaded("2023-02", rows=rows)["rows_as_in_12_months"]
        assert check.passed is passed
        assert check.detail == f"{rows} rows; the median of the 12 months before is 100"

    def test_months_after_it_and_more_than_a_year_before_it_do_not_count(self, loaded):
        for month in ("2021-12", "2022-01", "2023-03", "2023-04"):
            loaded(month, rows=1)
        assert loaded("2023-02")["rows_as_in_12_months"].value is None

    def test_the_same_month_a_year_before(self, loaded):
        loaded("2022-02", rows=40)
        assert loaded("2023-02", rows=100)["rows_as_a_year_before"].passed
        check = loaded("2023-02", rows=101)["rows_as_a_year_before"]
        assert (check.passed, check.value) == (False, pytest.approx(101 / 40))
        assert check.detail == "101 rows; a year before there were 40"

    def test_another_edition_of_the_month_itself_and_other_fleets_do_not_count(self, con, loaded):
        loaded("2023-02", rows=7)
        con.execute(
            "INSERT INTO loads BY NAME "
            "SELECT * REPLACE ('yellow' AS fleet, DATE '2022-02-01' AS partition_month) FROM loads"
        )
        checks = loaded("2023-02", rows=100)
        assert checks["rows_as_a_year_before"].value is None
        assert checks["nulls_as_before"].value is None


class TestReport:
    def test_a_month_that_is_not_loaded(self, con):
        assert quality.report(con, "green", "2023-02") == "green 2023-02: not loaded, so nothing has been checked."

    def test_a_line_a_rule_and_broken_ones_stand_out(self, con, loaded):
        loaded("2023-02", fare_amount="-1.0")
        text = quality.report(con, "green", "2023-02")
        assert "green 2023-02, published 20" in text
        assert "UTC by run 1: 20 rules, 1 broken" in text
        (line,) = [line.split() for line in text.splitlines() if "negative_fare_amount " in line]
        assert line[:4] == ["WARN", "negative_fare_amount", "1", "0.05"]
        assert sum(line.startswith("ok ") for line in text.splitlines()) == 15
        assert sum(line.startswith("- ") for line in text.splitlines()) == 4

    def test_a_refused_load_is_shown_below_the_published_one(self, con, loaded):
        loaded("2023-02")
        refusal = quality.Check("unknown_zone", quality.Severity.ERROR, 0, 0.5, "1 of 2 trips have …")
        quality.record(con, "green", "2023-02", [refusal], "run 2", published=False)
        published, refused = quality.report(con, "green", "2023-02").split("\n\n")
        assert "by run 1: 20 rules, 0 broken" in published
        assert "REFUSED, the old month was kept" in refused
        assert refused.splitlines()[-1].split()[:2] == ["ERROR", "unknown_zone"]


def test_what_is_counted_in_loads_is_what_the_audit_found(con, loaded):
    loaded("2023-02", rows=30, passenger_count="0")
    ((month, recorded),) = con.execute("SELECT partition_month, quality FROM loads").fetchall()
    assert month == date(2023, 2, 1)
    assert json.loads(recorded)["no_passenger"] == 30
    assert json.loads(recorded)["exact_duplicates"] == 0

"""The audit of a month: counts, rules, and the record of the results."""

import json
import math
from datetime import date

import pytest

from include.nyc_taxi import catalogue
from include.nyc_taxi.audit import engine, report, rules
from include.nyc_taxi.audit.engine import InFile, QualityError
from include.nyc_taxi.months import Month
from include.nyc_taxi.trips.load import load_month

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
    "request_source": "A",
    "partition_month": "2023-02-01",
}


def rows_of(fleet: str) -> str:
    """SQL that reads February 2023 from the fleet's table."""
    return f"(FROM {catalogue.fleet(fleet).table} WHERE partition_month = DATE '2023-02-01')"


@pytest.fixture
def audited(con):
    """Insert one green trip, correct except for the given values, and audit February 2023."""

    def audit_of(**odd):
        trip = GOOD | odd
        con.execute(
            f"INSERT INTO green_trips ({', '.join(trip)}) VALUES ({', '.join('?' * len(trip))})", list(trip.values())
        )
        (rows,) = con.execute("SELECT count(*) FROM green_trips WHERE partition_month = '2023-02-01'").fetchone()
        return engine.audit(con, catalogue.fleet("green"), Month("2023-02"), rows_of("green"), InFile(rows))

    return audit_of


@pytest.fixture
def loaded(con, write_trips):
    """Load a month of simulated green trips, and return its checks by rule."""

    def load(month, rows=100, **columns):
        done = load_month(con, "green", Month(month), write_trips("green", month, rows=rows, columns=columns), "run 1")
        return {check.rule: check for check in done.checks}

    return load


def found(audit):
    """The counts that are not 0."""
    return {name: count for name, count in audit.counts.items() if count}


def broken(audit):
    """The broken rules."""
    return {check.rule for check in audit.checks if not check.passed}


def test_a_good_trip_counts_as_nothing_and_breaks_no_rule(audited):
    good = audited()
    assert found(good) == {}
    assert broken(good) == set()


IMPLIED = {
    "unknown_zone": "zones_of_this_city",
    "pickup_outside_month": "trips_of_this_month",
    "null_pickup_datetime": "columns_filled",
    "null_pickup_zone_id": "columns_filled",
}
"""The rule about a month that is broken if this count contains all its trips."""


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
        ({"dropoff_datetime": "2023-02-01 00:00:00"}, {"no_duration_fare_amount"}),
        ({"dropoff_datetime": "2023-02-01 00:00:00", "trip_distance": 100}, {"no_duration_fare_amount"}),
        (
            {"dropoff_datetime": "2023-02-01 00:00:00", "fare_amount": -2},
            {"no_duration_fare_amount", "negative_fare_amount", "flex_fare"},
        ),
        ({"dropoff_datetime": "2023-02-01 00:00:00", "trip_distance": 0}, {"no_duration_no_trip_fare_amount"}),
        ({"dropoff_datetime": "2023-02-01 00:00:00", "trip_distance": 100.1}, {"no_duration_no_trip_fare_amount"}),
        (
            {"dropoff_datetime": "2023-02-01 00:00:00", "fare_amount": 0, "total_amount": 0},
            {"no_duration_no_trip_fare_amount"},
        ),
        ({"dropoff_datetime": "2023-02-01 00:00:01", "trip_distance": 0.02}, set()),
        ({"dropoff_datetime": "2023-02-01 00:00:01", "trip_distance": 0.1}, {"faster_than_100_mph"}),
        ({"dropoff_datetime": "2023-02-01 00:10:00", "trip_distance": 16.6}, set()),
        ({"dropoff_datetime": "2023-02-01 00:10:00", "trip_distance": 16.7}, {"faster_than_100_mph"}),
        ({"dropoff_datetime": "2023-02-02 00:00:00"}, set()),
        ({"dropoff_datetime": "2023-02-02 00:00:01"}, {"longer_than_a_day"}),
        ({"dropoff_datetime": "2023-02-01 23:00:00", "trip_distance": 1000}, set()),
        ({"dropoff_datetime": "2023-02-01 23:00:00", "trip_distance": 1000.01}, {"over_1000_miles"}),
        ({"trip_distance": -0.1}, {"negative_trip_distance"}),
        ({"fare_amount": -3, "total_amount": -3}, {"negative_fare_amount", "negative_total_amount"}),
        ({"total_amount": -0.5}, {"negative_total_amount"}),
        (
            {"fare_amount": -3, "total_amount": -3, "is_reversed": True},
            {"negative_fare_amount", "negative_total_amount", "reversed"},
        ),
        ({"is_reversed": True}, {"reversed"}),
        ({"is_reversed": False}, set()),
        ({"fare_amount": -3}, {"negative_fare_amount", "flex_fare"}),
        ({"fare_amount": -3, "trip_distance": 0}, {"negative_fare_amount", "negative_fare_no_trip"}),
        ({"fare_amount": -3, "total_amount": 0}, {"negative_fare_amount", "negative_fare_no_trip"}),
        *(
            ({column: float(value)}, {"not_finite"})
            for column in ("fare_amount", "tip_amount", "total_amount", "trip_distance", "cbd_congestion_fee")
            for value in ("nan", "inf", "-inf")
        ),
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
    # The one trip is all trips, so every rule that it breaks exceeds its limit, and some rules about the month do too.
    of_the_month = {IMPLIED[name] for name in counts & IMPLIED.keys()}
    assert broken(audit) == {name for name in counts if not name.startswith("null_")} | of_the_month


@pytest.mark.parametrize("name", catalogue.fleet("green").column_names)
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
    monkeypatch.setattr(rules, "DUPLICATES_SAMPLE_ROWS", 2000)
    con.execute(
        "INSERT INTO green_trips (partition_month, pickup_datetime, dropoff_datetime) "
        "SELECT '2023-02-01', TIMESTAMP '2023-02-01' + i // 2 * INTERVAL 1 SECOND, '2023-02-28' "
        "FROM range(20_000) AS r(i)"
    )
    audit = engine.audit(con, catalogue.fleet("green"), Month("2023-02"), rows_of("green"), InFile(20_000))
    assert audit.counts["exact_duplicates"] == pytest.approx(10_000, rel=0.15)
    assert "every_trip_doubled" in broken(audit)


@pytest.mark.parametrize("nulls", [0, 1])
def test_in_a_long_month_a_few_duplicates_are_told_from_rows_that_share_only_some_columns(con, monkeypatch, nulls):
    monkeypatch.setattr(engine, "DUPLICATES_SAMPLE_ROWS", 150)
    con.execute(
        "INSERT INTO green_trips (partition_month, pickup_datetime, vendor_id) "
        "SELECT '2023-02-01', TIMESTAMP '2023-02-01' + i // 3 * INTERVAL 1 SECOND, i % 3 FROM range(288) AS r(i)"
    )
    con.execute("INSERT INTO green_trips FROM green_trips WHERE second(pickup_datetime) % 4 = 0")
    con.execute("INSERT INTO green_trips (partition_month) SELECT '2023-02-01' FROM range(?)", [2 * nulls])
    ((all_rows,),) = con.execute(f"SELECT count(*) FROM {rows_of('green')}").fetchall()
    every = math.ceil(all_rows / 150)
    names = ", ".join(catalogue.fleet("green").column_names)
    expected = con.execute(
        f"SELECT sum(n - 1) * {every} FROM (SELECT count(*) AS n FROM {rows_of('green')} "
        f"WHERE hash(pickup_datetime, dropoff_datetime, pickup_zone_id) % {every} = 0 GROUP BY {names})"
    ).fetchone()
    audit = engine.audit(con, catalogue.fleet("green"), Month("2023-02"), rows_of("green"), InFile(all_rows))
    assert every == 3
    assert audit.counts["exact_duplicates"] == expected[0] > 0


def test_conditions_written_for_speed_say_the_same_as_plain_comparisons(con):
    plain = {
        "negative_trip_distance": "trip_distance < 0 AND trip_distance > '-inf'::DOUBLE",
        "negative_total_amount": "total_amount < 0 AND total_amount > '-inf'::DOUBLE",
        "negative_fare_amount": "fare_amount < 0 AND fare_amount > '-inf'::DOUBLE",
        "over_1000_miles": "trip_distance > 1000 AND trip_distance < 'inf'::DOUBLE",
        "over_1000_dollars_fare_amount": "fare_amount > 1000 AND fare_amount < 'inf'::DOUBLE",
    }
    fleet = catalogue.fleet("green")
    odd = ["0", "-0.0", "1", "-1", "5e-324", "-5e-324", "1000", "1000.0000000000001", "1e308", "-1e308"]
    values = ", ".join(f"('{value}'::DOUBLE)" for value in [*odd, "inf", "-inf", "nan", "-nan"]) + ", (NULL)"
    con.execute(
        f"INSERT INTO green_trips (partition_month, trip_distance, fare_amount, total_amount) "
        f"SELECT '2023-02-01', d, f, t "
        f"FROM (VALUES {values}) AS a(d), (VALUES {values}) AS b(f), (VALUES {values}) AS c(t)"
    )
    written = {rule.name: rule.condition(fleet, "partition_month") for rule in rules.rules_of(fleet)}
    for name, condition in plain.items():
        differ = f"(({condition}) IS TRUE) <> (({written[name]}) IS TRUE)"
        assert con.execute(f"SELECT count(*) FROM green_trips WHERE {differ}").fetchall() == [(0,)], name


@pytest.mark.parametrize(
    ("amounts", "expected"),
    [([1e308, 1e308, 1.5], 0), ([float("inf"), float("-inf"), None], 2), ([float("nan"), 1e308, 1e308], 1)],
)
def test_trips_whose_sum_alone_is_infinite_are_finite(audited, amounts, expected):
    for amount in amounts:
        audit = audited(total_amount=amount)
    assert audit.counts["not_finite"] == expected


def test_rows_that_are_not_those_of_the_footer_are_an_error(con, audited):
    audited()
    audit = engine.audit(con, catalogue.fleet("green"), Month("2023-02"), rows_of("green"), InFile(2))
    assert [(check.rule, check.detail) for check in audit.errors(accepted=True)] == [
        ("rows_equal_footer", "2 rows (footer), inserted 1")
    ]


@pytest.mark.parametrize("fleet", sorted(catalogue.FLEETS))
def test_a_rule_applies_where_the_fleet_has_its_columns(con, fleet):
    names = catalogue.fleet(fleet).column_names
    audit = engine.audit(con, catalogue.fleet(fleet), Month("2023-02"), rows_of(fleet), InFile(0))
    applied = {check.rule for check in audit.checks}
    for rule in rules.TRIP_RULES:
        asked = rule.columns or [column.name for column in catalogue.fleet(fleet).columns if column.type == "DOUBLE"]
        has_all = bool(asked) and all(column in catalogue.fleet(fleet).table_columns for column in asked)
        assert (rule.name in applied) == has_all
    assert applied >= {rule.name for rule in rules.MONTH_RULES}
    assert {f"null_{name}" for name in names} <= set(audit.counts)


def test_every_rule_has_a_name_of_its_own_and_a_reason():
    every = [*rules.TRIP_RULES, *rules.MONTH_RULES]
    assert len({rule.name for rule in every}) == len(every)
    assert all(rule.reason.endswith(".") and rule.limit >= 0 for rule in every)


class TestDrift:
    """A month is compared with earlier months of the same fleet."""

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
        assert check.detail == "trip_type is null in 40.0 % of the trips, and was in at most 10.0 % in earlier months"

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
        assert check.detail == "101 rows; the same month a year before has 40"

    def test_another_edition_of_the_month_itself_and_other_fleets_do_not_count(self, con, loaded):
        loaded("2023-02", rows=90)
        con.execute(
            "INSERT INTO loads BY NAME "
            "SELECT * REPLACE ('yellow' AS fleet, DATE '2022-02-01' AS partition_month) FROM loads"
        )
        checks = loaded("2023-02", rows=100)
        assert checks["rows_as_a_year_before"].value is None
        assert checks["nulls_as_before"].value is None


class TestReport:
    def test_a_month_that_is_not_loaded(self, con):
        assert (
            report.report(con, "green", Month("2023-02")) == "green 2023-02 is not loaded, so no rule has been checked."
        )

    def test_a_line_a_rule_and_broken_ones_stand_out(self, con, loaded):
        loaded("2023-02", fare_amount="-1.0")
        text = report.report(con, "green", Month("2023-02"))
        assert "green 2023-02, published 20" in text
        assert "UTC by run 1: 35 rules, 2 broken" in text
        (line,) = [line.split() for line in text.splitlines() if "flex_fare " in line]
        assert line[:4] == ["WARN", "flex_fare", "1", "0.2"]
        assert sum(line.startswith("ok ") for line in text.splitlines()) == 27
        assert sum(line.startswith("- ") for line in text.splitlines()) == 6

    def test_a_refused_load_is_shown_below_the_published_one(self, con, loaded):
        loaded("2023-02")
        refusal = engine.Check("unknown_zone", rules.Severity.ERROR, 0, 0.5, "1 of 2 trips have …")
        report.record(con, "green", Month("2023-02"), [refusal], "run 2", published=False)
        published, refused = report.report(con, "green", Month("2023-02")).split("\n\n")
        assert "by run 1: 35 rules, 0 broken" in published
        assert "REFUSED (the earlier load was kept)" in refused
        assert refused.splitlines()[-1].split()[:2] == ["ERROR", "unknown_zone"]


class TestErrors:
    """No property of the TLC's own files refuses a month; any sign that a file is not the TLC's does."""

    @pytest.mark.parametrize(
        "columns",
        [
            {"PULocationID": "if(i < 5, 0, 7)", "DOLocationID": "if(i < 5, -1, 7)"},  # fhv of 2017 and 2018
            {"lpep_pickup_datetime": "if(i < 20, TIMESTAMP '2009-01-01', TIMESTAMP '2023-02-05')"},
            {"fare_amount": "if(i % 2 = 0, -1, 1) * 9.5", "total_amount": "if(i % 2 = 0, -1, 1) * 9.5"},
            {"fare_amount": "'nan'::DOUBLE", "trip_distance": "'inf'::DOUBLE"},
            {"trip_distance": "-1e6", "passenger_count": "255"},
            {"passenger_count": "if(i < 5, 9e18, 1)"},  # too large for the column's type
            {"passenger_count": "'nan'::DOUBLE"},  # pandas writes NaN for null
            {"lpep_pickup_datetime": "if(i < 5, 'unknown', '2023-02-05 10:00:00')"},
            {"store_and_fwd_flag": "NULL::VARCHAR", "ehail_fee": "NULL::INTEGER", "passenger_count": "NULL::BIGINT"},
            {"lpep_dropoff_datetime": "lpep_pickup_datetime"},
            {"request_source": "'HV0003'", "one_more": "i"},
        ],
    )
    def test_odd_values_of_single_trips_are_published_and_counted(self, loaded, columns):
        checks = loaded("2023-02", **columns)
        errors = [check for check in checks.values() if check.severity is rules.Severity.ERROR]
        assert len(errors) >= 8
        assert all(check.passed for check in errors)

    @pytest.mark.parametrize(
        ("columns", "rule", "sentence"),
        [
            (
                {"PULocationID": "if(i < 21, 0, 7)"},
                "zones_of_this_city",
                "21 of 100 trips have a zone ID outside 1 to 265",
            ),
            (
                {"lpep_pickup_datetime": "if(i < 51, TIMESTAMP '2023-03-01', TIMESTAMP '2023-02-05')"},
                "trips_of_this_month",
                "51 of 100 trips were picked up outside the file's month",
            ),
            (
                {"DOLocationID": "if(i = 0, 74.5, 7)"},
                "ids_are_whole_numbers",
                "1 values of dropoff_zone_id have a fraction",
            ),
            ({"VendorID": "'1.25'"}, "ids_are_whole_numbers", "100 values of vendor_id have a fraction"),
            ({"PULocationID": "NULL::BIGINT"}, "columns_filled", "pickup_zone_id is null in every trip"),
            (
                {"fare_amount": "NULL::DOUBLE", "lpep_pickup_datetime": "NULL::TIMESTAMP"},
                "columns_filled",
                "fare_amount, pickup_datetime are null in every trip",
            ),
            (
                {"fare_amount": "if(i < 21, 'a lot', '9.5')"},
                "columns_readable",
                "21 values of fare_amount do not fit its type and became null, for example 'a lot'",
            ),
            (
                {
                    "lpep_pickup_datetime": "TIMESTAMP '2023-02-05'",
                    "lpep_dropoff_datetime": "TIMESTAMP '2023-02-05 00:10:00'",
                    "PULocationID": "7",
                    "DOLocationID": "7",
                },
                "every_trip_doubled",
                "rows equal an earlier row in all columns",
            ),
        ],
    )
    def test_a_file_that_cannot_be_the_tlcs_is_refused_until_somebody_accepts_it(
        self, con, write_trips, columns, rule, sentence
    ):
        path = write_trips("green", "2023-02", rows=100, columns=columns)
        with pytest.raises(QualityError) as error:
            load_month(con, "green", Month("2023-02"), path, "run 1")
        assert sentence in str(error.value)
        assert f"({rule}: at most" in str(error.value)
        assert """airflow dags trigger taxi_trips_green --conf '{"month": "2023-02", "accept": true}'""" in str(
            error.value
        )
        assert con.execute("SELECT count(*) FROM green_trips").fetchone() == (0,)
        load_month(con, "green", Month("2023-02"), path, "run 2", accept=True)
        assert con.execute("SELECT count(*) FROM green_trips").fetchone() == (100,)
        recorded = con.execute("SELECT passed, published FROM quality_checks WHERE rule = ?", [rule]).fetchall()
        assert recorded == [(False, True)]
        (line,) = [x.split() for x in report.report(con, "green", Month("2023-02")).splitlines() if f" {rule} " in x]
        assert line[0] == "accepted"

    def test_rows_that_are_lost_on_the_way_can_be_accepted_by_nobody(self, con, audited):
        audited()
        audit = engine.audit(con, catalogue.fleet("green"), Month("2023-02"), rows_of("green"), InFile(2))
        assert [check.rule for check in audit.errors(accepted=True)] == ["rows_equal_footer"]

    @pytest.mark.parametrize(("rows", "passed"), [(150, True), (151, False), (67, True), (66, False), (1, False)])
    def test_a_new_edition_may_differ_by_half_of_the_one_it_replaces(self, con, write_trips, rows, passed):
        load_month(con, "green", Month("2023-02"), write_trips("green", "2023-02", rows=100), "run 1")
        path = write_trips("green", "2023-02", rows=rows)
        if passed:
            load_month(con, "green", Month("2023-02"), path, "run 2")
        else:
            with pytest.raises(QualityError, match=f"{rows} rows; the previous edition has 100"):
                load_month(con, "green", Month("2023-02"), path, "run 2")
        assert con.execute("SELECT count(*) FROM green_trips").fetchone() == (rows if passed else 100,)

    def test_a_column_that_the_catalogue_does_not_know_is_a_warning(self, loaded):
        check = loaded("2023-02", driver_mood="'good'", tip_of_the_hat="1")["columns_known"]
        assert (check.passed, check.value) == (False, 2)
        assert check.detail == "columns that the catalogue does not know are left out: driver_mood, tip_of_the_hat"


class TestClean:
    """`trips_clean` keeps real trips, and `flags` name the rules that they break."""

    @pytest.mark.parametrize("rule", rules.TRIP_RULES, ids=lambda rule: rule.name)
    def test_every_rule_says_whether_its_trips_are_clean(self, con, rule):
        comment = con.execute("SELECT comment FROM duckdb_views() WHERE view_name = 'trips_clean'").fetchone()[0]
        assert (f"({rule.name})" in comment) is not rule.is_clean

    @pytest.mark.parametrize(
        ("odd", "flags", "is_clean"),
        [
            ({}, [], True),
            ({"fare_amount": -3}, ["negative_fare_amount", "flex_fare"], True),
            ({"dropoff_datetime": "2023-02-01 00:00:00"}, ["no_duration_fare_amount"], True),
            ({"passenger_count": 0, "pickup_zone_id": 0}, ["unknown_zone", "no_passenger"], True),
            ({"passenger_count": 12}, ["over_9_passengers"], True),
            (
                {"dropoff_datetime": "2023-02-01 00:00:00", "trip_distance": 0},
                ["no_duration_no_trip_fare_amount"],
                False,
            ),
            ({"total_amount": float("nan")}, ["not_finite"], False),
            ({"fare_amount": -9, "total_amount": -10.5}, ["negative_fare_amount", "negative_total_amount"], False),
            ({"is_reversed": True, "passenger_count": 0}, ["reversed", "no_passenger"], False),
            ({"trip_distance": 1000.5}, ["over_1000_miles", "faster_than_100_mph"], False),
            (
                {  # the night when the clocks go back
                    "partition_month": "2023-11-01",
                    "pickup_datetime": "2023-11-05 01:55:00",
                    "dropoff_datetime": "2023-11-05 01:10:00",
                },
                ["clock_set_back"],
                True,
            ),
            (
                {
                    "partition_month": "2023-11-01",
                    "pickup_datetime": "2023-11-12 01:55:00",
                    "dropoff_datetime": "2023-11-12 01:10:00",
                },
                ["dropoff_before_pickup"],
                False,
            ),
        ],
    )
    def test_by_evidence(self, con, odd, flags, is_clean):
        trip = GOOD | odd
        con.execute(
            f"INSERT INTO green_trips ({', '.join(trip)}) VALUES ({', '.join('?' * len(trip))})", list(trip.values())
        )
        assert con.execute("SELECT flags, is_clean FROM trips_flagged").fetchall() == [(flags, is_clean)]
        assert con.execute("SELECT flags FROM trips_clean").fetchall() == [(flags,)] * is_clean

    def test_a_ride_of_the_big_apps_counts_by_what_its_driver_was_paid(self, con):
        columns = (
            "vendor, partition_month, pickup_datetime, dropoff_datetime, trip_distance, base_passenger_fare, driver_pay"
        )
        con.execute(
            f"INSERT INTO fhvhv_trips BY NAME SELECT * EXCLUDE vendor FROM (VALUES "
            "(1, DATE '2023-02-01', TIMESTAMP '2023-02-01', TIMESTAMP '2023-02-01 00:10:00', 2, -4.5, 9.5),"
            "(2, DATE '2023-02-01', TIMESTAMP '2023-02-01', TIMESTAMP '2023-02-01 00:10:00', 2, -4.5, 0),"
            "(3, DATE '2023-02-01', TIMESTAMP '2023-02-01', TIMESTAMP '2023-02-01', 2, 0, 9.5)"
            f") AS t({columns})"
        )
        assert con.execute("SELECT flags, is_clean FROM trips_flagged ORDER BY ALL").fetchall() == [
            (["negative_base_passenger_fare"], True),
            (["negative_base_passenger_fare", "negative_base_fare_no_trip"], False),
            (["no_duration_base_passenger_fare"], True),
        ]

    def test_a_month_loaded_before_reversals_were_looked_for_is_judged_by_its_amounts(self, con):
        trip = GOOD | {"total_amount": -1, "is_reversed": None}
        con.execute(
            f"INSERT INTO green_trips ({', '.join(trip)}) VALUES ({', '.join('?' * len(trip))})", list(trip.values())
        )
        assert con.execute("SELECT flags FROM trips_flagged").fetchall() == [(["negative_total_amount"],)]


def test_what_is_counted_in_loads_is_what_the_audit_found(con, loaded):
    loaded("2023-02", rows=30, passenger_count="0")
    ((month, recorded),) = con.execute("SELECT partition_month, quality FROM loads").fetchall()
    assert month == date(2023, 2, 1)
    assert json.loads(recorded)["no_passenger"] == 30
    assert json.loads(recorded)["exact_duplicates"] == 0


@pytest.mark.parametrize(
    ("before", "now", "ratio"),
    [(3, 5, None), (99, 40, None), (99, 100, 100 / 99), (100, 99, 100 / 99), (100, 150, 1.5)],
)
def test_editions_of_a_month_are_compared_where_one_of_them_has_a_hundred_rows(loaded, before, now, ratio):
    assert loaded("2023-02", rows=before)["rows_as_edition_before"].value is None
    check = loaded("2023-02", rows=now)["rows_as_edition_before"]
    assert check.value == (ratio and pytest.approx(ratio))
    assert check.passed


@pytest.mark.parametrize(("before", "now"), [(100, 151), (100, 66), (2, 100)])
def test_an_edition_with_half_as_many_rows_again_or_a_third_fewer_is_refused(loaded, before, now):
    loaded("2023-02", rows=before)
    with pytest.raises(QualityError, match=r"rows_as_edition_before: at most 1\.5"):
        loaded("2023-02", rows=now)
